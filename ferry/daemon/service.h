/* SPDX-License-Identifier: MIT */
/* The service manager: what it hands over and what it is told (sd_notify(3)).
 * Without one (NOTIFY_SOCKET is not set) telling it costs nothing. */
#ifndef FERRY_SERVICE_H
#define FERRY_SERVICE_H

#include <keel/co.h>
#include <keel/net.h>

#include "base/problem.h"

/* The sockets that it opened for us, for ferry's protocol; returns a count, 0
 * when there are none.  A socket that is no listening stream, and one whose name
 * (FileDescriptorName=) is another protocol's, is refused: DATA_ACCESS. */
int service_sockets(struct keel_listener **ret, unsigned max,
                    struct problem *why);

void service_ready(const char *status);
void service_reloading(void);
/* `grace`: how long it may take from here. */
void service_stopping(keel_ns grace, const char *status);

/* Until cancelled: proves to the watchdog, as often as it asks (WatchdogSec=),
 * that this loop and the given ones run coroutines.  A loop that does not
 * answer in time is named in the log, and the watchdog is left to bite.
 * Returns at once when none watches. */
int service_watch(struct keel_loop *const *loops, unsigned count);

#endif
