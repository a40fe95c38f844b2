/* SPDX-License-Identifier: MIT */
/* ferryd user, ferryd invite. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/command.h"
#include "daemon/table.h"
#include "wire/frame.h"

const char help_user[] =
    "usage: ferryd user add NAME [--admin] [--password-file FILE | --invite]\n"
    "                        [--bytes SIZE] [--files N] --data DIR\n"
    "       ferryd user list --data DIR\n"
    "       ferryd user passwd NAME [--password-file FILE] --data DIR\n"
    "       ferryd user disable|enable NAME --data DIR\n"
    "       ferryd user delete NAME [--yes] --data DIR\n"
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
    "  --files N              and in names: files, directories, links; 0: "
    "none\n"
    "  --yes                  delete: is not asked at a terminal\n"
    "  --json                 one object a line\n"
    "  --help\n"
    "\n"
    "  disable   ends their sessions and lets them in no more; all is kept\n"
    "  delete    for good, with devices, grants and unfinished uploads; a "
    "home\n"
    "            or space of theirs that has files is refused\n"
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

    return command_list(o, json_pack("{s:s}", "do", "invite.list"), heads,
                        invite_row, "no invites");
}

static void say_revoked(const json_t *ok)
{
    printf("%s: revoked\n", row_text(ok, "id"));
}

static int run_invite_revoke(struct order *o)
{
    return command_show(
        o, json_pack("{s:s, s:s}", "do", "invite.revoke", "id", o->words[0]),
        say_revoked);
}

/* ---- users ---------------------------------------------------------------------- */

static json_t *about(const struct order *o, const char *what)
{
    return command_about(o, what, o->words[0]);
}

static int tell(struct order *o, json_t *request, const char *done)
{
    return command_tell(o, request, "", done);
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
    json_add(&request, "admin", json_boolean(o->admin));
    json_add(&request, "scram", json_incref(o->scram));
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
    table_quota(t, row_number(row, "quota_files"));
    table_number(t, row_number(row, "devices"));
    table_when(t, row_number(row, "created"));
    return t->failed ? -ENOMEM : 0;
}

static int run_list(struct order *o)
{
    static const char *const heads[] = {
        "NAME",   "STATE",  ">USED",    ">UNFINISHED", ">QUOTA",
        ">NAMES", ">QUOTA", ">DEVICES", "CREATED",     NULL};

    return command_list(o, json_pack("{s:s}", "do", "user.list"), heads,
                        list_row, "nobody yet");
}

static int run_passwd(struct order *o)
{
    json_t *request = about(o, "user.passwd");

    json_add(&request, "scram", json_incref(o->scram));
    return tell(o, request, "has the new password");
}

/* Nobody is shut out of the server by it, but people who look for an
 * administrator find none. */
static void tell_last(const json_t *ok)
{
    if (!row_true(ok, "last_admin"))
        return;
    fflush(stdout);
    fprintf(stderr,
            "ferryd: %s was the last administrator who can log in; 'ferryd "
            "user add NAME --admin' or 'ferryd user enable NAME' gives "
            "another.\n",
            row_text(ok, "name"));
}

static int tell_loss(struct order *o, json_t *request, const char *done)
{
    json_t *ok = NULL;
    int rc = command_ask(o, request, NULL, NULL, &ok);

    if (rc == 0 && o->json)
        rc = command_print(ok, o->why);
    else if (rc == 0)
        printf("%s: %s\n", row_text(ok, "name"), done);
    if (rc == 0)
        tell_last(ok);
    json_decref(ok);
    return rc;
}

static int run_disable(struct order *o)
{
    return tell_loss(o, about(o, "user.disable"), "disabled");
}

static int run_enable(struct order *o)
{
    return tell(o, about(o, "user.enable"), "enabled");
}

/* One row of a list, by its name. */
struct picking {
    const char *name;
    json_t *row;
};

static int pick_row(const json_t *row, void *arg)
{
    struct picking *p = arg;

    if (!p->row && strcmp(row_text(row, "name"), p->name) == 0)
        p->row = json_deep_copy(row);
    return 0;
}

/* What goes with an account, as a question. */
static void delete_question(const json_t *row, char *ret, size_t size)
{
    int64_t devices = row_number(row, "devices");
    int64_t reserved = row_number(row, "reserved_bytes");
    char unfinished[64] = "", room[32];

    text_bytes((uint64_t)reserved, room);
    if (reserved > 0)
        snprintf(unfinished, sizeof(unfinished), ", unfinished uploads of %s",
                 room);
    snprintf(ret, size,
             "Delete %s for good, with %lld device%s%s, and every grant and "
             "invite of theirs? [y/N] ",
             row_text(row, "name"), (long long)devices, text_plural(devices),
             unfinished);
}

/* At a terminal a person is asked; a script meant what it said. */
static int delete_sure(struct order *o)
{
    struct picking p = {o->words[0], NULL};
    char question[400], answer[16] = "";
    int rc;

    if (o->yes || !isatty(0) || !isatty(2))
        return 0;
    rc = command_ask(o, json_pack("{s:s}", "do", "user.list"), pick_row, &p,
                     NULL);
    /* Unknown ones, and homes that have files, are refused below. */
    if (rc < 0 || !p.row || row_number(p.row, "used_bytes") > 0) {
        json_decref(p.row);
        return rc;
    }
    delete_question(p.row, question, sizeof(question));
    json_decref(p.row);
    fputs(question, stderr);
    if (!fgets(answer, sizeof(answer), stdin) ||
        (answer[0] != 'y' && answer[0] != 'Y'))
        return problem(o->why, CANCELLED);
    return 0;
}

static int run_delete(struct order *o)
{
    int rc = delete_sure(o);

    return rc < 0 ? rc : tell_loss(o, about(o, "user.delete"), "deleted");
}

static void say_quota(const json_t *ok)
{
    char quota[96];

    quota_text(row_number(ok, "quota_bytes"), row_number(ok, "quota_files"),
               quota, sizeof(quota));
    printf("%s: quota: %s\n", row_text(ok, "name"), quota);
}

static int run_quota(struct order *o)
{
    if (o->quota_bytes < 0 && o->quota_files < 0)
        return problem(o->why, USAGE,
                       .detail = "a quota needs --bytes, --files or both");
    return command_show(o, about(o, "user.quota"), say_quota);
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
    {"user", "delete", 1, 1, TAKES_YES, run_delete, "NAME [--yes]"},
    {"user", "quota", 1, 1, TAKES_QUOTA, run_quota,
     "NAME [--bytes SIZE] [--files N]"},
    {0},
};
