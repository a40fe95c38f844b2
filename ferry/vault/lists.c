/* SPDX-License-Identifier: MIT */
#include "lists.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <keel/file.h>
#include <keel/lock.h>

#include "base/name.h"
#include "vault_inside.h"

enum {
    /* Of names, and how many of them at most: 8 MiB. */
    LIST_BYTES = 4 << 20,
    LIST_NAMES = 256 << 10,
    KEPT_BYTES = 16 << 20,
    KEPT_LISTS = 64,
    FIRST_BYTES = 16 << 10,
    RADIX_LEAST = 512, /* names that are worth it */
};
#define KEPT_FOR (60 * KEEL_SECOND)

/* Names are compared by `key` first: the 8 bytes behind what all names of the
 * list begin with, as a number. */
struct name_ref {
    uint64_t key;
    uint32_t at; /* in text */
};

/* Read-only once it is built.  `refs` counts who has it lent, and the cache. */
struct name_list {
    TAILQ_ENTRY(name_list) link;
    unsigned refs;
    bool kept;
    keel_ns used;
    struct ledger_file dir; /* device, inode, times */
    bool sure;              /* a change after it was read would show */
    bool whole;
    char after[NAME_BYTES + 1];
    unsigned count;
    size_t size, text_room, ref_room; /* of text, and what there is room for */
    char *text;
    struct name_ref *ref;
};

/* `kept` from the one used last to the first to go; all under `lock`. */
struct lists {
    struct keel_lock lock;
    TAILQ_HEAD(name_lists, name_list) kept;
    unsigned count;
    size_t bytes;
    uint64_t read;
    /* what one list holds; changed before it is used, by tests */
    size_t list_bytes;
    unsigned list_names;
};

int lists_new(struct lists **ret)
{
    struct lists *l = keel_calloc(1, sizeof *l);

    if (!l)
        return -ENOMEM;
    keel_lock_init(&l->lock);
    TAILQ_INIT(&l->kept);
    lists_window(l, LIST_BYTES, LIST_NAMES);
    *ret = l;
    return 0;
}

void lists_window(struct lists *l, size_t bytes, unsigned names)
{
    l->list_bytes = bytes;
    l->list_names = names;
}

static void list_free(struct name_list *n)
{
    if (!n)
        return;
    keel_free(n->text);
    keel_free(n->ref);
    keel_free(n);
}
KEEL_AUTO(name_list, struct name_list *, list_free)

static size_t list_cost(const struct name_list *n)
{
    return sizeof *n + n->text_room + n->ref_room * sizeof *n->ref;
}

/* ---- what a list says ------------------------------------------------------------- */

unsigned list_count(const struct name_list *n)
{
    return n->count;
}

const char *list_name(const struct name_list *n, unsigned i)
{
    return n->text + n->ref[i].at;
}

bool list_whole(const struct name_list *n)
{
    return n->whole;
}

unsigned list_after(const struct name_list *n, const char *after)
{
    unsigned from = 0, to = n->count;

    while (from < to) {
        unsigned middle = from + (to - from) / 2;

        if (strcmp(list_name(n, middle), after) > 0)
            to = middle;
        else
            from = middle + 1;
    }
    return from;
}

/* ---- sorting ------------------------------------------------------------------------ */

static const char *last_of(const struct name_list *n)
{
    return list_name(n, n->count - 1);
}

/* How many bytes all names begin with. */
static size_t common_prefix(const struct name_list *n)
{
    const char *first = list_name(n, 0);
    size_t size = strlen(first);

    for (unsigned i = 1; i < n->count && size > 0; i++) {
        const char *name = list_name(n, i);
        size_t k = 0;

        while (k < size && name[k] == first[k])
            k++;
        size = k;
    }
    return size;
}

static uint64_t key_of(const char *name)
{
    uint64_t key = 0;
    int i = 0;

    for (; i < 8 && name[i]; i++)
        key = key << 8 | (uint8_t)name[i];
    return key << 8 * (unsigned)(8 - i) % 64;
}

static int by_name(const void *a, const void *b, void *arg)
{
    const struct name_ref *x = a, *y = b;
    const char *text = arg;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return strcmp(text + x->at, text + y->at);
}

/* From the last byte of the key to the first; bytes that are the same in all
 * keys are passed over.  A third of what comparing takes. */
