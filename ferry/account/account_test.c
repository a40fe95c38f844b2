/* SPDX-License-Identifier: MIT */
#include "account/account.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/file.h>

#include "account/delay.h"
#include "account/scram.h"
#include "account/scram_keys.h"
#include "base/base64.h"
#include "test/clock.h"
#include "sim/disk.h"
#include "test/fault.h"

#define HERE "192.0.2.1:4711"
#define PASSWORD "correct horse"

/* A ledger on a disk in memory, and the people in it.  `quick` has the
 * password above at the least count of iterations a client answers: the tests
 * derive often. */
struct house {
    struct ledger *ledger;
    struct accounts *accounts;
    struct actor quick;
    uint8_t exporter[32];
    int dir;
};

static int derived_quickly(struct ledger_scram *s)
{
    uint8_t salted[32];

    *s = (struct ledger_scram){.iterations = SCRAM_ITERATIONS_LEAST,
                               .salt_size = SCRAM_SALT_BYTES};
    keel_random(s->salt, s->salt_size);
    PKCS5_PBKDF2_HMAC(PASSWORD, -1, s->salt, s->salt_size, (int)s->iterations,
                      EVP_sha256(), 32, salted);
    return scram_keys(salted, s->stored_key, s->server_key);
}

static void accounts_new(struct house *h, enum registration registration)
{
    struct accounts_options o = {.ledger = h->ledger,
                                 .registration = registration,
                                 .quota_bytes = 1000,
                                 .quota_files = 10};
    struct problem why;

    accounts_close(h->accounts);
    h->accounts = NULL;
    assert_int_equal(accounts_open(&o, &h->accounts, &why), 0);
}

static int setup(void **state)
{
    struct house *h = calloc(1, sizeof *h);
    struct ledger_registration r = {.name = "quick", .now = 1};
    struct ledger_account account;
    struct problem why;

    test_clock_install();
    test_disk_install(64 << 20);
    h->dir = keel_file_open_any("/disk", O_RDONLY | O_DIRECTORY, 0);
    assert_true(h->dir >= 0);
    assert_int_equal(ledger_open(h->dir, &h->ledger, &why), 0);
    accounts_new(h, REGISTRATION_INVITE_ONLY);
    assert_int_equal(derived_quickly(&r.scram), 0);
    assert_int_equal(ledger_register(h->ledger, &r, &account, &why), 0);
    h->quick = (struct actor){.account = account.id, .home = account.home};
    strcpy(h->quick.name, "quick");
    memset(h->exporter, 5, sizeof h->exporter);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct house *h = *state;

    accounts_close(h->accounts);
    ledger_close(h->ledger);
    keel_file_close(h->dir);
    test_disk_remove();
    test_clock_remove();
    free(h);
    return 0;
}

