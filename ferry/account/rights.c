/* SPDX-License-Identifier: MIT */
/* Who may do what: the one place where it is decided.
 *
 * All shared spaces and all grants are in memory, ordered, and read again from
 * the ledger by whoever first asks after a change.  A right is the union of the
 * grants at the path and at each directory above it: one binary search a
 * component, and for each of the actor and everybody. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "account/account_inside.h"

/* ---- words ----------------------------------------------------------------------- */
static const struct {
    enum right right;
    const char *name, *verb;
} rights[] = {
    {RIGHT_READ, "read", "read"},     {RIGHT_WRITE, "write", "write"},
    {RIGHT_LIST, "list", "list"},     {RIGHT_DELETE, "delete", "remove"},
    {RIGHT_DROP, "drop", "put into"}, {RIGHT_ADMIN, "admin", "administer"},
};
enum { RIGHTS = sizeof rights / sizeof *rights };

void rights_print(unsigned set, char ret[64])
{
    char *at = ret;

    for (size_t i = 0; i < RIGHTS; i++) {
        if (!(set & (unsigned)rights[i].right))
            continue;
        if (at > ret)
            *at++ = ',';
        at = stpcpy(at, rights[i].name);
    }
    if (at == ret)
        at = stpcpy(at, "none");
    *at = '\0';
}

static int right_parse(const char *text, size_t size, unsigned *set)
{
    for (size_t i = 0; i < RIGHTS; i++) {
        if (strlen(rights[i].name) == size &&
            memcmp(rights[i].name, text, size) == 0) {
            *set |= (unsigned)rights[i].right;
            return 0;
        }
    }
    if (size == 3 && memcmp(text, "all", 3) == 0) {
        *set |= RIGHTS_ALL;
        return 0;
    }
    return -EINVAL;
}

int rights_parse(const char *text, unsigned *ret)
{
    unsigned set = 0;

    if (strcmp(text, "none") == 0) {
        *ret = RIGHT_NONE;
        return 0;
    }
    for (;;) {
        size_t size = strcspn(text, ",");
        int rc = right_parse(text, size, &set);

        if (rc < 0)
            return rc;
        if (text[size] == '\0')
            break;
        text += size + 1;
    }
    *ret = set;
    return 0;
}

/* ---- what is in memory -------------------------------------------------------------- */
struct shared_space {
    int64_t id, owner;
    char name[SPACE_NAME_BYTES + 1];
};

struct granted {
    int64_t space, account;
    unsigned rights;
    char *path;
};

/* `spaces` by name, `grants` by (space, path, account) in the order of bytes,
 * as the ledger lists them.  Never changed once it is in `accounts`. */
struct sharing {
    uint64_t sharing;
    struct shared_space *spaces;
    struct granted *grants;
    size_t space_count, grant_count, grant_room;
};

void sharing_free(struct sharing *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->grant_count; i++)
        keel_free(s->grants[i].path);
    keel_free(s->grants);
    keel_free(s->spaces);
    keel_free(s);
}
KEEL_AUTO(sharing, struct sharing *, sharing_free)

void sharing_changed(struct accounts *a)
{
    keel_guard(&a->lock);

    a->sharing++;
}

enum { PAGE = 64 };

static int spaces_keep(struct sharing *s, const struct ledger_space *page,
                       size_t count)
{
    struct shared_space *more =
        keel_realloc(s->spaces, (s->space_count + count) * sizeof *s->spaces);

    if (!more)
        return -ENOMEM;
    s->spaces = more;
    for (size_t i = 0; i < count; i++) {
        struct shared_space *to = &s->spaces[s->space_count++];

        to->id = page[i].id;
        to->owner = page[i].owner;
        memcpy(to->name, page[i].name, sizeof to->name);
    }
    return 0;
}

static int spaces_load(struct ledger *l, struct sharing *s, struct problem *why)
{
    keel_auto(mem) void *memory =
        keel_calloc(PAGE, sizeof(struct ledger_space));
    struct ledger_space *page = memory;
    char after[SPACE_NAME_BYTES + 1] = "";
    int count;

    if (!page)
        return problem(why, NO_MEMORY);
    do {
        count = ledger_space_shared(l, after, page, PAGE, why);
        if (count < 0)
            return count;
        if (count > 0 && spaces_keep(s, page, (size_t)count) < 0)
            return problem(why, NO_MEMORY);
        if (count > 0)
            memcpy(after, page[count - 1].name, sizeof after);
    } while (count == PAGE);
    return 0;
}

