/* SPDX-License-Identifier: MIT */
/* Named parts resume by their journal (journal.h); here is what stands around
 * it:
 *
 * 1. part_open finds the file or makes it, reserves its blocks, opens the
 *    journal, and hashes again what that has in doubt.
 * 2. part_write hashes and writes, mostly on the blocking pool, then lists.
 * 3. Aside, a sync of the data and a SYNCED mark, one at a time.
 *
 * What can fail: the disk is full (at 1); a write (that chunk is not listed); a
 * sync (the kernel may have dropped what it could not write and calls the pages
 * clean: nothing since the last good sync can be believed, so the part is
 * poisoned, and its journal emptied for whoever comes after a crash). */
#include "chunk/part.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <linux/magic.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/future.h>
#include <keel/lock.h>

#include "chunk/holes.h"

/* From here on the page cache costs more than it gives. */
#define DIRECT_BYTES ((uint64_t)16 << 20)
/* What O_DIRECT wants of lengths and places, on any file system we know. */
#define BLOCK HOLE_BLOCK
/* How much, and how long, a power cut may put in doubt. */
#define SYNC_BYTES ((uint64_t)64 << 20)
#define SYNC_AFTER (2 * KEEL_SECOND)
/* Up to here hashing costs less than waking another thread for it. */
#define SMALL_BYTES ((size_t)32 << 10)
/* Larger ones that may keep a thread of the pool while the disk writes. */
#define JOBS_MOST 8
/* How long to wait for one who is about to let go. */
#define LOCK_WAIT (2 * KEEL_SECOND)
#define LOCK_STEP (10 * KEEL_MS)
/* The name is made and dropped by others that often only in an attack. */
#define FIND_TRIES 16
/* Threads that hash again what is in doubt: a disk is faster than one. */
#define PROVERS 4

/* Invariants:
 *   a chunk that the journal has is in the file with that hash
 *   `poison` is 0 or, for ever, the errno of the first sync that failed
 *   no chunk is written while a withdrawal is not on stable storage:
 *   `settled` counts, of the `withdrawn`, those that are
 *   at most one sync aside is under way, and holds one of `refs`
 *   `sync_lock` is held by whoever syncs, for as long as that takes
 * The owner's reference and the sync's keep the descriptors open. */
struct part {
    uint64_t size, chunks;
    enum chunk_hash hash;
    int fd;      /* through the page cache */
    int direct;  /* the same file with O_DIRECT; -1: not opened */
    int dir;     /* borrowed by the owner's calls */
    int own_dir; /* of a part large enough to be synced aside; else -1 */
    struct journal *journal;
    char name[PART_NAME_BYTES + 1]; /* "": unnamed */
    char log[PART_NAME_BYTES + 5];  /* name.log */
    bool published, holes;

    _Atomic int refs;
    _Atomic int poison;
    _Atomic uint64_t withdrawn, settled;
    _Atomic bool direct_refused;
    struct keel_lock sync_lock;
    _Atomic bool syncing;      /* a sync aside is under way */
    _Atomic uint64_t unsynced; /* bytes since the last one began */
    _Atomic keel_ns synced_at; /* when that was */
    bool names_synced;         /* under sync_lock */
    bool resting;              /* under sync_lock: no sync aside begins */
};

static const char *words(const struct part *p)
{
    return p->name[0] ? p->name : "the file";
}

static int local(const struct part *p, int rc, struct problem *why)
{
    return problem(why, FILE_LOCAL, .errno_ = -rc, .name = words(p));
}

static void poison(struct part *p, int rc)
{
    int none = 0;

    atomic_compare_exchange_strong(&p->poison, &none, -rc);
    (void)journal_forget(p->journal);
}

static int poisoned(const struct part *p, struct problem *why)
{
    int error = atomic_load(&p->poison);

    return error ? problem(why, SYNC_FAILED, .errno_ = error, .name = words(p))
                 : 0;
}

/* What is left on the disk; UINT64_MAX when the file system does not tell. */
static uint64_t room(int fd)
{
    struct statfs st;

    if (keel_file_statfs(fd, &st) < 0 || st.f_blocks == 0)
        return UINT64_MAX;
    return (uint64_t)st.f_bavail *
           (uint64_t)(st.f_frsize ? st.f_frsize : st.f_bsize);
}

