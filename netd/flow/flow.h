/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_FLOW_FLOW_H
#define NETD_FLOW_FLOW_H

/* The switch: what it should have, what it has, and the connection to it.
 *
 *     struct flow_options options = { .loop = loop,
 *                                     .target = "unix:/run/.../br-int.mgmt",
 *                                     .listener = &mine };
 *     flow_new(&options, &flow);
 *     compile_new(flow_sink(flow));   compile_run() says what is desired
 *     flow_set_complete(flow, true);  the model is whole: may delete (N7)
 *     version = flow_commit(flow);    sends; listener->confirmed(version)
 *
 * The switch is never cleared.  After each connect, and every check_interval_s,
 * its flows are dumped and compared with what is desired, in one canonical
 * encoding (N8), and only the difference is sent: an atomic bundle, new meters
 * before it, obsolete ones after it, a barrier last.  One bundle is under way
 * at a time; what comes meanwhile goes with the next.
 *
 * Thread: everything, callbacks too, on the thread of the loop.  No callback
 * runs inside a call of this header; callbacks may call anything here but
 * flow_free(). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/list.h"
#include "lib/base/uuid.h"
#include "netd/compile/compile.h"

struct loop;
struct flow_switch;

/* ---- What flow tells its user ---- */

struct flow_packet_in {
    const uint8_t *bytes; /* From the Ethernet header on; borrowed. */
    size_t size;          /* Of 'bytes'; what there is of it. */
    size_t total_size;    /* Of the packet; 'size' unless it was cut. */
    uint32_t in_port;     /* OpenFlow port number. */
    uint8_t table;
    uint32_t kind;         /* enum packet_in_kind, checked. */
    struct weft_uuid uuid; /* Of the controller action, nil for none. */
    uint64_t metadata;
};

/* What one self-check found, and repairs. */
struct flow_drift {
    uint64_t missing; /* Flows of ours that were gone, */
    uint64_t changed; /* that had other actions, cookie or time-outs; */
    uint64_t foreign; /* flows that nobody here asked for; */
    uint64_t meters;  /* meters of any of these kinds. */
};

struct flow_listener;
typedef void flow_confirmed_fn(struct flow_listener *listener,
                               uint64_t version);
typedef void flow_packet_in_fn(struct flow_listener *listener,
                               const struct flow_packet_in *packet);
typedef void flow_rejected_fn(struct flow_listener *listener,
                              const struct flow_spec *spec, const char *error);
typedef void flow_refused_fn(struct flow_listener *listener);
typedef void flow_drift_fn(struct flow_listener *listener,
                           const struct flow_drift *drift);
typedef void flow_connection_fn(struct flow_listener *listener,
                                bool is_connected);

/* Embedded in its user, borrowed until flow_free(); any entry may be NULL. */
struct flow_listener {
    /* The switch has all that flow_commit() gave this version, or a later
     * one; but for flows that it refused.  Versions only grow. */
    flow_confirmed_fn *confirmed;
    flow_packet_in_fn *packet_in;
    /* The switch refuses this flow: the others go in without it.  It is tried
     * again when it changes, after a reconnect, and with each self-check. */
    flow_rejected_fn *rejected;
    /* Which flows the switch refuses may have changed: flow_refused_units().
     * Comes before the 'confirmed' that it limits. */
    flow_refused_fn *refused;
    /* A self-check found differences; they are being repaired. */
    flow_drift_fn *drift;
    flow_connection_fn *connection;
};

/* ---- Life ---- */

struct flow_options {
    struct loop *loop;
    const char *target; /* "unix:PATH" of the bridge's .mgmt; copied. */
    struct flow_listener *listener;
    uint32_t check_interval_s; /* 0: FLOW_CHECK_INTERVAL_S. */
};

#define FLOW_CHECK_INTERVAL_S 300u

/* Begins to connect, and does so for ever.  The process ignores SIGPIPE:
 * libopenvswitch writes to a socket whose other end may be gone.  -errno. */
WEFT_MUST_CHECK int flow_new(const struct flow_options *options,
                             struct flow_switch **ret_flow);

/* Leaves the switch as it is (N7).  Flushes that are not done never will be.
 * Accepts NULL. */
void flow_free(struct flow_switch *flow);

/* ---- Desired flows ---- */

/* For compile_new(); lives as long as 'flow'. */
struct compile_sink *flow_sink(struct flow_switch *flow);

/* N7: until the user says that the model is complete nothing is sent but the
 * switch's set-up.  Taking it back holds again, after the bundle under way. */
void flow_set_complete(struct flow_switch *flow, bool is_complete);

/* Sends what the sink got so far, or leaves it to the next bundle.  Call it in
 * the same callback that ran the compiler: what the sink has is sent whenever
 * a bundle begins. */
