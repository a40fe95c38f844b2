/* SPDX-License-Identifier: MIT */
/* A ring whose cells name their owner in the claim itself.  There is no lock.
 * Each cell has one 64-bit word, and the word is the only truth:
 *
 *     63            24 23  21 20      0
 *    +----------------+-------+---------+
 *    | position (40)  | state | owner   |
 *    +----------------+-------+---------+
 *
 *   FREE(p) --put claims--> WRITING(p,X) --X commits--> READY(p)
 *     |                       | X is dead                 | get claims
 *     | close, when empty     v                           v
 *     v      FREE(p+N) <-- HOLE(p)                     READING(p,Y)
 *   CLOSED(p)                                             |
 *           FREE(p+N) <--Y releases, or anybody once Y is dead
 *
 *   READY(p) --> PEEKING(p,Y) --Y, or anybody once Y is dead--> READY(p)
 *
 * Invariants:
 *  1. A word moves only along these arrows, each by one atomic instruction.
 *  2. Out of WRITING, READING and PEEKING a word is moved by its owner, or by
 *     anybody after that is dead, never by both: a dead thread does nothing.
 *  3. Positions only grow, modulo 2^40, a day at 10 M a second: a repair that
 *     was delayed does not hit a later message.
 *  4. A cell's message is touched only by the owner that the word names.
 *  5. Positions are claimed in order: while FREE(p) stands, no later one is.
 *  6. head and tail are hints: any old value is right, only slower.
 *
 * Sleeping: a bell is a futex word, bit 0 = "somebody may sleep here".
 *   sleeper: set bit 0, look again, sleep while the word is unchanged
 *   ringer:  commit (a locked instruction), load the bell; if bit 0 is set,
 *            clear it, count up and wake one
 *   woken:   set bit 0 for the others, take, and if more is there ring
 * Commit-then-load against set-then-look: one of the two sees the other.  The
 * woken one's ring covers a put that fell between the clear and its own set.  A
 * wake that dies with the one who had it is made good by the death: everybody
 * looks again (family.h).
 *
 * Unfinished are the messages in cells, and what each living owner has got and
 * not answered, which it counts by itself before it frees the cell.  No count
 * is shared, so that none can be left wrong. */
#include <keel/shqueue.h>

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <keel/shared.h>

#include "family.h"
#include "loop/sched.h"
#include "shared_inside.h"

#define MAGIC 0x6b71756575653031ULL
enum { NEAR_BYTES = 48 };
enum { FREE, WRITING, READY, READING, PEEKING, HOLE, CLOSED };

struct cell {
    _Alignas(64) _Atomic uint64_t word;
    _Atomic uint32_t bytes;
    uint8_t near[NEAR_BYTES];
};

/* What an owner has got and not answered; `owner` says whose it is. */
struct account {
    _Alignas(64) _Atomic uint64_t owner;
    _Atomic uint64_t count;
};

struct ring {
    uint64_t magic, slots, far_bytes, far_at;
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) _Atomic uint64_t head;
    _Alignas(64) _Atomic uint32_t not_empty;
    _Alignas(64) _Atomic uint32_t not_full;
    _Alignas(64) _Atomic uint32_t finished; /* a bell for join */
    _Atomic uint32_t closed;
    struct account account[PLACES];
    struct cell cell[];
};

struct keel_shqueue {
    struct ring *r;
    struct keel_shared *memory;
    uint64_t mask;
};

#define POSITION_MASK ((1ULL << 40) - 1)

static inline uint64_t word(uint64_t p, unsigned state, uint32_t owner)
{
    return p << 24 | (uint64_t)state << 21 | owner;
}

static inline uint64_t position(uint64_t w)
{
    return w >> 24;
}

static inline unsigned state(uint64_t w)
{
    return w >> 21 & 7;
}

static inline uint32_t owner(uint64_t w)
{
    return w & OWNER_MASK;
}

/* a - b, of positions. */
static inline int64_t ahead(uint64_t a, uint64_t b)
{
    return (int64_t)((a - b) << 24) >> 24;
}

static inline uint64_t step_on(uint64_t p, int64_t by)
{
    return (p + (uint64_t)by) & POSITION_MASK;
}

static inline struct cell *cell_of(struct keel_shqueue *q, uint64_t p)
{
    return &q->r->cell[p & q->mask];
}

