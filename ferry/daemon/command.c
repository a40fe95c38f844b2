/* SPDX-License-Identifier: MIT */
#include "daemon/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/system.h>

#include "base/environment.h"
#include "base/log.h"
#include "base/name.h"
#include "base/streams.h"
#include "daemon/data.h"
#include "daemon/house.h"
#include "daemon/secret.h"
#include "daemon/table.h"

#define INVITE_DAYS 7
/* How long a daemon may take from its lock to its socket, and a command that
 * has the lock to its end. */
#define BUSY_TIME (10 * KEEL_SECOND)

static const struct {
    const char *name, *help;
} groups[] = {
    {"user", help_user},         {"space", help_space},
    {"invite", help_invite},     {"uploads", help_uploads},
    {"sessions", help_sessions}, {"check", help_check},
    {"stats", help_stats},
};
static const struct command *const tables[] = {people_commands, space_commands,
                                               uploads_commands, look_commands};

static const char *group_help(const char *word)
{
    for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++) {
        if (strcmp(groups[i].name, word) == 0)
            return groups[i].help;
    }
    return NULL;
}

bool command_is(const char *word)
{
    return group_help(word) != NULL;
}

bool command_first(int argc, char **argv)
{
    char *word;
    int at = 1;

    for (; at < argc && argv[at][0] == '-'; at++) {
        if (strcmp(argv[at], "--data") == 0)
            at++;
        else if (strncmp(argv[at], "--data=", 7) != 0 &&
                 strcmp(argv[at], "--json") != 0)
            return false;
    }
    if (at >= argc || !command_is(argv[at]))
        return false;
    word = argv[at];
    memmove(argv + 2, argv + 1, (size_t)(at - 1) * sizeof(*argv));
    argv[1] = word;
    return true;
}

const char *command_near(const char *word)
{
    const char *near = NULL;
    unsigned least = 3; /* further away it is no slip */

    for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++) {
        unsigned distance = text_distance(word, groups[i].name);

        if (distance < least) {
            least = distance;
            near = groups[i].name;
        }
    }
    return near;
}

/* ---- options ------------------------------------------------------------------ */

enum {
    DATA = 256,
    JSON,
    HELP,
    PUBLIC,
    PASSWORD_FILE,
    PATH,
    OWNER,
    PROMETHEUS,
    ADMIN,
    INVITE,
    EVERYBODY,
    REPAIR,
    USES,
    EXPIRES,
    BYTES,
    FILES,
    YES
};
static const struct option options[] = {
    {"data", required_argument, NULL, DATA},
    {"json", no_argument, NULL, JSON},
    {"help", no_argument, NULL, HELP},
    {"public", required_argument, NULL, PUBLIC},
    {"password-file", required_argument, NULL, PASSWORD_FILE},
    {"path", required_argument, NULL, PATH},
    {"owner", required_argument, NULL, OWNER},
    {"prometheus", no_argument, NULL, PROMETHEUS},
    {"admin", no_argument, NULL, ADMIN},
    {"invite", no_argument, NULL, INVITE},
    {"everybody", no_argument, NULL, EVERYBODY},
    {"repair", no_argument, NULL, REPAIR},
    {"uses", required_argument, NULL, USES},
    {"expires", required_argument, NULL, EXPIRES},
    {"bytes", required_argument, NULL, BYTES},
    {"files", required_argument, NULL, FILES},
    {"yes", no_argument, NULL, YES},
    {NULL, 0, NULL, 0},
};

/* Who takes an option that not all take. */
static unsigned takers(int option)
{
    switch (option) {
    case PUBLIC:
        return TAKES_PUBLIC;
    case PASSWORD_FILE:
        return TAKES_PASSWORD;
    case PATH:
        return TAKES_PATH;
    case OWNER:
        return TAKES_OWNER;
    case PROMETHEUS:
        return TAKES_PROMETHEUS;
    case ADMIN:
        return TAKES_ADMIN;
    case INVITE:
        return TAKES_INVITE;
    case EVERYBODY:
        return TAKES_EVERYBODY;
    case REPAIR:
        return TAKES_REPAIR;
    case USES:
        return TAKES_USES;
    case EXPIRES:
        return TAKES_EXPIRES;
    case YES:
        return TAKES_YES;
    case BYTES:
    case FILES:
        return TAKES_QUOTA;
    default:
        return ~0u;
    }
}

