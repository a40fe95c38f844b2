/* SPDX-License-Identifier: MIT */
/* Who failed to log in waits before the next try.
 *
 * The key is (IPv4 address or IPv6 /64, account's name).  Each failure doubles
 * the wait, from 0.5 s to 30 s; success forgets it, and so do ten minutes
 * without a failure.  Tries at the same time wait one behind the other.  The
 * table has a fixed size: the key that was looked at least recently makes
 * room.  Nobody is locked out, and another address is not slowed down. */
#ifndef FERRY_DELAY_H
#define FERRY_DELAY_H

#include <keel/base.h>

#define DELAY_LEAST (KEEL_SECOND / 2)
#define DELAY_MOST (30 * KEEL_SECOND)
#define DELAY_FORGOTTEN (600 * KEEL_SECOND)
#define DELAY_ENTRIES 4096

struct delays;

int delays_new(struct delays **ret);
void delays_free(struct delays *d);
KEEL_AUTO(delays, struct delays *, delays_free)

/* `peer` is a printable address, with or without a port. */
struct delay_key {
    uint8_t address[16];
    char name[33];
};
void delay_key(const char *peer, const char *name, struct delay_key *ret);

/* When this key may try: KEEL_NOW at once, else a point to sleep until. */
keel_ns delay_turn(struct delays *d, const struct delay_key *key);
/* Who left the row before `turn` came: the next one need not wait for it. */
void delay_left(struct delays *d, const struct delay_key *key, keel_ns turn);
void delay_failed(struct delays *d, const struct delay_key *key);
void delay_passed(struct delays *d, const struct delay_key *key);
/* Keys remembered: never more than DELAY_ENTRIES. */
size_t delay_count(struct delays *d);

#endif
