#define _GNU_SOURCE
#include "facts.h"

#include <limits.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

static int pidfd_of(pid_t process) {
    int descriptor = (int)syscall(SYS_pidfd_open, process, 0);
    CHECK(descriptor >= 0);
    return descriptor;
}

static int send_signal(int descriptor, int number) {
    return (int)syscall(SYS_pidfd_send_signal, descriptor, number, NULL, 0);
}

static int ready(int descriptor, int timeout_ms) {
    struct pollfd entry = {.fd = descriptor, .events = POLLIN};
    return poll(&entry, 1, timeout_ms) < 0 ? -errno : entry.revents;
}

/// waitid(2) by pidfd: 0 or -errno. `info` is zero where nothing had ended.
static int wait_for(int descriptor, siginfo_t *info, int options) {
    memset(info, 0, sizeof *info);
    return waitid((idtype_t)P_PIDFD, (id_t)descriptor, info, WEXITED | options) < 0 ? -errno : 0;
}

static void wait_until_ended(pid_t process) {
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)process, &info, WEXITED | WNOWAIT) == 0);
}

static int channel[2];

static int wait_for_a_byte(void *unused) {
    (void)unused;
    char byte;
    syscall(SYS_read, channel[0], &byte, 1);
    syscall(SYS_exit, 0);
    return 0;
}

static void lose_the_leader(void) {
    start_thread(wait_for_a_byte);
    syscall(SYS_exit, 0);
}

FACT(pidfd_needs_the_whole_group) {
    CHECK(pipe(channel) == 0);
    pid_t child = start(lose_the_leader);
    int descriptor = pidfd_of(child);
    // The leader is a zombie now, or soon.
    char path[64], text[512];
    strcpy(path, "/proc/");
    char digits[16];
    int length = 0;
    for (int rest = child; rest; rest /= 10) digits[length++] = (char)('0' + rest % 10);
    for (size_t end = strlen(path); length; path[end] = 0) path[end++] = digits[--length];
    strcat(path, "/stat");
    for (;;) {
        int file = open(path, O_RDONLY);
        ssize_t count = read(file, text, sizeof text - 1);
        close(file);
        CHECK(count > 0);
        text[count] = 0;
        char *state = strrchr(text, ')');
        CHECK(state != NULL);
        if (state[2] == 'Z') break;
        nap();
    }
    CHECK(ready(descriptor, 30) == 0);
    siginfo_t info;
    CHECK(wait_for(descriptor, &info, WNOHANG) == 0 && info.si_pid == 0);
    char byte = 0;
    CHECK(write(channel[1], &byte, 1) == 1);
    CHECK(ready(descriptor, 10000) == POLLIN);
    CHECK(wait_for(descriptor, &info, WNOHANG) == 0 && info.si_pid == child);
}

FACT(pidfd_ignores_stops) {
    pid_t child = start_sleeping();
    int descriptor = pidfd_of(child);
    CHECK(send_signal(descriptor, SIGSTOP) == 0);
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)child, &info, WSTOPPED) == 0);
    CHECK(ready(descriptor, 20) == 0);
    CHECK(wait_for(descriptor, &info, WNOHANG) == 0 && info.si_pid == 0 && info.si_signo == 0);
    CHECK(send_signal(descriptor, SIGKILL) == 0);
    CHECK(ready(descriptor, 10000) == POLLIN);
}

static void abort_without_a_core(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGABRT, SIG_DFL);
    kill(getpid(), SIGABRT);
}

FACT(pidfd_statuses) {
    siginfo_t info;
    pid_t child = start_ending(3);
    int descriptor = pidfd_of(child);
    CHECK(ready(descriptor, 10000) == POLLIN);
    // Looking leaves it, taking takes it.
    for (int i = 0; i < 2; i++) {
        CHECK(wait_for(descriptor, &info, WNOHANG | WNOWAIT) == 0);
        CHECK(info.si_signo == SIGCHLD && info.si_pid == child);
        CHECK(info.si_code == CLD_EXITED && info.si_status == 3);
    }
    CHECK(wait_for(descriptor, &info, WNOHANG) == 0 && info.si_code == CLD_EXITED && info.si_status == 3);
    CHECK(wait_for(descriptor, &info, WNOHANG) == -ECHILD);

    child = start_sleeping();
    descriptor = pidfd_of(child);
    CHECK(send_signal(descriptor, SIGTERM) == 0);
    CHECK(ready(descriptor, 10000) == POLLIN);
    CHECK(wait_for(descriptor, &info, WNOHANG) == 0 && info.si_code == CLD_KILLED && info.si_status == SIGTERM);

    descriptor = pidfd_of(start(abort_without_a_core));
    CHECK(ready(descriptor, 10000) == POLLIN);
    CHECK(wait_for(descriptor, &info, WNOHANG) == 0 && info.si_status == SIGABRT);
    // With no room for a core file there may all the same be a program that takes it.
    CHECK(info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED);
}

FACT(pidfd_refusals) {
    pid_t child = start_ending(0);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK(syscall(SYS_pidfd_open, child, 0) == -1 && errno == ESRCH);
    CHECK(syscall(SYS_pidfd_open, INT_MAX, 0) == -1 && errno == ESRCH);
    CHECK(syscall(SYS_pidfd_open, -1, 0) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_pidfd_open, 0, 0) == -1 && errno == EINVAL);
    int descriptor = pidfd_of(getpid());
    CHECK(fcntl(descriptor, F_GETFD) == FD_CLOEXEC);
    CHECK(send_signal(descriptor, 999) == -1 && errno == EINVAL);
    CHECK(send_signal(descriptor, 0) == 0);
}

