/* SPDX-License-Identifier: MIT */
/* Completion for shells: the scripts in dist/completions are printed by `ferry
 * completion SHELL`, made of the tables of commands and options, and ask `ferry
 * complete-names KIND PREFIX` for what changes, which is hidden. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"
#include "client/listing.h"
#include "client/options.h"

#define NAMES_MOST 2000

/* ---- words for scripts -------------------------------------------------------------------- */

/* Inside '...' of sh and zsh: it's -> it'\''s; of fish: it\'s. */
static void quoted(const char *text, bool fish)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs(fish ? "\\'" : "'\\''", stdout);
        else
            putchar(*text);
    }
}

/* The first sentence of a help, in one line. */
static void summary(const char *help, bool fish)
{
    char line[256];
    size_t size = strcspn(help, ".");

    snprintf(line, sizeof(line), "%.*s", (int)size, help);
    for (char *at = line; *at; at++) {
        if (*at == '\n')
            *at = ' ';
    }
    quoted(line, fish);
}

static const char *kind_name(enum argument_kind kind)
{
    static const char *const names[] = {
        [ARGUMENT_NONE] = "none",       [ARGUMENT_LOCAL] = "local",
        [ARGUMENT_REMOTE] = "remote",   [ARGUMENT_BOTH] = "both",
        [ARGUMENT_LOGIN] = "none",      [ARGUMENT_CODE] = "codes",
        [ARGUMENT_COMMAND] = "command", [ARGUMENT_WORDS] = "words"};

    return names[kind];
}

/* Where a value comes from: a file, the profiles, or nowhere. */
static const char *value_kind(const struct option_row *o)
{
    return o->file               ? "local"
           : o->bit == OPTION_AS ? "profiles"
           : o->values           ? "values"
                                 : "none";
}

static void names_of_commands(void)
{
    for (size_t i = 0; command_at(i); i++) {
        if (!command_at(i)->hidden)
            printf("%s%s", i ? " " : "", command_at(i)->name);
    }
}

static void option_words(uint64_t options)
{
    bool first = true;

    for (size_t i = 0; option_at(i); i++) {
        const struct option_row *o = option_at(i);

        if ((o->bit & options) == 0)
            continue;
        printf("%s--%s", first ? "" : " ", o->name);
        if (o->letter)
            printf(" -%c", o->letter);
        first = false;
    }
}

/* ---- bash --------------------------------------------------------------------------------- */

static void bash_values(void)
{
    for (size_t i = 0; option_at(i); i++) {
        const struct option_row *o = option_at(i);

        if (!o->value)
            continue;
        printf("    --%s", o->name);
        if (o->letter)
            printf(" | -%c", o->letter);
        fputs(") ", stdout);
        printf("kind=%s words='%s' ;;\n", value_kind(o),
               o->values ? o->values : "");
    }
}

static void bash_value_names(void)
{
    bool first = true;

    for (size_t i = 0; option_at(i); i++) {
        const struct option_row *o = option_at(i);

        if (!o->value)
            continue;
        printf("%s--%s", first ? "" : " | ", o->name);
        if (o->letter)
            printf(" | -%c", o->letter);
        first = false;
    }
}

