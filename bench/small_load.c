/* SPDX-License-Identifier: MIT */
/* small_load ADDRESS FILES BYTES CONNECTIONS [DIRECTORIES]: many small files to a
 * ferryd with open registration, and back.
 *
 * Each connection is an account of its own, puts its share of the files at once,
 * 255 requests open, in DIRECTORIES (100) directories, then gets them, likewise.
 * Prints one line of JSON; what it costs the server, /proc/PID/stat tells. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/lock.h>
#include <keel/net.h>
#include <keel/tls.h>

#include "base/base64.h"
#include "transfer/transfer.h"

#define TOGETHER 254

static struct {
    const char *address;
    unsigned files, bytes, connections, directories;
    struct keel_tls_config *tls;
    uint8_t *data;
    char root[DIGEST_TEXT_BYTES];
} load = {.directories = 100};

static void check(const char *what, int rc, const struct problem *why)
{
    char words[512] = "";

    if (rc >= 0)
        return;
    if (why)
        problem_sentence(why, words, sizeof(words));
    fprintf(stderr, "%s: %s: %s\n", what, strerror(-rc), words);
    exit(1);
}

/* ---- many in flight --------------------------------------------------------- */

struct flight {
    struct exchange *x;
    struct small_get *g;
    uint8_t *to;
    struct pilot *pilot;
    struct flight *next_done, *next_free;
};
struct pilot {
    struct link *link;
    struct flight flights[TOGETHER];
    struct flight *done, *free;
    struct keel_event changed;
    unsigned open;
};

static void flight_done(void *arg)
{
    struct flight *f = arg;

    f->next_done = f->pilot->done;
    f->pilot->done = f;
    keel_event_set(&f->pilot->changed);
}

static void land_all(struct pilot *p)
{
    struct problem why;
    struct flight *f;

    keel_event_clear(&p->changed);
    while ((f = p->done)) {
        p->done = f->next_done;
        if (f->x) {
            check("put", exchange_reply(f->x, KEEL_FOREVER, NULL, &why), &why);
            exchange_free(f->x);
        } else {
            struct small_got got;

            check("get", small_get_wait(f->g, KEEL_FOREVER, &got, &why), &why);
            small_get_free(f->g);
        }
        f->x = NULL;
        f->g = NULL;
        f->next_free = p->free;
        p->free = f;
        p->open--;
    }
}

static struct flight *take_off(struct pilot *p)
{
    struct flight *f;

    if (p->done)
        land_all(p);
    while (!p->free) {
        check("wait", keel_event_wait(&p->changed, KEEL_FOREVER), NULL);
        land_all(p);
    }
    f = p->free;
    p->free = f->next_free;
    p->open++;
    return f;
}

static void land_rest(struct pilot *p)
{
    land_all(p);
    while (p->open > 0) {
        check("wait", keel_event_wait(&p->changed, KEEL_FOREVER), NULL);
        land_all(p);
    }
}

static void path_of(unsigned n, char ret[64])
{
    snprintf(ret, 64, "/d%u/f%u", n % load.directories, n);
}

static void put_all(struct pilot *p, unsigned count)
{
    struct problem why;
    char path[64];

    for (unsigned i = 0; i < count; i++) {
        struct flight *f = take_off(p);

        path_of(i, path);
        check("put",
              transfer_put_small(
                  p->link,
                  json_pack("{s:s, s:I, s:s, s:I, s:i, s:s, s:s}", "path", path,
                            "size", (json_int_t)load.bytes, "hash", "sha256",
                            "mtime_ns", (json_int_t)1700000000000000000, "mode",
                            0644, "root", load.root, "level", "committed"),
                  load.data, load.bytes, &f->x, &why),
              &why);
        exchange_data_on(
            f->x, &(struct exchange_sink){.ended = flight_done, .arg = f});
    }
    land_rest(p);
}

static void get_all(struct pilot *p, unsigned count)
{
    struct problem why;
    char path[64];

    for (unsigned i = 0; i < count; i++) {
        struct flight *f = take_off(p);

        path_of(i, path);
        check("get",
              transfer_get_small(p->link, json_pack("{s:s}", "path", path),
                                 CHUNK_SHA256, f->to, load.bytes, &f->g, &why),
              &why);
        small_get_watch(f->g, flight_done, f);
    }
    land_rest(p);
}

/* ---- a connection ------------------------------------------------------------ */

struct member {
    struct pilot pilot;
    unsigned number;
    struct keel_event *go;
};

