/* SPDX-License-Identifier: MIT */
#include "world_test.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <keel/file.h>

#include "vault_inside.h"

int world_test_data(void)
{
    keel_auto(file) int root =
        keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
    int rc;

    if (root < 0)
        return root;
    rc = keel_file_mkdir(root, "data", 0700);
    if (rc == 0)
        rc = keel_file_sync(root);
    if (rc < 0 && rc != -EEXIST)
        return rc;
    return keel_file_open(root, "data", O_RDONLY | O_DIRECTORY, 0);
}

static int actor_find(struct world *w, struct problem *why)
{
    struct ledger_account a;
    struct problem said = {.id = PROBLEM_NONE};
    struct ledger_registration r = {.name = "mara", .now = 1};
    int rc = ledger_account_find(w->ledger, r.name, &a, &said);

    r.scram.iterations = 600000;
    r.scram.salt_size = 16;
    if (rc < 0 && said.id == PROBLEM_ACCOUNT_UNKNOWN)
        rc = ledger_register(w->ledger, &r, &a, &said);
    if (rc < 0) {
        if (why)
            *why = said;
        return rc;
    }
    w->who = (struct actor){.account = a.id, .home = a.home};
    strcpy(w->who.name, "mara");
    return 0;
}

int world_open(struct world *w, int data, struct problem *why)
{
    struct accounts_options ao = {.registration = REGISTRATION_OPEN};
    struct vault_options vo = {.buffers = 4};
    int rc;

    *w = (struct world){.data = data};
    if (data < 0)
        return data;
    rc = ledger_open(data, &w->ledger, why);
    ao.ledger = vo.ledger = w->ledger;
    if (rc == 0)
        rc = accounts_open(&ao, &w->accounts, why);
    if (rc == 0)
        rc = actor_find(w, why);
    vo.accounts = w->accounts;
    vo.data_dir = data;
    if (rc == 0)
        rc = vault_open(&vo, &w->vault, why);
    if (rc < 0)
        world_close(w);
    return rc;
}

void world_close(struct world *w)
{
    vault_close(w->vault);
    if (w->accounts)
        accounts_close(w->accounts);
    if (w->ledger)
        ledger_close(w->ledger);
    keel_file_close(w->data);
    *w = (struct world){.data = -1};
}

int world_real_data(char ret_path[64])
{
    strcpy(ret_path, "/tmp/vault-test-XXXXXX");
    if (!mkdtemp(ret_path))
        return -EIO;
    return keel_file_open_any(ret_path, O_RDONLY | O_DIRECTORY, 0);
}

static int remove_each(const char *path, const struct stat *st, int type,
                       struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

int world_real_remove(const char *path)
{
    return nftw(path, remove_each, 16, FTW_DEPTH | FTW_PHYS);
}

int world_home_dir(struct world *w)
{
    struct ledger_space s;
    int rc = ledger_space_get(w->ledger, w->who.home, &s, NULL);

    return rc < 0 ? rc : store_dir(w->vault->store, s.dir, "", 0);
}

static int finding(const struct vault_finding *f, void *arg)
{
    unsigned *count = arg;

    if (f->outside)
        return 0;
    fprintf(stderr, "check: '%s' %s\n", f->path, f->what);
    ++*count;
    return 0;
}

unsigned world_findings(struct world *w, int64_t space)
{
    unsigned count = 0;

    if (vault_check(w->vault, space, false, finding, &count, NULL) < 0)
        count++;
    return count;
}

/* ---- contents ------------------------------------------------------------------ */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

void content_fill(unsigned tag, uint64_t at, uint8_t *buf, size_t size)
{
    keel_assert(at % 8 == 0);
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = mix((uint64_t)tag << 40 ^ (at + i));

        memcpy(buf + i, &word, size - i < 8 ? size - i : 8);
    }
}

struct digest content_root(unsigned tag, uint64_t size, enum chunk_hash hash)
{
    uint64_t chunks = chunk_count(size);
    /* not keel's: a fault on order must not meet the test */
    struct digest *leaves = malloc((chunks + 1) * sizeof *leaves);
    uint8_t *chunk = malloc(CHUNK_BYTES);
    struct digest root;

    keel_assert(leaves && chunk);
    for (uint64_t i = 0; i < chunks; i++) {
        content_fill(tag, i * CHUNK_BYTES, chunk, chunk_size(size, i));
        chunk_leaf(hash, chunk, chunk_size(size, i), &leaves[i]);
    }
    chunk_root(hash, leaves, chunks, &root);
    free(leaves);
    free(chunk);
    return root;
}

/* ---- uploads ----------------------------------------------------------------------- */

int world_path(const char *text, struct path *ret)
{
    return path_parse(text, strlen(text), ret, NULL);
}

static int fill(struct world *w, struct draft *d, const struct world_put *put,
                struct problem *why)
{
    uint64_t chunks = chunk_count(put->size);
    int rc = 0;

    if (put->stop && put->stop < chunks)
        chunks = put->stop;
    for (uint64_t i = 0; i < chunks && rc == 0; i++) {
        keel_auto(buffer) struct buffer *b = NULL;

        if (part_has(draft_part(d), i))
            continue;
        rc = buffer_take(vault_buffers(w->vault), KEEL_FOREVER, &b);
        if (rc < 0)
            return rc;
        content_fill(put->tag, i * CHUNK_BYTES, b->bytes,
                     chunk_size(put->size, i));
        rc = part_write(draft_part(d), i, b, why);
    }
    return rc;
}

int world_put(struct world *w, const struct world_put *put, struct problem *why)
{
    keel_auto(draft) struct draft *d = NULL;
    struct path path;
    struct digest root = content_root(put->tag, put->size, CHUNK_XXH128);
    struct vault_put p = {
        .path = &path,
        .size = put->size,
        .hash = CHUNK_XXH128,
        .mtime_ns = 1000000000000000000 + put->tag,
        .mode = 0644,
        .no_replace = put->no_replace,
        .match = put->match,
    };
    int rc = path_parse(put->path, strlen(put->path), &path, why);

    if (rc < 0)
        return rc;
    memcpy(p.source, &put->tag, sizeof put->tag);
    rc = vault_draft_open(w->vault, &w->who, &p, &d, why);
    if (rc == 0)
        rc = fill(w, d, put, why);
    if (rc < 0 || put->stop)
        return rc;
    rc = draft_publish(d, &root, put->level, why);
    if (rc == 0)
        d = NULL;
    return rc;
}

int world_holds(struct world *w, const char *text, unsigned tag, uint64_t size)
{
    keel_auto(source) struct source *s = NULL;
    keel_auto(buffer) struct buffer *b = NULL;
    keel_auto(mem) void *expected = keel_alloc(CHUNK_BYTES);
    struct vault_entry e;
    struct path path;
    int rc = world_path(text, &path);

    keel_assert(expected);
    if (rc == 0)
        rc = vault_file_open(w->vault, &w->who, 0, &path, 0, &s, &e, NULL);
    if (rc < 0)
        return rc;
    if (source_size(s) != size)
        return 0;
    rc = buffer_take(vault_buffers(w->vault), KEEL_FOREVER, &b);
    for (uint64_t i = 0; i < chunk_count(size) && rc == 0; i++) {
        rc = source_read(s, i, b, NULL);
        content_fill(tag, i * CHUNK_BYTES, expected, chunk_size(size, i));
        if (rc == 0 && memcmp(expected, b->bytes, chunk_size(size, i)) != 0)
            return 0;
    }
    return rc < 0 ? rc : 1;
}
