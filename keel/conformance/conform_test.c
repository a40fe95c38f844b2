/* SPDX-License-Identifier: MIT */
/* conform_test KIND: the table of cases with that kind of worker. */
#include "conform.h"

#include <stdio.h>
#include <unistd.h>

/* Of the case that runs. */
struct run {
    const struct kind *kind;
    const struct conform_case *the_case;
    char name[120];
};

static int case_body(void *arg)
{
    struct run *r = arg;
    struct conform *c = keel_calloc(1, sizeof(*c));

    assert_non_null(c);
    c->kind = r->kind;
    c->worker = r->kind->worker;
    c->sync = r->kind->sync;
    c->queue = r->kind->queue;
    c->pool = r->kind->pool;
    assert_int_equal(keel_shared_new(sizeof(*c->w), &c->memory), 0);
    c->w = keel_shared_memory(c->memory);
    if (r->kind->far_away)
        assert_int_equal(keel_loop_start("far", &c->loop), 0);
    r->the_case->run(c);
    if (c->loop)
        keel_loop_stop(c->loop);
    c->queue->free(c);
    c->pool->free(c);
    keel_shared_free(c->memory);
    keel_free(c);
    return 0;
}

static void run_case(void **state)
{
    struct run *r = *state;
    const char *reason = r->the_case->not_for[r->kind->is];

    if (reason) {
        print_message("           %s\n", reason);
        skip();
    }
    if (r->kind->parks)
        assert_int_equal(keel_run(case_body, r), 0);
    else
        assert_int_equal(case_body(r), 0);
}

int main(int argc, char **argv)
{
    const struct {
        const char *subject;
        const struct conform_case *cases;
        size_t count;
    } tables[] = {{"worker", worker_cases, worker_case_count},
                  {"lock", sync_cases, sync_case_count},
                  {"queue", queue_cases, queue_case_count},
                  {"pool", pool_cases, pool_case_count},
                  {"mistake", mistake_cases, mistake_case_count}};
    static struct run runs[256];
    static struct CMUnitTest tests[256];
    const struct kind *kind = kinds;
    size_t n = 0;

    while (kind < kinds + kind_count &&
           (argc != 2 || strcmp(kind->name, argv[1]) != 0))
        kind++;
    if (kind == kinds + kind_count) {
        (void)fprintf(stderr, "usage: conform_test KIND\n");
        return 2;
    }
    alarm(300); /* rather than wait for what a failed case left */
    for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++)
        for (size_t j = 0; j < tables[i].count; j++, n++) {
            runs[n] = (struct run){kind, &tables[i].cases[j]};
            (void)snprintf(runs[n].name, sizeof(runs[n].name), "%s, %s: %s",
                           kind->name, tables[i].subject,
                           tables[i].cases[j].name);
            tests[n] = (struct CMUnitTest){.name = runs[n].name,
                                           .test_func = run_case,
                                           .initial_state = &runs[n]};
        }
    return _cmocka_run_group_tests(kind->name, tests, n, NULL, NULL);
}
