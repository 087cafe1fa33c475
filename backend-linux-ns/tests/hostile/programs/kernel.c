// Attacks on the kernel's surface: what is refused, what is absent, what can be written.
#include "hostile.h"
#include <linux/perf_event.h>
#include <sys/timex.h>

// A refusal is EPERM, EACCES, EROFS or a call that does not exist. Any other answer came from inside.
static void reached(const char *attempt, long result) {
    int refused = errno == EPERM || errno == EACCES || errno == ENOSYS || errno == EROFS;
    said(attempt, result >= 0 || !refused ? 0 : -1);
}
#define REACH(attempt, call) (errno = 0, reached(attempt, (long)(call)))

static void surface(int argc, char **argv) {
    static char parameters[128];
    REACH("io_uring", syscall(SYS_io_uring_setup, 1, parameters));
    REACH("userfaultfd", syscall(SYS_userfaultfd, 0));
    REACH("bpf", syscall(SYS_bpf, 0, parameters, sizeof parameters));
    struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event};
    REACH("perf_event", syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
    REACH("kexec", syscall(SYS_kexec_load, 0, 1000, NULL, 0));
    REACH("module", syscall(SYS_init_module, NULL, 0, ""));
    REACH("quotactl", syscall(SYS_quotactl, 0x800003 << 8, "/none", 0, NULL));
    char handle[64] = {0};
    *(unsigned *)handle = 8;
    int mount_id;
    REACH("name_to_handle", syscall(SYS_name_to_handle_at, AT_FDCWD, "/", handle, &mount_id, 0));
    REACH("open_by_handle", syscall(SYS_open_by_handle_at, open("/", O_RDONLY), handle, O_RDONLY));
    REACH("acct", syscall(SYS_acct, "/none"));
    REACH("swapon", syscall(SYS_swapon, "/none", 0));
    REACH("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
    REACH("fanotify", syscall(SYS_fanotify_init, 0, 0));
    REACH("keyctl", syscall(SYS_keyctl, 0, -4, 0));
    REACH("traceme", syscall(SYS_ptrace, 0, 0, 0, 0));
    REACH("personality", syscall(SYS_personality, 0x0400000));
#ifdef __x86_64__
    REACH("iopl", syscall(SYS_iopl, 3));
    REACH("modify_ldt", syscall(SYS_modify_ldt, 0, parameters, sizeof parameters));
#endif
}

// System calls of other architectures, past a filter that knows only this one.
static void foreign_calls(int argc, char **argv) {
#ifdef __x86_64__
    int status;
    if (fork() == 0) {
        long pid = 20; // getpid of i386
        __asm__ volatile("int $0x80" : "+a"(pid) : : "memory", "r8", "r9", "r10", "r11");
        _exit(pid == getpid() ? 0 : 1);
    }
    wait(&status);
    errno = EPERM;
    said("i386", WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1);
    if (fork() == 0) _exit(syscall(0x40000000 | SYS_getpid) == getpid() ? 0 : 1);
    wait(&status);
    errno = EPERM;
    said("x32", WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1);
#endif
}

// Opens a file of /proc. One that is covered by a device that holds nothing is as good as none.
static int uncovered(const char *path, int flags) {
    struct stat about;
    int file = open(path, flags | O_NONBLOCK);
    if (file < 0 || fstat(file, &about) || !S_ISCHR(about.st_mode) || strncmp(path, "/proc", 5)) return file;
    errno = EACCES;
    return -1;
}

// Files through which the kernel is set or asked. Only opened: opening is where it is decided.
static void kernel_files(int argc, char **argv) {
    const char *written[] = {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches",
        "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger", "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/net/ipv4/ip_forward", "/proc/sys/user/max_user_namespaces", "/sys/kernel/uevent_helper",
        "/sys/power/state", "/proc/self/loginuid", "/proc/irq/default_smp_affinity"};
    for (unsigned i = 0; i < sizeof written / sizeof *written; i++) TRY(written[i], uncovered(written[i], O_WRONLY));
}

// What tells about the host, its kernel and its users. The words are texts that only the host should know.
static void secrets(int argc, char **argv) {
    TRY("dmesg", syscall(SYS_syslog, 3, (char[64]){0}, 64));
    const char *read[] = {"/proc/kcore", "/dev/mem", "/dev/kmsg", "/dev/port"};
    for (unsigned i = 0; i < sizeof read / sizeof *read; i++) TRY(read[i], uncovered(read[i], O_RDONLY));
    FILE *symbols = fopen("/proc/kallsyms", "r");
    unsigned long address = 0;
    int known = symbols && fscanf(symbols, "%lx", &address) == 1 && address;
    errno = EPERM;
    said("kallsyms", known ? 0 : -1);
    said("keys", holds("/proc/keys", "keyring") ? 0 : -1);
    said("timer_list", holds("/proc/timer_list", "hrtimer") ? 0 : -1);
    int found = 0;
    char path[PATH_MAX];
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; argc > 0 && proc && (entry = readdir(proc));) {
        if (atoi(entry->d_name) == getpid() || entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
        snprintf(path, sizeof path, "/proc/%.20s/environ", entry->d_name);
        found |= holds(path, argv[0]);
    }
    errno = ENOENT;
    said("environment", argc > 0 && (found || holds("/proc/self/environ", argv[0])) ? 0 : -1);
    said("host_file", argc > 1 && access(argv[1], R_OK) == 0 ? 0 : -1);
    struct rlimit core;
    getrlimit(RLIMIT_CORE, &core);
    said("core_dumps", core.rlim_max > 0 ? 0 : -1);
}

// The clocks. The frequency is set to what it is, so that a success harms nobody.
static void clocks(int argc, char **argv) {
    struct timex state = {0};
    adjtimex(&state);
    state.modes = ADJ_FREQUENCY;
    TRY("adjtimex", adjtimex(&state));
    state.modes = ADJ_FREQUENCY;
    TRY("clock_adjtime", clock_adjtime(CLOCK_REALTIME, &state));
    TRY("timens_offsets", open("/proc/self/timens_offsets", O_WRONLY));
}

// Characters typed into the terminal that somebody outside reads, as if by its user.
static void type_into_terminal(int argc, char **argv) {
    setsid();
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY), unlocked = 0;
    ioctl(master, TIOCSPTLCK, &unlocked);
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR);
    ioctl(slave, TIOCSCTTY, 0);
    TRY("tiocsti", ioctl(slave, TIOCSTI, "x"));
    char paste = 3;
    TRY("tioclinux", ioctl(slave, TIOCLINUX, &paste));
}

const struct attack kernel[] = {
    {"surface", surface}, {"foreign-calls", foreign_calls}, {"kernel-files", kernel_files},
    {"secrets", secrets}, {"clocks", clocks},               {"type-into-terminal", type_into_terminal},
    {NULL, NULL},
};