#define assert_refused(call, ID)                                               \
    do {                                                                       \
        assert_true((call) < 0);                                               \
        assert_int_equal(why.id, PROBLEM_##ID);                                \
    } while (0)

/* ---- one exchange, with a hand between client and server ------------------------ */
struct exchange {
    const char *peer, *name, *password;
    uint8_t client_exporter[32];
    /* Changes a text on its way. */
    void (*server_first)(char *text);
    void (*server_final)(char *text);
    /* What was said, for looking at; freed by exchange_free. */
    char *first, *challenge, *final, *verdict;
    struct actor actor;
};

static void exchange_free(struct exchange *x)
{
    keel_free(x->first);
    keel_free(x->challenge);
    keel_free(x->final);
    keel_free(x->verdict);
    x->first = x->challenge = x->final = x->verdict = NULL;
}

static int exchange_run(struct house *h, struct exchange *x,
                        struct problem *why)
{
    keel_auto(scram_client) struct scram_client *c = NULL;
    keel_auto(login) struct login *l = NULL;
    int rc;

    exchange_free(x);
    rc = scram_client_new(x->name, x->password, x->client_exporter, &c, why);
    if (rc == 0)
        rc = scram_client_first(c, &x->first, why);
    if (rc == 0)
        rc = login_start(h->accounts, x->peer, x->name, h->exporter, x->first,
                         &l, &x->challenge, why);
    if (rc == 0 && x->server_first)
        x->server_first(x->challenge);
    if (rc == 0)
        rc = scram_client_final(c, x->challenge, &x->final, why);
    if (rc == 0)
        rc = login_finish(l, x->final, &x->verdict, &x->actor, why);
    if (rc == 0 && x->server_final)
        x->server_final(x->verdict);
    if (rc == 0)
        rc = scram_client_verify(c, x->verdict, why);
    return rc;
}

static struct exchange exchange(const struct house *h, const char *name,
                                const char *password)
{
    struct exchange x = {.peer = HERE, .name = name, .password = password};

    memcpy(x.client_exporter, h->exporter, sizeof h->exporter);
    return x;
}

/* In one call: a login that is expected to go as `id` says. */
static void assert_login(struct house *h, const char *name,
                         const char *password, enum problem_id id)
{
    struct exchange x = exchange(h, name, password);
    struct problem why = {0};
    int rc = exchange_run(h, &x, &why);

    exchange_free(&x);
    assert_int_equal(why.id, id);
    assert_int_equal(rc == 0, id == PROBLEM_NONE);
}

static void the_right_password_gets_in(void **state)
{
    struct house *h = *state;
    struct exchange x = exchange(h, "quick", PASSWORD);
    struct problem why = {0};

    assert_int_equal(exchange_run(h, &x, &why), 0);
    assert_int_equal(x.actor.account, h->quick.account);
    assert_int_equal(x.actor.home, h->quick.home);
    assert_int_equal(x.actor.device, 0);
    assert_string_equal(x.actor.name, "quick");
    assert_false(x.actor.admin);
    exchange_free(&x);
}

static void a_registered_password_gets_in(void **state)
{
    struct house *h = *state;
    struct ledger_scram s;
    struct ledger_space home;
    struct actor a;
    struct problem why;

    accounts_new(h, REGISTRATION_OPEN);
    assert_int_equal(scram_derive("pass wörter", &s, &why), 0);
    assert_int_equal(s.iterations, SCRAM_ITERATIONS);
    assert_int_equal(account_register(h->accounts, "mara", NULL, &s, &a, &why),
                     0);
    assert_login(h, "mara", "pass wörter", PROBLEM_NONE);
    /* The same letters in another form (RFC 4013: KC). */
    assert_login(h, "mara", "pass wo\xcc\x88rter", PROBLEM_NONE);
    assert_int_equal(account_home(h->accounts, &a, &home, &why), 0);
    assert_int_equal(home.owner, a.account);
    assert_int_equal(home.quota_bytes, 1000);
    assert_int_equal(home.quota_files, 10);
}

static void wrong_unknown_and_relayed_are_answered_alike(void **state)
{
    struct house *h = *state;
    struct exchange x = exchange(h, "quick", "wrong horse");
    struct problem wrong = {0}, unknown = {0}, relayed = {0};
    char words[3][256];

    assert_true(exchange_run(h, &x, &wrong) < 0);
    x.peer = "192.0.2.2:1";
    x.name = "nobody";
    assert_true(exchange_run(h, &x, &unknown) < 0);
    x.peer = "192.0.2.3:1";
    x.name = "quick";
    x.password = PASSWORD;
    x.client_exporter[31] ^= 1;
    assert_true(exchange_run(h, &x, &relayed) < 0);
    exchange_free(&x);
    problem_sentence(&wrong, words[0], sizeof words[0]);
    problem_sentence(&unknown, words[1], sizeof words[1]);
    problem_sentence(&relayed, words[2], sizeof words[2]);
    assert_int_equal(wrong.id, PROBLEM_LOGIN_REFUSED);
    assert_string_equal(words[0], words[1]);
    assert_string_equal(words[0], words[2]);
}

static void a_new_password_needs_the_old_one(void **state)
{
    struct house *h = *state;
    struct actor by_device = h->quick;
    struct ledger_scram s;
    struct problem why;

    assert_int_equal(scram_derive("another horse", &s, &why), 0);
    by_device.device = 7;
    assert_refused(account_password(h->accounts, &by_device, &s, &why),
                   PASSWORD_NEEDED);
    s.iterations--;
    assert_refused(account_password(h->accounts, &h->quick, &s, &why),
                   REQUEST_INVALID);
    s.iterations++;
    s.salt_size--;
    assert_refused(account_password(h->accounts, &h->quick, &s, &why),
                   REQUEST_INVALID);
    s.salt_size++;
    assert_login(h, "quick", PASSWORD, PROBLEM_NONE);
    assert_int_equal(account_password(h->accounts, &h->quick, &s, &why), 0);
    assert_login(h, "quick", "another horse", PROBLEM_NONE);
    assert_login(h, "quick", PASSWORD, PROBLEM_LOGIN_REFUSED);
    assert_int_equal(account_disable(h->accounts, "quick", true, &why), 0);
    assert_refused(account_password(h->accounts, &h->quick, &s, &why),
                   LOGIN_DISABLED);
}

/* "r=...,s=SALT,i=COUNT" */
static const char *salt_of(const char *challenge)
{
    const char *s = strstr(challenge, ",s=");

    assert_non_null(s);
    return s;
}

static void an_unknown_name_has_a_salt_that_stays(void **state)
{
    struct house *h = *state;
    struct exchange x = exchange(h, "nobody", "whatever it is");
    struct problem why = {0};
    char salt[64], known[64];

    assert_refused(exchange_run(h, &x, &why), LOGIN_REFUSED);
    snprintf(salt, sizeof salt, "%s", salt_of(x.challenge));
    x.peer = "192.0.2.2:1";
    accounts_new(h, REGISTRATION_INVITE_ONLY); /* as after a restart */
    assert_refused(exchange_run(h, &x, &why), LOGIN_REFUSED);
    assert_string_equal(salt, salt_of(x.challenge));
    x.name = "nobody2";
    assert_refused(exchange_run(h, &x, &why), LOGIN_REFUSED);
    assert_string_not_equal(salt, salt_of(x.challenge));
    /* Of the form that a known one's has. */
    x.name = "quick";
    x.peer = "192.0.2.3:1";
    assert_refused(exchange_run(h, &x, &why), LOGIN_REFUSED);
    snprintf(known, sizeof known, "%s", salt_of(x.challenge));
    assert_int_equal(strlen(known), strlen(salt));
    exchange_free(&x);
}

static void a_replayed_exchange_is_refused(void **state)
{
    struct house *h = *state;
    struct exchange x = exchange(h, "quick", PASSWORD);
    keel_auto(login) struct login *l = NULL;
    struct problem why = {0};
    struct actor a = {0};
    char *challenge = NULL, *verdict = NULL;

    assert_int_equal(exchange_run(h, &x, &why), 0);
    assert_int_equal(login_start(h->accounts, HERE, "quick", h->exporter,
                                 x.first, &l, &challenge, &why),
                     0);
    assert_refused(login_finish(l, x.final, &verdict, &a, &why), LOGIN_REFUSED);
    assert_null(verdict);
    assert_int_equal(a.account, 0);
    keel_free(challenge);
    exchange_free(&x);
}

static void a_login_is_finished_once(void **state)
{
    struct house *h = *state;
    keel_auto(scram_client) struct scram_client *c = NULL;
    keel_auto(login) struct login *l = NULL;
    char *first = NULL, *challenge = NULL, *final = NULL, *verdict = NULL;
    struct problem why = {0};
    struct actor a;

    assert_int_equal(scram_client_new("quick", PASSWORD, h->exporter, &c, &why),
                     0);
    assert_int_equal(scram_client_first(c, &first, &why), 0);
    assert_int_equal(login_start(h->accounts, HERE, "quick", h->exporter, first,
                                 &l, &challenge, &why),
                     0);
    assert_refused(login_finish(l, "c=x", &verdict, &a, &why), PROTOCOL_BROKEN);
    assert_int_equal(scram_client_final(c, challenge, &final, &why), 0);
    assert_refused(login_finish(l, final, &verdict, &a, &why), PROTOCOL_BROKEN);
    keel_free(first);
    keel_free(challenge);
    keel_free(final);
}

static void a_disabled_account_learns_it_by_its_password_only(void **state)
{
    struct house *h = *state;
    struct problem why;

    assert_int_equal(
        ledger_account_disable(h->ledger, h->quick.account, true, &why), 0);
    assert_login(h, "quick", "wrong horse", PROBLEM_LOGIN_REFUSED);
    test_clock_advance(KEEL_SECOND);
    assert_login(h, "quick", PASSWORD, PROBLEM_LOGIN_DISABLED);
    assert_int_equal(
        ledger_account_disable(h->ledger, h->quick.account, false, &why), 0);
    assert_login(h, "quick", PASSWORD, PROBLEM_NONE);
}

/* ---- a server that is not what it should be -------------------------------------- */
static const char *asked; /* what the false server asks for */

static void ask_iterations(char *text)
{
    char *i = strstr(text, ",i=");

    assert_non_null(i);
    strcpy(i + 3, asked);
}

static void forget_server_key(char *text)
{
    assert_memory_equal(text, "v=", 2);
    text[2] = text[2] == 'A' ? 'B' : 'A';
}

/* Room for a longer count than the server's. */
static int challenge_with(struct house *h, const char *count,
                          struct problem *why)
{
    keel_auto(scram_client) struct scram_client *c = NULL;
    keel_auto(login) struct login *l = NULL;
    char *first = NULL, *challenge = NULL, *final = NULL, text[512];
    int rc;

    assert_int_equal(scram_client_new("quick", PASSWORD, h->exporter, &c, why),
                     0);
    assert_int_equal(scram_client_first(c, &first, why), 0);
    assert_int_equal(login_start(h->accounts, HERE, "quick", h->exporter, first,
                                 &l, &challenge, why),
                     0);
    snprintf(text, sizeof text, "%s", challenge);
    asked = count;
    ask_iterations(text);
    rc = scram_client_final(c, text, &final, why);
    assert_int_equal(rc == 0, final != NULL);
    keel_free(first);
    keel_free(challenge);
    keel_free(final);
    return rc;
}

static int derivations;

int __real_PKCS5_PBKDF2_HMAC(const char *pass, int passlen,
                             const unsigned char *salt, int saltlen, int iter,
                             const EVP_MD *digest, int keylen,
                             unsigned char *out);
int __wrap_PKCS5_PBKDF2_HMAC(const char *pass, int passlen,
                             const unsigned char *salt, int saltlen, int iter,
                             const EVP_MD *digest, int keylen,
                             unsigned char *out);
int __wrap_PKCS5_PBKDF2_HMAC(const char *pass, int passlen,
                             const unsigned char *salt, int saltlen, int iter,
                             const EVP_MD *digest, int keylen,
                             unsigned char *out)
{
    derivations++;
    return __real_PKCS5_PBKDF2_HMAC(pass, passlen, salt, saltlen, iter, digest,
                                    keylen, out);
}

static void strange_counts_are_refused_before_deriving(void **state)
{
    static const char *const counts[] = {
        "1",       "4096",       "99999",
        "5000001", "4294967295", "4295067296", /* 2^32 + 100,000 */
    };
    struct house *h = *state;
    struct problem why = {0};

    derivations = 0;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        why.id = PROBLEM_NONE;
        assert_refused(challenge_with(h, counts[i], &why), SCRAM_PARAMETERS);
        assert_int_equal(problem_exit_status(&why), 4);
        assert_int_equal(why.limit, SCRAM_ITERATIONS_LEAST);
    }
    assert_int_equal(derivations, 0);
    assert_true(challenge_with(h, "0", &why) < 0);
    assert_true(challenge_with(h, "-600000", &why) < 0);
    assert_true(challenge_with(h, "x", &why) < 0);
    /* 2^64 + 100,000 */
    assert_true(challenge_with(h, "18446744073709651616", &why) < 0);
    assert_int_equal(derivations, 0);
    assert_int_equal(challenge_with(h, "100000", &why), 0);
    assert_int_equal(derivations, 1);
}

