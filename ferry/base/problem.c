/* SPDX-License-Identifier: MIT */
#include "base/problem.h"

#include <errno.h>
#include <libintl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/name.h"

_Static_assert(PROBLEM_SPACE_BYTES > SPACE_NAME_BYTES, "a space's name fits");

/* For scripts/pot.py; both are looked up where they are printed. */
#define N_(text) text
#define NP_(one, many) one, many

static const struct problem_row rows[PROBLEM_COUNT] = {
    [PROBLEM_NONE] = {"NONE", "none", 0, 0, "Nothing is wrong.", ""},
#define ROW(id_, code_, errno__, exit_, sentence_, advice_)                    \
    [PROBLEM_##id_] = {#id_, code_, errno__, exit_, sentence_, advice_},
#include "base/problems.def"
#undef ROW
};

const struct problem_row *problem_row(enum problem_id id)
{
    keel_assert((unsigned)id < PROBLEM_COUNT);
    return &rows[id];
}

/* Copies a text into a record; a cut never splits a character. */
static void text_keep(const char *in, char ret[PROBLEM_TEXT_BYTES])
{
    size_t size = in ? strlen(in) : 0, at = PROBLEM_TEXT_BYTES - 4;

    if (size < PROBLEM_TEXT_BYTES) {
        if (in)
            memcpy(ret, in, size);
        ret[size] = '\0';
        return;
    }
    for (int back = 0; back < 3 && ((uint8_t)in[at] & 0xc0) == 0x80; back++)
        at--;
    memcpy(ret, in, at);
    memcpy(ret + at, "...", 4);
}

int problem_fill(struct problem *why, const struct problem_values *v)
{
    int error = v->errno_ ? v->errno_ : problem_row(v->id)->errno_;

    if (why) {
        why->id = v->id;
        why->errno_ = v->errno_;
        why->limit = v->limit;
        why->used = v->used;
        why->bytes = v->bytes;
        why->size = v->size;
        why->when = v->when;
        why->foreign[0] = '\0';
        why->space[0] = '\0';
        text_keep(v->name, why->name);
        text_keep(v->detail, why->detail);
    }
    return -error;
}

/* In the language of the program, where it has one: the client's messages are
 * gettext's, the server speaks English. */
static const char *said(const char *text)
{
    return *text ? gettext(text) : ""; /* "" is the catalogue's own head */
}

const char *problem_code(const struct problem *p)
{
    return p->id == PROBLEM_FOREIGN && p->foreign[0] ? p->foreign
                                                     : problem_row(p->id)->code;
}

int problem_exit_status(const struct problem *p)
{
    return problem_row(p->id)->exit_status;
}

/* A quota where nothing is held by unfinished uploads: a sentence without them,
 * and no advice to finish any. */
static bool nothing_held(const struct problem *p)
{
    return p->id == PROBLEM_QUOTA_BYTES && p->bytes == 0;
}

const char *problem_advice(const struct problem *p)
{
    return said(nothing_held(p) ? N_("Remove something, or ask for more.")
                                : problem_row(p->id)->advice);
}

/* ---- the sentence */

/* "3 days 4 hours": the two largest units that are not zero. */
static void span_print(int64_t seconds, char *ret, size_t size)
{
    static const struct {
        uint64_t seconds;
        const char *one, *many;
    } unit[] = {{86400, NP_("%llu day", "%llu days")},
                {3600, NP_("%llu hour", "%llu hours")},
                {60, NP_("%llu minute", "%llu minutes")},
                {1, NP_("%llu second", "%llu seconds")}};
    uint64_t left = seconds < 0 ? 0 : (uint64_t)seconds;
    size_t at = 0, parts = 0;

    for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
        uint64_t n = left / unit[i].seconds;

        left %= unit[i].seconds;
        if (parts == 2 || (n == 0 && (parts || unit[i].seconds > 1)))
            continue;
        if (parts && at + 1 < size)
            ret[at++] = ' ';
        at += (size_t)snprintf(ret + at, size - at,
                               ngettext(unit[i].one, unit[i].many, n),
                               (unsigned long long)n);
        if (at >= size)
            return;
        parts++;
    }
}

