/* SPDX-License-Identifier: MIT */
#include <keel/shared.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <keel/shlock.h>

#include "family.h"
#include "loop/worker.h"
#include "seam/limit.h"
#include "shared_inside.h"

/* ---- memory ---- */

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

struct keel_shared {
    void *memory;
    size_t size;
    int fd;
};

static int map(int fd, size_t size, struct keel_shared **ret)
{
    struct keel_shared *s = keel_alloc(sizeof(*s));
    void *p;

    if (!s)
        return -ENOMEM;
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
             0);
    if (p == MAP_FAILED) {
        int error = errno;

        keel_free(s);
        return -error;
    }
    *s = (struct keel_shared){p, size, fd};
    *ret = s;
    return 0;
}

/* Nobody may shrink it under the others' hands: that would be SIGBUS. */
int keel_shared_new(size_t size, struct keel_shared **ret)
{
    int fd, rc;

    if (worker_is_simulated())
        return -EOPNOTSUPP;
    if (size < 1 || size > INT64_MAX)
        return -EINVAL;
    fd = memfd_create("keel-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    rc = limit_resize(fd, size);
    if (rc == 0 && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        rc = -errno;
    if (rc == 0)
        rc = map(fd, size, ret);
    if (rc < 0) {
        (void)close(fd);
        return limit_met(LIMIT_SHARED, rc);
    }
    return 0;
}

int keel_shared_open(int fd, struct keel_shared **ret)
{
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat st;

    if (seals < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if ((seals & SEALS) != SEALS || st.st_size < 1)
        return -EINVAL;
    return map(fd, (size_t)st.st_size, ret);
}

int shared_open_if(int fd, size_t head_bytes,
                   bool (*fits)(const void *head, size_t size),
                   struct keel_shared **ret)
{
    struct keel_shared *s = NULL;
    int rc = keel_shared_open(fd, &s);

    if (rc < 0)
        return rc;
    if (s->size < head_bytes || !fits(s->memory, s->size)) {
        keel_shared_unmap(s); /* the descriptor is still the caller's */
        return -EINVAL;
    }
    *ret = s;
    return 0;
}

void keel_shared_free(struct keel_shared *s)
{
    if (!s)
        return;
    (void)munmap(s->memory, s->size);
    (void)close(s->fd);
    keel_free(s);
}

int keel_shared_unmap(struct keel_shared *s)
{
    int fd = s->fd;

    (void)munmap(s->memory, s->size);
    keel_free(s);
    return fd;
}

void *keel_shared_memory(const struct keel_shared *s)
{
    return s->memory;
}

size_t keel_shared_size(const struct keel_shared *s)
{
    return s->size;
}

int keel_shared_fd(const struct keel_shared *s)
{
    return s->fd;
}

/* ---- value ---- */

static _Atomic int64_t *at(const struct keel_shvalue *v)
{
    return (_Atomic int64_t *)(uintptr_t)&v->value;
}

int64_t keel_shvalue_get(const struct keel_shvalue *v)
{
    return atomic_load(at(v));
}

void keel_shvalue_set(struct keel_shvalue *v, int64_t to)
{
    atomic_store(at(v), to);
}

int64_t keel_shvalue_add(struct keel_shvalue *v, int64_t n)
{
    return (int64_t)((uint64_t)atomic_fetch_add(at(v), n) + (uint64_t)n);
}

bool keel_shvalue_swap(struct keel_shvalue *v, int64_t *from, int64_t to)
{
    return atomic_compare_exchange_strong(at(v), from, to);
}

/* ---- array ---- */

#define ARRAY_MAGIC 0x6b61727279303176ULL

/* `intent` is 0, or 1 + the item that `fresh` is on its way into: who takes the
 * lock copies it again.  Under `lock`, but for the sizes. */
struct array {
    uint64_t magic, count, item_bytes;
    struct keel_shrlock lock;
    _Atomic uint64_t intent;
    _Alignas(64) uint8_t fresh[]; /* then the items */
};

struct keel_sharray {
    struct keel_shared *memory;
    struct array *a;
};

static bool sizes(uint64_t count, uint64_t item_bytes, size_t *ret)
{
    uint64_t size;

    if (count < 1 || item_bytes < 1 ||
        __builtin_add_overflow(count, 1, &size) ||
        __builtin_mul_overflow(size, item_bytes, &size) ||
        __builtin_add_overflow(size, sizeof(struct array), &size) ||
        size > INT64_MAX)
        return false;
    *ret = size;
    return true;
}

static int array_wrap(struct keel_shared *memory, struct keel_sharray **ret)
{
    struct keel_sharray *a = keel_alloc(sizeof(*a));

    if (!a)
        return -ENOMEM;
    a->memory = memory;
    a->a = keel_shared_memory(memory);
    *ret = a;
    return 0;
}

int keel_sharray_new(size_t count, size_t item_bytes, struct keel_sharray **ret)
{
    keel_auto(shared) struct keel_shared *memory = NULL;
    struct array *a;
    size_t size;
    int rc;

    if (!sizes(count, item_bytes, &size))
        return -EINVAL;
    rc = keel_shared_new(size, &memory);
    if (rc < 0)
        return rc;
    a = keel_shared_memory(memory);
    a->count = count;
    a->item_bytes = item_bytes;
    a->magic = ARRAY_MAGIC;
    rc = array_wrap(memory, ret);
    if (rc == 0)
        memory = NULL;
    return rc;
}

static bool is_array(const void *head, size_t size)
{
    const struct array *a = head;
    size_t due;

    return a->magic == ARRAY_MAGIC && sizes(a->count, a->item_bytes, &due) &&
           due == size;
}

int keel_sharray_open(int fd, struct keel_sharray **ret)
{
    struct keel_shared *memory = NULL;
    int rc = shared_open_if(fd, sizeof(struct array), is_array, &memory);

    if (rc < 0)
        return rc;
    rc = array_wrap(memory, ret);
    if (rc < 0)
        keel_shared_unmap(memory);
    return rc;
}

void keel_sharray_free(struct keel_sharray *a)
{
    if (!a)
        return;
    keel_shared_free(a->memory);
    keel_free(a);
}

int keel_sharray_fd(const struct keel_sharray *a)
{
    return keel_shared_fd(a->memory);
}

size_t keel_sharray_count(const struct keel_sharray *a)
{
    return a->a->count;
}

static uint8_t *item(struct array *a, uint64_t i)
{
    return a->fresh + (i + 1) * a->item_bytes;
}

static void finish(struct array *a)
{
    uint64_t intent = atomic_load(&a->intent);

    if (!intent)
        return;
    STEP();
    memcpy(item(a, intent - 1), a->fresh, a->item_bytes);
    STEP();
    atomic_store(&a->intent, 0);
}

int keel_sharray_take(struct keel_sharray *a, keel_ns deadline)
{
    int rc = keel_shrlock_take(&a->a->lock, deadline);

    if (rc == 1)
        finish(a->a);
    return rc;
}

int keel_sharray_drop(struct keel_sharray *a)
{
    return keel_shrlock_drop(&a->a->lock);
}

int keel_sharray_get(struct keel_sharray *a, size_t i, void *to,
                     keel_ns deadline)
{
    int rc;

    if (i >= a->a->count)
        return -ERANGE;
    rc = keel_sharray_take(a, deadline);
    if (rc < 0)
        return rc;
    memcpy(to, item(a->a, i), a->a->item_bytes);
    return keel_sharray_drop(a);
}

int keel_sharray_set(struct keel_sharray *a, size_t i, const void *from,
                     keel_ns deadline)
{
    int rc;

    if (i >= a->a->count)
        return -ERANGE;
    rc = keel_sharray_take(a, deadline);
    if (rc < 0)
        return rc;
    memcpy(a->a->fresh, from, a->a->item_bytes);
    STEP();
    atomic_store(&a->a->intent, i + 1);
    finish(a->a);
    return keel_sharray_drop(a);
}
