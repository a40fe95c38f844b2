/* SPDX-License-Identifier: MIT */
/* The line at a terminal: libedit, told to ask us for each key, so that it parks
 * a coroutine and not the loop; history; completion.
 *
 * All of libedit is called from coroutines of one loop, and it is in the middle
 * of a call only while `key_read` waits. */
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <keel/file.h>
#include <keel/io.h>

#include "client/columns.h"
#include "client/interrupt.h"
#include "client/listing.h"
#include "client/options.h"
#include "client/shell_inside.h"
#include "client/text.h"

#define HISTORY_LINES 1000
#define NAMES_MOST 5000              /* of a directory, for completing */
#define CACHE_TIME (5 * KEEL_SECOND) /* they are known so long */

/* Names that a word might become; a directory's ends in '/'. */
struct names {
    char **names;
    size_t count, room;
};

struct editor {
    struct shell *s;
    EditLine *el;
    History *history;
    struct termios before;
    bool reading; /* inside el_gets */
    int error;    /* what ended it */
    char prompt[PATH_BYTES * 4 + 80];
    /* The last directory of the server that was listed for completing. */
    struct names cache;
    struct place cached;
    keel_ns cached_until;
};

/* ---- names -------------------------------------------------------------------------- */

static void names_fini(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        keel_free(n->names[i]);
    keel_free(n->names);
    memset(n, 0, sizeof(*n));
}

static int names_add(struct names *n, const char *name, const char *end)
{
    size_t size = strlen(name), more = strlen(end);

    if (n->count == NAMES_MOST)
        return -E2BIG;
    if (n->count == n->room) {
        size_t room = n->room ? n->room * 2 : 64;
        char **longer = keel_realloc(n->names, room * sizeof(*longer));

        if (!longer)
            return -ENOMEM;
        n->names = longer;
        n->room = room;
    }
    n->names[n->count] = keel_alloc(size + more + 1);
    if (!n->names[n->count])
        return -ENOMEM;
    memcpy(n->names[n->count], name, size);
    memcpy(n->names[n->count] + size, end, more + 1);
    n->count++;
    return 0;
}

/* ---- the server's names, with a short cache ------------------------------------------------ */

void editor_forget(struct editor *e)
{
    names_fini(&e->cache);
    e->cached_until = 0;
}

static bool same_place(const struct place *a, const struct place *b)
{
    return strcmp(a->profile, b->profile) == 0 &&
           strcmp(a->space, b->space) == 0 &&
           strcmp(a->login.user, b->login.user) == 0 &&
           strcmp(a->login.server, b->login.server) == 0 &&
           a->path.size == b->path.size &&
           memcmp(a->path.text, b->path.text, a->path.size) == 0;
}

static void cache_fill(struct editor *e, const struct place *dir)
{
    keel_auto(listing) struct listing *all = NULL;
    struct listing_options o = {.recursive = false};
    struct cli c = e->s->base;
    struct problem why = {0};
    struct listing_entry entry;
    struct session s;

    editor_forget(e);
    c.why = &why;
    if (session_open(&c, dir, &s, &why) < 0)
        return;
    if (listing_new(&s, dir, &o, &all, &why) == 0) {
        while (listing_next(all, &entry, &why) > 0 &&
               names_add(&e->cache, entry.e.name,
                         entry.e.type == 'd' ? "/" : "") == 0)
            continue;
    }
    listing_free(keel_take(all));
    session_close(&s);
    e->cached = *dir;
    e->cached_until = keel_after(CACHE_TIME);
}

/* Those of the server that `word` may become, with what stands before the last
 * slash of it. */
static void find_remote(struct editor *e, const char *word, struct names *ret)
{
    const char *slash = strrchr(word, '/');
    size_t before = slash ? (size_t)(slash - word) + 1 : 0;
    char *head = keel_strdup(word);
    struct place dir;

    if (!slash && strchr(word, ':')) {
        slash = strchr(word, ':');
        before = (size_t)(slash - word) + 1;
    }
    if (!head)
        return;
    head[before] = 0;
    if (shell_resolve(&e->s->here, before ? head : ".", &dir, NULL) == 0) {
        if (keel_now() > e->cached_until || !same_place(&dir, &e->cached))
            cache_fill(e, &dir);
        for (size_t i = 0; i < e->cache.count; i++) {
            const char *name = e->cache.names[i];
            char *whole;

            if (strncmp(name, word + before, strlen(word + before)) != 0)
                continue;
            whole = keel_alloc(before + strlen(name) + 1);
            if (!whole)
                break;
            memcpy(whole, head, before);
            strcpy(whole + before, name);
            names_add(ret, whole, "");
            keel_free(whole);
        }
    }
    keel_free(head);
}

