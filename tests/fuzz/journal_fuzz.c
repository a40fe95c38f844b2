/* SPDX-License-Identifier: MIT */
/* Journals read back: two bytes give the chunks of the file and whether the
 * records' numbers and sums are made good, without which nearly every input
 * would end at its first record; then come records. */
#include <stdlib.h>
#include <string.h>

#include "chunk/crc32c.h"
#include "chunk/journal_format.h"

static void mend(uint32_t header_crc, uint32_t number,
                 uint8_t record[JOURNAL_RECORD_BYTES])
{
    uint32_t crc;

    memcpy(record + 40, &number, 4);
    crc = crc32c(header_crc, record, 44);
    memcpy(record + 44, &crc, 4);
}

static void check(const struct journal_reading *r)
{
    keel_assert(r->synced <= r->records);
    keel_assert(r->boot < r->records || r->records == 0);
    keel_assert(r->suspect <= r->records);
    for (uint64_t i = 0; i < r->chunks; i++) {
        enum journal_verdict same = journal_judge(r, i, true);
        enum journal_verdict other = journal_judge(r, i, false);

        keel_assert(r->listed_by[i] <= r->records);
        keel_assert((same == VERDICT_ABSENT) == (other == VERDICT_ABSENT));
        /* Another boot never trusts more than this one. */
        keel_assert(other != VERDICT_COUNTS || same == VERDICT_COUNTS);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct journal_key key = {.size = 1, .hash = CHUNK_SHA256};
    uint8_t header[JOURNAL_HEADER_BYTES], record[JOURNAL_RECORD_BYTES];
    struct journal_reading r = {0};
    bool good;

    if (size < 2)
        return 0;
    good = data[1] & 1;
    r.chunks = data[0];
    key.size = r.chunks * CHUNK_BYTES;
    r.header_crc = header_put(&key, header);
    r.leaves = calloc(r.chunks + 1, sizeof *r.leaves);
    r.listed_by = calloc(r.chunks + 1, sizeof *r.listed_by);
    keel_assert(r.leaves && r.listed_by);

    for (size_t at = 2; size - at >= sizeof record; at += sizeof record) {
        memcpy(record, data + at, sizeof record);
        if (good)
            mend(r.header_crc, (uint32_t)r.records, record);
        if (!journal_read(&r, record))
            break;
    }
    check(&r);
    free(r.leaves);
    free(r.listed_by);
    return 0;
}
