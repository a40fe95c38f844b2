/* SPDX-License-Identifier: MIT */
#include "client/progress.h"

#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include <keel/io.h>

#include "base/name.h"
#include "client/interrupt.h"

#define REDRAW (100 * KEEL_MS)
#define BAR_MOST 40
#define NAME_LEAST 8
/* The rate is measured over this much, up to twice of it. */
#define RATE_SPAN (5 * KEEL_SECOND)
/* What a file costs besides its bytes, for the share that is done: a tree of
 * empty files moves on too. */
#define FILE_WEIGHT 4096

/* ---- columns ------------------------------------------------------------------ */

/* The columns of the character at `text`, and its bytes.  What is there has
 * been escaped. */
static unsigned char_columns(const char *text, size_t size, size_t *ret_bytes)
{
    static locale_t utf8;
    size_t bytes = text_utf8(text, size);
    const uint8_t *b = (const uint8_t *)text;
    wchar_t c;
    int width = 1;

    *ret_bytes = bytes ? bytes : 1;
    if (bytes < 2)
        return 1;
    c = (wchar_t)(b[0] & (0xff >> (bytes + 1)));
    for (size_t i = 1; i < bytes; i++)
        c = c << 6 | (b[i] & 0x3f);
    /* Widths are the locale's, and the program's may be "C". */
    if (!utf8)
        utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (utf8) {
        locale_t before = uselocale(utf8);

        width = wcwidth(c);
        uselocale(before);
    }
    return width < 0 ? 1 : (unsigned)width;
}

/* How many bytes of `text` fit into `columns`, and how many of these they
 * take. */
static size_t text_fit(const char *text, unsigned columns, unsigned *ret_taken)
{
    size_t size = strlen(text), at = 0, bytes;
    unsigned taken = 0;

    while (at < size) {
        unsigned width = char_columns(text + at, size - at, &bytes);

        if (taken + width > columns)
            break;
        taken += width;
        at += bytes;
    }
    *ret_taken = taken;
    return at;
}

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

static unsigned percent_done(const struct progress *p)
{
    double done = (double)p->done, total = (double)total_bytes(p);
    unsigned percent;

    if (p->tree) {
        done += (double)p->files_done * FILE_WEIGHT;
        total += (double)atomic_load(&p->counted_files) * FILE_WEIGHT;
    }
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

static void left_print(const struct progress *p, double speed, char ret[32])
{
    uint64_t total = total_bytes(p);
    uint64_t left = total > p->done ? total - p->done : 0;

    text_clock(speed > 0 ? (int64_t)((double)left / speed) : -1, ret, 32);
}

static void line_one(const struct progress *p, keel_ns now, unsigned columns,
                     char *ret, size_t size)
{
    char done[32], total[32], left[32], tail[160], bar[BAR_MOST + 4] = "";
    double speed = rate(p, now);
    unsigned percent = percent_done(p), tail_size, room, taken;
    size_t name_size;

    text_bytes(p->done, done);
    text_bytes(p->total, total);
    left_print(p, speed, left);
    snprintf(tail, sizeof(tail), " %s/%s %.0f MB/s %s", done, total,
             speed / 1e6, left);
    if (columns < 40)
        snprintf(tail, sizeof(tail), " %.0f MB/s", speed / 1e6);
    tail_size = (unsigned)strlen(tail);
    /* What is left goes to the name first, then to the bar. */
    room = columns > tail_size + 5 ? columns - tail_size - 5 : 0;
    name_size = text_fit(p->name, room, &taken);
    room -= taken;
    if (room >= 10)
        bar_print(room - 3 > BAR_MOST ? BAR_MOST : room - 3, percent, bar);
    snprintf(ret, size, "%.*s%4u%%%s%s", (int)name_size, p->name, percent, bar,
             tail);
}

/* The parts of a tree's line, and the order in which they find room. */
enum tree_part { SHARE, BAR, FILES, BYTES, RATE, LEFT, NAME, TREE_PARTS };
static const enum tree_part wanted[] = {RATE, LEFT, FILES, BYTES};

static void tree_parts(const struct progress *p, keel_ns now,
                       char part[TREE_PARTS][160])
{
    bool counting = atomic_load(&p->counting);
    uint64_t files = atomic_load(&p->counted_files), bytes = total_bytes(p);
    const char *more = counting ? "+" : "";
    char a[32], b[32];
    double speed = rate(p, now);

    memset(part, 0, TREE_PARTS * sizeof(part[0]));
    if (counting)
        snprintf(part[SHARE], 160, "counting");
    else if (files > 0)
        snprintf(part[SHARE], 160, "%3u%%", percent_done(p));
    text_count(p->files_done, a);
    text_count(files, b);
    if (files > 0)
        snprintf(part[FILES], 160, " %s/%s%s files", a, b, more);
    else
        snprintf(part[FILES], 160, " %s files", a);
    text_bytes(p->done, a);
    text_bytes(bytes, b);
    if (bytes > 0)
        snprintf(part[BYTES], 160, " %s/%s%s", a, b, more);
    else
        snprintf(part[BYTES], 160, " %s", a);
    snprintf(part[RATE], 160, " %.0f MB/s", speed / 1e6);
    left_print(p, speed, a);
    if (!counting && files > 0)
        snprintf(part[LEFT], 160, " %s", a);
}

static void line_tree(const struct progress *p, keel_ns now, unsigned columns,
                      char *ret, size_t size)
{
    char part[TREE_PARTS][160];
    unsigned room = columns, taken;
    size_t at = 0, fit;

    tree_parts(p, now, part);
    taken = (unsigned)strlen(part[SHARE]);
    room = room > taken ? room - taken : 0;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
        char *text = part[wanted[i]];

        taken = (unsigned)strlen(text);
        if (taken > room)
            *text = 0;
        else
            room -= taken;
    }
    if (room >= 15 + NAME_LEAST + 1 && !atomic_load(&p->counting)) {
        bar_print(12, percent_done(p), part[BAR]);
        room -= 15;
    }
    if (room > NAME_LEAST) {
        fit = text_fit(p->name, room - 1, &taken);
        snprintf(part[NAME], 160, " %.*s", (int)fit, p->name);
    }
    *ret = 0;
    for (int i = 0; i < TREE_PARTS && at < size; i++)
        at += (size_t)snprintf(ret + at, size - at, "%s", part[i]);
}

