/* SPDX-License-Identifier: MIT */
/* The data directory: whose it is, and what the daemon itself keeps in it.
 *
 *     DATA/                0700
 *         lock             flocked while a ferryd (or an offline command) runs
 *         format           "ferry data 1"
 *         tls/key.pem chain.pem     the server's key, made at first start
 *         address          HOST:PORT of the last start, for invites
 *         first-invite     while there is no account
 *         admin.sock       while ferryd runs
 *         ledger.db ...    the ledger's, with ledger.reserve: room for it on a
 *                          full disk; spaces/, drafts/ and trash/ the vault's
 */
#ifndef FERRY_DATA_H
#define FERRY_DATA_H

#include <keel/base.h>
#include <keel/tls.h>

#include "base/address.h"
#include "base/problem.h"

struct data {
    int fd;   /* the directory */
    int lock; /* held until closed; -1: not locked */
};

/* Opens `path`, with `create` making what is absent, and takes the lock:
 * DATA_LOCKED, DATA_FORMAT, DATA_ACCESS. */
int data_open(const char *path, bool create, struct data *ret,
              struct problem *why);
void data_close(struct data *d);

/* The server's key, made when neither of its files is there.  TLS_KEY */
int data_tls(struct data *d, struct keel_tls_config **ret, struct problem *why);

/* Small files of one line, replaced whole and synced; 0600. */
int data_text_write(struct data *d, const char *name, const char *text,
                    struct problem *why);
/* -ENOENT: not there */
int data_text_read(struct data *d, const char *name, char *ret, size_t size);
int data_text_remove(struct data *d, const char *name);

#endif
