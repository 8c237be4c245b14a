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
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockd/api/api.h"
#include "blockd/cluster/cluster.h"
#include "blockd/options.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/name.h"
#include "lib/base/sdnotify.h"
#include "lib/base/units.h"
#include "lib/io/uring.h"
#include "lib/metrics/http.h"

#define BLOCKD_VERSION "0.1.0"
#define STOP_GRACE_NS (20 * NS_PER_S)

struct blockd {
    struct config *config;
    struct loop *loop;
    struct state *state, *manager;
    struct reactor *reactors[CLUSTER_REACTORS_MAX];
    uint32_t reactor_count;
    struct cluster *cluster;
    struct api *api;
    struct metrics_registry *registry;
    struct metrics_http *metrics;
    struct loop_fd signal_fd;
    struct loop_timer stop_timer;
    bool is_stopping;
};

static void blockd_stop(struct blockd *blockd);

/* ---- Signals ---- */

static void
blockd_signal(struct loop_fd *fd, short revents)
{
    struct blockd *blockd = container_of(fd, struct blockd, signal_fd);
    struct signalfd_siginfo info;
    (void)revents;

    if (read(fd->fd, &info, sizeof info) != (ssize_t)sizeof info) {
        return;
    }
    if (blockd->is_stopping) {
        log_warning("blockd", "second signal, ending at once");
        _exit(1);
    }
    log_info("blockd", "stopping signal=%u", info.ssi_signo);
    blockd_stop(blockd);
}

static int
blockd_take_signals(struct blockd *blockd)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) {
        return -errno;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    blockd->signal_fd =
        (struct loop_fd){ .fd = fd, .events = POLLIN, .ready = blockd_signal };
    return 0;
}

/* ---- Stop ---- */

