/* SPDX-License-Identifier: MIT */
#include "daemon/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>

#include <keel/file.h>
#include <keel/io.h>

#include "account/scram.h"
#include "wire/frame.h"

#define LINE_BYTES (PASSWORD_MOST + 2)

/* One line of a pipe, file or terminal, byte by byte: what follows is somebody
 * else's. */
static int read_line(int fd, bool typed, char ret[LINE_BYTES])
{
    size_t count = 0;

    for (;;) {
        char c;
        ssize_t got = keel_fd_read(fd, &c, 1, KEEL_FOREVER);

        if (got < 0)
            return (int)got;
        if (typed && got == 1 && (c == 3 || c == 4))
            return -EINTR;
        if (typed && got == 1 && (c == 0x7f || c == 8)) {
            count -= count > 0;
            continue;
        }
        if (got == 0 || c == '\n' || c == '\r')
            break;
        if (count + 1 == LINE_BYTES)
            return -EMSGSIZE;
        ret[count++] = c;
    }
    ret[count] = 0;
    return 0;
}

/* Signals are off with the echo: a ^C that killed us would leave the terminal
 * mute, so it is an answer here. */
static int typed_line(int tty, const char *prompt, char ret[LINE_BYTES])
{
    struct termios before, quiet;
    int rc;

    if (tcgetattr(tty, &before) < 0)
        return -ENOTTY;
    quiet = before;
    quiet.c_lflag &= (tcflag_t) ~(ECHO | ISIG | ICANON);
    tcsetattr(tty, TCSAFLUSH, &quiet);
    /* A terminal that takes no words gives none either, and that is told. */
    (void)keel_fd_write(tty, prompt, strlen(prompt), KEEL_FOREVER);
    rc = read_line(tty, true, ret);
    tcsetattr(tty, TCSAFLUSH, &before);
    (void)keel_fd_write(tty, "\n", 1, KEEL_FOREVER);
    return rc;
}

static int typed_twice(int tty, const char *account, char ret[LINE_BYTES])
{
    char prompt[80], again[LINE_BYTES];
    int rc;

    snprintf(prompt, sizeof(prompt), "New password for %.32s: ", account);
    do {
        rc = typed_line(tty, prompt, ret);
        if (rc == 0)
            rc = typed_line(tty, "Again: ", again);
        if (rc == 0 && strcmp(ret, again) != 0) {
            fputs("The two are not the same; once more.\n", stderr);
            rc = -EAGAIN;
        }
    } while (rc == -EAGAIN);
    keel_wipe(again, sizeof(again));
    return rc;
}

static int secret_terminal(const char *account, char ret[LINE_BYTES],
                           struct problem *why)
{
    int tty = keel_file_open_any("/dev/tty", O_RDWR | O_NOCTTY, 0);
    int rc;

    if (tty < 0)
        return problem(why, USAGE,
                       .detail = "there is no terminal to ask for the "
                                 "password at; use --password-file FILE");
    rc = keel_fd_adopt(tty);
    if (rc == 0)
        rc = typed_twice(tty, account, ret);
    keel_fd_close(tty);
    return rc < 0 ? problem(why, CANCELLED) : 0;
}

static int secret_pipe(int fd, const char *path, char ret[LINE_BYTES],
                       struct problem *why)
{
    int rc = read_line(fd, false, ret);

    if (rc == -EMSGSIZE)
        return problem(why, USAGE, .detail = "the password is too long");
    if (rc < 0)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = path);
    return 0;
}

static int secret_file(const char *path, char ret[LINE_BYTES],
                       struct problem *why)
{
    keel_auto(file) int fd = keel_file_open_any(path, O_RDONLY, 0);
    struct statx st;
    ssize_t size;

    if (fd < 0)
        return problem(why, FILE_LOCAL, .errno_ = -fd, .name = path);
    /* A pipe, as of <(pass show mara), is read from where it is. */
    if (keel_file_stat(fd, NULL, &st) == 0 && !S_ISREG(st.stx_mode) &&
        !S_ISDIR(st.stx_mode))
        return secret_pipe(fd, path, ret, why);
    size = keel_file_read(fd, ret, LINE_BYTES - 1, 0);
    if (size < 0)
        return problem(why, FILE_LOCAL, .errno_ = (int)-size, .name = path);
    if (size == LINE_BYTES - 1 && !memchr(ret, '\n', (size_t)size))
        return problem(why, FILE_TOO_LARGE, .name = path, .size = LINE_BYTES,
                       .limit = PASSWORD_MOST);
    ret[size] = 0;
    ret[strcspn(ret, "\r\n")] = 0;
    return 0;
}

static int secret_stdin(char ret[LINE_BYTES], struct problem *why)
{
    int rc = read_line(0, false, ret);

    if (rc == -EMSGSIZE)
        return problem(why, USAGE, .detail = "the password is too long");
    if (rc < 0)
        return problem(why, FILE_LOCAL, .errno_ = -rc,
                       .name = "standard input");
    return 0;
}

static json_t *scram_json(const struct ledger_scram *s)
{
    return json_pack("{s:i, s:o, s:o, s:o}", "iterations", (int)s->iterations,
                     "salt", bytes_to_json(s->salt, s->salt_size), "stored",
                     bytes_to_json(s->stored_key, sizeof(s->stored_key)),
                     "server",
                     bytes_to_json(s->server_key, sizeof(s->server_key)));
}

int secret_ask(const char *file, const char *account, json_t **ret_scram,
               struct problem *why)
{
    char line[LINE_BYTES] = "";
    struct ledger_scram scram;
    struct termios any;
    int rc;

    if (file && strcmp(file, "-") != 0)
        rc = secret_file(file, line, why);
    else if (file || tcgetattr(0, &any) < 0)
        rc = secret_stdin(line, why);
    else
        rc = secret_terminal(account, line, why);
    if (rc == 0)
        rc = scram_derive(line, &scram, why);
    keel_wipe(line, sizeof(line));
    if (rc < 0)
        return rc;
    *ret_scram = scram_json(&scram);
    keel_wipe(&scram, sizeof(scram));
    return *ret_scram ? 0 : problem(why, NO_MEMORY);
}

int secret_scram(const json_t *request, struct ledger_scram *ret,
                 struct problem *why)
{
    const json_t *j = json_object_get(request, "scram");
    struct ledger_scram s = {0};
    uint64_t iterations;
    size_t salt_size;
    int rc =
        field_u64(j, "iterations", SCRAM_ITERATIONS_MOST, &iterations, why);

    if (rc == 0)
        rc = field_blob(j, "salt", SCRAM_SALT_BYTES, SCRAM_SALT_BYTES, s.salt,
                        &salt_size, why);
    if (rc == 0)
        rc = field_bytes(j, "stored", s.stored_key, sizeof(s.stored_key), why);
    if (rc == 0)
        rc = field_bytes(j, "server", s.server_key, sizeof(s.server_key), why);
    if (rc < 0)
        return rc;
    if (iterations < SCRAM_ITERATIONS)
        return problem(why, REQUEST_INVALID,
                       .detail = "the password was derived with too few "
                                 "iterations");
    s.iterations = (uint32_t)iterations;
    s.salt_size = (uint8_t)salt_size;
    *ret = s;
    return 0;
}
