/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "netd/flow/internal.h"

/* Foreign: libopenvswitch. */
#include <config.h>
#include <openvswitch/ofp-flow.h>
#include <openvswitch/ofp-meter.h>
#include <openvswitch/ofp-msgs.h>
#include <openvswitch/ofpbuf.h>

/* What the switch has, compared with what it is thought to have.
 *
 * No bundle is in flight during a dump, so that what is not as expected was
 * changed by somebody else.  Desired flows may change meanwhile; they are dirty
 * then, and compared again when they are sent. */

static void
forget_foreign(struct flow_switch *flow)
{
    struct list *node;

    while ((node = list_pop_front(&flow->foreign)) != NULL) {
        struct foreign *foreign = container_of(node, struct foreign, node);
        ofpbuf_delete(foreign->message);
        free(foreign);
    }
}

void
dump_start(struct flow_switch *flow)
{
    struct dump *dump = &flow->dump;
    struct flow_entry *entry;
    struct ofputil_flow_stats_request request = {
        .out_port = OFPP_ANY,
        .out_group = OFPG_ANY,
        .table_id = OFPTT_ALL,
    };

    forget_foreign(flow);
    HMAP_FOR_EACH(entry, spec_node, &flow->desired.by_spec)
    {
        desired_settle(&flow->desired, entry, NULL);
    }
    meter_table_begin_dump(&flow->desired.meters);

    *dump = (struct dump){
        .number = dump->number + 1,
        .meters_xid = flow_take_xid(flow),
        .flows_xid = flow_take_xid(flow),
        .is_check = flow->is_synced,
    };
    flow->needs_dump = false;
    flow->phase = FLOW_DUMP;
    flow->status.dumps++;
    flow_send(flow,
              ofputil_encode_meter_request(OFP15_VERSION, OFPUTIL_METER_CONFIG,
                                           OFPM13_ALL),
              dump->meters_xid);
    match_init_catchall(&request.match);
    flow_send(flow,
              ofputil_encode_flow_stats_request(&request, OFPUTIL_P_OF15_OXM),
              dump->flows_xid);
}

static void
take_flow(struct flow_switch *flow, const struct ofputil_flow_stats *stats)
{
    struct flow_code code;

    encode_stats(stats, &code);
    struct flow_entry *entry = desired_find_code(&flow->desired, &code.key);
    if (entry != NULL) {
        entry->seen = flow->dump.number;
        entry->dumped = code.rest;
        entry->packet_count = stats->packet_count;
        return;
    }

    struct foreign *foreign = calloc(1, sizeof *foreign);
    CHECK(foreign != NULL);
    foreign->message = encode_stats_delete(stats);
    list_push_back(&flow->foreign, &foreign->node);
    flow->dump.drift.foreign++;
}

/* Compares what was dumped with what we thought. */
static void
compare_entry(struct flow_switch *flow, struct flow_entry *entry)
{
    struct desired *desired = &flow->desired;
    struct flow_drift *drift = &flow->dump.drift;
    bool is_seen = entry->seen == flow->dump.number;

    if (is_seen) {
        if (!entry->is_installed) {
            /* Of somebody else, if nobody here wants it. */
            drift->foreign += entry->owner_count == 0;
        } else if (!flow_digest_equal(&entry->installed, &entry->dumped)) {
            drift->changed++;
        }
        desired_set_installed(desired, entry, &entry->dumped);
    } else if (entry->is_installed) {
        drift->missing++;
        desired_set_installed(desired, entry, NULL);
    }

    /* What was refused once may be taken now. */
    desired_set_rejected(desired, entry, false);
    if (entry->is_stale) {
        desired_mark_dirty(desired, entry);
    } else if (!flow_entry_is_right(entry)) {
        flow->dump.differences++;
        desired_mark_dirty(desired, entry);
    }
}

static void
report(struct flow_switch *flow)
{
    const struct flow_drift *drift = &flow->dump.drift;
    struct flow_drift *sum = &flow->status.drift;

    if (drift->missing + drift->changed + drift->foreign + drift->meters == 0) {
        return;
    }
    sum->missing += drift->missing;
    sum->changed += drift->changed;
    sum->foreign += drift->foreign;
    sum->meters += drift->meters;
    log_warning("flow",
                "the switch was changed behind our back, repairing "
                "missing=%llu changed=%llu foreign=%llu meters=%llu",
                (unsigned long long)drift->missing,
                (unsigned long long)drift->changed,
                (unsigned long long)drift->foreign,
                (unsigned long long)drift->meters);
    if (flow->listener->drift != NULL) {
        flow->listener->drift(flow->listener, drift);
    }
}

static void
finish(struct flow_switch *flow)
{
    struct desired *desired = &flow->desired;
    struct flow_entry *entry, *next;

    HMAP_FOR_EACH_SAFE(entry, next, spec_node, &desired->by_spec)
    {
        compare_entry(flow, entry);
        desired_release(desired, entry);
    }
    flow->dump.drift.meters += meter_table_end_dump(&desired->meters);

    flow->phase = FLOW_IDLE;
    flow->is_due = true;
    if (flow->dump.is_check) {
        report(flow);
    } else {
        flow->is_synced = true;
        flow->status.resynced +=
            flow->dump.differences + flow->dump.drift.foreign;
    }
}

static void
finish_if_complete(struct flow_switch *flow)
{
    if (flow->dump.has_flows && flow->dump.has_meters) {
        finish(flow);
    }
}

static void
give_up(struct flow_switch *flow)
{
    flow_note_error(flow, "a dump of the switch is unreadable");
    flow_drop_connection(flow);
}

void
dump_take_flows(struct flow_switch *flow, struct ofpbuf *message)
{
    uint64_t stub[1024 / 8];
    struct ofpbuf actions;
    struct ofputil_flow_stats stats;
    const struct ofp_header *header = message->data;
    bool is_last = !ofpmp_more(header);
    int result;

    ofpbuf_use_stub(&actions, stub, sizeof stub);
    for (;;) {
        result =
            ofputil_decode_flow_stats_reply(&stats, message, true, &actions);
        if (result != 0) {
            break;
        }
        take_flow(flow, &stats);
    }
    ofpbuf_uninit(&actions);
    if (result != EOF) {
        give_up(flow);
        return;
    }
    flow->dump.has_flows = is_last;
    finish_if_complete(flow);
}

void
dump_take_meters(struct flow_switch *flow, struct ofpbuf *message)
{
    struct ofpbuf bands;
    struct ofputil_meter_config config;
    const struct ofp_header *header = message->data;
    bool is_last = !ofpmp_more(header);
    int result;

    ofpbuf_init(&bands, 64);
    for (;;) {
        result = ofputil_decode_meter_config(message, &config, &bands);
        if (result != 0) {
            break;
        }
        flow->dump.drift.meters +=
            meter_table_dumped(&flow->desired.meters, &config);
    }
    ofpbuf_uninit(&bands);
    if (result != EOF) {
        give_up(flow);
        return;
    }
    flow->dump.has_meters = is_last;
    finish_if_complete(flow);
}

void
dump_forget(struct flow_switch *flow)
{
    struct flow_entry *entry, *next;
    struct desired *desired = &flow->desired;

    forget_foreign(flow);
    HMAP_FOR_EACH_SAFE(entry, next, spec_node, &desired->by_spec)
    {
        desired_set_installed(desired, entry, NULL);
        desired_set_rejected(desired, entry, false);
        desired_release(desired, entry);
    }
    meter_table_forget(&desired->meters);
}
