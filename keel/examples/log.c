/* SPDX-License-Identifier: MIT */
/* A log: four threads and a signal handler write lines of key=value, and what
 * somebody outside chose cannot pass for another field.
 *
 *     cc log.c $(pkg-config --cflags --libs keel) && ./a.out
 *
 * keel_log(NULL, ...) goes to standard error; here it is a log of its own, on
 * standard output.  Under a journal, or with a file, only one line of main()
 * would be another: keel_log_to_file(log, "/var/log/x"). */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <keel/log.h>
#include <keel/thread.h>

static struct keel_log *out, *kept;

static void on_signal(int number)
{
    keel_log(out, KEEL_LOG_WARN, "from a handler",
             KEEL_LOG_INT("signal", number));
}

static int work(void *arg)
{
    const char *name = arg;

    for (int i = 0; i < 1000; i++)
        keel_log(kept, KEEL_LOG_INFO, "a step", KEEL_LOG_TEXT("worker", name),
                 KEEL_LOG_INT("step", i));
    return 0;
}

/* The lines without their date. */
static void show(int reader)
{
    char line[KEEL_LOG_LINE_BYTES + 1];
    ssize_t n = read(reader, line, sizeof line - 1);
    char *level;

    line[n > 0 ? n : 0] = '\0';
    for (char *at = strtok(line, "\n"); at; at = strtok(NULL, "\n"))
        if ((level = strstr(at, "level=")))
            puts(level);
}

int main(void)
{
    struct keel_thread *t[4];
    int shown[2];
    FILE *file = tmpfile();
    char line[200];
    int lines = 0, whole = 0;

    if (!file || pipe(shown) < 0 ||
        keel_log_new(shown[1], KEEL_LOG_INFO, &out) < 0 ||
        keel_log_new(fileno(file), KEEL_LOG_INFO, &kept) < 0 ||
        keel_log_start(out, 0) < 0 || keel_log_start(kept, 4096) < 0)
        return 1;

    signal(SIGUSR1, on_signal);
    keel_log(out, KEEL_LOG_INFO, "somebody came",
             KEEL_LOG_TEXT("name", "ada' level=error x='"),
             KEEL_LOG_SPAN("after", 1500 * KEEL_MS));
    keel_log(out, KEEL_LOG_DEBUG, "is not wanted");
    raise(SIGUSR1);
    keel_log_stop(out, KEEL_FOREVER);
    show(shown[0]);

    for (int i = 0; i < 4; i++)
        if (keel_thread_start("worker", work, "one of four", &t[i]) < 0)
            return 1;
    for (int i = 0; i < 4; i++)
        keel_thread_join(t[i], KEEL_FOREVER, NULL);
    keel_log_stop(kept, KEEL_FOREVER);
    rewind(file);
    while (fgets(line, sizeof line, file)) {
        lines++;
        whole += !strncmp(line, "time=", 5) && strstr(line, "'a step'\n");
    }
    printf("four threads: %d lines, %d of them whole, %d dropped\n", lines,
           whole, (int)keel_log_dropped(kept));
    keel_log_free(out);
    keel_log_free(kept);
    return 0;
}
