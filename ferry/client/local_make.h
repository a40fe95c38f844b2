/* SPDX-License-Identifier: MIT */
/* Making what a server sent, beneath a directory: files that are whole in
 * memory, links, directories.
 *
 * The calls block: they are for threads of the pool, many files a job.  No link
 * that is there is ever followed, and nothing is visible under its name before
 * it is whole.  What stands in the way is replaced when it is a file or a link,
 * and refused when it is a directory.  Nothing is synced here. */
#ifndef FERRY_LOCAL_MAKE_H
#define FERRY_LOCAL_MAKE_H

#include <keel/base.h>

#include "base/name.h"
#include "base/problem.h"

struct local_new {
    int dir;            /* the directory it is made in */
    const char *name;   /* checked by name_check */
    const char *target; /* a link's text; NULL: it is a file */
    const void *bytes;
    size_t size;
    mode_t mode; /* the sender's: permissions are taken, less the umask */
    int64_t mtime_ns;
    bool fresh;      /* `dir` was made for what is sent: what is there came
                        with it, and is not replaced */
    bool no_replace; /* FILE_EXISTS */
};
/* FILE_IS_DIRECTORY, FILE_EXISTS, FILE_COLLIDES, DISK_FULL, FILE_LOCAL */
int local_make(const struct local_new *n, struct problem *why);

/* Gives the name to a file that has none (O_TMPFILE); as local_make does, which
 * fields of `n` it uses: dir, name, fresh, no_replace. */
int local_name(const struct local_new *n, int fd, struct problem *why);
/* Likewise to one with a temporary name in `dir`, which it takes. */
int local_rename(const struct local_new *n, const char *from,
                 struct problem *why);

struct local_entered {
    int fd;
    uint64_t device;
    bool fresh; /* it was not there */
};
/* Makes directory `name` in `dir`, or goes into the one that is there, with all
 * rights for its owner until local_dir_end.
 * LINK_IN_WAY, FILE_NOT_DIRECTORY, FILE_LOCAL, DISK_FULL */
int local_dir_enter(int dir, const char *name, struct local_entered *ret,
                    struct problem *why);
/* Permissions less the umask, and the time, now that all is in it.  One that
 * was there (not `fresh`) and is somebody else's keeps its own. */
int local_dir_end(int fd, mode_t mode, int64_t mtime_ns, bool fresh,
                  struct problem *why);

/* The problem for errno -rc when something at `name` fails; `dir` tells how
 * much room there is for `size`. */
int local_problem(int dir, const char *name, uint64_t size, int rc,
                  struct problem *why);
/* 0777 less the process's umask; first called before there are threads. */
mode_t local_mask(void);
/* ".ferry-" + 16 random hex digits + ".part" */
#define LOCAL_TEMP_BYTES 32
void local_temp(char ret[LOCAL_TEMP_BYTES]);

#endif
