/* SPDX-License-Identifier: MIT */
#include "disk_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The C library's allocator, and no way to fail: an ordered allocation failure
 * must hit the code under test, not its disk. */
static void *claim(void *p, size_t count, size_t size)
{
    p = reallocarray(p, count ? count : 1, size);
    if (!p)
        abort();
    return p;
}

static void *claim_zero(size_t size)
{
    return memset(claim(NULL, 1, size), 0, size);
}

static void *claim_copy(const void *from, size_t count, size_t size)
{
    void *p = claim(NULL, count, size);

    if (count)
        memcpy(p, from, count * size);
    return p;
}

/* ---- pages --------------------------------------------------------------- */

/* Reserved and never written; one for all, so that a reservation of
 * gigabytes costs its slots only. */
static struct page zero_page;

static struct page *page_ref(struct page *p)
{
    if (p && p != &zero_page)
        p->refs++;
    return p;
}

static void page_drop(struct page *p)
{
    if (p && p != &zero_page && --p->refs == 0)
        free(p);
}

/* A page of one's own with the bytes of `like` (NULL: zeros). */
static struct page *page_new(const struct page *like)
{
    struct page *p = claim_zero(sizeof *p);

    p->refs = 1;
    if (like)
        memcpy(p->bytes, like->bytes, DISK_PAGE);
    return p;
}

static const uint8_t *page_bytes(const struct page *p)
{
    return p ? p->bytes : zero_page.bytes;
}

/* ---- inodes -------------------------------------------------------------- */

struct inode *state_inode(const struct state *s, uint32_t number)
{
    return number < s->inodes ? s->inode[number] : NULL;
}

static void count_space(struct state *s, struct inode *i)
{
    size_t want = i->nlink || i->opens ? i->held : 0;

    s->used += want;
    s->used -= i->counted;
    i->counted = want;
}

/* The lowest free number, as file systems do: who knows files by their inode
 * alone shall meet a second one with the same. */
struct inode *state_make(struct state *s, mode_t mode, int64_t now_ns)
{
    struct inode *i = claim_zero(sizeof *i);
    uint32_t number = DISK_ROOT;

    while (number < s->inodes && s->inode[number])
        number++;
    if (number >= s->inodes) {
        s->inode = claim(s->inode, number + 1, sizeof *s->inode);
        while (s->inodes <= number)
            s->inode[s->inodes++] = NULL;
    }
    i->number = number;
    i->now = (struct attrs){now_ns, now_ns, mode};
    i->safe = i->now;
    i->btime_ns = now_ns;
    s->inode[number] = i;
    return i;
}

static void name_free(struct state *s, uint32_t at);

static void inode_free(struct state *s, struct inode *i)
{
    i->nlink = i->opens = 0;
    count_space(s, i);
    s->inode[i->number] = NULL;
    for (size_t k = 0; k < i->slots; k++) {
        page_drop(i->slot[k].now);
        page_drop(i->slot[k].safe);
    }
    while (i->entries > 0)
        name_free(s, i->entry[--i->entries]);
    free(i->entry);
    free(i->slot);
    free(i);
}

/* A directory waits for the renames its names are part of. */
static void inode_release(struct state *s, struct inode *i)
{
    if (i->links || i->opens || i->number == DISK_ROOT)
        return;
    for (size_t k = 0; k < i->entries; k++)
        if (s->name[i->entry[k]]->moves)
            return;
    inode_free(s, i);
}

void state_opened(struct state *s, struct inode *i)
{
    i->opens++;
    count_space(s, i);
}

void state_closed(struct state *s, struct inode *i)
{
    i->opens--;
    count_space(s, i);
    inode_release(s, i);
}

/* ---- names --------------------------------------------------------------- */

uint32_t name_inode(const struct name *n)
{
    return n->version[n->count - 1].inode;
}

static void links_drop(struct state *s, uint32_t number)
{
    if (number && --s->inode[number]->links == 0)
        inode_release(s, s->inode[number]);
}

static void name_free(struct state *s, uint32_t at)
{
    struct name *n = s->name[at];

    s->name[at] = NULL;
    for (size_t k = 0; k < n->count; k++)
        links_drop(s, n->version[k].inode);
    free(n->version);
    free(n);
}

static uint32_t name_at(const struct state *s, const struct inode *dir,
                        const char *text)
{
    for (size_t k = 0; k < dir->entries; k++)
        if (strcmp(s->name[dir->entry[k]]->text, text) == 0)
            return dir->entry[k];
    return UINT32_MAX;
}

