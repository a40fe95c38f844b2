/* SPDX-License-Identifier: MIT */
/* ferryd serving: everything is opened and confined before the first thread
 * starts, then one loop accepts and watches the signals, the others serve.
 *
 *   data, its lock, key, listeners -> Landlock -> loops -> ledger -> accounts
 *   -> vault (recovers) -> admin invite -> "listening" -> signals -> drain
 */
#include "daemon/serve.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <keel/co.h>
#include <keel/file.h>
#include <keel/debug.h>
#include <keel/lock.h>
#include <keel/net.h>
#include <keel/system.h>
#include <keel/tls.h>

#include "base/environment.h"
#include "base/log.h"
#include "daemon/admin.h"
#include "daemon/conf.h"
#include "daemon/data.h"
#include "daemon/house.h"
#include "daemon/listen.h"
#include "daemon/service.h"
#include "ledger/ledger.h"
#include "native/native.h"
#include "vault/vault.h"

#define LOOPS_MOST 64
/* An unfinished upload outlives its time by half of it, or an hour. */
#define EXPIRE_EVERY_S 3600
/* For the log's last lines. */
#define LOG_TIME (10 * KEEL_SECOND)

/* Closed in the opposite order of the fields.  `conf` is what counts now,
 * `first` what counted at the start; a reload replaces `conf`, which only
 * coroutines of the main loop read. */
struct server {
    int argc;
    char **argv;
    struct conf first, later;
    struct conf *conf;
    struct data data;
    struct keel_tls_config *tls;
    struct keel_listener *listeners[CONF_LISTEN_MOST];
    unsigned listener_count;
    bool given; /* they are the service manager's */
    struct keel_listener *admin;
    struct keel_signals *signals;
    struct keel_loop *loops[LOOPS_MOST];
    unsigned loop_count;
    struct ledger *ledger;
    struct accounts *accounts;
    struct vault *vault;
    struct native *native;
    struct keel_event reloaded; /* for who sleeps by a setting */
    struct house house;
    struct problem *why;
};

/* ---- before threads -------------------------------------------------------------- */

#define KILLED_TIME (3 * KEEL_SECOND)

/* A ferryd that was killed left its admin.sock, and the kernel may hold its
 * ports a little longer, until it has taken the rings of io_uring apart. */
static int listen_after(bool killed, const char *address,
                        struct keel_listener **ret)
{
    keel_ns end = keel_after(KILLED_TIME);
    int rc = keel_listen(address, ret);

    while (rc == -EADDRINUSE && killed && keel_now() < end) {
        (void)keel_sleep(keel_after(10 * KEEL_MS));
        rc = keel_listen(address, ret);
    }
    return rc;
}

/* What can be known of where to listen before DATA is made. */
static int server_look(struct server *s, struct problem *why)
{
    /* Sockets of the service manager take the place of --listen. */
    int rc = service_sockets(s->listeners, CONF_LISTEN_MOST, why);

    if (rc < 0)
        return rc;
    s->listener_count = (unsigned)rc;
    s->given = rc > 0;
    for (unsigned i = 0; s->listener_count == 0 && i < s->conf->listen_count;
         i++) {
        struct keel_address any;

        rc = keel_resolve(s->conf->listen[i], KEEL_FOREVER, &any, 1);
        if (rc < 0)
            return listen_failed(rc, s->conf->listen[i], why);
    }
    return 0;
}

static int server_listen(struct server *s, struct problem *why)
{
    struct statx st;
    bool killed = keel_file_stat(s->data.fd, "admin.sock", &st) == 0;

    if (s->listener_count > 0)
        return 0;
    for (unsigned i = 0; i < s->conf->listen_count; i++) {
        int rc = listen_after(killed, s->conf->listen[i], &s->listeners[i]);

        if (rc < 0)
            return listen_failed(rc, s->conf->listen[i], why);
        s->listener_count++;
    }
    return 0;
}

