/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SERVICE_DAEMON_H
#define SERVICE_DAEMON_H

/* The frame of a daemon: arguments, configuration, limits, directories,
 * signals, metrics, readiness, stop.  What it does in between is the kind's.
 *
 *     main() -> daemon_main() -> start() -> "ready" -> the loop, till
 *     loop_stop() -> free()
 *
 * The first SIGTERM or SIGINT calls stop(), which ends the loop by loop_stop(),
 * at once or when all is tidy; a second one ends the process at once.  A start
 * that fails ends the process with 1, and bad arguments or a bad configuration
 * with 2.
 *
 * Options that each kind must have: [host] name, [api] listen (repeated),
 * [metrics] listen, [log] level.  All of [paths] are directories, and made.
 *
 * Thread: the main thread, which is the control thread. */

#include "lib/base/config.h"
#include "lib/base/err.h"
#include "lib/metrics/metrics.h"
#include "lib/state/loop.h"

struct daemon;

struct daemon_kind {
    const char *name; /* "blockd"; reads /etc/weft/NAME.conf by default. */
    const struct config_option *options;
    size_t options_count;
    /* -errno with the reason in 'err'.  The process then ends: nothing has to
     * be undone. */
    int (*start)(struct daemon *daemon, struct err *err);
    void (*stop)(struct daemon *daemon);
    /* After the loop has ended and the metrics are no longer served. */
    void (*free)(struct daemon *daemon);
};

/* Embedded in the daemon's own struct, all zero before daemon_main(). */
struct daemon {
    const struct daemon_kind *kind;
    struct config *config;
    struct loop *loop;
    struct metrics_registry *registry;
    const char *const *listen; /* Of [api], without the empty; NULL ends it. */
    const char *version;
};

/* Runs a daemon of this kind to its end.  Returns the exit code. */
int daemon_main(struct daemon *daemon, const struct daemon_kind *kind, int argc,
                char **argv);

#endif /* SERVICE_DAEMON_H */