static uint32_t name_make(struct state *s, struct inode *dir, const char *text)
{
    uint32_t at = name_at(s, dir, text);
    struct name *n;

    if (at != UINT32_MAX)
        return at;
    for (at = 0; at < s->names && s->name[at]; at++)
        ;
    if (at == s->names)
        s->name = claim(s->name, ++s->names, sizeof *s->name);
    n = s->name[at] = claim_zero(sizeof *n);
    n->id = ++s->next_id;
    n->dir = dir->number;
    snprintf(n->text, sizeof n->text, "%s", text);
    n->version = claim_zero(sizeof *n->version);
    n->count = 1;
    dir->entry = claim(dir->entry, dir->entries + 1, sizeof *dir->entry);
    dir->entry[dir->entries++] = at;
    return at;
}

struct inode *state_find(const struct state *s, const struct inode *dir,
                         const char *text)
{
    uint32_t at = name_at(s, dir, text);

    return at == UINT32_MAX ? NULL : state_inode(s, name_inode(s->name[at]));
}

/* The next version of a name. */
static void name_put(struct state *s, uint32_t at, struct inode *i,
                     uint64_t seq)
{
    struct name *n = s->name[at];
    struct inode *old = state_inode(s, name_inode(n));

    n->version = claim(n->version, n->count + 1, sizeof *n->version);
    n->version[n->count++] = (struct version){seq, i ? i->number : 0};
    if (i) {
        i->links++;
        i->nlink++;
        i->linkable = false;
        if (inode_is_dir(i))
            i->parent = n->dir;
        count_space(s, i);
    }
    if (old) {
        old->nlink--;
        count_space(s, old);
    }
}

void state_set(struct state *s, struct inode *dir, const char *text,
               struct inode *i)
{
    name_put(s, name_make(s, dir, text), i, ++s->seq);
}

void state_rename(struct state *s, struct inode *from_dir, const char *from,
                  struct inode *to_dir, const char *to, bool exchange)
{
    uint32_t a = name_make(s, from_dir, from), b = name_make(s, to_dir, to);
    struct inode *i = s->inode[name_inode(s->name[a])];
    struct inode *over = state_inode(s, name_inode(s->name[b]));

    s->seq++;
    name_put(s, b, i, s->seq);
    name_put(s, a, exchange ? over : NULL, s->seq);
    s->move = claim(s->move, s->moves + 1, sizeof *s->move);
    /* Two names of one directory, or of what was exchanged, would be no
     * state of a file system. */
    s->move[s->moves++] =
        (struct move){a, b, s->seq, exchange || inode_is_dir(i)};
    s->name[a]->moves++;
    s->name[b]->moves++;
}

bool state_empty(const struct state *s, const struct inode *dir)
{
    return !state_next(s, dir, 0);
}

const struct name *state_next(const struct state *s, const struct inode *dir,
                              uint64_t after)
{
    for (size_t k = 0; k < dir->entries; k++) {
        const struct name *n = s->name[dir->entry[k]];

        if (n->id > after && name_inode(n))
            return n;
    }
    return NULL;
}

void state_path(const struct state *s, const struct inode *i, char ret[4096])
{
    char path[4096] = "", longer[4096];

    while (i && i->number != DISK_ROOT) {
        const struct name *n = NULL;

        for (size_t k = 0; k < s->names && !n; k++)
            if (s->name[k] && name_inode(s->name[k]) == i->number)
                n = s->name[k];
        if (!n) {
            *ret = 0;
            return;
        }
        snprintf(longer, sizeof longer, "/%s%.3000s", n->text, path);
        strcpy(path, longer);
        i = s->inode[n->dir];
    }
    snprintf(ret, 4096, "/disk%.4000s", path);
}

/* ---- bytes --------------------------------------------------------------- */

size_t state_read(const struct inode *i, void *buf, size_t size, uint64_t at)
{
    size_t done = 0;

    if (at >= i->size)
        return 0;
    if (size > i->size - at)
        size = (size_t)(i->size - at);
    while (done < size) {
        size_t page = (size_t)((at + done) / DISK_PAGE);
        size_t skip = (size_t)((at + done) % DISK_PAGE);
        size_t part = DISK_PAGE - skip;

        if (part > size - done)
            part = size - done;
        memcpy((uint8_t *)buf + done,
               page_bytes(page < i->slots ? i->slot[page].now : NULL) + skip,
               part);
        done += part;
    }
    return done;
}

