/* SPDX-License-Identifier: MIT */
/* A session: OpenSSL between two buffers, and everything that waits around it.
 *
 *    peer's bytes --receive--> in --SSL_read--> the caller
 *    the caller --SSL_write--> out (or owed) --flush--> peer
 *
 * A call of OpenSSL never waits and is never left half done in the middle of a
 * wait: its error queue belongs to the thread, so each call is cleared before
 * and judged right after.  Writing, it always finds room in `out`, so an
 * SSL_write is done when it returns, and a reader in between meets no pending
 * record of ours (OpenSSL refuses to mix them).
 *
 * Reading can make OpenSSL write: an answer to a key update, an alert.  A
 * reader must not wait until the peer takes that, or two readers could wait for
 * each other with both sockets full.  So it lies in `out` behind what a writer
 * is sending, or in `owed` until somebody writes: RFC 8446 4.6.3 asks for the
 * answer before the next application data, no sooner. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include <poll.h>
#include <pthread.h>

#include <openssl/err.h>

#include <keel/io.h>

#include "tls_session.h"

enum {
    /* What one received record can make OpenSSL write: a key update or an
     * alert, some 27 bytes. */
    REPLY = 64,
    /* So many times `owed` filled up with answers while not one byte of data
     * came: each costs us a key derivation and the peer next to nothing. */
    FLOOD = 16,
    /* So many tickets in a row are no server's need. */
    TICKETS_IN_A_ROW = 64,
    EXPORT_MOST = 255 * 32, /* with SHA-256 */
};

/* 2^21 records, 32 GiB when they are full, with one key.  AES-GCM's limit is
 * 2^24.5 (RFC 8446 5.5). */
uint64_t tls_key_records = 1 << 21;

static const struct keel_stream_class tls_class;

static struct tls_session *session_of(struct keel_stream *s)
{
    return (struct tls_session *)(void *)s;
}

/* ---- the BIO: memory on both sides, never a wait --------------------------------- */

static size_t reply_room(const struct tls_session *t)
{
    return t->out ? TLS_OUT - t->out_bytes : TLS_OWED - t->owed_bytes;
}

static int bio_read(BIO *b, char *buf, int size)
{
    struct tls_session *t = BIO_get_data(b);
    size_t n = t->in_bytes - t->in_at;

    BIO_clear_retry_flags(b);
    /* OpenSSL asks for a record's header, then for its body, so a record is
     * begun only when the answer to it has a place: a peer that floods us with
     * key updates is read no faster than it takes the answers. */
    t->starved = n > 0 && reply_room(t) < REPLY;
    if (n == 0 || t->starved) {
        BIO_set_retry_read(b);
        return -1;
    }
    if (n > (size_t)size)
        n = (size_t)size;
    memcpy(buf, t->in_from + t->in_at, n);
    t->in_at += n;
    return (int)n;
}

static int bio_write(BIO *b, const char *buf, int size)
{
    struct tls_session *t = BIO_get_data(b);
    size_t n = (size_t)size;

    BIO_clear_retry_flags(b);
    if (t->write_end < 0)
        return size;         /* nobody will hear it */
    if (n > reply_room(t)) { /* only a handshake's flight can be so long */
        BIO_set_retry_write(b);
        return -1;
    }
    if (t->out) {
        memcpy(t->out->bytes + t->out_bytes, buf, n);
        t->out_bytes += n;
    } else {
        memcpy(t->owed + t->owed_bytes, buf, n);
        t->owed_bytes += n;
    }
    return size;
}

static long bio_ctrl(BIO *b, int cmd, long n, void *p)
{
    (void)b, (void)n, (void)p;
    return cmd == BIO_CTRL_FLUSH; /* else the handshake stops */
}

static pthread_once_t bio_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *bio_method;

static void bio_method_make(void)
{
    BIO_METHOD *m =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "keel");

    if (m && BIO_meth_set_read(m, bio_read) == 1 &&
        BIO_meth_set_write(m, bio_write) == 1 &&
        BIO_meth_set_ctrl(m, bio_ctrl) == 1)
        bio_method = m;
}

static BIO *bio_new(struct tls_session *t)
{
    BIO *b;

    pthread_once(&bio_once, bio_method_make);
    b = bio_method ? BIO_new(bio_method) : NULL;
    if (!b)
        return NULL;
    BIO_set_data(b, t);
    BIO_set_init(b, 1);
    return b;
}

