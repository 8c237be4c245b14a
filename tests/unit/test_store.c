/* SPDX-License-Identifier: Apache-2.0 */

/* The store, request by request, in the simulator. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "tests/unit/store_world.h"

#define DISK_BYTES (16 * MIB)
#define REPLICA_BLOCKS 8192u

static void
setup(struct store_world *world, bool is_volatile)
{
    world_init(world, 1, NULL, DISK_BYTES, is_volatile);
    assert_int_equal(world_format(world, 16384, 0, false), 0);
    assert_int_equal(world_open(world), 0);
    assert_int_equal(world_create(world, REPLICA_BLOCKS), 0);
    assert_int_equal(world_fence(world, NULL), 0);
}

static void
reopen(struct store_world *world, enum sim_crash crash)
{
    world_crash(world, crash);
    assert_int_equal(world_open(world), 0);
    assert_int_equal(world_fence(world, NULL), 0);
}

static void
expect(struct store_world *world, uint64_t block, enum store_block_state state,
       uint32_t tag)
{
    enum store_block_state found_state;
    uint32_t found_tag;

    assert_int_equal(world_read(world, block, &found_state, &found_tag), 0);
    assert_int_equal(found_state, state);
    assert_int_equal(found_tag, tag);
}

static void
test_write_read(void **state)
{
    struct store_world world;

    (void)state;
    for (int is_volatile = 0; is_volatile < 2; is_volatile++) {
        setup(&world, is_volatile != 0);
        expect(&world, 5, STORE_BLOCK_ABSENT, 0);
        assert_int_equal(world_write(&world, 2, 10, 1, 7), 0);
        for (uint64_t b = 2; b < 12; b++) {
            expect(&world, b, STORE_BLOCK_DATA, 7);
        }
        expect(&world, 1, STORE_BLOCK_ABSENT, 0);
        expect(&world, 12, STORE_BLOCK_ABSENT, 0);
        assert_int_equal(world_write(&world, 4, 2, 2, 8), 0);
        expect(&world, 4, STORE_BLOCK_DATA, 8);
        expect(&world, 6, STORE_BLOCK_DATA, 7);
        assert_int_equal(world_flush(&world, 2), 0);
        reopen(&world, SIM_CRASH_POWER);
        expect(&world, 3, STORE_BLOCK_DATA, 7);
        expect(&world, 5, STORE_BLOCK_DATA, 8);
        world_done(&world);
    }
}

static void
test_discard(void **state)
{
    struct store_world world;
    struct store_info info;

    (void)state;
    setup(&world, true);
    assert_int_equal(world_write(&world, 0, 12, 1, 7), 0);
    assert_int_equal(world_discard(&world, 1, 2, 2, false), 0);
    expect(&world, 0, STORE_BLOCK_DATA, 7);
    expect(&world, 1, STORE_BLOCK_ABSENT, 0);
    assert_int_equal(world_discard(&world, 2, 4, 3, true), 0);
    expect(&world, 2, STORE_BLOCK_ZERO, 0);
    expect(&world, 5, STORE_BLOCK_ZERO, 0);
    expect(&world, 6, STORE_BLOCK_DATA, 7);
    /* Where there is no slot, too (S3). */
    assert_int_equal(world_discard(&world, 100, 1, 4, true), 0);
    expect(&world, 100, STORE_BLOCK_ZERO, 0);
    assert_int_equal(world_discard(&world, 0, 8000, 5, false), 0);
    expect(&world, 6, STORE_BLOCK_ABSENT, 0);
    expect(&world, 100, STORE_BLOCK_ABSENT, 0);
    assert_int_equal(world_flush(&world, 0), 0);
    assert_int_equal(world_flush(&world, 0), 0);
    store_info_get(world.store, &info);
    assert_int_equal(info.slots_free, info.slots_total);
    reopen(&world, SIM_CRASH_POWER);
    expect(&world, 6, STORE_BLOCK_ABSENT, 0);
    store_info_get(world.store, &info);
    assert_int_equal(info.slots_free, info.slots_total);
    world_done(&world);
}

