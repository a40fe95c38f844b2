/* SPDX-License-Identifier: MIT */
#include "client/home.h"
#include "client/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <keel/file.h>

#include "base/base64.h"
#include "client/text.h"

#define FILE_MOST 65536

/* ---- directories ---------------------------------------------------------------- */

/* Opens a directory by any path, making the missing ones on the way. */
static int make_path(const char *path, struct problem *why)
{
    keel_auto(str) char *copy = keel_strdup(path);
    int dir, rc = 0;
    char *rest = NULL;

    if (!copy)
        return problem(why, NO_MEMORY);
    dir = keel_file_open_any(path[0] == '/' ? "/" : ".", O_RDONLY | O_DIRECTORY,
                             0);
    for (char *name = strtok_r(copy, "/", &rest); name && dir >= 0;
         name = strtok_r(NULL, "/", &rest)) {
        char step[4096];
        int next;

        /* What the user named may contain links and "..". */
        snprintf(step, sizeof(step), "%.*s",
                 (int)((size_t)(name - copy) + strlen(name)), path);
        next = keel_file_open_any(step, O_RDONLY | O_DIRECTORY, 0);
        if (next == -ENOENT) {
            rc = keel_file_mkdir(dir, name, 0700);
            next = rc < 0 && rc != -EEXIST
                       ? rc
                       : keel_file_open_any(step, O_RDONLY | O_DIRECTORY, 0);
        }
        keel_file_close(dir);
        dir = next;
    }
    if (dir < 0)
        return problem(why, FILE_LOCAL, .errno_ = -dir, .name = path);
    return dir;
}

static int sub_open(int dir, const char *name, struct problem *why)
{
    int rc = keel_file_mkdir(dir, name, 0700);
    int fd = rc < 0 && rc != -EEXIST
                 ? rc
                 : keel_file_open(dir, name, O_RDONLY | O_DIRECTORY, 0);

    if (fd < 0)
        return problem(why, FILE_LOCAL, .errno_ = -fd, .name = name);
    return fd;
}

int home_open(struct home *ret, struct problem *why)
{
    const char *told = getenv("FERRY_HOME");
    const char *config = getenv("XDG_CONFIG_HOME");
    const char *user = getenv("HOME");
    struct home h = {-1, -1, -1};
    char path[4096];

    if (told && *told)
        snprintf(path, sizeof(path), "%s", told);
    else if (config && *config)
        snprintf(path, sizeof(path), "%s/ferry", config);
    else if (user && *user)
        snprintf(path, sizeof(path), "%s/.config/ferry", user);
    else
        return problem(why, USAGE,
                       .detail = "neither FERRY_HOME nor HOME is set");
    h.fd = make_path(path, why);
    if (h.fd < 0)
        return h.fd;
    h.profiles = sub_open(h.fd, "profiles", why);
    if (h.profiles >= 0)
        h.journals = sub_open(h.fd, "journals", why);
    if (h.profiles < 0 || h.journals < 0) {
        int rc = h.profiles < 0 ? h.profiles : h.journals;

        home_close(&h);
        return rc;
    }
    *ret = h;
    return 0;
}

void home_close(struct home *h)
{
    keel_file_close(h->journals);
    keel_file_close(h->profiles);
    keel_file_close(h->fd);
}

/* ---- files --------------------------------------------------------------------------- */

static int file_store(int dir, const char *name, const char *text,
                      struct problem *why)
{
    keel_auto(file) int fd = -1;
    char temporary[PROFILE_BYTES + 16];
    int rc;

    snprintf(temporary, sizeof(temporary), ".%s.new", name);
    fd = keel_file_open(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    rc = fd < 0 ? fd : keel_file_write(fd, text, strlen(text), 0);
    if (rc == 0)
        rc = keel_file_sync(fd);
    if (rc == 0)
        rc = keel_file_rename(dir, temporary, dir, name, 0);
    if (rc == 0)
        rc = keel_file_sync(dir);
    if (rc < 0)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = name);
    return 0;
}

/* Into fresh memory with a NUL behind; -ENOENT without a problem. */
static int file_load(int dir, const char *name, char **ret, struct problem *why)
{
    keel_auto(file) int fd = keel_file_open(dir, name, O_RDONLY, 0);
    keel_auto(str) char *text = NULL;
    ssize_t size;

    if (fd == -ENOENT)
        return -ENOENT;
    if (fd < 0)
        return problem(why, FILE_LOCAL, .errno_ = -fd, .name = name);
    text = keel_alloc(FILE_MOST);
    if (!text)
        return problem(why, NO_MEMORY);
    size = keel_file_read(fd, text, FILE_MOST, 0);
    if (size < 0)
        return problem(why, FILE_LOCAL, .errno_ = (int)-size, .name = name);
    if (size == FILE_MOST)
        return problem(why, FILE_TOO_LARGE, .name = name, .size = FILE_MOST,
                       .limit = FILE_MOST - 1);
    text[size] = 0;
    *ret = keel_take(text);
    return 0;
}

