/* SPDX-License-Identifier: Apache-2.0 */

/* Clients that lie to the server: codec.h (1) and (2), peer_server.h (4). */

#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "tests/unit/peer_raw.h"

static struct peer_hello
good_hello(const struct peer_world *world)
{
    struct peer_hello hello = {
        .version_min = le16_make(1),
        .version_max = le16_make(1),
        .cluster = world->cluster,
        .disk = world->disk,
        .link = le64_make(1234),
        .host = "raw",
    };

    return hello;
}

static void
raw_hello(const struct peer_hello *hello)
{
    raw_message((struct peer_head){ .kind = PEER_HELLO,
                                    .meta_bytes = sizeof *hello },
                hello, NULL);
}

static void
server_world(struct peer_world *world, uint64_t seed, struct cases *cases)
{
    struct sim_options options;

    sim_options_default(&options);
    options.arena_bytes = 4 * MIB;
    world_init(world, seed, &options, cases);
    world->server_options.bytes_max = MIB;
    world->server_options.conn_bytes_max = MIB;
    world->server_options.conn_requests_max = 4;
    world->server_options.requests_max = 16;
    world->server_options.conns_max = 4;
    raw_init(world, &world->client);
    world_start(world);
}

static void
expect_bye(enum peer_status status, const char *text)
{
    struct peer_bye bye;

    while (raw_take() && raw.head.kind != PEER_BYE) {
    }
    assert_int_equal(raw.head.kind, PEER_BYE);
    assert_int_equal(raw.head.meta_bytes, sizeof bye);
    memcpy(&bye, raw.meta, sizeof bye);
    assert_int_equal(le32_get(bye.status), status);
    assert_int_equal(bye.text[sizeof bye.text - 1], 0);
    if (strstr(bye.text, text) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", text, bye.text);
    }
    assert_true(sim_run_until_set(raw.world->sim, &raw.is_closed, NS_PER_S));
}

/* The server still serves. */
static void
expect_alive(struct peer_world *world)
{
    struct peer_hello hello = good_hello(world);

    raw_connect();
    raw_hello(&hello);
    raw_message((struct peer_head){ .kind = PEER_PING, .version = 1, .id = 77 },
                NULL, NULL);
    raw_flush();
    assert_true(raw_take());
    assert_int_equal(raw.head.kind, PEER_WELCOME);
    assert_true(raw_take());
    assert_int_equal(raw.head.kind, PEER_PONG);
    assert_int_equal(raw.head.id, 77);
    raw_close();
    sim_run_for(world->sim, 10 * NS_PER_MS);
    assert_int_equal(world_stats(world).conns, 0);
}

static void
test_versions(void **state)
{
    struct peer_world world;
    struct peer_hello hello;
    struct peer_welcome welcome;

    (void)state;
    server_world(&world, 1, NULL);
    hello = good_hello(&world);
    hello.version_min = le16_make(2);
    hello.version_max = le16_make(3);
    raw_connect();
    raw_hello(&hello);
    raw_flush();
    expect_bye(PEER_E_VERSION,
               "versions 1 to 1 of the peer protocol, not 2 to 3");

    hello.version_min = le16_make(0);
    hello.version_max = le16_make(0);
    raw_connect();
    raw_hello(&hello);
    raw_flush();
    expect_bye(PEER_E_VERSION, "not 0 to 0");

    hello.version_min = le16_make(3);
    hello.version_max = le16_make(2);
    raw_connect();
    raw_hello(&hello);
    raw_flush();
    expect_bye(PEER_E_PROTOCOL, "malformed HELLO");

    /* A newer client that still speaks ours; unknown features are left out. */
    hello.version_min = le16_make(1);
    hello.version_max = le16_make(9);
    hello.features = le64_make(UINT64_MAX);
    raw_connect();
    raw_hello(&hello);
    raw_flush();
    assert_true(raw_take());
    assert_int_equal(raw.head.kind, PEER_WELCOME);
    memcpy(&welcome, raw.meta, sizeof welcome);
    assert_int_equal(le16_get(welcome.version), 1);
    assert_int_equal(le64_get(welcome.features), PEER_FEATURES);
    assert_int_equal(le32_get(welcome.window_requests), 4);
    assert_int_equal(le32_get(welcome.window_bytes), MIB);
    assert_int_equal(le32_get(welcome.silence_ms), 2000);
    assert_string_equal(welcome.host, "the-server");
    raw_close();
    expect_alive(&world);
    world_free(&world);
}

