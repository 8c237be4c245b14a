/* SPDX-License-Identifier: Apache-2.0 */

/* A store on a disk that fails or rots: what it tells, what it refuses, and
 * what it never forgets.  With the planted bugs that these tests are for. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/store/disk.h"
#include "blockd/store/geometry.h"
#include "blockd/store/planted.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "tests/unit/store_world.h"

#define REPLICA_BLOCKS 8192u

/* Holds one superblock. */
struct holder {
    struct sim_disk_hook hook;
    uint32_t supers, hold_super; /* The number of the one to be held. */
    bool is_held;
};

static enum sim_verdict
holder_started(struct sim_disk_hook *hook, struct sim_disk *disk,
               const struct io_file_op *op, int *ret_result)
{
    struct holder *holder = container_of(hook, struct holder, hook);

    (void)disk;
    (void)ret_result;
    if (op->kind != IO_FILE_WRITE ||
        op->offset_bytes >= (uint64_t)2 * WEFT_BLOCK_SIZE ||
        ++holder->supers != holder->hold_super) {
        return SIM_PASS;
    }
    holder->is_held = true;
    return SIM_HOLD;
}

static void
setup_seed(struct store_world *world, uint32_t bug, uint64_t seed)
{
    struct sim_options options;

    sim_options_default(&options);
    options.disk.tear_bytes = 4096;
    world_init(world, seed, &options, 16 * MIB, true);
    world->options.planted_bug = bug;
    assert_int_equal(world_format(world, 16384, 0, false), 0);
    assert_int_equal(world_open(world), 0);
    assert_int_equal(world_create(world, REPLICA_BLOCKS), 0);
    assert_int_equal(world_fence(world, NULL), 0);
}

