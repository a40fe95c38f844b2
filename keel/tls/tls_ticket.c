/* SPDX-License-Identifier: MIT */
/* Resumption: a server's ticket keys, and a client's sessions.
 *
 * OpenSSL calls in here in the middle of a handshake or a read, so nothing
 * waits: the mutexes are held for a few copies, never across a switch. */
#include <errno.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>

#include "tls_session.h"

enum {
    TICKET_BYTES_MOST = 16 * 1024,
    TICKETS_KEPT = 8,            /* of one server */
    LIFE_MOST_S = 7 * 24 * 3600, /* RFC 8446 4.6.1 */
};

/* ---- a server's keys --------------------------------------------------------------- */

struct ticket_key {
    uint8_t name[16], cipher[32], mac[32];
};

/* Invariants:
 *   key[0] has sealed since `born` and is replaced when it is `life` old
 *   key[1] opens only, if `has_old`: what it sealed may be good still
 *   a key is wiped by 2 * `life` after its birth, or at the next handshake */
struct tls_tickets {
    pthread_mutex_t lock;
    keel_ns life, born;
    bool has_old;
    struct ticket_key key[2];
};

/* Under the lock. */
static void keys_turn(struct tls_tickets *t)
{
    keel_ns now = keel_now(), age = now - t->born;

    if (age >= 2 * t->life) {
        keel_wipe(t->key, sizeof(t->key));
        t->has_old = false;
    } else if (age >= t->life) {
        t->key[1] = t->key[0];
        t->has_old = true;
    } else {
        return;
    }
    keel_random(&t->key[0], sizeof(t->key[0]));
    t->born = now;
}

static void key_to_seal(struct tls_tickets *t, struct ticket_key *ret)
{
    pthread_mutex_lock(&t->lock);
    keys_turn(t);
    *ret = t->key[0];
    pthread_mutex_unlock(&t->lock);
}

static bool key_to_open(struct tls_tickets *t, const uint8_t name[16],
                        struct ticket_key *ret)
{
    bool found = false;

