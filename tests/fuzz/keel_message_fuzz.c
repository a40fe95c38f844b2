/* SPDX-License-Identifier: MIT */
/* Messages from outside: the first two bytes are the limits, the rest is what
 * the stream brings. */
#include <errno.h>
#include <string.h>

#include <keel/message.h>

/* What is said of the end fits with what came. */
static void read_all(struct keel_stream *s, size_t header_most,
                     uint64_t body_most, size_t size)
{
    struct keel_message m;
    size_t missing = 0;
    char buf[100];
    ssize_t got;
    int rc;

    while ((rc = keel_message_read(s, header_most, body_most, KEEL_NOW, &m,
                                   &missing)) == 0) {
        uint64_t sum = 0;

        keel_assert(m.header_size <= header_most && m.body_size <= body_most);
        keel_assert(strlen(m.header) == m.header_size);
        while ((got = keel_message_get(&m, buf, sizeof(buf), KEEL_NOW)) > 0)
            sum += (uint64_t)got;
        keel_assert(sum + m.left == m.body_size && sum <= size);
        keel_assert(got == (m.left ? -ECONNABORTED : 0));
        keel_message_fini(&m);
        if (got < 0)
            return;
    }
    keel_assert(rc == -ENODATA || rc == -EMSGSIZE || rc == -EILSEQ ||
                (rc == -ECONNABORTED && missing > 0 &&
                 missing <= (header_most > 8 ? header_most : 8)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct keel_stream *pair[2];

    if (size < 3 || keel_stream_pair(size, pair) < 0)
        return 0;
    if (keel_stream_write(pair[0], data + 2, size - 2, KEEL_NOW) == 0 &&
        keel_stream_finish(pair[0], KEEL_NOW) == 0)
        read_all(pair[1], data[0] * 16u, data[1] * 256u, size);
    keel_stream_close(pair[0]);
    keel_stream_close(pair[1]);
    return 0;
}