static void *data_of(struct keel_shqueue *q, struct cell *c, size_t size)
{
    if (size <= NEAR_BYTES)
        return c->near;
    return (uint8_t *)q->r + q->r->far_at +
           (uint64_t)(c - q->r->cell) * q->r->far_bytes;
}

/* ---- making and opening ---- */

static bool sizes(uint64_t slots, uint64_t far_bytes, uint64_t *ret_far_at,
                  uint64_t *ret_size)
{
    uint64_t near = sizeof(struct ring) + slots * sizeof(struct cell);

    *ret_far_at = (near + 4095) & ~4095ULL;
    *ret_size = *ret_far_at + slots * far_bytes;
    return slots >= 1 && slots <= KEEL_SHQUEUE_SLOTS_MOST &&
           !(slots & (slots - 1)) && far_bytes <= KEEL_SHQUEUE_MESSAGE_MOST;
}

static int wrap(struct keel_shared *memory, struct keel_shqueue **ret)
{
    struct keel_shqueue *q = keel_calloc(1, sizeof(*q));

    if (!q)
        return -ENOMEM;
    q->memory = memory;
    q->r = keel_shared_memory(memory);
    q->mask = q->r->slots - 1;
    *ret = q;
    return 0;
}

int keel_shqueue_new(size_t slots, size_t message_most,
                     struct keel_shqueue **ret)
{
    keel_auto(shared) struct keel_shared *memory = NULL;
    uint64_t count = 1, far_bytes = 0, far_at, size;
    struct ring *r;
    int rc;

    if (slots < 1 || slots > KEEL_SHQUEUE_SLOTS_MOST ||
        message_most > KEEL_SHQUEUE_MESSAGE_MOST)
        return -EINVAL;
    while (count < slots)
        count *= 2;
    if (message_most > NEAR_BYTES)
        far_bytes = message_most;
    keel_assert(sizes(count, far_bytes, &far_at, &size));
    rc = family_fd(); /* before anybody else can have it */
    if (rc >= 0)
        rc = keel_shared_new(size, &memory);
    if (rc < 0)
        return rc;
    r = keel_shared_memory(memory);
    r->slots = count;
    r->far_bytes = far_bytes;
    r->far_at = far_at;
    for (uint64_t i = 0; i < count; i++)
        atomic_init(&r->cell[i].word, word(i, FREE, 0));
    r->magic = MAGIC;
    rc = wrap(memory, ret);
    if (rc == 0)
        memory = NULL;
    return rc;
}

static bool is_ring(const void *head, size_t size)
{
    const struct ring *r = head;
    uint64_t far_at, due;

    return r->magic == MAGIC && sizes(r->slots, r->far_bytes, &far_at, &due) &&
           far_at == r->far_at && due == size;
}

int keel_shqueue_open(int fd, struct keel_shqueue **ret)
{
    struct keel_shared *memory = NULL;
    int rc = shared_open_if(fd, sizeof(struct ring), is_ring, &memory);

    if (rc < 0)
        return rc;
    rc = wrap(memory, ret);
    if (rc < 0)
        keel_shared_unmap(memory);
    return rc;
}

void keel_shqueue_free(struct keel_shqueue *q)
{
    if (!q)
        return;
    keel_shared_free(q->memory);
    keel_free(q);
}

int keel_shqueue_fd(const struct keel_shqueue *q)
{
    return keel_shared_fd(q->memory);
}

/* ---- bells ---- */

static void ring(_Atomic uint32_t *bell, int sleepers)
{
    uint32_t v = atomic_load(bell);

    while (v & 1) {
        STEP();
        if (atomic_compare_exchange_weak(bell, &v, (v + 2) & ~1U)) {
            STEP();
            family_wake(bell, sleepers);
            return;
        }
    }
}

/* ---- the dead ---- */

/* Moves a word out of a dead owner's hands; true: look again. */
static bool mend(struct keel_shqueue *q, struct cell *c, uint64_t w)
{
    uint64_t next;

    switch (state(w)) {
    case WRITING:
        next = word(position(w), HOLE, 0);
        break;
    case PEEKING:
        next = word(position(w), READY, 0);
        break;
    case READING:
        next = word(step_on(position(w), (int64_t)q->r->slots), FREE, 0);
        break;
    default:
        return false;
    }
    if (!family_dead(owner(w)))
        return false;
    STEP();
    (void)atomic_compare_exchange_strong(&c->word, &w, next);
    STEP();
    return true;
}

/* ---- put ---- */

