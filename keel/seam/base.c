/* SPDX-License-Identifier: MIT */
#include <keel/base.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/seam.h>

#include "quarantine.h"

keel_ns keel_now(void)
{
    return keel_seam.now();
}

keel_ns keel_after(keel_ns span)
{
    keel_ns point;

    if (__builtin_add_overflow(keel_seam.now(), span, &point))
        return span > 0 ? KEEL_FOREVER : KEEL_NOW;
    return point;
}

int64_t keel_wall_ns(void)
{
    return keel_seam.wall_ns();
}

void keel_random(void *buf, size_t size)
{
    keel_seam.random(buf, size);
}

_Atomic(const struct quarantine *) quarantine;

static void *guarded(size_t size)
{
    const struct quarantine *q = quarantine_here();

    return __builtin_expect(q != NULL, 0) ? q->alloc(size) : NULL;
}

void *keel_alloc(size_t size)
{
    void *p;

    if (keel_seam_enter(KEEL_OP_ALLOC, NULL) < 0)
        return NULL;
    p = guarded(size);
    return p ? p : malloc(size);
}

void *keel_calloc(size_t count, size_t size)
{
    size_t all;
    void *p = NULL;

    if (keel_seam_enter(KEEL_OP_ALLOC, NULL) < 0)
        return NULL;
    if (!__builtin_mul_overflow(count, size, &all))
        p = guarded(all);
    return p ? p : calloc(count, size);
}

void *lines_alloc(size_t size)
{
    void *p;

    if (keel_seam_enter(KEEL_OP_ALLOC, NULL) < 0)
        return NULL;
    p = guarded(size);
    return p ? p : aligned_alloc(64, (size + 63) & ~(size_t)63);
}

void *keel_realloc(void *p, size_t size)
{
    const struct quarantine *q = quarantine_here();
    size_t before = q && p ? q->size(p) : 0;
    void *moved;

    if (keel_seam_enter(KEEL_OP_ALLOC, NULL) < 0)
        return NULL;
    if (before == 0)
        return realloc(p, size);
    moved = guarded(size);
    if (!moved)
        moved = malloc(size);
    if (!moved)
        return NULL;
    memcpy(moved, p, before < size ? before : size);
    q->free(p);
    return moved;
}

char *keel_strdup(const char *s)
{
    size_t size = strlen(s) + 1;
    char *copy = keel_alloc(size);

    return copy ? memcpy(copy, s, size) : NULL;
}

void keel_free(void *p)
{
    const struct quarantine *q = quarantine_here();

    if (__builtin_expect(q == NULL, 1) || !q->free(p))
        free(p);
}

void keel_wipe(void *p, size_t size)
{
    explicit_bzero(p, size);
}

bool keel_same(const void *a, const void *b, size_t size)
{
    const volatile unsigned char *x = a, *y = b;
    unsigned char differ = 0;

    for (size_t i = 0; i < size; i++)
        differ = (unsigned char)(differ | (x[i] ^ y[i]));
    return differ == 0;
}

/* One write, so that the lines of two failing threads stay whole. */
static _Noreturn void die(const char *text, size_t room, int n)
{
    size_t size = n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;

    if (write(STDERR_FILENO, text, size) < 0)
        abort();
    abort();
}

_Noreturn void keel_assert_failed(const char *expr, const char *file, int line,
                                  const char *function)
{
    char text[512];
    int n;

    n = snprintf(text, sizeof text,
                 "keel: assertion failed: %s (%s:%d, %s), in '%s'\n", expr,
                 file, line, function, keel_name());
    die(text, sizeof text, n);
}

_Noreturn void misuse(const char *call, const void *object, const char *what)
{
    char text[512];
    int n;

    n = snprintf(text, sizeof text,
                 "keel: assertion failed: %s(%p): %s, in '%s'\n", call, object,
                 what, keel_name());
    die(text, sizeof text, n);
}