uint64_t flow_commit(struct flow_switch *flow);

/* Dumps and compares now, or after the bundle under way. */
void flow_check(struct flow_switch *flow);

/* ---- Conntrack zones ---- */

/* Embedded in what waits for it.  Survives reconnects. */
struct flow_flush;
typedef void flow_flush_fn(struct flow_flush *flush, int result);

struct flow_flush {
    uint16_t zone;
    flow_flush_fn *done; /* 0: the zone is empty; -EIO: the switch refuses. */
    /* Private. */
    struct list node;
    uint32_t xid;
    int result;
};

/* Forgets the connections of 'flush->zone'; done() after a barrier.  It goes
 * out at once, ahead of a bundle that waits: where flows that use the zone go,
 * flush when that is confirmed. */
void flow_flush_zone(struct flow_switch *flow, struct flow_flush *flush);
/* done() will not be called.  Harmless if it has been. */
void flow_flush_cancel(struct flow_switch *flow, struct flow_flush *flush);

/* ---- Packets ---- */

#define FLOW_PORT_NONE UINT32_MAX /* in_port: from the controller. */

/* Sends a packet out of a port.  -ENOTCONN; -ENOBUFS: too many wait; -EINVAL:
 * a size outside 14..65000, or a port number that is none. */
WEFT_MUST_CHECK int flow_packet_out(struct flow_switch *flow, uint32_t in_port,
                                    uint32_t out_port, const void *bytes,
                                    size_t size);
/* Has it go through the pipeline from table 0 on, as if from 'in_port'. */
WEFT_MUST_CHECK int flow_packet_out_pipeline(struct flow_switch *flow,
                                             uint32_t in_port,
                                             const void *bytes, size_t size);

/* Sends a packet without TLV, which the other end drops, through the tunnel
 * port to an IPv4 address: so that the switch gets to know the way there.
 * -ENOTCONN; -ENOBUFS; -EINVAL: no such port. */
WEFT_MUST_CHECK int flow_probe_tunnel(struct flow_switch *flow,
                                      uint32_t tunnel_port, uint32_t address);

/* ---- Looking ---- */

#define FLOW_ERROR_SIZE 256

struct flow_status {
    bool is_connected;
    bool is_complete;   /* As the user said. */
    bool is_in_sync;    /* Connected, and the switch has all that is desired,
                           but for 'rejected'. */
    uint64_t committed; /* Last version of flow_commit(). */
    uint64_t confirmed;
    uint64_t desired;   /* Flows: what should be, */
    uint64_t installed; /* what is (ours), */
    uint64_t pending;   /* what differs and is on its way or waits, */
    uint64_t rejected;  /* what the switch refuses, */
    uint64_t conflicts; /* keys whose owners disagree (N9). */
    uint64_t meters;
    /* Counters since flow_new(). */
    uint64_t connects;
    uint64_t bundles;
    uint64_t bundle_failures;
    uint64_t flow_mods; /* Adds, changes and deletes; retries count again. */
    uint64_t meter_mods;
    uint64_t dumps;
    uint64_t resynced;       /* Differences found after a connect, */
    struct flow_drift drift; /* and by self-checks. */
    uint64_t errors;         /* OFPT_ERROR messages. */
    uint64_t packet_ins;
    uint64_t packet_ins_bad; /* Without proper userdata, or malformed. */
    uint64_t packet_outs;
    char last_error[FLOW_ERROR_SIZE]; /* "" for none. */
};

void flow_get_status(const struct flow_switch *flow,
                     struct flow_status *ret_status);

/* The units (compile_sink) that want flows which the switch refuses, sorted;
 * the caller frees the array. */
size_t flow_refused_units(const struct flow_switch *flow, uint64_t **ret_units);

/* The number of packets that a flow had when the switch was last dumped (see
 * flow_check()).  -ENOENT: no such flow is installed. */
WEFT_MUST_CHECK int flow_packet_count(const struct flow_switch *flow,
                                      const struct flow_spec *spec,
                                      uint64_t *ret_count);

/* A callback for each flow that is desired now, as merged among its owners; in
 * no particular order. */
struct flow_visitor;
typedef void flow_visit_fn(struct flow_visitor *visitor,
                           const struct flow_spec *spec, bool is_installed,
                           uint64_t packet_count);
struct flow_visitor {
    flow_visit_fn *visit;
};
void flow_visit(struct flow_switch *flow, struct flow_visitor *visitor);

/* The OpenFlow cookie of a flow: a hash of its key (N9), the same everywhere
 * and always. */
uint64_t flow_cookie(const struct flow_spec *spec);

#endif /* NETD_FLOW_FLOW_H */