static void date_print(int64_t when, char *ret, size_t size)
{
    time_t t = (time_t)when;
    struct tm tm;

    if (!gmtime_r(&t, &tm) ||
        !strftime(ret, size, "%Y-%m-%d %H:%M:%S UTC", &tm))
        snprintf(ret, size, "second %lld", (long long)when);
}

static const char *error_text(int error)
{
    /* keel's word for a stream that ended too early; libc's speaks of a
     * software that caused it. */
    const char *text = error == ECONNABORTED ? N_("the other side ended it")
                       : error               ? strerrordesc_np(error)
                                             : N_("no error");

    return said(text ? text : N_("an unknown error"));
}

static const uint64_t *number_of(const struct problem *p, const char *place,
                                 size_t size)
{
    static const struct {
        const char *name;
        size_t at;
    } numbers[] = {{"limit", offsetof(struct problem, limit)},
                   {"used", offsetof(struct problem, used)},
                   {"bytes", offsetof(struct problem, bytes)},
                   {"size", offsetof(struct problem, size)}};

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strlen(numbers[i].name) == size &&
            !memcmp(numbers[i].name, place, size))
            return (const void *)((const char *)p + numbers[i].at);
    return NULL;
}

/* "{limit:files}": a number and what is counted. */
static const struct counted {
    const char *name;
    const char *one, *many;
} counted[] = {
    {"files", NP_("%llu file", "%llu files")},
    {"names", NP_("%llu name", "%llu names")},
    {"connections", NP_("%llu connection", "%llu connections")},
    {"characters", NP_("%llu character", "%llu characters")},
    {"findings", NP_("%llu finding", "%llu findings")},
    {"times", NP_("%llu time", "%llu times")},
};

/* What comes behind the colon of a place that counts; `ret_number` is the
 * place's first part. */
static const struct counted *counted_of(const char *place, size_t size,
                                        size_t *ret_number)
{
    const char *colon = memchr(place, ':', size);

    for (size_t i = 0; colon && i < sizeof counted / sizeof *counted; i++) {
        size_t number = (size_t)(colon - place);

        if (strlen(counted[i].name) != size - number - 1 ||
            memcmp(counted[i].name, colon + 1, size - number - 1) != 0)
            continue;
        *ret_number = number;
        return &counted[i];
    }
    return NULL;
}

static bool place_is(const char *place, size_t size, const char *name)
{
    return strlen(name) == size && !memcmp(place, name, size);
}

static void name_print(const struct problem *p, char *ret, size_t size)
{
    char whole[PROBLEM_SPACE_BYTES + PROBLEM_TEXT_BYTES + 2];

    snprintf(whole, sizeof(whole), "%s%s%s",
             p->space[0] && p->name[0] == '/' ? ":@" : "",
             p->name[0] == '/' ? p->space : "", p->name);
    text_escape(whole, strlen(whole), ret, size);
}

/* The words for the place "{...}" of `size` bytes between its braces; false:
 * there is no such place. */
static bool place_print(const struct problem *p, const char *place, size_t size,
                        char *ret, size_t ret_size)
{
    static const char as_bytes[] = ":bytes";
    const size_t suffix = sizeof as_bytes - 1;
    const struct counted *things;
    const uint64_t *number;
    size_t digits = 0;
    char text[32];

    if (place_is(place, size, "name"))
        name_print(p, ret, ret_size);
    else if (place_is(place, size, "detail"))
        text_escape(said(p->detail), strlen(said(p->detail)), ret, ret_size);
    else if (place_is(place, size, "foreign"))
        text_escape(p->foreign, strlen(p->foreign), ret, ret_size);
    else if (place_is(place, size, "error"))
        snprintf(
            ret, ret_size, "%s",
            error_text(p->errno_ ? p->errno_ : problem_row(p->id)->errno_));
    else if (place_is(place, size, "when:span"))
        span_print(p->when, ret, ret_size);
    else if (place_is(place, size, "when:date"))
        date_print(p->when, ret, ret_size);
    else if ((number = number_of(p, place, size)))
        snprintf(ret, ret_size, "%llu", (unsigned long long)*number);
    else if (size > suffix &&
             !memcmp(place + size - suffix, as_bytes, suffix) &&
             (number = number_of(p, place, size - suffix))) {
        text_bytes(*number, text);
        snprintf(ret, ret_size, "%s", text);
    } else if ((things = counted_of(place, size, &digits)) &&
               (number = number_of(p, place, digits))) {
        snprintf(ret, ret_size, ngettext(things->one, things->many, *number),
                 (unsigned long long)*number);
    } else {
        return false;
    }
    return true;
}

