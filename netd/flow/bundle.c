/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "netd/flow/internal.h"

/* Foreign: libopenvswitch. */
#include <byte-order.h>
#include <config.h>
#include <openvswitch/ofp-bundle.h>
#include <openvswitch/ofpbuf.h>

/* One atomic, ordered bundle:
 *
 *     meter_mods that add or change; OPEN; ADD(flow_mod)...; COMMIT; BARRIER
 *
 * all sent without waiting.  When the barrier has answered, what went wrong is
 * known by the xids of error messages:
 *   - of an ADD: the switch took all but this one.  That is what a second try
 *     would do, so there is none.
 *   - of the COMMIT: the switch took nothing, and named the flow in another
 *     message.  All are tried again without it, after a pause that grows.
 * The flow itself is rejected until it changes or the next dump.
 *
 * Meters that nobody uses any more are deleted after that, and only if nothing
 * waits: deleting a meter deletes the flows that use it. */

#define TEXT_SIZE 512

/* Takes the message. */
static struct bundle_item *
add_item(struct bundle *bundle, struct ofpbuf *message)
{
    if (bundle->count == bundle->capacity) {
        bundle->capacity = bundle->capacity == 0 ? 64 : bundle->capacity * 2;
        bundle->items =
            realloc(bundle->items, bundle->capacity * sizeof *bundle->items);
        bundle->messages =
            realloc(bundle->messages, bundle->capacity * sizeof(void *));
        CHECK(bundle->items != NULL);
        CHECK(bundle->messages != NULL);
    }
    bundle->messages[bundle->count] = message;
    struct bundle_item *item = &bundle->items[bundle->count++];
    *item = (struct bundle_item){ 0 };
    return item;
}

static void
reject(struct flow_switch *flow, struct flow_entry *entry, const char *error)
{
    struct flow_listener *listener = flow->listener;
    struct flow_spec *spec =
        entry->desired != NULL ? entry->desired : entry->key;
    char text[TEXT_SIZE];

    desired_set_rejected(&flow->desired, entry, true);
    flow_spec_format(spec, text, sizeof text);
    flow_note_error(flow, "%s: %s", error, text);
    log_error("flow", "a flow is left out error=%s flow=%s", error, text);
    if (listener->rejected != NULL) {
        flow_spec_ref(spec);
        listener->rejected(listener, spec, error);
        flow_spec_unref(spec);
    }
}

/* Puts an entry that is off all lists into the bundle, if it needs to be. */
static void
take_entry(struct flow_switch *flow, struct flow_entry *entry)
{
    struct bundle *bundle = &flow->bundle;
    struct ofpbuf *message = NULL;
    const char *error;

    desired_settle(&flow->desired, entry, &message);
    if (entry->error != NULL && entry->rejected == NULL) {
        reject(flow, entry, entry->error);
    }
    if (!flow_entry_is_due(entry)) {
        ofpbuf_delete(message);
        desired_release(&flow->desired, entry);
        return;
    }

    bool is_delete = entry->desired == NULL;
    if (is_delete) {
        message = encode_delete(entry->key);
    } else if (message == NULL) {
        CHECK(encode_flow(entry->desired, &entry->code, &message, &error) == 0);
    }
    struct bundle_item *item = add_item(bundle, message);
    item->entry = entry;
    item->is_delete = is_delete;
    item->rest = entry->code.rest;
    list_push_back(&bundle->entries, &entry->node);
}

static void
collect(struct flow_switch *flow)
{
    struct bundle *bundle = &flow->bundle;
    struct list taken;
    struct list *node;

    /* First what is in the way. */
    while ((node = list_pop_front(&flow->foreign)) != NULL) {
        struct foreign *foreign = container_of(node, struct foreign, node);
        add_item(bundle, foreign->message);
        bundle->has_foreign = true;
        free(foreign);
    }

    list_init(&taken);
    list_splice_back(&taken, &flow->desired.dirty);
    while ((node = list_pop_front(&taken)) != NULL) {
        take_entry(flow, container_of(node, struct flow_entry, node));
    }
}

static void
send_meters(struct flow_switch *flow)
{
    struct bundle *bundle = &flow->bundle;
    struct ofpbuf *message;

    bundle->first_meter_xid = flow->next_xid;
    bundle->meter_count = 0;
    while (meter_table_next_put(&flow->desired.meters, &message) != NULL) {
        flow_send(flow, message, flow_take_xid(flow));
        bundle->meter_count++;
        flow->status.meter_mods++;
    }
}

static void
delete_meters(struct flow_switch *flow)
{
    struct ofpbuf *message;

    if (!list_is_empty(&flow->desired.dirty)) {
        return;
    }
    while (meter_table_next_delete(&flow->desired.meters, &message)) {
        flow_send(flow, message, flow_take_xid(flow));
        flow->status.meter_mods++;
    }
}

static void
send_control(struct flow_switch *flow, uint16_t type, uint32_t xid)
{
    struct ofputil_bundle_ctrl_msg control = {
        .bundle_id = flow->bundle.id,
        .type = type,
        .flags = OFPBF_ATOMIC | OFPBF_ORDERED,
    };
    flow_send(flow, ofputil_encode_bundle_ctrl_request(OFP15_VERSION, &control),
              xid);
}

