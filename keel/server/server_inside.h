/* SPDX-License-Identifier: MIT */
/* Inside the server. */
#ifndef KEEL_SERVER_INSIDE_H
#define KEEL_SERVER_INSIDE_H

#include <sys/queue.h>
#include <sys/socket.h>

#include <keel/lock.h>
#include <keel/server.h>

#include "datagram.h"

enum {
    DOORS_MOST = 16,
    SERVER_ARG_MOST = 32 << 10,
};

/* Where newcomers arrive: one of both. */
struct door {
    struct keel_server *server;
    struct keel_listener *listener;
    struct keel_udp *udp;
    char address[KEEL_ADDRESS_BYTES];
    bool in_trouble;
    keel_ns pause; /* before the next accept, while in trouble */
};

enum server_state { SERVER_NEW, SERVER_RUNS, SERVER_OVER };

/* Invariants between calls, under `lock`:
 *   lives are those with a place, from their accept to their close
 *   counted.now is how many those are
 * `stop` is set once, and for good; `over` when nothing of the server runs any
 * more but the return of keel_server_run.  What `how` says never changes. */
struct keel_server {
    struct keel_server_how how;
    const struct keel_handler *handler;
    struct door doors[DOORS_MOST];
    unsigned door_count;
    struct keel_lock lock;
    enum server_state state;
    LIST_HEAD(, life) lives;
    struct keel_server_counters counted;
    uint64_t begun; /* the number of the last one */
    struct keel_semaphore places;
    struct keel_event stop, over;
    struct keel_event ended; /* some life, for a door in trouble */
    struct keel_group *members;
    /* eventfds shared with processes: one of them asks for a stop; all are told
     * of one.  Nobody ever reads them.  -1: no processes. */
    int asked_fd, told_fd;
};

/* One connection.  `worker` is who runs the user's code for it now, under the
 * server's lock; in a process `server` is NULL. */
struct life {
    struct keel_conn conn;
    struct keel_server *server;
    LIST_ENTRY(life) node;
    const void *worker;
    char peer[KEEL_ADDRESS_BYTES];
};

/* The life of a newcomer, who has a place; takes the stream, also on error. */
int life_begin(struct keel_server *s, const struct door *d,
               struct keel_stream *stream);

const struct keel_handler *handler_find(const char *name);

#endif