    pthread_mutex_lock(&t->lock);
    keys_turn(t);
    for (int i = 0; i <= t->has_old && !found; i++) {
        found = memcmp(t->key[i].name, name, sizeof(t->key[i].name)) == 0;
        if (found)
            *ret = t->key[i];
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}

static bool mac_init(EVP_MAC_CTX *mac, const struct ticket_key *k)
{
    char sha256[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(
            OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)k->mac, sizeof(k->mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha256, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* What SSL_CTX_set_tlsext_ticket_key_evp_cb(3) asks for: 1 sealed, 2 opened and
 * due for a new one (always: each is used once), 0 unknown, -1 failed. */
static int ticket_crypt(SSL *ssl, unsigned char name[16], unsigned char *iv,
                        EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
    struct tls_tickets *t = tls_session_of(ssl)->config->tickets;
    struct ticket_key k;
    int ok;

    if (seal) {
        key_to_seal(t, &k);
        memcpy(name, k.name, sizeof(k.name));
        keel_random(iv, (size_t)EVP_CIPHER_get_iv_length(EVP_aes_256_cbc()));
    } else if (!key_to_open(t, name, &k)) {
        return 0;
    }
    ok = (seal ? EVP_EncryptInit_ex : EVP_DecryptInit_ex)(
             cipher, EVP_aes_256_cbc(), NULL, k.cipher, iv) == 1 &&
         mac_init(mac, &k);
    keel_wipe(&k, sizeof(k));
    return !ok ? -1 : seal ? 1 : 2;
}

static int ticket_sealing(SSL *ssl, void *arg)
{
    (void)ssl, (void)arg;
    return 1;
}

/* A session is worth no more than the certificate it stands for, where dates
 * count. */
static bool is_over(const struct keel_tls_config *c, SSL_SESSION *one)
{
    X509 *cert = SSL_SESSION_get0_peer(one);

    return c->trust == TRUST_CA && cert && tls_cert_is_over(cert);
}

static SSL_TICKET_RETURN ticket_opened(SSL *ssl, SSL_SESSION *session,
                                       const unsigned char *name, size_t size,
                                       SSL_TICKET_STATUS status, void *arg)
{
    (void)name, (void)size, (void)arg;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return is_over(tls_session_of(ssl)->config, session)
               ? SSL_TICKET_RETURN_IGNORE_RENEW
               : SSL_TICKET_RETURN_USE_RENEW;
}

static int life_check(keel_ns life)
{
    if (life >= KEEL_SECOND && life <= LIFE_MOST_S * KEEL_SECOND)
        return 0;
    tls_error_set("tickets live from a second to 7 days");
    return -EINVAL;
}

static int tickets_init(struct keel_tls_config *c,
                        const struct keel_tls_options *o)
{
    keel_ns life = o->ticket_life ? o->ticket_life : KEEL_TLS_TICKET_LIFE;
    int rc = life_check(life);

    if (rc < 0)
        return rc;
    if (o->tickets > KEEL_TLS_TICKETS_MOST || !c->identity_count) {
        tls_error_set("tickets are a server's, and not so many");
        return -EINVAL;
    }
    c->tickets = keel_calloc(1, sizeof(*c->tickets));
    if (!c->tickets)
        return -ENOMEM;
    pthread_mutex_init(&c->tickets->lock, NULL);
    c->tickets->life = life;
    c->tickets->born = keel_now();
    keel_random(&c->tickets->key[0], sizeof(c->tickets->key[0]));

    SSL_CTX_set_num_tickets(c->ctx, o->tickets);
    SSL_CTX_set_timeout(c->ctx, (long)(life / KEEL_SECOND));
    if (SSL_CTX_set_tlsext_ticket_key_evp_cb(c->ctx, ticket_crypt) != 1 ||
        SSL_CTX_set_session_ticket_cb(c->ctx, ticket_sealing, ticket_opened,
                                      NULL) != 1)
        return -ENOMEM;
    return 0;
}

/* ---- a client's sessions --------------------------------------------------------------- */

struct server {
    char name[256];
    uint64_t used; /* when, in uses of the store; 0: the place is free */
    unsigned count;
    SSL_SESSION *tickets[TICKETS_KEPT]; /* `count` of them, oldest first */
};

struct tls_store {
    pthread_mutex_t lock;
    uint64_t uses;
    unsigned places;
    struct server server[];
};

/* Under the lock; so are the next two. */
static struct server *server_find(struct tls_store *s, const char *name)
{
    for (unsigned i = 0; i < s->places; i++)
        if (s->server[i].used && strcmp(s->server[i].name, name) == 0)
            return &s->server[i];
    return NULL;
}

static void server_forget(struct server *v)
{
    while (v->count > 0)
        SSL_SESSION_free(v->tickets[--v->count]);
    v->used = 0;
}

/* In the place of the one that was not used for longest. */
static struct server *server_make(struct tls_store *s, const char *name)
{
    struct server *v = &s->server[0];

    for (unsigned i = 1; i < s->places; i++)
        if (s->server[i].used < v->used)
            v = &s->server[i];
    server_forget(v);
    strcpy(v->name, name); /* fits: who offered it as SNI has looked */
    return v;
}

/* Takes a reference. */
static void store_put(struct tls_store *s, const char *name, SSL_SESSION *one)
{
    struct server *v;

    pthread_mutex_lock(&s->lock);
    v = server_find(s, name);
    if (!v)
        v = server_make(s, name);
    if (v->count == TICKETS_KEPT) {
        SSL_SESSION_free(v->tickets[0]);
        memmove(v->tickets, v->tickets + 1,
                (TICKETS_KEPT - 1) * sizeof(*v->tickets));
        v->count--;
    }
    v->tickets[v->count++] = one;
    v->used = ++s->uses;
    pthread_mutex_unlock(&s->lock);
}

static SSL_SESSION *store_take(struct tls_store *s, const char *name)
{
    SSL_SESSION *one = NULL;
    struct server *v;

    pthread_mutex_lock(&s->lock);
    v = server_find(s, name);
    if (v && v->count > 0) {
        one = v->tickets[--v->count];
        v->used = ++s->uses;
    }
    pthread_mutex_unlock(&s->lock);
    return one;
}

/* A ticket has come.  1: the reference is ours. */
static int ticket_came(SSL *ssl, SSL_SESSION *one)
{
    struct tls_session *t = tls_session_of(ssl);
    const unsigned char *ticket;
    size_t size;

    t->tickets++;
    SSL_SESSION_get0_ticket(one, &ticket, &size);
    if (!t->name || size == 0 || size > TICKET_BYTES_MOST ||
        !SSL_SESSION_is_resumable(one))
        return 0;
    store_put(t->config->store, t->name, one);
    return 1;
}

static int store_init(struct keel_tls_config *c, unsigned places)
{
    if (places > KEEL_TLS_SESSIONS_MOST || c->trust == TRUST_NOBODY) {
        tls_error_set("sessions are a client's, and not so many");
        return -EINVAL;
    }
    c->store =
        keel_calloc(1, sizeof(*c->store) + places * sizeof(struct server));
    if (!c->store)
        return -ENOMEM;
    pthread_mutex_init(&c->store->lock, NULL);
    c->store->places = places;
    return 0;
}

/* Takes the reference. */
static bool offer(struct tls_session *t, SSL_SESSION *one)
{
    bool done = SSL_SESSION_get0_peer(one) && !is_over(t->config, one) &&
                SSL_set_session(t->ssl, one) == 1;

    SSL_SESSION_free(one);
    return done;
}

int tls_session_offer(struct tls_session *t, const char *name)
{
    struct tls_store *s = t->config->store;
    SSL_SESSION *one;

    if (!s || (!name && t->config->trust == TRUST_ANY))
        return 0;
    t->name = keel_strdup(name ? name : "");
    if (!t->name)
        return -ENOMEM;
    do {
        one = store_take(s, t->name);
    } while (one && !offer(t, one));
    return 0;
}

void tls_session_distrust(struct tls_session *t)
{
    struct tls_store *s = t->config->store;
    struct server *v;

    if (!t->name)
        return;
    pthread_mutex_lock(&s->lock);
    v = server_find(s, t->name);
    if (v)
        server_forget(v);
    pthread_mutex_unlock(&s->lock);
}

/* ---- both ---------------------------------------------------------------------------------- */

int tls_resume_init(struct keel_tls_config *c, const struct keel_tls_options *o)
{
    static const unsigned char mine[] = "keel";
    int rc = 0;

    /* Tickets that nobody keeps are counted all the same. */
    SSL_CTX_set_session_cache_mode(c->ctx, SSL_SESS_CACHE_CLIENT |
                                               SSL_SESS_CACHE_NO_INTERNAL |
                                               SSL_SESS_CACHE_NO_AUTO_CLEAR);
    SSL_CTX_sess_set_new_cb(c->ctx, ticket_came);
    SSL_CTX_set_num_tickets(c->ctx, 0);
    SSL_CTX_set_max_early_data(c->ctx, 0);
    if (SSL_CTX_set_session_id_context(c->ctx, mine, sizeof mine - 1) != 1)
        return -ENOMEM;
    if (o->tickets == 0)
        SSL_CTX_set_options(c->ctx, SSL_OP_NO_TICKET);
    else
        rc = tickets_init(c, o);
    if (rc == 0 && o->sessions > 0)
        rc = store_init(c, o->sessions);
    return rc;
}

void tls_resume_free(struct keel_tls_config *c)
{
    if (c->tickets) {
        pthread_mutex_destroy(&c->tickets->lock);
        keel_wipe(c->tickets, sizeof(*c->tickets));
        keel_free(c->tickets);
    }
    if (c->store) {
        for (unsigned i = 0; i < c->store->places; i++)
            server_forget(&c->store->server[i]);
        pthread_mutex_destroy(&c->store->lock);
        keel_free(c->store);
    }
}

bool keel_tls_resumed(struct keel_stream *s)
{
    SSL *ssl = tls_ssl_of(s);

    return ssl && SSL_session_reused(ssl);
}
