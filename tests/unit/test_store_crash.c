/* SPDX-License-Identifier: Apache-2.0 */

/* Crafted crashes: one rule each, and where chance (tests/sim/store_torture)
 * needs long to find its breaking, the planted bug as well. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/store/disk.h"
#include "blockd/store/planted.h"
#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "tests/unit/store_world.h"

#define REPLICA_BLOCKS 8192u

/* A request that is not waited for. */
struct pending {
    struct store_req req;
    bool is_done;
    uint32_t crcs[STORE_REQ_BLOCKS_MAX];
    uint8_t *data;
};

/* Holds device operations of a kind. */
struct holder {
    struct sim_disk_hook hook;
    bool journal; /* Journal blocks: the first one only. */
    uint32_t journal_count;
    bool data;  /* Writes of data. */
    bool begun; /* The superblock that begins a checkpoint. */
    const struct io_file_op *super;
    bool is_held;
};

static enum sim_verdict
holder_started(struct sim_disk_hook *hook, struct sim_disk *disk,
               const struct io_file_op *op, int *ret_result)
{
    struct holder *holder = container_of(hook, struct holder, hook);
    const struct disk_journal *block = op->data;
    const struct disk_super *super = op->data;

    (void)disk;
    (void)ret_result;
    if (op->kind != IO_FILE_WRITE) {
        return SIM_PASS;
    }
    if (le64_get(super->magic) == DISK_SUPER_MAGIC) {
        if (holder->begun &&
            le64_get(super->checkpoint_begun) != le64_get(super->checkpoint)) {
            holder->begun = false;
            holder->super = op;
            return SIM_HOLD;
        }
        return SIM_PASS;
    }
    if (le32_get(block->magic) == DISK_JOURNAL_MAGIC) {
        if (holder->journal && holder->journal_count++ == 0) {
            holder->is_held = true;
            return SIM_HOLD;
        }
        return SIM_PASS;
    }
    if (holder->data && le32_get(block->magic) != DISK_PAGE_MAGIC) {
        holder->is_held = true;
        return SIM_HOLD;
    }
    return SIM_PASS;
}

static void
setup(struct store_world *world, struct holder *holder, uint32_t bug,
      bool is_volatile)
{
    struct sim_options options;

    sim_options_default(&options);
    options.disk.tear_bytes = 4096;
    world_init(world, 1, &options, 16 * MIB, is_volatile);
    world->options.planted_bug = bug;
    assert_int_equal(world_format(world, 16384, 0, false), 0);
    assert_int_equal(world_open(world), 0);
    assert_int_equal(world_create(world, REPLICA_BLOCKS), 0);
    assert_int_equal(world_fence(world, NULL), 0);
    *holder = (struct holder){ .hook = { .started = holder_started } };
    sim_disk_set_hook(world->disk, &holder->hook);
}

static void
pending_done(struct store_req *req)
{
    container_of(req, struct pending, req)->is_done = true;
}

static void
write_begin(struct store_world *world, struct pending *pending, uint64_t block,
            uint32_t count, uint64_t sequence, uint32_t tag)
{
    static uint8_t buffers[4][STORE_REQ_BLOCKS_MAX * WEFT_BLOCK_SIZE]
        __attribute__((aligned(4096)));
    static uint32_t next;

    memset(pending, 0, sizeof(*pending));
    pending->data = buffers[next++ % 4];
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *data = pending->data + (size_t)i * WEFT_BLOCK_SIZE;

        pattern_fill(data, block + i, tag);
        pending->crcs[i] = crc32c(0, data, WEFT_BLOCK_SIZE);
    }
    pending->req = world_req(world, STORE_WRITE);
    pending->req.done = pending_done;
    pending->req.block = block;
    pending->req.block_count = count;
    pending->req.sequence = sequence;
    pending->req.data = pending->data;
    pending->req.crcs = pending->crcs;
    sim_node_enter(world->node);
    store_submit(world->store, &pending->req);
    sim_node_leave(world->node);
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
reopen(struct store_world *world, enum sim_crash crash)
{
    sim_disk_set_hook(world->disk, NULL);
    world_crash(world, crash);
    assert_int_equal(world_open(world), 0);
    assert_int_equal(world_fence(world, NULL), 0);
}

/* Two full regions of 256 blocks, flushed, hot and no longer young. */
static void
fill(struct store_world *world)
{
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(world_write(world, 0, 256, 10 * i, (uint32_t)i), 0);
        assert_int_equal(world_write(world, 256, 256, 10 * i + 1, (uint32_t)i),
                         0);
        assert_int_equal(world_flush(world, 0), 0);
    }
}