/* 64 GiB: more would cost the test gigabytes of slots. */
#define PAGES_MAX ((uint64_t)1 << 24)

static void slots_grow(struct inode *i, size_t want)
{
    size_t slots = want + want / 2;

    if (want <= i->slots)
        return;
    i->slot = claim(i->slot, slots, sizeof *i->slot);
    memset(i->slot + i->slots, 0, (slots - i->slots) * sizeof *i->slot);
    i->slots = slots;
}

/* Puts `p` (taken) in the slot. */
static void slot_put(struct inode *i, size_t at, struct page *p)
{
    struct slot *slot = i->slot + at;

    i->held += (p != NULL);
    i->held -= (slot->now != NULL);
    if (slot->now != p)
        page_drop(slot->now);
    slot->now = p;
    slot->dirty = true;
    if (i->dirty_from == i->dirty_to) {
        i->dirty_from = at;
        i->dirty_to = at + 1;
    } else if (at < i->dirty_from) {
        i->dirty_from = at;
    } else if (at >= i->dirty_to) {
        i->dirty_to = at + 1;
    }
}

/* The bytes of a slot to write to: nobody else sees the page. */
static uint8_t *slot_own(struct inode *i, size_t at)
{
    struct page *p = i->slot[at].now;

    if (!p || p == &zero_page || p->refs > 1)
        slot_put(i, at, page_new(p));
    else
        slot_put(i, at, p);
    return i->slot[at].now->bytes;
}

static uint64_t space_free(const struct state *s)
{
    return s->used < s->total ? s->total - s->used : 0;
}

static bool slot_is_hole(const struct inode *i, size_t at)
{
    return at >= i->slots || !i->slot[at].now;
}

ssize_t state_write(struct state *s, struct inode *i, const void *buf,
                    size_t size, uint64_t at)
{
    uint64_t room = space_free(s);
    size_t done = 0;

    if (size == 0)
        return 0;
    if (at > PAGES_MAX * DISK_PAGE || size > PAGES_MAX * DISK_PAGE - at)
        return -EFBIG;
    while (done < size) {
        size_t page = (size_t)((at + done) / DISK_PAGE);
        size_t skip = (size_t)((at + done) % DISK_PAGE);
        size_t part = DISK_PAGE - skip;

        if (part > size - done)
            part = size - done;
        if (slot_is_hole(i, page) && room-- == 0)
            break;
        slots_grow(i, page + 1);
        memcpy(slot_own(i, page) + skip, (const uint8_t *)buf + done, part);
        done += part;
    }
    if (done == 0)
        return -ENOSPC;
    if (at + done > i->size)
        i->size = at + done;
    count_space(s, i);
    return (ssize_t)done;
}

int state_reserve(struct state *s, struct inode *i, uint64_t at, uint64_t size,
                  bool keep_size)
{
    uint64_t from = at / DISK_PAGE;
    uint64_t to = (at + size + DISK_PAGE - 1) / DISK_PAGE, need = 0;

    if (at + size < at || to > PAGES_MAX * 1024)
        return -EFBIG;
    for (uint64_t k = from; k < to && need <= space_free(s); k++)
        need += slot_is_hole(i, (size_t)k);
    if (need > space_free(s))
        return -ENOSPC;
    if (to > PAGES_MAX)
        return -EFBIG;
    slots_grow(i, (size_t)to);
    for (size_t k = (size_t)from; k < to; k++)
        if (!i->slot[k].now)
            slot_put(i, k, &zero_page);
    if (!keep_size && at + size > i->size)
        i->size = at + size;
    count_space(s, i);
    return 0;
}

void state_punch(struct state *s, struct inode *i, uint64_t at, uint64_t size)
{
    uint64_t end = (uint64_t)i->slots * DISK_PAGE;

    if (at >= end)
        return;
    if (size < end - at)
        end = at + size;
    while (at < end) {
        size_t page = (size_t)(at / DISK_PAGE), skip = (size_t)(at % DISK_PAGE);
        size_t part = DISK_PAGE - skip;

        if (part > end - at)
            part = (size_t)(end - at);
        at += part;
        if (!i->slot[page].now)
            continue;
        if (part == DISK_PAGE)
            slot_put(i, page, NULL);
        else if (i->slot[page].now != &zero_page)
            memset(slot_own(i, page) + skip, 0, part);
    }
    count_space(s, i);
}

