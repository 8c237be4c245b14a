/* SPDX-License-Identifier: Apache-2.0 */

/* blockd: the block storage daemon.
 *
 *     reactors (lib/io)      all I/O; one thread and io_uring each
 *     control thread         this one: database, cluster, API handlers
 *     gRPC, metrics          threads of their own; they hand over to the
 * control thread
 *
 * SIGTERM and SIGINT: the API stops, volumes are drained, flushed and
 * released, disks are closed, then it ends with 0.  A second signal ends it at
 * once. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "blockd/api/api.h"
#include "blockd/cluster/cluster.h"
#include "blockd/options.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/units.h"
#include "lib/io/uring.h"
#include "service/daemon.h"

#define STOP_GRACE_NS (20 * NS_PER_S)

struct blockd {
    struct daemon daemon;
    struct state *state, *manager;
    struct reactor *reactors[CLUSTER_REACTORS_MAX];
    uint32_t reactor_count;
    struct cluster *cluster;
    struct api *api;
    struct loop_timer stop_timer;
};

/* ---- Stop ---- */

static void
blockd_stopped(void *owner)
{
    struct blockd *blockd = owner;

    loop_timer_cancel(blockd->daemon.loop, &blockd->stop_timer);
    loop_stop(blockd->daemon.loop);
}

static void
blockd_stop_late(struct loop_timer *timer)
{
    (void)timer;
    log_error("blockd", "could not stop in time, ending; attached volumes "
                        "will be reconciled at the next start");
    _exit(1);
}

static void
blockd_stop(struct daemon *daemon)
{
    struct blockd *blockd = container_of(daemon, struct blockd, daemon);

    loop_timer_init(&blockd->stop_timer, blockd_stop_late);
    loop_timer_set(blockd->daemon.loop, &blockd->stop_timer,
                   loop_now_ns() + STOP_GRACE_NS);
    api_stop(blockd->api);
    cluster_stop(blockd->cluster, blockd_stopped, blockd);
}

/* ---- Start ---- */

static int
blockd_start_reactors(struct blockd *blockd, struct err *err)
{
    uint32_t count =
        (uint32_t)config_u64(blockd->daemon.config, "reactor", "count");

    for (uint32_t i = 0; i < count; i++) {
        struct reactor_options options;
        reactor_options_init(&options);
        (void)snprintf(options.name, sizeof options.name, "reactor-%u", i);
        options.arena_bytes =
            config_u64(blockd->daemon.config, "reactor", "memory");
        int result = reactor_new(&options, &blockd->reactors[i]);
        if (result != 0) {
            err_set(err, "reactor %u: %s", i, strerror(-result));
            return result;
        }
        blockd->reactor_count++;
        result = reactor_start(blockd->reactors[i]);
        if (result != 0) {
            err_set(err, "reactor %u: the io_uring cannot be set up: %s", i,
                    strerror(-result));
            return result;
        }
    }
    return 0;
}

static int
blockd_open_database(struct blockd *blockd, struct err *err)
{
    struct state_options options = {
        .remotes = config_string(blockd->daemon.config, "database", "remotes"),
    };
    int result = state_open(blockd->daemon.loop, &options, &blockd->state);
    if (result == 0) {
        options.is_leader_only = true;
        options.lock = "storage_manager";
        result = state_open(blockd->daemon.loop, &options, &blockd->manager);
    }
    if (result != 0) {
        err_set(err, "[database] remotes = %s: %s", options.remotes,
                strerror(-result));
    }
    return result;
}

static int
blockd_start_cluster(struct blockd *blockd, struct err *err)
{
    const struct config *config = blockd->daemon.config;
    struct cluster_options options = {
        .loop = blockd->daemon.loop,
        .registry = blockd->daemon.registry,
        .state = blockd->state,
        .manager = blockd->manager,
        .reactor_count = blockd->reactor_count,
        .host = config_string(config, "host", "name"),
        .rack = config_string(config, "host", "rack"),
        .peer_listen = config_string(config, "peer", "listen"),
        .peer_address = config_string(config, "peer", "address"),
        .api_endpoint = config_string_at(config, "api", "listen", 0),
        .nbd_listen = config_string(config, "nbd", "listen"),
        .run_dir = config_string(config, "paths", "run_dir"),
        .state_dir = config_string(config, "paths", "state_dir"),
        .version = blockd->daemon.version,
        .spin_us =
            (uint32_t)(config_u64(config, "reactor", "spin") / NS_PER_US),
        .resync_bytes_per_s = config_u64(config, "storage", "resync_rate"),
        .assume_nonvolatile = config_enum(config, "storage", "cache") == 1,
    };
    for (uint32_t i = 0; i < blockd->reactor_count; i++) {
        options.reactors[i] = reactor_io(blockd->reactors[i]);
    }
    return cluster_new(&options, err, &blockd->cluster);
}

static int
blockd_start_api(struct blockd *blockd, struct err *err)
{
    struct api_options options = {
        .loop = blockd->daemon.loop,
        .cluster = blockd->cluster,
        .manager = blockd->manager,
        .listen = blockd->daemon.listen,
        .version = blockd->daemon.version,
        .database = config_string(blockd->daemon.config, "database", "remotes"),
    };
    return api_new(&options, err, &blockd->api);
}

static int
blockd_start(struct daemon *daemon, struct err *err)
{
    struct blockd *blockd = container_of(daemon, struct blockd, daemon);
    int result = blockd_start_reactors(blockd, err);

    if (result == 0) {
        result = blockd_open_database(blockd, err);
    }
    if (result == 0) {
        result = blockd_start_cluster(blockd, err);
    }
    if (result == 0) {
        result = blockd_start_api(blockd, err);
    }
    return result;
}

static void
blockd_free(struct daemon *daemon)
{
    struct blockd *blockd = container_of(daemon, struct blockd, daemon);

    api_free(blockd->api);
    cluster_free(blockd->cluster);
    state_close(blockd->manager);
    state_close(blockd->state);
    for (uint32_t i = 0; i < blockd->reactor_count; i++) {
        reactor_stop(blockd->reactors[i]);
    }
    for (uint32_t i = 0; i < blockd->reactor_count; i++) {
        reactor_free(blockd->reactors[i]);
    }
}

int
main(int argc, char **argv)
{
    static struct blockd blockd;
    const struct daemon_kind kind = {
        .name = "blockd",
        .options = blockd_options,
        .options_count = blockd_options_count,
        .start = blockd_start,
        .stop = blockd_stop,
        .free = blockd_free,
    };

    return daemon_main(&blockd.daemon, &kind, argc, argv);
}
