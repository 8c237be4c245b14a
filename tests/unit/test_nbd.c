/* SPDX-License-Identifier: Apache-2.0 */

/* The NBD server's transmission phase: each command, right and wrong, and its
 * replies byte by byte (NBD doc/proto.md; blockd/export/nbd_internal.h). */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/nbd_fixture.h"

#define FUA NBD_CMD_FLAG_FUA
#define DONE NBD_REPLY_FLAG_DONE

static struct world world;
static struct client client;
static uint8_t *scratch; /* 33 MiB, zeros at the start of a test. */

static void
setup(bool structured)
{
    world_init(&world, NULL);
    client_open(&client, &world, structured, structured);
    memset(scratch, 0, 33 * MIB);
}

static void
teardown(void)
{
    client_drop(&client);
    world_done(&world);
}

static struct ram_volume_stats
stats(void)
{
    struct ram_volume_stats now;
    ram_volume_stats(world.volume, &now);
    return now;
}

/* Fills the volume, as data. */
static void
fill_volume(uint64_t offset, size_t size)
{
    fill_pattern(scratch, offset, size, 0);
    client_request(&client, 0, NBD_CMD_WRITE, 1, offset, (uint32_t)size);
    client_send(&client, scratch, size);
    expect_simple(&client, 1, 0);
}

static void
expect_volume(uint64_t offset, const uint8_t *data, size_t size)
{
    assert_memory_equal(ram_volume_bytes(world.volume) + offset, data, size);
}

/* ---- Reads ---- */

static void
test_read_simple(void **state)
{
    static const struct {
        uint64_t offset;
        uint32_t size;
    } cases[] = {
        { 0, 512 },
        { 4096, 4096 },
        { 1, 1 },
        { 4095, 2 },
        { 100, 300000 },
        { 0, 1 << 20 },
        { VOLUME_BYTES - 1, 1 },
        { 3, 1 << 20 },          /* Two parts. */
        { 5000, 5 * (1 << 20) }, /* Six. */
        { 0, 32u << 20 },        /* The most. */
        { VOLUME_BYTES - (32 << 20), 32u << 20 },
    };
    (void)state;

    setup(false);
    fill_pattern(ram_volume_bytes(world.volume), 0, VOLUME_BYTES, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        client_request(&client, 0, NBD_CMD_READ, i, cases[i].offset,
                       cases[i].size);
        fill_pattern(scratch, cases[i].offset, cases[i].size, 0);
        expect_simple(&client, i, 0);
        expect_bytes(&client, scratch, cases[i].size);
    }
    assert_int_equal(stats().bytes_max, 1 << 20);
    teardown();
}

