/* SPDX-License-Identifier: MIT */
/* ferryd space. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/command.h"
#include "daemon/table.h"

const char help_space[] =
    "usage: ferryd space add NAME --owner ACCOUNT [--bytes SIZE] [--files N]\n"
    "                        --data DIR\n"
    "       ferryd space list --data DIR\n"
    "       ferryd space grants [NAME] --data DIR\n"
    "       ferryd space grant NAME ACCOUNT|--everybody RIGHTS [--path "
    "PREFIX]\n"
    "                        --data DIR\n"
    "       ferryd space revoke NAME ACCOUNT|--everybody [--path PREFIX]\n"
    "                        --data DIR\n"
    "       ferryd space quota NAME [--bytes SIZE] [--files N] --data DIR\n"
    "       ferryd space delete NAME --data DIR\n"
    "\n"
    "Spaces that people share, which they see as :@NAME/.  RIGHTS are words\n"
    "separated by commas, or \"all\":\n"
    "  read    fetch files        list    see names, sizes and dates\n"
    "  write   put and replace    delete  remove, and move away\n"
    "  drop    put what is new, without seeing or replacing anything\n"
    "A grant replaces the one that was there for the same account and path.\n"
    "\n"
    "  --data DIR         the server's directory; a ferryd may run on it\n"
    "  --owner ACCOUNT    who has every right in it\n"
    "  --everybody        every account, now and later\n"
    "  --path PREFIX      only there and below (default: all of the space)\n"
    "  --bytes SIZE       quota: \"10 GiB\", 512k; 0: none\n"
    "  --files N          and in names: files, directories, links; 0: none\n"
    "  --json             one object a line\n"
    "  --help\n"
    "\n"
    "Examples:\n"
    "  ferryd space add team --owner mara --bytes \"1 TiB\" --data /srv/ferry\n"
    "  ferryd space grant team bo read,list --data /srv/ferry\n"
    "  ferryd space grant team --everybody drop --path /inbox --data "
    "/srv/ferry\n"
    "  ferryd space revoke team bo --data /srv/ferry\n";

/* A request that names a space, with all that was given. */
static json_t *about(const struct order *o, const char *what)
{
    /* People see it as @NAME, and write it so. */
    json_t *j = command_about(o, what, o->words[0] + (o->words[0][0] == '@'));

    if (o->path)
        json_add(&j, "path", text_to_json(o->path, strlen(o->path)));
    if (o->owner)
        json_add(&j, "owner", json_string(o->owner));
    return j;
}

static int tell(struct order *o, json_t *request, const char *done)
{
    return command_tell(o, request, "@", done);
}

static void path_print(const json_t *of)
{
    keel_auto(str) char *text = NULL;
    char shown[1024];
    size_t size = 0;

    if (text_from_json(json_object_get(of, "path"), PATH_BYTES + 2, &text,
                       &size) < 0)
        return;
    text_escape(text, size, shown, sizeof(shown));
    fputs(shown, stdout);
}

static const char *whom(const json_t *ok)
{
    const char *account = row_text(ok, "account");

    return account[0] ? account : "everybody";
}

static void say_granted(const json_t *ok)
{
    printf("@%s: granted to %s: %s at ", row_text(ok, "name"), whom(ok),
           row_text(ok, "rights"));
    path_print(ok);
    putchar('\n');
}

/* What is left is said for one account: it may be in by another door. */
static void say_revoked(const json_t *ok)
{
    const json_t *left = json_object_get(ok, "left"), *one;
    int64_t more = row_number(ok, "more");
    size_t i;

    printf("@%s: revoked from %s: %s at ", row_text(ok, "name"), whom(ok),
           row_text(ok, "rights"));
    path_print(ok);
    putchar('\n');
    if (row_true(ok, "owner"))
        printf("@%s: %s owns it, and has every right\n", row_text(ok, "name"),
               whom(ok));
    else if (json_array_size(left) == 0 && more == 0)
        printf("@%s: %s has no other grant in it\n", row_text(ok, "name"),
               whom(ok));
    json_array_foreach(left, i, one)
    {
        printf("@%s: %s still has %s at ", row_text(ok, "name"), whom(ok),
               row_text(one, "rights"));
        path_print(one);
        puts(row_true(one, "everybody") && row_text(ok, "account")[0]
                 ? ", as everybody has"
                 : "");
    }
    if (more > 0)
        printf("@%s: and %lld more; 'ferryd space grants' lists them\n",
               row_text(ok, "name"), (long long)more);
}

static void say_quota(const json_t *ok)
{
    char quota[96];

    quota_text(row_number(ok, "quota_bytes"), row_number(ok, "quota_files"),
               quota, sizeof(quota));
    printf("@%s: quota: %s\n", row_text(ok, "name"), quota);
}

