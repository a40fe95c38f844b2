/* SPDX-License-Identifier: MIT */
#include "client/password.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>

#include <keel/file.h>
#include <keel/io.h>

#include "client/interrupt.h"

/* Reads a line from the terminal.  Without echo, signals are off too: a ^C that
 * killed us would leave the terminal mute, so it is an answer here. */
static int terminal_line(const char *prompt, bool echo, char *ret, size_t size)
{
    int fd = keel_file_open_any("/dev/tty", O_RDWR | O_NOCTTY, 0);
    struct termios before, quiet;
    size_t count = 0;
    int rc = 0;

    if (fd < 0)
        return -ENOTTY;
    if (keel_fd_adopt(fd) < 0 || tcgetattr(fd, &before) < 0) {
        keel_fd_close(fd);
        return -ENOTTY;
    }
    quiet = before;
    if (!echo) {
        quiet.c_lflag &= (tcflag_t) ~(ECHO | ISIG | ICANON);
        interrupt_terminal(fd, &before);
        tcsetattr(fd, TCSAFLUSH, &quiet);
    }
    keel_fd_write(fd, prompt, strlen(prompt), KEEL_FOREVER);
    for (;;) {
        char c;
        ssize_t got = keel_fd_read(fd, &c, 1, KEEL_FOREVER);

        if (got <= 0 || c == 3 || c == 4) {
            rc = got < 0 ? (int)got : -EINTR;
            break;
        }
        if (c == '\n' || c == '\r')
            break;
        if (!echo && (c == 0x7f || c == 8)) {
            count -= count > 0;
            continue;
        }
        if (count + 1 >= size) {
            rc = -EMSGSIZE;
            break;
        }
        ret[count++] = c;
    }
    ret[count] = 0;
    if (!echo) {
        tcsetattr(fd, TCSAFLUSH, &before);
        interrupt_terminal(fd, NULL);
        keel_fd_write(fd, "\n", 1, KEEL_FOREVER);
    }
    keel_fd_close(fd);
    return rc;
}

static int password_file(const char *path, char ret[PASSWORD_BYTES],
                         struct problem *why)
{
    keel_auto(file) int fd = keel_file_open_any(path, O_RDONLY, 0);
    ssize_t size;

    if (fd < 0)
        return problem(why, FILE_LOCAL, .errno_ = -fd, .name = path);
    size = keel_file_read(fd, ret, PASSWORD_BYTES, 0);
    if (size < 0)
        return problem(why, FILE_LOCAL, .errno_ = (int)-size, .name = path);
    if (size == PASSWORD_BYTES && !memchr(ret, '\n', PASSWORD_BYTES))
        return problem(why, FILE_TOO_LARGE, .name = path,
                       .size = PASSWORD_BYTES, .limit = PASSWORD_BYTES - 1);
    ret[size < PASSWORD_BYTES ? size : PASSWORD_BYTES - 1] = 0;
    ret[strcspn(ret, "\r\n")] = 0;
    return 0;
}

static int nobody(struct problem *why)
{
    return problem(why, USAGE,
                   .detail = "there is no terminal to ask for the password; "
                             "use --password-file FILE or FERRY_PASSWORD");
}

int password_get(struct cli *c, const char *prompt, bool twice,
                 char ret[PASSWORD_BYTES], struct problem *why)
{
    const char *variable = getenv("FERRY_PASSWORD");
    char again[PASSWORD_BYTES];
    int rc;

    if (c->password_file)
        return password_file(c->password_file, ret, why);
    if (variable) {
        if (strlen(variable) >= PASSWORD_BYTES)
            return problem(why, USAGE, .detail = "FERRY_PASSWORD is too long");
        strcpy(ret, variable);
        return 0;
    }
    for (;;) {
        rc = terminal_line(prompt, false, ret, PASSWORD_BYTES);
        if (rc == 0 && twice) {
            rc = terminal_line("Again: ", false, again, PASSWORD_BYTES);
            if (rc == 0 && strcmp(ret, again) != 0) {
                fprintf(stderr, "The two are not the same; once more.\n");
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
