/* SPDX-License-Identifier: MIT */
/* Runs itself with an order in its environment, as end-to-end tests run a
 * daemon. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#include <keel/file.h>
#include <keel/seam.h>

static char log_path[64];

/* The child: exits with the number of the first of 5 operations that failed,
 * and 100 if the error was not EIO; 0 when none did. */
static int child(void)
{
    for (int k = 1; k <= 5; k++) {
        struct statfs facts;
        keel_auto(file) int fd = keel_file_open_any("/", O_RDONLY, 0);
        int rc = fd < 0 ? fd : keel_file_statfs(fd, &facts);

        if (rc < 0)
            return rc == -EIO ? k : 100;
    }
    return 0;
}

/* Returns the wait status of a child with this order. */
static int run(const char *order)
{
    int status;
    pid_t pid;

    unlink(log_path);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(2); /* its complaint is expected */
        setenv("KEEL_FAULT", order, 1);
        setenv("KEEL_FAULT_LOG", log_path, 1);
        execl("/proc/self/exe", "fault_env_test", "child", (char *)NULL);
        _exit(99);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static const char *log_text(void)
{
    static char text[256];
    FILE *f = fopen(log_path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;

    if (f)
        fclose(f);
    text[n] = 0;
    return text;
}

static void the_ordered_operation_fails_and_the_log_says_so(void **state)
{
    (void)state;
    assert_int_equal(WEXITSTATUS(run("stat:3:EIO")), 3);
    assert_string_equal(log_text(), "fired stat:3:EIO\n");
    assert_int_equal(WEXITSTATUS(run("any:4:EIO")), 2); /* its statfs */
    assert_int_equal(WEXITSTATUS(run("open:2:ENFILE:0")), 100);
}

static void a_program_that_never_gets_there_logs_nothing(void **state)
{
    (void)state;
    assert_int_equal(run("stat:6:EIO"), 0);
    assert_string_equal(log_text(), "");
    assert_int_equal(run("write:1:EIO"), 0);
}

static void a_kill_is_logged_before_it_strikes(void **state)
{
    int status = run("open:2:kill");

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    assert_string_equal(log_text(), "fired open:2:kill\n");
}

static void an_order_that_makes_no_sense_ends_the_program(void **state)
{
    static const char *const orders[] = {
        "",
        "write",
        "write:1",
        "write:0:EIO",
        "wrote:1:EIO",
        "write:-1:EIO",
        "write:1:EWHAT",
        "write:1x:EIO",
        "write:1:EIO:",
        "write:1:EIO:2:3",
        "write:99999999999:EIO",
    };

    (void)state;
    for (size_t k = 0; k < sizeof orders / sizeof *orders; k++) {
        int status = run(orders[k]);

        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 2);
    }
}

static void without_an_order_nothing_is_touched(void **state)
{
    (void)state;
    assert_null(keel_seam.fault);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ordered_operation_fails_and_the_log_says_so),
        cmocka_unit_test(a_program_that_never_gets_there_logs_nothing),
        cmocka_unit_test(a_kill_is_logged_before_it_strikes),
        cmocka_unit_test(an_order_that_makes_no_sense_ends_the_program),
        cmocka_unit_test(without_an_order_nothing_is_touched),
    };
    int rc;

    if (argc == 2 && !strcmp(argv[1], "child"))
        return child();
    snprintf(log_path, sizeof log_path, "/tmp/fault-env-test.%d", getpid());
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(log_path);
    return rc;
}