/* The address that invites carry: as told, else the first listener's, with
 * the machine's name where it listens on all addresses. */
static int server_public(struct server *s, struct problem *why)
{
    const char *told = s->conf->public_address;
    const char *first = keel_listener_address(s->listeners[0]);
    const char *port = strrchr(first, ':');
    char text[SERVER_BYTES], host[HOST_BYTES + 1] = "localhost";

    snprintf(text, sizeof(text), "%s", told ? told : first);
    if (!told && port &&
        (strncmp(first, "[::]:", 5) == 0 ||
         strncmp(first, "0.0.0.0:", 8) == 0)) {
        gethostname(host, sizeof(host) - 1);
        snprintf(text, sizeof(text), "%s%s", host, port);
    }
    return server_parse(text, strlen(text), s->house.server, why);
}

/* The directory that a file lies in: an editor or logrotate(8) puts another
 * file under its name.  "/dev/null" for no file. */
static void directory_of(const char *path, char ret[PATH_BYTES])
{
    const char *slash = path ? strrchr(path, '/') : NULL;

    if (!path)
        snprintf(ret, PATH_BYTES, "/dev/null");
    else if (!slash)
        snprintf(ret, PATH_BYTES, ".");
    else
        snprintf(ret, PATH_BYTES, "%.*s",
                 slash == path ? 1 : (int)(slash - path), path);
}

/* DATA alone, the settings, the log, and what the C library reads. */
static void server_confine(const struct server *s)
{
    char settings[PATH_BYTES], log[PATH_BYTES];
    const struct keel_place places[] = {
        {s->conf->data, true},
        {"/proc", false},
        {"/sys/devices/system", false},
        {"/etc/hosts", false},
        {"/etc/resolv.conf", false},
        {"/etc/nsswitch.conf", false},
        {"/etc/localtime", false},
        {"/usr/share/zoneinfo", false},
        {"/usr/lib", false},
        {"/lib", false},
        {settings, false},
        {log, true},
        {"/dev/null", true},
    };
    int rc;

    directory_of(s->conf->config, settings);
    directory_of(s->conf->log, log);
    rc = keel_confine(places, sizeof(places) / sizeof(*places));
    if (rc < 0)
        log_warn("not confined to %s: Landlock: %s", s->conf->data,
                 strerror(-rc));
}

/* For commands that run without the daemon.  A disk that is full, or read-only,
 * keeps nobody from starting. */
static void server_address(struct server *s)
{
    char was[SERVER_BYTES];
    struct problem why;
    char words[600], said[512];

    if (data_text_read(&s->data, "address", was, sizeof(was)) == 0 &&
        strcmp(was, s->house.server) == 0)
        return;
    if (data_text_write(&s->data, "address", s->house.server, &why) == 0)
        return;
    problem_sentence(&why, said, sizeof(said));
    log_warn(
        "result=%s words=%s Invites made while no ferryd runs will have the "
        "address of an earlier start.",
        problem_code(&why), text_quote_shown(said, words, sizeof(words)));
}

static int server_prepare(struct server *s, struct problem *why)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    struct keel_tls_pin pin;
    int rc = server_look(s, why);

    if (rc < 0)
        return rc;
    rc = data_open(s->conf->data, true, &s->data, why);
    if (rc < 0)
        return rc;
    rc = data_tls(&s->data, &s->tls, why);
    if (rc < 0)
        return rc;
    rc = keel_tls_own_pin(s->tls, &pin);
    if (rc < 0)
        return problem(why, DATA_ACCESS, .errno_ = -rc, .name = "tls/");
    memcpy(s->house.pin, pin.sha256, sizeof(s->house.pin));
    rc = server_listen(s, why);
    if (rc < 0)
        return rc;
    rc = server_public(s, why);
    if (rc < 0)
        return rc;
    server_address(s);
    rc = admin_listen(s->data.fd, &s->admin, why);
    if (rc < 0)
        return rc;
    rc = keel_signals_open(signals, 3, &s->signals);
    if (rc < 0)
        return problem(why, INTERNAL, .errno_ = -rc, .detail = "signals");
    server_confine(s);
    return 0;
}

