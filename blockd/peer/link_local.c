/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/peer/link_local.h"

/* The life of a request in a slot (M: the link's reactor, S: the store's; the
 * posts are left out where both are one):
 *
 *   M submit --> slot --> post --> S store_submit() ... done() --> post
 *   M <-- copy back, done() <--------------------------------------'
 *
 *   M submit --> slot --> ... hangs          cut: done(-ENOTCONN)
 *                          slot is *left*  ... done() --> free
 *
 * A slot belongs to M while free, and from submit to done to whoever was posted
 * to last; the posts order the accesses.  'origin' is M's alone.
 *
 * The memory for data is allocated when the first request with a deadline
 * comes: links of a peer server, which has memory of its own, never need it. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/peer/pages.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* How often deadlines are looked at. */
#define TICK_NS (250 * NS_PER_MS)

struct local_slot {
    struct store_req copy;
    struct store_req *origin; /* NULL: left behind. */
    struct link_local *local;
    struct io_post post;
    struct list node; /* free, out or left */
    void *run;        /* Of the pages; NULL: none, or the origin's memory. */
    uint32_t crcs[STORE_REQ_BLOCKS_MAX];
    uint8_t states[STORE_REQ_BLOCKS_MAX];
};

struct link_local {
    struct link link; /* First. */
    struct store *store;
    struct io *store_io;
    struct io_task task;
    struct io_timer tick;
    struct list refused; /* store_req.node: to be done with their result */
    struct list queue;   /* store_req.node: wait for a slot */
    struct list free;    /* local_slot.node */
    struct list out;     /* at the store */
    struct list left;    /* at the store, and nobody waits for them */
    struct local_slot *slots;
    struct pages pages;
    void *memory;
    bool is_closing, is_closed;
    bool is_cut; /* DOWN, or about to be. */
    int cut_reason;
};

static io_post_fn slot_arrived;
static io_post_fn slot_returned;
static store_req_done_fn slot_answered;
static io_task_fn local_step;
static io_timer_fn local_tick;

static struct link_local *
local_of(struct link *link)
{
    return container_of(link, struct link_local, link);
}

static bool
local_is_foreign(const struct link_local *local)
{
    return local->store_io != local->link.io;
}

static bool
req_is_timed(const struct store_req *req)
{
    return req->deadline_ns != IO_NEVER;
}

/* It fails, later. */
static void
local_refuse(struct link_local *local, struct store_req *req, int result)
{
    req->result = result;
    list_init(&req->node);
    list_push_back(&local->refused, &req->node);
    io_task_defer(local->link.io, &local->task);
}

/* ---- Memory of requests with a deadline ---- */

static int
local_allocate_slots(struct link_local *local)
{
    local->slots = calloc(LINK_LOCAL_SLOTS, sizeof *local->slots);
    if (local->slots == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < LINK_LOCAL_SLOTS; i++) {
        local->slots[i].local = local;
        list_init(&local->slots[i].node);
        list_push_back(&local->free, &local->slots[i].node);
    }
    return 0;
}

static int
local_allocate_pages(struct link_local *local)
{
    if (posix_memalign(&local->memory, WEFT_BLOCK_SIZE, LINK_LOCAL_BYTES) !=
        0) {
        local->memory = NULL;
        return -ENOMEM;
    }
    int result = pages_init_at(&local->pages, local->memory, LINK_LOCAL_BYTES);
    if (result != 0) {
        free(local->memory);
        local->memory = NULL;
    }
    return result;
}

/* Of data or entries. */
static size_t
req_bytes(const struct store_req *req)
{
    switch (req->opcode) {
    case STORE_READ:
    case STORE_WRITE:
    case STORE_PUT_SLOT:
        return (size_t)req->block_count * WEFT_BLOCK_SIZE;
    case STORE_LIST:
        return (size_t)req->entries_max * sizeof *req->entries;
    case STORE_DISCARD:
    case STORE_FLUSH:
    case STORE_FENCE:
    case STORE_SET_VIEW:
    case STORE_CREATE:
    case STORE_REMOVE:
        break;
    }
    return 0;
}

static void
slot_take_in(struct local_slot *slot)
{
    struct store_req *copy = &slot->copy;
    const struct store_req *req = slot->origin;
    size_t count = req->block_count;

    if (req->opcode == STORE_LIST) {
        copy->entries = slot->run;
        return;
    }
    copy->data = slot->run;
    copy->crcs = slot->crcs;
    copy->states = slot->states;
    if (req->opcode == STORE_WRITE) {
        memcpy(copy->data, req->data, count * WEFT_BLOCK_SIZE);
        memcpy(copy->crcs, req->crcs, count * sizeof *req->crcs);
    } else if (req->opcode == STORE_PUT_SLOT) {
        memcpy(copy->crcs, req->crcs, count * sizeof *req->crcs);
        memcpy(copy->states, req->states, count);
        for (size_t i = 0; i < count; i++) {
            if (req->states[i] == STORE_BLOCK_DATA) {
                memcpy(copy->data + i * WEFT_BLOCK_SIZE,
                       req->data + i * WEFT_BLOCK_SIZE, WEFT_BLOCK_SIZE);
            }
        }
    }
}

