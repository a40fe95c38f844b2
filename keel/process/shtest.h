/* SPDX-License-Identifier: MIT */
/* For tests of what lies between processes. */
#ifndef KEEL_SHTEST_H
#define KEEL_SHTEST_H

#include "test/test.h"

#include <signal.h>
#include <unistd.h>

#include <keel/process.h>
#include <keel/shared.h>

#define SOON (keel_after(20 * KEEL_SECOND))

static inline struct keel_process *test_start(const char *entry,
                                              const void *data, size_t size,
                                              const int *fds, size_t fd_count)
{
    struct keel_process *p = NULL;

    assert_int_equal(
        keel_process_start(entry,
                           &(struct keel_process_how){.daemon = true,
                                                      .arg = data,
                                                      .arg_size = size,
                                                      .fds = fds,
                                                      .fd_count = fd_count},
                           &p),
        0);
    return p;
}

static inline int test_finish(struct keel_process *p)
{
    int code = 1000;

    assert_int_equal(keel_process_join(p, SOON, NULL), 0);
    assert_int_equal(keel_process_exitcode(p, &code), 0);
    keel_process_free(p);
    return code;
}

static inline void *test_memory(size_t size, struct keel_shared **ret)
{
    assert_int_equal(keel_shared_new(size, ret), 0);
    return keel_shared_memory(*ret);
}

/* In the process: its first descriptor's memory, to its end. */
__attribute__((unused)) static struct keel_shared *test_own_memory;
static inline void *test_opened(const struct keel_process_arg *arg)
{
    assert_int_equal(keel_shared_open(arg->fds[0], &test_own_memory), 0);
    return keel_shared_memory(test_own_memory);
}

#endif
