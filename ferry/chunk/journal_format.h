/* SPDX-License-Identifier: MIT */
/* The bytes of a journal (drawn in journal.h), apart from any file: reading
 * them back is all that meets bytes which a crash or somebody else left. */
#ifndef FERRY_JOURNAL_FORMAT_H
#define FERRY_JOURNAL_FORMAT_H

#include "chunk/journal.h"

#define JOURNAL_HEADER_BYTES 96
#define JOURNAL_RECORD_BYTES 48

enum record_kind {
    RECORD_CHUNK = 1,
    RECORD_SYNCED = 2,
    RECORD_BAD = 3,
    RECORD_BOOT = 4,
    RECORD_SUSPECT = 5,
};

/* Returns the header's CRC, from which those of its records continue. */
uint32_t header_put(const struct journal_key *key,
                    uint8_t ret[JOURNAL_HEADER_BYTES]);
/* `payload`: 32 bytes, or NULL for zeros. */
void record_put(uint32_t header_crc, enum record_kind kind, uint32_t value,
                const uint8_t *payload, uint32_t number,
                uint8_t ret[JOURNAL_RECORD_BYTES]);

/* What the records read so far say.  The arrays are the caller's, `chunks`
 * each, zeroed before the first record. */
struct journal_reading {
    uint32_t header_crc;
    uint64_t chunks;
    struct digest *leaves;
    uint32_t *listed_by; /* number + 1 of the CHUNK record; 0: not listed */
    uint64_t records;    /* read and good */
    uint64_t synced;     /* records below it are on stable storage */
    uint64_t boot;       /* number of the last BOOT */
    uint64_t suspect;    /* records below it are in doubt in any case */
    uint8_t boot_id[16];
};
/* False: this record is not a good one, and neither is any after it. */
bool journal_read(struct journal_reading *r,
                  const uint8_t record[JOURNAL_RECORD_BYTES]);

enum journal_verdict { VERDICT_ABSENT, VERDICT_COUNTS, VERDICT_DOUBT };
/* After the last record.  `same_boot`: boot_id is this boot's. */
enum journal_verdict journal_judge(const struct journal_reading *r,
                                   uint64_t chunk, bool same_boot);

#endif
