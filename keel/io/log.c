/* SPDX-License-Identifier: MIT */
#include <keel/log.h>

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/io.h>
#include <keel/lock.h>
#include <keel/thread.h>
#include "loop/worker.h"

enum { LINES = 256, LINES_MOST = 1 << 20 };

struct line {
    size_t size;
    char text[KEEL_LOG_LINE_BYTES];
};

/* A place in the ring.  `turn` says whose it is: of the producer that claims
 * number `turn`, or, one more, of the writer, who gives it to the producer of
 * the next round.  A producer that was interrupted in between keeps the writer
 * waiting, but no other producer: a signal handler may log over it. */
struct place {
    atomic_size_t turn;
    struct line line;
};

/* Invariants:
 *   the lines of the ring are those with numbers head <= n < tail
 *   head is written by the one consumer: the writer, or who stops when that
 *     has ended
 *   ring and bell are made by the first start, before `started`, and stay
 *   what is written to is the number `fd`; own_fd stays open for good, and
 *     another file is put in its place (keel_fd_replace), so that nobody writes
 *     to a number that means something else by then
 *   the log is freed with the last of refs: the owner's, and the writer's */
struct keel_log {
    _Atomic int fd;
    _Atomic int most;
    _Atomic bool journal;
    int own_fd;
    atomic_int refs;

    /* Dropped since it was last said, and in all; a line was cut in the middle,
     * and the next begins afresh. */
    atomic_uint_least64_t dropped, dropped_ever;
    atomic_bool torn;

    struct place *ring;
    size_t places; /* a power of two */
    atomic_size_t head, tail;
    atomic_int pushing; /* between a look at `started` and the end of a push */
    _Atomic bool started;
    _Atomic bool hurry; /* write what can be written at once, and end */
    _Atomic bool asleep;
    int bell; /* an eventfd */
    struct keel_thread *writer;

    atomic_int flushers;
    struct keel_lock lock;
    struct keel_cond written;
};

static struct keel_log standard = {
    .fd = 2,
    .most = KEEL_LOG_INFO,
    .own_fd = -1,
    .refs = 1,
    .bell = -1,
    .lock = KEEL_LOCK_INIT,
};

static struct keel_log *log_of(const struct keel_log *log)
{
    return log ? (struct keel_log *)log : &standard;
}

/* ---- levels ---- */

static const struct {
    const char *name;
    int syslog;
} levels[] = {[KEEL_LOG_ERROR] = {"error", 3},
              [KEEL_LOG_WARN] = {"warn", 4},
              [KEEL_LOG_INFO] = {"info", 6},
              [KEEL_LOG_DEBUG] = {"debug", 7}};

const char *keel_log_level_name(enum keel_log_level level)
{
    return levels[level].name;
}

int keel_log_level_parse(const char *word, enum keel_log_level *ret)
{
    for (unsigned i = 0; i < sizeof levels / sizeof *levels; i++)
        if (!strcmp(word, levels[i].name)) {
            *ret = (enum keel_log_level)i;
            return 0;
        }
    return -EINVAL;
}

void keel_log_most(struct keel_log *log, enum keel_log_level most)
{
    atomic_store(&log_of(log)->most, (int)most);
}

bool keel_log_wanted(const struct keel_log *log, enum keel_log_level level)
{
    return (int)level <=
           atomic_load_explicit(&log_of(log)->most, memory_order_relaxed);
}

uint64_t keel_log_dropped(const struct keel_log *log)
{
    return atomic_load(&log_of(log)->dropped_ever);
}

/* ---- making a line: nothing here that a signal handler may not call ---- */

/* What does not fit before `most`, behind which there is room for "...'\n",
 * marks the line as cut, and nothing follows. */
struct draft {
    struct line *line;
    size_t most;
    bool cut;
    bool dots; /* which the line says already */
};

static void add(struct draft *d, const char *text, size_t size)
{
    if (d->cut || size > d->most - d->line->size) {
        d->cut = true;
        return;
    }
    memcpy(d->line->text + d->line->size, text, size);
    d->line->size += size;
}

static void add_string(struct draft *d, const char *text)
{
    add(d, text, strlen(text));
}

/* With leading zeros up to `width` digits. */
static void add_number(struct draft *d, uint64_t n, unsigned base,
                       unsigned width)
{
    char digits[24], *at = digits + sizeof digits;

    do {
        *--at = "0123456789abcdef"[n % base];
        n /= base;
    } while (n > 0 || (size_t)(digits + sizeof digits - at) < width);
    add(d, at, (size_t)(digits + sizeof digits - at));
}