static int json_load(int dir, const char *name, json_t **ret,
                     struct problem *why)
{
    keel_auto(str) char *text = NULL;
    json_error_t error;
    int rc = file_load(dir, name, &text, why);

    if (rc < 0)
        return rc;
    *ret = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    keel_wipe(text, strlen(text));
    if (!json_is_object(*ret)) {
        json_decref(*ret);
        return problem(why, SETTING_INVALID, .name = name,
                       .limit = (uint64_t)(error.line > 0 ? error.line : 1),
                       .detail =
                           "it cannot be read; remove it and log in again");
    }
    return 0;
}

static int json_store(int dir, const char *name, json_t *j, struct problem *why)
{
    char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    int rc;

    json_decref(j);
    if (!text)
        return problem(why, NO_MEMORY);
    rc = file_store(dir, name, text, why);
    keel_wipe(text, strlen(text));
    free(text);
    return rc;
}

/* ---- profiles ---------------------------------------------------------------------------- */

int profile_name_check(const char *name, struct problem *why)
{
    size_t size = strlen(name);
    bool ok = size >= 1 && size <= PROFILE_BYTES && name[0] != '.';

    for (size_t i = 0; i < size && ok; i++)
        ok = isalnum((unsigned char)name[i]) || strchr("._-@", name[i]);
    if (!ok)
        return problem(why, USAGE,
                       .detail = "a profile's name is 1 to 64 letters, digits, "
                                 "'.', '_', '-', '@'");
    return 0;
}

struct others {
    char text[PROBLEM_TEXT_BYTES];
    size_t size;
    bool more;
};

static int others_add(const char *name, void *arg)
{
    struct others *o = arg;
    size_t room = sizeof(o->text) - o->size;
    int size =
        snprintf(o->text + o->size, room, "%s%s", o->size ? ", " : "", name);

    if ((size_t)size + sizeof(", ...") > room) {
        o->text[o->size] = 0;
        o->more = true;
    } else if (!o->more) {
        o->size += (size_t)size;
    }
    return 0;
}

/* Who logged out of the profile in use has others perhaps. */
static int login_needed(const struct home *h, struct problem *why)
{
    struct others o = {.size = 0};

    if (profile_each(h, others_add, &o, NULL) < 0 || o.size == 0)
        return problem(why, LOGIN_NEEDED);
    if (o.more)
        snprintf(o.text + o.size, sizeof(o.text) - o.size, ", ...");
    return problem(why, LOGIN_WHICH, .detail = o.text);
}

static int profile_default(const struct home *h, char ret[PROFILE_BYTES + 1],
                           struct problem *why)
{
    keel_auto(str) char *text = NULL;
    int rc;

    rc = file_load(h->fd, "default", &text, why);
    if (rc == -ENOENT)
        return login_needed(h, why);
    if (rc < 0)
        return rc;
    text[strcspn(text, "\n")] = 0;
    if (profile_name_check(text, NULL) < 0)
        return problem(why, SETTING_INVALID, .name = "default", .limit = 1,
                       .detail = "it is damaged; log in again, or use --as");
    snprintf(ret, PROFILE_BYTES + 1, "%s", text);
    return 0;
}

static int profile_read(const json_t *j, struct profile *ret)
{
    const char *user = json_string_value(json_object_get(j, "user"));
    const char *server = json_string_value(json_object_get(j, "server"));
    const char *key = json_string_value(json_object_get(j, "key"));

    if (!user || !server || strlen(user) > ACCOUNT_NAME_BYTES ||
        server_parse(server, strlen(server), ret->login.server, NULL) < 0)
        return -EINVAL;
    snprintf(ret->login.user, sizeof(ret->login.user), "%s", user);
    ret->device = json_integer_value(json_object_get(j, "device"));
    if (ret->device &&
        (!key || base64_decode(BASE64_STANDARD, key, strlen(key), ret->key,
                               sizeof(ret->key)) != 32))
        return -EINVAL;
    return 0;
}

int profile_load(const struct home *h, const char *name, struct profile *ret,
                 struct problem *why)
{
    const char *words =
        N_("there is no profile '%s'; 'ferry profiles' lists yours, and "
           "any server's file is ferry://USER@HOST/path");
    char file[PROFILE_BYTES + 8];
    json_t *j;
    int rc;

    memset(ret, 0, sizeof(*ret));
    if (!name || !*name) {
        name = getenv("FERRY_PROFILE");
        words =
            N_("FERRY_PROFILE asks for the profile '%s', which is not here; "
               "'ferry profiles' lists yours");
    }
    if (name && *name)
        snprintf(ret->name, sizeof(ret->name), "%.*s", PROFILE_BYTES, name);
    else {
        rc = profile_default(h, ret->name, why);
        if (rc < 0)
            return rc;
    }
    rc = profile_name_check(ret->name, why);
    if (rc < 0)
        return rc;
    snprintf(file, sizeof(file), "%s.json", ret->name);
    rc = json_load(h->profiles, file, &j, why);
    if (rc == -ENOENT && name && *name) {
        char detail[PROBLEM_TEXT_BYTES];

        snprintf(detail, sizeof(detail), _(words), ret->name);
        return problem(why, USAGE, .detail = detail);
    }
    if (rc == -ENOENT)
        return login_needed(h, why);
    if (rc < 0)
        return rc;
    rc = profile_read(j, ret);
    json_decref(j);
    if (rc < 0)
        return problem(why, SETTING_INVALID, .name = file, .limit = 1,
                       .detail = "it is damaged; log in again");
    return 0;
}

