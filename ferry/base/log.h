/* SPDX-License-Identifier: MIT */
/* The log: one line an event, on standard error or in a file.
 *
 *     time=2026-01-02T03:04:05.678Z level=warn sub=native xfer=41f2 \
 *         account=mara path='/maps.tar' result=disk.full words='The disk ...'
 *
 * Keys and values first, words for people last; `sub` is the directory of the
 * source.  What somebody outside chose, and every sentence, stands between single
 * quotes (text_quote): the grammar is in ferryd(8).  Lines of any thread are whole and never interleave; a reader
 * that is stuck or gone and a full disk never block or end the caller: a line
 * that cannot be written at once is dropped and counted, and the count is
 * logged when there is room.  No secret is ever passed to it.  Arguments that
 * came from outside go through %s only after text_quote. */
#ifndef FERRY_LOG_H
#define FERRY_LOG_H

#include <keel/log.h>

#define log_level keel_log_level
#define LOG_ERROR KEEL_LOG_ERROR
#define LOG_WARN KEEL_LOG_WARN
#define LOG_INFO KEEL_LOG_INFO
#define LOG_DEBUG KEEL_LOG_DEBUG
#define log_level_name keel_log_level_name
#define log_level_parse keel_log_level_parse

/* Standard error and LOG_INFO until told otherwise; under a service manager's
 * journal (JOURNAL_STREAM) lines have a <N> prefix instead of time and level.
 * Before other threads run. */
void log_open(int fd, enum log_level most);
/* From now on to that file, made when absent (0640), at its end; NULL:
 * standard error.  The same path again opens it anew, as after a rotation.  At
 * any time, by one thread.  On an error all stays as it was. */
int log_file(const char *path);
/* From now on a thread writes, and a disk that hangs holds nobody but it; where
 * the process confines itself, afterwards.  -ENOMEM, -EMFILE, -EAGAIN */
#define log_start() keel_log_start(NULL, 0)
/* Back to before, once what was logged is written; what is not by the deadline
 * is dropped. */
#define log_stop(deadline) ((void)keel_log_stop(NULL, (deadline)))
/* Whether a line of that level is written, for those that cost something. */
#define log_wanted(level) keel_log_wanted(NULL, (level))
/* At any time. */
#define log_most(level) keel_log_most(NULL, (level))
/* Lines dropped since the start. */
#define log_dropped() keel_log_dropped(NULL)
/* `file` is __FILE__. */
void log_line(enum log_level level, const char *file, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define log_error(...) log_line(LOG_ERROR, __FILE__, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __FILE__, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __FILE__, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __FILE__, __VA_ARGS__)

#endif
