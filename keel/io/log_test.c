/* SPDX-License-Identifier: MIT */
#include <keel/log.h>

#include "test/test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <keel/seam.h>
#include <keel/thread.h>

#include "test/fault.h"

static int64_t date = 1767323045678000000; /* 2026-01-02T03:04:05.678Z */
#define DATE "time=2026-01-02T03:04:05.678Z "

static int64_t fixed_date(void)
{
    return date;
}

/* A log that a pipe reads.  Each write is a packet in it (pipe(2), O_DIRECT), so
 * that it is full when poll says so: no line fits behind the last. */
struct house {
    int reader, fd;
    struct keel_log *log;
    char text[1 << 20];
};

static struct house *house_new(void)
{
    struct house *h = calloc(1, sizeof *h);
    int p[2];

    assert_non_null(h);
    keel_seam.wall_ns = fixed_date;
    assert_int_equal(pipe2(p, O_DIRECT), 0);
    assert_int_equal(fcntl(p[0], F_SETFL, O_NONBLOCK), 0);
    h->reader = p[0];
    h->fd = p[1];
    assert_int_equal(keel_log_new(h->fd, KEEL_LOG_INFO, &h->log), 0);
    return h;
}

static void house_free(struct house *h)
{
    keel_log_free(h->log);
    if (h->reader >= 0)
        close(h->reader);
    close(h->fd);
    free(h);
}

/* What the pipe holds. */
static const char *drain(struct house *h)
{
    size_t at = 0;
    ssize_t n;

    while (at < sizeof h->text - 1 &&
           (n = read(h->reader, h->text + at, sizeof h->text - 1 - at)) > 0)
        at += (size_t)n;
    h->text[at] = '\0';
    return h->text;
}

