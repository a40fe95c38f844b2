/* SPDX-License-Identifier: MIT */
/* spaces, passwd, devices, profiles. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/file.h>

#include "account/scram.h"
#include "client/cli.h"
#include "client/password.h"
#include "client/remote.h"
#include "client/text.h"

/* The list under `key` of an answer to `verb`, at most `most` of them. */
static int ask_list(struct session *s, const char *verb, const char *key,
                    size_t most, json_t **ret, struct problem *why)
{
    json_t *ok, *list;
    int rc = link_ask(s->link, verb, NULL, keel_after(ASK_TIME), &ok, why);

    if (rc < 0)
        return rc;
    list = json_object_get(ok, key);
    if (!json_is_array(list) || json_array_size(list) > most)
        rc = problem(why, PROTOCOL_BROKEN, .detail = "it sent no list");
    else
        *ret = json_incref(list);
    json_decref(ok);
    return rc;
}

static void text_shown(const json_t *j, size_t most, char *ret, size_t size)
{
    keel_auto(str) char *text = NULL;
    size_t length;

    ret[0] = 0;
    if (text_from_json(j, most, &text, &length) == 0)
        text_escape(text, length, ret, size);
}

/* ---- spaces ---------------------------------------------------------------------------- */

static uint64_t number(const json_t *j, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(j, key));

    return n < 0 ? 0 : (uint64_t)n;
}

static void rights_print(const json_t *j, char *ret, size_t size)
{
    const json_t *list = json_object_get(j, "rights"), *right;
    size_t i, at = 0;

    ret[0] = 0;
    json_array_foreach((json_t *)(uintptr_t)list, i, right)
    {
        char shown[32];

        text_shown(right, 16, shown, sizeof(shown));
        at +=
            (size_t)snprintf(ret + at, size - at, "%s%s", i ? "," : "", shown);
        if (at + sizeof(shown) >= size)
            return;
    }
}

static void usage_bytes(const json_t *j, char *ret, size_t size)
{
    char used[32], quota[32];

    text_bytes(number(j, "used_bytes"), used);
    text_bytes(number(j, "quota_bytes"), quota);
    if (number(j, "quota_bytes"))
        snprintf(ret, size, _("%s of %s"), used, quota);
    else
        snprintf(ret, size, "%s", used);
}

static void usage_files(const json_t *j, char *ret, size_t size)
{
    unsigned long long n = number(j, "used_files"),
                       most = number(j, "quota_files");

    if (most)
        snprintf(ret, size,
                 ngettext("%llu name of %llu", "%llu names of %llu", n), n,
                 most);
    else
        text_some(N_NAMES, n, ret, size);
}

void usage_print(const json_t *j, char *ret, size_t size)
{
    char bytes[80], files[80], unfinished[120], reserved[32];

    usage_bytes(j, bytes, sizeof(bytes));
    usage_files(j, files, sizeof(files));
    snprintf(ret, size, _("%s, %s"), bytes, files);
    if (!number(j, "reserved_bytes"))
        return;
    text_bytes(number(j, "reserved_bytes"), reserved);
    snprintf(unfinished, sizeof(unfinished), _(", %s in unfinished uploads"),
             reserved);
    text_more(unfinished, ret, size);
}

static void space_say(struct cli *c, const json_t *j)
{
    char name[SPACE_NAME_BYTES * 4 + 4], rights[160], text[320];

    text_shown(json_object_get(j, "name"), SPACE_NAME_BYTES, name + 2,
               sizeof(name) - 2);
    name[0] = ':';
    name[1] = name[2] ? '@' : '/';
    rights_print(j, rights, sizeof(rights));
    fputs(name, stdout);
    text_pad(name, 24, stdout);
    usage_print(j, text, sizeof(text));
    fputs(text, stdout);
    printf("  %s%s\n", rights,
           json_is_true(json_object_get(j, "owner")) ? _(", owner") : "");
    (void)c;
}

