/* SPDX-License-Identifier: Apache-2.0 */

/* Real stores behind the peer protocol, in the simulator: a client on one host,
 * a store on another, and the same store by a local link.  What the protocol
 * carries must mean the same by either way. */

#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/peer/link_local.h"
#include "blockd/peer/peer_client.h"
#include "blockd/peer/peer_server.h"
#include "blockd/store/store.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"
#include "lib/io/sim.h"

#define BLOCKS 256u
#define ADDRESS "tcp:server:7701"

struct host {
    struct sim_program program;
    struct sim_node *node;
    struct io *io;
};

struct test {
    struct sim *sim;
    struct host server, client;
    struct weft_uuid cluster, disk, replica, volume, claim;
    bool is_formatted;

    /* Server. */
    struct store_format format;
    struct store_open open;
    struct store_claim claim_op;
    struct store *store;
    struct link *local;
    struct peer_directory directory;
    struct peer_server *peer_server;
    bool is_serving;
    int result;

    /* Client. */
    struct link *remote;
    struct link_user user;
    bool is_up;

    /* One request at a time. */
    struct store_req req;
    uint8_t *data;
    uint32_t crcs[BLOCKS];
    uint8_t states[BLOCKS];
    struct store_list_entry entries[8192];
    bool is_done;
    uint32_t epoch;
    uint64_t session;
};

/* ---- Server ---- */

static struct link *
find_disk(struct peer_directory *directory, const struct weft_uuid *disk)
{
    struct test *test = container_of(directory, struct test, directory);

    return uuid_equal(disk, &test->disk) ? test->local : NULL;
}

static void
claimed(struct store_claim *op, int result)
{
    struct test *test = container_of(op, struct test, claim_op);
    struct peer_server_options options;

    assert_int_equal(result, 0);
    store_serve(test->store);
    assert_int_equal(link_local_new(test->server.io, test->store,
                                    test->server.io, &test->disk, &test->local),
                     0);
    peer_server_options_init(&options);
    options.directory = &test->directory;
    options.cluster = test->cluster;
    options.bytes_max = 4 * MIB;
    test->directory.find = find_disk;
    assert_int_equal(peer_server_open(test->server.io, ADDRESS, &options,
                                      &test->peer_server),
                     0);
    test->is_serving = true;
}

static void
opened(struct store_open *op, int result)
{
    struct test *test = container_of(op, struct test, open);

    if (result != 0) {
        fail_msg("store_open: %d %s", result, op->err.text);
    }
    test->store = op->store;
    test->claim_op = (struct store_claim){
        .store = op->store,
        .next = test->claim,
        .done = claimed,
    };
    store_claim_start(&test->claim_op);
}

static void
open_store(struct test *test, struct io_file *file)
{
    test->open = (struct store_open){
        .io = test->server.io,
        .file = file,
        .done = opened,
    };
    sim_node_boot_id(test->server.node, &test->open.options.boot_id);
    store_open_start(&test->open);
}

static void
formatted(struct store_format *op, int result)
{
    struct test *test = container_of(op, struct test, format);

    if (result != 0) {
        fail_msg("store_format: %d %s", result, op->err.text);
    }
    test->is_formatted = true;
    open_store(test, op->file);
}

static void
server_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct host *host = container_of(program, struct host, program);
    struct test *test = container_of(host, struct test, server);
    struct io_file *file;

    (void)node;
    host->io = io;
    test->is_serving = false;
    assert_int_equal(io_file_open(io, "/d0", IO_CACHE_AUTO, &file), 0);
    if (test->is_formatted) {
        open_store(test, file);
        return;
    }
    test->format = (struct store_format){
        .io = io,
        .file = file,
        .options = { .disk = test->disk, .cluster = test->cluster },
        .done = formatted,
    };
    store_format_start(&test->format);
}

/* ---- Client ---- */

static void
user_changed(struct link_user *user, enum link_state state)
{
    container_of(user, struct test, user)->is_up = state == LINK_UP;
}

static void
client_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct host *host = container_of(program, struct host, program);
    struct test *test = container_of(host, struct test, client);
    struct link_remote_options options;

    (void)node;
    host->io = io;
    link_remote_options_init(&options);
    assert_int_equal(link_remote_new(io, ADDRESS, &test->cluster, &test->disk,
                                     &options, &test->remote),
                     0);
    link_user_add(test->remote, &test->user, user_changed);
}

