// Attacks on the walls: mounts, namespaces, cgroups, devices, set-id programs, sockets of the host.
#include "hostile.h"
#include <arpa/inet.h>
#include <linux/mount.h>
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static void mounts(int argc, char **argv) {
    mkdir("/tmp/m", 0755);
    TRY("tmpfs", mount("none", "/tmp/m", "tmpfs", 0, ""));
    TRY("bind", mount("/", "/tmp/m", "", MS_BIND, ""));
    TRY("remount", mount("", "/", "", MS_REMOUNT | MS_BIND, ""));
    TRY("proc", mount("proc", "/tmp/m", "proc", 0, ""));
    TRY("umount", umount2("/proc", MNT_DETACH));
    TRY("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE));
    TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    TRY("pivot_root", syscall(SYS_pivot_root, "/tmp", "/tmp/m"));
    // The classic way out: a directory above the new root stays open.
    int above = open("/", O_PATH | O_DIRECTORY);
    TRY("chroot", chroot("/"));
    TRY("way_out", chroot(".") || fchdir(above) ? -1 : chroot("."));
}

static void namespaces(int argc, char **argv) {
    struct { const char *name; int flag; } kinds[] = {{"user", CLONE_NEWUSER}, {"mount", CLONE_NEWNS},
        {"net", CLONE_NEWNET}, {"pid", CLONE_NEWPID}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},
        {"cgroup", CLONE_NEWCGROUP}, {"time", 0x80}};
    char word[64];
    for (int i = 0; i < 8; i++) {
        int status;
        if (fork() == 0) _exit(unshare(kinds[i].flag) ? errno : 0);
        wait(&status);
        snprintf(word, sizeof word, "unshare_%s", kinds[i].name);
        errno = WEXITSTATUS(status);
        said(word, errno ? -1 : 0);
    }
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    said("clone_user", pid);
    uint64_t arguments[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    pid = syscall(SYS_clone3, arguments, sizeof arguments);
    if (pid == 0) _exit(0);
    said("clone3_user", pid);
    TRY("setns_own", setns(open("/proc/self/ns/ipc", O_RDONLY), 0));
    TRY("setns_init", setns(open("/proc/1/ns/mnt", O_RDONLY), 0));
}

static void cgroups(int argc, char **argv) {
    mkdir("/tmp/cg", 0755);
    TRY("mount_v1", mount("none", "/tmp/cg", "cgroup", 0, "memory"));
    TRY("mount_v2", mount("none", "/tmp/cg", "cgroup2", 0, ""));
    TRY("procs", open("/sys/fs/cgroup/cgroup.procs", O_WRONLY));
    TRY("procs_v1", open("/sys/fs/cgroup/memory/cgroup.procs", O_WRONLY));
    TRY("release_agent", open("/sys/fs/cgroup/memory/release_agent", O_WRONLY));
    errno = EPERM;
    said("path", holds("/proc/self/cgroup", "poolyard") ? 0 : -1);
}

static void devices(int argc, char **argv) {
    TRY("mknod", mknod("/tmp/disk", S_IFBLK | 0600, makedev(7, 0)));
    TRY("mknod_memory", mknod("memory", S_IFCHR | 0600, makedev(1, 1)));
    const char *opened[] = {"/dev/mem", "/dev/kmsg", "/dev/console", "/dev/tty0", "/dev/loop-control", "/dev/vda",
        "/dev/fuse", "/dev/net/tun", "/dev/kvm"};
    for (unsigned i = 0; i < sizeof opened / sizeof *opened; i++)
        TRY(opened[i], open(opened[i], O_RDWR | O_NONBLOCK | O_NOCTTY));
    // A name that somebody outside left in the shared memory of the host.
    errno = ENOENT;
    said("host_shm", argc > 0 && access(argv[0], R_OK) == 0 ? 0 : -1);
    TRY("change_null", chmod("/dev/null", 0666));
}

// Run as a set-id copy of this program, it says whether that gave it root.
static void set_id(int argc, char **argv) {
    if (argc == 0) {
        errno = EPERM;
        said("root_by_set_id", geteuid() == 0 && getuid() != 0 ? 0 : -1);
        return;
    }
    execl(argv[0], argv[0], "set-id", NULL);
    TRY("execute", -1);
}

// Families of sockets, and servers of the host: the name of an abstract one, the port of another.
static void sockets(int argc, char **argv) {
    struct { const char *name; int family, type, protocol; } kinds[] = {{"vsock", 40, SOCK_STREAM, 0},
        {"netlink", AF_NETLINK, SOCK_RAW, 0}, {"alg", 38, SOCK_SEQPACKET, 0}, {"packet", AF_PACKET, SOCK_RAW, 0},
        {"inet_raw", AF_INET, SOCK_RAW, IPPROTO_ICMP}, {"bluetooth", 31, SOCK_RAW, 1}, {"key", 15, SOCK_RAW, 2},
        {"can", 29, SOCK_RAW, 1}, {"rds", 21, SOCK_SEQPACKET, 0}, {"tipc", 30, SOCK_SEQPACKET, 0}};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        TRY(kinds[i].name, socket(kinds[i].family, kinds[i].type, kinds[i].protocol));
    if (argc < 2) return;
    struct sockaddr_un host = {.sun_family = AF_UNIX};
    strncpy(host.sun_path + 1, argv[0], 60);
    TRY("abstract_unix", connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&host, 3 + strlen(argv[0])));
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr = {htonl(0x7f000001)}};
    TRY("loopback_of_host", connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&port, sizeof port));
}

const struct attack worlds[] = {
    {"mounts", mounts},   {"namespaces", namespaces}, {"cgroups", cgroups}, {"devices", devices},
    {"set-id", set_id},   {"sockets", sockets},       {NULL, NULL},
};
