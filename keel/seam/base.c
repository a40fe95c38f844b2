/* SPDX-License-Identifier: MIT */
#include <keel/base.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/seam.h>

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

void *keel_alloc(size_t size)
{
    if (keel_seam_enter(KEEL_OP_ALLOC, NULL) < 0)
        return NULL;
    return malloc(size);
}

void *keel_calloc(size_t count, size_t size)
{
    if (keel_seam_enter(KEEL_OP_ALLOC, NULL) < 0)
        return NULL;
    return calloc(count, size);
}

void *keel_realloc(void *p, size_t size)
{
    if (keel_seam_enter(KEEL_OP_ALLOC, NULL) < 0)
        return NULL;
    return realloc(p, size);
}

char *keel_strdup(const char *s)
{
    size_t size = strlen(s) + 1;
    char *copy = keel_alloc(size);

    return copy ? memcpy(copy, s, size) : NULL;
}

void keel_free(void *p)
{
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
