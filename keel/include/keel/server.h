/* SPDX-License-Identifier: MIT */
/* A server: accepts, and runs a handler for each connection, as a coroutine, a
 * thread or a process.
 *
 * A handler is registered by name where it is written, and is the same code
 * whatever runs it:
 *
 *     KEEL_HANDLER(echo)
 *     {
 *         char buf[2048];
 *         ssize_t got;
 *         int rc = 0;
 *
 *         while (rc == 0 && (got = keel_stream_read(conn->stream, buf,
 *                                       sizeof(buf), KEEL_FOREVER)) > 0)
 *             rc = keel_stream_write(conn->stream, buf, (size_t)got,
 *                                    KEEL_FOREVER);
 *         return rc;
 *     }
 *     ...
 *     keel_server_new(&(struct keel_server_how){.handler = "echo"}, &s);
 *     keel_server_listen(s, "[::]:7");
 *     keel_server_run(s);
 *
 * Addresses: those of net.h, and "udp:HOST:PORT", where each datagram is a
 * connection: its bytes can be read, then the stream ends; what was written
 * goes back as one datagram when the handler returns 0 or more, or finishes
 * the stream.
 *
 * Who cannot be served for the moment waits in the kernel's queue, or, of
 * datagrams, is dropped there when it is full: at the cap, where nobody is
 * accepted until a connection has ended (unless `turn_away`), and while
 * descriptors or memory are out.  Then the server tries again after 10 ms,
 * doubling to 1 s, and whenever a connection of its own ends.
 *
 * Who connects and says nothing costs one of the places under the cap, until
 * the handler's own deadlines or `time_most` end it; `verify` always has a
 * deadline.
 *
 * Handlers as processes have nothing of the program's memory (process.h):
 * `arg` is a copy of `arg_size` bytes there, at most 32 KiB.  A program that
 * confines itself calls keel_process_prepare before. */
#ifndef KEEL_SERVER_H
#define KEEL_SERVER_H

#include <keel/co.h>
#include <keel/net.h>

struct keel_server;

enum keel_server_mode {
    KEEL_SERVE_COROUTINE, /* on the least loaded of the loops */
    KEEL_SERVE_THREAD,
    KEEL_SERVE_PROCESS
};

/* ---- in the handler ---------------------------------------------------------- */

struct keel_conn {
    /* The server's, which closes it; the handler may take it (keel_take), where
     * it is no process and no datagram. */
    struct keel_stream *stream;
    const char *peer; /* printable: keel_stream_peer */
    const char *here; /* the address it came to */
    uint64_t number;  /* from 1, in order of coming */
    enum keel_server_mode mode;
    void *arg; /* keel_server_how's */
    size_t arg_size;
};
/* 0 or more when all went well, else a negative errno: counted, and told to
 * `ended`. */
typedef int keel_handler_fn(struct keel_conn *conn);
struct keel_handler {
    const char *name;
    keel_handler_fn *fn;
    struct keel_handler *next;
};
KEEL_API void keel_handler_register(struct keel_handler *handler);
KEEL_API void keel_process_begin(void);
/* Begins the definition of a handler, as above.  Its name has at most 31
 * bytes. */
