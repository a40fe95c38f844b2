/* SPDX-License-Identifier: MIT */
/* Inside keel: what the processes of one family share, and how they wait.
 *
 * A family is a program, the processes it starts and theirs.  They share one
 * page of lives, a memfd that each inherits from its starter.  A thread that
 * uses anything between processes holds a place there: a robust mutex, which
 * the kernel marks when the thread ends, however it ends, and before anybody
 * is told of it.  An owner is a place and its age; a lock or a queue's cell
 * that names a dead owner is anybody's.
 *
 * Who sleeps on a word sleeps on `deaths` too.  The spawner counts it up for
 * each process that ends, so that everybody looks again: a wake that died with
 * the one who had it is no loss.  One second bounds each sleep, for deaths that
 * no spawner saw. */
#ifndef KEEL_FAMILY_H
#define KEEL_FAMILY_H

#include <stdatomic.h>

#include <keel/base.h>

enum {
    OWNER_BITS = 21, /* 10 of place, 11 of its age */
    PLACES = 1 << 10,
    OWNER_MASK = (1 << OWNER_BITS) - 1,
};

/* A step at which a test may kill the caller. */
#ifdef KEEL_TEST_STEPS
extern void (*keel_test_step)(void);
#define STEP() (keel_test_step ? keel_test_step() : (void)0)
#else
#define STEP() ((void)0)
#endif

extern _Thread_local uint32_t family_owner;
/* The calling thread as an owner, never 0; its place is taken at the first
 * call and left when the thread ends.
 * -ENOMEM, -EMFILE  no page of lives could be made
 * -EAGAIN           all places are taken: 1,022 threads of the family */
int family_enter(uint32_t *ret_owner);
static inline int family_me(uint32_t *ret_owner)
{
    if (__builtin_expect(family_owner != 0, 1)) {
        *ret_owner = family_owner;
        return 0;
    }
    return family_enter(ret_owner);
}
/* One look; `owner` need not have been in use for long. */
bool family_dead(uint32_t owner);
/* The process of a place; 0: nobody's. */
pid_t family_pid(uint32_t place);

/* The descriptor of the page, made if need be. */
int family_fd(void);
/* In a process that was started with a page. */
int family_adopt(int fd);
/* Everybody looks again: a process has ended. */
void family_bury(void);
uint32_t family_deaths(void);

/* Sleeps until `word` is not `seen`, `deaths` (a count from before the caller
 * looked) has changed, or somebody woke the word: 0, also for no reason.
 * -ETIMEDOUT, -ECANCELED: `word` may have had a wake that is the caller's to
 * pass on.  `always`: neither deadline nor cancel. */
int family_sleep(_Atomic uint32_t *word, uint32_t seen, uint32_t deaths,
                 keel_ns deadline, bool always, const char *what);
void family_wake(_Atomic uint32_t *word, int count);
/* Who looks in vain so often lets others run: on one processor whoever is
 * waited for, soon; else one that has lost its processor. */
unsigned family_patience(void);
/* True while a look again is worth more than a sleep; counts in `spins`. */
bool family_spin(unsigned *spins);

#endif
