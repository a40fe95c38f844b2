/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/lock.h>

#include "sanitize.h"
#include "switch.h"
#include "symbol.h"
#include "worker.h"

/* ---- text ---- */

enum { ROOM = 1024, PAGE_MOST = 1 << 20 };

static bool page_grow(struct page *p)
{
    size_t size = p->size ? p->size * 2 : 4 * ROOM;
    char *grown;

    if (p->fixed || size > PAGE_MOST)
        return false;
    /* Not the seam's: a test's faults are for the program, not for who
     * watches it. */
    grown = realloc(p->text, size);
    if (!grown)
        return false;
    p->text = grown;
    p->size = size;
    return true;
}

void page_print(struct page *p, const char *format, ...)
{
    size_t room;
    va_list args;
    int n;

    if (p->size - p->used < ROOM && !page_grow(p) && !p->text)
        return;
    room = p->size - p->used;
    va_start(args, format);
    n = vsnprintf(p->text + p->used, room, format, args);
    va_end(args);
    if (n > 0)
        p->used += (size_t)n < room ? (size_t)n : room - 1;
}

void page_seconds(struct page *p, const char *before, keel_ns span)
{
    if (span < 0)
        span = 0;
    page_print(p, "%s%lld.%03lld s", before, (long long)(span / KEEL_SECOND),
               (long long)(span % KEEL_SECOND / KEEL_MS));
}

void page_flush(struct page *p, int fd)
{
    size_t done = 0;

    while (done < p->used) {
        ssize_t n = write(fd, p->text + done, p->used - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break; /* nobody to tell */
        done += (size_t)n;
    }
    p->used = 0;
}

void page_fini(struct page *p)
{
    free(p->text);
    *p = (struct page){0};
}

/* ---- frames ---- */

#ifdef KEEL_ASAN
__attribute__((no_sanitize("address")))
#endif
void frames_walk(struct frames *f, void *frame, uintptr_t low, uintptr_t top)
{
    while (f->count < FRAMES_MOST) {
        uintptr_t at = (uintptr_t)frame;
        void *pc;

        if (at < low || at > top - 2 * sizeof at || at % sizeof at)
            return;
        pc = ((void **)frame)[1];
        frame = ((void **)frame)[0];
        low = at + 1; /* frames only rise */
        if (!pc)
            return;
        f->pc[f->count++] = pc;
    }
}

void frames_parked(struct frames *f, const struct body *b)
{
    void *pc, *frame;

    f->count = 0;
    if (!switch_where(b->co->sp, &pc, &frame))
        return;
    f->pc[f->count++] = pc;
    frames_walk(f, frame, (uintptr_t)b->stack->low, (uintptr_t)b);
}

void frames_thread(struct frames *f, const struct presence *p)
{
    pthread_attr_t attr;
    void *low = NULL;
    size_t size = 0;

    f->count = 0;
    if (!p->frame || pthread_getattr_np(p->thread, &attr) != 0)
        return;
    pthread_attr_getstack(&attr, &low, &size);
    pthread_attr_destroy(&attr);
    frames_walk(f, p->frame, (uintptr_t)low, (uintptr_t)low + size);
}

void frames_here(struct frames *f, void *frame)
{
    struct keel_loop *l = loop_here;
    pthread_attr_t attr;
    void *low = NULL;
    size_t size = 0;

    if (l && l->current && l->current->body) {
        const struct body *b = l->current->body;

        frames_walk(f, frame, (uintptr_t)b->stack->low, (uintptr_t)b);
        return;
    }
    if (worker_is_simulated()) {
        worker_class->stack(&low, &size);
    } else if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        pthread_attr_getstack(&attr, &low, &size);
        pthread_attr_destroy(&attr);
    }
    frames_walk(f, frame, (uintptr_t)low, (uintptr_t)low + size);
}

/* The call is before the address it returns to. */
static bool symbol_of(void *pc, struct symbol *ret)
{
    return symbol_find((uintptr_t)pc - 1, ret);
}

static void page_frame(struct page *p, int nr, void *pc)
{
    struct symbol s;

    page_print(p, "      #%d 0x%lx", nr, (unsigned long)(uintptr_t)pc);
    if (symbol_of(pc, &s)) {
        page_print(p, " %s+0x%lx", s.file, (unsigned long)s.at + 1);
        if (s.name[0])
            page_print(p, " %s+0x%lx", s.name, (unsigned long)s.after + 1);
    }
    page_print(p, "\n");
}

void page_frames(struct page *p, const struct frames *f)
{
    for (int i = 0; i < f->count; i++)
        page_frame(p, i, f->pc[i]);
}

/* The frames of keel that are innermost. */
static int frames_of_keel(const struct frames *f)
{
    struct symbol s = {0};
    int count = 0;

    while (count < f->count && symbol_of(f->pc[count], &s) && s.in_keel)
        count++;
    return count;
}

void page_place(struct page *p, const struct frames *f)
{
    int caller = frames_of_keel(f);
    struct symbol s = {0};

    if (caller == 0 || caller >= f->count || !symbol_of(f->pc[caller], &s))
        return;
    if (s.name[0])
        page_print(p, ", at %s+0x%lx", s.name, (unsigned long)s.after + 1);
    else
        page_print(p, ", at %s+0x%lx", s.file, (unsigned long)s.at + 1);
}

