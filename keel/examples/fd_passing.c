/* SPDX-License-Identifier: MIT */
/* An open file goes through a unix socket: who opens it need not be who writes
 * it.
 *
 *     cc fd_passing.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * The clerk has a file open and sends it with a word about it; the writer gets
 * a descriptor of its own, closed on exec.  What it did not ask for is refused,
 * and leaves no descriptor behind. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/net.h>

/* The lowest number that is free: it grows when one is left behind. */
static int lowest(void)
{
    int fd = dup(0);

    close(fd);
    return fd;
}

static int writer(void *arg)
{
    struct keel_stream *s = arg;
    keel_ns deadline = keel_after(10 * KEEL_SECOND);
    char word[4];
    size_t count;
    int fd, rc, before;

    rc = keel_stream_recv_fds(s, word, 4, &fd, 1, deadline, &count);
    if (rc < 0 || count != 1)
        return -EPROTO;
    printf("writer: '%.4s' came with %zu file\n", word, count);
    dprintf(fd, "written by who never opened it");
    close(fd);

    before = lowest();
    rc = keel_stream_recv_fds(s, word, 4, &fd, 1, deadline, &count);
    printf("writer: three files at once are %s, %d left behind\n",
           rc == -E2BIG ? "too many" : "taken", lowest() - before);
    return rc == -E2BIG ? 0 : rc;
}

static int clerk(void *arg)
{
    struct keel_stream *s[2] = {NULL, NULL};
    keel_ns deadline = keel_after(10 * KEEL_SECOND);
    FILE *file = tmpfile();
    int pair[2], fds[3], rc, result = 0;
    struct keel_co *co;
    char text[64];

    (void)arg;
    /* To another program it would be keel_listen("unix:PATH"). */
    if (!file || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -EIO;
    rc = keel_stream_from_fd(pair[0], &s[0]);
    if (rc == 0)
        rc = keel_stream_from_fd(pair[1], &s[1]);
    if (rc == 0)
        rc = keel_spawn(NULL, writer, s[1], &co);
    if (rc < 0)
        return rc;
    fds[0] = fds[1] = fds[2] = fileno(file);
    rc = keel_stream_send_fds(s[0], "note", 4, fds, 1, deadline);
    if (rc == 0)
        rc = keel_stream_send_fds(s[0], "many", 4, fds, 3, deadline);
    if (rc == 0)
        rc = keel_join(co, deadline, &result);
    if (rc == 0)
        printf("clerk: in the file: %.*s\n",
               (int)pread(fileno(file), text, sizeof(text), 0), text);
    keel_stream_close(s[0]);
    keel_stream_close(s[1]);
    fclose(file);
    return rc < 0 ? rc : result;
}

int main(void)
{
    return keel_run(clerk, NULL) == 0 ? 0 : 1;
}
