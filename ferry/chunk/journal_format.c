/* SPDX-License-Identifier: MIT */
#include "chunk/journal_format.h"

#include <endian.h>
#include <string.h>

#include "chunk/crc32c.h"

static void put32(uint8_t *at, uint32_t v)
{
    v = htole32(v);
    memcpy(at, &v, sizeof v);
}

static void put64(uint8_t *at, uint64_t v)
{
    v = htole64(v);
    memcpy(at, &v, sizeof v);
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t v;

    memcpy(&v, at, sizeof v);
    return le32toh(v);
}

uint32_t header_put(const struct journal_key *key,
                    uint8_t ret[JOURNAL_HEADER_BYTES])
{
    uint32_t crc;

    memset(ret, 0, JOURNAL_HEADER_BYTES);
    memcpy(ret, "FERRYLG1", 8);
    put32(ret + 8, JOURNAL_HEADER_BYTES);
    put32(ret + 12, CHUNK_BYTES);
    put64(ret + 16, key->size);
    put64(ret + 24, key->device);
    put64(ret + 32, key->inode);
    memcpy(ret + 40, key->id, sizeof key->id);
    put64(ret + 56, (uint64_t)key->source_mtime_ns);
    put64(ret + 64, (uint64_t)key->source_ctime_ns);
    put32(ret + 72, (uint32_t)key->hash);
    crc = crc32c(0, ret, 92);
    put32(ret + 92, crc);
    return crc;
}

void record_put(uint32_t header_crc, enum record_kind kind, uint32_t value,
                const uint8_t *payload, uint32_t number,
                uint8_t ret[JOURNAL_RECORD_BYTES])
{
    memset(ret, 0, JOURNAL_RECORD_BYTES);
    ret[0] = (uint8_t)kind;
    put32(ret + 4, value);
    if (payload)
        memcpy(ret + 8, payload, 32);
    put32(ret + 40, number);
    put32(ret + 44, crc32c(header_crc, ret, 44));
}

/* A record that is whole may still say nonsense: the program that wrote it had
 * a fault, or a person wrote it. */
static bool sensible(const struct journal_reading *r, unsigned kind,
                     uint32_t value)
{
    if (r->records == 0 && kind != RECORD_BOOT)
        return false;
    switch (kind) {
    case RECORD_CHUNK:
    case RECORD_BAD:
        return value < r->chunks;
    case RECORD_SYNCED:
        return value <= r->records;
    case RECORD_BOOT:
    case RECORD_SUSPECT:
        return value == 0;
    default:
        return false;
    }
}

bool journal_read(struct journal_reading *r,
                  const uint8_t record[JOURNAL_RECORD_BYTES])
{
    uint32_t value = get32(record + 4), number = (uint32_t)r->records;

    if (get32(record + 40) != number || r->records == UINT32_MAX ||
        get32(record + 44) != crc32c(r->header_crc, record, 44) ||
        !sensible(r, record[0], value))
        return false;

    switch (record[0]) {
    case RECORD_CHUNK:
        memcpy(r->leaves[value].bytes, record + 8, 32);
        r->listed_by[value] = number + 1;
        break;
    case RECORD_BAD:
        r->listed_by[value] = 0;
        break;
    case RECORD_SYNCED:
        /* Two marks may arrive in either order; each is true by itself. */
        if (value > r->synced)
            r->synced = value;
        break;
    case RECORD_BOOT:
        r->boot = number;
        memcpy(r->boot_id, record + 8, sizeof r->boot_id);
        break;
    case RECORD_SUSPECT:
        r->suspect = number;
        break;
    }
    r->records++;
    return true;
}

enum journal_verdict journal_judge(const struct journal_reading *r,
                                   uint64_t chunk, bool same_boot)
{
    uint64_t number;

    if (r->listed_by[chunk] == 0)
        return VERDICT_ABSENT;
    number = r->listed_by[chunk] - 1;
    if (number < r->suspect)
        return VERDICT_DOUBT;
    if (number < r->synced || (same_boot && number > r->boot))
        return VERDICT_COUNTS;
    return VERDICT_DOUBT;
}
