/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/options.h"

static const char *const cache_choices[] = { "auto", "nonvolatile", NULL };
static const char *const level_choices[] = { "error", "warning", "info",
                                             "debug", NULL };

const struct config_option blockd_options[] = {
    { .section = "host",
      .key = "name",
      .type = CONFIG_STRING,
      .is_required = true,
      .min = 1,
      .max = 63,
      .doc = "Name of this host in the cluster, the same for ever: lower case "
             "letters, digits, '.', '_' and '-'." },
    { .section = "host",
      .key = "rack",
      .type = CONFIG_STRING,
      .default_text = "",
      .max = 63,
      .doc = "Rack of this host, for pools whose failure domain is the rack." },
    { .section = "database",
      .key = "remotes",
      .type = CONFIG_STRING,
      .is_required = true,
      .min = 1,
      .max = 1000,
      .doc = "The Weft database: one remote, or those of all its servers, "
             "separated by commas: \"tcp:10.0.0.1:6641,tcp:10.0.0.2:6641\" or "
             "\"unix:/run/weft/db.sock\"." },
    { .section = "peer",
      .key = "listen",
      .type = CONFIG_STRING,
      .default_text = "tcp:0.0.0.0:7701",
      .max = 120,
      .doc = "Where other hosts' blockd reach the disks of this one." },
    { .section = "peer",
      .key = "address",
      .type = CONFIG_STRING,
      .default_text = "",
      .max = 120,
      .doc = "The address that other hosts connect to, if it is not the one "
             "of 'listen' (which then usually is a wildcard)." },
    { .section = "api",
      .key = "listen",
      .type = CONFIG_STRING,
      .is_repeated = true,
      .default_text = "unix:/run/weft/blockd.sock",
      .max = 120,
      .doc = "Where the gRPC API is served; may be given several times.  A "
             "TCP address is open to all who can reach it: certificates and "
             "roles are not there yet." },
    { .section = "nbd",
      .key = "listen",
      .type = CONFIG_STRING,
      .default_text = "",
      .max = 120,
      .doc = "TCP address of the NBD server, such as \"tcp:10.0.0.1:10809\"; "
             "empty for unix sockets only (run_dir/nbd.sock)." },
    { .section = "metrics",
      .key = "listen",
      .type = CONFIG_STRING,
      .default_text = "",
      .max = 120,
      .doc = "Where GET /metrics and /healthz are answered, such as "
             "\"127.0.0.1:9701\" or \"unix:/run/weft/metrics.sock\"; empty for "
             "nowhere." },
    { .section = "paths",
      .key = "run_dir",
      .type = CONFIG_STRING,
      .default_text = "/run/weft",
      .min = 1,
      .max = 60,
      .doc = "Directory for sockets; a guest's vhost-user socket is here." },
    { .section = "paths",
      .key = "state_dir",
      .type = CONFIG_STRING,
      .default_text = "/var/lib/weft/blockd",
      .min = 1,
      .max = 250,
      .doc = "Directory for small durable records: which volumes run here." },
    { .section = "reactor",
      .key = "count",
      .type = CONFIG_UINT,
      .default_text = "1",
      .min = 1,
      .max = 16,
      .doc = "Threads that do I/O, one io_uring each.  Disks and vhost-user "
             "volumes are spread over them; NBD is served by the first." },
    { .section = "reactor",
      .key = "memory",
      .type = CONFIG_SIZE,
      .default_text = "72M",
      .min = 66ull * 1024 * 1024,
      .max = 64ull * 1024 * 1024 * 1024,
      .doc = "Memory for I/O buffers of each reactor, locked where "
             "RLIMIT_MEMLOCK allows.  This version uses 66 MiB of it (58 for "
             "guests' requests, 8 for those of other hosts); more is of no "
             "use yet." },
    { .section = "reactor",
      .key = "spin",
      .type = CONFIG_DURATION,
      .default_text = "0ns",
      .max = 1000000,
      .doc = "How long a reactor polls the rings of a busy guest before it "
             "sleeps.  Lower latency for more CPU; worth it with many cores." },
    { .section = "storage",
      .key = "cache",
      .type = CONFIG_ENUM,
      .choices = cache_choices,
      .default_text = "auto",
      .doc = "Whether a completed write can be lost by the disks before a "
             "flush: \"auto\" asks the device; \"nonvolatile\" is the "
             "administrator's word that it cannot." },
    { .section = "storage",
      .key = "resync_rate",
      .type = CONFIG_SIZE,
      .default_text = "0",
      .doc = "Bytes per second that the resync of one mirror may copy; 0 for "
             "no limit." },
    { .section = "log",
      .key = "level",
      .type = CONFIG_ENUM,
      .choices = level_choices,
      .default_text = "info",
      .doc = "The least important lines that are logged on stderr." },
};

const size_t blockd_options_count =
    sizeof blockd_options / sizeof blockd_options[0];
