/* SPDX-License-Identifier: Apache-2.0 */

/* Servers that lie to the client: codec.h (1), peer_client.h (2) and (4). */

#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/crc32c.h"
#include "lib/base/units.h"
#include "tests/unit/peer_raw.h"

static void
client_world(struct peer_world *world, struct cases *cases)
{
    world_init(world, 1, NULL, cases);
    raw_init(world, &world->server_host);
    world->client_options.silence_ns = 60 * NS_PER_S; /* No PINGs here. */
    world_start(world);
    assert_true(sim_run_until_set(world->sim, &raw.is_open, NS_PER_S));
    sim_run_for(world->sim, 10 * NS_PER_MS);
    assert_true(raw_take());
    assert_int_equal(raw.head.kind, PEER_HELLO);
    raw.greeted = 1;
}

static struct peer_welcome
good_welcome(const struct peer_world *world)
{
    struct peer_welcome welcome = {
        .version = le16_make(1),
        .window_requests = le32_make(16),
        .window_bytes = le32_make(PEER_DATA_BYTES_MAX),
        .disk = world->disk,
        .host = "raw",
    };

    return welcome;
}

static void
raw_welcome(const struct peer_welcome *welcome)
{
    raw_message((struct peer_head){ .kind = PEER_WELCOME,
                                    .meta_bytes = sizeof *welcome },
                welcome, NULL);
    raw_flush();
}

/* The client has connected again. */
static void
expect_hello(struct peer_world *world)
{
    while (raw.connections == raw.greeted) {
        sim_run_for(world->sim, NS_PER_MS);
        assert_true(sim_now_ns(world->sim) < 1000 * NS_PER_S);
    }
    raw.greeted = raw.connections;
    sim_run_for(world->sim, 10 * NS_PER_MS);
    assert_true(raw_take());
    assert_int_equal(raw.head.kind, PEER_HELLO);
}

/* The client has cut, and tries again. */
static void
expect_cut(struct peer_world *world, uint64_t protocol_errors)
{
    assert_int_equal(world_info(world, 0).protocol_errors, protocol_errors);
    assert_int_equal(world->links[0]->reason, -EPROTO);
    expect_hello(world);
}

static void
spoil_welcome(struct peer_welcome *welcome, uint32_t how)
{
    switch (how) {
    case 0:
        welcome->version = le16_make(2);
        return;
    case 1:
        welcome->version = le16_make(0);
        return;
    case 2:
        welcome->window_requests = le32_make(0);
        return;
    case 3:
        welcome->window_requests = le32_make(PEER_WINDOW_REQUESTS_MAX + 1);
        return;
    case 4:
        welcome->window_bytes = le32_make(PEER_DATA_BYTES_MAX - 1);
        return;
    case 5:
        welcome->window_bytes = le32_make(PEER_WINDOW_BYTES_MAX + 1);
        return;
    case 6:
        welcome->disk.bytes[3] ^= 1;
        return;
    case 7:
        memset(welcome->host, 'x', sizeof welcome->host);
        return;
    case 8:
        welcome->features = le64_make(2); /* Not asked for. */
        return;
    default:
        fail();
    }
}

static void
test_bad_welcomes(void **state)
{
    struct peer_world world;

    (void)state;
    client_world(&world, NULL);
    for (uint32_t how = 0; how <= 8; how++) {
        struct peer_welcome welcome = good_welcome(&world);
        spoil_welcome(&welcome, how);
        raw_welcome(&welcome);
        expect_cut(&world, how + 1);
        assert_false(world.users[0].is_up);
    }
    struct peer_welcome welcome = good_welcome(&world);
    raw_welcome(&welcome);
    assert_true(world.users[0].is_up);
    raw_welcome(&welcome); /* A second one. */
    assert_true(world_wait_down(&world, NS_PER_S));
    world_free(&world);
}

/* BYE texts are for terminals and logs. */
static void
test_bye_text(void **state)
{
    struct peer_world world;
    struct peer_bye bye;

    (void)state;
    client_world(&world, NULL);
    memset(&bye, 0, sizeof bye);
    memset(bye.text, 'y', sizeof bye.text);
    bye.text[0] = '\033';
    bye.text[1] = '\n';
    bye.status = le32_make(4711);
    raw_message((struct peer_head){ .kind = PEER_BYE,
                                    .meta_bytes = sizeof bye },
                &bye, NULL);
    raw_flush();
    assert_int_equal(world.links[0]->reason, -EPROTO); /* Unknown status. */
    assert_non_null(strstr(world_info(&world, 0).reason, ": ??yyyy"));
    world_free(&world);
}

