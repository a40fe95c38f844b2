/* SPDX-License-Identifier: MIT */
#include "base/settings.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/file.h>

#include "base/name.h"

#define FILE_BYTES ((size_t)64 << 10)

/* ---- readers of one value */

__attribute__((format(printf, 3, 4))) static int
refuse(char *ret_error, size_t error_size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(ret_error, error_size, format, args);
    va_end(args);
    return -EINVAL;
}

/* Digits and nothing before them; strtoll would pass over blanks. */
static int digits(const char *value, int64_t *ret, const char **ret_end)
{
    int64_t n = 0;
    bool minus = *value == '-';
    const char *in = value + minus;

    if (*in < '0' || *in > '9')
        return -EINVAL;
    for (; *in >= '0' && *in <= '9'; in++)
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, *in - '0', &n))
            return -ERANGE;
    *ret = minus ? -n : n;
    *ret_end = in;
    return 0;
}

static int in_limits(const struct setting *s, int64_t n, int64_t unit,
                     void *field, char *ret_error, size_t error_size,
                     void (*print)(int64_t n, char ret[32]))
{
    char low[32], high[32];

    if (!__builtin_mul_overflow(n, unit, &n) && n >= s->low && n <= s->high) {
        *(int64_t *)field = n;
        return 0;
    }
    print(s->low, low);
    print(s->high, high);
    return refuse(ret_error, error_size, "%s must be between %s and %s", s->key,
                  low, high);
}

static void print_number(int64_t n, char ret[32])
{
    snprintf(ret, 32, "%lld", (long long)n);
}

static void print_bytes(int64_t n, char ret[32])
{
    text_bytes((uint64_t)n, ret);
}

