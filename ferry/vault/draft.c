/* SPDX-License-Identifier: MIT */
/* Uploads until they are published.
 *
 * A draft of at most one chunk is SMALL: a nameless file in the directory
 * where it is to appear; nothing of it is worth a resume, and nothing of it
 * is left by a crash.  Larger ones are REGISTERED: a row in the ledger holds
 * their reservation, and the same request finds them again.
 *
 * Who may only drop replaces nothing.  But an upload that was cut, or whose last
 * answer was, is repeated by a client that cannot see what came of it: a name
 * that has what this very account published there is THERE, has no part, and its
 * publishing compares the root and does nothing.  Of anybody else's file not
 * even the size is looked at.
 *
 * Files before rows when one is given up, the row before the file when one is
 * made: what a crash leaves is a row whose file is missing, or a file without
 * a row, and recovery removes either. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

#include "vault_inside.h"

/* The journal counts chunks in 32 bits. */
#define DRAFT_BYTES_MOST ((uint64_t)UINT32_MAX * CHUNK_BYTES)
/* From here on a resume after a power cut is worth two directory syncs. */
#define DRAFT_BYTES_LASTING ((uint64_t)16 << 20)
/* Roots of more chunks than this are computed on the pool. */
enum { ROOT_CHUNKS_HERE = 256 };

/* How long the holder of a draft has for letting it go. */
#define CLAIM_PATIENCE (10 * KEEL_SECOND)

/* ---- claims: one open draft for one request ------------------------------------- */

static struct draft **claim_bucket(struct draft *d)
{
    return &d->vault->claims[d->source[0] % CLAIM_BUCKETS];
}

static bool same_request(const struct draft *a, const struct draft *b)
{
    return a->account == b->account && a->space == b->space &&
           a->size == b->size && a->hash == b->hash &&
           !memcmp(a->source, b->source, sizeof a->source) &&
           !strcmp(a->path, b->path);
}

static struct draft *claim_find(const struct draft *d)
{
    struct draft *other = d->vault->claims[d->source[0] % CLAIM_BUCKETS];

    while (other && !same_request(d, other))
        other = other->next_claim;
    return other;
}

/* The same sender again: most likely after a line that broke, on which the
 * first one still waits.  Who holds it is asked to let go, once; what it is
 * writing or publishing it finishes.  Returns 1 when somebody had it. */
static int claim_take(struct draft *d, struct problem *why)
{
    struct vault *v = d->vault;
    keel_ns deadline = keel_after(CLAIM_PATIENCE);
    int had = 0;
    keel_guard(&v->lock);

    for (struct draft *other; (other = claim_find(d));) {
        int rc = -ETIMEDOUT;

        had = 1;
        if (other->holder) {
            keel_cancel(other->holder);
            other->holder = NULL;
            other->leaving = true;
        }
        if (other->leaving)
            rc = keel_cond_wait(&v->released, &v->lock, deadline);
        if (rc == -ETIMEDOUT)
            return problem(why, FILE_BUSY, .name = shown_path(d->path).text);
        if (rc < 0)
            return problem(why, CANCELLED);
    }
    d->next_claim = *claim_bucket(d);
    *claim_bucket(d) = d;
    d->claimed = true;
    return had;
}

void draft_leave(struct draft *d)
{
    keel_guard(&d->vault->lock);

    d->holder = NULL;
    d->leaving = true;
}

static void claim_drop(struct draft *d)
{
    keel_guard(&d->vault->lock);

    if (!d->claimed)
        return;
    for (struct draft **at = claim_bucket(d); *at; at = &(*at)->next_claim) {
        if (*at == d) {
            *at = d->next_claim;
            break;
        }
    }
    d->claimed = false;
    keel_cond_broadcast(&d->vault->released);
}

/* True when an open draft has that id. */
static bool claimed_id(struct vault *v, const uint8_t id[DRAFT_ID_BYTES])
{
    keel_guard(&v->lock);

    for (unsigned i = 0; i < CLAIM_BUCKETS; i++)
        for (struct draft *d = v->claims[i]; d; d = d->next_claim)
            if (!memcmp(d->id, id, sizeof d->id))
                return true;
    return false;
}

