#define _GNU_SOURCE
#include "facts.h"

static struct signalfd_siginfo records[16];

static int read_records(int descriptor) {
    ssize_t length = read(descriptor, records, sizeof records);
    return length < 0 ? -errno : (int)(length / (ssize_t)sizeof records[0]);
}

FACT(standard_signals_coalesce) {
    block(SIGUSR1);
    int descriptor = signalfd_of(SIGUSR1);
    CHECK(readiness(descriptor) == 0);
    for (int i = 0; i < 5; i++) CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(readiness(descriptor) == POLLIN);
    CHECK(read_records(descriptor) == 1);
    CHECK(records[0].ssi_signo == SIGUSR1);
    CHECK(read_records(descriptor) == -EAGAIN);
}

FACT(queued_signals_keep_order) {
    int number = SIGRTMIN + 3;
    block(number);
    int descriptor = signalfd_of(number);
    for (int i = 0; i < 5; i++) CHECK(sigqueue(getpid(), number, (union sigval){.sival_int = 40 + i}) == 0);
    CHECK(read_records(descriptor) == 5);
    for (int i = 0; i < 5; i++) CHECK(records[i].ssi_int == 40 + i);
    CHECK(read_records(descriptor) == -EAGAIN);
}

FACT(children_share_one_sigchld) {
    block(SIGCHLD);
    int descriptor = signalfd_of(SIGCHLD);
    for (int i = 0; i < 3; i++) {
        siginfo_t info;
        CHECK(waitid(P_PID, (id_t)start_ending(0), &info, WEXITED) == 0);
    }
    CHECK(read_records(descriptor) == 1);
    CHECK(records[0].ssi_signo == SIGCHLD);
    CHECK(read_records(descriptor) == -EAGAIN);
}

FACT(ignored_signals_are_queued_while_blocked) {
    signal(SIGUSR1, SIG_IGN);
    block(SIGUSR1);
    int descriptor = signalfd_of(SIGUSR1);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(readiness(descriptor) == POLLIN);
    CHECK(read_records(descriptor) == 1);
}

static volatile sig_atomic_t handled;
static void note(int number) { handled = number; }
static volatile int is_open;

static int stay_open(void *unused) {
    (void)unused;
    uint64_t set = bit(SIGUSR1);
    syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, sizeof set);
    is_open = 1;
    while (!handled) nap();
    return 0;
}

FACT(open_thread_takes_the_signal) {
    signal(SIGUSR1, note);
    block(SIGUSR1);
    int descriptor = signalfd_of(SIGUSR1);
    start_thread(stay_open);
    while (!is_open) nap();
    CHECK(kill(getpid(), SIGUSR1) == 0);
    while (!handled) nap();
    CHECK(readiness(descriptor) == 0);
    CHECK(read_records(descriptor) == -EAGAIN);
}

static int to_thread[2], from_thread[2], shared_signalfd;

static int read_when_told(void *unused) {
    (void)unused;
    char byte;
    syscall(SYS_read, to_thread[0], &byte, 1);
    byte = (char)(syscall(SYS_read, shared_signalfd, records, sizeof records) == sizeof records[0]);
    syscall(SYS_write, from_thread[1], &byte, 1);
    for (;;) nap();
    return 0;
}

FACT(thread_directed_signals) {
    block(SIGUSR1);
    CHECK(pipe(to_thread) == 0 && pipe(from_thread) == 0);
    shared_signalfd = signalfd_of(SIGUSR1);
    int epoll = epoll_with(shared_signalfd, EPOLLIN);
    pid_t thread = start_thread(read_when_told);
    CHECK(syscall(SYS_tgkill, getpid(), thread, SIGUSR1) == 0);
    // Not for this thread: it neither wakes, nor can it read.
    CHECK(readiness(shared_signalfd) == 0);
    CHECK(reported(epoll, 20) == 0);
    CHECK(read_records(shared_signalfd) == -EAGAIN);
    char byte = 0;
    CHECK(write(to_thread[1], &byte, 1) == 1);
    CHECK(read(from_thread[0], &byte, 1) == 1);
    CHECK(byte == 1);
    CHECK(records[0].ssi_signo == SIGUSR1 && records[0].ssi_code == SI_TKILL);
    // To itself it is.
    CHECK(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1) == 0);
    CHECK(reported(epoll, 0) == EPOLLIN);
    CHECK(read_records(shared_signalfd) == 1);
}

