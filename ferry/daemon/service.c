/* SPDX-License-Identifier: MIT */
#include "daemon/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"

#define LOOPS_MOST 64

/* ---- sockets ------------------------------------------------------------------ */

/* "ferry", or what systemd calls a socket that its unit does not name. */
static bool is_ferry(const char *name)
{
    const char *dot = strrchr(name, '.');

    return strcmp(name, "ferry") == 0 || strcmp(name, "unknown") == 0 ||
           (dot && strcmp(dot, ".socket") == 0);
}

static int socket_adopt(int fd, const char *name, struct keel_listener **ret,
                        struct problem *why)
{
    char shown[128];
    int rc = 0;

    snprintf(shown, sizeof(shown), "the service manager's socket '%.64s'",
             name);
    if (!is_ferry(name) || sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
        rc = -EPROTONOSUPPORT;
    if (rc == 0)
        rc = keel_listener_adopt(fd, ret);
    if (rc < 0)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = shown);
    return 0;
}

int service_sockets(struct keel_listener **ret, unsigned max,
                    struct problem *why)
{
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names), taken = 0, rc = 0;

    if (count < 0)
        return problem(why, DATA_ACCESS, .errno_ = -count,
                       .name = "the service manager's sockets");
    if (count > (int)max)
        rc = problem(why, USAGE,
                     .detail = "the service manager hands over more sockets "
                               "than 16");
    for (int i = 0; i < count && rc == 0; i++) {
        rc = socket_adopt(SD_LISTEN_FDS_START + i, names ? names[i] : "unknown",
                          &ret[taken], why);
        if (rc == 0)
            taken++;
    }
    for (int i = 0; names && names[i]; i++)
        free(names[i]);
    free(names);
    if (rc == 0)
        return taken;
    while (taken > 0)
        keel_listener_close(ret[--taken]);
    return rc;
}

/* ---- words ----------------------------------------------------------------------- */

void service_ready(const char *status)
{
    sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void service_reloading(void)
{
    sd_notifyf(0,
               "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=reading the settings",
               (long long)(keel_now() / 1000));
}

void service_stopping(keel_ns grace, const char *status)
{
    sd_notifyf(0, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%lld\nSTATUS=%s",
               (long long)(grace / 1000), status);
}

/* ---- the watchdog ------------------------------------------------------------------ */

/* A loop that is asked: `co` is a coroutine on it that has nothing to do but to
 * end, not joined yet. */
struct pulse {
    struct keel_loop *loop;
    struct keel_co *co;
    bool silent; /* and that was logged */
};

static int beat(void *arg)
{
    (void)arg;
    return 0;
}

/* The same coroutine is waited for again until it has ended: a loop that is
 * stuck gathers no more than one. */
static int pulse_feel(struct pulse *p, unsigned i, keel_ns deadline)
{
    struct keel_spawn how = {.name = "watchdog", .loop = p->loop};
    int rc = p->co ? 0 : keel_spawn(&how, beat, NULL, &p->co);

    if (rc == 0)
        rc = keel_join(p->co, deadline, NULL);
    if (rc == 0)
        p->co = NULL;
    if (rc < 0 && rc != -ECANCELED && !p->silent)
        log_error("watchdog: loop %u does not answer: %s", i, strerror(-rc));
    if (rc == 0 && p->silent)
        log_warn("watchdog: loop %u answers again", i);
    p->silent = rc < 0 && rc != -ECANCELED;
    return rc;
}

/* All of them are asked before one is waited for. */
static int pulses_feel(struct pulse *pulses, unsigned count, keel_ns deadline)
{
    bool alive = true;

    for (unsigned i = 0; i < count; i++) {
        struct keel_spawn how = {.name = "watchdog", .loop = pulses[i].loop};

        if (!pulses[i].co)
            keel_spawn(&how, beat, NULL, &pulses[i].co);
    }
    for (unsigned i = 0; i < count; i++) {
        int rc = pulse_feel(&pulses[i], i, deadline);

        if (rc == -ECANCELED)
            return rc;
        alive = alive && rc == 0;
    }
    return alive;
}

/* Those of loops that answer are joined; a stuck loop keeps its own. */
static void pulses_end(struct pulse *pulses, unsigned count)
{
    keel_shield();
    for (unsigned i = 0; i < count; i++) {
        if (pulses[i].co && !pulses[i].silent)
            keel_join(pulses[i].co, keel_after(KEEL_SECOND), NULL);
    }
    keel_unshield();
}

int service_watch(struct keel_loop *const *loops, unsigned count)
{
    struct pulse pulses[LOOPS_MOST] = {0};
    uint64_t usec = 0;
    keel_ns every;
    int rc = sd_watchdog_enabled(0, &usec);

    if (rc <= 0)
        return 0;
    keel_assert(count <= LOOPS_MOST);
    for (unsigned i = 0; i < count; i++)
        pulses[i].loop = loops[i];
    /* A round of asking and a pause fit twice into the watchdog's time. */
    every = (keel_ns)(usec / 4) * 1000;
    do {
        rc = pulses_feel(pulses, count, keel_after(every));
        if (rc > 0)
            sd_notify(0, "WATCHDOG=1");
        if (rc >= 0)
            rc = keel_sleep(keel_after(every));
    } while (rc == 0);
    pulses_end(pulses, count);
    return rc;
}
