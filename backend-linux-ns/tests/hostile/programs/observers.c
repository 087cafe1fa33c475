// Prints what a program can see of its surroundings, one item a line: the same for every user of a clean
// sandbox.
#include "hostile.h"
#include <mntent.h>
#include <netinet/in.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

static void item(const char *name, const char *form, ...) {
    va_list words;
    va_start(words, form);
    printf("%s: ", name);
    vprintf(form, words);
    putchar('\n');
    va_end(words);
}

static void hash_file(const char *name, const char *path) {
    int fd = open(path, O_RDONLY);
    unsigned long hash = 1469598103934665603ul;
    unsigned char bytes[4096];
    ssize_t length, total = 0;
    while (fd >= 0 && (length = read(fd, bytes, sizeof bytes)) > 0)
        for (total += length; length > 0; length--) hash = (hash ^ bytes[length - 1]) * 1099511628211ul;
    close(fd);
    item(name, fd < 0 ? "-" : "%zd bytes, %lx", total, hash);
}

static void list(const char *path) {
    DIR *directory = opendir(path);
    int count = 0;
    long sum = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory)); count++)
        for (const char *at = entry->d_name; *at; at++) sum += *at * 31 + count;
    struct stat about = {0};
    stat(path, &about);
    item(path, "%d entries, %ld, mode %o, owner %d:%d, inode %s", count, sum, about.st_mode, about.st_uid, about.st_gid,
        about.st_ino < 100 ? "small" : "large");
    if (directory) closedir(directory);
}

static void line_of(const char *file, const char *field) {
    FILE *status = fopen(file, "r");
    char line[512];
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, field, strlen(field))) fputs(line, stdout);
    if (status) fclose(status);
}

static void new_inode(void) {
    int file = open("inode", O_CREAT | O_WRONLY, 0600);
    struct stat about = {0};
    fstat(file, &about);
    item("inode of a new file", "%lu", (unsigned long)about.st_ino);
    unlink("inode");
    close(file);
}

static void observe(int argc, char **argv) {
    struct utsname system;
    uname(&system);
    item("pid", "%d", getpid());
    item("parent", "%d", getppid());
    item("session", "%d", getsid(0));
    item("group of processes", "%d", getpgrp());
    item("user", "%d %d %d %d", getuid(), geteuid(), getgid(), getegid());
    item("groups", "%d", getgroups(0, NULL));
    item("names", "%s %s", system.nodename, system.domainname);
    char cwd[PATH_MAX] = "";
    item("directory", "%s", getcwd(cwd, sizeof cwd) ? cwd : "none");
    mode_t mask = umask(0);
    item("mask", "%o", mask);
    item("priority", "%d", getpriority(PRIO_PROCESS, 0));
    item("policy", "%d", sched_getscheduler(0));
    item("io priority", "%ld", syscall(SYS_ioprio_get, 1, 0));
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    item("processors", "%d", CPU_COUNT(&cpus));
    item("timer slack", "%d", prctl(PR_GET_TIMERSLACK));
    item("dumpable", "%d", prctl(PR_GET_DUMPABLE));
    item("no new privileges", "%d", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    item("secure bits", "%d", prctl(PR_GET_SECUREBITS));
    item("personality", "%ld", syscall(SYS_personality, 0xffffffff));
    item("subreaper", "%d", prctl(PR_GET_CHILD_SUBREAPER, &(int){0}));
    for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
        struct rlimit limit;
        getrlimit(resource, &limit);
        item("limit", "%d: %lx %lx", resource, limit.rlim_cur, limit.rlim_max);
    }
    const char *fields[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "SigBlk", "SigIgn", "SigCgt",
        "SigPnd", "ShdPnd", "NSpid", "Threads", "TracerPid"};
    for (int i = 0; i < 14; i++) line_of("/proc/self/status", fields[i]);
    hash_file("mounts", "/proc/self/mounts");
    hash_file("cgroup", "/proc/self/cgroup");
    hash_file("oom score", "/proc/self/oom_score_adj");
    hash_file("user map", "/proc/self/uid_map");
    hash_file("shared memories", "/proc/sysvipc/shm");
    hash_file("semaphores", "/proc/sysvipc/sem");
    hash_file("messages", "/proc/sysvipc/msg");
    hash_file("interfaces", "/proc/net/dev");
    hash_file("tcp", "/proc/net/tcp");
    hash_file("unix sockets", "/proc/net/unix");
    hash_file("routes", "/proc/net/route");
    hash_file("swaps", "/proc/swaps");
    hash_file("ipc limits", "/proc/sys/kernel/shmmax");
    hash_file("namespaces allowed", "/proc/sys/user/max_user_namespaces");
    const char *directories[] = {"/", ".", "/tmp", "/dev", "/dev/shm", "/dev/pts", "/etc", "/proc/self/fd", "/var", "/run"};
    for (int i = 0; i < 10; i++) list(directories[i]);
    struct statvfs disk;
    statvfs(".", &disk);
    item("disk", "%lu blocks, %lu free, %lu files, %lu free", disk.f_blocks, disk.f_bfree, disk.f_files, disk.f_ffree);
    new_inode();
    struct shm_info memories;
    item("highest shared memory", "%d, in use %d", shmctl(0, SHM_INFO, (void *)&memories), memories.used_ids);
    extern char **environ;
    int count = 0;
    for (; environ[count]; count++) item("variable", "%s", environ[count]);
    item("variables", "%d", count);
    pid_t child = fork();
    if (child == 0) _exit(0);
    item("next pid", "%d", child - getpid());
    waitpid(child, NULL, 0);
    struct timespec offset;
    clock_gettime(CLOCK_BOOTTIME, &offset);
    item("running for", "%s", offset.tv_sec > 5 ? "long" : "a moment");
}

// Starts a child in a cgroup by clone3 and says whether it lives to its end.
static int born_into(int cgroup) {
    uint64_t arguments[11] = {0};
    arguments[0] = 0x200000000; // CLONE_INTO_CGROUP
    arguments[4] = SIGCHLD;
    arguments[10] = cgroup;
    int status = 0;
    pid_t child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0) _exit(0);
    if (child < 0 || waitpid(child, &status, 0) < 0) return -1;
    errno = EOWNERDEAD;
    return WIFEXITED(status) ? 0 : -1;
}

// The same by writing to cgroup.procs, as sandboxes do it.
static int moved_into(int cgroup) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        int procs = openat(cgroup, "cgroup.procs", O_WRONLY);
        _exit(write(procs, "0", 1) == 1 ? 0 : 1);
    }
    waitpid(child, &status, 0);
    errno = EOWNERDEAD;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

// What becomes of a cgroup of version 2 after it was killed as a whole. Some kernels kill for ever whoever is
// born into it from outside.
static void killed_cgroup(int argc, char **argv) {
    if (mkdir(argv[0], 0755)) perror(argv[0]);
    int cgroup = open(argv[0], O_RDONLY | O_DIRECTORY);
    TRY("born_before", born_into(cgroup));
    TRY("kill", write(openat(cgroup, "cgroup.kill", O_WRONLY), "1", 1));
    TRY("born_after", born_into(cgroup));
    TRY("moved_after", moved_into(cgroup));
    rmdir(argv[0]);
}

const struct attack observers[] = {{"observe", observe}, {"killed-cgroup", killed_cgroup}, {NULL, NULL}};