static void
test_read_structured(void **state)
{
    struct be64 offset;
    (void)state;

    setup(true);
    fill_volume(8192, 8192);
    client_request(&client, 0, NBD_CMD_READ, 2, 8000, 8192);
    expect_chunk(&client, 2, DONE, NBD_REPLY_TYPE_OFFSET_DATA, 8 + 8192);
    offset = be64_make(8000);
    expect_bytes(&client, &offset, 8);
    memset(scratch, 0, 192);
    fill_pattern(scratch + 192, 8192, 8000, 0);
    expect_bytes(&client, scratch, 8192);

    /* A hole, by its size alone. */
    client_request(&client, NBD_CMD_FLAG_DF, NBD_CMD_READ, 3, 65536, 1 << 20);
    expect_chunk(&client, 3, DONE, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
    offset = be64_make(65536);
    expect_bytes(&client, &offset, 8);
    expect_bytes(&client, "\0\x10\0\0", 4);

    /* What cannot be one chunk. */
    client_request(&client, NBD_CMD_FLAG_DF, NBD_CMD_READ, 4, 0, (1 << 20) + 1);
    expect_error_chunk(&client, 4, NBD_EOVERFLOW);
    teardown();
}

/* Parts come back in any order; together they cover the range once. */
static void
test_read_large_structured(void **state)
{
    const uint32_t size = (32 << 20) - 1000;
    uint64_t covered = 0, holes = 0;
    bool done = false;
    (void)state;

    setup(true);
    fill_volume(1 << 20, 2 << 20);
    fill_volume(9 << 20, 1 << 20);
    client_request(&client, 0, NBD_CMD_READ, 5, 777, size);
    uint8_t *seen = calloc(1, size);
    assert_non_null(seen);
    while (!done) {
        struct nbd_chunk_header header;
        struct be64 wire;
        struct be32 hole;
        client_copy(&client, &header, sizeof header);
        assert_int_equal(be32_get(header.magic), NBD_STRUCTURED_REPLY_MAGIC);
        assert_int_equal(be64_get(header.cookie), 5);
        client_copy(&client, &wire, sizeof wire);
        uint64_t at = be64_get(wire);
        uint32_t bytes = be32_get(header.size) - 8;
        if (be16_get(header.type) == NBD_REPLY_TYPE_OFFSET_HOLE) {
            client_copy(&client, &hole, sizeof hole);
            bytes = be32_get(hole);
            holes += bytes;
            memset(scratch, 0, bytes);
        } else {
            assert_int_equal(be16_get(header.type), NBD_REPLY_TYPE_OFFSET_DATA);
            client_copy(&client, scratch, bytes);
        }
        assert_in_range(at, 777, 777 + size - 1);
        assert_in_range(bytes, 1, 777 + size - at);
        expect_volume(at, scratch, bytes);
        for (uint64_t i = at - 777; i < at - 777 + bytes; i++) {
            assert_int_equal(seen[i], 0);
            seen[i] = 1;
        }
        covered += bytes;
        done = (be16_get(header.flags) & DONE) != 0;
    }
    assert_int_equal(covered, size);
    assert_true(holes >= 27 << 20);
    free(seen);
    expect_silence(&client, NS_PER_S);
    teardown();
}

static void
test_read_errors(void **state)
{
    (void)state;
    setup(true);
    ram_volume_fail(world.volume, VOLUME_READ, -EIO, 1);
    client_request(&client, 0, NBD_CMD_READ, 6, 0, 4096);
    expect_error_chunk(&client, 6, NBD_EIO);
    ram_volume_fail(world.volume, VOLUME_READ, -ESTALE, 1);
    client_request(&client, 0, NBD_CMD_READ, 6, 0, 4096);
    expect_error_chunk(&client, 6, NBD_ESHUTDOWN);
    teardown();

    setup(false);
    ram_volume_fail(world.volume, VOLUME_READ, -ENOMEM, 1);
    client_request(&client, 0, NBD_CMD_READ, 7, 0, 4096);
    expect_simple(&client, 7, NBD_ENOMEM);
    /* The first part of three: nothing has been promised yet. */
    ram_volume_fail(world.volume, VOLUME_READ, -EIO, 1);
    client_request(&client, 0, NBD_CMD_READ, 8, 0, 3 << 20);
    expect_simple(&client, 8, NBD_EIO);
    client_request(&client, 0, NBD_CMD_FLUSH, 9, 0, 0);
    expect_simple(&client, 9, 0);
    /* A later one: success is on the wire. */
    client_request(&client, 0, NBD_CMD_READ, 10, 0, 3 << 20);
    expect_simple(&client, 10, 0);
    ram_volume_fail(world.volume, VOLUME_READ, -EIO, 1);
    sim_run_until_set(world.sim, &client.closed, PATIENCE);
    assert_true(client.closed);
    teardown();
}

/* Invariant (4): nothing comes between the pieces of a large simple read. */
static void
test_read_serial(void **state)
{
    (void)state;
    setup(false);
    fill_pattern(ram_volume_bytes(world.volume), 0, 4 << 20, 0);
    ram_volume_hold(world.volume, true);
    client_request(&client, 0, NBD_CMD_FLUSH, 11, 0, 0);
    client_request(&client, 0, NBD_CMD_READ, 12, 0, 512);
    client_request(&client, 0, NBD_CMD_READ, 13, 0, 3 << 20);
    client_request(&client, 0, NBD_CMD_READ, 14, 512, 512);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(stats().in_flight, 2); /* The large one waits. */
    ram_volume_hold(world.volume, false);
    bool flush_first =
        client_wait(&client, 16) && client.in[client.in_read + 15] == 11;
    if (flush_first) {
        expect_simple(&client, 11, 0);
    }
    fill_pattern(scratch, 0, 3 << 20, 0);
    expect_simple(&client, 12, 0);
    expect_bytes(&client, scratch, 512);
    if (!flush_first) {
        expect_simple(&client, 11, 0);
    }
    expect_simple(&client, 13, 0);
    expect_bytes(&client, scratch, 3 << 20);
    expect_simple(&client, 14, 0);
    expect_bytes(&client, scratch + 512, 512);
    teardown();
}

/* ---- Writes ---- */

static void
test_write(void **state)
{
    static const struct {
        uint64_t offset;
        uint32_t size;
    } cases[] = {
        { 0, 512 },
        { 4096, 4096 },
        { 1, 1 },
        { 4095, 4098 },
        { 12345, 1 << 20 },
        { VOLUME_BYTES - 513, 513 },
        { 1 << 20, 32u << 20 },
    };
    (void)state;

    for (int structured = 0; structured < 2; structured++) {
        setup(structured != 0);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            uint32_t before = stats().fua[VOLUME_WRITE];
            uint32_t count = stats().count[VOLUME_WRITE];
            fill_pattern(scratch, cases[i].offset, cases[i].size, i);
            client_request(&client, (uint16_t)(i % 2 * FUA), NBD_CMD_WRITE, i,
                           cases[i].offset, cases[i].size);
            client_send(&client, scratch, cases[i].size);
            expect_simple(&client, i, 0);
            expect_volume(cases[i].offset, scratch, cases[i].size);
            count = stats().count[VOLUME_WRITE] - count;
            assert_int_equal(stats().fua[VOLUME_WRITE] - before,
                             i % 2 == 0 ? 0 : count);
        }
        assert_true(stats().in_flight_max <= NBD_REQUEST_PARTS_MAX);
        teardown();
    }
}