/* What the store put into the slot's memory. */
static void
slot_give_back(const struct local_slot *slot, struct store_req *req)
{
    const struct store_req *copy = &slot->copy;
    size_t count = req->block_count;

    if (copy->result != 0) {
        return;
    }
    if (req->opcode == STORE_LIST) {
        CHECK(copy->entries_count <= req->entries_max);
        memcpy(req->entries, copy->entries,
               copy->entries_count * sizeof *req->entries);
    } else if (req->opcode == STORE_READ) {
        memcpy(req->crcs, copy->crcs, count * sizeof *req->crcs);
        memcpy(req->states, copy->states, count);
        for (size_t i = 0; i < count; i++) {
            if (copy->states[i] == STORE_BLOCK_DATA ||
                copy->states[i] == STORE_BLOCK_SUSPECT) {
                memcpy(req->data + i * WEFT_BLOCK_SIZE,
                       copy->data + i * WEFT_BLOCK_SIZE, WEFT_BLOCK_SIZE);
            }
        }
    }
}

/* ---- Out ---- */

/* False: there is no slot, or no memory, now. */
static bool
local_send(struct link_local *local, struct store_req *req)
{
    size_t bytes = req_is_timed(req) ? req_bytes(req) : 0;
    void *run = NULL;
    struct list *node = list_front(&local->free);

    if (node == NULL) {
        return false;
    }
    if (bytes != 0) {
        run = pages_get(&local->pages, (uint32_t)bytes);
        if (run == NULL) {
            return false;
        }
    }
    struct local_slot *slot = container_of(node, struct local_slot, node);
    list_remove(node);
    list_push_back(&local->out, &slot->node);
    req->started_ns = io_now_ns(local->link.io);
    slot->origin = req;
    slot->run = run;
    slot->copy = *req;
    slot->copy.done = slot_answered;
    list_init(&slot->copy.node);
    if (run != NULL) {
        slot_take_in(slot);
    }
    if (req_is_timed(req) && !io_timer_is_armed(&local->tick)) {
        io_timer_set(local->link.io, &local->tick, req->started_ns + TICK_NS);
    }
    if (local_is_foreign(local)) {
        slot->post.run = slot_arrived;
        io_post_send(local->link.io, local->store_io, &slot->post);
    } else {
        store_submit(local->store, &slot->copy);
    }
    return true;
}

static void
local_submit(struct link *link, struct store_req *req)
{
    struct link_local *local = local_of(link);
    bool timed = req_is_timed(req);

    if (local->is_closing || (local->is_cut && timed)) {
        local_refuse(local, req, -ENOTCONN);
        return;
    }
    if (!local_is_foreign(local) && !timed) {
        store_submit(local->store, req);
        return;
    }
    if ((local->slots == NULL && local_allocate_slots(local) != 0) ||
        (timed && local->memory == NULL && local_allocate_pages(local) != 0)) {
        local_refuse(local, req, -ENOMEM);
        return;
    }
    link->in_flight++;
    if (!list_is_empty(&local->queue) || !local_send(local, req)) {
        list_init(&req->node);
        list_push_back(&local->queue, &req->node);
        if (timed && !io_timer_is_armed(&local->tick)) {
            io_timer_set(link->io, &local->tick, io_now_ns(link->io) + TICK_NS);
        }
    }
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

    if (!local_is_foreign(slot->local)) {
        slot_returned(&slot->post);
        return;
    }
    slot->post.run = slot_returned;
    io_post_send(slot->local->store_io, slot->local->link.io, &slot->post);
}

/* ---- Back ---- */

static void
slot_copy_back(const struct local_slot *slot, struct store_req *req)
{
    struct store_req theirs = *req;

    *req = slot->copy;
    req->done = theirs.done;
    req->data = theirs.data;
    req->crcs = theirs.crcs;
    req->states = theirs.states;
    req->entries = theirs.entries;
    list_init(&req->node);
    if (slot->run != NULL) {
        slot_give_back(slot, req);
    }
}

static void
slot_returned(struct io_post *post)
{
    struct local_slot *slot = container_of(post, struct local_slot, post);
    struct link_local *local = slot->local;
    struct store_req *req = slot->origin;

    if (slot->copy.opcode == STORE_READ) {
        link_note_latency(&local->link,
                          io_now_ns(local->link.io) - slot->copy.started_ns);
    }
    if (req != NULL) {
        slot_copy_back(slot, req);
        local->link.in_flight--;
    }
    if (slot->run != NULL) {
        pages_put(&local->pages, slot->run);
        slot->run = NULL;
    }
    list_remove(&slot->node);
    list_push_back(&local->free, &slot->node);

    struct list *node;
    while ((node = list_pop_front(&local->queue)) != NULL) {
        if (!local_send(local, container_of(node, struct store_req, node))) {
            list_push_front(&local->queue, node);
            break;
        }
    }
    if (local->is_closing || local->is_cut) {
        io_task_defer(local->link.io, &local->task);
    }
    if (req != NULL) {
        req->done(req);
    }
}