static void
test_init(struct test *test, uint64_t seed)
{
    struct sim_options options;

    sim_options_default(&options);
    options.arena_bytes = 128 * MIB;
    *test = (struct test){ .sim = sim_new(seed, &options), .epoch = 1 };
    uuid_make_random(1, 1, &test->cluster);
    uuid_make_random(1, 2, &test->disk);
    uuid_make_random(1, 3, &test->replica);
    uuid_make_random(1, 4, &test->volume);
    uuid_make_random(1, 5, &test->claim);
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, 4096, BLOCKS * 4096), 0);
    test->data = memory;
    test->server.program.boot = server_boot;
    test->client.program.boot = client_boot;
    test->server.node = sim_node_add(test->sim, "server");
    test->client.node = sim_node_add(test->sim, "client");
    sim_disk_add(test->server.node, "/d0", 256 * MIB, true);
    sim_node_start(test->server.node, &test->server.program);
    sim_node_start(test->client.node, &test->client.program);
    assert_true(sim_run_until_set(test->sim, &test->is_up, 60 * NS_PER_S));
}

static void
test_done(struct test *test)
{
    sim_free(test->sim);
    free(test->data);
}

static void
req_done(struct store_req *req)
{
    container_of(req, struct test, req)->is_done = true;
}

/* A request for the replica, in our session. */
static struct store_req *
prepare(struct test *test, enum store_opcode opcode, uint64_t block,
        uint32_t count)
{
    test->req = (struct store_req){
        .done = req_done,
        .opcode = opcode,
        .replica = test->replica,
        .epoch = test->epoch,
        .session = test->session,
        .layer = STORE_LAYER_FIRST,
        .block = block,
        .block_count = count,
        .deadline_ns = IO_NEVER,
        .data = test->data,
        .crcs = test->crcs,
        .states = test->states,
        .entries = test->entries,
        .entries_max = 8192,
        .owner_instance = test->claim,
        .volume = test->volume,
        .size_blocks = 65536,
    };
    return &test->req;
}

static int
run_by(struct test *test, struct host *host, struct link *link)
{
    test->is_done = false;
    sim_node_enter(host->node);
    link_submit(link, &test->req);
    sim_node_leave(host->node);
    assert_true(sim_run_until_set(test->sim, &test->is_done, 10 * NS_PER_S));
    return test->req.result;
}

static int
run(struct test *test)
{
    return run_by(test, &test->client, test->remote);
}

static void
fill(struct test *test, uint64_t seed, uint32_t count)
{
    struct rng rng;

    rng_init(&rng, seed);
    rng_fill(&rng, test->data, (size_t)count * WEFT_BLOCK_SIZE);
    for (uint32_t i = 0; i < count; i++) {
        test->crcs[i] = crc32c(0, test->data + (size_t)i * WEFT_BLOCK_SIZE,
                               WEFT_BLOCK_SIZE);
    }
}

static void
create_and_fence(struct test *test)
{
    struct store_req *req = prepare(test, STORE_CREATE, 0, 0);
    req->membership = (struct store_membership){ .epoch = test->epoch,
                                                 .view = 1,
                                                 .in_sync_count = 1 };
    req->membership.in_sync[0] = test->replica;
    assert_int_equal(run(test), 0);
    req = prepare(test, STORE_FENCE, 0, 0);
    assert_int_equal(run(test), 0);
    assert_true(req->session != 0);
    assert_int_equal(req->slot_blocks, 16);
    assert_int_equal(req->membership.view, 1);
    test->session = req->session;
}

/* ---- Tests ---- */