/* The bytes of a write that is refused are skipped. */
static void
test_write_refused(void **state)
{
    (void)state;
    setup(false);
    client_request(&client, 0, NBD_CMD_WRITE, 1, VOLUME_BYTES, 1);
    client_send(&client, scratch, 1);
    expect_simple(&client, 1, NBD_ENOSPC);
    client_request(&client, 0, NBD_CMD_WRITE, 2, VOLUME_BYTES - 1, 32 << 20);
    client_send(&client, scratch, 32 << 20);
    expect_simple(&client, 2, NBD_ENOSPC);
    client_request(&client, 0, NBD_CMD_WRITE, 3, UINT64_MAX, 512);
    client_send(&client, scratch, 512);
    expect_simple(&client, 3, NBD_ENOSPC);
    client_request(&client, 0x8000, NBD_CMD_WRITE, 4, 0, 512);
    client_send(&client, scratch, 512);
    expect_simple(&client, 4, NBD_EINVAL);
    client_request(&client, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE, 5, 0, 512);
    client_send(&client, scratch, 512);
    expect_simple(&client, 5, NBD_EINVAL);
    client_request(&client, 0, NBD_CMD_WRITE, 6, 0, 0);
    expect_simple(&client, 6, NBD_EINVAL);
    assert_int_equal(stats().count[VOLUME_WRITE], 0);
    /* In the midst of a large one: the stream goes on. */
    ram_volume_fail(world.volume, VOLUME_WRITE, -ENOSPC, 1);
    client_request(&client, 0, NBD_CMD_WRITE, 7, 0, 5 << 20);
    client_send(&client, scratch, 5 << 20);
    expect_simple(&client, 7, NBD_ENOSPC);
    fill_volume(0, 4096);
    /* More than the server said that it takes. */
    client_request(&client, 0, NBD_CMD_WRITE, 8, 0, (32 << 20) + 1);
    expect_closed(&client);
    teardown();
}

