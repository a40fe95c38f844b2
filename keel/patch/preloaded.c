/* SPDX-License-Identifier: MIT */
/* A program with keel inside that knows nothing of libkeel-patch: what it says
 * shows whether its coroutines' calls park.  preloaded_test.sh runs it. */
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <keel/co.h>

const char *early_wrong(void);

static int ends[2], order;
static bool slept;

/* Alone it would wait for ever: the other one sends afterwards. */
static int reads(void *arg)
{
    char c = 0;

    (void)arg;
    if (read(ends[0], &c, 1) == 1)
        printf("%d: read '%c'\n", ++order, c);
    return 0;
}

static int sleeps(void *arg)
{
    (void)arg;
    usleep(1000);
    slept = true;
    return 0;
}

static int co_main(void *arg)
{
    struct keel_co *sleeper;
    keel_ns before;

    (void)arg;
    if (keel_spawn(NULL, sleeps, NULL, &sleeper) < 0)
        return 1;
    keel_yield();
    printf("%s\n", slept ? "calls block" : "calls park");
    if (!slept) {
        struct keel_co *reader;

        if (keel_spawn(NULL, reads, NULL, &reader) < 0)
            return 1;
        for (int i = 0; i < 10; i++)
            keel_yield();
        printf("%d: write\n", ++order);
        if (write(ends[1], "x", 1) != 1)
            return 1;
        keel_join(reader, KEEL_FOREVER, NULL);
    }
    before = keel_now();
    keel_join(sleeper, KEEL_FOREVER, NULL);
    return before > keel_now();
}

int main(void)
{
    printf("before main: %s\n", early_wrong() ? early_wrong() : "as ever");
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        return 1;
    return keel_run(co_main, NULL);
}
