/* SPDX-License-Identifier: MIT */
#include "daemon/stats.h"

#include <string.h>

#include <keel/file.h>
#include <keel/system.h>

#include "base/log.h"
#include "base/name.h"
#include "daemon/admin.h"
#include "daemon/conf.h"
#include "daemon/table.h"

enum unit { COUNT, BYTES, SPAN };

/* Every number there is: its key in JSON, which with "ferry_" before it is its
 * name in Prometheus. */
static const struct metric {
    const char *key, *type, *help;
    enum unit unit;
} metrics[] = {
    {"uptime_seconds", "gauge", "Time since the start.", SPAN},
    {"connections", "gauge", "Connections now.", COUNT},
    {"connections_accepted_total", "counter", "Connections accepted.", COUNT},
    {"connections_refused_total", "counter", "Connections refused at the cap.",
     COUNT},
    {"sessions", "gauge", "Connections that are logged in.", COUNT},
    {"logins_total", "counter", "Logins.", COUNT},
    {"logins_refused_total", "counter", "Logins that were refused.", COUNT},
    {"requests", "gauge", "Requests in progress.", COUNT},
    {"puts", "gauge", "Uploads in progress.", COUNT},
    {"gets", "gauge", "Downloads in progress.", COUNT},
    {"received_bytes_total", "counter", "Bytes of files received.", BYTES},
    {"sent_bytes_total", "counter", "Bytes of files sent.", BYTES},
    {"inline_bytes", "gauge", "Memory held by small files on their way in.",
     BYTES},
    {"accounts", "gauge", "Accounts.", COUNT},
    {"spaces", "gauge", "Shared spaces.", COUNT},
    {"files", "gauge", "Files, directories and links, in all spaces.", COUNT},
    {"file_bytes", "gauge", "Bytes of published files.", BYTES},
    {"drafts", "gauge", "Unfinished uploads that can be resumed.", COUNT},
    {"drafts_reserved_bytes", "gauge", "Room reserved for them.", BYTES},
    {"ledger_bytes", "gauge", "Size of the ledger, its log included.", BYTES},
    {"disk_free_bytes", "gauge", "Free on the disk of the data directory.",
     BYTES},
    {"disk_size_bytes", "gauge", "Size of that disk.", BYTES},
    {"process_memory_bytes", "gauge", "Resident memory of ferryd.", BYTES},
    {"process_descriptors", "gauge", "Open descriptors of ferryd.", COUNT},
    {"coroutines", "gauge", "Coroutines on all loops.", COUNT},
    {"log_dropped_total", "counter", "Log lines dropped for want of room.",
     COUNT},
};
#define METRICS (sizeof(metrics) / sizeof(*metrics))

/* ---- taking ------------------------------------------------------------------ */

static void put(json_t *j, const char *key, uint64_t n)
{
    json_object_set_new(
        j, key, json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n));
}

struct sums {
    uint64_t accounts, spaces, files, bytes, drafts, reserved;
};

static int add_space(struct house *h, const struct ledger_space *s, void *arg,
                     struct problem *why)
{
    struct sums *sums = arg;

    (void)h;
    (void)why;
    if (s->name[0])
        sums->spaces++;
    else
        sums->accounts++;
    sums->files += (uint64_t)s->used_files;
    sums->bytes += (uint64_t)s->used_bytes;
    sums->reserved += (uint64_t)s->reserved_bytes;
    return 0;
}

static int add_draft(const struct ledger_draft *d, void *arg)
{
    struct sums *sums = arg;

    (void)d;
    sums->drafts++;
    return 0;
}

