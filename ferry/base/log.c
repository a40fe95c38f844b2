/* SPDX-License-Identifier: MIT */
/* keel's log with ferry's manners: printf's formats, and the directory of the
 * source. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void log_open(int fd, enum log_level most)
{
    keel_log_to_fd(NULL, fd);
    keel_log_most(NULL, most);
}

int log_file(const char *path)
{
    if (path)
        return keel_log_to_file(NULL, path);
    keel_log_to_fd(NULL, 2);
    return 0;
}

/* "native" of "../ferry/native/conn.c"; its length in `ret_size`. */
static const char *subsystem(const char *file, int *ret_size)
{
    const char *end = strrchr(file, '/'), *start = end;

    if (!end) {
        *ret_size = 5;
        return "ferry";
    }
    while (start > file && start[-1] != '/')
        start--;
    *ret_size = end - start < 32 ? (int)(end - start) : 32;
    return start;
}

void log_line(enum log_level level, const char *file, const char *format, ...)
{
    char line[KEEL_LOG_LINE_BYTES + 1];
    int sub_size, at, n;
    const char *sub;
    va_list args;

    if (!log_wanted(level))
        return;
    sub = subsystem(file, &sub_size);
    at = snprintf(line, sizeof line, "sub=%.*s ", sub_size, sub);
    va_start(args, format);
    n = vsnprintf(line + at, sizeof line - (size_t)at, format, args);
    va_end(args);
    n += at;
    if (n < at)
        n = at;
    if ((size_t)n >= sizeof line)
        n = sizeof line - 1;
    keel_log_text(NULL, level, line, (size_t)n);
}
