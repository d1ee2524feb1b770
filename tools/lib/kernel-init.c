// The first process of a machine that emulator.sh boots: mounts what the tests need, runs one script, and turns the
// machine off. It speaks on the console; the script's output goes to the second serial line.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/// Goes on all the same: what is missing will be named by the tests that need it.
static void expect(int result, const char *what) {
    if (result < 0) printf("init: %s: %s\n", what, strerror(errno));
}

static void mount_on(const char *folder, const char *type, const char *options) {
    mkdir(folder, 0755);
    expect(mount(type, folder, type, 0, options), folder);
}

static void bring_up_loopback(void) {
    struct ifreq request = {.ifr_name = "lo"};
    int descriptor = socket(AF_INET, SOCK_DGRAM, 0);
    expect(ioctl(descriptor, SIOCGIFFLAGS, &request), "loopback");
    request.ifr_flags |= IFF_UP;
    expect(ioctl(descriptor, SIOCSIFFLAGS, &request), "loopback");
    close(descriptor);
}

/// A line that passes on what it is given as it is.
static int open_line(const char *path) {
    int descriptor = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    expect(descriptor, path);
    struct termios settings;
    expect(tcgetattr(descriptor, &settings), path);
    cfmakeraw(&settings);
    expect(tcsetattr(descriptor, TCSANOW, &settings), path);
    return descriptor;
}

static pid_t start_script(int line) {
    pid_t script = fork();
    if (script != 0) return script;
    setsid();
    dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
    dup2(line, 1);
    dup2(line, 2);
    // As many as the tests of high numbers and of ten thousand watchers need.
    struct rlimit many = {20000, 20000};
    setrlimit(RLIMIT_NOFILE, &many);
    char *words[] = {"sh", "/run-tests", NULL};
    char *variables[] = {"PATH=/usr/bin:/bin", "HOME=/tmp", "TERM=dumb", NULL};
    if (chdir("/tmp") == 0) execve("/bin/sh", words, variables);
    _exit(127);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    mount_on("/dev", "devtmpfs", NULL);
    int console = open("/dev/console", O_RDWR);
    for (int number = 0; number < 3; number++) dup2(console, number);
    mount_on("/proc", "proc", NULL);
    mount_on("/sys", "sysfs", NULL);
    mount_on("/dev/pts", "devpts", "ptmxmode=0666");
    mount_on("/tmp", "tmpfs", "mode=1777");
    bring_up_loopback();

    int line = open_line("/dev/ttyS1");
    pid_t script = start_script(line);
    // Children whose parents are gone come here too, and have to be waited for.
    int status = 0;
    while (wait(&status) != script || WIFSTOPPED(status)) {}
    printf("init: the script has ended with status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    tcdrain(line);
    tcdrain(1);
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}
