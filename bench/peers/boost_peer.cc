/* SPDX-License-Identifier: MIT */
/* What the same pieces cost in Boost: boost_peer FIGURE.
 *
 * switch_ns is Boost.Context's, the others Boost.Fiber's.  Prints one number,
 * as keel_bench does; threads are pinned likewise. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <sched.h>
#include <thread>
#include <vector>

#include <boost/context/fiber.hpp>
#include <boost/fiber/all.hpp>

namespace ctx = boost::context;
namespace fib = boost::fibers;

enum {
    SWITCHES = 20000000,
    YIELDS = 4000000,
    SPAWNS = 500000,
    PARKED = 100000,
    ITEMS = 500000,
    SLOTS = 1024,
    STACK = 65536,
};

static double now(clockid_t clock)
{
    timespec t;

    clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

static double own_time()
{
    return now(CLOCK_THREAD_CPUTIME_ID);
}

static std::vector<int> cpus()
{
    std::vector<int> found;
    cpu_set_t set;

    sched_getaffinity(0, sizeof set, &set);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set))
            found.push_back(i);
    return found;
}

static void pin(const std::vector<int> &to, int nth)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(to[nth % to.size()], &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void switches()
{
    ctx::fiber other{[](ctx::fiber &&back) {
        for (;;)
            back = std::move(back).resume();
        return std::move(back);
    }};
    double begun = own_time();

    for (long i = 0; i < SWITCHES / 2; i++)
        other = std::move(other).resume();
    std::printf("%.3f\n", (own_time() - begun) / SWITCHES);
    std::fflush(stdout);
    std::_Exit(0); /* the other side never ends */
}

template <typename F> static fib::fiber spawn(F &&f)
{
    static fib::pooled_fixedsize_stack stacks(STACK);

    return fib::fiber(std::allocator_arg, stacks, std::forward<F>(f));
}

static void yields()
{
    auto turns = [] {
        for (long i = 0; i < YIELDS / 2; i++)
            boost::this_fiber::yield();
    };
    double begun = own_time();
    fib::fiber a = spawn(turns), b = spawn(turns);

    a.join();
    b.join();
    std::printf("%.3f\n", (own_time() - begun) / YIELDS);
}

static void spawns()
{
    double begun = own_time();

    for (long i = 0; i < SPAWNS; i++)
        spawn([] {}).join();
    std::printf("%.3f\n", (own_time() - begun) / SPAWNS);
}

/* Resident pages and page tables, in bytes. */
static double memory()
{
    std::FILE *f = std::fopen("/proc/self/status", "r");
    long total = 0, kib;
    char line[256];

    while (std::fgets(line, sizeof line, f))
        if (std::sscanf(line, "VmRSS: %ld", &kib) == 1 ||
            std::sscanf(line, "VmPTE: %ld", &kib) == 1)
            total += kib;
    std::fclose(f);
    return static_cast<double>(total) * 1024;
}

static void parks()
{
    std::vector<fib::fiber> all;
    fib::mutex lock;
    fib::condition_variable released;
    bool release = false;
    double before;

    all.reserve(PARKED);
    before = memory();
    for (long i = 0; i < PARKED; i++)
        all.emplace_back(std::allocator_arg, fib::fixedsize_stack(STACK), [&] {
            std::unique_lock<fib::mutex> held(lock);

            released.wait(held, [&] { return release; });
        });
    boost::this_fiber::yield();
    std::printf("%.1f\n", (memory() - before) / PARKED);
    std::fflush(stdout);
    std::_Exit(0);
}

using channel = fib::buffered_channel<void *>;

static void put_items(channel &c, long count)
{
    for (; count > 0; count--)
        c.push(&c);
}

static void get_items(channel &c, long count)
{
    void *got;

    for (; count > 0; count--)
        c.pop(got);
}

static void local_items()
{
    channel c(SLOTS);
    double begun = own_time();
    fib::fiber putter = spawn([&] { put_items(c, ITEMS); });
    fib::fiber getter = spawn([&] { get_items(c, ITEMS); });

    putter.join();
    getter.join();
    std::printf("%.3f\n", (own_time() - begun) / ITEMS);
}

/* For one pair a thread each, else each thread has one of both. */
static void across(int pairs)
{
    const std::vector<int> to = cpus();
    channel c(SLOTS);
    long count = ITEMS / pairs;
    std::vector<std::thread> threads;
    double begun = now(CLOCK_MONOTONIC);

    for (int i = 0; i < (pairs == 1 ? 2 : pairs); i++)
        threads.emplace_back([&, i] {
            fib::fiber putter, getter;

            pin(to, i);
            if (pairs > 1 || i == 0)
                putter = fib::fiber([&] { put_items(c, count); });
            if (pairs > 1 || i == 1)
                getter = fib::fiber([&] { get_items(c, count); });
            if (putter.joinable())
                putter.join();
            if (getter.joinable())
                getter.join();
        });
    for (std::thread &t : threads)
        t.join();
    std::printf("%.3f\n", (now(CLOCK_MONOTONIC) - begun) /
                              static_cast<double>(count * pairs));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)();
    } figures[] = {
        {"switch_ns", switches},
        {"yield_ns", yields},
        {"spawn_join_ns", spawns},
        {"parked_rss_bytes", parks},
        {"queue_local_ns", local_items},
        {"queue_1p1c_ns", [] { across(1); }},
        {"queue_4p4c_ns", [] { across(4); }},
    };

    for (const auto &f : figures)
        if (argc == 2 && std::strcmp(argv[1], f.name) == 0) {
            f.run();
            return 0;
        }
    return 2;
}
