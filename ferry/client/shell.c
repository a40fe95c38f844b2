/* SPDX-License-Identifier: MIT */
/* The prompt: ferry's commands, with names relative to a directory there and one
 * here, over one connection.
 *
 * A command runs in a coroutine of its own.  ^C cancels that coroutine, or the
 * one that reads a line, and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <keel/file.h>
#include <keel/io.h>

#include "client/columns.h"
#include "client/interrupt.h"
#include "client/options.h"
#include "client/remote.h"
#include "client/shell_inside.h"
#include "client/shell_match.h"
#include "client/text.h"

#define COMMAND_STACK ((size_t)256 << 10)
#define LOCAL_NAMES 100000

/* ---- words of its own ------------------------------------------------------------------ */

static int do_cd(struct shell *s, struct cli *c)
{
    struct remote_entry e = {.type = 'd'};
    struct place to = {.remote = true};
    struct session session;
    char shown[PROBLEM_TEXT_BYTES];
    int rc = 0;

    if (c->argc > 0 && strcmp(c->argv[0], "-") == 0)
        to = s->before;
    else if (c->argc > 0)
        rc = shell_resolve(&s->here, c->argv[0], &to, c->why);
    else
        snprintf(to.profile, sizeof(to.profile), "%s", s->here.profile);
    if (rc == 0)
        rc = session_open(c, &to, &session, c->why);
    if (rc < 0)
        return rc;
    rc = remote_stat_place(&session, &to, &e, NULL, c->why);
    session_close(&session);
    if (rc < 0)
        return rc;
    if (e.type != 'd') {
        place_print(&to, shown, sizeof(shown));
        return problem(c->why, FILE_NOT_DIRECTORY, .name = shown);
    }
    to.directory = true;
    s->before = s->here;
    s->here = to;
    return 0;
}

static int do_pwd(struct shell *s, struct cli *c)
{
    char shown[PATH_BYTES * 4];

    place_print(&s->here, shown, sizeof(shown));
    puts(shown);
    (void)c;
    return 0;
}

static int do_lcd(struct shell *s, struct cli *c)
{
    const char *to = c->argc > 0 ? c->argv[0] : getenv("HOME");

    (void)s;
    if (!to || !*to)
        to = "/";
    if (chdir(to) < 0)
        return problem(c->why, FILE_LOCAL, .errno_ = errno, .name = to);
    return 0;
}

static int do_lpwd(struct shell *s, struct cli *c)
{
    char here[PATH_BYTES], shown[PATH_BYTES * 4];

    (void)s;
    if (!getcwd(here, sizeof(here)))
        return problem(c->why, FILE_LOCAL, .errno_ = errno, .name = ".");
    text_escape(here, strlen(here), shown, sizeof(shown));
    puts(shown);
    return 0;
}

/* "a/b/" is b in a. */
static int local_mkdir(const char *path)
{
    keel_auto(file) int dir = -1;
    char parent[PATH_BYTES], *name;
    size_t size = strlen(path);

    while (size > 1 && path[size - 1] == '/')
        size--;
    if (size == 0)
        return -ENOENT;
    if (size >= sizeof(parent))
        return -ENAMETOOLONG;
    memcpy(parent, path, size);
    parent[size] = '\0';
    name = strrchr(parent, '/');
    if (name && !name[1])
        return -EEXIST; /* "/" */
    if (name)
        *name++ = '\0';
    dir = keel_file_open_any(!name     ? "."
                             : *parent ? parent
                                       : "/",
                             O_PATH | O_DIRECTORY, 0);
    return dir < 0 ? dir : keel_file_mkdir(dir, name ? name : parent, 0777);
}

static int do_lmkdir(struct shell *s, struct cli *c)
{
    int rc = local_mkdir(c->argv[0]);

    (void)s;
    if (rc < 0)
        return problem(c->why, FILE_LOCAL, .errno_ = -rc, .name = c->argv[0]);
    return 0;
}

struct local_names {
    char **names;
    size_t count, room;
    bool all; /* those with a dot too */
    int rc;
};