FACT(pidfd_of_a_zombie) {
    pid_t child = start_ending(4);
    wait_until_ended(child);
    int descriptor = pidfd_of(child);
    CHECK(ready(descriptor, 0) == POLLIN);
    CHECK(send_signal(descriptor, 0) == 0 && send_signal(descriptor, SIGTERM) == 0);
    siginfo_t info;
    CHECK(wait_for(descriptor, &info, WNOHANG) == 0 && info.si_code == CLD_EXITED && info.si_status == 4);
    CHECK(send_signal(descriptor, 0) == -1 && errno == ESRCH);
}

static int reaped_readiness;

static void pidfd_after_reaping_body(void) {
    pid_t child = start_ending(0);
    int descriptor = pidfd_of(child);
    int epoll = epoll_with(descriptor, EPOLLIN);
    CHECK(waitpid(child, NULL, 0) == child);
    for (int i = 0; i < 3; i++) CHECK(reported(epoll, 0) == reaped_readiness);
    CHECK(readiness(descriptor) == reaped_readiness);
}

struct kernel_fact kernel_fact_pidfd_after_reaping(bool hangs_up) {
    reaped_readiness = hangs_up ? POLLIN | POLLHUP : POLLIN;
    return in_child(pidfd_after_reaping_body);
}

FACT(pidfd_waits_for_its_own) {
    pid_t first = start_ending(1), second = start_ending(2);
    wait_until_ended(first);
    wait_until_ended(second);
    int descriptor = pidfd_of(second);
    siginfo_t info;
    CHECK(wait_for(descriptor, &info, WNOHANG) == 0 && info.si_pid == second && info.si_status == 2);
    int status;
    CHECK(waitpid(first, &status, WNOHANG) == first && WEXITSTATUS(status) == 1);
    // Whoever waits for anyone takes it away from whoever waits for this one.
    descriptor = pidfd_of(start_ending(3));
    CHECK(waitid(P_ALL, 0, &info, WEXITED) == 0);
    CHECK(wait_for(descriptor, &info, WNOHANG) == -ECHILD);
}

FACT(pidfd_of_no_child) {
    int descriptor = pidfd_of(getppid());
    CHECK(ready(descriptor, 0) == 0);
    siginfo_t info;
    CHECK(wait_for(descriptor, &info, WNOHANG) == -ECHILD);
}

FACT(pidfd_with_sigchld_ignored) {
    signal(SIGCHLD, SIG_IGN);
    pid_t child = start_sleeping();
    int descriptor = pidfd_of(child);
    int epoll = epoll_with(descriptor, EPOLLIN);
    CHECK(send_signal(descriptor, SIGKILL) == 0);
    CHECK(reported(epoll, 10000) & EPOLLIN);
    siginfo_t info;
    CHECK(wait_for(descriptor, &info, WNOHANG) == -ECHILD);
}

FACT(pidfd_nonblocking) {
    pid_t child = start_sleeping();
    int plain = pidfd_of(child);
    int descriptor = (int)syscall(SYS_pidfd_open, child, O_NONBLOCK);
    CHECK(descriptor >= 0);
    siginfo_t info;
    CHECK(wait_for(descriptor, &info, 0) == -EAGAIN);
    CHECK(wait_for(descriptor, &info, WNOHANG) == 0 && info.si_pid == 0);
    CHECK(wait_for(plain, &info, WNOHANG) == 0 && info.si_pid == 0);
}

FACT(pidfd_never_means_another) {
    pid_t child = start_ending(0);
    int descriptor = pidfd_of(child);
    CHECK(waitpid(child, NULL, 0) == child);
    struct clone_args arguments = {.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&child, .set_tid_size = 1};
    pid_t stranger = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (stranger == 0) {
        for (;;) pause();
    }
    SKIP_UNLESS(stranger > 0, "a process of a chosen number takes privileges");
    CHECK(stranger == child);
    siginfo_t info;
    CHECK(send_signal(descriptor, SIGKILL) == -1 && errno == ESRCH);
    CHECK(wait_for(descriptor, &info, WNOHANG) == -ECHILD);
    int other = pidfd_of(stranger);
    CHECK(ready(other, 20) == 0);
    CHECK(kill(stranger, SIGKILL) == 0);
    CHECK(ready(other, 10000) == POLLIN);
}

/// The first version of the kernel's struct pidfd_info; later ones only append.
struct info_v0 {
    uint64_t mask, cgroup;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};

static int remembered(int descriptor, struct info_v0 *info) {
    *info = (struct info_v0){.mask = 1 << 3};
    return ioctl(descriptor, _IOWR(0xFF, 11, struct info_v0), info) < 0 ? -errno : (int)(info->mask >> 3 & 1);
}

FACT(pidfd_remembers) {
    struct info_v0 info;
    pid_t child = start_ending(6);
    int descriptor = pidfd_of(child);
    CHECK(waitpid(child, NULL, 0) == child);
    SKIP_UNLESS(remembered(descriptor, &info) == 1, "no PIDFD_GET_INFO with PIDFD_INFO_EXIT");
    CHECK(WIFEXITED(info.exit_code) && WEXITSTATUS(info.exit_code) == 6);
    signal(SIGCHLD, SIG_IGN);
    descriptor = pidfd_of(start_sleeping());
    CHECK(remembered(descriptor, &info) != 1);
    CHECK(send_signal(descriptor, SIGKILL) == 0);
    int epoll = epoll_with(descriptor, EPOLLIN);
    while (!(reported(epoll, 10000) & EPOLLHUP)) nap();
    CHECK(remembered(descriptor, &info) == 1);
    CHECK(WIFSIGNALED(info.exit_code) && WTERMSIG(info.exit_code) == SIGKILL);
}
