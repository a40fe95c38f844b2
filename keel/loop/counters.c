/* SPDX-License-Identifier: MIT */
/* The counts of a loop's memory go on from loop to loop; each begins at what
 * they were when it did. */
#include <keel/debug.h>

#include "loop.h"

static struct keel_counters counts_of(const struct keel_loop *l)
{
    const struct loop_counts *c = &l->counts;

    return (struct keel_counters){
        .switches = count_of(&c->switches),
        .turns = count_of(&c->turns),
        .sleeps = count_of(&c->sleeps),
        .wakes = count_of(&c->posts),
        .spawned = count_of(&c->spawned),
        .stacks_fetched = count_of(&l->stacks.fetched),
        .submissions = count_of(&c->submitted),
        .completions = count_of(&c->completed),
        .asleep_ns = (keel_ns)count_of(&c->asleep_ns),
        .blocked_ns = (keel_ns)count_of(&c->blocked_ns),
        .longest_ns = (keel_ns)count_of(&c->longest_ns),
        .alive = atomic_load_explicit(&l->alive, memory_order_relaxed),
        .parked = atomic_load_explicit(&l->parked, memory_order_relaxed),
    };
}

void counters_begin(struct keel_loop *l)
{
    atomic_store(&l->counts.longest_ns, 0);
    atomic_store(&l->parked, 0);
    l->counted = counts_of(l);
}

static void add(struct keel_counters *to, const struct keel_counters *c)
{
    to->switches += c->switches;
    to->turns += c->turns;
    to->sleeps += c->sleeps;
    to->wakes += c->wakes;
    to->spawned += c->spawned;
    to->stacks_fetched += c->stacks_fetched;
    to->submissions += c->submissions;
    to->completions += c->completions;
    to->asleep_ns += c->asleep_ns;
    to->blocked_ns += c->blocked_ns;
    to->alive += c->alive;
    to->parked += c->parked;
    if (c->longest_ns > to->longest_ns)
        to->longest_ns = c->longest_ns;
}

static void take_off(struct keel_counters *from, const struct keel_counters *c)
{
    from->switches -= c->switches;
    from->turns -= c->turns;
    from->sleeps -= c->sleeps;
    from->wakes -= c->wakes;
    from->spawned -= c->spawned;
    from->stacks_fetched -= c->stacks_fetched;
    from->submissions -= c->submissions;
    from->completions -= c->completions;
    from->asleep_ns -= c->asleep_ns;
    from->blocked_ns -= c->blocked_ns;
}

void keel_counters(const struct keel_loop *loop, struct keel_counters *ret)
{
    struct keel_counters sum = {0};

    if (loop) {
        sum = counts_of(loop);
        take_off(&sum, &loop->counted);
    } else {
        for (struct keel_loop *l = loops_first(); l; l = l->all_next) {
            struct keel_counters c = counts_of(l);

            add(&sum, &c);
        }
    }
    *ret = sum;
}
