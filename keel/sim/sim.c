/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>
#include <sys/single_threaded.h>

#include "sim_inside.h"

/* 2026-01-01 00:00:00 UTC, when the clock stands at one second. */
#define DATE_AT_START (INT64_C(1767225600) * KEEL_SECOND)

struct world world;
static bool broken; /* a run ended with workers left */

/* ---- the seam ---- */

static keel_ns sim_now(void)
{
    return world.now;
}

static int64_t sim_wall_ns(void)
{
    return DATE_AT_START + world.now - KEEL_SECOND;
}

/* What an operation that fails says. */
static int fault_errno(enum keel_op op)
{
    switch (op) {
    case KEEL_OP_ALLOC:
        return -ENOMEM;
    case KEEL_OP_THREAD:
        return -EAGAIN;
    case KEEL_OP_RESERVE:
        return -ENOSPC;
    case KEEL_OP_SOCKET:
        return -EMFILE;
    default:
        return -EIO;
    }
}

/* Where somebody else may go on: no lock of pthread's is held around these. */
static bool may_pass(enum keel_op op)
{
    switch (op) {
    case KEEL_OP_SOCKET:
    case KEEL_OP_ACCEPT:
    case KEEL_OP_CONNECT:
    case KEEL_OP_RECV:
    case KEEL_OP_SEND:
    case KEEL_OP_SHUTDOWN:
    case KEEL_OP_POLL:
    case KEEL_OP_THREAD:
        return true;
    default:
        return false;
    }
}

static int sim_fault(enum keel_op op, size_t *size)
{
    (void)size; /* the network shortens by itself, the disk never does */
    if (op == KEEL_OP_PROCESS)
        return -EOPNOTSUPP;
    if (!fiber_self())
        return 0;
    if (may_pass(op) && draw(BY_TURNS, 4) == 0)
        fiber_pass();
    if (world.calm || !chance(BY_FAULT, world.how.fault_ppm[op]))
        return 0;
    world.result.faults++;
    trace("%s fails", keel_op_name(op));
    return fault_errno(op);
}

/* ---- a run ---- */

static int fill(struct keel_sim_how *how)
{
    if (!how->latency_least && !how->latency_most) {
        how->latency_least = 50 * KEEL_US;
        how->latency_most = 2 * KEEL_MS;
    }
    if (!how->disk_least && !how->disk_most) {
        how->disk_least = 20 * KEEL_US;
        how->disk_most = KEEL_MS;
    }
    if (!how->lost_within)
        how->lost_within = KEEL_SECOND;
    if (!how->disk_bytes)
        how->disk_bytes = UINT64_C(1) << 30;
    if (!how->processors)
        how->processors = 2;
    if (!how->steps_most)
        how->steps_most = 10000000;
    if (!how->time_most)
        how->time_most = 24 * 3600 * KEEL_SECOND;
    return how->latency_least > how->latency_most ||
                   how->disk_least > how->disk_most
               ? -EINVAL
               : 0;
}

static int world_open(const struct keel_sim_how *how)
{
    int rc;

    memset(&world, 0, sizeof world);
    world.how = *how;
    rc = fill(&world.how);
    if (rc == 0)
        rc = trace_open(&world.how);
    if (rc < 0)
        return rc;
    world.now = KEEL_SECOND;
    world.runs = true;
    return 0;
}

int keel_sim_run(const struct keel_sim_how *how, int (*program)(void *arg),
                 void *arg, struct keel_sim_result *ret)
{
    struct keel_seam before = keel_seam;
    char single = __libc_single_threaded;
    int rc;

    if (world.runs || loop_here)
        return -EBUSY;
    if (broken)
        return -ENOTRECOVERABLE;
    rc = world_open(how);
    if (rc < 0)
        return rc;
    net_open();
    keel_seam.now = sim_now;
    keel_seam.wall_ns = sim_wall_ns;
    keel_seam.random = draw_bytes;
    keel_seam.net = &net_simulated;
    files_open();
    keel_seam.disk_waits = true;
    keel_seam.fault = sim_fault;
    keel_seam.virtual_time = false;
    worker_class = &turns_class;
    loop_cpus_simulate(world.how.processors);
    /* A fiber may stop while it holds a spin: the others must see that. */
    __libc_single_threaded = 0;

    rc = turns_run(program, arg, &world.result.value);
    broken = rc < 0;

    __libc_single_threaded = single;
    loop_cpus_simulate(0);
    worker_class = NULL;
    if (!broken) {
        net_close();
        files_close();
    }
    keel_seam = before;
    world.runs = false;
    world.result.trace = trace_close();
    world.result.time = world.now - KEEL_SECOND;
    *ret = world.result;
    return rc;
}

/* ---- for the program ---- */

bool keel_sim_runs(void)
{
    return world.runs;
}

uint64_t keel_sim_draw(uint64_t n)
{
    uint64_t any;

    if (world.runs)
        return draw(BY_PROGRAM, n);
    keel_random(&any, sizeof any);
    return n > 1 ? any % n : 0;
}

void keel_sim_calm(void)
{
    keel_assert(world.runs);
    trace("calm");
    world.calm = true;
}

void keel_sim_cut(void)
{
    keel_assert(world.runs);
    net_cut_all();
}
