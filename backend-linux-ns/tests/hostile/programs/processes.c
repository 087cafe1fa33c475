// Attacks on other processes: the init above all, which reports the verdict.
#include "hostile.h"
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/un.h>

// Reading and tracing pid 1, and finding anybody above it.
static void reach_init(int argc, char **argv) {
    TRY("ptrace_seize", ptrace(PTRACE_SEIZE, 1, 0, 0));
    unsigned long start = 0x400000;
    FILE *maps = fopen("/proc/1/maps", "r");
    if (maps && fscanf(maps, "%lx", &start) != 1) start = 0x400000;
    char into[8];
    struct iovec here = {into, 8}, there = {(void *)start, 8};
    TRY("process_vm_readv", process_vm_readv(1, &here, 1, &there, 1, 0));
    int init = syscall(SYS_pidfd_open, 1, 0);
    TRY("pidfd_getfd", syscall(SYS_pidfd_getfd, init, 0, 0));
    TRY("mem", open("/proc/1/mem", O_RDONLY));
    TRY("environ", open("/proc/1/environ", O_RDONLY));
    char path[PATH_MAX];
    TRY("exe", readlink("/proc/1/exe", path, sizeof path));
    TRY("root", open("/proc/1/root", O_RDONLY | O_DIRECTORY));
    TRY("fd", opendir("/proc/1/fd") ? 0 : -1);
    DIR *proc = opendir("/proc");
    int keeper = 0;
    for (struct dirent *entry; proc && (entry = readdir(proc));) {
        snprintf(path, sizeof path, "/proc/%.20s/comm", entry->d_name);
        keeper |= holds(path, "poolyard-keep") || holds(path, "poolyard-launch");
    }
    errno = ENOENT;
    said("keeper", keeper ? 0 : -1);
}

// Killing and stopping whatever can be reached. What survives is seen from outside.
static void signal_all(int argc, char **argv) {
    for (int signal = 1; signal < 32; signal++)
        if (signal != SIGCHLD && signal != SIGCONT) kill(1, signal);
    kill(getppid(), SIGKILL);
    killpg(1, SIGKILL);
    kill(-1, SIGSTOP);
    kill(-1, SIGKILL);
}

// Limits, priorities and out-of-memory scores of the init.
static void change_init(int argc, char **argv) {
    struct rlimit limit = {64, 64};
    TRY("prlimit", prlimit(1, RLIMIT_NOFILE, &limit, NULL));
    limit.rlim_cur = limit.rlim_max = 1;
    TRY("prlimit_cpu", prlimit(1, RLIMIT_CPU, &limit, NULL));
    int fd = open("/proc/1/oom_score_adj", O_WRONLY);
    TRY("oom_score_adj", fd < 0 ? -1 : write(fd, "1000", 4));
    fd = open("/proc/1/timerslack_ns", O_WRONLY);
    TRY("timerslack", fd < 0 ? -1 : write(fd, "1", 1));
    fd = open("/proc/1/coredump_filter", O_WRONLY);
    TRY("coredump_filter", fd < 0 ? -1 : write(fd, "0xff", 4));
    fd = open("/proc/1/comm", O_WRONLY);
    TRY("comm", fd < 0 ? -1 : write(fd, "mine", 4));
    fd = open("/proc/1/clear_refs", O_WRONLY);
    TRY("clear_refs", fd < 0 ? -1 : write(fd, "1", 1));
}

// The program behind another process, for writing or for keeping.
static void overwrite_exe(int argc, char **argv) {
    TRY("init_path", open("/proc/1/exe", O_PATH));
    TRY("init_write", open("/proc/1/exe", O_RDWR));
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/exe", getppid());
    TRY("parent_path", open(path, O_PATH));
    TRY("parent_write", open(path, O_WRONLY | O_APPEND));
}

// Descriptors that nobody gave to this program, and a directory to climb out of.
static void inherited_fds(int argc, char **argv) {
    DIR *fds = opendir("/proc/self/fd");
    int extra = 0, climbed = 0;
    for (struct dirent *entry; fds && (entry = readdir(fds));) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(fds) || fd <= 2) continue;
        extra = 1;
        if (argc > 0 && faccessat(fd, argv[0], R_OK, 0) == 0) climbed = 1;
    }
    errno = ENOENT;
    said("extra_descriptor", extra ? 0 : -1);
    said("directory_outside", climbed ? 0 : -1);
    char cwd[PATH_MAX];
    errno = 0;
    int outside = getcwd(cwd, sizeof cwd) == NULL || !strncmp(cwd, "(unreachable)", 13);
    errno = ENOENT;
    said("unreachable_cwd", outside ? 0 : -1);
}

// A frame that says "command 0 exited with 0", to everybody who may listen.
static void forge_report(int argc, char **argv) {
    unsigned char frame[16 + 4 + 4 + 18 * 8] = {'p', 'y', 'r', 'd', 12, 0};
    frame[12] = sizeof frame - 16;
    DIR *fds = opendir("/proc/self/fd");
    int sent = 0;
    for (struct dirent *entry; fds && (entry = readdir(fds));) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && send(fd, frame, sizeof frame, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) sent = 1;
    }
    for (int pid = 1; pid < 64; pid++) {
        int process = syscall(SYS_pidfd_open, pid, 0);
        for (int number = 0; process >= 0 && number < 160; number++) {
            int fd = syscall(SYS_pidfd_getfd, process, number, 0);
            if (fd < 0) continue;
            if (send(fd, frame, sizeof frame, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) sent = 1;
            close(fd);
        }
        if (process >= 0) close(process);
    }
    errno = ENOTCONN;
    said("forged_frame", sent ? 0 : -1);
}

// Ends with 42, after doing everything to make it look like something else.
static void forge_verdict(int argc, char **argv) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, 0);
    if (fork() == 0) {
        setsid();
        kill(1, SIGKILL);
        kill(1, SIGTERM);
        _exit(0);
    }
    wait(NULL);
    kill(getppid(), SIGKILL);
    puts("done");
    fflush(stdout);
    _exit(42);
}

const struct attack processes[] = {
    {"reach-init", reach_init},       {"signal-all", signal_all},       {"change-init", change_init},
    {"overwrite-exe", overwrite_exe}, {"inherited-fds", inherited_fds}, {"forge-report", forge_report},
    {"forge-verdict", forge_verdict}, {NULL, NULL},
};
