/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_AGENT_H
#define NETD_AGENT_H

/* What holds netd together: rows and local ports go into the compiler, its
 * flows to the switch, and what the switch confirms back to the database.
 *
 *     sync/cloud ---rows---> compile ---flows---> flow ---bundles---> br-int
 *         |                     ^                   |
 *         +------> bind --locals+                   |
 *     sync/vswitch --^  ^-- link     confirmed -----+--> bind: up
 *                                                   +--> sync/follow: acked
 *
 * Everything that happens in one turn of the loop makes one run of the compiler
 * and one commit.  Nothing is sent to the switch until the rows of the database
 * (or of the snapshot), the interfaces of the switch and the zones of all ports
 * are known (N7).
 *
 * Thread: the control thread. */

#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/metrics/metrics.h"
#include "lib/state/loop.h"

struct agent;

struct agent_options {
    struct loop *loop;
    struct metrics_registry *registry;
    const char *host;
    const char *remotes;
    const char *tunnel_address;
    const char *switch_database, *switch_run_dir, *bridge, *datapath;
    uint32_t check_interval_s;
    uint32_t port_connections; /* At most, of one port. */
    const char *const *listen; /* Ends with NULL; may be empty. */
    const char *state_dir;
    const char *version;
};

/* Borrows what the options point to.  -errno with 'err' set. */
WEFT_MUST_CHECK int agent_new(const struct agent_options *options,
                              struct err *err, struct agent **ret_agent);
/* Refuses new calls of the API. */
void agent_stop(struct agent *agent);
/* The switch keeps all its flows.  Accepts NULL. */
void agent_free(struct agent *agent);

#endif /* NETD_AGENT_H */