/* ---- making one -------------------------------------------------------------------- */

static struct draft *draft_new(struct vault *v, const struct actor *who,
                               const struct vault_put *put)
{
    struct draft *d = keel_calloc(1, sizeof *d + put->path->size + 1u);

    if (!d)
        return NULL;
    d->vault = v;
    d->kind = put->size <= CHUNK_BYTES && !v->no_tmpfile ? DRAFT_SMALL
                                                         : DRAFT_REGISTERED;
    d->space = put->space ? put->space : who->home;
    d->account = who->account;
    d->size = put->size;
    d->hash = put->hash;
    d->mtime_ns = put->mtime_ns;
    d->mode = put->mode;
    memcpy(d->source, put->source, sizeof d->source);
    d->no_replace = d->fresh = put->no_replace;
    d->holder = put->holder;
    d->has_match = put->match != NULL;
    if (put->match)
        d->match = *put->match;
    d->dir = d->drafts_dir = -1;
    memcpy(d->path, put->path->text, put->path->size);
    keel_random(d->id, sizeof d->id);
    v->open_drafts++;
    return d;
}

void draft_free(struct draft *d)
{
    if (!d)
        return;
    /* The next one to open these files must be the only one to write them. */
    if (d->part && d->claimed)
        part_rest(d->part);
    part_close(d->part);
    claim_drop(d);
    keel_file_close(d->dir);
    keel_file_close(d->drafts_dir);
    d->vault->open_drafts--;
    keel_free(d);
}
KEEL_AUTO(half_draft, struct draft *, draft_free)

struct ledger_draft draft_row(const struct draft *d)
{
    struct ledger_draft row = {
        .space = d->space,
        .account = d->account,
        .path = d->path,
        .size = d->size,
        .hash = d->hash,
        .created = vault_now_s(),
        .expires = vault_now_s() + d->vault->draft_ttl_s,
    };

    memcpy(row.id, d->id, sizeof row.id);
    memcpy(row.source, d->source, sizeof row.source);
    return row;
}

int draft_open_drafts_dir(struct draft *d)
{
    int fd;

    if (d->drafts_dir >= 0)
        return 0;
    fd = store_draft_dir(d->vault->store, d->id, true);
    if (fd < 0)
        return fd;
    d->drafts_dir = fd;
    return 0;
}

/* Made under the umask of the process, whatever that is. */
static int draft_set_mode(struct draft *d, struct problem *why)
{
    mode_t mode = file_mode(d->mode);
    int rc = mode & 0077 ? keel_file_chmod(part_fd(d->part), mode) : 0;

    return rc < 0 ? vault_problem(d->vault, why, rc, d->path, d->size) : 0;
}

static int draft_part_open(struct draft *d, int dir, const char *name,
                           struct problem *why)
{
    struct part_options o = {
        .dir = dir,
        .name = name,
        .size = d->size,
        .hash = d->hash,
        .source_mtime_ns = d->mtime_ns,
        .mode = name ? 0600 : file_mode(d->mode),
        /* Small ones are about to be written anyway: not worth a look. */
        .holes = d->size > CHUNK_BYTES,
    };

    memcpy(o.id, d->id, sizeof o.id);
    return part_open(&o, &d->part, why);
}

/* ---- the place, looked at on one pool thread ------------------------------------------- */

struct opening {
    struct draft *draft;
    const struct vault_put *put;
    struct problem *why;
    bool exists;
    bool own; /* what is there may be what its sender put there before */
};

/* What the sender gave along. */
static int content_write(struct draft *d, const struct vault_put *put,
                         struct problem *why)
{
    struct buffer b = {.bytes = (uint8_t *)(uintptr_t)put->content};

    if (!put->content || put->size == 0 || part_has(d->part, 0))
        return 0;
    return part_write(d->part, 0, &b, why);
}