/* ---- names here ----------------------------------------------------------------------------- */

struct local {
    struct names *ret;
    const char *head, *rest;
    int dir;
};

static int local_found(const char *name, unsigned char type, void *arg)
{
    struct local *l = arg;
    char *whole;
    int rc;

    if (strncmp(name, l->rest, strlen(l->rest)) != 0 ||
        (name[0] == '.' && l->rest[0] != '.'))
        return 0;
    whole = keel_alloc(strlen(l->head) + strlen(name) + 1);
    if (!whole)
        return -ENOMEM;
    strcpy(whole, l->head);
    strcat(whole, name);
    rc = names_add(l->ret, whole, type == 4 ? "/" : "");
    keel_free(whole);
    return rc;
}

static void find_local(const char *word, struct names *ret)
{
    const char *slash = strrchr(word, '/');
    size_t before = slash ? (size_t)(slash - word) + 1 : 0;
    keel_auto(str) char *head = keel_strdup(word);
    keel_auto(file) int dir = -1;
    struct local l = {ret, head, word + before, -1};

    if (!head)
        return;
    head[before] = 0;
    dir = keel_file_open_any(before ? head : ".", O_RDONLY | O_DIRECTORY, 0);
    if (dir >= 0)
        keel_file_list(dir, local_found, &l);
}

/* ---- completing ------------------------------------------------------------------------------ */

static void find_commands(const char *word, struct names *ret)
{
    size_t size = strlen(word);

    for (size_t i = 0; shell_word_at(i); i++) {
        if (shell_word_at(i)->help &&
            strncmp(shell_word_at(i)->name, word, size) == 0)
            names_add(ret, shell_word_at(i)->name, "");
    }
    for (size_t i = 0; command_at(i); i++) {
        if (shell_has(command_at(i)) &&
            strncmp(command_at(i)->name, word, size) == 0)
            names_add(ret, command_at(i)->name, "");
    }
}

static void find_options(const struct command *k, const char *word,
                         struct names *ret)
{
    for (size_t i = 0; option_at(i); i++) {
        char name[64];

        if ((option_at(i)->bit & (k->options | OPTIONS_GLOBAL)) == 0)
            continue;
        snprintf(name, sizeof(name), "--%s", option_at(i)->name);
        if (strncmp(name, word, strlen(word)) == 0)
            names_add(ret, name, "");
    }
}

/* What the word at the cursor may become; `before` words stand before it. */
static void find(struct editor *e, struct shell_words *w, int before,
                 const char *word, struct names *ret)
{
    const struct command *k = NULL;
    enum argument_kind kind = ARGUMENT_NONE;
    bool all;
    const char *name = before > 0 && w->count > 0 ? w->words[0] : "";
    int at = -1;

    if (before == 0) {
        find_commands(word, ret);
        return;
    }
    for (int i = 0; i < before && i < w->count; i++)
        at += w->words[i][0] != '-';
    for (size_t i = 0; shell_word_at(i); i++) {
        if (strcmp(shell_word_at(i)->name, name) == 0)
            kind = shell_word_at(i)->arguments;
    }
    k = shell_command(name, &all);
    if (kind == ARGUMENT_NONE && k)
        kind = k->arguments;
    if (k && word[0] == '-') {
        find_options(k, word, ret);
        return;
    }
    kind = shell_kind(kind, name, at);
    if (kind == ARGUMENT_COMMAND)
        find_commands(word, ret);
    if (kind == ARGUMENT_REMOTE || kind == ARGUMENT_BOTH)
        find_remote(e, word, ret);
    if (kind == ARGUMENT_LOCAL || kind == ARGUMENT_BOTH)
        find_local(word, ret);
}

/* What all of them begin with. */
static size_t common(const struct names *n)
{
    size_t size = strlen(n->names[0]);

    for (size_t i = 1; i < n->count; i++) {
        size_t at = 0;

        while (at < size && n->names[i][at] == n->names[0][at])
            at++;
        size = at;
    }
    /* not in the middle of a character */
    while (size > 0 && ((uint8_t)n->names[0][size] & 0xc0) == 0x80)
        size--;
    return size;
}

