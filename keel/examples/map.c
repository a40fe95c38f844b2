/* SPDX-License-Identifier: MIT */
/* A bounded map: six pages are fetched, two at a time.
 *
 *     cc map.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * The fetching is a sleep here.  When one fails no more are begun, those under
 * way are cancelled, and the map returns once all have ended. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>

struct pages {
    int under_way, most, missing;
    char text[6][16];
};

static int fetch(void *arg, size_t i)
{
    struct pages *p = arg;
    int rc;

    if ((int)i == p->missing)
        return -ENOENT;
    p->under_way++;
    if (p->under_way > p->most)
        p->most = p->under_way;
    rc = keel_sleep(keel_after(5 * KEEL_MS));
    p->under_way--;
    if (rc == 0)
        snprintf(p->text[i], sizeof p->text[i], "page %zu", i + 1);
    return rc;
}

static int run(void *arg)
{
    struct pages all = {.missing = -1}, broken = {.missing = 3};
    int rc;

    (void)arg;
    rc = keel_group_map(2, 6, fetch, &all, keel_after(10 * KEEL_SECOND));
    if (rc < 0)
        return rc;
    for (int i = 0; i < 6; i++)
        puts(all.text[i]);
    printf("at most %d at a time\n", all.most);

    rc = keel_group_map(2, 6, fetch, &broken, KEEL_FOREVER);
    printf("without page 4: %s, %d under way\n", strerror(-rc),
           broken.under_way);
    return 0;
}

int main(void)
{
    return keel_run(run, NULL) < 0;
}