static void join(struct member *m)
{
    uint8_t bytes[32];
    struct problem why;
    char name[32], path[64];

    keel_random(bytes, sizeof(bytes));
    snprintf(name, sizeof(name), "m%u-%08x", m->number, keel_be32(bytes));
    check("register",
          link_ask(m->pilot.link, "register",
                   json_pack("{s:s, s:{s:i, s:o, s:o, s:o}}", "name", name,
                             "scram", "iterations", 600000, "salt",
                             bytes_to_json(bytes, 16), "stored",
                             bytes_to_json(bytes, 32), "server",
                             bytes_to_json(bytes, 32)),
                   KEEL_FOREVER, NULL, &why),
          &why);
    for (unsigned i = 0; i < load.directories; i++) {
        snprintf(path, sizeof(path), "/d%u", i);
        check("mkdir",
              link_ask(m->pilot.link, "mkdir", json_pack("{s:s}", "path", path),
                       KEEL_FOREVER, NULL, &why),
              &why);
    }
}

static int member_open(void *arg)
{
    const struct link_options o = {.agent = "small_load"};
    struct keel_stream *tcp, *tls;
    struct member *m = arg;
    struct problem why;

    check("dial", keel_dial(load.address, KEEL_FOREVER, &tcp), NULL);
    check("handshake",
          keel_tls_connect(load.tls, tcp, NULL, KEEL_FOREVER, &tls), NULL);
    check("link", link_open(tls, &o, &m->pilot.link, &why), &why);
    keel_event_init(&m->pilot.changed);
    for (unsigned i = 0; i < TOGETHER; i++) {
        struct flight *f = &m->pilot.flights[i];

        f->pilot = &m->pilot;
        f->to = keel_alloc(load.bytes + 1);
        f->next_free = m->pilot.free;
        m->pilot.free = f;
    }
    join(m);
    return 0;
}

static int member_put(void *arg)
{
    struct member *m = arg;

    put_all(&m->pilot, load.files / load.connections);
    return 0;
}

static int member_get(void *arg)
{
    struct member *m = arg;

    get_all(&m->pilot, load.files / load.connections);
    return 0;
}

static double all(struct member *m, int (*run)(void *arg))
{
    keel_ns began = keel_now();
    struct keel_group *g;

    check("group", keel_group_new(0, &g), NULL);
    for (unsigned i = 0; i < load.connections; i++)
        check("spawn",
              keel_spawn(&(struct keel_spawn){.group = g}, run, &m[i], NULL),
              NULL);
    check("join", keel_group_join(g, KEEL_FOREVER), NULL);
    keel_group_free(g);
    return (double)(keel_now() - began) / 1e9;
}

static int run(void *arg)
{
    struct member *m = keel_calloc(load.connections, sizeof(*m));
    double put, get;

    (void)arg;
    for (unsigned i = 0; i < load.connections; i++)
        m[i].number = i;
    all(m, member_open);
    printf("ready\n");
    fflush(stdout);
    put = all(m, member_put);
    printf("put done\n");
    fflush(stdout);
    get = all(m, member_get);
    printf("{\"bench\": \"small\", \"files\": %u, \"bytes\": %u, "
           "\"connections\": %u, \"put_per_s\": %.0f, \"get_per_s\": %.0f}\n",
           load.files, load.bytes, load.connections, load.files / put,
           load.files / get);
    for (unsigned i = 0; i < load.connections; i++) {
        link_goodbye(m[i].pilot.link, NULL, keel_after(KEEL_SECOND));
        link_close(m[i].pilot.link);
        for (unsigned j = 0; j < TOGETHER; j++)
            keel_free(m[i].pilot.flights[j].to);
    }
    keel_free(m);
    return 0;
}

int main(int argc, char **argv)
{
    struct keel_tls_options any = {.any = true, .alpn = "ferry/1"};
    struct digest leaf, root;

    if (argc > 4) {
        load.address = argv[1];
        load.files = (unsigned)atoi(argv[2]);
        load.bytes = (unsigned)atoi(argv[3]);
        load.connections = (unsigned)atoi(argv[4]);
    }
    if (argc > 5)
        load.directories = (unsigned)atoi(argv[5]);
    if (!load.files || load.bytes > SMALL_BYTES || !load.connections ||
        !load.directories) {
        fprintf(stderr, "usage: small_load ADDRESS FILES BYTES CONNECTIONS "
                        "[DIRECTORIES]\n");
        return 2;
    }
    load.data = keel_alloc(load.bytes + 1);
    keel_random(load.data, load.bytes);
    chunk_leaf(CHUNK_SHA256, load.data, load.bytes, &leaf);
    chunk_root(CHUNK_SHA256, &leaf, load.bytes > 0, &root);
    digest_print(CHUNK_SHA256, &root, load.root);
    check("tls", keel_tls_config_new(&any, &load.tls), NULL);
    check("run", keel_run(run, NULL), NULL);
    keel_tls_config_free(load.tls);
    keel_free(load.data);
    return 0;
}
