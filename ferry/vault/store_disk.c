/* SPDX-License-Identifier: MIT */
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <keel/file.h>

struct store {
    int data; /* borrowed */
    int spaces, drafts, trash;
    uint64_t device;
};

/* ---- layout ----------------------------------------------------------------- */

static int data_problem(struct problem *why, const char *name, int rc)
{
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    return problem(why, DATA_ACCESS, .errno_ = -rc, .name = name);
}

static int layout_dir(int data, const char *name, int *ret, struct problem *why)
{
    int rc = keel_file_mkdir(data, name, 0700);
    int fd;

    if (rc < 0 && rc != -EEXIST)
        return data_problem(why, name, rc);
    fd = keel_file_open(data, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return data_problem(why, name, fd);
    *ret = fd;
    return 0;
}

/* What is renamed into and out of spaces must be on their file system. */
static int layout_same(struct store *s, int dir, const char *name,
                       const char *detail, struct problem *why)
{
    struct statx x;
    int rc = keel_file_stat(dir, NULL, &x);

    if (rc < 0)
        return data_problem(why, name, rc);
    if (makedev(x.stx_dev_major, x.stx_dev_minor) != s->device)
        return problem(why, DATA_FORMAT, .name = name, .detail = detail);
    return 0;
}

static int layout_device(struct store *s, struct problem *why)
{
    struct statx x;
    int rc = keel_file_stat(s->spaces, NULL, &x);

    if (rc < 0)
        return data_problem(why, "spaces", rc);
    s->device = makedev(x.stx_dev_major, x.stx_dev_minor);
    rc = layout_same(s, s->drafts, "drafts",
                     "spaces and drafts are on two file systems", why);
    if (rc < 0)
        return rc;
    return layout_same(s, s->trash, "trash",
                       "spaces and trash are on two file systems", why);
}

int store_open(int data_dir, struct store **ret, struct problem *why)
{
    struct store *s = keel_calloc(1, sizeof *s);
    int rc;

    if (!s)
        return problem(why, NO_MEMORY);
    *s = (struct store){
        .data = data_dir, .spaces = -1, .drafts = -1, .trash = -1};
    rc = layout_dir(data_dir, "spaces", &s->spaces, why);
    if (rc == 0)
        rc = layout_dir(data_dir, "drafts", &s->drafts, why);
    if (rc == 0)
        rc = layout_dir(data_dir, "trash", &s->trash, why);
    if (rc == 0)
        rc = layout_device(s, why);
    if (rc < 0) {
        store_close(s);
        return rc;
    }
    *ret = s;
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    keel_file_close(s->spaces);
    keel_file_close(s->drafts);
    keel_file_close(s->trash);
    keel_free(s);
}

uint64_t store_device(const struct store *s)
{
    return s->device;
}

int store_trash(const struct store *s)
{
    return s->trash;
}

int store_statfs(const struct store *s, struct statfs *ret)
{
    return keel_file_statfs(s->spaces, ret);
}

/* ---- names in a space ---------------------------------------------------------- */

/* Its name is synced before anything is put inside: who relies on a file in
 * it relies on the directory. */
static int space_make(const struct store *s, const char *space)
{
    int rc = keel_file_mkdir(s->spaces, space, 0700);

    if (rc < 0 && rc != -EEXIST)
        return rc;
    rc = keel_file_sync(s->spaces);
    if (rc < 0) /* never to be found later as if it were durable */
        (void)keel_file_rmdir(s->spaces, space);
    return rc;
}

/* In one call where the kernel takes a path that long: the usual case. */
static int dir_at_once(const struct store *s, const char *space,
                       const char *path, size_t size)
{
    char text[PATH_MAX];
    int length = snprintf(text, sizeof text, "%s/%.*s", space, (int)size, path);

    if (length < 0 || (size_t)length >= sizeof text)
        return -ENAMETOOLONG;
    return keel_file_open(s->spaces, text, O_RDONLY | O_DIRECTORY, 0);
}

int store_space_open(const struct store *s, const char *space)
{
    return keel_file_open(s->spaces, space, O_RDONLY | O_DIRECTORY, 0);
}

int store_space_trash(const struct store *s, const char *space,
                      const char *trash)
{
    return keel_file_rename(s->spaces, space, s->trash, trash, 0);
}

static int space_open(const struct store *s, const char *space)
{
    int fd = store_space_open(s, space);
    int rc;

    if (fd != -ENOENT)
        return fd;
    rc = space_make(s, space);
    return rc < 0 ? rc : store_space_open(s, space);
}

int store_dir(const struct store *s, const char *space, const char *path,
              size_t size)
{
    keel_auto(file) int root = -1;
    keel_auto(str) char *text = NULL;
    int fd;

    if (size == 0)
        return space_open(s, space);
    fd = dir_at_once(s, space, path, size);
    if (fd != -ENAMETOOLONG && fd != -ENOENT)
        return fd;
    root = space_open(s, space);
    if (root < 0)
        return root;
    text = keel_alloc(size + 1);
    if (!text)
        return -ENOMEM;
    memcpy(text, path, size);
    text[size] = '\0';
    return keel_file_open(root, text, O_RDONLY | O_DIRECTORY, 0);
}

int store_space_look(const struct store *s, const char *space)
{
    struct statx opened, named;
    int rc = keel_file_stat(s->spaces, NULL, &opened);

    if (rc == 0)
        rc = keel_file_stat(s->data, "spaces", &named);
    if (rc == -ENOENT ||
        (rc == 0 && (opened.stx_ino != named.stx_ino ||
                     opened.stx_dev_major != named.stx_dev_major ||
                     opened.stx_dev_minor != named.stx_dev_minor)))
        return -ESTALE;
    return rc < 0 ? rc : keel_file_stat(s->spaces, space, &named);
}

int store_look(int dir, const char *leaf, struct statx *ret)
{
    return keel_file_stat(dir, leaf, ret);
}

int store_may_replace(const struct statx *there, const char *shown,
                      struct problem *why)
{
    if (S_ISREG(there->stx_mode))
        return 0;
    if (S_ISDIR(there->stx_mode))
        return problem(why, FILE_IS_DIRECTORY, .name = shown);
    if (S_ISLNK(there->stx_mode))
        return problem(why, FILE_ESCAPES, .name = shown);
    return problem(why, FILE_NOT_REGULAR, .name = shown);
}

/* ---- drafts ---------------------------------------------------------------------- */

static void hex(const uint8_t *bytes, size_t count, char *ret)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < count; i++) {
        *ret++ = digits[bytes[i] >> 4];
        *ret++ = digits[bytes[i] & 15];
    }
    *ret = '\0';
}

