#define _GNU_SOURCE
#include "facts.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>

struct kernel_fact *report;

/// A child must not outlive whoever started it, who may be gone by now.
static void end_with(pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
    alarm(20);
}

static void reset_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGALRM, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
}

struct kernel_fact in_child(void (*body)(void)) {
    struct kernel_fact fact = {0};
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED) return (struct kernel_fact){.condition = "mmap", .file = __FILE__, .line = __LINE__};
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        reset_signals();
        end_with(parent);
        body();
        _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    fact = *report;
    if (child < 0) fact.condition = "fork";
    if (WIFSIGNALED(status)) fact.signal = WTERMSIG(status);
    munmap(report, sizeof *report);
    return fact;
}

pid_t start(void (*body)(void)) {
    pid_t parent = getpid(), child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        end_with(parent);
        body();
        _exit(0);
    }
    return child;
}

static int ending_code;
static void ending(void) { _exit(ending_code); }

pid_t start_ending(int code) {
    ending_code = code;
    return start(ending);
}

static void sleeping(void) {
    for (;;) pause();
}

pid_t start_sleeping(void) { return start(sleeping); }

pid_t start_thread(int (*body)(void *)) {
    size_t size = 1 << 16;
    char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    CHECK(stack != MAP_FAILED);
    pid_t thread = clone(
        body, stack + size, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, NULL);
    CHECK(thread > 0);
    return thread;
}

void nap(void) {
    struct timespec millisecond = {.tv_nsec = 1000000};
    syscall(SYS_nanosleep, &millisecond, NULL);
}

int readiness(int descriptor) {
    struct pollfd entry = {.fd = descriptor, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP};
    return poll(&entry, 1, 0) < 0 ? -errno : entry.revents;
}

int reported(int epoll, int timeout_ms) {
    struct epoll_event event;
    int count = epoll_wait(epoll, &event, 1, timeout_ms);
    return count < 0 ? -errno : count == 0 ? 0 : (int)event.events;
}

int epoll_with(int descriptor, uint32_t events) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    CHECK(epoll >= 0);
    struct epoll_event event = {.events = events};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0);
    return epoll;
}

uint64_t bit(int signal) { return (uint64_t)1 << (signal - 1); }

void block(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
}

int signalfd_of(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    int descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    CHECK(descriptor >= 0);
    return descriptor;
}

int kernel_read_nowait(int descriptor, void *buffer, int size) {
    struct iovec vector = {.iov_base = buffer, .iov_len = (size_t)size};
    ssize_t result = preadv2(descriptor, &vector, 1, -1, RWF_NOWAIT);
    return result < 0 ? -errno : (int)result;
}

int kernel_write_nowait(int descriptor, const void *buffer, int size) {
    struct iovec vector = {.iov_base = (void *)buffer, .iov_len = (size_t)size};
    ssize_t result = pwritev2(descriptor, &vector, 1, -1, RWF_NOWAIT);
    return result < 0 ? -errno : (int)result;
}

int kernel_memory_file(void) { return memfd_create("linux-event", MFD_CLOEXEC); }
int kernel_open_path(const char *path) { return open(path, O_PATH | O_CLOEXEC); }
