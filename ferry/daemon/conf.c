/* SPDX-License-Identifier: MIT */
#include "daemon/conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/name.h"
#include "daemon/command.h"

static const char help[] =
    "usage: ferryd --data DIR [option]...\n"
    "       ferryd COMMAND ... --data DIR\n"
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
    "  --settings              print a settings file with every setting\n"
    "  --help, --version\n"
    "\n"
    "Administration, while it runs or not; each has a --help of its own:\n"
    "  ferryd user add|list|passwd|disable|enable|delete|quota\n"
    "  ferryd space add|list|grants|grant|revoke|quota|delete\n"
    "  ferryd invite\n"
    "  ferryd uploads [list|drop]\n"
    "  ferryd sessions [list|kick]\n"
    "  ferryd check\n"
    "  ferryd stats\n"
    "\n"
    "The first start writes an invite for an administrator to\n"
    "DATA/first-invite.  SIGTERM lets transfers finish and stops, a second "
    "one\n"
    "stops at once; SIGHUP reads the settings file again.\n"
    "\n"
    "Examples:\n"
    "  ferryd --data /srv/ferry --public files.example.org\n"
    "  ferryd --data /srv/ferry --config /etc/ferry/ferryd.conf\n"
    "  ferryd invite --data /srv/ferry\n";

/* ---- the table --------------------------------------------------------------- */

static int refuse(char *ret_error, size_t error_size, const char *words)
{
    snprintf(ret_error, error_size, "%s", words);
    return -EINVAL;
}

static int registration_parse(const char *word, enum registration *ret)
{
    if (strcmp(word, "open") == 0)
        *ret = REGISTRATION_OPEN;
    else if (strcmp(word, "invite") == 0)
        *ret = REGISTRATION_INVITE_ONLY;
    else if (strcmp(word, "closed") == 0)
        *ret = REGISTRATION_CLOSED_;
    else
        return -EINVAL;
    return 0;
}

static int read_registration(const struct setting *s, const char *value,
                             void *field, char *ret_error, size_t error_size)
{
    (void)s;
    if (registration_parse(value, field) < 0)
        return refuse(ret_error, error_size,
                      "registration is open, invite or closed");
    return 0;
}

static int read_level(const struct setting *s, const char *value, void *field,
                      char *ret_error, size_t error_size)
{
    (void)s;
    if (log_level_parse(value, field) < 0)
        return refuse(ret_error, error_size,
                      "log_level is error, warn, info or debug");
    return 0;
}

#define SCHEME "ferry://"

/* What is wrong with it, or NULL.  A host of digits and dots is an address, not
 * a name that somebody's resolver might know. */
static const char *listen_wrong(const char *address)
{
    const char *colon = strrchr(address, ':');
    size_t size = colon ? (size_t)(colon - address) : 0;
    char host[HOST_BYTES + 3];
    struct in6_addr any;
    char *end;

    if (strstr(address, "://"))
        return "has a scheme other than " SCHEME;
    if (!colon || size == 0)
        return "is not HOST:PORT, such as 127.0.0.1:9001 or [::]:9001";
    if (strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strlen(colon + 1) - 1 > 4 || strtoul(colon + 1, &end, 10) > 65535)
        return "has no port of 0 to 65535";
    if (size >= sizeof(host))
        return "has a host that is too long";
    memcpy(host, address, size);
    host[size] = 0;
    if (host[0] == '[') {
        if (host[size - 1] != ']')
            return "has a [ without its ]";
        host[size - 1] = 0;
        host[strcspn(host, "%")] = 0; /* fe80::1%eth0 */
        return inet_pton(AF_INET6, host + 1, &any) == 1
                   ? NULL
                   : "has no IPv6 address between its brackets";
    }
    if (strchr(host, ':'))
        return "has an IPv6 address without brackets: [::1]:9001";
    if (strspn(host, "0123456789.") == size &&
        inet_pton(AF_INET, host, &any) != 1)
        return "has a host that is no IPv4 address";
    return NULL;
}

