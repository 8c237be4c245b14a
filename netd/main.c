/* SPDX-License-Identifier: Apache-2.0 */

/* netd: the network daemon.
 *
 *     control thread     this one: databases, compiler, switch, API handlers
 *     gRPC, metrics      threads of their own; they hand over to it
 *
 * SIGTERM and SIGINT: the API stops and netd ends with 0.  The switch keeps all
 * its flows: traffic goes on, and the next netd takes over from there.  A
 * second signal ends it at once. */

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

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/name.h"
#include "lib/base/sdnotify.h"
#include "lib/base/units.h"
#include "lib/metrics/http.h"
#include "netd/agent.h"
#include "netd/options.h"

#define NETD_VERSION "0.1.0"
#define LISTEN_MAX 16u

struct netd {
    struct config *config;
    struct loop *loop;
    struct agent *agent;
    struct metrics_registry *registry;
    struct metrics_http *metrics;
    struct loop_fd signal_fd;
    const char *listen[LISTEN_MAX + 1];
    bool is_stopping;
};

/* ---- Signals ---- */

static void
netd_signal(struct loop_fd *fd, short revents)
{
    struct netd *netd = container_of(fd, struct netd, signal_fd);
    struct signalfd_siginfo info;
    (void)revents;

    if (read(fd->fd, &info, sizeof info) != (ssize_t)sizeof info) {
        return;
    }
    if (netd->is_stopping) {
        log_warning("netd", "second signal, ending at once");
        _exit(1);
    }
    log_info("netd", "stopping signal=%u", info.ssi_signo);
    netd->is_stopping = true;
    (void)!sdnotify_stopping();
    agent_stop(netd->agent);
    loop_stop(netd->loop);
}

static int
netd_take_signals(struct netd *netd)
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
    netd->signal_fd =
        (struct loop_fd){ .fd = fd, .events = POLLIN, .ready = netd_signal };
    return 0;
}

/* ---- Start ---- */

static void
netd_raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int
netd_make_directory(const char *path, struct err *err)
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
netd_read_listen(struct netd *netd, struct err *err)
{
    size_t count = config_count(netd->config, "api", "listen");
    size_t kept = 0;

    if (count > LISTEN_MAX) {
        err_set(err, "[api] listen: %zu addresses; %u are the most", count,
                LISTEN_MAX);
        return -EINVAL;
    }
    for (size_t i = 0; i < count; i++) {
        const char *one = config_string_at(netd->config, "api", "listen", i);
        if (one[0] != '\0') {
            netd->listen[kept++] = one;
        }
    }
    return 0;
}

static int
netd_start_agent(struct netd *netd, struct err *err)
{
    static const char *const datapaths[] = { "system", "netdev" };
    const struct config *config = netd->config;
    struct agent_options options = {
        .loop = netd->loop,
        .registry = netd->registry,
        .host = config_string(config, "host", "name"),
        .remotes = config_string(config, "database", "remotes"),
        .tunnel_address = config_string(config, "tunnel", "address"),
        .switch_database = config_string(config, "switch", "database"),
        .switch_run_dir = config_string(config, "switch", "run_dir"),
        .bridge = config_string(config, "switch", "bridge"),
        .datapath = datapaths[config_enum(config, "switch", "datapath")],
        .check_interval_s =
            (uint32_t)(config_u64(config, "switch", "check_interval") /
                       NS_PER_S),
        .listen = netd->listen,
        .state_dir = config_string(config, "paths", "state_dir"),
        .version = NETD_VERSION,
    };
    return agent_new(&options, err, &netd->agent);
}

static int
netd_start_metrics(struct netd *netd, struct err *err)
{
    const char *listen = config_string(netd->config, "metrics", "listen");

    if (listen[0] == '\0') {
        return 0;
    }
    struct metrics_http_options options = { .listen = listen,
                                            .registry = netd->registry };
    return metrics_http_start(&options, &netd->metrics, err);
}

