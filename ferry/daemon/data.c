/* SPDX-License-Identifier: MIT */
#include "daemon/data.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/file.h>

#include "base/log.h"

static int data_make(const char *path, struct problem *why)
{
    keel_auto(str) char *above = keel_strdup(path);
    keel_auto(file) int dir = -1;
    size_t size = strlen(path);
    char *slash;
    int rc;

    if (!above)
        return problem(why, NO_MEMORY);
    while (size > 1 && above[size - 1] == '/')
        above[--size] = 0;
    slash = strrchr(above, '/');
    if (slash)
        *slash = 0;
    dir = keel_file_open_any(!slash           ? "."
                             : slash == above ? "/"
                                              : above,
                             O_RDONLY | O_DIRECTORY, 0);
    rc = dir < 0 ? dir : keel_file_mkdir(dir, slash ? slash + 1 : above, 0700);
    if (rc == 0)
        rc = keel_file_sync(dir);
    if (rc < 0 && rc != -EEXIST)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = path);
    return 0;
}

static int data_lock(struct data *d, const char *path, struct problem *why)
{
    int rc;

    d->lock = keel_file_open(d->fd, "lock", O_RDWR | O_CREAT, 0600);
    if (d->lock < 0)
        return problem(why, DATA_ACCESS, .errno_ = -d->lock, .name = path);
    rc = keel_file_lock(d->lock);
    if (rc == -EWOULDBLOCK)
        return problem(why, DATA_LOCKED, .name = path);
    if (rc < 0)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = path);
    return 0;
}

static int is_ours(const char *name, unsigned char type, void *arg)
{
    (void)type;
    (void)arg;
    /* also what a first start that was cut off left behind */
    return strcmp(name, "lock") == 0 || strcmp(name, "format.new") == 0 ? 0 : 1;
}

/* A directory with things in it that is not ours is left alone: nothing in it
 * is changed, not even its mode or by a lock, before this has said yes. */
static int data_look(int fd, const char *path, bool create, struct problem *why)
{
    struct statx st;
    int rc;

    if (keel_file_stat(fd, "format", &st) == 0)
        return 0;
    if (!create)
        return problem(why, DATA_FORMAT, .name = path,
                       .detail = "it has no file 'format'");
    rc = keel_file_list(fd, is_ours, NULL);
    if (rc < 0)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = path);
    if (rc > 0)
        return problem(why, DATA_FORMAT, .name = path,
                       .detail = "it has other things in it, and no file "
                                 "'format'");
    return 0;
}

static int data_format(struct data *d, const char *path, bool create,
                       struct problem *why)
{
    char text[64];
    int rc = data_text_read(d, "format", text, sizeof(text));

    if (rc == 0 && strcmp(text, "ferry data 1") == 0)
        return 0;
    if (rc == 0)
        return problem(why, DATA_FORMAT, .name = path, .detail = text);
    if (rc != -ENOENT)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = path);
    if (!create)
        return problem(why, DATA_FORMAT, .name = path,
                       .detail = "it has no file 'format'");
    return data_text_write(d, "format", "ferry data 1", why);
}

int data_open(const char *path, bool create, struct data *ret,
              struct problem *why)
{
    struct data d = {-1, -1};
    struct statx st;
    int rc = create ? data_make(path, why) : 0;

    if (rc < 0)
        return rc;
    d.fd = keel_file_open_any(path, O_RDONLY | O_DIRECTORY, 0);
    if (d.fd < 0)
        return problem(why, DATA_ACCESS, .errno_ = -d.fd, .name = path);
    rc = data_look(d.fd, path, create, why);
    if (rc < 0) {
        data_close(&d);
        return rc;
    }
    rc = keel_file_stat(d.fd, NULL, &st);
    if (rc == 0 && (st.stx_mode & 077)) {
        /* Made by hand, most likely: nobody else has business in here. */
        rc = keel_file_chmod(d.fd, 0700);
    }
    if (rc < 0)
        rc = problem(why, DATA_ACCESS, .errno_ = -rc, .name = path);
    if (rc == 0)
        rc = data_lock(&d, path, why);
    if (rc == 0)
        rc = data_format(&d, path, create, why);
    if (rc < 0) {
        data_close(&d);
        return rc;
    }
    *ret = d;
    return 0;
}

void data_close(struct data *d)
{
    keel_file_close(d->lock);
    keel_file_close(d->fd);
    d->lock = d->fd = -1;
}

/* ---- small files -------------------------------------------------------------- */