/* "ferry://" before it is fine: the address itself in `ret`. */
static int listen_check(const char *word, const char **ret, char *ret_error,
                        size_t error_size)
{
    const char *address = word, *wrong;
    char shown[160];

    if (strncmp(word, SCHEME, strlen(SCHEME)) == 0)
        address += strlen(SCHEME);
    wrong = listen_wrong(address);
    if (wrong) {
        text_escape(word, strnlen(word, 80), shown, sizeof(shown));
        snprintf(ret_error, error_size, "'%s' %s", shown, wrong);
        return -EINVAL;
    }
    *ret = address;
    return 0;
}

static int read_listen(const struct setting *s, const char *value, void *field,
                       char *ret_error, size_t error_size)
{
    keel_auto(str) char *words = keel_strdup(value);
    unsigned count = 0;
    char *rest = NULL;

    if (!words)
        return -ENOMEM;
    for (char *word = strtok_r(words, " ", &rest); word;
         word = strtok_r(NULL, " ", &rest)) {
        const char *address;
        char error[256];
        int rc = listen_check(word, &address, error, sizeof(error));

        if (rc < 0) {
            snprintf(ret_error, error_size, "listen: %.250s", error);
            return rc;
        }
        if (++count > CONF_LISTEN_MOST)
            return refuse(ret_error, error_size, "more than 16 listeners");
    }
    return setting_text(s, value, field, ret_error, error_size);
}

static int public_check(const char *value, char *ret_error, size_t error_size)
{
    char server[SERVER_BYTES], shown[160];

    if (server_parse(value, strlen(value), server, NULL) == 0)
        return 0;
    text_escape(value, strnlen(value, 80), shown, sizeof(shown));
    snprintf(ret_error, error_size,
             "public: '%s' is not HOST, HOST:PORT or [V6]:PORT", shown);
    return -EINVAL;
}

/* Empty is none. */
static int read_public(const struct setting *s, const char *value, void *field,
                       char *ret_error, size_t error_size)
{
    int rc = *value ? public_check(value, ret_error, error_size) : 0;

    return rc < 0 ? rc : setting_text(s, value, field, ret_error, error_size);
}

#define ROW(section, key, read, field, low, high, help)                        \
    {                                                                          \
        section, key, read, offsetof(struct conf, field), low, high, help      \
    }
static const struct setting table[] = {
    ROW("server", "listen", read_listen, listen_setting, 0, 4096,
        "where to listen: HOST:PORT, several separated by blanks"),
    ROW("server", "public", read_public, public_address, 0, 262,
        "the address that invites carry: HOST[:PORT]"),
    ROW("server", "registration", read_registration, registration, 0, 0,
        "who may make an account: open, invite or closed"),
    ROW("server", "connections", setting_number, connections, 1, 1000000,
        "most connections at once"),
    ROW("server", "sessions", setting_number, sessions, 0, 1000000,
        "most connections of one account at once; 0: no limit"),
    ROW("server", "loops", setting_number, loops, 0, 64,
        "threads that serve connections; 0: one per processor, up to 4"),
    ROW("server", "grace", setting_span, grace_s, 0, 86400,
        "how long transfers may go on after SIGTERM"),
    ROW("server", "handshake_timeout", setting_span, handshake_s, 1, 3600,
        "how long a newcomer may take for TLS, and for its HELLO"),
    ROW("server", "login_timeout", setting_span, login_s, 1, 3600,
        "how long a newcomer may take to log in"),
    ROW("server", "log", setting_text, log, 0, 4096,
        "the log's file; without it, standard error"),
    ROW("server", "log_level", read_level, level, 0, 0,
        "how much is logged: error, warn, info or debug"),
    ROW("vault", "draft_ttl", setting_span, draft_ttl_s, 60, 31536000,
        "how long an unfinished upload is kept"),
    ROW("vault", "buffers", setting_number, buffers, 4, 4096,
        "buffers of 1 MiB for all transfers together"),
    ROW("vault", "quota", setting_bytes, quota_bytes, 0, INT64_MAX,
        "bytes in a new home; 0: no limit"),
    ROW("vault", "quota_files", setting_number, quota_files, 0, INT64_MAX,
        "names (files, directories, links) in a new home; 0: no limit but, "
        "where "
        "quota is\n# set, one for every 4 KiB of it, and 10,000 at least"),
};
#undef ROW
#define SETTINGS (sizeof(table) / sizeof(*table))

