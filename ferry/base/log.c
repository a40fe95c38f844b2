/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

#include <keel/file.h>
#include <keel/io.h>

/* Less than PIPE_BUF, so that a pipe takes a line whole or not at all. */
#define LINE_BYTES 2048

/* Read by every line and written by log_open alone, which is called before
 * other threads run or not at all after. */
static struct {
    int fd;
    enum log_level most;
    bool journal;
} to = {.fd = 2, .most = LOG_INFO};

/* Lines dropped since the last one that could be written. */
static atomic_uint_least64_t dropped;
/* A line was cut in the middle (a socket took only a part): the next one
 * starts afresh. */
static atomic_bool torn;

/* Whether `fd` is the stream that the service manager reads: it says so by
 * "device:inode". */
static bool is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct statx st;
    char own[64];

    if (!stream || keel_file_stat(fd, NULL, &st) < 0)
        return false;
    snprintf(own, sizeof own, "%llu:%llu",
             (unsigned long long)makedev(st.stx_dev_major, st.stx_dev_minor),
             (unsigned long long)st.stx_ino);
    return !strcmp(own, stream);
}

void log_open(int fd, enum log_level most)
{
    to.fd = fd;
    to.most = most;
    to.journal = is_journal(fd);
}

/* What stands before the words; its length. */
static size_t prefix(enum log_level level, char *ret, size_t size)
{
    static const struct {
        const char *name;
        int syslog;
    } levels[] = {[LOG_ERROR] = {"error", 3},
                  [LOG_WARN] = {"warn", 4},
                  [LOG_INFO] = {"info", 6},
                  [LOG_DEBUG] = {"debug", 7}};
    int64_t wall = keel_wall_ns();
    time_t seconds = (time_t)(wall / KEEL_SECOND);
    struct tm tm;

    if (to.journal)
        return (size_t)snprintf(ret, size, "<%d>", levels[level].syslog);
    gmtime_r(&seconds, &tm);
    return (size_t)snprintf(
        ret, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %s ",
        (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
        tm.tm_min, tm.tm_sec, (int)(wall % KEEL_SECOND / KEEL_MS),
        levels[level].name);
}

static size_t format_line(enum log_level level, const char *format,
                          va_list args, char *ret, size_t size)
{
    size_t at = prefix(level, ret, size);
    int n = vsnprintf(ret + at, size - at, format, args);

    if (n < 0)
        n = 0;
    if ((size_t)n >= size - at) {
        memcpy(ret + size - 4, "...", 3);
        n = (int)(size - at - 1);
    }
    /* One event is one line, whatever a caller forgot to escape. */
    for (size_t end = at + (size_t)n; at < end; at++)
        if ((uint8_t)ret[at] < 0x20 || ret[at] == 0x7f)
            ret[at] = '?';
    ret[at] = '\n';
    return at + 1;
}

/* False: there was no room for it. */
static bool put(const char *line, size_t size)
{
    ssize_t n = keel_fd_write_now(to.fd, line, size);

    if (n > 0 && (size_t)n < size)
        atomic_store(&torn, true);
    return n > 0;
}

__attribute__((format(printf, 2, 3))) static bool
put_own(enum log_level level, const char *format, ...)
{
    char line[256];
    va_list args;
    size_t size;

    va_start(args, format);
    size = format_line(level, format, args, line, sizeof line);
    va_end(args);
    return put(line, size);
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;
    uint64_t lost;
    size_t size;

    if (level > to.most)
        return;
    va_start(args, format);
    size = format_line(level, format, args, line, sizeof line);
    va_end(args);

    if (atomic_load(&torn) && atomic_exchange(&torn, false))
        put("\n", 1);
    lost = atomic_load(&dropped);
    if (lost > 0) {
        /* Taken before it is told, so that two threads do not tell it twice. */
        lost = atomic_exchange(&dropped, 0);
        if (lost > 0 &&
            !put_own(LOG_WARN, "log: %llu lines were dropped for want of room",
                     (unsigned long long)lost))
            atomic_fetch_add(&dropped, lost);
    }
    if (!put(line, size))
        atomic_fetch_add(&dropped, 1);
}
