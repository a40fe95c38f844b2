/* SPDX-License-Identifier: MIT */
/* A ticket file that several processes sell from, guarded by a lock between
 * processes.
 *
 *     cc tickets.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * Each reads how many are left, thinks, and writes one less.  Without the lock
 * two would read the same number, and a ticket be sold twice.  One of the
 * sellers is killed with the lock in its hands: the next gets it, and is told. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <keel/process.h>
#include <keel/shared.h>
#include <keel/shlock.h>

enum { TICKETS = 20, SELLERS = 4 };

/* What they share besides the file. */
struct office {
    struct keel_shlock lock;
    struct keel_shvalue sold, inherited;
};

static int left(int file)
{
    char text[16] = "";

    return pread(file, text, sizeof(text) - 1, 0) < 0 ? 0 : atoi(text);
}

static void write_left(int file, int n)
{
    dprintf(file, "%-10d", n);
    lseek(file, 0, SEEK_SET);
}

static bool sell(struct office *o, int file)
{
    int n, rc = keel_shlock_take(&o->lock, KEEL_FOREVER);

    if (rc < 0)
        return false;
    keel_shvalue_add(&o->inherited, rc); /* 1: from a dead one */
    n = left(file);
    if (n > 0) {
        usleep(500);
        write_left(file, n - 1);
        keel_shvalue_add(&o->sold, 1);
    }
    keel_shlock_drop(&o->lock);
    return n > 0;
}

KEEL_PROCESS(seller)
{
    keel_auto(shared) struct keel_shared *memory = NULL;

    if (keel_shared_open(arg->fds[0], &memory) < 0)
        return 1;
    while (sell(keel_shared_memory(memory), arg->fds[1]))
        ;
    return 0;
}

KEEL_PROCESS(unlucky)
{
    keel_auto(shared) struct keel_shared *memory = NULL;
    struct office *o;

    if (keel_shared_open(arg->fds[0], &memory) < 0)
        return 1;
    o = keel_shared_memory(memory);
    if (keel_shlock_take(&o->lock, KEEL_FOREVER) == 0)
        raise(SIGKILL);
    return 1;
}

int main(void)
{
    keel_auto(shared) struct keel_shared *memory = NULL;
    struct keel_process *p[SELLERS + 1];
    FILE *file = tmpfile();
    struct office *o;
    int fds[2];

    if (!file || keel_shared_new(sizeof(*o), &memory) < 0)
        return 1;
    o = keel_shared_memory(memory); /* zeroed: nobody holds the lock */
    fds[0] = keel_shared_fd(memory);
    fds[1] = fileno(file);
    write_left(fds[1], TICKETS);

    for (int i = 0; i <= SELLERS; i++) {
        struct keel_process_how how = {.fds = fds, .fd_count = 2};

        if (keel_process_start(i == 0 ? "unlucky" : "seller", &how, &p[i]) < 0)
            return 1;
        if (i == 0) /* dead before the others come */
            keel_process_join(p[i], KEEL_FOREVER, NULL);
    }
    for (int i = 0; i <= SELLERS; i++) {
        keel_process_join(p[i], KEEL_FOREVER, NULL);
        keel_process_free(p[i]);
    }
    printf("%d sold of %d, %d left\n", (int)keel_shvalue_get(&o->sold), TICKETS,
           left(fds[1]));
    printf("the lock was taken over from the dead %d time(s)\n",
           (int)keel_shvalue_get(&o->inherited));
    fclose(file);
    return 0;
}
