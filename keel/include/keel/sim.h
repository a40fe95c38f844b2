/* SPDX-License-Identifier: MIT */
/* Simulation: a program's clock, randomness, network, files and threads, all
 * run from one seed in one thread.  The same seed gives the same run, byte for
 * byte; another seed gives another: other latencies, another order of who goes
 * on, connections that break, disks that fail.  A run takes no real time but
 * what it computes, so that thousands of seeds are tried in a minute, and one
 * that fails is run again under a debugger.
 *
 * In a run
 *   threads and loops   are turns of one thread.  Who goes on is drawn from
 *                       the seed wherever one waits, wakes another, or comes to
 *                       an operation of the network or the disk
 *   the clock           moves when all wait, and a little with each turn
 *   randomness          is the seed's: never keys of value
 *   sockets             tcp, unix and udp by literal addresses, between the
 *                       program's own ends: latency, short reads and writes,
 *                       connections refused, reset, or fallen silent;
 *                       datagrams lost and overtaken
 *   files               lie on a disk in memory, "/disk" its root, that fails
 *                       as it is told, and forgets at a crash what was not
 *                       synced: pages and names, each on its own
 *   blocking jobs       run like threads
 * Out of it: child processes, their pipes and pools, and names to be looked up
 * (-EOPNOTSUPP, -ENOENT); TLS; and whatever does not go through keel, such as a
 * file opened by open(2), pthread_create, or a lock of pthread's held across a
 * wait.  Descriptors of the kernel may be read and written; who waits for one
 * makes the whole run wait.  Code that looks at addresses, thread ids or
 * uninitialised memory is not repeatable by any of this.
 *
 *     static int program(void *arg) { ... return keel_run(talk, arg); }
 *
 *     const struct keel_sim_how how = {.seed = 7, .lost_ppm = 20000};
 *     struct keel_sim_result r;
 *     int rc = keel_sim_run(&how, program, NULL, &r);
 *
 * KEEL_SIM_TRACE=FILE in the environment has each run's trace written there. */
#ifndef KEEL_SIM_H
#define KEEL_SIM_H

#include <keel/seam.h>

/* What 0 stands for is in brackets.  Chances are in millionths. */
struct keel_sim_how {
    uint64_t seed;
    /* of a packet, one way, drawn between the two [50 us, 2 ms] */
    keel_ns latency_least, latency_most;
    unsigned refused_ppm; /* an attempt to connect is refused, or times out */
    /* A connection breaks while it lives, in the middle of what is under way:
     * reset, or silent until somebody's deadline or the keepalive's. */
    unsigned lost_ppm;
    keel_ns lost_within;        /* of its life [1 s] */
    unsigned datagram_lost_ppm; /* or, half as often, doubled */
    /* of an operation of the disk [20 us, 1 ms] */
    keel_ns disk_least, disk_most;
    uint64_t disk_bytes; /* its size [1 GiB] */
    /* By kind, an operation fails: -EIO, or what fits the kind.  Those of the
     * network have the chances above. */
    unsigned fault_ppm[KEEL_OP_COUNT];
    /* The machine loses its power at one of its first so many changing
     * operations of the disk, drawn; again after each keel_sim_reboot [never].
     */
    unsigned crash_within;
    unsigned processors; /* that the program finds [2] */
    uint64_t steps_most; /* [10,000,000] */
    keel_ns time_most;   /* [24 hours] */
    const char *trace;   /* a file; NULL: KEEL_SIM_TRACE, if that is set */
};

struct keel_sim_result {
    int value;      /* the program's */
    uint64_t trace; /* a hash of the trace */
    uint64_t steps;
    keel_ns time; /* that passed inside */
    unsigned connections, lost, faults, crashes;
};

/* Runs program(arg) as a thread of the simulated world, until it has returned
 * and all that it started has ended.
 *
 * -EBUSY           a run is under way, or this process has more threads at work
 * -EDEADLK         nobody can go on: who waits for what is told on standard
 *                  error
 * -ETIME           `steps_most` or `time_most` was reached; likewise
 * -EINVAL          the least is more than the most
 * -ENOTRECOVERABLE an earlier run of this process ended by one of the two
 *                  before: its workers are still where they were
 * -ENOMEM; -errno of the file for the trace */
KEEL_API int keel_sim_run(const struct keel_sim_how *how,
                          int (*program)(void *arg), void *arg,
                          struct keel_sim_result *ret);

/* ---- for the program in the run ---------------------------------------------- */
/* All but the first two are for a run only. */

/* True in a run. */
KEEL_API bool keel_sim_runs(void);
/* A number below `n` from the seed; in no run, from the kernel. */
KEEL_API uint64_t keel_sim_draw(uint64_t n);
/* A line in the trace, as printf. */
KEEL_API void keel_sim_note(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
/* From now on nothing fails by chance: for the look at what is left. */
KEEL_API void keel_sim_calm(void);
/* The power is cut now: the disk does nothing any more (-EIO), all connections
 * are reset.  The program's workers go on, to be told by those errors, as
 * those of a machine do not; what they write is lost. */
KEEL_API void keel_sim_crash(void);
/* True from a crash, ordered or drawn, until the reboot. */
KEEL_API bool keel_sim_crashed(void);
/* The machine starts again, with what the seed left of its disk; descriptors of
 * files from before are closed.  Also without a crash before it. */
KEEL_API void keel_sim_reboot(void);
/* All connections of now break, as by `lost_ppm`. */
KEEL_API void keel_sim_cut(void);

#endif
