/* SPDX-License-Identifier: MIT */
/* What a peer without the key may say: the first byte chooses whether it dialled
 * or accepted, the rest is what it sends, whatever it is asked. */
#include <errno.h>

#include <keel/peer.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct keel_peer_key key = {.secret = "nobody knows this key",
                                         .secret_size = 21};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct keel_stream *pair[2];
    int rc;

    if (size < 2 || keel_stream_pair(size + 200, pair) < 0)
        return 0;
    if (keel_stream_write(pair[0], data + 1, size - 1, KEEL_NOW) == 0 &&
        keel_stream_finish(pair[0], KEEL_NOW) == 0) {
        rc = data[0] & 1 ? keel_peer_challenge(pair[1], &key, KEEL_NOW)
                         : keel_peer_answer(pair[1], &key, KEEL_NOW);
        keel_assert(rc == -EACCES || rc == -EPROTO || rc == -ECONNABORTED);
    }
    keel_stream_close(pair[0]);
    keel_stream_close(pair[1]);
    return 0;
}
