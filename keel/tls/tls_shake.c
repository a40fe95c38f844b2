/* SPDX-License-Identifier: MIT */
/* The handshake: who is trusted, what is agreed, and words for a refusal. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tls_session.h"

static void say(struct tls_words *w, const char *before, const char *what)
{
    snprintf(w->text, sizeof w->text, "%s%s", before, what);
}

/* A fatal alert of the peer's about our certificate (RFC 8446 6.2), or NULL. */
static const char *unwelcome(int alert)
{
    switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_CERTIFICATE_UNKNOWN:
        return "the peer does not trust our certificate";
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
        return "the peer has no use for our certificate";
    case SSL_AD_CERTIFICATE_REVOKED:
        return "the peer holds our certificate for revoked";
    case SSL_AD_CERTIFICATE_EXPIRED:
        return "the peer holds our certificate for expired";
    case SSL_AD_UNKNOWN_CA:
        return "the peer does not know who issued our certificate";
    case SSL_AD_ACCESS_DENIED:
        return "the peer denies us access";
    case SSL_AD_CERTIFICATE_REQUIRED:
        return "the peer wants a certificate of us";
    default:
        return NULL;
    }
}

int tls_refusal(unsigned long e, const struct keel_tls_config *c, long judged,
                struct tls_words *w)
{
    const char *reason = ERR_reason_error_string(e);
    const char *alert = unwelcome(ERR_GET_REASON(e) - SSL_AD_REASON_OFFSET);

