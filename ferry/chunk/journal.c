/* SPDX-License-Identifier: MIT */
#include "chunk/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#include <keel/file.h>
#include <keel/lock.h>

#include "chunk/journal_format.h"

/* How much of the file is read at once. */
#define READ_RECORDS ((size_t)16384)

/* The state of one chunk. */
enum { HAVE = 1, DOUBT = 2, CLAIMED = 4 };

/* Invariants between calls:
 *   the file is the header and `records` good records; what may lie behind
 *   them after a failed append is overwritten by the next one
 *   `count` chunks are HAVE; HAVE and DOUBT exclude each other
 *   a chunk is HAVE only after its record is in the file
 * Records are appended under `lock`, which is held while one is written:
 * their numbers are their places.  The states are read without it. */
struct journal {
    int fd; /* -1: in memory alone */
    uint32_t header_crc;
    uint64_t chunks;
    struct digest *leaves;
    _Atomic uint8_t *state;
    _Atomic uint64_t count;
    struct keel_lock lock;
    _Atomic uint64_t records;
};

/* ---- the boot id */

static int kernel_boot_id(uint8_t ret[16])
{
    keel_auto(file) int fd = -1;
    char text[64] = "";
    int digits = 0;

    fd = keel_file_open_any("/proc/sys/kernel/random/boot_id", O_RDONLY, 0);
    if (fd < 0)
        return fd;
    if (keel_file_read(fd, text, sizeof text - 1, 0) < 0)
        return -EIO;
    memset(ret, 0, 16);
    for (const char *c = text; *c && digits < 32; c++) {
        int v = *c >= '0' && *c <= '9'   ? *c - '0'
                : *c >= 'a' && *c <= 'f' ? *c - 'a' + 10
                                         : -1;

        if (v >= 0) {
            ret[digits / 2] = (uint8_t)(ret[digits / 2] << 4 | v);
            digits++;
        }
    }
    return digits == 32 ? 0 : -EIO;
}

int (*journal_boot_id)(uint8_t ret[16]) = kernel_boot_id;

/* ---- appending */

/* Appends `count` records made of the same kind of arguments as record_put's.
 * The caller holds the lock. */
struct entry {
    enum record_kind kind;
    uint32_t value;
    const uint8_t *payload;
};

static int append_held(struct journal *j, const struct entry *e, size_t count)
{
    uint64_t number = atomic_load(&j->records);
    uint8_t bytes[2 * JOURNAL_RECORD_BYTES];
    int rc;

    keel_assert(count <= 2);
    if (number + count > UINT32_MAX)
        return -EFBIG;
    if (j->fd >= 0) {
        for (size_t i = 0; i < count; i++)
            record_put(j->header_crc, e[i].kind, e[i].value, e[i].payload,
                       (uint32_t)(number + i),
                       bytes + i * JOURNAL_RECORD_BYTES);
        rc = keel_file_write(j->fd, bytes, count * JOURNAL_RECORD_BYTES,
                             JOURNAL_HEADER_BYTES +
                                 number * JOURNAL_RECORD_BYTES);
        if (rc < 0)
            return rc;
    }
    atomic_store(&j->records, number + count);
    return 0;
}

static int append(struct journal *j, enum record_kind kind, uint32_t value,
                  const uint8_t *payload)
{
    const struct entry e = {kind, value, payload};
    int rc;

    keel_lock_hold(&j->lock);
    rc = append_held(j, &e, 1);
    keel_lock_drop(&j->lock);
    return rc;
}

/* ---- opening */

static struct journal *journal_new(const struct journal_key *key)
{
    struct journal *j = keel_calloc(1, sizeof *j);

    if (!j)
        return NULL;
    j->fd = -1;
    keel_lock_init(&j->lock);
    j->chunks = chunk_count(key->size);
    /* An empty file has neither; calloc(0) may be NULL. */
    j->leaves = keel_calloc(j->chunks + 1, sizeof *j->leaves);
    j->state = keel_calloc(j->chunks + 1, sizeof *j->state);
    if (!j->leaves || !j->state) {
        journal_close(j);
        return NULL;
    }
    return j;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    keel_file_close(j->fd);
    keel_free(j->leaves);
    keel_free((void *)j->state);
    keel_free(j);
}

/* Reads every good record. */
static int read_records(struct journal *j, struct journal_reading *r)
{
    keel_auto(str) char *block =
        keel_alloc(READ_RECORDS * JOURNAL_RECORD_BYTES);

    if (!block)
        return -ENOMEM;
    for (;;) {
        uint64_t at = JOURNAL_HEADER_BYTES + r->records * JOURNAL_RECORD_BYTES;
        ssize_t got = keel_file_read(j->fd, block,
                                     READ_RECORDS * JOURNAL_RECORD_BYTES, at);
        size_t count;

        if (got < 0)
            return (int)got;
        count = (size_t)got / JOURNAL_RECORD_BYTES;
        for (size_t i = 0; i < count; i++)
            if (!journal_read(r, (uint8_t *)block + i * JOURNAL_RECORD_BYTES))
                return 0;
        if (count < READ_RECORDS)
            return 0;
    }
}