static int disk_full(int fd, uint64_t size, int rc, struct problem *why)
{
    uint64_t left = room(fd);

    return problem(why, DISK_FULL, .errno_ = -rc,
                   .bytes = left == UINT64_MAX ? 0 : left, .size = size);
}

static bool is_full(int rc)
{
    return rc == -ENOSPC || rc == -EDQUOT;
}

/* ---- the two owners */

static void part_put(struct part *p)
{
    if (atomic_fetch_sub(&p->refs, 1) > 1)
        return;
    journal_close(p->journal);
    keel_file_close(p->direct);
    keel_file_close(p->fd);
    keel_file_close(p->own_dir);
    keel_free(p);
}

void part_close(struct part *p)
{
    if (p)
        part_put(p);
}

void part_rest(struct part *p)
{
    keel_lock_hold(&p->sync_lock);
    p->resting = true;
    keel_lock_drop(&p->sync_lock);
}

static void remove_names(struct part *p)
{
    if (!p->name[0] || p->published)
        return;
    /* The journal first: alone, it would be about a file that is gone; a file
     * without one starts afresh. */
    (void)keel_file_unlink(p->dir, p->log);
    (void)keel_file_unlink(p->dir, p->name);
}

void part_drop(struct part *p)
{
    if (!p)
        return;
    remove_names(p);
    part_put(p);
}

/* ---- opening */

/* O_DIRECT is an open of its own, since the last bytes of a file go through
 * the page cache.  Where it is refused, all of them do. */
static void open_direct(struct part *p)
{
    struct statx a, b;
    char self[64];
    int fd;

    if (p->size < DIRECT_BYTES)
        return;
    if (p->name[0]) {
        fd = keel_file_open(p->dir, p->name, O_RDWR | O_DIRECT, 0);
    } else {
        snprintf(self, sizeof self, "/proc/self/fd/%d", p->fd);
        fd = keel_file_open_any(self, O_RDWR | O_DIRECT, 0);
    }
    if (fd < 0)
        return;
    if (keel_file_stat(p->fd, NULL, &a) < 0 ||
        keel_file_stat(fd, NULL, &b) < 0 || a.stx_ino != b.stx_ino ||
        a.stx_dev_major != b.stx_dev_major ||
        a.stx_dev_minor != b.stx_dev_minor) {
        keel_file_close(fd); /* the name was exchanged in between */
        return;
    }
    p->direct = fd;
}

/* True on tmpfs, which reserves a page by making it: a tenth of a second for a
 * GiB, before the first byte may come.  Then `ret` tells whether there is room
 * now.  When two files fill it at once, a write will find it full. */
static bool compare_room(const struct part *p, int *ret)
{
    struct statfs fs;
    struct statx st;
    uint64_t left;

    if (p->size < DIRECT_BYTES || keel_file_statfs(p->fd, &fs) < 0 ||
        fs.f_type != TMPFS_MAGIC || fs.f_blocks == 0 ||
        keel_file_stat(p->fd, NULL, &st) < 0)
        return false;
    left = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize + st.stx_blocks * 512;
    *ret = left < p->size ? -ENOSPC : keel_file_truncate(p->fd, p->size);
    return true;
}

static int reserve(struct part *p, struct problem *why)
{
    int rc;

    if (p->size == 0 || (!p->holes && !p->name[0] && p->size <= CHUNK_BYTES))
        return 0;
    /* The kernel takes all there is before it finds that it is not enough, and
     * everybody else would meet a full disk meanwhile. */
    if (!compare_room(p, &rc))
        rc = p->size > room(p->fd) ? -ENOSPC
                                   : keel_file_reserve(p->fd, 0, 0, p->size);
    if (rc == -EOPNOTSUPP)
        rc = keel_file_truncate(p->fd, p->size); /* no promise, but a length */
    if (is_full(rc))
        return disk_full(p->fd, p->size, rc, why);
    if (rc == -EFBIG)
        return problem(why, FILE_TOO_LARGE, .name = words(p), .size = p->size,
                       .limit = INT64_MAX);
    return rc < 0 ? local(p, rc, why) : 0;
}