static void
test_close_is_clean(void **state)
{
    struct store_world world;
    struct sim_holdings holdings;
    struct store_info before;
    struct store_info after;

    (void)state;
    setup(&world, true);
    assert_int_equal(world_write(&world, 0, 12, 1, 7), 0);
    store_info_get(world.store, &before);
    world_close(&world);
    sim_node_holdings(world.node, &holdings);
    assert_int_equal(holdings.operations, 0);
    assert_int_equal(holdings.tasks, 0);
    assert_int_equal(holdings.files, 0);
    assert_int_equal(holdings.heap_count, 0);
    world_crash(&world, SIM_CRASH_POWER);
    assert_int_equal(world_open(&world), 0);
    store_info_get(world.store, &after);
    assert_int_equal(before.incarnation, after.incarnation);
    assert_int_equal(world_fence(&world, NULL), 0);
    expect(&world, 3, STORE_BLOCK_DATA, 7);
    world_done(&world);
}

static void
test_incarnation(void **state)
{
    struct store_world world;
    struct store_req first;
    struct store_req req;

    (void)state;
    setup(&world, true);
    assert_int_equal(world_fence(&world, &first), 0);
    reopen(&world, SIM_CRASH_PROCESS);
    assert_int_equal(world_fence(&world, &req), 0);
    assert_int_equal(req.incarnation, first.incarnation);
    reopen(&world, SIM_CRASH_POWER);
    assert_int_equal(world_fence(&world, &req), 0);
    assert_true(req.incarnation > first.incarnation);
    assert_int_equal(req.session_incarnation, 1);
    world_done(&world);
    /* Nothing to lose without a cache. */
    setup(&world, false);
    assert_int_equal(world_fence(&world, &first), 0);
    reopen(&world, SIM_CRASH_POWER);
    assert_int_equal(world_fence(&world, &req), 0);
    assert_int_equal(req.incarnation, first.incarnation);
    world_done(&world);
}

static void
test_flush_failure(void **state)
{
    struct store_world world;
    struct store_req first;
    struct store_req req;

    (void)state;
    setup(&world, true);
    assert_int_equal(world_write(&world, 0, 4, 1, 7), 0);
    assert_int_equal(world_flush(&world, 1), 0);
    assert_int_equal(world_fence(&world, &first), 0);
    sim_disk_fault(world.disk, SIM_FAULT_FLUSH_EIO, 0, 0, 1);
    assert_int_equal(world_write(&world, 8, 4, 2, 8), 0);
    assert_int_equal(world_flush(&world, 2), -EIO);
    sim_run_for(world.sim, NS_PER_S);
    /* The session is closed (S6). */
    assert_int_equal(world_write(&world, 8, 4, 3, 8), -ESTALE);
    assert_int_equal(world_fence(&world, &req), 0);
    assert_true(req.incarnation > first.incarnation);
    assert_int_equal(req.known_good_out, 1);
    expect(&world, 0, STORE_BLOCK_DATA, 7);
    world_done(&world);
}

static void
test_sessions(void **state)
{
    struct store_world world;
    struct store_req req;
    uint64_t old;

    (void)state;
    setup(&world, true);
    old = world.session;
    assert_int_equal(world_fence(&world, NULL), 0);
    assert_true(world.session > old);
    world.session = old;
    assert_int_equal(world_write(&world, 0, 1, 1, 1), -ESTALE);
    assert_int_equal(world_flush(&world, 0), -ESTALE);
    world.epoch = 5;
    assert_int_equal(world_fence(&world, NULL), 0);
    world.epoch = 4;
    assert_int_equal(world_fence(&world, &req), -ESTALE);
    assert_int_equal(req.membership.epoch, 5);
    world.epoch = 5;
    assert_int_equal(world_write(&world, 0, 1, 1, 1), 0);
    /* Nothing is open after a restart; what was durable is known. */
    old = world.session;
    world_crash(&world, SIM_CRASH_POWER);
    assert_int_equal(world_open(&world), 0);
    assert_int_equal(world_write(&world, 0, 1, 2, 1), -ESTALE);
    world.epoch = 4;
    assert_int_equal(world_fence(&world, NULL), -ESTALE);
    world.epoch = 5;
    assert_int_equal(world_fence(&world, NULL), 0);
    assert_true(world.session > old);
    world_done(&world);
}

