/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sim_impl.h"

/* Connections as the wire sees them: segments under way, in order.
 *
 * A link is one connection, with two ends; each end has an outgoing wire,
 * which is a queue of segments with arrival times that never decrease.  A
 * segment that arrives while its way is blocked, or while the receiver has no
 * power, stays at the head of its queue until the way is open again: that is
 * TCP's retransmission, seen from outside.
 *
 * At most window_bytes of a direction are under way or unread. */

#include <errno.h>
#include <string.h>

static sim_event_fn wire_arrive;
static sim_event_fn end_pump;

/* ---- Links ---- */

struct sim_end *
sim_end_peer(struct sim_end *end)
{
    return &end->link->ends[1 - end->index];
}

static void
end_init(struct sim_link *link, uint32_t index, struct sim_node *node,
         uint64_t key)
{
    struct sim_end *end = &link->ends[index];

    end->link = link;
    end->index = index;
    end->node = node;
    end->state = SIM_END_DONE;
    end->pump.fire = end_pump;
    end->arrive.fire = wire_arrive;
    list_init(&end->life_node);
    list_init(&end->backlog_node);
    list_init(&end->queue);
    list_init(&end->wire);
    list_init(&end->inbox);
    sim_rng_init(link->sim, "link", sim_mix(key, index), &end->rng);
    if (rng_chance(&end->rng, link->sim->options.net.small_chunks_pct, 200)) {
        end->chop_scales = (uint32_t)rng_between(&end->rng, 9, 14);
    }
    sim_end_init(end);
}

struct sim_link *
sim_link_new(struct sim *sim, struct sim_node *from, struct sim_node *to,
             const char *port)
{
    struct sim_link *link = sim_alloc(sizeof *link);

    link->sim = sim;
    link->number = ++sim->link_count;
    memcpy(link->port, port, strlen(port) + 1);
    /* The n-th connection of this pair, whatever others do. */
    uint64_t key = sim_mix(sim_hash_text(from->name), sim_hash_text(to->name));
    key = sim_mix(key, ++from->links_to[to->index]);
    end_init(link, 0, from, key);
    end_init(link, 1, to, key);
    list_push_back(&sim->links, &link->node);
    return link;
}

static void
segments_free(struct list *segments)
{
    struct list *node;

    while ((node = list_pop_front(segments)) != NULL) {
        sim_release(container_of(node, struct sim_segment, node));
    }
}

void
sim_link_free(struct sim_link *link)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct sim_end *end = &link->ends[i];
        CHECK(end->life == NULL);
        CHECK(list_is_empty(&end->queue));
        CHECK(!list_is_linked(&end->backlog_node));
        sim_event_cancel(link->sim, &end->pump);
        sim_event_cancel(link->sim, &end->arrive);
        sim_event_cancel(link->sim, &end->deadline);
        segments_free(&end->wire);
        segments_free(&end->inbox);
    }
    list_remove(&link->node);
    sim_release(link);
}

void
sim_link_release(struct sim_link *link)
{
    for (uint32_t i = 0; i < 2; i++) {
        if (link->ends[i].state != SIM_END_DONE &&
            link->ends[i].state != SIM_END_SILENT) {
            return;
        }
    }
    sim_link_free(link);
}

/* ---- The wire ---- */

bool
sim_wire_is_open(const struct sim_node *from, const struct sim_node *to)
{
    return to->is_on && !(from->blocked_to & UINT64_C(1) << to->index);
}

static uint64_t
draw_latency(struct sim_end *from)
{
    const struct sim_net_options *o = &from->link->sim->options.net;
    const struct sim_node *to = sim_end_peer(from)->node;

    if (sim_ppm(&from->rng, o->stall_ppm)) {
        return sim_range_draw(&from->rng, &o->stall_ns);
    }
    uint64_t latency_ns = sim_range_draw(&from->rng, &o->latency_ns);
    if (from->node == to) {
        return latency_ns / 8; /* Loopback. */
    }
    return latency_ns + from->node->extra_ns[to->index];
}

/* Sees to it that the head of the queue arrives. */
void
sim_wire_schedule(struct sim_end *from, uint64_t extra_ns)
{
    struct list *head = list_front(&from->wire);

    if (head == NULL || sim_event_is_set(&from->arrive)) {
        return;
    }
    uint64_t time_ns = container_of(head, struct sim_segment, node)->arrival_ns;
    if (time_ns < from->link->sim->now_ns) {
        time_ns = from->link->sim->now_ns;
    }
    sim_event_set(from->link->sim, &from->arrive, time_ns + extra_ns);
}

