/* SPDX-License-Identifier: MIT */
#include <keel/map.h>

#include <errno.h>
#include <string.h>

#include <keel/lock.h>

#include "loop/sched.h"

enum { PARTS = 64, SLOTS_FIRST = 8 };

struct entry {
    uint64_t hash;
    void *value;
    size_t size;
    uint8_t key[];
};

/* Invariants, under `lock`:
 *   slots is 0 or a power of two, and more than a quarter of them are empty
 *   an entry lies in the slot its hash names, or behind it with no empty slot
 *     between them */
struct part {
    struct keel_lock lock;
    struct entry **table;
    size_t slots;
    size_t count; /* also read without the lock, for the sum */
};

struct keel_map {
    struct part part[PARTS];
    uint64_t secret[2];
};

/* ---- the hash: SipHash-1-3 (Aumasson, Bernstein), keyed ---- */

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static uint64_t hash_of(const struct keel_map *m, const uint8_t *key,
                        size_t size)
{
    uint64_t v[4] = {
        m->secret[0] ^ 0x736f6d6570736575, m->secret[1] ^ 0x646f72616e646f6d,
        m->secret[0] ^ 0x6c7967656e657261, m->secret[1] ^ 0x7465646279746573};
    uint64_t word, last = (uint64_t)size << 56;

    for (; size >= 8; key += 8, size -= 8) {
        memcpy(&word, key, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    for (size_t i = 0; i < size; i++)
        last |= (uint64_t)key[i] << (8 * i);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ---- one part, under its lock ---- */

/* The hash's upper bits choose the part, the lower ones the slot. */
static struct part *part_of(struct keel_map *m, uint64_t hash)
{
    return &m->part[hash >> 58];
}

/* The slot of the key, or the empty one where it would be put; NULL: there are
 * no slots yet. */
static struct entry **find(const struct part *p, uint64_t hash, const void *key,
                           size_t size)
{
    if (p->slots == 0)
        return NULL;
    for (size_t i = hash;; i++) {
        struct entry **at = &p->table[i & (p->slots - 1)];

        if (!*at || ((*at)->hash == hash && (*at)->size == size &&
                     (size == 0 || !memcmp((*at)->key, key, size))))
            return at;
    }
}

static struct entry *find_there(const struct part *p, uint64_t hash,
                                const void *key, size_t size)
{
    struct entry **at = find(p, hash, key, size);

    return at ? *at : NULL;
}

/* Makes room for one more. */
static int grow(struct part *p)
{
    struct part larger = {.slots = p->slots ? p->slots * 2 : SLOTS_FIRST};

    if (p->count + 1 <= p->slots / 4 * 3)
        return 0;
    larger.table = keel_calloc(larger.slots, sizeof *larger.table);
    if (!larger.table)
        return -ENOMEM;
    for (size_t i = 0; i < p->slots; i++) {
        struct entry *e = p->table[i];
        size_t to;

        if (!e)
            continue;
        for (to = e->hash & (larger.slots - 1); larger.table[to];)
            to = (to + 1) & (larger.slots - 1);
        larger.table[to] = e;
    }
    keel_free(p->table);
    p->table = larger.table;
    p->slots = larger.slots;
    return 0;
}

static void set_count(struct part *p, size_t count)
{
    __atomic_store_n(&p->count, count, __ATOMIC_RELAXED);
}

/* Puts a new entry, whose key is not there. */
static int insert(struct part *p, uint64_t hash, const void *key, size_t size,
                  struct entry **ret)
{
    struct entry *e;

    if (grow(p) < 0)
        return -ENOMEM;
    e = keel_alloc(sizeof *e + size);
    if (!e)
        return -ENOMEM;
    e->hash = hash;
    e->value = NULL;
    e->size = size;
    if (size > 0)
        memcpy(e->key, key, size);
    *find(p, hash, key, size) = e;
    set_count(p, p->count + 1);
    *ret = e;
    return 0;
}

/* Those behind it move up, as far as no one comes before its own slot. */
static void take_out(struct part *p, struct entry *e)
{
    size_t mask = p->slots - 1, hole = e->hash & mask, i;

    while (p->table[hole] != e)
        hole = (hole + 1) & mask;
    for (i = (hole + 1) & mask; p->table[i]; i = (i + 1) & mask)
        if (((i - p->table[i]->hash) & mask) >= ((i - hole) & mask)) {
            p->table[hole] = p->table[i];
            hole = i;
        }
    p->table[hole] = NULL;
    set_count(p, p->count - 1);
    keel_free(e);
}

/* ---- the calls ---- */

int keel_map_new(struct keel_map **ret)
{
    struct keel_map *m = keel_calloc(1, sizeof *m);

    if (!m)
        return -ENOMEM;
    keel_random(m->secret, sizeof m->secret);
    for (int i = 0; i < PARTS; i++)
        keel_lock_init(&m->part[i].lock);
    *ret = m;
    return 0;
}

void keel_map_free(struct keel_map *m)
{
    if (!m)
        return;
    keel_map_clear(m, NULL);
    for (int i = 0; i < PARTS; i++)
        keel_lock_fini(&m->part[i].lock);
    keel_free(m);
}

void *keel_map_get(struct keel_map *m, const void *key, size_t size)
{
    uint64_t hash = hash_of(m, key, size);
    struct part *p = part_of(m, hash);
    struct entry *e;

    keel_guard(&p->lock);
    e = find_there(p, hash, key, size);
    return e ? e->value : NULL;
}

int keel_map_look(struct keel_map *m, const void *key, size_t size,
                  int (*fn)(void *value, void *arg), void *arg)
{
    uint64_t hash = hash_of(m, key, size);
    struct part *p = part_of(m, hash);
    struct entry *e;

    keel_guard(&p->lock);
    e = find_there(p, hash, key, size);
    return e ? fn(e->value, arg) : -ENOENT;
}

int keel_map_update(struct keel_map *m, const void *key, size_t size,
                    void *(*fn)(void *value, void *arg), void *arg)
{
    uint64_t hash;
    struct part *p;
    struct entry *e;

    if (size > KEEL_MAP_KEY_BYTES)
        return -EINVAL;
    hash = hash_of(m, key, size);
    p = part_of(m, hash);
    keel_guard(&p->lock);
    e = find_there(p, hash, key, size);
    /* First: fn may do what cannot be undone. */
    if (!e && insert(p, hash, key, size, &e) < 0)
        return -ENOMEM;
    e->value = fn(e->value, arg);
    if (!e->value)
        take_out(p, e);
    return 0;
}

struct swap {
    void *value, *old;
};

static void *put_value(void *value, void *arg)
{
    struct swap *s = arg;

    s->old = value;
    return s->value;
}

int keel_map_put(struct keel_map *m, const void *key, size_t size, void *value,
                 void **ret_old)
{
    struct swap s = {.value = value};
    int rc;

    if (!value)
        misuse("keel_map_put", m, "the value is NULL");
    rc = keel_map_update(m, key, size, put_value, &s);
    if (rc == 0 && ret_old)
        *ret_old = s.old;
    return rc;
}

static void *add_value(void *value, void *arg)
{
    struct swap *s = arg;

    s->old = value;
    return value ? value : s->value;
}

int keel_map_add(struct keel_map *m, const void *key, size_t size, void *value,
                 void **ret_there)
{
    struct swap s = {.value = value};
    int rc;

    if (!value)
        misuse("keel_map_add", m, "the value is NULL");
    rc = keel_map_update(m, key, size, add_value, &s);
    if (rc < 0 || !s.old)
        return rc;
    if (ret_there)
        *ret_there = s.old;
    return -EEXIST;
}

void *keel_map_remove(struct keel_map *m, const void *key, size_t size)
{
    uint64_t hash = hash_of(m, key, size);
    struct part *p = part_of(m, hash);
    void *value = NULL;
    struct entry *e;

    keel_guard(&p->lock);
    e = find_there(p, hash, key, size);
    if (e) {
        value = e->value;
        take_out(p, e);
    }
    return value;
}

size_t keel_map_count(struct keel_map *m)
{
    size_t sum = 0;

    for (int i = 0; i < PARTS; i++)
        sum += __atomic_load_n(&m->part[i].count, __ATOMIC_RELAXED);
    return sum;
}

static int each_of(struct part *p,
                   int (*fn)(const void *key, size_t size, void *value,
                             void *arg),
                   void *arg)
{
    int rc = 0;

    keel_guard(&p->lock);
    for (size_t i = 0; rc == 0 && i < p->slots; i++) {
        struct entry *e = p->table[i];

        if (e)
            rc = fn(e->key, e->size, e->value, arg);
    }
    return rc;
}

int keel_map_each(struct keel_map *m,
                  int (*fn)(const void *key, size_t size, void *value,
                            void *arg),
                  void *arg)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < PARTS; i++)
        rc = each_of(&m->part[i], fn, arg);
    return rc;
}

static void clear_part(struct part *p, void (*drop)(void *value))
{
    struct entry **table;
    size_t slots;

    /* Dropping goes without the lock: it may take its time, and use the map. */
    keel_lock_hold(&p->lock);
    table = p->table;
    slots = p->slots;
    p->table = NULL;
    p->slots = 0;
    set_count(p, 0);
    keel_lock_drop(&p->lock);
    for (size_t i = 0; i < slots; i++) {
        if (table[i] && drop)
            drop(table[i]->value);
        keel_free(table[i]);
    }
    keel_free(table);
}

void keel_map_clear(struct keel_map *m, void (*drop)(void *value))
{
    for (int i = 0; i < PARTS; i++)
        clear_part(&m->part[i], drop);
}