/* What the call before `pc` calls, if it says so itself: a function that ended
 * in a jump to another left no frame.  NULL: it does not. */
static void *called_before(const void *pc)
{
#ifdef __x86_64__
    const unsigned char *call = (const unsigned char *)pc - 5;
    int32_t offset;

    if (*call != 0xe8)
        return NULL;
    memcpy(&offset, call + 1, sizeof offset);
    return (char *)(uintptr_t)pc + offset;
#else
    (void)pc;
    return NULL;
#endif
}

void page_call(struct page *p, const struct frames *f)
{
    int keel = frames_of_keel(f);
    struct symbol s = {0}, called = {0};
    void *to = keel && keel < f->count ? called_before(f->pc[keel]) : NULL;

    if (to && symbol_of((char *)to + 1, &called) &&
        strncmp(called.name, "keel_", 5) == 0)
        page_print(p, "%s", called.name);
    else if (f->count && symbol_of(f->pc[keel ? keel - 1 : 0], &s) && s.name[0])
        page_print(p, "%s", s.name);
    else
        page_print(p, "a call in %s", s.file[0] ? s.file : "an unknown place");
}

/* ---- who ---- */

/* A handle's memory is never anything else, so that looking is always safe;
 * whether it is still the same coroutine's its age tells.  Bodies are looked
 * at only where that is safe too: see page_what. */
static void page_co(struct page *p, const struct keel_co *co,
                    const struct keel_loop *l)
{
    const struct keel_loop *of = co->loop;

    if (l && of != l)
        page_print(p, "a coroutine of another loop");
    else
        page_print(p, "'%s' [%s]", co->body->name, of->name);
}

static void page_thread(struct page *p, const void *worker)
{
    const struct presence *t;

    for (t = p->census_held ? census_first() : census_hold();
         t && t->worker != worker; t = t->next)
        ;
    if (t)
        page_print(p, "thread '%s'", t->name);
    else
        page_print(p, "a thread");
    if (!p->census_held)
        census_drop();
}

static void page_owner(struct page *p, struct owner o,
                       const struct keel_loop *l)
{
    const struct keel_co *co = o.who;

    if (!o.who)
        return;
    page_print(p, ", held by ");
    if (owner_is_thread(o))
        page_thread(p, o.who);
    else if (atomic_load_explicit(&co->serial, memory_order_relaxed) != o.age ||
             handle_is_over(co))
        page_print(p, "a coroutine that has ended");
    else
        page_co(p, co, l);
}

static void page_lock(struct page *p, struct keel_lock *lock,
                      const struct keel_loop *l)
{
    struct owner o = {0};

    waitlist_hold(&lock->waiters);
    if (lock->held)
        o = (struct owner){lock->owner, lock->owner_age};
    waitlist_drop(&lock->waiters);
    page_owner(p, o, l);
}

static void page_rwlock(struct page *p, struct keel_rwlock *lock,
                        const struct keel_loop *l)
{
    struct owner o = {0};
    size_t reading;

    waitlist_hold(&lock->readers);
    reading = lock->reading;
    if (lock->writing)
        o = (struct owner){
            __atomic_load_n(&lock->writer, __ATOMIC_RELAXED),
            __atomic_load_n(&lock->writer_age, __ATOMIC_RELAXED)};
    waitlist_drop(&lock->readers);
    if (reading)
        page_print(p, ", which %zu read%s", reading, reading == 1 ? "s" : "");
    page_owner(p, o, l);
}

void page_what(struct page *p, const struct waiter *w,
               const struct keel_loop *l)
{
    void *on = (void *)(uintptr_t)w->on; /* its hold is taken */

    page_print(p, "%s", w->what);
    if (!on)
        return;
    if (strcmp(w->what, "join") == 0) {
        page_print(p, " of ");
        if (handle_is_over(on))
            page_print(p, "one that has ended");
        else
            page_co(p, on, l);
        return;
    }
    page_print(p, " %p", on);
    if (strcmp(w->what, "lock") == 0)
        page_lock(p, on, l);
    else if (strcmp(w->what, "read lock") == 0 ||
             strcmp(w->what, "write lock") == 0)
        page_rwlock(p, on, l);
}

/* ---- telling ---- */

static pthread_mutex_t hook_lock = PTHREAD_MUTEX_INITIALIZER;
static keel_report_fn *hook;
static void *hook_arg;

void keel_on_report(keel_report_fn *fn, void *arg)
{
    pthread_mutex_lock(&hook_lock);
    hook = fn;
    hook_arg = arg;
    pthread_mutex_unlock(&hook_lock);
}

void report(enum keel_report kind, struct page *p)
{
    keel_report_fn *fn;
    void *arg;

    if (!p->text)
        return;
    pthread_mutex_lock(&hook_lock);
    fn = hook;
    arg = hook_arg;
    pthread_mutex_unlock(&hook_lock);
    if (fn)
        fn(kind, p->text, arg);
    else
        page_flush(p, STDERR_FILENO);
}