/* Two writers of one part would each keep a journal of half the truth.  A file
 * system that knows no locks cannot tell: there it is not noticed. */
static int lock(struct part *p, struct problem *why)
{
    keel_ns deadline = keel_after(LOCK_WAIT);

    for (;;) {
        int rc = keel_file_lock(p->fd);

        if (rc != -EWOULDBLOCK)
            return 0;
        if (keel_now() >= deadline)
            return problem(why, TRANSFER_BUSY, .name = p->name);
        rc = keel_sleep(keel_after(LOCK_STEP));
        if (rc < 0)
            return problem(why, CANCELLED);
    }
}

enum found { FOUND_NONE, FOUND, FOUND_AGAIN };

static void forget_file(struct part *p)
{
    keel_file_close(p->fd);
    p->fd = -1;
}

/* What lies under the name already, if it can be gone on with; FOUND_AGAIN:
 * look again. */
static int find_file(struct part *p, struct problem *why)
{
    struct statx st;
    int rc;

    rc = keel_file_open(p->dir, p->name, O_RDWR, 0);
    if (rc == -ENOENT)
        return FOUND_NONE;
    if (rc < 0)
        return local(p, rc, why);
    p->fd = rc;
    rc = lock(p, why);
    if (rc < 0)
        return rc;
    rc = keel_file_stat(p->fd, NULL, &st);
    if (rc < 0)
        return local(p, rc, why);
    if (!S_ISREG(st.stx_mode))
        return problem(why, FILE_NOT_REGULAR, .name = p->name);
    if (st.stx_nlink == 0) { /* who had the lock has dropped it */
        forget_file(p);
        return FOUND_AGAIN;
    }
    /* With a second link it is somebody's published file too. */
    if (st.stx_size == p->size && st.stx_nlink == 1)
        return FOUND;

    rc = keel_file_unlink(p->dir, p->name);
    forget_file(p);
    return rc < 0 && rc != -ENOENT ? local(p, rc, why) : FOUND_NONE;
}

static int make_file(struct part *p, mode_t mode, struct problem *why)
{
    int rc;

    /* A journal without its file: the next file may get the same inode. */
    rc = keel_file_unlink(p->dir, p->log);
    if (rc < 0 && rc != -ENOENT)
        return local(p, rc, why);
    rc = keel_file_open(p->dir, p->name, O_RDWR | O_CREAT | O_EXCL, mode);
    if (rc == -EEXIST)
        return FOUND_AGAIN; /* another one was faster */
    if (rc < 0)
        return is_full(rc) ? disk_full(p->dir, p->size, rc, why)
                           : local(p, rc, why);
    p->fd = rc;
    rc = lock(p, why);
    if (rc < 0)
        return rc;
    rc = reserve(p, why);
    if (rc < 0)
        (void)keel_file_unlink(p->dir, p->name);
    return rc;
}

static int open_unnamed(struct part *p, mode_t mode, struct problem *why)
{
    int rc;

    rc = keel_file_open(p->dir, ".", O_RDWR | O_TMPFILE, mode);
    if (rc < 0)
        return is_full(rc) ? disk_full(p->dir, p->size, rc, why)
                           : local(p, rc, why);
    p->fd = rc;
    return reserve(p, why);
}

static int journal_problem(struct part *p, int rc, struct problem *why)
{
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc == -EFBIG)
        return problem(why, FILE_TOO_LARGE, .name = words(p), .size = p->size,
                       .limit = (uint64_t)UINT32_MAX * CHUNK_BYTES);
    if (is_full(rc))
        return disk_full(p->fd, CHUNK_BYTES, rc, why);
    return local(p, rc, why);
}

/* Returns a journal_state. */
static int open_journal(struct part *p, const struct part_options *o,
                        struct problem *why)
{
    struct journal_key key = {.size = o->size,
                              .source_mtime_ns = o->source_mtime_ns,
                              .source_ctime_ns = o->source_ctime_ns,
                              .hash = o->hash};
    struct statx st;
    int rc;