static void bash(void)
{
    fputs("# SPDX-License-Identifier: MIT\n"
          "# bash completion for ferry; made by 'ferry completion bash'\n\n"
          "# The word at the cursor without its quotes: cur; where it begins:"
          " start;\n"
          "# the quote it is in: quote\n"
          "_ferry_word() {\n"
          "    local i c\n"
          "    cur= start=0 quote=\n"
          "    for ((i = 0; i < ${#line}; i++)); do\n"
          "        c=${line:i:1}\n"
          "        if [[ $c == \\\\ && $quote != \\' ]]; then\n"
          "            i=$((i + 1))\n"
          "            cur+=${line:i:1}\n"
          "        elif [[ $quote ]]; then\n"
          "            if [[ $c == \"$quote\" ]]; then quote=; else cur+=$c;"
          " fi\n"
          "        elif [[ $c == [\\'\\\"] ]]; then\n"
          "            quote=$c\n"
          "        elif [[ $c == [[:space:]] ]]; then\n"
          "            cur= start=$((i + 1))\n"
          "        else\n"
          "            cur+=$c\n"
          "        fi\n"
          "    done\n"
          "}\n\n"
          "_ferry_add() {\n"
          "    local name trim=\n"
          "    # bash takes a word behind a colon for one of its own\n"
          "    [[ ! $quote && $COMP_WORDBREAKS == *:* && $cur == *:* ]] &&"
          " trim=${cur%\"${cur##*:}\"}\n"
          "    while IFS= read -r name; do\n"
          "        case $name in\n"
          "        */) compopt -o nospace 2>/dev/null ;;\n"
          "        esac\n"
          "        name=${name#\"$trim\"}\n"
          "        case $quote in\n"
          "        \\') [[ $name == *\\'* ]] && continue ;;\n"
          "        \\\") name=${name//\\\\/\\\\\\\\}"
          " name=${name//\\$/\\\\$}"
          " name=${name//\\`/\\\\\\`}"
          " name=${name//\\\"/\\\\\\\"} ;;\n"
          "        *) [[ $name ]] && printf -v name %q \"$name\" ;;\n"
          "        esac\n"
          "        COMPREPLY+=(\"$name\")\n"
          "    done\n"
          "}\n\n"
          "_ferry() {\n"
          "    local line=${COMP_LINE:0:COMP_POINT} cur start quote command="
          " previous= word words= kind= options= skip=\n"
          "    _ferry_word\n"
          "    COMPREPLY=()\n"
          "    local -a before\n"
          "    read -ra before <<<\"${line:0:start}\"\n"
          "    for word in \"${before[@]:1}\"; do\n"
          "        previous=$word\n"
          "        [[ $skip ]] && { skip=; continue; }\n"
          "        case $word in\n        ",
          stdout);
    bash_value_names();
    fputs(") skip=1 ;;\n"
          "        -*) ;;\n"
          "        *) [[ $command ]] || command=$word ;;\n"
          "        esac\n"
          "    done\n"
          "    case $command in\n",
          stdout);
    for (size_t i = 0; command_at(i); i++) {
        const struct command *k = command_at(i);

        if (k->hidden)
            continue;
        printf("    %s) kind=%s words='%s' options='", k->name,
               kind_name(k->arguments), k->words ? k->words : "");
        option_words(k->options);
        fputs("' ;;\n", stdout);
    }
    fputs("    '') kind=command ;;\n"
          "    esac\n"
          "    [[ $skip ]] && case $previous in\n",
          stdout);
    bash_values();
    fputs("    esac\n"
          "    if [[ ! $skip && $cur == -* ]]; then\n"
          "        options+=' ",
          stdout);
    option_words(OPTIONS_GLOBAL);
    fputs("'\n"
          "        COMPREPLY=($(compgen -W \"$options\" -- \"$cur\"))\n"
          "        return\n"
          "    fi\n"
          "    case $kind in\n"
          "    command) COMPREPLY=($(compgen -W '",
          stdout);
    names_of_commands();
    fputs("' -- \"$cur\")) ;;\n"
          "    words | values) COMPREPLY=($(compgen -W \"$words\" -- "
          "\"$cur\")) ;;\n"
          "    local) compopt -o filenames 2>/dev/null;"
          " mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;\n"
          "    both)\n"
          "        if [[ ${cur%%/*} == *:* ]]; then\n"
          "            _ferry_add < <(ferry complete-names remote -- \"$cur\" "
          "2>/dev/null)\n"
          "        else\n"
          "            compopt -o filenames 2>/dev/null\n"
          "            mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
          "        fi ;;\n"
          "    remote | codes | profiles)\n"
          "        _ferry_add < <(ferry complete-names $kind -- \"$cur\" "
          "2>/dev/null) ;;\n"
          "    esac\n"
          "}\n"
          "complete -F _ferry ferry\n",
          stdout);
}

/* ---- zsh ----------------------------------------------------------------------------------- */

/* '(-l --long)'{-l,--long}'[what it is]:KEY:(a b)' for _arguments */
static void zsh_options(uint64_t options)
{
    for (size_t i = 0; option_at(i); i++) {
        const struct option_row *o = option_at(i);
        bool again = o->bit == OPTION_EXCLUDE || o->bit == OPTION_INCLUDE;

        if ((o->bit & options) == 0)
            continue;
        if (o->letter)
            printf("            '(-%c --%s)'{-%c,--%s}'[", o->letter, o->name,
                   o->letter, o->name);
        else
            printf("            '%s--%s[", again ? "*" : "", o->name);
        quoted(o->help, false);
        putchar(']');
        if (o->value)
            printf(":%s:", o->value);
        if (o->values)
            printf("(%s)", o->values);
        else if (o->file)
            fputs("_files", stdout);
        else if (o->bit == OPTION_AS)
            fputs("_ferry_profiles", stdout);
        fputs("' \\\n", stdout);
    }
}