static int put(struct keel_shqueue *q, uint32_t me, const void *data,
               size_t size)
{
    struct ring *r = q->r;
    uint64_t t = atomic_load_explicit(&r->tail, memory_order_relaxed);
    struct cell *c;

    if (size > NEAR_BYTES && size > r->far_bytes)
        return -EMSGSIZE;
    for (;;) {
        uint64_t w;

        c = cell_of(q, t);
        w = atomic_load_explicit(&c->word, memory_order_acquire);
        if (w == word(t, FREE, 0)) {
            if (atomic_load_explicit(&r->closed, memory_order_relaxed))
                return -EPIPE;
            STEP();
            if (atomic_compare_exchange_strong(&c->word, &w,
                                               word(t, WRITING, me)))
                break;
        } else if (ahead(position(w), t) < 0) {
            if (atomic_load_explicit(&r->closed, memory_order_relaxed))
                return -EPIPE;
            if (!mend(q, c, w))
                return -EAGAIN;
        } else if (state(w) == CLOSED) {
            return -EPIPE;
        } else { /* taken: next, or a lap on if the hint was that old */
            t = ahead(position(w), t) > 0
                    ? step_on(position(w), 1 - (int64_t)r->slots)
                    : step_on(t, 1);
        }
    }
    STEP();
    atomic_store_explicit(&r->tail, step_on(t, 1), memory_order_relaxed);
    STEP();
    atomic_store_explicit(&c->bytes, (uint32_t)size, memory_order_relaxed);
    if (size > 0)
        memcpy(data_of(q, c, size), data, size);
    STEP();
    (void)atomic_exchange(&c->word, word(t, READY, 0)); /* the commit */
    STEP();
    return 0;
}

/* ---- get ---- */

/* The oldest message's cell, claimed as `claim`; -EAGAIN, -EPIPE, or -EMSGSIZE
 * with nothing claimed. */
static int claim_oldest(struct keel_shqueue *q, uint32_t me, unsigned claim,
                        size_t room, struct cell **ret, uint64_t *ret_position)
{
    struct ring *r = q->r;
    uint64_t h = atomic_load_explicit(&r->head, memory_order_relaxed);

    for (;;) {
        struct cell *c = cell_of(q, h);
        uint64_t w = atomic_load_explicit(&c->word, memory_order_acquire);
        int64_t lead = ahead(position(w), h);

        if (lead > 0) {
            h = step_on(position(w), 1 - (int64_t)r->slots);
        } else if (lead < 0) {
            return -EAGAIN; /* the queue is empty from here, a lap behind */
        } else if (state(w) == READING) {
            h = step_on(h, 1);
        } else if (state(w) == READY) {
            if (atomic_load_explicit(&c->bytes, memory_order_relaxed) > room) {
                /* Of this message, if it is still there. */
                if (atomic_load(&c->word) == w)
                    return -EMSGSIZE;
                continue;
            }
            STEP();
            if (atomic_compare_exchange_strong(&c->word, &w,
                                               word(h, claim, me))) {
                *ret = c;
                *ret_position = h;
                return 0;
            }
        } else if (state(w) == HOLE) {
            STEP();
            if (atomic_compare_exchange_strong(
                    &c->word, &w, word(step_on(h, (int64_t)r->slots), FREE, 0)))
                ring(&r->not_full, 1);
        } else if (state(w) == CLOSED) {
            return -EPIPE;
        } else if (state(w) == FREE) {
            if (!atomic_load(&r->closed))
                return -EAGAIN;
            /* Nobody puts here any more: empty for good. */
            STEP();
            (void)atomic_compare_exchange_strong(&c->word, &w,
                                                 word(h, CLOSED, 0));
            ring(&r->not_empty, INT32_MAX);
        } else if (!mend(q, c, w)) {
            return -EAGAIN;
        }
    }
}

/* Before the cell is free: a join sees the message here or there. */
static void account_add(struct keel_shqueue *q, uint32_t me)
{
    struct account *a = &q->r->account[me % PLACES];

    if (atomic_load_explicit(&a->owner, memory_order_relaxed) == me) {
        (void)atomic_fetch_add(&a->count, 1);
        return;
    }
    atomic_store(&a->count, 1);
    STEP();
    atomic_store(&a->owner, me);
}

