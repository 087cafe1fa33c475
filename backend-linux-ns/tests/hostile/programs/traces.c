// What one user leaves for the next, or shows to a neighbour.
#include "hostile.h"
#include <arpa/inet.h>
#include <linux/keyctl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/uio.h>
#include <sys/utsname.h>

enum { KEY = 0x706f6f6c };

static void leave_key(int argc, char **argv) {
    TRY("user_keyring", syscall(SYS_add_key, "user", argv[0], "secret", 6, KEY_SPEC_USER_KEYRING));
    TRY("session_keyring", syscall(SYS_add_key, "user", argv[0], "secret", 6, KEY_SPEC_USER_SESSION_KEYRING));
}

static void find_key(int argc, char **argv) {
    TRY("user_keyring", syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user", argv[0], 0));
    TRY("session_keyring", syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_USER_SESSION_KEYRING, "user", argv[0], 0));
}

static void leave_ipc(int argc, char **argv) {
    TRY("shared_memory", shmget(KEY, 4096, IPC_CREAT | 0666));
    TRY("semaphores", semget(KEY, 1, IPC_CREAT | 0666));
    int queue = msgget(KEY, IPC_CREAT | 0666);
    struct { long type; char text[8]; } message = {1, "secret"};
    TRY("messages", msgsnd(queue, &message, 8, IPC_NOWAIT));
    TRY("posix_queue", mq_open("/poolyard", O_CREAT | O_RDWR, 0666, NULL));
    TRY("posix_memory", shm_open("/poolyard", O_CREAT | O_RDWR, 0666));
}

static void find_ipc(int argc, char **argv) {
    TRY("shared_memory", shmget(KEY, 0, 0));
    TRY("semaphores", semget(KEY, 0, 0));
    struct { long type; char text[8]; } message;
    TRY("messages", msgrcv(msgget(KEY, 0), &message, 8, 0, IPC_NOWAIT));
    TRY("posix_queue", mq_open("/poolyard", O_RDWR));
    TRY("posix_memory", shm_open("/poolyard", O_RDWR, 0));
}

static void leave_files(int argc, char **argv) {
    const char *places[] = {"trace", "/tmp/trace", "/dev/shm/trace", "/var/tmp/trace", "/run/trace", "/trace",
        "/home/trace", "/etc/trace", "/dev/trace"};
    for (int i = 0; i < 9; i++) TRY(places[i], open(places[i], O_CREAT | O_WRONLY, 0666));
}

static void find_files(int argc, char **argv) {
    const char *places[] = {"trace", "/tmp/trace", "/dev/shm/trace", "/var/tmp/trace", "/run/trace", "/trace",
        "/home/trace", "/etc/trace", "/dev/trace"};
    for (int i = 0; i < 9; i++) TRY(places[i], access(places[i], F_OK));
}

// Sleepers that no signal but the last one ends, in sessions of their own, and a fork that races the kill.
static void leave_survivors(int argc, char **argv) {
    for (int signal = 1; signal < 32; signal++) sysv_signal(signal, SIG_IGN);
    int ready[2];
    if (pipe(ready)) return;
    for (int i = 0; i < 4; i++) {
        if (fork()) continue;
        setsid();
        if (fork()) _exit(0);
        prctl(PR_SET_NAME, "survivor");
        close(0), close(1), close(2);
        if (write(ready[1], "!", 1) != 1) _exit(1);
        sysv_signal(SIGCHLD, SIG_IGN);
        for (int child = 0; i == 3 && child < 2000; child++)
            if (fork() == 0) usleep(2000), _exit(0);
        for (;;) pause();
    }
    char each[4];
    for (int count = 0; count < 4; count += read(ready[0], each, 4));
    TRY("survivors", 0);
}