/* The bytes of the full stop that `text` begins with: a Chinese one has three. */
static size_t stop_at(const char *text)
{
    return *text == '.' ? 1 : strncmp(text, "\u3002", 3) == 0 ? 3 : 0;
}

static bool ends(const char *text, size_t size)
{
    static const char *const marks[] = {"?", "!", ".", "\uff1f", "\u3002"};

    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        size_t mark = strlen(marks[i]);

        if (size >= mark && memcmp(text + size - mark, marks[i], mark) == 0)
            return true;
    }
    return false;
}

void problem_sentence(const struct problem *p, char *ret, size_t size)
{
    const char *in = said(
        nothing_held(p)
            ? N_("The space holds {limit:bytes}; {used:bytes} are used and "
                 "this needs {size:bytes}.")
            : problem_row(p->id)->sentence);
    size_t at = 0;

    keel_assert(size > 0);
    while (*in && at + 1 < size) {
        const char *end = *in == '{' ? strchr(in, '}') : NULL;

        if (end && place_print(p, in + 1, (size_t)(end - in - 1), ret + at,
                               size - at)) {
            at += strlen(ret + at);
            in = end + 1;
            /* "... did you mean 'x'?" ends the sentence itself. */
            if (stop_at(in) && ends(ret, at))
                in += stop_at(in);
        } else {
            ret[at++] = *in++;
        }
    }
    ret[at] = '\0';
}

/* The word that stands for a place where there are no values. */
static const char *place_word(const char *place, size_t size)
{
    static const struct {
        const char *place, *word;
    } words[] = {{"name", N_("name")},    {"detail", N_("detail")},
                 {"error", N_("reason")}, {"foreign", N_("code")},
                 {"limit", N_("limit")},  {"used", N_("used")},
                 {"bytes", N_("bytes")},  {"size", N_("size")},
                 {"when", N_("time")}};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (place_is(place, size, words[i].place))
            return said(words[i].word);
    }
    return NULL;
}

/* "<limit>", or "<limit> files"; false: no such place. */
static bool place_shape(const char *place, size_t size, char *ret,
                        size_t ret_size)
{
    const char *colon = memchr(place, ':', size), *word, *many;
    size_t first = colon ? (size_t)(colon - place) : size;
    const struct counted *things = counted_of(place, size, &first);

    word = place_word(place, first);
    if (!word)
        return false;
    if (!things) {
        snprintf(ret, ret_size, "<%s>", word);
        return true;
    }
    many = ngettext(things->one, things->many, 2);
    colon = strstr(many, "%llu");
    keel_assert(colon);
    snprintf(ret, ret_size, "%.*s<%s>%s", (int)(colon - many), many, word,
             colon + 4);
    return true;
}

void problem_shape(const char *sentence, char *ret, size_t size)
{
    const char *in = said(sentence);
    size_t at = 0;

    keel_assert(size > 0);
    while (*in && at + 1 < size) {
        const char *end = *in == '{' ? strchr(in, '}') : NULL;

        if (end &&
            place_shape(in + 1, (size_t)(end - in - 1), ret + at, size - at)) {
            at += strlen(ret + at);
            in = end + 1;
        } else {
            ret[at++] = *in++;
        }
    }
    ret[at] = '\0';
}

/* ---- the wire */

static int add(json_t *o, const char *key, json_t *value)
{
    return json_object_set_new(o, key, value); /* a NULL value fails */
}

static int add_number(json_t *o, const char *key, uint64_t n)
{
    if (n == 0)
        return 0;
    return add(o, key, json_integer(n > INT64_MAX ? INT64_MAX : (int64_t)n));
}

static int add_text(json_t *o, const char *key, const char *text)
{
    return *text ? add(o, key, text_to_json(text, strlen(text))) : 0;
}

