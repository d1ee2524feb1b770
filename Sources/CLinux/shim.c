#define _GNU_SOURCE
#include "CLinux.h"
#include "kernel.h"

#include <dirent.h>
#include <limits.h>
#include <linux/futex.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

_Static_assert(sizeof(struct signalfd_siginfo) == 128, "the kernel's record size");
_Static_assert(CHAR_BIT * sizeof(uint64_t) == 64, "signal sets are 64 bits");
#ifdef __x86_64__
_Static_assert(sizeof(struct epoll_event) == 12, "packed on x86-64");
#endif

/// -1 and errno become -errno, at the call, before anything else can change it.
#define RETURN_RESULT(call)                                                                                            \
    do {                                                                                                               \
        long result = (long)(call);                                                                                    \
        return result < 0 ? -errno : (int)result;                                                                      \
    } while (0)

const char *clinux_error_text(int code) {
    const char *text = strerrordesc_np(code);
    return text ? text : "unknown error";
}

// MARK: epoll

int clinux_epoll_create(void) { RETURN_RESULT(KERNEL(EPOLL_CREATE, -1, epoll_create1(EPOLL_CLOEXEC))); }

int clinux_epoll_ctl(int epoll, int operation, int descriptor, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    RETURN_RESULT(KERNEL(EPOLL_ADD + (operation - EPOLL_CTL_ADD), -1,
                         epoll_ctl(epoll, operation, descriptor, &event)));
}

int clinux_epoll_wait(int epoll, struct epoll_event *events, int capacity, int timeout_ms) {
    RETURN_RESULT(KERNEL(EPOLL_WAIT, -1, epoll_wait(epoll, events, capacity, timeout_ms)));
}

// MARK: eventfd, timerfd, descriptors

int clinux_eventfd(unsigned initial, int flags) { RETURN_RESULT(KERNEL(EVENTFD, -1, eventfd(initial, flags))); }

int clinux_eventfd_write(int descriptor, uint64_t value) {
    RETURN_RESULT(KERNEL(EVENTFD_WRITE, -1, write(descriptor, &value, sizeof value)));
}

int clinux_eventfd_drain(int descriptor, uint64_t *value) {
    struct iovec vector = {.iov_base = value, .iov_len = sizeof *value};
    ssize_t result = KERNEL(EVENTFD_DRAIN, -1, preadv2(descriptor, &vector, 1, -1, RWF_NOWAIT));
    if (result < 0 && errno == EOPNOTSUPP) {
        // A kernel whose eventfd knows no RWF_NOWAIT: look first. One reader per counter, so the look holds.
        struct pollfd entry = {.fd = descriptor, .events = POLLIN};
        int ready = KERNEL(EVENTFD_POLL, -1, poll(&entry, 1, 0));
        if (ready < 0) return -errno;
        if (ready == 0) return -EAGAIN;
        RETURN_RESULT(KERNEL(EVENTFD_READ, -1, read(descriptor, value, sizeof *value)));
    }
    return result < 0 ? -errno : (int)result;
}

int clinux_timerfd_create(void) {
    RETURN_RESULT(KERNEL(TIMERFD_CREATE, -1, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)));
}

int clinux_timerfd_set(int descriptor, uint64_t deadline_ns) {
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(deadline_ns / 1000000000u), .tv_nsec = (long)(deadline_ns % 1000000000u)}};
    RETURN_RESULT(KERNEL(TIMERFD_SETTIME, -1, timerfd_settime(descriptor, TFD_TIMER_ABSTIME, &when, NULL)));
}

int clinux_close(int descriptor) {
    int closed = close(descriptor);
    RETURN_RESULT(KERNEL(CLOSE, -1, closed));
}

int clinux_dup3(int from, int to, int flags) { RETURN_RESULT(KERNEL(DUP3, -1, dup3(from, to, flags))); }

int clinux_file_identity(int descriptor, struct clinux_file_identity *identity) {
    struct stat status;
    if (fstat(descriptor, &status) < 0) {
        return -errno;
    }
    identity->device = status.st_dev;
    identity->inode = status.st_ino;
    return 0;
}

int clinux_pipe2(int descriptors[2], int flags) { RETURN_RESULT(pipe2(descriptors, flags)); }

int clinux_accept4(int descriptor, struct sockaddr *address, socklen_t *length, int flags) {
    RETURN_RESULT(KERNEL(ACCEPT, -1, accept4(descriptor, address, length, flags)));
}

