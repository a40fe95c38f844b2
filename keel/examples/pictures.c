/* SPDX-License-Identifier: MIT */
/* Pictures from a server, by libcurl, three ways: one after another, a thread
 * each, a coroutine each.  The function that fetches one is the same; libcurl
 * is Debian's own and knows of no coroutines.  Linked with libkeel-patch, its
 * blocking calls park.
 *
 *     cc pictures.c $(pkg-config --cflags --libs keel-patch keel libcurl)
 *     ./a.out [--times] URL
 *
 * where URL is that of such a server (tests/support/servers.py http COMMAND
 * starts one, and adds its URL to the command).
 *
 * A picture is answered when as many are asked for at once as its URL says: two
 * that overlap could not be fetched one after another.  Says what the server
 * saw, and with --times how long it took. */
#include <stdio.h>
#include <string.h>

#include <curl/curl.h>
#include <keel/co.h>
#include <keel/patch.h>
#include <keel/thread.h>

enum { PICTURES = 12 };

static const char *server;

/* One way of fetching them all; each is answered when `at_once` are there. */
struct way {
    const char *name;
    int (*fetch_all)(struct way *way);
    int at_once;
    size_t bytes[PICTURES];
};

struct task {
    struct way *way;
    int number;
};

static size_t count(char *data, size_t one, size_t size, void *bytes)
{
    (void)data, (void)one;
    *(size_t *)bytes += size;
    return size;
}

/* Blocks, as anything written for threads. */
static int fetch(void *arg)
{
    struct task *task = arg;
    CURL *curl = curl_easy_init();
    char url[128];
    CURLcode rc;

    (void)snprintf(url, sizeof url, "%s/picture-%02d?of=%d", server,
                   task->number, task->way->at_once);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, count);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &task->way->bytes[task->number]);
    rc = curl_easy_perform(curl);
    curl_easy_cleanup(curl);
    return rc == CURLE_OK ? 0 : -1;
}

static int one_after_another(struct way *way)
{
    int rc = 0;

    for (int i = 0; i < PICTURES && rc == 0; i++)
        rc = fetch(&(struct task){way, i});
    return rc;
}

static int in_threads(struct way *way)
{
    struct keel_thread *threads[PICTURES];
    struct task tasks[PICTURES];
    int started = 0, result, rc = 0;

    for (; started < PICTURES && rc == 0; started += rc == 0) {
        tasks[started] = (struct task){way, started};
        rc = keel_thread_start("picture", fetch, &tasks[started],
                               &threads[started]);
    }
    for (int i = 0; i < started; i++)
        if (keel_thread_join(threads[i], KEEL_FOREVER, &result) < 0 || result)
            rc = -1;
    return rc;
}

static int in_coroutines(struct way *way)
{
    const size_t stack_bytes = 128 * 1024; /* of code written for threads */
    keel_auto(group) struct keel_group *all = NULL;
    struct task tasks[PICTURES];
    int rc = keel_group_new(0, &all);

    for (int i = 0; i < PICTURES && rc == 0; i++) {
        struct keel_spawn how = {
            .name = "picture", .group = all, .stack_bytes = stack_bytes};

        tasks[i] = (struct task){way, i};
        rc = keel_spawn(&how, fetch, &tasks[i], NULL);
    }
    return rc < 0 ? rc : keel_group_join_or_cancel(all, KEEL_FOREVER);
}

/* The server's own count, since it was last asked. */
static size_t keep_number(char *data, size_t one, size_t size, void *number)
{
    (void)one;
    for (size_t i = 0; i < size; i++)
        *(int *)number = *(int *)number * 10 + (data[i] - '0');
    return size;
}

static int most_at_once(void)
{
    CURL *curl = curl_easy_init();
    int most = 0;
    char url[128];

    (void)snprintf(url, sizeof url, "%s/most", server);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep_number);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &most);
    if (curl_easy_perform(curl) != CURLE_OK)
        most = -1;
    curl_easy_cleanup(curl);
    return most;
}

static struct way ways[] = {
    {.name = "one after another", one_after_another, 1},
    {.name = "a thread each", in_threads, PICTURES},
    {.name = "a coroutine each", in_coroutines, PICTURES},
};
static bool times;

static int show(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct way *way = &ways[i];
        keel_ns begun = keel_now();
        size_t bytes = 0;

        if (way->fetch_all(way) < 0)
            return 1;
        begun = keel_now() - begun;
        for (int n = 0; n < PICTURES; n++)
            bytes += way->bytes[n];
        printf("%-17s  %d pictures, %zu bytes, at once: %d", way->name,
               PICTURES, bytes, most_at_once());
        if (times)
            printf(", %.1f ms", (double)begun / (double)KEEL_MS);
        printf("\n");
    }
    printf("patched: %s\n", keel_patched() ? "yes" : "no");
    return 0;
}

int main(int argc, char **argv)
{
    times = argc == 3 && !strcmp(argv[1], "--times");
    if (argc != 2 + times) {
        (void)fprintf(stderr, "usage: pictures [--times] URL\n");
        return 2;
    }
    server = argv[argc - 1];
    curl_global_init(CURL_GLOBAL_ALL);
    return keel_run(show, NULL);
}