/* ---- sending ------------------------------------------------------------------------ */

int tls_out_lend(struct tls_session *t)
{
    if (t->out)
        return 0;
    t->out = tls_buffer_lend();
    if (!t->out)
        return -ENOMEM;
    memcpy(t->out->bytes, t->owed, t->owed_bytes);
    t->out_bytes = t->owed_bytes;
    t->sent = t->owed_bytes = 0;
    return 0;
}

void tls_out_return(struct tls_session *t)
{
    tls_buffer_return(keel_take(t->out));
    t->out_bytes = t->sent = 0;
}

/* Part of a record may have left: no byte after it would mean anything.  What
 * a peer said before it went away can still be read; but who gave up on a
 * write by its own deadline gave up on the stream. */
static void write_broke(struct tls_session *t, int rc)
{
    bool gave_up = rc == -ETIMEDOUT || rc == -ECANCELED;

    if (t->write_end < 0)
        return;
    t->write_end = gave_up ? -EPIPE : rc;
    if (gave_up && t->read_end > 0)
        t->read_end = -ECONNABORTED;
}

int tls_flush(struct tls_session *t, keel_ns deadline)
{
    int rc = 0;

    while (rc == 0 && t->sent < t->out_bytes) {
        size_t until = t->out_bytes;

        rc = keel_stream_write(t->below, t->out->bytes + t->sent,
                               until - t->sent, deadline);
        t->sent = until;
    }
    if (rc < 0)
        write_broke(t, rc);
    t->out_bytes = t->sent = 0;
    return rc;
}

/* Replies have used up their room: now a reader has to wait too. */
static int flush_replies(struct tls_session *t, keel_ns deadline)
{
    int rc = keel_lock_take(&t->sending, deadline);

    if (rc < 0)
        return rc;
    rc = t->write_end < 0 ? t->write_end : tls_out_lend(t);
    if (rc == 0)
        rc = tls_flush(t, deadline);
    tls_out_return(t);
    keel_lock_drop(&t->sending);
    return rc;
}

/* The alert that tells the peer why; if it does not fit into the socket now,
 * so be it. */
static void flush_alert(struct tls_session *t)
{
    if (t->owed_bytes > 0)
        flush_replies(t, KEEL_NOW);
}

/* ---- receiving ------------------------------------------------------------------------ */

void tls_in_return(struct tls_session *t)
{
    if (t->in_at == t->in_bytes)
        tls_buffer_return(keel_take(t->in));
}

static ssize_t in_receive(struct tls_session *t, keel_ns deadline)
{
    ssize_t n;

    if (!t->in)
        t->in = tls_buffer_lend();
    if (!t->in)
        return -ENOMEM;
    n = keel_stream_read(t->below, t->in->bytes, TLS_BURST, deadline);
    t->in_from = t->in->bytes;
    t->in_at = 0;
    t->in_bytes = n > 0 ? (size_t)n : 0;
    tls_in_return(t);
    return n;
}

/* Until there is something to receive, holding no buffer.  More than 0: it is
 * in `first` already. */
static ssize_t in_wait(struct tls_session *t, keel_ns deadline)
{
    int fd = keel_stream_fd(t->below);
    ssize_t n;

    if (fd >= 0) {
        int rc = keel_fd_poll(fd, POLLIN, deadline);

        return rc < 0 ? rc : 0;
    }
    n = keel_stream_read(t->below, t->first, sizeof t->first, deadline);
    if (n == 0)
        return -ECONNABORTED;
    if (n > 0) {
        t->in_from = t->first;
        t->in_at = 0;
        t->in_bytes = (size_t)n;
    }
    return n;
}

static int receive(struct tls_session *t, keel_ns deadline)
{
    /* In a burst the next bytes are there, and one system call does. */
    ssize_t n = in_receive(t, KEEL_NOW);

    while (n == -ETIMEDOUT) {
        n = in_wait(t, deadline);
        if (n < 0)
            break;
        if (n == 0)
            n = in_receive(t, KEEL_NOW);
    }
    if (n == 0) /* the closing alert would have come first */
        n = -ECONNABORTED;
    if (n > 0)
        return 0;
    if (n != -ETIMEDOUT && n != -ECANCELED && n != -ENOMEM && t->read_end > 0)
        t->read_end = (int)n;
    return (int)n;
}

