/* SPDX-License-Identifier: MIT */
#include "client/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <keel/io.h>

#include "base/name.h"
#include "client/interrupt.h"
#include "client/text.h"

#define REDRAW (100 * KEEL_MS)
#define BAR_LEAST 10
#define BAR_MOST 40
#define TREE_BAR 12
#define BAR_FRAME 3   /* " []" */
#define NAME_LEAST 13 /* of which one separates it */
/* A smaller one is over before its share is read. */
#define LARGE_LEAST ((uint64_t)1 << 20)
/* The rate is measured over this much, up to twice of it. */
#define RATE_SPAN (5 * KEEL_SECOND)
/* What a file costs besides its bytes, for the share that is done: a tree of
 * empty files moves on too. */
#define FILE_WEIGHT 4096

/* ---- numbers ------------------------------------------------------------------ */

/* "0:07", "1:02:03", "--:--" */
static void text_clock(int64_t seconds, char *ret, size_t size)
{
    if (seconds < 0 || seconds > 359999)
        snprintf(ret, size, "--:--");
    else if (seconds >= 3600)
        snprintf(ret, size, "%" PRId64 ":%02" PRId64 ":%02" PRId64,
                 seconds / 3600, seconds / 60 % 60, seconds % 60);
    else
        snprintf(ret, size, "%" PRId64 ":%02" PRId64, seconds / 60,
                 seconds % 60);
}

/* "10,000" */
static void text_count(uint64_t n, char ret[32])
{
    char digits[24];
    size_t size = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, n);
    size_t at = 0;

    for (size_t i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0)
            ret[at++] = ',';
        ret[at++] = digits[i];
    }
    ret[at] = 0;
}

/* "870 MB/s", "1.3 MB/s", "40 kB/s" */
static void text_rate(double speed, char ret[32])
{
    if (speed >= 9.95e6 || speed < 500)
        snprintf(ret, 32, "%.0f MB/s", speed / 1e6);
    else if (speed >= 999500)
        snprintf(ret, 32, "%.1f MB/s", speed / 1e6);
    else
        snprintf(ret, 32, "%.0f kB/s", speed / 1e3);
}

static double per_second(uint64_t bytes, keel_ns span)
{
    return span > 0 ? (double)bytes / ((double)span / 1e9) : 0;
}

/* Bytes a second of what moved lately: what was there before is not our
 * speed. */
static double rate(const struct progress *p, keel_ns now)
{
    keel_ns since = p->since ? p->since : p->started;
    uint64_t from = p->since ? p->since_done : p->began_with;

    return per_second(p->done > from ? p->done - from : 0, now - since);
}

static uint64_t total_bytes(const struct progress *p)
{
    return p->tree ? atomic_load(&p->counted_bytes) : p->total;
}

/* Bytes, and what a tree's files cost besides. */
static double work_done(const struct progress *p)
{
    return (double)p->done + (double)p->files_done * FILE_WEIGHT;
}

static double work_total(const struct progress *p)
{
    uint64_t files = p->tree ? atomic_load(&p->counted_files) : 0;

    return (double)total_bytes(p) + (double)files * FILE_WEIGHT;
}

static double work_rate(const struct progress *p, keel_ns now)
{
    keel_ns since = p->since ? p->since : p->started;
    uint64_t files = p->files_done - p->since_files;

    return rate(p, now) + per_second(files * FILE_WEIGHT, now - since);
}

static unsigned percent_done(const struct progress *p)
{
    double done = work_done(p), total = work_total(p);
    unsigned percent;

    percent = total > 0 ? (unsigned)(done * 100 / total) : 100;
    return percent > 100 ? 100 : percent;
}

/* ---- the line ------------------------------------------------------------------- */

static void bar_print(unsigned width, unsigned percent, char *ret)
{
    unsigned full = percent >= 100 ? width : percent * width / 100;

    ret[0] = ' ';
    ret[1] = '[';
    memset(ret + 2, ' ', width);
    memset(ret + 2, '#', full);
    ret[2 + width] = ']';
    ret[3 + width] = 0;
}

static void left_print(const struct progress *p, keel_ns now, char ret[32])
{
    double left = work_total(p) - work_done(p), speed = work_rate(p, now);

    text_clock(speed > 0 ? (int64_t)(left > 0 ? left / speed + 0.5 : 0) : -1,
               ret, 32);
}

/* What a line has besides the name, in the order in which it finds room: the
 * share, what is behind it, and then the name and the bar. */
enum line_part { SHARE, RATE, LEFT, FILES, BYTES, PARTS };