static void
test_bad_first_messages(void **state)
{
    struct peer_world world;
    struct peer_hello hello;

    (void)state;
    server_world(&world, 1, NULL);
    raw_connect();
    raw_message((struct peer_head){ .kind = PEER_PING, .version = 1 }, NULL,
                NULL);
    raw_flush();
    expect_bye(PEER_E_PROTOCOL, "first message is not a HELLO");

    hello = good_hello(&world);
    memset(hello.host, 'x', sizeof hello.host);
    raw_connect();
    raw_hello(&hello);
    raw_flush();
    expect_bye(PEER_E_PROTOCOL, "malformed HELLO");

    hello = good_hello(&world);
    raw_connect();
    raw_hello(&hello);
    raw_hello(&hello);
    raw_flush();
    expect_bye(PEER_E_PROTOCOL, "second HELLO");

    /* Nothing at all. */
    raw_connect();
    assert_true(sim_run_until_set(world.sim, &raw.is_closed, 2500 * NS_PER_MS));
    assert_int_equal(raw.in_bytes, 0);
    assert_int_equal(world_stats(&world).silences, 1);
    expect_alive(&world);
    world_free(&world);
}

static void
test_window_exceeded(void **state)
{
    struct peer_world world;
    struct cases cases;
    struct rng rng;
    uint8_t fixed[PEER_REQUEST_FIXED_MAX];
    struct peer_shape shape;

    (void)state;
    rng_init(&rng, 1);
    cases_init(&cases, &rng, 5, STORE_FLUSH, 1);
    server_world(&world, 1, &cases);
    world.store.holds = true;
    struct peer_hello hello = good_hello(&world);
    raw_connect();
    raw_hello(&hello);
    for (uint32_t i = 0; i < 5; i++) {
        cases.items[i].order = i + 1;
        assert_int_equal(peer_request_encode(&cases.items[i].req, fixed,
                                             &shape),
                         0);
        raw_message((struct peer_head){ .kind = PEER_REQUEST,
                                        .version = 1,
                                        .opcode = STORE_FLUSH,
                                        .id = i,
                                        .meta_bytes =
                                            sizeof(struct peer_request) },
                    fixed, NULL);
    }
    raw_flush();
    expect_bye(PEER_E_PROTOCOL, "more requests than the window allows");
    sim_run_for(world.sim, 10 * NS_PER_MS);
    assert_int_equal(world.store.in_flight, 4);
    sim_node_enter(world.server_host.node);
    fake_store_release(&world.store);
    sim_node_leave(world.server_host.node);
    sim_run_for(world.sim, 10 * NS_PER_MS);
    assert_int_equal(world_stats(&world).in_flight, 0);
    expect_alive(&world);
    world_free(&world);
    cases_done(&cases);
}

/* A store that takes anything: what matters is that nothing breaks. */
static void
take_anything(struct link *link, struct store_req *req)
{
    struct fake_store *store = container_of(link, struct fake_store, link);

    assert_true(req->opcode >= STORE_READ);
    assert_true(req->opcode <= STORE_REMOVE);
    assert_true(req->epoch <= STORE_EPOCH_MAX);
    assert_true(req->block <= PEER_BLOCK_MAX);
    if (req->opcode == STORE_WRITE || req->opcode == STORE_READ ||
        req->opcode == STORE_PUT_SLOT) {
        assert_true(req->block_count >= 1);
        assert_true(req->block_count <= STORE_REQ_BLOCKS_MAX);
        assert_true(req->layer >= STORE_LAYER_FIRST);
        memset(req->data, 0x11, (size_t)req->block_count * WEFT_BLOCK_SIZE);
    }
    if (req->opcode == STORE_SET_VIEW || req->opcode == STORE_CREATE) {
        assert_true(req->membership.in_sync_count <= STORE_REPLICAS_MAX);
    }
    if (req->opcode == STORE_READ) {
        memset(req->states, STORE_BLOCK_ZERO, req->block_count);
    }
    if (req->opcode == STORE_LIST) {
        assert_true(req->entries_max >= 1);
        assert_true(req->entries_max <= PEER_ENTRIES_MAX);
        memset(req->entries, 0, req->entries_max * sizeof *req->entries);
        req->entries_count = req->entries_max;
    }
    req->result = 0;
    list_init(&req->node);
    list_push_back(&store->pending, &req->node);
    io_timer_set(link->io, &store->timer, io_now_ns(link->io));
}

static void
anything_done(struct io_timer *timer)
{
    struct fake_store *store = container_of(timer, struct fake_store, timer);
    struct list *node;

    while ((node = list_pop_front(&store->pending)) != NULL) {
        struct store_req *req = container_of(node, struct store_req, node);
        req->done(req);
    }
}

static const struct link_vtable anything_vtable = {
    .submit = take_anything,
};