/* ---- on the main loop --------------------------------------------------------------- */

static int server_open(struct server *s, struct problem *why)
{
    struct accounts_options ao = {
        .registration = s->conf->registration,
        .quota_bytes = s->conf->quota_bytes,
        .quota_files = s->conf->quota_files,
    };
    struct vault_options vo = {
        .data_dir = s->data.fd,
        .buffers = (unsigned)s->conf->buffers,
        .draft_ttl_s = s->conf->draft_ttl_s,
    };
    struct native_options no = {
        .registration = s->conf->registration,
        .tls = s->tls,
        .loops = s->loops,
        .connections_max = (unsigned)s->conf->connections,
        .sessions_max = (unsigned)s->conf->sessions,
        .handshake_timeout = s->conf->handshake_s * KEEL_SECOND,
        .login_timeout = s->conf->login_s * KEEL_SECOND,
        .agent = "ferryd " FERRYD_VERSION,
    };
    unsigned loops = (unsigned)s->conf->loops;
    int rc;

    if (!loops)
        loops = keel_cpu_count() < 4 ? keel_cpu_count() : 4;
    for (; s->loop_count < loops; s->loop_count++) {
        rc = keel_loop_start("serve", &s->loops[s->loop_count]);
        if (rc < 0)
            return problem(why, INTERNAL, .errno_ = -rc, .detail = "a thread");
    }
    rc = ledger_open(s->data.fd, &s->ledger, why);
    if (rc < 0)
        return rc;
    ao.ledger = vo.ledger = no.ledger = s->house.ledger = s->ledger;
    rc = accounts_open(&ao, &s->accounts, why);
    if (rc < 0)
        return rc;
    vo.accounts = no.accounts = s->house.accounts = s->accounts;
    rc = vault_open(&vo, &s->vault, why);
    if (rc < 0)
        return rc;
    no.vault = s->vault;
    no.loop_count = s->loop_count;
    rc = native_new(&no, &s->native);
    if (rc < 0)
        return problem(why, NO_MEMORY);
    s->house.dir = s->data.fd;
    s->house.vault = s->vault;
    s->house.native = s->native;
    s->house.loops = s->loops;
    s->house.loop_count = s->loop_count;
    s->house.started = keel_now();
    s->house.quota_bytes = s->conf->quota_bytes;
    s->house.quota_files = s->conf->quota_files;
    return 0;
}

static void server_close(struct server *s)
{
    for (unsigned i = 0; i < s->loop_count; i++)
        keel_loop_stop(s->loops[i]);
    native_free(s->native);
    vault_close(s->vault);
    accounts_close(s->accounts);
    ledger_close(s->ledger);
}

/* While nobody has an account, DATA/first-invite holds an administrator's
 * invite.  A restart keeps its secret, with the address of this start.  It is
 * good for the first account only, and not once its file was removed. */
static int server_first_invite(struct server *s, struct problem *why)
{
    static const char name[] = "first-invite";
    struct ledger_account any;
    char text[INVITE_LINK_BYTES];
    struct invite_link old;
    int count = ledger_account_list(s->ledger, "", &any, 1, why);
    int rc;

    if (count < 0)
        return count;
    if (count > 0) {
        rc = data_text_remove(&s->data, name);
        /* Its link lets nobody in any more, and is tried again next time. */
        if (rc < 0 && rc != -ENOENT)
            log_warn("%s cannot be removed: %s", name, strerror(-rc));
        return 0;
    }
    rc = data_text_read(&s->data, name, text, sizeof(text));
    if (rc == 0 && invite_link_parse(text, &old, NULL) == 0) {
        memcpy(old.server, s->house.server, sizeof(old.server));
        memcpy(old.pin, s->house.pin, sizeof(old.pin));
        invite_link_print(&old, text);
    } else {
        rc = ledger_invite_drop(s->ledger, LEDGER_FIRST, why);
        if (rc == 0)
            rc = admin_invite(&s->house, true, 1, (int64_t)10 * 31536000,
                              LEDGER_FIRST, text, why);
        if (rc < 0)
            return rc;
    }
    rc = data_text_write(&s->data, name, text, why);
    keel_wipe(text, sizeof(text));
    if (rc < 0)
        return rc;
    printf("first-invite %s/%s\n", s->conf->data, name);
    return 0;
}