static int grant_keep(const struct ledger_grant *g, void *arg)
{
    struct sharing *s = arg;
    struct granted *to;

    if (s->grant_count == s->grant_room) {
        size_t room = s->grant_room ? 2 * s->grant_room : PAGE;

        to = keel_realloc(s->grants, room * sizeof *to);
        if (!to)
            return -ENOMEM;
        s->grants = to;
        s->grant_room = room;
    }
    to = &s->grants[s->grant_count];
    *to =
        (struct granted){g->space, g->account, g->rights, keel_strdup(g->path)};
    if (!to->path)
        return -ENOMEM;
    s->grant_count++;
    return 0;
}

static int sharing_load(struct ledger *l, struct sharing **ret,
                        struct problem *why)
{
    keel_auto(sharing) struct sharing *s = keel_calloc(1, sizeof *s);
    int rc;

    if (!s)
        return problem(why, NO_MEMORY);
    rc = spaces_load(l, s, why);
    if (rc < 0)
        return rc;
    rc = ledger_grant_list(l, 0, -1, grant_keep, s, why);
    if (rc == -ENOMEM)
        return problem(why, NO_MEMORY);
    if (rc < 0)
        return rc;
    *ret = keel_take(s);
    return 0;
}

/* Reads it, with the lock dropped meanwhile. */
static int sharing_renew(struct accounts *a, struct problem *why)
{
    struct sharing *new = NULL, *old = NULL;
    uint64_t sharing = a->sharing;
    int rc;

    a->loading = true;
    keel_lock_drop(&a->lock);
    rc = sharing_load(a->options.ledger, &new, why);
    keel_lock_hold(&a->lock);
    a->loading = false;
    keel_cond_broadcast(&a->loaded);
    if (rc < 0)
        return rc;
    new->sharing = sharing;
    old = a->shared;
    a->shared = new;
    sharing_free(old);
    return 0;
}

/* On success the lock is held, and `a->shared` as new as it can be: nothing
 * that was changed before this call is missing in it. */
static int sharing_hold(struct accounts *a, struct problem *why)
{
    uint64_t wanted;
    int rc = 0;

    keel_lock_hold(&a->lock);
    wanted = a->sharing;
    while (rc == 0 && (!a->shared || a->shared->sharing < wanted)) {
        if (!a->loading)
            rc = sharing_renew(a, why);
        else if (keel_cond_wait(&a->loaded, &a->lock, KEEL_FOREVER) < 0)
            rc = problem(why, CANCELLED);
    }
    if (rc < 0)
        keel_lock_drop(&a->lock);
    return rc;
}

/* ---- looking it up --------------------------------------------------------------------- */
/* Orders a grant against (space, the first `size` bytes of `path`, account). */
static int grant_order(const struct granted *g, int64_t space, const char *path,
                       size_t size, int64_t account)
{
    size_t length = strlen(g->path);
    int order;

    if (g->space != space)
        return g->space < space ? -1 : 1;
    order = memcmp(g->path, path, length < size ? length : size);
    if (order == 0 && length != size)
        order = length < size ? -1 : 1;
    if (order == 0 && g->account != account)
        order = g->account < account ? -1 : 1;
    return order;
}