static void
test_unknown_replica(void **state)
{
    struct store_world world;
    struct store_req req;

    (void)state;
    setup(&world, true);
    world.replica.bytes[0] ^= 1;
    assert_int_equal(world_write(&world, 0, 1, 1, 1), -ENXIO);
    assert_int_equal(world_fence(&world, NULL), -ENXIO);
    world.replica.bytes[0] ^= 1;
    assert_int_equal(world_create(&world, REPLICA_BLOCKS), 0);
    assert_int_equal(world_create(&world, REPLICA_BLOCKS + 1), -EEXIST);
    req = world_req(&world, STORE_READ);
    req.block = REPLICA_BLOCKS;
    req.block_count = 1;
    assert_int_equal(world_run(&world, &req), -EINVAL);
    world_done(&world);
}

static void
test_view(void **state)
{
    struct store_world world;
    struct store_req req;

    (void)state;
    setup(&world, true);
    req = world_req(&world, STORE_SET_VIEW);
    req.membership.view = 9;
    req.membership.in_sync_count = 2;
    req.membership.in_sync[0] = world.replica;
    req.membership.in_sync[1].bytes[3] = 77;
    req.incarnation = 42;
    assert_int_equal(world_run(&world, &req), 0);
    world_crash(&world, SIM_CRASH_POWER);
    assert_int_equal(world_open(&world), 0);
    assert_int_equal(world_fence(&world, &req), 0);
    assert_int_equal(req.membership.view, 9);
    assert_int_equal(req.membership.in_sync_count, 2);
    assert_int_equal(req.membership.in_sync[1].bytes[3], 77);
    assert_int_equal(req.session_incarnation, 42);
    world_done(&world);
}

static void
test_remove(void **state)
{
    struct store_world world;
    struct store_req req;
    struct store_info info;

    (void)state;
    for (int when = 0; when < 40; when++) {
        setup(&world, true);
        for (uint64_t b = 0; b < 2000; b += 200) {
            assert_int_equal(world_write(&world, b, 200, b + 1, 3), 0);
        }
        req = world_req(&world, STORE_REMOVE);
        assert_int_equal(world_run(&world, &req), 0);
        for (int i = 0; i < when * 4; i++) {
            (void)sim_step(world.sim);
        }
        /* The tombstone is durable: removal goes on after a crash. */
        world_crash(&world, SIM_CRASH_POWER);
        assert_int_equal(world_open(&world), 0);
        sim_run_for(world.sim, NS_PER_S);
        assert_int_equal(world_fence(&world, NULL), -ENXIO);
        assert_int_equal(world_create(&world, REPLICA_BLOCKS), 0);
        assert_int_equal(world_fence(&world, NULL), 0);
        assert_int_equal(world_flush(&world, 0), 0);
        store_info_get(world.store, &info);
        assert_int_equal(info.slots_free + info.slots_quarantined,
                         info.slots_total);
        assert_int_equal(info.replica_count, 1);
        expect(&world, 0, STORE_BLOCK_ABSENT, 0);
        world_done(&world);
    }
}

