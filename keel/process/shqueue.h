/* SPDX-License-Identifier: MIT */
/* Inside keel: the queue between processes, for the pool that stands on it. */
#ifndef KEEL_SHQUEUE_INSIDE_H
#define KEEL_SHQUEUE_INSIDE_H

#include <keel/shqueue.h>

/* Without waiting: -EAGAIN.  put_quiet wakes nobody: ring afterwards. */
int shqueue_put_quiet(struct keel_shqueue *q, uint32_t me, const void *data,
                      size_t size);
int shqueue_try_get(struct keel_shqueue *q, uint32_t me, void *buf, size_t room,
                    size_t *ret_size);
/* Waits, and leaves join's accounts alone. */
int shqueue_get_uncounted(struct keel_shqueue *q, void *buf, size_t room,
                          keel_ns deadline);
/* About: there is more inside than a few getters take at once. */
bool shqueue_is_deep(struct keel_shqueue *q);
void shqueue_ring(struct keel_shqueue *q, int getters);
/* Runs in the getter before the message's cell is free again. */
void shqueue_on_take(struct keel_shqueue *q, void (*fn)(const void *data));
/* Cells that dead getters hold are given to `fn` and freed; until then, for a
 * queue with a warden, they stay as they are. */
void shqueue_warden(struct keel_shqueue *q);
void shqueue_sweep(struct keel_shqueue *q, void (*fn)(const void *data, void *),
                   void *arg);

#endif