int draft_refused(const struct draft *d, struct problem *why)
{
    struct shown shown = shown_path(d->path);

    if (d->drop)
        return problem(why, RIGHT_MISSING, .detail = "replace",
                       .name = shown.text);
    return problem(why, FILE_EXISTS, .name = shown.text);
}

/* Only what nobody asked to be new: `no_replace` means that it is not there. */
static bool may_be_there(const struct draft *d)
{
    return d->drop && !d->fresh;
}

/* Makes THERE of a draft whose name has what its account published there and
 * nobody changed since, of the same size: 1. */
static int draft_be_there(struct draft *d, struct problem *why)
{
    struct ledger_file f;
    int rc = read_published(d->vault, d->space, d->account, d->space_dir,
                            d->path, &f, why);

    if (rc <= 0 || f.size != d->size || f.hash != d->hash)
        return rc < 0 ? rc : 0;
    d->kind = DRAFT_THERE;
    return 1;
}

/* A parent that is missing is named, not the file. */
static int parent_problem(struct draft *d, struct problem *why, int rc)
{
    keel_auto(str) char *parent = keel_strdup(d->path);

    if (!parent)
        return problem(why, NO_MEMORY);
    parent[parent_size(d->path)] = '\0';
    return vault_problem(d->vault, why, rc, parent, d->size);
}

static int look_for_rivals(struct opening *o)
{
    struct draft *d = o->draft;
    struct shown shown = shown_path(d->path);
    struct statx there;
    int rc = store_look(d->dir, leaf_of(d->path), &there);

    o->exists = rc == 0;
    if (rc == -ENOENT)
        return d->has_match ? problem(o->why, FILE_MATCH, .name = shown.text)
                            : 0;
    if (rc < 0)
        return vault_problem(d->vault, o->why, rc, d->path, d->size);
    rc = d->drop ? 0 : store_may_replace(&there, shown.text, o->why);
    if (rc < 0)
        return rc;
    o->own = may_be_there(d) && S_ISREG(there.stx_mode);
    return d->no_replace && !o->own ? draft_refused(d, o->why) : 0;
}

static bool no_tmpfile(int rc)
{
    /* EISDIR is what kernels answer that do not know the flag. */
    return rc == -EOPNOTSUPP || rc == -EISDIR;
}

/* ext4's answer when the directory was removed meanwhile (ext4_new_inode). */
static bool is_removed(int rc, int dir)
{
    struct statx x;

    return rc == -EPERM && keel_file_stat(dir, NULL, &x) == 0 &&
           x.stx_nlink == 0;
}

static int open_place(void *arg)
{
    struct opening *o = arg;
    struct draft *d = o->draft;
    int rc;

    d->dir =
        store_dir(d->vault->store, d->space_dir, d->path, parent_size(d->path));
    if (d->dir < 0)
        return parent_problem(d, o->why, d->dir);
    rc = look_for_rivals(o);
    if (rc < 0 || o->own || d->kind != DRAFT_SMALL)
        return rc;
    rc = draft_part_open(d, d->dir, NULL, o->why);
    if (is_removed(rc, d->dir))
        return parent_problem(d, o->why, -ENOENT);
    if (no_tmpfile(rc)) {
        d->vault->no_tmpfile = true;
        d->kind = DRAFT_REGISTERED;
        return 0;
    }
    /* Of many that wait to be published each has one descriptor: publishing
     * opens the place anew. */
    keel_file_close(d->dir);
    d->dir = -1;
    if (rc == 0)
        rc = draft_set_mode(d, o->why);
    return rc < 0 ? rc : content_write(d, o->put, o->why);
}

/* Small drafts reserve nothing in the ledger: what their publishing would be
 * refused for is better said before their bytes come.  The look may be a
 * second old, so a refusal is made sure of. */
