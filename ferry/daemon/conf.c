/* SPDX-License-Identifier: MIT */
#include "daemon/conf.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "usage: ferryd --data DIR [option]...\n"
    "       ferryd invite --data DIR [--admin] [--uses N] [--expires SPAN]\n"
    "\n"
    "Carries files between people and machines; speaks to ferry(1).\n"
    "\n"
    "  --data DIR              where everything is kept; made when absent\n"
    "  --listen HOST:PORT      where to listen (default: [::]:9001); repeat "
    "it\n"
    "                          for several, port 0 picks a free one\n"
    "  --config FILE           settings file\n"
    "  --registration WHO      open, invite (default) or closed\n"
    "  --public HOST[:PORT]    the address that invites carry\n"
    "  --allow-root            run as root all the same (containers, tests)\n"
    "  -v, -q                  log more, or problems only\n"
    "  --help, --version\n"
    "\n"
    "The first start writes an invite for an administrator to\n"
    "DATA/first-invite.  SIGTERM lets transfers finish and stops.\n";

#define ROW(section, key, read, field, low, high, help)                        \
    {                                                                          \
        section, key, read, offsetof(struct conf, field), low, high, help      \
    }
static const struct setting table[] = {
    ROW("server", "listen", setting_text, listen_setting, 0, 4096,
        "HOST:PORT, several separated by spaces"),
    ROW("server", "public", setting_text, public_address, 0, 262,
        "the address that invites carry"),
    ROW("server", "registration", setting_text, registration_word, 4, 6,
        "open, invite or closed"),
    ROW("server", "connections", setting_number, connections, 1, 1000000,
        "most connections at once"),
    ROW("server", "loops", setting_number, loops, 1, 64,
        "threads that serve connections; default: one per processor, up to 4"),
    ROW("server", "grace", setting_span, grace_s, 0, 86400,
        "how long transfers may go on after SIGTERM"),
    ROW("server", "handshake_timeout", setting_span, handshake_s, 1, 3600,
        "how long a newcomer may take for TLS, and for its HELLO"),
    ROW("server", "login_timeout", setting_span, login_s, 1, 3600,
        "how long a newcomer may take to log in"),
    ROW("vault", "draft_ttl", setting_span, draft_ttl_s, 60, 31536000,
        "how long an unfinished upload is kept"),
    ROW("vault", "buffers", setting_number, buffers, 4, 4096,
        "buffers of 1 MiB for all transfers together"),
    ROW("vault", "quota", setting_bytes, quota_bytes, 0, INT64_MAX,
        "bytes in a new home; 0: no limit"),
    ROW("vault", "quota_files", setting_number, quota_files, 0, INT64_MAX,
        "files in a new home; 0: no limit"),
};
#undef ROW

const struct setting *conf_settings(size_t *ret_count)
{
    *ret_count = sizeof(table) / sizeof(*table);
    return table;
}

void conf_init(struct conf *c)
{
    *c = (struct conf){
        .registration = REGISTRATION_INVITE_ONLY,
        .connections = 1000,
        .grace_s = 10,
        .handshake_s = 10,
        .login_s = 30,
        .draft_ttl_s = 7 * 86400,
        .buffers = 16,
    };
}

void conf_fini(struct conf *c)
{
    keel_free(c->data);
    keel_free(c->config);
    for (unsigned i = 0; i < c->listen_count; i++)
        keel_free(c->listen[i]);
    keel_free(c->listen_setting);
    keel_free(c->public_address);
    keel_free(c->registration_word);
    memset(c, 0, sizeof(*c));
}

static int conf_text(char **field, const char *value, struct problem *why)
{
    char *copy = keel_strdup(value);

    if (!copy)
        return problem(why, NO_MEMORY);
    keel_free(*field);
    *field = copy;
    return 0;
}

static int conf_listen(struct conf *c, const char *address, struct problem *why)
{
    static const char prefix[] = "ferry://";

    if (strncmp(address, prefix, sizeof(prefix) - 1) == 0)
        address += sizeof(prefix) - 1;
    if (strstr(address, "://"))
        return problem(why, USAGE,
                       .detail = "--listen knows the scheme ferry:// only");
    if (c->listen_count == CONF_LISTEN_MOST)
        return problem(why, USAGE, .detail = "more than 16 --listen");
    c->listen[c->listen_count] = NULL;
    c->listen_count++;
    return conf_text(&c->listen[c->listen_count - 1], address, why);
}