int option_wrong(int what, int argc, char **argv, struct problem *why)
{
    char word[64], detail[128];
    /* A long option was consumed, a letter inside a word not always. */
    const char *bad =
        optind > 0 && optind <= argc ? argv[optind - 1] : argv[argc - 1];

    text_escape(bad, strnlen(bad, 48), word, sizeof(word));
    if (what == ':')
        snprintf(detail, sizeof(detail), "%s needs a value", word);
    else if (optopt >= 256)
        snprintf(detail, sizeof(detail), "%s takes no value", word);
    else
        snprintf(detail, sizeof(detail), "there is no option %s", word);
    return problem(why, USAGE, .detail = detail);
}

int option_value(setting_reader *read, const char *name, int64_t low,
                 int64_t high, const char *value, int64_t *ret,
                 struct problem *why)
{
    char key[32], detail[240];
    struct setting s = {.key = key, .low = low, .high = high};

    snprintf(key, sizeof(key), "--%s", name); /* its words begin with it */
    if (read(&s, value, ret, detail, sizeof(detail)) == 0)
        return 0;
    return problem(why, USAGE, .detail = detail);
}

static int order_option(struct order *o, int option, struct problem *why)
{
    switch (option) {
    case DATA:
        o->data = optarg;
        return 0;
    case JSON:
        o->json = true;
        return 0;
    case PUBLIC:
        o->public_address = optarg;
        return 0;
    case PASSWORD_FILE:
        o->password_file = optarg;
        return 0;
    case PATH:
        o->path = optarg;
        return 0;
    case OWNER:
        o->owner = optarg;
        return 0;
    case PROMETHEUS:
        o->prometheus = true;
        return 0;
    case ADMIN:
        o->admin = true;
        return 0;
    case INVITE:
        o->invite = true;
        return 0;
    case EVERYBODY:
        o->everybody = true;
        return 0;
    case REPAIR:
        o->repair = true;
        return 0;
    case YES:
        o->yes = true;
        return 0;
    case USES:
        return option_value(setting_number, "uses", 1, INVITE_USES_MOST, optarg,
                            &o->uses, why);
    case EXPIRES:
        return option_value(setting_span, "expires", 60, INVITE_LIFETIME_MOST,
                            optarg, &o->lifetime_s, why);
    case BYTES:
        return option_value(setting_bytes, "bytes", 0, INT64_MAX, optarg,
                            &o->quota_bytes, why);
    default:
        return option_value(setting_number, "files", 0, INT64_MAX, optarg,
                            &o->quota_files, why);
    }
}

/* Reads the options, and leaves the words at the end of argv. */
static int order_options(struct order *o, int argc, char **argv,
                         unsigned *ret_given, struct problem *why)
{
    int option, rc;

    optind = 0;
    opterr = 0;
    *ret_given = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == '?' || option == ':')
            return option_wrong(option, argc, argv, why);
        if (option == HELP) {
            fputs(group_help(argv[0]), stdout);
            return 1;
        }
        rc = order_option(o, option, why);
        if (rc < 0)
            return rc;
        if (takers(option) != ~0u)
            *ret_given |= takers(option);
    }
    return 0;
}

static const struct command *command_find(const char *group, const char *name)
{
    for (size_t t = 0; t < sizeof(tables) / sizeof(*tables); t++) {
        for (const struct command *c = tables[t]; c->group; c++) {
            if (strcmp(c->group, group) == 0 &&
                (c->name ? name && strcmp(c->name, name) == 0
                         : !name || !command_find(group, NULL)))
                return c;
        }
    }
    return NULL;
}