static void zsh(void)
{
    fputs("#compdef ferry\n"
          "# SPDX-License-Identifier: MIT\n"
          "# zsh completion for ferry; made by 'ferry completion zsh'\n\n"
          "_ferry_names() {\n"
          "    local -a names\n"
          "    names=(${(f)\"$(_call_program names ferry complete-names $1 -- "
          "${(q)${(Q)PREFIX}} 2>/dev/null)\"})\n"
          "    compadd -S '' -- ${(M)names:#*/}\n"
          "    compadd -- ${names:#*/}\n"
          "}\n"
          "_ferry_profiles() { _ferry_names profiles }\n"
          "_ferry_codes() { _ferry_names codes }\n"
          "_ferry_remote() { _ferry_names remote }\n"
          "_ferry_local() { _files }\n"
          "_ferry_none() { : }\n"
          "_ferry_both() {\n"
          "    if [[ ${PREFIX%%/*} == *:* ]]; then _ferry_remote; else _files; "
          "fi\n"
          "}\n"
          "_ferry_command() {\n"
          "    local -a commands=(\n",
          stdout);
    for (size_t i = 0; command_at(i); i++) {
        const struct command *k = command_at(i);

        if (k->hidden)
            continue;
        printf("        '%s:", k->name);
        summary(k->help, false);
        fputs("'\n", stdout);
    }
    fputs("    )\n"
          "    _describe command commands\n"
          "}\n\n"
          "_ferry() {\n"
          "    local curcontext=$curcontext state line\n"
          "    typeset -A opt_args\n"
          "    local -a general=(\n",
          stdout);
    /* the list needs no line ends escaped */
    for (size_t i = 0; option_at(i); i++) {
        const struct option_row *o = option_at(i);

        if ((o->bit & OPTIONS_GLOBAL) == 0)
            continue;
        printf("        '--%s[", o->name);
        quoted(o->help, false);
        putchar(']');
        if (o->value)
            printf(":%s:%s", o->value,
                   o->file               ? "_files"
                   : o->bit == OPTION_AS ? "_ferry_profiles"
                                         : "");
        fputs("'\n", stdout);
        if (o->letter) {
            printf("        '-%c[", o->letter);
            quoted(o->help, false);
            fputs("]'\n", stdout);
        }
    }
    fputs("    )\n"
          "    _arguments -C $general '1:command:_ferry_command' "
          "'*::argument:->argument'\n"
          "    [[ $state == argument ]] || return\n"
          "    case $words[1] in\n",
          stdout);
    for (size_t i = 0; command_at(i); i++) {
        const struct command *k = command_at(i);

        if (k->hidden)
            continue;
        printf("    %s)\n        _arguments $general \\\n", k->name);
        zsh_options(k->options);
        if (k->words)
            printf("            '1:word:(%s)'\n", k->words);
        else
            printf("            '*:argument:_ferry_%s'\n",
                   kind_name(k->arguments));
        fputs("        ;;\n", stdout);
    }
    fputs("    esac\n"
          "}\n\n"
          "_ferry \"$@\"\n",
          stdout);
}

/* ---- fish ---------------------------------------------------------------------------------- */

static void fish_option(const struct option_row *o, const char *condition)
{
    printf("complete -c ferry%s -l %s", condition, o->name);
    if (o->letter)
        printf(" -s %c", o->letter);
    if (o->value)
        fputs(o->file ? " -r -F" : " -x", stdout);
    if (o->values)
        printf(" -a '%s'", o->values);
    if (o->bit == OPTION_AS)
        fputs(" -a '(ferry complete-names profiles)'", stdout);
    fputs(" -d '", stdout);
    quoted(o->help, true);
    fputs("'\n", stdout);
}

static void fish_arguments(const struct command *k, const char *condition)
{
    const char *current = "(string unescape -- (commandline -ct))";

    printf("complete -c ferry%s", condition);
    switch (k->arguments) {
    case ARGUMENT_LOCAL:
        fputs(" -F\n", stdout);
        break;
    case ARGUMENT_BOTH:
        /* fish takes ":/de" for a list of paths, and would look here. */
        printf(" -n 'not __ferry_remote' -F\n"
               "complete -c ferry%s -n __ferry_remote -f -a "
               "'(ferry complete-names remote -- %s 2>/dev/null)'\n",
               condition, current);
        break;
    case ARGUMENT_REMOTE:
        printf(" -f -a '(ferry complete-names remote -- %s 2>/dev/null)'\n",
               current);
        break;
    case ARGUMENT_CODE:
        fputs(" -f -a '(ferry complete-names codes)'\n", stdout);
        break;
    case ARGUMENT_COMMAND:
        fputs(" -f -a '", stdout);
        names_of_commands();
        fputs("'\n", stdout);
        break;
    case ARGUMENT_WORDS:
        printf(" -f -a '%s'\n", k->words);
        break;
    default:
        fputs(" -f\n", stdout);
    }
}

