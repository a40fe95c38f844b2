/* SPDX-License-Identifier: MIT */
/* libkeel-patch: libraries that block park instead.
 *
 * Code that was written for threads (libcurl's easy interface, libpq, hiredis)
 * calls libc's blocking calls.  With this library in the process, each of them
 * parks when a coroutine makes it, and the others of its loop go on; the code
 * itself is neither changed nor compiled anew.
 *
 *     LD_PRELOAD=libkeel-patch.so PROGRAM     or
 *     cc PROGRAM.c $(pkg-config --cflags --libs keel-patch keel)
 *
 * Linked, it must stand before libc, which it does by itself, and be used
 * (keel_patched), as linkers like to drop what is not.  keel may lie in the
 * program or in a shared library, or both: each keel finds this library when
 * its first loop opens.  A program without keel runs as if it were not there.
 * With libkeel-patch in a program that is preloaded too, or twice, one of them
 * works.
 *
 * Outside a coroutine (threads, the blocking pool, signal handlers that
 * interrupt no coroutine, before main) every call is libc's own: its result,
 * errno, signals, thread cancellation, and safety in a signal handler.
 *
 * In a coroutine a descriptor that is non-blocking, and a call with
 * MSG_DONTWAIT, WNOHANG or no time to wait, behave as ever.  Where a call can go
 * on at once it does.  Where it would block, it parks.  Also:
 *
 *   cancelled    the call fails with ECANCELED, also where it could go on (but
 *                for writing and sending), and if it had moved something it
 *                says how much; keel_shield holds that off.  What waits in the
 *                blocking pool ends first
 *   timeouts     its own, as ever, SO_RCVTIMEO and SO_SNDTIMEO too, by keel's
 *                clock; that of a keel_timeout scope: ETIMEDOUT
 *   EINTR        a signal does not end a parked call, but for the calls with a
 *                mask, within 50 ms
 *   SIGPIPE      is ignored from the first loop on, as with all of keel: EPIPE
 *   signals      a handler that interrupts a coroutine may write, send and wait
 *                for nothing; what would park must not be called in one
 *   masks        that of ppoll, pselect, epoll_pwait holds while they look, not
 *                while they are parked, as others run then
 *   turns        after 32 calls that need not wait, the others get a turn (not
 *                in write and send, nor on what is non-blocking)
 *   fork         in a coroutine's child all calls are libc's own
 *   stacks       code for threads wants room: hiredis takes 18 KiB, libpq 15,
 *                libcurl with TLS 12; resolvers and other authentications more.
 *                Give them 128 KiB (keel_spawn's stack_bytes)
 *
 * The calls:
 *
 *   read write readv writev      sockets, pipes, terminals, eventfd, timerfd...
 *   recv recvfrom recvmsg recvmmsg, send sendto sendmsg sendmmsg
 *   sendfile                     a file to a socket: by reading and sending
 *   accept accept4 connect
 *   poll ppoll select pselect epoll_wait epoll_pwait epoll_pwait2
 *   sleep usleep nanosleep clock_nanosleep (not of processor time)
 *   wait waitpid wait3 wait4 waitid
 *                                for "any child" by looking, every 50 ms at
 *                                least
 *   getaddrinfo getnameinfo gethostbyname gethostbyname2 gethostbyaddr and _r
 *                                in the blocking pool (KEEL_BLOCKING_THREADS at
 *                                a time), numeric addresses at once
 *   __read_chk __recv_chk __recvfrom_chk __poll_chk __ppoll_chk
 *                                what -D_FORTIFY_SOURCE makes of them
 *
 * Not covered, and why:
 *
 *   regular files, pread, fsync, open, stat, flock, F_SETLKW
 *                          a disk answers by itself, without another coroutine;
 *                          <keel/file.h> is for those who wait for it
 *   pthread_mutex_lock, pthread_cond_wait, pthread_join, sem_wait, barriers
 *                          between threads they must block; between coroutines
 *                          of one loop they stop it: the detector below
 *   stdio on sockets and pipes (fread, printf to a full pipe), syslog,
 *   gethostent, getpwnam and other lookups that may go to the network, system,
 *   pclose, posix_spawn
 *                          libc calls itself inside, unseen.  keel_blocking is
 *                          the way
 *   syscall, io_uring, static programs, code with calls of its own (Go)
 *                          go past libc, or past the dynamic linker
 *   splice, tee, vmsplice, copy_file_range, sendfile from or to anything else,
 *   msgrcv, mq_receive, semop, sigwait, sigsuspend, pause, getrandom
 *                          nobody asked yet, and most have no form that does
 *                          not wait
 *   MSG_FASTOPEN           its connect blocks
 *   MSG_PEEK | MSG_WAITALL gives what is there
 *   accept, and what is no socket and knows no RWF_NOWAIT (terminals; pipes
 *   before Linux 6.5), shared with other threads or processes
 *                          is asked first whether it is ready: who takes what
 *                          there was in between leaves the loop blocked
 *   RTLD_DEEPBIND, RTLD_NEXT, libraries linked with -Bsymbolic and wrappers of
 *   their own              find other calls than these */
#ifndef KEEL_PATCH_H
#define KEEL_PATCH_H

#include <keel/base.h>

/* True once a keel has found the library: from its first loop on. */
KEEL_API bool keel_patched(void);

/* ---- mutexes across a park ----------------------------------------------------
 * A library that holds a pthread mutex while it blocks works with threads: the
 * next thread waits.  The next coroutine of the same loop stops the loop, and
 * so the holder, for ever.  Watched, such a park is reported on standard error,
 * once for each place that took a lock: which coroutine, waiting for what,
 * holds which mutex or rwlock, taken where.  Any park is meant, those in keel's
 * own calls too, and a coroutine's turn given to others.
 *
 * In the environment: KEEL_PATCH_MUTEX=report or =abort.  Seen are locks taken
 * by the library's calls while it watches, up to 32 at a time in a thread; not
 * those of libc itself (stdio), spin locks and semaphores. */
enum keel_patch_mutex {
    KEEL_PATCH_MUTEX_OFF,
    KEEL_PATCH_MUTEX_REPORT,
    KEEL_PATCH_MUTEX_ABORT, /* report, then abort(3) at the park */
};
KEEL_API void keel_patch_mutex(enum keel_patch_mutex mode);
/* How many were reported. */
KEEL_API size_t keel_patch_mutex_reports(void);

#endif