/* What the lying server does with the request it got. */
enum lie {
    LIE_ID,
    LIE_OPCODE,
    LIE_EPOCH,
    LIE_STATUS,
    LIE_COUNT,
    LIE_STATE,
    LIE_SHORT,
    LIE_LONG,
    LIE_VERSION,
    LIE_KIND,
    LIE_TWICE,
    LIE_EXTRA_DATA,
    LIE_MISSING_DATA,
    LIE_PONG,
    LIE_CREDIT,
    LIE_COUNT_OF_LIES,
};

static void
lie(enum lie how, const struct store_req *req, uint64_t id)
{
    uint8_t meta[2048] = { 0 };
    uint8_t data[2 * WEFT_BLOCK_SIZE] = { 0 };
    uint32_t count = req->block_count;
    struct peer_reply reply = {
        .epoch = le32_make(req->epoch),
        .count = le32_make(count),
    };
    struct peer_head head = {
        .kind = PEER_REPLY,
        .version = 1,
        .opcode = STORE_READ,
        .id = id,
        .meta_bytes = sizeof reply + 5 * count,
        .data_bytes = WEFT_BLOCK_SIZE,
    };
    uint32_t zero_crc = crc32c(0, data, WEFT_BLOCK_SIZE);

    /* By itself a right answer: block 0 has data, the others are absent. */
    memcpy(meta + sizeof reply, &zero_crc, 4);
    meta[sizeof reply + 4 * count] = STORE_BLOCK_DATA;
    if (how == LIE_ID) {
        head.id ^= UINT64_C(1) << 16;
    } else if (how == LIE_OPCODE) {
        head.opcode = STORE_WRITE;
        head.meta_bytes = sizeof reply;
        head.data_bytes = 0;
    } else if (how == LIE_EPOCH) {
        reply.epoch = le32_make(req->epoch ^ 1);
    } else if (how == LIE_STATUS) {
        reply.status = le32_make(PEER_STATUS_COUNT);
    } else if (how == LIE_COUNT) {
        reply.count = le32_make(count + 1);
        head.meta_bytes += 5;
    } else if (how == LIE_STATE) {
        meta[sizeof reply + 4 * count + 1] = STORE_BLOCK_BAD + 1;
    } else if (how == LIE_SHORT) {
        head.meta_bytes = sizeof reply - 1;
        head.data_bytes = 0;
    } else if (how == LIE_LONG) {
        head.meta_bytes++;
    } else if (how == LIE_VERSION) {
        head.version = 2;
    } else if (how == LIE_KIND) {
        head.kind = PEER_REQUEST;
    } else if (how == LIE_EXTRA_DATA) {
        head.data_bytes = 2 * WEFT_BLOCK_SIZE;
    } else if (how == LIE_MISSING_DATA) {
        head.data_bytes = 0;
    } else if (how == LIE_PONG) {
        head = (struct peer_head){ .kind = PEER_PONG, .version = 1, .id = 1 };
    } else if (how == LIE_CREDIT) {
        head = (struct peer_head){ .kind = PEER_CREDIT,
                                   .version = 1,
                                   .meta_bytes = 8 };
        reply.status = le32_make(1); /* One request of 5 bytes. */
        reply.epoch = le32_make(5);
    }
    memcpy(meta, &reply, sizeof reply);
    raw_message(head, meta, data);
    if (how == LIE_TWICE) {
        raw_message(head, meta, data);
    }
    raw_flush();
}

static void
test_lying_server(void **state)
{
    struct peer_world world;
    struct cases cases;
    struct rng rng;

    (void)state;
    rng_init(&rng, 3);
    cases_init(&cases, &rng, LIE_COUNT_OF_LIES, STORE_READ, 8);
    cases.may_fail = true;
    client_world(&world, &cases);
    for (uint32_t how = 0; how < LIE_COUNT_OF_LIES; how++) {
        struct peer_case *c = &cases.items[how];
        struct peer_welcome welcome = good_welcome(&world);
        if (c->req.block_count < 2) {
            c->req.block_count = 1; /* LIE_STATE: past the end is a lie, too. */
        }
        raw_welcome(&welcome);
        assert_true(world.users[0].is_up);
        if (how == LIE_TWICE) { /* The first is right. */
            c->arrivals = 1;
            c->want.result = 0;
            c->want.slot_sequence = 0;
            memset(c->want_states, STORE_BLOCK_ABSENT, c->req.block_count);
            c->want_states[0] = STORE_BLOCK_DATA;
            memset(c->want_data, 0, WEFT_BLOCK_SIZE);
            c->want_crcs[0] = crc32c(0, c->want_data, WEFT_BLOCK_SIZE);
        }
        world_submit(&world, 0, how, IO_NEVER);
        sim_run_for(world.sim, 10 * NS_PER_MS);
        assert_true(raw_take());
        assert_int_equal(raw.head.kind, PEER_REQUEST);
        lie((enum lie)how, &c->req, raw.head.id);
        expect_cut(&world, how + 1);
        assert_int_equal(c->completions, 1);
        assert_int_equal(c->req.result, how == LIE_TWICE ? 0 : -ENOTCONN);
    }
    world_free(&world);
    cases_done(&cases);
}

