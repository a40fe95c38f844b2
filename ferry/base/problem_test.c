/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/errors_doc.h"
#include "base/name.h"
#include "base/problem.h"

#define EACH_ROW(id)                                                           \
    for (enum problem_id id = PROBLEM_NONE + 1; id < PROBLEM_COUNT; id++)

static void fill_returns_the_rows_errno_and_keeps_the_values(void **state)
{
    struct problem p;

    (void)state;
    assert_int_equal(problem(&p, QUOTA_BYTES, .limit = 7, .used = 5, .size = 3),
                     -EDQUOT);
    assert_int_equal(p.id, PROBLEM_QUOTA_BYTES);
    assert_int_equal(p.limit, 7);
    assert_string_equal(problem_code(&p), "quota.bytes");
    assert_int_equal(problem_exit_status(&p), 1);
    assert_int_equal(problem(&p, FILE_LOCAL, .errno_ = ENXIO), -ENXIO);
    assert_int_equal(problem(NULL, FILE_MISSING), -ENOENT);
}

static void a_sentence_shows_its_values(void **state)
{
    struct problem p;
    char text[512];

    (void)state;
    problem(&p, DISK_FULL, .bytes = 1536, .size = 3ull << 30);
    problem_sentence(&p, text, sizeof text);
    assert_string_equal(text,
                        "The disk has 1.5 KiB left and this needs 3 GiB.");
    problem(&p, CONNECT_TIMEOUT, .name = "a\x1b[2J", .when = 90);
    problem_sentence(&p, text, sizeof text);
    assert_string_equal(text,
                        "a\\x1b[2J did not answer within 1 minute 30 seconds.");
    problem(&p, FILE_LOCAL, .name = "x", .errno_ = EACCES);
    problem_sentence(&p, text, sizeof text);
    assert_string_equal(text, "x: Permission denied.");
}

static void a_value_that_looks_like_a_place_is_left_alone(void **state)
{
    struct problem p;
    char text[128];

    (void)state;
    problem(&p, FILE_MISSING, .name = "{limit}");
    problem_sentence(&p, text, sizeof text);
    assert_string_equal(text, "There is no {limit}.");
}

static void a_sentence_is_cut_to_its_room(void **state)
{
    struct problem p;

    (void)state;
    problem(&p, FILE_MISSING, .name = "a name of some length");
    for (size_t size = 1; size < 40; size++) {
        char *text = malloc(size); /* so that a sanitizer sees one too many */

        problem_sentence(&p, text, size);
        assert_true(strlen(text) < size);
        free(text);
    }
}