void
sim_wire_put_data(struct sim_end *from, struct sim_segment *segment)
{
    struct sim *sim = from->link->sim;
    uint64_t arrival_ns =
        sim->now_ns + draw_latency(from) + segment->size_bytes;

    if (arrival_ns < from->last_arrival_ns) {
        arrival_ns = from->last_arrival_ns;
    }
    from->last_arrival_ns = arrival_ns;
    segment->arrival_ns = arrival_ns;
    list_push_back(&from->wire, &segment->node);
    from->outstanding_bytes += segment->size_bytes;
    sim_wire_schedule(from, 0);
    if (segment->kind == SIM_SEGMENT_DATA &&
        sim_ppm(&from->rng, sim->options.net.reset_ppm)) {
        sim_link_cut(from->link);
    }
}

void
sim_wire_put(struct sim_end *from, enum sim_segment_kind kind)
{
    struct sim_segment *segment;

    if (kind == SIM_SEGMENT_RST) {
        if (from->rst_sent) {
            return;
        }
        from->rst_sent = true;
    }
    segment = sim_alloc(sizeof *segment);
    segment->kind = kind;
    list_init(&segment->node);
    sim_wire_put_data(from, segment);
}

void
sim_wire_truncate(struct sim_end *from)
{
    uint64_t total = 0;

    LIST_FOREACH (node, &from->wire) {
        total += container_of(node, struct sim_segment, node)->size_bytes;
    }
    uint64_t keep = rng_between(&from->rng, 0, total);
    LIST_FOREACH (node, &from->wire) {
        struct sim_segment *segment =
            container_of(node, struct sim_segment, node);
        if (segment->kind == SIM_SEGMENT_FIN ||
            segment->kind == SIM_SEGMENT_RST) {
            segment->kind = SIM_SEGMENT_DATA; /* Of no bytes: nothing. */
        } else if (keep < segment->size_bytes) {
            from->outstanding_bytes -= segment->size_bytes - (uint32_t)keep;
            segment->size_bytes = (uint32_t)keep;
            keep = 0;
        } else {
            keep -= segment->size_bytes;
        }
    }
    from->rst_sent = false;
}

void
sim_link_cut(struct sim_link *link)
{
    sim_note(link->sim, NULL, SIM_NOTE_NET_CUT, link->number, 0, 0, 0);
    for (uint32_t i = 0; i < 2; i++) {
        struct sim_end *end = &link->ends[i];
        if (end->state == SIM_END_DONE && list_is_empty(&end->wire)) {
            continue; /* Nothing more to say: the other end knows. */
        }
        sim_wire_truncate(end);
        sim_wire_put(end, SIM_SEGMENT_RST);
    }
}

/* ---- Arrival ---- */

static void
deliver_data(struct sim_end *to, struct sim_segment *segment)
{
    if (to->state == SIM_END_OPEN || to->state == SIM_END_BACKLOG) {
        list_push_back(&to->inbox, &segment->node);
        to->inbox_bytes += segment->size_bytes;
        sim_end_arrived(to);
        return;
    }
    /* Nobody is there any more. */
    sim_release(segment);
    if (to->state != SIM_END_CONNECTING) {
        sim_wire_put(to, SIM_SEGMENT_RST);
    }
}

static void
deliver_rst(struct sim_end *to)
{
    if (to->state == SIM_END_CONNECTING) {
        sim_end_fail(to, -ECONNREFUSED);
        return;
    }
    if (to->state != SIM_END_OPEN && to->state != SIM_END_BACKLOG) {
        return;
    }
    /* What has been received may or may not be read before the error. */
    if (rng_chance(&to->rng, 1, 2) || to->is_paused) {
        sim_end_drop_inbox(to);
    }
    to->reason = -ECONNRESET;
    to->got_fin = true;
    if (to->is_paused && !list_is_empty(&to->queue)) {
        sim_end_fail(to, to->reason); /* A send notices without reading. */
        return;
    }
    sim_end_arrived(to);
}

static void
deliver(struct sim_end *to, struct sim_segment *segment)
{
    struct sim_end *from = sim_end_peer(to);
    enum sim_segment_kind kind = segment->kind;

    sim_note(to->link->sim, to->node, SIM_NOTE_SEGMENT, to->link->number,
             to->index, (uint64_t)kind, segment->size_bytes);
    if (kind == SIM_SEGMENT_DATA && segment->size_bytes != 0) {
        deliver_data(to, segment);
        return;
    }
    sim_release(segment);
    switch (kind) {
    case SIM_SEGMENT_SYN:
        if (sim_listener_offer(to)) {
            sim_wire_put(to, SIM_SEGMENT_SYN_ACK);
        } else {
            sim_wire_put(to, SIM_SEGMENT_RST);
        }
        break;
    case SIM_SEGMENT_SYN_ACK:
        if (to->state == SIM_END_CONNECTING) {
            sim_end_opened(to);
        } else if (to->state != SIM_END_OPEN) {
            sim_wire_put(to, SIM_SEGMENT_RST);
        }
        break;
    case SIM_SEGMENT_DATA: /* Truncated to nothing. */
        break;
    case SIM_SEGMENT_FIN:
        if (to->state == SIM_END_OPEN || to->state == SIM_END_BACKLOG) {
            to->got_fin = true;
            sim_end_arrived(to);
        }
        break;
    case SIM_SEGMENT_RST:
        deliver_rst(to);
        break;
    }
    (void)from;
}