static void
test_blocks(void **state)
{
    struct test test;
    struct store_req *req;

    (void)state;
    test_init(&test, 1);

    prepare(&test, STORE_READ, 0, 1); /* S13: not created implicitly. */
    assert_int_equal(run(&test), -ENXIO);
    create_and_fence(&test);

    fill(&test, 7, BLOCKS);
    req = prepare(&test, STORE_WRITE, 32, BLOCKS);
    req->sequence = store_seq_make(1, 1);
    assert_int_equal(run(&test), 0);

    memset(test.data, 0, BLOCKS * WEFT_BLOCK_SIZE);
    req = prepare(&test, STORE_READ, 30, 10);
    assert_int_equal(run(&test), 0);
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(test.states[i],
                         i < 2 ? STORE_BLOCK_ABSENT : STORE_BLOCK_DATA);
    }
    uint32_t wanted = test.crcs[2];
    assert_int_equal(wanted, crc32c(0, test.data + (size_t)2 * WEFT_BLOCK_SIZE,
                                    WEFT_BLOCK_SIZE));
    fill(&test, 7, 1);
    assert_int_equal(test.crcs[0], wanted);

    req = prepare(&test, STORE_DISCARD, 33, 2);
    req->sequence = store_seq_make(1, 2);
    req->discard_zero = 1;
    assert_int_equal(run(&test), 0);

    fill(&test, 9, 16);
    req = prepare(&test, STORE_PUT_SLOT, 512, 16);
    req->sequence = store_seq_make(1, 3);
    for (uint32_t i = 0; i < 16; i++) {
        test.states[i] = i % 3 == 0 ? STORE_BLOCK_DATA : STORE_BLOCK_ABSENT;
    }
    uint32_t put_crc = test.crcs[3];
    assert_int_equal(run(&test), 0);
    prepare(&test, STORE_READ, 512, 16);
    assert_int_equal(run(&test), 0);
    for (uint32_t i = 0; i < 16; i++) {
        assert_int_equal(test.states[i],
                         i % 3 == 0 ? STORE_BLOCK_DATA : STORE_BLOCK_ABSENT);
    }
    assert_int_equal(test.crcs[3], put_crc);

    test_done(&test);
}

static void
test_lists_and_fences(void **state)
{
    struct test test;
    struct store_req *req;

    (void)state;
    test_init(&test, 1);
    create_and_fence(&test);
    fill(&test, 7, BLOCKS);
    req = prepare(&test, STORE_WRITE, 32, BLOCKS);
    req->sequence = store_seq_make(1, 3);
    assert_int_equal(run(&test), 0);

    req = prepare(&test, STORE_FLUSH, 0, 0);
    req->known_good = store_seq_make(1, 3);
    assert_int_equal(run(&test), 0);
    uint64_t incarnation = req->incarnation;

    req = prepare(&test, STORE_LIST, 0, STORE_REGION_BLOCKS);
    req->list_all = 1;
    assert_int_equal(run(&test), 0);
    uint32_t count = req->entries_count;
    assert_int_equal(count, BLOCKS / 16);
    static struct store_list_entry entries[8192];
    memcpy(entries, test.entries, sizeof entries);
    /* The same by a local link. */
    req = prepare(&test, STORE_LIST, 0, STORE_REGION_BLOCKS);
    req->list_all = 1;
    assert_int_equal(run_by(&test, &test.server, test.local), 0);
    assert_int_equal(req->entries_count, count);
    assert_memory_equal(entries, test.entries, count * sizeof entries[0]);

    req = prepare(&test, STORE_SET_VIEW, 0, 0);
    req->membership =
        (struct store_membership){ .epoch = 1, .view = 2, .in_sync_count = 1 };
    req->membership.in_sync[0] = test.replica;
    assert_int_equal(run(&test), 0);

    test.epoch = 2;
    req = prepare(&test, STORE_FENCE, 0, 0);
    assert_int_equal(run(&test), 0);
    assert_true(req->session > test.session);
    assert_int_equal(req->membership.view, 2);
    assert_int_equal(req->known_good_out, store_seq_make(1, 3));
    assert_int_equal(req->max_sequence, store_seq_make(1, 3));
    assert_int_equal(req->incarnation, incarnation);

    /* The old session is closed; a lower epoch learns the higher one. */
    prepare(&test, STORE_READ, 32, 1);
    assert_int_equal(run(&test), -ESTALE);
    test.epoch = 1;
    req = prepare(&test, STORE_FENCE, 0, 0);
    assert_int_equal(run(&test), -ESTALE);
    assert_int_equal(req->membership.epoch, 2);
    test_done(&test);
}