static int unhex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void store_draft_name(const uint8_t id[DRAFT_ID_BYTES],
                      char ret[DRAFT_NAME_BYTES])
{
    hex(id, DRAFT_ID_BYTES, ret);
}

int store_draft_dir(const struct store *s, const uint8_t id[DRAFT_ID_BYTES],
                    bool make)
{
    char name[3];
    int fd, rc;

    hex(id, 1, name);
    fd = keel_file_open(s->drafts, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd != -ENOENT || !make)
        return fd;
    rc = keel_file_mkdir(s->drafts, name, 0700);
    if (rc < 0 && rc != -EEXIST)
        return rc;
    return keel_file_open(s->drafts, name, O_RDONLY | O_DIRECTORY, 0);
}

int store_draft_dir_sync(const struct store *s, int dir)
{
    int rc = keel_file_sync(dir);

    return rc < 0 ? rc : keel_file_sync(s->drafts);
}

static int unlink_if_there(int dir, const char *name)
{
    int rc = keel_file_unlink(dir, name);

    return rc == -ENOENT ? 0 : rc;
}

int store_draft_remove(const struct store *s, const uint8_t id[DRAFT_ID_BYTES])
{
    keel_auto(file) int dir = store_draft_dir(s, id, false);
    char name[DRAFT_NAME_BYTES], log[DRAFT_NAME_BYTES + 4];
    int rc;

    if (dir == -ENOENT)
        return 0;
    if (dir < 0)
        return dir;
    store_draft_name(id, name);
    (void)snprintf(log, sizeof log, "%s.log", name);
    rc = unlink_if_there(dir, name);
    return rc < 0 ? rc : unlink_if_there(dir, log);
}