/* ---- Zeroes and trims ---- */

static void
test_zeroes(void **state)
{
    static const struct {
        uint64_t offset;
        uint32_t size;
        uint32_t states, writes; /* How it is done. */
    } cases[] = {
        { 8192, 4096, 1, 0 },
        { 512, 1024, 1, 0 },
        { 4097, 1, 0, 1 },
        { 4097, 4096, 1, 2 },
        { 1, 511, 0, 1 },
        { 0, 32 << 20, 1, 0 },
        { 100, (32u << 20) + 100, 1, 2 },
    };
    (void)state;

    for (int hole = 0; hole < 2; hole++) {
        setup(true);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            uint8_t *bytes = ram_volume_bytes(world.volume);
            struct ram_volume_stats before = stats();
            memset(bytes, 0xaa, VOLUME_BYTES);
            client_request(&client, hole ? 0 : NBD_CMD_FLAG_NO_HOLE,
                           NBD_CMD_WRITE_ZEROES, i, cases[i].offset,
                           cases[i].size);
            expect_simple(&client, i, 0);
            memset(scratch, 0, cases[i].size);
            expect_volume(cases[i].offset, scratch, cases[i].size);
            if (cases[i].offset > 0) {
                assert_int_equal(bytes[cases[i].offset - 1], 0xaa);
            }
            assert_int_equal(bytes[cases[i].offset + cases[i].size], 0xaa);
            struct ram_volume_stats after = stats();
            if (hole) {
                assert_int_equal(after.count[VOLUME_WRITE_ZEROES] -
                                     before.count[VOLUME_WRITE_ZEROES],
                                 cases[i].states);
                assert_int_equal(after.count[VOLUME_WRITE] -
                                     before.count[VOLUME_WRITE],
                                 cases[i].writes);
            } else {
                /* The space is there: all of it was written. */
                assert_int_equal(after.count[VOLUME_WRITE_ZEROES], 0);
                assert_false(
                    ram_volume_is_hole(world.volume, cases[i].offset / 4096));
            }
            assert_int_equal(after.count[VOLUME_DISCARD], 0);
        }
        teardown();
    }
}

static void
test_zeroes_flags(void **state)
{
    (void)state;
    setup(false);
    client_request(&client, NBD_CMD_FLAG_FAST_ZERO | FUA, NBD_CMD_WRITE_ZEROES,
                   1, 100, 10000);
    expect_simple(&client, 1, 0);
    assert_int_equal(stats().fua[VOLUME_WRITE_ZEROES], 1);
    assert_int_equal(stats().fua[VOLUME_WRITE], 2);
    /* Not faster than writing. */
    client_request(&client, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_NO_HOLE,
                   NBD_CMD_WRITE_ZEROES, 2, 0, 4096);
    expect_simple(&client, 2, NBD_ENOTSUP);
    client_request(&client, 0, NBD_CMD_WRITE_ZEROES, 3, VOLUME_BYTES, 1);
    expect_simple(&client, 3, NBD_ENOSPC);
    client_request(&client, NBD_CMD_FLAG_DF, NBD_CMD_WRITE_ZEROES, 4, 0, 512);
    expect_simple(&client, 4, NBD_EINVAL);
    client_request(&client, 0, NBD_CMD_WRITE_ZEROES, 5, 4096, 0);
    expect_simple(&client, 5, NBD_EINVAL);
    /* It stops at the first part that fails. */
    ram_volume_fail(world.volume, VOLUME_WRITE, -ENOSPC, 100);
    client_request(&client, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 6, 0,
                   40 << 20);
    expect_simple(&client, 6, NBD_ENOSPC);
    assert_in_range(stats().failed[VOLUME_WRITE], 1, NBD_REQUEST_PARTS_MAX);
    teardown();
}

