/* SPDX-License-Identifier: MIT */
#include "client/password.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/io.h>

#include "account/scram.h"
#include "client/interrupt.h"
#include "client/progress.h"
#include "client/text.h"

#define ERRORS_MOST 50
#define KEY_INTERRUPT 3
#define KEY_END 4
#define KEY_BACK 8
#define KEY_KILL 21
#define KEY_SUSPEND 26
#define KEY_DELETE 0x7f

/* Reads a line from the terminal.  Without echo the terminal sends no signals:
 * a ^C that killed us would leave it mute, so it is an answer here, and ^Z stops
 * us in good order.  Signals from elsewhere are interrupt.h's. */
static int terminal_read(int fd, const char *prompt, bool echo, char *ret,
                         size_t size)
{
    unsigned resumed = interrupt_resumed(), errors = 0;
    size_t count = 0;

    keel_fd_write(fd, prompt, strlen(prompt), KEEL_FOREVER);
    interrupt_prompt(fd, prompt);
    for (;;) {
        char c;
        ssize_t got = keel_fd_read(fd, &c, 1, KEEL_FOREVER);

        /* What was typed before a stop belongs to the question before. */
        if (resumed != interrupt_resumed())
            count = 0;
        resumed = interrupt_resumed();
        ret[count] = 0;
        /* Stopped, and back again; or the terminal is gone. */
        if ((got == -EIO || got == -EINTR) && ++errors < ERRORS_MOST &&
            keel_sleep(keel_after(20 * KEEL_MS)) == 0)
            continue;
        if (got < 0)
            return (int)got;
        errors = 0;
        if (got == 0 || c == KEY_INTERRUPT || (c == KEY_END && count == 0))
            return -EINTR;
        if (c == '\n' || c == '\r' || c == KEY_END)
            return 0;
        if (!echo && c == KEY_SUSPEND) {
            interrupt_suspend();
            continue;
        }
        if (!echo && c == KEY_KILL) {
            count = 0;
            continue;
        }
        if (!echo && (c == KEY_DELETE || c == KEY_BACK)) {
            /* a character, not a byte of it */
            while (count > 0 && ((uint8_t)ret[count - 1] & 0xc0) == 0x80)
                count--;
            count -= count > 0;
            continue;
        }
        if (count + 1 >= size)
            return -EMSGSIZE;
        ret[count++] = c;
    }
}

static int terminal_line(const char *prompt, bool echo, char *ret, size_t size)
{
    int fd = keel_file_open_any("/dev/tty", O_RDWR | O_NOCTTY, 0);
    struct termios before, quiet;
    int rc;

    if (fd < 0)
        return -ENOTTY;
    if (keel_fd_adopt(fd) < 0 || tcgetattr(fd, &before) < 0) {
        keel_fd_close(fd);
        return -ENOTTY;
    }
    quiet = before;
    if (!echo) {
        quiet.c_lflag &= (tcflag_t) ~(ECHO | ISIG | ICANON);
        /* Begun in the background it stops here, until the terminal is ours. */
        interrupt_terminal(fd, &before, &quiet);
        tcsetattr(fd, TCSAFLUSH, &quiet);
    }
    progress_hush(true);
    rc = terminal_read(fd, prompt, echo, ret, size);
    interrupt_prompt(-1, NULL);
    if (!echo) {
        tcsetattr(fd, TCSAFLUSH, &before);
        interrupt_terminal(fd, NULL, NULL);
        keel_fd_write(fd, "\n", 1, KEEL_FOREVER);
    }
    progress_hush(false);
    keel_fd_close(fd);
    return rc;
}

#define FILE_BYTES (2 * PASSWORD_BYTES)