static int take_ledger(struct house *h, json_t *j, struct problem *why)
{
    static const char *const names[] = {"ledger.db", "ledger.db-wal"};
    struct sums sums = {0};
    struct statfs disk;
    uint64_t size = 0;
    int rc = admin_spaces(h, add_space, &sums, why);

    if (rc == 0)
        rc = ledger_draft_list(h->ledger, INT64_MAX, add_draft, &sums, why);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct statx st;

        if (keel_file_stat(h->dir, names[i], &st) == 0)
            size += st.stx_size;
    }
    put(j, "accounts", sums.accounts);
    put(j, "spaces", sums.spaces);
    put(j, "files", sums.files);
    put(j, "file_bytes", sums.bytes);
    put(j, "drafts", sums.drafts);
    put(j, "drafts_reserved_bytes", sums.reserved);
    put(j, "ledger_bytes", size);
    if (keel_file_statfs(h->dir, &disk) == 0) {
        put(j, "disk_free_bytes",
            (uint64_t)disk.f_bavail * (uint64_t)disk.f_bsize);
        put(j, "disk_size_bytes",
            (uint64_t)disk.f_blocks * (uint64_t)disk.f_bsize);
    }
    return 0;
}

static void take_verbs(json_t *j, const struct native_counters *c)
{
    json_t *verbs = json_array();

    for (unsigned i = 0; i < c->verb_count && i < NATIVE_VERBS; i++)
        json_array_append_new(verbs,
                              json_pack("{s:s, s:I, s:I, s:I}", "verb",
                                        native_verb_name(i), "ok",
                                        (json_int_t)c->verbs[i].ok, "refused",
                                        (json_int_t)c->verbs[i].refused, "cut",
                                        (json_int_t)c->verbs[i].cut));
    json_object_set_new(j, "verbs", verbs);
}

static void take_native(struct house *h, json_t *j)
{
    struct native_counters c;

    native_stats(h->native, &c);
    put(j, "connections", c.connections_now);
    put(j, "connections_accepted_total", c.connections_accepted);
    put(j, "connections_refused_total", c.connections_refused);
    put(j, "sessions", c.sessions_now);
    put(j, "logins_total", c.logins);
    put(j, "logins_refused_total", c.logins_refused);
    put(j, "requests", c.requests_now);
    put(j, "puts", c.puts_now);
    put(j, "gets", c.gets_now);
    put(j, "received_bytes_total", c.bytes_in);
    put(j, "sent_bytes_total", c.bytes_out);
    put(j, "inline_bytes", c.inline_bytes_now);
    take_verbs(j, &c);
}

static void take_process(struct house *h, json_t *j)
{
    uint64_t all = keel_loop_load(keel_loop_current());
    json_t *loops = json_array();

    for (unsigned i = 0; i < h->loop_count; i++) {
        size_t load = keel_loop_load(h->loops[i]);

        all += load;
        json_array_append_new(loops, json_integer((json_int_t)load));
    }
    json_object_set_new(j, "loops", loops);
    put(j, "coroutines", all);
    put(j, "uptime_seconds",
        (uint64_t)(keel_now() - h->started) / (uint64_t)KEEL_SECOND);
    put(j, "process_memory_bytes", keel_process_memory());
    put(j, "process_descriptors", keel_process_descriptors());
    put(j, "log_dropped_total", log_dropped());
}

int stats_take(struct house *h, json_t **ret, struct problem *why)
{
    json_t *j = json_pack("{s:s, s:b}", "version", FERRYD_VERSION, "running",
                          h->native != NULL);
    int rc = j ? take_ledger(h, j, why) : problem(why, NO_MEMORY);

    if (rc < 0) {
        json_decref(j);
        return rc;
    }
    if (h->native) {
        take_native(h, j);
        take_process(h, j);
    }
    *ret = j;
    return 0;
}

/* ---- showing ------------------------------------------------------------------ */

static void show(enum unit unit, int64_t n, char ret[64])
{
    if (unit == BYTES)
        text_bytes(n > 0 ? (uint64_t)n : 0, ret);
    else if (unit == SPAN)
        snprintf(ret, 64, "%lldd %02lld:%02lld:%02lld", (long long)(n / 86400),
                 (long long)(n / 3600 % 24), (long long)(n / 60 % 60),
                 (long long)(n % 60));
    else
        snprintf(ret, 64, "%lld", (long long)n);
}

