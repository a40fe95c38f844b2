/* SPDX-License-Identifier: MIT */
/* The table of commands, and the help made of it. */
#include <stdio.h>
#include <string.h>

#include "client/cli.h"
#include "client/options.h"
#include "client/text.h"

#define TREES                                                                  \
    (OPTION_RECURSIVE | OPTION_DRY_RUN | OPTION_EXCLUDE | OPTION_INCLUDE |     \
     OPTION_RETRY | OPTION_CONNECTIONS | OPTION_IF_MATCH | OPTION_HASH)

static int cmd_help(struct cli *c);

static const struct command commands[] = {
    {.name = "register",
     .least = 1,
     .most = 1,
     .run = cmd_register,
     .usage = N_("USER@HOST[:PORT]"),
     .help = N_("Makes an account on a server that takes new ones, and logs "
                "in."),
     .examples = "    ferry register ada@files.example.org\n",
     .arguments = ARGUMENT_LOGIN},
    {.name = "join",
     .least = 1,
     .most = 2,
     .run = cmd_join,
     .usage = N_("LINK [NAME]"),
     .help = N_("Makes an account with an invite, and logs in. The invite "
                "carries the\nserver's address and key. With '-' it is read "
                "from standard input."),
     .examples = "    ferry join 'ferry://files.example.org:9001/#...' ada\n"},
    {.name = "login",
     .least = 1,
     .most = 1,
     .run = cmd_login,
     .usage = N_("USER@HOST[:PORT]"),
     .help = N_("Logs in with the password, and registers a key of this "
                "device. The password\nis not asked again then."),
     .examples = "    ferry login ada@files.example.org\n"
                 "    ferry login ada@files.example.org --as work\n",
     .arguments = ARGUMENT_LOGIN},
    {.name = "logout",
     .run = cmd_logout,
     .usage = "",
     .help = N_("Forgets this device's key, here and on the server."),
     .examples = "    ferry logout --as work\n"},
    {.name = "whoami",
     .run = cmd_whoami,
     .answers = true,
     .usage = "",
     .help = N_("Says who is logged in where, and what is used."),
     .examples = "    ferry whoami\n"},
    {.name = "put",
     .least = 1,
     .most = -1,
     .run = cmd_put,
     .usage = N_("SOURCE... [REMOTE]"),
     .help = N_("Sends files, and directories with -r. Without REMOTE they go "
                "to ':/'. What was\ncut is continued by the same command; "
                "what is there already is not sent again."),
     .examples = "    ferry put maps.tar\n"
                 "    ferry put maps.tar :/2026/maps.tar\n"
                 "    ferry put -r --exclude '*.o' src notes.txt :@team/\n",
     .options = TREES | OPTION_NO_REPLACE | OPTION_LEVEL,
     .arguments = ARGUMENT_BOTH},
    {.name = "get",
     .least = 1,
     .most = -1,
     .run = cmd_get,
     .usage = N_("REMOTE... [DEST]"),
     .help = N_(
         "Fetches files, with -r also directories. Without DEST they come to "
         "the current\ndirectory; several need a directory. Links come as "
         "links, permissions less the\numask, times as they were. What is here "
         "with the same size and time is taken\nfor the same: a transfer that "
         "was cut is continued by the same command. Each\nfile is verified, "
         "and "
         "what is told as fetched is on stable storage."),
     .examples = "    ferry get :/maps.tar\n"
                 "    ferry get :/2026/maps.tar /tmp/\n"
                 "    ferry get -r :/photos --exclude '*.raw' ~/\n"
                 "    ferry get -r :@team/ backup\n",
     .options = TREES | OPTION_NO_REPLACE,
     .arguments = ARGUMENT_BOTH},
    {.name = "ls",
     .most = -1,
     .run = cmd_ls,
     .answers = true,
     .usage = N_("[REMOTE]..."),
     .help = N_("Lists a directory of the server, ':/' by default. Directories "
                "end in '/',\n"
                "links in '@'. On a terminal names stand in columns. Sorting "
                "by size or time,\n"
                "and the other way round, reads a directory whole before its "
                "first line."),
     .examples = "    ferry ls :/2026\n"
                 "    ferry ls -l --sort time :@team/\n"
                 "    ferry ls -r --json work:/ | jq -r .path\n",
     .options = OPTION_ALL | OPTION_LONG | OPTION_RECURSIVE | OPTION_SORT |
                OPTION_REVERSE,
     .arguments = ARGUMENT_REMOTE},
    {.name = "stat",
     .least = 1,
     .most = -1,
     .run = cmd_stat,
     .answers = true,
     .usage = N_("REMOTE..."),
     .help = N_("Says all that is known of a name on the server. That is type, "
                "size, mode, date,\nhash, and where a link points."),
     .examples = "    ferry stat :/maps.tar\n",
     .arguments = ARGUMENT_REMOTE},
    {.name = "mkdir",
     .least = 1,
     .most = -1,
     .run = cmd_mkdir,
     .usage = N_("REMOTE..."),
     .help = N_("Makes directories on the server."),
     .examples = "    ferry mkdir -p :/2026/maps\n",
     .options = OPTION_PARENTS,
     .arguments = ARGUMENT_REMOTE},
    {.name = "mv",
     .least = 2,
     .most = -1,
     .run = cmd_mv,
     .usage = N_("REMOTE... REMOTE"),
     .help = N_("Renames, or moves into a directory, within one space. What "
                "has the new name is\nreplaced, if it is a file."),
     .examples = "    ferry mv :/maps.tar :/old.tar\n"
                 "    ferry mv :/a :/b :/2026/\n",
     .options = OPTION_NO_REPLACE,
     .arguments = ARGUMENT_REMOTE},
    {.name = "rm",
     .least = 1,
     .most = -1,
     .run = cmd_rm,
     .usage = N_("REMOTE..."),
     .help = N_("Removes files, empty directories, and trees with -r. At a "
                "terminal it asks\n"
                "before it removes a tree, unless -f; in a script it does not. "
                "There is no way\n"
                "back."),
     .examples = "    ferry rm :/maps.tar\n"
                 "    ferry rm -r --dry-run :/2025\n",
     .options = OPTION_RECURSIVE | OPTION_FORCE | OPTION_DRY_RUN,
     .arguments = ARGUMENT_REMOTE},
    {.name = "spaces",
     .run = cmd_spaces,
     .answers = true,
     .usage = "",
     .help = N_("Lists the spaces you may enter, your own first. What you may "
                "do there and how\n"
                "full they are stands beside them."),
     .examples = "    ferry spaces\n    ferry ls :@team/\n"},
    {.name = "uploads",
     .most = -1,
     .run = cmd_uploads,
     .answers = true,
     .usage = N_("[drop ID... | drop all]"),
     .help =
         N_("Lists your unfinished uploads, and what they hold of a quota. "
            "The same put\nagain goes on with one; 'drop' gives it up, with "
            "what came of it. One that is\nbeing sent right now is "
            "refused."),
     .examples = "    ferry uploads\n    ferry uploads drop 5e0c11a4\n"
                 "    ferry uploads drop all\n",
     .arguments = ARGUMENT_WORDS,
     .words = "drop"},
    {.name = "passwd",
     .run = cmd_passwd,
     .usage = "",
     .help = N_("Changes the password. The old one is asked first, the new one "
                "twice; a password\nfile has the old one on its first line and "
                "the new one on its second."),
     .examples = "    ferry passwd\n"},
    {.name = "devices",
     .most = -1,
     .run = cmd_devices,
     .answers = true,
     .usage = N_("[remove ID...]"),
     .help = N_("Lists the devices that may log in without the password. With "
                "'remove' it takes\nthat away from some."),
     .examples = "    ferry devices\n    ferry devices remove 3\n",
     .arguments = ARGUMENT_WORDS,
     .words = "remove"},
    {.name = "profiles",
     .most = 2,
     .run = cmd_profiles,
     .answers = true,
     .usage = N_("[default NAME | remove NAME]"),
     .help = N_("Lists the logins kept here. A star stands at the one that is "
                "used without\n"
                "--as; 'default' makes it another, 'remove' forgets one here, "
                "without telling\n"
                "the server."),
     .examples = "    ferry profiles\n    ferry profiles default work\n",
     .arguments = ARGUMENT_WORDS,
     .words = "default remove"},
    {.name = "hash",
     .least = 1,
     .most = -1,
     .run = cmd_hash,
     .answers = true,
     .usage = N_("FILE|REMOTE..."),
     .help = N_("Prints the hash of a file here or there. It is the root of "
                "the file's chunk\ntree, the same at both ends."),
     .examples = "    ferry hash maps.tar :/maps.tar\n",
     .options = OPTION_HASH,
     .arguments = ARGUMENT_BOTH},
    {.name = "explain",
     .most = 1,
     .run = cmd_explain,
     .answers = true,
     .usage = N_("[CODE]"),
     .help = N_("Says what a problem's code means, and what to do about it. "
                "Without CODE it\nlists them all."),
     .examples = "    ferry explain quota.bytes\n",
     .arguments = ARGUMENT_CODE},
    {.name = "shell",
     .run = cmd_shell,
     .usage = "",
     .help = N_("Opens a prompt, as 'ferry' alone does at a terminal. Without "
                "a terminal it\n"
                "reads commands from standard input and ends at the first that "
                "fails, unless\n"
                "its line begins with '-'."),
     .examples = "    ferry\n"
                 "    echo 'put maps.tar' | ferry shell\n"},
    {.name = "help",
     .most = 1,
     .run = cmd_help,
     .answers = true,
     .usage = N_("[COMMAND]"),
     .help = N_("Says how a command is used, or lists all commands."),
     .examples = "    ferry help put\n",
     .arguments = ARGUMENT_COMMAND},
    {.name = "completion",
     .least = 1,
     .most = 1,
     .run = cmd_completion,
     .usage = "bash|zsh|fish",
     .help =
         N_("Prints what a shell needs to complete the words after 'ferry'. "
            "A package has\ninstalled it already; zsh finds it in a "
            "directory of its fpath."),
     .examples =
         "    echo 'eval \"$(ferry completion bash)\"' >> ~/.bashrc\n"
         "    mkdir -p ~/.zfunc && ferry completion zsh > ~/.zfunc/_ferry\n"
         "    ferry completion fish > ~/.config/fish/completions/ferry.fish\n",
     .arguments = ARGUMENT_WORDS,
     .words = "bash zsh fish"},
    {.name = "complete-names",
     .least = 1,
     .most = 2,
     .run = cmd_complete_names,
     .usage = "remote|profiles|codes [PREFIX]",
     .help = N_("Prints what a word may become."),
     .hidden = true},
};
#define COMMANDS (sizeof(commands) / sizeof(*commands))

