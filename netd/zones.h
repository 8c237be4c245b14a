/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_ZONES_H
#define NETD_ZONES_H

/* Conntrack zones in the switch (N17): emptied before a zone is used again, and
 * limited, so that a guest that opens connections without end fills its own
 * zone and nobody else's.
 *
 * Open vSwitch 3.1 has the limits in neither its database nor OpenFlow: they
 * are set by its control socket, on a thread, for each zone by name (a default
 * of the userspace datapath is one limit for all such zones together), and
 * again after each restart of the switch.
 *
 * Thread: that of the loop. */

#include <stdint.h>

#include "lib/base/check.h"
#include "lib/state/loop.h"
#include "netd/flow/flow.h"

struct zones;

struct zones_listener;
typedef void zones_emptied_fn(struct zones_listener *listener, uint32_t zone);
struct zones_listener {
    zones_emptied_fn *emptied; /* Not from inside a call. */
};

struct zones_options {
    struct loop *loop;
    struct flow_switch *flow;
    struct zones_listener *listener;
    const char *run_dir;  /* Of the switch. */
    const char *datapath; /* "netdev" or "system". */
    uint32_t limit;       /* Connections of one zone. */
};

/* Borrows what the options point to.  Aborts when memory is out. */
struct zones *zones_new(const struct zones_options *options);
/* Waits for a question to the switch that is under way.  Accepts NULL. */
void zones_free(struct zones *zones);

/* Until it succeeds. */
void zones_empty(struct zones *zones, uint32_t zone);
/* Soon; does nothing if it has been limited since the last connect. */
void zones_limit(struct zones *zones, uint32_t zone);
/* The switch may have forgotten the limits: to be followed by zones_limit() of
 * all zones in use. */
void zones_connected(struct zones *zones);

#endif /* NETD_ZONES_H */
