/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "tests/sim/cluster.h"

/* The guest: random requests inside the window, each sector of which is a cell
 * of the model (legal.h).  A sector's content names the write and the cell.
 *
 * A request belongs to a generation: the time of one owner from its READY on.
 * What an owner answers after a later one became ready counts for nothing; what
 * it writes then ("zombie") must never be seen. */

#define NUMBER_ZOMBIE (UINT64_C(1) << 62)

static volume_req_done_fn guest_done;

static void
sector_fill(const struct world *world, uint8_t data[SECTOR], uint64_t number,
            uint64_t cell)
{
    uint64_t words[2] = { number, cell << 32 ^ world->seed };

    for (uint32_t i = 0; i < SECTOR; i += sizeof words) {
        memcpy(data + i, words, sizeof words);
    }
}

/* The number of the write; 0: zeros; UINT64_MAX: never written by anyone. */
static uint64_t
sector_number(const struct world *world, const uint8_t *data, uint64_t cell)
{
    uint8_t expected[SECTOR];
    uint64_t number;

    memcpy(&number, data, sizeof number);
    if (number == 0) {
        memset(expected, 0, sizeof expected);
    } else {
        sector_fill(world, expected, number, cell);
    }
    return memcmp(expected, data, SECTOR) == 0 ? number : UINT64_MAX;
}

static bool
op_writes(enum op_kind kind)
{
    return kind == OP_WRITE || kind == OP_DISCARD || kind == OP_ZEROES;
}

static void
guest_check_read(struct guest_op *op)
{
    struct world *world = op->world;
    const uint8_t *data = payload_bytes(op->req.payload);

    for (uint32_t i = 0; i < op->count; i++) {
        uint64_t cell = op->first + i;
        uint64_t number = sector_number(world, data + (size_t)i * SECTOR, cell);
        world->reads_checked++;
        /* S1: rot in an extent that was hot at a crash cannot be told from an
         * unfinished write; the last copy's bytes are adopted then. */
        if (number == UINT64_MAX && world->flips != 0 &&
            world->adoptions != 0) {
            world->spoiled[cell] = true;
        }
        if (world->spoiled[cell]) {
            continue;
        }
        if (!legal_read(&world->legal, cell, number, op->begin, world->clock)) {
            char text[300];
            legal_describe(&world->legal, cell, text, sizeof text);
            world_fail(world, "cell %llu has %llu; legal: %s",
                       (unsigned long long)cell, (unsigned long long)number,
                       text);
            return;
        }
    }
}

static void
guest_check_status(struct guest_op *op)
{
    struct world *world = op->world;
    uint64_t at = op->offset;

    for (uint32_t k = 0; k < op->req.extents_count; k++) {
        const struct volume_extent *extent = &op->extents[k];
        for (uint64_t end = at + extent->size_bytes; at < end; at += SECTOR) {
            uint64_t cell = (at - WINDOW_FIRST) / SECTOR;
            if (extent->zero && cell < CELLS &&
                legal_is_data(&world->legal, cell)) {
                world_fail(world, "cell %llu has data, status says zeros",
                           (unsigned long long)cell);
                return;
            }
        }
    }
}

/* Whether a failure is one that the faults of this seed explain. */
static bool
guest_may_fail(const struct guest_op *op)
{
    const struct world *world = op->world;
    bool partial =
        op->offset % WEFT_BLOCK_SIZE != 0 || op->size % WEFT_BLOCK_SIZE != 0;

    switch (op->req.result) {
    case -EIO:
        /* No good bytes anywhere: reads, and writes of parts of blocks. */
        return (world->flips != 0 || world->swarm.read_eio) &&
               (op->kind == OP_READ || (op_writes(op->kind) && partial));
    case -ENOSPC:
        return op_writes(op->kind) && !world->swarm.enospc_holds;
    case -ESTALE:
    case -ESHUTDOWN:
        return true;
    default:
        return false;
    }
}