int clinux_listening(int descriptor) {
    int listening = 0;
    socklen_t size = sizeof listening;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0) return -errno;
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0) return -errno;
    return (listening ? CLINUX_LISTENS : 0) | (flags & O_NONBLOCK ? CLINUX_NONBLOCKING : 0);
}

int clinux_poll(int descriptor, short events, int timeout_ms) {
    struct pollfd entry = {.fd = descriptor, .events = events};
    int ready = poll(&entry, 1, timeout_ms);
    return ready < 0 ? -errno : ready == 0 ? 0 : entry.revents;
}

uint64_t clinux_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clinux_monotonic_coarse_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// MARK: signals

static sigset_t signal_set(uint64_t signals) {
    sigset_t set;
    sigemptyset(&set);
    for (int number = 1; number <= 64; number++)
        if (signals & (uint64_t)1 << (number - 1)) sigaddset(&set, number);
    return set;
}

int clinux_sigmask_block(uint64_t signals, uint64_t *previous) {
    sigset_t set = signal_set(signals), old;
    int error = KERNEL(SIGMASK_BLOCK, errno, pthread_sigmask(SIG_BLOCK, &set, &old));
    if (error) return -error;
    *previous = 0;
    for (int number = 1; number <= 64; number++)
        if (sigismember(&old, number) == 1) *previous |= (uint64_t)1 << (number - 1);
    return 0;
}

int clinux_sigmask_unblock(uint64_t signals) {
    sigset_t set = signal_set(signals);
    return -KERNEL(SIGMASK_UNBLOCK, errno, pthread_sigmask(SIG_UNBLOCK, &set, NULL));
}

int clinux_signalfd(int descriptor, uint64_t signals) {
    sigset_t set = signal_set(signals);
    RETURN_RESULT(KERNEL(SIGNALFD_CREATE + (descriptor >= 0), -1,
                         signalfd(descriptor, &set, SFD_CLOEXEC | SFD_NONBLOCK)));
}

int clinux_signalfd_read(int descriptor, struct signalfd_siginfo *records, int capacity) {
    ssize_t length = KERNEL(SIGNALFD_READ, -1, read(descriptor, records, sizeof *records * (size_t)capacity));
    return length < 0 ? -errno : (int)(length / (ssize_t)sizeof *records);
}

int clinux_sigtake(uint64_t signals) {
    sigset_t set = signal_set(signals);
    struct timespec zero = {0, 0};
    RETURN_RESULT(KERNEL(SIGTIMEDWAIT, -1, sigtimedwait(&set, NULL, &zero)));
}

int clinux_sigrtmin(void) { return SIGRTMIN; }
int clinux_sigrtmax(void) { return SIGRTMAX; }

// MARK: processes

/// PIDFD_NONBLOCK is O_NONBLOCK; with WNOHANG it changes nothing for our waitid.
int clinux_pidfd_open(int pid) {
    RETURN_RESULT(KERNEL(PIDFD_OPEN, -1, syscall(SYS_pidfd_open, pid, O_NONBLOCK)));
}

int clinux_pidfd_wait(int pidfd, bool keep, struct clinux_exit *exit) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    int options = WEXITED | WNOHANG | (keep ? WNOWAIT : 0);
    if (KERNEL(PIDFD_WAITID, -1, waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, options)) < 0) return -errno;
    if (info.si_signo == 0 || info.si_pid == 0) return 0;
    *exit = (struct clinux_exit){.code = info.si_code, .status = info.si_status};
    return 1;
}

/// The first version of the kernel's struct pidfd_info; later ones only append.
struct pidfd_info_v0 {
    uint64_t mask, cgroup;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
_Static_assert(sizeof(struct pidfd_info_v0) == 64, "the size is part of the request's number");

int clinux_pidfd_remembered(int pidfd, struct clinux_exit *exit) {
    const uint64_t info_exit = 1 << 3;
    struct pidfd_info_v0 info = {.mask = info_exit};
    if (KERNEL(PIDFD_INFO, -1, ioctl(pidfd, _IOWR(0xFF, 11, struct pidfd_info_v0), &info)) < 0) return -errno;
    if (!(info.mask & info_exit)) return 0;
    int status = info.exit_code;
    if (WIFEXITED(status)) {
        *exit = (struct clinux_exit){.code = CLD_EXITED, .status = WEXITSTATUS(status)};
    } else {
        *exit = (struct clinux_exit){.code = WCOREDUMP(status) ? CLD_DUMPED : CLD_KILLED, .status = WTERMSIG(status)};
    }
    return 1;
}

int clinux_pidfd_signal(int pidfd, int signal) {
    RETURN_RESULT(KERNEL(PIDFD_SIGNAL, -1, syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0)));
}