static void
setup(struct store_world *world, uint32_t bug)
{
    setup_seed(world, bug, 1);
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
reopen(struct store_world *world)
{
    assert_int_equal(world_open(world), 0);
    assert_int_equal(world_fence(world, NULL), 0);
}

static void
read_geometry(struct store_world *world, struct geometry *ret_geometry)
{
    static struct disk_super super;

    sim_disk_peek(world->disk, 0, &super, sizeof(super));
    *ret_geometry = (struct geometry){
        .size_blocks = le64_get(super.size_bytes) / WEFT_BLOCK_SIZE,
        .slot_blocks = le32_get(super.slot_blocks),
        .journal_blocks = le64_get(super.journal_blocks),
        .window = le32_get(super.journal_window),
        .replica_pages = le32_get(super.replica_pages),
        .region_pages = le32_get(super.region_pages),
        .slots_total = le32_get(super.slots_total),
    };
    assert_true(geometry_derive(ret_geometry));
}

/* ---- S8: a page of the table rots ---- */

/* Where the two copies of the first slot page are, and how old. */
struct copies {
    uint64_t offset[2], generation[2];
    uint32_t newer;
};

static void
find_copies(struct store_world *world, struct copies *ret_copies)
{
    static struct disk_page page;
    struct geometry geometry;

    read_geometry(world, &geometry);
    for (uint32_t i = 0; i < 2; i++) {
        ret_copies->offset[i] =
            geometry_page_block(&geometry, geometry_slot_page(&geometry, 0),
                                i) *
            WEFT_BLOCK_SIZE;
        sim_disk_peek(world->disk, ret_copies->offset[i], &page, sizeof(page));
        ret_copies->generation[i] = le64_get(page.generation);
    }
    ret_copies->newer = ret_copies->generation[1] > ret_copies->generation[0];
}

/* An open that is cut off in its checkpoint, before the superblock that would
 * complete it. */
static void
cut_off_recovery(struct store_world *world, struct holder *holder)
{
    *holder = (struct holder){
        .hook = { .started = holder_started },
        .hold_super = 2,
    };
    sim_disk_set_hook(world->disk, &holder->hook);
    world_open_begin(world);
    for (int i = 0; !holder->is_held; i++) {
        assert_true(i < 100000);
        (void)sim_step(world->sim);
    }
    sim_disk_set_hook(world->disk, NULL);
    sim_disk_set_policy(world->disk, SIM_POLICY_LOSE_ALL);
    world_crash(world, SIM_CRASH_POWER);
}

/* Three slots of the first page, in different checkpoints, then one that was
 * begun, but did not touch that page. */
static void
rot_setup(struct store_world *world, struct copies *ret_copies, uint32_t bug)
{
    struct holder holder;

    setup(world, bug);
    assert_int_equal(world_write(world, 0, 4, 10, 1), 0);
    assert_int_equal(world_flush(world, 0), 0);
    world_close(world);
    for (uint64_t i = 0; i < 3; i++) {
        reopen(world);
        assert_int_equal(world_write(world, 4 + 4 * i, 4, 20 + i, 2), 0);
        assert_int_equal(world_write(world, 0, 4, 30 + i, 3 + (uint32_t)i), 0);
        assert_int_equal(world_flush(world, 0), 0);
        world_close(world);
    }
    cut_off_recovery(world, &holder);
    find_copies(world, ret_copies);
    assert_int_not_equal(ret_copies->generation[0], ret_copies->generation[1]);
}

static void
test_page_rot_newer(void **state)
{
    struct store_world world;
    struct copies copies;
    uint32_t top;

    (void)state;
    rot_setup(&world, &copies, PLANTED_NONE);
    /* The newer copy is the page: refused, not served without it. */
    sim_disk_flip_bit(world.disk, copies.offset[copies.newer] + 1000, 3);
    assert_int_equal(world_open(&world), -EUCLEAN);
    assert_non_null(strstr(world.open.err.text, "page of the table"));
    sim_disk_flip_bit(world.disk, copies.offset[copies.newer] + 1000, 3);
    /* Also if it is the generation that has rotted, so that it looks older. */
    top = 63 - (uint32_t)__builtin_clzll(copies.generation[copies.newer]);
    assert_true((copies.generation[copies.newer] ^ UINT64_C(1) << top) <
                copies.generation[1 - copies.newer]);
    sim_disk_flip_bit(world.disk,
                      copies.offset[copies.newer] +
                          offsetof(struct disk_page, generation) + top / 8,
                      top % 8);
    assert_int_equal(world_open(&world), -EUCLEAN);
    sim_disk_flip_bit(world.disk,
                      copies.offset[copies.newer] +
                          offsetof(struct disk_page, generation) + top / 8,
                      top % 8);
    reopen(&world);
    expect(&world, 0, STORE_BLOCK_DATA, 5);
    expect(&world, 12, STORE_BLOCK_DATA, 2);
    world_done(&world);
}

static void
test_page_rot_planted(void **state)
{
    struct store_world world;
    struct copies copies;

    (void)state;
    rot_setup(&world, &copies, PLANTED_OLDER_PAGE);
    sim_disk_flip_bit(world.disk, copies.offset[copies.newer] + 1000, 3);
    reopen(&world);
    /* Flushed, and gone without a word. */
    expect(&world, 12, STORE_BLOCK_ABSENT, 0);
    world_done(&world);
}

/* The older copy is not needed, and is made sound again. */
static void
test_page_rot_older(void **state)
{
    struct store_world world;
    struct copies copies;

    (void)state;
    rot_setup(&world, &copies, PLANTED_NONE);
    sim_disk_flip_bit(world.disk, copies.offset[1 - copies.newer] + 1000, 3);
    reopen(&world);
    expect(&world, 0, STORE_BLOCK_DATA, 5);
    expect(&world, 12, STORE_BLOCK_DATA, 2);
    world_close(&world);
    find_copies(&world, &copies);
    sim_disk_flip_bit(world.disk, copies.offset[1 - copies.newer] + 1000, 3);
    reopen(&world);
    expect(&world, 12, STORE_BLOCK_DATA, 2);
    world_done(&world);
}

/* A page of the checkpoint that was cut off: the one before it and the journal
 * make the same. */
static void
test_page_rot_begun(void **state)
{
    struct store_world world;
    struct copies copies;
    struct copies begun;
    struct holder holder;

    (void)state;
    rot_setup(&world, &copies, PLANTED_NONE);
    reopen(&world);
    assert_int_equal(world_write(&world, 16, 4, 40, 6), 0);
    assert_int_equal(world_flush(&world, 0), 0);
    sim_disk_set_policy(world.disk, SIM_POLICY_LOSE_ALL);
    world_crash(&world, SIM_CRASH_POWER);
    cut_off_recovery(&world, &holder);
    find_copies(&world, &begun);
    assert_true(begun.generation[begun.newer] >
                copies.generation[copies.newer]);
    sim_disk_flip_bit(world.disk, begun.offset[begun.newer] + 1000, 3);
    reopen(&world);
    expect(&world, 0, STORE_BLOCK_DATA, 5);
    expect(&world, 12, STORE_BLOCK_DATA, 2);
    expect(&world, 16, STORE_BLOCK_DATA, 6);
    world_done(&world);
}

/* ---- A superblock that cannot be read ---- */

static void
test_superblock_unread(void **state)
{
    struct store_world world;
    int refused = 0;

    (void)state;
    for (uint64_t which = 0; which < 2; which++) {
        setup(&world, PLANTED_NONE);
        world_crash(&world, SIM_CRASH_PROCESS);
        sim_disk_fault(world.disk, SIM_FAULT_READ_EIO, which * WEFT_BLOCK_SIZE,
                       WEFT_BLOCK_SIZE, 0);
        refused += world_open(&world) != 0;
        if (world.result != 0) {
            /* Not -EUCLEAN: it may be readable another time. */
            assert_int_equal(world.result, -EIO);
            assert_non_null(strstr(world.open.err.text, "cannot be read"));
            sim_disk_faults_clear(world.disk);
            reopen(&world);
        }
        world_done(&world);
    }
    assert_int_equal(refused, 1);
}

/* ---- S6: the process ends between a failure and the recovery from it ---- */

struct pending {
    struct store_req req;
    bool is_done;
};

static void
pending_done(struct store_req *req)
{
    container_of(req, struct pending, req)->is_done = true;
}

/* How much the incarnation grows. */
static uint64_t
run_mark(uint32_t bug)
{
    struct store_world world;
    struct store_req first;
    struct store_req second;
    struct pending flush;

    setup(&world, bug);
    assert_int_equal(world_fence(&world, &first), 0);
    assert_int_equal(world_write(&world, 0, 4, 1, 1), 0);
    sim_disk_fault(world.disk, SIM_FAULT_FLUSH_EIO, 0, 0, 1);
    flush = (struct pending){ .req = world_req(&world, STORE_FLUSH) };
    flush.req.done = pending_done;
    sim_node_enter(world.node);
    store_submit(world.store, &flush.req);
    sim_node_leave(world.node);
    while (!flush.is_done) {
        assert_true(sim_step(world.sim));
    }
    assert_int_equal(flush.req.result, -EIO);
    world_crash(&world, SIM_CRASH_PROCESS);
    assert_int_equal(world_open(&world), 0);
    assert_int_equal(world_fence(&world, &second), 0);
    world_done(&world);
    return second.incarnation - first.incarnation;
}

static void
test_mark(void **state)
{
    (void)state;
    assert_true(run_mark(PLANTED_NONE) > 0);
    assert_int_equal(run_mark(PLANTED_MARK_LATE), 0);
}

/* The same when it is a recovery that fails: -EIO of store_open(). */
static void
test_mark_open(void **state)
{
    struct store_world world;
    struct store_req first;
    struct store_req second;

    (void)state;
    setup(&world, PLANTED_NONE);
    assert_int_equal(world_fence(&world, &first), 0);
    world_crash(&world, SIM_CRASH_PROCESS);
    sim_disk_fault(world.disk, SIM_FAULT_FLUSH_EIO, 0, 0, 1);
    assert_int_equal(world_open(&world), -EIO);
    world_crash(&world, SIM_CRASH_PROCESS);
    assert_int_equal(world_open(&world), 0);
    assert_int_equal(world_fence(&world, &second), 0);
    assert_true(second.incarnation > first.incarnation);
    world_done(&world);
}

/* A disk that takes nothing any more: the failure is told all the same. */
static void
test_mark_impossible(void **state)
{
    struct store_world world;
    struct store_info info;

    (void)state;
    setup(&world, PLANTED_NONE);
    sim_disk_fault(world.disk, SIM_FAULT_FLUSH_EIO, 0, 0, 0);
    assert_int_equal(world_write(&world, 0, 4, 1, 1), 0);
    assert_int_equal(world_flush(&world, 0), -EIO);
    sim_run_for(world.sim, NS_PER_S);
    store_info_get(world.store, &info);
    assert_true(info.failed);
    assert_int_equal(world_write(&world, 0, 4, 2, 1), -EIO);
    world_done(&world);
}

/* ---- S1: suspect, until it has been found sound ---- */

static uint64_t
block_offset(struct store_world *world, uint64_t block)
{
    struct geometry geometry;

    /* Slots are taken in ascending order: slot n has logical slot n. */
    read_geometry(world, &geometry);
    return (geometry.data_first + block) * WEFT_BLOCK_SIZE;
}

/* The store dies while blocks 0..63 are hot. */
static void
hot_crash(struct store_world *world)
{
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(world_write(world, 0, 64, 10 * i, (uint32_t)i), 0);
        assert_int_equal(world_flush(world, 0), 0);
    }
    sim_disk_set_policy(world->disk, SIM_POLICY_LOSE_ALL);
    world_crash(world, SIM_CRASH_POWER);
    reopen(world);
}

