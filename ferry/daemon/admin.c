/* SPDX-License-Identifier: MIT */
#include "daemon/admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/frame.h>
#include <keel/process.h>

#include "base/log.h"
#include "wire/frame.h"

#define ADMIN_BYTES 65536
#define ADMIN_TIME (10 * KEEL_SECOND)

int admin_invite(struct house *h, bool admin, int64_t uses, int64_t lifetime_s,
                 char ret_link[INVITE_LINK_BYTES], struct problem *why)
{
    struct invite_link l;
    int rc = account_invite_new(h->accounts, admin, uses, lifetime_s, 0,
                                l.secret, why);

    if (rc < 0)
        return rc;
    memcpy(l.server, h->server, sizeof(l.server));
    memcpy(l.pin, h->pin, sizeof(l.pin));
    invite_link_print(&l, ret_link);
    keel_wipe(l.secret, sizeof(l.secret));
    return 0;
}

static int answer_invite(struct house *h, const json_t *request,
                         json_t **ret_ok, struct problem *why)
{
    char link[INVITE_LINK_BYTES];
    uint64_t uses, lifetime;
    bool admin;
    int rc;

    rc = field_bool_or(request, "admin", false, &admin, why);
    if (rc < 0)
        return rc;
    rc = field_u64_or(request, "uses", 10000, 1, &uses, why);
    if (rc < 0)
        return rc;
    rc = field_u64_or(request, "lifetime_s", 10 * 31536000, 7 * 86400,
                      &lifetime, why);
    if (rc < 0)
        return rc;
    if (uses == 0 || lifetime == 0)
        return problem(why, REQUEST_INVALID,
                       .detail = "an invite needs uses and time");
    rc = admin_invite(h, admin, (int64_t)uses, (int64_t)lifetime, link, why);
    if (rc < 0)
        return rc;
    log_info("made an invite%s, %llu uses",
             admin ? " for an administrator" : "", (unsigned long long)uses);
    *ret_ok = json_pack("{s:s}", "link", link);
    keel_wipe(link, sizeof(link));
    return *ret_ok ? 0 : problem(why, NO_MEMORY);
}

static const struct {
    const char *name;
    int (*answer)(struct house *h, const json_t *request, json_t **ret_ok,
                  struct problem *why);
} requests[] = {
    {"invite", answer_invite},
};

int admin_answer(struct house *h, const json_t *request, json_t **ret_ok,
                 struct problem *why)
{
    const char *name;
    int rc = field_text(request, "do", 32, &name, why);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
        if (strcmp(requests[i].name, name) == 0)
            return requests[i].answer(h, request, ret_ok, why);
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

static int visit_run(void *arg)
{
    struct visit *v = arg;
    keel_ns deadline = keel_after(ADMIN_TIME);
    json_t *request = NULL, *ok = NULL, *reply;
    struct problem why = {0};
    int rc = frame_receive(v->stream, &request, deadline, &why);

    if (rc == 0)
        rc = admin_answer(v->house, request, &ok, &why);
    reply = rc == 0 ? json_pack("{s:o}", "ok", ok)
                    : json_pack("{s:o}", "problem", problem_to_json(&why));
    rc = frame_send(v->stream, reply, deadline);
    if (rc == 0)
        keel_stream_finish(v->stream, deadline);
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

int admin_ask(int data_dir, const json_t *request, json_t **ret_ok,
              struct problem *why)
{
    keel_auto(stream) struct keel_stream *s = NULL;
    keel_ns deadline = keel_after(ADMIN_TIME);
    json_t *reply = NULL, *ok, *trouble;
    char address[64];
    int rc;

    socket_address(data_dir, address);
    rc = keel_dial(address, deadline, &s);
    if (rc < 0)
        return problem(why, CONNECT_FAILED, .errno_ = -rc, .name = "ferryd");
    rc = frame_send(s, json_copy((json_t *)(uintptr_t)request), deadline);
    if (rc < 0)
        return problem(why, CONNECT_LOST, .errno_ = -rc);
    rc = frame_receive(s, &reply, deadline, why);
    if (rc < 0)
        return rc;
    ok = json_object_get(reply, "ok");
    trouble = json_object_get(reply, "problem");
    if (trouble) {
        struct problem p;

        problem_from_json(trouble, &p);
        rc = -(p.errno_ ? p.errno_ : EIO);
        if (why)
            *why = p;
    } else if (ok) {
        *ret_ok = json_incref(ok);
    } else {
        rc = problem(why, PROTOCOL_BROKEN, .detail = "no answer in the answer");
    }
    json_decref(reply);
    return rc;
}