    memcpy(key.id, o->id, sizeof key.id);
    rc = keel_file_stat(p->fd, NULL, &st);
    if (rc < 0)
        return local(p, rc, why);
    key.device = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
    key.inode = st.stx_ino;
    key.ctime_ns = st.stx_ctime.tv_sec * KEEL_SECOND + st.stx_ctime.tv_nsec;
    rc = journal_open(p->dir, p->name[0] ? p->log : NULL, &key, &p->journal);
    return rc < 0 ? journal_problem(p, rc, why) : rc;
}

/* ---- proving what is in doubt */

struct proof {
    struct part *part;
    _Atomic uint64_t next;
    _Atomic int error;
};

static int prove_chunk(struct part *p, uint64_t index, uint8_t *bytes)
{
    size_t size = chunk_size(p->size, index);
    struct digest leaf;
    ssize_t got;
    int rc;

    got = keel_file_read(p->fd, bytes, size, index * CHUNK_BYTES);
    /* What cannot be read is as good as damaged: it is moved again. */
    if (got == (ssize_t)size) {
        chunk_leaf(p->hash, bytes, size, &leaf);
        if (!memcmp(&leaf, &journal_leaves(p->journal)[index], sizeof leaf))
            return journal_prove(p->journal, index);
    }
    rc = journal_drop(p->journal, index);
    atomic_fetch_add(&p->withdrawn, 1);
    return rc;
}

/* One of several at work on the same list. */
static int prove_job(void *arg)
{
    keel_auto(str) char *bytes = keel_alloc(CHUNK_BYTES);
    struct proof *f = arg;
    int rc = bytes ? 0 : -ENOMEM;

    while (rc == 0 && atomic_load(&f->error) == 0) {
        uint64_t i = atomic_fetch_add(&f->next, 1);

        if (i >= f->part->chunks)
            break;
        if (journal_doubt(f->part->journal, i))
            rc = prove_chunk(f->part, i, (uint8_t *)bytes);
    }
    if (rc < 0)
        atomic_store(&f->error, rc);
    return rc;
}

/* Waits for work that uses this coroutine's stack, cancelled or not. */
static void await(struct keel_future *f)
{
    keel_shield();
    (void)keel_future_result(f, KEEL_FOREVER, NULL);
    keel_unshield();
    keel_future_free(f);
}

static int prove(struct part *p, struct problem *why)
{
    struct proof f = {.part = p};
    struct keel_future *job[PROVERS];
    int count = 0, rc;

    while (keel_current() && count < PROVERS &&
           keel_blocking_submit(prove_job, &f, &job[count]) == 0)
        count++;
    if (count == 0)
        prove_job(&f);
    for (int i = 0; i < count; i++)
        await(job[i]);
    rc = atomic_load(&f.error);
    return rc < 0 ? journal_problem(p, rc, why) : 0;
}

/* ---- opening, continued */

static struct part *part_new(const struct part_options *o)
{
    struct part *p = keel_calloc(1, sizeof *p);

    if (!p)
        return NULL;
    p->size = o->size;
    p->chunks = chunk_count(o->size);
    p->hash = o->hash;
    p->fd = p->direct = p->own_dir = -1;
    p->dir = o->dir;
    p->holes = o->holes;
    atomic_store(&p->refs, 1);
    atomic_store(&p->synced_at, keel_now());
    keel_lock_init(&p->sync_lock);
    if (o->name) {
        snprintf(p->name, sizeof p->name, "%s", o->name);
        snprintf(p->log, sizeof p->log, "%s.log", o->name);
    }
    return p;
}

static int open_named(struct part *p, const struct part_options *o,
                      bool *ret_made, struct problem *why)
{
    int rc = FOUND_AGAIN;

    for (int tries = 0; rc == FOUND_AGAIN; tries++) {
        if (tries == FIND_TRIES)
            return problem(why, TRANSFER_BUSY, .name = p->name);
        rc = find_file(p, why);
        if (rc == FOUND_NONE) {
            rc = make_file(p, o->mode, why);
            *ret_made = rc == 0;
        }
    }
    if (rc < 0)
        return rc;
    if (p->size >= SYNC_BYTES) {
        rc = keel_file_open(p->dir, ".", O_RDONLY | O_DIRECTORY, 0);
        if (rc < 0)
            return local(p, rc, why);
        p->own_dir = rc;
    }
    return 0;
}

