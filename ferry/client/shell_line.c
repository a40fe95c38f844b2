/* SPDX-License-Identifier: MIT */
#include "client/shell_line.h"

#include <errno.h>
#include <string.h>

#include "base/name.h"

/* Where the reader is between two bytes. */
struct cursor {
    const char *at, *end;
    char quote; /* 0, '\'' or '"' */
};

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The next byte of a word in `ret`: 1, or 2 when it was quoted; 0: the word is
 * over; -EINVAL: "\x" with something else behind it. */
static int byte_next(struct cursor *k, char *ret)
{
    while (k->at < k->end) {
        char c = *k->at;

        if (!k->quote && blank(c))
            return 0;
        k->at++;
        if (k->quote ? c == k->quote : c == '\'' || c == '"') {
            k->quote = k->quote ? 0 : c;
            continue;
        }
        *ret = c;
        if (c != '\\' || k->quote == '\'' || k->at == k->end)
            return k->quote ? 2 : 1;
        *ret = *k->at++;
        if (*ret != 'x')
            return 2;
        if (k->end - k->at < 2 || hex(k->at[0]) < 0 || hex(k->at[1]) < 0)
            return -EINVAL;
        *ret = (char)(hex(k->at[0]) << 4 | hex(k->at[1]));
        k->at += 2;
        return 2;
    }
    return 0;
}

static void blanks_skip(struct cursor *k)
{
    while (k->at < k->end && blank(*k->at))
        k->at++;
    if (k->at < k->end && *k->at == '#')
        k->at = k->end;
}

static int wrong(struct problem *why, const char *detail)
{
    return problem(why, USAGE, .detail = detail);
}

/* A byte of a word, and of what fnmatch reads. */
static void byte_put(char c, bool quoted, char **to, char **pattern)
{
    *(*to)++ = c;
    if (c == '\\' || (quoted && strchr("*?[", c)))
        *(*pattern)++ = '\\';
    *(*pattern)++ = c;
}

static int split(struct cursor *k, struct shell_words *w, struct problem *why)
{
    char *to = w->text, *pattern = w->text + (k->end - k->at) + 1;

    for (blanks_skip(k); k->at < k->end; blanks_skip(k)) {
        bool is_pattern = false;
        char c, *from = pattern;
        int rc;

        if (w->count == SHELL_WORDS)
            return wrong(why, "the line has too many words");
        w->words[w->count++] = to;
        while ((rc = byte_next(k, &c)) > 0) {
            if (c == 0)
                return wrong(why, "no name has a NUL in it");
            is_pattern = is_pattern || (rc == 1 && strchr("*?[", c));
            byte_put(c, rc == 2, &to, &pattern);
        }
        if (rc < 0)
            return wrong(why, "'\\x' is followed by two hexadecimal digits");
        *to++ = 0;
        *pattern++ = 0;
        w->patterns[w->count - 1] = is_pattern ? from : NULL;
    }
    if (k->quote)
        return wrong(why, "a quote does not end");
    return 0;
}

int shell_split(const char *line, size_t size, struct shell_words *ret,
                struct problem *why)
{
    struct cursor k = {line, line + size, 0};
    int rc;

    memset(ret, 0, sizeof(*ret));
    if (size > SHELL_LINE_BYTES)
        return wrong(why, "the line is too long");
    /* No word is longer than it was written, and each but the last has a blank
     * behind it for its NUL.  A pattern has two bytes for one at most. */
    ret->text = keel_alloc((size + 1) * 3);
    if (!ret->text)
        return problem(why, NO_MEMORY);
    rc = split(&k, ret, why);
    if (rc < 0)
        shell_words_fini(ret);
    return rc;
}

void shell_words_fini(struct shell_words *w)
{
    keel_free(w->text);
    memset(w, 0, sizeof(*w));
}

int shell_last_word(const char *line, size_t size, size_t *ret_start, char *ret,
                    size_t ret_size)
{
    struct cursor k = {line, line + size, 0};
    int count = -1;

    keel_assert(ret_size > 0);
    do {
        size_t at = 0;
        char c;

        while (k.at < k.end && blank(*k.at))
            k.at++;
        *ret_start = (size_t)(k.at - line);
        while (byte_next(&k, &c) > 0) {
            if (c && at + 1 < ret_size)
                ret[at++] = c;
        }
        ret[at] = 0;
        count++;
    } while (k.at < k.end);
    return count;
}

/* A byte that text_escape would show as it is, and a reader takes as it is. */
static int quote_byte(const char *name, size_t left, char *ret, size_t room)
{
    static const char digits[] = "0123456789abcdef";
    size_t size = text_utf8(name, left);
    uint8_t c = (uint8_t)name[0];

    if (size > 1 ||
        (size == 1 && c > ' ' && c != 0x7f && !strchr("\\'\"#", c))) {
        /* marks that turn the direction of text are shown escaped */
        char shown[32];

        text_escape(name, size, shown, sizeof(shown));
        if (strlen(shown) == size) {
            if (room < size)
                return -EMSGSIZE;
            memcpy(ret, name, size);
            return (int)size;
        }
    } else if (c >= ' ' && c < 0x7f) {
        if (room < 2)
            return -EMSGSIZE;
        ret[0] = '\\';
        ret[1] = name[0];
        return 2;
    }
    if (room < 4)
        return -EMSGSIZE;
    ret[0] = '\\';
    ret[1] = 'x';
    ret[2] = digits[c >> 4];
    ret[3] = digits[c & 15];
    return 4;
}

int shell_quote(const char *name, char *ret, size_t size)
{
    size_t left = strlen(name), at = 0;

    if (left == 0) {
        if (size < 3)
            return -EMSGSIZE;
        memcpy(ret, "''", 3);
        return 0;
    }
    while (left > 0) {
        int count =
            at < size ? quote_byte(name, left, ret + at, size - at) : -EMSGSIZE;
        size_t taken;

        if (count < 0)
            return count;
        taken = ret[at] == '\\' ? 1 : (size_t)count;
        at += (size_t)count;
        name += taken;
        left -= taken;
    }
    if (at >= size)
        return -EMSGSIZE;
    ret[at] = 0;
    return 0;
}

/* ---- secrets -------------------------------------------------------------------- */

static bool holds(const char *line, size_t size, const char *what)
{
    return memmem(line, size, what, strlen(what)) != NULL;
}

bool shell_secret(const char *line, size_t size)
{
    keel_auto(mem) void *memory = keel_calloc(1, sizeof(struct shell_words));
    struct shell_words *w = memory;
    bool found = holds(line, size, "ferry://") && memchr(line, '#', size);

    /* What is no line may have been meant as one. */
    if (!w || shell_split(line, size, w, NULL) < 0)
        return found || holds(line, size, "join");
    for (int i = 0; i < w->count && !found; i++)
        found = strcmp(w->words[i], "join") == 0;
    shell_words_fini(w);
    return found;
}
