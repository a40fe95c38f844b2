/* SPDX-License-Identifier: MIT */
/* Seeing inside a running program.
 *
 * Besides what is here: keel/gdb/keel.py (installed as share/keel/gdb/keel.py)
 * teaches gdb `keel list`, `keel select N` and `keel bt all`, for a process or
 * a core; lock.h watches the order in which locks are taken.
 *
 * Backtraces follow frame pointers: build with -fno-omit-frame-pointer, else
 * they end early.  Functions are named where the program's file has a symbol
 * table (not stripped), and every address is also given as addr2line(1) takes
 * it. */
#ifndef KEEL_DEBUG_H
#define KEEL_DEBUG_H

#include <keel/base.h>

struct keel_loop;

/* ---- the dump ------------------------------------------------------------------ */

/* Writes to `fd` who is there:
 *   every coroutine of every loop: name, loop, state (running, ready, waiting,
 *     not begun), what it waits for (the call and the object; of a lock who
 *     holds it, of a join whom it joins), since when, until when at most, where
 *     it called, and its backtrace;
 *   every thread that keel knows, likewise: those of thread.h, and others once
 *     they have waited in a call of keel;
 *   the processes of process.h: name, number, whether they end with this one.
 * From any thread or coroutine; loops are asked to print themselves, one after
 * another.  One that does not answer within a second is said to be busy, with
 * the coroutine that runs and its backtrace (by SIGURG, see below). */
KEEL_API void keel_dump(int fd);
/* keel_dump(2) on this signal, e.g. SIGQUIT; the program goes on.
 * -EINVAL  no such signal;  -EAGAIN  no thread for it */
KEEL_API int keel_dump_on_signal(int signal);

/* ---- reports -------------------------------------------------------------------- */

enum keel_report { KEEL_REPORT_DEADLOCK, KEEL_REPORT_BLOCKED };
/* Called with the whole text, lines that end in '\n', on the thread that found
 * out; it may not wait.  NULL: the text goes to standard error, which is what
 * happens without a hook. */
typedef void keel_report_fn(enum keel_report kind, const char *text, void *arg);
KEEL_API void keel_on_report(keel_report_fn *fn, void *arg);

/* Deadlock: everything waits, for ever.  Reported (nothing else happens: the
 * program stays as it is) with the names of all that wait, what for, who holds
 * it, how long, and their backtraces, at most 32 of them; once, until a
 * coroutine or thread has run again.  Said only when, at one moment,
 *   every loop sleeps, with no coroutine ready, no timer or deadline, no
 *     operation on a descriptor or file under way, nothing sent to it;
 *   every other thread of the process waits in a call of keel without a
 *     deadline, or is one of keel's own that has no work;
 *   nobody waits by keel_sleep(KEEL_FOREVER), which says that it is meant.
 * So it is silent while there is any thread that keel does not know or that
 * runs or waits elsewhere (in read(2), pthread_join(3)), while a process of
 * process.h lives or anything else may come from outside, and where
 * /proc is out of reach.  Somebody whom only a signal handler would wake is not
 * foreseen.  Half a second after the last one fell asleep it is looked for, then
 * after 1, 2, 4 and 8 more; a program that is busy pays nothing.
 *
 * On by default. */
KEEL_API void keel_deadlock_watch(bool on);

/* Watchdog: a coroutine that runs for `limit` without waiting or yielding keeps
 * all others of its loop from running.  A thread looks at each loop four times
 * in `limit`, and reports the coroutine's name and the backtrace of where it is,
 * once for each time.  To see that stack it sends SIGURG to the loop's thread: a
 * system call that a signal interrupts whatever SA_RESTART says, as nanosleep(2),
 * may return early there.  A loop pays nothing for being looked at; the thread
 * took 0.14 % of a processor at a limit of 100 ms with four loops.
 *
 * Off by default; `limit` 0 ends it.  From a plain thread or a coroutine.
 * -EAGAIN  no thread for it
 * -EINVAL  less than a millisecond */
KEEL_API int keel_watchdog(keel_ns limit);

/* How many pairs of orders that can deadlock were reported: see lock.h. */
KEEL_API size_t keel_lock_order_reports(void);

/* A stack overflow is reported on standard error with the coroutine's name
 * before the process dies of SIGSEGV; every loop installs this itself. */

/* ---- counters -------------------------------------------------------------------- */

/* What a loop has done since it began.  Counting costs no locked instruction;
 * the figures are as of the loop's last look round, at most 64 switches ago. */
struct keel_counters {
    uint64_t switches;       /* to a coroutine */
    uint64_t turns;          /* runs of up to 64 of these between looks round */
    uint64_t sleeps;         /* times it had nothing to do */
    uint64_t wakes;          /* coroutines woken, or sent, by other threads */
    uint64_t spawned;        /* coroutines that began here */
    uint64_t stacks_fetched; /* stacks that it had to take from all loops' */
    uint64_t submissions;    /* operations handed to the poller */
    uint64_t completions;    /* of these */
    keel_ns asleep_ns;       /* spent in these sleeps */
    keel_ns blocked_ns;      /* spent in turns of 10 ms and more */
    keel_ns longest_ns;      /* the longest turn */
    size_t alive;            /* coroutines that have not ended */
    size_t parked;           /* of these, wait in some call */
};
/* NULL: the sum over all loops there were (longest_ns: the most of those there
 * are).  From any thread. */
KEEL_API void keel_counters(const struct keel_loop *loop,
                            struct keel_counters *ret);

#endif