static int sort_by_key(struct name_list *n)
{
    keel_auto(mem) void *memory = keel_alloc(n->count * sizeof *n->ref);
    struct name_ref *from = n->ref, *to = memory, *swap;

    if (!to)
        return -ENOMEM;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        unsigned starts[257] = {0};

        for (unsigned i = 0; i < n->count; i++)
            starts[(from[i].key >> shift & 0xff) + 1]++;
        if (starts[(from[0].key >> shift & 0xff) + 1] == n->count)
            continue;
        for (unsigned b = 1; b < 257; b++)
            starts[b] += starts[b - 1];
        for (unsigned i = 0; i < n->count; i++)
            to[starts[from[i].key >> shift & 0xff]++] = from[i];
        swap = from;
        from = to;
        to = swap;
    }
    if (from != n->ref)
        memcpy(n->ref, from, n->count * sizeof *n->ref);
    return 0;
}

static void list_sort(struct name_list *n)
{
    size_t common;

    if (n->count < 2)
        return;
    common = common_prefix(n);
    for (unsigned i = 0; i < n->count; i++)
        n->ref[i].key = key_of(list_name(n, i) + common);
    if (n->count < RADIX_LEAST || sort_by_key(n) < 0) {
        qsort_r(n->ref, n->count, sizeof *n->ref, by_name, n->text);
        return;
    }
    /* Names whose keys are the same stand together now. */
    for (unsigned i = 0, k; i < n->count; i = k) {
        for (k = i + 1; k < n->count && n->ref[k].key == n->ref[i].key;)
            k++;
        if (k - i > 1)
            qsort_r(n->ref + i, k - i, sizeof *n->ref, by_name, n->text);
    }
}

/* ---- reading a directory ---------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const struct name_ref *x = a, *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

/* Full: the smaller half stays, and what is greater than its last name is for
 * another list. */
static void list_halve(struct name_list *n, char ret_last[NAME_BYTES + 1])
{
    size_t to = 0;

    list_sort(n);
    n->count /= 2;
    memcpy(ret_last, last_of(n), strlen(last_of(n)) + 1);
    n->whole = false;
    /* Moved down in the order in which they lie. */
    qsort(n->ref, n->count, sizeof *n->ref, by_place);
    for (unsigned i = 0; i < n->count; i++) {
        size_t size = strlen(list_name(n, i)) + 1;

        memmove(n->text + to, list_name(n, i), size);
        n->ref[i].at = (uint32_t)to;
        to += size;
    }
    n->size = to;
}

static int list_grow(struct name_list *n, size_t size)
{
    if (n->size + size > n->text_room) {
        size_t room = n->text_room ? n->text_room * 2 : FIRST_BYTES;
        char *text = keel_realloc(n->text, room);

        if (!text)
            return -ENOMEM;
        n->text = text;
        n->text_room = room;
    }
    if (n->count == n->ref_room) {
        size_t room = n->ref_room ? n->ref_room * 2 : FIRST_BYTES / 16;
        struct name_ref *ref = keel_realloc(n->ref, room * sizeof *ref);

        if (!ref)
            return -ENOMEM;
        n->ref = ref;
        n->ref_room = room;
    }
    return 0;
}

struct reading_names {
    const struct lists *lists;
    struct name_list *list;
    char bound[NAME_BYTES + 1]; /* "", or the greatest that is wanted */
};

static bool is_wanted(const struct reading_names *r, const char *name)
{
    return strcmp(name, r->list->after) > 0 &&
           (!*r->bound || strcmp(name, r->bound) < 0);
}

static int read_name(const char *name, unsigned char type, void *arg)
{
    struct reading_names *r = arg;
    struct name_list *n = r->list;
    size_t size = strlen(name) + 1;
    int rc;

    (void)type;
    if (size > sizeof n->after || !is_wanted(r, name))
        return 0;
    if (n->size + size > r->lists->list_bytes ||
        n->count == r->lists->list_names) {
        list_halve(n, r->bound);
        if (!is_wanted(r, name))
            return 0;
    }
    rc = list_grow(n, size);
    if (rc < 0)
        return rc;
    memcpy(n->text + n->size, name, size);
    n->ref[n->count++].at = (uint32_t)n->size;
    n->size += size;
    return 0;
}

/* Gives back what doubling took too much. */
static void list_fit(struct name_list *n)
{
    void *fit;

    if (n->count == 0)
        return;
    fit = keel_realloc(n->text, n->size);
    if (fit) {
        n->text = fit;
        n->text_room = n->size;
    }
    fit = keel_realloc(n->ref, n->count * sizeof *n->ref);
    if (fit) {
        n->ref = fit;
        n->ref_room = n->count;
    }
}

