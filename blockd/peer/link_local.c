/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/peer/link_local.h"

/* The life of a request to another reactor (M: the link's reactor, S: the
 * store's):
 *
 *   M submit --> slot --> post --> S store_submit() ... done() --> post
 *   M <-- copy back, done() <--------------------------------------'
 *
 * A slot belongs to M while free, and from submit to done to whoever was posted
 * to last; the posts order the accesses. */

#include <errno.h>
#include <stdlib.h>

#include "lib/base/container_of.h"

struct local_slot {
    struct store_req copy;
    struct store_req *origin;
    struct link_local *local;
    struct io_post post;
    struct list node; /* free */
};

struct link_local {
    struct link link; /* First. */
    struct store *store;
    struct io *store_io;
    struct io_task task;
    struct list refused; /* store_req.node: to be done with -ENOTCONN */
    struct list queue;   /* store_req.node: wait for a slot */
    struct list free;    /* local_slot.node */
    struct local_slot *slots;
    bool is_closing;
};

static io_post_fn slot_arrived;
static io_post_fn slot_returned;
static store_req_done_fn slot_answered;
static io_task_fn local_step;

static struct link_local *
local_of(struct link *link)
{
    return container_of(link, struct link_local, link);
}

static void
local_send(struct link_local *local, struct local_slot *slot,
           struct store_req *req)
{
    req->started_ns = io_now_ns(local->link.io);
    slot->origin = req;
    slot->copy = *req;
    slot->copy.done = slot_answered;
    list_init(&slot->copy.node);
    slot->post.run = slot_arrived;
    io_post_send(local->link.io, local->store_io, &slot->post);
}

static void
local_submit(struct link *link, struct store_req *req)
{
    struct link_local *local = local_of(link);

    if (local->is_closing) {
        list_init(&req->node);
        list_push_back(&local->refused, &req->node);
        io_task_defer(link->io, &local->task);
        return;
    }
    if (local->store_io == link->io) {
        store_submit(local->store, req);
        return;
    }

    link->in_flight++;
    struct list *node = list_pop_front(&local->free);
    if (node == NULL || !list_is_empty(&local->queue)) {
        if (node != NULL) {
            list_push_front(&local->free, node);
        }
        list_init(&req->node);
        list_push_back(&local->queue, &req->node);
        return;
    }
    local_send(local, container_of(node, struct local_slot, node), req);
}

/* On the store's reactor. */
static void
slot_arrived(struct io_post *post)
{
    struct local_slot *slot = container_of(post, struct local_slot, post);

    store_submit(slot->local->store, &slot->copy);
}

/* On the store's reactor. */
static void
slot_answered(struct store_req *copy)
{
    struct local_slot *slot = container_of(copy, struct local_slot, copy);

    slot->post.run = slot_returned;
    io_post_send(slot->local->store_io, slot->local->link.io, &slot->post);
}

static void
slot_returned(struct io_post *post)
{
    struct local_slot *slot = container_of(post, struct local_slot, post);
    struct link_local *local = slot->local;
    struct store_req *req = slot->origin;
    store_req_done_fn *done = req->done;
    uint64_t started_ns = req->started_ns;

    *req = slot->copy;
    req->done = done;
    list_init(&req->node);
    if (req->opcode == STORE_READ) {
        link_note_latency(&local->link, io_now_ns(local->link.io) - started_ns);
    }

    struct list *waiting = list_pop_front(&local->queue);
    if (waiting != NULL) {
        local_send(local, slot, container_of(waiting, struct store_req, node));
    } else {
        list_push_back(&local->free, &slot->node);
    }
    local->link.in_flight--;
    if (local->is_closing && local->link.in_flight == 0) {
        io_task_defer(local->link.io, &local->task);
    }
    done(req);
}

static void
local_step(struct io_task *task)
{
    struct link_local *local = container_of(task, struct link_local, task);
    struct list refused;
    struct list *node;

    list_init(&refused);
    list_splice_back(&refused, &local->refused);
    while ((node = list_pop_front(&refused)) != NULL) {
        struct store_req *req = container_of(node, struct store_req, node);
        req->result = -ENOTCONN;
        req->done(req);
    }
    if (local->is_closing && local->link.in_flight == 0 &&
        local->link.state == LINK_UP) {
        link_set_state(&local->link, LINK_DOWN, -ESHUTDOWN);
        link_quiet(&local->link);
    }
}

static void
local_close(struct link *link)
{
    struct link_local *local = local_of(link);

    local->is_closing = true;
    io_task_defer(link->io, &local->task);
}

static void
local_free(struct link *link)
{
    struct link_local *local = local_of(link);

    CHECK(list_is_empty(&local->refused));
    CHECK(link->in_flight == 0);
    free(local->slots);
    free(local);
}

static const struct link_vtable local_vtable = {
    .submit = local_submit,
    .close = local_close,
    .free = local_free,
};

int
link_local_new(struct io *io, struct store *store, struct io *store_io,
               const struct weft_uuid *disk, struct link **ret_link)
{
    struct link_local *local = calloc(1, sizeof *local);

    if (local == NULL) {
        return -ENOMEM;
    }
    link_init(&local->link, &local_vtable, io, disk, true);
    local->store = store;
    local->store_io = store_io;
    io_task_init(&local->task, local_step);
    list_init(&local->refused);
    list_init(&local->queue);
    list_init(&local->free);
    if (store_io != io) {
        local->slots = calloc(LINK_LOCAL_SLOTS, sizeof *local->slots);
        if (local->slots == NULL) {
            free(local);
            return -ENOMEM;
        }
        for (uint32_t i = 0; i < LINK_LOCAL_SLOTS; i++) {
            local->slots[i].local = local;
            list_init(&local->slots[i].node);
            list_push_back(&local->free, &local->slots[i].node);
        }
    }
    link_set_state(&local->link, LINK_UP, 0);
    *ret_link = &local->link;
    return 0;
}
