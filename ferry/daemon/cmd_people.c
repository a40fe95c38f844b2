/* SPDX-License-Identifier: MIT */
/* ferryd user, ferryd invite. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/command.h"
#include "daemon/table.h"
#include "wire/frame.h"

const char help_user[] =
    "usage: ferryd user add NAME [--admin] [--password-file FILE | --invite]\n"
    "                        [--bytes SIZE] [--files N] --data DIR\n"
    "       ferryd user list --data DIR\n"
    "       ferryd user passwd NAME [--password-file FILE] --data DIR\n"
    "       ferryd user disable|enable|delete NAME --data DIR\n"
    "       ferryd user quota NAME [--bytes SIZE] [--files N] --data DIR\n"
    "\n"
    "People and their homes.  A password is typed at the terminal, or is the\n"
    "first line of standard input or of a file; it is never an argument.\n"
    "\n"
    "  --data DIR             the server's directory; a ferryd may run on it\n"
    "  --admin                add: the account administers the server\n"
    "  --password-file FILE   add, passwd: the password is its first line;\n"
    "                         -: of standard input\n"
    "  --invite               add: no password; prints a link by which they\n"
    "                         join and choose one themselves\n"
    "  --expires SPAN         how long that link is good (default: 7d)\n"
    "  --public HOST[:PORT]   the server's address in it, where no ferryd "
    "runs\n"
    "  --bytes SIZE           the home's quota: \"10 GiB\", 512k; 0: none\n"
    "  --files N              and in files; 0: none\n"
    "  --json                 one object a line\n"
    "  --help\n"
    "\n"
    "  disable   ends their sessions and lets them in no more; all is kept\n"
    "  delete    for good; a home that has files is refused\n"
    "\n"
    "Examples:\n"
    "  ferryd user add mara --data /srv/ferry\n"
    "  ferryd user add bo --invite --data /srv/ferry\n"
    "  pwgen 20 1 | ferryd user add backup --data /srv/ferry\n"
    "  ferryd user quota mara --bytes \"50 GiB\" --data /srv/ferry\n"
    "  ferryd user list --json --data /srv/ferry\n";

const char help_invite[] =
    "usage: ferryd invite [option]... --data DIR\n"
    "       ferryd invite list --data DIR\n"
    "       ferryd invite revoke ID --data DIR\n"
    "\n"
    "Makes an invite and prints its link; whoever has it can register:\n"
    "    ferry join LINK\n"
    "\n"
    "  --data DIR             the server's directory; a ferryd may run on it\n"
    "  --admin                the new account administers the server\n"
    "  --uses N               it is good for N accounts (default: 1)\n"
    "  --expires SPAN         30m, 12h, 7d (default: 7d)\n"
    "  --public HOST[:PORT]   the server's address in the link, where no "
    "ferryd\n"
    "                         runs\n"
    "  --json                 an object; list: one a line\n"
    "  --help\n"
    "\n"
    "  list      those that are good still; who holds the link shows nowhere\n"
    "  revoke    ID, as list shows it, lets nobody in from now on\n"
    "\n"
    "Examples:\n"
    "  ferryd invite --data /srv/ferry\n"
    "  ferryd invite --uses 30 --expires 2h --data /srv/ferry\n";

/* ---- invites ----------------------------------------------------------------- */

static int run_invite(struct order *o)
{
    json_t *ok = NULL;
    const char *link;
    int rc =
        command_ask(o,
                    json_pack("{s:s, s:b, s:I, s:I}", "do", "invite", "admin",
                              o->admin, "uses", (json_int_t)o->uses,
                              "lifetime_s", (json_int_t)o->lifetime_s),
                    NULL, NULL, &ok);

    if (rc == 0)
        rc = field_text(ok, "link", INVITE_LINK_BYTES, &link, o->why);
    if (rc == 0 && o->json)
        rc = command_print(ok, o->why);
    else if (rc == 0)
        puts(link);
    json_decref(ok);
    return rc;
}

static int list_print(const json_t *row, void *arg)
{
    (void)arg;
    return command_print(row, NULL);
}

static int invite_row(const json_t *row, void *arg)
{
    struct table *t = arg;
    const char *by = row_text(row, "by");

    table_text(t, row_text(row, "id"));
    table_text(t, row_true(row, "admin") ? "admin" : "-");
    table_number(t, row_number(row, "uses"));
    table_when(t, row_number(row, "created"));
    table_when(t, row_number(row, "expires"));
    table_text(t, by[0] ? by : row_true(row, "first") ? "first-invite" : "-");
    return t->failed ? -ENOMEM : 0;
}

static int run_invites(struct order *o)
{
    static const char *const heads[] = {
        "ID", "ACCOUNT", ">USES", "CREATED", "EXPIRES", "BY", NULL};
    struct table t;
    int rc;

    table_init(&t, heads);
    rc = command_ask(o, json_pack("{s:s}", "do", "invite.list"),
                     o->json ? list_print : invite_row, &t, NULL);
    if (rc == 0 && !o->json && table_print(&t, "no invites") < 0)
        rc = problem(o->why, NO_MEMORY);
    table_fini(&t);
    return rc;
}

static int run_invite_revoke(struct order *o)
{
    json_t *ok = NULL;
    int rc = command_ask(
        o, json_pack("{s:s, s:s}", "do", "invite.revoke", "id", o->words[0]),
        NULL, NULL, &ok);

    if (rc == 0 && o->json)
        rc = command_print(ok, o->why);
    else if (rc == 0)
        printf("%s: revoked\n", row_text(ok, "id"));
    json_decref(ok);
    return rc;
}

