/* SPDX-License-Identifier: MIT */
/* A loop's coroutines are its own business, so each loop prints itself: the
 * asker leaves an order and waits a second for the answer.
 *
 *   NONE --asker--> ASKED --loop--> ANSWERS --loop--> NONE
 *                     |
 *                     +--asker, who waited long enough--> NONE */
#include <keel/debug.h>

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"
#include "switch.h"

#define PATIENCE KEEL_SECOND
#define FRAMES_MOST 24

enum { NONE, ASKED, ANSWERS };

struct dump_order {
    int fd;
    struct waiter waiter;
};

/* One dump at a time. */
static struct keel_lock dumping = KEEL_LOCK_INIT;

/* ---- printing ---- */

/* Text on its way to a descriptor. */
struct page {
    int fd;
    size_t used;
    char text[2048];
};

static void page_flush(struct page *p)
{
    size_t done = 0;

    while (done < p->used) {
        ssize_t n = write(p->fd, p->text + done, p->used - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break; /* nobody to tell */
        done += (size_t)n;
    }
    p->used = 0;
}

__attribute__((format(printf, 2, 3))) static void print(struct page *p,
                                                        const char *format, ...)
{
    va_list args;
    int n;

    if (sizeof p->text - p->used < 512)
        page_flush(p);
    va_start(args, format);
    n = vsnprintf(p->text + p->used, sizeof p->text - p->used, format, args);
    va_end(args);
    if (n > 0)
        p->used += (size_t)n < sizeof p->text - p->used
                       ? (size_t)n
                       : sizeof p->text - p->used - 1;
}

static void print_seconds(struct page *p, const char *before, keel_ns span)
{
    if (span < 0)
        span = 0;
    print(p, "%s%lld.%03lld s", before, (long long)(span / KEEL_SECOND),
          (long long)(span % KEEL_SECOND / KEEL_MS));
}

static void print_frame(struct page *p, int nr, uintptr_t pc)
{
    Dl_info info;
    const char *file;

    /* The call is before the address it returns to. */
    if (!dladdr((void *)(pc - 1), &info) || !info.dli_fname) {
        print(p, "      #%d 0x%lx\n", nr, (unsigned long)pc);
        return;
    }
    file = strrchr(info.dli_fname, '/');
    print(p, "      #%d 0x%lx %s+0x%lx%s%s\n", nr, (unsigned long)pc,
          file ? file + 1 : info.dli_fname,
          (unsigned long)(pc - (uintptr_t)info.dli_fbase),
          info.dli_sname ? " " : "", info.dli_sname ? info.dli_sname : "");
}

/* Follows the frame pointers; code built without them ends the walk early, but
 * never leads off the stack. */
static void print_backtrace(struct page *p, const struct body *b)
{
    uintptr_t low = (uintptr_t)b->stack->low, top = (uintptr_t)b;
    void *pc, *frame;

    if (!switch_where(b->co->sp, &pc, &frame))
        return;
    for (int nr = 0; nr < FRAMES_MOST && pc; nr++) {
        uintptr_t at = (uintptr_t)frame;

        print_frame(p, nr, (uintptr_t)pc);
        if (at < low || at > top - 2 * sizeof at || at % sizeof at)
            break;
        pc = ((void **)frame)[1];
        frame = ((void **)frame)[0];
        low = at + 1; /* frames only rise */
    }
}

static void print_waiting(struct page *p, struct body *b, keel_ns now)
{
    struct waiter *w = b->waits;

    print(p, "waiting: %s", w->what);
    print_seconds(p, ", for ", now - b->since);
    if (w->timed)
        print_seconds(p, ", at most ", w->deadline - now);
    print(p, "%s\n", w->always || b->shields ? ", shielded" : "");
    print_backtrace(p, b);
}

static void print_body(struct page *p, struct keel_loop *l, struct body *b,
                       keel_ns now)
{
    print(p, "  '%s' [%s]%s ", b->name, l->name,
          atomic_load_explicit(&b->co->cancelled, memory_order_relaxed)
              ? " cancelled,"
              : "");
    if (b->co == l->current)
        print(p, "running\n");
    else if (b->paused)
        print(p, "not begun\n");
    else if (!b->waits || atomic_load(&b->waits->state) != ARMED)
        print(p, "ready\n");
    else
        print_waiting(p, b, now);
}

static void print_loop(int fd, struct keel_loop *l)
{
    struct page page = {.fd = fd};
    keel_ns now = keel_now();

    print(&page, "loop '%s' (%s): %zu coroutines\n", l->name,
          l->poller->is->name,
          atomic_load_explicit(&l->alive, memory_order_relaxed));
    for (struct body *b = l->bodies; b; b = b->next)
        print_body(&page, l, b, now);
    page_flush(&page);
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
    struct page page = {.fd = fd};

    print(&page,
          "loop '%s': does not answer: one of its coroutines has run for more "
          "than a second without waiting\n",
          l->name);
    page_flush(&page);
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