// MARK: fork

static uint32_t no_process;
uint32_t *clinux_process_word = &no_process;

/// Of threads that come here at a time one page is taken. (A lock would be held for ever in a child that is forked
/// meanwhile.) A failure is not remembered: the next loop may find more memory.
static int process_page_make(void) {
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = KERNEL(MARK_MMAP, MAP_FAILED,
                        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (page == MAP_FAILED) return -errno;
    int error = KERNEL(MARK_MADVISE, -1, madvise(page, size, MADV_WIPEONFORK)) < 0 ? errno : 0;
    uint32_t *none = &no_process;
    if (error || !__atomic_compare_exchange_n(&clinux_process_word, &none, page, false, __ATOMIC_ACQ_REL,
                                              __ATOMIC_ACQUIRE))
        munmap(page, size);
    return -error;
}

int clinux_process_mark(void) {
    if (__atomic_load_n(&clinux_process_word, __ATOMIC_ACQUIRE) == &no_process) {
        int error = process_page_make();
        if (error) return error;
    }
    uint32_t process = (uint32_t)getpid();
    // Racing threads write the same number, and nothing else hangs on it: relaxed.
    uint32_t *word = __atomic_load_n(&clinux_process_word, __ATOMIC_ACQUIRE);
    if (__atomic_load_n(word, __ATOMIC_RELAXED) != process) __atomic_store_n(word, process, __ATOMIC_RELAXED);
    return (int)process;
}

// MARK: threads

/// 1, or 0 where the thread has ended meanwhile, or -errno.
static int thread_mask_read(const char *thread, struct clinux_thread_mask *mask) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
    FILE *file = KERNEL(TASK_STATUS_OPEN, NULL, fopen(path, "re"));
    if (!file) return errno == ENOENT || errno == ESRCH ? 0 : -errno;
    bool found = false;
    mask->thread = atoi(thread);
    mask->name[0] = 0;
    while (!found && fgets(line, sizeof line, file)) {
        unsigned long long blocked;
        if (strncmp(line, "Name:\t", 6) == 0) {
            line[strcspn(line, "\n")] = 0;
            strncpy(mask->name, line + 6, sizeof mask->name - 1);
            mask->name[sizeof mask->name - 1] = 0;
        } else if (sscanf(line, "SigBlk:\t%llx", &blocked) == 1) {
            mask->blocked = blocked;
            found = true;
        }
    }
    fclose(file);
    return found;
}

int clinux_thread_masks(struct clinux_thread_mask *masks, int capacity) {
    DIR *tasks = KERNEL(TASKS_OPEN, NULL, opendir("/proc/self/task"));
    if (!tasks) return -errno;
    int count = 0, found = 0;
    for (struct dirent *entry; found >= 0 && (entry = readdir(tasks));) {
        struct clinux_thread_mask mask;
        if (entry->d_name[0] == '.' || (found = thread_mask_read(entry->d_name, &mask)) <= 0) continue;
        if (count < capacity) masks[count] = mask;
        count++;
    }
    closedir(tasks);
    return found < 0 ? found : count;
}

_Thread_local uintptr_t clinux_thread_number;
_Thread_local void *clinux_thread_slot;
_Thread_local void *clinux_thread_cache;

static pthread_once_t cache_once = PTHREAD_ONCE_INIT;
static pthread_key_t cache_key;
static int cache_key_result;
static void (*cache_give_back)(void *);

static void cache_end(void *cache) {
    // Cleared first: another key's function may run later on this thread, and want a new one.
    clinux_thread_cache = NULL;
    __atomic_load_n(&cache_give_back, __ATOMIC_RELAXED)(cache);
}

static void cache_key_make(void) { cache_key_result = -pthread_key_create(&cache_key, cache_end); }

int clinux_thread_cache_set(void *cache, void (*give_back)(void *)) {
    // Before the once, and the same each time: who comes second finds it set by who came first.
    __atomic_store_n(&cache_give_back, give_back, __ATOMIC_RELAXED);
    int result = -pthread_once(&cache_once, cache_key_make);
    if (result == 0) result = cache_key_result;
    if (result == 0) result = -pthread_setspecific(cache_key, cache);
    if (result == 0) clinux_thread_cache = cache;
    return result;
}

