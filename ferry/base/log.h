/* SPDX-License-Identifier: MIT */
/* The log: one line an event, on standard error or a file descriptor.
 *
 *     2026-01-02T03:04:05.678Z warn xfer=41f2 account=mara put 'maps.tar' failed: ...
 *
 * Lines of any thread are whole and never interleave; a reader that is stuck
 * or a full disk never blocks the caller: a line that cannot be written at
 * once is dropped and counted, and the count is logged when there is room.
 * No secret is ever passed to it.  Arguments that came from outside go through
 * %s only after text_escape. */
#ifndef FERRY_LOG_H
#define FERRY_LOG_H

#include <keel/base.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Standard error and LOG_INFO until told otherwise; under a service manager's
 * journal (JOURNAL_STREAM) lines have <N> prefixes instead of a date. */
void log_open(int fd, enum log_level most);
void log_line(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