static int quota_hint(struct draft *d, bool exists, struct problem *why)
{
    struct ledger_space s;

    for (int fresh = 0; fresh < 2; fresh++) {
        bool bytes_over, files_over;
        int rc = vault_space(d->vault, d->space, fresh, &s, why);

        if (rc < 0)
            return rc;
        bytes_over =
            s.quota_bytes &&
            s.used_bytes + s.reserved_bytes + (int64_t)d->size > s.quota_bytes;
        files_over = space_names_over(&s, 1);
        if (exists || (!bytes_over && !files_over))
            return 0;
        if (fresh && bytes_over)
            return problem(why, QUOTA_BYTES, .limit = (uint64_t)s.quota_bytes,
                           .used = (uint64_t)s.used_bytes,
                           .bytes = (uint64_t)s.reserved_bytes,
                           .size = d->size);
    }
    return problem(why, QUOTA_FILES, .limit = space_names_most(&s));
}

/* ---- registered drafts -------------------------------------------------------------------- */

/* The row of the same request, or a new one.  Returns 1 when it is new. */
static int draft_row_open(struct draft *d, struct problem *why)
{
    struct ledger_draft row = draft_row(d);
    struct problem said = {.id = PROBLEM_NONE};
    int rc;

    rc = ledger_draft_find(d->vault->ledger, &row, row.expires, d->id, &said);
    if (rc == 0)
        return 0;
    if (said.id != PROBLEM_TRANSFER_UNKNOWN) {
        if (why)
            *why = said;
        return rc;
    }
    rc = ledger_draft_open(d->vault->ledger, &row, why);
    return rc < 0 ? rc : 1;
}

static int draft_file_open(struct draft *d, struct problem *why)
{
    char name[DRAFT_NAME_BYTES];
    int rc = draft_open_drafts_dir(d);

    if (rc < 0)
        return vault_problem(d->vault, why, rc, d->path, d->size);
    store_draft_name(d->id, name);
    rc = draft_part_open(d, d->drafts_dir, name, why);
    if (rc < 0 || d->size < DRAFT_BYTES_LASTING)
        return rc;
    rc = store_draft_dir_sync(d->vault->store, d->drafts_dir);
    return rc < 0 ? vault_problem(d->vault, why, rc, d->path, d->size) : 0;
}

/* Files first; a row whose files could not be removed stays for another
 * time. */
static int draft_erase(struct vault *v, const uint8_t id[DRAFT_ID_BYTES],
                       struct problem *why)
{
    int rc = store_draft_remove(v->store, id);

    if (rc < 0)
        return vault_problem(v, why, rc, "drafts", 0);
    return ledger_draft_drop(v->ledger, id, why);
}

static int draft_register(struct draft *d, struct problem *why)
{
    int rc = claim_take(d, why);

    /* Who had it may have published it, which is then all that was wanted. */
    if (rc > 0 && may_be_there(d))
        rc = draft_be_there(d, why);
    if (rc < 0 || d->kind == DRAFT_THERE)
        return rc < 0 ? rc : 0;
    rc = draft_row_open(d, why);
    if (rc < 0)
        return rc;
    bool made = rc == 1;

    rc = draft_file_open(d, why);
    if (rc < 0 && made) {
        /* Not half of one: nobody knows its id. */
        keel_shield();
        (void)draft_erase(d->vault, d->id, NULL);
        keel_unshield();
    }
    return rc;
}

/* ---- the contract --------------------------------------------------------------------------- */

static int put_check(const struct vault_put *put, struct problem *why)
{
    if (put->path->count == 0)
        return problem(why, FILE_IS_DIRECTORY, .name = "/");
    if (!chunk_hash_name(put->hash))
        return problem(why, REQUEST_INVALID, .detail = "unknown hash");
    if (put->content && put->size > CHUNK_BYTES)
        return problem(why, REQUEST_INVALID, .detail = "content");
    if (put->size > DRAFT_BYTES_MOST)
        return problem(why, FILE_TOO_LARGE, .size = put->size,
                       .limit = DRAFT_BYTES_MOST,
                       .name = shown_path(put->path->text).text);
    return 0;
}

static int draft_place(struct draft *d, const struct vault_put *put,
                       struct problem *why)
{
    struct opening o = {.draft = d, .put = put, .why = why};
    struct ledger_space s;
    int rc = vault_space(d->vault, d->space, false, &s, why);

