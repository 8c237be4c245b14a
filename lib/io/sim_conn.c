/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sim_impl.h"

/* Connections as io.h sees them: one end of a link and its owner.
 *
 *   CONNECTING --> OPEN --> CLOSING --> DONE
 *   BACKLOG -----> OPEN
 *   any --> DONE (process crash), SILENT (power crash)
 *
 * Each callback is a sim_ready of its own (connected, data, closed); they run
 * in the order in which they became ready, so that sends settle before
 * on_closed(). */

#include <errno.h>
#include <string.h>

static sim_ready_fn end_connected;
static sim_ready_fn end_data;
static sim_ready_fn end_closed;
static sim_ready_fn send_done;
static sim_event_fn end_deadline;

void
sim_end_init(struct sim_end *end)
{
    end->connected.run = end_connected;
    end->data.run = end_data;
    end->closed.run = end_closed;
    end->deadline.fire = end_deadline;
    list_init(&end->connected.node);
    list_init(&end->data.node);
    list_init(&end->closed.node);
}

static struct sim_end *
end_of(struct sim_life *life, const struct io_conn *conn)
{
    struct sim_end *end = conn->impl;

    CHECK(end != NULL); /* The connection is over, or was never begun. */
    CHECK(end->conn == conn);
    CHECK(end->life == life);
    return end;
}

static void
own(struct sim_end *end, struct sim_life *life, struct io_conn *conn)
{
    CHECK(conn->impl == NULL); /* In use, or never set to zero. */
    conn->impl = end;
    end->conn = conn;
    end->life = life;
    list_push_back(&life->ends, &end->life_node);
}

/* ---- Told by the wire ---- */

void
sim_end_opened(struct sim_end *end)
{
    CHECK(end->state == SIM_END_CONNECTING);
    end->state = SIM_END_OPEN;
    sim_event_cancel(end->link->sim, &end->deadline);
    sim_life_push(end->life, &end->connected);
}

void
sim_end_arrived(struct sim_end *end)
{
    if (end->state != SIM_END_OPEN || end->is_paused ||
        list_is_linked(&end->data.node)) {
        return;
    }
    if (end->inbox_bytes != 0 || end->got_fin) {
        sim_life_push(end->life, &end->data);
    }
}

static void
end_deadline(struct sim_event *event)
{
    struct sim_end *end = container_of(event, struct sim_end, deadline);

    sim_wire_put(end, SIM_SEGMENT_RST);
    sim_end_fail(end, -ETIMEDOUT);
}

/* The connection ends here, for 'reason'. */
void
sim_end_fail(struct sim_end *end, int reason)
{
    struct list *node;

    if (end->state != SIM_END_CONNECTING && end->state != SIM_END_OPEN) {
        return;
    }
    bool was_connecting = end->state == SIM_END_CONNECTING;
    end->state = SIM_END_CLOSING;
    end->reason = reason;
    sim_event_cancel(end->link->sim, &end->pump);
    sim_event_cancel(end->link->sim, &end->deadline);
    list_remove(&end->data.node);
    if (was_connecting) {
        sim_life_push(end->life, &end->connected);
    }
    while ((node = list_front(&end->queue)) != NULL) {
        sim_send_settle(container_of(node, struct sim_send, queue_node),
                        reason == 0 ? -ECANCELED : reason);
    }
    sim_life_push(end->life, &end->closed);
    /* The other end: orderly, unless bytes of it are thrown away. */
    if (reason == 0 && !was_connecting) {
        sim_wire_put(end, end->inbox_bytes != 0 && !end->got_fin
                              ? SIM_SEGMENT_RST
                              : SIM_SEGMENT_FIN);
    }
    sim_end_drop_inbox(end);
}

/* ---- Callbacks ---- */

static void
end_connected(struct sim_ready *ready)
{
    struct sim_end *end = container_of(ready, struct sim_end, connected);
    int result = 0;

    if (end->state == SIM_END_CLOSING) {
        result = end->reason == 0 ? -ECANCELED : end->reason;
    }
    sim_note(end->link->sim, end->node, SIM_NOTE_CONNECTED, end->link->number,
             (uint64_t)-result, 0, 0);
    end->conn->on_connected(end->conn, result);
}