#define KEEL_HANDLER(name_)                                                    \
    static keel_handler_fn name_;                                              \
    static struct keel_handler keel_handler_##name_ = {.name = #name_,         \
                                                       .fn = name_};           \
    __attribute__((constructor(2000))) static void keel_enter_##name_(void)    \
    {                                                                          \
        (void)sizeof(char[sizeof(#name_) <= 32 ? 1 : -1]); /* else too long */ \
        keel_handler_register(&keel_handler_##name_);                          \
    }                                                                          \
    __attribute__((constructor)) static void keel_begin_##name_(void)          \
    {                                                                          \
        keel_process_begin();                                                  \
    }                                                                          \
    static int name_(__attribute__((unused)) struct keel_conn *conn)

/* Asks the server to stop, as keel_server_stop, from its handler, whatever runs
 * it. */
KEEL_API void keel_conn_stop_server(struct keel_conn *conn);
/* True once it was asked: a handler that serves many requests ends then. */
KEEL_API bool keel_conn_is_stopping(struct keel_conn *conn);

/* ---- the server ---------------------------------------------------------------- */

struct keel_server_how {
    const char *handler;
    enum keel_server_mode mode;
    void *arg; /* lent to the server; conn->arg */
    size_t arg_size;
    /* Where coroutines run, and where threads and processes are watched from;
     * borrowed until keel_server_run has returned.  0: the loop of
     * keel_server_run. */
    struct keel_loop *const *loops;
    unsigned loop_count;
    size_t stack_bytes;        /* of a coroutine; 0: 64 KiB */
    unsigned connections_most; /* at once; 0: 1,000 */
    bool turn_away;    /* at the cap: accepted and closed, not left waiting */
    keel_ns time_most; /* each connection's waits end after that; 0: never */
    keel_ns grace;     /* for a stop; 0: 10 s; KEEL_FOREVER: as they need */
    /* Asked first, in a coroutine of those loops in every mode, with
     * `verify_most` (0: 10 s) to answer; it may talk over conn->stream (peer.h).
     * Who is refused, by a negative errno, never sees the handler. */
    int (*verify)(struct keel_conn *conn, keel_ns deadline);
    keel_ns verify_most;
    /* Told, in a coroutine of those loops: a connection is over, with the
     * handler's result.  Its stream is still open, or NULL where a process had
     * or the handler took it.  Other results than a handler's:
     * -EOWNERDEAD  its process died of a signal
     * and those of verify and of starting a thread or process. */
    void (*ended)(struct keel_conn *conn, int result);
    /* Told, in the coroutine that accepts: it began to fail with that, or,
     * with 0, works again. */
    void (*trouble)(void *arg, int error);
};

/* -ENOENT  no handler has that name
 * -E2BIG   processes, and `arg_size` is beyond 32 KiB
 * -ENOMEM, -EMFILE, -ENFILE */
KEEL_API int keel_server_new(const struct keel_server_how *how,
                             struct keel_server **ret);
/* When keel_server_run has returned, or was never called. */
KEEL_API void keel_server_free(struct keel_server *s); /* accepts NULL */
KEEL_AUTO(server, struct keel_server *, keel_server_free)

/* Before keel_server_run, up to 16 of both together.  Errors of keel_listen;
 * -E2BIG. */
KEEL_API int keel_server_listen(struct keel_server *s, const char *address);
/* Takes a listener, as one of a service manager, on success. */
KEEL_API int keel_server_adopt(struct keel_server *s, struct keel_listener *l);
/* The nth's address, with the real port; lent.  NULL: there are not so many. */
KEEL_API const char *keel_server_address(const struct keel_server *s,
                                         unsigned nth);

/* Serves until it is asked to stop, and returns when that is done:
 *   1. The listeners are closed; whoever still waits in their queues is reset.
 *   2. Those being served may finish, for `grace`.
 *   3. Who has not is cancelled: a coroutine and a thread by their waits, which
 *      return -ECANCELED; a process by SIGTERM, a second later by SIGKILL.  A
 *      thread that never waits cannot be ended, and is waited for.
 * Returns 0; or, when the caller was cancelled itself, -ECANCELED, with no
 * grace.  In a plain thread it runs a loop meanwhile.
 * -EINVAL  no address to listen on; it ran before
 * -ENOMEM, -EAGAIN as keel_spawn */
KEEL_API int keel_server_run(struct keel_server *s);
/* Asks, and returns at once; from anywhere, also before keel_server_run, which
 * then returns at once. */
KEEL_API void keel_server_stop(struct keel_server *s);
/* Asks, and waits until keel_server_run returns.
 * -EDEADLK  from a handler of its own, which the stop would wait for: it was
 *           asked, and stops once that has returned
 * -ETIMEDOUT, -ECANCELED  it goes on stopping */
KEEL_API int keel_server_shutdown(struct keel_server *s, keel_ns deadline);

/* Since the start, but for `now`. */
struct keel_server_counters {
    uint64_t accepted;    /* connections and datagrams */
    uint64_t turned_away; /* at the cap */
    uint64_t refused;     /* by verify */
    uint64_t served;      /* the handler returned 0 or more */
    uint64_t failed;      /* it returned less, died, or could not be started */
    uint64_t cancelled;   /* of those, when a stop's grace was over */
    uint64_t troubles;    /* accepts that failed: descriptors, memory */
    unsigned now, most;   /* at once */
};
KEEL_API void keel_server_count(struct keel_server *s,
                                struct keel_server_counters *ret);

#endif