/* Whether every place of a sentence is one the catalogue's head names. */
static void check_places(const struct problem_row *row, const char *sentence)
{
    if (strpbrk(sentence, "{}"))
        fail_msg("%s: a place is left: %s", row->code, sentence);
    for (const char *c = sentence; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            fail_msg("%s: a control character is left", row->code);
}

static void every_row_expands_every_place_with_every_value(void **state)
{
    static const int64_t whens[] = {INT64_MIN, -1, 0, 1, 86400, INT64_MAX};
    static const uint64_t numbers[] = {0, 1, 1023, 1048576, UINT64_MAX};
    static const char *const texts[] = {"", "plain",
                                        "\x1b]0;t\x07\n\r\t\x7f\x9b"};
    char text[4096];

    (void)state;
    EACH_ROW(id)
    for (size_t w = 0; w < 6; w++)
        for (size_t n = 0; n < 5; n++)
            for (size_t t = 0; t < 3; t++) {
                struct problem p;
                struct problem_values v = {.id = id,
                                           .errno_ = (int)n * 31,
                                           .limit = numbers[n],
                                           .used = numbers[(n + 1) % 5],
                                           .bytes = numbers[(n + 2) % 5],
                                           .size = numbers[(n + 3) % 5],
                                           .when = whens[w],
                                           .name = texts[t],
                                           .detail = texts[2 - t]};

                problem_fill(&p, &v);
                strcpy(p.foreign, "a.b\n");
                problem_sentence(&p, text, sizeof text);
                check_places(problem_row(id), text);
            }
}

static void every_row_keeps_the_rules_of_the_catalogue(void **state)
{
    (void)state;
    EACH_ROW(id)
    {
        const struct problem_row *row = problem_row(id);

        assert_true(strlen(row->code) > 0 && strlen(row->code) < 64);
        assert_int_equal(
            strspn(row->code, "abcdefghijklmnopqrstuvwxyz0123456789._"),
            strlen(row->code));
        assert_true(row->errno_ > 0 && strerrorname_np(row->errno_));
        assert_in_range(row->exit_status, 1, 5);
        assert_int_equal(row->sentence[strlen(row->sentence) - 1], '.');
        if (*row->advice)
            assert_non_null(strchr(".?", row->advice[strlen(row->advice) - 1]));
        assert_null(strpbrk(row->advice, "{}"));
        for (enum problem_id other = id + 1; other < PROBLEM_COUNT; other++)
            assert_string_not_equal(row->code, problem_row(other)->code);
        assert_int_equal(problem_by_code(row->code, NULL), id);
    }
}

static void a_record_survives_the_wire(void **state)
{
    (void)state;
    EACH_ROW(id)
    {
        struct problem p, q;
        struct problem_values v = {.id = id,
                                   .errno_ = EXDEV,
                                   .limit = 1,
                                   .used = INT64_MAX,
                                   .size = 3,
                                   .when = -4,
                                   .name = "n\xff\xfe",
                                   .detail = "d\xc3\xa9"};
        json_t *j;

        problem_fill(&p, &v);
        j = problem_to_json(&p);
        assert_non_null(j);
        problem_from_json(j, &q);
        json_decref(j);
        assert_int_equal(q.id, id == PROBLEM_FOREIGN ? PROBLEM_FOREIGN : id);
        assert_int_equal(q.errno_, EXDEV);
        assert_true(q.limit == 1 && q.used == INT64_MAX && q.bytes == 0);
        assert_true(q.size == 3 && q.when == -4);
        assert_string_equal(q.name, p.name);
        assert_string_equal(q.detail, p.detail);
    }
}

static void a_name_in_a_shared_space_is_said_with_it(void **state)
{
    struct problem p = {0};
    char text[256];
    json_t *j;

    (void)state;
    problem(&p, FILE_MISSING, .name = "/c1");
    strcpy(p.space, "team");
    problem_sentence(&p, text, sizeof text);
    assert_string_equal(text, "There is no :@team/c1.");
    j = problem_to_people(&p);
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "name")), "/c1");
    assert_string_equal(json_string_value(json_object_get(j, "space")), "team");
    assert_string_equal(json_string_value(json_object_get(j, "message")), text);
    json_decref(j);
    j = problem_to_json(&p); /* the wire has it in the request */
    assert_null(json_object_get(j, "space"));
    json_decref(j);
    /* What is no path there has no space, nor has the next problem. */
    strcpy(p.name, "f");
    problem_sentence(&p, text, sizeof text);
    assert_string_equal(text, "There is no f.");
    problem(&p, FILE_MISSING, .name = "/c1");
    problem_sentence(&p, text, sizeof text);
    assert_string_equal(text, "There is no /c1.");
}

static void
a_quota_speaks_of_unfinished_uploads_where_there_are_some(void **state)
{
    struct problem p = {0};
    char text[256];

    (void)state;
    problem(&p, QUOTA_BYTES, .limit = 10 << 20, .used = 3, .size = 100 << 20);
    problem_sentence(&p, text, sizeof text);
    assert_string_equal(text, "The space holds 10 MiB; 3 bytes are used and "
                              "this needs 100 MiB.");
    assert_string_equal(problem_advice(&p),
                        "Remove something, or ask for more.");
    p.bytes = 1 << 20;
    problem_sentence(&p, text, sizeof text);
    assert_non_null(strstr(text, "1 MiB are held by unfinished uploads, and"));
    assert_non_null(strstr(problem_advice(&p), "finish what was cut"));
}

static void an_unknown_code_is_kept_for_who_knows_it(void **state)
{
    json_t *j = json_pack("{s:s, s:s, s:i}", "code", "space.frozen", "name",
                          "team", "added_later", 1);
    struct problem p;
    char text[256];

    (void)state;
    problem_from_json(j, &p);
    json_decref(j);
    assert_int_equal(p.id, PROBLEM_FOREIGN);
    assert_string_equal(problem_code(&p), "space.frozen");
    problem_sentence(&p, text, sizeof text);
    assert_non_null(strstr(text, "'space.frozen'"));
    j = problem_to_json(&p);
    assert_string_equal(json_string_value(json_object_get(j, "code")),
                        "space.frozen");
    json_decref(j);
}

