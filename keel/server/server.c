/* SPDX-License-Identifier: MIT */
/* The server as a whole: doors, stop, counters.  One connection is life.c's. */
#include <keel/server.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <keel/io.h>

#include "io/socket_inside.h"
#include "loop/sched.h"
#include "server_inside.h"

enum { CONNECTIONS_USUAL = 1000 };
#define GRACE_USUAL (10 * KEEL_SECOND)
#define VERIFY_USUAL (10 * KEEL_SECOND)
#define PAUSE_LEAST (10 * KEEL_MS)
#define PAUSE_MOST KEEL_SECOND

/* ---- handlers ---- */

static struct keel_handler *handlers;

void keel_handler_register(struct keel_handler *handler)
{
    handler->next = handlers;
    handlers = handler;
}

const struct keel_handler *handler_find(const char *name)
{
    for (struct keel_handler *h = handlers; h; h = h->next)
        if (!strcmp(h->name, name))
            return h;
    return NULL;
}

/* ---- made and freed ---- */

void keel_server_free(struct keel_server *s)
{
    if (!s)
        return;
    if (s->state == SERVER_RUNS)
        misuse("keel_server_free", s, "it runs");
    for (unsigned i = 0; i < s->door_count; i++) {
        keel_listener_close(s->doors[i].listener);
        keel_udp_close(s->doors[i].udp);
    }
    keel_group_free(s->members);
    keel_fd_close(s->asked_fd);
    keel_fd_close(s->told_fd);
    keel_event_fini(&s->ended);
    keel_event_fini(&s->over);
    keel_event_fini(&s->stop);
    keel_semaphore_fini(&s->places);
    keel_lock_fini(&s->lock);
    keel_free(s);
}

static int bell_new(int *ret)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), rc;

    if (fd < 0)
        return -errno;
    rc = keel_fd_adopt(fd);
    if (rc < 0)
        keel_fd_close(fd);
    else
        *ret = fd;
    return rc;
}

static void ring(int bell)
{
    const uint64_t one = 1;

    if (bell >= 0 && write(bell, &one, sizeof(one)) < 0)
        keel_assert(errno == EAGAIN); /* it rings as loud as it can */
}

static void fill(struct keel_server_how *how)
{
    if (!how->connections_most)
        how->connections_most = CONNECTIONS_USUAL;
    if (!how->grace)
        how->grace = GRACE_USUAL;
    if (!how->verify_most)
        how->verify_most = VERIFY_USUAL;
}

int keel_server_new(const struct keel_server_how *how, struct keel_server **ret)
{
    keel_auto(server) struct keel_server *s = NULL;
    const struct keel_handler *handler = handler_find(how->handler);
    int rc;

    if (!handler)
        return -ENOENT;
    if (how->mode == KEEL_SERVE_PROCESS && how->arg_size > SERVER_ARG_MOST)
        return -E2BIG;
    s = keel_calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->how = *how;
    fill(&s->how);
    s->handler = handler;
    s->asked_fd = s->told_fd = -1;
    keel_lock_init(&s->lock);
    keel_event_init(&s->stop);
    keel_event_init(&s->over);
    keel_event_init(&s->ended);
    keel_semaphore_init(&s->places, s->how.connections_most,
                        s->how.connections_most);
    LIST_INIT(&s->lives);
    rc = keel_group_new(0, &s->members);
    if (rc == 0 && how->mode == KEEL_SERVE_PROCESS)
        rc = bell_new(&s->asked_fd);
    if (rc == 0 && how->mode == KEEL_SERVE_PROCESS)
        rc = bell_new(&s->told_fd);
    if (rc < 0)
        return rc;
    *ret = keel_take(s);
    return 0;
}

static int door_new(struct keel_server *s, struct door **ret)
{
    struct door *d = &s->doors[s->door_count];

    keel_assert(s->state == SERVER_NEW);
    if (s->door_count == DOORS_MOST)
        return -E2BIG;
    *d = (struct door){.server = s};
    *ret = d;
    return 0;
}

int keel_server_adopt(struct keel_server *s, struct keel_listener *l)
{
    struct door *d;
    int rc = door_new(s, &d);

    if (rc < 0)
        return rc;
    d->listener = l;
    memcpy(d->address, keel_listener_address(l), KEEL_ADDRESS_BYTES);
    s->door_count++;
    return 0;
}

static int listen_udp(struct keel_server *s, struct door *d,
                      const char *address)
{
    keel_auto(udp) struct keel_udp *udp = NULL;
    struct keel_address own;
    char text[KEEL_ADDRESS_BYTES];
    int rc = keel_udp_open(address, 0, &udp);

    if (rc == 0)
        rc = keel_udp_local(udp, &own);
    if (rc < 0)
        return rc;
    keel_address_print(&own, text);
    (void)snprintf(d->address, sizeof(d->address), "udp:%.*s",
                   (int)sizeof(d->address) - 5, text);
    d->udp = keel_take(udp);
    s->door_count++;
    return 0;
}

