/* SPDX-License-Identifier: MIT */
/* A bounded queue of messages between the processes of one family, a program
 * and the processes it started (<keel/process.h>).
 *
 * Put waits while the queue is full, get while it is empty: a coroutine parks,
 * a thread blocks.  There is no lock: a process that is killed in the middle of
 * put or get takes at most its own message with it, breaks nothing and keeps
 * nobody waiting.  One that is stopped (SIGSTOP) there keeps the others. */
#ifndef KEEL_SHQUEUE_H
#define KEEL_SHQUEUE_H

#include <keel/base.h>

struct keel_shqueue;

enum { KEEL_SHQUEUE_SLOTS_MOST = 1 << 20, KEEL_SHQUEUE_MESSAGE_MOST = 1 << 24 };

/* `slots` >= 1, rounded up to a power of two; messages are of 0 to
 * `message_most` bytes.  Up to 48 are the quickest; of larger ones, memory is
 * taken as slots are used.
 * -EINVAL  beyond the limits; -ENOMEM, -EMFILE, -ENFILE */
KEEL_API int keel_shqueue_new(size_t slots, size_t message_most,
                              struct keel_shqueue **ret);
/* The queue of another process, by its descriptor, which is taken on success.
 * -EINVAL  that is not of keel_shqueue_new; -EBADF, -ENOMEM */
KEEL_API int keel_shqueue_open(int fd, struct keel_shqueue **ret);
/* This process's hold of it; the queue lives as long as anybody has it.
 * Nobody here may be waiting in it.  Accepts NULL. */
KEEL_API void keel_shqueue_free(struct keel_shqueue *q);
KEEL_API int keel_shqueue_fd(const struct keel_shqueue *q); /* lent */

/* Appends a copy of the message.
 * -EPIPE      the queue was closed
 * -EMSGSIZE   it is longer than `message_most`
 * -ETIMEDOUT  no room before the deadline (at once with KEEL_NOW)
 * -ECANCELED  the calling coroutine is being cancelled
 * -EAGAIN, -ENOMEM, -EMFILE  as of <keel/shlock.h>, at first use */
KEEL_API int keel_shqueue_put(struct keel_shqueue *q, const void *data,
                              size_t size, keel_ns deadline);
/* The oldest message.  A closed queue is drained first, then -EPIPE.
 * -EMSGSIZE  it is longer than `room`, and stays */
KEEL_API int keel_shqueue_get(struct keel_shqueue *q, void *buf, size_t room,
                              keel_ns deadline, size_t *ret_size);
/* The oldest, left inside; -EAGAIN when there is none, or others have their
 * hands on it. */
KEEL_API int keel_shqueue_peek(struct keel_shqueue *q, void *buf, size_t room,
                               size_t *ret_size);
/* Messages inside, about: while others put and get it is old news. */
KEEL_API size_t keel_shqueue_count(struct keel_shqueue *q);
KEEL_API bool keel_shqueue_empty(struct keel_shqueue *q);
KEEL_API bool keel_shqueue_full(struct keel_shqueue *q);

/* Each message got is answered by one task_done; join waits until all that
 * were put are done.  What a thread that ended had not answered is done.
 * -EINVAL  one too many */
KEEL_API int keel_shqueue_task_done(struct keel_shqueue *q);
KEEL_API int keel_shqueue_join(struct keel_shqueue *q, keel_ns deadline);

/* Put fails from now on, get drains and then fails. */
KEEL_API void keel_shqueue_close(struct keel_shqueue *q);
/* Also drains: those messages are done, and join wakes if they were the last
 * ones.  Returns how many it were, or -EAGAIN, -ENOMEM, -EMFILE. */
KEEL_API ssize_t keel_shqueue_close_now(struct keel_shqueue *q);
KEEL_AUTO(shqueue, struct keel_shqueue *, keel_shqueue_free)

#endif