struct accepting {
    struct server *server;
    struct keel_listener *listener;
};

static int run_accept(void *arg)
{
    struct accepting *a = arg;

    return native_accept(a->server->native, a->listener);
}

static int run_admin(void *arg)
{
    struct server *s = arg;

    int rc = admin_serve(&s->house, s->admin);

    if (rc < 0 && rc != -ECANCELED)
        log_error("admin.sock is not served: %s", strerror(-rc));
    return rc;
}

/* They are tried again at the next pass. */
static void expire_failed(int rc, const struct problem *why)
{
    char words[512];

    if (why->id == PROBLEM_NONE)
        snprintf(words, sizeof(words), "%s", strerror(-rc));
    else
        problem_sentence(why, words, sizeof(words));
    log_warn("unfinished uploads past their time could not be removed: %s",
             words);
}

static int run_expire(void *arg)
{
    struct server *s = arg;

    for (;;) {
        struct problem why = {0};
        int64_t every_s;
        int count, rc;

        /* A reload from here on is for the next pass. */
        keel_event_clear(&s->reloaded);
        count = vault_expire(s->vault, &why);
        every_s = s->conf->draft_ttl_s / 2;
        if (count > 0)
            log_info("removed %d unfinished upload%s past due", count,
                     text_plural(count));
        if (count < 0 && count != -ECANCELED)
            expire_failed(count, &why);
        if (every_s > EXPIRE_EVERY_S)
            every_s = EXPIRE_EVERY_S;
        rc = keel_event_wait(&s->reloaded, keel_after(every_s * KEEL_SECOND));
        if (count == -ECANCELED || rc == -ECANCELED)
            return -ECANCELED;
    }
}

static int run_watchdog(void *arg)
{
    struct server *s = arg;

    int rc = service_watch(s->loops, s->loop_count);

    if (rc < 0 && rc != -ECANCELED)
        log_error("the watchdog hears nothing more: %s", strerror(-rc));
    return rc;
}

/* ---- reload --------------------------------------------------------------------------- */

/* What changed, by name; what counts at the next start only is compared with
 * what counted at this one. */
static void reload_tell(const struct server *s, const struct conf *next)
{
    size_t count;
    const struct setting *table = conf_settings(&count);

    for (size_t i = 0; i < count; i++) {
        const struct setting *t = &table[i];

        if (conf_live(t) && conf_differ(t, s->conf, next))
            log_info("settings: %s.%s changed", t->section, t->key);
        if (!conf_live(t) && conf_differ(t, &s->first, next))
            log_warn("settings: %s.%s changed, and counts at the next start",
                     t->section, t->key);
    }
}

/* An open file is left where it is when the new one cannot be had. */
static void reload_log(const struct conf *c)
{
    char path[512];
    int rc = log_file(c->log);

    if (rc == 0)
        return;
    text_quote(c->log, strlen(c->log), path, sizeof(path));
    log_error("log: file=%s: %s; it stays where it was%s", path, strerror(-rc),
              rc == -EACCES ? " (a running ferryd reaches the directory of the "
                              "log it started with, and no other)"
                            : "");
}