static int write_whole(int dir, const char *name, const char *bytes,
                       size_t size)
{
    keel_auto(file) int fd = -1;
    char temporary[64];
    int rc;

    snprintf(temporary, sizeof(temporary), "%s.new", name);
    fd = keel_file_open(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return fd;
    rc = keel_file_write(fd, bytes, size, 0);
    if (rc == 0)
        rc = keel_file_sync(fd);
    if (rc == 0)
        rc = keel_file_rename(dir, temporary, dir, name, 0);
    if (rc == 0)
        rc = keel_file_sync(dir);
    if (rc < 0)
        (void)keel_file_unlink(dir, temporary);
    return rc;
}

static ssize_t read_whole(int dir, const char *name, char *ret, size_t size)
{
    keel_auto(file) int fd = keel_file_open(dir, name, O_RDONLY, 0);
    ssize_t got;

    if (fd < 0)
        return fd;
    got = keel_file_read(fd, ret, size, 0);
    if (got == (ssize_t)size)
        return -EMSGSIZE;
    if (got >= 0)
        ret[got] = 0;
    return got;
}

int data_text_write(struct data *d, const char *name, const char *text,
                    struct problem *why)
{
    char line[1024];
    int size = snprintf(line, sizeof(line), "%s\n", text);
    int rc;

    keel_assert(size > 0 && (size_t)size < sizeof(line));
    rc = write_whole(d->fd, name, line, (size_t)size);
    keel_wipe(line, sizeof(line));
    if (rc < 0)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = name);
    return 0;
}

int data_text_read(struct data *d, const char *name, char *ret, size_t size)
{
    ssize_t got = read_whole(d->fd, name, ret, size);

    if (got < 0)
        return (int)got;
    ret[strcspn(ret, "\n")] = 0;
    return 0;
}

int data_text_remove(struct data *d, const char *name)
{
    return keel_file_unlink(d->fd, name);
}

/* ---- the server's key ----------------------------------------------------------- */

#define PEM_BYTES 65536

static int tls_make(int dir, struct problem *why)
{
    char *key = NULL, *chain = NULL;
    int rc = keel_tls_key_new("ferryd", &key, &chain);

    if (rc == 0)
        rc = write_whole(dir, "chain.pem", chain, strlen(chain));
    /* The key last: where it is, the rest is. */
    if (rc == 0)
        rc = write_whole(dir, "key.pem", key, strlen(key));
    if (key)
        keel_wipe(key, strlen(key));
    keel_free(key);
    keel_free(chain);
    if (rc < 0)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = "tls/");
    log_info("made a new server key");
    return 0;
}

static bool is_there(int dir, const char *name)
{
    struct statx st;

    return keel_file_stat(dir, name, &st) == 0;
}

/* A key is made when there is none and no sign of one: another one in its place
 * is a stranger to every client.  A first start that was cut off may have left
 * the chain alone, and then no ledger. */
static int tls_want(struct data *d, int dir, struct problem *why)
{
    bool key = is_there(dir, "key.pem"), chain = is_there(dir, "chain.pem");

    if (key && chain)
        return 0;
    if (key)
        return problem(why, TLS_KEY, .name = "tls/",
                       .detail = "chain.pem is gone");
    if (chain && is_there(d->fd, "ledger.db"))
        return problem(why, TLS_KEY, .name = "tls/",
                       .detail = "key.pem is gone");
    return tls_make(dir, why);
}

static int tls_read(int dir, const char *name, char *ret, struct problem *why)
{
    ssize_t got = read_whole(dir, name, ret, PEM_BYTES);
    char shown[32];

    snprintf(shown, sizeof(shown), "tls/%s", name);
    if (got == -EMSGSIZE)
        return problem(why, TLS_KEY, .name = shown, .detail = "it is too long");
    if (got < 0)
        return problem(why, DATA_ACCESS, .errno_ = (int)-got, .name = shown);
    return 0;
}

int data_tls(struct data *d, struct keel_tls_config **ret, struct problem *why)
{
    keel_auto(mem) void *key = keel_alloc(PEM_BYTES),
                        *chain = keel_alloc(PEM_BYTES);
    struct keel_tls_options o = {
        .key_pem = key, .chain_pem = chain, .alpn = "ferry/1"};
    keel_auto(file) int dir = -1;
    int rc;

    if (!key || !chain)
        return problem(why, NO_MEMORY);
    rc = keel_file_mkdir(d->fd, "tls", 0700);
    if (rc < 0 && rc != -EEXIST)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = "tls/");
    dir = keel_file_open(d->fd, "tls", O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0)
        return problem(why, DATA_ACCESS, .errno_ = -dir, .name = "tls/");
    rc = tls_want(d, dir, why);
    if (rc == 0)
        rc = tls_read(dir, "key.pem", key, why);
    if (rc == 0)
        rc = tls_read(dir, "chain.pem", chain, why);
    if (rc < 0)
        return rc;
    rc = keel_tls_config_new(&o, ret);
    keel_wipe(key, PEM_BYTES);
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc < 0)
        return problem(why, TLS_KEY, .name = "tls/",
                       .detail = keel_tls_error());
    return 0;
}