static void
test_enospc_is_exact(void **state)
{
    struct store_world world;
    struct store_info info;
    uint64_t slots;
    uint64_t sequence = 1;

    (void)state;
    setup(&world, true);
    store_info_get(world.store, &info);
    slots = info.slots_total;
    assert_true(slots * 4 < REPLICA_BLOCKS);
    for (uint64_t s = 0; s < slots; s++) {
        assert_int_equal(world_write(&world, s * 4, 1, sequence++, 1), 0);
    }
    /* Nothing of it is done, though one slot of it is there. */
    assert_int_equal(world_write(&world, slots * 4 - 4, 8, sequence++, 2),
                     -ENOSPC);
    expect(&world, slots * 4 - 4, STORE_BLOCK_DATA, 1);
    assert_int_equal(world_discard(&world, slots * 4, 4, sequence++, true),
                     -ENOSPC);
    /* In place there is always room. */
    assert_int_equal(world_write(&world, 0, 64, sequence++, 3), 0);
    /* A freed slot can be had, if after a flush. */
    assert_int_equal(world_discard(&world, 0, 4, sequence++, false), 0);
    assert_int_equal(world_write(&world, slots * 4, 1, sequence++, 4), 0);
    expect(&world, slots * 4, STORE_BLOCK_DATA, 4);
    assert_int_equal(world_write(&world, 0, 1, sequence++, 4), -ENOSPC);
    world_done(&world);
}

static void
test_thin_file_enospc(void **state)
{
    struct store_world world;
    struct store_info before;
    struct store_info after;

    (void)state;
    setup(&world, true);
    assert_int_equal(world_write(&world, 0, 4, 1, 1), 0);
    assert_int_equal(world_flush(&world, 1), 0);
    store_info_get(world.store, &before);
    sim_disk_set_capacity(world.disk, sim_disk_pages_used(world.disk) + 2);
    assert_int_equal(world_write(&world, 16, 16, 2, 2), -ENOSPC);
    for (uint64_t b = 16; b < 32; b++) {
        expect(&world, b, STORE_BLOCK_ABSENT, 0);
    }
    sim_disk_set_capacity(world.disk, UINT64_MAX);
    assert_int_equal(world_flush(&world, 1), 0);
    assert_int_equal(world_flush(&world, 1), 0);
    store_info_get(world.store, &after);
    assert_int_equal(before.slots_free, after.slots_free);
    assert_int_equal(world_write(&world, 16, 16, 3, 3), 0);
    expect(&world, 20, STORE_BLOCK_DATA, 3);
    world_done(&world);
}

static void
test_rot(void **state)
{
    struct store_world world;
    struct store_stats stats;
    enum store_block_state found;
    uint32_t tag;

    (void)state;
    setup(&world, true);
    assert_int_equal(world_write(&world, 0, 4, 1, 1), 0);
    assert_int_equal(world_flush(&world, 1), 0);
    /* Anywhere in the data area, as the only data there is. */
    for (uint64_t at = 4 * MIB; at < DISK_BYTES; at += WEFT_BLOCK_SIZE) {
        uint8_t data[WEFT_BLOCK_SIZE];

        sim_disk_peek(world.disk, at, data, sizeof(data));
        if (pattern_tag(data, 2) == 1) {
            sim_disk_flip_bit(world.disk, at + 77, 3);
        }
    }
    assert_int_equal(world_read(&world, 2, &found, &tag), 0);
    if (found != STORE_BLOCK_BAD) {
        /* It lies below 4 MiB. */
        for (uint64_t at = 0; at < 4 * MIB; at += WEFT_BLOCK_SIZE) {
            uint8_t data[WEFT_BLOCK_SIZE];

            sim_disk_peek(world.disk, at, data, sizeof(data));
            if (pattern_tag(data, 2) == 1) {
                sim_disk_flip_bit(world.disk, at + 77, 3);
            }
        }
    }
    expect(&world, 2, STORE_BLOCK_BAD, 0);
    expect(&world, 1, STORE_BLOCK_DATA, 1);
    store_stats_get(world.store, &stats);
    assert_true(stats.crc_errors >= 1);
    assert_int_equal(world_write(&world, 2, 1, 2, 2), 0);
    expect(&world, 2, STORE_BLOCK_DATA, 2);
    world_done(&world);
}

