/* SPDX-License-Identifier: MIT */
/* Many to many: everybody sends to all and hears all, once by broadcast and
 * once by a multicast group.
 *
 *     cc udp_many.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * Broadcast reaches every machine of a network, wanted or not, and must be
 * allowed on the socket; a group reaches those who joined.  Here all stays on
 * the loopback interface. */
#include <errno.h>
#include <stdio.h>

#include <keel/co.h>
#include <keel/udp.h>

enum { PEERS = 3 };

struct peer {
    int number;
    struct keel_udp *socket;
    const struct keel_address *all;
    unsigned heard[PEERS];
};

/* Says its number to all, then counts whom it heard; itself, too. */
static int take_part(void *arg)
{
    struct peer *me = arg;
    char number = (char)me->number, from;
    int rc = keel_udp_send_to(me->socket, me->all, &number, 1,
                              keel_after(KEEL_SECOND));

    for (int i = 0; rc == 0 && i < PEERS; i++) {
        ssize_t size = keel_udp_recv(me->socket, &from, 1,
                                     keel_after(10 * KEEL_SECOND), NULL);

        if (size != 1 || from < 0 || from >= PEERS)
            rc = size < 0 ? (int)size : -EPROTO;
        else
            me->heard[(int)from]++;
    }
    return rc;
}

/* Opens them on one port, `join` a group or are allowed to broadcast. */
static int meet(struct peer peers[PEERS], struct keel_address *all,
                unsigned interface)
{
    char local[64] = "0.0.0.0:0";
    struct keel_address at;
    int rc = 0;

    for (int i = 0; rc == 0 && i < PEERS; i++) {
        struct keel_udp *u = NULL;

        rc = keel_udp_open(local, KEEL_UDP_SHARED, &u);
        peers[i] = (struct peer){.number = i, .socket = u, .all = all};
        if (rc == 0)
            rc = keel_udp_local(u, &at);
        if (rc == 0 && keel_address_class(all) == KEEL_CLASS_MULTICAST) {
            rc = keel_udp_join(u, all, interface);
            if (rc == 0)
                rc = keel_udp_multicast_by(u, interface);
        } else if (rc == 0) {
            rc = keel_udp_broadcast(u, true);
        }
        all->port = at.port;
        snprintf(local, sizeof(local), "0.0.0.0:%u", at.port);
    }
    return rc;
}

static int talk(const char *what, struct keel_address all, unsigned interface)
{
    struct peer peers[PEERS] = {{0}};
    struct keel_group *group = NULL;
    int rc = meet(peers, &all, interface);

    if (rc == 0)
        rc = keel_group_new(0, &group);
    for (int i = 0; rc == 0 && i < PEERS; i++)
        rc = keel_spawn(&(struct keel_spawn){.group = group}, take_part,
                        &peers[i], NULL);
    if (rc == 0)
        rc = keel_group_join(group, keel_after(20 * KEEL_SECOND));
    keel_group_free(group);
    for (int i = 0; i < PEERS; i++) {
        if (rc == 0)
            printf("%s: peer %d heard 0 %u times, 1 %u, 2 %u\n", what, i,
                   peers[i].heard[0], peers[i].heard[1], peers[i].heard[2]);
        keel_udp_close(peers[i].socket);
    }
    return rc;
}

static int run(void *arg)
{
    keel_auto(interfaces) struct keel_interfaces *list = NULL;
    struct keel_address group;
    struct keel_prefix net;
    unsigned loopback = 0;
    int rc = keel_interfaces_new(&list);

    (void)arg;
    for (size_t i = 0; rc == 0 && i < list->count; i++)
        if (list->rows[i].loopback)
            loopback = list->rows[i].index;
    if (rc == 0)
        rc = keel_prefix_parse("127.0.0.0/8", &net);
    if (rc == 0)
        rc = talk("broadcast", keel_prefix_last(&net), 0);
    if (rc == 0)
        rc = keel_ip_parse("239.255.40.2", &group);
    if (rc == 0)
        rc = talk("multicast", group, loopback);
    return rc;
}

int main(void)
{
    return keel_run(run, NULL) == 0 ? 0 : 1;
}
