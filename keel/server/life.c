/* SPDX-License-Identifier: MIT */
/* The life of a connection: verified, handled, over.
 *
 * It is led by a coroutine, which runs the handler, or starts what runs it and
 * waits for that.  So a stop is the same in every mode: these coroutines are
 * cancelled, and each passes that on. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <keel/io.h>
#include <keel/pipe.h>
#include <keel/process.h>
#include <keel/thread.h>

#include "loop/sched.h"
#include "process/entry.h"
#include "server_inside.h"

/* How long a process may take to die of SIGTERM, and, beyond `time_most`, to
 * notice that itself. */
#define DIE_MOST KEEL_SECOND

/* ---- in whatever runs the handler ---- */

static int handle(struct keel_conn *conn, keel_handler_fn *fn,
                  keel_ns time_most)
{
    struct keel_timeout t;
    int rc;

    keel_timeout_begin(&t, time_most ? keel_after(time_most) : KEEL_FOREVER);
    rc = fn(conn);
    if (rc >= 0 && conn->stream && is_datagram(conn->stream))
        rc = keel_stream_finish(conn->stream, KEEL_FOREVER);
    keel_timeout_end(&t);
    return rc;
}

static void worker_is(struct life *v, const void *worker)
{
    keel_guard(&v->server->lock);

    v->worker = worker;
}

/* ---- coroutine, thread ---- */

static int in_coroutine(struct life *v)
{
    int rc;

    worker_is(v, worker_self());
    rc = handle(&v->conn, v->server->handler->fn, v->server->how.time_most);
    worker_is(v, NULL);
    return rc;
}

static int thread_main(void *arg)
{
    return in_coroutine(arg);
}

static int in_thread(struct life *v)
{
    struct keel_thread *t = NULL;
    int rc, result = 0;

    rc = keel_thread_start(v->server->handler->name, thread_main, v, &t);
    if (rc < 0)
        return rc;
    rc = keel_thread_join(t, KEEL_FOREVER, &result);
    if (rc < 0) {
        keel_thread_cancel(t);
        keel_shield();
        (void)keel_thread_join(t, KEEL_FOREVER, &result);
        keel_unshield();
    }
    return result;
}

/* ---- process: there ---- */

/* What a process is sent, with the server's argument behind it.  Its
 * descriptors, in this order: the connection or the port; the bells for "stop"
 * and "it stops"; of a datagram a pipe with its bytes. */
struct letter {
    char handler[KEEL_PROCESS_NAME_MOST + 1];
    char peer[KEEL_ADDRESS_BYTES], here[KEEL_ADDRESS_BYTES];
    uint64_t number;
    keel_ns time_most;
    bool is_datagram, has_arg;
    struct keel_address from;
    _Alignas(64) char arg[];
};
enum { FD_CONN, FD_ASK, FD_TOLD, FD_BYTES, FDS };

/* Of the process that this is, if it serves a connection. */
static int ask_fd = -1, told_fd = -1;

static int datagram_unpack(const struct letter *l, const int *fds,
                           struct keel_udp **ret_udp, struct keel_stream **ret)
{
    keel_auto(mem) void *bytes = keel_alloc(KEEL_PIPE_MESSAGE_MOST);
    keel_auto(pipe) struct keel_pipe *pipe = NULL;
    keel_auto(udp) struct keel_udp *udp = NULL;
    size_t size = 0;
    int rc = bytes ? keel_pipe_open(fds[FD_BYTES], &pipe) : -ENOMEM;

    if (rc == 0)
        rc =
            keel_pipe_get(pipe, bytes, KEEL_PIPE_MESSAGE_MOST, KEEL_NOW, &size);
    if (rc == 0)
        rc = keel_udp_adopt(fds[FD_CONN], &udp);
    if (rc < 0)
        return rc;
    /* The first byte is there so that no message is empty. */
    rc = datagram_new(udp, &l->from, (char *)bytes + 1, size - 1, ret);
    if (rc < 0)
        return rc;
    *ret_udp = keel_take(udp);
    return 0;
}

/* Errors of the handler as exit codes, and back. */
static int code_of(int result)
{
    if (result >= 0)
        return 0;
    return result > -255 ? -result : 255;
}

