/* SPDX-License-Identifier: MIT */
/* Base64 (RFC 4648 section 4, padded) and base64url (section 5, unpadded).
 * Decoding is strict: no white space, no bits left over. */
#ifndef FERRY_BASE64_H
#define FERRY_BASE64_H

#include <keel/base.h>

enum base64 { BASE64_STANDARD, BASE64_URL };

/* Bytes of text with its NUL for `size` bytes, padded or not. */
#define BASE64_TEXT_BYTES(size) (((size) + 2) / 3 * 4 + 1)

/* `ret` has room for BASE64_TEXT_BYTES(size). */
void base64_encode(enum base64 kind, const void *bytes, size_t size, char *ret);
/* At most `most` bytes into `ret`; returns how many.  -EINVAL, -EMSGSIZE */
ssize_t base64_decode(enum base64 kind, const char *text, size_t text_size,
                      void *ret, size_t most);

#endif