/* Takes up to 'size' bytes from the inbox. */
static void
inbox_take(struct sim_end *end, uint8_t *to, uint32_t size)
{
    end->inbox_bytes -= size;
    while (size != 0) {
        struct list *node = list_front(&end->inbox);
        CHECK(node != NULL);
        struct sim_segment *segment =
            container_of(node, struct sim_segment, node);
        uint32_t part = segment->size_bytes - segment->read_bytes;
        if (part > size) {
            part = size;
        }
        memcpy(to, segment->data + segment->read_bytes, part);
        to += part;
        size -= part;
        segment->read_bytes += part;
        if (segment->read_bytes == segment->size_bytes) {
            list_remove(node);
            sim_release(segment);
        }
    }
}

static uint32_t
draw_chunk(struct sim_end *end)
{
    uint32_t size = end->inbox_bytes < SIM_CHUNK_MAX
                        ? (uint32_t)end->inbox_bytes
                        : SIM_CHUNK_MAX;

    if (end->chop_scales != 0 ||
        rng_chance(&end->rng, end->link->sim->options.net.small_chunks_pct,
                   100)) {
        /* Any scale is as likely as any other. */
        uint64_t scale =
            rng_below(&end->rng, end->chop_scales != 0 ? end->chop_scales : 17);
        uint32_t limit =
            (uint32_t)rng_between(&end->rng, 1, UINT64_C(1) << scale);
        return size < limit ? size : limit;
    }
    return size;
}

/* One call of on_data().  Returns false if the life or the end is over. */
static bool
deliver_chunk(struct sim_end *end)
{
    struct sim *sim = end->link->sim;
    struct sim_life *life = end->life;
    struct sim_link *link = end->link;
    uint32_t size = draw_chunk(end);
    uint8_t *data = sim->scratch + (SIM_CHUNK_MAX - size);

    inbox_take(end, data, size);
    sim_note(sim, end->node, SIM_NOTE_DATA, link->number, end->index, size,
             end->inbox_bytes);
    sim_end_consumed(end, size);
    end->conn->on_data(end->conn, data, size);
    memset(data, 0xdb, size); /* Valid inside the call only. */
    return !life->is_dead && end->state == SIM_END_OPEN;
}

static void
end_data(struct sim_ready *ready)
{
    struct sim_end *end = container_of(ready, struct sim_end, data);

    for (uint32_t i = 0; i < 4 && end->inbox_bytes != 0; i++) {
        if (end->is_ending) {
            uint32_t size = (uint32_t)end->inbox_bytes;
            sim_end_drop_inbox(end);
            sim_end_consumed(end, size);
            break;
        }
        if (end->is_paused) {
            return;
        }
        if (!deliver_chunk(end)) {
            return;
        }
    }
    if (end->inbox_bytes == 0 && end->got_fin) {
        if (!end->is_paused || end->reason != 0) {
            sim_end_fail(end, end->reason);
        }
        return;
    }
    sim_end_arrived(end);
}

static void
end_closed(struct sim_ready *ready)
{
    struct sim_end *end = container_of(ready, struct sim_end, closed);
    struct io_conn *conn = end->conn;
    int reason = end->reason;

    CHECK(end->state == SIM_END_CLOSING);
    CHECK(list_is_empty(&end->queue));
    sim_note(end->link->sim, end->node, SIM_NOTE_CLOSED, end->link->number,
             end->index, (uint64_t)-reason, 0);
    end->state = SIM_END_DONE;
    end->conn = NULL;
    end->life = NULL;
    list_remove(&end->life_node);
    conn->impl = NULL;
    sim_link_release(end->link);
    conn->on_closed(conn, reason);
}

/* ---- Sends ---- */

static void
send_free(struct sim_send *send)
{
    list_remove(&send->ready.node);
    list_remove(&send->node);
    list_remove(&send->queue_node);
    sim_release(send);
}