int tls_fill(struct tls_session *t, keel_ns deadline)
{
    int rc;

    if (t->in_at < t->in_bytes)
        return 0;
    if (t->read_end <= 0)
        return t->read_end < 0 ? t->read_end : -ECONNABORTED;
    if (t->receiving) {
        keel_event_clear(&t->received);
        return keel_event_wait(&t->received, deadline);
    }
    t->receiving = true;
    rc = receive(t, deadline);
    t->receiving = false;
    keel_event_set(&t->received);
    return rc;
}

/* ---- reading ---------------------------------------------------------------------------- */

/* What OpenSSL's last error means for a stream that was sound.  It is forgotten
 * then: others on this thread may look into the queue as well. */
static int broken(struct tls_session *t)
{
    struct tls_words w;
    int rc = tls_refusal(ERR_peek_error(), t->config, X509_V_OK, &w);

    ERR_clear_error();
    tls_error_set(w.text);
    if (rc != -ENOMEM)
        tls_session_distrust(t);
    /* A server is nobody's to let in. */
    return rc == -EACCES && SSL_is_server(t->ssl) ? -EPROTO : rc;
}

/* After SSL_read said no: true when more input may help. */
static bool read_goes_on(struct tls_session *t, int rc)
{
    switch (SSL_get_error(t->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return true;
    case SSL_ERROR_ZERO_RETURN:
        t->read_end = 0;
        return false;
    default:
        t->read_end = broken(t);
        return false;
    }
}

static int size_as_int(size_t size)
{
    return size > INT_MAX ? INT_MAX : (int)size;
}

static bool flooded(struct tls_session *t)
{
    if (t->tickets <= TICKETS_IN_A_ROW)
        return false;
    tls_session_distrust(t);
    tls_error_set("the server floods us with tickets");
    t->read_end = -EPROTO;
    return true;
}

/* Decrypts into `buf` all that is at hand and fits. */
static size_t read_burst(struct tls_session *t, uint8_t *buf, size_t size)
{
    size_t got = 0;

    while (got < size) {
        int rc;

        ERR_clear_error();
        rc = SSL_read(t->ssl, buf + got, size_as_int(size - got));
        if (flooded(t))
            break;
        if (rc <= 0) {
            read_goes_on(t, rc);
            break;
        }
        t->tickets = 0;
        got += (size_t)rc;
        if (t->in_at == t->in_bytes && SSL_pending(t->ssl) == 0)
            break;
    }
    tls_in_return(t);
    return got;
}

/* What read_burst needs to go on. */
static int read_more(struct tls_session *t, unsigned *starved, keel_ns deadline)
{
    if (!t->starved)
        return tls_fill(t, deadline);
    if (++*starved > FLOOD)
        return t->read_end = -EPROTO;
    return flush_replies(t, deadline);
}

static ssize_t tls_read(struct keel_stream *s, void *buf, size_t size,
                        keel_ns deadline)
{
    struct tls_session *t = session_of(s);
    unsigned starved = 0;

    keel_assert(size > 0);
    while (t->read_end > 0) {
        size_t got = read_burst(t, buf, size);
        int rc;

        if (got > 0)
            return (ssize_t)got;
        if (t->read_end <= 0) {
            flush_alert(t);
            break;
        }
        rc = read_more(t, &starved, deadline);
        if (rc < 0)
            return rc;
    }
    return t->read_end;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* The bytes of a writev still to be sealed. */
struct pieces {
    const struct iovec *iov;
    int count;
    size_t at; /* in the first */
};

static size_t pieces_here(struct pieces *p)
{
    while (p->count > 0 && p->at == p->iov->iov_len) {
        p->iov++;
        p->count--;
        p->at = 0;
    }
    return p->count > 0 ? p->iov->iov_len - p->at : 0;
}

static const uint8_t *pieces_take(struct pieces *p, size_t size)
{
    const uint8_t *from = (const uint8_t *)p->iov->iov_base + p->at;

    p->at += size;
    return from;
}

/* Lends the next bytes to be sealed: whole records where they lie together,
 * else one record gathered into `gather`.  0 at the end. */
static size_t pieces_next(struct pieces *p, uint8_t gather[TLS_RECORD],
                          const uint8_t **ret)
{
    size_t here = pieces_here(p), got = 0;

    if (here >= TLS_RECORD) {
        size_t size = here < TLS_BURST ? here - here % TLS_RECORD : TLS_BURST;

        *ret = pieces_take(p, size);
        return size;
    }
    while (here > 0 && got < TLS_RECORD) {
        size_t size = here < TLS_RECORD - got ? here : TLS_RECORD - got;

        memcpy(gather + got, pieces_take(p, size), size);
        got += size;
        here = pieces_here(p);
    }
    *ret = gather;
    return got;
}

static size_t records_of(size_t size)
{
    return (size + TLS_RECORD - 1) / TLS_RECORD;
}

/* The peer is asked to change its key too: it may count worse than we do. */
static void key_age(struct tls_session *t, size_t size)
{
    t->records += records_of(size);
    if (t->records < tls_key_records)
        return;
    if (SSL_key_update(t->ssl, SSL_KEY_UPDATE_REQUESTED) == 1)
        t->records = 0;
}

/* A message after the handshake lies half received; OpenSSL wants the rest
 * before it seals anything.  What is sealed leaves first: the peer's next move
 * may depend on it. */
static int want_input(struct tls_session *t, keel_ns deadline)
{
    int rc = tls_flush(t, deadline);

    if (rc == 0)
        rc = tls_fill(t, deadline);
    return rc == 0 ? tls_out_lend(t) : rc;
}

/* Seals into `out`, which has room for it. */
static int seal(struct tls_session *t, const uint8_t *from, size_t size,
                keel_ns deadline)
{
    key_age(t, size);
    for (;;) {
        int rc, why;

        ERR_clear_error();
        rc = SSL_write(t->ssl, from, (int)size);
        if (rc > 0) {
            keel_assert((size_t)rc == size);
            return 0;
        }
        why = SSL_get_error(t->ssl, rc);
        rc = why == SSL_ERROR_WANT_READ ? want_input(t, deadline) : broken(t);
        if (rc < 0)
            return rc;
    }
}

static bool has_room(const struct tls_session *t, size_t size)
{
    return t->out_bytes + size + records_of(size) * TLS_SEAL <= TLS_OUT_FILL;
}

/* Nothing was sealed before the first error of out_lend; after any other the
 * caller's bytes are cut somewhere. */
static int write_all(struct tls_session *t, struct pieces *p, keel_ns deadline)
{
    const uint8_t *from;
    size_t size;
    int rc = tls_out_lend(t);

    if (rc < 0)
        return rc;
    while (rc == 0 && (size = pieces_next(p, t->out->gather, &from)) > 0) {
        if (!has_room(t, size))
            rc = tls_flush(t, deadline);
        if (rc == 0)
            rc = seal(t, from, size, deadline);
    }
    if (rc == 0)
        rc = tls_flush(t, deadline);
    else
        write_broke(t, rc);
    tls_out_return(t);
    return rc;
}

static int tls_writev(struct keel_stream *s, const struct iovec *iov, int count,
                      keel_ns deadline)
{
    struct tls_session *t = session_of(s);
    struct pieces p = {.iov = iov, .count = count};
    int rc = keel_lock_take(&t->sending, deadline);

    if (rc < 0)
        return rc;
    rc = t->write_end < 0 ? t->write_end : write_all(t, &p, deadline);
    keel_lock_drop(&t->sending);
    return rc;
}

/* ---- the end ------------------------------------------------------------------------------ */

static int seal_end(struct tls_session *t, keel_ns deadline)
{
    for (;;) {
        int rc;

        ERR_clear_error();
        if (SSL_shutdown(t->ssl) >= 0)
            return 0;
        rc = broken(t);
        if (!SSL_in_init(t->ssl))
            return rc;
        /* As in seal: first the rest of the half received message. */
        rc = want_input(t, deadline);
        if (rc < 0)
            return rc;
        ERR_clear_error();
        SSL_do_handshake(t->ssl);
    }
}

static int end_all(struct tls_session *t, keel_ns deadline)
{
    int rc = tls_out_lend(t);

    if (rc < 0)
        return rc;
    rc = seal_end(t, deadline);
    if (rc == 0)
        rc = tls_flush(t, deadline);
    else
        write_broke(t, rc);
    tls_out_return(t);
    if (rc == 0) {
        t->finished = true;
        t->write_end = -EPIPE;
    }
    return rc;
}

/* The alert alone: the socket below stays open both ways, as reading goes on
 * and close comes soon. */
static int tls_finish(struct keel_stream *s, keel_ns deadline)
{
    struct tls_session *t = session_of(s);
    int rc = keel_lock_take(&t->sending, deadline);

    if (rc < 0)
        return rc;
    if (t->finished)
        rc = 0;
    else
        rc = t->write_end < 0 ? t->write_end : end_all(t, deadline);
    keel_lock_drop(&t->sending);
    return rc;
}

void tls_session_free(struct tls_session *t)
{
    if (!t)
        return;
    /* Else OpenSSL takes a session whose stream was cut for a bad one: a rule
     * that went with TLS 1.0. */
    if (t->ssl)
        SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(t->ssl);
    keel_tls_config_free(t->config);
    keel_free(t->name);
    tls_buffer_return(t->in);
    tls_buffer_return(t->out);
    keel_event_fini(&t->received);
    keel_lock_fini(&t->sending);
    keel_free(t);
}

static void tls_close(struct keel_stream *s)
{
    struct tls_session *t = session_of(s);
    struct keel_stream *below = t->below;

    tls_session_free(t);
    keel_stream_close(below);
}

static int tls_fd(struct keel_stream *s)
{
    return keel_stream_fd(session_of(s)->below);
}

static const struct keel_stream_class tls_class = {
    .name = "tls",
    .read = tls_read,
    .writev = tls_writev,
    .finish = tls_finish,
    .close = tls_close,
    .fd = tls_fd,
};

int tls_session_new(struct keel_tls_config *c, struct keel_stream *below,
                    struct tls_session **ret)
{
    struct tls_session *t = keel_calloc(1, sizeof *t);
    BIO *b;

    if (!t)
        return -ENOMEM;
    t->stream.is = &tls_class;
    t->below = below;
    t->config = tls_config_hold(c);
    t->read_end = 1;
    keel_event_init(&t->received);
    keel_lock_init(&t->sending);

    t->ssl = SSL_new(c->ctx);
    b = t->ssl ? bio_new(t) : NULL;
    if (!b) {
        tls_session_free(t);
        return -ENOMEM;
    }
    SSL_set_bio(t->ssl, b, b);
    if (SSL_set_app_data(t->ssl, t) != 1) {
        tls_session_free(t);
        return -ENOMEM;
    }
    *ret = t;
    return 0;
}

/* ---- what a session knows ------------------------------------------------------------------- */

SSL *tls_ssl_of(struct keel_stream *s)
{
    return s->is == &tls_class ? session_of(s)->ssl : NULL;
}

struct tls_session *tls_session_of(SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

int keel_tls_export(struct keel_stream *s, const char *label,
                    const void *context, size_t context_size, void *ret,
                    size_t size)
{
    SSL *ssl = tls_ssl_of(s);
    size_t label_size = strlen(label);
    int ok;

    if (!ssl)
        return -ENOTSUP;
    /* RFC 8446 7.1: "tls13 " and the label in 255 bytes; HKDF's most. */
    if (label_size == 0 || label_size > 249 || context_size > UINT16_MAX ||
        size == 0 || size > EXPORT_MOST)
        return -EINVAL;
    ERR_clear_error();
    ok = SSL_export_keying_material(ssl, ret, size, label, label_size,
                                    context_size ? context : "", context_size,
                                    1);
    return ok == 1 ? 0 : broken(session_of(s));
}

int keel_tls_exporter(struct keel_stream *s, uint8_t ret[32])
{
    return keel_tls_export(s, "EXPORTER-Channel-Binding", NULL, 0, ret, 32);
}

const char *keel_tls_cipher(struct keel_stream *s)
{
    SSL *ssl = tls_ssl_of(s);

    return ssl ? SSL_get_cipher_name(ssl) : NULL;
}

const char *keel_tls_server_name(struct keel_stream *s)
{
    SSL *ssl = tls_ssl_of(s);

    return ssl && SSL_is_server(ssl)
               ? SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)
               : NULL;
}