int store_draft_look(const struct store *s, const uint8_t id[DRAFT_ID_BYTES],
                     struct statx *ret)
{
    keel_auto(file) int dir = store_draft_dir(s, id, false);
    char name[DRAFT_NAME_BYTES];

    if (dir < 0)
        return dir;
    store_draft_name(id, name);
    return keel_file_stat(dir, name, ret);
}

struct walk {
    const struct store *store;
    int (*each)(const uint8_t id[DRAFT_ID_BYTES], void *arg);
    void *arg;
};

static bool draft_id_parse(const char *name, uint8_t ret[DRAFT_ID_BYTES])
{
    size_t size = strlen(name);

    if (size != 32 && (size != 36 || strcmp(name + 32, ".log")))
        return false;
    for (size_t i = 0; i < DRAFT_ID_BYTES; i++) {
        int high = unhex(name[2 * i]), low = unhex(name[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static int walk_file(const char *name, unsigned char type, void *arg)
{
    struct walk *w = arg;
    uint8_t id[DRAFT_ID_BYTES];

    (void)type;
    return draft_id_parse(name, id) ? w->each(id, w->arg) : 0;
}

static int walk_dir(const char *name, unsigned char type, void *arg)
{
    struct walk *w = arg;
    keel_auto(file) int dir = -1;

    (void)type;
    if (strlen(name) != 2 || unhex(name[0]) < 0 || unhex(name[1]) < 0)
        return 0;
    dir = keel_file_open(w->store->drafts, name, O_RDONLY | O_DIRECTORY, 0);
    if (dir == -ENOTDIR || dir == -ELOOP)
        return 0;
    return dir < 0 ? dir : keel_file_list(dir, walk_file, w);
}

int store_draft_each(const struct store *s,
                     int (*each)(const uint8_t id[DRAFT_ID_BYTES], void *arg),
                     void *arg)
{
    struct walk w = {s, each, arg};

    return keel_file_list(s->drafts, walk_dir, &w);
}

/* ---- facts -------------------------------------------------------------------------- */

static int64_t ns(struct statx_timestamp t)
{
    return t.tv_sec * KEEL_SECOND + t.tv_nsec;
}

void store_identity(const struct statx *x, struct ledger_file *ret)
{
    ret->device = makedev(x->stx_dev_major, x->stx_dev_minor);
    ret->inode = x->stx_ino;
    ret->size = x->stx_size;
    ret->mtime_ns = ns(x->stx_mtime);
    ret->ctime_ns = ns(x->stx_ctime);
}

int store_sync_all(const struct store *s)
{
    return keel_file_sync_all(s->spaces);
}

int store_problem(struct problem *why, int rc, const char *shown)
{
    switch (-rc) {
    case ENOENT:
        return problem(why, FILE_MISSING, .name = shown);
    case EEXIST:
        return problem(why, FILE_EXISTS, .name = shown);
    case EISDIR:
        return problem(why, FILE_IS_DIRECTORY, .name = shown);
    case ENOTDIR:
        return problem(why, FILE_NOT_DIRECTORY, .name = shown);
    case ELOOP:
    case EXDEV:
        return problem(why, FILE_ESCAPES, .name = shown);
    case ENAMETOOLONG:
        return problem(why, PATH_TOO_LONG, .size = strlen(shown),
                       .limit = PATH_BYTES);
    case ENOMEM:
        return problem(why, NO_MEMORY);
    case ECANCELED:
        return problem(why, CANCELLED);
    default:
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = shown);
    }
}
