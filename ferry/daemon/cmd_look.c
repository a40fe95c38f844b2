/* SPDX-License-Identifier: MIT */
/* ferryd sessions, ferryd check, ferryd stats. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/command.h"
#include "daemon/stats.h"
#include "daemon/table.h"

const char help_sessions[] =
    "usage: ferryd sessions [list] --data DIR\n"
    "       ferryd sessions kick ID --data DIR\n"
    "\n"
    "Who is connected to the ferryd that runs on DIR, and what they do; "
    "nobody\n"
    "where none runs.  ID is the conn= of the server's log.  Whoever is "
    "kicked\n"
    "may come back: to keep somebody out, 'ferryd user disable'.\n"
    "\n"
    "  --data DIR    the server's directory\n"
    "  --json        one object a line\n"
    "  --help\n"
    "\n"
    "Examples:\n"
    "  ferryd sessions --data /srv/ferry\n"
    "  ferryd sessions kick 5e0c11a4 --data /srv/ferry\n";

const char help_check[] =
    "usage: ferryd check [--repair] --data DIR\n"
    "\n"
    "Reads the whole ledger, and compares it with the files of every space:\n"
    "files that are gone, files that somebody else has changed, directories\n"
    "that are missing.  What came from outside is counted, and is no fault.\n"
    "The exit status is 1 when something is left that is not as it should be.\n"
    "\n"
    "  --data DIR    the server's directory; a ferryd may run on it\n"
    "  --repair      drop what the ledger says of files that are gone or were\n"
    "                changed, and count quotas anew; remove what is in\n"
    "                spaces/ with no space and no file in it; no file is ever\n"
    "                touched\n"
    "  --json        one object a finding\n"
    "  --help\n"
    "\n"
    "Examples:\n"
    "  ferryd check --data /srv/ferry\n"
    "  ferryd check --repair --data /srv/ferry\n";

const char help_stats[] =
    "usage: ferryd stats [--json|--prometheus] --data DIR\n"
    "\n"
    "Counters of the ferryd that runs on DIR; without one, what is kept "
    "there.\n"
    "\n"
    "  --data DIR      the server's directory\n"
    "  --json          an object\n"
    "  --prometheus    Prometheus' text format, for a textfile collector\n"
    "  --help\n"
    "\n"
    "Examples:\n"
    "  ferryd stats --data /srv/ferry\n"
    "  ferryd stats --prometheus --data /srv/ferry > ferry.prom\n";

static int print_row(const json_t *row, void *arg)
{
    (void)arg;
    return command_print(row, NULL);
}

/* ---- sessions ------------------------------------------------------------------ */

static int session_row(const json_t *row, void *arg)
{
    struct table *t = arg;
    const char *account = row_text(row, "account");

    table_text(t, row_text(row, "id"));
    table_text(t, account[0] ? account : "-");
    table_text(t, row_text(row, "peer"));
    table_when(t, row_number(row, "since"));
    table_bytes(t, row_number(row, "bytes_in"), false);
    table_bytes(t, row_number(row, "bytes_out"), false);
    /* It was escaped where it was made. */
    table_shown(t, row_text(row, "doing"));
    return t->failed ? -ENOMEM : 0;
}

static int run_sessions(struct order *o)
{
    static const char *const heads[] = {
        "ID", "ACCOUNT", "FROM", "SINCE", ">RECEIVED", ">SENT", "DOING", NULL};

    return command_list(o, json_pack("{s:s}", "do", "sessions"), heads,
                        session_row, "nobody is connected");
}

static void say_ended(const json_t *ok)
{
    printf("%s: ended\n", row_text(ok, "id"));
}

static int run_kick(struct order *o)
{
    return command_show(
        o, json_pack("{s:s, s:s}", "do", "sessions.kick", "id", o->words[0]),
        say_ended);
}

/* ---- check ------------------------------------------------------------------------ */

static int finding_row(const json_t *row, void *arg)
{
    char shown[4 * PATH_BYTES + 1];
    char *path = NULL;
    size_t size = 0;

    (void)arg;
    if (text_from_json(json_object_get(row, "path"), PATH_BYTES + 1, &path,
                       &size) < 0)
        size = 0;
    text_escape(path ? path : "", size, shown, sizeof(shown));
    keel_free(path);
    printf("%s: %s%s%s%s\n", row_text(row, "where"), shown,
           shown[0] ? ": " : "", row_text(row, "what"),
           row_true(row, "repaired") ? " (repaired)" : "");
    return 0;
}

static int run_check(struct order *o)
{
    json_t *ok = NULL;
    int64_t findings, unrepaired;
    int rc = command_ask(
        o, json_pack("{s:s, s:b}", "do", "check", "repair", o->repair),
        o->json ? print_row : finding_row, NULL, &ok);

    if (rc < 0)
        return rc;
    findings = row_number(ok, "findings");
    unrepaired = row_number(ok, "unrepaired");
    json_decref(ok);
    if (unrepaired > 0 && o->repair)
        return problem(o->why, CHECK_LEFT, .used = (uint64_t)unrepaired,
                       .limit = (uint64_t)findings);
    if (unrepaired > 0)
        return problem(o->why, CHECK_FOUND, .used = (uint64_t)unrepaired,
                       .limit = (uint64_t)findings);
    if (!o->json && findings > 0)
        printf(findings == 1 ? "The finding was repaired.\n"
                             : "All %lld findings were repaired.\n",
               (long long)findings);
    else if (!o->json)
        puts("All is as it should be.");
    return 0;
}

/* ---- stats ------------------------------------------------------------------------- */

static int run_stats(struct order *o)
{
    json_t *ok = NULL;
    int rc;

    if (o->json && o->prometheus)
        return problem(o->why, USAGE,
                       .detail = "--json and --prometheus are two forms");
    rc = command_ask(o, json_pack("{s:s}", "do", "stats"), NULL, NULL, &ok);
    if (rc < 0)
        return rc;
    if (o->json)
        rc = command_print(ok, o->why);
    else if (o->prometheus)
        stats_prometheus(ok, stdout);
    else
        stats_text(ok, stdout);
    json_decref(ok);
    return rc;
}

const struct command look_commands[] = {
    {"sessions", NULL, 0, 0, 0, run_sessions, ""},
    {"sessions", "list", 0, 0, 0, run_sessions, ""},
    {"sessions", "kick", 1, 1, 0, run_kick, "ID"},
    {"check", NULL, 0, 0, TAKES_REPAIR, run_check, "[--repair]"},
    {"stats", NULL, 0, 0, TAKES_PROMETHEUS, run_stats, "[--json|--prometheus]"},
    {0},
};
