/* SPDX-License-Identifier: MIT */
/* CRC-32C (Castagnoli), as in RFC 3720 appendix B.4. */
#ifndef FERRY_CRC32C_H
#define FERRY_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of bytes that follow those of which `crc` is the value; 0 at the start. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);
/* The same without the processor's help, for tests. */
uint32_t crc32c_table(uint32_t crc, const void *bytes, size_t size);

#endif
