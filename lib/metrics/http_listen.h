/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_METRICS_HTTP_LISTEN_H
#define LIB_METRICS_HTTP_LISTEN_H

/* The listening socket of the metrics server. */

#include <stdint.h>
#include <sys/un.h>

#include "lib/base/check.h"
#include "lib/base/err.h"

struct http_listener {
    int fd;
    uint16_t port;                                          /* 0: unix. */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": TCP. */
};

/* 'address' as in struct metrics_http_options. */
WEFT_MUST_CHECK int http_listener_open(const char *address,
                                       struct http_listener *ret_listener,
                                       struct err *err);

/* Closes, and removes the path of a unix socket. */
void http_listener_close(struct http_listener *listener);

#endif /* LIB_METRICS_HTTP_LISTEN_H */
