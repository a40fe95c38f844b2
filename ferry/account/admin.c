/* SPDX-License-Identifier: MIT */
/* What the operator does to people, spaces and grants.  Each change is counted
 * after it was written, whatever came of it. */
#include <string.h>

#include "account/account_inside.h"
#include "account/scram.h"

void accounts_changed(struct accounts *a)
{
    people_changed(a);
    sharing_changed(a);
}

/* ---- people ---------------------------------------------------------------------- */
static int account_id(struct accounts *a, const char *name, int64_t *ret,
                      int64_t *ret_home, struct problem *why)
{
    struct ledger_account account;
    int rc;

    rc = ledger_account_find(a->options.ledger, name, &account, why);
    if (rc < 0)
        return rc;
    *ret = account.id;
    *ret_home = account.home;
    keel_wipe(&account, sizeof account);
    return 0;
}

int account_disable(struct accounts *a, const char *name, bool disabled,
                    struct problem *why)
{
    int64_t id, home;
    int rc;

    rc = account_id(a, name, &id, &home, why);
    if (rc < 0)
        return rc;
    rc = ledger_account_disable(a->options.ledger, id, disabled, why);
    people_changed(a);
    return rc;
}

int account_delete(struct accounts *a, const char *name, struct problem *why)
{
    int64_t id, home;
    int rc;

    rc = account_id(a, name, &id, &home, why);
    if (rc < 0)
        return rc;
    rc = ledger_account_delete(a->options.ledger, id, why);
    accounts_changed(a);
    return rc;
}

int space_find(struct accounts *a, const char *name, struct ledger_space *ret,
               struct problem *why)
{
    struct problem said = {0};
    int rc = ledger_space_find(a->options.ledger, name, ret, &said);

    /* People hear that there may be one in which they have no part. */
    if (said.id == PROBLEM_SPACE_UNKNOWN)
        return problem(why, SPACE_NONE, .name = name);
    if (rc < 0 && why)
        *why = said;
    return rc;
}

/* ---- spaces -------------------------------------------------------------------------- */
static int quota_check(int64_t bytes, int64_t files, struct problem *why)
{
    if (bytes < 0 || files < 0)
        return problem(why, REQUEST_INVALID,
                       .detail = "a quota is at least 0, which is none");
    return 0;
}

int space_add(struct accounts *a, const char *name, const char *owner,
              int64_t quota_bytes, int64_t quota_files, struct problem *why)
{
    struct ledger_space s = {.quota_bytes = quota_bytes,
                             .quota_files = quota_files};
    int64_t home;
    int rc;

    rc = space_name_check(name, why);
    if (rc == 0)
        rc = quota_check(quota_bytes, quota_files, why);
    if (rc == 0)
        rc = account_id(a, owner, &s.owner, &home, why);
    if (rc < 0)
        return rc;
    memcpy(s.name, name, strlen(name));
    rc = ledger_space_add(a->options.ledger, &s, why);
    sharing_changed(a);
    return rc;
}

int space_delete(struct accounts *a, const char *name, struct problem *why)
{
    struct ledger_space s;
    int rc;

    rc = space_find(a, name, &s, why);
    if (rc < 0)
        return rc;
    rc = ledger_space_delete(a->options.ledger, s.id, why);
    sharing_changed(a);
    return rc;
}

int space_quota(struct accounts *a, const char *name, bool home,
                int64_t quota_bytes, int64_t quota_files, struct problem *why)
{
    struct ledger_space s = {0};
    int64_t id;
    int rc;

    rc = quota_check(quota_bytes, quota_files, why);
    if (rc < 0)
        return rc;
    rc = home ? account_id(a, name, &id, &s.id, why)
              : space_find(a, name, &s, why);
    if (rc < 0)
        return rc;
    return ledger_space_quota(a->options.ledger, s.id, quota_bytes, quota_files,
                              why);
}

/* ---- grants ---------------------------------------------------------------------------- */
int grant_set(struct accounts *a, const char *space, const char *path,
              const char *account, unsigned rights, struct problem *why)
{
    struct ledger_grant g = {.rights = rights};
    struct ledger_space s;
    struct path p;
    int64_t home;
    int rc;

    if (rights & ~(unsigned)RIGHTS_ALL)
        return problem(why, REQUEST_INVALID,
                       .detail = "a grant is of read, write, list, delete "
                                 "and drop");
    rc = path_parse(path, strlen(path), &p, why);
    if (rc == 0)
        rc = space_find(a, space, &s, why);
    if (rc == 0 && account)
        rc = account_id(a, account, &g.account, &home, why);
    if (rc < 0)
        return rc;
    g.space = s.id;
    memcpy(g.path, p.text, p.size + 1u);
    rc = ledger_grant_set(a->options.ledger, &g, why);
    sharing_changed(a);
    return rc;
}
