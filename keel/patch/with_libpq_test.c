/* SPDX-License-Identifier: MIT */
/* libpq, unmodified: COUNT sessions wait for one lock in the server at once,
 * until it says that all of them do. */
#include <libpq-fe.h>
#include <string.h>
#include <unistd.h>

#include "together.h"

static PGconn *session(void)
{
    PGconn *pg = PQconnectdb(address);

    if (PQstatus(pg) != CONNECTION_OK)
        (void)fprintf(stderr, "%s", PQerrorMessage(pg));
    CHECK(PQstatus(pg) == CONNECTION_OK);
    return pg;
}

static int ask(PGconn *pg, const char *sql)
{
    PGresult *result = PQexec(pg, sql);
    int number;

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        (void)fprintf(stderr, "%s", PQerrorMessage(pg));
    CHECK(PQresultStatus(result) == PGRES_TUPLES_OK);
    CHECK(PQntuples(result) == 1);
    number = atoi(PQgetvalue(result, 0, 0));
    PQclear(result);
    return number;
}

static int client(void *arg)
{
    PGconn *pg = session();

    (void)arg;
    ask(pg, "select pg_advisory_lock_shared(1)");
    CHECK(ask(pg, "select 6 * 7") == 42);
    PQfinish(pg);
    return 0;
}

static int control(void *arg)
{
    keel_auto(group) struct keel_group *all = NULL;
    PGconn *pg = session();

    (void)arg;
    ask(pg, "select pg_advisory_lock(1)");
    CHECK(keel_group_new(0, &all) == 0);
    together_start(all, client);
    while (ask(pg, "select count(*) from pg_locks "
                   "where locktype = 'advisory' and not granted") < together)
        usleep(5000);
    ask(pg, "select pg_advisory_unlock(1)");
    CHECK(keel_group_join(all, KEEL_FOREVER) == 0);
    PQfinish(pg);
    return 0;
}

int main(int argc, char **argv)
{
    return together_main(argc, argv, control);
}
