/* SPDX-License-Identifier: MIT */
#include "daemon/admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/frame.h>
#include <keel/system.h>

#include "base/log.h"
#include "wire/frame.h"

#define ADMIN_BYTES 65536
#define ADMIN_TIME (10 * KEEL_SECOND)

int admin_row(const struct teller *t, json_t *row, struct problem *why)
{
    int rc = row ? t->row(row, t->arg) : -ENOMEM;

    json_decref(row);
    if (rc < 0 && why && why->id == PROBLEM_NONE)
        problem(why, CONNECT_LOST, .errno_ = -rc);
    return rc;
}

int admin_ok(json_t *ok, json_t **ret_ok, struct problem *why)
{
    if (!ok)
        return problem(why, NO_MEMORY);
    *ret_ok = ok;
    return 0;
}

int admin_quota(const json_t *request, struct ledger_space *space,
                struct problem *why)
{
    uint64_t bytes = 0, files = 0;
    int rc = field_u64_or(request, "quota_bytes", INT64_MAX,
                          (uint64_t)space->quota_bytes, &bytes, why);

    if (rc == 0)
        rc = field_u64_or(request, "quota_files", INT64_MAX,
                          (uint64_t)space->quota_files, &files, why);
    if (rc < 0)
        return rc;
    space->quota_bytes = (int64_t)bytes;
    space->quota_files = (int64_t)files;
    return 0;
}

int admin_answer(struct house *h, const json_t *request, const struct teller *t,
                 json_t **ret_ok, struct problem *why)
{
    static const struct admin_request *const tables[] = {
        people_requests, space_requests, uploads_requests, look_requests};
    const char *name;
    int rc = field_text(request, "do", 32, &name, why);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
        for (const struct admin_request *r = tables[i]; r->name; r++) {
            if (strcmp(r->name, name) == 0)
                return r->answer(h, request, t, ret_ok, why);
        }
    }
    return problem(why, REQUEST_UNKNOWN, .name = name);
}

/* ---- the daemon's side ------------------------------------------------------------ */

struct visit {
    struct house *house;
    struct keel_stream *stream;
};

static int frame_send(struct keel_stream *s, json_t *j, keel_ns deadline)
{
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    int rc = text ? keel_frame_write(s, text, strlen(text), deadline) : -ENOMEM;

    if (text)
        keel_wipe(text, strlen(text));
    free(text);
    json_decref(j);
    return rc;
}

static int frame_receive(struct keel_stream *s, json_t **ret, keel_ns deadline,
                         struct problem *why)
{
    keel_auto(mem) void *body = NULL;
    ssize_t size = keel_frame_read(s, ADMIN_BYTES, &body, NULL, deadline);

    if (size < 0)
        return problem(why, CONNECT_LOST, .errno_ = (int)-size);
    return wire_json_parse(body, (size_t)size, ret, why);
}

static int visit_row(const json_t *row, void *arg)
{
    struct visit *v = arg;

    return frame_send(v->stream,
                      json_pack("{s:O}", "row", (json_t *)(uintptr_t)row),
                      keel_after(ADMIN_TIME));
}

static int visit_run(void *arg)
{
    struct visit *v = arg;
    struct teller t = {visit_row, v};
    json_t *request = NULL, *ok = NULL, *reply;
    struct problem why = {0};
    int rc = frame_receive(v->stream, &request, keel_after(ADMIN_TIME), &why);

    if (rc == 0)
        rc = admin_answer(v->house, request, &t, &ok, &why);
    reply = rc == 0 ? json_pack("{s:o}", "ok", ok)
                    : json_pack("{s:o}", "problem", problem_to_json(&why));
    rc = frame_send(v->stream, reply, keel_after(ADMIN_TIME));
    if (rc == 0) /* who asked has the answer, or is gone */
        (void)keel_stream_finish(v->stream, keel_after(ADMIN_TIME));
    json_decref(request);
    keel_stream_close(v->stream);
    keel_free(v);
    return 0;
}

