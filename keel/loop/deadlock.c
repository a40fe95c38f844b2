/* SPDX-License-Identifier: MIT */
/* Everything waits, and nothing can come.
 *
 * Who falls asleep without a deadline says so, by a word that is odd meanwhile
 * and steps each time (a loop's `rests`, a thread's `naps`).  Somebody who has
 * slept for a while looks twice at all these words.  If they are odd and the
 * same both times, all of those threads were asleep at once, at the moment
 * between the two looks; when the process had no other thread then, and nothing
 * was on its way to a loop or a waiter, nobody is left to do anything.  One who
 * looks counts as asleep: it wakes nobody.
 *
 * From then on nothing moves, so that the loops' coroutines may be looked at
 * from here. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"
#include "sanitize.h"
#include "worker.h"

enum { REPORTED_MOST = 32 };

/* TSan may have a thread of its own. */
#ifdef KEEL_TSAN
enum { TOOLS = 1 };
#else
enum { TOOLS = 0 };
#endif

static _Atomic bool off;
static pthread_mutex_t looking = PTHREAD_MUTEX_INITIALIZER;
static uint64_t last_reported; /* under `looking` */

void keel_deadlock_watch(bool on)
{
    atomic_store(&off, !on);
}

keel_ns deadlock_patience(unsigned looks)
{
    return looks < 5 && !worker_is_simulated() &&
                   !atomic_load_explicit(&off, memory_order_relaxed)
               ? (KEEL_SECOND / 2) << looks
               : KEEL_FOREVER;
}

/* ---- the looks ---- */

struct look {
    unsigned threads; /* that are accounted for */
    uint64_t words;   /* all of them, mixed */
    uint64_t ran;     /* grows when anything runs */
};

static void note(struct look *k, uint64_t word)
{
    k->threads++;
    k->words = (k->words ^ word) * UINT64_C(0x9e3779b97f4a7c15);
}

static bool loops_sleep(struct look *k)
{
    for (struct keel_loop *l = loops_first(); l; l = l->all_next) {
        uint64_t rests = atomic_load(&l->rests);

        k->ran += count_of(&l->counts.switches);
        if (!loop_is_open(l))
            continue;
        if (!(rests & 1) || loop_has_news(l))
            return false;
        note(k, rests);
    }
    return true;
}

/* The census held. */
static bool sleeps(struct presence *p, uint64_t naps)
{
    bool armed;

    waitlist_hold(&p->hold);
    armed = p->waits && atomic_load(&p->waits->state) == ARMED;
    waitlist_drop(&p->hold);
    return (naps & 1) && armed;
}

static bool threads_sleep(struct look *k)
{
    bool all = true;

    for (struct presence *p = census_hold(); p && all; p = p->next) {
        uint64_t naps = atomic_load(&p->naps);

        if (atomic_load(&p->loop))
            continue; /* counted as such */
        if (p->service) {
            k->threads++;
            continue;
        }
        all = sleeps(p, naps);
        note(k, naps);
        k->ran += naps;
    }
    census_drop();
    return all;
}

_Atomic unsigned processes_under_way;

static bool all_sleep(struct look *k)
{
    *k = (struct look){0};
    return loops_sleep(k) && threads_sleep(k) &&
           atomic_load(&blocking_under_way) == 0 &&
           atomic_load(&processes_under_way) == 0;
}

/* Of the process; 0: nobody says. */
static unsigned threads_count(void)
{
    char text[4096];
    const char *line;
    ssize_t n;
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    line = strstr(text, "\nThreads:");
    return line ? (unsigned)strtoul(line + strlen("\nThreads:"), NULL, 10) : 0;
}

static bool nobody_else(const struct look *k)
{
    unsigned count = threads_count();

    return count >= k->threads && count <= k->threads + TOOLS;
}

/* ---- who waits ---- */

/* Those who wait, and whether one of them means to. */
struct victims {
    size_t coroutines, threads, told;
    bool meant;
};

static bool waits(const struct body *b)
{
    return b->waits && atomic_load(&b->waits->state) == ARMED;
}

static void count_one(struct victims *v, size_t *count, const struct waiter *w)
{
    (*count)++;
    if (strcmp(w->what, "sleep") == 0)
        v->meant = true;
}

static void count_victims(struct victims *v)
{
    for (struct keel_loop *l = loops_first(); l; l = l->all_next)
        for (struct body *b = loop_is_open(l) ? l->bodies : NULL; b;
             b = b->next)
            if (waits(b))
                count_one(v, &v->coroutines, b->waits);
    for (struct presence *p = census_hold(); p; p = p->next)
        if (!p->service && !atomic_load(&p->loop))
            count_one(v, &v->threads, p->waits);
    census_drop();
}

static void tell_co(struct page *p, struct keel_loop *l, struct body *b)
{
    struct frames f;

    frames_parked(&f, b);
    page_print(p, "  '%s' [%s] waits: ", b->name, l->name);
    page_what(p, b->waits, NULL);
    page_seconds(p, ", for ", keel_now() - b->since);
    page_place(p, &f);
    page_print(p, "\n");
    page_frames(p, &f);
}

static void tell_thread(struct page *p, struct presence *t)
{
    struct frames f;

    frames_thread(&f, t);
    page_print(p, "  thread '%s' waits: ", t->name);
    page_what(p, t->waits, NULL);
    page_seconds(p, ", for ", real_clock() - t->since);
    page_place(p, &f);
    page_print(p, "\n");
    page_frames(p, &f);
}

static void tell_loop(struct page *p, struct keel_loop *l, struct victims *v)
{
    for (struct body *b = l->bodies; b; b = b->next)
        if (waits(b) && v->told++ < REPORTED_MOST)
            tell_co(p, l, b);
}

static void tell_threads(struct page *p, struct victims *v)
{
    p->census_held = true;
    for (struct presence *t = census_hold(); t; t = t->next)
        if (!t->service && !atomic_load(&t->loop) && v->told++ < REPORTED_MOST)
            tell_thread(p, t);
    census_drop();
    p->census_held = false;
}

static void tell(struct victims *v)
{
    struct page p = {0};

    page_print(&p,
               "keel: deadlock: %zu coroutine%s and %zu thread%s wait, and "
               "nothing is left that could wake them\n",
               v->coroutines, v->coroutines == 1 ? "" : "s", v->threads,
               v->threads == 1 ? "" : "s");
    for (struct keel_loop *l = loops_first(); l; l = l->all_next)
        if (loop_is_open(l))
            tell_loop(&p, l, v);
    tell_threads(&p, v);
    if (v->told > REPORTED_MOST)
        page_print(&p, "  and %zu more\n", v->told - REPORTED_MOST);
    report(KEEL_REPORT_DEADLOCK, &p);
    page_fini(&p);
}

void deadlock_look(void)
{
    struct victims v = {0};
    struct look first, second;

    /* Who looks meanwhile sees what we would. */
    if (pthread_mutex_trylock(&looking) != 0)
        return;
    if (all_sleep(&first) && nobody_else(&first) && all_sleep(&second) &&
        first.threads == second.threads && first.words == second.words &&
        second.ran != last_reported) {
        count_victims(&v);
        if (v.coroutines + v.threads > 0 && !v.meant) {
            last_reported = second.ran;
            tell(&v);
        }
    }
    pthread_mutex_unlock(&looking);
}