    if (alert) {
        say(w, "", alert);
        return -EACCES;
    }
    switch (ERR_GET_REASON(e)) {
    case ERR_R_MALLOC_FAILURE:
        say(w, "", "no memory");
        return -ENOMEM;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        if (c->trust == TRUST_PIN)
            say(w, "", "the peer's key is not the pinned one");
        else
            say(w, "certificate: ", X509_verify_cert_error_string(judged));
        return -EACCES;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        say(w, "", "the client showed no certificate");
        return -EACCES;
    case SSL_R_EXCESSIVE_MESSAGE_SIZE:
        say(w, "", "the peer's certificates are too long");
        return -EPROTO;
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

/* Reads OpenSSL's queue, so before anything else happens on this thread. */
static int shake_refused(struct tls_session *t, struct tls_words *w)
{
    unsigned long e = ERR_peek_error();
    int rc = tls_refusal(e, t->config, SSL_get_verify_result(t->ssl), w);

    /* -EACCES is for whom we do not trust; here it is the other way round. */
    return unwelcome(ERR_GET_REASON(e) - SSL_AD_REASON_OFFSET) ? -EPROTO : rc;
}

static int shake_cut(int rc, struct tls_words *w)
{
    if (rc == -ECONNABORTED)
        say(w, "", "the peer closed the connection in the handshake");
    else if (rc == -ETIMEDOUT)
        say(w, "", "the handshake was not done in time");
    else
        say(w, "", strerrordesc_np(-rc));
    return rc;
}

static bool alpn_agreed(struct tls_session *t)
{
    const struct keel_tls_config *c = t->config;
    const unsigned char *name;
    unsigned size;

    if (!c->alpn_bytes)
        return true;
    SSL_get0_alpn_selected(t->ssl, &name, &size);
    return size + 1 == c->alpn_bytes && memcmp(name, c->alpn + 1, size) == 0;
}

/* What shake_step has come to. */
enum { DONE, WANTS_INPUT, WANTS_ROOM };

static int shake_flush(struct tls_session *t, bool done, struct tls_words *w,
                       keel_ns deadline)
{
    int rc = tls_flush(t, deadline);

    tls_out_return(t);
    /* A client that said all it had to and left without its tickets can be
     * read still. */
    if (done && SSL_is_server(t->ssl) && (rc == -EPIPE || rc == -ECONNRESET))
        return 0;
    return rc < 0 ? shake_cut(rc, w) : 0;
}

/* One call of OpenSSL and what it wants sent. */
static int shake_step(struct tls_session *t, struct tls_words *w,
                      keel_ns deadline)
{
    int rc = tls_out_lend(t), why;

    if (rc < 0)
        return shake_cut(rc, w);
    ERR_clear_error();
    rc = SSL_do_handshake(t->ssl);
    why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, rc);
    /* A server without ALPN agrees to anything by silence.  It must not get
     * our last message, which would make it believe in us. */
    if (rc == 1 && !alpn_agreed(t)) {
        say(w, "", "the peer did not agree to the application protocol");
        return -EPROTO;
    }
    if (rc != 1 && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
        rc = shake_refused(t, w);
        ERR_clear_error();
        if (rc != -ENOMEM)
            tls_session_distrust(t);
        tls_flush(t, KEEL_NOW); /* the alert, if there is room for it */
        return rc;
    }
    rc = shake_flush(t, why == SSL_ERROR_NONE, w, deadline);
    if (rc < 0)
        return rc;
    return why == SSL_ERROR_NONE         ? DONE
           : why == SSL_ERROR_WANT_WRITE ? WANTS_ROOM
                                         : WANTS_INPUT;
}

static int shake(struct tls_session *t, struct tls_words *w, keel_ns deadline)
{
    int step;

    while ((step = shake_step(t, w, deadline)) != DONE) {
        int rc = 0;

        if (step < 0)
            return step;
        if (step == WANTS_INPUT)
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

/* By keel's clock, as all that is verified. */
static void verify_date(struct tls_session *t)
{
    X509_VERIFY_PARAM_set_time(SSL_get0_param(t->ssl),
                               (time_t)(keel_wall_ns() / KEEL_SECOND));
}

static int verify_init(struct tls_session *t, const char *name, bool address)
{
    X509_VERIFY_PARAM *p = SSL_get0_param(t->ssl);

    SSL_set_verify(t->ssl, SSL_VERIFY_PEER, NULL);
    if (t->config->trust != TRUST_CA)
        return 0;
    if (!name)
        return -EINVAL;
    verify_date(t);
    X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (address)
        return X509_VERIFY_PARAM_set1_ip_asc(p, name) == 1 ? 0 : -EINVAL;
    return X509_VERIFY_PARAM_set1_host(p, name, 0) == 1 ? 0 : -EINVAL;
}

static int client_init(struct tls_session *t, const char *name)
{
    bool address = name && is_address(name);
    int rc;

    SSL_set_connect_state(t->ssl);
    if (t->config->trust == TRUST_NOBODY || (name && !*name))
        return -EINVAL;
    /* RFC 6066 3: an address is not a server name. */
    if (name && !address && SSL_set_tlsext_host_name(t->ssl, name) != 1)
        return -EINVAL;
    rc = verify_init(t, name, address);
    return rc == 0 ? tls_session_offer(t, name) : rc;
}

static int server_init(struct tls_session *t)
{
    const struct keel_tls_config *c = t->config;
    int all = c->clients == KEEL_TLS_CLIENTS_REQUIRE
                  ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                  : SSL_VERIFY_PEER;

    SSL_set_accept_state(t->ssl);
    if (!c->identity_count)
        return -EINVAL;
    if (c->clients == KEEL_TLS_CLIENTS_ANY)
        return 0;
    SSL_set_verify(t->ssl, all, NULL);
    verify_date(t);
    return 0;
}

static int session_open(struct keel_tls_config *c, struct keel_stream *below,
                        bool server, const char *name, keel_ns deadline,
                        struct keel_stream **ret)
{
    keel_auto(tls_session) struct tls_session *draft = NULL;
    struct tls_words w = {""};
    int rc;

    ERR_clear_error();
    rc = tls_session_new(c, below, &draft);
    if (rc == 0)
        rc = server ? server_init(draft) : client_init(draft, name);
    if (rc < 0) {
        tls_error_set(rc == -ENOMEM ? "no memory"
                                    : "the config or the "
                                      "server's name is unfit");
        return rc;
    }
    rc = shake(draft, &w, deadline);
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
