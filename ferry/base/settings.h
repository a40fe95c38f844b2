/* SPDX-License-Identifier: MIT */
/* A settings file: INI sections and keys, checked against a table.
 *
 *     static const struct setting table[] = {
 *         {"server", "listen", setting_text, offsetof(struct conf, listen), 0, 255, "..."},
 *         {"vault", "draft_ttl", setting_span, offsetof(struct conf, ttl), 60, 31536000, "..."},
 *     };
 *
 * An unknown key is refused with its line and the nearest known one; a value
 * out of its limits with the limits; a key that a section has twice with both
 * lines.  Files over 64 KiB are refused. */
#ifndef FERRY_SETTINGS_H
#define FERRY_SETTINGS_H

#include <keel/base.h>

#include "base/problem.h"

struct setting;
typedef int setting_reader(const struct setting *s, const char *value,
                           void *field, char *ret_error, size_t error_size);
struct setting {
    const char *section, *key;
    setting_reader *read;
    size_t field;      /* offset into the caller's struct */
    int64_t low, high; /* limits: of a number, or of a text's length */
    const char *help;  /* one line, for the example file */
};
/* Fields: int64_t, bool, char * (keel_alloc'ed, the old one is freed). */
setting_reader setting_number, setting_bool, setting_text;
setting_reader setting_bytes; /* "10 GiB", "512k" into int64_t */
setting_reader setting_span;  /* "30s", "5m", "2h", "7d" into int64_t seconds */

/* The value as the file has it, for number, bool, bytes and span. */
void setting_print(const struct setting *s, const void *field, char *ret,
                   size_t size);

/* Reads the file at `path` into `conf`, which holds the defaults.  On error
 * `conf` may be half set: read into a fresh one. */
int settings_read(const char *path, const struct setting *table, size_t count,
                  void *conf, struct problem *why);

#endif
