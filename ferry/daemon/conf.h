/* SPDX-License-Identifier: MIT */
/* What ferryd was told: command line over settings file over defaults. */
#ifndef FERRY_CONF_H
#define FERRY_CONF_H

#include <keel/base.h>

#include "account/account.h"
#include "base/problem.h"
#include "base/settings.h"

#define CONF_LISTEN_MOST 16
#define FERRYD_VERSION "0.1.0"

struct conf {
    char *data; /* DATA */
    char *config;
    char *listen[CONF_LISTEN_MOST];
    unsigned listen_count;
    char *listen_setting; /* [server] listen, split into the above */
    char *public_address; /* HOST:PORT for invites; NULL: the first listener */
    char *registration_word;
    enum registration registration;
    bool allow_root;
    int64_t connections, loops, grace_s, handshake_s, login_s;
    int64_t draft_ttl_s, buffers, quota_bytes, quota_files;
    int verbose; /* -1 -q, 0, 1 -v */
};
void conf_init(struct conf *c);
void conf_fini(struct conf *c);

/* Reads argv from argv[1] on.  Returns 0, 1 when it printed help or the
 * version, or a problem (USAGE, SETTING_*). */
int conf_parse(struct conf *c, int argc, char **argv, struct problem *why);
/* The settings file's table, for documents and tests. */
const struct setting *conf_settings(size_t *ret_count);

#endif
