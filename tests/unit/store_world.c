/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store_world.h"

#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"

struct pattern {
    uint64_t block;
    uint32_t tag;
    uint32_t check;
};

void
pattern_fill(uint8_t *data, uint64_t block, uint32_t tag)
{
    struct pattern pattern = {
        .block = block,
        .tag = tag,
        .check = (uint32_t)(block * 2654435761u) ^ tag,
    };

    for (size_t at = 0; at < WEFT_BLOCK_SIZE; at += sizeof(pattern)) {
        memcpy(data + at, &pattern, sizeof(pattern));
    }
}

uint32_t
pattern_tag(const uint8_t *data, uint64_t block)
{
    struct pattern pattern;

    memcpy(&pattern, data, sizeof(pattern));
    if (pattern.block != block ||
        pattern.check != ((uint32_t)(block * 2654435761u) ^ pattern.tag) ||
        memcmp(data, data + sizeof(pattern),
               WEFT_BLOCK_SIZE - sizeof(pattern)) != 0) {
        return UINT32_MAX;
    }
    return pattern.tag;
}

static void
world_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct store_world *world =
        container_of(program, struct store_world, program);

    world->node = node;
    world->io = io;
    CHECK(io_file_open(io, "/d", IO_CACHE_AUTO, &world->file) == 0);
    sim_node_boot_id(node, &world->options.boot_id);
}

static void
world_crashed(struct sim_program *program, struct sim_node *node)
{
    struct store_world *world =
        container_of(program, struct store_world, program);

    (void)node;
    world->io = NULL;
    world->file = NULL;
    world->store = NULL;
}

void
world_init(struct store_world *world, uint64_t seed,
           const struct sim_options *options, uint64_t disk_bytes,
           bool is_volatile)
{
    *world = (struct store_world){
        .program = { .boot = world_boot, .crashed = world_crashed },
        .epoch = 1,
    };
    world->sim = sim_new(seed, options);
    world->node = sim_node_add(world->sim, "a");
    world->disk = sim_disk_add(world->node, "/d", disk_bytes, is_volatile);
    memset(world->replica.bytes, 0x11, sizeof(world->replica.bytes));
    sim_node_start(world->node, &world->program);
}

void
world_done(struct store_world *world)
{
    sim_free(world->sim);
}

static void
world_wait(struct store_world *world)
{
    bool is_done =
        sim_run_until_set(world->sim, &world->is_done, WORLD_LIMIT_NS);

    CHECK(is_done);
}

static void
world_formatted(struct store_format *op, int result)
{
    struct store_world *world = container_of(op, struct store_world, format);

    world->is_done = true;
    world->result = result;
}

int
world_format(struct store_world *world, uint32_t slot_bytes,
             uint64_t journal_bytes, bool force)
{
    world->is_done = false;
    world->format = (struct store_format){
        .io = world->io,
        .file = world->file,
        .options = { .disk = { { 0xd1, 0x5c } },
                     .cluster = { { 0xc1 } },
                     .slot_bytes = slot_bytes,
                     .journal_bytes = journal_bytes,
                     .force = force },
        .done = world_formatted,
    };
    sim_node_enter(world->node);
    store_format_start(&world->format);
    sim_node_leave(world->node);
    world_wait(world);
    return world->result;
}

static void
world_opened(struct store_open *op, int result)
{
    struct store_world *world = container_of(op, struct store_world, open);

    world->is_done = true;
    world->result = result;
    if (result == 0) {
        world->store = op->store;
        world->file = NULL;
        store_serve(world->store);
    }
}

void
world_open_begin(struct store_world *world)
{
    if (world->file == NULL) {
        int result;

        sim_node_enter(world->node);
        result = io_file_open(world->io, "/d", IO_CACHE_AUTO, &world->file);
        sim_node_leave(world->node);
        CHECK(result == 0);
    }
    world->is_done = false;
    world->open = (struct store_open){
        .io = world->io,
        .file = world->file,
        .options = world->options,
        .done = world_opened,
    };
    sim_node_enter(world->node);
    store_open_start(&world->open);
    sim_node_leave(world->node);
}

int
world_open_wait(struct store_world *world)
{
    world_wait(world);
    return world->result;
}

int
world_open(struct store_world *world)
{
    world_open_begin(world);
    return world_open_wait(world);
}

static void
world_closed(struct store_close *op)
{
    struct store_world *world = container_of(op, struct store_world, close);

    world->is_done = true;
    world->store = NULL;
}

