/* SPDX-License-Identifier: MIT */
/* The server and its clients in a simulated world: connections that break in
 * the middle of messages, a disk that fails, a machine that loses its power and
 * starts again.  Clients put small files at once and large ones by chunks, go on
 * with these where a connection broke, and get them back.
 *
 * Checked: what a client gets is whole, and what it put; in the end, after one
 * more loss of power, every name shows what was last acknowledged as committed
 * or something put after it, whole, and the vault's own check finds nothing. */
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/net.h>
#include <keel/tls.h>

#include "account/scram.h"
#include "base/log.h"
#include "native/native_inside.h"
#include "test/scenario.h"
#include "vault/world_test.h"

enum {
    CLIENTS = 3,
    FILES = 3,
    OPERATIONS = 8,
    VERSIONS = 2 * OPERATIONS,
    TRIES = 400,
    LIVES = 12,
    LOOPS = 2,
    SMALL_MOST = 20000,
    LARGE_MORE = 300000, /* beyond a chunk */
};
#define ADDRESS "127.0.0.1:7007"
#define PATIENCE (20 * KEEL_SECOND)

struct version {
    unsigned tag;
    uint64_t size;
};

/* versions[0 .. count) were sent, in this order; `acked` is the last that was
 * acknowledged as committed, -1: none. */
struct file {
    char path[16];
    struct version versions[VERSIONS];
    int count, acked;
};

struct client {
    int number, names;
    char name[16];
    uint8_t key[32], public_key[32];
    json_int_t device; /* 0: not registered yet */
    struct link *link;
    struct file files[FILES];
};

static struct town {
    struct world world;
    struct native *native;
    struct keel_loop *loops[LOOPS];
    struct keel_listener *listener;
    struct keel_co *door;
    struct client client[CLIENTS];
    unsigned tags;
    int busy; /* clients at work */
} t;

/* Plain streams have no channel: one for all. */
int __wrap_keel_tls_exporter(struct keel_stream *s, uint8_t ret[32]);
int __wrap_keel_tls_exporter(struct keel_stream *s, uint8_t ret[32])
{
    (void)s;
    memset(ret, 7, 32);
    return 0;
}

/* ---- the machine ---- */

static int door(void *arg)
{
    (void)arg;
    return native_accept(t.native, t.listener);
}

static int native_up(void)
{
    struct native_options o = {.vault = t.world.vault,
                               .accounts = t.world.accounts,
                               .ledger = t.world.ledger,
                               .registration = REGISTRATION_OPEN,
                               .loops = t.loops,
                               .loop_count = LOOPS,
                               .agent = "test"};
    const struct keel_spawn how = {.name = "door"};

    for (int i = 0; i < LOOPS; i++)
        SIM_CHECK(keel_loop_start("serve", &t.loops[i]) == 0);
    SIM_CHECK(native_new(&o, &t.native) == 0);
    SIM_CHECK(keel_listen(ADDRESS, &t.listener) == 0);
    return keel_spawn(&how, door, NULL, &t.door);
}

/* Until it can: the disk may fail meanwhile, and lose its power. */
static void machine_up(void)
{
    for (int i = 0;; i++) {
        struct problem why = {0};
        int rc;

        SIM_CHECK(i < TRIES);
        if (keel_sim_crashed())
            keel_sim_reboot();
        rc = world_open(&t.world, world_test_data(), &why);
        keel_sim_note("opens: %d", rc);
        if (rc == 0)
            break;
        (void)keel_sleep(keel_after(10 * KEEL_MS));
    }
    SIM_CHECK(native_up() == 0);
}

static void machine_down(void)
{
    keel_sim_note("goes down");
    keel_cancel(t.door);
    SIM_CHECK(keel_join(t.door, KEEL_FOREVER, NULL) == 0);
    keel_listener_close(t.listener);
    native_drain(t.native, keel_after((keel_ns)keel_sim_draw(200) * KEEL_MS));
    native_turned_away(t.native);
    for (int i = 0; i < LOOPS; i++)
        keel_loop_stop(t.loops[i]);
    SIM_CHECK(native_connections(t.native) == 0);
    native_free(t.native);
    world_close(&t.world);
}

/* ---- a client ---- */

static void lose(struct client *c)
{
    link_close(c->link);
    c->link = NULL;
}

static int ask(struct client *c, const char *verb, json_t *fields,
               json_t **ret_ok, struct problem *why)
{
    return link_ask(c->link, verb, fields, keel_after(PATIENCE), ret_ok, why);
}

/* A registration whose answer was lost may have been done: the next has another
 * name. */