int keel_server_listen(struct keel_server *s, const char *address)
{
    keel_auto(listener) struct keel_listener *l = NULL;
    struct door *d;
    int rc = door_new(s, &d);

    if (rc < 0)
        return rc;
    if (!strncmp(address, "udp:", 4))
        return listen_udp(s, d, address + 4);
    rc = keel_listen(address, &l);
    if (rc == 0)
        rc = keel_server_adopt(s, l);
    if (rc < 0)
        return rc;
    l = NULL;
    return 0;
}

const char *keel_server_address(const struct keel_server *s, unsigned nth)
{
    return nth < s->door_count ? s->doors[nth].address : NULL;
}

/* ---- doors ---- */

/* Descriptors or memory are out: until somebody gives some back.  The listener
 * is sound, and whom it has no room for waits in the kernel's queue. */
static int door_trouble(struct door *d, int error)
{
    struct keel_server *s = d->server;
    int rc;

    if (!d->in_trouble && s->how.trouble)
        s->how.trouble(s->how.arg, error);
    if (!d->in_trouble)
        d->pause = PAUSE_LEAST;
    d->in_trouble = true;
    keel_lock_hold(&s->lock);
    s->counted.troubles++;
    keel_lock_drop(&s->lock);

    keel_event_clear(&s->ended);
    rc = keel_event_wait(&s->ended, keel_after(d->pause));
    d->pause = d->pause * 2 < PAUSE_MOST ? d->pause * 2 : PAUSE_MOST;
    return rc == -ECANCELED ? rc : 0;
}

static void door_works(struct door *d)
{
    if (d->in_trouble && d->server->how.trouble)
        d->server->how.trouble(d->server->how.arg, 0);
    d->in_trouble = false;
}

/* Until when a door that has a place waits for somebody: another may have
 * taken, or the peer taken back, what the place was taken for. */
static keel_ns patience(const struct door *d)
{
    bool mine = d->server->how.turn_away || d->server->door_count == 1;

    return mine ? KEEL_FOREVER : KEEL_NOW;
}

static int receive(struct door *d, void *buf, struct keel_stream **ret)
{
    struct keel_datagram news;
    ssize_t got = keel_udp_recv(d->udp, buf, DATAGRAM_MOST, patience(d), &news);

    return got < 0 ? (int)got
                   : datagram_new(d->udp, &news.from, buf, (size_t)got, ret);
}

/* Who comes stays in the kernel's queue until there is a place: that is taken
 * first.  But among several doors none keeps one while nobody comes to it. */
static int place_take(struct door *d)
{
    struct keel_server *s = d->server;
    int fd = d->listener ? listener_fd(d->listener) : keel_udp_fd(d->udp);

    for (;;) {
        int rc = keel_semaphore_take(&s->places, KEEL_FOREVER);

        if (rc < 0 || s->door_count == 1 ||
            keel_fd_poll(fd, POLLIN, KEEL_NOW) > 0)
            return rc;
        (void)keel_semaphore_give(&s->places);
        rc = keel_fd_poll(fd, POLLIN, KEEL_FOREVER);
        if (rc < 0)
            return rc;
    }
}

/* A place if there is one, for who has come already. */
static bool place_left(struct door *d)
{
    struct keel_server *s = d->server;
    bool left = keel_semaphore_take(&s->places, KEEL_NOW) == 0;

    keel_lock_hold(&s->lock);
    s->counted.turned_away += !left;
    keel_lock_drop(&s->lock);
    return left;
}

static int place_back(struct door *d, int error)
{
    (void)keel_semaphore_give(&d->server->places);
    return error;
}

/* Takes the stream, and a place that the door has. */
static int newcomer(struct door *d, struct keel_stream *stream)
{
    struct keel_server *s = d->server;

    door_works(d);
    keel_lock_hold(&s->lock);
    s->counted.accepted++;
    keel_lock_drop(&s->lock);
    if (s->how.turn_away && !place_left(d)) {
        keel_stream_close(stream);
        return 0;
    }
    return life_begin(s, d, stream);
}

/* One newcomer at most; `buf` is for a datagram. */
static int let_in(struct door *d, void *buf)
{
    bool early = !d->server->how.turn_away;
    struct keel_stream *stream;
    int rc = early ? place_take(d) : 0;

    if (rc < 0)
        return rc;
    rc = d->listener ? keel_accept(d->listener, patience(d), &stream)
                     : receive(d, buf, &stream);
    if (rc < 0 && early)
        return place_back(d, rc);
    return rc < 0 ? rc : newcomer(d, stream);
}

/* Until it is cancelled. */
static int let_all_in(struct door *d, void *buf)
{
    int rc = 0;

    while (rc != -ECANCELED) {
        rc = let_in(d, buf);
        if (rc < 0 && rc != -ECANCELED && rc != -ETIMEDOUT)
            rc = door_trouble(d, rc);
    }
    return rc;
}

