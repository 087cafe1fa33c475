// What hostile programs share: how they say what they achieved.
//
// An attack prints one line per attempt, `<attempt> ok` or `<attempt> <error>`, and `done` when it has
// tried everything. It does not judge: whoever runs it does.
#pragma once
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct attack {
    const char *name;
    void (*run)(int argc, char **argv);
};

extern const struct attack processes[], kernel[], worlds[], traces[], hunger[], observers[];

// Prints how an attempt ended. A negative result is a failure with `errno`.
void said(const char *attempt, long result);

// Whether a file holds a text.
int holds(const char *path, const char *text);

#define TRY(attempt, call) said(attempt, (errno = 0, (long)(call)))