static void find_survivors(int argc, char **argv) {
    int found = 0;
    char path[64];
    for (int pid = 1; pid < 32768; pid++) {
        if (kill(pid, 0) && errno == ESRCH) continue;
        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        found |= holds(path, "survivor");
    }
    errno = ESRCH;
    said("survivors", found ? 0 : -1);
}

static int listener(int port) {
    int server = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(0x7f000001)}};
    return bind(server, (void *)&at, sizeof at) || listen(server, 1) ? -1 : server;
}

// A connection whose end keeps the port busy for a minute.
static void leave_network(int argc, char **argv) {
    int server = listener(4000);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(4000), .sin_addr = {htonl(0x7f000001)}};
    int client = socket(AF_INET, SOCK_STREAM, 0);
    TRY("connect", connect(client, (void *)&at, sizeof at));
    int served = accept(server, NULL, NULL);
    close(served);
    char end;
    (void)!read(client, &end, 1);
    close(client);
    close(server);
}

static void find_network(int argc, char **argv) {
    int server = listener(4000);
    errno = ENOENT;
    said("busy_port", server < 0 ? 0 : -1);
    long received = 0;
    FILE *counters = fopen("/proc/net/dev", "r");
    char line[512];
    while (counters && fgets(line, sizeof line, counters)) sscanf(line, " lo: %ld", &received);
    errno = ENOENT;
    said("counters", received > 0 ? 0 : -1);
}

// Holds a lock on a file that others may share, watches it, and says when it is ready. Ends with its input.
static void hold_lock(int argc, char **argv) {
    int file = open(argv[0], O_RDONLY), events = inotify_init();
    TRY("lock", flock(file, LOCK_EX | LOCK_NB));
    TRY("watch", inotify_add_watch(events, argv[0], IN_OPEN | IN_ACCESS | IN_CLOSE));
    puts("ready");
    char buffer[4096];
    while (read(0, buffer, sizeof buffer) > 0);
    fcntl(events, F_SETFL, O_NONBLOCK);
    TRY("saw_activity", read(events, buffer, sizeof buffer));
}

static void probe_lock(int argc, char **argv) {
    int file = open(argv[0], O_RDONLY);
    char byte;
    (void)!read(file, &byte, 1);
    int locked = flock(file, LOCK_EX | LOCK_NB);
    errno = ENOENT;
    said("saw_lock", locked ? 0 : -1);
}

// Whether pages of a shared file are in memory can be asked.
static void page_presence(int argc, char **argv) {
    char byte;
    struct iovec part = {&byte, 1};
    TRY("nowait", preadv2(open(argv[0], O_RDONLY), &part, 1, 0, RWF_NOWAIT));
}

// Changes everything that a process passes on, then becomes the program that is named.
static void leave_attributes(int argc, char **argv) {
    setpriority(PRIO_PROCESS, 0, 7);
    struct sched_param none = {0};
    sched_setscheduler(0, SCHED_BATCH, &none);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    syscall(SYS_ioprio_set, 1, 0, (3 << 13));
    prctl(PR_SET_TIMERSLACK, 12345);
    struct rlimit limit = {99, 99};
    setrlimit(RLIMIT_NOFILE, &limit);
    umask(0123);
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    sysv_signal(SIGTERM, SIG_IGN);
    FILE *score = fopen("/proc/self/oom_score_adj", "w");
    if (score) fputs("500", score), fclose(score);
    if (argc) execl("/proc/self/exe", "hostile", argv[0], NULL);
}

const struct attack traces[] = {
    {"leave-key", leave_key},         {"find-key", find_key},
    {"leave-ipc", leave_ipc},         {"find-ipc", find_ipc},
    {"leave-files", leave_files},     {"find-files", find_files},
    {"leave-survivors", leave_survivors}, {"find-survivors", find_survivors},
    {"leave-network", leave_network}, {"find-network", find_network},
    {"hold-lock", hold_lock},         {"probe-lock", probe_lock},
    {"page-presence", page_presence}, {"leave-attributes", leave_attributes},
    {NULL, NULL},
};
