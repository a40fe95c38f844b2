/* SPDX-License-Identifier: MIT */
/* `ferryd invite`: through the daemon that runs on DATA, else directly. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/co.h>
#include <keel/file.h>

#include "base/log.h"
#include "base/settings.h"
#include "daemon/admin.h"
#include "daemon/data.h"
#include "daemon/serve.h"
#include "wire/frame.h"

static const char help[] =
    "usage: ferryd invite --data DIR [option]...\n"
    "\n"
    "Makes an invite and prints its link; whoever has it can register once:\n"
    "    ferry join LINK\n"
    "\n"
    "  --admin            the new account administers the server\n"
    "  --uses N           it is good for N accounts (default: 1)\n"
    "  --expires SPAN     30m, 12h, 7d (default: 7d)\n"
    "  --public HOST[:PORT]   the server's address in the link, where no\n"
    "                     ferryd runs\n";

struct invite {
    const char *data, *public_address;
    bool admin;
    int64_t uses, lifetime_s;
    struct problem *why;
};

enum { DATA = 256, ADMIN, USES, EXPIRES, PUBLIC, HELP };
static const struct option options[] = {
    {"data", required_argument, NULL, DATA},
    {"admin", no_argument, NULL, ADMIN},
    {"uses", required_argument, NULL, USES},
    {"expires", required_argument, NULL, EXPIRES},
    {"public", required_argument, NULL, PUBLIC},
    {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0},
};

static int invite_number(setting_reader *read, const char *name, int64_t low,
                         int64_t high, const char *value, int64_t *ret,
                         struct problem *why)
{
    struct setting s = {.key = name, .low = low, .high = high};
    char error[200], detail[300];

    if (read(&s, value, ret, error, sizeof(error)) == 0)
        return 0;
    snprintf(detail, sizeof(detail), "--%s: %s", name, error);
    return problem(why, USAGE, .detail = detail);
}

static int invite_parse(struct invite *v, int argc, char **argv,
                        struct problem *why)
{
    int option, rc = 0;

    optind = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1 &&
           rc == 0) {
        switch (option) {
        case DATA:
            v->data = optarg;
            break;
        case ADMIN:
            v->admin = true;
            break;
        case USES:
            rc = invite_number(setting_number, "uses", 1, 10000, optarg,
                               &v->uses, why);
            break;
        case EXPIRES:
            rc = invite_number(setting_span, "expires", 60,
                               (int64_t)10 * 31536000, optarg, &v->lifetime_s,
                               why);
            break;
        case PUBLIC:
            v->public_address = optarg;
            break;
        case HELP:
            fputs(help, stdout);
            return 1;
        default:
            return problem(why, USAGE, .detail = "an option is wrong");
        }
    }
    if (rc < 0)
        return rc;
    if (optind < argc || !v->data)
        return problem(why, USAGE, .detail = "ferryd invite --data DIR");
    return 0;
}

/* Nobody else has DATA: its lock is ours. */
static int invite_offline(struct invite *v, struct data *d, struct problem *why)
{
    struct accounts_options ao = {.registration = REGISTRATION_INVITE_ONLY};
    struct keel_tls_config *tls = NULL;
    struct keel_tls_pin pin;
    struct house h = {0};
    char text[SERVER_BYTES] = "", link[INVITE_LINK_BYTES];
    int rc;

    if (v->public_address)
        snprintf(text, sizeof(text), "%s", v->public_address);
    else if (data_text_read(d, "address", text, sizeof(text)) < 0)
        return problem(why, USAGE,
                       .detail = "ferryd has not run on this directory yet: "
                                 "--public HOST:PORT is needed");
    rc = server_parse(text, strlen(text), h.server, why);
    if (rc < 0)
        return rc;
    rc = data_tls(d, &tls, why);
    if (rc < 0)
        return rc;
    rc = keel_tls_own_pin(tls, &pin);
    keel_tls_config_free(tls);
    if (rc < 0)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = "tls/");
    memcpy(h.pin, pin.sha256, sizeof(h.pin));
    rc = ledger_open(d->fd, &h.ledger, why);
    if (rc < 0)
        return rc;
    ao.ledger = h.ledger;
    rc = accounts_open(&ao, &h.accounts, why);
    if (rc == 0)
        rc = admin_invite(&h, v->admin, v->uses, v->lifetime_s, link, why);
    if (rc == 0)
        puts(link);
    accounts_close(h.accounts);
    ledger_close(h.ledger);
    return rc;
}

static int invite_online(struct invite *v, struct problem *why)
{
    keel_auto(file) int dir =
        keel_file_open_any(v->data, O_RDONLY | O_DIRECTORY, 0);
    json_t *request, *ok = NULL;
    const char *link;
    int rc;

    if (dir < 0)
        return problem(why, DATA_ACCESS, .errno_ = -dir, .name = v->data);
    request = json_pack("{s:s, s:b, s:I, s:I}", "do", "invite", "admin",
                        v->admin, "uses", (json_int_t)v->uses, "lifetime_s",
                        (json_int_t)v->lifetime_s);
    rc = request ? admin_ask(dir, request, &ok, why) : problem(why, NO_MEMORY);
    json_decref(request);
    if (rc < 0)
        return rc;
    rc = field_text(ok, "link", INVITE_LINK_BYTES, &link, why);
    if (rc == 0)
        puts(link);
    json_decref(ok);
    return rc;
}

static int invite_run(void *arg)
{
    struct invite *v = arg;
    struct data d;
    int rc = data_open(v->data, false, &d, v->why);

    if (rc == -EBUSY)
        return invite_online(v, v->why);
    if (rc < 0)
        return rc;
    rc = invite_offline(v, &d, v->why);
    data_close(&d);
    return rc;
}

int command_invite(int argc, char **argv, struct problem *why)
{
    struct invite v = {.uses = 1, .lifetime_s = 7 * 86400, .why = why};
    int rc = invite_parse(&v, argc, argv, why);

    if (rc != 0)
        return rc;
    log_open(2, LOG_WARN);
    return keel_run(invite_run, &v);
}
