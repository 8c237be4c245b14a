/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/flow/flow.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "netd/flow/internal.h"

/* Foreign: libopenvswitch. */
#include <byte-order.h>
#include <config.h>
#include <openflow/nicira-ext.h>
#include <openvswitch/ofp-errors.h>
#include <openvswitch/ofp-msgs.h>
#include <openvswitch/ofp-util.h>
#include <openvswitch/ofpbuf.h>
#include <openvswitch/poll-loop.h>
#include <openvswitch/rconn.h>
#include <openvswitch/vlog.h>
#include <util.h>

/* The connection, what comes in by it, and what to do next. */

#define MS UINT64_C(1000000)
#define S (1000 * MS)

/* A switch that starts again is there within a second; later it may take its
 * time. */
#define CONNECT_SOON_NS (20 * MS)
#define CONNECT_LATER_NS (200 * MS)
#define CONNECT_SOON_FOR_NS (5 * S)

#define RETRY_BASE_NS (10 * MS)
#define RETRY_MAX_NS (1 * S)

/* Of one turn of the loop, which others share. */
#define MESSAGES_PER_TURN 100

static compile_sink_fn sink_replace;
static loop_runner_fn run, wait_for_more;
static loop_timer_fn check_due, connect_due, retry_due;

/* ---- Life ---- */

static void
quiet_libopenvswitch(void)
{
    /* We say ourselves when the connection comes and goes. */
    free(vlog_set_levels_from_string("rconn:console:off"));
    free(vlog_set_levels_from_string("vconn:console:off"));
    free(vlog_set_levels_from_string("vconn_stream:console:off"));
    free(vlog_set_levels_from_string("stream_fd:console:off"));
}

int
flow_new(const struct flow_options *options, struct flow_switch **ret_flow)
{
    struct flow_switch *flow = calloc(1, sizeof *flow);
    char *target = strdup(options->target);
    uint32_t interval_s = options->check_interval_s;

    if (flow == NULL || target == NULL) {
        free(flow);
        free(target);
        return -ENOMEM;
    }
    quiet_libopenvswitch();
    flow->sink.replace = sink_replace;
    flow->loop = options->loop;
    flow->listener = options->listener;
    flow->target = target;
    if (strncmp(target, "unix:", 5) == 0) {
        flow->path = target + 5;
    }
    flow->check_interval_ns =
        (interval_s == 0 ? FLOW_CHECK_INTERVAL_S : interval_s) * S;
    flow->next_xid = 1;
    desired_init(&flow->desired);
    list_init(&flow->foreign);
    list_init(&flow->bundle.entries);
    list_init(&flow->flushes);
    rng_init(&flow->rng, (uint64_t)getpid() ^ loop_now_ns());
    backoff_init(&flow->backoff, RETRY_BASE_NS, RETRY_MAX_NS);
    loop_timer_init(&flow->check_timer, check_due);
    loop_timer_init(&flow->connect_timer, connect_due);
    loop_timer_init(&flow->retry_timer, retry_due);

    flow->packet_outs = rconn_packet_counter_create();
    flow->rconn = rconn_create(0, 1, 0, 1u << OFP15_VERSION);
    rconn_connect(flow->rconn, flow->target, NULL);
    flow->seqno = rconn_get_connection_seqno(flow->rconn);
    flow->down_since_ns = loop_now_ns();
    flow->runner = (struct loop_runner){ .run = run, .wait = wait_for_more };
    loop_add_runner(flow->loop, &flow->runner);
    loop_timer_set(flow->loop, &flow->connect_timer,
                   loop_now_ns() + CONNECT_SOON_NS);
    *ret_flow = flow;
    return 0;
}

void
flow_free(struct flow_switch *flow)
{
    if (flow == NULL) {
        return;
    }

    bundle_forget(flow);
    dump_forget(flow);
    while (list_pop_front(&flow->flushes) != NULL) {
    }
    loop_remove_runner(flow->loop, &flow->runner);
    loop_timer_cancel(flow->loop, &flow->check_timer);
    loop_timer_cancel(flow->loop, &flow->connect_timer);
    loop_timer_cancel(flow->loop, &flow->retry_timer);
    rconn_destroy(flow->rconn);
    rconn_packet_counter_destroy(flow->packet_outs);
    desired_done(&flow->desired);
    free(flow->bundle.items);
    free(flow->bundle.messages);
    free(flow->target);
    free(flow);
}

/* ---- Sending ---- */

uint32_t
flow_take_xid(struct flow_switch *flow)
{
    return flow->next_xid++;
}

void
flow_send(struct flow_switch *flow, struct ofpbuf *message, uint32_t xid)
{
    struct ofp_header *header = message->data;

    header->xid = htonl(xid);
    /* A failure is a lost connection, which run() notices. */
    (void)rconn_send(flow->rconn, message, NULL);
}