static void
rot(struct store_world *world, uint64_t block)
{
    sim_disk_flip_bit(world->disk, block_offset(world, block) + 100, 1);
}

static enum store_block_state
state_of(struct store_world *world, uint64_t block)
{
    enum store_block_state state;
    uint32_t tag;

    assert_int_equal(world_read(world, block, &state, &tag), 0);
    return state;
}

static void
test_verify(void **state)
{
    struct store_world world;

    (void)state;
    setup(&world, PLANTED_NONE);
    hot_crash(&world);
    /* At once: it may be of the crash. */
    rot(&world, 7);
    assert_int_equal(state_of(&world, 7), STORE_BLOCK_SUSPECT);
    /* Not those that were found sound by a read or a write. */
    expect(&world, 9, STORE_BLOCK_DATA, 3);
    rot(&world, 9);
    assert_int_equal(state_of(&world, 9), STORE_BLOCK_BAD);
    assert_int_equal(world_write(&world, 7, 1, 50, 50), 0);
    rot(&world, 7);
    assert_int_equal(state_of(&world, 7), STORE_BLOCK_BAD);
    assert_int_equal(world_write(&world, 7, 1, 51, 51), 0);
    assert_int_equal(world_write(&world, 9, 1, 51, 51), 0);
    /* Nor any, when all have been looked at. */
    sim_run_for(world.sim, 10 * NS_PER_S);
    rot(&world, 20);
    assert_int_equal(state_of(&world, 20), STORE_BLOCK_BAD);
    assert_int_equal(world_write(&world, 20, 1, 52, 52), 0);
    /* In the next life, too. */
    world_close(&world);
    rot(&world, 30);
    reopen(&world);
    assert_int_equal(state_of(&world, 30), STORE_BLOCK_BAD);
    world_done(&world);
}

