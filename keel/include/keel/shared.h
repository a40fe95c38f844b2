/* SPDX-License-Identifier: MIT */
/* Memory, values and arrays between processes.
 *
 * Shared memory is a memfd: it has no name in any file system, is sent to
 * another process by its descriptor (keel_process_how.fds, keel_pipe_put), and
 * is gone when the last that has it has ended.  It starts as zeros, and lies at
 * another address in each process: pointers mean nothing in it.  Everything of
 * <keel/shlock.h> may be put into it. */
#ifndef KEEL_SHARED_H
#define KEEL_SHARED_H

#include <keel/base.h>

/* ---- memory ------------------------------------------------------------------ */
struct keel_shared;

/* `size` >= 1.  Memory is taken as it is touched; a page that the system does
 * not have then is SIGBUS or the end by the out-of-memory killer.
 * -EFBIG   larger than RLIMIT_FSIZE allows
 * -ENOMEM, -EMFILE, -ENFILE, -EINVAL */
KEEL_API int keel_shared_new(size_t size, struct keel_shared **ret);
/* Maps what another process made; takes `fd` on success.  Its size cannot be
 * changed by anybody.
 * -EBADF, -ENOMEM; -EINVAL  it is not of keel_shared_new */
KEEL_API int keel_shared_open(int fd, struct keel_shared **ret);
/* Unmaps; the others keep theirs.  Accepts NULL. */
KEEL_API void keel_shared_free(struct keel_shared *s);
/* The same, but keeps the descriptor open and returns it. */
KEEL_API int keel_shared_unmap(struct keel_shared *s);
/* Page-aligned, lent until it is freed. */
KEEL_API void *keel_shared_memory(const struct keel_shared *s);
KEEL_API size_t keel_shared_size(const struct keel_shared *s);
/* Lent: to send to another process. */
KEEL_API int keel_shared_fd(const struct keel_shared *s);
KEEL_AUTO(shared, struct keel_shared *, keel_shared_free)

/* ---- value --------------------------------------------------------------------- */
/* A number in shared memory; each call is one atomic step, so that nobody sees
 * half of it, whoever is killed.  Zeroed memory is the value 0. */
struct keel_shvalue {
    int64_t value;
};
KEEL_API int64_t keel_shvalue_get(const struct keel_shvalue *v);
KEEL_API void keel_shvalue_set(struct keel_shvalue *v, int64_t to);
/* Returns the sum, which wraps. */
KEEL_API int64_t keel_shvalue_add(struct keel_shvalue *v, int64_t n);
/* Sets it if it is `from`: true; else false, with what it is in `*from`. */
KEEL_API bool keel_shvalue_swap(struct keel_shvalue *v, int64_t *from,
                                int64_t to);

/* ---- array ---------------------------------------------------------------------- */
/* Items of one size under a lock of their own.  An item is set whole or not at
 * all: the change that a killed process had begun is finished or undone by who
 * comes next. */
struct keel_sharray;

/* -EINVAL  no items, of no bytes, or too many; else as keel_shared_new */
KEEL_API int keel_sharray_new(size_t count, size_t item_bytes,
                              struct keel_sharray **ret);
KEEL_API int keel_sharray_open(int fd, struct keel_sharray **ret);
KEEL_API void keel_sharray_free(struct keel_sharray *a); /* accepts NULL */
KEEL_API int keel_sharray_fd(const struct keel_sharray *a);
KEEL_API size_t keel_sharray_count(const struct keel_sharray *a);
/* -ERANGE  there is no such item; -ETIMEDOUT, -ECANCELED  of the lock */
KEEL_API int keel_sharray_get(struct keel_sharray *a, size_t at, void *item,
                              keel_ns deadline);
KEEL_API int keel_sharray_set(struct keel_sharray *a, size_t at,
                              const void *item, keel_ns deadline);
/* Holds the lock over several of them.  0, or 1: who had it died meanwhile,
 * and several items may not fit together. */
KEEL_API int keel_sharray_take(struct keel_sharray *a, keel_ns deadline);
KEEL_API int keel_sharray_drop(struct keel_sharray *a);
KEEL_AUTO(sharray, struct keel_sharray *, keel_sharray_free)

#endif