static void
test_trim(void **state)
{
    static const struct {
        uint64_t offset;
        uint32_t size;
        uint64_t first, last; /* What becomes zeros. */
    } cases[] = {
        { 8192, 4096, 8192, 12288 },
        { 8193, 4096, 8704, 12288 },
        { 8191, 514, 8192, 8704 },
        { 8191, 513, 8192, 8704 },
        { 8191, 512, 0, 0 },
        { 8191, 1, 0, 0 },
        { 8192, 511, 0, 0 },
        { 8193, 1023, 8704, 9216 },
        { 8193, 1022, 0, 0 },
        { 4096, 36u << 20, 4096, 4096 + (36u << 20) },
    };
    (void)state;

    setup(true);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *bytes = ram_volume_bytes(world.volume);
        memset(bytes, 0xbb, VOLUME_BYTES);
        uint32_t count = stats().count[VOLUME_DISCARD];
        client_request(&client, FUA, NBD_CMD_TRIM, i, cases[i].offset,
                       cases[i].size);
        expect_simple(&client, i, 0);
        for (uint64_t at = 0; at < VOLUME_BYTES; at++) {
            uint8_t want =
                at >= cases[i].first && at < cases[i].last ? 0 : 0xbb;
            if (bytes[at] != want) {
                fail_msg("case %zu at %lu", i, at);
            }
        }
        assert_int_equal(stats().count[VOLUME_DISCARD] - count,
                         cases[i].last == 0 ? 0 : 1);
    }
    assert_int_equal(stats().fua[VOLUME_DISCARD],
                     stats().count[VOLUME_DISCARD]);
    client_request(&client, 0, NBD_CMD_TRIM, 50, 1, (uint32_t)VOLUME_BYTES);
    expect_simple(&client, 50, NBD_EINVAL);
    client_request(&client, 0, NBD_CMD_TRIM, 51, 0, 0);
    expect_simple(&client, 51, NBD_EINVAL);
    ram_volume_fail(world.volume, VOLUME_DISCARD, -EPERM, 1);
    client_request(&client, 0, NBD_CMD_TRIM, 52, 0, 4096);
    expect_simple(&client, 52, NBD_EPERM);
    teardown();
}

/* ---- Flush, status, disconnect, what is unknown ---- */

static void
test_flush(void **state)
{
    (void)state;
    setup(true);
    client_request(&client, 0, NBD_CMD_FLUSH, 1, 0, 0);
    expect_simple(&client, 1, 0);
    client_request(&client, FUA, NBD_CMD_FLUSH, 2, 0, 0);
    expect_simple(&client, 2, 0);
    assert_int_equal(stats().count[VOLUME_FLUSH], 2);
    client_request(&client, 0, NBD_CMD_FLUSH, 3, 1, 0);
    expect_simple(&client, 3, NBD_EINVAL);
    client_request(&client, 0, NBD_CMD_FLUSH, 4, 0, 1);
    expect_simple(&client, 4, NBD_EINVAL);
    ram_volume_fail(world.volume, VOLUME_FLUSH, -EIO, 1);
    client_request(&client, 0, NBD_CMD_FLUSH, 5, 0, 0);
    expect_simple(&client, 5, NBD_EIO);
    teardown();
}

