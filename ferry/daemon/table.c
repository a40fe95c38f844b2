/* SPDX-License-Identifier: MIT */
#include "daemon/table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/name.h"

#define CELL_BYTES 512

void table_init(struct table *t, const char *const *heads)
{
    *t = (struct table){.heads = heads};
    while (heads[t->columns])
        t->columns++;
    keel_assert(t->columns <= TABLE_COLUMNS);
}

void table_fini(struct table *t)
{
    for (size_t i = 0; i < t->count; i++)
        keel_free(t->cells[i]);
    keel_free(t->cells);
    *t = (struct table){0};
}

void table_shown(struct table *t, const char *shown)
{
    char *cell = keel_strdup(shown);

    if (cell && t->count == t->room) {
        size_t room = t->room ? 2 * t->room : 64;
        char **cells = keel_realloc(t->cells, room * sizeof(*cells));

        if (cells) {
            t->cells = cells;
            t->room = room;
        }
    }
    if (!cell || t->count == t->room) {
        keel_free(cell);
        t->failed = true;
        return;
    }
    t->cells[t->count++] = cell;
}

void table_text(struct table *t, const char *text)
{
    char shown[CELL_BYTES];

    text_escape(text, strlen(text), shown, sizeof(shown));
    table_shown(t, shown);
}

void table_number(struct table *t, int64_t n)
{
    char shown[32];

    snprintf(shown, sizeof(shown), "%lld", (long long)n);
    table_shown(t, shown);
}

void table_bytes(struct table *t, int64_t n, bool zero_is_none)
{
    char shown[32] = "-";

    if (n > 0 || !zero_is_none)
        text_bytes(n > 0 ? (uint64_t)n : 0, shown);
    table_shown(t, shown);
}

void table_quota(struct table *t, int64_t n)
{
    if (n > 0)
        table_number(t, n);
    else
        table_shown(t, "-");
}

void table_when(struct table *t, int64_t seconds)
{
    time_t when = (time_t)seconds;
    char shown[32] = "-";
    struct tm tm;

    if (seconds > 0 && localtime_r(&when, &tm))
        strftime(shown, sizeof(shown), "%Y-%m-%d %H:%M", &tm);
    table_shown(t, shown);
}

/* Columns on a terminal: characters, not bytes. */
static size_t width(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((uint8_t)*text & 0xc0) != 0x80;
    return n;
}

static void print_cell(const char *text, size_t columns, bool right, bool last)
{
    size_t pad = columns > width(text) ? columns - width(text) : 0;

    if (right)
        printf("%*s%s", (int)pad, "", text);
    else
        printf("%s%*s", text, last ? 0 : (int)pad, "");
    fputs(last ? "\n" : "  ", stdout);
}

static bool is_right(const char *head)
{
    return head[0] == '>';
}

int table_print(const struct table *t, const char *none)
{
    size_t widths[TABLE_COLUMNS];

    if (t->failed)
        return -ENOMEM;
    if (t->count == 0) {
        puts(none);
        return 0;
    }
    for (unsigned c = 0; c < t->columns; c++) {
        const char *head = t->heads[c] + is_right(t->heads[c]);

        widths[c] = width(head);
        for (size_t i = c; i < t->count; i += t->columns) {
            if (width(t->cells[i]) > widths[c])
                widths[c] = width(t->cells[i]);
        }
    }
    for (unsigned c = 0; c < t->columns; c++)
        print_cell(t->heads[c] + is_right(t->heads[c]), widths[c],
                   is_right(t->heads[c]), c + 1 == t->columns);
    for (size_t i = 0; i < t->count; i++) {
        unsigned c = (unsigned)(i % t->columns);

        print_cell(t->cells[i], widths[c], is_right(t->heads[c]),
                   c + 1 == t->columns);
    }
    return 0;
}

void quota_text(int64_t bytes, int64_t files, char *ret, size_t size)
{
    char room[32];

    text_bytes((uint64_t)bytes, room);
    if (bytes > 0 && files > 0)
        snprintf(ret, size, "%s, %lld name%s", room, (long long)files,
                 text_plural(files));
    else if (files > 0)
        snprintf(ret, size, "%lld name%s, no limit of bytes", (long long)files,
                 text_plural(files));
    else if (bytes > 0)
        snprintf(ret, size, "%s, no limit of names", room);
    else
        snprintf(ret, size, "none");
}

const char *row_text(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));

    return text ? text : "";
}

int64_t row_number(const json_t *row, const char *key)
{
    return json_integer_value(json_object_get(row, key));
}

bool row_true(const json_t *row, const char *key)
{
    return json_is_true(json_object_get(row, key));
}