static int
netd_start(struct netd *netd, struct err *err)
{
    const char *name = config_string(netd->config, "host", "name");
    int result;

    log_set_level((enum log_level)config_enum(netd->config, "log", "level"));
    netd_raise_limits();
    if (!name_is_valid(name)) {
        err_set(err, "[host] name: \"%s\" is not a name; %s", name,
                NAME_RULE_TEXT);
        return -EINVAL;
    }
    result = netd_read_listen(netd, err);
    if (result == 0) {
        result = netd_make_directory(config_string(netd->config, "paths",
                                                   "state_dir"),
                                     err);
    }
    if (result == 0) {
        result = netd_take_signals(netd);
    }
    if (result == 0) {
        result = loop_new(&netd->loop);
    }
    if (result == 0) {
        loop_add_fd(netd->loop, &netd->signal_fd);
        result = netd_start_agent(netd, err);
    }
    if (result == 0) {
        result = netd_start_metrics(netd, err);
    }
    return result;
}

static void
netd_free(struct netd *netd)
{
    metrics_http_stop(netd->metrics);
    agent_free(netd->agent);
    loop_remove_fd(netd->loop, &netd->signal_fd);
    loop_free(netd->loop);
    metrics_registry_free(netd->registry);
    config_free(netd->config);
}

static void
netd_usage(FILE *out)
{
    (void)fprintf(out,
                  "usage: netd [--config FILE] [--check] [--options] "
                  "[--version]\n"
                  "  --config FILE  read FILE; default /etc/weft/netd.conf\n"
                  "  --check        check the configuration and end\n"
                  "  --options      print all options with their "
                  "documentation\n");
}

static int
netd_run(struct netd *netd)
{
    struct err err = { "" };
    int result = netd_start(netd, &err);

    if (result != 0) {
        log_error("netd", "cannot start reason=%s",
                  err.text[0] != '\0' ? err.text : strerror(-result));
        _exit(1); /* Half started: the kernel tidies up best. */
    }
    log_info("netd", "started host=%s version=%s",
             config_string(netd->config, "host", "name"), NETD_VERSION);
    (void)!sdnotify_ready();
    loop_run(netd->loop);
    netd_free(netd);
    log_info("netd", "stopped");
    return 0;
}

/* The exit code; -1: go on. */
static int
netd_read_arguments(int argc, char **argv, const char **ret_path,
                    bool *ret_check)
{
    static const struct option long_options[] = {
        { "config", required_argument, NULL, 'c' },
        { "check", no_argument, NULL, 'k' },
        { "options", no_argument, NULL, 'o' },
        { "version", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };

    for (int option = 0; option != -1;) {
        option = getopt_long(argc, argv, "c:h", long_options, NULL);
        switch (option) {
        case -1:
            break;
        case 'c':
            *ret_path = optarg;
            break;
        case 'k':
            *ret_check = true;
            break;
        case 'o':
            config_print_doc(stdout, netd_options, netd_options_count);
            return 0;
        case 'v':
            (void)printf("netd %s\n", NETD_VERSION);
            return 0;
        case 'h':
            netd_usage(stdout);
            return 0;
        default:
            netd_usage(stderr);
            return 2;
        }
    }
    if (optind != argc) {
        netd_usage(stderr);
        return 2;
    }
    return -1;
}

int
main(int argc, char **argv)
{
    static struct netd netd;
    const char *path = "/etc/weft/netd.conf";
    struct err err = { "" };
    bool check = false;
    int code = netd_read_arguments(argc, argv, &path, &check);

    if (code >= 0) {
        return code;
    }
    if (config_load(path, netd_options, netd_options_count, &netd.config,
                    &err) != 0) {
        (void)fprintf(stderr, "netd: %s\n", err.text);
        return 2;
    }
    if (check) {
        config_free(netd.config);
        return 0;
    }
    if (metrics_registry_new(&netd.registry) != 0) {
        (void)fprintf(stderr, "netd: out of memory\n");
        return 1;
    }
    return netd_run(&netd);
}