/* S1: the data landed, its intent did not. */
static void
test_suspect(void **state)
{
    struct store_world world;
    struct holder holder;
    struct pending write;

    (void)state;
    setup(&world, &holder, PLANTED_NONE, true);
    fill(&world);
    holder.journal = true;
    write_begin(&world, &write, 7, 1, 50, 50);
    sim_run_for(world.sim, 10 * NS_PER_MS);
    assert_true(holder.is_held);
    assert_false(write.is_done);
    sim_disk_set_policy(world.disk, SIM_POLICY_LOSE_ALL);
    reopen(&world, SIM_CRASH_PROCESS);
    expect(&world, 7, STORE_BLOCK_SUSPECT, 50);
    expect(&world, 6, STORE_BLOCK_DATA, 3);
    /* It stays so over checkpoints, crashes and a clean end ... */
    reopen(&world, SIM_CRASH_POWER);
    expect(&world, 7, STORE_BLOCK_SUSPECT, 50);
    world_close(&world);
    assert_int_equal(world_open(&world), 0);
    assert_int_equal(world_fence(&world, NULL), 0);
    expect(&world, 7, STORE_BLOCK_SUSPECT, 50);
    /* ... until it is written. */
    assert_int_equal(world_write(&world, 7, 1, 60, 60), 0);
    expect(&world, 7, STORE_BLOCK_DATA, 60);
    world_done(&world);
}

/* The intent landed, the data did not: the old state is a candidate. */
static void
test_old_content(void **state)
{
    struct store_world world;
    struct holder holder;
    struct pending write;

    (void)state;
    setup(&world, &holder, PLANTED_NONE, true);
    fill(&world);
    holder.data = true;
    write_begin(&world, &write, 7, 1, 50, 50);
    write_begin(&world, &write, 1000, 1, 51, 51);
    sim_run_for(world.sim, 10 * NS_PER_MS);
    sim_disk_set_policy(world.disk, SIM_POLICY_LOSE_ALL);
    reopen(&world, SIM_CRASH_PROCESS);
    expect(&world, 7, STORE_BLOCK_DATA, 3);
    /* S2: {invalid} is a candidate, foreign bytes are not. */
    expect(&world, 1000, STORE_BLOCK_ABSENT, 0);
    world_done(&world);
}

/* S9: valid blocks beyond a hole supply candidates. */
static enum store_block_state
run_window(uint32_t bug)
{
    struct store_world world;
    struct holder holder;
    struct pending first;
    struct pending second;
    enum store_block_state found;
    uint32_t tag;

    setup(&world, &holder, bug, true);
    fill(&world);
    holder.journal = true;
    write_begin(&world, &first, 0, 256, 50, 50);
    sim_run_for(world.sim, 10 * NS_PER_MS);
    write_begin(&world, &second, 256, 256, 51, 51);
    sim_run_for(world.sim, 10 * NS_PER_MS);
    assert_true(holder.is_held);
    assert_true(holder.journal_count >= 2);
    assert_false(first.is_done);
    assert_false(second.is_done); /* In journal order. */
    sim_disk_set_policy(world.disk, SIM_POLICY_LOSE_ALL);
    reopen(&world, SIM_CRASH_PROCESS);
    expect(&world, 9, STORE_BLOCK_SUSPECT, 50);
    assert_int_equal(world_read(&world, 300, &found, &tag), 0);
    assert_int_equal(tag, 51);
    world_done(&world);
    return found;
}

static void
test_window(void **state)
{
    (void)state;
    assert_int_equal(run_window(PLANTED_NONE), STORE_BLOCK_DATA);
    assert_int_equal(run_window(PLANTED_WINDOW_IGNORED), STORE_BLOCK_SUSPECT);
}

/* Whether LIST tells of the region of the first blocks that something in it is
 * newer than 'sequence'. */
static bool
is_listed(struct store_world *world, uint64_t sequence)
{
    static struct store_list_entry entries[4096];
    struct store_req req = world_req(world, STORE_LIST);

    req.block = 0;
    req.block_count = REPLICA_BLOCKS;
    req.sequence = sequence;
    req.entries = entries;
    req.entries_max = ARRAY_COUNT(entries);
    assert_int_equal(world_run(world, &req), 0);
    return req.entries_count != 0 || req.region_touched != 0;
}

/* S4, S9: a discard beyond a hole counts because a later write, whose intent is
 * lost, has left foreign bytes.  Then the slot must be as new as the discard:
 * another replica may have neither of them. */
