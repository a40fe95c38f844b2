/* SPDX-License-Identifier: MIT */
/* What ferryd was told: command line over settings file over defaults. */
#ifndef FERRY_CONF_H
#define FERRY_CONF_H

#include <stdio.h>

#include <keel/base.h>

#include "account/account.h"
#include "base/log.h"
#include "base/problem.h"
#include "base/settings.h"

#define CONF_LISTEN_MOST 16
#define FERRYD_VERSION "0.1.0"

struct conf {
    char *data; /* DATA */
    char *config;
    char *listen[CONF_LISTEN_MOST];
    unsigned listen_count;
    char *listen_setting; /* [server] listen; NULL where --listen was given */
    char *public_address; /* HOST:PORT for invites; NULL: the first listener */
    enum registration registration;
    bool allow_root;
    int64_t connections, sessions, loops, grace_s, handshake_s, login_s;
    int64_t draft_ttl_s, buffers, quota_bytes, quota_files;
    char *log; /* a file; NULL: standard error */
    enum log_level level;
    int verbose; /* -1 -q, 0, 1 -v */
};
void conf_init(struct conf *c);
void conf_fini(struct conf *c);

/* Reads argv from argv[1] on.  Returns 0, 1 when it printed help, the version
 * or the settings, or a problem (USAGE, SETTING_*).  The same argv again, into
 * a fresh one, is a reload. */
int conf_parse(struct conf *c, int argc, char **argv, struct problem *why);
/* The level of the log: -v and -q win over the file. */
enum log_level conf_level(const struct conf *c);

/* The settings file's table. */
const struct setting *conf_settings(size_t *ret_count);
/* Whether a change of it counts without a restart. */
bool conf_live(const struct setting *s);
/* Whether the two differ in it. */
bool conf_differ(const struct setting *s, const struct conf *a,
                 const struct conf *b);
/* A settings file with every setting, its meaning and default. */
void conf_example(FILE *out);

#endif