/* A damaged block on the disk: its state comes back, the others' data, too. */
static void
test_power_cut(void **state)
{
    struct test test;
    struct store_req *req;

    (void)state;
    test_init(&test, 2);
    create_and_fence(&test);
    fill(&test, 3, BLOCKS);
    req = prepare(&test, STORE_WRITE, 0, BLOCKS);
    req->sequence = store_seq_make(1, 1);
    assert_int_equal(run(&test), 0);
    req = prepare(&test, STORE_FLUSH, 0, 0);
    assert_int_equal(run(&test), 0);
    uint64_t incarnation = req->incarnation;

    sim_node_crash(test.server.node, SIM_CRASH_POWER);
    prepare(&test, STORE_READ, 0, BLOCKS);
    assert_int_equal(run(&test), -ENOTCONN);
    sim_node_start(test.server.node, &test.server.program);
    assert_true(sim_run_until_set(test.sim, &test.is_up, 60 * NS_PER_S));
    prepare(&test, STORE_READ, 0, BLOCKS);
    assert_int_equal(run(&test), -ESTALE);
    req = prepare(&test, STORE_FENCE, 0, 0);
    assert_int_equal(run(&test), 0);
    assert_true(req->incarnation != incarnation); /* S6 */
    test.session = req->session;
    fill(&test, 3, BLOCKS);
    uint32_t last_crc = test.crcs[BLOCKS - 1];
    memset(test.data, 0, BLOCKS * WEFT_BLOCK_SIZE);
    memset(test.crcs, 0, sizeof test.crcs);
    prepare(&test, STORE_READ, 0, BLOCKS);
    assert_int_equal(run(&test), 0);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        assert_int_equal(test.states[i], STORE_BLOCK_DATA);
    }
    assert_int_equal(test.crcs[BLOCKS - 1], last_crc);
    assert_int_equal(crc32c(0,
                            test.data + (BLOCKS - 1) * (size_t)WEFT_BLOCK_SIZE,
                            WEFT_BLOCK_SIZE),
                     last_crc);
    test_done(&test);
}

/* ---- A local link whose disk hangs (link_local.h) ---- */

struct hang {
    struct test test;
    struct sim_disk_hook hook;
    struct link_user user;
    struct link_close close;
    struct store_req reqs[4];
    bool hung, is_up, is_closed;
    uint32_t done;
};

/* NOLINTBEGIN(readability-non-const-parameter): the type is sim.h's. */
static enum sim_verdict
hang_started(struct sim_disk_hook *hook, struct sim_disk *disk,
             const struct io_file_op *op, int *ret_result)
{
    (void)disk;
    (void)op;
    (void)ret_result;
    return container_of(hook, struct hang, hook)->hung ? SIM_HOLD : SIM_PASS;
}
/* NOLINTEND(readability-non-const-parameter) */

static void
hang_changed(struct link_user *user, enum link_state state)
{
    container_of(user, struct hang, user)->is_up = state == LINK_UP;
}

static void
hang_closed(struct link_close *close)
{
    container_of(close, struct hang, close)->is_closed = true;
}

static struct hang *hang_now;

static void
hang_req_done(struct store_req *req)
{
    (void)req;
    hang_now->done++;
}

static void
hang_submit(struct hang *hang, uint32_t index, uint64_t after_ns)
{
    struct test *test = &hang->test;

    hang->reqs[index] = test->req;
    hang->reqs[index].done = hang_req_done;
    hang->reqs[index].deadline_ns = io_now_ns(test->server.io) + after_ns;
    sim_node_enter(test->server.node);
    link_submit(test->local, &hang->reqs[index]);
    sim_node_leave(test->server.node);
}

static int
run_timed(struct test *test)
{
    test->req.deadline_ns = io_now_ns(test->server.io) + 10 * NS_PER_S;
    return run_by(test, &test->server, test->local);
}

/* With a deadline everything is as without. */
static void
check_timed(struct test *test)
{
    fill(test, 7, BLOCKS);
    uint32_t crc = test->crcs[5];
    struct store_req *req = prepare(test, STORE_WRITE, 0, BLOCKS);
    req->sequence = store_seq_make(1, 1);
    assert_int_equal(run_timed(test), 0);
    memset(test->data, 0, BLOCKS * WEFT_BLOCK_SIZE);
    memset(test->crcs, 0, sizeof test->crcs);
    prepare(test, STORE_READ, 5, 1);
    assert_int_equal(run_timed(test), 0);
    assert_int_equal(test->states[0], STORE_BLOCK_DATA);
    assert_int_equal(test->crcs[0], crc);
    assert_int_equal(crc32c(0, test->data, WEFT_BLOCK_SIZE), crc);
    req = prepare(test, STORE_LIST, 0, STORE_REGION_BLOCKS);
    req->list_all = 1;
    assert_int_equal(run_timed(test), 0);
    assert_int_equal(req->entries_count, BLOCKS / 16);
    assert_int_equal(test->entries[3].slot_index, 3);
}

