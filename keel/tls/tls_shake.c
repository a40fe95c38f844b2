/* SPDX-License-Identifier: MIT */
/* The handshake: who is trusted, what is agreed, and words for a refusal. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls_session.h"

struct words {
    char text[160];
};

static void say(struct words *w, const char *before, const char *what)
{
    snprintf(w->text, sizeof w->text, "%s%s", before, what);
}

/* Reads OpenSSL's queue, so before anything else happens on this thread. */
static int shake_refused(struct tls_session *t, const struct keel_tls_config *c,
                         struct words *w)
{
    unsigned long e = ERR_peek_error();
    const char *reason = ERR_reason_error_string(e);
    long verdict = SSL_get_verify_result(t->ssl);

    switch (ERR_GET_REASON(e)) {
    case ERR_R_MALLOC_FAILURE:
        say(w, "", "no memory");
        return -ENOMEM;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        if (c->trust == TRUST_PIN)
            say(w, "", "the peer's key is not the pinned one");
        else
            say(w, "certificate: ", X509_verify_cert_error_string(verdict));
        return -EACCES;
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
        say(w, "", "the peer does not speak TLS");
        return -EPROTO;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
        say(w, "", "the peer does not speak TLS 1.3");
        return -EPROTO;
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
    case SSL_R_CALLBACK_FAILED: /* only alpn_demand's */
        say(w, "", "no application protocol (ALPN) in common");
        return -EPROTO;
    default:
        say(w, "TLS: ", reason ? reason : "no reason given");
        return -EPROTO;
    }
}

static int shake_cut(int rc, struct words *w)
{
    if (rc == -ECONNABORTED)
        say(w, "", "the peer closed the connection in the handshake");
    else if (rc == -ETIMEDOUT)
        say(w, "", "the handshake was not done in time");
    else
        say(w, "", strerrordesc_np(-rc));
    return rc;
}

static bool alpn_agreed(struct tls_session *t, const struct keel_tls_config *c)
{
    const unsigned char *name;
    unsigned size;

    if (!c->alpn_bytes)
        return true;
    SSL_get0_alpn_selected(t->ssl, &name, &size);
    return size + 1 == c->alpn_bytes && memcmp(name, c->alpn + 1, size) == 0;
}

/* One call of OpenSSL and what it wants sent.  1: done; 0: wants input. */
static int shake_step(struct tls_session *t, const struct keel_tls_config *c,
                      struct words *w, keel_ns deadline)
{
    int rc = tls_out_lend(t), why;

    if (rc < 0)
        return shake_cut(rc, w);
    ERR_clear_error();
    rc = SSL_do_handshake(t->ssl);
    why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, rc);
    /* A server without ALPN agrees to anything by silence.  It must not get
     * our last message, which would make it believe in us. */
    if (rc == 1 && !alpn_agreed(t, c)) {
        say(w, "", "the peer did not agree to the application protocol");
        return -EPROTO;
    }
    if (rc != 1 && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
        rc = shake_refused(t, c, w);
        ERR_clear_error();
        tls_flush(t, KEEL_NOW); /* the alert, if there is room for it */
        return rc;
    }
    rc = tls_flush(t, deadline);
    tls_out_return(t);
    if (rc < 0)
        return shake_cut(rc, w);
    return why == SSL_ERROR_NONE;
}

static int shake(struct tls_session *t, const struct keel_tls_config *c,
                 struct words *w, keel_ns deadline)
{
    for (;;) {
        int rc = shake_step(t, c, w, deadline);

        if (rc < 0)
            return rc;
        if (rc > 0)
            break;
        rc = tls_fill(t, deadline);
        if (rc < 0)
            return shake_cut(rc, w);
    }
    tls_in_return(t);
    return 0;
}

static bool is_address(const char *name)
{
    uint8_t bytes[16];

    return inet_pton(AF_INET, name, bytes) == 1 ||
           inet_pton(AF_INET6, name, bytes) == 1;
}

static int verify_init(struct tls_session *t, const struct keel_tls_config *c,
                       const char *name, bool address)
{
    X509_VERIFY_PARAM *p = SSL_get0_param(t->ssl);

    SSL_set_verify(t->ssl, SSL_VERIFY_PEER, NULL);
    if (c->trust != TRUST_CA)
        return 0;
    if (!name)
        return -EINVAL;
    X509_VERIFY_PARAM_set_time(p, (time_t)(keel_wall_ns() / KEEL_SECOND));
    X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (address)
        return X509_VERIFY_PARAM_set1_ip_asc(p, name) == 1 ? 0 : -EINVAL;
    return X509_VERIFY_PARAM_set1_host(p, name, 0) == 1 ? 0 : -EINVAL;
}

static int client_init(struct tls_session *t, const struct keel_tls_config *c,
                       const char *name)
{
    bool address = name && is_address(name);

    SSL_set_connect_state(t->ssl);
    if (c->trust == TRUST_NOBODY || (name && !*name))
        return -EINVAL;
    /* RFC 6066 3: an address is not a server name. */
    if (name && !address && SSL_set_tlsext_host_name(t->ssl, name) != 1)
        return -EINVAL;
    return verify_init(t, c, name, address);
}

static int server_init(struct tls_session *t, const struct keel_tls_config *c)
{
    SSL_set_accept_state(t->ssl);
    return c->has_key ? 0 : -EINVAL;
}

static int session_open(struct keel_tls_config *c, struct keel_stream *below,
                        bool server, const char *name, keel_ns deadline,
                        struct keel_stream **ret)
{
    keel_auto(tls_session) struct tls_session *draft = NULL;
    struct words w = {""};
    int rc;

    ERR_clear_error();
    rc = tls_session_new(c, below, &draft);
    if (rc == 0)
        rc = server ? server_init(draft, c) : client_init(draft, c, name);
    if (rc < 0) {
        tls_error_set(rc == -ENOMEM ? "no memory"
                                    : "the config or the "
                                      "server's name is unfit");
        return rc;
    }
    rc = shake(draft, c, &w, deadline);
    if (rc < 0) {
        tls_error_set(w.text);
        return rc;
    }
    *ret = &keel_take(draft)->stream;
    return 0;
}

int keel_tls_accept(struct keel_tls_config *c, struct keel_stream *below,
                    keel_ns deadline, struct keel_stream **ret)
{
    keel_auto(tls_config) struct keel_tls_config *held = tls_config_hold(c);

    return session_open(held, below, true, NULL, deadline, ret);
}

int keel_tls_connect(struct keel_tls_config *c, struct keel_stream *below,
                     const char *server_name, keel_ns deadline,
                     struct keel_stream **ret)
{
    keel_auto(tls_config) struct keel_tls_config *held = tls_config_hold(c);

    return session_open(held, below, false, server_name, deadline, ret);
}
