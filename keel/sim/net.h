/* SPDX-License-Identifier: MIT */
/* Inside the simulation: sockets, for net.c and the poller on it. */
#ifndef KEEL_SIM_NET_H
#define KEEL_SIM_NET_H

#include "sim_inside.h"

struct sock;

/* NULL: the number is none of this network's, or of nobody. */
struct sock *sock_find(int fd);
bool sock_is_ours(int fd);
/* Operations that wait on it, oldest first. */
struct poller_op **sock_ops(struct sock *s);
/* From the poller: something of an operation that waited has come about.  The
 * poller's own; run after each change of the socket. */
void poller_serve(struct sock *s);

#endif