static void
send_done(struct sim_ready *ready)
{
    struct sim_send *wrapper = container_of(ready, struct sim_send, ready);
    struct io_send *send = wrapper->send;
    int result = wrapper->result;

    sim_op_end(&send->op, result);
    send_free(wrapper);
    send->op.done(&send->op, result);
}

void
sim_send_settle(struct sim_send *send, int result)
{
    struct sim_end *end = send->end;

    list_remove(&send->queue_node);
    send->end = NULL;
    send->result = result;
    sim_note(send->life->sim, send->life->node, SIM_NOTE_SENT,
             end == NULL ? 0 : end->link->number, end == NULL ? 0 : end->index,
             send->sent_bytes, (uint64_t)-result);
    sim_life_push(send->life, &send->ready);
}

void
sim_send_cancel(struct sim_send *send)
{
    /* A stream cannot lose bytes in its middle: only a send of which nothing
     * has left can be taken back. */
    if (send->end != NULL && send->sent_bytes == 0) {
        struct sim_end *end = send->end;
        sim_send_settle(send, -ECANCELED);
        if (end->is_ending && list_is_empty(&end->queue)) {
            sim_end_fail(end, 0);
        }
    }
}

void
sim_conn_send(struct io *io, struct io_conn *conn, struct io_send *send)
{
    struct sim_life *life = sim_life_enter(io);
    struct sim_end *end = conn->impl;

    if (life->is_dead) {
        return;
    }
    struct sim_send *wrapper = sim_alloc(sizeof *wrapper);
    sim_op_begin(&send->op, wrapper);
    wrapper->ready.run = send_done;
    list_init(&wrapper->ready.node);
    list_init(&wrapper->node);
    list_init(&wrapper->queue_node);
    wrapper->send = send;
    wrapper->life = life;
    list_push_back(&life->sends, &wrapper->node);
    if (end == NULL || end->state != SIM_END_OPEN || end->is_ending ||
        list_is_linked(&end->connected.node)) {
        sim_send_settle(wrapper, -ENOTCONN);
        if (end != NULL && list_is_linked(&end->closed.node)) {
            list_remove(&end->closed.node); /* Behind it: io.h. */
            sim_life_push(life, &end->closed);
        }
        return;
    }
    CHECK(end->life == life);
    wrapper->end = end;
    list_push_back(&end->queue, &wrapper->queue_node);
    sim_note(life->sim, life->node, SIM_NOTE_SEND, end->link->number,
             end->index, send->size_bytes, 0);
    sim_end_pump_soon(end);
}

/* ---- The owner's calls ---- */

void
sim_conn_connect(struct io *io, struct io_conn *conn, const char *address,
                 uint64_t deadline_ns)
{
    struct sim_life *life = sim_life_enter(io);
    struct sim *sim = life->sim;
    struct sim_node *to = life->node;
    char name[IO_ADDRESS_SIZE];
    char port[IO_ADDRESS_SIZE] = "";

    if (life->is_dead) {
        return;
    }
    bool is_valid = sim_address_parse(address, name, port);
    for (uint32_t i = 0; is_valid && i < sim->node_count; i++) {
        if (strcmp(sim->nodes[i]->name, name) == 0) {
            to = sim->nodes[i];
        }
    }
    if (is_valid && name[0] != '\0' && strcmp(to->name, name) != 0) {
        port[0] = '\0'; /* No such node: nobody listens there. */
    }
    struct sim_link *link = sim_link_new(sim, life->node, to, port);
    struct sim_end *end = &link->ends[0];
    own(end, life, conn);
    end->state = SIM_END_CONNECTING;
    sim_note(sim, life->node, SIM_NOTE_CONNECT, link->number, to->index, 0, 0);
    if (!is_valid) {
        sim_end_fail(end, -EINVAL);
        return;
    }
    uint64_t limit_ns = sim->now_ns + sim->options.net.connect_timeout_ns;
    if (deadline_ns != IO_NEVER) {
        uint64_t asked_ns = sim_node_world_time(life->node, deadline_ns);
        limit_ns = asked_ns < limit_ns ? asked_ns : limit_ns;
    }
    sim_event_set(sim, &end->deadline, limit_ns);
    sim_wire_put(end, SIM_SEGMENT_SYN);
}

