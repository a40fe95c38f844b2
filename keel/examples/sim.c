/* SPDX-License-Identifier: MIT */
/* A program tried with a hundred seeds in a simulated world.
 *
 *     cc sim.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * Two threads pay into one account without a lock, and now and then a payment
 * is lost: it depends on who goes on when.  In the simulation the seed draws
 * that, and the network's latency; a seed that loses one loses it again, as
 * often as it is run, until the lock is there.  Between the payments lie seconds
 * of a clock that takes no time. */
#include <stdio.h>

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/net.h>
#include <keel/sim.h>
#include <keel/thread.h>

enum { PAYERS = 2, PAYMENTS = 5, SEEDS = 100 };

static struct {
    struct keel_lock lock;
    bool use_lock;
    int balance;
} account;

/* Asks the bank, far away, what the account holds, and tells it the new
 * balance: each a word over the network. */
static int pay(void *arg)
{
    for (int i = 0; i < PAYMENTS; i++) {
        struct keel_stream *bank;
        char word;
        int balance;

        keel_sleep(keel_after((keel_ns)keel_sim_draw(5) * KEEL_SECOND));
        if (account.use_lock)
            keel_lock_hold(&account.lock);
        balance = account.balance;
        if (keel_dial(arg, KEEL_FOREVER, &bank) == 0) {
            if (keel_stream_read(bank, &word, 1, KEEL_FOREVER) == 1)
                account.balance = balance + 1;
            keel_stream_close(bank);
        }
        if (account.use_lock)
            keel_lock_drop(&account.lock);
    }
    return 0;
}

/* Says a word to each who comes. */
static int bank(void *arg)
{
    for (int i = 0; i < PAYERS * PAYMENTS; i++) {
        struct keel_stream *s;

        if (keel_accept(arg, KEEL_FOREVER, &s) < 0)
            return 1;
        keel_stream_write(s, "!", 1, KEEL_FOREVER);
        keel_stream_close(s);
    }
    return 0;
}

static int program(void *arg)
{
    struct keel_listener *l;
    struct keel_thread *clerk, *payer[PAYERS];

    account.balance = 0;
    account.use_lock = arg != NULL;
    keel_lock_init(&account.lock);
    if (keel_listen("10.0.0.1:80", &l) < 0 ||
        keel_thread_start("bank", bank, l, &clerk) < 0)
        return 1;
    for (int i = 0; i < PAYERS; i++)
        if (keel_thread_start("payer", pay, "10.0.0.1:80", &payer[i]) < 0)
            return 1;
    for (int i = 0; i < PAYERS; i++)
        keel_thread_join(payer[i], KEEL_FOREVER, NULL);
    keel_thread_join(clerk, KEEL_FOREVER, NULL);
    keel_listener_close(l);
    keel_lock_fini(&account.lock);
    return 0;
}

/* Returns the first seed that loses a payment, -1: none. */
static int try_all(void *with_lock)
{
    for (int seed = 0; seed < SEEDS; seed++) {
        const struct keel_sim_how how = {.seed = (uint64_t)seed,
                                         .latency_least = 10 * KEEL_MS,
                                         .latency_most = KEEL_SECOND};
        struct keel_sim_result r;

        if (keel_sim_run(&how, program, with_lock, &r) < 0 || r.value)
            return -2;
        if (account.balance != PAYERS * PAYMENTS)
            return seed;
    }
    return -1;
}

int main(void)
{
    int seed = try_all(NULL), balance = account.balance;
    const struct keel_sim_how how = {.seed = (uint64_t)seed,
                                     .latency_least = 10 * KEEL_MS,
                                     .latency_most = KEEL_SECOND};
    struct keel_sim_result r[2];

    printf("without a lock: %s\n",
           seed >= 0 ? "a seed loses a payment" : "nothing is lost");
    for (int i = 0; i < 2; i++)
        if (keel_sim_run(&how, program, NULL, &r[i]) < 0)
            return 1;
    printf("that seed again: %s, and %s\n",
           account.balance == balance ? "it is lost again" : "something else",
           r[0].trace == r[1].trace ? "the traces are equal"
                                    : "the traces differ");
    printf("the payers took %s\n",
           r[0].time > KEEL_SECOND ? "seconds, which took no time" : "no time");
    printf("with a lock: %s\n",
           try_all(&account) == -1 ? "no seed loses one" : "still wrong");
    return 0;
}