static int get(struct keel_shqueue *q, uint32_t me, void *buf, size_t room,
               size_t *ret_size, bool counted)
{
    struct ring *r = q->r;
    struct cell *c;
    uint64_t h;
    size_t size;
    int rc = claim_oldest(q, me, READING, room, &c, &h);

    if (rc < 0)
        return rc;
    STEP();
    atomic_store_explicit(&r->head, step_on(h, 1), memory_order_relaxed);
    size = atomic_load_explicit(&c->bytes, memory_order_relaxed);
    if (size > 0 && buf)
        memcpy(buf, data_of(q, c, size), size);
    STEP();
    if (counted)
        account_add(q, me);
    STEP();
    (void)atomic_exchange(&c->word,
                          word(step_on(h, (int64_t)r->slots), FREE, 0));
    STEP();
    ring(&r->not_full, 1);
    *ret_size = size;
    return 0;
}

int keel_shqueue_peek(struct keel_shqueue *q, void *buf, size_t room,
                      size_t *ret_size)
{
    uint32_t me;
    struct cell *c;
    uint64_t h;
    size_t size;
    int rc = family_me(&me);

    if (rc == 0)
        rc = claim_oldest(q, me, PEEKING, room, &c, &h);
    if (rc < 0)
        return rc;
    STEP();
    size = atomic_load_explicit(&c->bytes, memory_order_relaxed);
    if (size > 0)
        memcpy(buf, data_of(q, c, size), size);
    STEP();
    (void)atomic_exchange(&c->word, word(h, READY, 0));
    STEP();
    ring(&q->r->not_empty, 1);
    *ret_size = size;
    return 0;
}

/* ---- waiting ---- */

/* One operation, and what it waits for. */
struct
try {
    struct keel_shqueue *q;
    uint32_t me;
    const void *data;
    void *buf;
    size_t size; /* or room */
    size_t got;
};

static int try_put(struct try *t)
{
    int rc = put(t->q, t->me, t->data, t->size);

    if (rc == 0)
        ring(&t->q->r->not_empty, 1);
    return rc;
}

static int try_get(struct try *t)
{
    return get(t->q, t->me, t->buf, t->size, &t->got, true);
}

static bool more_room(struct keel_shqueue *q)
{
    uint64_t t = atomic_load(&q->r->tail);

    return ahead(position(atomic_load(&cell_of(q, t)->word)), t) >= 0;
}

static bool more_messages(struct keel_shqueue *q)
{
    uint64_t h = atomic_load(&q->r->head);
    uint64_t w = atomic_load(&cell_of(q, h)->word);

    return ahead(position(w), h) > 0 || state(w) != FREE;
}

static int until(struct try *t, int (*fn)(struct try *t),
                 bool (*more)(struct keel_shqueue *q), _Atomic uint32_t *bell,
                 keel_ns deadline, const char *what)
{
    unsigned spins = 0;
    bool slept = false;
    int rc = family_me(&t->me);

    if (rc < 0)
        return rc;
    while ((rc = fn(t)) == -EAGAIN) {
        uint32_t deaths, v;

        if (deadline == KEEL_NOW)
            return -ETIMEDOUT;
        if (family_spin(&spins))
            continue;
        deaths = family_deaths();
        v = atomic_fetch_or(bell, 1) | 1;
        STEP();
        rc = fn(t);
        if (rc != -EAGAIN)
            break;
        rc = family_sleep(bell, v, deaths, deadline, false, what);
        STEP();
        /* The ringer cleared it for all who sleep, and woke one. */
        (void)atomic_fetch_or(bell, 1);
        STEP();
        slept = true;
        if (rc < 0)
            break;
    }
    if (slept && more(t->q))
        ring(bell, 1);
    else if (!slept)
        loop_step();
    return rc;
}

int keel_shqueue_put(struct keel_shqueue *q, const void *data, size_t size,
                     keel_ns deadline)
{
    struct try t = {.q = q, .data = data, .size = size};

    return until(&t, try_put, more_room, &q->r->not_full, deadline,
                 "queue between processes, put");
}

int keel_shqueue_get(struct keel_shqueue *q, void *buf, size_t room,
                     keel_ns deadline, size_t *ret_size)
{
    struct try t = {.q = q, .buf = buf, .size = room};
    int rc = until(&t, try_get, more_messages, &q->r->not_empty, deadline,
                   "queue between processes, get");

    if (rc < 0)
        return rc;
    *ret_size = t.got;
    return 0;
}

/* ---- looking ---- */