static void unblock_pending(void) {
    block(SIGUSR1);
    int descriptor = signalfd_of(SIGUSR1);
    kill(getpid(), SIGUSR1);
    close(descriptor);
    sigset_t set;
    sigemptyset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

FACT(unblocking_delivers_what_is_pending) {
    int status;
    CHECK(waitpid(start(unblock_pending), &status, 0) > 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
}

FACT(pending_signals_can_be_taken) {
    block(SIGUSR1);
    int descriptor = signalfd_of(SIGUSR1);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    close(descriptor);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    struct timespec zero = {0, 0};
    CHECK(sigtimedwait(&set, NULL, &zero) == SIGUSR1);
    CHECK(sigtimedwait(&set, NULL, &zero) == -1 && errno == EAGAIN);
    // Had it not been taken, this would be the end.
    CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
}

FACT(stolen_record) {
    block(SIGUSR1);
    int descriptor = signalfd_of(SIGUSR1);
    int epoll = epoll_with(descriptor, EPOLLIN);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(reported(epoll, 0) == EPOLLIN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    struct timespec zero = {0, 0};
    CHECK(sigtimedwait(&set, NULL, &zero) == SIGUSR1);
    CHECK(read_records(descriptor) == -EAGAIN);
    CHECK(reported(epoll, 0) == 0);
}

FACT(one_record_one_reader) {
    block(SIGUSR1);
    int first = signalfd_of(SIGUSR1), second = signalfd_of(SIGUSR1);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(readiness(first) == POLLIN && readiness(second) == POLLIN);
    CHECK(read_records(second) == 1);
    CHECK(readiness(first) == 0);
    CHECK(read_records(first) == -EAGAIN);
}

FACT(signalfd_set_can_change) {
    block(SIGUSR1);
    block(SIGUSR2);
    sigset_t set;
    sigemptyset(&set);
    int descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    CHECK(descriptor >= 0);
    int epoll = epoll_with(descriptor, EPOLLIN);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(reported(epoll, 0) == 0);
    // What was pending before is there at once.
    sigaddset(&set, SIGUSR1);
    CHECK(signalfd(descriptor, &set, SFD_CLOEXEC | SFD_NONBLOCK) == descriptor);
    CHECK(reported(epoll, 0) == EPOLLIN);
    // And stays pending when the set changes again.
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK(signalfd(descriptor, &set, SFD_CLOEXEC | SFD_NONBLOCK) == descriptor);
    CHECK(reported(epoll, 0) == 0);
    CHECK(read_records(descriptor) == -EAGAIN);
    sigset_t pending;
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1) == 1);
    CHECK(kill(getpid(), SIGUSR2) == 0);
    CHECK(read_records(descriptor) == 1);
    CHECK(records[0].ssi_signo == SIGUSR2);
}

FACT(signalfd_records) {
    int number = SIGRTMIN + 3;
    block(SIGUSR1);
    block(number);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, number);
    int descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int epoll = epoll_with(descriptor, EPOLLIN);
    for (int i = 0; i < 20; i++) CHECK(sigqueue(getpid(), number, (union sigval){.sival_int = i}) == 0);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    // As many as there is room for, and the rest is still reported.
    CHECK(read_records(descriptor) == 16);
    CHECK(reported(epoll, 0) == EPOLLIN);
    CHECK(read_records(descriptor) == 5);
    CHECK(reported(epoll, 0) == 0);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    CHECK(read_records(descriptor) == 1);
    CHECK(records[0].ssi_code == SI_USER && records[0].ssi_pid == (uint32_t)getpid());
    CHECK(records[0].ssi_uid == getuid());
    CHECK(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 0}) == 0);
    CHECK(read_records(descriptor) == 1);
    CHECK(records[0].ssi_code == SI_QUEUE);
}

FACT(handler_interrupts_epoll_wait) {
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec often = {.it_interval.tv_nsec = 2000000, .it_value.tv_nsec = 2000000};
    CHECK(timer_settime(timer, 0, &often, NULL) == 0);
    CHECK(reported(epoll, -1) == -EINTR);
    CHECK(handled == SIGUSR2);
}
