// Programs that take more than their share. Each ends by itself after a bounded amount.
#include "hostile.h"
#include <pthread.h>
#include <sys/ipc.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/xattr.h>

static const char PAGE[1 << 20];

static int number(int argc, char **argv, int at, int otherwise) {
    return argc > at ? atoi(argv[at]) : otherwise;
}

// As many processes at once as it can get, up to the number that is named.
static void fork_storm(int argc, char **argv) {
    static pid_t children[10000];
    int wanted = number(argc, argv, 0, 300), count = 0;
    while (count < wanted) {
        pid_t pid = fork();
        if (pid == 0) pause(), _exit(0);
        if (pid < 0) break;
        children[count++] = pid;
    }
    said("processes", count == wanted ? 0 : -1);
    while (count > 0) kill(children[--count], SIGKILL);
}

static void *wait_for_ever(void *unused) {
    pause();
    return unused;
}

static void thread_storm(int argc, char **argv) {
    int wanted = number(argc, argv, 0, 300), count = 0;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    pthread_t thread;
    while (count < wanted && !(errno = pthread_create(&thread, &small, wait_for_ever, NULL))) count++;
    said("threads", count == wanted ? 0 : -1);
}

// vfork and exec as fast as it goes.
static void exec_storm(int argc, char **argv) {
    for (int count = number(argc, argv, 0, 200); count > 0; count--) {
        pid_t pid = vfork();
        if (pid == 0) execl("/proc/self/exe", "hostile", "nothing", NULL), _exit(1);
        if (pid > 0 && count % 8 == 0) waitpid(pid, NULL, 0);
    }
}

static void nothing(int argc, char **argv) {
}

// Memory of each kind, in mebibytes, until the amount is reached.
static void take_memory(int argc, char **argv) {
    const char *kind = argc ? argv[0] : "anonymous";
    int wanted = number(argc, argv, 1, 96);
    size_t bytes = (size_t)wanted << 20;
    struct rlimit most = {4096, 4096};
    setrlimit(RLIMIT_NOFILE, &most);
    long result = 0;
    if (!strcmp(kind, "anonymous")) {
        char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
    } else if (!strcmp(kind, "memfd")) {
        int file = memfd_create("hungry", 0);
        for (int count = 0; count < wanted; count++) result |= write(file, PAGE, sizeof PAGE) < 0 ? -1 : 0;
    } else if (!strcmp(kind, "sysv")) {
        int id = shmget(IPC_PRIVATE, bytes, 0600);
        char *memory = shmat(id, NULL, 0);
        shmctl(id, IPC_RMID, NULL);
        for (size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
    } else if (!strcmp(kind, "tmpfs")) {
        int file = open("/dev/shm/hungry", O_CREAT | O_WRONLY, 0600);
        for (int count = 0; count < wanted; count++) result |= write(file, PAGE, sizeof PAGE) < 0 ? -1 : 0;
        unlink("/dev/shm/hungry");
    } else if (!strcmp(kind, "tables")) {
        // A page of every second mebibyte: the tables are most of what this takes.
        for (size_t at = 0; at < bytes / 4096; at++) {
            char *far = (char *)(0x100000000000 + (at << 21));
            result = mmap(far, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? -1 : 0;
            if (result) break;
            *far = 1;
        }
    } else if (!strcmp(kind, "sockets")) {
        size_t taken = 0;
        for (int count = 0; count < 2000 && taken < bytes; count++) {
            int ends[2];
            if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends)) break;
            for (ssize_t sent; (sent = write(ends[0], PAGE, 65536)) > 0; taken += sent);
        }
        result = taken < bytes ? -1 : 0;
    }
    said(kind, result);
}

// The disk, in each of its ways; what was got is for the caller to count.
static void take_disk(int argc, char **argv) {
    const char *kind = argc ? argv[0] : "bytes";
    int wanted = number(argc, argv, 1, 4000), count = 0;
    char name[300];
    if (!strcmp(kind, "bytes")) {
        int file = open("big", O_CREAT | O_WRONLY, 0600);
        while (count < wanted && write(file, PAGE, 4096) == 4096) count++;
    } else if (!strcmp(kind, "files")) {
        for (; count < wanted; count++) {
            snprintf(name, sizeof name, "f%d", count);
            int file = open(name, O_CREAT | O_WRONLY, 0600);
            if (file < 0) break;
            close(file);
        }
    } else if (!strcmp(kind, "deep")) {
        memset(name, 'd', 255), name[255] = 0;
        while (count < wanted && !mkdir(name, 0700) && !chdir(name)) count++;
    } else if (!strcmp(kind, "attributes")) {
        int file = open("marked", O_CREAT | O_WRONLY, 0600);
        for (; count < wanted; count++) {
            snprintf(name, sizeof name, "user.a%d", count);
            if (fsetxattr(file, name, PAGE, 4096, 0)) break;
        }
    }
    said(kind, count == wanted ? 0 : -1);
}

// More output than anybody wants, in bytes.
static void flood(int argc, char **argv) {
    for (int left = number(argc, argv, 0, 1 << 20); left > 0; left -= 4096)
        if (write(1, PAGE, 4096) < 0) return;
}

// Processor time in milliseconds, by several processes, past every signal that warns.
static void burn(int argc, char **argv) {
    int each = number(argc, argv, 0, 200);
    sysv_signal(SIGXCPU, SIG_IGN);
    for (int i = 0; i < 4; i++) {
        if (fork()) continue;
        while (clock() < each * (CLOCKS_PER_SEC / 1000));
        _exit(0);
    }
    while (wait(NULL) > 0);
    TRY("burned", 0);
}

// Ways not to end.
static void stay(int argc, char **argv) {
    const char *how = argc ? argv[0] : "stopped";
    puts("started");
    if (!strcmp(how, "stopped")) raise(SIGSTOP);
    if (!strcmp(how, "deaf")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        for (;;) pause();
    }
    if (!strcmp(how, "vfork") && vfork() == 0) for (;;) pause();
    if (!strcmp(how, "traced")) {
        pid_t child = fork();
        if (child == 0) ptrace(PTRACE_TRACEME, 0, 0, 0), raise(SIGSTOP), _exit(0);
        for (;;) pause();
    }
}

const struct attack hunger[] = {
    {"fork-storm", fork_storm},   {"thread-storm", thread_storm}, {"exec-storm", exec_storm}, {"nothing", nothing},
    {"take-memory", take_memory}, {"take-disk", take_disk},       {"flood", flood},           {"burn", burn},
    {"stay", stay},               {NULL, NULL},
};
