/* SPDX-License-Identifier: MIT */
/* What tests of the ledger share: a ledger in a directory of its own, and
 * people and files in it. */
#ifndef FERRY_LEDGER_TEST_H
#define FERRY_LEDGER_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ledger/ledger.h"

/* A directory of its own for each test, and the ledger in it. */
struct house {
    char path[64];
    int dir;
    struct ledger *ledger;
};

static inline int setup(void **state)
{
    struct house *h = calloc(1, sizeof *h);
    struct problem why;

    strcpy(h->path, "/tmp/ledger-test-XXXXXX");
    assert_non_null(mkdtemp(h->path));
    h->dir = open(h->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(h->dir >= 0);
    assert_int_equal(ledger_open(h->dir, &h->ledger, &why), 0);
    *state = h;
    return 0;
}

static inline int teardown(void **state)
{
    static const char *const files[] = {"ledger.db", "ledger.db-wal",
                                        "ledger.db-journal", "ledger.reserve"};
    struct house *h = *state;

    ledger_close(h->ledger);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlinkat(h->dir, files[i], 0);
    close(h->dir);
    rmdir(h->path);
    free(h);
    return 0;
}

static inline void reopen(struct house *h)
{
    struct problem why;

    ledger_close(h->ledger);
    h->ledger = NULL;
    assert_int_equal(ledger_open(h->dir, &h->ledger, &why), 0);
}

static inline void assert_sound(struct ledger *l)
{
    struct problem why = {0};

    if (ledger_check(l, &why) < 0)
        fail_msg("the ledger is not sound: %s", why.detail);
}

#define assert_refused(call, ID)                                               \
    do {                                                                       \
        assert_true((call) < 0);                                               \
        assert_int_equal(why.id, PROBLEM_##ID);                                \
    } while (0)

static inline struct ledger_account account_new(struct ledger *l,
                                                const char *name,
                                                int64_t quota_bytes,
                                                int64_t quota_files)
{
    struct ledger_registration r = {
        .name = name,
        .scram = {.iterations = 600000, .salt = "salt", .salt_size = 4},
        .quota_bytes = quota_bytes,
        .quota_files = quota_files,
        .now = 1000};
    struct ledger_account a = {0};
    struct problem why;

    memset(r.scram.stored_key, 7, 32);
    memset(r.scram.server_key, 8, 32);
    assert_int_equal(ledger_register(l, &r, &a, &why), 0);
    return a;
}

static inline struct ledger_space space_of(struct ledger *l, int64_t space)
{
    struct ledger_space s = {0};
    struct problem why;

    assert_int_equal(ledger_space_get(l, space, &s, &why), 0);
    return s;
}

static inline struct ledger_publish item(const struct ledger_account *a,
                                         const char *path, uint64_t size,
                                         uint64_t inode)
{
    struct ledger_publish p = {.space = a->home,
                               .account = a->id,
                               .path = path,
                               .file = {.size = size,
                                        .device = 1,
                                        .inode = inode,
                                        .mtime_ns = 5,
                                        .hash = CHUNK_SHA256},
                               .now = 2000,
                               .replace = true};

    memset(p.file.root.bytes, (int)inode, 32);
    return p;
}

/* Publishes one small file; its result. */
static inline int publish(struct ledger *l, struct ledger_publish *p,
                          struct problem *why)
{
    p->why = why;
    assert_int_equal(ledger_publish(l, p, 1, NULL, 0, NULL), 0);
    return p->result;
}

/* Whether it lets somebody in at `now`. */
static inline bool invite_good(struct ledger *l, const uint8_t hash[32],
                               int64_t now, struct ledger_invite *ret)
{
    struct ledger_invite all[8];
    int count = ledger_invite_list(l, NULL, now, all, 8, NULL);

    assert_in_range(count, 0, 7);
    for (int i = 0; i < count; i++)
        if (memcmp(all[i].hash, hash, 32) == 0) {
            *ret = all[i];
            return true;
        }
    return false;
}

static inline void settle(struct ledger *l, int64_t intent, int64_t ctime_ns)
{
    struct ledger_settle s = {.intent = intent, .ctime_ns = ctime_ns};
    struct problem why;

    assert_int_equal(ledger_settle(l, &s, 1, &why), 0);
}

#endif