static void a_server_without_the_key_is_found_out(void **state)
{
    struct house *h = *state;
    struct exchange x = exchange(h, "quick", PASSWORD);
    struct problem why;

    x.server_final = forget_server_key;
    assert_refused(exchange_run(h, &x, &why), SERVER_CHANGED);
    assert_int_equal(problem_exit_status(&why), 4);
    exchange_free(&x);
}

/* ---- texts that are none ----------------------------------------------------------- */
static void broken_texts_are_refused(void **state)
{
    static const char *const firsts[] = {
        "",
        "n,,n=quick,r=abcdefgh",
        "y,,n=quick,r=abcdefgh",
        "p=tls-unique,,n=quick,r=abcdefgh",
        "p=tls-exporter,,n=other,r=abcdefgh",
        "p=tls-exporter,a=other,n=quick,r=abcdefgh",
        "p=tls-exporter,,n=quick",
        "p=tls-exporter,,n=quick,r=",
        "p=tls-exporter,,m=x,n=quick,r=abcdefgh",
    };
    struct house *h = *state;
    struct login *l = NULL;
    char *challenge = NULL, longest[SCRAM_TEXT_BYTES + 2];
    struct problem why = {0};

    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
        why.id = PROBLEM_NONE;
        assert_refused(login_start(h->accounts, HERE, "quick", h->exporter,
                                   firsts[i], &l, &challenge, &why),
                       PROTOCOL_BROKEN);
    }
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_refused(login_start(h->accounts, HERE, "quick", h->exporter, longest,
                               &l, &challenge, &why),
                   PROTOCOL_TOO_LONG);
    assert_refused(login_start(h->accounts, HERE, "No Name", h->exporter,
                               "p=tls-exporter,,n=No Name,r=abcdefgh", &l,
                               &challenge, &why),
                   LOGIN_REFUSED);
    assert_null(l);
    assert_null(challenge);
}

