/* SPDX-License-Identifier: MIT */
/* The native front end: docs/protocol.md spoken to the vault and the accounts.
 * It has no policy of its own: what is refused, they refuse.
 *
 * Connections are accepted on the caller's loop and placed on the least loaded
 * of the given ones; a connection's coroutines stay there.  At the cap a
 * newcomer is closed at once, without a handshake, and the log says so once. */
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
 * caller's.  -EUSERS: at the cap. */
int native_connection(struct native *n, struct keel_stream *stream);

/* Tells all connections that the server stops: idle ones end at once, those
 * with requests in progress when these are done, all of them by `deadline`. */
void native_drain(struct native *n, keel_ns deadline);
unsigned native_connections(const struct native *n);
KEEL_AUTO(native, struct native *, native_free)

#endif