static void
guest_judge(struct guest_op *op)
{
    struct world *world = op->world;
    int result = op->req.result;

    world->clock++;
    if (op->generation != world->generation || op->zombie) {
        return;
    }
    if (result != 0) {
        if (!guest_may_fail(op)) {
            world_fail(world, "request %d at %llu+%u failed: %d", (int)op->kind,
                       (unsigned long long)op->offset, op->size, result);
        }
        if (op_writes(op->kind) && result != -ESTALE && result != -ESHUTDOWN) {
            legal_fail(&world->legal, op->first, op->count, op->number,
                       world->clock);
        }
        return;
    }
    if (op_writes(op->kind)) {
        for (uint32_t i = 0; i < op->count; i++) {
            world->spoiled[op->first + i] = false;
        }
        legal_ack(&world->legal, op->first, op->count, op->number,
                  world->clock);
        if (op->req.fua) {
            /* At least what it wrote is safe; the model has no such notion for
             * single cells, so nothing is demanded. */
            return;
        }
    } else if (op->kind == OP_FLUSH) {
        legal_flush(&world->legal, op->begin);
    } else if (op->kind == OP_READ) {
        guest_check_read(op);
    }
}

static void
guest_done(struct volume_req *req)
{
    struct guest_op *op = container_of(req, struct guest_op, req);
    struct world *world = op->world;

    CHECK(op->busy);
    if (op->life != op->host->life) {
        return;
    }
    sim_trace(world->sim, "op %llu done: %d", (unsigned long long)op->number,
              req->result);
    sim_world_begin(world->sim);
    if (op->kind == OP_STATUS && req->result == 0 && !op->zombie &&
        op->generation == world->generation) {
        guest_check_status(op);
    }
    guest_judge(op);
    sim_world_end(world->sim);
    if (req->payload != NULL) {
        payload_put(req->payload);
        req->payload = NULL;
    }
    op->busy = false;
}

static void
guest_fill(struct guest_op *op)
{
    uint8_t sector[SECTOR];

    for (uint32_t i = 0; i < op->count; i++) {
        sector_fill(op->world, sector, op->number, op->first + i);
        payload_append(op->req.payload, sector, SECTOR);
    }
}

/* Nothing in flight began before that. */
static uint64_t
guest_oldest(const struct world *world)
{
    uint64_t oldest = world->clock;

    for (uint32_t i = 0; i < OPS; i++) {
        if (world->ops[i].busy && world->ops[i].begin < oldest) {
            oldest = world->ops[i].begin;
        }
    }
    return oldest;
}

static struct guest_op *
guest_submit(struct world *world, struct host *host, enum op_kind kind,
             uint64_t offset, uint32_t size, bool fua)
{
    static const enum volume_req_kind kinds[] = {
        [OP_READ] = VOLUME_READ,           [OP_WRITE] = VOLUME_WRITE,
        [OP_FLUSH] = VOLUME_FLUSH,         [OP_DISCARD] = VOLUME_DISCARD,
        [OP_ZEROES] = VOLUME_WRITE_ZEROES, [OP_STATUS] = VOLUME_STATUS,
    };
    struct guest_op *op = NULL;

    for (uint32_t i = 0; i < OPS && op == NULL; i++) {
        op = world->ops[i].busy ? NULL : &world->ops[i];
    }
    if (op == NULL || host->owner.volume == NULL) {
        return NULL;
    }
    struct payload *payload = NULL;
    if (kind == OP_READ || kind == OP_WRITE) {
        payload = payload_get(host->payloads, offset, size);
        if (payload == NULL) {
            return NULL;
        }
    }
    memset(op, 0, sizeof *op);
    op->world = world;
    op->host = host;
    op->life = host->life;
    op->generation = host->owner.generation;
    op->zombie = host->owner.generation != world->generation;
    op->busy = true;
    op->kind = kind;
    op->offset = offset;
    op->size = size;
    op->first = (uint32_t)((offset - WINDOW_FIRST) / SECTOR);
    op->count = size / SECTOR;
    op->number = ++world->number | (op->zombie ? NUMBER_ZOMBIE : 0);
    op->begin = ++world->clock;
    legal_set_horizon(&world->legal, guest_oldest(world));
    op->req = (struct volume_req){
        .done = guest_done,
        .kind = kinds[kind],
        .offset_bytes = offset,
        .size_bytes = size,
        .fua = fua,
        .payload = payload,
        .extents = op->extents,
        .extents_max = 64,
    };
    if (kind == OP_WRITE) {
        guest_fill(op);
    }
    if (op_writes(kind) && !op->zombie) {
        legal_begin(&world->legal, op->first, op->count, op->number,
                    kind == OP_WRITE ? op->number : 0, op->begin);
    }
    sim_trace(world->sim, "op %llu: %s %llu+%u%s%s",
              (unsigned long long)op->number,
              kind == OP_READ      ? "read"
              : kind == OP_WRITE   ? "write"
              : kind == OP_FLUSH   ? "flush"
              : kind == OP_DISCARD ? "discard"
              : kind == OP_ZEROES  ? "zeroes"
                                   : "status",
              (unsigned long long)op->first, op->count, fua ? " fua" : "",
              op->zombie ? " (zombie)" : "");
    world->requests++;
    sim_node_enter(host->node);
    volume_submit(host->owner.volume, &op->req);
    sim_node_leave(host->node);
    return op;
}