/* ---- what it costs ------------------------------------------------------------------- */
static int hmacs, finds;

unsigned char *__real_HMAC(const EVP_MD *md, const void *key, int key_size,
                           const unsigned char *d, size_t n, unsigned char *out,
                           unsigned *size);
unsigned char *__wrap_HMAC(const EVP_MD *md, const void *key, int key_size,
                           const unsigned char *d, size_t n, unsigned char *out,
                           unsigned *size);
unsigned char *__wrap_HMAC(const EVP_MD *md, const void *key, int key_size,
                           const unsigned char *d, size_t n, unsigned char *out,
                           unsigned *size)
{
    hmacs++;
    return __real_HMAC(md, key, key_size, d, n, out, size);
}

int __real_ledger_account_find(struct ledger *l, const char *name,
                               struct ledger_account *ret, struct problem *why);
int __wrap_ledger_account_find(struct ledger *l, const char *name,
                               struct ledger_account *ret, struct problem *why);
int __wrap_ledger_account_find(struct ledger *l, const char *name,
                               struct ledger_account *ret, struct problem *why)
{
    finds++;
    return __real_ledger_account_find(l, name, ret, why);
}

static void known_and_unknown_cost_the_server_the_same(void **state)
{
    struct house *h = *state;
    struct exchange x = exchange(h, "quick", "wrong horse");
    struct problem why;
    int known[2], sizes[2];

    /* The client of a wrong password derives, and so does that of an unknown
     * name: what is counted is the server's, as the client's is the same. */
    hmacs = finds = 0;
    assert_refused(exchange_run(h, &x, &why), LOGIN_REFUSED);
    known[0] = hmacs;
    known[1] = finds;
    sizes[0] = (int)strlen(x.challenge);
    hmacs = finds = 0;
    x.name = "quack";
    assert_refused(exchange_run(h, &x, &why), LOGIN_REFUSED);
    sizes[1] = (int)strlen(x.challenge);
    assert_int_equal(hmacs, known[0]);
    assert_int_equal(finds, known[1]);
    assert_int_equal(finds, 1);
    assert_true(hmacs >= 3);
    assert_int_equal(sizes[0], sizes[1]);
    exchange_free(&x);
}

/* The processor's time of all threads for one try with a wrong proof, which
 * costs its client nothing.  Each comes from an address of its own, so that
 * none has to wait. */
static int64_t clocked_try(struct house *h, const char *name, unsigned number)
{
    static const char binding[] = "p=tls-exporter,,";
    uint8_t bound[sizeof binding - 1 + 32], proof[32];
    char channel[BASE64_TEXT_BYTES(sizeof bound)], answer[64], peer[40];
    char first[80], final[300];
    keel_auto(login) struct login *l = NULL;
    keel_auto(str) char *challenge = NULL, *verdict = NULL;
    struct timespec from, to;
    struct actor who;
    struct problem why;

    memcpy(bound, binding, sizeof binding - 1);
    memcpy(bound + sizeof binding - 1, h->exporter, 32);
    keel_random(proof, sizeof proof);
    base64_encode(BASE64_STANDARD, bound, sizeof bound, channel);
    base64_encode(BASE64_STANDARD, proof, sizeof proof, answer);
    snprintf(peer, sizeof peer, "10.0.%u.%u:1", number / 256, number % 256);
    snprintf(first, sizeof first, "%sn=%s,r=abcdefghijkl", binding, name);

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    assert_int_equal(login_start(h->accounts, peer, name, h->exporter, first,
                                 &l, &challenge, &why),
                     0);
    snprintf(final, sizeof final, "c=%s,%.*s,p=%s", channel,
             (int)strcspn(challenge, ","), challenge, answer);
    assert_refused(login_finish(l, final, &verdict, &who, &why), LOGIN_REFUSED);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    return (to.tv_sec - from.tv_sec) * KEEL_SECOND + to.tv_nsec - from.tv_nsec;
}

