/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "client/cli/progress.h"
#include "lib/base/cleanup.h"

#define QCOW2_MAGIC "QFI\xfb"
#define QCOW2_SIZE_OFFSET 24u
#define QCOW2_HEAD_SIZE 32u

extern char **environ;

/* The size of a file or block device. */
static int
transfer_size(int fd, uint64_t *ret_bytes)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        return -errno;
    }
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
        return -EINVAL;
    }
    off64_t end = lseek64(fd, 0, SEEK_END);
    if (end < 0) {
        return -errno;
    }
    *ret_bytes = (uint64_t)end;
    return 0;
}

int
transfer_probe(const char *path, const char **ret_format, uint64_t *ret_bytes)
{
    uint8_t head[QCOW2_HEAD_SIZE];
    uint64_t bytes = 0;
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int result = fd < 0 ? -errno : transfer_size(fd, &bytes);

    if (result < 0) {
        cli_error("cannot read \"%s\": %s", path,
                  result == -EINVAL ? "it is neither a file nor a block device"
                                    : strerror(-result));
        return result;
    }
    ssize_t size = pread(fd, head, sizeof head, 0);
    *ret_format = "raw";
    if (size == sizeof head && memcmp(head, QCOW2_MAGIC, 4) == 0) {
        *ret_format = "qcow2";
        bytes = 0;
        for (size_t i = 0; i < 8; i++) {
            bytes = bytes << 8 | head[QCOW2_SIZE_OFFSET + i];
        }
    }
    *ret_bytes = bytes;
    return 0;
}

/* "    (12.34/100%)" */
static void
transfer_show(struct cli_progress *bar, const char *line)
{
    double percent;
    const char *open = strchr(line, '(');
    if (open != NULL && sscanf(open, "(%lf/100%%)", &percent) == 1 &&
        percent >= 0 && percent <= 100) {
        cli_progress_show(bar, (uint64_t)(percent * 100), 10000);
    }
}

static void
transfer_follow(int fd, struct cli_progress *bar)
{
    char line[128];
    size_t used = 0;
    ssize_t size;

    while ((size = read(fd, line + used, sizeof line - 1 - used)) != 0) {
        if (size < 0) {
            if (errno == EINTR) {
                continue;
            }
            return;
        }
        used += (size_t)size;
        line[used] = '\0';
        /* Lines end with a carriage return; what is too long is no line. */
        if (strpbrk(line, "\r\n") != NULL || used == sizeof line - 1) {
            transfer_show(bar, line);
            used = 0;
        }
    }
}

/* Starts the child with our end of its stdout in '*ret_fd'. */
static int
transfer_spawn(const char *const *arguments, pid_t *ret_pid, int *ret_fd)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    int pipes[2];

    if (pipe2(pipes, O_CLOEXEC) < 0) {
        return -errno;
    }
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
    posix_spawnattr_init(&attributes);
    /* We have blocked the signals by which it is to end. */
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    union {
        const char *const *from;
        char *const *to; /* posix_spawnp() does not write through it. */
    } both = { .from = arguments };
    /* Not fork(): gRPC's threads are running. */
    int result = posix_spawnp(ret_pid, arguments[0], &actions, &attributes,
                              both.to, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    if (result != 0) {
        close(pipes[0]);
        return -result;
    }
    *ret_fd = pipes[0];
    return 0;
}

int
transfer_run(const char *const *arguments, const char *label)
{
    struct cli_progress bar;
    pid_t pid;
    int status;
    CLEANUP_FD int fd = -1;
    int result = transfer_spawn(arguments, &pid, &fd);

    if (result < 0) {
        cli_error("cannot run qemu-img: %s",
                  result == -ENOENT ? "it is not installed (Debian: apt-get "
                                      "install qemu-utils)"
                                    : strerror(-result));
        return result;
    }
    cli_interrupt_child(pid);
    cli_progress_init(&bar, label);
    transfer_follow(fd, &bar);
    cli_progress_clear(&bar);
    while (waitpid(pid, &status, 0) < 0) {
        CHECK(errno == EINTR);
    }
    cli_interrupt_child(0);
    if (cli_is_interrupted()) {
        cli_error("interrupted");
        return -ECANCELED;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        cli_error("qemu-img %s failed", arguments[1]);
        return -EIO;
    }
    return 0;
}
