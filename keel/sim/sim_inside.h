/* SPDX-License-Identifier: MIT */
/* Inside the simulation: one world at a time.
 *
 *   sim.c     a run: what is put in the seam's place, its end
 *   turns.c   fibers, who goes on, the clock, events to come
 *   net.c     sockets; socket_ops.c what pollers ask of them
 *   trace.c   the trace, and what is drawn
 *   files.c   latency, faults and crashes in front of the disk */
#ifndef KEEL_SIM_INSIDE_H
#define KEEL_SIM_INSIDE_H

#include <keel/sim.h>

#include "loop/worker.h"

/* ---- drawing ---- */
/* Streams of their own, so that one more packet does not change who goes on. */
enum stream { BY_TURNS, BY_NET, BY_DISK, BY_FAULT, BY_PROGRAM, STREAMS };
uint64_t draw(enum stream s, uint64_t below);
keel_ns draw_span(enum stream s, keel_ns least, keel_ns most);
bool chance(enum stream s, unsigned ppm);
void draw_bytes(void *buf, size_t size);

/* ---- the trace ---- */
int trace_open(const struct keel_sim_how *how);
uint64_t trace_close(void);
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- the world ---- */
struct world {
    struct keel_sim_how how;
    struct keel_sim_result result;
    keel_ns now;
    bool runs, calm;
};
extern struct world world;

/* ---- turns ---- */
struct fiber;
extern const struct worker_class turns_class;

/* Runs it as the first fiber, and all, until none is left: 0, -EDEADLK or
 * -ETIME. */
int turns_run(int (*program)(void *arg), void *arg, int *ret_value);
/* The caller waits: 0, or -ETIMEDOUT once the clock shows `until`. */
int fiber_wait(const char *why, keel_ns until);
struct fiber *fiber_self(void);
/* It goes on, if it waits. */
void fiber_wake(struct fiber *f);
/* Somebody else may go on before the caller does. */
void fiber_pass(void);
unsigned fiber_number(const struct fiber *f);

/* Calls fn(arg, number) at that time, between two turns. */
void event_at(keel_ns at, void (*fn)(void *arg, uint64_t number), void *arg,
              uint64_t number);

/* ---- the network ---- */
extern const struct keel_net net_simulated;
extern const struct poller_class poller_simulated;
void net_open(void);
void net_close(void);
/* All connections break; reset, not silent. */
void net_reset_all(void);
void net_cut_all(void);

/* ---- the disk ---- */
void files_open(void);
void files_close(void);

#endif