/* To the end of a pipe, as of <(pass show ferry). */
static ssize_t pipe_read(int fd, char *ret, size_t size)
{
    size_t have = 0;

    while (have < size) {
        ssize_t got = keel_fd_read(fd, ret + have, size - have, KEEL_FOREVER);

        if (got < 0)
            return got;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

static ssize_t file_read(const char *path, char *ret, size_t size)
{
    int fd = keel_file_open_any(strcmp(path, "-") == 0 ? "/dev/stdin" : path,
                                O_RDONLY | O_NOCTTY, 0);
    struct statx st;
    ssize_t got;

    if (fd < 0)
        return fd;
    got = keel_file_stat(fd, NULL, &st);
    if (got < 0 || S_ISREG(st.stx_mode) || S_ISDIR(st.stx_mode)) {
        got = got < 0 ? got : keel_file_read(fd, ret, size, 0);
        keel_file_close(fd);
        return got;
    }
    got = keel_fd_adopt(fd);
    if (got == 0)
        got = pipe_read(fd, ret, size);
    keel_fd_close(fd);
    return got;
}

/* Line `line`, 0 or 1, of a file.  A pipe gives what is in it once, and 'passwd'
 * asks twice: the second line is kept from the first time. */
static int password_file(const char *path, unsigned line,
                         char ret[PASSWORD_BYTES], struct problem *why)
{
    static char kept[FILE_BYTES];
    char text[FILE_BYTES], *at = text, *end;
    ssize_t size;

    if (line > 0 && kept[0]) {
        memcpy(text, kept, sizeof(text));
        keel_wipe(kept, sizeof(kept));
    } else {
        size = file_read(path, text, sizeof(text) - 1);
        if (size < 0)
            return problem(why, FILE_LOCAL, .errno_ = (int)-size, .name = path);
        text[size] = 0;
        memcpy(kept, text, (size_t)size + 1);
    }
    for (unsigned i = 0; i < line && at; i++) {
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    if (!at || (line > 0 && !*at)) {
        keel_wipe(text, sizeof(text));
        return problem(why, USAGE,
                       .detail = "the password file has one line; the new "
                                 "password is the second");
    }
    end = at + strcspn(at, "\r\n");
    if (end - at >= PASSWORD_BYTES) {
        keel_wipe(text, sizeof(text));
        return problem(why, FILE_TOO_LARGE, .name = path,
                       .size = PASSWORD_BYTES, .limit = PASSWORD_BYTES - 1);
    }
    memcpy(ret, at, (size_t)(end - at));
    ret[end - at] = 0;
    keel_wipe(text, sizeof(text));
    return 0;
}

static int nobody(struct problem *why)
{
    return problem(why, USAGE,
                   .detail = "there is no terminal to ask for the password; "
                             "use --password-file FILE or FERRY_PASSWORD");
}

static int password_variable(const char *name, const char *value,
                             char ret[PASSWORD_BYTES], struct problem *why)
{
    char detail[64];

    snprintf(detail, sizeof(detail), _("%s is too long"), name);
    if (strlen(value) >= PASSWORD_BYTES)
        return problem(why, USAGE, .detail = detail);
    strcpy(ret, value);
    return 0;
}

static int password_ask(const char *prompt, bool twice,
                        char ret[PASSWORD_BYTES], struct problem *why)
{
    char again[PASSWORD_BYTES];
    int rc;

    for (;;) {
        rc = terminal_line(prompt, false, ret, PASSWORD_BYTES);
        if (rc == 0 && twice) {
            /* Nobody types a second time what will not do. */
            rc = scram_password_check(ret, why);
            if (rc < 0)
                return rc;
            rc = terminal_line(_("Again: "), false, again, PASSWORD_BYTES);
            if (rc == 0 && strcmp(ret, again) != 0) {
                fprintf(stderr, "%s\n",
                        _("The two are not the same; once more."));
                continue;
            }
        }
        keel_wipe(again, sizeof(again));
        if (rc == -ENOTTY)
            return nobody(why);
        if (rc < 0)
            return problem(why, CANCELLED);
        return 0;
    }
}

int password_get(struct cli *c, const char *prompt, bool twice,
                 char ret[PASSWORD_BYTES], struct problem *why)
{
    const char *variable = getenv("FERRY_PASSWORD");

    if (c->password_file)
        return password_file(c->password_file, 0, ret, why);
    if (variable)
        return password_variable("FERRY_PASSWORD", variable, ret, why);
    return password_ask(prompt, twice, ret, why);
}

bool password_typed(const struct cli *c)
{
    return !c->password_file && !getenv("FERRY_PASSWORD");
}

int password_new(struct cli *c, const char *prompt, char ret[PASSWORD_BYTES],
                 struct problem *why)
{
    const char *variable = getenv("FERRY_NEW_PASSWORD");

    if (c->password_file)
        return password_file(c->password_file, 1, ret, why);
    if (variable)
        return password_variable("FERRY_NEW_PASSWORD", variable, ret, why);
    return password_ask(prompt, true, ret, why);
}

int ask_yes(const char *question)
{
    char answer[16];
    int rc = terminal_line(question, true, answer, sizeof(answer));

    if (rc < 0)
        return rc;
    return answer[0] == 'y' || answer[0] == 'Y';
}

int ask_line(const char *prompt, char *ret, size_t size, struct problem *why)
{
    int rc = terminal_line(prompt, true, ret, size);

    if (rc == -ENOTTY)
        return problem(why, USAGE, .detail = "there is no terminal to ask at");
    if (rc < 0)
        return problem(why, CANCELLED);
    return 0;
}
