/* SPDX-License-Identifier: Apache-2.0 */

/* The handshake of the NBD server: each option, right and wrong, byte by byte
 * (NBD doc/proto.md; blockd/export/nbd.h (1)). */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/nbd_fixture.h"

/* HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, MULTI_CONN, FAST_ZERO. */
#define FLAGS_SIMPLE 0x096d
#define FLAGS_STRUCTURED 0x09ed /* And DF. */

static struct world world;
static struct client client;

static void
setup(uint32_t flags)
{
    world_init(&world, NULL);
    client_connect(&client, &world);
    client_greet(&client, flags);
}

static void
teardown(void)
{
    client_drop(&client);
    world_done(&world);
}

static void
expect_export(uint32_t option, uint64_t size, uint16_t flags)
{
    struct nbd_info_export about = {
        .type = be16_make(NBD_INFO_EXPORT),
        .size_bytes = be64_make(size),
        .flags = be16_make(flags),
    };
    struct nbd_info_block_size sizes = {
        .type = be16_make(NBD_INFO_BLOCK_SIZE),
        .minimum = be32_make(1),
        .preferred = be32_make(4096),
        .maximum = be32_make(32 << 20),
    };
    expect_reply(&client, option, NBD_REP_INFO, &about, sizeof about);
    expect_reply(&client, option, NBD_REP_INFO, &sizes, sizeof sizes);
}

/* A read that must be answered: the transmission phase has been reached. */
static void
expect_transmission(void)
{
    client_request(&client, 0, NBD_CMD_FLUSH, 77, 0, 0);
    expect_simple(&client, 77, 0);
}

