/* SPDX-License-Identifier: MIT */
/* Inside keel: what file.c shares with the kernel's disk. */
#ifndef KEEL_DISK_H
#define KEEL_DISK_H

#include <stddef.h>

/* How much of a transfer of `asked` bytes to attempt after the fault hook
 * allowed `allowed`: fewer when it ordered a short one. */
size_t disk_lowered(int fd, size_t asked, size_t allowed);

#endif