const struct setting *conf_settings(size_t *ret_count)
{
    *ret_count = SETTINGS;
    return table;
}

/* Sockets, threads and memory are made once. */
bool conf_live(const struct setting *s)
{
    static const char *const fixed[] = {"listen", "public", "loops", "buffers"};

    for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed); i++) {
        if (strcmp(s->key, fixed[i]) == 0)
            return false;
    }
    return true;
}

static bool is_text(const struct setting *s)
{
    return s->read == setting_text || s->read == read_listen ||
           s->read == read_public;
}

static const void *field_of(const struct setting *s, const struct conf *c)
{
    return (const char *)c + s->field;
}

bool conf_differ(const struct setting *s, const struct conf *a,
                 const struct conf *b)
{
    if (is_text(s)) {
        const char *x = *(char *const *)field_of(s, a);
        const char *y = *(char *const *)field_of(s, b);

        return strcmp(x ? x : "", y ? y : "") != 0;
    }
    if (s->read == read_registration)
        return a->registration != b->registration;
    if (s->read == read_level)
        return conf_level(a) != conf_level(b);
    return *(const int64_t *)field_of(s, a) != *(const int64_t *)field_of(s, b);
}

static void default_print(const struct setting *s, const struct conf *c,
                          char *ret, size_t size)
{
    static const char *const registrations[] = {
        [REGISTRATION_OPEN] = "open",
        [REGISTRATION_INVITE_ONLY] = "invite",
        [REGISTRATION_CLOSED_] = "closed",
    };

    if (s->read == read_listen)
        snprintf(ret, size, "[::]:9001");
    else if (s->field == offsetof(struct conf, public_address))
        snprintf(ret, size, "files.example.org");
    else if (s->field == offsetof(struct conf, log))
        snprintf(ret, size, "/var/log/ferry/ferryd.log");
    else if (s->read == read_registration)
        snprintf(ret, size, "%s", registrations[c->registration]);
    else if (s->read == read_level)
        snprintf(ret, size, "%s", log_level_name(c->level));
    else
        setting_print(s, field_of(s, c), ret, size);
}

void conf_example(FILE *out)
{
    const char *section = "";
    struct conf c;

    conf_init(&c);
    fputs("# Settings of ferryd, each with its default; ferryd.conf(5).\n"
          "# SIGHUP reads this file again, and what says \"at the start\" "
          "counts at the\n# next one.  The command line wins over it.\n",
          out);
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &table[i];
        char value[64];

        if (strcmp(section, s->section) != 0)
            fprintf(out, "\n[%s]\n", s->section);
        section = s->section;
        default_print(s, &c, value, sizeof(value));
        fprintf(out, "# %s%s\n#%s = %s\n", s->help,
                conf_live(s) ? "" : " (at the start)", s->key, value);
    }
    conf_fini(&c);
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
        .level = LOG_INFO,
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
    keel_free(c->log);
    memset(c, 0, sizeof(*c));
}

enum log_level conf_level(const struct conf *c)
{
    return c->verbose > 0 ? LOG_DEBUG : c->verbose < 0 ? LOG_WARN : c->level;
}

/* ---- reading --------------------------------------------------------------------- */

static int conf_text(char **field, const char *value, struct problem *why)
{
    char *copy = keel_strdup(value);

    if (!copy)
        return problem(why, NO_MEMORY);
    keel_free(*field);
    *field = copy;
    return 0;
}

static int conf_listen(struct conf *c, const char *word, struct problem *why)
{
    const char *address;
    char error[240], detail[256];

    if (listen_check(word, &address, error, sizeof(error)) < 0) {
        snprintf(detail, sizeof(detail), "--listen: %s", error);
        return problem(why, USAGE, .detail = detail);
    }
    if (c->listen_count == CONF_LISTEN_MOST)
        return problem(why, USAGE, .detail = "more than 16 --listen");
    c->listen[c->listen_count] = NULL;
    c->listen_count++;
    return conf_text(&c->listen[c->listen_count - 1], address, why);
}

static int conf_public(struct conf *c, const char *value, struct problem *why)
{
    char error[240], detail[256];

    if (*value && public_check(value, error, sizeof(error)) < 0) {
        snprintf(detail, sizeof(detail), "--%s", error);
        return problem(why, USAGE, .detail = detail);
    }
    return conf_text(&c->public_address, value, why);
}

