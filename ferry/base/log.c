/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <errno.h>
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

/* Written by log_open, which is called before other threads run, and by
 * log_file and log_most, while others log: the descriptor in `fd` stays open
 * for good, and another file is put in its place (keel_fd_replace), so that
 * nobody writes to a number that means something else by then. */
static struct {
    _Atomic int fd;
    _Atomic int most;
    _Atomic bool journal;
} to = {.fd = 2, .most = LOG_INFO};
static int own_fd = -1; /* log_file's */

/* Lines dropped since the last one that could be written, and in all. */
static atomic_uint_least64_t dropped, dropped_ever;
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
    to.most = (int)most;
    to.journal = is_journal(fd);
}

int log_file(const char *path)
{
    int fd, rc;

    if (!path) {
        to.journal = is_journal(2);
        to.fd = 2;
        return 0;
    }
    fd = keel_file_open_any(path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY,
                            0640);
    if (fd < 0)
        return fd;
    if (own_fd < 0) {
        own_fd = fd;
    } else {
        rc = keel_fd_replace(fd, own_fd);
        if (rc < 0) {
            keel_file_close(fd);
            return rc;
        }
    }
    to.journal = false;
    to.fd = own_fd;
    return 0;
}

bool log_wanted(enum log_level level)
{
    return (int)level <= to.most;
}

void log_most(enum log_level most)
{
    to.most = (int)most;
}

uint64_t log_dropped(void)
{
    return atomic_load(&dropped_ever);
}

static const struct {
    const char *name;
    int syslog;
} levels[] = {[LOG_ERROR] = {"error", 3},
              [LOG_WARN] = {"warn", 4},
              [LOG_INFO] = {"info", 6},
              [LOG_DEBUG] = {"debug", 7}};

const char *log_level_name(enum log_level level)
{
    return levels[level].name;
}

int log_level_parse(const char *word, enum log_level *ret)
{
    for (unsigned i = 0; i < sizeof levels / sizeof *levels; i++)
        if (!strcmp(word, levels[i].name)) {
            *ret = (enum log_level)i;
            return 0;
        }
    return -EINVAL;
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
    *ret_size = (int)(end - start);
    return start;
}

/* What stands before the words; its length. */
static size_t prefix(enum log_level level, const char *file, char *ret,
                     size_t size)
{
    int64_t wall = keel_wall_ns();
    time_t seconds = (time_t)(wall / KEEL_SECOND);
    struct tm tm;
    int sub_size;
    const char *sub = subsystem(file, &sub_size);

    if (to.journal)
        return (size_t)snprintf(ret, size, "<%d>sub=%.*s ",
                                levels[level].syslog,
                                sub_size < 32 ? sub_size : 32, sub);
    gmtime_r(&seconds, &tm);
    return (size_t)snprintf(
        ret, size,
        "time=%04d-%02d-%02dT%02d:%02d:%02d.%03dZ level=%s sub=%.*s ",
        (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
        tm.tm_min, tm.tm_sec, (int)(wall % KEEL_SECOND / KEEL_MS),
        levels[level].name, sub_size < 32 ? sub_size : 32, sub);
}

static size_t format_line(enum log_level level, const char *file,
                          const char *format, va_list args, char *ret,
                          size_t size)
{
    size_t at = prefix(level, file, ret, size);
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
    size = format_line(level, __FILE__, format, args, line, sizeof line);
    va_end(args);
    return put(line, size);
}

void log_line(enum log_level level, const char *file, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;
    uint64_t lost;
    size_t size;

    if ((int)level > to.most)
        return;
    va_start(args, format);
    size = format_line(level, file, format, args, line, sizeof line);
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
    if (!put(line, size)) {
        atomic_fetch_add(&dropped, 1);
        atomic_fetch_add(&dropped_ever, 1);
    }
}
