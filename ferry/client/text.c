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
#include "client/places.h"

/* A program that was not installed has its catalogues beside it. */
static const char *catalogues(void)
{
    char path[4096];
    ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
    size_t root = strlen(BUILD_ROOT);

    if (size > (ssize_t)root && strncmp(path, BUILD_ROOT "/", root + 1) == 0)
        return BUILD_ROOT "/po";
    return LOCALE_DIR;
}

/* gettext translates for no locale that is not there, and many a machine was
 * given a language without it: the names are tried in C.UTF-8 then, which is
 * always there. */
static void language_take(void)
{
    static const char *const names[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
    const char *told = NULL, *listed = getenv("LANGUAGE");

    if (setlocale(LC_MESSAGES, ""))
        return;
    for (int i = 0; i < 3 && (!told || !*told); i++)
        told = getenv(names[i]);
    if (told && *told && setlocale(LC_MESSAGES, "C.UTF-8"))
        setenv("LANGUAGE", told, !listed || !*listed);
}

void text_begin(bool plain)
{
    /* Widths need a UTF-8 locale; names are UTF-8 or escaped, whatever the
     * locale says. */
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
    if (plain)
        return;
    language_take();
    bindtextdomain("ferry", catalogues());
    bind_textdomain_codeset("ferry", "UTF-8");
    textdomain("ferry");
    /* The catalogue is read here, not on the stack of a coroutine. */
    (void)_("It was cancelled.");
}

void text_plain(bool plain)
{
    textdomain(plain ? "messages" : "ferry");
}

void text_some_of(const char *one, const char *many, uint64_t n, char *ret,
                  size_t size)
{
    snprintf(ret, size, ngettext(one, many, n), (unsigned long long)n);
}

void text_more(const char *more, char *ret, size_t size)
{
    size_t at = strlen(ret);

    snprintf(ret + at, size - at, "%s", more);
}

void text_and_of(const char *one, const char *many, uint64_t n, char *ret,
                 size_t size)
{
    char some[128];

    if (n == 0)
        return;
    text_some_of(one, many, n, some, sizeof(some));
    text_more(_("; "), ret, size);
    text_more(some, ret, size);
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

/* The columns of the character at `text`, and its bytes. */
static unsigned char_columns(const char *text, size_t left, size_t *ret_bytes)
{
    size_t size = text_utf8(text, left);
    int width = size ? wcwidth(text_decode(text, size)) : 1;

    *ret_bytes = size + (size == 0);
    /* What libc does not know takes a column on most terminals. */
    return width < 0 ? 1 : (unsigned)width;
}

unsigned text_columns(const char *text)
{
    size_t left = strlen(text);
    unsigned columns = 0;

    while (left > 0) {
        size_t size;

        columns += char_columns(text, left, &size);
        text += size;
        left -= size;
    }
    return columns;
}

/* What is not taken apart: an escape of text_escape's, or a character with the
 * marks that stand on it. */
static unsigned unit_columns(const char *text, size_t left, size_t *ret_bytes)
{
    size_t size, more;
    unsigned columns;

    if (text[0] == '\\' && left > 1) {
        size = text[1] == 'x' ? 4 : 2;
        *ret_bytes = size < left ? size : left;
        return (unsigned)*ret_bytes;
    }
    columns = char_columns(text, left, &size);
    while (size < left && char_columns(text + size, left - size, &more) == 0)
        size += more;
    *ret_bytes = size;
    return columns;
}

size_t text_fit(const char *text, unsigned columns, unsigned *ret_taken)
{
    size_t size = strlen(text), at = 0, bytes;
    unsigned taken = 0;

    while (at < size) {
        unsigned width = unit_columns(text + at, size - at, &bytes);

        if (taken + width > columns)
            break;
        taken += width;
        at += bytes;
    }
    *ret_taken = taken;
    return at;
}

static const char dots[] = "\xe2\x80\xa6";

void text_shorten(const char *text, unsigned columns, char *ret, size_t size)
{
    unsigned all = text_columns(text), taken;
    size_t head, tail = 0, bytes;

    if (all <= columns || columns == 0) {
        snprintf(ret, size, "%s", columns == 0 ? "" : text);
        return;
    }
    head = text_fit(text, columns / 2, &taken);
    columns -= taken + 1;
    while (all > columns) {
        all -= unit_columns(text + tail, strlen(text + tail), &bytes);
        tail += bytes;
    }
    snprintf(ret, size, "%.*s%s%s", (int)head, text, dots, text + tail);
}

void text_cut(const char *text, unsigned columns, char *ret, size_t size)
{
    unsigned taken;
    size_t head;

    if (text_columns(text) <= columns || columns == 0) {
        snprintf(ret, size, "%s", columns == 0 ? "" : text);
        return;
    }
    head = text_fit(text, columns - 1, &taken);
    snprintf(ret, size, "%.*s%s", (int)head, text, dots);
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

void text_slashes(char *path)
{
    char *to = path;

    for (const char *at = path; *at; at++) {
        if (*at != '/' || to == path || to[-1] != '/')
            *to++ = *at;
    }
    *to = 0;
}