static int compare_times(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* What was clocked so far; medians are of all of it. */
enum { TRIES = 200, ROUNDS = 10 };
struct clocked {
    int64_t known[ROUNDS * TRIES], unknown[ROUNDS * TRIES];
    unsigned first, count; /* of addresses that nobody else comes from */
    int64_t more;          /* that a known name takes on order */
};

/* Returns what it took: at least `more`. */
static int64_t burn(int64_t more)
{
    struct timespec from, now;
    int64_t took = 0;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    while (took < more) {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        took = (now.tv_sec - from.tv_sec) * KEEL_SECOND + now.tv_nsec -
               from.tv_nsec;
    }
    return took;
}

static int64_t median(const int64_t *of, unsigned count)
{
    static int64_t sorted[ROUNDS * TRIES];

    memcpy(sorted, of, count * sizeof *of);
    qsort(sorted, count, sizeof *sorted, compare_times);
    return sorted[count / 2];
}

/* 200 tries of each more; they take turns, and in being the first of a pair.
 * How far the medians are apart then, in percent of an unknown name's. */
static double difference(struct house *h, struct clocked *c)
{
    int64_t known, unknown;

    for (unsigned i = 0; i < TRIES; i++) {
        unsigned at = c->count++, number = c->first + at;

        if (i % 2)
            c->unknown[at] = clocked_try(h, "quack", number);
        c->known[at] = clocked_try(h, "quick", number) + burn(c->more);
        if (i % 2 == 0)
            c->unknown[at] = clocked_try(h, "quack", number);
    }
    known = median(c->known, c->count);
    unknown = median(c->unknown, c->count);
    return (double)(known > unknown ? known - unknown : unknown - known) /
           (double)unknown * 100;
}

/* Other programs disturb a round, in favour of nobody: more tries even that
 * out, and all of them count. */
static double difference_settled(struct house *h, struct clocked *c)
{
    double percent = 100;

    for (unsigned round = 0; round < ROUNDS && percent > 5; round++)
        percent = difference(h, c);
    return percent;
}

static void known_and_unknown_take_the_server_the_same_time(void **state)
{
    static struct clocked warm, real = {.first = 256},
                                slow = {.first = 256 + ROUNDS * TRIES};
    struct house *h = *state;
    double percent;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* what is timed there is the sanitizer */
#endif
    (void)difference(h, &warm);
    percent = difference_settled(h, &real);
    if (percent > 5)
        print_error("%.1f %% apart\n", percent);
    assert_true(percent <= 5);

    /* A tenth more would be seen. */
    slow.more = median(real.unknown, real.count) / 10;
    percent = difference_settled(h, &slow);
    print_message("a tenth more: %.1f %% apart\n", percent);
    assert_true(percent > 5);
}

/* ---- devices -------------------------------------------------------------------------- */
static void a_device_signs_itself_in_until_it_is_revoked(void **state)
{
    struct house *h = *state;
    uint8_t private_key[32], public_key[32], signature[64], other[32];
    struct ledger_device list[4];
    struct actor a;
    int64_t id;
    struct problem why;

    assert_int_equal(device_key_new(private_key, public_key), 0);
    assert_int_equal(account_device_add(h->accounts, &h->quick, "laptop",
                                        public_key, &id, &why),
                     0);
    assert_int_equal(device_key_sign(private_key, h->exporter, signature), 0);
    test_clock_advance(5 * KEEL_SECOND);
    assert_int_equal(login_device(h->accounts, HERE, "quick", id, h->exporter,
                                  signature, &a, &why),
                     0);
    assert_int_equal(a.account, h->quick.account);
    assert_int_equal(a.device, id);
    assert_int_equal(account_device_list(h->accounts, &a, list, 4, &why), 1);
    assert_int_equal(list[0].used, list[0].created + 5);

    /* On another connection the signature says nothing. */
    memcpy(other, h->exporter, sizeof other);
    other[0] ^= 1;
    assert_refused(login_device(h->accounts, "192.0.2.2", "quick", id, other,
                                signature, &a, &why),
                   DEVICE_UNKNOWN);
    signature[5] ^= 1;
    assert_refused(login_device(h->accounts, "192.0.2.3", "quick", id,
                                h->exporter, signature, &a, &why),
                   DEVICE_UNKNOWN);
    signature[5] ^= 1;
    assert_refused(login_device(h->accounts, "192.0.2.4", "nobody", id,
                                h->exporter, signature, &a, &why),
                   DEVICE_UNKNOWN);
    assert_refused(login_device(h->accounts, "192.0.2.5", "quick", id + 1,
                                h->exporter, signature, &a, &why),
                   DEVICE_UNKNOWN);

    assert_int_equal(
        ledger_account_disable(h->ledger, h->quick.account, true, &why), 0);
    assert_refused(login_device(h->accounts, HERE, "quick", id, h->exporter,
                                signature, &a, &why),
                   LOGIN_DISABLED);
    assert_int_equal(
        ledger_account_disable(h->ledger, h->quick.account, false, &why), 0);
    /* 0 is the device one is logged in with. */
    a = h->quick;
    a.device = id;
    assert_int_equal(account_device_remove(h->accounts, &a, 0, &why), 0);
    assert_refused(login_device(h->accounts, HERE, "quick", id, h->exporter,
                                signature, &a, &why),
                   DEVICE_UNKNOWN);
    assert_refused(account_device_remove(h->accounts, &h->quick, 0, &why),
                   DEVICE_UNKNOWN);
}

static void a_device_of_another_does_not_get_in(void **state)
{
    struct house *h = *state;
    struct ledger_registration r = {.name = "other"};
    struct ledger_account account;
    uint8_t private_key[32], public_key[32], signature[64];
    struct actor a;
    int64_t id;
    struct problem why;

    assert_int_equal(derived_quickly(&r.scram), 0);
    assert_int_equal(ledger_register(h->ledger, &r, &account, &why), 0);
    assert_int_equal(device_key_new(private_key, public_key), 0);
    assert_int_equal(
        account_device_add(h->accounts, &h->quick, "x", public_key, &id, &why),
        0);
    assert_int_equal(device_key_sign(private_key, h->exporter, signature), 0);
    assert_refused(login_device(h->accounts, HERE, "other", id, h->exporter,
                                signature, &a, &why),
                   DEVICE_UNKNOWN);
}

static void device_names_are_plain_text(void **state)
{
    struct house *h = *state;
    uint8_t key[32] = {0};
    char name[66];
    int64_t id;
    struct problem why;

    memset(name, 'x', sizeof name);
    name[65] = '\0';
    assert_refused(
        account_device_add(h->accounts, &h->quick, name, key, &id, &why),
        REQUEST_INVALID);
    assert_refused(
        account_device_add(h->accounts, &h->quick, "", key, &id, &why),
        REQUEST_INVALID);
    assert_refused(
        account_device_add(h->accounts, &h->quick, "a\x1b[2J", key, &id, &why),
        REQUEST_INVALID);
    assert_refused(
        account_device_add(h->accounts, &h->quick, "\xff", key, &id, &why),
        REQUEST_INVALID);
    name[64] = '\0';
    assert_int_equal(
        account_device_add(h->accounts, &h->quick, name, key, &id, &why), 0);
}

/* ---- registering ------------------------------------------------------------------------ */
static struct ledger_scram any_scram(void)
{
    struct ledger_scram s = {.iterations = SCRAM_ITERATIONS,
                             .salt_size = SCRAM_SALT_BYTES};

    return s;
}

static void registration_keeps_to_its_policy(void **state)
{
    struct house *h = *state;
    struct ledger_scram s = any_scram();
    char invite[INVITE_TEXT_BYTES];
    struct actor a;
    struct problem why;

    assert_refused(account_register(h->accounts, "anna", NULL, &s, &a, &why),
                   REGISTRATION_INVITE);
    assert_int_equal(
        account_invite_new(h->accounts, true, 2, 60, 0, invite, &why), 0);
    assert_int_equal(strlen(invite), 43);
    assert_int_equal(
        account_register(h->accounts, "anna", invite, &s, &a, &why), 0);
    assert_true(a.admin);
    assert_string_equal(a.name, "anna");
    assert_refused(account_register(h->accounts, "anna", invite, &s, &a, &why),
                   ACCOUNT_EXISTS);
    accounts_new(h, REGISTRATION_CLOSED_);
    assert_refused(account_register(h->accounts, "bert", invite, &s, &a, &why),
                   REGISTRATION_CLOSED);
    accounts_new(h, REGISTRATION_OPEN);
    assert_int_equal(account_register(h->accounts, "bert", NULL, &s, &a, &why),
                     0);
    assert_false(a.admin);
}

static void bad_invites_are_refused(void **state)
{
    struct house *h = *state;
    struct ledger_scram s = any_scram();
    char invite[INVITE_TEXT_BYTES], wrong[128];
    struct actor a;
    struct problem why;

    assert_int_equal(
        account_invite_new(h->accounts, false, 1, 60, 0, invite, &why), 0);
    snprintf(wrong, sizeof wrong, "%s", invite);
    wrong[7] = wrong[7] == 'A' ? 'B' : 'A';
    assert_refused(account_register(h->accounts, "anna", wrong, &s, &a, &why),
                   INVITE_INVALID);
    assert_refused(account_register(h->accounts, "anna", "", &s, &a, &why),
                   INVITE_INVALID);
    snprintf(wrong, sizeof wrong, "%s%s", invite, invite);
    assert_refused(account_register(h->accounts, "anna", wrong, &s, &a, &why),
                   INVITE_INVALID);
    test_clock_advance(60 * KEEL_SECOND);
    assert_refused(account_register(h->accounts, "anna", invite, &s, &a, &why),
                   INVITE_INVALID);
    assert_refused(
        account_invite_new(h->accounts, false, 0, 60, 0, invite, &why),
        REQUEST_INVALID);
    assert_refused(
        account_invite_new(h->accounts, false, 1, INT64_MAX, 0, invite, &why),
        REQUEST_INVALID);
}

static void what_a_client_derived_is_looked_at(void **state)
{
    struct house *h = *state;
    struct ledger_scram s = any_scram();
    struct actor a;
    struct problem why;

    accounts_new(h, REGISTRATION_OPEN);
    s.iterations--;
    assert_refused(account_register(h->accounts, "anna", NULL, &s, &a, &why),
                   REQUEST_INVALID);
    s.iterations = SCRAM_ITERATIONS_MOST + 1;
    assert_refused(account_register(h->accounts, "anna", NULL, &s, &a, &why),
                   REQUEST_INVALID);
    s = any_scram();
    s.salt_size = 33;
    assert_refused(account_register(h->accounts, "anna", NULL, &s, &a, &why),
                   REQUEST_INVALID);
    s = any_scram();
    assert_refused(account_register(h->accounts, "Anna", NULL, &s, &a, &why),
                   ACCOUNT_NAME);
}

enum { RACERS = 8 };

struct racer {
    struct house *house;
    const char *invite;
    int number, *won;
};

static int race_one(void *arg)
{
    struct racer *r = arg;
    struct ledger_scram s = any_scram();
    struct problem why = {0};
    struct actor a;
    char name[16];

    snprintf(name, sizeof name, "racer%d", r->number);
    if (account_register(r->house->accounts, name, r->invite, &s, &a, &why) ==
        0)
        (*r->won)++;
    else
        assert_int_equal(why.id, PROBLEM_INVITE_INVALID);
    return 0;
}

static int race_all(void *arg)
{
    struct racer racers[RACERS], *first = arg;
    struct keel_co *cos[RACERS];

    for (int i = 0; i < RACERS; i++) {
        racers[i] = *first;
        racers[i].number = i;
        assert_int_equal(keel_spawn(NULL, race_one, &racers[i], &cos[i]), 0);
    }
    for (int i = 0; i < RACERS; i++)
        assert_int_equal(keel_join(cos[i], KEEL_FOREVER, NULL), 0);
    return 0;
}

static void one_of_eight_gets_the_last_use_of_an_invite(void **state)
{
    struct house *h = *state;
    char invite[INVITE_TEXT_BYTES];
    int won = 0;
    struct racer r = {.house = h, .invite = invite, .won = &won};
    struct problem why;

    assert_int_equal(
        account_invite_new(h->accounts, false, 1, 60, 0, invite, &why), 0);
    assert_int_equal(keel_run(race_all, &r), 0);
    assert_int_equal(won, 1);
    assert_int_equal(ledger_check(h->ledger, &why), 0);
}

/* ---- delays ----------------------------------------------------------------------------- */
/* Starts a login that cannot succeed, and says how long it had to wait. */
static keel_ns failed_login(struct house *h, const char *peer, const char *name)
{
    keel_auto(login) struct login *l = NULL;
    char *challenge = NULL, *verdict = NULL, text[256], first[128];
    keel_ns before = keel_now();
    struct problem why = {0};
    struct actor a;

    snprintf(first, sizeof first, "p=tls-exporter,,n=%s,r=abcdefgh", name);
    assert_int_equal(login_start(h->accounts, peer, name, h->exporter, first,
                                 &l, &challenge, &why),
                     0);
    before = keel_now() - before;
    snprintf(text, sizeof text,
             "c=cD10bHMtZXhwb3J0ZXIsLAUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"
             "QUF,%.*s,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
             (int)strcspn(challenge, ","), challenge);
    assert_refused(login_finish(l, text, &verdict, &a, &why), LOGIN_REFUSED);
    keel_free(challenge);
    return before;
}

static int failures_are_slowed_down_run(void *arg)
{
    static const keel_ns want[] = {0,    500,   1000,  2000, 4000,
                                   8000, 16000, 30000, 30000};
    struct house *h = arg;

    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_int_equal(failed_login(h, HERE, "quick") / KEEL_MS, want[i]);
    /* Another port is the same place; another address or name is not. */
    assert_int_equal(failed_login(h, "192.0.2.1:99", "quick") / KEEL_MS, 30000);
    assert_int_equal(failed_login(h, "192.0.2.9:99", "quick"), 0);
    assert_int_equal(failed_login(h, HERE, "other"), 0);
    assert_int_equal(failed_login(h, "[::ffff:192.0.2.1]:1", "quick") / KEEL_MS,
                     30000);
    assert_int_equal(failed_login(h, "[2001:db8::1]:1", "quick"), 0);
    assert_int_equal(failed_login(h, "[2001:db8::ffff:2]:2", "quick") / KEEL_MS,
                     500);
    assert_int_equal(failed_login(h, "[2001:db8:0:1::1]:1", "quick"), 0);
    /* Forgotten after a time. */
    keel_sleep(keel_after(DELAY_FORGOTTEN + KEEL_SECOND));
    assert_int_equal(failed_login(h, HERE, "quick"), 0);
    /* The right password ends it. */
    assert_int_equal(failed_login(h, HERE, "quick") / KEEL_MS, 500);
    assert_login(h, "quick", PASSWORD, PROBLEM_NONE);
    assert_int_equal(failed_login(h, HERE, "quick"), 0);
    return 0;
}

static void failures_are_slowed_down(void **state)
{
    assert_int_equal(keel_run(failures_are_slowed_down_run, *state), 0);
}

static int one_failure(void *arg)
{
    failed_login(arg, HERE, "quick");
    return 0;
}

static int tries_queue_run(void *arg)
{
    struct keel_co *cos[RACERS];
    keel_ns before;

    failed_login(arg, HERE, "quick");
    before = keel_now();
    for (int i = 0; i < RACERS; i++)
        assert_int_equal(keel_spawn(NULL, one_failure, arg, &cos[i]), 0);
    for (int i = 0; i < RACERS; i++)
        assert_int_equal(keel_join(cos[i], KEEL_FOREVER, NULL), 0);
    /* One behind the other, not all after the first half second. */
    assert_true(keel_now() - before >= RACERS * DELAY_LEAST);
    return 0;
}

static void tries_at_once_wait_one_behind_the_other(void **state)
{
    assert_int_equal(keel_run(tries_queue_run, *state), 0);
}

static int waiting_login(void *arg)
{
    struct house *h = arg;
    keel_auto(login) struct login *l = NULL;
    char *challenge = NULL;
    struct problem why = {0};
    int rc =
        login_start(h->accounts, HERE, "quick", h->exporter,
                    "p=tls-exporter,,n=quick,r=abcdefgh", &l, &challenge, &why);

    assert_int_equal(why.id, PROBLEM_CANCELLED);
    return rc;
}

static int cancelled_run(void *arg)
{
    struct keel_co *co;
    int result = 0;

    failed_login(arg, HERE, "quick");
    failed_login(arg, HERE, "quick");
    assert_int_equal(keel_spawn(NULL, waiting_login, arg, &co), 0);
    keel_yield();
    keel_cancel(co);
    assert_int_equal(keel_join(co, KEEL_FOREVER, &result), 0);
    assert_int_equal(result, -ECANCELED);
    /* It gave its place back: 1 s after two failures, not 2. */
    assert_int_equal(failed_login(arg, HERE, "quick") / KEEL_MS, 1000);
    return 0;
}

static void a_wait_can_be_cancelled(void **state)
{
    assert_int_equal(keel_run(cancelled_run, *state), 0);
}

static void the_table_of_delays_is_bounded(void **state)
{
    keel_auto(delays) struct delays *d = NULL;
    struct delay_key key, first;
    char name[33];

    (void)state;
    assert_int_equal(delays_new(&d), 0);
    delay_key("10.0.0.1:5", "first", &first);
    delay_failed(d, &first);
    for (int i = 0; i < 3 * DELAY_ENTRIES; i++) {
        snprintf(name, sizeof name, "u%d", i);
        delay_key("10.0.0.1:5", name, &key);
        delay_failed(d, &key);
        /* What is looked at stays. */
        if (i % 1000 == 0)
            assert_int_not_equal(delay_turn(d, &first), KEEL_NOW);
    }
    assert_int_equal(delay_count(d), DELAY_ENTRIES);
    delay_passed(d, &first);
    assert_int_equal(delay_count(d), DELAY_ENTRIES - 1);
    assert_int_equal(delay_turn(d, &first), KEEL_NOW);
    delay_key("10.0.0.1:5", "u5", &key);
    assert_int_equal(delay_turn(d, &key), KEEL_NOW); /* made room */
}

/* ---- passwords ---------------------------------------------------------------------------- */
static void passwords_have_rules(void **state)
{
    struct ledger_scram s;
    struct problem why = {0};
    char longest[PASSWORD_MOST + 2], words[256];

    (void)state;
    assert_refused(scram_derive("seven77", &s, &why), PASSWORD_WEAK);
    assert_int_equal(why.used, 7);
    /* Seven letters of fourteen bytes are seven letters. */
    assert_refused(scram_derive("äöüäöüä", &s, &why), PASSWORD_WEAK);
    assert_refused(scram_derive("long enough\xff", &s, &why), NAME_INVALID);
    problem_sentence(&why, words, sizeof words);
    assert_null(strstr(words, "long enough"));
    assert_refused(scram_derive("with\x07"
                                "a bell",
                                &s, &why),
                   NAME_INVALID);
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_refused(scram_derive(longest, &s, &why), NAME_INVALID);
}

/* RFC 7677 section 3. */
static void the_keys_are_those_of_the_standard(void **state)
{
    static const char said[] =
        "n=user,r=rOprNGfwEbeRWgbNEkqO,"
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    uint8_t salt[16], salted[32], stored[32], server[32], v[32], proof[32],
        client[32], again[32];

    (void)state;
    assert_int_equal(base64_decode(BASE64_STANDARD, "W22ZaJ0SNY7soEsUEjb6gQ==",
                                   24, salt, sizeof salt),
                     16);
    PKCS5_PBKDF2_HMAC("pencil", -1, salt, 16, 4096, EVP_sha256(), 32, salted);
    assert_int_equal(scram_keys(salted, stored, server), 0);
    HMAC(EVP_sha256(), server, 32, (const uint8_t *)said, strlen(said), v,
         NULL);
    assert_int_equal(
        base64_decode(BASE64_STANDARD,
                      "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", 44, again,
                      32),
        32);
    assert_memory_equal(v, again, 32);
    /* The proof of the standard, undone by StoredKey, is the client's key. */
    assert_int_equal(
        base64_decode(BASE64_STANDARD,
                      "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", 44, proof,
                      32),
        32);
    HMAC(EVP_sha256(), stored, 32, (const uint8_t *)said, strlen(said), v,
         NULL);
    for (int i = 0; i < 32; i++)
        client[i] = proof[i] ^ v[i];
    assert_int_equal(scram_sha256(client, 32, again), 0);
    assert_memory_equal(again, stored, 32);
}

/* ---- rights --------------------------------------------------------------------------------- */
static void a_home_is_its_owners_alone(void **state)
{
    static const enum right all[] = {RIGHT_READ, RIGHT_WRITE, RIGHT_LIST,
                                     RIGHT_DELETE, RIGHT_DROP};
    struct house *h = *state;
    struct actor admin = h->quick;
    struct path p;
    struct problem why;

    assert_int_equal(path_parse("a/b", 3, &p, &why), 0);
    admin.admin = true;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(account_may(h->accounts, &h->quick, h->quick.home, &p,
                                     all[i], &why),
                         0);
        assert_refused(account_may(h->accounts, &h->quick, h->quick.home + 1,
                                   &p, all[i], &why),
                       RIGHT_MISSING);
        assert_string_equal(why.name, "/a/b");
        assert_refused(account_may(h->accounts, &admin, h->quick.home + 1, &p,
                                   all[i], &why),
                       RIGHT_MISSING);
    }
    assert_int_equal(account_may(h->accounts, &h->quick, h->quick.home, &p,
                                 RIGHT_READ | RIGHT_WRITE, &why),
                     0);
    assert_refused(account_may(h->accounts, &h->quick, h->quick.home, &p,
                               RIGHT_READ | RIGHT_ADMIN, &why),
                   RIGHT_MISSING);
    assert_int_equal(
        account_may(h->accounts, &admin, h->quick.home, &p, RIGHT_ADMIN, &why),
        0);
    assert_refused(account_may(h->accounts, &h->quick, h->quick.home, &p,
                               RIGHT_NONE, &why),
                   RIGHT_MISSING);
}

