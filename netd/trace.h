/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_TRACE_H
#define NETD_TRACE_H

/* Tries packets on the local switch, by its control socket (ofproto/trace).
 *
 * The socket's protocol (JSON-RPC, one question a connection) is spoken on a
 * thread of its own for each question, because the switch may take its time.
 *
 * Thread: that of the loop. */

#include "netd/api/trace_ops.h"
#include "netd/sync/vswitch.h"

struct switch_trace;

struct switch_trace_options {
    struct loop *loop;
    struct vswitch *vswitch; /* Which ports have which numbers. */
    const char *run_dir;     /* Of the switch. */
    const char *bridge;
    const char *tunnel_address;
};

/* Borrows what the options point to.  Aborts when memory is out. */
struct switch_trace *
switch_trace_new(const struct switch_trace_options *options);
struct netd_trace_ops *switch_trace_ops(struct switch_trace *trace);
/* When nothing is under way.  Accepts NULL. */
void switch_trace_free(struct switch_trace *trace);

#endif /* NETD_TRACE_H */