static void
blockd_stopped(void *owner)
{
    struct blockd *blockd = owner;

    loop_timer_cancel(blockd->loop, &blockd->stop_timer);
    loop_stop(blockd->loop);
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
blockd_stop(struct blockd *blockd)
{
    blockd->is_stopping = true;
    (void)!sdnotify_stopping();
    loop_timer_init(&blockd->stop_timer, blockd_stop_late);
    loop_timer_set(blockd->loop, &blockd->stop_timer,
                   loop_now_ns() + STOP_GRACE_NS);
    api_stop(blockd->api);
    cluster_stop(blockd->cluster, blockd_stopped, blockd);
}

/* ---- Start ---- */

/* As many descriptors as may be: lib/rpc and the reactors share them. */
static void
blockd_raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int
blockd_make_directory(const char *path, struct err *err)
{
    char partial[300];
    size_t size = strlen(path);

    if (size >= sizeof partial) {
        err_set(err, "the path \"%s\" is too long", path);
        return -ENAMETOOLONG;
    }
    memcpy(partial, path, size + 1);
    for (size_t i = 1; i <= size; i++) {
        if (partial[i] != '/' && partial[i] != '\0') {
            continue;
        }
        char kept = partial[i];
        partial[i] = '\0';
        if (mkdir(partial, 0755) != 0 && errno != EEXIST) {
            int result = -errno;
            err_set(err, "directory %s cannot be made: %s", partial,
                    strerror(errno));
            return result;
        }
        partial[i] = kept;
    }
    return 0;
}

static int
blockd_start_reactors(struct blockd *blockd, struct err *err)
{
    uint32_t count = (uint32_t)config_u64(blockd->config, "reactor", "count");

    for (uint32_t i = 0; i < count; i++) {
        struct reactor_options options;
        reactor_options_init(&options);
        (void)snprintf(options.name, sizeof options.name, "reactor-%u", i);
        options.arena_bytes = config_u64(blockd->config, "reactor", "memory");
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
        .remotes = config_string(blockd->config, "database", "remotes"),
    };
    int result = state_open(blockd->loop, &options, &blockd->state);
    if (result == 0) {
        options.is_leader_only = true;
        options.lock = "storage_manager";
        result = state_open(blockd->loop, &options, &blockd->manager);
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
    const struct config *config = blockd->config;
    struct cluster_options options = {
        .loop = blockd->loop,
        .registry = blockd->registry,
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
        .version = BLOCKD_VERSION,
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
    const char *listen[17] = { NULL };
    size_t count = config_count(blockd->config, "api", "listen");

    if (count > 16) {
        err_set(err, "[api] listen: %zu addresses; 16 are the most", count);
        return -EINVAL;
    }
    for (size_t i = 0; i < count; i++) {
        listen[i] = config_string_at(blockd->config, "api", "listen", i);
    }
    struct api_options options = {
        .loop = blockd->loop,
        .cluster = blockd->cluster,
        .manager = blockd->manager,
        .listen = listen,
        .version = BLOCKD_VERSION,
        .database = config_string(blockd->config, "database", "remotes"),
    };
    return api_new(&options, err, &blockd->api);
}

static int
blockd_start_metrics(struct blockd *blockd, struct err *err)
{
    const char *listen = config_string(blockd->config, "metrics", "listen");

    if (listen[0] == '\0') {
        return 0;
    }
    struct metrics_http_options options = { .listen = listen,
                                            .registry = blockd->registry };
    return metrics_http_start(&options, &blockd->metrics, err);
}

static int
blockd_start(struct blockd *blockd, struct err *err)
{
    const char *name = config_string(blockd->config, "host", "name");
    enum log_level level =
        (enum log_level)config_enum(blockd->config, "log", "level");
    int result;

    log_set_level(level);
    blockd_raise_limits();
    if (!name_is_valid(name)) {
        err_set(err, "[host] name: \"%s\" is not a name; %s", name,
                NAME_RULE_TEXT);
        return -EINVAL;
    }
    result =
        blockd_make_directory(config_string(blockd->config, "paths", "run_dir"),
                              err);
    if (result == 0) {
        result = blockd_make_directory(config_string(blockd->config, "paths",
                                                     "state_dir"),
                                       err);
    }
    if (result == 0) {
        result = blockd_take_signals(blockd);
    }
    if (result == 0) {
        result = loop_new(&blockd->loop);
    }
    if (result == 0) {
        loop_add_fd(blockd->loop, &blockd->signal_fd);
        result = blockd_start_reactors(blockd, err);
    }
    if (result == 0) {
        result = blockd_open_database(blockd, err);
    }
    if (result == 0) {
        result = blockd_start_cluster(blockd, err);
    }
    if (result == 0) {
        result = blockd_start_api(blockd, err);
    }
    if (result == 0) {
        result = blockd_start_metrics(blockd, err);
    }
    return result;
}

static void
blockd_free(struct blockd *blockd)
{
    metrics_http_stop(blockd->metrics);
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
    if (blockd->loop != NULL) {
        loop_remove_fd(blockd->loop, &blockd->signal_fd);
        loop_free(blockd->loop);
    }
    metrics_registry_free(blockd->registry);
    config_free(blockd->config);
}

static void
blockd_usage(FILE *out)
{
    (void)fprintf(
        out, "usage: blockd [--config FILE] [--check] [--options] "
             "[--version]\n"
             "  --config FILE  read FILE; default /etc/weft/blockd.conf\n"
             "  --check        check the configuration and end\n"
             "  --options      print all options with their documentation\n");
}

static int
blockd_run(struct blockd *blockd)
{
    struct err err = { "" };
    int result = blockd_start(blockd, &err);

    if (result != 0) {
        log_error("blockd", "cannot start reason=%s",
                  err.text[0] != '\0' ? err.text : strerror(-result));
        _exit(1); /* Half started: the kernel tidies up best. */
    }
    log_info("blockd", "started host=%s version=%s",
             config_string(blockd->config, "host", "name"), BLOCKD_VERSION);
    (void)!sdnotify_ready();
    loop_run(blockd->loop);
    blockd_free(blockd);
    log_info("blockd", "stopped");
    return 0;
}

int
main(int argc, char **argv)
{
    static const struct option long_options[] = {
        { "config", required_argument, NULL, 'c' },
        { "check", no_argument, NULL, 'k' },
        { "options", no_argument, NULL, 'o' },
        { "version", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    const char *path = "/etc/weft/blockd.conf";
    static struct blockd blockd;
    struct err err = { "" };
    bool check = false;

    for (int option = 0; option != -1;) {
        option = getopt_long(argc, argv, "c:h", long_options, NULL);
        switch (option) {
        case -1:
            break;
        case 'c':
            path = optarg;
            break;
        case 'k':
            check = true;
            break;
        case 'o':
            config_print_doc(stdout, blockd_options, blockd_options_count);
            return 0;
        case 'v':
            (void)printf("blockd %s\n", BLOCKD_VERSION);
            return 0;
        case 'h':
            blockd_usage(stdout);
            return 0;
        default:
            blockd_usage(stderr);
            return 2;
        }
    }
    if (optind != argc) {
        blockd_usage(stderr);
        return 2;
    }
    if (config_load(path, blockd_options, blockd_options_count, &blockd.config,
                    &err) != 0) {
        (void)fprintf(stderr, "blockd: %s\n", err.text);
        return 2;
    }
    if (check) {
        config_free(blockd.config);
        return 0;
    }
    if (metrics_registry_new(&blockd.registry) != 0) {
        (void)fprintf(stderr, "blockd: out of memory\n");
        return 1;
    }
    return blockd_run(&blockd);
}