static int enter_new(struct client *c, struct problem *why)
{
    uint8_t key[32] = {1};
    json_t *ok = NULL;
    int rc;

    (void)snprintf(c->name, sizeof c->name, "c%d-%d", c->number, c->names++);
    rc = ask(c, "register",
             json_pack("{s:s, s:{s:i, s:o, s:o, s:o}}", "name", c->name,
                       "scram", "iterations", 600000, "salt",
                       bytes_to_json(key, 16), "stored", bytes_to_json(key, 32),
                       "server", bytes_to_json(key, 32)),
             NULL, why);
    if (rc == 0)
        rc = ask(c, "device.add",
                 json_pack("{s:s, s:o}", "name", "machine", "key",
                           bytes_to_json(c->public_key, 32)),
                 &ok, why);
    if (rc == 0)
        c->device = json_integer_value(json_object_get(ok, "device"));
    json_decref(ok);
    return rc;
}

static int enter_again(struct client *c, struct problem *why)
{
    uint8_t exporter[32], signature[64];

    (void)__wrap_keel_tls_exporter(NULL, exporter);
    SIM_CHECK(device_key_sign(c->key, exporter, signature) == 0);
    return ask(c, "login.device",
               json_pack("{s:s, s:I, s:o}", "name", c->name, "device",
                         c->device, "signature", bytes_to_json(signature, 64)),
               NULL, why);
}

static int enter(struct client *c, struct problem *why)
{
    const struct link_options o = {.agent = "test"};
    struct keel_stream *stream;
    int rc = keel_dial(ADDRESS, keel_after(2 * KEEL_SECOND), &stream);

    if (rc < 0)
        return rc;
    rc = link_open(stream, &o, &c->link, why);
    if (rc < 0) {
        keel_stream_close(stream);
        c->link = NULL;
        return rc;
    }
    rc = c->device ? enter_again(c, why) : enter_new(c, why);
    keel_sim_note("%s enters: %d %s", c->name, rc,
                  rc < 0 ? problem_row(why->id)->id : "");
    /* What was acknowledged is known for ever. */
    SIM_CHECK(rc == 0 || !c->device ||
              (why->id != PROBLEM_LOGIN_REFUSED &&
               why->id != PROBLEM_DEVICE_UNKNOWN));
    if (rc < 0)
        lose(c);
    return rc;
}

static void be_in(struct client *c)
{
    struct problem why = {0};

    for (int i = 0; !c->link && enter(c, &why) < 0; i++) {
        SIM_CHECK(i < TRIES);
        (void)keel_sleep(keel_after((keel_ns)keel_sim_draw(300) * KEEL_MS));
    }
}

/* ---- putting ---- */

static void *content(const struct version *v)
{
    uint8_t *bytes = malloc(v->size + 1);

    SIM_CHECK(bytes);
    content_fill(v->tag, 0, bytes, v->size);
    return bytes;
}

static void root_of(const struct version *v, char ret[DIGEST_TEXT_BYTES])
{
    struct digest root = content_root(v->tag, v->size, CHUNK_SHA256);

    digest_print(CHUNK_SHA256, &root, ret);
}

static json_t *put_json(const struct file *f, const struct version *v)
{
    uint8_t source[16] = {0};

    memcpy(source, &v->tag, sizeof v->tag);
    return json_pack("{s:s, s:I, s:s, s:i, s:i, s:o}", "path", f->path, "size",
                     (json_int_t)v->size, "hash", "sha256", "mtime_ns", 5,
                     "mode", 0644, "source", bytes_to_json(source, 16));
}

static int put_small(struct client *c, struct file *f, const struct version *v,
                     struct problem *why)
{
    keel_auto(exchange) struct exchange *x = NULL;
    char root[DIGEST_TEXT_BYTES];
    json_t *fields = put_json(f, v);
    void *bytes = content(v);
    int rc;

    root_of(v, root);
    json_object_set_new(fields, "root", json_string(root));
    json_object_set_new(fields, "level", json_string("committed"));
    rc = transfer_put_small(c->link, fields, bytes, v->size, &x, why);
    free(bytes);
    return rc < 0 ? rc : exchange_reply(x, keel_after(PATIENCE), NULL, why);
}

static bool has(const struct range *r, size_t count, uint64_t chunk)
{
    for (size_t i = 0; i < count; i++)
        if (chunk >= r[i].from && chunk < r[i].to)
            return true;
    return false;
}