static void parts_fill(const struct progress *p, keel_ns now, bool counting,
                       char part[PARTS][96])
{
    uint64_t files = atomic_load(&p->counted_files), bytes = total_bytes(p);
    const char *more = counting ? "+" : "";
    char a[32], b[32];
    double speed = rate(p, now);

    /* What failed before it was counted is done with, too. */
    if (files > 0 && files < p->files_done)
        files = p->files_done;

    memset(part, 0, PARTS * sizeof(part[0]));
    if (counting)
        snprintf(part[SHARE], 96, "%s", _("counting"));
    else if (!p->tree || files > 0)
        snprintf(part[SHARE], 96, "%3u%%", percent_done(p));
    text_rate(speed, a);
    snprintf(part[RATE], 96, " %s", a);
    left_print(p, now, a);
    if (!counting && (!p->tree || files > 0))
        snprintf(part[LEFT], 96, " %s", a);
    /* A chunk may have been sent twice. */
    text_bytes(!p->tree && p->done > bytes ? bytes : p->done, a);
    text_bytes(bytes, b);
    if (bytes > 0)
        snprintf(part[BYTES], 96, " %s/%s%s", a, b, more);
    else
        snprintf(part[BYTES], 96, " %s", a);
    if (!p->tree)
        return;
    text_count(p->files_done, a);
    text_count(files, b);
    if (files > 0)
        snprintf(part[FILES], 96, _(" %s/%s%s files"), a, b, more);
    else
        snprintf(part[FILES], 96, _(" %s files"), a);
}

#define NAME_BYTES_MOST sizeof(((struct progress *)0)->name)

/* The current file: its name, and of a large one the share. */
static void current_print(const struct progress *p, char name[NAME_BYTES_MOST],
                          char share[8])
{
    const struct progress_part *part = p->large;
    uint64_t bytes, percent;

    *share = 0;
    if (!part) {
        snprintf(name, NAME_BYTES_MOST, "%s", p->name);
        return;
    }
    bytes = part->there + part->moved;
    /* A chunk may have been sent twice. */
    percent = bytes >= part->size
                  ? 100
                  : (uint64_t)((double)bytes * 100 / (double)part->size);
    text_escape(part->name, strlen(part->name), name, NAME_BYTES_MOST);
    snprintf(share, 8, " %u%%", (unsigned)percent);
}

/* The name, whole or shortened, and a bar get what is left; a narrow place is
 * the name's alone. */
static void share_room(const struct progress *p, unsigned room, bool counting,
                       char *ret_name, size_t size, char bar[BAR_MOST + 4])
{
    unsigned least = p->tree ? TREE_BAR : BAR_LEAST;
    unsigned most = p->tree ? TREE_BAR : BAR_MOST;
    unsigned want, frame = least + BAR_FRAME, wide = 0, name_least, behind;
    char name[NAME_BYTES_MOST], share[8];

    current_print(p, name, share);
    behind = (unsigned)strlen(share);
    name_least = NAME_LEAST + behind;
    want = text_columns(name) + behind;
    want += want > 0;
    if (!counting && room >= frame + (want < name_least ? want : name_least)) {
        wide = want > room - frame ? least : room - want - BAR_FRAME;
        bar_print(wide > most ? most : wide, percent_done(p), bar);
        room -= (wide > most ? most : wide) + BAR_FRAME;
    }
    *ret_name = 0;
    if (room < name_least && room < want) { /* the name without its share */
        want -= behind;
        behind = 0;
        *share = 0;
    }
    if (want > 0 && (room >= NAME_LEAST || room >= want)) {
        text_shorten(name, room - 1 - behind, ret_name, size);
        strncat(ret_name, share, size - strlen(ret_name) - 1);
    }
}

static void line_moving(const struct progress *p, keel_ns now, unsigned columns,
                        char *ret, size_t size)
{
    char part[PARTS][96], bar[BAR_MOST + 4] = "", name[sizeof(p->name) + 8];
    bool counting = p->tree && atomic_load(&p->counting);
    unsigned room = columns;

    parts_fill(p, now, counting, part);
    for (int i = 0; i < PARTS; i++) {
        unsigned wide = text_columns(part[i]);

        if (wide > room)
            *part[i] = 0;
        else
            room -= wide;
    }
    share_room(p, room, counting, name, sizeof(name), bar);
    if (p->tree)
        snprintf(ret, size, "%s%s%s%s%s%s%s%s", part[SHARE], bar, part[FILES],
                 part[BYTES], part[RATE], part[LEFT], *name ? " " : "", name);
    else
        snprintf(ret, size, "%s%s%s%s%s%s%s", name, *name ? " " : "",
                 part[SHARE], bar, part[BYTES], part[RATE], part[LEFT]);
}