static int conf_registration(struct conf *c, const char *word,
                             struct problem *why)
{
    if (strcmp(word, "open") == 0)
        c->registration = REGISTRATION_OPEN;
    else if (strcmp(word, "invite") == 0)
        c->registration = REGISTRATION_INVITE_ONLY;
    else if (strcmp(word, "closed") == 0)
        c->registration = REGISTRATION_CLOSED_;
    else
        return problem(why, USAGE,
                       .detail = "registration is open, invite or closed");
    return 0;
}

/* The file is read before the other options are looked at, so that these win
 * wherever they stand. */
static int conf_file(struct conf *c, struct problem *why)
{
    char *rest = NULL;
    int rc =
        settings_read(c->config, table, sizeof(table) / sizeof(*table), c, why);

    if (rc < 0)
        return rc;
    if (c->registration_word) {
        rc = conf_registration(c, c->registration_word, why);
        if (rc < 0)
            return rc;
    }
    for (char *word =
             c->listen_setting ? strtok_r(c->listen_setting, " ", &rest) : NULL;
         word; word = strtok_r(NULL, " ", &rest)) {
        rc = conf_listen(c, word, why);
        if (rc < 0)
            return rc;
    }
    return 0;
}

enum {
    DATA = 256,
    LISTEN,
    CONFIG,
    REGISTRATION,
    PUBLIC,
    ALLOW_ROOT,
    HELP,
    VERSION
};
static const struct option options[] = {
    {"data", required_argument, NULL, DATA},
    {"listen", required_argument, NULL, LISTEN},
    {"config", required_argument, NULL, CONFIG},
    {"registration", required_argument, NULL, REGISTRATION},
    {"public", required_argument, NULL, PUBLIC},
    {"allow-root", no_argument, NULL, ALLOW_ROOT},
    {"help", no_argument, NULL, HELP},
    {"version", no_argument, NULL, VERSION},
    {NULL, 0, NULL, 0},
};

static int conf_option(struct conf *c, int option, const char *value,
                       bool *first_listen, struct problem *why)
{
    switch (option) {
    case DATA:
        return conf_text(&c->data, value, why);
    case LISTEN:
        /* The command line replaces the file's listeners, not adds to them. */
        while (*first_listen && c->listen_count > 0)
            keel_free(c->listen[--c->listen_count]);
        *first_listen = false;
        return conf_listen(c, value, why);
    case CONFIG:
        return 0; /* read before */
    case REGISTRATION:
        return conf_registration(c, value, why);
    case PUBLIC:
        return conf_text(&c->public_address, value, why);
    case ALLOW_ROOT:
        c->allow_root = true;
        return 0;
    case HELP:
        fputs(help, stdout);
        return 1;
    case VERSION:
        puts("ferryd " FERRYD_VERSION);
        return 1;
    case 'v':
        c->verbose = 1;
        return 0;
    case 'q':
        c->verbose = -1;
        return 0;
    default:
        return problem(why, USAGE, .detail = "an option is wrong");
    }
}

/* One pass over argv; getopt itself says which word it does not know. */
static int conf_pass(struct conf *c, int argc, char **argv, bool config_only,
                     struct problem *why)
{
    bool first_listen = true;
    int option, rc;

    optind = 0;
    opterr = config_only;
    while ((option = getopt_long(argc, argv, "+vq", options, NULL)) != -1) {
        if (option == '?')
            return problem(why, USAGE, .detail = "an option is wrong");
        rc = config_only
                 ? option == CONFIG ? conf_text(&c->config, optarg, why) : 0
                 : conf_option(c, option, optarg, &first_listen, why);
        if (rc != 0)
            return rc;
    }
    if (optind < argc) {
        char detail[128];

        snprintf(detail, sizeof(detail), "'%.60s' is not a command",
                 argv[optind]);
        return problem(why, USAGE, .detail = detail);
    }
    return 0;
}

int conf_parse(struct conf *c, int argc, char **argv, struct problem *why)
{
    int rc = conf_pass(c, argc, argv, true, why);

    if (rc < 0)
        return rc;
    if (c->config) {
        rc = conf_file(c, why);
        if (rc < 0)
            return rc;
    }
    rc = conf_pass(c, argc, argv, false, why);
    if (rc != 0)
        return rc;
    if (!c->data)
        return problem(why, USAGE, .detail = "--data DIR is needed");
    if (c->listen_count == 0)
        return conf_listen(c, "[::]:9001", why);
    return 0;
}