static void
test_list(void **state)
{
    struct store_world world;
    struct store_list_entry entries[4096];
    struct store_req req;

    (void)state;
    setup(&world, true);
    assert_int_equal(world_write(&world, 0, 4, 10, 1), 0);
    assert_int_equal(world_write(&world, 8, 4, 20, 1), 0);
    assert_int_equal(world_write(&world, 40, 1, 30, 1), 0);
    req = world_req(&world, STORE_LIST);
    req.block_count = STORE_REGION_BLOCKS;
    req.entries = entries;
    req.entries_max = 4096;
    req.sequence = 10;
    assert_int_equal(world_run(&world, &req), 0);
    assert_int_equal(req.entries_count, 2);
    assert_int_equal(req.region_touched, 0);
    assert_int_equal(entries[0].slot_index, 2);
    assert_int_equal(entries[0].sequence, 20);
    assert_int_equal(entries[1].slot_index, 10);
    assert_true(entries[0].digest != entries[1].digest);
    assert_int_equal(world_discard(&world, 8, 4, 40, false), 0);
    req = world_req(&world, STORE_LIST);
    req.block_count = STORE_REGION_BLOCKS;
    req.entries = entries;
    req.entries_max = 4096;
    req.sequence = 39;
    assert_int_equal(world_run(&world, &req), 0);
    assert_int_equal(req.region_touched, 1);
    assert_int_equal(req.entries_count, 2);
    assert_int_equal(entries[0].slot_index, 0);
    req.sequence = 40;
    assert_int_equal(world_run(&world, &req), 0);
    assert_int_equal(req.region_touched, 0);
    assert_int_equal(req.entries_count, 0);
    world_done(&world);
}

static void
test_put_slot(void **state)
{
    static uint8_t data[4 * WEFT_BLOCK_SIZE] __attribute__((aligned(4096)));
    struct store_world world;
    struct store_req req;
    uint32_t crcs[4];
    uint8_t states[4] = { STORE_BLOCK_DATA, STORE_BLOCK_ABSENT,
                          STORE_BLOCK_ZERO, STORE_BLOCK_DATA };

    (void)state;
    setup(&world, true);
    assert_int_equal(world_write(&world, 4, 4, 50, 1), 0);
    for (uint32_t i = 0; i < 4; i++) {
        pattern_fill(data + i * WEFT_BLOCK_SIZE, 4 + i, 9);
        crcs[i] = crc32c(0, data + i * WEFT_BLOCK_SIZE, WEFT_BLOCK_SIZE);
    }
    req = world_req(&world, STORE_PUT_SLOT);
    req.block = 4;
    req.block_count = 4;
    req.sequence = 30;
    req.data = data;
    req.crcs = crcs;
    req.states = states;
    assert_int_equal(world_run(&world, &req), 0);
    assert_int_equal(world_flush(&world, 0), 0);
    reopen(&world, SIM_CRASH_POWER);
    expect(&world, 4, STORE_BLOCK_DATA, 9);
    expect(&world, 5, STORE_BLOCK_ABSENT, 0);
    expect(&world, 6, STORE_BLOCK_ZERO, 0);
    expect(&world, 7, STORE_BLOCK_DATA, 9);
    req = world_req(&world, STORE_READ);
    req.block = 4;
    req.block_count = 4;
    req.data = data;
    req.crcs = crcs;
    req.states = states;
    assert_int_equal(world_run(&world, &req), 0);
    assert_int_equal(req.slot_sequence, 30); /* The source's, kept (S16). */
    /* All ABSENT frees it, and touches the region. */
    memset(states, STORE_BLOCK_ABSENT, sizeof(states));
    req.opcode = STORE_PUT_SLOT;
    req.session = world.session;
    req.sequence = 31;
    assert_int_equal(world_run(&world, &req), 0);
    expect(&world, 7, STORE_BLOCK_ABSENT, 0);
    world_done(&world);
}

