/* SPDX-License-Identifier: MIT */
/* How fast the vault takes small files, and lists them.
 *
 *     vault_bench DIR [FILES [SIZE [FLIGHT]]]
 *
 * makes DIR/data, publishes FILES (10,000) of SIZE (4096) bytes into 100
 * directories, FLIGHT (255) at a time, each acknowledged as committed; then
 * lists one directory with all of them as names.  Prints a line for each: what,
 * per second, CPU microseconds each. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <keel/co.h>
#include <keel/file.h>

#include "vault/vault.h"

enum { DIRECTORIES = 100 };

static struct {
    struct ledger *ledger;
    struct accounts *accounts;
    struct vault *vault;
    struct actor who;
    unsigned files, size, flight, next;
    char *content;
    struct digest root;
    bool flat;
} bench = {.files = 10000, .size = 4096, .flight = 255};

static void must(int rc, const char *what, const struct problem *why)
{
    char words[400] = "";

    if (rc >= 0)
        return;
    if (why)
        problem_sentence(why, words, sizeof words);
    fprintf(stderr, "vault_bench: %s: %s %s\n", what, strerror(-rc), words);
    exit(1);
}

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void report(const char *what, unsigned count, keel_ns began, double cpu)
{
    double s = (double)(keel_now() - began) / 1e9;

    printf("%-16s %9.0f/s  %7.1f us CPU each, %.3f s\n", what, count / s,
           (cpu_s() - cpu) * 1e6 / count, s);
}

static void world_open(const char *where)
{
    keel_auto(file) int dir =
        keel_file_open_any(where, O_RDONLY | O_DIRECTORY, 0);
    struct accounts_options ao = {.registration = REGISTRATION_OPEN};
    struct ledger_registration r = {.name = "bench", .now = 1};
    struct vault_options vo = {.buffers = 64};
    struct ledger_account a;
    struct problem why;
    int rc = keel_file_mkdir(dir, "data", 0700);

    must(rc, "DIR/data", NULL);
    vo.data_dir = keel_file_open(dir, "data", O_RDONLY | O_DIRECTORY, 0);
    must(vo.data_dir, "DIR/data", NULL);
    must(ledger_open(vo.data_dir, &bench.ledger, &why), "ledger", &why);
    vo.ledger = ao.ledger = bench.ledger;
    must(accounts_open(&ao, &bench.accounts, &why), "accounts", &why);
    r.scram.iterations = 600000;
    r.scram.salt_size = 16;
    must(ledger_register(bench.ledger, &r, &a, &why), "account", &why);
    bench.who = (struct actor){.account = a.id, .home = a.home};
    strcpy(bench.who.name, "bench");
    vo.accounts = bench.accounts;
    must(vault_open(&vo, &bench.vault, &why), "vault", &why);
}

static void directory(const char *text, bool parents)
{
    struct problem why;
    struct path path;

    must(path_parse(text, strlen(text), &path, &why), text, &why);
    must(vault_mkdir(bench.vault, &bench.who, 0, &path, 0700, parents, &why),
         text, &why);
}

static void put_one(unsigned number)
{
    struct vault_put put = {
        .size = bench.size,
        .hash = CHUNK_SHA256,
        .mtime_ns = (int64_t)1700000000 * KEEL_SECOND,
        .mode = 0644,
    };
    struct draft *d = NULL;
    struct problem why;
    struct path path;
    char text[64];

    if (bench.flat)
        (void)snprintf(text, sizeof text, "flat/f%06u", number);
    else
        (void)snprintf(text, sizeof text, "d%02u/f%05u", number % DIRECTORIES,
                       number);
    must(path_parse(text, strlen(text), &path, &why), text, &why);
    put.path = &path;
    put.content = bench.content;
    memcpy(put.source, &number, sizeof number);
    must(vault_draft_open(bench.vault, &bench.who, &put, &d, &why), text, &why);
    must(draft_publish(d, &bench.root, VAULT_COMMITTED, &why), text, &why);
}

static int putter(void *arg)
{
    (void)arg;
    while (bench.next < bench.files)
        put_one(bench.next++);
    return 0;
}

static void put_all(const char *what)
{
    struct keel_spawn how = {.name = "putter"};
    struct keel_group *g = NULL;
    double cpu = cpu_s();
    keel_ns began = keel_now();

    bench.next = 0;
    must(keel_group_new(0, &g), "group", NULL);
    how.group = g;
    for (unsigned i = 0; i < bench.flight; i++)
        must(keel_spawn(&how, putter, NULL, NULL), "spawn", NULL);
    must(keel_group_join(g, KEEL_FOREVER), "wait", NULL);
    keel_group_free(g);
    report(what, bench.files, began, cpu);
}

static void list_all(void)
{
    enum { PAGE = 1000 };
    struct vault_entry *e = keel_calloc(PAGE, sizeof *e);
    char after[NAME_BYTES + 1] = "";
    struct problem why;
    struct path path;
    unsigned total = 0;
    keel_ns began = keel_now();
    double cpu = cpu_s();
    int count;

    must(path_parse("flat", 4, &path, &why), "flat", &why);
    do {
        count =
            vault_list(bench.vault, &bench.who, 0, &path, after, e, PAGE, &why);
        must(count, "list", &why);
        if (total == 0)
            printf("%-16s %9.1f ms, %.1f ms CPU\n", "first page",
                   (double)(keel_now() - began) / 1e6, (cpu_s() - cpu) * 1e3);
        if (count > 0)
            strcpy(after, e[count - 1].name);
        total += (unsigned)count;
    } while (count > 0);
    report("list", total, began, cpu);
    keel_free(e);
}

static int run(void *arg)
{
    char text[16];

    (void)arg;
    for (unsigned i = 0; i < DIRECTORIES; i++) {
        (void)snprintf(text, sizeof text, "d%02u", i);
        directory(text, false);
    }
    directory("flat", false);
    put_all("put");
    bench.flat = true;
    put_all("put, flat");
    list_all();
    return 0;
}

int main(int argc, char **argv)
{
    struct digest leaf;

    if (argc < 2) {
        fprintf(stderr, "vault_bench DIR [FILES [SIZE [FLIGHT]]]\n");
        return 2;
    }
    if (argc > 2)
        bench.files = (unsigned)atoi(argv[2]);
    if (argc > 3)
        bench.size = (unsigned)atoi(argv[3]);
    if (argc > 4)
        bench.flight = (unsigned)atoi(argv[4]);
    bench.content = keel_alloc(bench.size + 1);
    memset(bench.content, 'x', bench.size);
    chunk_leaf(CHUNK_SHA256, bench.content, bench.size, &leaf);
    chunk_root(CHUNK_SHA256, &leaf, 1, &bench.root);
    world_open(argv[1]);
    must(keel_run(run, NULL), "run", NULL);
    vault_close(bench.vault);
    accounts_close(bench.accounts);
    ledger_close(bench.ledger);
    return 0;
}
