/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "transfer/transfer.h"

static int invalid(struct problem *why)
{
    return problem(why, REQUEST_INVALID,
                   .detail = "the ranges of chunks are not in order, or "
                             "beyond the file");
}

static int range_from_json(const json_t *j, uint64_t least, uint64_t most,
                           struct range *ret)
{
    const json_t *from = json_array_get(j, 0), *to = json_array_get(j, 1);

    if (json_array_size(j) != 2 || !json_is_integer(from) ||
        !json_is_integer(to) || json_integer_value(from) < 0 ||
        json_integer_value(to) < 0)
        return -EINVAL;
    ret->from = (uint64_t)json_integer_value(from);
    ret->to = (uint64_t)json_integer_value(to);
    return ret->from >= least && ret->from < ret->to && ret->to <= most
               ? 0
               : -EINVAL;
}

int ranges_from_json(const json_t *j, uint64_t chunks, size_t most,
                     struct range **ret, size_t *ret_count, struct problem *why)
{
    size_t count = json_array_size(j);
    keel_auto(mem) void *memory = NULL;
    uint64_t least = 0;
    struct range *r;

    if (!json_is_array(j) || count > most)
        return invalid(why);
    r = memory = keel_calloc(count + 1, sizeof(*r));
    if (!r)
        return problem(why, NO_MEMORY);
    for (size_t i = 0; i < count; i++) {
        if (range_from_json(json_array_get(j, i), least, chunks, &r[i]) < 0)
            return invalid(why);
        least = r[i].to + 1; /* touching ones would have been one */
    }
    memory = NULL;
    *ret = r;
    *ret_count = count;
    return 0;
}

json_t *ranges_to_json(const struct range *r, size_t count)
{
    json_t *j = json_array();

    for (size_t i = 0; j && i < count; i++) {
        if (json_array_append_new(j, json_pack("[I, I]", (json_int_t)r[i].from,
                                               (json_int_t)r[i].to)) < 0) {
            json_decref(j);
            return NULL;
        }
    }
    return j;
}

/* The first chunk >= `from` that is there; `chunks` when none is. */
static uint64_t next_had(const struct part *p, uint64_t from, uint64_t chunks)
{
    while (from < chunks && !part_has(p, from))
        from++;
    return from;
}

/* The next range that is there, from `at`. */
static bool next_have(const struct part *p, uint64_t at, uint64_t chunks,
                      struct range *ret)
{
    ret->from = next_had(p, at, chunks);
    if (ret->from == chunks)
        return false;
    ret->to = part_missing(p, ret->from);
    return true;
}

/* In both forms the same chunks count as there: those of the first `most`
 * ranges. */
int part_ranges(const struct part *p, bool missing, size_t most,
                struct range **ret, size_t *ret_count)
{
    uint64_t chunks = chunk_count(part_size(p)), at = 0;
    struct range have = {0, 0}, *r = NULL, *more;
    size_t count = 0, room = 0;

    for (size_t i = 0; i <= most; i++) {
        bool last = i == most || !next_have(p, at, chunks, &have);
        struct range next = have;

        if (missing)
            next = (struct range){at, last ? chunks : have.from};
        if (last && !missing)
            break;
        if (count == room) {
            room = room ? 2 * room : 16;
            more = keel_realloc(r, room * sizeof(*r));
            if (!more) {
                keel_free(r);
                return -ENOMEM;
            }
            r = more;
        }
        if (next.from < next.to)
            r[count++] = next;
        if (last)
            break;
        at = have.to;
    }
    if (!r)
        r = keel_calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    *ret = r;
    *ret_count = count;
    return 0;
}