static void
test_bad_crc_is_refused(void **state)
{
    static uint8_t data[WEFT_BLOCK_SIZE] __attribute__((aligned(4096)));
    struct store_world world;
    struct store_req req;
    uint32_t crc = 1;

    (void)state;
    setup(&world, true);
    req = world_req(&world, STORE_WRITE);
    req.block_count = 1;
    req.sequence = 1;
    req.data = data;
    req.crcs = &crc;
    assert_int_equal(world_run(&world, &req), -EBADMSG);
    expect(&world, 0, STORE_BLOCK_ABSENT, 0);
    world_done(&world);
}

static void
test_format_refuses(void **state)
{
    struct store_world world;
    uint8_t byte = 1;

    (void)state;
    world_init(&world, 1, NULL, DISK_BYTES, true);
    assert_int_equal(world_open(&world), -EMEDIUMTYPE);
    sim_disk_poke(world.disk, 5000, &byte, 1);
    assert_int_equal(world_format(&world, 0, 0, false), -EEXIST);
    assert_int_equal(world_format(&world, 0, 0, true), 0);
    assert_int_equal(world_format(&world, 0, 0, false), -EEXIST);
    assert_int_equal(world_format(&world, 5000, 0, true), -EINVAL);
    world_done(&world);
    world_init(&world, 1, NULL, MIB, true);
    assert_int_equal(world_format(&world, 0, 0, false), -ENOSPC);
    assert_non_null(strstr(world.format.err.text, "at least"));
    world_done(&world);
}

struct claim {
    struct store_claim claim;
    bool is_done;
    int result;
};

static void
claim_done(struct store_claim *op, int result)
{
    struct claim *claim = container_of(op, struct claim, claim);

    claim->is_done = true;
    claim->result = result;
}

static void
claim(struct store_world *world, uint8_t host, bool committed)
{
    struct claim claim = {
        .claim = { .store = world->store,
                   .next = { { host } },
                   .committed = committed,
                   .done = claim_done },
    };

    sim_node_enter(world->node);
    store_claim_start(&claim.claim);
    sim_node_leave(world->node);
    assert_true(sim_run_until_set(world->sim, &claim.is_done, WORLD_LIMIT_NS));
    assert_int_equal(claim.result, 0);
}

/* S13: {previous, next} is durable before anybody serves. */
static void
test_claim(void **state)
{
    struct store_world world;
    struct store_info info;

    (void)state;
    setup(&world, true);
    claim(&world, 7, false);
    claim(&world, 7, true);
    claim(&world, 8, false);
    world_crash(&world, SIM_CRASH_POWER);
    assert_int_equal(world_open(&world), 0);
    store_info_get(world.store, &info);
    assert_int_equal(info.claim_current.bytes[0], 7);
    assert_int_equal(info.claim_previous.bytes[0], 7);
    assert_int_equal(info.claim_next.bytes[0], 8);
    claim(&world, 8, true);
    world_crash(&world, SIM_CRASH_POWER);
    assert_int_equal(world_open(&world), 0);
    store_info_get(world.store, &info);
    assert_int_equal(info.claim_current.bytes[0], 8);
    assert_true(uuid_is_nil(&info.claim_next));
    world_done(&world);
}

/* A disk that dies under the store: -EIO, failed, and it can be closed; when
 * it is back, the opener knows that writes may be lost. */