const struct command *command_at(size_t i)
{
    return i < COMMANDS ? &commands[i] : NULL;
}

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

const char *command_usage(const struct command *k)
{
    return *k->usage ? _(k->usage) : ""; /* gettext's "" is a header */
}

/* ---- help ---------------------------------------------------------------------------- */

/* The first sentence, on one line: up to a '.' before a blank or the end. */
static void summary_print(const char *help, FILE *to)
{
    for (const char *at = help; *at; at++) {
        if (*at == '.' && (at[1] == ' ' || at[1] == '\n' || !at[1]))
            break;
        if (strncmp(at, "\u3002", 3) == 0) /* the Chinese full stop */
            break;
        fputc(*at == '\n' ? ' ' : *at, to);
    }
    fputc('\n', to);
}

static void help_all(FILE *to)
{
    fprintf(to, "%s",
            _("usage: ferry COMMAND [option]... [argument]...\n\n"
              "Carries files to and from a ferryd.\n\n"));
    for (size_t i = 0; i < COMMANDS; i++) {
        const struct command *k = &commands[i];

        if (k->hidden)
            continue;
        fprintf(to, "  %-10s ", k->name);
        summary_print(_(k->help), to);
    }
    fprintf(to, "%s",
            _("\nA REMOTE has a colon before its first slash: ':/path', "
              "':@SPACE/path',\n'PROFILE:/path', or "
              "ferry://USER@HOST[:PORT]/path.\n'ferry COMMAND --help' says "
              "more.\n\nOptions of every command:\n"));
    options_help(OPTIONS_GLOBAL, to);
    fprintf(to, "%s",
            _("\nFERRY_TIMEOUT is how many seconds a server may be silent "
              "(default: 60).\n"));
}

void cli_help(const struct command *k, FILE *to)
{
    if (!k) {
        help_all(to);
        return;
    }
    fprintf(to, _("usage: ferry %s [option]...%s%s\n\n%s\n"), k->name,
            *k->usage ? " " : "", command_usage(k), _(k->help));
    if (k->options) {
        fputc('\n', to);
        options_help(k->options, to);
    }
    fprintf(to, "%s", _("\nOptions of every command:\n"));
    options_help(OPTIONS_GLOBAL, to);
    if (k->examples)
        fprintf(to, _("\nExamples:\n%s"), k->examples);
}

static int cmd_help(struct cli *c)
{
    const struct command *k = c->argc > 0 ? command_find(c->argv[0]) : NULL;

    if (c->argc > 0 && !k)
        return options_wrong_command(c, c->argv[0]);
    if (c->json)
        cli_help_json(c, k);
    else
        cli_help(k, stdout);
    return 0;
}
