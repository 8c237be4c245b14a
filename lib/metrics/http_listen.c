/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/metrics/http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/units.h"

#define HTTP_BACKLOG 16

union http_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
    struct sockaddr_storage storage;
};

/* "1.2.3.4:80" or "[::1]:80". */
static int
http_parse_tcp(const char *text, union http_address *ret_address,
               socklen_t *ret_size)
{
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN + 2];
    uint64_t port;

    if (colon == NULL || (size_t)(colon - text) >= sizeof host ||
        units_parse_u64(colon + 1, &port) < 0 || port > UINT16_MAX) {
        return -EINVAL;
    }
    size_t size = (size_t)(colon - text);
    memcpy(host, text, size);
    host[size] = '\0';

    if (inet_pton(AF_INET, host, &ret_address->v4.sin_addr) == 1) {
        ret_address->v4.sin_family = AF_INET;
        ret_address->v4.sin_port = htons((uint16_t)port);
        *ret_size = sizeof ret_address->v4;
        return 0;
    }
    if (size < 2 || host[0] != '[' || host[size - 1] != ']') {
        return -EINVAL;
    }
    host[size - 1] = '\0';
    if (inet_pton(AF_INET6, host + 1, &ret_address->v6.sin6_addr) != 1) {
        return -EINVAL;
    }
    ret_address->v6.sin6_family = AF_INET6;
    ret_address->v6.sin6_port = htons((uint16_t)port);
    *ret_size = sizeof ret_address->v6;
    return 0;
}

/* A socket that a dead process left is removed; nothing else is. */
static void
http_remove_socket(const char *path)
{
    struct stat status;
    if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode)) {
        unlink(path);
    }
}

static int
http_bind(int fd, const union http_address *address, socklen_t size,
          uint16_t *ret_port)
{
    int on = 1;
    if (address->any.sa_family != AF_UNIX &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) {
        return -errno;
    }
    if (bind(fd, &address->any, size) < 0 || listen(fd, HTTP_BACKLOG) < 0) {
        return -errno;
    }
    union http_address bound = { .storage = { 0 } };
    socklen_t bound_size = sizeof bound;
    if (getsockname(fd, &bound.any, &bound_size) < 0) {
        return -errno;
    }
    if (bound.any.sa_family == AF_INET) {
        *ret_port = ntohs(bound.v4.sin_port);
    } else if (bound.any.sa_family == AF_INET6) {
        *ret_port = ntohs(bound.v6.sin6_port);
    }
    return 0;
}

int
http_listener_open(const char *text, struct http_listener *ret_listener,
                   struct err *err)
{
    struct http_listener listener = { .fd = -1 };
    union http_address address = { .storage = { 0 } };
    socklen_t size = 0;

    if (strncmp(text, "unix:", 5) == 0) {
        const char *path = text + 5;
        if (path[0] != '/' || strlen(path) >= sizeof listener.path) {
            err_set(err,
                    "\"%s\": the path of the socket must be absolute and "
                    "shorter than %zu bytes",
                    text, sizeof listener.path);
            return -EINVAL;
        }
        memcpy(listener.path, path, strlen(path) + 1);
        address.local.sun_family = AF_UNIX;
        memcpy(address.local.sun_path, path, strlen(path) + 1);
        size = sizeof address.local;
        http_remove_socket(path);
    } else if (http_parse_tcp(text, &address, &size) < 0) {
        err_set(err,
                "\"%s\" is not an address to listen on; give "
                "\"127.0.0.1:9200\", \"[::1]:9200\" or \"unix:/PATH\"",
                text);
        return -EINVAL;
    }

    CLEANUP_FD int fd = socket(address.any.sa_family,
                               SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int result =
        fd < 0 ? -errno : http_bind(fd, &address, size, &listener.port);
    if (result < 0) {
        err_set(err, "cannot listen on \"%s\": %s", text, strerror(-result));
        return result;
    }
    listener.fd = cleanup_take_fd(&fd);
    *ret_listener = listener;
    return 0;
}

void
http_listener_close(struct http_listener *listener)
{
    close(listener->fd);
    listener->fd = -1;
    if (listener->path[0] != '\0') {
        http_remove_socket(listener->path);
    }
}