static void reload_apply(struct server *s)
{
    const struct conf *c = s->conf;
    const struct accounts_options ao = {
        .registration = c->registration,
        .quota_bytes = c->quota_bytes,
        .quota_files = c->quota_files,
    };
    const struct native_options no = {
        .registration = c->registration,
        .connections_max = (unsigned)c->connections,
        .sessions_max = (unsigned)c->sessions,
        .handshake_timeout = c->handshake_s * KEEL_SECOND,
        .login_timeout = c->login_s * KEEL_SECOND,
    };

    log_most(conf_level(c));
    accounts_configure(s->accounts, &ao);
    native_configure(s->native, &no);
    vault_configure(s->vault, c->draft_ttl_s);
    s->house.quota_bytes = c->quota_bytes;
    s->house.quota_files = c->quota_files;
    keel_event_set(&s->reloaded);
}

/* Where to listen counts at the next start, which may be in the night: what could
 * not be listened on is told to who wrote it. */
static int reload_listen(const struct server *s, const struct conf *next,
                         struct problem *why)
{
    const char *was = s->first.listen_setting, *is = next->listen_setting;

    if (s->given || strcmp(was ? was : "", is ? is : "") == 0)
        return 0;
    return listen_try(next->listen, next->listen_count, s->listeners,
                      s->listener_count, why);
}

/* A file that is not right in every line changes nothing. */
static void server_reload(struct server *s)
{
    struct conf next;
    struct problem why = {0};
    char words[1100], said[1024];
    int rc;

    service_reloading();
    conf_init(&next);
    rc = conf_parse(&next, s->argc, s->argv, &why);
    if (rc == 0)
        rc = reload_listen(s, &next, &why);
    if (rc < 0) {
        problem_sentence(&why, said, sizeof(said));
        log_error(
            "settings: refused, and left as they were: result=%s words=%s",
            problem_code(&why), text_quote_shown(said, words, sizeof(words)));
        conf_fini(&next);
        reload_log(s->conf);
    } else {
        reload_tell(s, &next);
        conf_fini(&s->later);
        s->later = next;
        s->conf = &s->later;
        reload_log(s->conf);
        reload_apply(s);
        log_info("settings: read again");
    }
    service_ready(rc < 0 ? "serving; the settings file was refused"
                         : "serving");
}

/* Waits for the signal that ends it. */
static int server_watch(struct server *s)
{
    for (;;) {
        int signal = keel_signals_wait(s->signals, KEEL_FOREVER);

        if (signal != SIGHUP)
            return signal;
        server_reload(s);
    }
}

/* A second SIGTERM cuts the grace short. */
static int run_second_signal(void *arg)
{
    struct server *s = arg;

    int signal;

    do
        signal = keel_signals_wait(s->signals, KEEL_FOREVER);
    while (signal == SIGHUP); /* too late for settings */
    if (signal > 0) {
        log_warn("stopped at once");
        log_stop(keel_after(KEEL_SECOND));
        _exit(1);
    }
    return 0;
}

static void server_announce(struct server *s)
{
    for (unsigned i = 0; i < s->listener_count; i++)
        printf("listening %s\n", keel_listener_address(s->listeners[i]));
    fflush(stdout);
    log_info("serving %s, %s, %u loop%s", s->conf->data, keel_poller_name(),
             s->loop_count, text_plural(s->loop_count));
    service_ready("serving");
}