static int send_missing(struct exchange *x, const struct version *v,
                        const json_t *note, struct problem *why)
{
    uint64_t chunks = chunk_count(v->size);
    struct range *have = NULL;
    size_t count = 0;
    uint8_t *bytes = content(v);
    int rc = ranges_from_json(json_object_get(note, "have"), chunks,
                              RANGES_MOST, &have, &count, why);

    keel_sim_note("the server has %zu ranges", count);
    for (uint64_t i = 0; i < chunks && rc == 0; i++)
        if (!has(have, count, i))
            rc = exchange_send(x, i * CHUNK_BYTES, bytes + i * CHUNK_BYTES,
                               chunk_size(v->size, i), keel_after(PATIENCE),
                               why);
    keel_free(have);
    free(bytes);
    return rc;
}

static int put_large(struct client *c, struct file *f, const struct version *v,
                     struct problem *why)
{
    keel_auto(exchange) struct exchange *x = NULL;
    char root[DIGEST_TEXT_BYTES];
    json_t *note = NULL;
    int rc = link_call(c->link, "put", put_json(f, v), &x, why);

    if (rc == 0)
        rc = exchange_note(x, keel_after(PATIENCE), &note, why);
    if (rc == 0)
        rc = send_missing(x, v, note, why);
    json_decref(note);
    if (rc < 0)
        return rc;
    root_of(v, root);
    return ask(c, "put.commit",
               json_pack("{s:i, s:s, s:s}", "put", (int)exchange_id(x), "root",
                         root, "level", "committed"),
               NULL, why);
}

/* A large one is tried again, and goes on where it stopped. */
static void put(struct client *c, struct file *f)
{
    struct version *v = &f->versions[f->count];
    bool large = keel_sim_draw(6) == 0;
    int tries = large ? 4 : 1, rc = -EAGAIN;

    v->tag = ++t.tags;
    v->size = large ? CHUNK_BYTES + keel_sim_draw(LARGE_MORE)
                    : keel_sim_draw(SMALL_MOST);
    f->count++;
    for (int i = 0; rc < 0 && i < tries; i++) {
        struct problem why = {0};

        be_in(c);
        rc = large ? put_large(c, f, v, &why) : put_small(c, f, v, &why);
        keel_sim_note("%s puts %s, tag %u: %d %s", c->name, f->path, v->tag, rc,
                      rc < 0 ? problem_row(why.id)->id : "");
        if (rc < 0)
            lose(c);
    }
    if (rc == 0)
        f->acked = f->count - 1;
}

/* ---- getting ---- */

static bool is_content(const struct version *v, const void *bytes, size_t size)
{
    void *is = content(v);
    bool same = v->size == size && !memcmp(is, bytes, size);

    free(is);
    return same;
}

/* What may be there: the last that was acknowledged, and all after it. */
static bool may_be(const struct file *f, const void *bytes, size_t size)
{
    for (int i = f->acked < 0 ? 0 : f->acked; i < f->count; i++)
        if (is_content(&f->versions[i], bytes, size))
            return true;
    return false;
}

static void get(struct client *c, struct file *f)
{
    static uint8_t bytes[CLIENTS][SMALL_BYTES];
    keel_auto(small_get) struct small_get *g = NULL;
    struct problem why = {0};
    struct small_got got;
    int rc;

    be_in(c);
    rc = transfer_get_small(c->link, json_pack("{s:s}", "path", f->path),
                            CHUNK_SHA256, bytes[c->number], SMALL_BYTES, &g,
                            &why);
    if (rc == 0)
        rc = small_get_wait(g, keel_after(PATIENCE), &got, &why);
    keel_sim_note("%s gets %s: %d %s", c->name, f->path, rc,
                  rc < 0 ? problem_row(why.id)->id : "");
    SIM_CHECK(rc == 0 || why.id != PROBLEM_TRANSFER_DAMAGED);
    if (rc == 0)
        SIM_CHECK(may_be(f, bytes[c->number], got.size));
    else if (why.id == PROBLEM_FILE_MISSING)
        SIM_CHECK(f->acked < 0);
    else if (why.id != PROBLEM_FILE_CHANGED) { /* it is a large one */
        small_get_free(keel_take(g));
        lose(c);
    }
}

static int client(void *arg)
{
    struct client *c = arg;

    for (int i = 0; i < OPERATIONS; i++) {
        struct file *f = &c->files[keel_sim_draw(FILES)];

        if (keel_sim_draw(3) == 0)
            get(c, f);
        else
            put(c, f);
        if (keel_sim_draw(3) == 0)
            (void)keel_sleep(keel_after((keel_ns)keel_sim_draw(400) * KEEL_MS));
    }
    if (c->link)
        link_goodbye(c->link, NULL, keel_after(KEEL_SECOND));
    lose(c);
    t.busy--;
    return 0;
}