static void fish(void)
{
    fputs("# SPDX-License-Identifier: MIT\n"
          "# fish completion for ferry; made by 'ferry completion fish'\n\n"
          "function __ferry_remote\n"
          "    string match -qr '^[\\'\"]?[^/]*:' -- (commandline -ct)\n"
          "end\n\n",
          stdout);
    for (size_t i = 0; command_at(i); i++) {
        const struct command *k = command_at(i);

        if (k->hidden)
            continue;
        printf("complete -c ferry -f -n __fish_use_subcommand -a %s -d '",
               k->name);
        summary(k->help, true);
        fputs("'\n", stdout);
    }
    for (size_t i = 0; option_at(i); i++) {
        if (option_at(i)->bit & OPTIONS_GLOBAL)
            fish_option(option_at(i), "");
    }
    for (size_t i = 0; command_at(i); i++) {
        const struct command *k = command_at(i);
        char condition[96];

        if (k->hidden)
            continue;
        snprintf(condition, sizeof(condition),
                 " -n '__fish_seen_subcommand_from %s'", k->name);
        for (size_t o = 0; option_at(o); o++) {
            if (option_at(o)->bit & k->options)
                fish_option(option_at(o), condition);
        }
        fish_arguments(k, condition);
    }
}

int cmd_completion(struct cli *c)
{
    const char *shell = c->argv[0];

    if (strcmp(shell, "bash") == 0)
        bash();
    else if (strcmp(shell, "zsh") == 0)
        zsh();
    else if (strcmp(shell, "fish") == 0)
        fish();
    else
        return problem(c->why, USAGE,
                       .detail = "the shells are bash, zsh and fish");
    return 0;
}

/* ---- names ---------------------------------------------------------------------------------- */

/* A line each; a name with a line's end or the like in it is passed over. */
static bool plain(const char *name)
{
    char shown[NAME_BYTES * 4 + 1];

    text_escape(name, strlen(name), shown, sizeof(shown));
    return strcmp(shown, name) == 0;
}

/* Nobody is asked anything here: a login without a key of this device, or a
 * server that is not known, completes nothing. */
static int remote_names(struct cli *c, const char *word)
{
    keel_auto(listing) struct listing *all = NULL;
    struct listing_options o = {.recursive = false};
    const char *slash = strrchr(word, '/');
    const char *colon = strchr(word, ':');
    const char *rest = slash ? slash + 1 : colon ? colon + 1 : word;
    keel_auto(str) char *head = keel_strdup(word);
    struct listing_entry e;
    struct profile p;
    struct place dir;
    struct session s;
    struct home h;
    int rc, count = 0;

    if (!colon) {
        puts(":/");
        return 0;
    }
    if (!head)
        return problem(c->why, NO_MEMORY);
    head[rest - word] = 0;
    rc = place_parse(head, &dir, c->why);
    if (rc == 0 && !dir.remote)
        return 0;
    if (rc == 0)
        rc = home_open(&h, c->why);
    if (rc < 0)
        return rc;
    rc = session_profile(c, &h, &dir, &p, c->why);
    home_close(&h);
    keel_wipe(p.key, sizeof(p.key));
    if (rc < 0 || !p.device)
        return rc;
    setenv("FERRY_TIMEOUT", "3", 1);
    rc = session_open(c, &dir, &s, c->why);
    if (rc < 0)
        return rc;
    rc = listing_new(&s, &dir, &o, &all, c->why);
    while (rc == 0 && count < NAMES_MOST &&
           (rc = listing_next(all, &e, c->why)) > 0) {
        rc = 0;
        if (strncmp(e.e.name, rest, strlen(rest)) != 0 || !plain(e.e.name))
            continue;
        printf("%s%s%s%s\n", head, slash ? "" : "/", e.e.name,
               e.e.type == 'd' ? "/" : "");
        count++;
    }
    listing_free(keel_take(all));
    session_close(&s);
    return rc;
}

static int profile_name_say(const char *name, void *arg)
{
    if (strncmp(name, arg, strlen(arg)) == 0)
        puts(name);
    return 0;
}

int cmd_complete_names(struct cli *c)
{
    char none[] = "", *word = c->argc > 1 ? c->argv[1] : none;
    struct home h;
    int rc;

    if (strcmp(c->argv[0], "remote") == 0)
        return remote_names(c, word);
    if (strcmp(c->argv[0], "codes") == 0) {
        for (int i = PROBLEM_NONE + 1; i < PROBLEM_COUNT; i++) {
            const char *code = problem_row((enum problem_id)i)->code;

            if (strncmp(code, word, strlen(word)) == 0)
                puts(code);
        }
        return 0;
    }
    rc = home_open(&h, c->why);
    if (rc < 0)
        return rc;
    rc = profile_each(&h, profile_name_say, word, c->why);
    home_close(&h);
    return rc;
}
