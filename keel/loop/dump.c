/* SPDX-License-Identifier: MIT */
/* A loop's coroutines are its own business, so each loop prints itself: the
 * asker leaves an order and waits a second for the answer.
 *
 *   NONE --asker--> ASKED --loop--> ANSWERS --loop--> NONE
 *                     |
 *                     +--asker, who waited long enough--> NONE */
#include <keel/debug.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#include "report.h"
#include "watchdog.h"

#define PATIENCE KEEL_SECOND

enum { NONE, ASKED, ANSWERS };

struct dump_order {
    int fd;
    struct waiter waiter;
};

/* One dump at a time. */
static struct keel_lock dumping = KEEL_LOCK_INIT;

/* ---- printing ---- */

/* A page is written before it is as long as this, where no lock is held. */
enum { PAGE_USUAL = 16384 };

static void page_waiting(struct page *p, struct keel_loop *l, struct body *b,
                         keel_ns now)
{
    struct waiter *w = b->waits;
    struct frames f;

    frames_parked(&f, b);
    page_print(p, "waiting: ");
    page_what(p, w, l);
    page_seconds(p, ", for ", now - b->since);
    if (w->timed)
        page_seconds(p, ", at most ", w->deadline - now);
    if (w->always || b->shields)
        page_print(p, ", shielded");
    page_place(p, &f);
    page_print(p, "\n");
    page_frames(p, &f);
}

static void page_body(struct page *p, struct keel_loop *l, struct body *b,
                      keel_ns now)
{
    page_print(p, "  '%s' [%s]%s ", b->name, l->name,
               atomic_load_explicit(&b->co->cancelled, memory_order_relaxed)
                   ? " cancelled,"
                   : "");
    if (b->co == l->current)
        page_print(p, "running\n");
    else if (b->paused)
        page_print(p, "not begun\n");
    else if (!b->waits || atomic_load(&b->waits->state) != ARMED)
        page_print(p, "ready\n");
    else
        page_waiting(p, l, b, now);
}

static void print_loop(int fd, struct keel_loop *l)
{
    struct page page = {0};
    keel_ns now = keel_now();

    page_print(&page, "loop '%s' (%s): %zu coroutines\n", l->name,
               l->poller->is->name,
               atomic_load_explicit(&l->alive, memory_order_relaxed));
    for (struct body *b = l->bodies; b; b = b->next) {
        page_body(&page, l, b, now);
        if (page.used >= PAGE_USUAL)
            page_flush(&page, fd);
    }
    page_flush(&page, fd);
    page_fini(&page);
}

/* Its hold is held: it stays where it is. */
static void page_nap(struct page *p, const struct presence *t, keel_ns now)
{
    struct frames f;

    frames_thread(&f, t);
    page_print(p, "waiting: ");
    /* No coroutine can be looked at from here. */
    page_what(p, t->waits, NOBODYS);
    page_seconds(p, ", for ", real_clock() - t->since);
    if (t->deadline != KEEL_FOREVER && !t->service)
        page_seconds(p, ", at most ", t->deadline - now);
    page_place(p, &f);
    page_print(p, "\n");
    page_frames(p, &f);
}

static void page_thread_line(struct page *p, struct presence *t, keel_ns now)
{
    struct keel_loop *l = atomic_load(&t->loop);

    page_print(p, "  '%s' [%ld] ", t->name, (long)t->id);
    waitlist_hold(&t->hold);
    if (l)
        page_print(p, "runs loop '%s'\n", l->name);
    else if (t->waits && atomic_load(&t->waits->state) == ARMED)
        page_nap(p, t, now);
    else
        page_print(p, "%s\n", t->service ? "serves" : "running");
    waitlist_drop(&t->hold);
}

/* In one piece: nothing is written while the census is held. */
static void print_threads(int fd)
{
    struct page page = {.census_held = true};
    keel_ns now = keel_now();
    size_t count = 0;

    for (struct presence *t = census_hold(); t; t = t->next)
        count++;
    page_print(&page, "threads: %zu\n", count);
    for (struct presence *t = census_first(); t; t = t->next)
        page_thread_line(&page, t, now);
    census_drop();
    page_flush(&page, fd);
    page_fini(&page);
}

void (*_Atomic dump_processes)(struct page *p);

static void print_processes(int fd)
{
    void (*fn)(struct page * p) = atomic_load(&dump_processes);
    struct page page = {0};

    if (!fn)
        return;
    fn(&page);
    page_flush(&page, fd);
    page_fini(&page);
}

/* ---- asking and answering ---- */

void dump_answer(struct keel_loop *l)
{
    uint32_t asked = ASKED;
    struct dump_order *order;

    if (!atomic_compare_exchange_strong(&l->request, &asked, ANSWERS))
        return;
    order = atomic_load(&l->order);
    print_loop(order->fd, l);
    waiter_wake(&order->waiter);
    atomic_store(&l->request, NONE);
}

static void say_busy(int fd, struct keel_loop *l)
{
    struct page page = {0};
    struct stack_look k;

    if (stack_look(l, &k) && k.in_coroutine) {
        page_print(&page,
                   "loop '%s': does not answer: '%s' has run for more than a "
                   "second without waiting\n",
                   l->name, k.name);
        page_frames(&page, &k.frames);
    } else {
        page_print(&page, "loop '%s': does not answer\n", l->name);
    }
    page_flush(&page, fd);
    page_fini(&page);
}

static void ask(int fd, struct keel_loop *l)
{
    struct dump_order order = {.fd = fd};
    uint32_t asked = ASKED;

    waiter_arm(&order.waiter, "dump");
    atomic_store(&l->order, &order);
    atomic_store(&l->request, ASKED);
    loop_poke(l);
    if (waiter_sleep(&order.waiter, keel_after(PATIENCE)) < 0 &&
        atomic_compare_exchange_strong(&l->request, &asked, NONE)) {
        say_busy(fd, l);
        return;
    }
    /* Its last touch of the order and of the request is still to come. */
    while (atomic_load(&l->request) != NONE)
        keel_yield();
}

void keel_dump(int fd)
{
    keel_ns *scope = wait_scope(), outer = *scope;

    /* A dump is most wanted when things are late. */
    *scope = KEEL_FOREVER;
    keel_shield();
    keel_lock_hold(&dumping);
    for (struct keel_loop *l = loops_first(); l; l = l->all_next) {
        if (l == loop_here)
            print_loop(fd, l);
        else if (loop_is_open(l))
            ask(fd, l);
    }
    print_threads(fd);
    print_processes(fd);
    keel_lock_drop(&dumping);
    keel_unshield();
    *scope = outer;
}

/* ---- on a signal ---- */

static sem_t wanted;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_rc;

static void *dumper(void *arg)
{
    presence_serve("keel-dump");
    pthread_setname_np(pthread_self(), "keel-dump");
    for (;;) {
        while (sem_wait(&wanted) < 0)
            ; /* interrupted */
        keel_dump(STDERR_FILENO);
    }
    return arg;
}

static void on_signal(int signal)
{
    int saved = errno;

    (void)signal;
    sem_post(&wanted);
    errno = saved;
}

static void start_dumper(void)
{
    pthread_t thread;
    sigset_t all, before;

    sem_init(&wanted, 0, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    once_rc = -pthread_create(&thread, NULL, dumper, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (once_rc == 0)
        pthread_detach(thread);
}

int keel_dump_on_signal(int signal)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    pthread_once(&once, start_dumper);
    if (once_rc < 0)
        return once_rc;
    sigemptyset(&sa.sa_mask);
    return sigaction(signal, &sa, NULL) < 0 ? -errno : 0;
}