static void show(const struct names *n)
{
    struct columns *columns = keel_calloc(1, sizeof(*columns));

    if (!columns)
        return;
    columns->width = text_terminal(1);
    putchar('\n');
    for (size_t i = 0; i < n->count; i++) {
        const char *name = n->names[i], *leaf = name + strlen(name);
        char shown[1100];

        /* without the directories that all of them share */
        while (leaf > name &&
               (leaf[0] == 0 || leaf[0] == '/' || leaf[-1] != '/'))
            leaf--;
        text_escape(leaf, strlen(leaf), shown, sizeof(shown));
        columns_add(columns, shown, stdout);
    }
    columns_flush(columns, stdout);
    fflush(stdout);
    keel_free(columns);
}

static unsigned char put_in(struct editor *e, const struct names *n,
                            size_t written, const char *word)
{
    size_t size = common(n), room;
    keel_auto(str) char *name = keel_strdup(n->names[0]);
    keel_auto(str) char *quoted = NULL;
    bool whole = n->count == 1;

    if (!name)
        return CC_ERROR;
    name[size] = 0;
    room = size * 4 + 4;
    quoted = keel_alloc(room);
    if (!quoted || shell_quote(name, quoted, room - 1) < 0)
        return CC_ERROR;
    if (whole && (size == 0 || name[size - 1] != '/'))
        strcat(quoted, " ");
    if (!whole && size <= strlen(word)) {
        show(n);
        return CC_REDISPLAY;
    }
    el_deletestr(e->el, (int)written);
    if (el_insertstr(e->el, quoted) < 0)
        return CC_ERROR;
    return CC_REFRESH;
}

static unsigned char complete(EditLine *el, int key)
{
    const LineInfo *line = el_line(el);
    size_t size = (size_t)(line->cursor - line->buffer), start;
    struct names n = {0};
    struct shell_words *w = keel_calloc(1, sizeof(*w));
    char *word = keel_alloc(size + 1);
    unsigned char rc = CC_ERROR;
    struct editor *e;
    int before;

    (void)key;
    el_get(el, EL_CLIENTDATA, &e);
    if (w && word && size < SHELL_LINE_BYTES) {
        before = shell_last_word(line->buffer, size, &start, word, size + 1);
        shell_split(line->buffer, start, w, NULL);
        find(e, w, before, word, &n);
        if (n.count > 0) {
            /* libedit counts characters */
            size_t written = 0;

            for (size_t i = start; i < size; i++)
                written += ((uint8_t)line->buffer[i] & 0xc0) != 0x80;
            rc = put_in(e, &n, written, word);
        }
    }
    names_fini(&n);
    if (w)
        shell_words_fini(w);
    keel_free(w);
    keel_free(word);
    return rc;
}

/* ---- keys ----------------------------------------------------------------------------------- */

/* One byte of the terminal, which stays as its other users have it: it is only
 * read when there is something. */
static int byte_read(struct editor *e, char *ret)
{
    for (;;) {
        int rc = keel_fd_poll(0, POLLIN, KEEL_FOREVER);
        ssize_t got;

        if (rc < 0) {
            e->error = rc;
            return -1;
        }
        /* Not keel_fd_read, which wants O_NONBLOCK: that would be set for the
         * shell as well that we came from. */
        got = read(0, ret, 1);
        if (got == 1)
            return 1;
        if (got == 0)
            return 0;
        if (errno != EINTR && errno != EAGAIN) {
            e->error = -errno;
            return -1;
        }
    }
}

/* libedit's: a character; 0 at the end, -1 to give up. */
static int key_read(EditLine *el, wchar_t *ret)
{
    struct editor *e;
    char bytes[4];
    size_t size = 0;

    el_get(el, EL_CLIENTDATA, &e);
    while (size < sizeof(bytes)) {
        int rc = byte_read(e, &bytes[size]);
        uint8_t first = (uint8_t)bytes[0];
        size_t needed = first < 0x80   ? 1
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                                       : 4;

        if (rc <= 0)
            return rc;
        if (++size < needed)
            continue;
        if (size == 1) {
            *ret = first;
            return 1;
        }
        if (text_utf8(bytes, size) == size) {
            *ret = text_decode(bytes, size);
            return 1;
        }
        size = 0; /* no character: passed over */
    }
    return -1;
}