    if (rc < 0)
        return rc;
    memcpy(d->space_dir, s.dir, sizeof d->space_dir);
    rc = keel_blocking(open_place, &o);
    if (rc == -EAGAIN && !d->part) /* no thread for it */
        return problem(why, NO_MEMORY);
    if (rc == 0 && o.own) {
        rc = draft_be_there(d, why);
        return rc == 0 ? draft_refused(d, why) : rc < 0 ? rc : 0;
    }
    if (rc == 0 && d->has_match)
        rc = draft_match(d, why);
    if (rc == 0 && d->kind == DRAFT_SMALL)
        rc = quota_hint(d, o.exists, why);
    return rc;
}

int vault_draft_open(struct vault *v, const struct actor *who,
                     const struct vault_put *put, struct draft **ret,
                     struct problem *why)
{
    keel_auto(half_draft) struct draft *d = NULL;
    bool drop = false;
    int rc = put_check(put, why);

    if (rc == 0)
        rc = vault_may_add(v, who, put->space ? put->space : who->home,
                           put->path, &drop, why);
    if (rc < 0)
        return rc;
    if (drop && put->match) /* would tell what is there */
        return problem(why, RIGHT_MISSING, .detail = "replace",
                       .name = shown_path(put->path->text).text);
    d = draft_new(v, who, put);
    if (!d)
        return problem(why, NO_MEMORY);
    d->drop = drop;
    d->no_replace |= drop;
    rc = draft_place(d, put, why);
    if (rc == 0 && d->kind == DRAFT_REGISTERED) {
        rc = draft_register(d, why);
        if (rc == 0 && d->part)
            rc = content_write(d, put, why);
    }
    if (rc < 0)
        return rc;
    *ret = keel_take(d);
    return 0;
}

struct part *draft_part(struct draft *d)
{
    return d->part;
}

enum right draft_right(const struct draft *d)
{
    return d->drop ? RIGHT_DROP : RIGHT_WRITE;
}

const uint8_t *draft_id(const struct draft *d)
{
    return d->id;
}

bool draft_taken(struct draft *d)
{
    keel_guard(&d->vault->lock);

    return d->leaving;
}

static void draft_unlink(struct draft *d)
{
    char name[DRAFT_NAME_BYTES];

    store_draft_name(d->id, name);
    /* Without a row it goes at the next start. */
    (void)keel_file_unlink(d->drafts_dir, name);
}

void draft_close(struct draft *d)
{
    if (d && d->kind == DRAFT_LINKED)
        draft_unlink(d); /* not resumable; after a crash recovery does it */
    draft_free(d);
}

int draft_drop(struct draft *d, struct problem *why)
{
    int rc = 0;

    if (d->kind == DRAFT_REGISTERED && !d->sync_failed) {
        keel_shield();
        rc = draft_erase(d->vault, d->id, why);
        keel_unshield();
    }
    draft_close(d);
    return rc;
}

void draft_condemn(struct draft *d)
{
    d->sync_failed = true;
    /* What cannot be removed now is found when it expires. */
    if (d->kind == DRAFT_REGISTERED)
        (void)draft_erase(d->vault, d->id, NULL);
}

int draft_match(struct draft *d, struct problem *why)
{
    struct problem said = {.id = PROBLEM_NONE};
    struct digest root;
    uint64_t size;
    int rc = read_digest(d->vault, d->space, d->account, d->space_dir, d->path,
                         d->hash, &root, &size, &said);

    if (rc == 0 && !memcmp(&root, &d->match, sizeof root))
        return 0;
    if (rc == 0 || said.id == PROBLEM_FILE_MISSING)
        return problem(why, FILE_MATCH, .name = shown_path(d->path).text);
    if (why)
        *why = said;
    return rc;
}

struct summing {
    struct part *part;
    struct digest root;
};

static int sum(void *arg)
{
    struct summing *s = arg;

    return part_root(s->part, &s->root);
}