int cmd_spaces(struct cli *c)
{
    json_t *list, *j;
    struct session s;
    size_t i;
    int rc = session_open(c, NULL, &s, c->why);

    if (rc < 0)
        return rc;
    rc = ask_list(&s, "spaces", "spaces", 10000, &list, c->why);
    session_close(&s);
    if (rc < 0)
        return rc;
    json_array_foreach(list, i, j)
    {
        if (c->json)
            cli_json(c, json_incref(j));
        else
            space_say(c, j);
    }
    json_decref(list);
    fflush(stdout);
    return 0;
}

/* ---- passwd ---------------------------------------------------------------------------- */

static int password_set(struct session *s, const char *password,
                        struct problem *why)
{
    struct ledger_scram scram;
    int rc = scram_derive(password, &scram, why);

    if (rc < 0)
        return rc;
    return link_ask(s->link, "password",
                    json_pack("{s:{s:I, s:o, s:o, s:o}}", "scram", "iterations",
                              (json_int_t)scram.iterations, "salt",
                              bytes_to_json(scram.salt, scram.salt_size),
                              "stored", bytes_to_json(scram.stored_key, 32),
                              "server", bytes_to_json(scram.server_key, 32)),
                    keel_after(ASK_TIME), NULL, why);
}

/* The old one is proved first: who mistypes it need not invent a new one. */
static int passwd_run(struct cli *c, struct session *s, struct problem *why)
{
    char old[PASSWORD_BYTES] = "", fresh[PASSWORD_BYTES] = "", prompt[128];
    int rc = session_connect(c, s, NULL, why);

    if (rc < 0)
        return rc;
    snprintf(prompt, sizeof(prompt), _("Password of %s now: "),
             s->profile.login.user);
    rc = password_get(c, prompt, false, old, why);
    if (rc == 0)
        rc = session_password_login(c, s, old, why);
    if (rc == 0)
        rc = password_new(c, _("New password: "), fresh, why);
    if (rc == 0)
        rc = password_set(s, fresh, why);
    keel_wipe(old, sizeof(old));
    keel_wipe(fresh, sizeof(fresh));
    return rc;
}

int cmd_passwd(struct cli *c)
{
    struct session s = {.home = {-1, -1, -1}};
    int rc = home_open(&s.home, c->why);

    if (rc == 0)
        rc = profile_load(&s.home, c->profile, &s.profile, c->why);
    if (rc == 0)
        rc = passwd_run(c, &s, c->why);
    if (rc == 0) {
        cli_say(c, "The password of %s is changed; devices stay logged in.",
                s.profile.login.user);
        cli_json(c, json_pack("{s:s, s:s}", "name", s.profile.login.user,
                              "server", s.profile.login.server));
    }
    session_close(&s);
    return rc;
}

/* ---- devices --------------------------------------------------------------------------- */

static int devices_list(struct cli *c, struct session *s)
{
    json_t *list, *j;
    size_t i;
    int rc = ask_list(s, "device.list", "devices", 100, &list, c->why);

    if (rc < 0)
        return rc;
    json_array_foreach(list, i, j)
    {
        char name[280], made[40], used[40];
        int64_t last = (int64_t)number(j, "used");

        if (c->json) {
            cli_json(c, json_incref(j));
            continue;
        }
        text_shown(json_object_get(j, "name"), 64, name, sizeof(name));
        date_print((int64_t)number(j, "created") * 1000000000, "%Y-%m-%d",
                   made);
        date_print(last * 1000000000, "%Y-%m-%d %H:%M", used);
        printf("%6llu  %s", (unsigned long long)number(j, "device"), name);
        text_pad(name, 24, stdout);
        printf(_("since %s, used %s%s"), made, last ? used : _("never"),
               json_is_true(json_object_get(j, "current")) ? _(" (this one)")
                                                           : "");
        putchar('\n');
    }
    json_decref(list);
    fflush(stdout);
    return 0;
}

static int device_remove(struct cli *c, struct session *s, const char *text,
                         struct problem *why)
{
    char *end, detail[128];
    long long id = strtoll(text, &end, 10);
    int rc;