/* The whole map, by answers that may be short; compared with the volume. */
static void
walk_status(uint16_t flags)
{
    uint64_t at = 300, end = (4 << 20) + 300;

    while (at < end) {
        struct nbd_chunk_header header;
        struct be32 context;
        client_request(&client, flags, NBD_CMD_BLOCK_STATUS, at, at,
                       (uint32_t)(end - at));
        client_copy(&client, &header, sizeof header);
        assert_int_equal(be32_get(header.magic), NBD_STRUCTURED_REPLY_MAGIC);
        assert_int_equal(be16_get(header.flags), DONE);
        assert_int_equal(be16_get(header.type), NBD_REPLY_TYPE_BLOCK_STATUS);
        assert_int_equal(be64_get(header.cookie), at);
        uint32_t count = (be32_get(header.size) - 4) / 8;
        assert_int_equal(be32_get(header.size), 4 + 8 * count);
        assert_in_range(count, 1, flags != 0 ? 1 : NBD_EXTENTS_MAX);
        client_copy(&client, &context, sizeof context);
        assert_int_equal(be32_get(context), 1);
        uint32_t last = 99;
        for (uint32_t i = 0; i < count; i++) {
            struct nbd_status_descriptor one;
            client_copy(&client, &one, sizeof one);
            uint32_t size = be32_get(one.size), kind = be32_get(one.flags);
            assert_in_range(size, 1, end - at);
            assert_int_not_equal(kind, last);
            assert_true(kind == 0 || kind == 3);
            last = kind;
            for (uint64_t block = at / 4096; block <= (at + size - 1) / 4096;
                 block++) {
                assert_int_equal(ram_volume_is_hole(world.volume, block),
                                 kind == 3);
            }
            at += size;
        }
    }
    assert_int_equal(at, end);
}

static void
test_status(void **state)
{
    (void)state;
    setup(true);
    for (uint32_t i = 0; i < 300; i++) {
        fill_volume(i * 12288 + i % 3 * 4096, 4096 + i % 2 * 4096);
    }
    walk_status(0);
    walk_status(NBD_CMD_FLAG_REQ_ONE);
    client_request(&client, 0, NBD_CMD_BLOCK_STATUS, 1, VOLUME_BYTES, 1);
    expect_error_chunk(&client, 1, NBD_EINVAL);
    client_request(&client, 0, NBD_CMD_BLOCK_STATUS, 2, 0, 0);
    expect_error_chunk(&client, 2, NBD_EINVAL);
    client_request(&client, NBD_CMD_FLAG_DF, NBD_CMD_BLOCK_STATUS, 3, 0, 1);
    expect_error_chunk(&client, 3, NBD_EINVAL);
    ram_volume_fail(world.volume, VOLUME_STATUS, -EIO, 1);
    client_request(&client, 0, NBD_CMD_BLOCK_STATUS, 4, 0, 4096);
    expect_error_chunk(&client, 4, NBD_EIO);
    teardown();

    /* Not negotiated. */
    setup(false);
    client_request(&client, 0, NBD_CMD_BLOCK_STATUS, 5, 0, 4096);
    expect_simple(&client, 5, NBD_EINVAL);
    client_request(&client, NBD_CMD_FLAG_DF, NBD_CMD_READ, 6, 0, 4096);
    expect_simple(&client, 6, NBD_EINVAL);
    teardown();
}

/* More of them than there is room for answers. */
static void
test_many_statuses(void **state)
{
    (void)state;
    setup(true);
    ram_volume_hold(world.volume, true);
    for (uint64_t i = 0; i < 100; i++) {
        client_request(&client, 0, NBD_CMD_BLOCK_STATUS, i, 0, 4096);
    }
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(stats().in_flight, 32);
    ram_volume_hold(world.volume, false);
    for (uint64_t i = 0; i < 100; i++) {
        expect_bytes(&client, "\x66\x8e\x33\xef\0\1\0\5", 8);
        client_copy(&client, NULL, 8 + 4); /* In any order. */
        expect_bytes(&client, "\0\0\0\1\0\0\x10\0\0\0\0\3", 12);
    }
    teardown();
}

