/* SPDX-License-Identifier: MIT */
/* A pipe between processes: whole messages both ways, and a descriptor.
 *
 *     cc process_pipe.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * The child answers each message in capitals, writes into the file that comes
 * with the last one, and ends when the other end is gone. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <keel/pipe.h>
#include <keel/process.h>

KEEL_PROCESS(shouter)
{
    keel_auto(pipe) struct keel_pipe *pipe = NULL;
    char text[100];
    int fds[KEEL_PIPE_FDS_MOST], rc;
    size_t size, count;

    if (keel_pipe_open(arg->fds[0], &pipe) < 0)
        return 1;
    while ((rc = keel_pipe_get_fds(pipe, text, sizeof(text), fds, KEEL_FOREVER,
                                   &size, &count)) == 0) {
        for (size_t i = 0; i < size; i++)
            text[i] = (char)toupper((unsigned char)text[i]);
        for (size_t i = 0; i < count; i++) {
            dprintf(fds[i], "written by the child");
            close(fds[i]);
        }
        if (keel_pipe_put(pipe, text, size, KEEL_FOREVER) < 0)
            return 1;
    }
    return rc == -EPIPE ? 7 : 1;
}

int main(void)
{
    static const char *const words[] = {"a message", "stays whole", "a file"};
    keel_auto(pipe) struct keel_pipe *ours = NULL, *theirs = NULL;
    keel_auto(process) struct keel_process *child = NULL;
    FILE *file = tmpfile();
    char text[100];
    size_t size;
    int fd, code = -1;

    if (!file || keel_pipe_new(&ours, &theirs) < 0)
        return 1;
    fd = keel_pipe_fd(theirs);
    if (keel_process_start(
            "shouter", &(struct keel_process_how){.fds = &fd, .fd_count = 1},
            &child) < 0)
        return 1;
    keel_pipe_free(keel_take(theirs)); /* the child has it */

    for (int i = 0; i < 3; i++) {
        fd = fileno(file);
        if (keel_pipe_put_fds(ours, words[i], strlen(words[i]), &fd, i == 2,
                              KEEL_FOREVER) < 0 ||
            keel_pipe_get(ours, text, sizeof(text), KEEL_FOREVER, &size) < 0)
            return 1;
        printf("%s -> %.*s\n", words[i], (int)size, text);
    }
    printf("in the file: %.*s\n",
           (int)pread(fileno(file), text, sizeof(text), 0), text);
    keel_pipe_free(keel_take(ours));
    keel_process_join(child, KEEL_FOREVER, NULL);
    keel_process_exitcode(child, &code);
    printf("the child saw the end and returned %d\n", code);
    fclose(file);
    return 0;
}