static void add_signed(struct draft *d, int64_t n)
{
    if (n < 0)
        add(d, "-", 1);
    add_number(d, n < 0 ? 0 - (uint64_t)n : (uint64_t)n, 10, 1);
}

/* gmtime_r(3) takes locks.  The year begins in March, so that the day that is
 * not always there is the last. */
static void add_date(struct draft *d, int64_t wall)
{
    int64_t ms = wall / KEEL_MS, days = ms / 86400000, day_ms = ms % 86400000;
    int64_t era, year, day, month;

    if (day_ms < 0) {
        day_ms += 86400000;
        days--;
    }
    days += 719468; /* since 1 March of the year 0 */
    era = days / 146097;
    day = days % 146097;
    year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    month = (5 * day + 2) / 153;
    day -= (153 * month + 2) / 5;
    year += era * 400 + (month >= 10);
    add_number(d, (uint64_t)year, 10, 4);
    add(d, "-", 1);
    add_number(d, (uint64_t)(month < 10 ? month + 3 : month - 9), 10, 2);
    add(d, "-", 1);
    add_number(d, (uint64_t)day + 1, 10, 2);
    add(d, "T", 1);
    add_number(d, (uint64_t)day_ms / 3600000, 10, 2);
    add(d, ":", 1);
    add_number(d, (uint64_t)day_ms / 60000 % 60, 10, 2);
    add(d, ":", 1);
    add_number(d, (uint64_t)day_ms / 1000 % 60, 10, 2);
    add(d, ".", 1);
    add_number(d, (uint64_t)day_ms % 1000, 10, 3);
    add(d, "Z", 1);
}

static void draft_begin(struct draft *d, const struct keel_log *log,
                        enum keel_log_level level, struct line *line)
{
    *d = (struct draft){line, sizeof line->text - 5, false, false};
    line->size = 0;
    if (atomic_load(&log->journal)) {
        add(d, "<", 1);
        add_number(d, (uint64_t)levels[level].syslog, 10, 1);
        add(d, ">", 1);
        return;
    }
    add_string(d, "time=");
    add_date(d, keel_wall_ns());
    add_string(d, " level=");
    add_string(d, levels[level].name);
}

/* Behind the journal's <N> there is no blank. */
static void add_gap(struct draft *d)
{
    if (d->line->text[d->line->size - 1] != '>')
        add(d, " ", 1);
}

static void add_dots(struct draft *d, const char *dots)
{
    size_t size = strlen(dots);

    memcpy(d->line->text + d->line->size, dots, size);
    d->line->size += size;
    d->dots = true;
}

static void draft_end(struct draft *d)
{
    struct line *l = d->line;

    if (d->cut && !d->dots)
        add_dots(d, "...");
    l->text[l->size++] = '\n';
}

/* Between quotes; cut between characters, and the quote is closed. */
static void add_quoted(struct draft *d, const char *text, size_t size)
{
    static const char digits[] = "0123456789abcdef";

    add(d, "'", 1);
    if (d->cut)
        return;
    for (size_t at = 0, n; at < size && !d->cut; at += n) {
        uint8_t byte = (uint8_t)text[at];
        char escaped[4] = {'\\', (char)byte};

        n = keel_utf8_shown(text + at, size - at);
        if (byte == '\\' || byte == '\'') {
            add(d, escaped, 2);
        } else if (n > 0) {
            add(d, text + at, n);
        } else {
            escaped[1] = 'x';
            escaped[2] = digits[byte >> 4];
            escaped[3] = digits[byte & 15];
            add(d, escaped, 4);
            n = 1;
        }
    }
    add(d, "'", 1);
    if (d->cut)
        add_dots(d, "...'");
}

static void add_key(struct draft *d, const char *key)
{
    add_gap(d);
    for (; *key; key++) {
        char c = *key;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c >= '0' && c <= '9') || strchr("._-", c);

        add(d, plain ? &c : "_", 1);
    }
    add(d, "=", 1);
}

static void add_errno(struct draft *d, int64_t n)
{
    const char *name = n > 0 && n < 4096 ? strerrorname_np((int)n) : NULL;

    if (name)
        add_string(d, name);
    else
        add_signed(d, n);
}

static void add_span(struct draft *d, int64_t ns)
{
    uint64_t n = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;

    if (ns < 0)
        add(d, "-", 1);
    add_number(d, n / (uint64_t)KEEL_SECOND, 10, 1);
    add(d, ".", 1);
    add_number(d, n % (uint64_t)KEEL_SECOND, 10, 9);
}