static void
wire_arrive(struct sim_event *event)
{
    struct sim_end *from = container_of(event, struct sim_end, arrive);
    struct sim_end *to = sim_end_peer(from);

    if (!sim_wire_is_open(from->node, to->node)) {
        return; /* Held: sim_wire_resume() goes on. */
    }
    struct list *node = list_pop_front(&from->wire);
    if (node == NULL) {
        return;
    }
    sim_wire_schedule(from, 0);
    deliver(to, container_of(node, struct sim_segment, node));
}

/* ---- Sending ---- */

void
sim_end_pump_soon(struct sim_end *end)
{
    if (end->state != SIM_END_OPEN || list_is_empty(&end->queue) ||
        sim_event_is_set(&end->pump)) {
        return;
    }
    sim_event_set(end->link->sim, &end->pump,
                  end->link->sim->now_ns + rng_between(&end->rng, 200, 4000));
}

/* Copies 'size' bytes of the send, from where it was left, to 'to'. */
static void
gather(struct sim_send *send, uint8_t *to, uint32_t size)
{
    uint32_t skip = send->sent_bytes;

    send->sent_bytes += size;
    for (uint32_t i = 0; size != 0; i++) {
        const struct iovec *iov = &send->send->iov[i];
        CHECK(i < send->send->iov_count);
        if (skip >= iov->iov_len) {
            skip -= (uint32_t)iov->iov_len;
            continue;
        }
        uint32_t part = (uint32_t)iov->iov_len - skip;
        if (part > size) {
            part = size;
        }
        memcpy(to, (const uint8_t *)iov->iov_base + skip, part);
        to += part;
        size -= part;
        skip = 0;
    }
}

/* Copies a piece of the queue to the wire. */
static void
end_pump(struct sim_event *event)
{
    struct sim_end *end = container_of(event, struct sim_end, pump);
    const struct sim_net_options *o = &end->link->sim->options.net;
    uint32_t space = o->window_bytes > end->outstanding_bytes
                         ? o->window_bytes - end->outstanding_bytes
                         : 0;
    struct list *node;

    if (end->is_paused && end->reason != 0) {
        sim_end_fail(end, end->reason); /* It was reset meanwhile. */
        return;
    }
    if (space > SIM_CHUNK_MAX) {
        space = SIM_CHUNK_MAX;
    }
    if (space > 1 && rng_chance(&end->rng, o->small_chunks_pct, 200)) {
        space = (uint32_t)rng_between(&end->rng, 1, space);
    }
    if (space == 0) {
        return; /* Goes on when the receiver has read: sim_end_consumed(). */
    }
    uint32_t total = 0;
    LIST_FOREACH (entry, &end->queue) {
        struct sim_send *send =
            container_of(entry, struct sim_send, queue_node);
        total += send->send->size_bytes - send->sent_bytes;
        if (total >= space) {
            total = space;
            break;
        }
    }
    struct sim_segment *segment = sim_alloc(sizeof *segment + total);
    segment->kind = SIM_SEGMENT_DATA;
    segment->size_bytes = total;
    list_init(&segment->node);
    uint32_t filled = 0;
    while (filled < total && (node = list_front(&end->queue)) != NULL) {
        struct sim_send *send = container_of(node, struct sim_send, queue_node);
        uint32_t part = send->send->size_bytes - send->sent_bytes;
        if (part > total - filled) {
            part = total - filled;
        }
        gather(send, segment->data + filled, part);
        filled += part;
        if (send->sent_bytes == send->send->size_bytes) {
            sim_send_settle(send, 0);
        }
    }
    sim_hash_bytes(end->link->sim, segment->data, total);
    sim_wire_put_data(end, segment);
    sim_end_pump_soon(end);
    if (list_is_empty(&end->queue) && end->is_ending) {
        sim_end_fail(end, 0); /* All is said. */
    }
}

/* ---- Reading ---- */

void
sim_end_consumed(struct sim_end *end, uint32_t size_bytes)
{
    struct sim_end *peer = sim_end_peer(end);

    if (!sim_wire_is_open(end->node, peer->node)) {
        peer->held_ack_bytes += size_bytes;
        return;
    }
    CHECK(peer->outstanding_bytes >= size_bytes);
    peer->outstanding_bytes -= size_bytes;
    sim_end_pump_soon(peer);
}

void
sim_end_drop_inbox(struct sim_end *end)
{
    segments_free(&end->inbox);
    end->inbox_bytes = 0;
}
