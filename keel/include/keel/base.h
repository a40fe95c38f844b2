/* SPDX-License-Identifier: MIT */
/* What every keel header stands on: time, memory, assertions, release at the
 * end of a scope, byte order.
 *
 * What can fail returns 0 or a count on success and a negative errno on
 * failure.  Outputs are written only on success.  Every call works in a
 * coroutine and in a plain thread unless it says otherwise; in a coroutine a
 * call that waits parks it, in a thread it blocks. */
#ifndef KEEL_BASE_H
#define KEEL_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The library exports what is marked KEEL_API, to C++ with C's linkage. */
#ifdef __cplusplus
#define KEEL_API extern "C" __attribute__((visibility("default")))
#define KEEL_API_DATA KEEL_API
#else
#define KEEL_API __attribute__((visibility("default")))
#define KEEL_API_DATA extern KEEL_API
#endif

/* ---- time ----------------------------------------------------------------
 * A point on the monotonic clock of the seam, in nanoseconds, or a span.
 * Deadlines are points.  A deadline in the past means "do not wait": what can
 * be done at once is done, else -ETIMEDOUT. */
typedef int64_t keel_ns;

#define KEEL_NOW ((keel_ns)0)
#define KEEL_FOREVER ((keel_ns)INT64_MAX)
#define KEEL_US ((keel_ns)1000)
#define KEEL_MS ((keel_ns)1000000)
#define KEEL_SECOND ((keel_ns)1000000000)

KEEL_API keel_ns keel_now(void);
/* The point `span` from now; saturates at KEEL_FOREVER. */
KEEL_API keel_ns keel_after(keel_ns span);
/* The date: nanoseconds since 1970-01-01 UTC. */
KEEL_API int64_t keel_wall_ns(void);

/* Fills `buf` with bytes from the kernel's generator (getrandom(2)), or from
 * the test's seed.  Fit for secrets. Cannot fail: a system without
 * randomness is stopped. */
KEEL_API void keel_random(void *buf, size_t size);

/* ---- memory -------------------------------------------------------------- */
/* As malloc(3), calloc(3), realloc(3), free(3), through the seam, so that a
 * test can make the nth call fail.  NULL when memory is out. */
KEEL_API void *keel_alloc(size_t size) __attribute__((malloc));
KEEL_API void *keel_calloc(size_t count, size_t size) __attribute__((malloc));
KEEL_API void *keel_realloc(void *p, size_t size);
KEEL_API char *keel_strdup(const char *s);
KEEL_API void keel_free(void *p);
/* Overwrites memory that held a secret; the compiler may not drop it. */
KEEL_API void keel_wipe(void *p, size_t size);
/* Compares secrets in a time that depends on `size` alone. */
KEEL_API bool keel_same(const void *a, const void *b, size_t size);

/* ---- mistakes ------------------------------------------------------------ */
/* A programmer's mistake writes a line to standard error that names the call,
 * the object and who called, a coroutine, else a thread or process:
 *
 *     keel: keel_join(0x5581): it is the caller itself, in 'main'
 *
 * The program then stops (abort(3)) where going on would use what is gone, give
 * away what another has, or wait for ever: a handle used after its join, a drop
 * of a lock that nobody holds or of another's rlock, _fini and _free of what is
 * in use, a result set twice, a join of one's own group.
 * Where the call can refuse and has changed nothing, it returns the error that
 * its header names: a join of oneself or of what another joins, a thread begun
 * twice, one semaphore_give or task_done too many, a drop between processes of
 * what nobody holds or of another's rlock.  A program compiled with -DKEEL_DEBUG
 * stops there too.
 * A value that is out of range (-EINVAL, -E2BIG) may come from outside: it is
 * an error, and no line is written. */

/* The same for an expression and its place.  Always compiled in. */
#define keel_assert(expr)                                                      \
    (__builtin_expect(!!(expr), 1)                                             \
         ? (void)0                                                             \
         : keel_assert_failed(#expr, __FILE__, __LINE__, __func__))
KEEL_API void keel_assert_failed(const char *expr, const char *file, int line,
                                 const char *function)
    __attribute__((noreturn));

/* Compiled with -DKEEL_DEBUG a program finds what it uses after it freed it:
 * memory of keel_alloc, and with it every object of keel that is made by _new,
 * stays out of reach once it is freed, and the first touch stops the program
 * with a message on standard error that names the call, the object and the
 * coroutine, and who freed it where.  A lock, event or other object in the
 * program's own storage likewise, from its _fini to its next _init.  What
 * else KEEL_DEBUG does: above, and lock.h.  Each piece of memory costs a page
 * there, and a system call or two; the first 8,192 that are alive at a time are
 * watched. */
KEEL_API void keel_debug_program(void);
#ifdef KEEL_DEBUG
__attribute__((constructor)) static inline void keel_debug_begin(void)
{
    keel_debug_program();
}
#endif

/* ---- release at the end of the scope ------------------------------------- */
/*     keel_auto(queue) struct keel_queue *q = NULL;
 *
 * releases q however the scope is left.  KEEL_AUTO defines it beside a type;
 * the release function accepts NULL. */
#define KEEL_AUTO(name, type, release)                                         \
    static inline void keel_auto_##name(type *p)                               \
    {                                                                          \
        release(*p);                                                           \
    }
#define keel_auto(name) __attribute__((cleanup(keel_auto_##name)))

/* Takes the pointer out of an automatic variable: *ret = keel_take(q); */
#define keel_take(p)                                                           \
    __extension__({                                                            \
        __typeof__(p) taken_ = (p);                                            \
        (p) = NULL;                                                            \
        taken_;                                                                \
    })

KEEL_AUTO(mem, void *, keel_free)
static inline void keel_auto_str(char **p)
{
    keel_free(*p);
}

/* ---- text ---------------------------------------------------------------- */
/* Bytes of the character of UTF-8 (RFC 3629) that `bytes` begin with; 0: they
 * begin with none. */
KEEL_API size_t keel_utf8(const void *bytes, size_t size);
/* The same if a terminal draws that character and does nothing else: 0 for
 * control characters, ends of lines, and marks that turn the direction of the
 * text around them. */
KEEL_API size_t keel_utf8_shown(const void *bytes, size_t size);

/* ---- byte order ---------------------------------------------------------- */
static inline void keel_be32_put(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    __builtin_memcpy(p, &v, 4);
}
static inline uint32_t keel_be32(const uint8_t *p)
{
    uint32_t v;

    __builtin_memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}
static inline void keel_be64_put(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    __builtin_memcpy(p, &v, 8);
}
static inline uint64_t keel_be64(const uint8_t *p)
{
    uint64_t v;

    __builtin_memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}

#endif