static int usage(const struct command *c, struct problem *why)
{
    char detail[256];

    snprintf(detail, sizeof(detail), "usage: ferryd %s%s%s%s%s --data DIR",
             c->group, c->name ? " " : "", c->name ? c->name : "",
             c->words[0] ? " " : "", c->words);
    return problem(why, USAGE, .detail = detail);
}

/* Which command it is, and whether words and options fit it. */
static int order_parse(struct order *o, int argc, char **argv,
                       const struct command **ret, struct problem *why)
{
    const struct command *c;
    char detail[256];
    unsigned given;
    int rc = order_options(o, argc, argv, &given, why);

    if (rc != 0)
        return rc;
    c = command_find(argv[0], optind < argc ? argv[optind] : NULL);
    if (c && c->name)
        optind++;
    if (!c)
        c = command_find(argv[0], NULL);
    if (!c) {
        char word[64] = "";

        if (optind < argc)
            text_escape(argv[optind], strnlen(argv[optind], 48), word,
                        sizeof(word));
        snprintf(detail, sizeof(detail),
                 optind < argc ? "'%s' is no command of ferryd %s"
                               : "%sferryd %s needs a command",
                 word, argv[0]);
        return problem(why, USAGE, .detail = detail);
    }
    if (given & ~c->takes || (unsigned)(argc - optind) < c->least ||
        (unsigned)(argc - optind) > c->most)
        return usage(c, why);
    if (!o->data)
        return problem(why, USAGE,
                       .detail = "--data DIR is needed: the server's "
                                 "directory");
    while (optind < argc)
        o->words[o->count++] = argv[optind++];
    *ret = c;
    return 0;
}

/* ---- running --------------------------------------------------------------------- */

/* Root keeps its hands off what is somebody else's: files made here belong to
 * the owner of DATA, as if the daemon had made them. */
static int become_owner(const struct order *o)
{
    keel_auto(file) int dir = -1;
    struct statx st;
    int rc;

    if (!keel_is_root())
        return 0;
    dir = keel_file_open_any(o->data, O_RDONLY | O_DIRECTORY, 0);
    rc = dir < 0 ? dir : keel_file_stat(dir, NULL, &st);
    if (rc == 0 && st.stx_uid != 0)
        rc = keel_become(st.stx_uid, st.stx_gid);
    if (rc < 0)
        return problem(o->why, DATA_ACCESS, .errno_ = -rc, .name = o->data);
    return 0;
}

struct running {
    struct order *order;
    const struct command *command;
};

static int command_main(void *arg)
{
    struct running *r = arg;

    return r->command->run(r->order);
}

int command_run(int argc, char **argv, struct problem *why)
{
    struct order o = {.uses = 1,
                      .lifetime_s = (int64_t)INVITE_DAYS * 86400,
                      .quota_bytes = -1,
                      .quota_files = -1,
                      .why = why};
    struct running r = {&o, NULL};
    int rc = order_parse(&o, argc, argv, &r.command, why), lost;

    if (rc != 0)
        return rc;
    log_open(2, LOG_WARN);
    /* A password file may be root's own: read before becoming another. */
    if (r.command->takes & TAKES_PASSWORD && !o.invite) {
        rc = secret_ask(o.password_file, o.words[0], &o.scram, why);
        if (rc < 0)
            return rc;
    }
    rc = become_owner(&o);
    if (rc == 0)
        rc = keel_run(command_main, &r);
    if (rc < 0 && why->id == PROBLEM_NONE)
        run_failed(rc, "the loop", why);
    json_decref(o.scram);
    lost = rc >= 0 ? streams_end() : 0;
    if (lost)
        rc =
            problem(why, FILE_LOCAL, .errno_ = lost, .name = "standard output");
    return rc;
}