static void print_span(int64_t n, char ret[32])
{
    static const struct {
        int64_t seconds;
        char letter;
    } unit[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    size_t i = 0;

    while (n % unit[i].seconds != 0 || (n == 0 && unit[i].seconds > 1))
        i++;
    snprintf(ret, 32, "%lld%c", (long long)(n / unit[i].seconds),
             unit[i].letter);
}

int setting_number(const struct setting *s, const char *value, void *field,
                   char *ret_error, size_t error_size)
{
    const char *end = value;
    int64_t n = 0;
    int rc;

    rc = digits(value, &n, &end);
    if (rc == -EINVAL || (rc == 0 && *end))
        return refuse(ret_error, error_size, "%s is not a number", s->key);
    if (rc == -ERANGE)
        n = *value == '-' ? INT64_MIN : INT64_MAX;
    return in_limits(s, n, 1, field, ret_error, error_size, print_number);
}

int setting_bool(const struct setting *s, const char *value, void *field,
                 char *ret_error, size_t error_size)
{
    static const char *const no_yes[][4] = {{"no", "false", "off", "0"},
                                            {"yes", "true", "on", "1"}};

    for (int truth = 0; truth < 2; truth++)
        for (int i = 0; i < 4; i++)
            if (!strcasecmp(value, no_yes[truth][i])) {
                *(bool *)field = truth;
                return 0;
            }
    return refuse(ret_error, error_size, "%s is either yes or no", s->key);
}

int setting_text(const struct setting *s, const char *value, void *field,
                 char *ret_error, size_t error_size)
{
    int64_t size = (int64_t)strlen(value);
    char **text = field, *copy;

    if (size < s->low || size > s->high)
        return refuse(ret_error, error_size,
                      "%s must have between %lld and %lld bytes", s->key,
                      (long long)s->low, (long long)s->high);
    copy = keel_strdup(value);
    if (!copy)
        return -ENOMEM;
    keel_free(*text);
    *text = copy;
    return 0;
}

static const char *skip_blanks(const char *in)
{
    while (*in == ' ' || *in == '\t')
        in++;
    return in;
}

struct unit {
    const char *name;
    int64_t factor;
};

/* A number, blanks, and one of `units`. */
static int number_and_unit(const struct setting *s, const char *value,
                           const struct unit *units, const char *example,
                           void *field, char *ret_error, size_t error_size,
                           void (*print)(int64_t n, char ret[32]))
{
    const char *end = value;
    int64_t n = 0;
    int rc;

    rc = digits(value, &n, &end);
    if (rc == -ERANGE)
        return in_limits(s, INT64_MAX, INT64_MAX, field, ret_error, error_size,
                         print);
    if (rc == 0 && n >= 0) {
        end = skip_blanks(end);
        for (const struct unit *u = units; u->name; u++)
            if (!strcasecmp(end, u->name))
                return in_limits(s, n, u->factor, field, ret_error, error_size,
                                 print);
    }
    return refuse(ret_error, error_size, "%s needs a value such as %s", s->key,
                  example);
}

int setting_bytes(const struct setting *s, const char *value, void *field,
                  char *ret_error, size_t error_size)
{
    static const int64_t k = 1024;
    static const struct unit units[] = {{"", 1},
                                        {"b", 1},
                                        {"bytes", 1},
                                        {"k", k},
                                        {"kib", k},
                                        {"m", k * k},
                                        {"mib", k * k},
                                        {"g", k * k * k},
                                        {"gib", k * k * k},
                                        {"t", k * k * k * k},
                                        {"tib", k * k * k * k},
                                        {NULL, 0}};

    return number_and_unit(s, value, units, "512k or 10 GiB", field, ret_error,
                           error_size, print_bytes);
}

int setting_span(const struct setting *s, const char *value, void *field,
                 char *ret_error, size_t error_size)
{
    static const struct unit units[] = {{"s", 1},    {"m", 60},    {"min", 60},
                                        {"h", 3600}, {"d", 86400}, {NULL, 0}};

    return number_and_unit(s, value, units, "30s, 5m, 2h or 7d", field,
                           ret_error, error_size, print_span);
}

void setting_print(const struct setting *s, const void *field, char *ret,
                   size_t size)
{
    char text[32];

    if (s->read == setting_bool)
        snprintf(text, sizeof text, "%s", *(const bool *)field ? "yes" : "no");
    else if (s->read == setting_span)
        print_span(*(const int64_t *)field, text);
    else
        print_number(*(const int64_t *)field, text);
    snprintf(ret, size, "%s", text);
}

/* ---- the file */

/* What inih's two callbacks share.  `failed` ends everything after it: inih
 * itself goes on to the end of the stream. */
struct reading {
    const char *path;
    const struct setting *table;
    size_t count;
    void *conf;
    struct problem *why;
    const char *at, *end; /* what is not read yet */
    unsigned line;
    int failed;
    unsigned *given; /* for each of the table: the line that gave it, or 0 */
};

static int invalid(struct reading *r, const char *detail)
{
    r->failed = problem(r->why, SETTING_INVALID, .name = r->path,
                        .limit = r->line, .detail = detail);
    return r->failed;
}

/* inih asks for one line at a time, at most `size` - 1 bytes of it: a longer
 * one would arrive in pieces, and a line that begins with a blank would be
 * taken as more of the value before it.  Neither happens here. */
static char *next_line(char *ret, int size, void *arg)
{
    struct reading *r = arg;
    const char *end;

    if (r->failed < 0 || r->at == r->end)
        return NULL;
    r->line++;
    end = memchr(r->at, '\n', (size_t)(r->end - r->at));
    if (!end)
        end = r->end;
    while (r->at < end && (*r->at == ' ' || *r->at == '\t'))
        r->at++;

    if (end - r->at >= size - 1) {
        char detail[64];

        snprintf(detail, sizeof detail, "it is longer than %d bytes", size - 2);
        invalid(r, detail);
        return NULL;
    }
    if (memchr(r->at, '\0', (size_t)(end - r->at))) {
        invalid(r, "it contains a NUL byte");
        return NULL;
    }
    memcpy(ret, r->at, (size_t)(end - r->at));
    ret[end - r->at] = '\0';
    r->at = end < r->end ? end + 1 : end;
    return ret;
}

/* The section itself is none: its name is what was mistyped, not the key's. */
static int unknown_section(struct reading *r, const char *section)
{
    const char *near = NULL;
    unsigned least = UINT32_MAX;
    char detail[PROBLEM_TEXT_BYTES];

    for (size_t i = 0; i < r->count; i++) {
        unsigned distance = text_distance(section, r->table[i].section);

        if (distance < least) {
            least = distance;
            near = r->table[i].section;
        }
    }
    if (!near)
        snprintf(detail, sizeof detail, "[%s]", section);
    else if (!*section)
        snprintf(detail, sizeof detail, "above it, such as [%s]",
                 r->table[0].section);
    else
        snprintf(detail, sizeof detail, "[%s]; the nearest one is [%s]",
                 section, near);
    r->failed = problem(r->why, SETTING_SECTION, .name = r->path,
                        .limit = r->line, .detail = detail);
    return r->failed;
}

static bool is_section(const struct reading *r, const char *section)
{
    for (size_t i = 0; i < r->count; i++) {
        if (!strcmp(section, r->table[i].section))
            return true;
    }
    return false;
}

static int unknown(struct reading *r, const char *section, const char *key)
{
    const struct setting *near = NULL;
    unsigned least = UINT32_MAX;
    char detail[PROBLEM_TEXT_BYTES], name[128];

    snprintf(name, sizeof name, "%s.%s", section, key);
    for (size_t i = 0; i < r->count; i++) {
        char known[128];
        unsigned distance;

        snprintf(known, sizeof known, "%s.%s", r->table[i].section,
                 r->table[i].key);
        distance = text_distance(name, known);
        if (distance < least) {
            least = distance;
            near = &r->table[i];
        }
    }
    if (near)
        snprintf(detail, sizeof detail, "'%s'; the nearest one is '%s.%s'",
                 name, near->section, near->key);
    else
        snprintf(detail, sizeof detail, "'%s'", name);
    r->failed = problem(r->why, SETTING_UNKNOWN, .name = r->path,
                        .limit = r->line, .detail = detail);
    return r->failed;
}

static int apply(struct reading *r, const struct setting *s, const char *value)
{
    char error[PROBLEM_TEXT_BYTES];
    int rc;

    rc = s->read(s, value, (char *)r->conf + s->field, error, sizeof error);
    if (rc == -ENOMEM)
        r->failed = problem(r->why, NO_MEMORY);
    else if (rc < 0)
        invalid(r, error);
    return r->failed;
}

/* Which of two was meant nobody knows; they may be far apart. */
static int apply_once(struct reading *r, size_t i, const char *value)
{
    char detail[160];

    if (r->given[i]) {
        snprintf(detail, sizeof detail, "%s was given in line %u already",
                 r->table[i].key, r->given[i]);
        return invalid(r, detail);
    }
    r->given[i] = r->line;
    return apply(r, &r->table[i], value);
}

/* inih wants 1 for good and 0 for bad. */
static int one_value(void *arg, const char *section, const char *key,
                     const char *value)
{
    struct reading *r = arg;

    if (r->failed < 0)
        return 0;
    for (size_t i = 0; i < r->count; i++)
        if (!strcmp(section, r->table[i].section) &&
            !strcmp(key, r->table[i].key))
            return apply_once(r, i, value) == 0;
    if (is_section(r, section))
        unknown(r, section, key);
    else
        unknown_section(r, section);
    return 0;
}

/* The whole file, with its size. */
static int load(const char *path, char **ret, size_t *ret_size,
                struct problem *why)
{
    keel_auto(str) char *text = NULL;
    keel_auto(file) int fd = -1;
    ssize_t got;

    fd = keel_file_open_any(path, O_RDONLY, 0);
    if (fd < 0)
        return problem(why, FILE_LOCAL, .errno_ = -fd, .name = path);
    text = keel_alloc(FILE_BYTES + 1);
    if (!text)
        return problem(why, NO_MEMORY);
    got = keel_file_read(fd, text, FILE_BYTES + 1, 0);
    if (got < 0)
        return problem(why, FILE_LOCAL, .errno_ = (int)-got, .name = path);
    if ((size_t)got > FILE_BYTES) {
        struct statx st;
        uint64_t size = FILE_BYTES + 1;

        if (keel_file_stat(fd, NULL, &st) == 0)
            size = st.stx_size;
        return problem(why, FILE_TOO_LARGE, .name = path, .size = size,
                       .limit = FILE_BYTES);
    }
    *ret = keel_take(text);
    *ret_size = (size_t)got;
    return 0;
}

int settings_read(const char *path, const struct setting *table, size_t count,
                  void *conf, struct problem *why)
{
    keel_auto(str) char *text = NULL;
    keel_auto(mem) void *given = keel_calloc(count, sizeof(unsigned));
    struct reading r = {.path = path,
                        .table = table,
                        .count = count,
                        .conf = conf,
                        .why = why,
                        .given = given};
    size_t size = 0;
    int rc;

    if (!given)
        return problem(why, NO_MEMORY);
    rc = load(path, &text, &size, why);
    if (rc < 0)
        return rc;
    r.at = text;
    r.end = text + size;

    rc = ini_parse_stream(next_line, &r, one_value, &r);
    /* The first bad line of inih's count: it goes on after one that is neither
     * key nor section, so that ours may have failed further down. */
    if (rc > 0 && (r.failed == 0 || (unsigned)rc < r.line)) {
        r.line = (unsigned)rc;
        return invalid(&r, "it is neither '[section]' nor 'key = value'");
    }
    if (r.failed < 0)
        return r.failed;
    return rc < 0 ? problem(why, NO_MEMORY) : 0;
}
