/* SPDX-License-Identifier: MIT */
#include "client/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/name.h"
#include "client/interrupt.h"

#define REDRAW (100 * KEEL_MS)
#define BAR_MOST 40

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

/* MB/s of what moved in this run: what was there before is not our speed. */
static double rate(const struct progress *p, keel_ns now)
{
    double seconds = (double)(now - p->started) / 1e9;

    return seconds > 0 ? (double)(p->done - p->began_with) / seconds : 0;
}

void progress_line(const struct progress *p, keel_ns now, unsigned columns,
                   char *ret, size_t size)
{
    char done[32], total[32], left[32], tail[160], bar[BAR_MOST + 4] = "";
    double speed = rate(p, now);
    unsigned percent =
        p->total ? (unsigned)((double)p->done * 100 / (double)p->total) : 100;
    size_t tail_size, name_size = strlen(p->name), room;

    if (columns >= size)
        columns = (unsigned)size - 1;
    text_bytes(p->done, done);
    text_bytes(p->total, total);
    text_clock(speed > 0 ? (int64_t)((double)(p->total - p->done) / speed) : -1,
               left, sizeof(left));
    snprintf(tail, sizeof(tail), " %s/%s %.0f MB/s %s", done, total,
             speed / 1e6, left);
    if (columns < 40)
        snprintf(tail, sizeof(tail), " %.0f MB/s", speed / 1e6);
    tail_size = strlen(tail);
    /* What is left goes to the name first, then to the bar. */
    room = columns > tail_size + 5 ? columns - tail_size - 5 : 0;
    if (name_size > room)
        name_size = room;
    while (name_size > 0 && ((uint8_t)p->name[name_size] & 0xc0) == 0x80)
        name_size--; /* between characters */
    room -= name_size;
    if (room >= 10) {
        unsigned width = room - 3 > BAR_MOST ? BAR_MOST : (unsigned)room - 3;
        unsigned full = percent >= 100 ? width : percent * width / 100;

        bar[0] = ' ';
        bar[1] = '[';
        memset(bar + 2, ' ', width);
        memset(bar + 2, '#', full);
        bar[2 + width] = ']';
        bar[3 + width] = 0;
    }
    snprintf(ret, size, "%.*s%4u%%%s%s", (int)name_size, p->name, percent, bar,
             tail);
    ret[columns < size ? columns : size - 1] = 0;
}

static void draw(struct progress *p)
{
    struct winsize w;
    char line[512], out[520];
    unsigned columns = 80;

    if (ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        columns = w.ws_col;
    /* The last column stays free: some terminals wrap there. */
    progress_line(p, keel_now(), columns - 1, line, sizeof(line));
    snprintf(out, sizeof(out), "\r%s\x1b[K", line);
    fputs(out, stderr);
}

static int drawer_run(void *arg)
{
    struct progress *p = arg;

    while (keel_sleep(keel_after(REDRAW)) == 0)
        draw(p);
    return 0;
}

void progress_start(struct progress *p, const struct cli *c, const char *name,
                    uint64_t total, uint64_t done)
{
    struct keel_spawn how = {.name = "progress"};

    memset(p, 0, sizeof(*p));
    text_escape(name, strlen(name), p->name, sizeof(p->name));
    p->total = total;
    p->done = p->began_with = done;
    p->started = keel_now();
    p->shown = c->verbose >= 0 && !c->json && isatty(2);
    interrupt_transfer(true, p->shown);
    if (p->shown && keel_spawn(&how, drawer_run, p, &p->drawer) < 0)
        p->drawer = NULL;
}

void progress_moved(void *progress, uint64_t bytes)
{
    struct progress *p = progress;

    p->done += bytes;
    if (p->done > p->total)
        p->done = p->total; /* a chunk that was sent twice */
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
    if (p->shown)
        fputs("\r\x1b[K", stderr);
    p->shown = false;
}

void progress_summary(const struct progress *p, char *ret, size_t size)
{
    keel_ns now = keel_now();
    char bytes[32];

    text_bytes(p->done - p->began_with, bytes);
    snprintf(ret, size, "%s in %.1f s, %.0f MB/s", bytes,
             (double)(now - p->started) / 1e9, rate(p, now) / 1e6);
}
