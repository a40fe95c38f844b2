/* SPDX-License-Identifier: MIT */
#include "tls_fixture.h"

#include <malloc.h>

#include "test/fault.h"

/* ---- what OpenSSL holds ------------------------------------------------------- */

static atomic_long openssl_bytes;

static void *counted_alloc(size_t size, const char *file, int line)
{
    void *p = malloc(size);

    (void)file, (void)line;
    openssl_bytes += (long)malloc_usable_size(p);
    return p;
}

static void counted_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    openssl_bytes -= (long)malloc_usable_size(p);
    free(p);
}

static void *counted_realloc(void *p, size_t size, const char *file, int line)
{
    long before = (long)malloc_usable_size(p);
    void *q;

    (void)file, (void)line;
    q = realloc(p, size);
    openssl_bytes += (long)malloc_usable_size(q) - before;
    return q;
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

static void a_key_and_a_config_survive_each_failing_allocation(void **state)
{
    (void)state;
    for (unsigned nth = 1;; nth++) {
        char *key = NULL, *chain = NULL;
        int rc;

        fault_fail_alloc(nth);
        rc = keel_tls_key_new("some.test", &key, &chain);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            keel_free(key);
            keel_free(chain);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(key);
        assert_null(chain);
    }
    for (unsigned nth = 1;; nth++) {
        struct keel_tls_config *c = NULL;
        struct keel_tls_options o = {.any = true};
        int rc;

        fault_fail_alloc(nth);
        rc = keel_tls_config_new(&o, &c);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            keel_tls_config_free(c);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(c);
    }
}

struct shortage {
    unsigned nth;
    int rc;
    bool fired;
};

static int shortage_in(void *arg)
{
    struct shortage *s = arg;
    struct talk t = {.deadline = keel_after(SOON),
                     .config = {server_config, client_config}};
    char buf[100];
    struct keel_co *far = NULL;
    int rc = 0;
    ssize_t n;

    assert_int_equal(keel_stream_pair(10000, t.below), 0);
    assert_int_equal(keel_spawn(NULL, accept_in, &t, &far), 0);
    /* From here the only allocations are ours: the coroutine has its stack. */
    fault_fail_alloc(s->nth);
    connect_in(&t);
    assert_int_equal(keel_join(far, KEEL_FOREVER, NULL), 0);
    if (t.rc[0] == 0 && t.rc[1] == 0) {
        rc = keel_stream_write(t.tls[0], "word", 4, keel_after(SOON));
        /* Nothing has happened, so it can be tried again. */
        if (rc == -ENOMEM)
            assert_int_equal(
                keel_stream_write(t.tls[0], "word", 4, keel_after(SOON)), 0);
        n = keel_stream_read(t.tls[1], buf, sizeof buf, keel_after(SOON));
        if (n == -ENOMEM) {
            rc = -ENOMEM;
            n = keel_stream_read(t.tls[1], buf, sizeof buf, keel_after(SOON));
        }
        assert_int_equal(n, 4);
    }
    s->fired = fault_fired();
    s->rc = t.rc[0] == -ENOMEM || t.rc[1] == -ENOMEM ? -ENOMEM : rc;
    talk_close(&t);
    return 0;
}

static void a_session_survives_each_shortage_of_memory(void **state)
{
    struct shortage s = {0};

    (void)state;
    do {
        s.nth++;
        on_a_loop(shortage_in, &s);
        assert_int_equal(s.rc, s.fired ? -ENOMEM : 0);
    } while (s.fired);
    assert_true(s.nth > 2);
}

enum { IDLE = 40 };

static void clients_close(struct talk *t, int count)
{
    for (int i = 0; i < count; i++) {
        keel_stream_close(t[i].tls[1]);
        t[i].tls[1] = NULL;
    }
}

static int idle_in(void *arg)
{
    struct talk t[IDLE];
    char buf[64] = {0};
    long before = 0;

    (void)arg;
    memset(t, 0, sizeof t);
    for (int i = 0; i < IDLE; i++) {
        if (i == IDLE / 2) { /* the first pay for tables */
            clients_close(t, i);
            before = openssl_bytes;
        }
        talk_open(&t[i], 10000);
        for (int end = 0; end < 2; end++) {
            assert_int_equal(keel_stream_write(t[i].tls[end], buf, sizeof buf,
                                               keel_after(SOON)),
                             0);
            assert_int_equal(keel_stream_read(t[i].tls[!end], buf, sizeof buf,
                                              keel_after(SOON)),
                             sizeof buf);
            assert_int_equal(keel_stream_read(t[i].tls[!end], buf, sizeof buf,
                                              keel_after(KEEL_MS)),
                             -ETIMEDOUT);
        }
    }
    assert_int_equal(tls_buffers_lent(), 0);
    clients_close(t, IDLE);
    long each = (openssl_bytes - before) / (IDLE / 2);
    print_message("an idle session: %ld bytes in OpenSSL\n", each);
    assert_in_range(each, 1000, 14 * 1024);
    for (int i = 0; i < IDLE; i++)
        talk_close(&t[i]);
    return 0;
}

static void an_idle_session_is_small(void **state)
{
    (void)state;
    on_a_loop(idle_in, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_and_a_config_survive_each_failing_allocation),
        cmocka_unit_test(a_session_survives_each_shortage_of_memory),
        cmocka_unit_test(an_idle_session_is_small),
    };

    CRYPTO_set_mem_functions(counted_alloc, counted_realloc, counted_free);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
