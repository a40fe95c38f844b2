/* SPDX-License-Identifier: MIT */
/* A coroutine that runs off its stack meets the guard below it.  The handler
 * runs on a stack of its own, one for each loop's thread, says whose stack it
 * was, and lets the fault happen again under the former action: by default the
 * process dies there, so that the core points at the culprit. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

#include "loop.h"
#include "seam/quarantine.h"
#include "worker.h"

#define ALT_BYTES ((size_t)65536)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct sigaction segv_before, bus_before;

/* snprintf is not promised to be safe in a handler; this is. */
static size_t put(char *to, size_t at, size_t size, const char *text)
{
    while (*text && at < size)
        to[at++] = *text++;
    return at;
}

static size_t put_number(char *to, size_t at, size_t size, uintptr_t n,
                         unsigned base)
{
    char digits[24], *d = digits + sizeof digits;

    *--d = '\0';
    do
        *--d = "0123456789abcdef"[n % base];
    while (n /= base);
    return put(to, at, size, d);
}

static void report(const struct body *b, uintptr_t where)
{
    char text[256];
    size_t n = 0, size = sizeof text;

    n = put(text, n, size, "keel: coroutine '");
    n = put(text, n, size, b->name);
    n = put(text, n, size, "' overflowed its stack of ");
    n = put_number(text, n, size,
                   (uintptr_t)((char *)(b->stack + 1) - b->stack->low) / 1024,
                   10);
    n = put(text, n, size, " KiB at 0x");
    n = put_number(text, n, size, where, 16);
    n = put(text, n, size, "\n");
    /* Nothing is left to be done if this fails. */
    if (write(STDERR_FILENO, text, n) < 0)
        return;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    struct keel_loop *l = loop_here;
    uintptr_t at = (uintptr_t)info->si_addr;

    quarantine_fault(at, context);
    if (l && l->current && l->current->body) {
        const struct body *b = l->current->body;
        uintptr_t low = (uintptr_t)b->stack->low;

        if (at < low && at >= low - STACK_GUARD_BYTES)
            report(b, at);
    }
    sigaction(signal, signal == SIGSEGV ? &segv_before : &bus_before, NULL);
}

static void install(void)
{
    struct sigaction sa = {.sa_sigaction = on_fault,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigemptyset(&sa.sa_mask);
    sigaction(SIGSEGV, &sa, &segv_before);
    sigaction(SIGBUS, &sa, &bus_before);
}

void faults_watch(void)
{
    pthread_once(&once, install);
}

int overflow_watch(struct keel_loop *l)
{
    stack_t alt = {.ss_size = ALT_BYTES};

    if (worker_is_simulated())
        return 0; /* one stack of the kernel's for many loops */
    alt.ss_sp = mmap(NULL, ALT_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (alt.ss_sp == MAP_FAILED)
        return -ENOMEM;
    if (sigaltstack(&alt, &l->alt_before) < 0) {
        munmap(alt.ss_sp, ALT_BYTES);
        return -ENOMEM;
    }
    l->alt_stack = alt.ss_sp;
    faults_watch();
    return 0;
}

void overflow_unwatch(struct keel_loop *l)
{
    if (!l->alt_stack)
        return;
    sigaltstack(&l->alt_before, NULL);
    munmap(l->alt_stack, ALT_BYTES);
    l->alt_stack = NULL;
}
