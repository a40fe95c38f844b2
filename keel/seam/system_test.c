/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <keel/co.h>
#include <keel/system.h>

/* Runs fn in a child and returns its exit status: confinement is for good. */
static int in_child(int (*fn)(const char *dir), const char *dir)
{
    pid_t pid = fork();
    int status;

    if (pid == 0)
        _exit(fn(dir));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int can_open(const char *dir, const char *name, int flags)
{
    char path[512];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, flags, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0 ? 1 : 0;
}

static int confined(const char *dir)
{
    char in[300], out[300];
    struct keel_place places[] = {{in, true}, {"/no/such/place", true}};
    int rc;

    snprintf(in, sizeof(in), "%s/in", dir);
    snprintf(out, sizeof(out), "%s/out", dir);
    rc = keel_confine(places, 2);
    if (rc == -ENOSYS || rc == -EOPNOTSUPP)
        return 77;
    if (rc < 0)
        return 1;
    if (!can_open(in, "new", O_CREAT | O_RDWR | O_EXCL))
        return 2;
    if (!can_open(in, "new", O_RDWR | O_TRUNC))
        return 3;
    if (can_open(out, "new", O_CREAT | O_RDWR) ||
        can_open(out, "old", O_RDONLY))
        return 4;
    if (access("/bin/true", X_OK) == 0 && fork() == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(errno == EACCES ? 0 : 9);
    }
    int status = 0;

    wait(&status);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 5;
}

static void confinement_leaves_only_the_places(void **state)
{
    char dir[] = "/tmp/keel-process.XXXXXX", path[300];
    int rc, fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/in", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/out", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/out/old", dir);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);

    rc = in_child(confined, dir);

    unlink(path);
    snprintf(path, sizeof(path), "%s/out", dir);
    rmdir(path);
    snprintf(path, sizeof(path), "%s/in/new", dir);
    unlink(path);
    snprintf(path, sizeof(path), "%s/in", dir);
    rmdir(path);
    rmdir(dir);
    if (rc == 77)
        skip();
    assert_int_equal(rc, 0);
}

static int wait_for_two(void *arg)
{
    struct keel_signals *s = arg;

    if (keel_signals_wait(s, KEEL_NOW) != -ETIMEDOUT)
        return 1;
    kill(getpid(), SIGHUP);
    if (keel_signals_wait(s, keel_after(5 * KEEL_SECOND)) != SIGHUP)
        return 2;
    kill(getpid(), SIGTERM);
    if (keel_signals_wait(s, keel_after(5 * KEEL_SECOND)) != SIGTERM)
        return 3;
    return 0;
}

static int signals_in_loop(const char *dir)
{
    const int which[] = {SIGTERM, SIGHUP};
    struct keel_signals *s;
    int rc;

    (void)dir;
    if (keel_signals_open(which, 2, &s) < 0)
        return 10;
    rc = keel_run(wait_for_two, s);
    keel_signals_close(s);
    return rc;
}

static int signals_in_thread(const char *dir)
{
    const int which[] = {SIGTERM, SIGHUP};
    struct keel_signals *s;
    int rc;

    (void)dir;
    if (keel_signals_open(which, 2, &s) < 0)
        return 10;
    rc = wait_for_two(s);
    keel_signals_close(s);
    return rc;
}

static void signals_are_events_in_a_coroutine(void **state)
{
    (void)state;
    assert_int_equal(in_child(signals_in_loop, NULL), 0);
}

static void signals_are_events_in_a_thread(void **state)
{
    (void)state;
    assert_int_equal(in_child(signals_in_thread, NULL), 0);
}

static int becomes_nobody(const char *dir)
{
    gid_t groups[8];
    int rc = keel_become(65534, 65533);

    (void)dir;
    if (rc < 0)
        return -rc;
    return getuid() == 65534 && geteuid() == 65534 && getgid() == 65533 &&
                   getegid() == 65533 && getgroups(8, groups) == 0 &&
                   setuid(0) < 0
               ? 0
               : 255;
}

static void root_becomes_somebody_else_for_good(void **state)
{
    (void)state;
    assert_int_equal(in_child(becomes_nobody, NULL), getuid() == 0 ? 0 : EPERM);
}

static void memory_and_descriptors_are_counted(void **state)
{
    unsigned before = keel_process_descriptors();
    int fd = dup(0);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(keel_process_descriptors(), before + 1);
    close(fd);
    assert_in_range(keel_process_memory(), 100000, UINT64_C(1) << 46);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(confinement_leaves_only_the_places),
        cmocka_unit_test(signals_are_events_in_a_coroutine),
        cmocka_unit_test(signals_are_events_in_a_thread),
        cmocka_unit_test(root_becomes_somebody_else_for_good),
        cmocka_unit_test(memory_and_descriptors_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
