/* SPDX-License-Identifier: MIT */
#include "datagram.h"

#include <errno.h>
#include <string.h>

#include <keel/co.h>

/* bytes[at .. size) are still to be read; `out` is what was written, until it
 * is sent. */
struct datagram {
    struct keel_stream stream;
    struct keel_udp *udp;
    struct keel_address from;
    bool sent;
    uint8_t *out;
    size_t out_size;
    size_t size, at;
    uint8_t bytes[];
};

static struct datagram *of(struct keel_stream *s)
{
    return (struct datagram *)(void *)s;
}

static ssize_t datagram_read(struct keel_stream *s, void *buf, size_t size,
                             keel_ns deadline)
{
    struct datagram *d = of(s);

    (void)deadline; /* it is here */
    if (size > d->size - d->at)
        size = d->size - d->at;
    memcpy(buf, d->bytes + d->at, size);
    d->at += size;
    return (ssize_t)size;
}

static int datagram_writev(struct keel_stream *s, const struct iovec *iov,
                           int count, keel_ns deadline)
{
    struct datagram *d = of(s);
    size_t size = d->out_size;
    uint8_t *more;

    (void)deadline;
    if (d->sent)
        return -EPIPE;
    for (int i = 0; i < count; i++) {
        if (iov[i].iov_len > KEEL_UDP_BYTES_MOST - size)
            return -EMSGSIZE;
        size += iov[i].iov_len;
    }
    more = keel_realloc(d->out, size ? size : 1);
    if (!more)
        return -ENOMEM;
    d->out = more;
    for (int i = 0; i < count; i++) {
        memcpy(d->out + d->out_size, iov[i].iov_base, iov[i].iov_len);
        d->out_size += iov[i].iov_len;
    }
    return 0;
}

/* The socket belongs to the loop that receives, and may be another: so that
 * nobody waits on it here, a full queue, which is rare, is asked again. */
static int datagram_finish(struct keel_stream *s, keel_ns deadline)
{
    struct datagram *d = of(s);
    int rc;

    if (!d->out || d->sent)
        return 0;
    while ((rc = keel_udp_send_to(d->udp, &d->from, d->out, d->out_size,
                                  KEEL_NOW)) == -ETIMEDOUT &&
           keel_now() < deadline) {
        rc = keel_sleep(keel_after(KEEL_MS));
        if (rc < 0)
            break;
    }
    d->sent = rc == 0;
    return rc;
}

static void datagram_close(struct keel_stream *s)
{
    keel_free(of(s)->out);
    keel_free(s);
}

static int datagram_fd(struct keel_stream *s)
{
    (void)s; /* the socket is everybody's */
    return -1;
}

static const struct keel_stream_class datagram_class = {
    .name = "datagram",
    .read = datagram_read,
    .writev = datagram_writev,
    .finish = datagram_finish,
    .close = datagram_close,
    .fd = datagram_fd,
};

int datagram_new(struct keel_udp *udp, const struct keel_address *from,
                 const void *bytes, size_t size, struct keel_stream **ret)
{
    struct datagram *d = keel_alloc(sizeof(*d) + size);

    if (!d)
        return -ENOMEM;
    *d = (struct datagram){
        .stream = {&datagram_class}, .udp = udp, .from = *from, .size = size};
    memcpy(d->bytes, bytes, size);
    *ret = &d->stream;
    return 0;
}

bool is_datagram(const struct keel_stream *s)
{
    return s->is == &datagram_class;
}

const void *datagram_bytes(const struct keel_stream *s, size_t *ret_size,
                           struct keel_udp **ret_udp,
                           struct keel_address *ret_from)
{
    const struct datagram *d = (const void *)s;

    *ret_size = d->size;
    *ret_udp = d->udp;
    *ret_from = d->from;
    return d->bytes;
}
