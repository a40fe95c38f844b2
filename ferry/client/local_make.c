/* SPDX-License-Identifier: MIT */
#include "client/local_make.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <keel/file.h>

#include "chunk/holes.h"

#define TARGET_BYTES 4096

mode_t local_mask(void)
{
    static mode_t mask;
    static bool known;

    /* There is no way but to set it: no file may be made meanwhile. */
    if (!known) {
        mask = umask(0);
        umask(mask);
        known = true;
    }
    return 0777 & ~mask;
}

void local_temp(char ret[LOCAL_TEMP_BYTES])
{
    uint64_t n;

    keel_random(&n, sizeof(n));
    snprintf(ret, LOCAL_TEMP_BYTES, ".ferry-%016" PRIx64 ".part", n);
}

int local_problem(int dir, const char *name, uint64_t size, int rc,
                  struct problem *why)
{
    struct statfs fs = {.f_blocks = 0};
    uint64_t left = 0;

    if (rc == -ELOOP)
        return problem(why, LINK_IN_WAY, .name = name);
    if (rc != -ENOSPC && rc != -EDQUOT)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = name);
    if (keel_file_statfs(dir, &fs) == 0)
        left = (uint64_t)fs.f_bavail *
               (uint64_t)(fs.f_frsize ? fs.f_frsize : fs.f_bsize);
    return problem(why, DISK_FULL, .errno_ = -rc, .bytes = left, .size = size);
}

static int local(const struct local_new *n, int rc, struct problem *why)
{
    return rc < 0 ? local_problem(n->dir, n->name, n->size, rc, why) : 0;
}

/* ---- taking a name ------------------------------------------------------------- */

/* Something has the name.  0: it may be replaced. */
static int in_the_way(const struct local_new *n, struct problem *why)
{
    struct statx st;
    int rc = keel_file_stat(n->dir, n->name, &st);

    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return local(n, rc, why);
    if (S_ISDIR(st.stx_mode))
        return problem(why, FILE_IS_DIRECTORY, .name = n->name);
    if (n->no_replace)
        return problem(why, FILE_EXISTS, .name = n->name);
    return n->fresh ? problem(why, FILE_COLLIDES, .name = n->name) : 0;
}

int local_rename(const struct local_new *n, const char *from,
                 struct problem *why)
{
    bool careful = n->fresh || n->no_replace;
    int rc = keel_file_rename(n->dir, from, n->dir, n->name,
                              careful ? RENAME_NOREPLACE : 0);

    if (rc == -EINVAL && careful) { /* not every file system knows that */
        rc = in_the_way(n, why);
        if (rc < 0)
            return rc;
        rc = keel_file_rename(n->dir, from, n->dir, n->name, 0);
    }
    if (rc == -EEXIST || rc == -EISDIR || rc == -ENOTEMPTY) {
        int known = in_the_way(n, why);

        return known < 0 ? known : local(n, rc, why);
    }
    return local(n, rc, why);
}

/* Gives a second, temporary name to `fd`, and lets that take the place. */
static int replace(const struct local_new *n, int fd, struct problem *why)
{
    char temp[LOCAL_TEMP_BYTES];
    int rc = in_the_way(n, why);

    if (rc < 0)
        return rc;
    local_temp(temp);
    rc = keel_file_link_fd(fd, n->dir, temp);
    if (rc < 0)
        return local(n, rc, why);
    rc = local_rename(n, temp, why);
    if (rc < 0)
        (void)keel_file_unlink(n->dir, temp);
    return rc;
}

int local_name(const struct local_new *n, int fd, struct problem *why)
{
    int rc = keel_file_link_fd(fd, n->dir, n->name);

    return rc == -EEXIST ? replace(n, fd, why) : local(n, rc, why);
}

/* ---- files ------------------------------------------------------------------------ */

/* Blocks of zeros are left out, so a file may have to be told its length. */
static int file_write(const struct local_new *n, int fd)
{
    const uint8_t *bytes = n->bytes;
    size_t at = 0, run;
    bool zero = false;
    int rc = 0;

    for (; at < n->size && rc == 0; at += run) {
        run = hole_run(bytes + at, n->size - at, &zero);
        if (!zero)
            rc = keel_file_write(fd, bytes + at, run, at);
    }
    return rc == 0 && zero ? keel_file_truncate(fd, n->size) : rc;
}

