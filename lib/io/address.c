/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define TCP_PREFIX "tcp:"
#define UNIX_PREFIX "unix:"

/* Decimal digits only, no sign, no blank, at most 65535. */
static int
io_address_parse_port(const char *text, in_port_t *ret_port)
{
    uint32_t port = 0;

    if (*text == '\0') {
        return -EINVAL;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return -EINVAL;
        }
        port = port * 10 + (uint32_t)(*text - '0');
        if (port > UINT16_MAX) {
            return -EINVAL;
        }
    }
    *ret_port = htons((uint16_t)port);
    return 0;
}

static int
io_address_parse_tcp(const char *text, struct io_address *address)
{
    char host[INET6_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    size_t host_size;
    in_port_t port;
    int rc;

    if (colon == NULL) {
        return -EINVAL;
    }
    rc = io_address_parse_port(colon + 1, &port);
    if (rc != 0) {
        return rc;
    }
    host_size = (size_t)(colon - text);
    if (host_size >= 2 && text[0] == '[' && text[host_size - 1] == ']') {
        text++;
        host_size -= 2;
        address->u.ipv6.sin6_family = AF_INET6;
        address->u.ipv6.sin6_port = port;
        address->size = sizeof(address->u.ipv6);
    } else {
        address->u.ipv4.sin_family = AF_INET;
        address->u.ipv4.sin_port = port;
        address->size = sizeof(address->u.ipv4);
    }
    if (host_size >= sizeof(host)) {
        return -EINVAL;
    }
    memcpy(host, text, host_size);
    host[host_size] = '\0';
    if (address->u.any.sa_family == AF_INET6) {
        rc = inet_pton(AF_INET6, host, &address->u.ipv6.sin6_addr);
    } else {
        rc = inet_pton(AF_INET, host, &address->u.ipv4.sin_addr);
    }
    return rc == 1 ? 0 : -EINVAL;
}

static int
io_address_parse_unix(const char *path, struct io_address *address)
{
    size_t length = strlen(path);

    /* Also refuses the nameless and the abstract kind. */
    if (path[0] != '/' || length >= sizeof(address->u.path.sun_path)) {
        return -EINVAL;
    }
    address->u.path.sun_family = AF_UNIX;
    memcpy(address->u.path.sun_path, path, length + 1);
    address->size =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    return 0;
}

int
io_address_parse(const char *text, struct io_address *ret_address)
{
    struct io_address address = { 0 };
    int rc = -EINVAL;

    if (strncmp(text, TCP_PREFIX, strlen(TCP_PREFIX)) == 0) {
        rc = io_address_parse_tcp(text + strlen(TCP_PREFIX), &address);
    } else if (strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0) {
        rc = io_address_parse_unix(text + strlen(UNIX_PREFIX), &address);
    }
    if (rc == 0) {
        *ret_address = address;
    }
    return rc;
}

bool
io_address_is_tcp(const struct io_address *address)
{
    return address->u.any.sa_family != AF_UNIX;
}

void
io_address_format(const struct io_address *address,
                  char ret_text[IO_ADDRESS_SIZE])
{
    char host[INET6_ADDRSTRLEN] = "";

    switch (address->u.any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &address->u.ipv4.sin_addr, host, sizeof(host));
        snprintf(ret_text, IO_ADDRESS_SIZE, TCP_PREFIX "%s:%u", host,
                 (unsigned)ntohs(address->u.ipv4.sin_port));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &address->u.ipv6.sin6_addr, host, sizeof(host));
        snprintf(ret_text, IO_ADDRESS_SIZE, TCP_PREFIX "[%s]:%u", host,
                 (unsigned)ntohs(address->u.ipv6.sin6_port));
        break;
    default:
        snprintf(ret_text, IO_ADDRESS_SIZE, UNIX_PREFIX "%.*s",
                 (int)sizeof(address->u.path.sun_path),
                 address->u.path.sun_path);
        break;
    }
}
