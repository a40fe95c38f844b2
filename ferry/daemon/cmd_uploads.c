/* SPDX-License-Identifier: MIT */
/* ferryd uploads. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/command.h"
#include "daemon/table.h"

const char help_uploads[] =
    "usage: ferryd uploads [list] --data DIR\n"
    "       ferryd uploads drop ID --data DIR\n"
    "\n"
    "Uploads that are not finished, and what each holds of its space's quota.\n"
    "Whoever sends the same file again goes on where it stopped; what nobody\n"
    "goes on with goes when its time is up.  'drop' gives one up at once: it\n"
    "holds nothing any more, and the next try begins anew.  One that is being\n"
    "sent right now is refused: 'ferryd sessions kick' ends that.  ID is what\n"
    "the list shows, or more of it.\n"
    "\n"
    "  --data DIR    the server's directory; a ferryd may run on it\n"
    "  --json        one object a line\n"
    "  --help\n"
    "\n"
    "Examples:\n"
    "  ferryd uploads --data /srv/ferry\n"
    "  ferryd uploads drop 5e0c11a4 --data /srv/ferry\n";

static void path_cell(struct table *t, const json_t *row)
{
    char shown[512], where[600];
    const char *space = row_text(row, "space");
    char *path = NULL;
    size_t size = 0;

    if (text_from_json(json_object_get(row, "path"), PATH_BYTES, &path, &size) <
        0)
        size = 0;
    text_escape(path ? path : "", size, shown, sizeof(shown));
    keel_free(path);
    snprintf(where, sizeof(where), "%s%s%s%s", space[0] ? "@" : "", space, "/",
             shown);
    table_shown(t, where);
}

static int upload_row(const json_t *row, void *arg)
{
    struct table *t = arg;
    char id[9];

    snprintf(id, sizeof(id), "%s", row_text(row, "id"));
    table_text(t, id);
    table_text(t, row_text(row, "account"));
    table_bytes(t, row_number(row, "size"), false);
    table_bytes(t, row_number(row, "held"), false);
    table_when(t, row_number(row, "created"));
    if (row_true(row, "active"))
        table_shown(t, "being sent");
    else
        table_when(t, row_number(row, "expires"));
    path_cell(t, row);
    return t->failed ? -ENOMEM : 0;
}

static int run_uploads(struct order *o)
{
    static const char *const heads[] = {"ID",    "ACCOUNT", ">SIZE", ">HELD",
                                        "SINCE", "UNTIL",   "PATH",  NULL};

    return command_list(o, json_pack("{s:s}", "do", "uploads"), heads,
                        upload_row, "no unfinished uploads");
}

static void say_dropped(const json_t *ok)
{
    char held[32];

    text_bytes((uint64_t)row_number(ok, "held"), held);
    printf("%.8s: given up, held %s\n", row_text(ok, "id"), held);
}

static int run_drop(struct order *o)
{
    return command_show(
        o, json_pack("{s:s, s:s}", "do", "uploads.drop", "id", o->words[0]),
        say_dropped);
}

const struct command uploads_commands[] = {
    {"uploads", NULL, 0, 0, 0, run_uploads, ""},
    {"uploads", "list", 0, 0, 0, run_uploads, ""},
    {"uploads", "drop", 1, 1, 0, run_drop, "ID"},
    {0},
};