void
flow_send_barrier(struct flow_switch *flow, uint32_t xid)
{
    flow_send(flow, ofputil_encode_barrier_request(OFP15_VERSION), xid);
}

void
flow_note_error(struct flow_switch *flow, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(flow->status.last_error, sizeof flow->status.last_error, format,
              args);
    va_end(args);
}

void
flow_drop_connection(struct flow_switch *flow)
{
    rconn_reconnect(flow->rconn);
    flow->is_poked = true;
}

/* ---- Conntrack zones ---- */

static void
send_flush(struct flow_switch *flow, struct flow_flush *flush)
{
    struct nx_zone_id *zone;
    struct ofpbuf *message =
        ofpraw_alloc(OFPRAW_NXT_CT_FLUSH_ZONE, OFP15_VERSION, 0);

    zone = ofpbuf_put_zeros(message, sizeof *zone);
    zone->zone_id = htons(flush->zone);
    flush->result = 0;
    /* The same for both: an error, if any, comes before the barrier's reply.
     */
    flush->xid = flow_take_xid(flow);
    flow_send(flow, message, flush->xid);
    flow_send_barrier(flow, flush->xid);
}

void
flow_flush_zone(struct flow_switch *flow, struct flow_flush *flush)
{
    list_push_back(&flow->flushes, &flush->node);
    flush->xid = 0;
    flush->result = 0;
    if (flow->phase != FLOW_DOWN) {
        send_flush(flow, flush);
    }
}

void
flow_flush_cancel(struct flow_switch *flow, struct flow_flush *flush)
{
    (void)flow;
    list_remove(&flush->node);
}

static struct flow_flush *
find_flush(struct flow_switch *flow, uint32_t xid)
{
    LIST_FOREACH (node, &flow->flushes) {
        struct flow_flush *flush = container_of(node, struct flow_flush, node);
        if (flush->xid == xid) {
            return flush;
        }
    }
    return NULL;
}

/* ---- Receiving ---- */

static void
take_barrier(struct flow_switch *flow, uint32_t xid)
{
    struct flow_flush *flush = find_flush(flow, xid);

    if (flow->phase == FLOW_SEND && xid == flow->bundle.barrier_xid) {
        bundle_finish(flow);
    } else if (flow->phase == FLOW_SETUP && xid == flow->setup_barrier_xid) {
        flow->phase = FLOW_IDLE;
        flow->needs_dump = true;
        flow->is_set_up = true;
    } else if (flush != NULL) {
        list_remove(&flush->node);
        flush->done(flush, flush->result);
    }
}

static void
take_error(struct flow_switch *flow, const struct ofp_header *header)
{
    uint32_t xid = ntohl(header->xid);
    const char *error = ofperr_get_name(ofperr_decode_msg(header, NULL));
    struct flow_flush *flush = find_flush(flow, xid);

    flow->status.errors++;
    if (bundle_take_error(flow, xid, error)) {
        flow_note_error(flow, "%s", error);
        return;
    }
    flow_note_error(flow, "the switch answers %s", error);
    if (flush != NULL) {
        flush->result = -EIO;
        return;
    }
    bool is_dump = flow->phase == FLOW_DUMP && (xid == flow->dump.flows_xid ||
                                                xid == flow->dump.meters_xid);
    if (is_dump || (flow->phase == FLOW_SETUP && xid == flow->setup_xid)) {
        log_error("flow",
                  "the switch refuses what we cannot do without, "
                  "reconnecting error=%s",
                  error);
        flow_drop_connection(flow);
        return;
    }
    log_debug("flow", "an error of the switch xid=%u error=%s", xid, error);
}

static void
take_message(struct flow_switch *flow, struct ofpbuf *message)
{
    const struct ofp_header *header = message->data;
    uint32_t xid = ntohl(header->xid);
    enum ofptype type;

    if (ofptype_decode(&type, header) != 0) {
        flow->status.errors++;
        return;
    }
    if (type == OFPTYPE_ECHO_REQUEST) {
        flow_send(flow, ofputil_encode_echo_reply(header), xid);
    } else if (type == OFPTYPE_ERROR) {
        take_error(flow, header);
    } else if (type == OFPTYPE_BARRIER_REPLY) {
        take_barrier(flow, xid);
    } else if (type == OFPTYPE_PACKET_IN) {
        packet_take(flow, header);
    } else if (type == OFPTYPE_NXT_TLV_TABLE_REPLY) {
        if (flow->phase == FLOW_SETUP && xid == flow->setup_xid) {
            setup_take_options(flow, header);
        }
    } else if (type == OFPTYPE_FLOW_STATS_REPLY) {
        if (flow->phase == FLOW_DUMP && xid == flow->dump.flows_xid) {
            dump_take_flows(flow, message);
        }
    } else if (type == OFPTYPE_METER_CONFIG_STATS_REPLY) {
        if (flow->phase == FLOW_DUMP && xid == flow->dump.meters_xid) {
            dump_take_meters(flow, message);
        }
    }
    /* Everything else is an answer that the barrier makes superfluous. */
}