static int64_t ctime_of(const struct statx *st)
{
    return st->stx_ctime.tv_sec * KEEL_SECOND + st->stx_ctime.tv_nsec;
}

/* Writes what must stand behind the records that were read: BOOT after a
 * restart of the machine, SUSPECT when the data was touched; and cuts off what
 * is no record. */
static int settle(struct journal *j, const uint8_t boot_id[16], bool same_boot,
                  bool suspect, uint64_t size)
{
    uint8_t payload[32] = {0};
    struct entry e[2];
    size_t count = 0;
    uint64_t end = JOURNAL_HEADER_BYTES + j->records * JOURNAL_RECORD_BYTES;
    bool ragged = size > end;
    int rc;

    memcpy(payload, boot_id, 16);
    if (!same_boot)
        e[count++] = (struct entry){RECORD_BOOT, 0, payload};
    if (suspect)
        e[count++] = (struct entry){RECORD_SUSPECT, 0, NULL};

    /* A good record that lay behind a torn one must not follow a new one.  But
     * cutting moves the ctime, by which alone a suspicion is known: then it is
     * written down first. */
    if (ragged && !suspect) {
        rc = keel_file_truncate(j->fd, end);
        if (rc < 0)
            return rc;
    }
    if (count > 0) {
        rc = append_held(j, e, count);
        if (rc < 0)
            return rc;
    }
    if (ragged && suspect)
        return keel_file_truncate(j->fd, end + count * JOURNAL_RECORD_BYTES);
    return 0;
}

/* Takes over a file with the right header.  Returns a journal_state. */
static int resume(struct journal *j, const struct journal_key *key,
                  const uint8_t boot_id[16])
{
    struct journal_reading r = {
        .header_crc = j->header_crc, .chunks = j->chunks, .leaves = j->leaves};
    bool same_boot, suspect, doubts = false;
    struct statx st;
    int rc;

    /* Before anything moves its ctime. */
    rc = keel_file_stat(j->fd, NULL, &st);
    if (rc < 0)
        return rc;
    suspect = key->ctime_ns > ctime_of(&st);

    r.listed_by = keel_calloc(j->chunks + 1, sizeof *r.listed_by);
    if (!r.listed_by)
        return -ENOMEM;
    rc = read_records(j, &r);
    if (rc < 0) {
        keel_free(r.listed_by);
        return rc;
    }
    same_boot = r.records > 0 && !memcmp(r.boot_id, boot_id, 16);
    if (suspect)
        r.suspect = r.records;
    for (uint64_t i = 0; i < j->chunks; i++) {
        enum journal_verdict v = journal_judge(&r, i, same_boot);

        if (v == VERDICT_COUNTS)
            atomic_fetch_add(&j->count, 1);
        doubts |= v == VERDICT_DOUBT;
        j->state[i] = v == VERDICT_COUNTS  ? HAVE
                      : v == VERDICT_DOUBT ? DOUBT
                                           : 0;
    }
    keel_free(r.listed_by);
    atomic_store(&j->records, r.records);
    rc = settle(j, boot_id, same_boot, suspect && r.records > 0, st.stx_size);
    if (rc < 0)
        return rc;
    return doubts ? JOURNAL_TAIL : JOURNAL_TRUSTED;
}

/* A new file: header and BOOT in one write. */
static int start(struct journal *j, const uint8_t header[JOURNAL_HEADER_BYTES],
                 const uint8_t boot_id[16])
{
    uint8_t bytes[JOURNAL_HEADER_BYTES + JOURNAL_RECORD_BYTES];
    uint8_t payload[32] = {0};
    int rc;

    rc = keel_file_truncate(j->fd, 0);
    if (rc < 0)
        return rc;
    memcpy(bytes, header, JOURNAL_HEADER_BYTES);
    memcpy(payload, boot_id, 16);
    record_put(j->header_crc, RECORD_BOOT, 0, payload, 0,
               bytes + JOURNAL_HEADER_BYTES);
    rc = keel_file_write(j->fd, bytes, sizeof bytes, 0);
    if (rc < 0)
        return rc;
    atomic_store(&j->records, 1);
    return JOURNAL_ABSENT;
}