static int count_lines(const char *text)
{
    int n = 0;

    for (; (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

/* ---- lines ---- */

static void a_line_has_date_level_fields_and_words(void **state)
{
    struct house *h = house_new();

    (void)state;
    keel_log(h->log, KEEL_LOG_WARN, "the line was cut",
             KEEL_LOG_TEXT("peer", "192.0.2.7:1"), KEEL_LOG_INT("n", -5),
             KEEL_LOG_UINT("size", UINT64_MAX), KEEL_LOG_HEX("flags", 0x1f),
             KEEL_LOG_SPAN("took", 1500 * KEEL_US),
             KEEL_LOG_SPAN("late", -KEEL_SECOND),
             KEEL_LOG_ERRNO("error", ECONNRESET), KEEL_LOG_ERRNO("odd", 4000),
             KEEL_LOG_BYTES("part", "abcdef", 3), KEEL_LOG_TEXT("none", NULL),
             KEEL_LOG_INT("least", INT64_MIN));
    keel_log(h->log, KEEL_LOG_ERROR, NULL);
    keel_log(h->log, KEEL_LOG_INFO, "no fields");
    keel_log_text(h->log, KEEL_LOG_INFO, "a=1 as\nit is", 12);
    assert_string_equal(
        drain(h),
        DATE "level=warn peer='192.0.2.7:1' n=-5 size=18446744073709551615 "
             "flags=0x1f took=0.001500000 late=-1.000000000 error=ECONNRESET "
             "odd=4000 part='abc' none='' least=-9223372036854775808 "
             "words='the line was cut'\n" DATE "level=error\n" DATE
             "level=info words='no fields'\n" DATE "level=info a=1 as?it is\n");
    house_free(h);
}

static int evaluated;

static int64_t evaluate(void)
{
    return ++evaluated;
}

static void what_is_not_wanted_is_not_evaluated(void **state)
{
    struct house *h = house_new();

    (void)state;
    keel_log(h->log, KEEL_LOG_DEBUG, "no", KEEL_LOG_INT("n", evaluate()));
    assert_int_equal(evaluated, 0);
    keel_log_most(h->log, KEEL_LOG_DEBUG);
    keel_log(h->log, KEEL_LOG_DEBUG, "yes", KEEL_LOG_INT("n", evaluate()));
    assert_string_equal(drain(h), DATE "level=debug n=1 words='yes'\n");
    assert_true(keel_log_wanted(h->log, KEEL_LOG_DEBUG));
    house_free(h);
}

static void no_text_can_pass_for_another_field_or_line(void **state)
{
    struct house *h = house_new();

    (void)state;
    keel_log(h->log, KEEL_LOG_INFO, NULL,
             KEEL_LOG_TEXT("name", "x' level=error a='\\'\n\x1b]0;\xff"),
             KEEL_LOG_TEXT("rtl", "\xe2\x80\xae"),
             KEEL_LOG_TEXT("zh", "\xe4\xb8\xad"),
             KEEL_LOG_BYTES("nul", "\0", 1), KEEL_LOG_INT("a b=\n", 1));
    assert_string_equal(
        drain(h), DATE "level=info name='x\\' level=error a=\\'\\\\\\'\\x0a"
                       "\\x1b]0;\\xff' rtl='\\xe2\\x80\\xae' zh='\xe4\xb8\xad' "
                       "nul='\\x00' a_b__=1\n");
    house_free(h);
}

static void a_line_too_long_is_cut_between_characters(void **state)
{
    struct house *h = house_new();
    char text[5000];
    const char *said;

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    /* Whatever the place of the cut, the line is whole and sound. */
    for (int blanks = 0; blanks < 40; blanks++) {
        memcpy(text + 1900 + blanks, "\xe4\xb8\xad''\\\n\xe4\xb8\xad", 10);
        text[1890 + blanks] = '\0';
        keel_log(h->log, KEEL_LOG_INFO, "words", KEEL_LOG_TEXT("a", text),
                 KEEL_LOG_TEXT("b", text + 1900 + blanks),
                 KEEL_LOG_INT("c", 1234567), KEEL_LOG_TEXT("d", text));
        text[1890 + blanks] = 'x';
        said = drain(h);
        assert_in_range(strlen(said), 2000, KEEL_LOG_LINE_BYTES);
        assert_int_equal(count_lines(said), 1);
        assert_non_null(strstr(said, "..."));
        assert_true(keel_utf8(said, 1) == 1);
        for (size_t at = 0; said[at]; at += keel_utf8(said + at, 4))
            assert_true(keel_utf8(said + at, strlen(said + at)) > 0);
    }
    keel_log(h->log, KEEL_LOG_INFO, "gone", KEEL_LOG_TEXT("a", text));
    said = drain(h);
    assert_non_null(strstr(said, "xx...'\n"));
    memset(text, 'y', sizeof text);
    keel_log_text(h->log, KEEL_LOG_INFO, text, sizeof text);
    said = drain(h);
    assert_int_equal(strlen(said), KEEL_LOG_LINE_BYTES);
    assert_string_equal(said + KEEL_LOG_LINE_BYTES - 5, "y...\n");
    house_free(h);
}

static void the_date_is_that_of_the_c_library(void **state)
{
    struct house *h = house_new();
    int64_t was = date;
    time_t seconds = 0;

    (void)state;
    for (int i = 0; i < 3000; i++, seconds += 37 * 86400 / 10 + 7919) {
        char expected[100];
        struct tm tm;

        date = (int64_t)seconds * KEEL_SECOND;
        assert_non_null(gmtime_r(&seconds, &tm));
        assert_true(strftime(expected, sizeof expected,
                             "time=%Y-%m-%dT%H:%M:%S.000Z level=error\n",
                             &tm) > 0);
        keel_log(h->log, KEEL_LOG_ERROR, NULL);
        assert_string_equal(drain(h), expected);
    }
    date = was;
    house_free(h);
}

static void a_service_manager_gets_its_prefix(void **state)
{
    struct house *h = house_new();
    struct stat st;
    char own[64];

    (void)state;
    assert_int_equal(fstat(h->fd, &st), 0);
    snprintf(own, sizeof own, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", own, 1);
    keel_log_to_fd(h->log, h->fd);
    unsetenv("JOURNAL_STREAM");
    keel_log(h->log, KEEL_LOG_ERROR, "e", KEEL_LOG_INT("n", 1));
    keel_log_text(h->log, KEEL_LOG_INFO, "i", 1);
    assert_string_equal(drain(h), "<3>n=1 words='e'\n<6>i\n");
    house_free(h);
}

static void levels_have_names(void **state)
{
    enum keel_log_level level = KEEL_LOG_ERROR;

    (void)state;
    assert_int_equal(keel_log_level_parse("debug", &level), 0);
    assert_int_equal(level, KEEL_LOG_DEBUG);
    assert_int_equal(keel_log_level_parse("loud", &level), -EINVAL);
    assert_string_equal(keel_log_level_name(KEEL_LOG_WARN), "warn");
}

/* ---- nobody waits ---- */

/* Lines of a flood, and lines that are said to be lost, in `text`. */
static void count_flood(const char *text, uint64_t *came, uint64_t *lost)
{
    for (const char *at = text; (at = strstr(at, "'a flood'\n")); at++)
        (*came)++;
    for (const char *at = text; (at = strstr(at, " log: ")); at++)
        *lost += strtoull(at + 6, NULL, 10);
}

/* Lines until neither reader nor ring have room; how many. */
static uint64_t flood(struct house *h)
{
    struct pollfd reader = {.fd = h->fd, .events = POLLOUT};
    uint64_t sent = 0, before;
    bool stuck;

    do {
        stuck = poll(&reader, 1, 0) == 0;
        before = keel_log_dropped(h->log);
        for (int i = 0; i < 100; i++, sent++)
            keel_log(h->log, KEEL_LOG_INFO, "a flood");
    } while (!stuck || keel_log_dropped(h->log) == before);
    return sent;
}

/* The reader moves again, until nothing waits for it. */
static void read_all(struct house *h, uint64_t *came, uint64_t *lost)
{
    int rc;

    do {
        count_flood(drain(h), came, lost);
        rc = keel_log_flush(h->log, keel_after(KEEL_MS));
    } while (rc == -ETIMEDOUT);
    assert_int_equal(rc, 0);
    count_flood(drain(h), came, lost);
}

static void a_stuck_reader_stops_nobody_and_learns_what_it_missed(void **state)
{
    struct house *h = house_new();

    (void)state;
    /* First without the thread, then with it. */
    for (int started = 0; started < 2; started++) {
        uint64_t before = keel_log_dropped(h->log), sent = 0, came = 0,
                 lost = 0;

        if (started)
            assert_int_equal(keel_log_start(h->log, 16), 0);
        sent = flood(h);
        for (int i = 0; i < 100; i++, sent++)
            keel_log(h->log, KEEL_LOG_INFO, "a flood");

        read_all(h, &came, &lost);
        keel_log(h->log, KEEL_LOG_INFO, "after it");
        assert_int_equal(keel_log_flush(h->log, KEEL_FOREVER), 0);
        count_flood(drain(h), &came, &lost);
        assert_non_null(strstr(h->text, "words='after it'\n"));
        assert_in_range(lost, 100, sent);
        assert_int_equal(came + lost, sent);
        assert_int_equal(keel_log_dropped(h->log) - before, lost);
    }
    assert_int_equal(keel_log_stop(h->log, KEEL_FOREVER), 0);
    house_free(h);
}

static void a_stop_does_not_wait_longer_than_it_may(void **state)
{
    struct house *h = house_new();

    (void)state;
    assert_int_equal(keel_log_start(h->log, 8), 0);
    flood(h);
    assert_int_equal(keel_log_stop(h->log, keel_after(20 * KEEL_MS)),
                     -ETIMEDOUT);
    drain(h);
    /* It has ended, and may begin again. */
    assert_int_equal(keel_log_start(h->log, 0), 0);
    assert_int_equal(keel_log_start(h->log, 0), -EALREADY);
    keel_log(h->log, KEEL_LOG_INFO, "again");
    assert_int_equal(keel_log_stop(h->log, KEEL_FOREVER), 0);
    assert_non_null(strstr(drain(h), "words='again'\n"));
    house_free(h);
}

static void a_log_is_freed_while_its_thread_waits_for_the_reader(void **state)
{
    struct house *h = house_new();

    (void)state;
    assert_int_equal(keel_log_start(h->log, 4), 0);
    flood(h);
    house_free(h);
}

static void a_full_disk_drops_lines_and_their_count_is_logged(void **state)
{
    struct house *h = house_new();
    char dir[] = "/tmp/log-test-XXXXXX", path[64];

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/log", dir);
    for (int started = 0; started < 2; started++) {
        if (started)
            assert_int_equal(keel_log_start(h->log, 0), 0);
        assert_int_equal(keel_log_to_file(h->log, "/dev/full"), 0);
        for (int i = 0; i < 5; i++)
            keel_log(h->log, KEEL_LOG_INFO, "lost");
        assert_int_equal(keel_log_flush(h->log, KEEL_FOREVER), 0);
        assert_int_equal(keel_log_dropped(h->log), 5 * (started + 1));
        keel_log_to_fd(h->log, h->fd);
        keel_log(h->log, KEEL_LOG_INFO, "room again");
        assert_int_equal(keel_log_flush(h->log, KEEL_FOREVER), 0);
        assert_string_equal(
            drain(h),
            DATE "level=warn log: 5 lines were dropped for want of room\n" DATE
                 "level=info words='room again'\n");
    }
    assert_int_equal(keel_log_stop(h->log, KEEL_FOREVER), 0);
    assert_int_equal(rmdir(dir), 0);
    house_free(h);
}

static void a_reader_that_is_gone_ends_nobody(void **state)
{
    struct house *h = house_new();

    (void)state;
    close(h->reader);
    h->reader = -1;
    keel_log(h->log, KEEL_LOG_INFO, "to nobody");
    assert_int_equal(keel_log_dropped(h->log), 1);
    assert_int_equal(keel_log_start(h->log, 0), 0);
    keel_log(h->log, KEEL_LOG_INFO, "to nobody");
    assert_int_equal(keel_log_stop(h->log, KEEL_FOREVER), 0);
    assert_int_equal(keel_log_dropped(h->log), 2);
    house_free(h);
}

/* ---- a file ---- */

static void slurp(const char *path, char *ret, size_t size)
{
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    ret[fread(ret, 1, size - 1, f)] = '\0';
    fclose(f);
}

static int rotate(void *arg)
{
    struct house *h = arg;
    char dir[] = "/tmp/log-test-XXXXXX", path[64], old[64], text[1000];

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/log", dir);
    snprintf(old, sizeof old, "%s/log.1", dir);
    assert_int_equal(keel_log_to_file(h->log, path), 0);
    keel_log(h->log, KEEL_LOG_INFO, "before");
    assert_int_equal(rename(path, old), 0);
    keel_log(h->log, KEEL_LOG_INFO, "still there");
    assert_int_equal(keel_log_flush(h->log, KEEL_FOREVER), 0);
    assert_int_equal(keel_log_to_file(h->log, path), 0);
    keel_log(h->log, KEEL_LOG_INFO, "after");
    assert_int_equal(keel_log_flush(h->log, KEEL_FOREVER), 0);
    slurp(old, text, sizeof text);
    assert_non_null(strstr(text, "still there"));
    slurp(path, text, sizeof text);
    assert_string_equal(text, DATE "level=info words='after'\n");

    /* What cannot be opened changes nothing. */
    assert_int_equal(keel_log_to_file(h->log, dir), -EISDIR);
    keel_log(h->log, KEEL_LOG_INFO, "as ever");
    assert_int_equal(keel_log_flush(h->log, KEEL_FOREVER), 0);
    slurp(path, text, sizeof text);
    assert_non_null(strstr(text, "as ever"));
    assert_int_equal(unlink(path) | unlink(old) | rmdir(dir), 0);
    return 0;
}

static void a_rotated_file_is_opened_anew(void **state)
{
    struct house *h = house_new();

    (void)state;
    assert_int_equal(rotate(h), 0);
    assert_int_equal(keel_log_start(h->log, 0), 0);
    assert_int_equal(rotate(h), 0);
    assert_int_equal(keel_run(rotate, h), 0); /* from a coroutine */
    assert_int_equal(keel_log_stop(h->log, KEEL_FOREVER), 0);
    house_free(h);
}

/* ---- many at once, and signals ---- */

enum { WRITERS = 4, EACH = 3000 };
static struct house *shared;

static int log_many(void *arg)
{
    for (int i = 0; i < EACH; i++) {
        keel_log(shared->log, KEEL_LOG_INFO, "many",
                 KEEL_LOG_INT("who", (intptr_t)arg), KEEL_LOG_INT("n", i));
        if (i % 50 == 0)
            assert_int_equal(keel_log_flush(shared->log, KEEL_FOREVER), 0);
    }
    return 0;
}

static int log_many_in_a_coroutine(void *arg)
{
    return keel_run(log_many, arg);
}

static atomic_int signals_logged;

static void log_in_a_handler(int signal)
{
    keel_log(shared->log, KEEL_LOG_INFO, "from a handler",
             KEEL_LOG_INT("signal", signal));
    atomic_fetch_add(&signals_logged, 1);
}

/* Polled, for a while at a time: TSan runs a handler between two calls, and may
 * be late for one that waits for ever. */
static void read_line(struct house *h, char *ret, size_t size)
{
    static char text[4096];
    static size_t at, end;
    size_t n = 0;

    do {
        if (at == end) {
            struct pollfd p = {.fd = h->reader, .events = POLLIN};
            ssize_t got;

            while (poll(&p, 1, 50) <= 0)
                ;
            got = read(h->reader, text, sizeof text);
            assert_true(got > 0);
            at = 0;
            end = (size_t)got;
        }
        assert_in_range(n, 0, size - 2);
        ret[n++] = text[at++];
    } while (ret[n - 1] != '\n');
    ret[n] = '\0';
}

/* Reads what the pipe brings until `lines` have come, and tells each writer's
 * lines from the other's. */
static void read_and_check(struct house *h, int lines, int *ret_signals)
{
    int next[WRITERS] = {0};
    char line[500], expected[500];

    while (lines-- > 0) {
        int who, n;
        char *at;

        read_line(h, line, sizeof line);
        if (strstr(line, "signal=10 words='from a handler'\n")) {
            (*ret_signals)++;
            continue;
        }
        at = strstr(line, "who=");
        assert_non_null(at);
        assert_int_equal(sscanf(at, "who=%d n=%d", &who, &n), 2);
        snprintf(expected, sizeof expected,
                 DATE "level=info who=%d n=%d words='many'\n", who, n);
        assert_string_equal(line, expected);
        assert_in_range(who, 0, WRITERS - 1);
        assert_int_equal(n, next[who]++); /* in each one's order */
    }
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(next[i], EACH);
}

/* Signals go to the main thread, in the middle of its own logging too. */
static int send_signals(void *arg)
{
    for (int i = 0; i < 500; i++) {
        assert_int_equal(kill(getpid(), SIGUSR1), 0);
        while (atomic_load(&signals_logged) <= i)
            keel_yield();
    }
    (void)arg;
    return 0;
}

static void lines_of_threads_loops_and_handlers_never_interleave(void **state)
{
    struct keel_thread *t[WRITERS + 1];
    int p[2], signals = 0;
    struct sigaction action = {.sa_handler = log_in_a_handler,
                               .sa_flags = SA_RESTART};

    (void)state;
    shared = house_new();
    assert_int_equal(pipe(p), 0);
    assert_int_equal(fcntl(shared->reader, F_SETFL, 0), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    assert_int_equal(keel_log_start(shared->log, 4096), 0);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(
            keel_thread_start("writer",
                              i % 2 ? log_many : log_many_in_a_coroutine,
                              (void *)(intptr_t)i, &t[i]),
            0);
    assert_int_equal(
        keel_thread_start("signals", send_signals, NULL, &t[WRITERS]), 0);
    read_and_check(shared, WRITERS * EACH + 500, &signals);
    assert_int_equal(signals, 500);
    for (int i = 0; i <= WRITERS; i++)
        assert_int_equal(keel_thread_join(t[i], KEEL_FOREVER, NULL), 0);
    assert_int_equal(keel_log_stop(shared->log, KEEL_FOREVER), 0);
    assert_int_equal(keel_log_dropped(shared->log), 0);
    close(p[0]);
    close(p[1]);
    house_free(shared);
}

/* The handler comes in the middle of its own thread's lines, with ring and
 * reader full. */
static void a_handler_is_not_stopped_by_the_line_it_interrupts(void **state)
{
    struct sigaction action = {.sa_handler = log_in_a_handler};
    struct keel_thread *t;

    (void)state;
    shared = house_new();
    atomic_store(&signals_logged, 0);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    assert_int_equal(keel_log_start(shared->log, 2), 0);
    flood(shared);
    assert_int_equal(keel_thread_start("signals", send_signals, NULL, &t), 0);
    while (atomic_load(&signals_logged) < 500) {
        errno = ENOTTY;
        keel_log(shared->log, KEEL_LOG_INFO, "interrupted");
        assert_int_equal(errno, ENOTTY);
    }
    assert_int_equal(keel_thread_join(t, KEEL_FOREVER, NULL), 0);
    assert_int_equal(keel_log_stop(shared->log, KEEL_NOW), -ETIMEDOUT);
    drain(shared);
    assert_in_range(keel_log_dropped(shared->log), 1, UINT64_MAX);
    house_free(shared);
}

/* ---- flush ---- */

static int flush_for_ever(void *arg)
{
    return keel_log_flush(arg, KEEL_FOREVER);
}

static int cancel_a_flush(void *arg)
{
    struct house *h = arg;
    struct keel_co *co = test_spawn(flush_for_ever, h->log);

    keel_yield();
    keel_cancel(co);
    assert_int_equal(test_join(co), -ECANCELED);
    return 0;
}

static void a_flush_can_be_cancelled(void **state)
{
    struct house *h = house_new();

    (void)state;
    assert_int_equal(keel_log_flush(h->log, KEEL_NOW), 0); /* not started */
    assert_int_equal(keel_log_start(h->log, 4), 0);
    flood(h);
    assert_int_equal(keel_run(cancel_a_flush, h), 0);
    house_free(h);
}

static void start_survives_each_failure(void **state)
{
    struct house *h = house_new();

    (void)state;
    for (int nth = 1;; nth++) {
        int rc;

        fault_fail_alloc((unsigned)nth);
        rc = keel_log_start(h->log, 4);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        fault_clear();
        keel_log(h->log, KEEL_LOG_INFO, "as before");
        assert_string_equal(drain(h), DATE "level=info words='as before'\n");
    }
    fault_clear();
    house_free(h);
}

/* ---- the program's own ---- */

static void the_programs_own_log_is_written_at_exit(void **state)
{
    int p[2];
    char text[500] = "";
    ssize_t n;

    (void)state;
    assert_int_equal(pipe(p), 0);
    if (fork() == 0) {
        keel_log_to_fd(NULL, p[1]);
        if (keel_log_start(NULL, 0) < 0)
            _exit(1);
        keel_log(NULL, KEEL_LOG_INFO, "the last words");
        exit(0);
    }
    close(p[1]);
    n = read(p[0], text, sizeof text - 1);
    assert_true(n > 0);
    assert_non_null(strstr(text, "level=info words='the last words'\n"));
    close(p[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: TSan wants no threads before a fork. */
        cmocka_unit_test(the_programs_own_log_is_written_at_exit),
        cmocka_unit_test(a_line_has_date_level_fields_and_words),
        cmocka_unit_test(what_is_not_wanted_is_not_evaluated),
        cmocka_unit_test(no_text_can_pass_for_another_field_or_line),
        cmocka_unit_test(a_line_too_long_is_cut_between_characters),
        cmocka_unit_test(the_date_is_that_of_the_c_library),
        cmocka_unit_test(a_service_manager_gets_its_prefix),
        cmocka_unit_test(levels_have_names),
        cmocka_unit_test(a_stuck_reader_stops_nobody_and_learns_what_it_missed),
        cmocka_unit_test(a_stop_does_not_wait_longer_than_it_may),
        cmocka_unit_test(a_log_is_freed_while_its_thread_waits_for_the_reader),
        cmocka_unit_test(a_full_disk_drops_lines_and_their_count_is_logged),
        cmocka_unit_test(a_reader_that_is_gone_ends_nobody),
        cmocka_unit_test(a_rotated_file_is_opened_anew),
        cmocka_unit_test(lines_of_threads_loops_and_handlers_never_interleave),
        cmocka_unit_test(a_handler_is_not_stopped_by_the_line_it_interrupts),
        cmocka_unit_test(a_flush_can_be_cancelled),
        cmocka_unit_test(start_survives_each_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