/* ---- The connection ---- */

static void
tell_connection(struct flow_switch *flow, bool is_connected)
{
    if (flow->listener->connection != NULL) {
        flow->listener->connection(flow->listener, is_connected);
    }
}

static void
lose_connection(struct flow_switch *flow)
{
    if (flow->phase == FLOW_DOWN) {
        return;
    }
    log_warning("flow", "connection to the switch lost, retrying target=%s",
                flow->target);
    flow->phase = FLOW_DOWN;
    flow->is_synced = false;
    flow->needs_dump = false;
    flow->down_since_ns = loop_now_ns();
    bundle_forget(flow);
    dump_forget(flow);
    loop_timer_cancel(flow->loop, &flow->check_timer);
    loop_timer_set(flow->loop, &flow->connect_timer,
                   loop_now_ns() + CONNECT_SOON_NS);
    tell_connection(flow, false);
}

static void
gain_connection(struct flow_switch *flow)
{
    log_info("flow", "connected to the switch target=%s", flow->target);
    flow->status.connects++;
    flow->is_set_up = false;
    flow->is_down_told = false;
    flow->retry_ns = 0;
    backoff_reset(&flow->backoff);
    loop_timer_cancel(flow->loop, &flow->connect_timer);
    loop_timer_set(flow->loop, &flow->check_timer,
                   loop_now_ns() + flow->check_interval_ns);
    setup_start(flow);
    LIST_FOREACH (node, &flow->flushes) {
        send_flush(flow, container_of(node, struct flow_flush, node));
    }
    tell_connection(flow, true);
}

static void
follow_connection(struct flow_switch *flow)
{
    unsigned seqno = rconn_get_connection_seqno(flow->rconn);

    if (seqno == flow->seqno) {
        return;
    }
    flow->seqno = seqno;
    lose_connection(flow);
    if (rconn_is_connected(flow->rconn)) {
        gain_connection(flow);
    }
}

static void
tell_why_down(struct flow_switch *flow)
{
    int error = rconn_get_last_error(flow->rconn);
    const char *reason = error == 0 ? "no answer" : ovs_retval_to_string(error);

    if (flow->is_down_told) {
        return;
    }
    flow->is_down_told = true;
    flow_note_error(flow, "no connection: %s", reason);
    log_warning("flow",
                "no connection to the switch, flows wait target=%s "
                "reason=%s",
                flow->target, reason);
}

/* rconn waits for a second after each failure.  That is long for a switch that
 * restarts, so where there is a socket to be seen we begin anew. */
static void
connect_due(struct loop_timer *timer)
{
    struct flow_switch *flow =
        container_of(timer, struct flow_switch, connect_timer);
    uint64_t now_ns = loop_now_ns();
    bool is_soon = now_ns - flow->down_since_ns < CONNECT_SOON_FOR_NS;
    bool is_waiting = strcmp(rconn_get_state(flow->rconn), "BACKOFF") == 0;

    if (is_waiting && flow->path != NULL && access(flow->path, F_OK) == 0) {
        rconn_connect(flow->rconn, flow->target, NULL);
    }
    if (!is_soon) {
        tell_why_down(flow);
    }
    loop_timer_set(flow->loop, &flow->connect_timer,
                   now_ns + (is_soon ? CONNECT_SOON_NS : CONNECT_LATER_NS));
}

/* ---- What to do next ---- */

void
flow_confirm(struct flow_switch *flow, uint64_t version)
{
    bool is_news = flow->rejections_told != flow->desired.rejections;

    /* A new port may need a flow that was refused before. */
    if (is_news ||
        (flow->desired.rejected > 0 && flow->status.confirmed != version)) {
        flow->rejections_told = flow->desired.rejections;
        if (flow->listener->refused != NULL) {
            flow->listener->refused(flow->listener);
        }
    }
    if (flow->status.confirmed != version) {
        flow->status.confirmed = version;
        if (flow->listener->confirmed != NULL) {
            flow->listener->confirmed(flow->listener, version);
        }
    }
}

static void
flow_advance(struct flow_switch *flow)
{
    while (flow->phase == FLOW_IDLE && flow->is_complete) {
        if (flow->needs_dump && !flow->is_set_up) {
            setup_start(flow);
            return;
        }
        if (flow->needs_dump) {
            flow->is_set_up = false;
            dump_start(flow);
            return;
        }
        if (!flow->is_due || loop_now_ns() < flow->retry_ns) {
            return;
        }
        if (!bundle_start(flow)) {
            flow_confirm(flow, flow->status.committed);
        }
    }
}

