/* SPDX-License-Identifier: Apache-2.0 */

/* The frame of blockd and netd.  There is one daemon in a process: what only
 * this file needs of it is in 'frame'. */

#include "service/daemon.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/name.h"
#include "lib/base/sdnotify.h"
#include "lib/metrics/http.h"

#define LISTEN_MAX 16u

static struct {
    struct daemon *daemon;
    struct metrics_http *metrics;
    struct loop_fd signal_fd;
    const char *listen[LISTEN_MAX + 1];
    bool is_stopping;
} frame;

/* ---- Signals ---- */

static void
daemon_signal(struct loop_fd *fd, short revents)
{
    const struct daemon_kind *kind = frame.daemon->kind;
    struct signalfd_siginfo info;
    (void)revents;

    if (read(fd->fd, &info, sizeof info) != (ssize_t)sizeof info) {
        return;
    }
    if (frame.is_stopping) {
        log_warning(kind->name, "second signal, ending at once");
        _exit(1);
    }
    log_info(kind->name, "stopping signal=%u", info.ssi_signo);
    frame.is_stopping = true;
    (void)!sdnotify_stopping();
    kind->stop(frame.daemon);
}

static int
daemon_take_signals(void)
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
    frame.signal_fd =
        (struct loop_fd){ .fd = fd, .events = POLLIN, .ready = daemon_signal };
    return 0;
}

/* ---- Start ---- */

/* As many descriptors as may be: gRPC, databases, reactors share them. */
static void
daemon_raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int
daemon_make_directory(const char *path, struct err *err)
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
daemon_make_directories(const struct daemon *daemon, struct err *err)
{
    const struct daemon_kind *kind = daemon->kind;

    for (size_t i = 0; i < kind->options_count; i++) {
        const struct config_option *option = &kind->options[i];
        if (strcmp(option->section, "paths") != 0) {
            continue;
        }
        int result = daemon_make_directory(
            config_string(daemon->config, option->section, option->key), err);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static int
daemon_read_listen(struct daemon *daemon, struct err *err)
{
    size_t count = config_count(daemon->config, "api", "listen");
    size_t kept = 0;

    if (count > LISTEN_MAX) {
        err_set(err, "[api] listen: %zu addresses; %u are the most", count,
                LISTEN_MAX);
        return -EINVAL;
    }
    for (size_t i = 0; i < count; i++) {
        const char *one = config_string_at(daemon->config, "api", "listen", i);
        if (one[0] != '\0') {
            frame.listen[kept++] = one;
        }
    }
    daemon->listen = frame.listen;
    return 0;
}

static int
daemon_check_host(const struct daemon *daemon, struct err *err)
{
    const char *name = config_string(daemon->config, "host", "name");

    if (!name_is_valid(name)) {
        err_set(err, "[host] name: \"%s\" is not a name; %s", name,
                NAME_RULE_TEXT);
        return -EINVAL;
    }
    return 0;
}

static int
daemon_start_metrics(const struct daemon *daemon, struct err *err)
{
    const char *listen = config_string(daemon->config, "metrics", "listen");

    if (listen[0] == '\0') {
        return 0;
    }
    struct metrics_http_options options = { .listen = listen,
                                            .registry = daemon->registry };
    return metrics_http_start(&options, &frame.metrics, err);
}

static int
daemon_start(struct daemon *daemon, struct err *err)
{
    log_set_level((enum log_level)config_enum(daemon->config, "log", "level"));
    daemon_raise_limits();
    int result = daemon_check_host(daemon, err);
    if (result == 0) {
        result = daemon_read_listen(daemon, err);
    }
    if (result == 0) {
        result = daemon_make_directories(daemon, err);
    }
    if (result == 0) {
        result = daemon_take_signals();
    }
    if (result == 0) {
        result = loop_new(&daemon->loop);
    }
    if (result == 0) {
        loop_add_fd(daemon->loop, &frame.signal_fd);
        result = daemon->kind->start(daemon, err);
    }
    if (result == 0) {
        result = daemon_start_metrics(daemon, err);
    }
    return result;
}

/* ---- Life ---- */

static void
daemon_run(struct daemon *daemon)
{
    const char *name = daemon->kind->name;
    struct err err = { "" };
    int result = daemon_start(daemon, &err);

    if (result != 0) {
        log_error(name, "cannot start reason=%s",
                  err.text[0] != '\0' ? err.text : strerror(-result));
        _exit(1); /* Half started: the kernel tidies up best. */
    }
    log_info(name, "started host=%s version=%s",
             config_string(daemon->config, "host", "name"), daemon->version);
    (void)!sdnotify_ready();
    loop_run(daemon->loop);
    metrics_http_stop(frame.metrics);
    daemon->kind->free(daemon);
    loop_remove_fd(daemon->loop, &frame.signal_fd);
    loop_free(daemon->loop);
    metrics_registry_free(daemon->registry);
    config_free(daemon->config);
    log_info(name, "stopped");
}

static void
daemon_usage(FILE *out, const char *name)
{
    (void)fprintf(out,
                  "usage: %s [--config FILE] [--check] [--options] "
                  "[--version]\n"
                  "  --config FILE  read FILE; default /etc/weft/%s.conf\n"
                  "  --check        check the configuration and end\n"
                  "  --options      print all options with their "
                  "documentation\n",
                  name, name);
}

/* The exit code; -1: go on. */
static int
daemon_read_arguments(const struct daemon *daemon, int argc, char **argv,
                      const char **ret_path, bool *ret_check)
{
    static const struct option long_options[] = {
        { "config", required_argument, NULL, 'c' },
        { "check", no_argument, NULL, 'k' },
        { "options", no_argument, NULL, 'o' },
        { "version", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    const struct daemon_kind *kind = daemon->kind;

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
            config_print_doc(stdout, kind->options, kind->options_count);
            return 0;
        case 'v':
            (void)printf("%s %s\n", kind->name, daemon->version);
            return 0;
        case 'h':
            daemon_usage(stdout, kind->name);
            return 0;
        default:
            daemon_usage(stderr, kind->name);
            return 2;
        }
    }
    if (optind != argc) {
        daemon_usage(stderr, kind->name);
        return 2;
    }
    return -1;
}

int
daemon_main(struct daemon *daemon, const struct daemon_kind *kind, int argc,
            char **argv)
{
    char default_path[64];
    const char *path = default_path;
    struct err err = { "" };
    bool check = false;

    daemon->kind = kind;
    daemon->version = WEFT_VERSION;
    frame.daemon = daemon;
    (void)snprintf(default_path, sizeof default_path, "/etc/weft/%s.conf",
                   kind->name);
    int code = daemon_read_arguments(daemon, argc, argv, &path, &check);
    if (code >= 0) {
        return code;
    }
    if (config_load(path, kind->options, kind->options_count, &daemon->config,
                    &err) != 0) {
        (void)fprintf(stderr, "%s: %s\n", kind->name, err.text);
        return 2;
    }
    if (check) {
        config_free(daemon->config);
        return 0;
    }
    if (metrics_registry_new(&daemon->registry) != 0) {
        (void)fprintf(stderr, "%s: out of memory\n", kind->name);
        return 1;
    }
    daemon_run(daemon);
    return 0;
}