static void add_field(struct draft *d, const struct keel_field *f)
{
    const char *text = f->text ? f->text : "";

    add_key(d, f->key);
    switch (f->kind) {
    case KEEL_FIELD_TEXT:
        if (f->size == SIZE_MAX || !f->text)
            add_quoted(d, text, strnlen(text, KEEL_LOG_LINE_BYTES));
        else
            add_quoted(d, text, f->size);
        break;
    case KEEL_FIELD_INT:
        add_signed(d, f->number);
        break;
    case KEEL_FIELD_UINT:
        add_number(d, (uint64_t)f->number, 10, 1);
        break;
    case KEEL_FIELD_HEX:
        add_string(d, "0x");
        add_number(d, (uint64_t)f->number, 16, 1);
        break;
    case KEEL_FIELD_SPAN:
        add_span(d, f->number);
        break;
    case KEEL_FIELD_ERRNO:
        add_errno(d, f->number);
        break;
    case KEEL_FIELD_END:
        break;
    }
}

/* ---- writing ---- */

/* 0, or why it was not written: -EAGAIN, a full disk, a reader that is gone.
 * Of a line that was begun the rest is left to the next, which goes to a line
 * of its own. */
static int write_now(struct keel_log *log, const char *text, size_t size)
{
    int fd = atomic_load(&log->fd);
    ssize_t n;

    if (fd < 0)
        return 0;
    n = keel_fd_write_now(fd, text, size);
    if (n >= 0 && (size_t)n < size) {
        atomic_store(&log->torn, true);
        return -EIO;
    }
    return n < 0 ? (int)n : 0;
}

static void count_dropped(struct keel_log *log)
{
    atomic_fetch_add(&log->dropped, 1);
    atomic_fetch_add(&log->dropped_ever, 1);
}

/* True: the descriptor may take more now; false: do not wait for it. */
static bool wait_for_room(struct keel_log *log)
{
    struct pollfd p[2] = {{.fd = log->fd, .events = POLLOUT},
                          {.fd = log->bell, .events = POLLIN}};
    uint64_t rings;

    if (!atomic_load(&log->hurry) && poll(p, 2, -1) > 0 && p[1].revents)
        (void)!read(log->bell, &rings, sizeof rings);
    return !atomic_load(&log->hurry);
}

static int write_patiently(struct keel_log *log, const char *text, size_t size,
                           bool patient)
{
    int rc;

    do
        rc = write_now(log, text, size);
    while (rc == -EAGAIN && patient && wait_for_room(log));
    return rc;
}

static void say_dropped(struct keel_log *log, bool patient)
{
    uint64_t lost = atomic_load(&log->dropped);
    struct draft d;
    struct line line;

    if (lost == 0)
        return;
    /* Taken before it is told, so that two threads do not tell it twice. */
    lost = atomic_exchange(&log->dropped, 0);
    if (lost == 0)
        return;
    draft_begin(&d, log, KEEL_LOG_WARN, &line);
    add_gap(&d);
    add_string(&d, "log: ");
    add_number(&d, lost, 10, 1);
    add_string(&d, " lines were dropped for want of room");
    draft_end(&d);
    if (write_patiently(log, line.text, line.size, patient) < 0)
        atomic_fetch_add(&log->dropped, lost);
}

static void write_line(struct keel_log *log, const struct line *line,
                       bool patient)
{
    if (atomic_load(&log->torn) && atomic_exchange(&log->torn, false))
        (void)write_patiently(log, "\n", 1, patient);
    say_dropped(log, patient);
    if (write_patiently(log, line->text, line->size, patient) < 0)
        count_dropped(log);
}

/* ---- the ring ---- */

static void ring_bell(struct keel_log *log)
{
    uint64_t one = 1;

    (void)!write(log->bell, &one, sizeof one);
}

/* False: it is full. */
static bool push(struct keel_log *log, const struct line *line)
{
    size_t at = atomic_load_explicit(&log->tail, memory_order_relaxed);
    struct place *p;

    for (;;) {
        size_t turn;

        p = &log->ring[at & (log->places - 1)];
        turn = atomic_load_explicit(&p->turn, memory_order_acquire);
        if ((ssize_t)(turn - at) < 0)
            return false;
        if (turn != at)
            at = atomic_load_explicit(&log->tail, memory_order_relaxed);
        else if (atomic_compare_exchange_weak_explicit(&log->tail, &at, at + 1,
                                                       memory_order_relaxed,
                                                       memory_order_relaxed))
            break;
    }
    memcpy(p->line.text, line->text, line->size);
    p->line.size = line->size;
    atomic_store(&p->turn, at + 1);
    /* The writer says that it sleeps, and looks once more; here it is the other
     * way round. */
    if (atomic_load(&log->asleep) && atomic_exchange(&log->asleep, false))
        ring_bell(log);
    return true;
}