int
sim_conn_adopt(struct io *io, struct io_conn *conn,
               struct io_accepted *accepted)
{
    struct sim_life *life = sim_life_enter(io);
    struct sim_end *end = (struct sim_end *)(void *)accepted;

    if (life->is_dead) {
        return -ENOMEM;
    }
    CHECK(end->state == SIM_END_BACKLOG); /* Only inside on_accept(). */
    CHECK(end->node == life->node);
    own(end, life, conn);
    list_remove(&end->backlog_node);
    end->state = SIM_END_OPEN;
    sim_end_arrived(end);
    return 0;
}

void
sim_conn_pause(struct io *io, struct io_conn *conn)
{
    struct sim_life *life = sim_life_enter(io);

    if (!life->is_dead) {
        end_of(life, conn)->is_paused = true;
    }
}

void
sim_conn_resume(struct io *io, struct io_conn *conn)
{
    struct sim_life *life = sim_life_enter(io);

    if (!life->is_dead) {
        struct sim_end *end = end_of(life, conn);
        end->is_paused = false;
        sim_end_arrived(end);
    }
}

void
sim_conn_close(struct io *io, struct io_conn *conn)
{
    struct sim_life *life = sim_life_enter(io);

    if (life->is_dead || conn->impl == NULL) {
        return;
    }
    struct sim_end *end = end_of(life, conn);
    sim_note(life->sim, life->node, SIM_NOTE_CLOSE, end->link->number,
             end->index, 0, 0);
    if (end->state == SIM_END_CONNECTING) {
        sim_wire_put(end, SIM_SEGMENT_RST);
    }
    sim_end_fail(end, 0);
}

void
sim_conn_close_after_sends(struct io *io, struct io_conn *conn)
{
    struct sim_life *life = sim_life_enter(io);

    if (life->is_dead || conn->impl == NULL) {
        return;
    }
    struct sim_end *end = end_of(life, conn);
    if (end->state != SIM_END_OPEN || list_is_empty(&end->queue)) {
        sim_conn_close(io, conn);
        return;
    }
    sim_note(life->sim, life->node, SIM_NOTE_CLOSE, end->link->number,
             end->index, 1, 0);
    end->is_ending = true;
    end->is_paused = false;
    sim_end_arrived(end);
}

/* ---- Crash ---- */

void
sim_end_orphan(struct sim_end *end, enum sim_crash crash)
{
    struct list *node;

    list_remove(&end->connected.node);
    list_remove(&end->data.node);
    list_remove(&end->closed.node);
    list_remove(&end->life_node);
    list_remove(&end->backlog_node);
    sim_event_cancel(end->link->sim, &end->pump);
    sim_event_cancel(end->link->sim, &end->deadline);
    while ((node = list_front(&end->queue)) != NULL) {
        send_free(container_of(node, struct sim_send, queue_node));
    }
    bool is_over = end->state == SIM_END_CLOSING; /* The other end knows. */
    bool is_unread = end->inbox_bytes != 0;
    sim_end_drop_inbox(end);
    end->conn = NULL;
    end->life = NULL;
    end->state = crash == SIM_CRASH_POWER ? SIM_END_SILENT : SIM_END_DONE;
    if (crash == SIM_CRASH_POWER || rng_chance(&end->rng, 1, 3)) {
        sim_wire_truncate(end);
        is_over = false;
    }
    if (crash == SIM_CRASH_PROCESS && !is_over) {
        sim_wire_put(end, is_unread || rng_chance(&end->rng, 1, 2)
                              ? SIM_SEGMENT_RST
                              : SIM_SEGMENT_FIN);
    }
    sim_link_release(end->link);
}

void
sim_conn_abandon(struct sim_life *life, enum sim_crash crash)
{
    struct list *node;

    while ((node = list_front(&life->ends)) != NULL) {
        sim_end_orphan(container_of(node, struct sim_end, life_node), crash);
    }
    while ((node = list_front(&life->sends)) != NULL) {
        send_free(container_of(node, struct sim_send, node));
    }
}