/* Cut by hand, and closed meanwhile: it ends when the disk has answered. */
static void
check_close(struct hang *hang)
{
    struct test *test = &hang->test;

    hang->hung = true;
    prepare(test, STORE_FLUSH, 0, 0);
    hang_submit(hang, 0, 10 * NS_PER_S);
    sim_node_enter(test->server.node);
    link_cut(test->local);
    sim_node_leave(test->server.node);
    sim_run_for(test->sim, NS_PER_MS);
    assert_int_equal(hang->reqs[0].result, -ENOTCONN);
    assert_false(hang->is_up);
    hang->close.done = hang_closed;
    sim_node_enter(test->server.node);
    link_close_start(test->local, &hang->close);
    link_user_remove(test->local, &hang->user);
    sim_node_leave(test->server.node);
    sim_run_for(test->sim, NS_PER_S);
    assert_false(hang->is_closed);
    hang->hung = false;
    sim_disk_release(sim_disk_find(test->sim, "server", "/d0"), NULL);
    assert_true(sim_run_until_set(test->sim, &hang->is_closed, 10 * NS_PER_S));
}

static void
test_local_is_left_behind(void **state)
{
    struct hang hang = { .hook = { .started = hang_started }, .is_up = true };
    struct test *test = &hang.test;
    struct store_req *req;

    (void)state;
    hang_now = &hang;
    test_init(test, 3);
    create_and_fence(test);
    sim_disk_set_hook(sim_disk_find(test->sim, "server", "/d0"), &hang.hook);
    link_user_add(test->local, &hang.user, hang_changed);
    check_timed(test);

    /* The disk hangs: one request is late, and all fail, with the link. */
    hang.hung = true;
    fill(test, 8, 1);
    uint32_t crc = test->crcs[0];
    req = prepare(test, STORE_WRITE, 5, 1);
    req->sequence = store_seq_make(1, 2);
    hang_submit(&hang, 0, 10 * NS_PER_S);
    prepare(test, STORE_READ, 40, 1);
    hang_submit(&hang, 1, NS_PER_S);
    prepare(test, STORE_FLUSH, 0, 0);
    hang_submit(&hang, 2, 10 * NS_PER_S);
    sim_run_for(test->sim, 2 * NS_PER_S);
    assert_int_equal(hang.done, 3);
    assert_int_equal(hang.reqs[0].result, -ENOTCONN);
    assert_int_equal(hang.reqs[1].result, -ETIMEDOUT);
    assert_int_equal(hang.reqs[2].result, -ENOTCONN);
    assert_false(hang.is_up);
    /* Memory is ours again; nothing new is taken. */
    memset(test->data, 0xee, BLOCKS * WEFT_BLOCK_SIZE);
    memset(test->crcs, 0xee, sizeof test->crcs);
    prepare(test, STORE_READ, 40, 1);
    hang_submit(&hang, 3, 10 * NS_PER_S);
    sim_run_for(test->sim, NS_PER_MS);
    assert_int_equal(hang.done, 4);
    assert_int_equal(hang.reqs[3].result, -ENOTCONN);

    /* It goes on: all has been answered before the link is UP. */
    hang.hung = false;
    sim_disk_release(sim_disk_find(test->sim, "server", "/d0"), NULL);
    assert_true(sim_run_until_set(test->sim, &hang.is_up, 10 * NS_PER_S));
    assert_int_equal(hang.done, 4);
    for (uint32_t i = 0; i < BLOCKS * WEFT_BLOCK_SIZE; i++) {
        assert_int_equal(test->data[i], 0xee);
    }
    prepare(test, STORE_READ, 5, 1);
    assert_int_equal(run_timed(test), 0);
    assert_int_equal(test->crcs[0], crc); /* As it was submitted. */
    assert_int_equal(crc32c(0, test->data, WEFT_BLOCK_SIZE), crc);
    check_close(&hang);
    test_done(test);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_lists_and_fences),
        cmocka_unit_test(test_power_cut),
        cmocka_unit_test(test_local_is_left_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