static int list_read(struct lists *l, int dir, const struct statx *now,
                     const char *after, struct name_list **ret)
{
    keel_auto(name_list) struct name_list *n = keel_calloc(1, sizeof *n);
    struct reading_names r = {.lists = l, .list = n};
    int rc;

    if (!n)
        return -ENOMEM;
    n->refs = 1;
    n->whole = true;
    store_identity(now, &n->dir);
    n->sure = keel_wall_ns() - n->dir.ctime_ns > CLOCK_TICK;
    memcpy(n->after, after, strlen(after) + 1);
    rc = keel_file_list(dir, read_name, &r);
    if (rc < 0)
        return rc;
    list_sort(n);
    list_fit(n);
    *ret = keel_take(n);
    return 0;
}

/* ---- keeping them -------------------------------------------------------------------------- */

static void drop(struct name_list *n)
{
    if (--n->refs == 0)
        list_free(n);
}

static void forget(struct lists *l, struct name_list *n)
{
    TAILQ_REMOVE(&l->kept, n, link);
    n->kept = false;
    l->count--;
    l->bytes -= list_cost(n);
    drop(n);
}

/* What is too old or too much goes. */
static void shrink(struct lists *l)
{
    keel_ns oldest = keel_now() - KEPT_FOR;
    struct name_list *n;

    while ((n = TAILQ_LAST(&l->kept, name_lists)) &&
           (n->used < oldest || l->bytes > KEPT_BYTES || l->count > KEPT_LISTS))
        forget(l, n);
}

static bool same_dir(const struct name_list *n, const struct ledger_file *dir)
{
    return n->dir.device == dir->device && n->dir.inode == dir->inode;
}

static bool serves(const struct name_list *n, const struct ledger_file *dir,
                   const char *after)
{
    return n->sure && n->dir.mtime_ns == dir->mtime_ns &&
           n->dir.ctime_ns == dir->ctime_ns && strcmp(n->after, after) <= 0 &&
           (n->whole || (n->count > 0 && strcmp(after, last_of(n)) < 0));
}

static struct name_list *find(struct lists *l, const struct statx *now,
                              const char *after)
{
    keel_guard(&l->lock);
    struct ledger_file dir;
    struct name_list *n;

    store_identity(now, &dir);
    shrink(l);
    TAILQ_FOREACH (n, &l->kept, link) {
        if (!same_dir(n, &dir) || !serves(n, &dir, after))
            continue;
        TAILQ_REMOVE(&l->kept, n, link);
        TAILQ_INSERT_HEAD(&l->kept, n, link);
        n->used = keel_now();
        n->refs++;
        return n;
    }
    l->read++;
    return NULL;
}

int list_get(struct lists *l, int dir, const struct statx *now,
             const char *after, struct name_list **ret)
{
    struct name_list *n = find(l, now, after);
    int rc = 0;

    if (!n)
        rc = list_read(l, dir, now, after, &n);
    if (rc == 0)
        *ret = n;
    return rc;
}

/* Of one directory one list is kept: who reads on asks for the next one. */
static void keep(struct lists *l, struct name_list *n)
{
    struct name_list *other, *next;

    for (other = TAILQ_FIRST(&l->kept); other; other = next) {
        next = TAILQ_NEXT(other, link);
        if (same_dir(other, &n->dir))
            forget(l, other);
    }
    n->refs++;
    n->kept = true;
    n->used = keel_now();
    l->count++;
    l->bytes += list_cost(n);
    TAILQ_INSERT_HEAD(&l->kept, n, link);
}

void list_put(struct lists *l, struct name_list *n, bool wanted)
{
    keel_guard(&l->lock);

    if (wanted && !n->kept && n->sure)
        keep(l, n);
    else if (!wanted && n->kept)
        forget(l, n);
    drop(n);
    shrink(l);
}

void lists_free(struct lists *l)
{
    struct name_list *n;

    if (!l)
        return;
    while ((n = TAILQ_FIRST(&l->kept)))
        forget(l, n);
    keel_lock_fini(&l->lock);
    keel_free(l);
}

uint64_t lists_read(struct lists *l)
{
    keel_guard(&l->lock);

    return l->read;
}

size_t lists_bytes(struct lists *l)
{
    keel_guard(&l->lock);

    return l->bytes;
}