/* ---- users ---------------------------------------------------------------------- */

/* A request that names an account, with the quota that was given. */
static json_t *about(const struct order *o, const char *what)
{
    json_t *j = json_pack("{s:s, s:s}", "do", what, "name", o->words[0]);

    if (j && o->quota_bytes >= 0)
        json_object_set_new(j, "quota_bytes", json_integer(o->quota_bytes));
    if (j && o->quota_files >= 0)
        json_object_set_new(j, "quota_files", json_integer(o->quota_files));
    return j;
}

/* Asks, and says `done` about the name. */
static int tell(struct order *o, json_t *request, const char *done)
{
    json_t *ok = NULL;
    int rc = command_ask(o, request, NULL, NULL, &ok);

    if (rc == 0 && o->json)
        rc = command_print(ok, o->why);
    else if (rc == 0)
        printf("%s: %s\n", row_text(ok, "name"), done);
    json_decref(ok);
    return rc;
}

static int run_add(struct order *o)
{
    json_t *request;

    if (o->invite && o->password_file)
        return problem(o->why, USAGE,
                       .detail = "--invite leaves the password to them");
    if (o->invite && (o->quota_bytes >= 0 || o->quota_files >= 0))
        return problem(o->why, USAGE,
                       .detail = "--invite makes no account yet: set a quota "
                                 "by 'ferryd user quota' when they have "
                                 "joined");
    if (o->invite) {
        /* The name is theirs to take; here it is only looked at. */
        int rc = account_name_check(o->words[0], o->why);

        return rc < 0 ? rc : run_invite(o);
    }
    request = about(o, "user.add");
    if (request) {
        json_object_set_new(request, "admin", json_boolean(o->admin));
        json_object_set(request, "scram", o->scram);
    }
    return tell(o, request, "added");
}

static int list_row(const json_t *row, void *arg)
{
    struct table *t = arg;
    bool admin = row_true(row, "admin"), disabled = row_true(row, "disabled");

    table_text(t, row_text(row, "name"));
    table_text(t, disabled ? admin ? "admin, disabled" : "disabled"
                  : admin  ? "admin"
                           : "-");
    table_bytes(t, row_number(row, "used_bytes"), false);
    table_bytes(t, row_number(row, "reserved_bytes"), true);
    table_bytes(t, row_number(row, "quota_bytes"), true);
    table_number(t, row_number(row, "used_files"));
    table_number(t, row_number(row, "devices"));
    table_when(t, row_number(row, "created"));
    return t->failed ? -ENOMEM : 0;
}

static int run_list(struct order *o)
{
    static const char *const heads[] = {"NAME",        "STATE",   ">USED",
                                        ">UNFINISHED", ">QUOTA",  ">FILES",
                                        ">DEVICES",    "CREATED", NULL};
    struct table t;
    int rc;

    table_init(&t, heads);
    rc = command_ask(o, json_pack("{s:s}", "do", "user.list"),
                     o->json ? list_print : list_row, &t, NULL);
    if (rc == 0 && !o->json && table_print(&t, "nobody yet") < 0)
        rc = problem(o->why, NO_MEMORY);
    table_fini(&t);
    return rc;
}

static int run_passwd(struct order *o)
{
    json_t *request = about(o, "user.passwd");

    if (request)
        json_object_set(request, "scram", o->scram);
    return tell(o, request, "has the new password");
}

static int run_disable(struct order *o)
{
    return tell(o, about(o, "user.disable"), "disabled");
}

static int run_enable(struct order *o)
{
    return tell(o, about(o, "user.enable"), "enabled");
}

static int run_delete(struct order *o)
{
    return tell(o, about(o, "user.delete"), "deleted");
}

static int run_quota(struct order *o)
{
    if (o->quota_bytes < 0 && o->quota_files < 0)
        return problem(o->why, USAGE,
                       .detail = "a quota needs --bytes, --files or both");
    return tell(o, about(o, "user.quota"), "has the new quota");
}

const struct command people_commands[] = {
    {"invite", NULL, 0, 0,
     TAKES_ADMIN | TAKES_USES | TAKES_EXPIRES | TAKES_PUBLIC, run_invite,
     "[option]..."},
    {"invite", "list", 0, 0, 0, run_invites, ""},
    {"invite", "revoke", 1, 1, 0, run_invite_revoke, "ID"},
    {"user", "add", 1, 1,
     TAKES_ADMIN | TAKES_PASSWORD | TAKES_INVITE | TAKES_EXPIRES |
         TAKES_PUBLIC | TAKES_QUOTA,
     run_add, "NAME [option]..."},
    {"user", "list", 0, 0, 0, run_list, ""},
    {"user", "passwd", 1, 1, TAKES_PASSWORD, run_passwd,
     "NAME [--password-file FILE]"},
    {"user", "disable", 1, 1, 0, run_disable, "NAME"},
    {"user", "enable", 1, 1, 0, run_enable, "NAME"},
    {"user", "delete", 1, 1, 0, run_delete, "NAME"},
    {"user", "quota", 1, 1, TAKES_QUOTA, run_quota,
     "NAME [--bytes SIZE] [--files N]"},
    {0},
};