static void
test_dead_disk(void **state)
{
    struct store_world world;
    struct store_info info;
    struct store_req first;
    struct store_req req;

    (void)state;
    setup(&world, true);
    assert_int_equal(world_write(&world, 0, 4, 1, 1), 0);
    assert_int_equal(world_flush(&world, 1), 0);
    assert_int_equal(world_fence(&world, &first), 0);
    sim_disk_kill(world.disk);
    assert_int_equal(world_write(&world, 0, 4, 2, 2), -EIO);
    sim_run_for(world.sim, NS_PER_S);
    store_info_get(world.store, &info);
    assert_true(info.failed);
    assert_int_equal(world_fence(&world, NULL), -EIO);
    world_close(&world);
    sim_disk_revive(world.disk);
    world.options.lost_writes = true;
    assert_int_equal(world_open(&world), 0);
    assert_int_equal(world_fence(&world, &req), 0);
    assert_true(req.incarnation > first.incarnation);
    expect(&world, 0, STORE_BLOCK_DATA, 1);
    /* Closing while it recovers from a failure. */
    sim_disk_fault(world.disk, SIM_FAULT_FLUSH_EIO, 0, 0, 1);
    assert_int_equal(world_flush(&world, 0), -EIO);
    world_close(&world);
    assert_int_equal(world_open(&world), 0);
    world_done(&world);
}

/* A replica that does not end with a slot. */
static void
test_last_slot(void **state)
{
    static uint8_t data[4 * WEFT_BLOCK_SIZE] __attribute__((aligned(4096)));
    struct store_world world;
    struct store_req req;
    uint32_t crcs[4] = { 0 };
    uint8_t states[4] = { STORE_BLOCK_ZERO };

    (void)state;
    setup(&world, true);
    world.replica.bytes[5] = 5;
    assert_int_equal(world_create(&world, 18), 0);
    assert_int_equal(world_fence(&world, NULL), 0);
    req = world_req(&world, STORE_PUT_SLOT);
    req.block = 16;
    req.block_count = 4;
    req.sequence = 1;
    req.data = data;
    req.crcs = crcs;
    req.states = states;
    assert_int_equal(world_run(&world, &req), 0);
    req.opcode = STORE_READ;
    assert_int_equal(world_run(&world, &req), 0);
    assert_int_equal(states[0], STORE_BLOCK_ZERO);
    assert_int_equal(states[1], STORE_BLOCK_ABSENT);
    assert_int_equal(world_write(&world, 17, 2, 2, 2), -EINVAL);
    world_done(&world);
}

static void
test_laps(void **state)
{
    struct store_world world;
    struct store_stats stats;
    uint64_t sequence = 1;

    (void)state;
    for (int is_volatile = 0; is_volatile < 2; is_volatile++) {
        setup(&world, is_volatile != 0);
        for (int i = 0; i < 3000; i++) {
            uint64_t block = (uint64_t)i * 37 % 1000;

            assert_int_equal(world_write(&world, block, 1, sequence++,
                                         (uint32_t)i),
                             0);
        }
        store_stats_get(world.store, &stats);
        assert_true(stats.checkpoints > 20);
        assert_true(stats.journal_blocks > 2500);
        assert_int_equal(world_flush(&world, 0), 0);
        reopen(&world, SIM_CRASH_POWER);
        for (int i = 2000; i < 3000; i++) {
            expect(&world, (uint64_t)i * 37 % 1000, STORE_BLOCK_DATA,
                   (uint32_t)i);
        }
        world_done(&world);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_read),
        cmocka_unit_test(test_discard),
        cmocka_unit_test(test_close_is_clean),
        cmocka_unit_test(test_incarnation),
        cmocka_unit_test(test_flush_failure),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_unknown_replica),
        cmocka_unit_test(test_view),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_enospc_is_exact),
        cmocka_unit_test(test_thin_file_enospc),
        cmocka_unit_test(test_rot),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_put_slot),
        cmocka_unit_test(test_bad_crc_is_refused),
        cmocka_unit_test(test_format_refuses),
        cmocka_unit_test(test_claim),
        cmocka_unit_test(test_dead_disk),
        cmocka_unit_test(test_last_slot),
        cmocka_unit_test(test_laps),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