static struct place *oldest(struct keel_log *log)
{
    size_t head = atomic_load_explicit(&log->head, memory_order_relaxed);
    struct place *p = &log->ring[head & (log->places - 1)];

    return atomic_load(&p->turn) == head + 1 ? p : NULL;
}

static void give_back(struct keel_log *log, struct place *p)
{
    size_t head = atomic_load_explicit(&log->head, memory_order_relaxed);

    atomic_store(&p->turn, head + log->places);
    atomic_store(&log->head, head + 1);
}

static void wake_flushers(struct keel_log *log)
{
    if (atomic_load(&log->flushers) == 0)
        return;
    keel_lock_hold(&log->lock);
    keel_cond_broadcast(&log->written);
    keel_lock_drop(&log->lock);
}

static void drain(struct keel_log *log, bool patient)
{
    struct place *p;

    while ((p = oldest(log))) {
        write_line(log, &p->line, patient);
        give_back(log, p);
        wake_flushers(log);
    }
}

static void sleep_until_rung(struct keel_log *log)
{
    struct pollfd p = {.fd = log->bell, .events = POLLIN};
    uint64_t rings;

    atomic_store(&log->asleep, true);
    if (!oldest(log) && !atomic_load(&log->hurry))
        (void)poll(&p, 1, -1);
    atomic_store(&log->asleep, false);
    (void)!read(log->bell, &rings, sizeof rings);
}

static void unref(struct keel_log *log)
{
    if (atomic_fetch_sub(&log->refs, 1) > 1)
        return;
    keel_file_close(log->own_fd);
    if (log->bell >= 0)
        close(log->bell);
    keel_free(log->ring);
    keel_free(log);
}

static int write_lines(void *arg)
{
    struct keel_log *log = arg;

    while (!atomic_load(&log->hurry)) {
        drain(log, true);
        sleep_until_rung(log);
    }
    drain(log, false);
    unref(log);
    return 0;
}

/* ---- logging ---- */

static void put(struct keel_log *log, const struct line *line)
{
    atomic_fetch_add(&log->pushing, 1);
    if (!atomic_load(&log->started))
        write_line(log, line, false);
    else if (!push(log, line))
        count_dropped(log);
    atomic_fetch_sub(&log->pushing, 1);
}

void keel_log_line(struct keel_log *log, enum keel_log_level level,
                   const char *words, const struct keel_field *fields)
{
    int saved = errno;
    struct draft d;
    struct line line;

    if (!keel_log_wanted(log, level))
        return;
    log = log_of(log);
    draft_begin(&d, log, level, &line);
    for (; fields && fields->kind != KEEL_FIELD_END; fields++)
        add_field(&d, fields);
    if (words) {
        add_key(&d, "words");
        add_quoted(&d, words, strnlen(words, KEEL_LOG_LINE_BYTES));
    }
    draft_end(&d);
    put(log, &line);
    errno = saved;
}

void keel_log_text(struct keel_log *log, enum keel_log_level level,
                   const char *text, size_t size)
{
    int saved = errno;
    struct draft d;
    struct line line;
    size_t room;

    if (!keel_log_wanted(log, level))
        return;
    log = log_of(log);
    draft_begin(&d, log, level, &line);
    add_gap(&d);
    d.most = sizeof line.text - 1;
    room = d.most - line.size;
    if (size > room) {
        d.most -= 3;
        add(&d, text, room - 3);
        d.cut = true;
    } else {
        add(&d, text, size);
    }
    /* One event is one line, whatever a caller forgot to escape. */
    for (size_t i = 0; i < line.size; i++)
        if ((uint8_t)line.text[i] < 0x20 || line.text[i] == 0x7f)
            line.text[i] = '?';
    draft_end(&d);
    put(log, &line);
    errno = saved;
}

/* ---- where it goes ---- */

/* Whether `fd` is the stream that the service manager reads: it says so by
 * "device:inode". */
static bool is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct statx st;
    char own[64];

    if (!stream || fd < 0 || keel_file_stat(fd, NULL, &st) < 0)
        return false;
    (void)snprintf(
        own, sizeof own, "%llu:%llu",
        (unsigned long long)makedev(st.stx_dev_major, st.stx_dev_minor),
        (unsigned long long)st.stx_ino);
    return !strcmp(own, stream);
}

int keel_log_new(int fd, enum keel_log_level most, struct keel_log **ret)
{
    struct keel_log *log = keel_calloc(1, sizeof *log);

    if (!log)
        return -ENOMEM;
    log->own_fd = log->bell = -1;
    atomic_store(&log->refs, 1);
    atomic_store(&log->most, (int)most);
    keel_lock_init(&log->lock);
    keel_cond_init(&log->written);
    keel_log_to_fd(log, fd);
    *ret = log;
    return 0;
}

