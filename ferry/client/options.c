/* SPDX-License-Identifier: MIT */
#include "client/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/name.h"
#include "client/text.h"

static const struct option_row rows[] = {
    {OPTION_RECURSIVE, 'r', "recursive", NULL, NULL,
     N_("directories and all that is in them")},
    {OPTION_PARENTS, 'p', "parents", NULL, NULL,
     N_("the directories above too; it may exist already")},
    {OPTION_FORCE, 'f', "force", NULL, NULL,
     N_("ask nothing, and pass over what does not exist")},
    {OPTION_ALL, 'a', "all", NULL, NULL,
     N_("nothing more: names with a dot are always shown")},
    {OPTION_LONG, 'l', "long", NULL, NULL,
     N_("mode, size, date, and where links point")},
    {OPTION_SORT, 0, "sort", N_("KEY"), "name size time",
     N_("name, size or time; largest and newest first")},
    {OPTION_REVERSE, 0, "reverse", NULL, NULL, N_("the other way round")},
    {OPTION_DRY_RUN, 0, "dry-run", NULL, NULL,
     N_("say what would be done, and do nothing")},
    {OPTION_NO_REPLACE, 0, "no-replace", NULL, NULL,
     N_("refuse when the name is taken")},
    {OPTION_IF_MATCH, 0, "if-match", N_("ROOT"), NULL,
     N_("only if the server's file has this hash")},
    {OPTION_EXCLUDE, 0, "exclude", N_("PATTERN"), NULL,
     N_("leave out what matches; the first match decides")},
    {OPTION_INCLUDE, 0, "include", N_("PATTERN"), NULL,
     N_("take what matches, whatever comes later")},
    {OPTION_LEVEL, 0, "level", N_("LEVEL"), "received synced committed",
     N_("received, synced or committed (default)")},
    {OPTION_HASH, 0, "hash", N_("NAME"), "sha256 xxh128",
     N_("sha256 (default) or xxh128")},
    {OPTION_RETRY, 0, "retry", NULL, NULL,
     N_("wait for a lost server, and go on by itself")},
    {OPTION_CONNECTIONS, 'j', "connections", N_("N"), NULL,
     N_("use up to N connections, 1 to 16")},
    {OPTION_QUIET, 'q', "quiet", NULL, NULL, N_("say less")},
    {OPTION_VERBOSE, 'v', "verbose", NULL, NULL, N_("say more")},
    {OPTION_JSON, 0, "json", NULL, NULL,
     N_("one JSON object a line on standard output")},
    {OPTION_AS, 0, "as", N_("PROFILE"), NULL,
     N_("the login (default: FERRY_PROFILE, or the last)")},
    {OPTION_PASSWORD_FILE, 0, "password-file", N_("FILE"), NULL,
     N_("the password (or FERRY_PASSWORD), not asked"), true},
    {OPTION_ACCEPT_KEY, 0, "accept-key", NULL, NULL,
     N_("trust a server whose key is not known yet")},
    {OPTION_NEW_KEY, 0, "new-key", NULL, NULL,
     N_("trust a server whose key has changed")},
    {OPTION_HELP, 'h', "help", NULL, NULL, N_("this help")},
    {OPTION_VERSION, 0, "version", NULL, NULL, N_("the version")},
};
#define ROWS (sizeof(rows) / sizeof(*rows))

const struct option_row *option_at(size_t i)
{
    return i < ROWS ? &rows[i] : NULL;
}

/* ---- what is wrong ------------------------------------------------------------------- */