/* Well-formed or nearly so: random kinds, opcodes, sizes, small numbers. */
static void
random_message(struct rng *rng)
{
    uint8_t meta[2048];
    struct peer_head head = {
        .kind = (enum peer_kind)rng_between(rng, 1, 8),
        .version = rng_chance(rng, 9, 10) ? 1 : 0,
        .opcode = (uint16_t)rng_between(rng, 0, 11),
        .id = rng_below(rng, 4),
        .meta_bytes = raw_fair_size(rng),
        .data_bytes = (uint32_t)rng_below(rng, 3) * WEFT_BLOCK_SIZE,
    };

    if (rng_chance(rng, 4, 5)) {
        head.kind = PEER_REQUEST;
        head.version = 1;
    }
    rng_fill(rng, meta, sizeof meta);
    if (rng_chance(rng, 7, 8)) {
        struct peer_request request;
        memset(&request, 0, sizeof request);
        request.block_count = le32_make((uint32_t)rng_below(rng, 4));
        request.layer = le32_make((uint32_t)rng_below(rng, 2));
        request.entries_max = le32_make((uint32_t)rng_below(rng, 40));
        memcpy(meta, &request, sizeof request);
        for (uint32_t i = sizeof request; i < sizeof meta; i++) {
            meta[i] &= 3;
        }
        uint32_t fixed = peer_request_fixed_bytes(head.opcode);
        uint32_t count = le32_get(request.block_count);
        if (fixed != 0 && rng_chance(rng, 7, 8)) {
            head.meta_bytes = fixed;
            head.data_bytes = 0;
            if (head.opcode == STORE_WRITE) {
                head.meta_bytes += 4 * count;
                head.data_bytes = count * WEFT_BLOCK_SIZE;
            } else if (head.opcode == STORE_PUT_SLOT) {
                head.meta_bytes += 5 * count;
                for (uint32_t i = 0; i < count; i++) {
                    head.data_bytes +=
                        (meta[fixed + 4 * count + i] == STORE_BLOCK_DATA) *
                        WEFT_BLOCK_SIZE;
                }
            }
        }
    }
    raw_message(head, meta, NULL);
    for (uint32_t i = 0; i < head.data_bytes; i++) {
        raw.out[raw.out_bytes++] = 0;
    }
}

static void
test_garbage_to_server(void **state)
{
    struct peer_world world;
    struct rng rng;
    struct peer_hello hello;
    uint64_t requests;

    (void)state;
    rng_init(&rng, 5);
    server_world(&world, 5, NULL);
    world.store.link.vtable = &anything_vtable;
    world.store.timer.fire = anything_done;
    hello = good_hello(&world);
    for (uint32_t round = 0; round < 1500; round++) {
        hello.link = le64_make(round);
        raw_connect();
        if (!rng_chance(&rng, 1, 8)) {
            raw_hello(&hello);
        }
        uint64_t count = rng_between(&rng, 1, 4);
        for (; count != 0; count--) {
            random_message(&rng);
        }
        if (rng_chance(&rng, 1, 3)) { /* Plain damage. */
            raw.out[rng_below(&rng, raw.out_bytes)] ^=
                (uint8_t)rng_between(&rng, 1, 255);
        }
        if (rng_chance(&rng, 1, 3)) { /* Truncated. */
            raw.out_bytes = (uint32_t)rng_between(&rng, 1, raw.out_bytes);
        }
        raw_flush();
        raw_close();
        raw.is_sending = false;
        raw.out_bytes = 0;
    }
    requests = world_stats(&world).requests;
    assert_true(requests > 500);
    sim_run_for(world.sim, 100 * NS_PER_MS);
    assert_int_equal(world_stats(&world).in_flight, 0);
    expect_alive(&world);
    world_free(&world);
}

/* Asks and never reads: cut, and the memory comes back. */
static void
test_never_reads(void **state)
{
    struct peer_world world;
    struct sim_options options;
    struct peer_hello hello;
    struct peer_request request;

    (void)state;
    sim_options_default(&options);
    options.net.window_bytes = 16384;
    options.arena_bytes = 4 * MIB;
    world_init(&world, 5, &options, NULL);
    world.server_options.bytes_max = MIB;
    world.server_options.conn_bytes_max = MIB;
    raw_init(&world, &world.client);
    world_start(&world);
    world.store.link.vtable = &anything_vtable;
    world.store.timer.fire = anything_done;
    hello = good_hello(&world);
    memset(&request, 0, sizeof request);
    request.entries_max = le32_make(10000);
    raw_connect();
    sim_node_enter(world.client.node);
    io_conn_pause(world.client.io, &raw.conn);
    sim_node_leave(world.client.node);
    raw_hello(&hello);
    for (uint32_t i = 0; i < 4; i++) {
        raw_message((struct peer_head){ .kind = PEER_REQUEST,
                                        .version = 1,
                                        .opcode = STORE_LIST,
                                        .id = i,
                                        .meta_bytes = sizeof request },
                    &request, NULL);
    }
    raw_flush();
    assert_int_equal(world_stats(&world).in_flight, 4);
    for (uint32_t i = 0; i < 10 && raw.is_open; i++) { /* It is not silent. */
        raw_message((struct peer_head){ .kind = PEER_PING, .version = 1 }, NULL,
                    NULL);
        raw_flush();
        sim_run_for(world.sim, 300 * NS_PER_MS);
    }
    assert_int_equal(world_stats(&world).silences, 1);
    assert_int_equal(world_stats(&world).in_flight, 0);
    assert_int_equal(world_stats(&world).conns, 0);
    world_free(&world);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_bad_first_messages),
        cmocka_unit_test(test_window_exceeded),
        cmocka_unit_test(test_garbage_to_server),
        cmocka_unit_test(test_never_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