/* peer_client.h (2): the answer of an earlier connection is not taken for that
 * of a later request. */
static void
test_late_reply(void **state)
{
    struct peer_world world;
    struct cases cases;
    struct rng rng;

    (void)state;
    rng_init(&rng, 4);
    cases_init(&cases, &rng, 2, STORE_FLUSH, 1);
    cases.may_fail = true;
    client_world(&world, &cases);
    struct peer_welcome welcome = good_welcome(&world);
    raw_welcome(&welcome);
    world_submit(&world, 0, 0, IO_NEVER);
    sim_run_for(world.sim, 10 * NS_PER_MS);
    assert_true(raw_take());
    uint64_t former_id = raw.head.id;
    raw_close();
    assert_true(sim_run_until_set(world.sim, &raw.is_open, NS_PER_S));
    assert_int_equal(cases.items[0].req.result, -ENOTCONN);
    raw_welcome(&welcome);
    world_submit(&world, 0, 1, IO_NEVER);
    sim_run_for(world.sim, 10 * NS_PER_MS);

    struct peer_reply reply = {
        .epoch = le32_make(cases.items[1].req.epoch),
    };
    raw_message((struct peer_head){ .kind = PEER_REPLY,
                                    .version = 1,
                                    .opcode = STORE_FLUSH,
                                    .id = former_id,
                                    .meta_bytes = sizeof reply },
                &reply, NULL);
    raw_flush();
    assert_int_equal(cases.items[1].completions, 1);
    assert_int_equal(cases.items[1].req.result, -ENOTCONN);
    assert_int_equal(world_info(&world, 0).protocol_errors, 1);
    world_free(&world);
    cases_done(&cases);
}

static void
test_garbage_to_client(void **state)
{
    struct peer_world world;
    struct cases cases;
    struct rng rng;

    (void)state;
    rng_init(&rng, 6);
    cases_init(&cases, &rng, 600, 0, 4);
    cases.may_fail = true;
    client_world(&world, &cases);
    world.meddling[0].passed = 0;
    for (uint32_t round = 0; round < 300; round++) {
        struct peer_welcome welcome = good_welcome(&world);
        uint8_t meta[2048];

        raw_welcome(&welcome);
        assert_true(world.users[0].is_up);
        world_submit(&world, 0, 2 * round, IO_NEVER);
        world_submit(&world, 0, 2 * round + 1, IO_NEVER);
        sim_run_for(world.sim, 10 * NS_PER_MS);
        assert_true(raw_take());
        rng_fill(&rng, meta, sizeof meta);
        struct peer_head head = {
            .kind = (enum peer_kind)rng_between(&rng, 1, 8),
            .version = (uint8_t)rng_below(&rng, 2),
            .opcode = raw.head.opcode,
            .id = raw.head.id,
            .meta_bytes = raw_fair_size(&rng),
        };
        if (rng_chance(&rng, 1, 2)) {
            head.kind = PEER_REPLY;
            head.version = 1;
            memset(meta, 0, 1);
        }
        raw_message(head, meta, NULL);
        raw_add(meta, (uint32_t)rng_below(&rng, sizeof meta));
        raw_flush();
        if (raw.connections == raw.greeted) {
            raw_close(); /* It has not cut: it waits for more. */
        }
        raw.is_sending = false;
        raw.out_bytes = 0;
        expect_hello(&world);
        assert_int_equal(cases.completed, 2 * round + 2);
    }
    world_free(&world);
    cases_done(&cases);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_welcomes),
        cmocka_unit_test(test_bye_text),
        cmocka_unit_test(test_lying_server),
        cmocka_unit_test(test_late_reply),
        cmocka_unit_test(test_garbage_to_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
