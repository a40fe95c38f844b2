/* SPDX-License-Identifier: MIT */
/* keel's messages from outside: the first byte chooses the most that one may
 * hold, the rest is what the stream brings, and then it ends. */
#include <errno.h>
#include <string.h>

#include <keel/frame.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each message is the bytes that its length says, and what follows the last
 * one is told as it is. */
static void read_all(struct keel_stream *s, const uint8_t *sent, size_t size,
                     size_t most)
{
    for (size_t at = 0;;) {
        keel_auto(mem) void *body = NULL;
        size_t missing = SIZE_MAX, left = size - at;
        size_t said = left < 4 ? 0 : keel_be32(sent + at);
        ssize_t got = keel_frame_read(s, most, &body, &missing, KEEL_NOW);

        if (left == 0) {
            keel_assert(got == -ENODATA);
            return;
        }
        if (left >= 4 && said > most) {
            keel_assert(got == -EMSGSIZE);
            return;
        }
        if (left < 4 || said > left - 4) {
            keel_assert(got == -ECONNABORTED);
            keel_assert(missing == (left < 4 ? 4 - left : said - (left - 4)));
            return;
        }
        keel_assert(got == (ssize_t)said);
        keel_assert(memcmp(body, sent + at + 4, said) == 0);
        at += 4 + said;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct keel_stream *pair[2];

    if (size < 2 || keel_stream_pair(size, pair) < 0)
        return 0;
    if (keel_stream_write(pair[0], data + 1, size - 1, KEEL_NOW) == 0 &&
        keel_stream_finish(pair[0], KEEL_NOW) == 0)
        read_all(pair[1], data + 1, size - 1, (size_t)data[0] * data[0]);
    keel_stream_close(pair[0]);
    keel_stream_close(pair[1]);
    return 0;
}