static int accept_all(void *arg)
{
    return let_all_in(arg, NULL);
}

static int receive_all(void *arg)
{
    keel_auto(mem) void *buf = keel_alloc(DATAGRAM_MOST);
    int rc = buf ? 0 : -ENOMEM;

    if (rc < 0) { /* then the server cannot do what it is for */
        keel_server_stop(((struct door *)arg)->server);
        return rc;
    }
    return let_all_in(arg, buf);
}

/* A process asks for the stop. */
static int listen_to_processes(void *arg)
{
    struct keel_server *s = arg;
    int rc = keel_fd_poll(s->asked_fd, POLLIN, KEEL_FOREVER);

    if (rc > 0)
        keel_server_stop(s);
    return 0;
}

static int doors_open(struct keel_server *s, struct keel_group *group)
{
    struct keel_spawn how = {.name = "accept", .group = group};
    int rc = 0;

    for (unsigned i = 0; i < s->door_count && rc == 0; i++) {
        struct door *d = &s->doors[i];

        rc = keel_spawn(&how, d->listener ? accept_all : receive_all, d, NULL);
    }
    how.name = "processes";
    if (rc == 0 && s->asked_fd >= 0)
        rc = keel_spawn(&how, listen_to_processes, s, NULL);
    return rc;
}

/* Sockets of datagrams stay open: those that are being answered need them. */
static void doors_close(struct keel_server *s, struct keel_group *group)
{
    keel_group_cancel(group);
    (void)keel_group_join(group, KEEL_FOREVER);
    for (unsigned i = 0; i < s->door_count; i++)
        keel_listener_close(keel_take(s->doors[i].listener));
}

static void udp_close(struct keel_server *s)
{
    for (unsigned i = 0; i < s->door_count; i++)
        keel_udp_close(keel_take(s->doors[i].udp));
}

/* ---- run and stop ---- */

static int begin(struct keel_server *s)
{
    keel_guard(&s->lock);

    if (s->state != SERVER_NEW)
        return mistake("keel_server_run", s, "it ran before", -EINVAL);
    if (s->door_count == 0)
        return -EINVAL;
    s->state = SERVER_RUNS;
    return 0;
}

static void finish(struct keel_server *s)
{
    keel_guard(&s->lock);

    s->state = SERVER_OVER;
    keel_event_set(&s->over);
}

/* Nobody comes any more.  Not before all are gone does it return. */
static void see_off(struct keel_server *s, keel_ns grace)
{
    int rc = keel_group_join(s->members, grace);

    if (rc == 0)
        return;
    keel_lock_hold(&s->lock);
    s->counted.cancelled = s->counted.now;
    keel_lock_drop(&s->lock);
    keel_shield();
    keel_group_cancel(s->members);
    (void)keel_group_join(s->members, KEEL_FOREVER);
    keel_unshield();
}

static int run(void *arg)
{
    struct keel_server *s = arg;
    keel_auto(group) struct keel_group *group = NULL;
    int rc = begin(s), waited;

    if (rc < 0)
        return rc;
    rc = keel_group_new(0, &group);
    if (rc == 0)
        rc = doors_open(s, group);
    waited = rc < 0 ? rc : keel_event_wait(&s->stop, KEEL_FOREVER);
    keel_event_set(&s->stop); /* for handlers, when nobody asked */
    ring(s->told_fd);
    keel_shield();
    if (group)
        doors_close(s, group);
    keel_unshield();
    see_off(s, waited < 0 ? KEEL_NOW : keel_after(s->how.grace));
    udp_close(s);
    finish(s);
    return rc < 0 ? rc : waited;
}

int keel_server_run(struct keel_server *s)
{
    return keel_current() ? run(s) : keel_run(run, s);
}

void keel_server_stop(struct keel_server *s)
{
    keel_event_set(&s->stop);
}

static bool called_from_inside(struct keel_server *s)
{
    const void *self = worker_self();
    struct life *v;

    keel_guard(&s->lock);
    LIST_FOREACH (v, &s->lives, node)
        if (v->worker == self)
            return true;
    return false;
}

int keel_server_shutdown(struct keel_server *s, keel_ns deadline)
{
    enum server_state state;
    int rc;

    keel_server_stop(s);
    if (called_from_inside(s))
        return -EDEADLK;
    keel_lock_hold(&s->lock);
    state = s->state;
    keel_lock_drop(&s->lock);
    if (state == SERVER_NEW)
        return 0; /* it will return at once */
    rc = keel_event_wait(&s->over, deadline);
    if (rc < 0)
        return rc;
    /* Who set it has let go of the server when we can take the lock. */
    keel_lock_hold(&s->lock);
    keel_lock_drop(&s->lock);
    return 0;
}

void keel_server_count(struct keel_server *s, struct keel_server_counters *ret)
{
    keel_guard(&s->lock);

    *ret = s->counted;
}