void
guest_step(struct world *world, struct host *host)
{
    struct rng *rng = &world->rng;
    uint64_t dice = rng_below(rng, 100);
    enum op_kind kind = dice < 50   ? OP_WRITE
                        : dice < 76 ? OP_READ
                        : dice < 84 ? OP_FLUSH
                        : dice < 91 ? OP_DISCARD
                        : dice < 96 ? OP_ZEROES
                                    : OP_STATUS;
    uint64_t offset = rng_below(rng, CELLS) * SECTOR;
    uint64_t size = rng_between(rng, 1, 24) * SECTOR;

    if (!rng_chance(rng, 1, 4)) {
        offset = units_align_down(offset, WEFT_BLOCK_SIZE);
        size = rng_between(rng, 1, 6) * WEFT_BLOCK_SIZE;
    }
    if (rng_chance(rng, 1, 16)) {
        size = rng_between(rng, 1, 40) * WEFT_BLOCK_SIZE;
    }
    if ((kind == OP_DISCARD || kind == OP_ZEROES) && rng_chance(rng, 1, 2)) {
        size = rng_between(rng, 4, 32) * WEFT_BLOCK_SIZE; /* Whole slots. */
    }
    if (size > WINDOW_BYTES - offset) {
        size = WINDOW_BYTES - offset;
    }
    (void)guest_submit(world, host, kind, WINDOW_FIRST + offset, (uint32_t)size,
                       rng_chance(rng, 1, 12));
}

bool
guest_is_idle(const struct world *world)
{
    for (uint32_t i = 0; i < OPS; i++) {
        if (world->ops[i].busy) {
            return false;
        }
    }
    return true;
}

void
guest_forget(struct host *host)
{
    for (uint32_t i = 0; i < OPS; i++) {
        struct guest_op *op = &host->world->ops[i];
        if (op->busy && op->host == host) {
            op->busy = false;
            op->req.payload = NULL;
        }
    }
}

int
guest_run(struct world *world, struct host *host, enum op_kind kind,
          uint64_t offset, uint32_t size)
{
    struct guest_op *op = guest_submit(world, host, kind, offset, size, false);

    if (op == NULL) {
        world_fail(world, "no room for a request at the end");
        return -EBUSY;
    }
    for (uint32_t i = 0; i < 60000 && op->busy; i++) {
        sim_run_for(world->sim, NS_PER_MS);
    }
    if (op->busy) {
        world_fail(world, "request %d hangs at the end", (int)kind);
        return -ETIMEDOUT;
    }
    return op->req.result;
}

void
guest_poke(struct world *world, struct host *host)
{
    for (uint32_t at = 0; at < WINDOW_BYTES; at += 64 * 1024) {
        (void)guest_submit(world, host, OP_READ, WINDOW_FIRST + at, 64 * 1024,
                           false);
    }
}

void
guest_read_all(struct world *world, struct host *host)
{
    for (uint32_t at = 0; at < WINDOW_BYTES && !world->failed;
         at += 64 * 1024) {
        (void)guest_run(world, host, OP_READ, WINDOW_FIRST + at, 64 * 1024);
    }
}

void
guest_write_all(struct world *world, struct host *host)
{
    for (uint32_t at = 0; at < WINDOW_BYTES && !world->failed;
         at += 64 * 1024) {
        (void)guest_run(world, host, OP_WRITE, WINDOW_FIRST + at, 64 * 1024);
    }
}