static void
test_refused_reads(void **state)
{
    (void)state;
    setup(true);
    client_request(&client, 0, NBD_CMD_READ, 1, VOLUME_BYTES, 1);
    expect_error_chunk(&client, 1, NBD_EINVAL);
    client_request(&client, 0, NBD_CMD_READ, 2, UINT64_MAX, UINT32_MAX);
    expect_error_chunk(&client, 2, NBD_EINVAL);
    client_request(&client, 0, NBD_CMD_READ, 3, 0, (32 << 20) + 1);
    expect_error_chunk(&client, 3, NBD_EINVAL);
    client_request(&client, 0, NBD_CMD_READ, 4, 0, 0);
    expect_error_chunk(&client, 4, NBD_EINVAL);
    client_request(&client, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_READ, 5, 0, 1);
    expect_error_chunk(&client, 5, NBD_EINVAL);
    /* CACHE, RESIZE and what will be invented. */
    for (uint16_t command = 5; command < 200; command++) {
        if (command >= NBD_CMD_WRITE_ZEROES &&
            command <= NBD_CMD_BLOCK_STATUS) {
            continue;
        }
        client_request(&client, 0, command, command, 0, 512);
        expect_simple(&client, command, NBD_EINVAL);
    }
    assert_int_equal(stats().count[VOLUME_READ], 0);
    teardown();
}

/* What is in flight is answered; then the server closes. */
static void
test_disconnect(void **state)
{
    (void)state;
    setup(false);
    ram_volume_hold(world.volume, true);
    client_request(&client, 0, NBD_CMD_WRITE, 1, 0, 512);
    client_send(&client, scratch, 512);
    client_request(&client, 0, NBD_CMD_DISC, 2, 0, 0);
    client_send(&client, scratch, 100000); /* Nothing is read any more. */
    expect_silence(&client, NS_PER_S);
    ram_volume_hold(world.volume, false);
    expect_simple(&client, 1, 0);
    expect_closed(&client);
    teardown();

    setup(true);
    client_request(&client, 0, NBD_CMD_DISC, 3, 0, 0);
    expect_closed(&client);
    assert_int_equal(client.reason, 0);
    assert_int_equal(nbd_export_clients(world.nbd_export), 0);
    teardown();
}

static void
test_bad_magic(void **state)
{
    (void)state;
    setup(false);
    client_request(&client, 0, NBD_CMD_FLUSH, 1, 0, 0);
    expect_simple(&client, 1, 0);
    client_send(&client, "NBDMAGIC0123456789abcdefghijk", 28);
    expect_closed(&client);
    teardown();
}

/* ---- Errors of the volume, as the protocol has them ---- */

static void
test_errors(void **state)
{
    static const struct {
        int result;
        uint32_t error;
    } cases[] = {
        { -EIO, NBD_EIO },
        { -ENOSPC, NBD_ENOSPC },
        { -ESHUTDOWN, NBD_ESHUTDOWN },
        { -ESTALE, NBD_ESHUTDOWN },
        { -EINVAL, NBD_EINVAL },
        { -EPERM, NBD_EPERM },
        { -EROFS, NBD_EPERM },
        { -EFBIG, NBD_ENOSPC },
        { -EDQUOT, NBD_ENOSPC },
        { -EOPNOTSUPP, NBD_ENOTSUP },
        { -ECONNRESET, NBD_EIO },
        { -9999, NBD_EIO },
    };
    (void)state;

    setup(false);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ram_volume_fail(world.volume, VOLUME_WRITE, cases[i].result, 1);
        client_request(&client, 0, NBD_CMD_WRITE, i, 0, 512);
        client_send(&client, scratch, 512);
        expect_simple(&client, i, cases[i].error);
    }
    teardown();
}

static int
all_setup(void **state)
{
    (void)state;
    scratch = calloc(33, MIB);
    return scratch == NULL ? -1 : 0;
}

static int
all_teardown(void **state)
{
    (void)state;
    free(scratch);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_simple),
        cmocka_unit_test(test_read_structured),
        cmocka_unit_test(test_read_large_structured),
        cmocka_unit_test(test_read_errors),
        cmocka_unit_test(test_read_serial),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_refused),
        cmocka_unit_test(test_zeroes),
        cmocka_unit_test(test_zeroes_flags),
        cmocka_unit_test(test_trim),
        cmocka_unit_test(test_flush),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_many_statuses),
        cmocka_unit_test(test_refused_reads),
        cmocka_unit_test(test_disconnect),
        cmocka_unit_test(test_bad_magic),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, all_setup, all_teardown);
}
