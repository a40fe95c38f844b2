/* SPDX-License-Identifier: MIT */
#include "base/base64.h"

#include <errno.h>
#include <string.h>

static const char alphabets[2][65] = {
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
};

void base64_encode(enum base64 kind, const void *bytes, size_t size, char *ret)
{
    const char *letter = alphabets[kind];
    const uint8_t *in = bytes;

    for (; size >= 3; size -= 3, in += 3) {
        *ret++ = letter[in[0] >> 2];
        *ret++ = letter[(in[0] & 3) << 4 | in[1] >> 4];
        *ret++ = letter[(in[1] & 15) << 2 | in[2] >> 6];
        *ret++ = letter[in[2] & 63];
    }
    if (size > 0) {
        uint8_t second = size == 2 ? in[1] : 0;

        *ret++ = letter[in[0] >> 2];
        *ret++ = letter[(in[0] & 3) << 4 | second >> 4];
        if (size == 2)
            *ret++ = letter[(second & 15) << 2];
        for (size_t pad = kind == BASE64_STANDARD ? 3 - size : 0; pad > 0;
             pad--)
            *ret++ = '=';
    }
    *ret = 0;
}

static int digit(enum base64 kind, char c)
{
    const char *at = c ? strchr(alphabets[kind], c) : NULL;

    return at ? (int)(at - alphabets[kind]) : -1;
}

ssize_t base64_decode(enum base64 kind, const char *text, size_t text_size,
                      void *ret, size_t most)
{
    uint8_t *out = ret;
    uint32_t bits = 0;
    unsigned held = 0;
    size_t count = 0;

    if (kind == BASE64_STANDARD) {
        if (text_size % 4)
            return -EINVAL;
        for (int pad = 0;
             pad < 2 && text_size > 0 && text[text_size - 1] == '='; pad++)
            text_size--;
    }
    if (text_size % 4 == 1)
        return -EINVAL;
    for (size_t i = 0; i < text_size; i++) {
        int d = digit(kind, text[i]);

        if (d < 0)
            return -EINVAL;
        bits = bits << 6 | (uint32_t)d;
        held += 6;
        if (held >= 8) {
            held -= 8;
            if (count == most)
                return -EMSGSIZE;
            out[count++] = (uint8_t)(bits >> held);
            bits &= (1u << held) - 1;
        }
    }
    return bits ? -EINVAL : (ssize_t)count;
}
