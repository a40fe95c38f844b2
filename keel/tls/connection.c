/* SPDX-License-Identifier: MIT */
/* A listener is a server (server.h) on a loop of its own, whose verify is the
 * challenge and whose handler puts the proven into a queue. */
#include <keel/connection.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <keel/co.h>
#include <keel/frame.h>
#include <keel/io.h>
#include <keel/queue.h>
#include <keel/server.h>

enum {
    PROVEN_MOST = 64, /* that nobody has accepted; others wait behind them */
    LENGTH_BYTES = 4,
};

/* ---- a connection ---- */

/* What has come of the next message: `got` bytes of its length and, once those
 * are whole, of the `size` bytes of its body, which is NULL until there was
 * room for it. */
struct keel_connection {
    struct keel_stream *stream;
    bool torn; /* part of a message may have left */
    uint8_t length[LENGTH_BYTES];
    size_t length_got;
    char *body;
    size_t got;
};

/* Takes the stream, on success. */
static int connection_new(struct keel_stream *s, struct keel_connection **ret)
{
    struct keel_connection *c = keel_calloc(1, sizeof(*c));

    if (!c)
        return -ENOMEM;
    c->stream = s;
    *ret = c;
    return 0;
}

void keel_connection_close(struct keel_connection *c)
{
    if (!c)
        return;
    keel_stream_close(c->stream);
    keel_free(c->body);
    keel_free(c);
}

struct keel_stream *keel_connection_stream(struct keel_connection *c)
{
    return c->stream;
}

int keel_connection_dial(const char *address, const struct keel_peer_key *key,
                         keel_ns deadline, struct keel_connection **ret)
{
    keel_auto(stream) struct keel_stream *s = NULL;
    int rc = keel_dial(address, deadline, &s);

    if (rc == 0)
        rc = keel_peer_answer(s, key, deadline);
    if (rc == 0)
        rc = connection_new(s, ret);
    if (rc < 0)
        return rc;
    s = NULL;
    return 0;
}

int keel_connection_put(struct keel_connection *c, const void *data,
                        size_t size, keel_ns deadline)
{
    int rc;

    if (size > UINT32_MAX)
        return -EMSGSIZE;
    if (c->torn)
        return -EPIPE;
    rc = keel_frame_write(c->stream, data, size, deadline);
    c->torn = rc < 0;
    return rc;
}

/* More of the buffer, keeping what came whatever happens. */
static int fill(struct keel_connection *c, void *buf, size_t size, size_t *got,
                keel_ns deadline)
{
    while (*got < size) {
        ssize_t rc = keel_stream_read(c->stream, (char *)buf + *got,
                                      size - *got, deadline);

        if (rc < 0)
            return (int)rc;
        if (rc == 0)
            return c->length_got ? -ECONNABORTED : -ENODATA;
        *got += (size_t)rc;
    }
    return 0;
}

ssize_t keel_connection_get(struct keel_connection *c, size_t max_bytes,
                            void **ret, keel_ns deadline)
{
    size_t size;
    int rc = fill(c, c->length, LENGTH_BYTES, &c->length_got, deadline);

    if (rc < 0)
        return rc;
    size = keel_be32(c->length);
    if (size > max_bytes)
        return -EMSGSIZE;
    if (!c->body)
        c->body = keel_alloc(size ? size : 1);
    if (!c->body)
        return -ENOMEM;
    rc = fill(c, c->body, size, &c->got, deadline);
    if (rc < 0)
        return rc;
    c->length_got = c->got = 0;
    *ret = keel_take(c->body);
    return (ssize_t)size;
}

/* ---- the listener ---- */

/* The queue's items are descriptors, plus one. */
struct keel_connection_listener {
    struct keel_peer_key key;
    struct keel_loop *loop;
    struct keel_server *server;
    struct keel_co *runs;
    struct keel_queue *proven;
    uint8_t secret[KEEL_PEER_SECRET_MOST];
};

static void *item_of(int fd)
{
    return (void *)(intptr_t)(fd + 1);
}

static int fd_of(void *item)
{
    return (int)(intptr_t)item - 1;
}

static void item_drop(void *item)
{
    keel_fd_close(fd_of(item));
}