/* What does not match stays suspect, and its extent with it, over lives; but
 * what was written since does not. */
static void
test_verify_leaves_suspects(void **state)
{
    struct store_world world;

    (void)state;
    setup(&world, PLANTED_NONE);
    hot_crash(&world);
    rot(&world, 7);
    sim_run_for(world.sim, 600 * NS_PER_S);
    assert_int_equal(state_of(&world, 7), STORE_BLOCK_SUSPECT);
    rot(&world, 8);
    assert_int_equal(state_of(&world, 8), STORE_BLOCK_BAD);
    world_close(&world);
    reopen(&world);
    assert_int_equal(state_of(&world, 7), STORE_BLOCK_SUSPECT);
    world_done(&world);
}

/* ---- S12: one epoch, two owners ---- */

static void
test_two_fences(void **state)
{
    struct store_world world;
    struct pending fences[2];

    (void)state;
    setup(&world, PLANTED_NONE);
    world.epoch = 7;
    sim_node_enter(world.node);
    for (uint8_t i = 0; i < 2; i++) {
        fences[i] = (struct pending){ .req = world_req(&world, STORE_FENCE) };
        fences[i].req.done = pending_done;
        memset(fences[i].req.owner_instance.bytes, 0x40 + i, 16);
        store_submit(world.store, &fences[i].req);
    }
    sim_node_leave(world.node);
    while (!fences[0].is_done || !fences[1].is_done) {
        assert_true(sim_step(world.sim));
    }
    assert_int_equal(fences[0].req.result, 0);
    assert_int_equal(fences[1].req.result, -ESTALE);
    /* And the session of the first one is open. */
    world.session = fences[0].req.session;
    assert_int_equal(world_write(&world, 0, 1, 1, 1), 0);
    world_done(&world);
}

