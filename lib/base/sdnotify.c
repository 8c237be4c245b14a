/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/sdnotify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/base/cleanup.h"

int
sdnotify_send(const char *state)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *path = getenv("NOTIFY_SOCKET");

    if (path == NULL || path[0] == '\0') {
        return 0;
    }
    size_t length = strlen(path);
    if ((path[0] != '/' && path[0] != '@') ||
        length >= sizeof address.sun_path) {
        return -EINVAL;
    }
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') {
        address.sun_path[0] = '\0'; /* The abstract name space. */
    }
    socklen_t size =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);

    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    size_t state_size = strlen(state);
    ssize_t sent = sendto(fd, state, state_size, MSG_NOSIGNAL,
                          (const struct sockaddr *)&address, size);
    if (sent < 0) {
        return -errno;
    }
    return (size_t)sent == state_size ? 0 : -EMSGSIZE;
}

int
sdnotify_ready(void)
{
    return sdnotify_send("READY=1");
}

int
sdnotify_stopping(void)
{
    return sdnotify_send("STOPPING=1");
}
