/* SPDX-License-Identifier: Apache-2.0 */

/* netd: the network daemon.
 *
 *     control thread     this one: databases, compiler, switch, API handlers
 *     gRPC, metrics      threads of their own; they hand over to it
 *
 * SIGTERM and SIGINT: the API stops and netd ends with 0.  The switch keeps all
 * its flows: traffic goes on, and the next netd takes over from there.  A
 * second signal ends it at once. */

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "netd/agent.h"
#include "netd/options.h"
#include "service/daemon.h"

struct netd {
    struct daemon daemon;
    struct agent *agent;
};

static int
netd_start(struct daemon *daemon, struct err *err)
{
    static const char *const datapaths[] = { "system", "netdev" };
    struct netd *netd = container_of(daemon, struct netd, daemon);
    const struct config *config = daemon->config;
    struct agent_options options = {
        .loop = daemon->loop,
        .registry = daemon->registry,
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
        .port_connections =
            (uint32_t)config_u64(config, "switch", "port_connections"),
        .listen = daemon->listen,
        .state_dir = config_string(config, "paths", "state_dir"),
        .version = daemon->version,
    };
    return agent_new(&options, err, &netd->agent);
}

static void
netd_stop(struct daemon *daemon)
{
    struct netd *netd = container_of(daemon, struct netd, daemon);

    agent_stop(netd->agent);
    loop_stop(daemon->loop);
}

static void
netd_free(struct daemon *daemon)
{
    struct netd *netd = container_of(daemon, struct netd, daemon);

    agent_free(netd->agent);
}

int
main(int argc, char **argv)
{
    static struct netd netd;
    const struct daemon_kind kind = {
        .name = "netd",
        .options = netd_options,
        .options_count = netd_options_count,
        .start = netd_start,
        .stop = netd_stop,
        .free = netd_free,
    };

    return daemon_main(&netd.daemon, &kind, argc, argv);
}