static int draft_check(struct draft *d, const struct digest *root,
                       struct problem *why)
{
    uint64_t chunks = chunk_count(d->size);
    struct summing s = {.part = d->part};
    int rc;

    if (d->sync_failed)
        return problem(why, SYNC_FAILED, .errno_ = EIO,
                       .name = shown_path(d->path).text);
    if (part_missing(d->part, 0) != chunks)
        return problem(why, TRANSFER_INCOMPLETE, .size = d->size,
                       .bytes = d->size - part_bytes(d->part));
    rc = chunks > ROOT_CHUNKS_HERE ? keel_blocking(sum, &s) : sum(&s);
    if (rc < 0)
        return vault_problem(d->vault, why, rc, d->path, d->size);
    if (memcmp(&s.root, root, sizeof s.root) != 0)
        return problem(why, TRANSFER_DAMAGED, .name = shown_path(d->path).text);
    return 0;
}

/* The name has what the account put there before: 1 when that is `root` too, and
 * with it the draft is done. */
static int draft_was_there(struct draft *d, const struct digest *root,
                           struct problem *why)
{
    struct ledger_file f;
    int rc = read_published(d->vault, d->space, d->account, d->space_dir,
                            d->path, &f, why);

    if (rc < 0)
        return rc;
    if (rc == 0 || f.size != d->size || f.hash != d->hash ||
        memcmp(&f.root, root, sizeof *root) != 0)
        return 0;
    /* What cannot be dropped goes when its time is up. */
    (void)draft_drop(d, NULL);
    return 1;
}

int draft_publish(struct draft *d, const struct digest *root,
                  enum vault_level level, struct problem *why)
{
    struct problem said = {.id = PROBLEM_NONE};
    int rc, there;

    if (d->kind == DRAFT_THERE) {
        rc = draft_was_there(d, root, why);
        return rc > 0 ? 0 : rc < 0 ? rc : draft_refused(d, why);
    }
    rc = draft_check(d, root, why);
    if (rc < 0)
        return rc;
    rc = committer_publish(d->vault->committer, d, root, level, &said);
    if (rc == 0)
        return 0;
    /* The name came while this one was on its way: by the same hand? */
    if (said.id == PROBLEM_RIGHT_MISSING && may_be_there(d)) {
        there = draft_was_there(d, root, why);
        if (there != 0)
            return there > 0 ? 0 : there;
    }
    if (why)
        *why = said;
    return rc;
}

/* ---- looked at, and given up -------------------------------------------------------------------- */

