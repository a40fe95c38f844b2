/* SPDX-License-Identifier: MIT */
/* register, join, login, logout, whoami. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/net.h>

#include "client/cli.h"
#include "client/password.h"
#include "client/session.h"
#include "client/text.h"

/* The name a login is kept under: --as, else the user's. */
static int profile_name(struct cli *c, struct session *s, struct problem *why)
{
    const char *name = c->profile ? c->profile : s->profile.login.user;
    int rc = profile_name_check(name, why);

    if (rc < 0)
        return rc;
    snprintf(s->profile.name, sizeof(s->profile.name), "%s", name);
    return 0;
}

/* "Logged in as ada on HOST", with the profile where that is not the name. */
static void said_in(struct cli *c, const char *what, const struct session *s)
{
    char said[ACCOUNT_NAME_BYTES + SERVER_BYTES + 128];

    snprintf(said, sizeof(said), what, s->profile.login.user,
             s->profile.login.server);
    if (strcmp(s->profile.name, s->profile.login.user) == 0)
        cli_say(c, "%s", said);
    else
        cli_say(c, "%s, profile %s", said, s->profile.name);
    cli_json(c, json_pack("{s:s, s:s, s:s}", "name", s->profile.login.user,
                          "server", s->profile.login.server, "profile",
                          s->profile.name));
}

/* Registering, with or without an invite: password first, so that a typing
 * error costs no invite. */
static int register_with(struct cli *c, struct session *s, const uint8_t *pin,
                         const char *invite)
{
    char password[PASSWORD_BYTES], prompt[128];
    int rc = profile_name(c, s, c->why);

    if (rc < 0)
        return rc;
    snprintf(prompt, sizeof(prompt), _("A password for %s: "),
             s->profile.login.user);
    rc = password_get(c, prompt, true, password, c->why);
    if (rc == 0)
        rc = session_connect(c, s, pin, c->why);
    if (rc == 0)
        rc = session_register(c, s, invite, password, c->why);
    keel_wipe(password, sizeof(password));
    if (rc == 0 && pin)
        rc = pin_store(&s->home, s->profile.login.server, pin, c->why);
    if (rc == 0)
        rc = session_add_device(s, c->why);
    if (rc == 0)
        said_in(c, _("Registered %s on %s"), s);
    return rc;
}

int cmd_register(struct cli *c)
{
    struct session s = {.home = {-1, -1, -1}};
    int rc = login_address_parse(c->argv[0], &s.profile.login, c->why);

    if (rc == 0)
        rc = home_open(&s.home, c->why);
    if (rc == 0)
        rc = register_with(c, &s, NULL, NULL);
    session_close(&s);
    return rc;
}

static int join_name(struct cli *c, struct session *s, struct problem *why)
{
    char name[ACCOUNT_NAME_BYTES + 2], prompt[128];
    const char *user = getenv("USER");
    int rc;

    if (c->argc > 1) {
        rc = account_name_check(c->argv[1], why);
        if (rc < 0)
            return rc;
        snprintf(s->profile.login.user, sizeof(s->profile.login.user), "%s",
                 c->argv[1]);
        return 0;
    }
    if (!user || account_name_check(user, NULL) < 0)
        user = "";
    snprintf(prompt, sizeof(prompt),
             *user ? _("Your name there [%s]: ") : _("Your name there: %s"),
             user);
    rc = ask_line(prompt, name, sizeof(name), why);
    if (rc < 0)
        return rc;
    if (!name[0])
        snprintf(name, sizeof(name), "%s", user);
    rc = account_name_check(name, why);
    if (rc == 0)
        memcpy(s->profile.login.user, name, strlen(name) + 1);
    return rc;
}

/* The link is a secret: as an argument it is overwritten at once, so that it
 * leaves the process list, and "-" reads it from standard input. */
static int join_link(struct cli *c, struct invite_link *ret,
                     struct problem *why)
{
    char line[INVITE_LINK_BYTES + 2], *text = c->argv[0];
    int rc;