json_t *problem_to_json(const struct problem *p)
{
    json_t *o = json_object();
    const char *error = p->errno_ ? strerrorname_np(p->errno_) : NULL;

    if (!o)
        return NULL;
    if (add(o, "code", json_string(problem_code(p))) ||
        (error && add(o, "error", json_string(error))) ||
        add_number(o, "limit", p->limit) || add_number(o, "used", p->used) ||
        add_number(o, "bytes", p->bytes) || add_number(o, "size", p->size) ||
        (p->when && add(o, "when", json_integer(p->when))) ||
        add_text(o, "name", p->name) || add_text(o, "detail", p->detail)) {
        json_decref(o);
        return NULL;
    }
    return o;
}

json_t *problem_to_people(const struct problem *p)
{
    json_t *o = problem_to_json(p);
    char words[1024];

    problem_sentence(p, words, sizeof words);
    if (o &&
        (add(o, "message", json_string(words)) ||
         add_text(o, "space", p->space) || add_text(o, "trace", p->trace))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static int errno_by_name(const char *name)
{
    for (int e = 1; e < 256; e++) {
        const char *known = strerrorname_np(e);

        if (known && !strcmp(known, name))
            return e;
    }
    return 0;
}

static bool get_number(const json_t *o, const char *key, uint64_t *ret)
{
    const json_t *j = json_object_get(o, key);

    if (!j)
        return true;
    if (!json_is_integer(j) || json_integer_value(j) < 0)
        return false;
    *ret = (uint64_t)json_integer_value(j);
    return true;
}

static bool get_text(const json_t *o, const char *key,
                     char ret[PROBLEM_TEXT_BYTES])
{
    const json_t *j = json_object_get(o, key);
    keel_auto(str) char *text = NULL;
    size_t size;

    if (!j)
        return true;
    if (text_from_json(j, PROBLEM_TEXT_BYTES - 1, &text, &size) < 0 ||
        strlen(text) != size)
        return false;
    memcpy(ret, text, size + 1);
    return true;
}

static bool get_code(const json_t *o, struct problem *ret)
{
    const char *code = json_string_value(json_object_get(o, "code"));
    size_t size = code ? strlen(code) : 0;

    if (size == 0 || size >= sizeof ret->foreign ||
        strspn(code, "abcdefghijklmnopqrstuvwxyz0123456789._") != size)
        return false;
    ret->id = problem_by_code(code, NULL);
    if (ret->id == PROBLEM_NONE) { /* "none" is no problem to send either */
        ret->id = PROBLEM_FOREIGN;
        memcpy(ret->foreign, code, size + 1);
    }
    return true;
}

static bool get_error(const json_t *o, struct problem *ret)
{
    const json_t *j = json_object_get(o, "error");

    if (!j)
        return true;
    if (!json_is_string(j))
        return false;
    ret->errno_ = errno_by_name(json_string_value(j));
    return true; /* another system's name: the row's own stands for it */
}

void problem_from_json(const json_t *j, struct problem *ret)
{
    struct problem p = {.id = PROBLEM_NONE};
    const json_t *when = json_object_get(j, "when");

    if (json_is_object(j) && get_code(j, &p) && get_error(j, &p) &&
        get_number(j, "limit", &p.limit) && get_number(j, "used", &p.used) &&
        get_number(j, "bytes", &p.bytes) && get_number(j, "size", &p.size) &&
        get_text(j, "name", p.name) && get_text(j, "detail", p.detail) &&
        (!when || json_is_integer(when))) {
        p.when = json_integer_value(when);
        *ret = p;
        return;
    }
    problem(ret, PROTOCOL_BROKEN, .detail = "a problem it sent makes no sense");
}

enum problem_id problem_by_code(const char *code, const char **ret_near)
{
    enum problem_id near = PROBLEM_NONE + 1;
    unsigned least = UINT32_MAX;

    for (enum problem_id id = PROBLEM_NONE + 1; id < PROBLEM_COUNT; id++) {
        unsigned distance = text_distance(code, rows[id].code);

        if (!strcmp(code, rows[id].code))
            return id;
        if (distance < least) {
            least = distance;
            near = id;
        }
    }
    if (ret_near)
        *ret_near = rows[near].code;
    return PROBLEM_NONE;
}