    if (!*text || *end || id < 1) {
        snprintf(detail, sizeof(detail), _("'%.60s' is no device's number"),
                 text);
        return problem(why, USAGE, .detail = detail);
    }
    rc = link_ask(s->link, "device.remove",
                  json_pack("{s:I}", "device", (json_int_t)id),
                  keel_after(ASK_TIME), NULL, why);
    if (rc < 0)
        return rc;
    cli_say(c, "Device %lld may not log in any more", id);
    cli_json(c,
             json_pack("{s:s, s:I}", "do", "remove", "device", (json_int_t)id));
    return 0;
}

static int wrong_words(struct cli *c, const char *usage)
{
    char detail[160];

    snprintf(detail, sizeof(detail), _("it is 'ferry %s'"), usage);
    return problem(c->why, USAGE, .detail = detail);
}

int cmd_devices(struct cli *c)
{
    struct session s;
    int failed = 0, rc;

    if (c->argc == 1 || (c->argc > 1 && strcmp(c->argv[0], "remove") != 0))
        return wrong_words(c, "devices [remove ID...]");
    rc = session_open(c, NULL, &s, c->why);
    if (rc < 0)
        return rc;
    if (c->argc == 0)
        rc = devices_list(c, &s);
    for (int i = 1; i < c->argc && rc == 0; i++) {
        struct problem why = {0};

        rc = device_remove(c, &s, c->argv[i], &why);
        rc = cli_failed(c, rc, &why, c->argc - 1, &failed);
    }
    session_close(&s);
    return rc < 0 ? rc : failed ? CLI_PARTLY : 0;
}

/* ---- profiles -------------------------------------------------------------------------- */

struct profiles {
    struct cli *c;
    struct home *h;
    char current[PROFILE_BYTES + 1];
};

static int profile_say(const char *name, void *arg)
{
    struct profiles *all = arg;
    bool current = strcmp(name, all->current) == 0;
    struct problem trouble = {0};
    struct profile p;
    char login[ACCOUNT_NAME_BYTES + SERVER_BYTES + 2], words[256];

    if (profile_load(all->h, name, &p, &trouble) < 0) {
        problem_sentence(&trouble, words, sizeof(words));
        cli_say(all->c, "%c %-20s %s", current ? '*' : ' ', name, words);
        return 0;
    }
    keel_wipe(p.key, sizeof(p.key));
    snprintf(login, sizeof(login), "%s@%s", p.login.user, p.login.server);
    cli_say(all->c, "%c %-20s %s", current ? '*' : ' ', name, login);
    cli_json(all->c, json_pack("{s:s, s:s, s:s, s:b}", "profile", name, "user",
                               p.login.user, "server", p.login.server,
                               "default", current));
    return 0;
}

int cmd_profiles(struct cli *c)
{
    struct profiles all = {.c = c};
    const char *verb = c->argc > 0 ? c->argv[0] : "";
    struct profile p;
    struct home h;
    int rc;

    if (c->argc > 0 && (c->argc != 2 || (strcmp(verb, "default") != 0 &&
                                         strcmp(verb, "remove") != 0)))
        return wrong_words(c, "profiles [default NAME | remove NAME]");
    rc = home_open(&h, c->why);
    if (rc < 0)
        return rc;
    all.h = &h;
    if (c->argc == 0) {
        if (profile_load(&h, c->profile, &p, NULL) == 0)
            snprintf(all.current, sizeof(all.current), "%s", p.name);
        rc = profile_each(&h, profile_say, &all, c->why);
    } else {
        rc = profile_load(&h, c->argv[1], &p, c->why);
        if (rc == 0 && *verb == 'd')
            rc = profile_make_default(&h, p.name, c->why);
        else if (rc == 0 || c->why->id == PROBLEM_SETTING_INVALID)
            rc = profile_remove(&h, c->argv[1], c->why);
        if (rc == 0) {
            cli_trace(c, "%s %s", verb, c->argv[1]);
            cli_json(
                c, json_pack("{s:s, s:s}", "do", verb, "profile", c->argv[1]));
        }
    }
    keel_wipe(p.key, sizeof(p.key));
    home_close(&h);
    return rc;
}
