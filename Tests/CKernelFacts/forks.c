#define _GNU_SOURCE
#include "facts.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>

/// One step of a child, seen by its parent: the child says a word, and waits for one.
static int to_parent[2], to_child[2];

static void make_channels(void) { CHECK(pipe(to_parent) == 0 && pipe(to_child) == 0); }

static void tell(int descriptor) {
    char byte = 'x';
    CHECK(write(descriptor, &byte, 1) == 1);
}

static void await(int descriptor) {
    char byte;
    CHECK(read(descriptor, &byte, 1) == 1);
}

static volatile uint32_t *page;

static void look_at_the_page(void) {
    CHECK(page[0] == 0 && page[1023] == 0);
    page[0] = 9;
}

FACT(wipe_on_fork) {
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK((void *)page != MAP_FAILED);
    CHECK(madvise((void *)page, 4096, MADV_WIPEONFORK) == 0);
    page[0] = 7;
    page[1023] = 8;
    int status;
    CHECK(waitpid(start(look_at_the_page), &status, 0) > 0);
    CHECK(status == 0);
    CHECK(page[0] == 7 && page[1023] == 8);
}

static int epoll, ends[2], counter, signals;

static void remove_the_entry(void) { CHECK(epoll_ctl(epoll, EPOLL_CTL_DEL, ends[0], NULL) == 0); }

FACT(child_removes_parents_entry) {
    CHECK(pipe(ends) == 0);
    epoll = epoll_with(ends[0], EPOLLIN);
    tell(ends[1]);
    CHECK(reported(epoll, 0) == EPOLLIN);
    CHECK(waitpid(start(remove_the_entry), NULL, 0) > 0);
    CHECK(reported(epoll, 0) == 0);
    CHECK(epoll_ctl(epoll, EPOLL_CTL_DEL, ends[0], NULL) == -1 && errno == ENOENT);
}

static void close_everything(void) { CHECK(close(epoll) == 0 && close(ends[0]) == 0 && close(ends[1]) == 0); }

FACT(child_closes_its_copies) {
    CHECK(pipe(ends) == 0);
    epoll = epoll_with(ends[0], EPOLLIN);
    int status;
    CHECK(waitpid(start(close_everything), &status, 0) > 0);
    CHECK(status == 0);
    CHECK(reported(epoll, 0) == 0);
    tell(ends[1]);
    CHECK(reported(epoll, 0) == EPOLLIN);
}

static void hold_until_told(void) {
    tell(to_parent[1]);
    await(to_child[0]);
}

FACT(copy_in_a_child_keeps_reporting) {
    make_channels();
    CHECK(pipe(ends) == 0);
    epoll = epoll_with(ends[0], EPOLLIN);
    pid_t child = start(hold_until_told);
    await(to_parent[0]);
    tell(ends[1]);
    CHECK(close(ends[0]) == 0);
    for (int i = 0; i < 3; i++) CHECK(reported(epoll, 0) == EPOLLIN);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_DEL, ends[0], &event) == -1 && errno == EBADF);
    tell(to_child[1]);
    CHECK(waitpid(child, NULL, 0) > 0);
    CHECK(reported(epoll, 0) == 0);
}

static void change_the_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK(signalfd(signals, &set, 0) == signals);
}

FACT(child_changes_parents_signalfd) {
    block(SIGUSR1);
    block(SIGUSR2);
    signals = signalfd_of(SIGUSR1);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(readiness(signals) == POLLIN);
    CHECK(waitpid(start(change_the_signals), NULL, 0) > 0);
    CHECK(readiness(signals) == 0);
    CHECK(kill(getpid(), SIGUSR2) == 0);
    CHECK(readiness(signals) == POLLIN);
}

static void signal_oneself(void) {
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(reported(epoll, 20) == 0);
    struct signalfd_siginfo record;
    CHECK(read(signals, &record, sizeof record) == sizeof record);
}

FACT(signalfd_in_inherited_epoll) {
    block(SIGUSR1);
    signals = signalfd_of(SIGUSR1);
    epoll = epoll_with(signals, EPOLLIN);
    int status;
    CHECK(waitpid(start(signal_oneself), &status, 0) > 0);
    CHECK(status == 0);
}

static void add_three(void) {
    uint64_t value = 3;
    CHECK(write(counter, &value, sizeof value) == sizeof value);
}

FACT(child_writes_parents_counter) {
    counter = eventfd(0, EFD_NONBLOCK);
    epoll = epoll_with(counter, EPOLLIN | EPOLLET);
    pid_t child = start(add_three);
    CHECK(reported(epoll, 10000) == EPOLLIN);
    CHECK(waitpid(child, NULL, 0) > 0);
    uint64_t value = 0;
    CHECK(read(counter, &value, sizeof value) == sizeof value && value == 3);
}

FACT(mounts_error_once) {
    SKIP_UNLESS(unshare(CLONE_NEWNS) == 0, "a mount namespace of one's own takes privileges");
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 || errno == EINVAL);
    int mounts = open("/proc/self/mounts", O_RDONLY | O_CLOEXEC);
    CHECK(mounts >= 0);
    epoll = epoll_with(mounts, EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP);
    CHECK(reported(epoll, 0) == EPOLLIN);
    CHECK(mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0);
    CHECK(reported(epoll, 0) == (EPOLLIN | EPOLLPRI | EPOLLERR));
    CHECK(reported(epoll, 0) == EPOLLIN);
    CHECK(umount("/tmp") == 0);
}
