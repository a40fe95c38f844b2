/* SPDX-License-Identifier: MIT */
#include "chunk/crc32c.h"

#include <string.h>

/* The polynomial's remainders for four bits at a time: 64 bytes that stay in
 * the cache, for machines without an instruction. */
static const uint32_t nibble[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
    0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
    0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t crc32c_table(uint32_t crc, const void *bytes, size_t size)
{
    const uint8_t *b = bytes;

    crc = ~crc;
    while (size-- > 0) {
        crc ^= *b++;
        crc = nibble[crc & 15] ^ (crc >> 4);
        crc = nibble[crc & 15] ^ (crc >> 4);
    }
    return ~crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t
by_instruction(uint32_t crc, const void *bytes, size_t size)
{
    const uint8_t *b = bytes;
    uint64_t c = ~crc;

    for (; size >= 8; size -= 8, b += 8) {
        uint64_t word;

        memcpy(&word, b, 8);
        c = __builtin_ia32_crc32di(c, word);
    }
    for (; size > 0; size--, b++)
        c = __builtin_ia32_crc32qi((uint32_t)c, *b);
    return ~(uint32_t)c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        return by_instruction(crc, bytes, size);
#endif
    return crc32c_table(crc, bytes, size);
}
