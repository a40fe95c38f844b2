/* SPDX-License-Identifier: MIT */
#include "daemon/house.h"

#include <stdio.h>
#include <string.h>

#include <keel/tls.h>

/* The server's address and key, for invites. */
static int house_who(struct house *h, struct data *d,
                     const char *public_address, struct problem *why)
{
    struct keel_tls_config *tls = NULL;
    struct keel_tls_pin pin;
    char text[SERVER_BYTES] = "";
    int rc;

    if (public_address && strlen(public_address) >= sizeof(text))
        return problem(why, USAGE, .detail = "--public is too long");
    if (public_address)
        strcpy(text, public_address);
    else if (data_text_read(d, "address", text, sizeof(text)) < 0)
        text[0] = 0;
    if (text[0]) {
        rc = server_parse(text, strlen(text), h->server, why);
        if (rc < 0)
            return rc;
    }
    rc = data_tls(d, &tls, why);
    if (rc < 0)
        return rc;
    rc = keel_tls_own_pin(tls, &pin);
    keel_tls_config_free(tls);
    if (rc < 0)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = "tls/");
    memcpy(h->pin, pin.sha256, sizeof(h->pin));
    return 0;
}

int house_open(struct house *h, struct data *d, const char *public_address,
               struct problem *why)
{
    struct accounts_options ao = {.registration = REGISTRATION_INVITE_ONLY};
    struct vault_options vo = {.data_dir = d->fd, .buffers = 4};
    int rc;

    *h = (struct house){.dir = d->fd};
    rc = house_who(h, d, public_address, why);
    if (rc < 0)
        return rc;
    rc = ledger_open(d->fd, &h->ledger, why);
    if (rc < 0)
        return rc;
    ao.ledger = vo.ledger = h->ledger;
    rc = accounts_open(&ao, &h->accounts, why);
    if (rc < 0)
        return rc;
    vo.accounts = h->accounts;
    return vault_open(&vo, &h->vault, why);
}

void house_close(struct house *h)
{
    vault_close(h->vault);
    accounts_close(h->accounts);
    ledger_close(h->ledger);
}