static int challenge(struct keel_conn *conn, keel_ns deadline)
{
    struct keel_connection_listener *l = conn->arg;

    return keel_peer_challenge(conn->stream, &l->key, deadline);
}

/* A descriptor belongs to the loop that waits on it: to another goes a copy. */
static int arrives(struct keel_conn *conn)
{
    struct keel_connection_listener *l = conn->arg;
    int fd = fcntl(keel_stream_fd(conn->stream), F_DUPFD_CLOEXEC, 3), rc;

    if (fd < 0)
        return -errno;
    rc = keel_queue_put(l->proven, item_of(fd), KEEL_FOREVER);
    if (rc < 0)
        keel_fd_close(fd);
    return rc;
}

/* Not by KEEL_HANDLER, which is for programs: see process/entry.h. */
static struct keel_handler arrivals = {.name = "keel_connection_arrives",
                                       .fn = arrives};
__attribute__((constructor(2000))) static void arrivals_enter(void)
{
    keel_handler_register(&arrivals);
}

static int listener_run(void *arg)
{
    return keel_server_run(arg);
}

void keel_connection_listener_close(struct keel_connection_listener *l)
{
    if (!l)
        return;
    if (l->proven)
        keel_queue_close_now(l->proven, item_drop);
    if (l->runs) {
        keel_shield();
        keel_server_stop(l->server);
        (void)keel_join(l->runs, KEEL_FOREVER, NULL);
        keel_unshield();
    }
    keel_loop_stop(l->loop);
    keel_server_free(l->server);
    keel_queue_free(l->proven);
    keel_wipe(l->secret, sizeof(l->secret));
    keel_free(l);
}

static int listener_open(struct keel_connection_listener *l,
                         const char *address)
{
    const struct keel_server_how how = {
        .handler = arrivals.name,
        .arg = l,
        .verify = challenge,
        .grace = KEEL_MS, /* nobody will ask for those */
    };
    struct keel_spawn spawn = {.name = "listener"};
    int rc = keel_queue_new(PROVEN_MOST, KEEL_QUEUE_SHARED, &l->proven);

    if (rc == 0)
        rc = keel_server_new(&how, &l->server);
    if (rc == 0)
        rc = keel_server_listen(l->server, address);
    if (rc == 0)
        rc = keel_loop_start("listener", &l->loop);
    spawn.loop = l->loop;
    if (rc == 0)
        rc = keel_spawn(&spawn, listener_run, l->server, &l->runs);
    return rc;
}

int keel_connection_listen(const char *address, const struct keel_peer_key *key,
                           struct keel_connection_listener **ret)
{
    keel_auto(connection_listener) struct keel_connection_listener *l = NULL;
    int rc;

    if (key->secret_size < KEEL_PEER_SECRET_LEAST ||
        key->secret_size > KEEL_PEER_SECRET_MOST || key->context_size)
        return -EINVAL;
    l = keel_calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    memcpy(l->secret, key->secret, key->secret_size);
    l->key = (struct keel_peer_key){.secret = l->secret,
                                    .secret_size = key->secret_size};
    rc = listener_open(l, address);
    if (rc < 0)
        return rc;
    *ret = keel_take(l);
    return 0;
}

const char *
keel_connection_listener_address(const struct keel_connection_listener *l)
{
    return keel_server_address(l->server, 0);
}

/* Takes the descriptor, also on error. */
static int arrive(int fd, struct keel_connection **ret)
{
    struct keel_stream *s;
    int rc = keel_stream_from_fd(fd, &s);

    if (rc < 0) {
        keel_fd_close(fd);
        return rc;
    }
    rc = connection_new(s, ret);
    if (rc < 0)
        keel_stream_close(s);
    return rc;
}

int keel_connection_accept(struct keel_connection_listener *l, keel_ns deadline,
                           struct keel_connection **ret)
{
    void *item;
    int rc;

    do { /* one that was reset meanwhile is nobody */
        rc = keel_queue_get(l->proven, deadline, &item);
        if (rc == 0)
            rc = arrive(fd_of(item), ret);
    } while (rc == -ENOTCONN);
    return rc;
}

uint64_t keel_connection_refused(struct keel_connection_listener *l)
{
    struct keel_server_counters c;

    keel_server_count(l->server, &c);
    return c.refused;
}
