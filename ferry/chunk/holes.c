/* SPDX-License-Identifier: MIT */
#include "chunk/holes.h"

#include <string.h>

static bool is_zero(const uint8_t *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

size_t hole_run(const uint8_t *bytes, size_t size, bool *ret_zero)
{
    bool first = false;
    size_t at = 0;

    while (at < size) {
        size_t block = size - at < HOLE_BLOCK ? size - at : HOLE_BLOCK;
        bool zero = is_zero(bytes + at, block);

        if (at == 0)
            first = zero;
        else if (zero != first)
            break;
        at += block;
    }
    *ret_zero = first;
    return at;
}