static void line_waiting(const struct progress *p, keel_ns now,
                         unsigned columns, char *ret, size_t size)
{
    keel_ns left = p->waiting_until - now;
    char clock[32], line[sizeof(p->waiting) + 96];

    text_clock(left > 0 ? (left + KEEL_SECOND - 1) / KEEL_SECOND : 0, clock,
               sizeof(clock));
    snprintf(line, sizeof(line), _("Again in %s: %s"), clock, p->waiting);
    text_cut(line, columns, ret, size);
}

void progress_line(const struct progress *p, keel_ns now, unsigned columns,
                   char *ret, size_t size)
{
    if (p->waiting_until)
        line_waiting(p, now, columns, ret, size);
    else
        line_moving(p, now, columns, ret, size);
}

/* ---- drawing --------------------------------------------------------------------- */

#define LINE_BYTES 1600

/* Somebody is asked something on the terminal. */
static bool hushed;
static struct progress *drawn; /* the one whose line it is */

/* Whatever becomes of it: a terminal that was stopped, or is gone. */
static void put_out(const char *text)
{
    (void)keel_fd_write_now(2, text, strlen(text));
}

/* A shell has the terminal back: ^Z and bg, or &. */
static bool in_background(void)
{
    pid_t front = tcgetpgrp(2);

    return front > 0 && front != getpgrp();
}

