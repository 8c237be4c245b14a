/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_METRICS_HTTP_H
#define LIB_METRICS_HTTP_H

/* A small HTTP/1.1 server for a registry:
 *
 *     GET /metrics   the registry as OpenMetrics text
 *     GET /healthz   200 or 503 and a line of text
 *
 * HEAD is answered, too; every other method gets 405, every other path 404,
 * what is not HTTP/1.x 400, a head over METRICS_HTTP_HEAD_SIZE 431, and a
 * client that is too slow is cut off.  There are no bodies in requests and one
 * request a connection.  When METRICS_HTTP_CONNECTION_MAX clients are connected
 * further ones wait in the listen queue.
 *
 * Thread: one of its own, which owns all sockets; start and stop are called by
 * any one thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/metrics/metrics.h"

#define METRICS_HTTP_HEAD_SIZE 4096u
#define METRICS_HTTP_CONNECTION_MAX 16u
#define METRICS_HTTP_TEXT_SIZE 256u

struct metrics_http;
struct metrics_health;

/* Whether all is well, and a line about it.  Called on the server's thread. */
typedef bool metrics_health_fn(struct metrics_health *health,
                               char ret_text[METRICS_HTTP_TEXT_SIZE]);

/* Embedded in what knows the answer. */
struct metrics_health {
    metrics_health_fn *check;
};

struct metrics_http_options {
    /* "ADDRESS:PORT", "[V6ADDRESS]:PORT" (numeric; port 0: any free one), or
     * "unix:/PATH", where a socket that is left over is replaced. */
    const char *listen;
    struct metrics_registry *registry; /* Borrowed until stop. */
    struct metrics_health *health;     /* The same; NULL: always well. */
    uint64_t timeout_ns;               /* For one connection; 0: 5 s. */
};

/* -EINVAL and other errors with 'err' set. */
WEFT_MUST_CHECK int
metrics_http_start(const struct metrics_http_options *options,
                   struct metrics_http **ret_server, struct err *err);

/* The TCP port, 0 for a unix socket. */
uint16_t metrics_http_port(const struct metrics_http *server);

/* Cuts all connections, waits for the thread and frees.  Accepts NULL. */
void metrics_http_stop(struct metrics_http *server);

#endif /* LIB_METRICS_HTTP_H */