static char *prompt(EditLine *el)
{
    struct editor *e;

    el_get(el, EL_CLIENTDATA, &e);
    return e->prompt;
}

static void prompt_make(struct editor *e)
{
    size_t at = (size_t)snprintf(e->prompt, sizeof(e->prompt), "ferry ");

    place_print(&e->s->here, e->prompt + at, sizeof(e->prompt) - at - 3);
    strcat(e->prompt, "> ");
}

void editor_told(struct editor *e, char what)
{
    if (!e)
        return;
    el_resize(e->el);
    if (what == 'c' && e->reading)
        el_set(e->el, EL_REFRESH);
}

int editor_read(struct editor *e, const char **ret, size_t *ret_size)
{
    struct termios now;
    const char *line;
    int count = 0;

    prompt_make(e);
    e->error = 0;
    if (tcgetattr(0, &e->before) < 0)
        return -errno;
    e->reading = true;
    el_set(e->el, EL_PREP_TERM, 1);
    if (tcgetattr(0, &now) == 0)
        interrupt_terminal(0, &e->before, &now);
    line = el_gets(e->el, &count);
    interrupt_terminal(0, NULL, NULL);
    el_set(e->el, EL_PREP_TERM, 0);
    tcsetattr(0, TCSADRAIN, &e->before);
    e->reading = false;
    if (e->error < 0)
        return e->error;
    if (!line || count <= 0)
        return -ENODATA;
    *ret = line;
    *ret_size = strlen(line);
    if (*ret_size > 0 && line[*ret_size - 1] == '\n')
        (*ret_size)--;
    /* What begins with a blank is nobody's matter. */
    if (*ret_size > 0 && *line != ' ' && !shell_secret(line, *ret_size)) {
        HistEvent event;

        history(e->history, &event, H_ENTER, line);
    }
    return 0;
}

/* ---- history ------------------------------------------------------------------------------- */

static void history_load(struct editor *e)
{
    char path[64];
    HistEvent event;

    history(e->history, &event, H_SETSIZE, HISTORY_LINES);
    history(e->history, &event, H_SETUNIQUE, 1);
    snprintf(path, sizeof(path), "/proc/self/fd/%d/history", e->s->home.fd);
    history(e->history, &event, H_LOAD, path);
}

static void history_save(struct editor *e)
{
    HistEvent event;
    FILE *file;
    int fd = keel_file_open(e->s->home.fd, "history",
                            O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd < 0)
        return;
    keel_file_chmod(fd, 0600);
    file = fdopen(fd, "w");
    if (!file) {
        keel_file_close(fd);
        return;
    }
    history(e->history, &event, H_SAVE_FP, file);
    fclose(file);
}

/* ---- the whole -------------------------------------------------------------------------------- */

int editor_new(struct shell *s, struct editor **ret, struct problem *why)
{
    struct editor *e = keel_calloc(1, sizeof(*e));

    if (!e)
        return problem(why, NO_MEMORY);
    e->s = s;
    e->history = history_init();
    e->el = el_init("ferry", stdin, stdout, stderr);
    if (!e->history || !e->el) {
        if (e->history)
            history_end(e->history);
        if (e->el)
            el_end(e->el);
        keel_free(e);
        return problem(why, NO_MEMORY);
    }
    el_set(e->el, EL_CLIENTDATA, e);
    el_set(e->el, EL_SIGNAL, 0);
    el_set(e->el, EL_EDITOR, "emacs");
    el_set(e->el, EL_PROMPT, prompt);
    el_set(e->el, EL_HIST, history, e->history);
    el_set(e->el, EL_GETCFN, key_read);
    el_set(e->el, EL_ADDFN, "ferry-complete", "Completes a name", complete);
    el_set(e->el, EL_BIND, "^I", "ferry-complete", NULL);
    el_set(e->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(e->el, NULL); /* ~/.editrc */
    history_load(e);
    *ret = e;
    return 0;
}

void editor_free(struct editor *e)
{
    if (!e)
        return;
    history_save(e);
    editor_forget(e);
    el_end(e->el);
    history_end(e->history);
    keel_free(e);
}
