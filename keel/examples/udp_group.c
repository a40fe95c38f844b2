/* SPDX-License-Identifier: MIT */
/* One to many: a station sends to a multicast group, whoever joined it hears.
 *
 *     cc udp_group.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * All on the loopback interface, so that it needs no network; by another one
 * (keel_interfaces_new tells them) it reaches the machines there. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <keel/co.h>
#include <keel/udp.h>

enum { LISTENERS = 3 };

static unsigned loopback(void)
{
    keel_auto(interfaces) struct keel_interfaces *all = NULL;

    if (keel_interfaces_new(&all) == 0)
        for (size_t i = 0; i < all->count; i++)
            if (all->rows[i].loopback)
                return all->rows[i].index;
    return 0;
}

/* All listeners share one port. */
static int tune_in(struct keel_udp *radios[LISTENERS],
                   struct keel_address *group)
{
    char local[64] = "0.0.0.0:0";
    struct keel_address at;
    int rc = 0;

    for (int i = 0; rc == 0 && i < LISTENERS; i++) {
        rc = keel_udp_open(local, KEEL_UDP_SHARED, &radios[i]);
        if (rc == 0)
            rc = keel_udp_local(radios[i], &at);
        if (rc == 0)
            rc = keel_udp_join(radios[i], group, loopback());
        group->port = at.port;
        snprintf(local, sizeof(local), "0.0.0.0:%u", at.port);
    }
    return rc;
}

static int send_all(struct keel_udp *station, const struct keel_address *group,
                    const char *text, struct keel_udp *radios[LISTENERS])
{
    char heard[64];
    int rc = keel_udp_send_to(station, group, text, strlen(text),
                              keel_after(KEEL_SECOND));

    for (int i = 0; rc == 0 && i < LISTENERS; i++) {
        /* On loopback it is there at once, or not for them. */
        ssize_t size = keel_udp_recv(radios[i], heard, sizeof(heard),
                                     keel_after(100 * KEEL_MS), NULL);

        if (size >= 0)
            printf("radio %d: %.*s\n", i, (int)size, heard);
        else if (size == -ETIMEDOUT)
            printf("radio %d: nothing\n", i);
        else
            rc = (int)size;
    }
    return rc;
}

static int broadcast(void *arg)
{
    struct keel_udp *radios[LISTENERS] = {NULL};
    keel_auto(udp) struct keel_udp *station = NULL;
    struct keel_address group;
    int rc;

    (void)arg;
    rc = keel_ip_parse("239.255.40.1", &group);
    if (rc == 0)
        rc = tune_in(radios, &group);
    if (rc == 0)
        rc = keel_udp_open("127.0.0.1:0", 0, &station);
    if (rc == 0)
        rc = keel_udp_multicast_by(station, loopback());
    if (rc == 0)
        rc = keel_udp_multicast_ttl(station, 1); /* no router passes it on */
    if (rc == 0)
        rc = send_all(station, &group, "good morning", radios);
    if (rc == 0)
        rc = keel_udp_leave(radios[1], &group, loopback());
    if (rc == 0)
        rc = send_all(station, &group, "without number 1", radios);
    for (int i = 0; i < LISTENERS; i++)
        keel_udp_close(radios[i]);
    return rc;
}

int main(void)
{
    return keel_run(broadcast, NULL) == 0 ? 0 : 1;
}
