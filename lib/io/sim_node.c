/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sim_impl.h"

/* Nodes, their lives and their clocks.
 *
 *   (off) -- sim_node_start --> life -- CRASH_PROCESS --> (on, no life)
 *     ^                           |                            |
 *     +------- CRASH_POWER -------+----------------------------+
 *
 * A crash takes effect at once: all that the world held for the life is
 * undone.  Its memory goes later, when none of its code is on the stack. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t sim_vtable_now_ns(struct io *io);
static void sim_vtable_random_bytes(struct io *io, void *data, size_t size);

const struct io_vtable sim_vtable = {
    .op_cancel = sim_op_cancel,
    .now_ns = sim_vtable_now_ns,
    .random_bytes = sim_vtable_random_bytes,
    .timer_set = sim_timer_set,
    .timer_cancel = sim_timer_cancel,
    .task_defer = sim_task_defer,
    .task_cancel = sim_task_cancel,
    .post_send = sim_post_send,
    .arena_alloc = sim_arena_alloc,
    .file_open = sim_file_open,
    .file_close = sim_file_close,
    .file_start = sim_file_start,
    .listener_open = sim_listener_open,
    .listener_address = sim_listener_address,
    .listener_close = sim_listener_close,
    .conn_connect = sim_conn_connect,
    .conn_adopt = sim_conn_adopt,
    .conn_send = sim_conn_send,
    .conn_pause = sim_conn_pause,
    .conn_resume = sim_conn_resume,
    .conn_close = sim_conn_close,
    .conn_close_after_sends = sim_conn_close_after_sends,
};

/* ---- Nodes ---- */

static void
boot_id_draw(struct sim_node *node)
{
    uuid_make_random(rng_u64(&node->clock_rng), rng_u64(&node->clock_rng),
                     &node->boot_id);
}

/* CLOCK_MONOTONIC begins anew with each boot. */
static void
clock_draw(struct sim_node *node)
{
    uint32_t skew_max = node->sim->options.node.skew_ppm_max;

    CHECK(skew_max < 100000);
    node->clock_offset_ns =
        rng_between(&node->clock_rng, 1, 1000000) * NS_PER_MS;
    node->skew_ppm =
        (int64_t)rng_below(&node->clock_rng, 2 * (uint64_t)skew_max + 1) -
        (int64_t)skew_max;
}

struct sim_node *
sim_node_add(struct sim *sim, const char *name)
{
    struct sim_node *node = sim_alloc(sizeof *node);
    uint64_t key = sim_hash_text(name);

    CHECK(sim->node_count < SIM_NODES_MAX);
    CHECK(name[0] != '\0');
    CHECK(strchr(name, ':') == NULL);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        CHECK(strcmp(sim->nodes[i]->name, name) != 0);
    }
    node->sim = sim;
    node->name = sim_alloc(strlen(name) + 1);
    memcpy(node->name, name, strlen(name) + 1);
    node->index = sim->node_count;
    node->next_port = 49152;
    node->is_on = true;
    sim_rng_init(sim, "node clock", key, &node->clock_rng);
    sim_rng_init(sim, "node turns", key, &node->turn_rng);
    sim_rng_init(sim, "node random", key, &node->random_rng);
    boot_id_draw(node);
    clock_draw(node);
    sim->nodes[sim->node_count++] = node;
    return node;
}

const char *
sim_node_name(const struct sim_node *node)
{
    return node->name;
}

struct sim *
sim_node_sim(const struct sim_node *node)
{
    return node->sim;
}

void
sim_node_boot_id(const struct sim_node *node, struct weft_uuid *ret_boot_id)
{
    *ret_boot_id = node->boot_id;
}

/* ---- Clocks ---- */

uint64_t
sim_node_clock(const struct sim_node *node)
{
    uint64_t now_ns = node->sim->now_ns;
    int64_t drift_ns = (int64_t)(now_ns / 1000000) * node->skew_ppm +
                       (int64_t)(now_ns % 1000000) * node->skew_ppm / 1000000;
    return (uint64_t)((int64_t)(now_ns + node->clock_offset_ns) + drift_ns);
}

uint64_t
sim_node_world_time(const struct sim_node *node, uint64_t local_ns)
{
    uint64_t now_ns = node->sim->now_ns;
    uint64_t clock_ns = sim_node_clock(node);

    if (local_ns <= clock_ns) {
        return now_ns;
    }
    uint64_t wait_ns = local_ns - clock_ns;
    if (wait_ns > UINT64_MAX / 4) {
        return IO_NEVER;
    }
    /* Rounded up, so that the deadline has passed when the time has come. */
    uint64_t rate = (uint64_t)(1000000 + node->skew_ppm);
    return now_ns + wait_ns / rate * 1000000 + wait_ns % rate * 1000000 / rate +
           2;
}

uint64_t
sim_node_now_ns(const struct sim_node *node)
{
    return sim_node_clock(node);
}

