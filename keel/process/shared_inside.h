/* SPDX-License-Identifier: MIT */
/* Inside keel: what lies in shared memory and names itself at its head. */
#ifndef KEEL_SHARED_INSIDE_H
#define KEEL_SHARED_INSIDE_H

#include <keel/shared.h>

/* As keel_shared_open, for memory that `fits`: else -EINVAL, as of memory that
 * is smaller than its `head_bytes`. */
int shared_open_if(int fd, size_t head_bytes,
                   bool (*fits)(const void *head, size_t size),
                   struct keel_shared **ret);

#endif
