/* SPDX-License-Identifier: MIT */
/* A disk in memory that forgets at a crash what was not synced.
 *
 * It is a struct keel_disk: directories, files, hard links, O_TMPFILE,
 * renames, descriptors, a size limit.  Each change is volatile until a sync
 * covers it:
 *   data and size of a file         fsync, fdatasync of it, syncfs
 *   a name (link, rename, unlink, mkdir)   fsync of its directory, syncfs
 * At a crash the seed decides, for each volatile change on its own and so in
 * any order: a 4 KiB page keeps its old bytes, its new ones, or a mixture by
 * 512-byte sectors; a size is old or new; a name is there or not; a rename
 * shows the old name, the new one, or both, never neither. An inode without a
 * name that survives is gone.  ctime and mtime come from the seam's date in
 * ticks of 4 ms. */
#ifndef KEEL_TEST_DISK_H
#define KEEL_TEST_DISK_H

#include <keel/seam.h>

/* An empty disk of `size_bytes` in force as the seam's; its root's path is
 * "/disk" for openat2 with AT_FDCWD.  Replaces any earlier one. */
void test_disk_install(uint64_t size_bytes);
void test_disk_remove(void);

/* From now the `nth` (from 1) changing or syncing operation does not happen
 * and neither does any after it: each returns -EIO and test_disk_crashed is
 * true.  0: never. */
void test_disk_crash_at(unsigned nth);
bool test_disk_crashed(void);
/* Changing or syncing operations since install or reboot. */
unsigned test_disk_ops(void);
/* Closes all descriptors, forgets what the seed says, and works again: what a
 * machine finds when it starts.  TEST_DISK_KEEP_ALL as the seed keeps every
 * change (kill -9: the system survives), TEST_DISK_KEEP_NONE none. */
#define TEST_DISK_KEEP_ALL UINT64_MAX
#define TEST_DISK_KEEP_NONE (UINT64_MAX - 1)
void test_disk_reboot(uint64_t seed);
/* Makes every sync of this kind a lie (returns 0, syncs nothing), for
 * mutations: "fsync", "fdatasync", "syncfs", or NULL for none. `path_part`
 * NULL, or only for files whose path contains it ("" for directories only). */
void test_disk_lie(const char *sync, const char *path_part);
/* A line per entry: for messages of failed tests. */
void test_disk_print(int fd);
/* A copy of the state to return to: crash the same moment with many seeds. */
struct test_disk_image;
struct test_disk_image *test_disk_save(void);
void test_disk_load(const struct test_disk_image *image);
void test_disk_image_free(struct test_disk_image *image);

#endif