static void
structured(void)
{
    client_option(&client, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    expect_reply(&client, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
}

/* ---- Export name, go, info ---- */

static void
test_export_name(void **state)
{
    uint8_t reply[134] = { 0 };
    struct be64 size = be64_make(VOLUME_BYTES);
    struct be16 flags = be16_make(FLAGS_SIMPLE);
    (void)state;

    memcpy(reply, &size, 8);
    memcpy(reply + 8, &flags, 2);
    for (uint32_t mode = 0; mode < 4; mode++) {
        setup(mode); /* Neither, fixed, no zeroes, both. */
        client_option(&client, NBD_OPT_EXPORT_NAME, EXPORT, 3);
        expect_bytes(&client, reply, (mode & 2) != 0 ? 10 : 134);
        expect_transmission();
        teardown();
    }
}

static void
test_export_name_unknown(void **state)
{
    (void)state;
    setup(3);
    client_option(&client, NBD_OPT_EXPORT_NAME, "p/x", 3);
    expect_closed(&client);
    teardown();

    /* Two exports: no default. */
    setup(3);
    client_option(&client, NBD_OPT_EXPORT_NAME, "", 0);
    expect_closed(&client);
    teardown();

    uint8_t *name = calloc(1, 9000);
    assert_non_null(name);
    setup(3);
    client_option(&client, NBD_OPT_EXPORT_NAME, name, 9000);
    expect_closed(&client);
    teardown();
    free(name);
}

static void
test_info_and_go(void **state)
{
    uint8_t data[100];
    uint32_t size;
    (void)state;

    setup(3);
    size = make_go(data, OTHER);
    client_option(&client, NBD_OPT_INFO, data, size);
    expect_export(NBD_OPT_INFO, OTHER_BYTES, FLAGS_SIMPLE);
    expect_reply(&client, NBD_OPT_INFO, NBD_REP_ACK, NULL, 0);

    structured();
    size = make_name(data, EXPORT);
    static const uint8_t wanted[] = {
        0, 3, 0, NBD_INFO_NAME, 0, NBD_INFO_BLOCK_SIZE, 0, 0x63
    };
    memcpy(data + size, wanted, sizeof wanted);
    client_option(&client, NBD_OPT_GO, data, size + 8);
    expect_export(NBD_OPT_GO, VOLUME_BYTES, FLAGS_STRUCTURED);
    expect_reply(&client, NBD_OPT_GO, NBD_REP_INFO, "\0\1" EXPORT, 5);
    expect_reply(&client, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
    expect_transmission();
    assert_int_equal(nbd_export_clients(world.nbd_export), 1);
    assert_int_equal(nbd_export_clients(world.other), 0);
    teardown();
}

static void
other_removed(void *owner)
{
    struct world *of = owner;
    of->removed++;
}

/* An empty name is the only export there is. */
static void
test_default_export(void **state)
{
    uint8_t data[100];
    (void)state;

    setup(3);
    sim_node_enter(world.server_node);
    nbd_export_remove(world.other, other_removed, &world);
    sim_node_leave(world.server_node);
    world.other = NULL;
    client_option(&client, NBD_OPT_GO, data, make_go(data, ""));
    expect_export(NBD_OPT_GO, VOLUME_BYTES, FLAGS_SIMPLE);
    expect_reply(&client, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
    expect_transmission();
    client_option(&client, NBD_OPT_INFO, data, make_go(data, EXPORT));
    client_option(&client, NBD_OPT_INFO, data, make_go(data, EXPORT));
    expect_closed(&client); /* (an option is no request) */
    teardown();
}

static void
test_go_refused(void **state)
{
    static const struct {
        const char *data;
        uint32_t size, error;
    } cases[] = {
        { "", 0, NBD_REP_ERR_INVALID },
        { "\0\0\0\0\0", 5, NBD_REP_ERR_INVALID },
        { "\0\0\0\3p/x\0\0", 9, NBD_REP_ERR_UNKNOWN },
        { "\0\0\0\4p/v\0\0\0", 10, NBD_REP_ERR_UNKNOWN }, /* A NUL in it. */
        { "\0\0\0\2p/\0\0", 8, NBD_REP_ERR_UNKNOWN },
        { "\0\0\0\4p/v\0\0", 9, NBD_REP_ERR_INVALID },
        { "\xff\xff\xff\xffp/v\0\0", 9, NBD_REP_ERR_INVALID },
        { "\0\0\0\3p/v\0\1", 9, NBD_REP_ERR_INVALID },
        { "\0\0\0\3p/v\0\0\0\0", 11, NBD_REP_ERR_INVALID },
        { "\0\0\0\3p/v\xff\xff\0\0", 11, NBD_REP_ERR_INVALID },
        { "\0\0\0\0\0\0", 6, NBD_REP_ERR_UNKNOWN }, /* No default of two. */
    };
    uint8_t data[100];
    (void)state;

    setup(3);
    for (uint32_t option = NBD_OPT_INFO; option <= NBD_OPT_GO; option++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            client_option(&client, option, cases[i].data, cases[i].size);
            expect_refusal(&client, option, cases[i].error);
        }
    }
    /* It goes on all the same. */
    client_option(&client, NBD_OPT_GO, data, make_go(data, EXPORT));
    expect_export(NBD_OPT_GO, VOLUME_BYTES, FLAGS_SIMPLE);
    expect_reply(&client, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
    expect_transmission();
    teardown();
}

/* ---- The others ---- */

static void
test_list(void **state)
{
    (void)state;
    setup(3);
    client_option(&client, NBD_OPT_LIST, NULL, 0);
    expect_reply(&client, NBD_OPT_LIST, NBD_REP_SERVER, "\0\0\0\3" EXPORT, 7);
    expect_reply(&client, NBD_OPT_LIST, NBD_REP_SERVER, "\0\0\0\7" OTHER, 11);
    expect_reply(&client, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0);
    client_option(&client, NBD_OPT_LIST, "x", 1);
    expect_refusal(&client, NBD_OPT_LIST, NBD_REP_ERR_INVALID);
    teardown();
}

/* An export that is being removed is not offered any more. */
static void
test_list_while_removing(void **state)
{
    uint8_t data[100];
    (void)state;

    setup(3);
    world_remove(&world);
    client_option(&client, NBD_OPT_LIST, NULL, 0);
    expect_reply(&client, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0);
    client_option(&client, NBD_OPT_GO, data, make_go(data, EXPORT));
    expect_refusal(&client, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
    teardown();
}

static void
test_many_exports(void **state)
{
    enum { COUNT = 1500 };
    static struct nbd_export *exports[COUNT];
    char name[420];
    uint32_t replies = 0;
    (void)state;

    setup(3);
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "%0400u", i);
        sim_node_enter(world.server_node);
        assert_int_equal(nbd_export_add(world.server, name, world.volume,
                                        &exports[i]),
                         0);
        sim_node_leave(world.server_node);
    }
    sim_node_enter(world.server_node);
    struct nbd_export *more = NULL;
    assert_int_equal(nbd_export_add(world.server, name, world.volume, &more),
                     -EEXIST);
    memset(name, 'x', 401);
    name[401] = 0;
    assert_int_equal(nbd_export_add(world.server, name, world.volume, &more),
                     -EINVAL);
    assert_int_equal(nbd_export_add(world.server, "", world.volume, &more),
                     -EINVAL);
    assert_null(more);
    sim_node_leave(world.server_node);

    /* Again and again without reading: one answer is under way, the others
     * wait for it. */
    for (uint32_t i = 0; i < 100; i++) {
        client_option(&client, NBD_OPT_LIST, NULL, 0);
    }
    for (uint32_t i = 0; i < 100; i++) {
        for (;;) {
            struct nbd_option_reply reply;
            client_copy(&client, &reply, sizeof reply);
            client_copy(&client, NULL, be32_get(reply.size));
            if (be32_get(reply.type) == NBD_REP_ACK) {
                break;
            }
            assert_int_equal(be32_get(reply.type), NBD_REP_SERVER);
            replies++;
        }
    }
    assert_int_equal(replies, 100 * (COUNT + 2));
    struct world ignored = { 0 };
    for (uint32_t i = 0; i < COUNT; i++) {
        sim_node_enter(world.server_node);
        nbd_export_remove(exports[i], other_removed, &ignored);
        sim_node_leave(world.server_node);
    }
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(ignored.removed, COUNT);
    teardown();
}

static void
test_abort(void **state)
{
    (void)state;
    setup(3);
    client_option(&client, NBD_OPT_ABORT, NULL, 0);
    expect_reply(&client, NBD_OPT_ABORT, NBD_REP_ACK, NULL, 0);
    expect_closed(&client);
    assert_int_equal(client.reason, 0);
    teardown();
}

static void
test_unknown_options(void **state)
{
    static const uint32_t options[] = { 0, 4, 5, 11, 12, 99, UINT32_MAX };
    uint8_t *data = calloc(1, 100000);
    (void)state;

    assert_non_null(data);
    setup(3);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        client_option(&client, options[i], data, (uint32_t)i * 5);
        expect_refusal(&client, options[i], NBD_REP_ERR_UNSUP);
    }
    /* Too long to be gathered: skipped, and the next one is understood. */
    client_option(&client, 99, data, 8193);
    client_option(&client, NBD_OPT_GO, data, 100000);
    client_option(&client, NBD_OPT_LIST, "y", 1);
    expect_refusal(&client, 99, NBD_REP_ERR_TOO_BIG);
    expect_refusal(&client, NBD_OPT_GO, NBD_REP_ERR_TOO_BIG);
    expect_refusal(&client, NBD_OPT_LIST, NBD_REP_ERR_INVALID);
    /* As long as can be. */
    client_option(&client, 99, data, 8192);
    expect_refusal(&client, 99, NBD_REP_ERR_UNSUP);
    /* Absurd: cut. */
    client_option(&client, 99, data, 0);
    expect_refusal(&client, 99, NBD_REP_ERR_UNSUP);
    struct nbd_option_header header = {
        .magic = be64_make(NBD_OPTION_MAGIC),
        .option = be32_make(99),
        .size = be32_make(UINT32_MAX),
    };
    client_send(&client, &header, sizeof header);
    expect_closed(&client);
    teardown();
    free(data);
}

static void
test_wrong_beginnings(void **state)
{
    (void)state;
    /* Flags that nobody has defined. */
    setup(7);
    expect_closed(&client);
    teardown();

    setup(3);
    client_send(&client, "IHAVEOPX\0\0\0\3\0\0\0\0", 16);
    expect_closed(&client);
    teardown();

    /* Who does not say "fixed newstyle" knows no replies. */
    setup(0);
    client_option(&client, NBD_OPT_LIST, NULL, 0);
    expect_closed(&client);
    teardown();
}

/* ---- Contexts ---- */

static uint32_t
make_context(uint8_t *to, const char *name, uint32_t count, const char *query)
{
    uint32_t size = make_name(to, name);
    struct be32 wire = be32_make(count);

    memcpy(to + size, &wire, sizeof wire);
    size += 4;
    for (uint32_t i = 0; i < count; i++) {
        size += make_name(to + size, query);
    }
    return size;
}

static void
test_contexts_listed(void **state)
{
    static const char *queries[] = { "base:", "base:allocation" };
    uint8_t data[200];
    const uint32_t list = NBD_OPT_LIST_META_CONTEXT;
    (void)state;

    setup(3);
    client_option(&client, list, data, make_context(data, EXPORT, 0, ""));
    expect_refusal(&client, list, NBD_REP_ERR_INVALID);
    structured();
    client_option(&client, list, data, make_context(data, EXPORT, 0, ""));
    expect_reply(&client, list, NBD_REP_META_CONTEXT,
                 "\0\0\0\0" NBD_CONTEXT_ALLOCATION, 19);
    expect_reply(&client, list, NBD_REP_ACK, NULL, 0);
    for (size_t i = 0; i < 2; i++) {
        client_option(&client, list, data,
                      make_context(data, OTHER, 2, queries[i]));
        expect_reply(&client, list, NBD_REP_META_CONTEXT,
                     "\0\0\0\0" NBD_CONTEXT_ALLOCATION, 19);
        expect_reply(&client, list, NBD_REP_ACK, NULL, 0);
    }
    client_option(&client, list, data,
                  make_context(data, EXPORT, 3, "qemu:dirty-bitmap:x"));
    expect_reply(&client, list, NBD_REP_ACK, NULL, 0);
    client_option(&client, list, data, make_context(data, "p/x", 0, ""));
    expect_refusal(&client, list, NBD_REP_ERR_UNKNOWN);
    teardown();
}

static void
test_contexts_malformed(void **state)
{
    uint8_t data[200];
    (void)state;

    setup(3);
    structured();
    for (uint32_t option = NBD_OPT_LIST_META_CONTEXT;
         option <= NBD_OPT_SET_META_CONTEXT; option++) {
        uint32_t size = make_context(data, EXPORT, 2, NBD_CONTEXT_ALLOCATION);
        for (uint32_t cut = 0; cut < size; cut++) {
            client_option(&client, option, data, cut);
            expect_refusal(&client, option, NBD_REP_ERR_INVALID);
        }
        client_option(&client, option, data, size + 1);
        expect_refusal(&client, option, NBD_REP_ERR_INVALID);
        memset(data, 0xff, 4); /* The name's size. */
        client_option(&client, option, data, size);
        expect_refusal(&client, option, NBD_REP_ERR_INVALID);
        size = make_context(data, EXPORT, 2, NBD_CONTEXT_ALLOCATION);
        memset(data + 7, 0xff, 4); /* The count. */
        client_option(&client, option, data, size);
        expect_refusal(&client, option, NBD_REP_ERR_INVALID);
        size = make_context(data, EXPORT, 1, NBD_CONTEXT_ALLOCATION);
        memset(data + 11, 0xff, 4); /* The query's size. */
        client_option(&client, option, data, size);
        expect_refusal(&client, option, NBD_REP_ERR_INVALID);
    }
    teardown();
}

static void
set_context(const char *name, const char *query, bool expected)
{
    const uint32_t set = NBD_OPT_SET_META_CONTEXT;
    uint8_t data[200];

    client_option(&client, set, data, make_context(data, name, 1, query));
    if (expected) {
        expect_reply(&client, set, NBD_REP_META_CONTEXT,
                     "\0\0\0\1" NBD_CONTEXT_ALLOCATION, 19);
    }
    expect_reply(&client, set, NBD_REP_ACK, NULL, 0);
}

static void
go_and_ask(bool expected)
{
    uint8_t data[100];

    client_option(&client, NBD_OPT_GO, data, make_go(data, EXPORT));
    expect_export(NBD_OPT_GO, VOLUME_BYTES, FLAGS_STRUCTURED);
    expect_reply(&client, NBD_OPT_GO, NBD_REP_ACK, NULL, 0);
    client_request(&client, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 9, 0,
                   4096);
    if (expected) {
        expect_chunk(&client, 9, NBD_REPLY_FLAG_DONE,
                     NBD_REPLY_TYPE_BLOCK_STATUS, 12);
        expect_bytes(&client, "\0\0\0\1\0\0\x10\0\0\0\0\3", 12);
    } else {
        expect_error_chunk(&client, 9, NBD_EINVAL);
    }
}

/* What was set counts for the export that was named, until the next SET. */
static void
test_context_binding(void **state)
{
    uint8_t data[100];
    (void)state;

    setup(3);
    structured();
    set_context(EXPORT, NBD_CONTEXT_ALLOCATION, true);
    /* INFO on another does not matter. */
    client_option(&client, NBD_OPT_INFO, data, make_go(data, OTHER));
    expect_export(NBD_OPT_INFO, OTHER_BYTES, FLAGS_STRUCTURED);
    expect_reply(&client, NBD_OPT_INFO, NBD_REP_ACK, NULL, 0);
    go_and_ask(true);
    teardown();

    setup(3);
    structured();
    set_context(OTHER, NBD_CONTEXT_ALLOCATION, true);
    go_and_ask(false);
    teardown();

    setup(3);
    structured();
    set_context(EXPORT, NBD_CONTEXT_ALLOCATION, true);
    set_context(EXPORT, "base:", false); /* (a wildcard only for LIST) */
    go_and_ask(false);
    teardown();

    setup(3);
    structured();
    set_context(EXPORT, NBD_CONTEXT_ALLOCATION, true);
    client_option(&client, NBD_OPT_SET_META_CONTEXT, "x", 1);
    expect_refusal(&client, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
    go_and_ask(false);
    teardown();
}

static void
test_structured_twice(void **state)
{
    (void)state;
    setup(3);
    client_option(&client, NBD_OPT_STRUCTURED_REPLY, "x", 1);
    expect_refusal(&client, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID);
    structured();
    structured();
    teardown();
}

/* A client that does not come to the point is cut. */
static void
test_handshake_late(void **state)
{
    (void)state;
    setup(3);
    sim_run_for(world.sim, 29 * NS_PER_S);
    client_option(&client, NBD_OPT_LIST, "x", 1);
    expect_refusal(&client, NBD_OPT_LIST, NBD_REP_ERR_INVALID);
    sim_run_for(world.sim, 2 * NS_PER_S);
    expect_closed(&client);
    teardown();

    /* Once it has, it may take its time. */
    world_init(&world, NULL);
    client_open(&client, &world, false, false);
    sim_run_for(world.sim, 3600 * NS_PER_S);
    expect_transmission();
    teardown();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_export_name),
        cmocka_unit_test(test_export_name_unknown),
        cmocka_unit_test(test_info_and_go),
        cmocka_unit_test(test_default_export),
        cmocka_unit_test(test_go_refused),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_list_while_removing),
        cmocka_unit_test(test_many_exports),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_unknown_options),
        cmocka_unit_test(test_wrong_beginnings),
        cmocka_unit_test(test_contexts_listed),
        cmocka_unit_test(test_contexts_malformed),
        cmocka_unit_test(test_context_binding),
        cmocka_unit_test(test_structured_twice),
        cmocka_unit_test(test_handshake_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
