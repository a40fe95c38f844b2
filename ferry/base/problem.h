/* SPDX-License-Identifier: MIT */
/* What went wrong, in a form that people, programs and logs share.
 *
 * problems.def is the catalogue: a row is an identifier, a stable code, an
 * errno, an exit status, a sentence with places for numbers, and advice.  The
 * record travels over the wire as code and values; each end makes the words
 * from its own catalogue.  docs/errors.md is generated from it. */
#ifndef FERRY_PROBLEM_H
#define FERRY_PROBLEM_H

#include <jansson.h>

#include <keel/base.h>

enum problem_id {
    PROBLEM_NONE,
#define ROW(id, ...) PROBLEM_##id,
#include "problems.def"
#undef ROW
    PROBLEM_COUNT
};

/* Values for the sentence; which ones a row uses, its sentence shows.  Texts
 * are raw bytes from anywhere; they are escaped when printed, and end in "..."
 * where they were cut. */
#define PROBLEM_TEXT_BYTES 256
#define PROBLEM_TRACE_BYTES 32
#define PROBLEM_SPACE_BYTES 65
struct problem {
    enum problem_id id;
    int errno_; /* 0: the row's; else shown as {error} */
    uint64_t limit, used, bytes, size;
    int64_t when; /* seconds since 1970, or a span in seconds */
    char name[PROBLEM_TEXT_BYTES];
    char detail[PROBLEM_TEXT_BYTES];
    /* A code this catalogue does not know (a newer peer's), else "". */
    char foreign[64];
    /* How the log of the peer that said so names the request, else "".  Not
     * part of the record on the wire. */
    char trace[PROBLEM_TRACE_BYTES];
    /* The space that a `name` of "/..." is in, "" in the home: set by the end
     * that asked, likewise not on the wire.  The sentence has ":@SPACE/...". */
    char space[PROBLEM_SPACE_BYTES];
};

struct problem_values {
    enum problem_id id;
    int errno_;
    uint64_t limit, used, bytes, size;
    int64_t when;
    const char *name, *detail; /* copied, cut to PROBLEM_TEXT_BYTES - 1 */
};

/* Fills `why` (NULL is fine) and returns the row's errno, negative (or
 * -`errno_` when given):
 *     return problem(why, QUOTA_BYTES, .limit = l, .used = u); */
#define problem(why, ID, ...)                                                  \
    problem_fill((why), &(const struct problem_values){.id = PROBLEM_##ID,     \
                                                       ##__VA_ARGS__})
int problem_fill(struct problem *why, const struct problem_values *v);

/* "quota.bytes"; a foreign record's is the peer's.  Lent. */
const char *problem_code(const struct problem *p);
int problem_exit_status(const struct problem *p);
/* The sentence with its values, one line, safe for a terminal, in `ret`. */
void problem_sentence(const struct problem *p, char *ret, size_t size);
/* What to do about it: the row's advice, or the case's; "" when there is none. */
const char *problem_advice(const struct problem *p);

/* A row's sentence for who has no case at hand, in `ret`: each place is a word,
 * "<limit>" or "<limit> files". */
void problem_shape(const char *sentence, char *ret, size_t size);

/* The record on the wire, with only the values that are set (not 0, not ""):
 *
 *     {"code": "quota.bytes", "error": "EDQUOT", "limit": 1, "used": 2,
 *      "bytes": 3, "size": 4, "when": 5, "name": TEXT, "detail": TEXT}
 *
 * "error" is the name of an errno, TEXT as text_to_json; a number above
 * INT64_MAX is sent as that.  NULL when memory is out. */
json_t *problem_to_json(const struct problem *p);
/* The same for who asked by --json: with its sentence as "message", and "space"
 * and "trace" where they are known. */
json_t *problem_to_people(const struct problem *p);
/* A code this catalogue does not know is kept in `foreign` under the row
 * PROBLEM_FOREIGN.  Unknown fields are passed over.  Anything else that is not
 * as written above becomes PROTOCOL_BROKEN. */
void problem_from_json(const json_t *j, struct problem *ret);

/* For `ferry explain` and the generator of docs/errors.md.  PROBLEM_NONE has a
 * row too: "none". */
struct problem_row {
    const char *id, *code;
    int errno_, exit_status;
    const char *sentence, *advice;
};
const struct problem_row *problem_row(enum problem_id id);
/* PROBLEM_NONE: no such code; `ret_near` (may be NULL) is the nearest one. */
enum problem_id problem_by_code(const char *code, const char **ret_near);

#endif
