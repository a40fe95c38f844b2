/* SPDX-License-Identifier: MIT */
#include <pthread.h>

#include "tls_inside.h"

/* More spares than this go back to the allocator: bursts of one thread end
 * before the next begin, except where a peer is slow to take one. */
enum { SPARES = 4 };

static _Thread_local struct tls_buffer *spares;
static _Thread_local unsigned spare_count;
static atomic_size_t lent;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t at_thread_end;

static void spares_free(void *unused)
{
    (void)unused;
    while (spares) {
        struct tls_buffer *b = spares;

        spares = b->next;
        keel_free(b);
    }
    spare_count = 0;
}

static void once_only(void)
{
    int rc = pthread_key_create(&at_thread_end, spares_free);

    keel_assert(rc == 0);
}

struct tls_buffer *tls_buffer_lend(void)
{
    struct tls_buffer *b = spares;

    if (b) {
        spares = b->next;
        spare_count--;
    } else {
        b = keel_alloc(sizeof *b);
        if (!b)
            return NULL;
    }
    atomic_fetch_add_explicit(&lent, 1, memory_order_relaxed);
    return b;
}

void tls_buffer_return(struct tls_buffer *b)
{
    if (!b)
        return;
    atomic_fetch_sub_explicit(&lent, 1, memory_order_relaxed);
    if (spare_count == SPARES) {
        keel_free(b);
        return;
    }
    if (spare_count == 0) {
        /* The destructor runs only for a thread that set a value. */
        pthread_once(&once, once_only);
        pthread_setspecific(at_thread_end, b);
    }
    b->next = spares;
    spares = b;
    spare_count++;
}

size_t tls_buffers_lent(void)
{
    return atomic_load_explicit(&lent, memory_order_relaxed);
}
