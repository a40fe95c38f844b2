/* SPDX-License-Identifier: MIT */
/* The directories of this machine that what is fetched goes into. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <keel/co.h>
#include <keel/file.h>

#include "client/get_inside.h"

/* Paths are behind the struct: for words and for requests. */
static struct local_dir *dir_new(const char *remote, const char *local)
{
    size_t remote_size = strlen(remote) + 1, local_size = strlen(local) + 1;
    struct local_dir *d = keel_calloc(1, sizeof(*d) + remote_size + local_size);
    char *text;

    if (!d)
        return NULL;
    text = (char *)(d + 1);
    memcpy(text, remote, remote_size);
    memcpy(text + remote_size, local, local_size);
    d->remote = text;
    d->local = text + remote_size;
    d->space = "";
    d->refs = 1;
    d->fd = -1;
    return d;
}

struct entering {
    const char *name;
    int dir;
    bool dry;
    struct local_entered entered;
    struct problem *why;
};

static int enter_dry(struct entering *e)
{
    struct statx st;
    int fd = -ENOENT;

    e->entered = (struct local_entered){.fd = -1, .fresh = true};
    if (e->dir >= 0)
        fd = keel_file_open(e->dir, e->name, O_RDONLY | O_DIRECTORY, 0);
    if (fd == -ENOENT)
        return 0;
    if (fd == -ENOTDIR)
        return problem(e->why, FILE_NOT_DIRECTORY, .name = e->name);
    if (fd < 0)
        return local_problem(e->dir, e->name, 0, fd, e->why);
    e->entered.fd = fd;
    e->entered.fresh = false;
    if (keel_file_stat(fd, NULL, &st) == 0)
        e->entered.device = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
    return 0;
}

static int enter_job(void *arg)
{
    struct entering *e = arg;

    return e->dry ? enter_dry(e)
                  : local_dir_enter(e->dir, e->name, &e->entered, e->why);
}

/* Directory `name` of `parent`, made if it is not there. */
int get_dir_enter(struct getting *g, struct local_dir *parent, const char *name,
                  const char *remote, struct local_dir **ret,
                  struct problem *why)
{
    struct entering e = {name, parent->fd, g->c->dry_run, {.fd = -1}, why};
    char local[SHOWN_BYTES];
    struct local_dir *d;
    int rc;

    get_path(parent->local, name, local);
    d = dir_new(remote, local);
    if (!d)
        return problem(why, NO_MEMORY);
    rc = keel_blocking(enter_job, &e);
    if (rc < 0) {
        keel_free(d);
        return rc == -EAGAIN ? problem(why, NO_MEMORY) : rc;
    }
    d->fd = e.entered.fd;
    d->device = e.entered.device;
    d->fresh = e.entered.fresh;
    d->parent = get_dir_hold(parent);
    d->space = parent->space;
    g->dirs_open++;
    *ret = d;
    return 0;
}

/* Where all goes: an existing directory. */
int get_base_open(struct getting *g, const char *path, const char *words,
                  const char *remote, struct local_dir **ret,
                  struct problem *why)
{
    struct statx st;
    struct local_dir *d = dir_new(remote, words);
    int rc;

    if (!d)
        return problem(why, NO_MEMORY);
    d->fd = keel_file_open_any(path, O_RDONLY | O_DIRECTORY, 0);
    rc = d->fd < 0 ? d->fd : keel_file_stat(d->fd, NULL, &st);
    if (rc == 0 && g->sync_fd < 0) {
        g->sync_fd = keel_file_open(d->fd, ".", O_RDONLY | O_DIRECTORY, 0);
        rc = g->sync_fd < 0 ? g->sync_fd : 0;
    }
    if (rc < 0) {
        keel_file_close(d->fd);
        keel_free(d);
        return rc == -ENOTDIR
                   ? problem(why, FILE_NOT_DIRECTORY, .name = path)
                   : problem(why, FILE_LOCAL, .errno_ = -rc, .name = path);
    }
    d->device = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
    g->dirs_open++;
    *ret = d;
    return 0;
}