void stats_text(const json_t *stats, FILE *out)
{
    const json_t *verbs = json_object_get(stats, "verbs"), *v;
    size_t i;

    fprintf(out, "ferryd %s, %s\n\n", row_text(stats, "version"),
            row_true(stats, "running") ? "running" : "not running");
    for (i = 0; i < METRICS; i++) {
        char shown[64];

        if (!json_object_get(stats, metrics[i].key))
            continue;
        show(metrics[i].unit, row_number(stats, metrics[i].key), shown);
        fprintf(out, "%14s  %s\n", shown, metrics[i].help);
    }
    if (json_array_size(verbs) == 0)
        return;
    fprintf(out, "\n%-16s %10s %10s %10s\n", "REQUEST", "OK", "REFUSED", "CUT");
    json_array_foreach((json_t *)(uintptr_t)verbs, i, v)
    {
        if (row_number(v, "ok") + row_number(v, "refused") +
                row_number(v, "cut") ==
            0)
            continue;
        fprintf(out, "%-16.32s %10lld %10lld %10lld\n", row_text(v, "verb"),
                (long long)row_number(v, "ok"),
                (long long)row_number(v, "refused"),
                (long long)row_number(v, "cut"));
    }
}

/* A label's value: backslash, quote and newline are escaped. */
static void put_label(const char *value, FILE *out)
{
    for (; *value; value++) {
        if (*value == '\n')
            fputs("\\n", out);
        else if (*value == '\\' || *value == '"')
            fprintf(out, "\\%c", *value);
        else
            fputc(*value, out);
    }
}

static void prometheus_head(const char *key, const char *type, const char *help,
                            FILE *out)
{
    fprintf(out, "# HELP ferry_%s %s\n# TYPE ferry_%s %s\n", key, help, key,
            type);
}

static void prometheus_verbs(const json_t *verbs, FILE *out)
{
    static const char *const results[] = {"ok", "refused", "cut"};
    const json_t *v;
    size_t i;

    if (!json_is_array(verbs))
        return;
    prometheus_head("requests_total", "counter", "Requests by verb and result.",
                    out);
    json_array_foreach((json_t *)(uintptr_t)verbs, i, v)
    {
        for (size_t r = 0; r < sizeof(results) / sizeof(*results); r++) {
            fputs("ferry_requests_total{verb=\"", out);
            put_label(row_text(v, "verb"), out);
            fprintf(out, "\",result=\"%s\"} %lld\n", results[r],
                    (long long)row_number(v, results[r]));
        }
    }
}

void stats_prometheus(const json_t *stats, FILE *out)
{
    const json_t *loops = json_object_get(stats, "loops"), *load;
    size_t i;

    prometheus_head("info", "gauge", "The version that this is.", out);
    fputs("ferry_info{version=\"", out);
    put_label(row_text(stats, "version"), out);
    fputs("\"} 1\n", out);
    prometheus_head("up", "gauge", "Whether ferryd runs.", out);
    fprintf(out, "ferry_up %d\n", row_true(stats, "running"));
    for (i = 0; i < METRICS; i++) {
        const struct metric *m = &metrics[i];

        if (!json_object_get(stats, m->key))
            continue;
        prometheus_head(m->key, m->type, m->help, out);
        fprintf(out, "ferry_%s %lld\n", m->key,
                (long long)row_number(stats, m->key));
    }
    prometheus_verbs(json_object_get(stats, "verbs"), out);
    if (!json_is_array(loops))
        return;
    prometheus_head("loop_coroutines", "gauge", "Coroutines on a serving loop.",
                    out);
    json_array_foreach((json_t *)(uintptr_t)loops, i, load)
    {
        fprintf(out, "ferry_loop_coroutines{loop=\"%zu\"} %lld\n", i,
                (long long)json_integer_value(load));
    }
}