static uint64_t
sim_vtable_now_ns(struct io *io)
{
    struct sim_life *life = sim_life_of(io);
    return life->in_turn ? life->turn_now_ns : sim_node_clock(life->node);
}

static void
sim_vtable_random_bytes(struct io *io, void *data, size_t size)
{
    struct sim_life *life = sim_life_enter(io);

    rng_fill(&life->node->random_rng, data, size);
    sim_note(life->sim, life->node, SIM_NOTE_RANDOM, size, 0, 0, 0);
}

/* ---- Lives ---- */

bool
sim_is_io(const struct io *io)
{
    return io->vtable == &sim_vtable;
}

struct sim_life *
sim_life_of(struct io *io)
{
    CHECK(sim_is_io(io));
    return container_of(io, struct sim_life, io);
}

struct sim_life *
sim_life_enter(struct io *io)
{
    struct sim_life *life = sim_life_of(io);

    /* Rule (5) of io.h: only the reactor's own thread may call. */
    if (life->sim->current != NULL) {
        CHECK(life->sim->current == life);
    }
    return life;
}

struct sim_node *
sim_node_of(struct io *io)
{
    return sim_life_of(io)->node;
}

struct io *
sim_node_io(struct sim_node *node)
{
    return node->life == NULL ? NULL : &node->life->io;
}

bool
sim_node_is_alive(const struct sim_node *node)
{
    return node->life != NULL;
}

void
sim_node_start(struct sim_node *node, struct sim_program *program)
{
    struct sim *sim = node->sim;
    struct sim_life *life = sim_alloc(sizeof *life);
    struct sim_life *caller = sim->current;

    CHECK(node->life == NULL);
    life->io.vtable = &sim_vtable;
    life->sim = sim;
    life->node = node;
    life->number = ++node->life_count;
    list_init(&life->grave);
    list_init(&life->ops);
    list_init(&life->sends);
    list_init(&life->files);
    list_init(&life->ends);
    list_init(&life->listeners);
    list_init(&life->blocks);
    sim_turn_init(life);
    node->life = life;
    node->program = program;
    sim_note(sim, node, SIM_NOTE_START, life->number, 0, 0, 0);
    if (!node->is_on) {
        node->is_on = true;
        sim_wire_resume(sim);
    }

    /* A crash from inside another node's code may start this one. */
    sim->current = life;
    sim_heap_own(life);
    program->boot(program, node, &life->io);
    sim_heap_own(caller);
    sim->current = caller;
}

static void
life_end(struct sim_life *life, enum sim_crash crash)
{
    struct sim_node *node = life->node;
    struct list *entry;

    life->is_dead = true;
    node->life = NULL;
    sim_file_abandon(life);
    sim_conn_abandon(life, crash);
    while ((entry = list_front(&life->listeners)) != NULL) {
        sim_listener_abandon(container_of(entry, struct sim_listener, node),
                             crash);
    }
    sim_turn_done(life);
    list_push_back(&life->sim->graveyard, &life->grave);
}

void
sim_node_crash(struct sim_node *node, enum sim_crash crash)
{
    struct sim *sim = node->sim;
    struct sim_life *life = node->life;
    struct sim_program *program = node->program;

    sim_note(sim, node, SIM_NOTE_CRASH, node->life_count,
             crash == SIM_CRASH_POWER, 0, 0);
    node->program = NULL;
    if (life != NULL) {
        life_end(life, crash);
    }
    node->frozen_until_ns = 0;
    if (crash == SIM_CRASH_POWER) {
        LIST_FOREACH (entry, &sim->disks) {
            struct sim_disk *disk = container_of(entry, struct sim_disk, node);
            if (disk->host == node) {
                sim_pages_lose(disk);
            }
        }
        node->is_on = false;
        boot_id_draw(node);
        clock_draw(node);
    }
    if (life != NULL && program->crashed != NULL) {
        struct sim_life *caller = sim_world_enter(sim);
        program->crashed(program, node);
        sim_world_leave(sim, caller);
    }
}

/* ---- Whose code is running ---- */

void
sim_node_enter(struct sim_node *node)
{
    struct sim *sim = node->sim;

    CHECK(sim->current == NULL);
    CHECK(node->life != NULL);
    sim->current = node->life;
    sim_heap_own(node->life);
}

void
sim_node_leave(struct sim_node *node)
{
    struct sim *sim = node->sim;

    CHECK(sim->current != NULL);
    CHECK(sim->current->node == node);
    CHECK(sim->paused == NULL);
    sim->current = NULL;
    sim_heap_own(NULL);
}

struct sim_life *
sim_world_enter(struct sim *sim)
{
    struct sim_life *life = sim->current;

    sim->current = NULL;
    sim_heap_own(NULL);
    return life;
}

void
sim_world_leave(struct sim *sim, struct sim_life *life)
{
    CHECK(sim->current == NULL);
    sim->current = life;
    sim_heap_own(life);
}