static int wrong(struct cli *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static int wrong(struct cli *c, const char *format, ...)
{
    char detail[PROBLEM_TEXT_BYTES];
    va_list list;

    va_start(list, format);
    vsnprintf(detail, sizeof(detail), _(format), list);
    va_end(list);
    return problem(c->why, USAGE, .detail = detail);
}

/* Among the options that `options` has; NULL when none is near. */
static const struct option_row *near_option(const char *name, uint64_t options)
{
    const struct option_row *near = NULL;
    unsigned least = 3;

    for (size_t i = 0; i < ROWS; i++) {
        unsigned distance = text_distance(name, rows[i].name);

        if ((rows[i].bit & options) && distance < least &&
            distance < strlen(rows[i].name)) {
            least = distance;
            near = &rows[i];
        }
    }
    return near;
}

static int wrong_name(struct cli *c, const char *name,
                      const struct command *command)
{
    const struct option_row *near = near_option(
        name, OPTIONS_GLOBAL | (command ? command->options : ~(uint64_t)0));

    if (near)
        return wrong(c, N_("there is no option --%.60s; did you mean --%s?"),
                     name, near->name);
    return wrong(c, N_("there is no option --%.60s"), name);
}

/* ---- reading --------------------------------------------------------------------------- */

/* What was read so far.  Options may come before the command that has to know
 * them, so they are looked at again at the end. */
struct reading {
    struct cli *c;
    char **argv;
    int argc, at; /* at: the next word */
    bool named;
    const struct command *command;
    const char *unknown; /* an option that no command has */
    uint64_t given;
};

static bool value_known(const char *values, const char *value)
{
    size_t size = strlen(value);

    for (const char *v = values; *v; v += strcspn(v, " "), v += *v == ' ') {
        if (strcspn(v, " ") == size && strncmp(v, value, size) == 0)
            return true;
    }
    return false;
}

static int filter_add(struct cli *c, const char *pattern, bool include)
{
    if (c->filter_count == FILTERS_MOST)
        return wrong(c, N_("there are more than %u of --exclude and --include"),
                     FILTERS_MOST);
    c->filters[c->filter_count++] = (struct filter){pattern, include};
    return 0;
}

static int connections_read(struct cli *c, const char *value)
{
    char *end;
    long n = strtol(value, &end, 10);

    if (!*value || *end || n < 1 || n > 16)
        return wrong(c, N_("-j is a number from 1 to 16, not '%.60s'"), value);
    c->connections = (unsigned)n;
    return 0;
}

static int option_take(struct reading *r, const struct option_row *o,
                       const char *value)
{
    struct cli *c = r->c;

    if (o->values && !value_known(o->values, value))
        return wrong(c, N_("--%s is one of: %s; not '%.60s'"), o->name,
                     o->values, value);
    r->given |= o->bit;
    switch (o->bit) {
    case OPTION_QUIET:
        c->verbose = -1;
        break;
    case OPTION_VERBOSE:
        c->verbose = 1;
        break;
    case OPTION_JSON:
        c->json = true;
        break;
    case OPTION_AS:
        c->profile = value;
        break;
    case OPTION_PASSWORD_FILE:
        c->password_file = value;
        break;
    case OPTION_ACCEPT_KEY:
        c->accept_key = true;
        break;
    case OPTION_NEW_KEY:
        c->new_key = true;
        break;
    case OPTION_HELP:
        c->help = true;
        break;
    case OPTION_VERSION:
        c->version = true;
        break;
    case OPTION_RECURSIVE:
        c->recursive = true;
        break;
    case OPTION_DRY_RUN:
        c->dry_run = true;
        break;
    case OPTION_PARENTS:
        c->parents = true;
        break;
    case OPTION_FORCE:
        c->yes = true;
        break;
    case OPTION_ALL:
        c->all = true;
        break;
    case OPTION_LONG:
        c->long_list = true;
        break;
    case OPTION_REVERSE:
        c->reverse = true;
        break;
    case OPTION_SORT:
        c->sort = value;
        break;
    case OPTION_NO_REPLACE:
        c->no_replace = true;
        break;
    case OPTION_IF_MATCH:
        c->match = value;
        break;
    case OPTION_LEVEL:
        c->level = value;
        break;
    case OPTION_HASH:
        c->hash = value;
        break;
    case OPTION_RETRY:
        c->retry = true;
        break;
    case OPTION_CONNECTIONS:
        return connections_read(c, value);
    case OPTION_EXCLUDE:
        return filter_add(c, value, false);
    case OPTION_INCLUDE:
        return filter_add(c, value, true);
    }
    return 0;
}

/* The value that a row needs: `rest` behind it in its word, else the next. */
static int option_value(struct reading *r, const struct option_row *o,
                        const char *rest)
{
    if (!rest) {
        if (r->at == r->argc)
            return o->letter ? wrong(r->c, N_("-%c needs a value: %s"),
                                     o->letter, _(o->value))
                             : wrong(r->c, N_("--%s needs a value: %s"),
                                     o->name, _(o->value));
        rest = r->argv[r->at++];
    }
    return option_take(r, o, rest);
}

static int read_long(struct reading *r, const char *word)
{
    const char *equals = strchr(word, '=');
    size_t size = equals ? (size_t)(equals - word) : strlen(word);

    for (size_t i = 0; i < ROWS; i++) {
        const struct option_row *o = &rows[i];

        if (strlen(o->name) != size || strncmp(o->name, word, size) != 0)
            continue;
        if (o->value)
            return option_value(r, o, equals ? equals + 1 : NULL);
        if (equals)
            return wrong(r->c, N_("--%s takes no value"), o->name);
        return option_take(r, o, NULL);
    }
    if (!r->unknown)
        r->unknown = word;
    return 0;
}

static int read_letters(struct reading *r, const char *word)
{
    while (*word) {
        const struct option_row *o = NULL;
        int rc;

        for (size_t i = 0; i < ROWS && !o; i++) {
            if (rows[i].letter == *word)
                o = &rows[i];
        }
        if (!o)
            return wrong(r->c, N_("there is no option -%.*s"),
                         (int)(text_utf8(word, strlen(word))
                                   ? text_utf8(word, strlen(word))
                                   : 1),
                         word);
        word++;
        if (o->value)
            return option_value(r, o, *word ? word : NULL);
        rc = option_take(r, o, NULL);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int options_wrong_command(struct cli *c, const char *name)
{
    const char *near = NULL;
    unsigned least = 3;

    for (size_t i = 0; command_at(i); i++) {
        const struct command *k = command_at(i);
        unsigned distance = text_distance(name, k->name);

        if (!k->hidden && distance < least && distance < strlen(k->name)) {
            least = distance;
            near = k->name;
        }
    }
    if (near)
        return wrong(c, N_("'%.60s' is not a command; did you mean '%s'?"),
                     name, near);
    return wrong(c, N_("'%.60s' is not a command"), name);
}

static int read_word(struct reading *r, char *word, bool options)
{
    struct cli *c = r->c;

    if (options && word[0] == '-' && word[1] == '-')
        return read_long(r, word + 2);
    if (options && word[0] == '-' && word[1])
        return read_letters(r, word + 1);
    if (r->named && !r->command) {
        r->command = command_find(word);
        return r->command ? 0 : options_wrong_command(c, word);
    }
    c->argv[c->argc++] = word;
    return 0;
}

/* Every option that was given belongs to the command. */
static int given_check(struct reading *r)
{
    uint64_t may = OPTIONS_GLOBAL;

    if (r->unknown) {
        char name[64];

        snprintf(name, sizeof(name), "%.*s", (int)strcspn(r->unknown, "="),
                 r->unknown);
        return wrong_name(r->c, name, r->command);
    }
    if (!r->command)
        return 0;
    may |= r->command->options;
    for (size_t i = 0; i < ROWS; i++) {
        const struct option_row *o = &rows[i];

        if ((r->given & ~may & o->bit) == 0)
            continue;
        if (o->letter)
            return wrong(r->c, N_("'%s' takes no option -%c, --%s"),
                         r->command->name, o->letter, o->name);
        return wrong(r->c, N_("'%s' takes no option --%s"), r->command->name,
                     o->name);
    }
    return 0;
}

static int count_check(struct reading *r)
{
    const struct command *k = r->command;
    struct cli *c = r->c;

    if (!k || c->help || c->version)
        return 0;
    if (c->argc < k->least)
        return wrong(c, N_("%s: an argument is missing"), k->name);
    if (k->most >= 0 && c->argc > k->most)
        return wrong(c, N_("%s: '%.60s' is one argument too many"), k->name,
                     c->argv[k->most]);
    return 0;
}

int options_parse(struct cli *c, int argc, char **argv, bool named,
                  const struct command **ret_command)
{
    struct reading r = {.c = c, .argv = argv, .argc = argc, .at = 1};
    bool options = true;
    int rc = 0;

    r.named = named;
    if (!named)
        r.command = *ret_command;
    c->argc = 0;
    /* Arguments move towards the front, never past the word being read. */
    c->argv = argv + 1;
    while (rc == 0 && r.at < argc) {
        char *word = argv[r.at++];

        if (options && strcmp(word, "--") == 0)
            options = false;
        else
            rc = read_word(&r, word, options);
    }
    *ret_command = r.command;
    if (r.command && r.command->answers && c->verbose < 0)
        c->verbose = 0;
    if (rc == 0)
        rc = given_check(&r);
    return rc < 0 ? rc : count_check(&r);
}

/* ---- help ---------------------------------------------------------------------------- */

void options_help(uint64_t options, FILE *to)
{
    for (size_t i = 0; i < ROWS; i++) {
        const struct option_row *o = &rows[i];
        char left[64], letter[8] = "    ";

        if ((o->bit & options) == 0)
            continue;
        if (o->letter)
            snprintf(letter, sizeof(letter), "-%c, ", o->letter);
        snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name,
                 o->value ? " " : "", o->value ? _(o->value) : "");
        fprintf(to, "  %s", left);
        text_pad(left, 26, to);
        fprintf(to, "%s\n", _(o->help));
    }
}
