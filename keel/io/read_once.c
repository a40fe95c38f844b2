/* SPDX-License-Identifier: MIT */
#include <keel/file.h>

#include <errno.h>
#include <sys/uio.h>

#include <keel/co.h>
#include <keel/seam.h>

#include "seam/disk.h"

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif

struct reading {
    int fd;
    char *buf;
    size_t size;
    uint64_t at;
    ssize_t result;
};

/* One attempt. */
static ssize_t read_some(int fd, void *buf, size_t size, uint64_t at)
{
    struct iovec v = {.iov_base = buf};
    size_t allowed = size;
    ssize_t n;

    if (keel_seam.disk != &keel_disk_real)
        return keel_seam.disk->pread(fd, buf, size, at);
    n = keel_seam_enter(KEEL_OP_READ, size ? &allowed : NULL);
    if (n < 0)
        return n;
    v.iov_len = disk_lowered(fd, size, allowed);
    n = preadv2(fd, &v, 1, (off_t)at, RWF_DONTCACHE);
    /* A kernel before 6.14, or a file system that does not take part. */
    if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
        n = preadv2(fd, &v, 1, (off_t)at, 0);
    return n < 0 ? -errno : n;
}

static int read_job(void *arg)
{
    struct reading *r = arg;
    size_t done = 0;

    while (done < r->size) {
        ssize_t n =
            read_some(r->fd, r->buf + done, r->size - done, r->at + done);

        if (n == -EINTR)
            continue;
        if (n < 0) {
            r->result = n;
            return 0;
        }
        if (n == 0)
            break;
        done += (size_t)n;
    }
    r->result = (ssize_t)done;
    return 0;
}

ssize_t keel_file_read_once(int fd, void *buf, size_t size, uint64_t at)
{
    struct reading r = {fd, buf, size, at, 0};
    int rc;

    if (keel_seam.disk != &keel_disk_real && !keel_seam.disk_waits)
        rc = read_job(&r);
    else
        rc = keel_blocking(read_job, &r);
    return rc < 0 ? rc : r.result;
}