static bool
run_window_discard(uint32_t bug)
{
    static uint8_t foreign[2 * WEFT_BLOCK_SIZE], found[WEFT_BLOCK_SIZE];
    struct store_world world;
    struct holder holder;
    struct pending first, second;
    struct pending discard = { .is_done = false };
    uint64_t offset = 0;
    bool listed;

    setup(&world, &holder, bug, true);
    fill(&world);
    holder.journal = true;
    write_begin(&world, &first, 256, 256, 50, 50);
    sim_run_for(world.sim, 10 * NS_PER_MS);
    discard.req = world_req(&world, STORE_DISCARD);
    discard.req.done = pending_done;
    discard.req.block = 8;
    discard.req.block_count = 2;
    discard.req.sequence = 51;
    sim_node_enter(world.node);
    store_submit(world.store, &discard.req);
    sim_node_leave(world.node);
    write_begin(&world, &second, 512, 256, 52, 52); /* Fills its block. */
    sim_run_for(world.sim, 10 * NS_PER_MS);
    assert_true(holder.is_held);
    assert_true(holder.journal_count >= 2);
    assert_false(discard.is_done); /* In journal order. */
    sim_disk_set_policy(world.disk, SIM_POLICY_LOSE_ALL);
    sim_disk_set_hook(world.disk, NULL);
    world_crash(&world, SIM_CRASH_PROCESS);
    do {
        sim_disk_peek(world.disk, offset, found, sizeof found);
        offset += WEFT_BLOCK_SIZE;
    } while (pattern_tag(found, 8) != 3);
    memset(foreign, 0x5a, sizeof foreign);
    sim_disk_poke(world.disk, offset - WEFT_BLOCK_SIZE, foreign,
                  sizeof foreign);
    assert_int_equal(world_open(&world), 0);
    assert_int_equal(world_fence(&world, NULL), 0);
    expect(&world, 8, STORE_BLOCK_ABSENT, 0);
    expect(&world, 9, STORE_BLOCK_ABSENT, 0);
    expect(&world, 10, STORE_BLOCK_DATA, 3);
    listed = is_listed(&world, 50);
    world_done(&world);
    return listed;
}

static void
test_window_discard(void **state)
{
    (void)state;
    assert_true(run_window_discard(PLANTED_NONE));
    assert_false(run_window_discard(PLANTED_WINDOW_OLD));
}

/* S9: nothing is acknowledged before the journal blocks before it. */
static bool
run_order(uint32_t bug)
{
    struct store_world world;
    struct holder holder;
    struct pending first;
    struct pending second;
    bool is_done;

    setup(&world, &holder, bug, true);
    holder.journal = true;
    write_begin(&world, &first, 0, 256, 50, 50);
    sim_run_for(world.sim, 10 * NS_PER_MS);
    write_begin(&world, &second, 256, 256, 51, 51);
    sim_run_for(world.sim, 10 * NS_PER_MS);
    is_done = second.is_done;
    assert_false(first.is_done);
    sim_disk_set_policy(world.disk, SIM_POLICY_LOSE_ALL);
    reopen(&world, SIM_CRASH_PROCESS);
    /* In fresh slots, whose allocation is beyond the hole. */
    expect(&world, 300, STORE_BLOCK_ABSENT, 0);
    world_done(&world);
    return is_done;
}

static void
test_ack_order(void **state)
{
    (void)state;
    assert_false(run_order(PLANTED_NONE));
    assert_true(run_order(PLANTED_ACK_DISORDER));
}

/* A block that became data after F_known: an overwrite whose intent is lost
 * must not turn flushed data into nothing. */
static enum store_block_state
run_young(uint32_t bug)
{
    struct store_world world;
    struct holder holder;
    struct pending write;
    enum store_block_state found;
    uint32_t tag;

    setup(&world, &holder, bug, true);
    fill(&world);
    assert_int_equal(world_write(&world, 600, 1, 40, 40), 0);
    assert_int_equal(world_flush(&world, 40), 0);
    holder.journal = bug != PLANTED_NONE;
    write_begin(&world, &write, 600, 1, 50, 50);
    sim_run_for(world.sim, 100 * NS_PER_MS);
    sim_disk_set_policy(world.disk, SIM_POLICY_LOSE_ALL);
    if (bug == PLANTED_NONE) {
        assert_true(write.is_done);
    }
    reopen(&world, SIM_CRASH_PROCESS);
    assert_int_equal(world_read(&world, 600, &found, &tag), 0);
    world_done(&world);
    return found;
}

static void
test_young(void **state)
{
    (void)state;
    assert_int_equal(run_young(PLANTED_NONE), STORE_BLOCK_DATA);
    assert_int_equal(run_young(PLANTED_NO_YOUNG_BARRIER), STORE_BLOCK_ABSENT);
}

