/* SPDX-License-Identifier: MIT */
/* hiredis, unmodified: COUNT clients block in the server at once, until it says
 * that all of them do. */
#include <hiredis/hiredis.h>
#include <string.h>
#include <unistd.h>

#include "together.h"

static redisContext *server(void)
{
    redisContext *redis = redisConnect("127.0.0.1", atoi(address));

    CHECK(redis && !redis->err);
    return redis;
}

static int client(void *arg)
{
    redisContext *redis = server();
    redisReply *reply = redisCommand(redis, "BLPOP gate 0");

    (void)arg;
    CHECK(reply && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2);
    CHECK(strcmp(reply->element[1]->str, "go") == 0);
    freeReplyObject(reply);
    redisFree(redis);
    return 0;
}

static int blocked(redisContext *redis)
{
    redisReply *reply = redisCommand(redis, "INFO clients");
    const char *line;
    int count;

    CHECK(reply && reply->type == REDIS_REPLY_STRING);
    line = strstr(reply->str, "blocked_clients:");
    CHECK(line);
    count = atoi(strchr(line, ':') + 1);
    freeReplyObject(reply);
    return count;
}

static int control(void *arg)
{
    keel_auto(group) struct keel_group *all = NULL;
    redisContext *redis;

    (void)arg;
    CHECK(keel_group_new(0, &all) == 0);
    together_start(all, client);
    redis = server();
    while (blocked(redis) < together)
        usleep(5000);
    for (int i = 0; i < together; i++)
        freeReplyObject(redisCommand(redis, "LPUSH gate go"));
    redisFree(redis);
    CHECK(keel_group_join(all, KEEL_FOREVER) == 0);
    return 0;
}

int main(int argc, char **argv)
{
    return together_main(argc, argv, control);
}