uintptr_t clinux_thread_number_assign(void) {
    static _Atomic uintptr_t last;
    return clinux_thread_number = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
}

struct thread_start {
    void (*body)(void *);
    void *context;
    char name[16];
};

static void *thread_main(void *argument) {
    struct thread_start start = *(struct thread_start *)argument;
    free(argument);
    pthread_setname_np(pthread_self(), start.name);
    start.body(start.context);
    return NULL;
}

int clinux_thread_start(uintptr_t *handle, const char *name, void (*body)(void *), void *context) {
    struct thread_start *start = malloc(sizeof *start);
    if (!start) return -ENOMEM;
    *start = (struct thread_start){.body = body, .context = context};
    strncpy(start->name, name, sizeof start->name - 1);

    // The new thread inherits the mask: blocked here around its birth, there is no moment in which it could
    // take a signal. The caller's mask is put back on every path.
    sigset_t all, previous;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, thread_main, start);
    pthread_sigmask(SIG_SETMASK, &previous, NULL);
    if (error) {
        free(start);
        return -error;
    }
    *handle = (uintptr_t)thread;
    return 0;
}

int clinux_thread_join(uintptr_t handle) { return -pthread_join((pthread_t)handle, NULL); }

int clinux_thread_detach(uintptr_t handle) { return -pthread_detach((pthread_t)handle); }

int clinux_thread_cpu_clock(int *clock) { return -pthread_getcpuclockid(pthread_self(), clock); }

int clinux_clock_ns(int clock, uint64_t *nanoseconds) {
    struct timespec time;
    if (clock_gettime(clock, &time) < 0) return -errno;
    *nanoseconds = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    return 0;
}

/// The kernel refuses a set smaller than its own with EINVAL, and says nowhere how large that is: so grow.
static int affinity_read(cpu_set_t **set, int *bits) {
    for (*bits = 1024;; *bits *= 4) {
        *set = CPU_ALLOC(*bits);
        if (!*set) return -ENOMEM;
        CPU_ZERO_S(CPU_ALLOC_SIZE(*bits), *set);
        if (sched_getaffinity(0, CPU_ALLOC_SIZE(*bits), *set) == 0) return 0;
        int error = errno;
        CPU_FREE(*set);
        if (error != EINVAL || *bits >= 1 << 20) return -error;
    }
}

int clinux_affinity_get(int *cpus, int capacity) {
    cpu_set_t *set;
    int bits, count = 0;
    int error = affinity_read(&set, &bits);
    if (error) return error;
    for (int cpu = 0; cpu < bits; cpu++) {
        if (!CPU_ISSET_S(cpu, CPU_ALLOC_SIZE(bits), set)) continue;
        if (count < capacity) cpus[count] = cpu;
        count++;
    }
    CPU_FREE(set);
    return count;
}

int clinux_affinity_pin(int cpu) {
    if (cpu < 0 || cpu >= 1 << 20) return -EINVAL;
    cpu_set_t *set = CPU_ALLOC(cpu + 1);
    if (!set) return -ENOMEM;
    size_t size = CPU_ALLOC_SIZE(cpu + 1);
    CPU_ZERO_S(size, set);
    CPU_SET_S(cpu, size, set);
    int result = sched_setaffinity(0, size, set) < 0 ? -errno : 0;
    CPU_FREE(set);
    return result;
}

int clinux_memory_policy(void) {
    int mode = 0;
    if (syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0) < 0) return -errno;
    return mode;
}

int clinux_move_pages(const uintptr_t *pages, const int *nodes, int *status, unsigned long count) {
    const int flags = nodes ? 1 << 1 : 0; // MPOL_MF_MOVE: pages that nobody else maps
    RETURN_RESULT(syscall(SYS_move_pages, 0, count, pages, nodes, status, flags));
}

int clinux_allocation_size(void *allocation) { return (int)malloc_usable_size(allocation); }

void clinux_allocator_trim(void) { malloc_trim(0); }

int clinux_futex_wait(uint32_t *word, uint32_t expected, uint64_t deadline_ns) {
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                .tv_nsec = (long)(deadline_ns % 1000000000u)};
    // WAIT_BITSET takes an absolute time on CLOCK_MONOTONIC, plain WAIT a relative one.
    RETURN_RESULT(syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, deadline_ns ? &deadline : NULL, NULL,
                          FUTEX_BITSET_MATCH_ANY));
}

int clinux_futex_wake_all(uint32_t *word) {
    RETURN_RESULT(syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0));
}
