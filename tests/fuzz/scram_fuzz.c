/* SPDX-License-Identifier: MIT */
/* The texts of a login, from either side.
 *
 *     's' CLIENT-FIRST '\n' CLIENT-FINAL    what a server is told
 *     'c' SERVER-FIRST '\n' SERVER-FINAL    what a client is told
 *
 * Each '@' stands for the nonce that the other side has just made up, without
 * which no text would get far.  Nobody ever gets in: no key is known. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/file.h>

#include "account/account.h"
#include "account/scram.h"
#include "sim/disk.h"

enum { TEXT_BYTES = 4096 };

static struct accounts *accounts;
static const uint8_t exporter[32] = {1};

static void must(bool good)
{
    if (!good)
        abort();
}

/* A ledger in memory with one account. */
static void open_once(void)
{
    struct accounts_options o = {.registration = REGISTRATION_OPEN};
    struct ledger_scram s = {.iterations = SCRAM_ITERATIONS,
                             .salt_size = SCRAM_SALT_BYTES};
    struct actor a;
    int dir;

    if (accounts)
        return;
    test_disk_install(16 << 20);
    dir = keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
    must(dir >= 0);
    must(ledger_open(dir, &o.ledger, NULL) == 0);
    must(accounts_open(&o, &accounts, NULL) == 0);
    keel_random(s.stored_key, sizeof s.stored_key);
    must(account_register(accounts, "mara", NULL, &s, &a, NULL) == 0);
}

/* The nonce in "...r=NONCE,..." */
static void nonce_of(const char *text, char *ret, size_t size)
{
    const char *r = text ? strstr(text, "r=") : NULL;

    snprintf(ret, size, "%.*s", r ? (int)strcspn(r + 2, ",") : 0,
             r ? r + 2 : "");
}

/* A copy of `in` that ends in NUL, each '@' replaced. */
static void text_of(const uint8_t *in, size_t in_size, const char *nonce,
                    char ret[TEXT_BYTES])
{
    size_t n = 0;

    for (size_t i = 0; i < in_size && n < TEXT_BYTES - 200; i++) {
        if (in[i] == '@')
            n += (size_t)snprintf(ret + n, TEXT_BYTES - n, "%s", nonce);
        else
            ret[n++] = (char)in[i];
    }
    ret[n] = '\0';
}

static void tell_server(const uint8_t *first, size_t first_size,
                        const uint8_t *final, size_t final_size)
{
    static unsigned peers;
    keel_auto(login) struct login *l = NULL;
    char text[TEXT_BYTES], nonce[160], peer[32], *said = NULL, *verdict = NULL;
    struct actor a;
    struct problem why;

    /* Another address each time: nobody here waits for a turn. */
    peers++;
    snprintf(peer, sizeof peer, "10.%u.%u.%u:1", peers >> 16 & 255,
             peers >> 8 & 255, peers & 255);
    text_of(first, first_size, "abcdefghijkl", text);
    if (login_start(accounts, peer, "mara", exporter, text, &l, &said, &why) <
        0)
        return;
    nonce_of(said, nonce, sizeof nonce);
    text_of(final, final_size, nonce, text);
    must(login_finish(l, text, &verdict, &a, &why) < 0);
    must(verdict == NULL);
    keel_free(said);
}

static void tell_client(const uint8_t *first, size_t first_size,
                        const uint8_t *final, size_t final_size)
{
    keel_auto(scram_client) struct scram_client *c = NULL;
    char text[TEXT_BYTES], nonce[160], *begin = NULL, *end = NULL;
    struct problem why;

    must(scram_client_new("mara", "correct horse", exporter, &c, &why) == 0);
    must(scram_client_first(c, &begin, &why) == 0);
    nonce_of(begin, nonce, sizeof nonce);
    keel_free(begin);
    text_of(first, first_size, nonce, text);
    if (scram_client_final(c, text, &end, &why) < 0)
        return;
    keel_free(end);
    text_of(final, final_size, nonce, text);
    must(scram_client_verify(c, text, &why) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line;
    size_t first;

    open_once();
    if (size < 1 || size > TEXT_BYTES)
        return 0;
    line = memchr(data, '\n', size);
    first = line ? (size_t)(line - data) - 1 : size - 1;
    if (line == data)
        return 0;
    if (*data == 's')
        tell_server(data + 1, first, line ? line + 1 : data,
                    line ? size - first - 2 : 0);
    else if (*data == 'c')
        tell_client(data + 1, first, line ? line + 1 : data,
                    line ? size - first - 2 : 0);
    return 0;
}
