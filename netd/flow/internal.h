/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_FLOW_INTERNAL_H
#define NETD_FLOW_INTERNAL_H

/* What flow.c, dump.c, bundle.c and packet.c share.
 *
 *            connected            TLV table there        model complete
 *     DOWN ------------> SETUP --------------------> IDLE ----+--+
 *      ^                                              ^ ^     |  |
 *      |                      both dumps complete     | |     |  | commit,
 *      |                  DUMP <----------------------|-+-----+  | differences
 *      |                    +-------------------------+          v
 *      |                    barrier                 IDLE <---- SEND
 *      +--- the connection is lost, in any phase
 *
 * Only flow_advance() leaves IDLE; it is called at the end of each turn of the
 * loop in which something happened. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/backoff.h"
#include "lib/base/rng.h"
#include "lib/state/loop.h"
#include "netd/flow/desired.h"
#include "netd/flow/flow.h"

struct ofp_header;
struct ofpbuf;
struct rconn;
struct rconn_packet_counter;

enum flow_phase {
    FLOW_DOWN,
    FLOW_SETUP,
    FLOW_IDLE,
    FLOW_DUMP,
    FLOW_SEND,
};

/* One flow_mod of a bundle. */
struct bundle_item {
    struct flow_entry *entry; /* NULL: deletes a foreign flow. */
    struct flow_digest rest;
    bool is_delete;
    const char *error; /* The switch's; NULL: none. */
};

struct bundle {
    struct bundle_item *items;
    struct ofpbuf **messages; /* Until they are sent. */
    size_t count, capacity;
    struct list entries; /* In flight. */
    uint32_t first_xid;  /* Of the items. */
    uint32_t first_meter_xid, meter_count;
    uint32_t open_xid, commit_xid, barrier_xid;
    uint32_t id;
    uint64_t version;
    bool is_failed;
    bool has_foreign;
};

struct foreign {
    struct list node;
    struct ofpbuf *message; /* Deletes it. */
};

struct dump {
    uint64_t number;
    uint32_t flows_xid, meters_xid;
    bool has_flows, has_meters;
    bool is_check; /* A self-check; else after a connect. */
    struct flow_drift drift;
    uint64_t differences; /* Between what is desired and what there is. */
};

struct flow_switch {
    struct compile_sink sink;
    struct loop *loop;
    struct flow_listener *listener;
    struct loop_runner runner;
    struct loop_timer check_timer;   /* The next self-check. */
    struct loop_timer connect_timer; /* While there is no connection. */
    struct loop_timer retry_timer;   /* After a bundle that failed. */
    uint64_t check_interval_ns;
    char *target;
    char *path; /* Of the unix socket in 'target', or NULL. */

    struct rconn *rconn;
    struct rconn_packet_counter *packet_outs;
    unsigned seqno;
    uint64_t down_since_ns;
    bool is_down_told; /* That it takes long. */
    uint32_t next_xid;
    uint32_t setup_xid, setup_barrier_xid;
    enum flow_phase phase;
    bool is_poked; /* flow_advance() is due. */

    bool is_complete;
    bool needs_dump;
    bool is_set_up; /* For the next dump: it begins with the set-up. */
    bool is_due;    /* Differences may be sent. */
    bool is_synced; /* Dumped since the connect. */
    uint64_t retry_ns;
    struct backoff backoff;
    struct rng rng;

    struct desired desired;
    struct list foreign; /* Flows to be deleted. */
    struct dump dump;
    struct bundle bundle;
    struct list flushes;

    uint64_t rejections_told;  /* As desired.rejections. */
    struct flow_status status; /* Counters, versions and the last error. */
};

/* ---- flow.c ---- */

uint32_t flow_take_xid(struct flow_switch *flow);
/* Takes the message. */
void flow_send(struct flow_switch *flow, struct ofpbuf *message, uint32_t xid);
void flow_send_barrier(struct flow_switch *flow, uint32_t xid);
void flow_note_error(struct flow_switch *flow, const char *format, ...)
    WEFT_PRINTF(2, 3);
/* Tells the listener what the switch has by now. */
void flow_confirm(struct flow_switch *flow, uint64_t version);
/* Drops the connection, which will be made again. */
void flow_drop_connection(struct flow_switch *flow);

/* ---- setup.c ---- */

void setup_start(struct flow_switch *flow);
void setup_take_options(struct flow_switch *flow,
                        const struct ofp_header *header);

/* ---- dump.c ---- */

void dump_start(struct flow_switch *flow);
void dump_take_flows(struct flow_switch *flow, struct ofpbuf *message);
void dump_take_meters(struct flow_switch *flow, struct ofpbuf *message);
void dump_forget(struct flow_switch *flow); /* The connection is lost. */

/* ---- bundle.c ---- */

/* False: there was nothing to send, after all. */
bool bundle_start(struct flow_switch *flow);
/* Whether the xid is one of the bundle's. */
bool bundle_take_error(struct flow_switch *flow, uint32_t xid,
                       const char *error);
void bundle_finish(struct flow_switch *flow);
void bundle_forget(struct flow_switch *flow); /* The connection is lost. */

/* ---- packet.c ---- */

void packet_take(struct flow_switch *flow, const struct ofp_header *header);

#endif /* NETD_FLOW_INTERNAL_H */
