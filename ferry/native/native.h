/* SPDX-License-Identifier: MIT */
/* The native front end: docs/protocol.md spoken to the vault and the accounts.
 * It has no policy of its own: what is refused, they refuse.
 *
 * Connections are accepted on the caller's loop and placed on the least loaded
 * of the given ones; a connection's coroutines stay there.  At the cap,
 * or while it stops, a newcomer is told so after TLS and HELLO, by GOODBYE; 16 of
 * them at a time, within a few seconds, and others beyond are closed at once. */
#ifndef FERRY_NATIVE_H
#define FERRY_NATIVE_H

#include <keel/co.h>
#include <keel/net.h>
#include <keel/tls.h>

#include "account/account.h"
#include "vault/vault.h"

struct native;

struct native_options {
    struct vault *vault;
    struct accounts *accounts;
    struct ledger *ledger;
    enum registration registration; /* said in HELLO */
    struct keel_tls_config *tls;    /* NULL: plain streams, for tests */
    struct keel_loop *const *loops; /* borrowed; at least one */
    unsigned loop_count;
    unsigned connections_max;  /* 0: 1,000 */
    unsigned sessions_max;     /* logged in at once per account; 0: no cap */
    keel_ns handshake_timeout; /* 0: 10 s, for TLS and for HELLO each */
    keel_ns login_timeout;     /* 0: 30 s */
    const char *agent;         /* "ferryd 0.1.0" */
};
int native_new(const struct native_options *o, struct native **ret);
/* Every connection must be over: native_drain. */
void native_free(struct native *n);

/* Accepts until cancelled (returns -ECANCELED) or the listener breaks. */
int native_accept(struct native *n, struct keel_listener *l);
/* Takes one connected stream, as native_accept does; on error it is still the
 * caller's.  -EUSERS, -ESHUTDOWN: nor is there a place to be told so. */
int native_connection(struct native *n, struct keel_stream *stream);

/* Tells all connections that the server stops: idle ones end at once, those
 * with requests in progress when these are done, all of them by `deadline`.
 * Newcomers are turned away from now on. */
void native_drain(struct native *n, keel_ns deadline);
/* When no more are accepted: waits for those that are being turned away. */
void native_turned_away(struct native *n);
unsigned native_connections(const struct native *n);

/* Settings that may change while it runs (a reload): the struct's
 * registration, connections_max, sessions_max, login_timeout and
 * handshake_timeout; the rest of it is not looked at.  For connections and
 * logins from now on. */
void native_configure(struct native *n, const struct native_options *o);

/* ---- who is here ------------------------------------------------------------ */
struct native_session {
    char id[9]; /* as in the log, and in the trace ids of its requests */
    char peer[KEEL_ADDRESS_BYTES];
    char account[ACCOUNT_NAME_BYTES + 1]; /* "": has not logged in */
    int64_t device;                       /* 0: by password */
    int64_t since;                        /* seconds since 1970 */
    unsigned requests;                    /* open now */
    uint64_t bytes_in, bytes_out;         /* of files */
    char doing[64]; /* "put '/a/b'", "3 requests", "idle"; escaped */
};
/* The first `max` connections, oldest first; returns how many there are. */
unsigned native_sessions(struct native *n, struct native_session *ret,
                         unsigned max);
/* Ends the connection with that id, telling it SESSION_KICKED.  -ENOENT */
int native_kick(struct native *n, const char *id);
/* Ends all connections of that account, telling them why: it was disabled or
 * deleted.  Returns how many. */
unsigned native_kick_account(struct native *n, int64_t account,
                             const struct problem *why);

/* ---- counters ---------------------------------------------------------------- */
/* Since the start, but for those that say `now`.  Written by every loop; read
 * them with native_stats, each by itself. */
#define NATIVE_VERBS 40
struct native_counters {
    uint64_t connections_accepted;
    uint64_t connections_refused; /* at the cap */
    uint64_t connections_now;
    uint64_t sessions_now; /* of them logged in */
    uint64_t logins, logins_refused;
    uint64_t requests_now;
    uint64_t puts_now, gets_now;
    uint64_t bytes_in, bytes_out; /* of files */
    uint64_t inline_bytes_now;    /* held of small files on their way in */
    /* By verb, in the order of native_verb_name; the last one counts what
     * names no verb. */
    struct native_verb_counter {
        uint64_t ok, refused, cut; /* cut: the connection ended under it */
    } verbs[NATIVE_VERBS];
    unsigned verb_count;
};
void native_stats(struct native *n, struct native_counters *ret);
/* NULL from verb_count on; "other" is the last. */
const char *native_verb_name(unsigned i);
KEEL_AUTO(native, struct native *, native_free)

#endif