static void draw(struct progress *p)
{
    struct winsize w;
    char line[LINE_BYTES], out[LINE_BYTES + 16];
    unsigned columns = 80;

    if (hushed || in_background())
        return;
    if (ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        columns = w.ws_col;
    /* The last column stays free: some terminals wrap there. */
    progress_line(p, keel_now(), columns - 1, line, sizeof(line));
    snprintf(out, sizeof(out), "\r%s\x1b[K", line);
    put_out(out);
}

static void rate_move(struct progress *p, keel_ns now)
{
    if (now - p->mark < RATE_SPAN)
        return;
    p->since = p->mark;
    p->since_done = p->mark_done;
    p->since_files = p->mark_files;
    p->mark = now;
    p->mark_done = p->done;
    p->mark_files = p->files_done;
}

static int drawer_run(void *arg)
{
    struct progress *p = arg;

    while (keel_sleep(keel_after(REDRAW)) == 0) {
        rate_move(p, keel_now());
        draw(p);
    }
    return 0;
}

static void start(struct progress *p, const struct cli *c)
{
    struct keel_spawn how = {.name = "progress"};

    p->started = p->since = p->mark = keel_now();
    p->shown = c->verbose >= 0 && !c->json && isatty(2);
    interrupt_transfer(true, p->shown);
    if (p->shown && keel_spawn(&how, drawer_run, p, &p->drawer) < 0)
        p->drawer = NULL;
    drawn = p->shown ? p : drawn;
}

void progress_start(struct progress *p, const struct cli *c, const char *name,
                    uint64_t total)
{
    if (!p->started) {
        memset(p, 0, sizeof(*p));
        text_escape(name, strlen(name), p->name, sizeof(p->name));
        start(p, c);
    }
    p->total = total;
}

void progress_start_tree(struct progress *p, const struct cli *c)
{
    memset(p, 0, sizeof(*p));
    p->tree = true;
    start(p, c);
}

/* ---- what happens ------------------------------------------------------------------ */

void progress_count(struct progress *p, uint64_t files, uint64_t bytes)
{
    atomic_store(&p->counting, true);
    atomic_fetch_add(&p->counted_files, files);
    atomic_fetch_add(&p->counted_bytes, bytes);
}

void progress_counted(struct progress *p)
{
    atomic_store(&p->counting, false);
}

void progress_file(struct progress *p, const char *name, size_t size)
{
    if (p->shown)
        text_escape(name, size, p->name, sizeof(p->name));
}

void progress_file_done(struct progress *p)
{
    p->files_done++;
}

void progress_moved(void *progress, uint64_t bytes)
{
    struct progress *p = progress;

    p->done += bytes;
}

static void less(uint64_t *n, uint64_t by)
{
    *n -= *n < by ? *n : by;
}

static void change(uint64_t *n, int64_t by)
{
    if (by >= 0)
        *n += (uint64_t)by;
    else
        less(n, (uint64_t)-by);
}

void progress_skip(struct progress *p, int64_t bytes)
{
    change(&p->done, bytes);
    change(&p->began_with, bytes);
    change(&p->since_done, bytes);
    change(&p->mark_done, bytes);
}

void progress_same(struct progress *p, uint64_t bytes)
{
    progress_skip(p, (int64_t)bytes);
    p->files_done++;
    p->since_files++;
    p->mark_files++;
}

static void large_remove(struct progress *p, struct progress_part *part)
{
    for (struct progress_part **at = &p->large; *at; at = &(*at)->next) {
        if (*at == part) {
            *at = part->next;
            break;
        }
    }
    part->next = NULL;
}

static void large_add(struct progress *p, struct progress_part *part,
                      const char *name, uint64_t size)
{
    struct progress_part **at = &p->large;

    large_remove(p, part);
    if (!p->tree || size < LARGE_LEAST)
        return;
    while (*at)
        at = &(*at)->next;
    part->name = name;
    part->size = size;
    *at = part;
}

void progress_begin(struct progress *p, struct progress_part *part,
                    const char *name, uint64_t size, uint64_t there)
{
    large_add(p, part, name, size);
    part->first = part->begun && part->first < there ? part->first : there;
    part->begun = true;
    part->there = there;
    part->moved = 0;
    progress_skip(p, (int64_t)part->first);
    /* What an earlier attempt of ours moved has moved, if not lately. */
    p->done += there - part->first;
    p->since_done += there - part->first;
    p->mark_done += there - part->first;
}

void progress_part_moved(struct progress *p, struct progress_part *part,
                         uint64_t bytes)
{
    part->moved += bytes;
    part->sent += bytes;
    progress_moved(p, bytes);
}

void progress_broken(struct progress *p, struct progress_part *part)
{
    uint64_t back = part->there - part->first + part->moved;

    less(&p->done, back);
    less(&p->since_done, back);
    less(&p->mark_done, back);
    progress_skip(p, -(int64_t)part->first);
    large_remove(p, part);
}

void progress_ended(struct progress *p, struct progress_part *part)
{
    large_remove(p, part);
}

void progress_waiting(struct progress *p, const char *what, keel_ns until)
{
    keel_ns now = keel_now();

    snprintf(p->waiting, sizeof(p->waiting), "%s", what ? what : "");
    p->waiting_until = what ? until : 0;
    if (what)
        return;
    /* Nothing moved meanwhile, and that was nobody's speed. */
    p->since = p->mark = now;
    p->since_done = p->mark_done = p->done;
    p->since_files = p->mark_files = p->files_done;
}

void progress_clear(struct progress *p)
{
    if (p->shown && !hushed && !in_background())
        put_out("\r\x1b[K");
}

void progress_aside(void)
{
    if (drawn)
        progress_clear(drawn);
}

void progress_hush(bool quiet)
{
    if (quiet)
        progress_aside();
    hushed = quiet;
}

void progress_stop(struct progress *p)
{
    if (p->drawer) {
        keel_shield();
        keel_cancel(p->drawer);
        keel_join(p->drawer, KEEL_FOREVER, NULL);
        keel_unshield();
    }
    p->drawer = NULL;
    interrupt_transfer(false, false);
    progress_clear(p);
    p->shown = false;
    drawn = drawn == p ? NULL : drawn;
}

/* "1.2 s", "1:05", "1:01:05" */
static void text_span(keel_ns span, char ret[32])
{
    if (span < 59950 * KEEL_MS)
        snprintf(ret, 32, "%.1f s", (double)span / 1e9);
    else
        text_clock((span + KEEL_SECOND / 2) / KEEL_SECOND, ret, 32);
}

void progress_summary(const struct progress *p, char *ret, size_t size)
{
    uint64_t moved = p->done > p->began_with ? p->done - p->began_with : 0;
    keel_ns span = keel_now() - p->started;
    char bytes[32], time[32], speed[32], before[32];
    bool part = !p->tree && p->began_with > 0;

    text_bytes(p->tree ? moved : p->total, bytes);
    text_bytes(p->began_with, before);
    text_span(span, time);
    text_rate(per_second(moved, span), speed);
    if (part && moved == 0)
        snprintf(ret, size, _("%s in %s, all of it was there already"), bytes,
                 time);
    else if (part)
        snprintf(ret, size, _("%s in %s, %s; %s were there already"), bytes,
                 time, speed, before);
    else if (span < KEEL_SECOND && moved < 1 << 20)
        snprintf(ret, size, _("%s in %s"), bytes,
                 time); /* no rate to speak of */
    else
        snprintf(ret, size, _("%s in %s, %s"), bytes, time, speed);
}