static int file_fill(const struct local_new *n, int fd)
{
    int rc = file_write(n, fd);

    return rc < 0 ? rc : keel_file_set_mtime(fd, n->mtime_ns);
}

/* Where the file system has no files without a name. */
static int file_make_named(const struct local_new *n, struct problem *why)
{
    char temp[LOCAL_TEMP_BYTES];
    keel_auto(file) int fd = -1;
    int rc;

    local_temp(temp);
    fd = keel_file_open(n->dir, temp, O_WRONLY | O_CREAT | O_EXCL,
                        n->mode & 0777);
    if (fd < 0)
        return local(n, fd, why);
    rc = local(n, file_fill(n, fd), why);
    if (rc == 0)
        rc = local_rename(n, temp, why);
    if (rc < 0)
        (void)keel_file_unlink(n->dir, temp);
    return rc;
}

static int file_make(const struct local_new *n, struct problem *why)
{
    keel_auto(file) int fd =
        keel_file_open(n->dir, ".", O_WRONLY | O_TMPFILE, n->mode & 0777);
    int rc;

    if (fd == -EOPNOTSUPP || fd == -EISDIR)
        return file_make_named(n, why);
    if (fd < 0)
        return local(n, fd, why);
    rc = local(n, file_fill(n, fd), why);
    return rc < 0 ? rc : local_name(n, fd, why);
}

/* ---- links ------------------------------------------------------------------------ */

static bool says_the_same(const struct local_new *n)
{
    char text[TARGET_BYTES];
    ssize_t size = keel_file_readlink(n->dir, n->name, text, sizeof(text));

    return size >= 0 && (size_t)size == strlen(n->target) &&
           memcmp(text, n->target, (size_t)size) == 0;
}

static int link_replace(const struct local_new *n, struct problem *why)
{
    char temp[LOCAL_TEMP_BYTES];
    int rc = in_the_way(n, why);

    if (rc < 0)
        return rc;
    local_temp(temp);
    rc = keel_file_symlink(n->target, n->dir, temp);
    if (rc < 0)
        return local(n, rc, why);
    rc = local_rename(n, temp, why);
    if (rc < 0)
        (void)keel_file_unlink(n->dir, temp);
    return rc;
}

static int link_make(const struct local_new *n, struct problem *why)
{
    int rc = keel_file_symlink(n->target, n->dir, n->name);

    if (rc == -EEXIST) {
        rc = !n->fresh && says_the_same(n) ? 0 : link_replace(n, why);
        if (rc < 0)
            return rc;
    }
    if (rc < 0)
        return local(n, rc, why);
    rc = keel_file_set_mtime_at(n->dir, n->name, n->mtime_ns);
    return rc == -EOPNOTSUPP ? 0 : local(n, rc, why);
}

int local_make(const struct local_new *n, struct problem *why)
{
    return n->target ? link_make(n, why) : file_make(n, why);
}

/* ---- directories -------------------------------------------------------------------- */

int local_dir_enter(int dir, const char *name, struct local_entered *ret,
                    struct problem *why)
{
    keel_auto(file) int fd = -1;
    struct statx st;
    int made = keel_file_mkdir(dir, name, 0700), rc;

    if (made < 0 && made != -EEXIST)
        return local_problem(dir, name, 0, made, why);
    fd = keel_file_open(dir, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOTDIR)
        return problem(why, FILE_NOT_DIRECTORY, .name = name);
    if (fd < 0)
        return local_problem(dir, name, 0, fd, why);
    rc = keel_file_stat(fd, NULL, &st);
    if (rc < 0)
        return local_problem(dir, name, 0, rc, why);
    /* Somebody else's stays as it is: what cannot be written there will tell. */
    if (made < 0 && (st.stx_mode & 0700) != 0700 && st.stx_uid == geteuid())
        (void)keel_file_chmod(fd, (st.stx_mode & 0777) | 0700);
    ret->fd = fd;
    fd = -1;
    ret->device = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
    ret->fresh = made == 0;
    return 0;
}

int local_dir_end(int fd, mode_t mode, int64_t mtime_ns, bool fresh,
                  struct problem *why)
{
    int rc = keel_file_chmod(fd, mode & local_mask());

    if (rc == 0)
        rc = keel_file_set_mtime(fd, mtime_ns);
    if (rc == -EPERM && !fresh)
        return 0;
    return rc < 0 ? problem(why, FILE_LOCAL, .errno_ = -rc, .name = "") : 0;
}
