/* SPDX-License-Identifier: MIT */
#include "base/name.h"

#include <ctype.h>
#include <errno.h>
#include <libintl.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"

/* ---- names and paths */

static int name_invalid(const char *name, size_t size, const char *detail,
                        struct problem *why)
{
    char text[NAME_BYTES + 2];

    /* One byte more than a name may have shows that it was cut. */
    if (size > sizeof text - 1)
        size = sizeof text - 1;
    memcpy(text, name, size);
    text[size] = '\0';
    return problem(why, NAME_INVALID, .name = text, .detail = detail);
}

int name_check(const char *name, size_t size, struct problem *why)
{
    if (size == 0)
        return name_invalid(name, size, "it is empty", why);
    if (size > NAME_BYTES)
        return name_invalid(name, size, "it is longer than 255 bytes", why);
    if (memchr(name, '\0', size))
        return name_invalid(name, size, "it contains a NUL byte", why);
    if (memchr(name, '/', size))
        return name_invalid(name, size, "it contains a slash", why);
    if (name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.')))
        return name_invalid(name, size, "it has a meaning of its own", why);
    return 0;
}

struct shown shown_path(const char *path)
{
    struct shown s = {.text = "/"};

    (void)snprintf(s.text + 1, sizeof s.text - 1, "%s", path);
    return s;
}

static int path_add(struct path *p, const char *name, size_t size,
                    struct problem *why)
{
    size_t at = p->count ? p->size + 1u : 0;
    int rc;

    rc = name_check(name, size, why);
    if (rc < 0)
        return rc;
    if (p->count == PATH_DEPTH)
        return problem(why, PATH_TOO_DEEP, .size = p->count + 1u,
                       .limit = PATH_DEPTH);
    if (at + size > PATH_BYTES)
        return problem(why, PATH_TOO_LONG, .size = at + size,
                       .limit = PATH_BYTES);

    if (p->count)
        p->text[at - 1] = '/';
    p->start[p->count++] = (uint16_t)at;
    memcpy(p->text + at, name, size);
    p->size = (uint16_t)(at + size);
    p->text[p->size] = '\0';
    return 0;
}

int path_parse(const void *bytes, size_t size, struct path *ret,
               struct problem *why)
{
    const char *in = bytes, *end = in + size;
    struct path p;

    if (size > PATH_BYTES)
        return problem(why, PATH_TOO_LONG, .size = size, .limit = PATH_BYTES);

    p.count = 0;
    p.size = 0;
    p.text[0] = '\0';
    while (in < end) {
        const char *slash = memchr(in, '/', (size_t)(end - in));
        const char *stop = slash ? slash : end;
        int rc;

        if (stop > in) {
            rc = path_add(&p, in, (size_t)(stop - in), why);
            if (rc < 0)
                return rc;
        }
        in = stop + (slash != NULL);
    }
    ret->count = p.count;
    ret->size = p.size;
    memcpy(ret->start, p.start, p.count * sizeof p.start[0]);
    memcpy(ret->text, p.text, p.size + 1u);
    return 0;
}

const char *path_leaf(const struct path *p)
{
    return p->count ? p->text + p->start[p->count - 1] : "";
}

void path_parent(const struct path *p, struct path *ret)
{
    unsigned count = p->count ? p->count - 1 : 0;
    uint16_t size = count ? (uint16_t)(p->start[count] - 1) : 0;

    if (ret != p) {
        memcpy(ret->start, p->start, count * sizeof p->start[0]);
        memcpy(ret->text, p->text, size);
    }
    ret->text[size] = '\0';
    ret->count = count;
    ret->size = size;
}

int path_append(struct path *p, const char *name, struct problem *why)
{
    return path_add(p, name, strlen(name), why);
}

static bool is_plain(const char *name, size_t most)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    static const char rest[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t size = strnlen(name, most + 1);

    return size > 0 && size <= most && strchr(first, name[0]) &&
           strspn(name, rest) == size;
}

int account_name_check(const char *name, struct problem *why)
{
    if (!is_plain(name, ACCOUNT_NAME_BYTES))
        return problem(why, ACCOUNT_NAME, .name = name);
    return 0;
}

int space_name_check(const char *name, struct problem *why)
{
    if (!is_plain(name, SPACE_NAME_BYTES))
        return problem(why, SPACE_NAME, .name = name);
    return 0;
}

/* ---- texts for people */

enum escaping {
    PLAIN,  /* for a terminal */
    QUOTED, /* between single quotes */
    AGAIN   /* likewise, and it has been escaped before */
};

/* Bytes of an escape that text_escape made; 0: there is none. */
static size_t escape_size(const uint8_t *in, size_t in_size)
{
    if (in_size >= 2 && in[1] == '\\')
        return 2;
    return in_size >= 4 && in[1] == 'x' && isxdigit(in[2]) && isxdigit(in[3])
               ? 4
               : 0;
}

/* One character or byte of `in` in its escaped form; how much of it was
 * taken. */
static size_t escape_one(const uint8_t *in, size_t in_size,
                         enum escaping escaping, char token[5],
                         size_t *ret_size)
{
    static const char digits[] = "0123456789abcdef";
    size_t n = text_utf8(in, in_size);

    if (in[0] == '\\' && escaping == AGAIN && escape_size(in, in_size) > 0)
        n = escape_size(in, in_size);
    else if (in[0] == '\\' || (in[0] == '\'' && escaping != PLAIN)) {
        token[0] = '\\';
        token[1] = (char)in[0];
        *ret_size = 2;
        return 1;
    }
    if (n > 0 && (in[0] == '\\' || keel_utf8_shown(in, n) > 0)) {
        memcpy(token, in, n);
        *ret_size = n;
        return n;
    }
    memcpy(token, "\\x", 2);
    token[2] = digits[in[0] >> 4];
    token[3] = digits[in[0] & 15];
    *ret_size = 4;
    return 1;
}

static size_t escape(const char *in, size_t in_size, enum escaping escaping,
                     char *ret, size_t size)
{
    const uint8_t *b = (const uint8_t *)in;
    size_t at = 0, mark = 0; /* the last boundary with room for "..." */

    keel_assert(size > 0);
    while (in_size > 0) {
        char token[5];
        size_t token_size,
            taken = escape_one(b, in_size, escaping, token, &token_size);

        if (at + token_size >= size) {
            at = mark;
            for (int dots = 0; dots < 3 && at + 1 < size; dots++)
                ret[at++] = '.';
            break;
        }
        memcpy(ret + at, token, token_size);
        at += token_size;
        if (at + 3 < size)
            mark = at;
        b += taken;
        in_size -= taken;
    }
    ret[at] = '\0';
    return at;
}

void text_escape(const char *in, size_t in_size, char *ret, size_t size)
{
    (void)escape(in, in_size, PLAIN, ret, size);
}

static char *quote(const char *in, size_t in_size, enum escaping escaping,
                   char *ret, size_t size)
{
    size_t at;

    keel_assert(size >= 3);
    ret[0] = '\'';
    at = 1 + escape(in, in_size, escaping, ret + 1, size - 2);
    ret[at++] = '\'';
    ret[at] = '\0';
    return ret;
}

char *text_quote(const char *in, size_t in_size, char *ret, size_t size)
{
    return quote(in, in_size, QUOTED, ret, size);
}

char *text_quote_shown(const char *in, char *ret, size_t size)
{
    return quote(in, strlen(in), AGAIN, ret, size);
}

const char *text_plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

void text_bytes(uint64_t bytes, char ret[32])
{
    static const char units[] = "KMGTPE";
    uint64_t whole = bytes >> 10, unit = 1024;
    int i = 0;

    if (bytes < 1024) {
        snprintf(ret, 32, ngettext("%d byte", "%d bytes", bytes), (int)bytes);
        return;
    }
    while (whole >= 1024) {
        whole >>= 10;
        unit <<= 10;
        i++;
    }
    if (bytes % unit == 0) {
        snprintf(ret, 32, "%d %ciB", (int)whole, units[i]);
        return;
    }
    /* Rounded to a tenth, which may carry into the next unit; ten times the
     * rest of an exbibyte is still below 2^64. */
    uint64_t tenth = (bytes % unit * 10 + unit / 2) / unit;

    if (tenth == 10) {
        tenth = 0;
        whole++;
    }
    if (whole == 1024) {
        whole = 1;
        i++;
    }
    snprintf(ret, 32, "%d.%d %ciB", (int)whole, (int)tenth, units[i]);
}

unsigned text_distance(const char *a, const char *b)
{
    enum { MOST = 63 };
    size_t a_size = strnlen(a, MOST), b_size = strnlen(b, MOST);
    unsigned row[MOST + 1];

    /* row[j]: the distance from the part of `a` seen so far to the first j
     * bytes of `b` (Levenshtein, one row at a time). */
    for (size_t j = 0; j <= b_size; j++)
        row[j] = (unsigned)j;
    for (size_t i = 0; i < a_size; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i + 1;
        for (size_t j = 0; j < b_size; j++) {
            unsigned best = diagonal + (a[i] != b[j]);

            diagonal = row[j + 1];
            if (diagonal + 1 < best)
                best = diagonal + 1;
            if (row[j] + 1 < best)
                best = row[j] + 1;
            row[j + 1] = best;
        }
    }
    return row[b_size];
}

/* ---- texts in JSON */

static bool plain(const char *bytes, size_t size)
{
    while (size > 0) {
        size_t n = text_utf8(bytes, size);

        if (n == 0 || *bytes == '\0')
            return false;
        bytes += n;
        size -= n;
    }
    return true;
}

void json_add(json_t **j, const char *key, json_t *value)
{
    if (*j && json_object_set_new(*j, key, value) == 0)
        return;
    if (!*j)
        json_decref(value);
    json_decref(*j);
    *j = NULL;
}

json_t *text_to_json(const char *bytes, size_t size)
{
    keel_auto(str) char *text = NULL;

    if (plain(bytes, size))
        return json_stringn(bytes, size);
    if (size > INT32_MAX / 2)
        return NULL;
    text = keel_alloc(BASE64_TEXT_BYTES(size));
    if (!text)
        return NULL;
    base64_encode(BASE64_STANDARD, bytes, size, text);
    return json_pack("{s:s}", "b64", text);
}

static int from_string(const json_t *j, size_t max, char **ret,
                       size_t *ret_size)
{
    size_t size = json_string_length(j);
    char *text;

    if (size > max)
        return -EMSGSIZE;
    text = keel_alloc(size + 1);
    if (!text)
        return -ENOMEM;
    memcpy(text, json_string_value(j), size);
    text[size] = '\0';
    *ret = text;
    *ret_size = size;
    return 0;
}

static int from_base64(const json_t *j, size_t max, char **ret,
                       size_t *ret_size)
{
    size_t size = json_string_length(j);
    keel_auto(str) char *text = NULL;
    ssize_t bytes;

    if (size / 4 * 3 > max + 2)
        return -EMSGSIZE;
    text = keel_alloc(size / 4 * 3 + 1);
    if (!text)
        return -ENOMEM;
    bytes =
        base64_decode(BASE64_STANDARD, json_string_value(j), size, text, max);
    if (bytes < 0)
        return (int)bytes;
    text[bytes] = '\0';
    *ret = keel_take(text);
    *ret_size = (size_t)bytes;
    return 0;
}

int text_from_json(const json_t *j, size_t max, char **ret, size_t *ret_size)
{
    const json_t *b64;

    if (json_is_string(j))
        return from_string(j, max, ret, ret_size);
    b64 = json_object_get(j, "b64");
    if (!json_is_string(b64))
        return -EINVAL;
    return from_base64(b64, max, ret, ret_size);
}
