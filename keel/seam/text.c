/* SPDX-License-Identifier: MIT */
#include <keel/base.h>

size_t keel_utf8(const void *bytes, size_t size)
{
    const uint8_t *b = bytes;
    size_t n;

    if (size == 0)
        return 0;
    if (b[0] < 0x80)
        return 1;
    /* 0xc0 and 0xc1 could only begin overlong forms; 0xf5 and more, nothing. */
    if (b[0] < 0xc2 || b[0] > 0xf4)
        return 0;
    n = b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    if (size < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    if ((b[0] == 0xe0 && b[1] < 0xa0) ||  /* overlong */
        (b[0] == 0xed && b[1] >= 0xa0) || /* surrogates */
        (b[0] == 0xf0 && b[1] < 0x90) ||  /* overlong */
        (b[0] == 0xf4 && b[1] >= 0x90))   /* beyond U+10FFFF */
        return 0;
    return n;
}

/* Whether a terminal draws this character and does nothing else. */
static bool harmless(const uint8_t *b, size_t n)
{
    if (n == 1)
        return b[0] >= 0x20 && b[0] != 0x7f;
    if (n == 2) /* C1, and U+061C */
        return !(b[0] == 0xc2 && b[1] < 0xa0) &&
               !(b[0] == 0xd8 && b[1] == 0x9c);
    /* U+200E, U+200F, U+2028..U+202E, U+2066..U+2069: line ends and marks that
     * turn the direction of the text around them. */
    if (n == 3 && b[0] == 0xe2 && b[1] == 0x80)
        return !(b[2] == 0x8e || b[2] == 0x8f ||
                 (b[2] >= 0xa8 && b[2] <= 0xae));
    if (n == 3 && b[0] == 0xe2 && b[1] == 0x81)
        return !(b[2] >= 0xa6 && b[2] <= 0xa9);
    return true;
}

size_t keel_utf8_shown(const void *bytes, size_t size)
{
    size_t n = keel_utf8(bytes, size);

    return n > 0 && harmless(bytes, n) ? n : 0;
}