void upload_id_print(const uint8_t id[16], char ret[UPLOAD_ID_TEXT])
{
    for (unsigned i = 0; i < 16; i++)
        (void)snprintf(ret + 2 * (size_t)i, 3, "%02x", id[i]);
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int upload_id_parse(const char *text, uint8_t ret[16])
{
    uint8_t id[16];

    if (strlen(text) != 32)
        return -EINVAL;
    for (unsigned i = 0; i < 16; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return -EINVAL;
        id[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(ret, id, sizeof id);
    return 0;
}

struct uploads {
    struct vault *vault;
    int (*each)(const struct vault_upload *u, void *arg);
    void *arg;
};

static int upload_tell(const struct ledger_draft *d, void *arg)
{
    struct uploads *all = arg;
    struct vault_upload u = {
        .space = d->space,
        .account = d->account,
        .path = d->path,
        .size = d->size,
        .held = d->reserved,
        .created = d->created,
        .expires = d->expires,
        .active = claimed_id(all->vault, d->id),
    };

    struct ledger_space s;

    if (vault_space(all->vault, d->space, false, &s, NULL) == 0)
        memcpy(u.space_name, s.name, sizeof u.space_name);
    memcpy(u.id, d->id, sizeof u.id);
    return all->each(&u, all->arg);
}

int vault_uploads(struct vault *v, int64_t account, const uint8_t after[16],
                  int (*each)(const struct vault_upload *u, void *arg),
                  void *arg, struct problem *why)
{
    struct uploads all = {v, each, arg};

    return account ? ledger_draft_of(v->ledger, account, after, upload_tell,
                                     &all, why)
                   : ledger_draft_list(v->ledger, INT64_MAX, upload_tell, &all,
                                       why);
}

/* As if it were opened, so that nobody opens it meanwhile: they wait for the
 * claim to go, and find no row then. */
static struct draft *draft_of_row(struct vault *v, const struct ledger_draft *r)
{
    size_t size = strlen(r->path) + 1;
    struct draft *d = keel_calloc(1, sizeof *d + size);

    if (!d)
        return NULL;
    d->vault = v;
    d->kind = DRAFT_REGISTERED;
    d->space = r->space;
    d->account = r->account;
    d->size = r->size;
    d->hash = r->hash;
    memcpy(d->source, r->source, sizeof d->source);
    memcpy(d->id, r->id, sizeof d->id);
    memcpy(d->path, r->path, size);
    d->dir = d->drafts_dir = -1;
    d->leaving = true;
    v->open_drafts++;
    return d;
}

static int claim_try(struct draft *d, struct problem *why)
{
    keel_guard(&d->vault->lock);

    if (claim_find(d))
        return problem(why, TRANSFER_BUSY, .name = shown_path(d->path).text);
    d->next_claim = *claim_bucket(d);
    *claim_bucket(d) = d;
    d->claimed = true;
    return 0;
}

int vault_upload_drop(struct vault *v, int64_t account, const uint8_t id[16],
                      struct problem *why)
{
    keel_auto(half_draft) struct draft *d = NULL;
    keel_auto(mem) void *memory = keel_alloc(PATH_BYTES + 1);
    struct ledger_draft row;
    int rc;

    if (!memory)
        return problem(why, NO_MEMORY);
    rc = ledger_draft_get(v->ledger, id, &row, memory, why);
    if (rc == 0 && account && row.account != account)
        rc = problem(why, TRANSFER_UNKNOWN);
    if (rc < 0)
        return rc;
    d = draft_of_row(v, &row);
    if (!d)
        return problem(why, NO_MEMORY);
    rc = claim_try(d, why);
    /* It may have been published and gone before we had the claim. */
    if (rc == 0)
        rc = ledger_draft_get(v->ledger, id, &row, memory, why);
    if (rc < 0)
        return rc;
    keel_shield();
    rc = draft_erase(v, id, why);
    keel_unshield();
    return rc;
}

/* ---- drafts past their time --------------------------------------------------------------------- */

enum { EXPIRE_BATCH = 256 };
struct expired {
    unsigned count;
    uint8_t ids[EXPIRE_BATCH][DRAFT_ID_BYTES];
    struct vault *vault;
};

/* The ledger's own thread calls it: collecting only.  Open ones are passed
 * over here, so that a batch full of them does not hide the rest. */
static int expired_keep(const struct ledger_draft *d, void *arg)
{
    struct expired *e = arg;

    if (claimed_id(e->vault, d->id))
        return 0;
    memcpy(e->ids[e->count], d->id, DRAFT_ID_BYTES);
    return ++e->count < EXPIRE_BATCH ? 0 : -E2BIG;
}

static int expired_list(struct vault *v, struct expired *e, struct problem *why)
{
    int rc;

    e->count = 0;
    e->vault = v;
    rc = ledger_draft_list(v->ledger, vault_now_s(), expired_keep, e, why);
    return rc == -E2BIG ? 0 : rc;
}

int vault_expire(struct vault *v, struct problem *why)
{
    keel_auto(mem) void *memory = keel_alloc(sizeof(struct expired));
    struct expired *e = memory;
    int total = 0;

    if (!e)
        return problem(why, NO_MEMORY);
    do {
        int rc = expired_list(v, e, why);

        for (unsigned i = 0; rc >= 0 && i < e->count; i++) {
            rc = draft_erase(v, e->ids[i], why);
            total += rc >= 0;
        }
        if (rc < 0)
            return rc;
    } while (e->count == EXPIRE_BATCH);
    return total;
}
