/* SPDX-License-Identifier: MIT */
/* The singleton: ten threads ask for the one settings object, which the first
 * of them makes while the others wait.
 *
 *     cc once.c $(pkg-config --cflags --libs keel) && ./a.out */
#include <stdatomic.h>
#include <stdio.h>

#include <keel/lock.h>
#include <keel/thread.h>

struct settings {
    int answer;
};

static struct settings *the_settings;
static _Atomic int made;

static int make_settings(void *arg)
{
    static struct settings settings;

    (void)arg;
    made++;
    settings.answer = 42;
    the_settings = &settings;
    return 0;
}

static struct settings *settings_get(void)
{
    static struct keel_once once = KEEL_ONCE_INIT;

    if (keel_once(&once, make_settings, NULL, KEEL_FOREVER) < 0)
        return NULL;
    return the_settings;
}

static int ask(void *arg)
{
    struct settings *s = settings_get();

    *(struct settings **)arg = s;
    return s ? s->answer : -1;
}

int main(void)
{
    struct keel_thread *thread[10];
    struct settings *got[10];
    int answer, same = 0;

    for (int i = 0; i < 10; i++)
        if (keel_thread_start("asks", ask, &got[i], &thread[i]) < 0)
            return 1;
    for (int i = 0; i < 10; i++) {
        keel_thread_join(thread[i], KEEL_FOREVER, &answer);
        same += got[i] == settings_get() && answer == 42;
    }
    printf("made %d time, the same for %d threads\n", made, same);
    return 0;
}