/* ---- Cut ---- */

/* Whether the caller's memory is out of play. */
static bool
slot_can_be_left(const struct local_slot *slot)
{
    return req_is_timed(&slot->copy);
}

static void
local_cut_now(struct link_local *local, uint64_t now_ns, int reason)
{
    struct list again;
    struct list *node;

    list_init(&again);
    list_splice_back(&again, &local->out);
    while ((node = list_pop_front(&again)) != NULL) {
        struct local_slot *slot = container_of(node, struct local_slot, node);
        if (!slot_can_be_left(slot)) {
            list_push_back(&local->out, node);
            continue;
        }
        bool late = slot->copy.deadline_ns <= now_ns;
        local->link.in_flight--;
        local_refuse(local, slot->origin, late ? -ETIMEDOUT : -ENOTCONN);
        slot->origin = NULL;
        list_push_back(&local->left, node);
    }
    list_splice_back(&again, &local->queue);
    while ((node = list_pop_front(&again)) != NULL) {
        struct store_req *req = container_of(node, struct store_req, node);
        if (!req_is_timed(req)) {
            list_push_back(&local->queue, node);
            continue;
        }
        local->link.in_flight--;
        local_refuse(local, req,
                     req->deadline_ns <= now_ns ? -ETIMEDOUT : -ENOTCONN);
    }
    local->is_cut = true;
    local->cut_reason = reason;
    io_task_defer(local->link.io, &local->task);
}

static void
local_cut(struct link *link)
{
    struct link_local *local = local_of(link);

    if (!local->is_closing && !local->is_cut) {
        local_cut_now(local, 0, -ECONNABORTED);
    }
}

/* Whether any is late; '*ret_timed': whether any has a deadline at all. */
static bool
local_is_late(const struct link_local *local, uint64_t now_ns, bool *ret_timed)
{
    bool late = false;

    *ret_timed = false;
    LIST_FOREACH (node, &local->out) {
        const struct local_slot *slot =
            container_of(node, struct local_slot, node);
        *ret_timed = *ret_timed || req_is_timed(&slot->copy);
        late = late || slot->copy.deadline_ns <= now_ns;
    }
    LIST_FOREACH (node, &local->queue) {
        const struct store_req *req =
            container_of(node, struct store_req, node);
        *ret_timed = *ret_timed || req_is_timed(req);
        late = late || req->deadline_ns <= now_ns;
    }
    return late;
}

static void
local_tick(struct io_timer *timer)
{
    struct link_local *local = container_of(timer, struct link_local, tick);
    uint64_t now_ns = io_now_ns(local->link.io);
    bool timed;

    if (local_is_late(local, now_ns, &timed)) {
        local_cut_now(local, now_ns, -ETIMEDOUT);
    } else if (timed) {
        io_timer_set(local->link.io, &local->tick, now_ns + TICK_NS);
    }
}

/* ---- The state, and the end ---- */

static bool
local_is_empty(const struct link_local *local)
{
    return list_is_empty(&local->out) && list_is_empty(&local->left) &&
           list_is_empty(&local->queue);
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
        req->done(req);
    }
    if (local->is_closing) {
        if (local_is_empty(local) && !local->is_closed) {
            local->is_closed = true;
            link_set_state(&local->link, LINK_DOWN, -ESHUTDOWN);
            link_quiet(&local->link);
        }
    } else if (local->is_cut && local->link.state == LINK_UP) {
        io_task_defer(local->link.io, &local->task);
        link_set_state(&local->link, LINK_DOWN, local->cut_reason);
    } else if (local->is_cut && list_is_empty(&local->left)) {
        local->is_cut = false;
        link_set_state(&local->link, LINK_UP, 0);
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
    CHECK(local_is_empty(local));
    CHECK(link->in_flight == 0);
    io_task_cancel(link->io, &local->task);
    io_timer_cancel(link->io, &local->tick);
    pages_done(&local->pages);
    free(local->memory);
    free(local->slots);
    free(local);
}

static const struct link_vtable local_vtable = {
    .submit = local_submit,
    .cut = local_cut,
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
    io_timer_init(&local->tick, local_tick);
    list_init(&local->refused);
    list_init(&local->queue);
    list_init(&local->free);
    list_init(&local->out);
    list_init(&local->left);
    if (store_io != io && local_allocate_slots(local) != 0) {
        free(local);
        return -ENOMEM;
    }
    link_set_state(&local->link, LINK_UP, 0);
    *ret_link = &local->link;
    return 0;
}