void keel_log_free(struct keel_log *log)
{
    if (!log)
        return;
    if (keel_log_stop(log, KEEL_NOW) < 0)
        keel_thread_free(log->writer);
    unref(log);
}

/* Who waits for room waits for the file that was there before. */
static void look_again(struct keel_log *log)
{
    if (atomic_load(&log->started))
        ring_bell(log);
}

void keel_log_to_fd(struct keel_log *log, int fd)
{
    log = log_of(log);
    atomic_store(&log->journal, is_journal(fd));
    atomic_store(&log->fd, fd);
    look_again(log);
}

int keel_log_to_file(struct keel_log *log, const char *path)
{
    int fd, rc;

    log = log_of(log);
    fd = keel_file_open_any(path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY,
                            0640);
    if (fd < 0)
        return fd;
    if (log->own_fd < 0) {
        log->own_fd = fd;
    } else {
        rc = keel_fd_replace(fd, log->own_fd);
        if (rc < 0) {
            keel_file_close(fd);
            return rc;
        }
    }
    atomic_store(&log->journal, false);
    atomic_store(&log->fd, log->own_fd);
    look_again(log);
    return 0;
}

/* ---- start, flush, stop ---- */

static int make_ring(struct keel_log *log, size_t lines)
{
    size_t places = 1;

    if (log->ring)
        return 0;
    while (places < (lines < LINES_MOST ? lines : LINES_MOST))
        places *= 2;
    log->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (log->bell < 0)
        return -errno;
    log->ring = keel_alloc(places * sizeof *log->ring);
    if (!log->ring) {
        close(log->bell);
        log->bell = -1;
        return -ENOMEM;
    }
    for (size_t i = 0; i < places; i++)
        atomic_init(&log->ring[i].turn, i);
    log->places = places;
    return 0;
}

static void stop_standard(void)
{
    (void)keel_log_stop(NULL, keel_after(KEEL_SECOND));
}

int keel_log_start(struct keel_log *log, size_t lines)
{
    const struct keel_thread_how how = {.name = "log", .daemon = true};
    static atomic_bool at_exit;
    int rc;

    if (worker_is_simulated())
        return -EOPNOTSUPP;
    log = log_of(log);
    if (log->writer)
        return mistake("keel_log_start", log, "it runs", -EALREADY);
    rc = make_ring(log, lines ? lines : LINES);
    if (rc == 0)
        rc = keel_thread_new(&how, write_lines, log, &log->writer);
    if (rc < 0)
        return rc;
    atomic_store(&log->hurry, false);
    atomic_fetch_add(&log->refs, 1);
    rc = keel_thread_begin(log->writer);
    if (rc < 0) {
        atomic_fetch_sub(&log->refs, 1);
        keel_thread_free(log->writer);
        log->writer = NULL;
        return rc;
    }
    atomic_store(&log->started, true);
    if (log == &standard && !atomic_exchange(&at_exit, true))
        (void)atexit(stop_standard);
    return 0;
}

int keel_log_flush(struct keel_log *log, keel_ns deadline)
{
    size_t upto;
    int rc;

    log = log_of(log);
    if (!atomic_load(&log->started))
        return 0;
    upto = atomic_load(&log->tail);
    atomic_fetch_add(&log->flushers, 1);
    rc = keel_lock_take(&log->lock, deadline);
    if (rc == 0) {
        while (rc == 0 && (ssize_t)(upto - atomic_load(&log->head)) > 0)
            rc = keel_cond_wait(&log->written, &log->lock, deadline);
        keel_lock_drop(&log->lock);
    }
    atomic_fetch_sub(&log->flushers, 1);
    return rc;
}

int keel_log_stop(struct keel_log *log, keel_ns deadline)
{
    int rc, joined;

    log = log_of(log);
    if (!log->writer)
        return 0;
    rc = keel_log_flush(log, deadline);
    atomic_store(&log->hurry, true);
    ring_bell(log);
    /* In a hurry it ends at once, unless it is in the middle of a write that
     * the disk does not answer. */
    keel_shield();
    joined = keel_thread_join(log->writer, keel_after(KEEL_SECOND), NULL);
    keel_unshield();
    if (joined < 0)
        return joined;
    log->writer = NULL;
    atomic_store(&log->started, false);
    while (atomic_load(&log->pushing) > 0)
        keel_yield();
    drain(log, false); /* of who looked before */
    return rc;
}
