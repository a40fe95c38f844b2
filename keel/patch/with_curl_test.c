/* SPDX-License-Identifier: MIT */
/* libcurl's easy interface, unmodified: COUNT transfers at once. */
#include <curl/curl.h>
#include <string.h>

#include "together.h"

struct body {
    char text[2048];
    size_t size;
};

static size_t keep(char *data, size_t one, size_t size, void *arg)
{
    struct body *b = arg;

    (void)one;
    if (size >= sizeof b->text - b->size)
        return 0;
    memcpy(b->text + b->size, data, size);
    b->size += size;
    b->text[b->size] = '\0';
    return size;
}

static void get(const char *url, struct body *ret)
{
    CURL *curl = curl_easy_init();
    CURLcode rc;

    CHECK(curl);
    ret->size = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, ret);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    rc = curl_easy_perform(curl);
    if (rc)
        (void)fprintf(stderr, "%s: %s\n", url, curl_easy_strerror(rc));
    CHECK(rc == CURLE_OK);
    curl_easy_cleanup(curl);
}

/* Each eighth by the server's name, which curl looks up in a thread. */
static int client(void *arg)
{
    int number = (int)(intptr_t)arg;
    const char *port = strrchr(address, ':');
    struct body body;
    char url[128];

    (void)snprintf(url, sizeof url, "%.*s%s/picture-%d?of=%d",
                   number % 8 ? (int)(port - address) : 16,
                   number % 8 ? address : "http://localhost", port, number,
                   together);
    get(url, &body);
    (void)snprintf(url, sizeof url, "/picture-%d/picture-%d/", number, number);
    CHECK(strncmp(body.text, url, strlen(url)) == 0);
    return 0;
}

static int test(void *arg)
{
    keel_auto(group) struct keel_group *all = NULL;
    struct body body;
    char url[128];

    (void)arg;
    CHECK(keel_group_new(0, &all) == 0);
    together_start(all, client);
    CHECK(keel_group_join(all, KEEL_FOREVER) == 0);
    (void)snprintf(url, sizeof url, "%s/most", address);
    get(url, &body);
    CHECK(atoi(body.text) == together);
    return 0;
}

int main(int argc, char **argv)
{
    curl_global_init(CURL_GLOBAL_ALL);
    return together_main(argc, argv, test);
}
