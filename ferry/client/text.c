/* SPDX-License-Identifier: MIT */
#include "client/text.h"

#include <langinfo.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/name.h"

/* Where `make` leaves the catalogues, for a program that was not installed:
 * LOCALEDIR is where they go, FERRY_LOCALEDIR overrides it. */
void text_begin(bool plain)
{
    const char *told = getenv("FERRY_LOCALEDIR");

    /* Widths need a UTF-8 locale; names are UTF-8 or escaped, whatever the
     * locale says. */
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
    if (plain)
        return;
    setlocale(LC_MESSAGES, "");
    bindtextdomain("ferry", told && *told ? told : LOCALEDIR);
    bind_textdomain_codeset("ferry", "UTF-8");
    textdomain("ferry");
}

wchar_t text_decode(const char *text, size_t size)
{
    const uint8_t *b = (const uint8_t *)text;

    switch (size) {
    case 1:
        return b[0];
    case 2:
        return (b[0] & 0x1f) << 6 | (b[1] & 0x3f);
    case 3:
        return (b[0] & 0x0f) << 12 | (b[1] & 0x3f) << 6 | (b[2] & 0x3f);
    default:
        return (b[0] & 0x07) << 18 | (b[1] & 0x3f) << 12 | (b[2] & 0x3f) << 6 |
               (b[3] & 0x3f);
    }
}

unsigned text_columns(const char *text)
{
    size_t left = strlen(text);
    unsigned columns = 0;

    while (left > 0) {
        size_t size = text_utf8(text, left);
        int width = size ? wcwidth(text_decode(text, size)) : 1;

        /* What libc does not know takes a column on most terminals. */
        columns += width < 0 ? 1 : (unsigned)width;
        size += size == 0;
        text += size;
        left -= size;
    }
    return columns;
}

void text_pad(const char *text, unsigned columns, FILE *to)
{
    unsigned width = text_columns(text);

    fprintf(to, "%*s", width < columns ? (int)(columns - width) : 1, "");
}

unsigned text_terminal(int fd)
{
    struct winsize w;

    if (!isatty(fd))
        return 0;
    return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}