/* ---- The places of removed replicas ---- */

static int
create_or_remove(struct store_world *world, enum store_opcode opcode,
                 uint8_t number)
{
    struct store_req req = world_req(world, opcode);

    req.replica.bytes[0] = 0xee;
    req.replica.bytes[1] = number;
    req.size_blocks = 16;
    req.epoch = opcode == STORE_REMOVE ? UINT32_MAX : 0;
    return world_run(world, &req);
}

/* A full disk on which nothing happens but that one replica goes: there is room
 * for another. */
static void
test_replica_again(void **state)
{
    struct store_world world;
    struct store_info info;
    uint8_t number = 0;

    (void)state;
    setup(&world, PLANTED_NONE);
    while (create_or_remove(&world, STORE_CREATE, number) == 0) {
        number++;
    }
    store_info_get(world.store, &info);
    assert_int_equal(info.replica_count, info.replica_max);
    for (uint8_t i = 0; i < 3; i++) {
        assert_int_equal(create_or_remove(&world, STORE_REMOVE, i), 0);
        sim_run_for(world.sim, NS_PER_S);
        store_info_get(world.store, &info);
        assert_int_equal(info.replica_count, info.replica_max - 1);
        assert_int_equal(create_or_remove(&world, STORE_CREATE,
                                          (uint8_t)(number + i)),
                         0);
    }
    world_done(&world);
}

/* ---- A thin file: two writes into one new slot find no space ---- */

static void
run_shared_slot(uint64_t seed)
{
    static uint8_t data[WEFT_BLOCK_SIZE] __attribute__((aligned(4096)));
    struct store_world world;
    struct pending writes[2];
    struct store_info before;
    struct store_info after;
    uint32_t crc = crc32c(0, data, sizeof(data));

    setup_seed(&world, PLANTED_NONE, seed);
    store_info_get(world.store, &before);
    sim_disk_fault(world.disk, SIM_FAULT_WRITE_ENOSPC, block_offset(&world, 0),
                   8 * MIB, 0);
    sim_node_enter(world.node);
    for (uint64_t i = 0; i < 2; i++) {
        writes[i] = (struct pending){ .req = world_req(&world, STORE_WRITE) };
        writes[i].req.done = pending_done;
        writes[i].req.block = i;
        writes[i].req.block_count = 1;
        writes[i].req.sequence = 1 + i;
        writes[i].req.data = data;
        writes[i].req.crcs = &crc;
        store_submit(world.store, &writes[i].req);
    }
    sim_node_leave(world.node);
    while (!writes[0].is_done || !writes[1].is_done) {
        assert_true(sim_step(world.sim));
    }
    assert_int_equal(writes[0].req.result, -ENOSPC);
    assert_int_equal(writes[1].req.result, -ENOSPC);
    assert_int_equal(world_flush(&world, 0), 0);
    sim_run_for(world.sim, NS_PER_S);
    store_info_get(world.store, &after);
    assert_int_equal(after.slots_free + after.slots_quarantined,
                     before.slots_free);
    expect(&world, 0, STORE_BLOCK_ABSENT, 0);
    expect(&world, 1, STORE_BLOCK_ABSENT, 0);
    world_done(&world);
}

/* The one that took the slot is not always the last to be undone. */
static void
test_thin_file_shared_slot(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        run_shared_slot(seed);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_rot_newer),
        cmocka_unit_test(test_page_rot_planted),
        cmocka_unit_test(test_page_rot_older),
        cmocka_unit_test(test_page_rot_begun),
        cmocka_unit_test(test_superblock_unread),
        cmocka_unit_test(test_mark),
        cmocka_unit_test(test_mark_open),
        cmocka_unit_test(test_mark_impossible),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_verify_leaves_suspects),
        cmocka_unit_test(test_two_fences),
        cmocka_unit_test(test_replica_again),
        cmocka_unit_test(test_thin_file_shared_slot),
    };

    return cmocka_run_group_tests_name("store_faults", tests, NULL, NULL);
}
