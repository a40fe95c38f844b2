/* SPDX-License-Identifier: MIT */
/* The log: a line an event, of key=value, from any worker.
 *
 *     time=2026-01-02T03:04:05.678Z level=warn peer='192.0.2.7:51312' \
 *         bytes=52428800 error=ECONNRESET words='the line was cut'
 *
 * Numbers stand as they are; text stands between single quotes, where \' is a
 * quote, \\ a backslash and \xNN a byte of a control character, of a mark that
 * turns the direction of text, or of what is not UTF-8: no text can pass for
 * another field or another line.  Under a service manager's journal
 * (JOURNAL_STREAM) <N> stands for time and level.
 *
 * Lines are whole and never interleave.  Logging never blocks and never fails:
 * it may be done in coroutines, threads and signal handlers, and leaves errno
 * alone.  Before keel_log_start the caller writes by itself what the descriptor
 * takes at once.  From then on lines go through a bounded ring to a thread that
 * writes, so that a slow disk or a slow reader stops nobody.  What finds no
 * room, or cannot be written, is dropped and counted, and the count is logged
 * when there is room again.
 *
 * What a killed or aborted program had in the ring is lost.  A child of fork(2)
 * has no such thread: nothing comes of what it logs to a started log. */
#ifndef KEEL_LOG_H
#define KEEL_LOG_H

#include <keel/base.h>

enum keel_log_level {
    KEEL_LOG_ERROR,
    KEEL_LOG_WARN,
    KEEL_LOG_INFO,
    KEEL_LOG_DEBUG
};
/* "error", "warn", "info", "debug" */
KEEL_API const char *keel_log_level_name(enum keel_log_level level);
/* -EINVAL */
KEEL_API int keel_log_level_parse(const char *word, enum keel_log_level *ret);

/* Bytes of the longest line, with its end: a pipe takes it whole.  What is
 * longer is cut and ends in "...". */
#define KEEL_LOG_LINE_BYTES 2048

/* ---- a log --------------------------------------------------------------- */
/* NULL, wherever one is asked for, is the program's own: standard error and
 * KEEL_LOG_INFO until told otherwise, and at exit(3) it is stopped. */
struct keel_log;

/* A log on `fd`, which is borrowed.  -ENOMEM */
KEEL_API int keel_log_new(int fd, enum keel_log_level most,
                          struct keel_log **ret);
/* Nobody may log to it any more.  Its thread is stopped; what is in the ring and
 * cannot be written at once is dropped.  Waits for a write(2) that has begun,
 * a second at most: after that, on a disk that does not answer, the thread uses the
 * descriptor still. */
KEEL_API void keel_log_free(struct keel_log *log);
KEEL_AUTO(log, struct keel_log *, keel_log_free)

/* From now on to `fd`, borrowed; -1: nowhere. */
KEEL_API void keel_log_to_fd(struct keel_log *log, int fd);
/* From now on to that file, made when absent (0640), at its end.  The same path
 * again opens it anew, as after a rotation.  By one caller at a time.  On an
 * error, which is open(2)'s, all stays as it was. */
KEEL_API int keel_log_to_file(struct keel_log *log, const char *path);

/* Lines above `most` are not logged. */
KEEL_API void keel_log_most(struct keel_log *log, enum keel_log_level most);
/* Whether a line of that level is, for those that cost something. */
KEEL_API bool keel_log_wanted(const struct keel_log *log,
                              enum keel_log_level level);
/* Lines dropped so far. */
KEEL_API uint64_t keel_log_dropped(const struct keel_log *log);

/* Start and stop are called by one at a time.
 *
 * Starts the thread that writes, with room for `lines` (0: 256; rounded up to a
 * power of two, 2 KiB each).  Where the process confines itself, afterwards.
 * -EALREADY   it runs
 * -ENOMEM, -EMFILE, -EAGAIN  no memory, descriptor, thread */
KEEL_API int keel_log_start(struct keel_log *log, size_t lines);
/* Waits until what was logged before is written or dropped.
 * -ETIMEDOUT, -ECANCELED */
