/* SPDX-License-Identifier: MIT */
#include <keel/message.h>

#include <errno.h>
#include <string.h>

#include <keel/frame.h>

enum { HEAD_BYTES = 4, BODY_BYTES = 8, SKIP_BYTES = 16 << 10 };

/* ---- text ------------------------------------------------------------------------ */

/* How many bytes a character has that begins with `c`; 0: none begins so. */
static unsigned char_size(uint8_t c)
{
    if (c < 0x80)
        return c ? 1 : 0;
    if (c >= 0xc2 && c < 0xe0)
        return 2;
    if (c >= 0xe0 && c < 0xf0)
        return 3;
    return c >= 0xf0 && c < 0xf5 ? 4 : 0;
}

/* RFC 3629 4: no character longer than it must be, no surrogate, none behind
 * U+10FFFF; the second byte tells. */
static bool second_fits(uint8_t first, uint8_t second)
{
    switch (first) {
    case 0xe0:
        return second >= 0xa0;
    case 0xed:
        return second < 0xa0;
    case 0xf0:
        return second >= 0x90;
    case 0xf4:
        return second < 0x90;
    default:
        return true;
    }
}

static bool is_text(const char *text, size_t size)
{
    const uint8_t *p = (const uint8_t *)text;

    for (size_t at = 0, n; at < size; at += n) {
        n = char_size(p[at]);
        if (n == 0 || n > size - at)
            return false;
        for (size_t i = 1; i < n; i++)
            if ((p[at + i] & 0xc0) != 0x80)
                return false;
        if (n > 1 && !second_fits(p[at], p[at + 1]))
            return false;
    }
    return true;
}

/* ---- out -------------------------------------------------------------------------- */

static int write_start(struct keel_stream *s, const char *header,
                       size_t header_size, uint64_t body_size, const void *body,
                       size_t now, keel_ns deadline)
{
    uint8_t head[HEAD_BYTES], length[BODY_BYTES];
    /* iovec serves reads too; writev does not write by it. */
    struct iovec iov[4] = {{head, sizeof head},
                           {(void *)(uintptr_t)header, header_size},
                           {length, sizeof length},
                           {(void *)(uintptr_t)body, now}};

    if (header_size > UINT32_MAX)
        return -EMSGSIZE;
    if (!is_text(header, header_size))
        return -EILSEQ;
    keel_be32_put(head, (uint32_t)header_size);
    keel_be64_put(length, body_size);
    return keel_stream_writev(s, iov, now ? 4 : 3, deadline);
}

int keel_message_begin(struct keel_stream *s, const char *header,
                       size_t header_size, uint64_t body_size, keel_ns deadline,
                       struct keel_message *ret)
{
    int rc = write_start(s, header, header_size, body_size, NULL, 0, deadline);

    if (rc < 0)
        return rc;
    *ret = (struct keel_message){
        .stream = s,
        .header_size = header_size,
        .body_size = body_size,
        .left = body_size,
    };
    return 0;
}

int keel_message_put(struct keel_message *m, const void *data, size_t size,
                     keel_ns deadline)
{
    int rc;

    if (size > m->left)
        return -EMSGSIZE;
    if (size == 0)
        return 0;
    rc = keel_stream_write(m->stream, data, size, deadline);
    if (rc < 0)
        return rc;
    m->left -= size;
    return 0;
}

int keel_message_write(struct keel_stream *s, const char *header,
                       size_t header_size, const void *body, size_t body_size,
                       keel_ns deadline)
{
    return write_start(s, header, header_size, body_size, body, body_size,
                       deadline);
}

/* ---- in --------------------------------------------------------------------------- */

/* A frame with a NUL behind it. */
static int read_header(struct keel_stream *s, size_t most, keel_ns deadline,
                       struct keel_message *m, size_t *ret_missing)
{
    void *header = NULL;
    char *text;
    ssize_t size = keel_frame_read(s, most, &header, ret_missing, deadline);

    if (size < 0)
        return (int)size;
    m->header_size = (size_t)size;
    if (!is_text(header, m->header_size)) {
        keel_free(header);
        return -EILSEQ;
    }
    text = keel_realloc(header, m->header_size + 1);
    if (!text) {
        keel_free(header);
        return -ENOMEM;
    }
    text[m->header_size] = '\0';
    m->header = text;
    return 0;
}

int keel_message_read(struct keel_stream *s, size_t header_most,
                      uint64_t body_most, keel_ns deadline,
                      struct keel_message *ret, size_t *ret_missing)
{
    keel_auto(message) struct keel_message m = {.stream = s};
    uint8_t length[BODY_BYTES];
    size_t got = 0;
    int rc = read_header(s, header_most, deadline, &m, ret_missing);

    if (rc < 0)
        return rc;
    rc = keel_stream_read_all(s, length, sizeof length, &got, deadline);
    if (rc == -ECONNABORTED && ret_missing)
        *ret_missing = sizeof length - got;
    if (rc < 0)
        return rc;
    m.body_size = m.left = keel_be64(length);
    if (m.body_size > body_most)
        return -EMSGSIZE;
    *ret = m;
    m.header = NULL;
    return 0;
}

ssize_t keel_message_get(struct keel_message *m, void *buf, size_t size,
                         keel_ns deadline)
{
    ssize_t got;

    if (size > m->left)
        size = (size_t)m->left;
    if (size == 0)
        return 0;
    got = keel_stream_read(m->stream, buf, size, deadline);
    if (got == 0)
        return -ECONNABORTED;
    if (got > 0)
        m->left -= (uint64_t)got;
    return got;
}

ssize_t keel_message_get_all(struct keel_message *m, void *buf, size_t size,
                             keel_ns deadline)
{
    size_t done = 0;

    if (m->left > size)
        return -EMSGSIZE;
    while (m->left) {
        ssize_t got =
            keel_message_get(m, (char *)buf + done, size - done, deadline);

        if (got < 0)
            return got;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

int keel_message_skip(struct keel_message *m, keel_ns deadline)
{
    char buf[SKIP_BYTES];

    while (m->left) {
        ssize_t got = keel_message_get(m, buf, sizeof buf, deadline);

        if (got < 0)
            return (int)got;
    }
    return 0;
}

void keel_message_fini(struct keel_message *m)
{
    keel_free(m->header);
    m->header = NULL;
}