static void
send_bundle(struct flow_switch *flow)
{
    struct bundle *bundle = &flow->bundle;

    bundle->id++;
    bundle->open_xid = flow_take_xid(flow);
    send_control(flow, OFPBCT_OPEN_REQUEST, bundle->open_xid);

    bundle->first_xid = flow->next_xid;
    for (size_t i = 0; i < bundle->count; i++) {
        uint32_t xid = flow_take_xid(flow);
        struct ofp_header *header = bundle->messages[i]->data;
        struct ofputil_bundle_add_msg add = {
            .bundle_id = bundle->id,
            .flags = OFPBF_ATOMIC | OFPBF_ORDERED,
            .msg = header,
        };
        header->xid = htonl(xid);
        flow_send(flow, ofputil_encode_bundle_add(OFP15_VERSION, &add), xid);
        ofpbuf_delete(bundle->messages[i]);
    }
    flow->status.flow_mods += bundle->count;
    flow->status.bundles++;

    bundle->commit_xid = flow_take_xid(flow);
    send_control(flow, OFPBCT_COMMIT_REQUEST, bundle->commit_xid);
}

bool
bundle_start(struct flow_switch *flow)
{
    struct bundle *bundle = &flow->bundle;

    CHECK(bundle->count == 0);
    bundle->is_failed = false;
    bundle->has_foreign = false;
    bundle->version = flow->status.committed;
    bundle->open_xid = 0;
    bundle->commit_xid = 0;
    flow->is_due = false;
    collect(flow);
    if (bundle->count == 0 && !meter_table_has_puts(&flow->desired.meters)) {
        delete_meters(flow);
        return false;
    }

    send_meters(flow);
    if (bundle->count > 0) {
        send_bundle(flow);
    }
    bundle->barrier_xid = flow_take_xid(flow);
    flow_send_barrier(flow, bundle->barrier_xid);
    flow->phase = FLOW_SEND;
    return true;
}

bool
bundle_take_error(struct flow_switch *flow, uint32_t xid, const char *error)
{
    struct bundle *bundle = &flow->bundle;
    uint32_t index = xid - bundle->first_xid;

    if (flow->phase != FLOW_SEND) {
        return false;
    }
    if (xid - bundle->first_meter_xid < bundle->meter_count) {
        log_error("flow", "the switch refuses a meter error=%s", error);
        return true;
    }
    if (bundle->commit_xid == 0) {
        return false;
    }
    if (index < bundle->count) {
        bundle->items[index].error = error;
        return true;
    }
    if (xid == bundle->open_xid || xid == bundle->commit_xid) {
        bundle->is_failed = true;
        return true;
    }
    return false;
}

/* Off the list of what is in flight, and onto that of what is to be sent where
 * it changed meanwhile or did not get through. */
static void
settle_item(struct flow_switch *flow, struct bundle_item *item)
{
    struct desired *desired = &flow->desired;
    struct flow_entry *entry = item->entry;

    list_remove(&entry->node);
    bool has_changed = entry->is_stale ||
                       item->is_delete != (entry->desired == NULL) ||
                       !flow_digest_equal(&item->rest, &entry->code.rest);
    if (item->error != NULL) {
        if (!has_changed) {
            reject(flow, entry, item->error);
        }
    } else if (!flow->bundle.is_failed) {
        desired_set_installed(desired, entry,
                              item->is_delete ? NULL : &item->rest);
    }
    if (has_changed || flow_entry_is_due(entry)) {
        desired_mark_dirty(desired, entry);
    }
    desired_release(desired, entry);
}

static void
settle_items(struct flow_switch *flow)
{
    struct bundle *bundle = &flow->bundle;

    for (size_t i = 0; i < bundle->count; i++) {
        if (bundle->items[i].entry != NULL) {
            settle_item(flow, &bundle->items[i]);
        } else if (bundle->items[i].error != NULL) {
            flow_note_error(flow, "a foreign flow stays: %s",
                            bundle->items[i].error);
        }
    }
    bundle->count = 0;
}

void
bundle_finish(struct flow_switch *flow)
{
    struct bundle *bundle = &flow->bundle;

    flow->phase = FLOW_IDLE;
    settle_items(flow);
    if (bundle->is_failed) {
        flow->status.bundle_failures++;
        flow->is_due = true;
        /* Nobody else knows of these any more. */
        flow->needs_dump |= bundle->has_foreign;
        flow->retry_ns =
            loop_now_ns() + backoff_next(&flow->backoff, &flow->rng);
        loop_timer_set(flow->loop, &flow->retry_timer, flow->retry_ns);
        return;
    }

    backoff_reset(&flow->backoff);
    delete_meters(flow);
    flow_confirm(flow, bundle->version);
}

void
bundle_forget(struct flow_switch *flow)
{
    struct bundle *bundle = &flow->bundle;
    struct list *node;

    while ((node = list_pop_front(&bundle->entries)) != NULL) {
        desired_mark_dirty(&flow->desired,
                           container_of(node, struct flow_entry, node));
    }
    bundle->count = 0;
}