static void
run(struct loop_runner *runner)
{
    struct flow_switch *flow = container_of(runner, struct flow_switch, runner);

    flow->is_poked = false;
    rconn_run(flow->rconn);
    follow_connection(flow);
    for (unsigned i = 0; i < MESSAGES_PER_TURN; i++) {
        struct ofpbuf *message = rconn_recv(flow->rconn);
        if (message == NULL) {
            break;
        }
        take_message(flow, message);
        ofpbuf_delete(message);
    }
    follow_connection(flow);
    flow_advance(flow);
}

static void
wait_for_more(struct loop_runner *runner)
{
    struct flow_switch *flow = container_of(runner, struct flow_switch, runner);

    rconn_run_wait(flow->rconn);
    rconn_recv_wait(flow->rconn);
    if (flow->is_poked) {
        poll_immediate_wake();
    }
}

static void
check_due(struct loop_timer *timer)
{
    struct flow_switch *flow =
        container_of(timer, struct flow_switch, check_timer);

    loop_timer_set(flow->loop, timer, loop_now_ns() + flow->check_interval_ns);
    flow_check(flow);
}

static void
retry_due(struct loop_timer *timer)
{
    container_of(timer, struct flow_switch, retry_timer)->is_poked = true;
}

/* ---- Desired flows ---- */

static void
sink_replace(struct compile_sink *sink, uint64_t unit,
             struct flow_spec *const *old_flows, size_t old_count,
             struct flow_spec *const *new_flows, size_t new_count)
{
    struct flow_switch *flow = container_of(sink, struct flow_switch, sink);

    desired_replace(&flow->desired, unit, old_flows, old_count, new_flows,
                    new_count);
}

struct compile_sink *
flow_sink(struct flow_switch *flow)
{
    return &flow->sink;
}

void
flow_set_complete(struct flow_switch *flow, bool is_complete)
{
    flow->is_complete = is_complete;
    flow->is_poked = true;
}

uint64_t
flow_commit(struct flow_switch *flow)
{
    flow->is_due = true;
    flow->is_poked = true;
    return ++flow->status.committed;
}

void
flow_check(struct flow_switch *flow)
{
    /* After a connect there is a dump anyway. */
    if (flow->is_synced) {
        flow->needs_dump = true;
        flow->is_poked = true;
    }
}

/* ---- Looking ---- */

void
flow_get_status(const struct flow_switch *flow, struct flow_status *ret_status)
{
    const struct desired *desired = &flow->desired;
    bool is_up = flow->phase != FLOW_DOWN;

    *ret_status = flow->status;
    ret_status->is_connected = is_up;
    ret_status->is_complete = flow->is_complete;
    ret_status->desired = desired->wanted;
    ret_status->installed = desired->installed;
    ret_status->pending =
        list_count(&desired->dirty) + list_count(&flow->bundle.entries);
    ret_status->rejected = desired->rejected;
    ret_status->conflicts = desired->conflicts;
    ret_status->meters = hmap_count(&desired->meters.meters);
    ret_status->is_in_sync = flow->phase == FLOW_IDLE && flow->is_complete &&
                             flow->is_synced && !flow->needs_dump &&
                             !flow->is_due && list_is_empty(&desired->dirty) &&
                             list_is_empty(&flow->foreign);
}

static int
compare_units(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

size_t
flow_refused_units(const struct flow_switch *flow, uint64_t **ret_units)
{
    const struct flow_entry *entry;
    uint64_t *units = NULL;
    size_t count = 0, room = 0;

    HMAP_FOR_EACH(entry, spec_node, &flow->desired.by_spec)
    {
        for (size_t i = 0; entry->rejected != NULL && i < entry->owner_count;
             i++) {
            if (count == room) {
                room = room * 2 + 64;
                units = realloc(units, room * sizeof *units);
                CHECK(units != NULL);
            }
            units[count++] = entry->owners[i].unit;
        }
    }
    if (count > 0) {
        qsort(units, count, sizeof *units, compare_units);
    }
    *ret_units = units;
    return count;
}

int
flow_packet_count(const struct flow_switch *flow, const struct flow_spec *spec,
                  uint64_t *ret_count)
{
    const struct flow_entry *entry = desired_find(&flow->desired, spec);

    if (entry == NULL || !entry->is_installed) {
        return -ENOENT;
    }
    *ret_count = entry->packet_count;
    return 0;
}

void
flow_visit(struct flow_switch *flow, struct flow_visitor *visitor)
{
    struct flow_entry *entry;

    HMAP_FOR_EACH(entry, spec_node, &flow->desired.by_spec)
    {
        desired_settle(&flow->desired, entry, NULL);
        if (entry->desired != NULL) {
            visitor->visit(visitor, entry->desired, entry->is_installed,
                           entry->packet_count);
        }
    }
}
