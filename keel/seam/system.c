/* SPDX-License-Identifier: MIT */
#include <keel/system.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <keel/io.h>
#include <keel/net.h>

/* ---- signals ------------------------------------------------------------------ */

struct keel_signals {
    int fd;
};

int keel_signals_open(const int *signals, size_t count,
                      struct keel_signals **ret)
{
    struct keel_signals *s = keel_alloc(sizeof(*s));
    sigset_t set;

    if (!s)
        return -ENOMEM;
    sigemptyset(&set);
    for (size_t i = 0; i < count; i++)
        sigaddset(&set, signals[i]);
    s->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (s->fd < 0) {
        int error = errno;

        keel_free(s);
        return -error;
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    *ret = s;
    return 0;
}

void keel_signals_close(struct keel_signals *s)
{
    if (!s)
        return;
    keel_fd_close(s->fd);
    keel_free(s);
}

/* poll first: a signalfd that io_uring reads hands the signals of the thread
 * that submits, which is what poll and read do as well, but only poll can be
 * cancelled without losing one. */
int keel_signals_wait(struct keel_signals *s, keel_ns deadline)
{
    for (;;) {
        struct signalfd_siginfo info;
        int rc = keel_fd_poll(s->fd, POLLIN, deadline);
        ssize_t got;

        if (rc < 0)
            return rc;
        got = read(s->fd, &info, sizeof(info));
        if (got == (ssize_t)sizeof(info))
            return (int)info.ssi_signo;
        if (got < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
    }
}

/* ---- confinement -------------------------------------------------------------- */

/* Since ABI 2 and 3; older headers do not name them. */
#define ACCESS_REFER (UINT64_C(1) << 13)
#define ACCESS_TRUNCATE (UINT64_C(1) << 14)

#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_FILE_ONLY                                                       \
    (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |            \
     ACCESS_TRUNCATE)
#define ACCESS_ALL                                                             \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |              \
     ACCESS_READ | LANDLOCK_ACCESS_FS_REMOVE_DIR |                             \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |           \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |               \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |             \
     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

static int confine_allow(int ruleset, const struct keel_place *place,
                         uint64_t handled)
{
    struct landlock_path_beneath_attr rule = {0};
    struct stat st;
    int fd = open(place->path, O_PATH | O_CLOEXEC);
    int rc = 0;

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    rule.parent_fd = fd;
    rule.allowed_access =
        place->write ? handled & ~LANDLOCK_ACCESS_FS_EXECUTE : ACCESS_READ;
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
        rule.allowed_access &= ACCESS_FILE_ONLY & handled;
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH,
                &rule, 0) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

int keel_confine(const struct keel_place *places, size_t count)
{
    struct landlock_ruleset_attr attr = {.handled_access_fs = ACCESS_ALL};
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
                       LANDLOCK_CREATE_RULESET_VERSION);
    int ruleset, rc = 0;

    if (abi < 0)
        return -errno;
    if (abi < 2)
        return -EOPNOTSUPP; /* it would forbid every rename between places */
    attr.handled_access_fs |= ACCESS_REFER;
    if (abi >= 3)
        attr.handled_access_fs |= ACCESS_TRUNCATE;
    ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    if (ruleset < 0)
        return -errno;
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = confine_allow(ruleset, &places[i], attr.handled_access_fs);
    if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        rc = -errno;
    if (rc == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        rc = -errno;
    close(ruleset);
    return rc;
}

/* ---- who and where -------------------------------------------------------------- */

uid_t keel_user(void)
{
    return geteuid();
}

int keel_stream_peer_user(struct keel_stream *s, uid_t *ret)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (getsockopt(keel_stream_fd(s), SOL_SOCKET, SO_PEERCRED, &peer, &size) <
        0)
        return -errno;
    /* An inet socket answers as well, with nobody. */
    if (peer.uid == (uid_t)-1)
        return -EINVAL;
    *ret = peer.uid;
    return 0;
}

bool keel_is_root(void)
{
    return geteuid() == 0;
}

int keel_become(uid_t user, gid_t group)
{
    /* Groups first: without root's rights they could not be given up. */
    if (setgroups(0, NULL) < 0 || setresgid(group, group, group) < 0 ||
        setresuid(user, user, user) < 0)
        return -errno;
    /* A kernel that let us back in would be a hole; look. */
    if (user != 0 && setuid(0) == 0)
        return -EPERM;
    return 0;
}

uint64_t keel_process_memory(void)
{
    char text[128] = "";
    unsigned long long pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t got;

    if (fd < 0)
        return 0;
    got = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (got <= 0 || sscanf(text, "%*u %llu", &pages) != 1)
        return 0;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

unsigned keel_process_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    if (!dir)
        return 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count > 3 ? count - 3 : 0; /* ".", "..", and the directory's own */
}

uint64_t keel_descriptors_most(void)
{
    struct rlimit l;

    if (getrlimit(RLIMIT_NOFILE, &l) < 0)
        return 0;
    if (l.rlim_cur != l.rlim_max) {
        rlim_t had = l.rlim_cur;

        l.rlim_cur = l.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &l) < 0)
            return had;
    }
    return l.rlim_cur;
}

unsigned keel_cpu_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return 1;
    return (unsigned)CPU_COUNT(&set);
}