static int server_run(struct server *s, struct problem *why)
{
    keel_auto(group) struct keel_group *work = NULL, *last = NULL, *door = NULL;
    keel_ns grace;
    char status[64];
    unsigned left;
    struct accepting accepting[CONF_LISTEN_MOST];
    struct keel_spawn how = {.name = "accept"};
    int rc;

    rc = server_first_invite(s, why);
    if (rc < 0)
        return rc;
    rc = keel_group_new(0, &work);
    if (rc == 0)
        rc = keel_group_new(0, &last);
    if (rc == 0)
        rc = keel_group_new(0, &door);
    how.group = door;
    for (unsigned i = 0; i < s->listener_count && rc == 0; i++) {
        accepting[i] = (struct accepting){s, s->listeners[i]};
        rc = keel_spawn(&how, run_accept, &accepting[i], NULL);
    }
    how.name = "admin";
    how.group = work;
    if (rc == 0)
        rc = keel_spawn(&how, run_admin, s, NULL);
    how.name = "expire";
    if (rc == 0)
        rc = keel_spawn(&how, run_expire, s, NULL);
    /* Draining may take longer than a watchdog waits. */
    how.name = "watchdog";
    how.group = last;
    if (rc == 0)
        rc = keel_spawn(&how, run_watchdog, s, NULL);
    if (rc < 0)
        return problem(why, NO_MEMORY);
    server_announce(s);
    rc = server_watch(s);

    left = native_connections(s->native);
    log_info("%s: draining %u connection%s",
             rc < 0 ? "signals cannot be heard" : strsignal(rc), left,
             text_plural(left));
    grace = s->conf->grace_s * KEEL_SECOND;
    snprintf(status, sizeof(status), "draining %u connection%s", left,
             text_plural(left));
    service_stopping(grace + 30 * KEEL_SECOND, status);
    how.name = "signal";
    if (keel_spawn(&how, run_second_signal, s, NULL) < 0)
        log_warn("a second SIGTERM will not be heard");
    /* What they return is that they were cancelled; all else they logged. */
    keel_group_cancel(work);
    (void)keel_group_join(work, KEEL_FOREVER);
    /* Who comes meanwhile hears that it stops. */
    native_drain(s->native, keel_after(grace));
    keel_group_cancel(door);
    (void)keel_group_join(door, KEEL_FOREVER);
    native_turned_away(s->native);
    return rc < 0 ? rc : 0; /* not because somebody asked: a failure */
}

static int server_main(void *arg)
{
    struct server *s = arg;
    int rc = server_open(s, s->why);

    if (rc == 0)
        rc = server_run(s, s->why);
    server_close(s);
    return rc;
}

static int server_serve(struct server *s, struct problem *why)
{
    int rc;

    if (keel_is_root() && !s->conf->allow_root)
        return problem(why, ROOT_REFUSED);
    rc = s->conf->log ? log_file(s->conf->log) : 0;
    if (rc < 0)
        return problem(why, FILE_LOCAL, .errno_ = -rc, .name = s->conf->log);
    keel_descriptors_most();
    rc = server_prepare(s, why);
    if (rc == 0) {
        /* A log whose disk hangs is to hold no loop; what comes before is
         * written at once. */
        rc = log_start();
        if (rc < 0)
            log_warn("the log writes for itself: %s", strerror(-rc));
        rc = keel_dump_on_signal(SIGQUIT);
        if (rc < 0)
            log_warn("SIGQUIT will show no coroutines: %s", strerror(-rc));
        rc = keel_run(server_main, s);
        if (rc < 0 && why->id == PROBLEM_NONE)
            run_failed(rc, "the loop", why);
    }
    keel_signals_close(s->signals);
    keel_listener_close(s->admin);
    for (unsigned i = 0; i < s->listener_count; i++)
        keel_listener_close(s->listeners[i]);
    keel_tls_config_free(s->tls);
    data_close(&s->data);
    if (rc == 0)
        log_info("stopped");
    log_stop(keel_after(LOG_TIME));
    return rc;
}

int serve(int argc, char **argv, struct problem *why)
{
    struct server s = {
        .argc = argc, .argv = argv, .data = {-1, -1}, .why = why};
    int rc;

    s.conf = &s.first;
    keel_event_init(&s.reloaded);
    conf_init(&s.first);
    rc = conf_parse(&s.first, argc, argv, why);
    if (rc == 0) {
        log_open(2, conf_level(&s.first));
        rc = server_serve(&s, why);
    }
    conf_fini(&s.later);
    conf_fini(&s.first);
    return rc;
}