/* From the journal, what is there already. */
static int take_up(struct part *p, const struct part_options *o, bool made,
                   struct problem *why)
{
    int state, rc;

    /* Before anything else moves the file's ctime. */
    state = open_journal(p, o, why);
    if (state < 0)
        return state;
    /* Once more for a file that was found: whoever made it may have died
     * before its blocks were all there. */
    if (o->name && !made && !o->holes) { /* that would fill the holes */
        rc = reserve(p, why);
        if (rc < 0)
            return rc;
    }
    if (state == JOURNAL_TAIL) {
        rc = prove(p, why);
        if (rc < 0)
            return rc;
    }
    journal_touch(p->journal);
    return 0;
}

int part_open(const struct part_options *o, struct part **ret,
              struct problem *why)
{
    keel_auto(part) struct part *p = NULL;
    bool made = false;
    int rc;

    keel_assert(!o->name || (o->name[0] && strlen(o->name) <= PART_NAME_BYTES &&
                             !strchr(o->name, '/')));
    if (o->size > INT64_MAX)
        return problem(why, FILE_TOO_LARGE, .name = o->name, .size = o->size,
                       .limit = INT64_MAX);
    p = part_new(o);
    if (!p)
        return problem(why, NO_MEMORY);

    rc = o->name ? open_named(p, o, &made, why) : open_unnamed(p, o->mode, why);
    if (rc == 0)
        rc = take_up(p, o, made, why);
    if (rc < 0) {
        if (made)
            remove_names(p);
        return rc;
    }
    open_direct(p);
    *ret = keel_take(p);
    return 0;
}

/* ---- syncing */

/* The caller holds sync_lock.  What `fresh` asks for is that the journal and
 * the names are on the disk as well: not needed for truth, only so that a
 * power cut leaves more to go on from. */
static int sync_held(struct part *p, bool fresh)
{
    uint64_t mark = journal_mark(p->journal);
    int rc;

    if (atomic_load(&p->poison))
        return -atomic_load(&p->poison);
    atomic_store(&p->unsynced, 0);
    atomic_store(&p->synced_at, keel_now());
    rc = keel_file_sync_data(p->fd);
    if (rc < 0) {
        poison(p, rc);
        return rc;
    }
    rc = journal_synced(p->journal, mark);
    if (rc < 0 || !fresh || !p->name[0])
        return 0; /* without the mark, less is trusted */

    (void)journal_sync(p->journal);
    if (!p->names_synced && p->own_dir >= 0)
        p->names_synced = keel_file_sync(p->own_dir) == 0;
    return 0;
}

/* A coroutine of its own, not a job of the pool: whoever holds one of the
 * locks may wait for the pool's threads, so none of those waits for a lock. */
static int sync_job(void *arg)
{
    struct part *p = arg;

    keel_lock_hold(&p->sync_lock);
    if (!p->resting)
        (void)sync_held(p, true); /* a failure is in `poison` */
    keel_lock_drop(&p->sync_lock);
    atomic_store(&p->syncing, false);
    part_put(p);
    return 0;
}

/* Starts a sync aside when one is due. */
static void sync_aside(struct part *p, size_t written)
{
    uint64_t unsynced = atomic_fetch_add(&p->unsynced, written) + written;
    static const struct keel_spawn how = {.name = "part-sync"};

    if (!p->name[0] || (unsynced < SYNC_BYTES &&
                        keel_now() - atomic_load(&p->synced_at) < SYNC_AFTER))
        return;
    if (atomic_exchange(&p->syncing, true))
        return;
    atomic_fetch_add(&p->refs, 1);
    if (!keel_current() || keel_spawn(&how, sync_job, p, NULL) < 0)
        sync_job(p);
}

int part_sync(struct part *p, struct problem *why)
{
    int rc;

    keel_lock_hold(&p->sync_lock);
    rc = sync_held(p, false);
    keel_lock_drop(&p->sync_lock);
    return rc < 0 ? poisoned(p, why) : 0;
}