void state_truncate(struct state *s, struct inode *i, uint64_t size)
{
    size_t end = (size_t)((size + DISK_PAGE - 1) / DISK_PAGE);

    /* Slots past the end go, too: what was reserved there is given back. */
    if (size <= i->size) {
        state_punch(s, i, size, UINT64_MAX);
        for (size_t k = end; k < i->slots; k++)
            i->slot[k].cut |= i->slot[k].safe != NULL;
    }
    if (size < i->cut_size)
        i->cut_size = size;
    i->size = size;
}

/* ---- syncs --------------------------------------------------------------- */

/* As ext4 and xfs do: the inode is written when data or size need it, and
 * then carries its times along; times alone wait for fsync. */
void state_sync_data(struct inode *i)
{
    if (i->dirty_from < i->dirty_to || i->safe_size != i->size)
        i->safe = i->now;
    for (size_t k = i->dirty_from; k < i->dirty_to; k++) {
        struct slot *slot = i->slot + k;

        if (!slot->dirty)
            continue;
        if (slot->safe != slot->now) {
            page_drop(slot->safe);
            slot->safe = page_ref(slot->now);
        }
        slot->dirty = slot->cut = false;
    }
    i->dirty_from = i->dirty_to = 0;
    i->safe_size = i->cut_size = i->size;
}

void state_sync_file(struct inode *i)
{
    state_sync_data(i);
    i->safe = i->now;
}

void state_sync_failed(struct inode *i)
{
    for (size_t k = i->dirty_from; k < i->dirty_to; k++)
        i->slot[k].dirty = false;
    i->dirty_from = i->dirty_to = 0;
}

/* Forgets the versions before number `keep`. */
static void name_settle(struct state *s, struct name *n, size_t keep)
{
    for (size_t k = 0; k < keep; k++)
        links_drop(s, n->version[k].inode);
    memmove(n->version, n->version + keep,
            (n->count - keep) * sizeof *n->version);
    n->count -= keep;
}

static size_t version_at(const struct name *n, uint64_t seq)
{
    size_t k = 0;

    while (n->version[k].seq < seq)
        k++;
    return k;
}

/* Carries what became durable at one end of each rename to its other end, and
 * forgets the renames that cannot go wrong any more. */
static void moves_settle(struct state *s)
{
    bool again = true;

    while (again) {
        again = false;
        for (size_t k = 0; k < s->moves; k++) {
            struct move *m = s->move + k;
            struct name *from = s->name[m->from], *to = s->name[m->to];
            bool left = from->version[0].seq >= m->seq;
            bool arrived = to->version[0].seq >= m->seq;

            if (left && !arrived) {
                name_settle(s, to, version_at(to, m->seq));
                arrived = again = true;
            }
            if (arrived && m->atomic && !left) {
                name_settle(s, from, version_at(from, m->seq));
                left = again = true;
            }
        }
    }
    for (size_t k = s->moves; k-- > 0;) {
        struct move *m = s->move + k;
        struct name *from = s->name[m->from], *to = s->name[m->to];

        if (to->version[0].seq < m->seq)
            continue;
        from->moves--;
        to->moves--;
        *m = s->move[--s->moves];
    }
}

/* Frees names of which nothing is left. */
static void names_sweep(struct state *s, struct inode *dir)
{
    size_t kept = 0;

    for (size_t k = 0; k < dir->entries; k++) {
        uint32_t at = dir->entry[k];
        const struct name *n = s->name[at];

        if (n->count == 1 && !n->version[0].inode && !n->moves)
            name_free(s, at);
        else
            dir->entry[kept++] = at;
    }
    dir->entries = kept;
}

/* Files go when their last version does; a directory may have had to wait. */
static void dirs_sweep(struct state *s)
{
    for (uint32_t k = DISK_ROOT; k < s->inodes; k++)
        if (s->inode[k] && inode_is_dir(s->inode[k]))
            inode_release(s, s->inode[k]);
}

static void names_settle(struct state *s, struct inode *dir)
{
    /* What goes with an old version may have been the last to name `dir`. */
    dir->opens++;
    for (size_t k = 0; k < dir->entries; k++) {
        struct name *n = s->name[dir->entry[k]];

        name_settle(s, n, n->count - 1);
    }
    dir->opens--;
}

void state_sync_dir(struct state *s, struct inode *dir)
{
    dir->safe = dir->now;
    names_settle(s, dir);
    moves_settle(s);
    names_sweep(s, dir);
    dirs_sweep(s);
}