void
world_close(struct store_world *world)
{
    world->is_done = false;
    world->close = (struct store_close){
        .store = world->store,
        .done = world_closed,
    };
    sim_node_enter(world->node);
    store_close_start(&world->close);
    sim_node_leave(world->node);
    world_wait(world);
}

void
world_crash(struct store_world *world, enum sim_crash crash)
{
    sim_node_crash(world->node, crash);
    sim_node_start(world->node, &world->program);
}

/* ---- Requests ---- */

struct world_wait {
    struct store_req req;
    bool is_done;
};

static void
req_done(struct store_req *req)
{
    container_of(req, struct world_wait, req)->is_done = true;
}

struct store_req
world_req(struct store_world *world, enum store_opcode opcode)
{
    return (struct store_req){
        .done = req_done,
        .opcode = opcode,
        .replica = world->replica,
        .epoch = world->epoch,
        .session = world->session,
        .deadline_ns = IO_NEVER,
        .layer = STORE_LAYER_FIRST,
    };
}

int
world_run(struct store_world *world, struct store_req *req)
{
    struct world_wait wait = { .req = *req };
    bool is_done;

    wait.req.done = req_done;
    sim_node_enter(world->node);
    store_submit(world->store, &wait.req);
    sim_node_leave(world->node);
    CHECK(!wait.is_done);
    is_done = sim_run_until_set(world->sim, &wait.is_done, WORLD_LIMIT_NS);
    CHECK(is_done);
    *req = wait.req;
    return req->result;
}

int
world_create(struct store_world *world, uint64_t size_blocks)
{
    struct store_req req = world_req(world, STORE_CREATE);

    req.size_blocks = size_blocks;
    memset(req.volume.bytes, 0x22, sizeof(req.volume.bytes));
    req.membership = (struct store_membership){
        .view = 1,
        .in_sync_count = 1,
        .in_sync = { world->replica },
    };
    return world_run(world, &req);
}

int
world_fence(struct store_world *world, struct store_req *ret_req)
{
    struct store_req req = world_req(world, STORE_FENCE);
    int result;

    memset(req.owner_instance.bytes, 0x33, sizeof(req.owner_instance.bytes));
    result = world_run(world, &req);
    if (result == 0) {
        world->session = req.session;
    }
    if (ret_req != NULL) {
        *ret_req = req;
    }
    return result;
}

int
world_flush(struct store_world *world, uint64_t known_good)
{
    struct store_req req = world_req(world, STORE_FLUSH);

    req.known_good = known_good;
    return world_run(world, &req);
}

int
world_write(struct store_world *world, uint64_t block, uint32_t count,
            uint64_t sequence, uint32_t tag)
{
    static uint8_t data[STORE_REQ_BLOCKS_MAX * WEFT_BLOCK_SIZE]
        __attribute__((aligned(4096)));
    uint32_t crcs[STORE_REQ_BLOCKS_MAX];
    struct store_req req = world_req(world, STORE_WRITE);

    for (uint32_t i = 0; i < count; i++) {
        pattern_fill(data + (size_t)i * WEFT_BLOCK_SIZE, block + i, tag);
        crcs[i] =
            crc32c(0, data + (size_t)i * WEFT_BLOCK_SIZE, WEFT_BLOCK_SIZE);
    }
    req.block = block;
    req.block_count = count;
    req.sequence = sequence;
    req.data = data;
    req.crcs = crcs;
    return world_run(world, &req);
}

int
world_discard(struct store_world *world, uint64_t block, uint32_t count,
              uint64_t sequence, bool zero)
{
    struct store_req req = world_req(world, STORE_DISCARD);

    req.block = block;
    req.block_count = count;
    req.sequence = sequence;
    req.discard_zero = zero;
    return world_run(world, &req);
}

int
world_read(struct store_world *world, uint64_t block,
           enum store_block_state *ret_state, uint32_t *ret_tag)
{
    static uint8_t data[WEFT_BLOCK_SIZE] __attribute__((aligned(4096)));
    uint8_t state = 0;
    uint32_t crc = 0;
    struct store_req req = world_req(world, STORE_READ);
    int result;

    req.block = block;
    req.block_count = 1;
    req.data = data;
    req.crcs = &crc;
    req.states = &state;
    result = world_run(world, &req);
    *ret_state = (enum store_block_state)state;
    *ret_tag = state == STORE_BLOCK_DATA || state == STORE_BLOCK_SUSPECT
                   ? pattern_tag(data, block)
                   : 0;
    return result;
}
