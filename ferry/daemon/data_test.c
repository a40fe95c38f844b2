/* SPDX-License-Identifier: MIT */
/* The data directory's own files, on a disk that forgets what was not synced.
 *
 * A first start makes DATA, its format, the server's key and an invite.  The
 * power is cut at each operation of it and rebooted with several seeds; then the
 * next start succeeds, and when the first one came to its end, key and invite
 * are still those.
 *
 * Then the same with one of its syncs left out, each in turn: that must be
 * found, or it would be there for nothing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <keel/seam.h>

#include "base/log.h"
#include "daemon/data.h"
#include "sim/disk.h"

static const char invite[] = "ferry://localhost:9001/#secret";

/* A layer before the test disk that leaves out the nth sync. */
static struct {
    const struct keel_disk *disk;
    unsigned syncs, left_out;
} layer;

static int layer_fsync(int fd)
{
    return ++layer.syncs == layer.left_out ? 0 : layer.disk->fsync(fd);
}

static void layer_install(void)
{
    static struct keel_disk table;

    test_disk_install((uint64_t)4 << 20);
    layer.disk = keel_seam.disk;
    table = *layer.disk;
    table.fsync = layer_fsync;
    keel_seam.disk = &table;
}

static void layer_remove(void)
{
    keel_seam.disk = layer.disk;
    test_disk_remove();
}

/* What one start found or made. */
struct start {
    struct keel_tls_pin pin;
    char invite[64];
};

static int start(bool first, struct start *ret, struct problem *why)
{
    struct keel_tls_config *tls = NULL;
    struct data d;
    int rc = data_open("/disk/data", true, &d, why);

    if (rc < 0)
        return rc;
    rc = data_tls(&d, &tls, why);
    if (rc == 0)
        rc = keel_tls_own_pin(tls, &ret->pin);
    if (rc == 0 && first)
        rc = data_text_write(&d, "first-invite", invite, why);
    if (rc == 0 &&
        data_text_read(&d, "first-invite", ret->invite, sizeof ret->invite) < 0)
        ret->invite[0] = '\0';
    keel_tls_config_free(tls);
    data_close(&d);
    return rc;
}

struct sweep {
    unsigned moments, syncs;
    bool broken;
    char text[200];
};

static void judge(struct sweep *s, unsigned n, uint64_t seed, bool done,
                  const struct start *first)
{
    struct start second = {0};
    struct problem why = {.id = PROBLEM_NONE};
    const char *what = NULL;
    char words[120];

    test_disk_reboot(seed);
    if (start(false, &second, &why) < 0) {
        problem_sentence(&why, words, sizeof words);
        what = words;
    } else if (done && memcmp(&first->pin, &second.pin, sizeof second.pin)) {
        what = "the key is another";
    } else if (strcmp(second.invite, invite) != 0 &&
               (done || second.invite[0])) {
        what = "the invite is lost or torn";
    }
    if (what && !s->broken) {
        s->broken = true;
        (void)snprintf(s->text, sizeof s->text, "cut at %u, seed %llu: %s", n,
                       (unsigned long long)seed, what);
    }
}

/* One moment, cut at operation n; false when the start came to its end. */
static bool moment(struct sweep *s, unsigned n, unsigned left_out,
                   unsigned seeds)
{
    struct test_disk_image *image;
    struct start first = {0};
    bool done, cut;

    layer_install();
    layer.syncs = 0;
    layer.left_out = left_out;
    test_disk_crash_at(n);
    done = start(true, &first, NULL) == 0;
    cut = test_disk_crashed();
    s->syncs = layer.syncs;
    layer.left_out = 0;
    image = test_disk_save();
    for (unsigned k = 0; k < seeds; k++) {
        test_disk_load(image);
        judge(s, n,
              k == 0   ? TEST_DISK_KEEP_ALL
              : k == 1 ? TEST_DISK_KEEP_NONE
                       : (uint64_t)n * 1000 + k,
              done, &first);
    }
    test_disk_image_free(image);
    layer_remove();
    s->moments++;
    return cut;
}

static void a_first_start_is_whole_or_begun_anew_after_any_crash(void **state)
{
    struct sweep *s = *state;

    while (moment(s, s->moments + 1, 0, 10))
        continue;
    if (s->broken)
        print_error("%s\n", s->text);
    assert_false(s->broken);
    assert_true(s->moments > 20 && s->syncs >= 9);
}

static void leaving_out_any_one_sync_is_found(void **state)
{
    struct sweep *honest = *state;

    for (unsigned nth = 1; nth <= honest->syncs; nth++) {
        struct sweep s = {0};

        /* Most are missed at the end. */
        for (unsigned n = honest->moments; n > 0 && !s.broken; n--)
            (void)moment(&s, n, nth, 40);
        print_message("without sync %u of %u: %s\n", nth, honest->syncs,
                      s.broken ? s.text : "NOT FOUND");
        assert_true(s.broken);
    }
}

static void what_is_not_ours_is_refused(void **state)
{
    struct problem why;
    struct start s;
    struct data d;

    (void)state;
    layer_install();
    assert_true(data_open("/disk/data", false, &d, &why) < 0);
    assert_int_equal(why.id, PROBLEM_DATA_ACCESS);
    assert_int_equal(start(true, &s, &why), 0);
    assert_int_equal(data_open("/disk/data", false, &d, &why), 0);
    assert_int_equal(data_text_write(&d, "format", "ferry data 2", &why), 0);
    data_close(&d);
    assert_true(data_open("/disk/data", true, &d, &why) < 0);
    assert_int_equal(why.id, PROBLEM_DATA_FORMAT);
    assert_string_equal(why.detail, "ferry data 2");
    layer_remove();
}

int main(void)
{
    static struct sweep honest;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(
            a_first_start_is_whole_or_begun_anew_after_any_crash, &honest),
        cmocka_unit_test_prestate(leaving_out_any_one_sync_is_found, &honest),
        cmocka_unit_test(what_is_not_ours_is_refused),
    };

    log_open(-1, LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
