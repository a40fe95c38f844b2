/* SPDX-License-Identifier: MIT */
/* Who has which name.
 *
 * A publish holds its one name; whoever changes names otherwise makes a
 * name_hold, and holds
 *
 *   TREE   one or two names and all below them: a move, a removal
 *   LEAF   one name: a link, a file's times
 *   MADE   directories that appear, from `made` of the path's bytes on; until
 *          their names are durable nothing is built on them
 *   USED   a directory's times: nobody moves it meanwhile
 *
 * Holds stand in `holds` in the order in which they came, and each waits for
 * those before it that it must not meet, and for publishes that have their
 * names; a publish waits for all holds that are there.  So every wait is for
 * somebody who came earlier, and nobody waits in a circle.
 *
 * A hold is STUCK when nobody knows what the disk or the ledger has: it stays
 * until a restart, where recovery looks. */
#include <errno.h>
#include <string.h>

#include <keel/co.h>

#include "base/log.h"
#include "committer.h"

/* ---- paths ---------------------------------------------------------------------- */

/* True when the first `size` bytes of `top` are `path` or a directory above
 * it; the root is above all. */
static bool above_n(const char *top, size_t size, const char *path)
{
    if (size == 0)
        return true;
    return !strncmp(top, path, size) &&
           (path[size] == '\0' || path[size] == '/');
}

static bool above(const char *top, const char *path)
{
    return above_n(top, strlen(top), path);
}

static bool related(const char *a, const char *b)
{
    return above(a, b) || above(b, a);
}

/* ---- who must not meet whom --------------------------------------------------------- */

static bool tree_touches(const struct name_hold *t, const char *path)
{
    return related(t->path, path) || (t->to && related(t->to, path));
}

static bool made_covers(const struct name_hold *m, const char *path)
{
    return above_n(m->path, m->made, path);
}

/* `later` waits for `earlier`. */
static bool holds_meet(const struct name_hold *later,
                       const struct name_hold *earlier)
{
    if (later->space != earlier->space)
        return false;
    if (earlier->kind == NAME_TREE)
        return tree_touches(earlier, later->path) ||
               (later->to && tree_touches(earlier, later->to));
    if (later->kind == NAME_TREE)
        return tree_touches(later, earlier->path) ||
               (earlier->kind == NAME_MADE &&
                (made_covers(earlier, later->path) ||
                 (later->to && made_covers(earlier, later->to))));
    if (earlier->kind == NAME_MADE)
        return made_covers(earlier, later->path);
    return later->kind == NAME_LEAF && !strcmp(later->path, earlier->path);
}

static bool hold_bars(const struct name_hold *h, int64_t space,
                      const char *path)
{
    if (h->space != space)
        return false;
    switch (h->kind) {
    case NAME_TREE:
        return tree_touches(h, path);
    case NAME_LEAF:
        return !strcmp(h->path, path);
    case NAME_MADE:
        return made_covers(h, path);
    default:
        return false;
    }
}

/* ---- publishes ------------------------------------------------------------------------ */

static struct publish **name_bucket(struct committer *c, int64_t space,
                                    const char *path)
{
    uint64_t h = 0xcbf29ce484222325u ^ (uint64_t)space; /* FNV-1a */

    for (; *path; path++)
        h = (h ^ (uint8_t)*path) * 0x100000001b3u;
    return &c->names[(h ^ h >> 32) % NAME_BUCKETS];
}

static struct publish *name_holder(struct committer *c, int64_t space,
                                   const char *path)
{
    struct publish *p = *name_bucket(c, space, path);

    while (p && (p->space != space || strcmp(p->path, path) != 0))
        p = p->next_name;
    return p;
}

void name_drop(struct committer *c, struct publish *p)
{
    struct publish **at = name_bucket(c, p->space, p->path);

    while (*at != p)
        at = &(*at)->next_name;
    *at = p->next_name;
    keel_cond_broadcast(&c->named);
}

static int publish_barred(const struct publish *holder)
{
    if (holder->deferred)
        return -EBUSY;
    return holder->state == STUCK ? -EIO : -EAGAIN;
}

/* Whether `p` may have its name: 0; -EAGAIN: not yet. */
static int name_free(struct committer *c, const struct publish *p)
{
    struct publish *holder = name_holder(c, p->space, p->path);
    struct name_hold *h;

    if (holder)
        return publish_barred(holder);
    TAILQ_FOREACH (h, &c->holds, link)
        if (hold_bars(h, p->space, p->path))
            return h->stuck ? -EIO : -EAGAIN;
    return 0;
}

/* Waits for a change of names; settling is hurried meanwhile. */
static int name_wait(struct committer *c)
{
    int rc;

    c->name_waiters++;
    keel_cond_broadcast(&c->changed);
    rc = keel_cond_wait(&c->named, &c->lock, KEEL_FOREVER);
    c->name_waiters--;
    return rc;
}

int name_take(struct committer *c, struct publish *p)
{
    struct publish **bucket = name_bucket(c, p->space, p->path);
    int rc;

    while ((rc = name_free(c, p)) == -EAGAIN) {
        rc = name_wait(c);
        if (rc < 0 && name_free(c, p) == -EAGAIN)
            return rc;
    }
    if (rc < 0)
        return rc;
    p->next_name = *bucket;
    *bucket = p;
    return 0;
}

