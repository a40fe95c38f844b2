/* SPDX-License-Identifier: MIT */
/* Plain threads, for work that must own one: keel's calls block in them.
 *
 *   NEW --begin--> ALIVE --fn returns--> ENDED --join--> (gone)
 *
 * A handle belongs to who made the thread, and is given back once: by a join
 * that succeeds or by keel_thread_free.
 *
 * When the program ends by exit(3) or a return from main, it waits for the
 * threads that are not daemons, and for no daemon.  _exit(2) and a signal wait
 * for nobody, nor does a child of fork(2), in which there are no threads. */
#ifndef KEEL_THREAD_H
#define KEEL_THREAD_H

#include <keel/base.h>

struct keel_thread;

struct keel_thread_how {
    const char *name;   /* cut to 15 bytes; NULL: "thread" */
    bool daemon;        /* the program's end does not wait for it */
    size_t stack_bytes; /* 0: the system's (ulimit -s, mostly 8 MiB) */
};

/* Makes a thread that has not begun.  `how` may be NULL.  -ENOMEM */
KEEL_API int keel_thread_new(const struct keel_thread_how *how,
                             int (*fn)(void *arg), void *arg,
                             struct keel_thread **ret);
/* It runs fn(arg), with all signals blocked but those by which the processor
 * reports a fault.
 * -EALREADY  it began before: a thread runs once
 * -EAGAIN    the limit of threads (RLIMIT_NPROC, kernel.threads-max)
 * -ENOMEM    no memory for its stack
 * -EINVAL    no stack can be as small as `stack_bytes` */
KEEL_API int keel_thread_begin(struct keel_thread *t);
/* Both at once: a thread that is no daemon. */
KEEL_API int keel_thread_start(const char *name, int (*fn)(void *arg),
                               void *arg, struct keel_thread **ret);

/* Waits for its end, from a coroutine or a thread, and frees the handle.
 * -EDEADLK    it is the caller itself
 * -ESRCH      it has not begun
 * -EINVAL     somebody else joins it already
 * -ETIMEDOUT  it still runs, and the handle stays valid
 * -ECANCELED  the caller is being cancelled; the handle stays valid */
KEEL_API int keel_thread_join(struct keel_thread *t, keel_ns deadline,
                              int *ret_result);
/* Gives the handle back without waiting; a thread that runs goes on, and its
 * result is dropped. */
KEEL_API void keel_thread_free(struct keel_thread *t);
KEEL_AUTO(thread, struct keel_thread *, keel_thread_free)

/* Asks it to end, as keel_cancel does a coroutine: its waits by keel return
 * -ECANCELED from now on, and those of the first coroutine of a keel_run in it.
 * From any thread, also before it begins. */
KEEL_API void keel_thread_cancel(struct keel_thread *t);

/* ---- who is who ----
 * NULL is the calling thread, whoever started it. */

/* It has begun and its function has not returned. */
KEEL_API bool keel_thread_is_alive(const struct keel_thread *t);
/* Lent as long as the thread; of a thread that keel did not start, until its
 * next call. */
KEEL_API const char *keel_thread_name(const struct keel_thread *t);
/* The kernel's number of the thread, as ps -L shows it; 0 before it begins.
 * Used again by the kernel some time after its end. */
KEEL_API pid_t keel_thread_id(const struct keel_thread *t);
KEEL_API bool keel_thread_is_daemon(const struct keel_thread *t);
/* The calling thread, borrowed; NULL when it is not one of these. */
KEEL_API struct keel_thread *keel_thread_current(void);

struct keel_thread_info {
    pid_t id;
    bool daemon, is_main; /* is_main: the one that main() runs in */
    char name[16];
};
/* The main thread, then those of keel_thread_begin that are alive, oldest
 * first: writes at most `most` of them and returns how many there are. */
KEEL_API size_t keel_thread_enumerate(struct keel_thread_info *ret,
                                      size_t most);

/* ---- a value for each thread ----
 * `destroy` (may be NULL) gets what a thread left there when the thread ends,
 * if not NULL; not so for the main thread.  The coroutines of a loop share
 * their thread's. */
struct keel_local;
/* -EAGAIN (1,024 of them is the most), -ENOMEM */
KEEL_API int keel_local_new(void (*destroy)(void *value),
                            struct keel_local **ret);
/* Values still there are not destroyed. */
KEEL_API void keel_local_free(struct keel_local *l);
/* NULL before the thread's first set. */
KEEL_API void *keel_local_get(const struct keel_local *l);
/* The value before is the caller's to destroy.  -ENOMEM */
KEEL_API int keel_local_set(struct keel_local *l, void *value);
KEEL_AUTO(local, struct keel_local *, keel_local_free)

/* ---- timer: fn(arg) once, later ----
 * From a coroutine it runs in a coroutine of the same loop, from a thread in a
 * daemon thread of its own.  A loop that stops cancels its timers. */
struct keel_timer;
/* -ENOMEM, -EAGAIN as keel_spawn and keel_thread_begin */
KEEL_API int keel_timer_start(keel_ns at, void (*fn)(void *arg), void *arg,
                              struct keel_timer **ret);
/* True: fn was not and will not be called.  False: it runs or did, or the
 * timer was cancelled before. */
KEEL_API bool keel_timer_cancel(struct keel_timer *t);
/* Waits until fn has returned or the timer is cancelled.
 * -EDEADLK from within fn; -ETIMEDOUT; -ECANCELED of the caller */
KEEL_API int keel_timer_join(struct keel_timer *t, keel_ns deadline);
/* Cancels, and gives the handle back; fn may still run. */
KEEL_API void keel_timer_free(struct keel_timer *t);
KEEL_AUTO(timer, struct keel_timer *, keel_timer_free)

#endif
