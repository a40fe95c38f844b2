/* SPDX-License-Identifier: MIT */
/* A disk in memory that forgets at a crash what was not synced.
 *
 * It is a struct keel_disk: directories, files, hard links, O_TMPFILE,
 * renames, descriptors, a size limit; no permissions.  Symbolic links can be
 * made, read, renamed and removed, and are never followed: -ELOOP.  All of it
 * may be used from several threads.  Each change is volatile until a
 * sync covers it:
 *   data and size of a file         fsync, fdatasync of it, syncfs
 *   its times and mode              fsync, syncfs; and fdatasync, if data or
 *                                   size had to be written, too
 *   a name (link, rename, unlink, mkdir)   fsync of its directory, syncfs
 *   a link's text comes with its name; its times as a file's
 * At a crash the seed decides, for each volatile change on its own and so in
 * any order: a 4 KiB page keeps its old bytes, its new ones, or a mixture by
 * 512-byte sectors; a size is old or new; a truncation happened whole or not
 * at all, and what was written behind it only if it did; a name shows what it
 * showed at its last sync or at any time since; a rename shows the old name,
 * the new one, or both, never neither (of a directory, and an exchange: old or
 * new).  An inode without a name that survives is gone, and its number is soon
 * another's.
 *
 * ctime and mtime come from the seam's date in ticks of 4 ms.  O_DIRECT wants
 * what ext4 wants, multiples of 512.  flock never waits.  Every operation asks
 * the seam's fault hook, as the kernel's disk does. */
#ifndef KEEL_SIM_DISK_H
#define KEEL_SIM_DISK_H

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
 * machine finds when it starts.  With TEST_DISK_KEEP_ALL as the seed only the
 * program died (kill -9): everything is there, and what was volatile still is,
 * for a later crash to forget.  TEST_DISK_KEEP_NONE keeps nothing volatile. */
#define TEST_DISK_KEEP_ALL UINT64_MAX
#define TEST_DISK_KEEP_NONE (UINT64_MAX - 1)
void test_disk_reboot(uint64_t seed);
/* Makes every sync of this kind a lie (returns 0, syncs nothing), for
 * mutations: "fsync", "fdatasync", "syncfs", or NULL for none. `path_part`
 * NULL, or only for files whose path contains it ("" for directories only). */
void test_disk_lie(const char *sync, const char *path_part);
/* From now the `nth` (from 1) sync fails with -EIO, as a disk does: the pages
 * it was to write read back as they were, are never written by a later sync
 * that succeeds, and are lost at a crash.  0: none. */
void test_disk_fail_sync(unsigned nth);
/* A line per entry: for messages of failed tests. */
void test_disk_print(int fd);
/* A copy of the state to return to: crash the same moment with many seeds.
 * Without descriptors; load closes all. */
struct test_disk_image;
struct test_disk_image *test_disk_save(void);
void test_disk_load(const struct test_disk_image *image);
void test_disk_image_free(struct test_disk_image *image);

#endif