static int ask_online(struct order *o, const json_t *request,
                      const struct teller *t, json_t **ret_ok)
{
    keel_auto(file) int dir =
        keel_file_open_any(o->data, O_RDONLY | O_DIRECTORY, 0);

    if (dir < 0)
        return problem(o->why, DATA_ACCESS, .errno_ = -dir, .name = o->data);
    return admin_ask(dir, request, t, ret_ok, o->why);
}

static int ask_offline(struct order *o, struct data *d, const json_t *request,
                       const struct teller *t, json_t **ret_ok)
{
    struct house h = {0};
    int rc = house_open(&h, d, o->public_address, o->why);

    if (rc == 0)
        rc = admin_answer(&h, request, t, ret_ok, o->why);
    house_close(&h);
    return rc;
}

int command_ask(struct order *o, json_t *request,
                int (*row)(const json_t *row, void *arg), void *arg,
                json_t **ret_ok)
{
    keel_ns patience = keel_after(BUSY_TIME);
    struct teller t = {row, arg};
    json_t *ok = NULL;
    struct data d;
    int rc;

    if (!request)
        return problem(o->why, NO_MEMORY);
    for (;;) {
        rc = data_open(o->data, false, &d, o->why);
        if (rc == 0) {
            rc = ask_offline(o, &d, request, &t, &ok);
            data_close(&d);
            break;
        }
        if (o->why->id != PROBLEM_DATA_LOCKED)
            break;
        rc = ask_online(o, request, &t, &ok);
        /* It starts, or ends, or is a command like this one. */
        if (o->why->id != PROBLEM_CONNECT_FAILED || rc == 0 ||
            keel_now() > patience)
            break;
        *o->why = (struct problem){0};
        if (keel_sleep(keel_after(50 * KEEL_MS)) < 0)
            break;
    }
    if (rc == 0)
        *o->why = (struct problem){0};
    json_decref(request);
    if (rc == 0 && ret_ok)
        *ret_ok = ok;
    else
        json_decref(ok);
    return rc;
}

int command_print(const json_t *j, struct problem *why)
{
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

    if (!text)
        return problem(why, NO_MEMORY);
    puts(text);
    free(text);
    return 0;
}

int command_print_problem(const struct problem *p)
{
    json_t *said = json_pack("{s:o}", "problem", problem_to_people(p));
    int rc = command_print(said, NULL);

    json_decref(said);
    return rc;
}

int command_show(struct order *o, json_t *request,
                 void (*say)(const json_t *ok))
{
    json_t *ok = NULL;
    int rc = command_ask(o, request, NULL, NULL, &ok);

    if (rc == 0 && o->json)
        rc = command_print(ok, o->why);
    else if (rc == 0)
        say(ok);
    json_decref(ok);
    return rc;
}

int command_tell(struct order *o, json_t *request, const char *mark,
                 const char *done)
{
    json_t *ok = NULL;
    int rc = command_ask(o, request, NULL, NULL, &ok);

    if (rc == 0 && o->json)
        rc = command_print(ok, o->why);
    else if (rc == 0)
        printf("%s%s: %s\n", mark, row_text(ok, "name"), done);
    json_decref(ok);
    return rc;
}

static int print_row(const json_t *row, void *arg)
{
    (void)arg;
    return command_print(row, NULL);
}

int command_list(struct order *o, json_t *request, const char *const *heads,
                 int (*row)(const json_t *row, void *table), const char *none)
{
    struct table t;
    int rc;

    table_init(&t, heads);
    rc = command_ask(o, request, o->json ? print_row : row, &t, NULL);
    if (rc == 0 && !o->json && table_print(&t, none) < 0)
        rc = problem(o->why, NO_MEMORY);
    table_fini(&t);
    return rc;
}

json_t *command_about(const struct order *o, const char *what, const char *name)
{
    json_t *j = json_pack("{s:s, s:s}", "do", what, "name", name);

    if (o->quota_bytes >= 0)
        json_add(&j, "quota_bytes", json_integer(o->quota_bytes));
    if (o->quota_files >= 0)
        json_add(&j, "quota_files", json_integer(o->quota_files));
    return j;
}