/* The first grant that is not before that key; grant_count: none. */
static size_t grant_first(const struct sharing *s, int64_t space,
                          const char *path, size_t size, int64_t account)
{
    size_t from = 0, to = s->grant_count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (grant_order(&s->grants[middle], space, path, size, account) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static unsigned grant_at(const struct sharing *s, int64_t space,
                         const char *path, size_t size, int64_t account)
{
    size_t i = grant_first(s, space, path, size, account);

    if (i == s->grant_count ||
        grant_order(&s->grants[i], space, path, size, account) != 0)
        return RIGHT_NONE;
    return s->grants[i].rights;
}

static const struct shared_space *space_by_id(const struct sharing *s,
                                              int64_t id)
{
    for (size_t i = 0; i < s->space_count; i++) {
        if (s->spaces[i].id == id)
            return &s->spaces[i];
    }
    return NULL;
}

static const struct shared_space *space_by_name(const struct sharing *s,
                                                const char *name)
{
    for (size_t i = 0; i < s->space_count; i++) {
        if (strcmp(s->spaces[i].name, name) == 0)
            return &s->spaces[i];
    }
    return NULL;
}

static bool is_masters(const struct shared_space *space,
                       const struct actor *who)
{
    return who->admin || space->owner == who->account;
}

static bool is_for(const struct granted *g, const struct actor *who)
{
    return g->account == 0 || g->account == who->account;
}

/* The union at `path` and above it. */
static unsigned granted_at(const struct sharing *s, const struct actor *who,
                           int64_t space, const struct path *path)
{
    unsigned set =
        grant_at(s, space, "", 0, 0) | grant_at(s, space, "", 0, who->account);

    for (unsigned i = 0; path && i < path->count; i++) {
        size_t size =
            i + 1 < path->count ? path->start[i + 1] - 1u : path->size;

        set |= grant_at(s, space, path->text, size, 0) |
               grant_at(s, space, path->text, size, who->account);
    }
    return set;
}

/* Whether something is granted strictly below `path`. */
static bool granted_below(const struct sharing *s, const struct actor *who,
                          int64_t space, const struct path *path)
{
    char key[PATH_BYTES + 2] = "";
    size_t size = 0;

    if (path && path->count) {
        memcpy(key, path->text, path->size);
        key[path->size] = '/';
        size = path->size + 1u;
    }
    for (size_t i = grant_first(s, space, key, size, -1); i < s->grant_count;
         i++) {
        const struct granted *g = &s->grants[i];

        if (g->space != space || strncmp(g->path, key, size) != 0)
            return false;
        if (g->path[0] && is_for(g, who))
            return true;
    }
    return false;
}

/* Whether something is granted at the very path, whatever is above it. */
static bool granted_here(const struct sharing *s, const struct actor *who,
                         int64_t space, const struct path *path)
{
    return (grant_at(s, space, path->text, path->size, 0) |
            grant_at(s, space, path->text, path->size, who->account)) != 0;
}

/* What the actor has anywhere in the space. */
static unsigned granted_in(const struct sharing *s, const struct actor *who,
                           const struct shared_space *space)
{
    unsigned set = RIGHT_NONE;

    if (is_masters(space, who))
        return RIGHTS_ALL;
    for (size_t i = grant_first(s, space->id, "", 0, -1);
         i < s->grant_count && s->grants[i].space == space->id; i++) {
        if (is_for(&s->grants[i], who))
            set |= s->grants[i].rights;
    }
    return set;
}

/* ---- rights --------------------------------------------------------------------------------- */
struct answer {
    unsigned rights; /* at the path */
    /* If that was asked: something is granted at the very path, or below. */
    bool here, below;
};

static int look(struct accounts *a, const struct actor *who, int64_t space,
                const struct path *path, bool leads, struct answer *ret,
                struct problem *why)
{
    const struct shared_space *shared;
    struct answer answer = {RIGHT_NONE, false, false};
    int rc;

    if (space == 0 || space == who->home) {
        *ret = (struct answer){RIGHTS_ALL, true, true};
        return 0;
    }
    rc = sharing_hold(a, why);
    if (rc < 0)
        return rc;
    /* Another's home is not among them, and nobody's but its owner's. */
    shared = space_by_id(a->shared, space);
    if (shared && is_masters(shared, who)) {
        answer = (struct answer){RIGHTS_ALL, true, true};
    } else if (shared) {
        answer.rights = granted_at(a->shared, who, space, path);
        answer.here = leads && granted_here(a->shared, who, space, path);
        answer.below = leads && granted_below(a->shared, who, space, path);
    }
    keel_lock_drop(&a->lock);
    if (answer.rights & RIGHT_WRITE)
        answer.rights |= RIGHT_DROP;
    *ret = answer;
    return 0;
}

static const char *verb_of(unsigned missing, unsigned has)
{
    /* A grant to read is what would help. */
    if (missing & RIGHT_LOOK)
        return "read";
    /* Who may drop is refused because something is there already. */
    if (missing & RIGHT_WRITE && has & RIGHT_DROP)
        return "replace";
    for (size_t i = 0; i < RIGHTS; i++) {
        if (missing & (unsigned)rights[i].right)
            return rights[i].verb;
    }
    return "do that to";
}

int account_may(struct accounts *a, const struct actor *who, int64_t space,
                const struct path *path, enum right need, struct problem *why)
{
    struct answer answer;
    unsigned has, missing;
    int rc;

    rc = look(a, who, space, path, need & (RIGHT_LIST | RIGHT_LOOK), &answer,
              why);
    if (rc < 0)
        return rc;
    has = answer.rights | (who->admin ? RIGHT_ADMIN : 0u);
    if (answer.below) /* what leads to it can be seen */
        has |= RIGHT_LIST;
    if (has & (RIGHT_LIST | RIGHT_READ) || answer.here)
        has |= RIGHT_LOOK;
    missing = (unsigned)need & ~has;
    /* Nothing needed is a verb that nobody thought of: refused, too. */
    if (!missing && need != RIGHT_NONE)
        return 0;
    return problem(why, RIGHT_MISSING, .detail = verb_of(missing, has),
                   .name = shown_path(path ? path->text : "").text);
}

bool account_list_all(struct accounts *a, const struct actor *who,
                      int64_t space, const struct path *path)
{
    struct answer answer;

    return look(a, who, space, path, false, &answer, NULL) == 0 &&
           answer.rights & RIGHT_LIST;
}

bool account_leads(struct accounts *a, const struct actor *who, int64_t space,
                   const struct path *path)
{
    struct answer answer;

    return look(a, who, space, path, true, &answer, NULL) == 0 &&
           (answer.rights & RIGHT_LIST || answer.here || answer.below);
}

/* ---- spaces ------------------------------------------------------------------------------------ */
int account_space(struct accounts *a, const struct actor *who, const char *name,
                  int64_t *ret, struct problem *why)
{
    const struct shared_space *space;
    int64_t id = 0;
    int rc;

    if (name[0] == '\0') {
        *ret = who->home;
        return 0;
    }
    rc = sharing_hold(a, why);
    if (rc < 0)
        return rc;
    space = space_by_name(a->shared, name);
    if (space && granted_in(a->shared, who, space))
        id = space->id;
    keel_lock_drop(&a->lock);
    if (id == 0)
        return problem(why, SPACE_UNKNOWN, .name = name);
    *ret = id;
    return 0;
}

/* Numbers and rights only, as the lock is held. */
static int entries_find(struct accounts *a, const struct actor *who,
                        struct space_entry *ret, unsigned max,
                        struct problem *why)
{
    unsigned count = 0;
    int rc;

    rc = sharing_hold(a, why);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < a->shared->space_count && count < max; i++) {
        const struct shared_space *space = &a->shared->spaces[i];
        unsigned set = granted_in(a->shared, who, space);

        if (set == RIGHT_NONE)
            continue;
        ret[count].space.id = space->id;
        ret[count++].rights = set;
    }
    keel_lock_drop(&a->lock);
    return (int)count;
}

int account_spaces(struct accounts *a, const struct actor *who,
                   struct space_entry *ret, unsigned max, struct problem *why)
{
    int found, count = 1, rc;

    if (max == 0)
        return 0;
    rc = ledger_space_get(a->options.ledger, who->home, &ret[0].space, why);
    if (rc < 0)
        return rc;
    ret[0].rights = RIGHTS_ALL;
    found = entries_find(a, who, ret + 1, max - 1, why);
    for (int i = 1; i <= found; i++) {
        struct problem said = {0};

        rc = ledger_space_get(a->options.ledger, ret[i].space.id,
                              &ret[count].space, &said);
        if (rc < 0 && said.id == PROBLEM_FILE_MISSING)
            continue; /* gone meanwhile */
        if (rc < 0) {
            if (why)
                *why = said;
            return rc;
        }
        ret[count++].rights = ret[i].rights;
    }
    return found < 0 ? found : count;
}