    if (strcmp(text, "-") == 0) {
        if (!fgets(line, sizeof(line), stdin))
            return problem(why, USAGE, .detail = "no invite came in");
        line[strcspn(line, "\r\n")] = 0;
        text = line;
    }
    rc = invite_link_parse(text, ret, why);
    keel_wipe(text, strlen(text));
    return rc;
}

int cmd_join(struct cli *c)
{
    struct session s = {.home = {-1, -1, -1}};
    struct invite_link l;
    int rc = join_link(c, &l, c->why);

    if (rc == 0)
        rc = home_open(&s.home, c->why);
    if (rc == 0)
        rc = join_name(c, &s, c->why);
    if (rc == 0) {
        memcpy(s.profile.login.server, l.server, sizeof(l.server));
        rc = register_with(c, &s, l.pin, l.secret);
    }
    keel_wipe(&l, sizeof(l));
    session_close(&s);
    return rc;
}

int cmd_login(struct cli *c)
{
    struct session s = {.home = {-1, -1, -1}};
    int rc = login_address_parse(c->argv[0], &s.profile.login, c->why);

    if (rc == 0)
        rc = home_open(&s.home, c->why);
    if (rc == 0)
        rc = profile_name(c, &s, c->why);
    /* The server's key first: a password is for a server one trusts. */
    if (rc == 0)
        rc = session_connect(c, &s, NULL, c->why);
    if (rc == 0)
        rc = session_password_ask(c, &s, c->why);
    if (rc == 0)
        rc = session_add_device(&s, c->why);
    if (rc == 0)
        said_in(c, _("Logged in as %s on %s"), &s);
    session_close(&s);
    return rc;
}

/* The profile goes whatever the server says: a device that the server has
 * forgotten, or a server that is gone, must not keep us logged in. */
int cmd_logout(struct cli *c)
{
    struct problem trouble = {0};
    struct session s;
    struct profile p;
    struct home h;
    json_t *ok;
    int rc = home_open(&h, c->why);

    if (rc < 0)
        return rc;
    rc = profile_load(&h, c->profile, &p, c->why);
    keel_wipe(p.key, sizeof(p.key));
    if (rc == 0 && session_open(c, NULL, &s, &trouble) == 0) {
        if (link_ask(s.link, "device.remove", json_pack("{s:i}", "device", 0),
                     keel_after(ASK_TIME), &ok, &trouble) == 0)
            json_decref(ok);
        session_close(&s);
    }
    if (rc == 0)
        rc = profile_remove(&h, p.name, c->why);
    home_close(&h);
    if (rc < 0)
        return rc;
    cli_say(c, "Logged out %s", p.name);
    if (trouble.id != PROBLEM_NONE && trouble.id != PROBLEM_DEVICE_UNKNOWN) {
        char words[512];

        problem_sentence(&trouble, words, sizeof(words));
        fputs("ferry: ", stderr);
        fprintf(stderr,
                _("the server still knows this device's key, which is deleted "
                  "here: %s"),
                words);
        fputc('\n', stderr);
    }
    cli_json(c, json_pack("{s:s}", "profile", p.name));
    return 0;
}

int cmd_whoami(struct cli *c)
{
    struct session s;
    char text[320];
    json_t *ok;
    int rc = session_open(c, NULL, &s, c->why);

    if (rc < 0)
        return rc;
    rc = link_ask(s.link, "whoami", NULL, keel_after(ASK_TIME), &ok, c->why);
    if (rc == 0 && (!json_is_integer(json_object_get(ok, "used_bytes")) ||
                    !json_is_integer(json_object_get(ok, "used_files")))) {
        json_decref(ok);
        rc = problem(c->why, PROTOCOL_BROKEN, .detail = "it does not say who");
    }
    if (rc == 0) {
        cli_say(c,
                json_is_true(json_object_get(ok, "admin"))
                    ? N_("%s on %s, administrator")
                    : N_("%s on %s"),
                s.profile.login.user, s.profile.login.server);
        usage_print(ok, text, sizeof(text));
        cli_say(c, "%s", text);
        json_object_set_new(ok, "server", json_string(s.profile.login.server));
        cli_json(c, ok);
    }
    session_close(&s);
    return rc;
}