/* ---- writing */

static int write_blocks(struct part *p, const uint8_t *bytes, size_t size,
                        uint64_t at)
{
    size_t whole = size - size % BLOCK;
    int rc;

    if (p->direct < 0 || atomic_load(&p->direct_refused) || whole == 0)
        return keel_file_write(p->fd, bytes, size, at);

    rc = keel_file_write(p->direct, bytes, whole, at);
    if (rc == -EINVAL || rc == -EOPNOTSUPP) {
        /* Opened, but refused when used; or cut at an odd place. */
        atomic_store(&p->direct_refused, true);
        return keel_file_write(p->fd, bytes, size, at);
    }
    if (rc < 0 || whole == size)
        return rc;
    return keel_file_write(p->fd, bytes + whole, size - whole, at + whole);
}

static int punch(struct part *p, const uint8_t *bytes, size_t size, uint64_t at)
{
    int rc = keel_file_reserve(
        p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, size);

    return rc < 0 ? write_blocks(p, bytes, size, at) : 0;
}

/* A hole is made also where one may be: the chunk may have been there, damaged,
 * and the reserved blocks are given back. */
static int write_runs(struct part *p, const uint8_t *bytes, size_t size,
                      uint64_t at)
{
    bool zero;
    int rc = 0;

    if (!p->holes)
        return write_blocks(p, bytes, size, at);
    while (size > 0 && rc == 0) {
        size_t run = hole_run(bytes, size, &zero);

        rc = zero ? punch(p, bytes, run, at) : write_blocks(p, bytes, run, at);
        bytes += run;
        at += run;
        size -= run;
    }
    return rc;
}

struct hashing {
    struct part *part;
    uint64_t index;
    const uint8_t *bytes;
    size_t size;
    struct digest leaf;
};

static int hash_job(void *arg)
{
    struct hashing *h = arg;

    chunk_leaf(h->part->hash, h->bytes, h->size, &h->leaf);
    /* The write has begun by now and may last: see journal_touch. */
    journal_touch(h->part->journal);
    return 0;
}

static int write_job(void *arg)
{
    struct hashing *h = arg;

    return write_runs(h->part, h->bytes, h->size, h->index * CHUNK_BYTES);
}

static int both_job(void *arg)
{
    int rc = write_job(arg);

    return rc < 0 ? rc : hash_job(arg);
}

static int both(struct hashing *h)
{
    int rc = keel_blocking(both_job, h);

    return rc == -EAGAIN ? both_job(h) : rc; /* no thread to be had */
}

/* Hashes on the pool while the disk writes. */
static int both_at_once(struct hashing *h)
{
    struct keel_future *f;
    int rc;

    if (!keel_current() || keel_blocking_submit(hash_job, h, &f) < 0)
        return both_job(h);
    rc = write_job(h);
    await(f);
    return rc;
}

/* As one job, a chunk takes one thread's waking instead of three, and its
 * bytes are still in that core's cache: an eighth faster.  But who waits for
 * a slow disk keeps a thread of the pool, and those are for others too: of
 * large chunks only JOBS_MOST are jobs at a time. */
static int write_and_hash(struct hashing *h)
{
    static _Atomic int jobs;
    int rc;

    if (h->size <= SMALL_BYTES)
        return both(h);
    if (atomic_fetch_add(&jobs, 1) < JOBS_MOST) {
        rc = both(h);
        atomic_fetch_sub(&jobs, 1);
        return rc;
    }
    atomic_fetch_sub(&jobs, 1);
    return both_at_once(h);
}

static int withdraw(struct part *p, uint64_t index, struct problem *why)
{
    int rc;

    rc = journal_drop(p->journal, index);
    atomic_fetch_add(&p->withdrawn, 1);
    return rc < 0 ? journal_problem(p, rc, why) : 0;
}

/* One sync for all that was withdrawn since the last: a power cut must not
 * bring back the record of a chunk that is being overwritten. */
