/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/rpc/unix_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

#define UNIX_BACKLOG 64
#define UNIX_NUMBER_MAX 65536

/* ---- Numbers ---- */

int
unix_numbers_init(struct unix_numbers *numbers)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return -errno;
    }
    int top = limit.rlim_cur < UNIX_NUMBER_MAX ? (int)limit.rlim_cur
                                               : UNIX_NUMBER_MAX;
    numbers->first = top / 2;
    numbers->count = top - numbers->first;
    numbers->next = 0;
    numbers->bindings =
        calloc((size_t)numbers->count, sizeof numbers->bindings[0]);
    if (numbers->bindings == NULL) {
        return -ENOMEM;
    }
    int result = pthread_mutex_init(&numbers->lock, NULL);
    if (result != 0) {
        free(numbers->bindings);
        numbers->bindings = NULL;
        return -result;
    }
    return 0;
}

void
unix_numbers_done(struct unix_numbers *numbers)
{
    if (numbers->bindings != NULL) {
        free(numbers->bindings);
        numbers->bindings = NULL;
        pthread_mutex_destroy(&numbers->lock);
    }
}

/* Binds a number to 'owner', unless it is bound to somebody else. */
static bool
unix_numbers_bind(struct unix_numbers *numbers, int index,
                  const struct unix_binding *owner)
{
    struct unix_binding *binding = &numbers->bindings[index];

    pthread_mutex_lock(&numbers->lock);
    bool is_mine = !binding->is_bound ||
                   (binding->uid == owner->uid && binding->gid == owner->gid);
    if (is_mine) {
        *binding = *owner;
        binding->is_bound = true;
    }
    pthread_mutex_unlock(&numbers->lock);
    return is_mine;
}

int
unix_numbers_take(struct unix_numbers *numbers, int fd,
                  const struct unix_binding *owner, int *ret_number)
{
    CLEANUP_FD int original = fd;
    int start = numbers->next;

    /* Once around, from where the last search ended. */
    for (int tried = 0; tried < numbers->count;) {
        int index = (start + tried) % numbers->count;
        int number = fcntl(original, F_DUPFD_CLOEXEC, numbers->first + index);
        int skipped = number - numbers->first - index;
        if (number < 0 || number >= numbers->first + numbers->count) {
            /* None is free from here to the end: go on at the beginning. */
            cleanup_fd(&number);
            tried += numbers->count - index;
            continue;
        }
        if (unix_numbers_bind(numbers, number - numbers->first, owner)) {
            numbers->next = (number - numbers->first + 1) % numbers->count;
            *ret_number = number;
            return 0;
        }
        close(number);
        tried += skipped + 1;
    }
    return -EMFILE;
}

bool
unix_numbers_find(struct unix_numbers *numbers, int number,
                  struct rpc_peer *peer)
{
    int index = number - numbers->first;
    if (index < 0 || index >= numbers->count) {
        return false;
    }
    pthread_mutex_lock(&numbers->lock);
    struct unix_binding binding = numbers->bindings[index];
    pthread_mutex_unlock(&numbers->lock);
    if (!binding.is_bound) {
        return false;
    }
    peer->transport = RPC_TRANSPORT_UNIX;
    peer->uid = binding.uid;
    peer->gid = binding.gid;
    peer->pid = binding.pid;
    snprintf(peer->address, sizeof peer->address, "unix:uid=%u,pid=%d",
             (unsigned)binding.uid, (int)binding.pid);
    return true;
}

/* ---- The listener ---- */

/* Whether somebody still accepts on the path. */
static bool
unix_is_served(const struct sockaddr_un *address)
{
    CLEANUP_FD int fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    return connect(fd, (const struct sockaddr *)address, sizeof *address) ==
               0 ||
           errno == EAGAIN;
}

static int
unix_bind(int fd, const struct sockaddr_un *address, mode_t mode)
{
    struct stat status;

    if (lstat(address->sun_path, &status) == 0) {
        if (!S_ISSOCK(status.st_mode) || unix_is_served(address)) {
            return -EADDRINUSE;
        }
        unlink(address->sun_path);
    }
    /* The mode is set before listen(): until then nobody can connect. */
    if (bind(fd, (const struct sockaddr *)address, sizeof *address) < 0 ||
        chmod(address->sun_path, mode) < 0 || listen(fd, UNIX_BACKLOG) < 0) {
        return -errno;
    }
    return 0;
}

int
unix_listener_open(const char *path, mode_t mode,
                   struct unix_listener *ret_listener, struct err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (path[0] != '/' || strlen(path) >= sizeof address.sun_path) {
        err_set(err,
                "\"unix:%s\": the path of the socket must be absolute and "
                "shorter than %zu bytes",
                path, sizeof address.sun_path);
        return -EINVAL;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    CLEANUP_FD int fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int result = fd < 0 ? -errno : unix_bind(fd, &address, mode);
    if (result < 0) {
        err_set(err, "cannot listen on \"unix:%s\": %s", path,
                result == -EADDRINUSE
                    ? "another server is there, or it is no socket"
                    : strerror(-result));
        return result;
    }
    ret_listener->fd = cleanup_take_fd(&fd);
    memcpy(ret_listener->path, address.sun_path, sizeof ret_listener->path);
    return 0;
}

void
unix_listener_close(struct unix_listener *listener)
{
    if (listener->fd >= 0) {
        close(listener->fd);
        unlink(listener->path);
        listener->fd = -1;
    }
}

int
unix_listener_accept(struct unix_listener *listener,
                     struct unix_numbers *numbers, int *ret_fd)
{
    CLEANUP_FD int fd =
        accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0) {
        return -errno;
    }
    const struct unix_binding owner = {
        .uid = credentials.uid,
        .gid = credentials.gid,
        .pid = credentials.pid,
    };
    return unix_numbers_take(numbers, cleanup_take_fd(&fd), &owner, ret_fd);
}