static void nonsense_is_a_broken_protocol(void **state)
{
    static const char *const bad[] = {
        "[]",
        "{}",
        "7",
        "{\"code\": 7}",
        "{\"code\": \"\"}",
        "{\"code\": \"Quota\"}",
        "{\"code\": \"a\\u001b\"}",
        ("{\"code\": \"0123456789012345678901234567890123456789"
         "012345678901234567890123456789\"}"),
        "{\"code\": \"cancelled\", \"limit\": -1}",
        "{\"code\": \"cancelled\", \"limit\": \"1\"}",
        "{\"code\": \"cancelled\", \"when\": 1.5}",
        "{\"code\": \"cancelled\", \"error\": 5}",
        "{\"code\": \"cancelled\", \"name\": 5}",
        "{\"code\": \"cancelled\", \"name\": {\"b64\": \"AAA\"}}",
        "{\"code\": \"cancelled\", \"name\": {\"b64\": \"AAAA\"}}", /* NULs */
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *j = json_loads(bad[i], JSON_DECODE_ANY, NULL);
        struct problem p;

        assert_non_null(j);
        problem_from_json(j, &p);
        json_decref(j);
        if (p.id != PROBLEM_PROTOCOL_BROKEN)
            fail_msg("taken for good: %s", bad[i]);
    }
    struct problem p;

    problem_from_json(NULL, &p);
    assert_int_equal(p.id, PROBLEM_PROTOCOL_BROKEN);
}

static void a_text_too_long_is_cut_between_characters(void **state)
{
    char name[400] = "";
    struct problem p;

    (void)state;
    for (int lead = 0; lead < 4; lead++) {
        memset(name, 'a', (size_t)lead);
        for (size_t at = (size_t)lead; at + 3 < sizeof name; at += 3)
            memcpy(name + at, "\xe2\x82\xac", 4);
        problem(&p, FILE_MISSING, .name = name);
        assert_true(strlen(p.name) < PROBLEM_TEXT_BYTES);
        assert_string_equal(p.name + strlen(p.name) - 3, "...");
        for (size_t at = 0, n; p.name[at]; at += n) {
            n = text_utf8(p.name + at, strlen(p.name + at));
            assert_true(n > 0);
        }
    }
}

static void the_nearest_code_is_offered(void **state)
{
    const char *near = NULL;

    (void)state;
    assert_int_equal(problem_by_code("quota.byte", &near), PROBLEM_NONE);
    assert_string_equal(near, "quota.bytes");
}

static void the_committed_document_is_the_catalogues(void **state)
{
    char *made = NULL, *kept;
    size_t made_size = 0, kept_size;
    FILE *f = open_memstream(&made, &made_size);

    (void)state;
    assert_int_equal(errors_doc_print(f), 0);
    fclose(f);
    f = fopen(ERRORS_MD, "r");
    assert_non_null(f);
    kept = malloc(made_size + 2);
    kept_size = fread(kept, 1, made_size + 1, f);
    fclose(f);
    if (kept_size != made_size || memcmp(kept, made, made_size) != 0)
        fail_msg("docs/errors.md is stale: run `make docs`");
    free(kept);
    free(made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fill_returns_the_rows_errno_and_keeps_the_values),
        cmocka_unit_test(a_sentence_shows_its_values),
        cmocka_unit_test(a_value_that_looks_like_a_place_is_left_alone),
        cmocka_unit_test(a_sentence_is_cut_to_its_room),
        cmocka_unit_test(every_row_expands_every_place_with_every_value),
        cmocka_unit_test(every_row_keeps_the_rules_of_the_catalogue),
        cmocka_unit_test(a_record_survives_the_wire),
        cmocka_unit_test(a_name_in_a_shared_space_is_said_with_it),
        cmocka_unit_test(
            a_quota_speaks_of_unfinished_uploads_where_there_are_some),
        cmocka_unit_test(an_unknown_code_is_kept_for_who_knows_it),
        cmocka_unit_test(nonsense_is_a_broken_protocol),
        cmocka_unit_test(a_text_too_long_is_cut_between_characters),
        cmocka_unit_test(the_nearest_code_is_offered),
        cmocka_unit_test(the_committed_document_is_the_catalogues),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