PROCESS_ENTRY(keel_connection)
{
    const struct letter *l = arg->data;
    const struct keel_handler *handler = handler_find(l->handler);
    keel_auto(udp) struct keel_udp *udp = NULL;
    struct life v = {.conn = {.number = l->number,
                              .mode = KEEL_SERVE_PROCESS,
                              .peer = l->peer,
                              .here = l->here}};
    int rc;

    if (!handler) /* of a library that was loaded later */
        return code_of(-ENOENT);
    ask_fd = arg->fds[FD_ASK];
    told_fd = arg->fds[FD_TOLD];
    if (l->has_arg) {
        v.conn.arg = (void *)(uintptr_t)l->arg;
        v.conn.arg_size = arg->size - offsetof(struct letter, arg);
    }
    rc = l->is_datagram
             ? datagram_unpack(l, arg->fds, &udp, &v.conn.stream)
             : keel_stream_from_fd(arg->fds[FD_CONN], &v.conn.stream);
    if (rc < 0)
        return code_of(rc);
    rc = handle(&v.conn, handler->fn, l->time_most);
    keel_stream_close(v.conn.stream);
    return code_of(rc);
}

/* ---- process: here ---- */

KEEL_AUTO(letter, struct letter *, keel_free)

static struct letter *letter_new(const struct life *v, size_t *ret_size)
{
    const struct keel_server_how *how = &v->server->how;
    size_t size = offsetof(struct letter, arg) + how->arg_size;
    struct letter *l = keel_calloc(1, size);

    if (!l)
        return NULL;
    (void)snprintf(l->handler, sizeof(l->handler), "%s",
                   v->server->handler->name);
    memcpy(l->peer, v->peer, sizeof(l->peer));
    (void)snprintf(l->here, sizeof(l->here), "%s", v->conn.here);
    l->number = v->conn.number;
    l->time_most = how->time_most;
    l->has_arg = how->arg_size > 0;
    if (l->has_arg)
        memcpy(l->arg, how->arg, how->arg_size);
    *ret_size = size;
    return l;
}

/* Puts the bytes into a new pipe, which has room for them, and returns the end
 * they come out of. */
static int datagram_pack(const struct life *v, struct letter *l, int *ret_fd,
                         struct keel_pipe **ret)
{
    keel_auto(str) char *message = keel_alloc(DATAGRAM_MOST + 1);
    keel_auto(pipe) struct keel_pipe *in = NULL, *out = NULL;
    struct keel_udp *udp;
    size_t size;
    const void *bytes = datagram_bytes(v->conn.stream, &size, &udp, &l->from);
    int rc = message ? keel_pipe_new(&in, &out) : -ENOMEM;

    if (rc < 0)
        return rc;
    message[0] = 0;
    memcpy(message + 1, bytes, size);
    rc = keel_pipe_put(in, message, size + 1, KEEL_NOW);
    if (rc < 0)
        return rc;
    l->is_datagram = true;
    *ret_fd = keel_udp_fd(udp);
    *ret = keel_take(out);
    return 0;
}

static int process_start(struct life *v, struct keel_process **ret)
{
    keel_auto(letter) struct letter *l = NULL;
    keel_auto(pipe) struct keel_pipe *bytes = NULL;
    struct keel_process_how how = {.name = v->server->handler->name};
    int fds[FDS] = {
        [FD_ASK] = v->server->asked_fd, [FD_TOLD] = v->server->told_fd};
    int rc = 0;

    l = letter_new(v, &how.arg_size);
    if (!l)
        return -ENOMEM;
    if (is_datagram(v->conn.stream)) {
        rc = datagram_pack(v, l, &fds[FD_CONN], &bytes);
        if (rc < 0)
            return rc;
        fds[FD_BYTES] = keel_pipe_fd(bytes);
        how.fd_count = FDS;
    } else {
        fds[FD_CONN] = keel_stream_fd(v->conn.stream);
        how.fd_count = FD_BYTES;
    }
    how.arg = l;
    how.fds = fds;
    return keel_process_start("keel_connection", &how, ret);
}

/* The end of one that was not to be waited for any longer. */
static void process_end(struct keel_process *p)
{
    keel_shield();
    (void)keel_process_terminate(p);
    if (keel_process_join(p, keel_after(DIE_MOST), NULL) < 0) {
        (void)keel_process_kill(p);
        (void)keel_process_join(p, KEEL_FOREVER, NULL);
    }
    keel_unshield();
}

static int in_process(struct life *v)
{
    keel_auto(process) struct keel_process *p = NULL;
    keel_ns most = v->server->how.time_most;
    int rc = process_start(v, &p), code = 0;

    if (rc < 0)
        return rc;
    /* It is the process's now, and over when that closes it. */
    keel_stream_close(keel_take(v->conn.stream));
    rc = keel_process_join(p, most ? keel_after(most + DIE_MOST) : KEEL_FOREVER,
                           NULL);
    if (rc < 0)
        process_end(p);
    rc = keel_process_exitcode(p, &code);
    if (rc < 0)
        return rc;
    return code < 0 ? -EOWNERDEAD : -code;
}

