/* SPDX-License-Identifier: MIT */
#include "client/retry.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/text.h"

#define FIRST_WAIT KEEL_SECOND
#define LONGEST_WAIT (30 * KEEL_SECOND)

bool retry_worth(const struct problem *p)
{
    switch (p->id) {
    case PROBLEM_CONNECT_FAILED:
    case PROBLEM_CONNECT_LOST:
    case PROBLEM_CONNECT_TIMEOUT:
    case PROBLEM_CONNECT_NO_HOST: /* no network yet looks like this */
    case PROBLEM_SERVER_STOPPING:
    case PROBLEM_SERVER_FULL: /* "Try again later." */
    case PROBLEM_TRANSFER_CUT:
        return true;
    /* A handshake that the line broke; a server that speaks something else
     * will not learn better. */
    default:
        return false;
    }
}

/* Half of it is by chance: clients of a server that restarts do not come back
 * all at once. */
static keel_ns wait_span(unsigned tries)
{
    keel_ns span = tries < 5 ? FIRST_WAIT << tries : LONGEST_WAIT;
    uint32_t chance;

    if (span > LONGEST_WAIT)
        span = LONGEST_WAIT;
    keel_random(&chance, sizeof(chance));
    return span / 2 + (keel_ns)(chance % 1000) * (span / 2000);
}

static void wait_say(const struct cli *c, const struct problem *why,
                     const char *words, keel_ns span)
{
    json_int_t seconds = (span + KEEL_SECOND - 1) / KEEL_SECOND;

    if (c->json) {
        cli_json(c, json_pack("{s:o, s:I}", "waiting", problem_to_people(why),
                              "seconds", seconds));
        return;
    }
    if (c->verbose >= 0)
        fprintf(stderr, _("ferry: %s Trying again in %lld s.\n"), words,
                (long long)seconds);
}

int retry_wait(struct retry *r, const struct cli *c, struct progress *p,
               const struct problem *why)
{
    keel_ns span = wait_span(r->tries++);
    struct progress own = {.total = 0};
    char words[512];
    int rc;

    problem_sentence(why, words, sizeof(words));
    if (!p || !p->started) {
        p = &own;
        progress_start(&own, c, "", 0);
    }
    if (p->shown)
        progress_waiting(p, words, keel_after(span));
    else
        wait_say(c, why, words, span);
    rc = keel_sleep(keel_after(span));
    progress_waiting(p, NULL, 0);
    if (p == &own)
        progress_stop(&own);
    return rc;
}

void retry_reset(struct retry *r)
{
    r->tries = 0;
}