KEEL_API int keel_log_flush(struct keel_log *log, keel_ns deadline);
/* Flushes and ends the thread; from then on callers write by themselves again.
 * What is not written by `deadline` is dropped.  One that is not started: 0.
 * -ETIMEDOUT  something was dropped; or the disk does not answer, the thread
 *             goes on, and stop may be called again
 * -ECANCELED  the caller is being cancelled; likewise */
KEEL_API int keel_log_stop(struct keel_log *log, keel_ns deadline);

/* ---- a line -------------------------------------------------------------- */
/*     keel_log(NULL, KEEL_LOG_WARN, "the line was cut",
 *              KEEL_LOG_TEXT("peer", name), KEEL_LOG_INT("bytes", n),
 *              KEEL_LOG_ERRNO("error", -rc));
 *
 * `words`, for people, come last; NULL: none.  Fields are evaluated only if the
 * level is wanted.  A key is of letters, digits, '.', '_' and '-'; others become
 * '_'. */
#ifndef __cplusplus
#define keel_log(log, level, words, ...)                                       \
    (keel_log_wanted((log), (level))                                           \
         ? keel_log_line(                                                      \
               (log), (level), (words),                                        \
               (const struct keel_field[]){__VA_ARGS__ __VA_OPT__(, ){0}})     \
         : (void)0)
#else
#define keel_log(log, level, words, ...)                                       \
    (keel_log_wanted((log), (level))                                           \
         ? keel_log_fields_((log), (level), (words), ##__VA_ARGS__)            \
         : (void)0)
#endif

enum keel_field_kind {
    KEEL_FIELD_END, /* of the fields */
    KEEL_FIELD_TEXT,
    KEEL_FIELD_INT,
    KEEL_FIELD_UINT,
    KEEL_FIELD_HEX,
    KEEL_FIELD_SPAN,
    KEEL_FIELD_ERRNO
};
struct keel_field {
    const char *key;
    enum keel_field_kind kind;
    size_t size;      /* of `text`; SIZE_MAX: up to its NUL */
    const char *text; /* NULL stands for '' */
    int64_t number;
};
#define KEEL_LOG_TEXT(key, text) KEEL_LOG_BYTES(key, text, SIZE_MAX)
#define KEEL_LOG_BYTES(key, text, size)                                        \
    ((struct keel_field){(key), KEEL_FIELD_TEXT, (size), (text), 0})
#define KEEL_LOG_FIELD_(key, kind, number)                                     \
    ((struct keel_field){(key), (kind), 0, NULL, (int64_t)(number)})
#define KEEL_LOG_INT(key, n) KEEL_LOG_FIELD_(key, KEEL_FIELD_INT, n)
#define KEEL_LOG_UINT(key, n) KEEL_LOG_FIELD_(key, KEEL_FIELD_UINT, n)
/* 0x1f */
#define KEEL_LOG_HEX(key, n) KEEL_LOG_FIELD_(key, KEEL_FIELD_HEX, n)
/* A keel_ns, in seconds: 0.001500000 */
#define KEEL_LOG_SPAN(key, ns) KEEL_LOG_FIELD_(key, KEEL_FIELD_SPAN, ns)
/* A number of errno(3) by its name: ECONNRESET */
#define KEEL_LOG_ERRNO(key, n) KEEL_LOG_FIELD_(key, KEEL_FIELD_ERRNO, n)

/* `fields` end with one of KEEL_FIELD_END; NULL: none. */
KEEL_API void keel_log_line(struct keel_log *log, enum keel_log_level level,
                            const char *words, const struct keel_field *fields);
#ifdef __cplusplus
template <typename... Fields>
static inline void keel_log_fields_(struct keel_log *log,
                                    enum keel_log_level level,
                                    const char *words, Fields... fields)
{
    const struct keel_field all[] = {fields..., {}};

    keel_log_line(log, level, words, all);
}
#endif
/* A line of the caller's own making behind time and level; control characters
 * become '?'. */
KEEL_API void keel_log_text(struct keel_log *log, enum keel_log_level level,
                            const char *text, size_t size);

#endif