static void conf_unlisten(struct conf *c)
{
    while (c->listen_count > 0)
        keel_free(c->listen[--c->listen_count]);
    keel_free(c->listen_setting);
    c->listen_setting = NULL;
}

/* An empty text means that there is none. */
static void conf_empty(char **field)
{
    if (*field && !**field) {
        keel_free(*field);
        *field = NULL;
    }
}

/* The file is read before the other options are looked at, so that these win
 * wherever they stand. */
static int conf_file(struct conf *c, struct problem *why)
{
    keel_auto(str) char *words = NULL;
    char *rest = NULL;
    int rc = settings_read(c->config, table, SETTINGS, c, why);

    if (rc < 0)
        return rc;
    conf_empty(&c->log);
    conf_empty(&c->public_address);
    conf_empty(&c->listen_setting);
    if (!c->listen_setting)
        return 0;
    words = keel_strdup(c->listen_setting);
    if (!words)
        return problem(why, NO_MEMORY);
    for (char *word = strtok_r(words, " ", &rest); word;
         word = strtok_r(NULL, " ", &rest)) {
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
    SETTINGS_FILE,
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
    {"settings", no_argument, NULL, SETTINGS_FILE},
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
        if (*first_listen)
            conf_unlisten(c);
        *first_listen = false;
        return conf_listen(c, value, why);
    case CONFIG:
        return 0; /* read before */
    case REGISTRATION:
        if (registration_parse(value, &c->registration) < 0)
            return problem(why, USAGE,
                           .detail = "registration is open, invite or closed");
        return 0;
    case PUBLIC:
        return conf_public(c, value, why);
    case ALLOW_ROOT:
        c->allow_root = true;
        return 0;
    case 'v':
        c->verbose = 1;
        return 0;
    default: /* -q; the others were answered before */
        c->verbose = -1;
        return 0;
    }
}

/* What needs nothing else: it is answered before a settings file is read. */
static bool conf_answer(int option)
{
    if (option == HELP)
        fputs(help, stdout);
    else if (option == VERSION)
        puts("ferryd " FERRYD_VERSION);
    else if (option == SETTINGS_FILE)
        conf_example(stdout);
    else
        return false;
    return true;
}

/* One pass over argv: the first takes --config only. */
static int conf_pass(struct conf *c, int argc, char **argv, bool first,
                     struct problem *why)
{
    bool first_listen = true;
    int option, rc;

    optind = 0;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "+:vq", options, NULL)) != -1) {
        if (option == '?' || option == ':')
            return option_wrong(option, argc, argv, why);
        if (first && conf_answer(option))
            return 1;
        rc = 0;
        if (!first)
            rc = conf_option(c, option, optarg, &first_listen, why);
        else if (option == CONFIG)
            rc = conf_text(&c->config, optarg, why);
        if (rc < 0)
            return rc;
    }
    if (optind < argc) {
        const char *near = command_near(argv[optind]);
        char word[128], detail[200];

        text_escape(argv[optind], strnlen(argv[optind], 60), word,
                    sizeof(word));
        if (command_is(argv[optind]))
            snprintf(detail, sizeof(detail),
                     "a command comes first: 'ferryd %s ... --data DIR'", word);
        else if (near)
            snprintf(detail, sizeof(detail),
                     "'%s' is not a command; did you mean '%s'?", word, near);
        else
            snprintf(detail, sizeof(detail), "'%s' is not a command", word);
        return problem(why, USAGE, .detail = detail);
    }
    return 0;
}

int conf_parse(struct conf *c, int argc, char **argv, struct problem *why)
{
    int rc = conf_pass(c, argc, argv, true, why);

    if (rc != 0)
        return rc;
    if (c->config) {
        rc = conf_file(c, why);
        if (rc < 0)
            return rc;
    }
    rc = conf_pass(c, argc, argv, false, why);
    if (rc < 0)
        return rc;
    if (!c->data)
        return problem(why, USAGE, .detail = "--data DIR is needed");
    if (c->listen_count == 0)
        return conf_listen(c, "[::]:9001", why);
    return 0;
}