/* The first position that is not claimed. */
static uint64_t true_tail(struct keel_shqueue *q)
{
    uint64_t t = atomic_load(&q->r->tail);

    for (;;) {
        uint64_t w = atomic_load(&cell_of(q, t)->word);

        if (ahead(position(w), t) < 0 ||
            (position(w) == t && (state(w) == FREE || state(w) == CLOSED)))
            return t;
        t = ahead(position(w), t) > 0
                ? step_on(position(w), 1 - (int64_t)q->r->slots)
                : step_on(t, 1);
    }
}

size_t keel_shqueue_count(struct keel_shqueue *q)
{
    size_t n = 0;

    for (uint64_t i = 0; i < q->r->slots; i++) {
        unsigned s = state(atomic_load(&q->r->cell[i].word));

        n += s == READY || s == PEEKING;
    }
    return n;
}

bool keel_shqueue_empty(struct keel_shqueue *q)
{
    return keel_shqueue_count(q) == 0;
}

bool keel_shqueue_full(struct keel_shqueue *q)
{
    return !more_room(q);
}

/* ---- task_done and join ---- */

static bool account_lower(struct account *a)
{
    uint64_t n = atomic_load(&a->count);

    while (n > 0)
        if (atomic_compare_exchange_weak(&a->count, &n, n - 1))
            return true;
    return false;
}

static bool account_lives(struct account *a)
{
    uint64_t o = atomic_load(&a->owner);

    return o && atomic_load(&a->count) > 0 && !family_dead((uint32_t)o);
}

/* One's own, else one that another thread of this process got, else anybody's. */
static bool answer(struct keel_shqueue *q, uint32_t me)
{
    struct account *own = &q->r->account[me % PLACES];

    if (atomic_load(&own->owner) == me && account_lower(own))
        return true;
    for (int here = 1; here >= 0; here--)
        for (uint32_t i = 0; i < PLACES; i++) {
            struct account *a = &q->r->account[i];

            if (account_lives(a) && (!here || family_pid(i) == getpid()) &&
                account_lower(a))
                return true;
        }
    return false;
}

int keel_shqueue_task_done(struct keel_shqueue *q)
{
    uint32_t me;
    int rc = family_me(&me);

    if (rc < 0)
        return rc;
    if (!answer(q, me))
        return mistake("keel_shqueue_task_done", q, "nothing is unfinished",
                       -EINVAL);
    STEP();
    ring(&q->r->finished, INT32_MAX);
    return 0;
}

/* Cells first, then accounts: a message moves from those to these.  If nothing
 * was put meanwhile, there was a moment without any. */
static int try_join(struct try *t)
{
    struct keel_shqueue *q = t->q;
    uint64_t tail = true_tail(q), w;

    for (uint64_t i = 0; i < q->r->slots; i++) {
        struct cell *c = &q->r->cell[i];

        w = atomic_load(&c->word);
        if (state(w) == FREE || state(w) == CLOSED || state(w) == HOLE)
            continue;
        if (state(w) == READY || !mend(q, c, w))
            return -EAGAIN;
        i--; /* mended: look at it again */
    }
    for (uint32_t i = 0; i < PLACES; i++)
        if (account_lives(&q->r->account[i]))
            return -EAGAIN;
    w = atomic_load(&cell_of(q, tail)->word);
    if (position(w) == tail && (state(w) == FREE || state(w) == CLOSED))
        return 0;
    return -EAGAIN;
}

static bool always(struct keel_shqueue *q)
{
    (void)q;
    return true;
}

int keel_shqueue_join(struct keel_shqueue *q, keel_ns deadline)
{
    struct try t = {.q = q};

    return until(&t, try_join, always, &q->r->finished, deadline,
                 "queue between processes, join");
}

/* ---- close ---- */

void keel_shqueue_close(struct keel_shqueue *q)
{
    atomic_store(&q->r->closed, 1);
    STEP();
    ring(&q->r->not_empty, INT32_MAX);
    ring(&q->r->not_full, INT32_MAX);
}

ssize_t keel_shqueue_close_now(struct keel_shqueue *q)
{
    ssize_t count = 0;
    uint32_t me;
    int rc = family_me(&me);

    if (rc < 0)
        return rc;
    keel_shqueue_close(q);
    for (;;) {
        size_t size;

        rc = get(q, me, NULL, KEEL_SHQUEUE_MESSAGE_MOST, &size, false);
        if (rc < 0)
            break; /* what somebody is about to commit is got by the next */
        count++;
    }
    ring(&q->r->finished, INT32_MAX);
    return count;
}