static int open_file(struct journal *j, int dir, const char *name,
                     const struct journal_key *key)
{
    uint8_t header[JOURNAL_HEADER_BYTES], found[JOURNAL_HEADER_BYTES];
    uint8_t boot_id[16];
    ssize_t got;

    /* Nobody else's boot is like this one: less is trusted, never more. */
    if (journal_boot_id(boot_id) < 0)
        keel_random(boot_id, sizeof boot_id);

    j->header_crc = header_put(key, header);
    j->fd = keel_file_open(dir, name, O_RDWR | O_CREAT, 0600);
    if (j->fd < 0)
        return j->fd;
    got = keel_file_read(j->fd, found, sizeof found, 0);
    if (got < 0)
        return (int)got;
    if (got == sizeof found && !memcmp(found, header, sizeof found))
        return resume(j, key, boot_id);
    return start(j, header, boot_id);
}

int journal_open(int dir, const char *name, const struct journal_key *key,
                 struct journal **ret)
{
    struct journal *j;
    int rc = JOURNAL_ABSENT;

    if (chunk_count(key->size) > UINT32_MAX)
        return -EFBIG;
    j = journal_new(key);
    if (!j)
        return -ENOMEM;
    if (name)
        rc = open_file(j, dir, name, key);
    if (rc < 0) {
        journal_close(j);
        return rc;
    }
    *ret = j;
    return rc;
}

/* ---- asking */

static uint8_t state_of(const struct journal *j, uint64_t chunk)
{
    keel_assert(chunk < j->chunks);
    return atomic_load(&j->state[chunk]);
}

bool journal_has(const struct journal *j, uint64_t chunk)
{
    return state_of(j, chunk) & HAVE;
}

bool journal_doubt(const struct journal *j, uint64_t chunk)
{
    return state_of(j, chunk) & DOUBT;
}

uint64_t journal_count(const struct journal *j)
{
    return atomic_load(&j->count);
}

uint64_t journal_missing(const struct journal *j, uint64_t from)
{
    while (from < j->chunks && (atomic_load(&j->state[from]) & HAVE))
        from++;
    return from < j->chunks ? from : j->chunks;
}

const struct digest *journal_leaves(const struct journal *j)
{
    return j->leaves;
}

uint64_t journal_mark(const struct journal *j)
{
    return atomic_load(&j->records);
}

/* ---- saying */

static void have(struct journal *j, uint64_t chunk)
{
    uint8_t before;

    /* HAVE in and DOUBT out in one step, CLAIMED as it is. */
    before = atomic_fetch_or(&j->state[chunk], HAVE);
    atomic_fetch_and(&j->state[chunk], (uint8_t)~DOUBT);
    if (!(before & HAVE))
        atomic_fetch_add(&j->count, 1);
}

static void have_not(struct journal *j, uint64_t chunk)
{
    uint8_t before =
        atomic_fetch_and(&j->state[chunk], (uint8_t) ~(HAVE | DOUBT));

    if (before & HAVE)
        atomic_fetch_sub(&j->count, 1);
}

int journal_add(struct journal *j, uint64_t chunk, const struct digest *leaf)
{
    int rc;

    keel_assert(chunk < j->chunks);
    rc = append(j, RECORD_CHUNK, (uint32_t)chunk, leaf->bytes);
    if (rc < 0)
        return rc;
    j->leaves[chunk] = *leaf;
    have(j, chunk);
    return 0;
}

int journal_prove(struct journal *j, uint64_t chunk)
{
    keel_assert(journal_doubt(j, chunk));
    return journal_add(j, chunk, &j->leaves[chunk]);
}

int journal_drop(struct journal *j, uint64_t chunk)
{
    keel_assert(chunk < j->chunks);
    have_not(j, chunk);
    return append(j, RECORD_BAD, (uint32_t)chunk, NULL);
}

int journal_sync(struct journal *j)
{
    return j->fd < 0 ? 0 : keel_file_sync_data(j->fd);
}

int journal_synced(struct journal *j, uint64_t mark)
{
    keel_assert(mark <= atomic_load(&j->records));
    return append(j, RECORD_SYNCED, (uint32_t)mark, NULL);
}

int journal_forget(struct journal *j)
{
    int rc = 0;

    if (j->fd < 0)
        return 0;
    /* Under the lock, so that no record is appended to an empty file. */
    keel_lock_hold(&j->lock);
    rc = keel_file_truncate(j->fd, 0);
    keel_lock_drop(&j->lock);
    return rc;
}

void journal_touch(struct journal *j)
{
    /* A failure only makes a later resume read more. */
    if (j->fd >= 0)
        (void)keel_file_set_mtime(j->fd, keel_wall_ns());
}

bool journal_claim(struct journal *j, uint64_t chunk)
{
    keel_assert(chunk < j->chunks);
    return !(atomic_fetch_or(&j->state[chunk], CLAIMED) & CLAIMED);
}

void journal_release(struct journal *j, uint64_t chunk)
{
    atomic_fetch_and(&j->state[chunk], (uint8_t)~CLAIMED);
}
