/* SPDX-License-Identifier: MIT */
/* Processes that this program starts.
 *
 * A process begins at an entry point, a function that is registered by name
 * where it is written:
 *
 *     KEEL_PROCESS(greet)
 *     {
 *         printf("%s from %d\n", (const char *)arg->data, (int)getpid());
 *         return 0;
 *     }
 *     ...
 *     keel_process_start("greet", &(struct keel_process_how){
 *                                     .arg = "hello", .arg_size = 6}, &p);
 *
 * The program itself is never forked, so that it may have threads, locks and
 * gigabytes.  The first start runs the program's file (/proc/self/exe) once
 * more as a small spawner with one thread, before main; it forks the
 * processes, and is their parent for the kernel.  A process therefore has
 * nothing of this one's memory: the argument and the descriptors that are
 * sent with it are all it gets, with standard input, output, error and the
 * current directory as they are now, and the environment and umask as they
 * were at the first start.
 *
 * Every process ends with an exit note (code or signal, resource use), and is
 * reaped at once: none ever stays behind as a zombie.  When the program ends,
 * its daemons are killed; by exit(3) it first waits for the others.  Killed, it
 * leaves the others running.
 *
 * Under ASan and TSan processes are watched like the program.  valgrind watches
 * the program alone, unless --trace-children=yes.
 *
 * Entry points are registered before main by constructors of the program; a
 * library that is loaded later (dlopen) cannot have any. */
#ifndef KEEL_PROCESS_H
#define KEEL_PROCESS_H

#include <sys/resource.h>

#include <keel/base.h>

struct keel_process;

enum {
    KEEL_PROCESS_ARG_MOST = 64 << 10, /* bytes */
    KEEL_PROCESS_FDS_MOST = 64,
    KEEL_PROCESS_NAME_MOST = 31 /* bytes of an entry's or a process's name */
};

/* ---- in the process ---------------------------------------------------------- */

/* What an entry point is given.  The descriptors are its to close. */
struct keel_process_arg {
    const void *data;
    size_t size;
    const int *fds;
    size_t fd_count;
};
typedef int keel_process_fn(const struct keel_process_arg *arg);

/* Begins the definition of an entry point, as above.  What it returns, 0 to
 * 255, is the exit code; anything else is 255. */
#define KEEL_PROCESS(name_)                                                    \
    static keel_process_fn name_;                                              \
    static struct keel_process_entry keel_entry_##name_ = {.name = #name_,     \
                                                           .fn = name_};       \
    __attribute__((constructor(2000))) static void keel_enter_##name_(void)    \
    {                                                                          \
        keel_process_register(&keel_entry_##name_);                            \
    }                                                                          \
    __attribute__((constructor)) static void keel_begin_##name_(void)          \
    {                                                                          \
        keel_process_begin();                                                  \
    }                                                                          \
    static int name_(__attribute__((unused)) const struct keel_process_arg *arg)

/* The name it was started with; NULL in a program that nobody started. */
KEEL_API const char *keel_process_name_here(void);
/* Whether it ends with its parent. */
KEEL_API bool keel_process_is_daemon(void);
/* The program that started it (not the spawner), and a descriptor, lent, that
 * is readable once that has ended; without one: getppid(2), and -1. */
KEEL_API pid_t keel_process_parent(void);
KEEL_API int keel_process_parent_sentinel(void);

/* ---- starting --------------------------------------------------------------- */

struct keel_process_how {
    const char *name; /* copied; NULL: that of the entry */
    /* Ends with this program, and may start none itself. */
    bool daemon;
    const void *arg; /* copied */
    size_t arg_size;
    const int *fds; /* duplicated; this program's stay its own */
    size_t fd_count;
};

/* Starts a process at `entry`; `how` may be NULL.  Returns when it runs.
 * -ENOENT  no entry point has that name
 * -EINVAL  a name is longer than KEEL_PROCESS_NAME_MOST, or empty
 * -E2BIG   argument or descriptors beyond the limits
 * -EPERM   this process is a daemon
 * -ECHILD  the spawner could not be run, or has been killed
 * -EAGAIN, -ENOMEM, -EMFILE  limits of the system (fork(2), open(2)) */
KEEL_API int keel_process_start(const char *entry,
                                const struct keel_process_how *how,
                                struct keel_process **ret);
/* Runs the spawner now, e.g. before keel_confine (system.h) forbids it, or
 * before the time of the first start matters.  Errors as above. */
KEEL_API int keel_process_prepare(void);
/* Lets go of the handle; a process that still runs goes on (a daemon until
 * this program ends). */
KEEL_API void keel_process_free(struct keel_process *p); /* accepts NULL */
KEEL_AUTO(process, struct keel_process *, keel_process_free)

/* ---- what becomes of it ------------------------------------------------------- */

/* Waits for its end: 0, also when it has ended long ago, with its exit code, or
 * minus the signal that ended it (`ret_result` may be NULL).  The handle stays:
 * there is more to ask it.
 * -ETIMEDOUT, -ECANCELED  it still runs
 * -ECHILD   it has ended, its result is asked for, and the spawner was killed
 *           before it: nobody knows */
KEEL_API int keel_process_join(struct keel_process *p, keel_ns deadline,
                               int *ret_result);
KEEL_API bool keel_process_is_alive(struct keel_process *p);
/* The same without waiting, joined or not.
 * -EBUSY   it still runs
 * -ECHILD  the spawner was killed before it: nobody knows */
KEEL_API int keel_process_exitcode(struct keel_process *p, int *ret_code);
/* Time, memory and so on that it used, with those it had waited for; errors as
 * keel_process_exitcode. */
KEEL_API int keel_process_usage(struct keel_process *p, struct rusage *ret);

/* Asks it to end, as keel_cancel does a coroutine: the waits by keel of its
 * entry point return -ECANCELED from now on, and those of the first coroutine
 * of a keel_run in it.  It is told by the signal SIGRTMIN + 9, which who blocks
 * it for long does not hear. */
KEEL_API void keel_process_cancel(struct keel_process *p);
/* SIGTERM, SIGKILL, SIGINT, or any other.  Sent by its descriptor: never to
 * another process that has the number by now.  -ESRCH: it has ended. */
KEEL_API int keel_process_terminate(struct keel_process *p);
KEEL_API int keel_process_kill(struct keel_process *p);
KEEL_API int keel_process_interrupt(struct keel_process *p);
KEEL_API int keel_process_signal(struct keel_process *p, int signal);

KEEL_API pid_t keel_process_pid(const struct keel_process *p);
KEEL_API const char *keel_process_name(const struct keel_process *p);
/* A pidfd, lent: readable once it has ended, for keel_fd_poll. */
KEEL_API int keel_process_sentinel(const struct keel_process *p);
/* How many that this program started still run. */
KEEL_API size_t keel_process_count(void);

/* ---- for KEEL_PROCESS --------------------------------------------------------- */
struct keel_process_entry {
    const char *name;
    keel_process_fn *fn;
    struct keel_process_entry *next;
};
KEEL_API void keel_process_register(struct keel_process_entry *entry);
KEEL_API void keel_process_begin(void);

#endif
