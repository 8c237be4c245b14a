/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/options.h"

static const char *const level_choices[] = { "error", "warning", "info",
                                             "debug", NULL };
static const char *const datapath_choices[] = { "system", "netdev", NULL };

const struct config_option netd_options[] = {
    { .section = "host",
      .key = "name",
      .type = CONFIG_STRING,
      .is_required = true,
      .min = 1,
      .max = 63,
      .doc = "Name of this host in the cluster, the same for ever: lower case "
             "letters, digits, '.', '_' and '-'." },
    { .section = "database",
      .key = "remotes",
      .type = CONFIG_STRING,
      .is_required = true,
      .min = 1,
      .max = 1000,
      .doc = "The Weft database: one remote, or those of all its servers, "
             "separated by commas: \"tcp:10.0.0.1:6641,tcp:10.0.0.2:6641\" or "
             "\"unix:/run/weft/db.sock\"." },
    { .section = "tunnel",
      .key = "address",
      .type = CONFIG_STRING,
      .is_required = true,
      .min = 1,
      .max = 45,
      .doc = "IPv4 address of this host's end of all tunnels.  Its interface's "
             "MTU bounds that of the networks: 62 bytes are for the tunnel." },
    { .section = "switch",
      .key = "database",
      .type = CONFIG_STRING,
      .default_text = "unix:/run/openvswitch/db.sock",
      .min = 1,
      .max = 107,
      .doc = "Open vSwitch's own database on this host." },
    { .section = "switch",
      .key = "run_dir",
      .type = CONFIG_STRING,
      .default_text = "/run/openvswitch",
      .min = 1,
      .max = 80,
      .doc = "Directory where ovs-vswitchd has its sockets: that of the bridge "
             "is BRIDGE.mgmt there." },
    { .section = "switch",
      .key = "bridge",
      .type = CONFIG_STRING,
      .default_text = "br-int",
      .min = 1,
      .max = 15,
      .doc = "The bridge that all ports are on.  netd makes it, and owns all "
             "flows of it." },
    { .section = "switch",
      .key = "datapath",
      .type = CONFIG_ENUM,
      .choices = datapath_choices,
      .default_text = "system",
      .doc = "\"system\" for the kernel's datapath, \"netdev\" for that in "
             "user space." },
    { .section = "switch",
      .key = "check_interval",
      .type = CONFIG_DURATION,
      .default_text = "5m",
      .min = 1000000000,
      .max = 86400ull * 1000000000,
      .doc = "How often the switch's flows are compared with what they should "
             "be, and repaired; whole seconds." },
    { .section = "switch",
      .key = "port_connections",
      .type = CONFIG_UINT,
      .default_text = "50000",
      .min = 100,
      .max = 10000000,
      .doc = "How many connections of one port are tracked at once, so that no "
             "guest fills the table of all.  More than that are not admitted "
             "until others have ended." },
    { .section = "api",
      .key = "listen",
      .type = CONFIG_STRING,
      .is_repeated = true,
      .default_text = "unix:/run/weft/netd.sock",
      .max = 120,
      .doc = "Where the gRPC API is served; may be given several times.  Empty "
             "for nowhere: then this netd reads only what its host needs.  A "
             "TCP address is open to all who can reach it: certificates and "
             "roles are not there yet." },
    { .section = "metrics",
      .key = "listen",
      .type = CONFIG_STRING,
      .default_text = "",
      .max = 120,
      .doc = "Where GET /metrics and /healthz are answered, such as "
             "\"127.0.0.1:9711\" or \"unix:/run/weft/netd-metrics.sock\"; "
             "empty for nowhere." },
    { .section = "paths",
      .key = "state_dir",
      .type = CONFIG_STRING,
      .default_text = "/var/lib/weft/netd",
      .min = 1,
      .max = 250,
      .doc = "Directory for small durable records: the cloud that this host "
             "belongs to, and a copy of the rows that it needs." },
    { .section = "log",
      .key = "level",
      .type = CONFIG_ENUM,
      .choices = level_choices,
      .default_text = "info",
      .doc = "The least important lines that are logged on stderr." },
};

const size_t netd_options_count = sizeof netd_options / sizeof netd_options[0];