static int local_found(const char *name, unsigned char type, void *arg)
{
    struct local_names *l = arg;
    size_t size = strlen(name);
    char *copy;

    if (name[0] == '.' && !l->all)
        return 0;
    if (l->count == l->room) {
        size_t room = l->room ? l->room * 2 : 64;
        char **more = keel_realloc(l->names, room * sizeof(*more));

        if (!more)
            return l->rc = -ENOMEM;
        l->names = more;
        l->room = room;
    }
    copy = keel_alloc(size + 2);
    if (!copy)
        return l->rc = -ENOMEM;
    memcpy(copy, name, size);
    strcpy(copy + size, type == 4 ? "/" : type == 10 ? "@" : "");
    l->names[l->count++] = copy;
    return l->count == LOCAL_NAMES ? -E2BIG : 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int do_lls(struct shell *s, struct cli *c)
{
    const char *path = c->argc > 0 ? c->argv[0] : ".";
    keel_auto(file) int dir =
        keel_file_open_any(path, O_RDONLY | O_DIRECTORY, 0);
    struct local_names l = {.all = c->all};
    struct columns *columns = keel_calloc(1, sizeof(*columns));
    int rc = dir < 0 ? dir : columns ? 0 : -ENOMEM;

    (void)s;
    if (rc == 0)
        rc = keel_file_list(dir, local_found, &l);
    if (rc == 0 || rc == -E2BIG) {
        qsort(l.names, l.count, sizeof(*l.names), by_text);
        columns->width = text_terminal(1);
        for (size_t i = 0; i < l.count; i++) {
            char shown[1100];

            text_escape(l.names[i], strlen(l.names[i]), shown, sizeof(shown));
            columns_add(columns, shown, stdout);
        }
        columns_flush(columns, stdout);
    }
    for (size_t i = 0; i < l.count; i++)
        keel_free(l.names[i]);
    keel_free(l.names);
    keel_free(columns);
    if (rc < 0)
        return problem(c->why, FILE_LOCAL, .errno_ = -rc, .name = path);
    return 0;
}

static int do_exit(struct shell *s, struct cli *c)
{
    (void)c;
    s->leave = true;
    return 0;
}

static int do_help(struct shell *s, struct cli *c);

static const struct shell_word words[] = {
    {"cd", 0, 1, do_cd, "[REMOTE]",
     N_("goes to a directory of the server; '/' without a name, back with "
        "'-'"),
     ARGUMENT_REMOTE},
    {"pwd", 0, 0, do_pwd, "", N_("says where that is"), ARGUMENT_NONE},
    {"lcd", 0, 1, do_lcd, "[DIRECTORY]", N_("goes to a directory here"),
     ARGUMENT_LOCAL},
    {"lpwd", 0, 0, do_lpwd, "", N_("says where that is here"), ARGUMENT_NONE},
    {"lls", 0, 1, do_lls, "[-a] [DIRECTORY]", N_("lists a directory here"),
     ARGUMENT_LOCAL, OPTION_ALL},
    {"lmkdir", 1, 1, do_lmkdir, "DIRECTORY", N_("makes a directory here"),
     ARGUMENT_LOCAL},
    {"help", 0, 1, do_help, "[COMMAND]", N_("says how a command is used"),
     ARGUMENT_COMMAND},
    {"?", 0, 1, do_help, NULL, NULL, ARGUMENT_COMMAND},
    {"exit", 0, 0, do_exit, "", N_("leaves, as Ctrl-D does"), ARGUMENT_NONE},
    {"quit", 0, 0, do_exit, NULL, NULL, ARGUMENT_NONE},
    {"bye", 0, 0, do_exit, NULL, NULL, ARGUMENT_NONE},
};
#define WORDS (sizeof(words) / sizeof(*words))

const struct shell_word *shell_word_at(size_t i)
{
    return i < WORDS ? &words[i] : NULL;
}

bool shell_has(const struct command *k)
{
    return !k->hidden && k->run != cmd_shell && k->run != cmd_completion &&
           strcmp(k->name, "help") != 0;
}

/* What other programs of the kind call them. */
static const struct {
    const char *name, *command;
    bool all;
} aliases[] = {{"mput", "put", true},
               {"mget", "get", true},
               {"rename", "mv", false},
               {"dir", "ls", false}};

const struct command *shell_command(const char *name, bool *ret_all)
{
    const struct command *k;

    *ret_all = false;
    for (size_t i = 0; i < sizeof(aliases) / sizeof(*aliases); i++) {
        if (strcmp(aliases[i].name, name) == 0) {
            name = aliases[i].command;
            *ret_all = aliases[i].all;
            break;
        }
    }
    k = command_find(name);
    return k && shell_has(k) ? k : NULL;
}

/* put sends to, and get fetches from, the server; the last of several arguments
 * is where to.  What hash looks at is there. */
enum argument_kind shell_kind(enum argument_kind kind, const char *command,
                              int at)
{
    if (kind != ARGUMENT_BOTH)
        return kind;
    if (strcmp(command, "mput") == 0)
        return ARGUMENT_LOCAL;
    if (strcmp(command, "put") == 0)
        return at == 0 ? ARGUMENT_LOCAL : ARGUMENT_BOTH;
    if (strcmp(command, "get") == 0)
        return at == 0 ? ARGUMENT_REMOTE : ARGUMENT_BOTH;
    return ARGUMENT_REMOTE;
}

static void word_help(const struct shell_word *word)
{
    char left[64];

    snprintf(left, sizeof(left), "  %s %s", word->name, word->usage);
    fputs(left, stdout);
    text_pad(left, 22, stdout);
    puts(_(word->help));
}

static const struct shell_word *word_find(const char *name)
{
    for (size_t i = 0; i < WORDS; i++) {
        if (strcmp(words[i].name, name) == 0)
            return &words[i];
    }
    return NULL;
}

static int unknown(struct cli *c, const char *name)
{
    char detail[128];

    snprintf(detail, sizeof(detail),
             _("'%.60s' is not a command; 'help' lists them"), name);
    return problem(c->why, USAGE, .detail = detail);
}

static int help_one(struct cli *c, const char *name)
{
    const struct shell_word *word = word_find(name);
    bool all;
    const struct command *k = word ? NULL : shell_command(name, &all);

    if (!k && !word)
        return unknown(c, name);
    if (k)
        cli_help(k, stdout);
    else
        word_help(word->help ? word
                             : word_find(*name == '?' ? "help" : "exit"));
    return 0;
}

static int do_help(struct shell *s, struct cli *c)
{
    (void)s;
    if (c->argc > 0)
        return help_one(c, c->argv[0]);
    printf("%s", _("Names are relative to a directory there (cd, pwd) and one "
                   "here (lcd, lpwd).\nput FILE... NAME and get NAME... FILE: "
                   "the last of several names is where to;\nmput and mget "
                   "take them all as files to carry.\nQuotes and backslashes "
                   "work as in a shell, and patterns (* ? []) in the last "
                   "part\nof a name.\n\n"));
    for (size_t i = 0; i < WORDS; i++) {
        if (words[i].help)
            word_help(&words[i]);
    }
    printf("%s", _("\nAnd ferry's commands; 'help COMMAND' says more:\n "));
    for (size_t i = 0; command_at(i); i++) {
        if (shell_has(command_at(i)))
            printf(" %s", command_at(i)->name);
    }
    putchar('\n');
    return 0;
}

/* ---- a command of ferry ----------------------------------------------------------------- */

/* The arguments as the command wants them: patterns replaced by the names that
 * they stand for, relative names made whole. */
struct arguments {
    char *argv[SHELL_MATCHES + 2];
    int count;
};

static void arguments_fini(struct arguments *a)
{
    for (int i = 0; i < a->count; i++)
        keel_free(a->argv[i]);
}

/* What a word was before the options were taken off. */
static const char *pattern_of(const struct shell_words *w, const char *word)
{
    for (int i = 0; i < w->count; i++) {
        if (w->words[i] == word)
            return w->patterns[i];
    }
    return NULL;
}

static int argument_remote(struct shell *s, struct arguments *a,
                           const char *name, struct problem *why)
{
    struct place place;
    int rc = shell_resolve(&s->here, name, &place, why);

    if (rc < 0)
        return rc;
    if (shell_place_text(&place, &a->argv[a->count]) < 0)
        return problem(why, NO_MEMORY);
    a->count++;
    return 0;
}

/* A local name with a colon is local all the same. */
static int argument_local(struct arguments *a, const char *name,
                          struct problem *why)
{
    bool colon = name[strcspn(name, ":/")] == ':';
    size_t room = strlen(name) + 3;
    char *text = keel_alloc(room);

    if (!text)
        return problem(why, NO_MEMORY);
    snprintf(text, room, "%s%s", colon ? "./" : "", name);
    a->argv[a->count++] = text;
    return 0;
}

/* The names that a word stands for, each as an argument. */
static int argument_names(struct shell *s, struct cli *c, bool remote,
                          const char *word, const char *pattern,
                          struct arguments *a)
{
    struct shell_matches m = {0};
    int rc = remote ? shell_match_remote(s, c, word, pattern, &m)
                    : shell_match_local(c, word, pattern, &m);

    if (rc == 0 && m.count + (size_t)a->count > SHELL_MATCHES)
        rc = problem(c->why, USAGE,
                     .detail = "a pattern stands for too many names");
    for (size_t i = 0; i < m.count && rc == 0; i++)
        rc = remote ? argument_remote(s, a, m.names[i], c->why)
                    : argument_local(a, m.names[i], c->why);
    shell_matches_fini(&m);
    return rc;
}

/* `all`: the last argument is a source too. */
static int arguments_make(struct shell *s, const struct command *k, bool all,
                          struct cli *c, const struct shell_words *w,
                          struct arguments *a, struct problem *why)
{
    bool put = k->run == cmd_put, get = k->run == cmd_get;
    int rc = 0;

    a->count = 0;
    for (int i = 0; i < c->argc && rc == 0; i++) {
        bool last = !all && i > 0 && i == c->argc - 1;
        bool remote = put   ? last
                      : get ? !last
                            : k->arguments == ARGUMENT_REMOTE ||
                                  k->arguments == ARGUMENT_BOTH;

        if (remote || put || get || k->arguments == ARGUMENT_LOCAL)
            rc = argument_names(s, c, remote, c->argv[i],
                                pattern_of(w, c->argv[i]), a);
        else if ((a->argv[a->count] = keel_strdup(c->argv[i])))
            a->count++;
        else
            rc = problem(why, NO_MEMORY);
    }
    if (rc == 0 &&
        (put ? all || c->argc == 1 : k->run == cmd_ls && c->argc == 0))
        rc = argument_remote(s, a, ".", why);
    if (rc == 0 && get && (all || c->argc == 1))
        rc = argument_local(a, ".", why);
    a->argv[a->count] = NULL;
    return rc;
}

static int command_do(struct shell *s, const struct command *k, bool all,
                      struct cli *c, const struct shell_words *w)
{
    struct arguments *a = keel_alloc(sizeof(*a));
    int rc;

    if (!a)
        return problem(c->why, NO_MEMORY);
    rc = arguments_make(s, k, all, c, w, a, c->why);
    if (rc == 0) {
        c->argv = a->argv;
        c->argc = a->count;
        rc = k->run(c);
    }
    arguments_fini(a);
    keel_free(a);
    return rc;
}

/* ---- a line ------------------------------------------------------------------------------ */

struct line {
    struct shell *s;
    struct shell_words *w;
    struct cli c;
    struct problem why;
};

/* Splits off the options as ferry does, and runs. */
static int line_do(void *arg)
{
    struct line *l = arg;
    const struct shell_word *word = word_find(l->w->words[0]);
    bool all = false;
    const struct command *k = word ? NULL : shell_command(l->w->words[0], &all);
    struct command plain = {.name = l->w->words[0]};
    struct cli *c = &l->c;
    int rc;

    if (!word && !k)
        return unknown(c, l->w->words[0]);
    if (word) {
        plain.least = word->least;
        plain.most = word->most;
        plain.options = word->options;
        k = &plain;
    }
    rc = options_parse(c, l->w->count, l->w->words, false, &k);
    text_plain(c->json);
    if (rc < 0)
        return rc;
    if (c->help && !word) {
        cli_help(k, stdout);
        return 0;
    }
    return word ? word->run(l->s, c) : command_do(l->s, k, all, c, l->w);
}

/* Runs fn(arg) where ^C reaches it. */
static int run_apart(struct shell *s, const char *name, size_t stack,
                     int (*fn)(void *arg), void *arg)
{
    struct keel_spawn how = {.name = name, .stack_bytes = stack};
    struct keel_co *outer = s->running, *co;
    int rc, result;

    s->interrupted = false;
    rc = keel_spawn(&how, fn, arg, &co);
    if (rc < 0)
        return rc;
    s->running = co;
    rc = keel_join(co, KEEL_FOREVER, &result);
    if (rc == -ECANCELED) {
        /* The whole program is ending. */
        keel_cancel(co);
        keel_shield();
        rc = keel_join(co, KEEL_FOREVER, &result);
        keel_unshield();
    }
    s->running = outer;
    return rc < 0 ? rc : result;
}

/* The exit status it would have had as a command of its own. */
static int line_run(struct shell *s, const char *text, size_t size)
{
    struct line *l = keel_calloc(1, sizeof(*l));
    struct shell_words *w = keel_calloc(1, sizeof(*w));
    int rc = l && w ? 0 : -ENOMEM, status = 0;

    if (rc == 0) {
        *l = (struct line){.s = s, .w = w, .c = s->base};
        l->c.why = &l->why;
        rc = shell_split(text, size, w, &l->why);
    }
    if (rc == 0 && w->count > 0) {
        rc = run_apart(s, "command", COMMAND_STACK, line_do, l);
        if (s->editor)
            editor_forget(s->editor);
    }
    fflush(stdout);
    if (rc == CLI_PARTLY)
        status = CLI_PARTLY;
    if (rc < 0 && l) {
        if (s->interrupted)
            problem(&l->why, CANCELLED);
        else if (l->why.id == PROBLEM_NONE)
            problem(&l->why, INTERNAL, .errno_ = -rc, .detail = "the prompt");
        cli_problem(&l->c, &l->why);
        status = problem_exit_status(&l->why);
    }
    text_plain(s->base.json);
    if (w)
        shell_words_fini(w);
    keel_free(w);
    keel_free(l);
    return rc == -ENOMEM ? 1 : status;
}

/* ---- at a terminal ------------------------------------------------------------------------ */

struct listener {
    struct shell *s;
    int fd;
};

static int listener_run(void *arg)
{
    struct listener *l = arg;
    char what;

    while (keel_fd_read(l->fd, &what, 1, KEEL_FOREVER) == 1) {
        if (what != 'i') {
            editor_told(l->s->editor, what);
        } else if (l->s->running != l->s->whole) {
            l->s->interrupted = true;
            keel_cancel(l->s->running);
        }
    }
    return 0;
}

struct reading {
    struct shell *s;
    const char *line;
    size_t size;
};

static int read_apart(void *arg)
{
    struct reading *r = arg;

    return editor_read(r->s->editor, &r->line, &r->size);
}

static int terminal_loop(struct shell *s)
{
    struct reading r = {.s = s};
    int rc;

    while (!s->leave) {
        rc = run_apart(s, "edit", EDITOR_STACK, read_apart, &r);
        if (rc == -ECANCELED && s->interrupted) {
            puts("^C");
            continue;
        }
        if (rc < 0)
            break;
        line_run(s, r.line, r.size);
    }
    if (!s->leave)
        putchar('\n');
    return 0;
}

static int terminal_run(struct shell *s, struct problem *why)
{
    keel_auto(group) struct keel_group *group = NULL;
    struct keel_spawn how = {.name = "signals"};
    struct listener l = {.s = s};
    int fds[2], rc = editor_new(s, &s->editor, why);

    if (rc < 0)
        return rc;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return problem(why, INTERNAL, .errno_ = errno, .detail = "a pipe");
    l.fd = fds[0];
    rc = keel_fd_adopt(fds[0]);
    if (rc == 0)
        rc = keel_group_new(0, &group);
    how.group = group;
    if (rc == 0)
        rc = keel_spawn(&how, listener_run, &l, NULL);
    if (rc == 0) {
        interrupt_tell(fds[1]);
        cli_say(&s->base, "'help' lists the commands, Ctrl-D leaves.");
        terminal_loop(s);
        interrupt_tell(-1);
    }
    keel_group_free(keel_take(group));
    keel_fd_close(fds[0]);
    keel_fd_close(fds[1]);
    return rc < 0 ? problem(why, NO_MEMORY) : 0;
}

/* ---- from a file ------------------------------------------------------------------------- */

struct next {
    char text[SHELL_LINE_BYTES + 2];
    size_t size;
};

/* 1: a line; 0: the end. */
static int next_read(void *arg)
{
    struct next *n = arg;

    if (!fgets(n->text, sizeof(n->text), stdin))
        return 0;
    n->size = strlen(n->text);
    return 1;
}

/* As sftp -b: a failure ends it, unless the line begins with '-'. */
static int file_run(struct shell *s, struct problem *why)
{
    struct next *n = keel_alloc(sizeof(*n));
    int status = 0;

    if (!n)
        return problem(why, NO_MEMORY);
    while (status == 0 && !s->leave && keel_blocking(next_read, n) == 1) {
        bool may_fail = n->text[0] == '-';

        status = line_run(s, n->text + may_fail, n->size - may_fail);
        if (may_fail)
            status = 0;
    }
    keel_free(n);
    return status;
}

/* ---- the whole ----------------------------------------------------------------------------- */

/* What the environment and the options name stays the same after lcd. */
static int make_whole(const char *path, char ret[PATH_BYTES])
{
    char here[PATH_BYTES];

    if (path[0] == '/')
        here[0] = 0;
    else if (!getcwd(here, sizeof(here)))
        return -errno;
    if ((size_t)snprintf(ret, PATH_BYTES, "%s%s%s", here,
                         path[0] == '/' ? "" : "/", path) >= PATH_BYTES)
        return -ENAMETOOLONG;
    return 0;
}

static int paths_fix(struct shell *s, char password_file[PATH_BYTES])
{
    static const char *const names[] = {"FERRY_HOME", "XDG_CONFIG_HOME",
                                        "HOME"};
    char whole[PATH_BYTES];
    int rc = 0;

    for (size_t i = 0; i < 3 && rc == 0; i++) {
        const char *told = getenv(names[i]);

        if (!told || !*told || *told == '/')
            continue;
        rc = make_whole(told, whole);
        if (rc == 0 && setenv(names[i], whole, 1) < 0)
            rc = -ENOMEM;
    }
    if (rc == 0 && s->base.password_file) {
        rc = make_whole(s->base.password_file, password_file);
        s->base.password_file = password_file;
    }
    return rc;
}

/* Logs in before the first line, so that what is wrong is said at once. */
static int first_session(struct shell *s, struct problem *why)
{
    struct session session;
    int rc = session_open(&s->base, &s->here, &session, why);

    if (rc == 0)
        session_close(&session);
    return rc;
}

static int shell_run(void *arg)
{
    struct shell *s = arg;
    struct problem *why = s->base.why;
    char password_file[PATH_BYTES];
    int rc = paths_fix(s, password_file);

    if (rc < 0)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = ".");
    rc = home_open(&s->home, why);
    if (rc < 0)
        return rc;
    s->whole = s->running;
    rc = first_session(s, why);
    if (rc == 0)
        rc = isatty(0) && isatty(1) ? terminal_run(s, why) : file_run(s, why);
    editor_free(s->editor);
    session_close(&s->kept);
    home_close(&s->home);
    return rc;
}

/* libedit wants more stack than a coroutine usually has. */
int cmd_shell(struct cli *c)
{
    struct shell *s = keel_calloc(1, sizeof(*s));
    int rc;

    if (!s)
        return problem(c->why, NO_MEMORY);
    s->base = *c;
    s->base.kept = &s->kept;
    s->kept.home = (struct home){-1, -1, -1};
    s->here = (struct place){.remote = true, .directory = true};
    s->before = s->here;
    rc = run_apart(s, "shell", EDITOR_STACK, shell_run, s);
    keel_free(s);
    return rc;
}
