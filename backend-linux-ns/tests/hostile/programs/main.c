// Hostile programs, in one static binary: `hostile <attack> [words]`.
#include "hostile.h"

void said(const char *attempt, long result) {
    const char *how = result >= 0 ? "ok" : strerrorname_np(errno);
    printf("%s %s\n", attempt, how ? how : "failed");
    fflush(stdout);
}

int holds(const char *path, const char *text) {
    static char bytes[1 << 16];
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t length = read(fd, bytes, sizeof bytes);
    close(fd);
    return length > 0 && memmem(bytes, length, text, strlen(text)) != NULL;
}

int main(int argc, char **argv) {
    const struct attack *rooms[] = {processes, kernel, worlds, traces, hunger, observers};
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int room = 0; room < 6; room++) {
        for (const struct attack *attack = rooms[room]; attack->name; attack++) {
            if (argc > 1 && !strcmp(attack->name, argv[1])) {
                attack->run(argc - 2, argv + 2);
                puts("done");
                return 0;
            }
        }
    }
    fprintf(stderr, "there is no such attack\n");
    return 2;
}