/* ---- memory ------------------------------------------------------------------------------------ */
static void a_login_survives_each_allocation_failure(void **state)
{
    struct house *h = *state;

    for (unsigned nth = 1;; nth++) {
        struct login *l = NULL;
        char *challenge = NULL;
        struct problem why = {0};
        bool fired;
        int rc;

        fault_fail_alloc(nth);
        rc = login_start(h->accounts, HERE, "quick", h->exporter,
                         "p=tls-exporter,,n=quick,r=abcdefgh", &l, &challenge,
                         &why);
        fired = fault_fired();
        login_free(l);
        keel_free(challenge);
        if (!fired) {
            assert_int_equal(rc, 0);
            break;
        }
        /* SQLite can do without some of its. */
        if (rc < 0) {
            assert_int_equal(rc, -ENOMEM);
            assert_int_equal(why.id, PROBLEM_NO_MEMORY);
            assert_null(l);
            assert_null(challenge);
        }
    }
    fault_clear();
    assert_login(h, "quick", PASSWORD, PROBLEM_NONE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_right_password_gets_in),
        T(a_registered_password_gets_in),
        T(a_new_password_needs_the_old_one),
        T(wrong_unknown_and_relayed_are_answered_alike),
        T(an_unknown_name_has_a_salt_that_stays),
        T(a_replayed_exchange_is_refused),
        T(a_login_is_finished_once),
        T(a_disabled_account_learns_it_by_its_password_only),
        T(strange_counts_are_refused_before_deriving),
        T(a_server_without_the_key_is_found_out),
        T(broken_texts_are_refused),
        T(known_and_unknown_cost_the_server_the_same),
        T(known_and_unknown_take_the_server_the_same_time),
        T(a_device_signs_itself_in_until_it_is_revoked),
        T(a_device_of_another_does_not_get_in),
        T(device_names_are_plain_text),
        T(registration_keeps_to_its_policy),
        T(bad_invites_are_refused),
        T(what_a_client_derived_is_looked_at),
        T(one_of_eight_gets_the_last_use_of_an_invite),
        T(failures_are_slowed_down),
        T(tries_at_once_wait_one_behind_the_other),
        T(a_wait_can_be_cancelled),
        cmocka_unit_test(the_table_of_delays_is_bounded),
        cmocka_unit_test(passwords_have_rules),
        cmocka_unit_test(the_keys_are_those_of_the_standard),
        T(a_home_is_its_owners_alone),
        T(a_login_survives_each_allocation_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