/* ---- who looks ------------------------------------------------------------------------------ */

/* A name is not what the ledger says: a lane is between steps 1 and 5, or it is
 * being moved, removed or set.  What is stuck stays as it is. */
static bool name_moves(struct committer *c, int64_t space, const char *path)
{
    struct publish *p = name_holder(c, space, path);
    struct name_hold *h;

    if (p && p->state == GROUP)
        return true;
    TAILQ_FOREACH (h, &c->holds, link)
        if (!h->stuck && hold_bars(h, space, path))
            return true;
    return false;
}

int committer_knows(struct committer *c, int64_t space, const char *path,
                    struct ledger_file *ret)
{
    keel_guard(&c->lock);
    struct publish *p;

    if (c->alive == 0 && TAILQ_EMPTY(&c->holds))
        return 0;
    p = name_holder(c, space, path);
    if (!p || p->state != SETTLING)
        return name_moves(c, space, path) ? -EAGAIN : 0;
    *ret = p->file;
    ret->ctime_ns = p->ctime_ns;
    return 1;
}

int committer_await(struct committer *c, int64_t space, const char *path)
{
    keel_guard(&c->lock);
    int rc = 0;

    while (rc == 0 && name_moves(c, space, path))
        rc = keel_cond_wait(&c->named, &c->lock, KEEL_FOREVER);
    return rc;
}

/* ---- holds --------------------------------------------------------------------------------- */

struct name_hold *name_hold_new(enum name_kind kind, int64_t space,
                                const char *path, const char *to)
{
    size_t size = strlen(path) + 1, to_size = to ? strlen(to) + 1 : 0;
    struct name_hold *h = keel_calloc(1, sizeof *h + size + to_size);

    if (!h)
        return NULL;
    h->kind = kind;
    h->space = space;
    h->made = size - 1;
    h->path = memcpy(h->text, path, size);
    if (to)
        h->to = memcpy(h->text + size, to, to_size);
    return h;
}

/* Whether publishes let it: as name_free. */
static int hold_past_publishes(struct committer *c, const struct name_hold *h)
{
    struct publish *p;

    if (h->kind == NAME_MADE || h->kind == NAME_USED)
        return 0; /* nothing can be below what is not there yet */
    if (h->kind == NAME_LEAF) {
        p = name_holder(c, h->space, h->path);
        return p ? publish_barred(p) : 0;
    }
    for (unsigned i = 0; i < NAME_BUCKETS; i++)
        for (p = c->names[i]; p; p = p->next_name)
            if (hold_bars(h, p->space, p->path))
                return publish_barred(p);
    return 0;
}

static int hold_free(struct committer *c, const struct name_hold *h)
{
    struct name_hold *other;

    TAILQ_FOREACH (other, &c->holds, link) {
        if (other == h)
            break;
        if (holds_meet(h, other))
            return other->stuck ? -EIO : -EAGAIN;
    }
    return hold_past_publishes(c, h);
}

static void hold_remove(struct committer *c, struct name_hold *h)
{
    TAILQ_REMOVE(&c->holds, h, link);
    keel_cond_broadcast(&c->named);
}

int committer_hold_name(struct committer *c, struct name_hold *h,
                        struct problem *why)
{
    struct shown shown = shown_path(h->path);
    keel_guard(&c->lock);
    int rc;

    TAILQ_INSERT_TAIL(&c->holds, h, link);
    while ((rc = hold_free(c, h)) == -EAGAIN) {
        rc = name_wait(c);
        if (rc < 0)
            break;
    }
    if (rc == 0)
        return 0;
    hold_remove(c, h);
    if (rc == -ECANCELED)
        return problem(why, CANCELLED);
    if (rc == -EIO)
        return problem(why, SYNC_FAILED, .errno_ = EIO, .name = shown.text);
    if (rc == -EBUSY)
        return committer_busy(c, h->path, why);
    return problem(why, FILE_BUSY, .name = shown.text);
}

void committer_narrow_name(struct committer *c, struct name_hold *h,
                           size_t made)
{
    keel_guard(&c->lock);

    keel_assert(h->kind == NAME_MADE && made >= h->made);
    h->made = made;
    keel_cond_broadcast(&c->named);
}

void committer_drop_name(struct committer *c, struct name_hold *h)
{
    {
        keel_guard(&c->lock);
        hold_remove(c, h);
    }
    keel_free(h);
}

void committer_stick_name(struct committer *c, struct name_hold *h)
{
    log_error("vault: '%s' stays locked until a restart looks at it",
              shown_path(h->path).text);
    keel_guard(&c->lock);
    h->stuck = true;
    keel_cond_broadcast(&c->named);
}

void holds_free(struct committer *c)
{
    struct name_hold *h;

    while ((h = TAILQ_FIRST(&c->holds))) {
        keel_assert(h->stuck);
        TAILQ_REMOVE(&c->holds, h, link);
        keel_free(h);
    }
}