static int run_add(struct order *o)
{
    if (!o->owner)
        return problem(o->why, USAGE,
                       .detail = "a space needs --owner ACCOUNT");
    return tell(o, about(o, "space.add"), "added");
}

static int list_row(const json_t *row, void *arg)
{
    struct table *t = arg;

    table_text(t, row_text(row, "name"));
    table_text(t, row_text(row, "owner"));
    table_bytes(t, row_number(row, "used_bytes"), false);
    table_bytes(t, row_number(row, "reserved_bytes"), true);
    table_bytes(t, row_number(row, "quota_bytes"), true);
    table_number(t, row_number(row, "used_files"));
    table_quota(t, row_number(row, "quota_files"));
    table_number(t, row_number(row, "grants"));
    return t->failed ? -ENOMEM : 0;
}

static int run_list(struct order *o)
{
    static const char *const heads[] = {"NAME",        "OWNER",   ">USED",
                                        ">UNFINISHED", ">QUOTA",  ">NAMES",
                                        ">QUOTA",      ">GRANTS", NULL};

    return command_list(o, json_pack("{s:s}", "do", "space.list"), heads,
                        list_row, "no shared spaces");
}

static int grant_row(const json_t *row, void *arg)
{
    const json_t *path = json_object_get(row, "path");
    struct table *t = arg;
    char *text = NULL;
    size_t size;

    table_text(t, row_text(row, "name"));
    table_text(t, json_is_null(json_object_get(row, "account"))
                      ? "(everybody)"
                      : row_text(row, "account"));
    table_text(t, row_text(row, "rights"));
    if (text_from_json(path, PATH_BYTES + 2, &text, &size) < 0)
        table_text(t, "?");
    else
        table_text(t, text);
    keel_free(text);
    return t->failed ? -ENOMEM : 0;
}

static int run_grants(struct order *o)
{
    static const char *const heads[] = {"SPACE", "ACCOUNT", "RIGHTS", "PATH",
                                        NULL};
    json_t *request = o->count ? about(o, "space.grants")
                               : json_pack("{s:s}", "do", "space.grants");

    return command_list(o, request, heads, grant_row, "no grants");
}

/* NAME ACCOUNT and the rest, or NAME and the rest with --everybody. */
static int grant_words(struct order *o, unsigned rest, json_t **request)
{
    if (o->count != 1 + rest + (o->everybody ? 0 : 1))
        return problem(o->why, USAGE,
                       .detail = "which account, or --everybody; see 'ferryd "
                                 "space --help'");
    if (!o->everybody && o->words[1][0] == '@')
        return problem(o->why, USAGE,
                       .detail = "rights are an account's, or --everybody's; "
                                 "what begins with @ is a space");
    json_add(request, "account",
             o->everybody ? json_null() : json_string(o->words[1]));
    return 0;
}

static int run_grant(struct order *o)
{
    json_t *request = about(o, "space.grant");
    int rc = grant_words(o, 1, &request);

    if (rc < 0) {
        json_decref(request);
        return rc;
    }
    json_add(&request, "rights", json_string(o->words[o->count - 1]));
    return command_show(o, request, say_granted);
}

static int run_revoke(struct order *o)
{
    json_t *request = about(o, "space.revoke");
    int rc = grant_words(o, 0, &request);

    if (rc < 0) {
        json_decref(request);
        return rc;
    }
    return command_show(o, request, say_revoked);
}

static int run_quota(struct order *o)
{
    if (o->quota_bytes < 0 && o->quota_files < 0)
        return problem(o->why, USAGE,
                       .detail = "a quota needs --bytes, --files or both");
    return command_show(o, about(o, "space.quota"), say_quota);
}

static int run_delete(struct order *o)
{
    return tell(o, about(o, "space.delete"), "deleted");
}

const struct command space_commands[] = {
    {"space", "add", 1, 1, TAKES_OWNER | TAKES_QUOTA, run_add,
     "NAME --owner ACCOUNT"},
    {"space", "list", 0, 0, 0, run_list, ""},
    {"space", "grants", 0, 1, 0, run_grants, "[NAME]"},
    {"space", "grant", 2, 3, TAKES_EVERYBODY | TAKES_PATH, run_grant,
     "NAME ACCOUNT|--everybody RIGHTS [--path PREFIX]"},
    {"space", "revoke", 1, 2, TAKES_EVERYBODY | TAKES_PATH, run_revoke,
     "NAME ACCOUNT|--everybody [--path PREFIX]"},
    {"space", "quota", 1, 1, TAKES_QUOTA, run_quota,
     "NAME [--bytes SIZE] [--files N]"},
    {"space", "delete", 1, 1, 0, run_delete, "NAME"},
    {0},
};