static void line_waiting(const struct progress *p, keel_ns now, char *ret,
                         size_t size)
{
    keel_ns left = p->waiting_until - now;
    char clock[32];

    text_clock(left > 0 ? (left + KEEL_SECOND - 1) / KEEL_SECOND : 0, clock,
               sizeof(clock));
    snprintf(ret, size, "Again in %s: %s", clock, p->waiting);
}

void progress_line(const struct progress *p, keel_ns now, unsigned columns,
                   char *ret, size_t size)
{
    unsigned taken;

    if (p->waiting_until)
        line_waiting(p, now, ret, size);
    else if (p->tree)
        line_tree(p, now, columns, ret, size);
    else
        line_one(p, now, columns, ret, size);
    ret[text_fit(ret, columns, &taken)] = 0;
}

/* ---- drawing --------------------------------------------------------------------- */

/* Whatever becomes of it: a terminal that was stopped, or is gone. */
static void put_out(const char *text)
{
    (void)keel_fd_write_now(2, text, strlen(text));
}

static void draw(struct progress *p)
{
    struct winsize w;
    char line[1024], out[1040];
    unsigned columns = 80;

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
    p->mark = now;
    p->mark_done = p->done;
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
    p->since_done = p->mark_done = p->began_with;
    p->shown = c->verbose >= 0 && !c->json && isatty(2);
    interrupt_transfer(true, p->shown);
    if (p->shown && keel_spawn(&how, drawer_run, p, &p->drawer) < 0)
        p->drawer = NULL;
}

void progress_start(struct progress *p, const struct cli *c, const char *name,
                    uint64_t total, uint64_t done)
{
    memset(p, 0, sizeof(*p));
    text_escape(name, strlen(name), p->name, sizeof(p->name));
    p->total = total;
    p->done = p->began_with = done;
    start(p, c);
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
    if (!p->tree && p->done > p->total)
        p->done = p->total; /* a chunk that was sent twice */
}

void progress_skip(struct progress *p, int64_t bytes)
{
    p->done += (uint64_t)bytes;
    p->began_with += (uint64_t)bytes;
    p->since_done += (uint64_t)bytes;
    p->mark_done += (uint64_t)bytes;
}

static void less(uint64_t *n, uint64_t by)
{
    *n -= *n < by ? *n : by;
}

void progress_back(struct progress *p, uint64_t bytes)
{
    less(&p->done, bytes);
    less(&p->since_done, bytes);
    less(&p->mark_done, bytes);
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
}

void progress_clear(struct progress *p)
{
    if (p->shown)
        put_out("\r\x1b[K");
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
}

void progress_summary(const struct progress *p, char *ret, size_t size)
{
    uint64_t moved = p->done > p->began_with ? p->done - p->began_with : 0;
    keel_ns span = keel_now() - p->started;
    char bytes[32];

    text_bytes(moved, bytes);
    snprintf(ret, size, "%s in %.1f s, %.0f MB/s", bytes, (double)span / 1e9,
             per_second(moved, span) / 1e6);
}