static int visit_start(struct house *h, struct keel_stream *s,
                       struct keel_group *visits)
{
    struct keel_spawn how = {.name = "admin", .group = visits};
    struct visit *v;
    uid_t uid;
    int rc = keel_stream_peer_user(s, &uid);

    if (rc < 0)
        return rc;
    if (uid != 0 && uid != keel_user())
        return -EPERM;
    v = keel_alloc(sizeof(*v));
    if (!v)
        return -ENOMEM;
    *v = (struct visit){h, s};
    rc = keel_spawn(&how, visit_run, v, NULL);
    if (rc < 0)
        keel_free(v);
    return rc;
}

int admin_serve(struct house *h, struct keel_listener *l)
{
    keel_auto(group) struct keel_group *visits = NULL;
    int rc = keel_group_new(16, &visits);

    while (rc == 0) {
        struct keel_stream *s;

        rc = keel_accept(l, KEEL_FOREVER, &s);
        if (rc < 0 && rc != -ECANCELED) {
            log_warn("admin.sock: accept: %s", strerror(-rc));
            rc = keel_sleep(keel_after(100 * KEEL_MS));
            continue;
        }
        if (rc < 0)
            break;
        rc = visit_start(h, s, visits);
        if (rc < 0) {
            log_warn("admin.sock: refused: %s", strerror(-rc));
            keel_stream_close(s);
            rc = rc == -ECANCELED ? rc : 0;
        }
    }
    return rc;
}

/* A socket's path has room for 107 bytes, DATA's may be longer: it is named
 * through the open directory. */
static void socket_address(int data_dir, char ret[64])
{
    snprintf(ret, 64, "unix:/proc/self/fd/%d/admin.sock", data_dir);
}

int admin_listen(int data_dir, struct keel_listener **ret, struct problem *why)
{
    char address[64];
    int rc;

    /* DATA's lock is ours, so nobody serves this socket, whatever the kernel
     * says: a killed ferryd's io_uring holds its sockets, listening, for some
     * time after the process is gone. */
    (void)keel_file_unlink(data_dir, "admin.sock");
    socket_address(data_dir, address);
    rc = keel_listen(address, ret);
    if (rc < 0)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = "admin.sock");
    return 0;
}

/* ---- the command's side --------------------------------------------------------------- */

/* One message of the answer: 1 for a row, 0 for the end. */
static int answer_read(const json_t *reply, const struct teller *t,
                       json_t **ret_ok, struct problem *why)
{
    json_t *row = json_object_get(reply, "row");
    json_t *ok = json_object_get(reply, "ok");
    json_t *trouble = json_object_get(reply, "problem");
    struct problem p;

    if (row && t->row) {
        int rc = t->row(row, t->arg);

        return rc < 0 ? rc : 1;
    }
    if (ok) {
        *ret_ok = json_incref(ok);
        return 0;
    }
    if (!trouble)
        return problem(why, PROTOCOL_BROKEN,
                       .detail = "no answer in the answer");
    problem_from_json(trouble, &p);
    if (why)
        *why = p;
    return -(p.errno_ ? p.errno_ : problem_row(p.id)->errno_);
}

/* There is no limit to the time of an answer: a check reads every file's row.
 * A daemon that is gone ends the connection. */
int admin_ask(int data_dir, const json_t *request, const struct teller *t,
              json_t **ret_ok, struct problem *why)
{
    keel_auto(stream) struct keel_stream *s = NULL;
    char address[64];
    int rc;

    socket_address(data_dir, address);
    rc = keel_dial(address, keel_after(ADMIN_TIME), &s);
    if (rc < 0)
        return problem(why, CONNECT_FAILED, .errno_ = -rc, .name = "ferryd");
    rc = frame_send(s, json_incref((json_t *)(uintptr_t)request),
                    keel_after(ADMIN_TIME));
    if (rc < 0)
        return problem(why, CONNECT_LOST, .errno_ = -rc);
    do {
        json_t *reply = NULL;

        rc = frame_receive(s, &reply, KEEL_FOREVER, why);
        if (rc == 0)
            rc = answer_read(reply, t, ret_ok, why);
        json_decref(reply);
    } while (rc == 1);
    return rc;
}