void state_sync_all(struct state *s)
{
    for (uint32_t k = DISK_ROOT; k < s->inodes; k++)
        if (s->inode[k] && inode_is_dir(s->inode[k]))
            names_settle(s, s->inode[k]);
    moves_settle(s);
    for (uint32_t k = DISK_ROOT; k < s->inodes; k++) {
        if (!s->inode[k])
            continue;
        state_sync_file(s->inode[k]);
        names_sweep(s, s->inode[k]);
    }
    dirs_sweep(s);
}

/* ---- crash --------------------------------------------------------------- */

/* splitmix64; `keep` of 16 changes survive whole. */
struct dice {
    uint64_t at;
    unsigned keep;
    bool none;
};

static uint64_t dice_roll(struct dice *d)
{
    uint64_t z = (d->at += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool dice_keeps(struct dice *d)
{
    return !d->none && dice_roll(d) % 16 < d->keep;
}

/* Chooses a version for each name: any of them, so that a later change of one
 * name may survive an earlier change of another. */
static void names_choose(struct state *s, struct dice *d)
{
    bool again = true;

    for (size_t k = 0; k < s->names; k++) {
        struct name *n = s->name[k];

        if (!n)
            continue;
        if (dice_keeps(d))
            n->chosen = n->count - 1;
        else
            n->chosen = d->none ? 0 : dice_roll(d) % n->count;
    }
    while (again) {
        again = false;
        for (size_t k = 0; k < s->moves; k++) {
            const struct move *m = s->move + k;
            struct name *from = s->name[m->from], *to = s->name[m->to];
            bool left = from->version[from->chosen].seq >= m->seq;
            bool arrived = to->version[to->chosen].seq >= m->seq;

            if (left && !arrived) {
                to->chosen = version_at(to, m->seq);
                again = true;
            } else if (m->atomic && arrived && !left) {
                from->chosen = version_at(from, m->seq);
                again = true;
            }
        }
    }
}

static void page_tear(struct inode *i, size_t at, struct dice *d)
{
    struct slot *slot = i->slot + at;
    struct page *p = page_new(slot->safe);

    for (size_t k = 0; k < DISK_PAGE; k += DISK_SECTOR)
        if (dice_roll(d) % 2)
            memcpy(p->bytes + k, page_bytes(slot->now) + k, DISK_SECTOR);
    slot_put(i, at, p);
}

/* A truncation happens whole or not at all, and what was written where it cut
 * is there only if it did: a file system gives such bytes new blocks. */
static void inode_cut(struct inode *i, struct dice *d)
{
    bool keeps = i->cut_size < i->safe_size && dice_keeps(d);

    for (size_t k = 0; k < i->slots; k++) {
        struct slot *slot = i->slot + k;

        if (!slot->cut)
            continue;
        slot->cut = false;
        if (keeps) {
            page_drop(slot->safe);
            slot->safe = NULL;
        } else {
            slot_put(i, k, page_ref(slot->safe));
        }
    }
    if (i->cut_size >= i->safe_size)
        return;
    if (keeps)
        i->safe_size = i->cut_size;
    else
        i->size = i->safe_size;
}

static void inode_crash(struct inode *i, struct dice *d)
{
    inode_cut(i, d);
    for (size_t k = 0; k < i->slots; k++) {
        if (i->slot[k].now == i->slot[k].safe)
            continue;
        if (dice_keeps(d))
            slot_put(i, k, i->slot[k].now); /* dirty, even if given up */
        else if (d->none || dice_roll(d) % 2)
            slot_put(i, k, page_ref(i->slot[k].safe));
        else
            page_tear(i, k, d);
    }
    if (i->size != i->safe_size && !dice_keeps(d))
        i->size = i->safe_size;
    if (!dice_keeps(d))
        i->now = i->safe;
}

/* Bytes past the end are zeros, whatever a lost size left there; what was
 * reserved stays so. */
static void inode_trim(struct inode *i)
{
    size_t last = (size_t)(i->size / DISK_PAGE), used = i->size % DISK_PAGE;

    for (size_t k = last; k < i->slots; k++) {
        if (!i->slot[k].now || i->slot[k].now == &zero_page)
            continue;
        if (k == last && used > 0)
            memset(slot_own(i, k) + used, 0, DISK_PAGE - used);
        else
            slot_put(i, k, NULL);
    }
}

static void inodes_mark(const struct state *s, const struct inode *dir,
                        bool *seen)
{
    seen[dir->number] = true;
    for (size_t k = 0; k < dir->entries; k++) {
        uint32_t at = name_inode(s->name[dir->entry[k]]);

        if (at && !seen[at] && inode_is_dir(s->inode[at]))
            inodes_mark(s, s->inode[at], seen);
        else if (at)
            seen[at] = true;
    }
}

/* Only the chosen versions were ever there. */
static void names_crash(struct state *s)
{
    for (size_t k = 0; k < s->names; k++) {
        struct name *n = s->name[k];

        if (!n)
            continue;
        n->version[0] = n->version[n->chosen];
        n->count = 1;
        n->moves = 0;
    }
    s->moves = 0;
}

/* After the names were rewritten by hand: counts again, and frees what has no
 * name that can be reached. */
static void inodes_recount(struct state *s)
{
    bool *seen = claim_zero(s->inodes);

    inodes_mark(s, s->inode[DISK_ROOT], seen);
    for (uint32_t k = DISK_ROOT; k < s->inodes; k++)
        if (s->inode[k])
            s->inode[k]->nlink = s->inode[k]->links = 0;
    for (size_t k = 0; k < s->names; k++) {
        struct name *n = s->name[k];
        struct inode *i = n ? state_inode(s, name_inode(n)) : NULL;

        if (n && !seen[n->dir])
            n->version[0].inode = 0;
        else if (i) {
            i->nlink++;
            i->links++;
            i->parent = n->dir;
        }
    }
    for (uint32_t k = DISK_ROOT; k < s->inodes; k++)
        if (s->inode[k] && !seen[k])
            inode_free(s, s->inode[k]);
    free(seen);
}

void state_crash(struct state *s, uint64_t seed, bool keep_none)
{
    static const unsigned rates[] = {1, 8, 15};
    struct dice d = {.at = seed, .none = keep_none};

    d.keep = rates[dice_roll(&d) % 3];
    names_choose(s, &d);
    names_crash(s);
    inodes_recount(s);
    for (uint32_t k = DISK_ROOT; k < s->inodes; k++) {
        struct inode *i = s->inode[k];

        if (!i)
            continue;
        inode_crash(i, &d);
        inode_trim(i);
        state_sync_file(i);
        names_sweep(s, i);
        count_space(s, i);
    }
}

/* ---- all of it ----------------------------------------------------------- */

struct state *state_new(uint64_t size_bytes, int64_t now_ns)
{
    struct state *s = claim_zero(sizeof *s);
    struct inode *root;

    s->total = size_bytes / DISK_PAGE;
    root = state_make(s, S_IFDIR | 0755, now_ns);
    root->parent = root->number;
    root->nlink = 1; /* its mount */
    return s;
}

static struct inode *inode_copy(const struct inode *from)
{
    struct inode *i = claim_copy(from, 1, sizeof *from);

    i->slot = claim_copy(from->slot, from->slots, sizeof *from->slot);
    for (size_t k = 0; k < i->slots; k++) {
        page_ref(i->slot[k].now);
        page_ref(i->slot[k].safe);
    }
    i->entry = claim_copy(from->entry, from->entries, sizeof *from->entry);
    i->opens = 0;
    return i;
}

struct state *state_copy(const struct state *from)
{
    struct state *s = claim_copy(from, 1, sizeof *from);

    s->inode = claim_copy(from->inode, from->inodes, sizeof *from->inode);
    s->name = claim_copy(from->name, from->names, sizeof *from->name);
    s->move = claim_copy(from->move, from->moves, sizeof *from->move);
    for (size_t k = 0; k < s->names; k++) {
        struct name *n = s->name[k];

        if (!n)
            continue;
        s->name[k] = claim_copy(n, 1, sizeof *n);
        s->name[k]->version =
            claim_copy(n->version, n->count, sizeof *n->version);
    }
    for (uint32_t k = DISK_ROOT; k < s->inodes; k++)
        if (s->inode[k])
            s->inode[k] = inode_copy(s->inode[k]);
    for (uint32_t k = DISK_ROOT; k < s->inodes; k++) {
        if (!s->inode[k])
            continue;
        count_space(s, s->inode[k]);
        inode_release(s, s->inode[k]);
    }
    return s;
}

void state_free(struct state *s)
{
    if (!s)
        return;
    for (size_t k = 0; k < s->names; k++) {
        if (!s->name[k])
            continue;
        free(s->name[k]->version);
        free(s->name[k]);
    }
    for (uint32_t k = 0; k < s->inodes; k++) {
        if (!s->inode[k])
            continue;
        s->inode[k]->entries = 0;
        inode_free(s, s->inode[k]);
    }
    free(s->inode);
    free(s->name);
    free(s->move);
    free(s);
}