/* ---- the whole ---- */

static int verify(struct life *v)
{
    const struct keel_server_how *how = &v->server->how;
    struct keel_timeout t;
    keel_ns deadline;
    int rc;

    if (!how->verify)
        return 0;
    deadline = keel_after(how->verify_most);
    worker_is(v, worker_self());
    keel_timeout_begin(&t, deadline);
    rc = how->verify(&v->conn, deadline);
    keel_timeout_end(&t);
    worker_is(v, NULL);
    return rc < 0 ? rc : 0;
}

/* After the place is given back the server may end, but for the group's last
 * member, which this is until it returns. */
static void over(struct life *v, uint64_t *count)
{
    struct keel_server *s = v->server;

    keel_stream_close(v->conn.stream);
    {
        keel_guard(&s->lock);
        (*count)++;
        s->counted.now--;
        LIST_REMOVE(v, node);
    }
    (void)keel_semaphore_give(&s->places);
    keel_event_set(&s->ended);
}

/* From the heap onto the stack of its coroutine, which is in memory anyway. */
static void move_in(struct life *v, struct life *from)
{
    keel_guard(&from->server->lock);

    *v = *from;
    v->conn.peer = v->peer;
    LIST_INSERT_BEFORE(from, v, node);
    LIST_REMOVE(from, node);
    keel_free(from);
}

static int live(void *arg)
{
    static int (*const in[])(struct life * v) = {
        [KEEL_SERVE_COROUTINE] = in_coroutine,
        [KEEL_SERVE_THREAD] = in_thread,
        [KEEL_SERVE_PROCESS] = in_process,
    };
    struct life v;
    struct keel_server *s;
    uint64_t *count;
    int rc;

    move_in(&v, arg);
    s = v.server;
    count = &s->counted.refused;
    rc = verify(&v);
    if (rc == 0) {
        rc = in[s->how.mode](&v);
        count = rc < 0 ? &s->counted.failed : &s->counted.served;
    }
    if (s->how.ended)
        s->how.ended(&v.conn, rc);
    over(&v, count);
    return 0;
}

static struct keel_loop *least_loaded(const struct keel_server *s)
{
    struct keel_loop *best = s->how.loop_count ? s->how.loops[0] : NULL;

    for (unsigned i = 1; i < s->how.loop_count; i++)
        if (keel_loop_load(s->how.loops[i]) < keel_loop_load(best))
            best = s->how.loops[i];
    return best;
}

static void peer_name(struct life *v)
{
    struct keel_address from;
    struct keel_udp *udp;
    size_t size;

    if (is_datagram(v->conn.stream)) {
        (void)datagram_bytes(v->conn.stream, &size, &udp, &from);
        keel_address_print(&from, v->peer);
    } else if (keel_stream_peer(v->conn.stream, v->peer) < 0) {
        v->peer[0] = '\0';
    }
}

int life_begin(struct keel_server *s, const struct door *d,
               struct keel_stream *stream)
{
    struct keel_spawn how = {.name = s->handler->name,
                             .group = s->members,
                             .loop = least_loaded(s),
                             .stack_bytes = s->how.stack_bytes};
    struct life *v = keel_calloc(1, sizeof(*v));
    int rc;

    if (!v) {
        keel_stream_close(stream);
        (void)keel_semaphore_give(&s->places);
        return -ENOMEM;
    }
    v->server = s;
    v->conn = (struct keel_conn){.stream = stream,
                                 .peer = v->peer,
                                 .here = d->address,
                                 .mode = s->how.mode,
                                 .arg = s->how.arg,
                                 .arg_size = s->how.arg_size};
    peer_name(v);
    {
        keel_guard(&s->lock);
        v->conn.number = ++s->begun;
        if (++s->counted.now > s->counted.most)
            s->counted.most = s->counted.now;
        LIST_INSERT_HEAD(&s->lives, v, node);
    }
    rc = keel_spawn(&how, live, v, NULL);
    if (rc < 0) {
        over(v, &s->counted.failed);
        keel_free(v);
    }
    return rc;
}

/* ---- for handlers ---- */

void keel_conn_stop_server(struct keel_conn *conn)
{
    const struct life *v = (const void *)conn;
    const uint64_t one = 1;

    if (v->server)
        keel_server_stop(v->server);
    else
        keel_assert(write(ask_fd, &one, sizeof(one)) > 0 || errno == EAGAIN);
}

bool keel_conn_is_stopping(struct keel_conn *conn)
{
    const struct life *v = (const void *)conn;

    if (v->server)
        return keel_event_is_set(&v->server->stop);
    return keel_fd_poll(told_fd, POLLIN, KEEL_NOW) > 0;
}
