/* SPDX-License-Identifier: MIT */
#include "account/delay.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

#include <keel/address.h>
#include <keel/lock.h>

enum { BUCKETS = 2048 };

struct entry {
    struct delay_key key;
    unsigned failures;
    keel_ns next, last; /* the next try; the last failure */
    LIST_ENTRY(entry) chain;
    TAILQ_ENTRY(entry) age;
};

/* An entry is in `spare`, or in `ages` and one bucket; `ages` begins with the
 * one looked at least recently.  All under `lock`, never held across a wait. */
struct delays {
    struct keel_lock lock;
    uint64_t seed;
    size_t count;
    LIST_HEAD(bucket, entry) buckets[BUCKETS];
    LIST_HEAD(spare, entry) spare;
    TAILQ_HEAD(ages, entry) ages;
    struct entry entries[DELAY_ENTRIES];
};

int delays_new(struct delays **ret)
{
    struct delays *d = keel_calloc(1, sizeof *d);

    if (!d)
        return -ENOMEM;
    keel_lock_init(&d->lock);
    /* So that nobody can aim at one bucket. */
    keel_random(&d->seed, sizeof d->seed);
    TAILQ_INIT(&d->ages);
    for (size_t i = 0; i < DELAY_ENTRIES; i++)
        LIST_INSERT_HEAD(&d->spare, &d->entries[i], chain);
    *ret = d;
    return 0;
}

void delays_free(struct delays *d)
{
    if (!d)
        return;
    keel_lock_fini(&d->lock);
    keel_free(d);
}

/* ---- keys ------------------------------------------------------------------------ */
static void address_key(const struct keel_address *from, uint8_t ret[16])
{
    const struct keel_address a = keel_address_unmap(from);

    if (a.family == KEEL_V4) {
        ret[10] = ret[11] = 0xff;
        memcpy(ret + 12, a.bytes, 4);
    } else {
        /* Whoever has one address of a /64 has them all. */
        memcpy(ret, a.bytes, 8);
    }
}

/* A peer is "1.2.3.4:5", "1.2.3.4", "[::1]:5" or "::1". */
void delay_key(const char *peer, const char *name, struct delay_key *ret)
{
    struct delay_key key = {0};
    struct keel_address a;

    if (keel_address_parse(peer, &a) == 0 || keel_ip_parse(peer, &a) == 0)
        address_key(&a, key.address);
    else /* a pipe or a socket of this machine: its name as it is */
        memcpy(key.address, peer, strnlen(peer, sizeof key.address));
    snprintf(key.name, sizeof key.name, "%s", name);
    *ret = key;
}

/* FNV-1a from a secret start. */
static struct bucket *bucket_of(struct delays *d, const struct delay_key *key)
{
    const uint8_t *bytes = (const uint8_t *)key;
    uint64_t h = 0xcbf29ce484222325u ^ d->seed;

    for (size_t i = 0; i < sizeof *key; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    return &d->buckets[(h ^ h >> 32) % BUCKETS];
}

static void forget(struct delays *d, struct entry *e)
{
    LIST_REMOVE(e, chain);
    TAILQ_REMOVE(&d->ages, e, age);
    LIST_INSERT_HEAD(&d->spare, e, chain);
    d->count--;
}

static struct entry *find(struct delays *d, const struct delay_key *key)
{
    struct entry *e;

    LIST_FOREACH (e, bucket_of(d, key), chain) {
        if (memcmp(&e->key, key, sizeof *key) == 0)
            break;
    }
    if (!e)
        return NULL;
    if (keel_now() - e->last > DELAY_FORGOTTEN) {
        forget(d, e);
        return NULL;
    }
    TAILQ_REMOVE(&d->ages, e, age);
    TAILQ_INSERT_TAIL(&d->ages, e, age);
    return e;
}

static struct entry *make(struct delays *d, const struct delay_key *key)
{
    struct entry *e;

    if (LIST_EMPTY(&d->spare))
        forget(d, TAILQ_FIRST(&d->ages));
    e = LIST_FIRST(&d->spare);
    LIST_REMOVE(e, chain);
    *e = (struct entry){.key = *key};
    LIST_INSERT_HEAD(bucket_of(d, key), e, chain);
    TAILQ_INSERT_TAIL(&d->ages, e, age);
    d->count++;
    return e;
}

/* ---- turns ------------------------------------------------------------------------ */
static keel_ns span(const struct entry *e)
{
    keel_ns s = DELAY_LEAST;

    for (unsigned i = 1; i < e->failures && s < DELAY_MOST; i++)
        s *= 2;
    return s < DELAY_MOST ? s : DELAY_MOST;
}

keel_ns delay_turn(struct delays *d, const struct delay_key *key)
{
    keel_guard(&d->lock);
    struct entry *e = find(d, key);
    keel_ns now = keel_now(), turn;

    if (!e)
        return KEEL_NOW;
    turn = e->next > now ? e->next : now;
    /* A row of others' tries makes nobody wait longer than the longest wait. */
    if (turn > now + DELAY_MOST)
        turn = now + DELAY_MOST;
    e->next = turn + span(e);
    return turn > now ? turn : KEEL_NOW;
}

void delay_left(struct delays *d, const struct delay_key *key, keel_ns turn)
{
    keel_guard(&d->lock);
    struct entry *e = find(d, key);

    /* With others behind it the place stays empty. */
    if (e && e->next == turn + span(e))
        e->next = turn;
}

void delay_failed(struct delays *d, const struct delay_key *key)
{
    keel_guard(&d->lock);
    struct entry *e = find(d, key);
    keel_ns next;

    if (!e)
        e = make(d, key);
    e->failures++;
    e->last = keel_now();
    next = e->last + span(e);
    if (next > e->next)
        e->next = next;
}

void delay_passed(struct delays *d, const struct delay_key *key)
{
    keel_guard(&d->lock);
    struct entry *e = find(d, key);

    if (e)
        forget(d, e);
}

size_t delay_count(struct delays *d)
{
    keel_guard(&d->lock);

    return d->count;
}