void
sim_world_begin(struct sim *sim)
{
    CHECK(sim->paused == NULL);
    sim->paused = sim_world_enter(sim);
}

void
sim_world_end(struct sim *sim)
{
    struct sim_life *life = sim->paused;

    sim->paused = NULL;
    sim_world_leave(sim, life);
}

/* ---- Frozen ---- */

void
sim_node_freeze(struct sim_node *node, uint64_t duration_ns)
{
    struct sim *sim = node->sim;
    uint64_t until_ns =
        duration_ns == IO_NEVER ? IO_NEVER - 1 : sim->now_ns + duration_ns;

    node->frozen_until_ns = until_ns;
    sim_note(sim, node, SIM_NOTE_FREEZE, until_ns, 0, 0, 0);
    if (node->life != NULL && sim_event_is_set(&node->life->turn)) {
        sim_event_set(sim, &node->life->turn, until_ns);
    }
}

void
sim_node_thaw(struct sim_node *node)
{
    struct sim *sim = node->sim;

    node->frozen_until_ns = 0;
    sim_note(sim, node, SIM_NOTE_THAW, 0, 0, 0, 0);
    if (node->life != NULL && sim_event_is_set(&node->life->turn)) {
        sim_event_set(sim, &node->life->turn, sim->now_ns);
    }
}

/* ---- Operations ---- */

void
sim_op_begin(struct io_op *op, const void *impl)
{
    CHECK(op->state != SIM_OP_PENDING); /* Started twice. */
    op->state = SIM_OP_PENDING;
    op->sequence = (uintptr_t)impl;
    op->result = 0;
}

void
sim_op_end(struct io_op *op, int result)
{
    CHECK(op->state == SIM_OP_PENDING); /* Overwritten while pending. */
    op->state = 0;
    op->sequence = 0;
    op->result = result;
}

void
sim_op_cancel(struct io *io, struct io_op *op)
{
    struct sim_life *life = sim_life_enter(io);

    if (life->is_dead || op->state != SIM_OP_PENDING) {
        return;
    }
    LIST_FOREACH (entry, &life->ops) {
        struct sim_file_op *fop = container_of(entry, struct sim_file_op, node);
        if (&fop->op->op == op) {
            sim_file_op_cancel(fop);
            return;
        }
    }
    LIST_FOREACH (entry, &life->sends) {
        struct sim_send *send = container_of(entry, struct sim_send, node);
        if (&send->send->op == op) {
            sim_send_cancel(send);
            return;
        }
    }
}

/* ---- What a life holds ---- */

void
sim_node_holdings(const struct sim_node *node,
                  struct sim_holdings *ret_holdings)
{
    const struct sim_life *life = node->life;

    *ret_holdings = (struct sim_holdings){ .operations = 0 };
    if (life == NULL) {
        return;
    }
    ret_holdings->operations =
        (uint32_t)(list_count(&life->ops) + list_count(&life->sends));
    ret_holdings->timers = life->timers.count;
    ret_holdings->tasks = (uint32_t)list_count(&life->tasks);
    ret_holdings->files = (uint32_t)list_count(&life->files);
    ret_holdings->connections = (uint32_t)list_count(&life->ends);
    ret_holdings->listeners = (uint32_t)list_count(&life->listeners);
    ret_holdings->heap_count = life->heap_count;
    ret_holdings->heap_bytes = life->heap_bytes;
}

static bool
is_inside(const void *pointer, const void *data, size_t size)
{
    return (uintptr_t)pointer - (uintptr_t)data < size;
}

void
sim_life_check_free(const struct sim_life *life, const void *data, size_t size)
{
    if (life->is_dead) {
        return;
    }
    for (uint32_t i = 0; i < life->timers.count; i++) {
        CHECK(!is_inside(life->timers.entries[i].timer, data, size));
    }
    LIST_FOREACH (entry, &life->tasks) {
        CHECK(!is_inside(entry, data, size));
    }
    LIST_FOREACH (entry, &life->task_batch) {
        CHECK(!is_inside(entry, data, size));
    }
    LIST_FOREACH (entry, &life->ops) {
        const struct sim_file_op *fop =
            container_of(entry, struct sim_file_op, node);
        CHECK(!is_inside(fop->op, data, size));
        CHECK(fop->size_bytes == 0 || fop->data == NULL ||
              !is_inside(fop->data, data, size));
    }
    LIST_FOREACH (entry, &life->sends) {
        const struct sim_send *send =
            container_of(entry, struct sim_send, node);
        CHECK(!is_inside(send->send, data, size));
    }
    LIST_FOREACH (entry, &life->ends) {
        const struct sim_end *end =
            container_of(entry, struct sim_end, life_node);
        CHECK(!is_inside(end->conn, data, size));
    }
    LIST_FOREACH (entry, &life->listeners) {
        const struct sim_listener *listener =
            container_of(entry, struct sim_listener, node);
        CHECK(!is_inside(listener->listener, data, size));
    }
}