/* S8: a page image has nothing that a crash could undo. */
static enum store_block_state
run_pages(uint32_t bug)
{
    struct store_world world;
    struct holder holder;
    struct pending write;
    struct store_stats stats;
    uint64_t checkpoints;
    enum store_block_state found;
    uint32_t tag;

    setup(&world, &holder, bug, true);
    fill(&world);
    store_stats_get(world.store, &stats);
    checkpoints = stats.checkpoints;
    holder.begun = true;
    for (uint64_t i = 0; holder.super == NULL; i++) {
        assert_true(i < 1000);
        assert_int_equal(world_write(&world, 7, 1, 50 + i, 50), 0);
    }
    /* Neither this nor its intent lands; the checkpoint goes on. */
    holder.data = true;
    holder.journal = true;
    write_begin(&world, &write, 1000, 1, 2000, 51);
    sim_run_for(world.sim, NS_PER_MS);
    assert_true(holder.is_held);
    sim_disk_release(world.disk, holder.super);
    sim_run_for(world.sim, 100 * NS_PER_MS);
    store_stats_get(world.store, &stats);
    assert_int_equal(stats.checkpoints, checkpoints);
    sim_disk_set_policy(world.disk, SIM_POLICY_LOSE_ALL);
    reopen(&world, SIM_CRASH_PROCESS);
    assert_int_equal(world_read(&world, 1000, &found, &tag), 0);
    expect(&world, 7, STORE_BLOCK_DATA, 50);
    world_done(&world);
    return found;
}

static void
test_pages_at_f(void **state)
{
    (void)state;
    assert_int_equal(run_pages(PLANTED_NONE), STORE_BLOCK_ABSENT);
    assert_int_not_equal(run_pages(PLANTED_PAGES_AHEAD), STORE_BLOCK_ABSENT);
}

/* Bytes under a durable discard still match the data before it. */
static void
test_discard_wins(void **state)
{
    struct store_world world;
    struct holder holder;

    (void)state;
    setup(&world, &holder, PLANTED_NONE, true);
    assert_int_equal(world_write(&world, 0, 8, 1, 1), 0);
    assert_int_equal(world_discard(&world, 1, 1, 2, false), 0);
    assert_int_equal(world_discard(&world, 2, 1, 3, true), 0);
    assert_int_equal(world_flush(&world, 0), 0);
    reopen(&world, SIM_CRASH_POWER);
    expect(&world, 0, STORE_BLOCK_DATA, 1);
    expect(&world, 1, STORE_BLOCK_ABSENT, 0);
    expect(&world, 2, STORE_BLOCK_ZERO, 0);
    world_done(&world);
}

/* A damaged superblock: the older one serves only if nothing was written under
 * the newer; never is a state of the past served. */
static void
test_superblocks(void **state)
{
    struct store_world world;
    struct holder holder;
    int refused = 0;

    (void)state;
    for (uint64_t which = 0; which < 2; which++) {
        setup(&world, &holder, PLANTED_NONE, true);
        world_crash(&world, SIM_CRASH_PROCESS);
        sim_disk_flip_bit(world.disk, which * WEFT_BLOCK_SIZE + 120, 1);
        if (world_open(&world) == -EUCLEAN) {
            refused++;
            assert_non_null(strstr(world.open.err.text, "superblock"));
        } else {
            assert_int_equal(world.result, 0);
            assert_int_equal(world_fence(&world, NULL), 0);
        }
        world_done(&world);
    }
    assert_int_equal(refused, 1);
    /* Closed in order, either will do. */
    for (uint64_t which = 0; which < 2; which++) {
        setup(&world, &holder, PLANTED_NONE, true);
        assert_int_equal(world_write(&world, 3, 2, 1, 1), 0);
        world_close(&world);
        sim_disk_flip_bit(world.disk, which * WEFT_BLOCK_SIZE + 120, 1);
        assert_int_equal(world_open(&world), 0);
        assert_int_equal(world_fence(&world, NULL), 0);
        expect(&world, 4, STORE_BLOCK_DATA, 1);
        world_done(&world);
    }
    setup(&world, &holder, PLANTED_NONE, true);
    world_close(&world);
    sim_disk_flip_bit(world.disk, 120, 1);
    sim_disk_flip_bit(world.disk, WEFT_BLOCK_SIZE + 120, 1);
    assert_int_equal(world_open(&world), -EUCLEAN);
    world_done(&world);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suspect),
        cmocka_unit_test(test_old_content),
        cmocka_unit_test(test_window_discard),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_ack_order),
        cmocka_unit_test(test_young),
        cmocka_unit_test(test_pages_at_f),
        cmocka_unit_test(test_discard_wins),
        cmocka_unit_test(test_superblocks),
    };

    return cmocka_run_group_tests_name("store_crash", tests, NULL, NULL);
}