static int settle(struct part *p, struct problem *why)
{
    uint64_t withdrawn = atomic_load(&p->withdrawn);
    uint64_t settled = atomic_load(&p->settled);
    int rc;

    if (settled >= withdrawn)
        return 0;
    rc = journal_sync(p->journal);
    if (rc < 0) {
        poison(p, rc);
        return poisoned(p, why);
    }
    while (settled < withdrawn &&
           !atomic_compare_exchange_weak(&p->settled, &settled, withdrawn))
        continue;
    return 0;
}

static int write_claimed(struct part *p, uint64_t index, struct buffer *b,
                         struct problem *why)
{
    struct hashing h = {.part = p,
                        .index = index,
                        .bytes = b->bytes,
                        .size = chunk_size(p->size, index)};
    int rc;

    /* While it is overwritten it is neither the old chunk nor the new one. */
    if (journal_has(p->journal, index)) {
        rc = withdraw(p, index, why);
        if (rc < 0)
            return rc;
    }
    rc = settle(p, why);
    if (rc < 0)
        return rc;
    rc = write_and_hash(&h);
    if (rc < 0)
        return is_full(rc) ? disk_full(p->fd, h.size, rc, why)
                           : local(p, rc, why);
    rc = journal_add(p->journal, index, &h.leaf);
    if (rc < 0)
        return journal_problem(p, rc, why);
    sync_aside(p, h.size);
    return poisoned(p, why);
}

static int claim(struct part *p, uint64_t index, struct problem *why)
{
    int rc;

    rc = poisoned(p, why);
    if (rc < 0)
        return rc;
    if (index >= p->chunks)
        return problem(why, TRANSFER_RANGE, .bytes = index * CHUNK_BYTES,
                       .size = p->size);
    if (!journal_claim(p->journal, index))
        return problem(why, REQUEST_INVALID,
                       .detail = "the same chunk is being written already");
    return 0;
}

int part_write(struct part *p, uint64_t index, struct buffer *b,
               struct problem *why)
{
    int rc;

    rc = claim(p, index, why);
    if (rc < 0)
        return rc;
    rc = write_claimed(p, index, b, why);
    journal_release(p->journal, index);
    return rc;
}

int part_withdraw(struct part *p, uint64_t index, struct problem *why)
{
    int rc;

    rc = claim(p, index, why);
    if (rc < 0)
        return rc;
    rc = withdraw(p, index, why);
    journal_release(p->journal, index);
    return rc;
}

/* ---- asking */

uint64_t part_size(const struct part *p)
{
    return p->size;
}

bool part_has(const struct part *p, uint64_t chunk)
{
    return journal_has(p->journal, chunk);
}

uint64_t part_missing(const struct part *p, uint64_t from)
{
    return journal_missing(p->journal, from);
}

uint64_t part_bytes(const struct part *p)
{
    uint64_t bytes = journal_count(p->journal) * CHUNK_BYTES;

    if (p->chunks > 0 && journal_has(p->journal, p->chunks - 1))
        bytes -= CHUNK_BYTES - chunk_size(p->size, p->chunks - 1);
    return bytes;
}

const struct digest *part_leaves(const struct part *p)
{
    return journal_leaves(p->journal);
}

struct rooting {
    const struct part *part;
    struct digest *ret;
};

static int root_job(void *arg)
{
    struct rooting *r = arg;

    chunk_root(r->part->hash, journal_leaves(r->part->journal), r->part->chunks,
               r->ret);
    return 0;
}

int part_root(const struct part *p, struct digest *ret)
{
    struct rooting r = {p, ret};

    if (atomic_load(&p->poison))
        return -EIO;
    if (journal_missing(p->journal, 0) < p->chunks)
        return -EINVAL;
    /* A quarter of a microsecond a leaf: the loop is not held for long trees. */
    if (p->chunks < 256 || keel_blocking(root_job, &r) < 0)
        root_job(&r);
    return 0;
}

int part_fd(const struct part *p)
{
    return p->fd;
}

const char *part_name(const struct part *p)
{
    return p->name[0] ? p->name : NULL;
}

void part_published(struct part *p)
{
    if (!p->name[0] || p->published)
        return;
    (void)keel_file_unlink(p->dir, p->log);
    p->published = true;
}