int profile_store(const struct home *h, const struct profile *p,
                  struct problem *why)
{
    char file[PROFILE_BYTES + 8], key[BASE64_TEXT_BYTES(32)];
    json_t *j;
    int rc = profile_name_check(p->name, why);

    if (rc < 0)
        return rc;
    base64_encode(BASE64_STANDARD, p->key, sizeof(p->key), key);
    j = json_pack("{s:s, s:s, s:I}", "user", p->login.user, "server",
                  p->login.server, "device", (json_int_t)p->device);
    if (p->device)
        json_add(&j, "key", json_string(key));
    keel_wipe(key, sizeof(key));
    snprintf(file, sizeof(file), "%s.json", p->name);
    rc = json_store(h->profiles, file, j, why);
    if (rc < 0)
        return rc;
    return profile_make_default(h, p->name, why);
}

int profile_make_default(const struct home *h, const char *name,
                         struct problem *why)
{
    return file_store(h->fd, "default", name, why);
}

#define PROFILES_MOST 1000
struct profile_names {
    char (*names)[PROFILE_BYTES + 1];
    size_t count;
};

static int profile_found(const char *name, unsigned char type, void *arg)
{
    struct profile_names *all = arg;
    size_t size = strlen(name);

    (void)type;
    if (size < 6 || size - 5 > PROFILE_BYTES || name[0] == '.' ||
        strcmp(name + size - 5, ".json") != 0)
        return 0;
    snprintf(all->names[all->count], PROFILE_BYTES + 1, "%.*s", (int)size - 5,
             name);
    return ++all->count == PROFILES_MOST;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

int profile_each(const struct home *h, int (*fn)(const char *name, void *arg),
                 void *arg, struct problem *why)
{
    struct profile_names all = {keel_calloc(PROFILES_MOST, PROFILE_BYTES + 1),
                                0};
    int rc;

    if (!all.names)
        return problem(why, NO_MEMORY);
    rc = keel_file_list(h->profiles, profile_found, &all);
    if (rc < 0)
        rc = problem(why, FILE_LOCAL, .errno_ = -rc, .name = "profiles");
    else
        rc = 0;
    qsort(all.names, all.count, PROFILE_BYTES + 1, by_name);
    for (size_t i = 0; i < all.count && rc == 0; i++)
        rc = fn(all.names[i], arg);
    keel_free(all.names);
    return rc;
}

int profile_remove(const struct home *h, const char *name, struct problem *why)
{
    keel_auto(str) char *text = NULL;
    char file[PROFILE_BYTES + 8];
    int rc = profile_name_check(name, why);

    if (rc < 0)
        return rc;
    snprintf(file, sizeof(file), "%s.json", name);
    rc = keel_file_unlink(h->profiles, file);
    if (rc < 0 && rc != -ENOENT)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = file);
    rc = file_load(h->fd, "default", &text, why);
    if (rc == 0 && strcmp(text, name) == 0)
        keel_file_unlink(h->fd, "default");
    return 0;
}

/* ---- pins ------------------------------------------------------------------------------------ */

static const char pins[] = "pins.json";

int pin_load(const struct home *h, const char *server, bool *ret_known,
             uint8_t ret[32], struct problem *why)
{
    const char *text;
    json_t *j, *pin;
    int rc = json_load(h->fd, pins, &j, why);

    *ret_known = false;
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;
    pin = json_object_get(j, server);
    text = json_string_value(pin);
    /* A pin that cannot be read is not "no pin". */
    if (pin && (!text || base64_decode(BASE64_STANDARD, text, strlen(text), ret,
                                       32) != 32))
        rc = problem(why, SETTING_INVALID, .name = pins, .limit = 1,
                     .detail = "a pin is damaged");
    else
        *ret_known = text != NULL;
    json_decref(j);
    return rc;
}

int pin_store(const struct home *h, const char *server, const uint8_t pin[32],
              struct problem *why)
{
    char text[BASE64_TEXT_BYTES(32)];
    json_t *j = NULL;
    int rc = json_load(h->fd, pins, &j, why);

    if (rc == -ENOENT)
        j = json_object();
    else if (rc < 0)
        return rc;
    base64_encode(BASE64_STANDARD, pin, 32, text);
    if (json_object_set_new(j, server, json_string(text)) < 0) {
        json_decref(j);
        return problem(why, NO_MEMORY);
    }
    return json_store(h->fd, pins, j, why);
}