/* ---- the end ---- */

static void look_at_file(struct file *f)
{
    int found = -ENOENT;

    for (int i = f->acked < 0 ? 0 : f->acked; i < f->count && found <= 0; i++)
        found = world_holds(&t.world, f->path, f->versions[i].tag,
                            f->versions[i].size);
    keel_sim_note("%s: %d, acknowledged %d of %d", f->path, found, f->acked,
                  f->count);
    SIM_CHECK(found == 1 || (f->acked < 0 && found == -ENOENT));
}

static void look_at(struct client *c)
{
    struct ledger_account a;
    struct problem why = {0};

    if (!c->device)
        return;
    SIM_CHECK(ledger_account_find(t.world.ledger, c->name, &a, &why) == 0);
    t.world.who = (struct actor){.account = a.id, .home = a.home};
    (void)snprintf(t.world.who.name, sizeof t.world.who.name, "%s", c->name);
    for (int i = 0; i < FILES; i++)
        look_at_file(&c->files[i]);
    SIM_CHECK(world_findings(&t.world, a.home) == 0);
}

/* ---- all of it ---- */

static void clients_start(struct keel_group *group)
{
    const struct keel_spawn how = {.name = "client", .group = group};

    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &t.client[i];

        c->number = i;
        for (int k = 0; k < FILES; k++) {
            c->files[k].acked = -1;
            (void)snprintf(c->files[k].path, sizeof c->files[k].path, "/f%d",
                           k);
        }
        t.busy++;
        SIM_CHECK(keel_spawn(&how, client, c, NULL) == 0);
    }
}

/* Until the power is cut, or it is time to go down. */
static void live(void)
{
    keel_ns until = keel_after((keel_ns)(100 + keel_sim_draw(5000)) * KEEL_MS);

    while (t.busy && !keel_sim_crashed() && keel_now() < until)
        (void)keel_sleep(keel_after(5 * KEEL_MS));
    if (keel_sim_draw(2))
        keel_sim_crash();
    if (keel_sim_draw(2)) {
        machine_down();
        if (keel_sim_draw(2))
            keel_sim_reboot();
        return;
    }
    machine_down();
}

static int scene(void *arg)
{
    keel_auto(group) struct keel_group *group = NULL;

    (void)arg;
    SIM_CHECK(keel_group_new(0, &group) == 0);
    machine_up();
    clients_start(group);
    for (int i = 0; t.busy; i++) {
        if (i == LIVES)
            keel_sim_calm();
        live();
        machine_up();
    }
    SIM_CHECK(keel_group_join(group, KEEL_FOREVER) == 0);
    keel_sim_calm();
    machine_down();
    keel_sim_reboot();
    machine_up();
    for (int i = 0; i < CLIENTS; i++)
        look_at(&t.client[i]);
    machine_down();
    return 0;
}

static struct {
    uint8_t key[32], public_key[32];
} keys[CLIENTS];

static int program(void *arg)
{
    memset(&t, 0, sizeof t);
    for (int i = 0; i < CLIENTS; i++) {
        memcpy(t.client[i].key, keys[i].key, 32);
        memcpy(t.client[i].public_key, keys[i].public_key, 32);
    }
    sqlite3_randomness(0, NULL); /* else it goes on with the last run's */
    return keel_run(scene, arg);
}

static void world(struct keel_sim_how *how)
{
    how->lost_ppm = 150000;
    how->lost_within = 800 * KEEL_MS;
    how->refused_ppm = 20000;
    how->crash_within =
        how->seed % 3 ? 300 + 500 * (unsigned)(how->seed % 7) : 0;
    if (how->seed % 4 == 0) {
        how->fault_ppm[KEEL_OP_WRITE] = 300;
        how->fault_ppm[KEEL_OP_READ] = 300;
        how->fault_ppm[KEEL_OP_SYNC] = 1000;
        how->fault_ppm[KEEL_OP_RENAME] = 1000;
        how->fault_ppm[KEEL_OP_OPEN] = 300;
    }
}

int main(int argc, char **argv)
{
    static const struct scenario all[] = {{"native", program, world, 6}};

    if (!getenv("KEEL_SIM_SEED"))
        log_most(LOG_ERROR); /* thousands of runs say a lot */
    for (int i = 0; i < CLIENTS; i++)
        if (device_key_new(keys[i].key, keys[i].public_key) < 0)
            return 2;
    return scenario_main(argc, argv, all, 1);
}
