/* SPDX-License-Identifier: MIT */
/* Inside keel: the spawner, and what it and its program say to each other.
 *
 * One SOCK_SEQPACKET pair.  The program asks with a struct spawn_request, the
 * argument's bytes behind it, and descriptors; the spawner answers each with a
 * STARTED note, which carries the pidfd, and tells each end with an ENDED
 * note.  They interleave: `id` says whose a note is. */
#ifndef KEEL_SPAWNER_H
#define KEEL_SPAWNER_H

#include <signal.h>
#include <sys/uio.h>

#include <keel/process.h>

/* In the environment of the spawner, until it has read it:
 * "SOCKET,FAMILY", two descriptors. */
#define SPAWNER_ENV "KEEL_SPAWNER"

enum { SPAWN_PLACES = 4 }; /* current directory, and standard descriptors */

struct spawn_request {
    uint64_t id;
    char entry[KEEL_PROCESS_NAME_MOST + 1];
    char name[KEEL_PROCESS_NAME_MOST + 1];
    uint32_t arg_size;
    uint32_t fd_count;        /* behind the places */
    bool given[SPAWN_PLACES]; /* which of the places are there */
    bool daemon;
};

enum spawn_note_kind { NOTE_STARTED, NOTE_ENDED };
struct spawn_note {
    uint64_t id;
    enum spawn_note_kind kind;
    pid_t pid;
    int error; /* STARTED: 0, or why it was not */
    int status;
    struct rusage usage;
};

enum { SPAWN_FDS_MOST = KEEL_PROCESS_FDS_MOST + SPAWN_PLACES };

/* Also of the program: -errno. */
ssize_t spawn_send(int socket, const struct iovec *parts, size_t part_count,
                   const int *fds, size_t fd_count, int flags);
/* `ret_fds` has room for SPAWN_FDS_MOST. */
ssize_t spawn_receive(int socket, void *buf, size_t size, int *ret_fds,
                      size_t *ret_count);

/* Of keel_process_cancel. */
#define PROCESS_CANCEL_SIGNAL (SIGRTMIN + 9)

keel_process_fn *process_entry(const char *name);
/* The life of the spawner, and of its processes. */
_Noreturn void spawner_main(int socket);

#endif
