/* SPDX-License-Identifier: Apache-2.0 */

/* Hostile front ends and guests: vhost.h (1) and (5).  A malformed message cuts
 * the connection, and the next one is served; a ring that makes no sense stops,
 * and the other rings go on.  That nothing outside the regions is touched is
 * for tests/fuzz/fuzz_vhost_ring.c to say, whose regions AddressSanitizer
 * guards to the byte. */

#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "lib/base/rng.h"
#include "lib/base/units.h"
#include "tests/unit/vhost_fixture.h"

/* ---- Messages ---- */

/* Connects anew, sends the message, and expects to be cut for 'reason'. */
static void
expect_cut(struct vhost_fixture *fixture, uint32_t request, uint32_t flags,
           const void *payload, uint32_t size, const int *fds,
           uint32_t fd_count, const char *reason)
{
    struct vhost_driver *driver = &fixture->driver;
    uint64_t value;

    if (driver->fd < 0) {
        assert_int_equal(vhost_driver_connect(driver), 0);
    }
    assert_int_equal(vhost_driver_send(driver, request, flags, payload, size,
                                       fds, fd_count),
                     0);
    vhost_fixture_settle(fixture);
    assert_int_equal(vhost_driver_ask_u64(driver, VHOST_GET_FEATURES, &value),
                     -ECONNRESET);
    vhost_fixture_assert_logged(fixture, reason);
    vhost_driver_disconnect(driver);
    vhost_fixture_settle(fixture);
    assert_false(vhost_export_is_connected(fixture->vhost_export));
}

static void
test_headers(void **state)
{
    struct vhost_fixture fixture;
    uint8_t bytes[512] = { 0 };
    static const uint32_t unknown[] = { 0,  6,  7,  19, 20,         21,   22,
                                        26, 28, 33, 35, UINT32_MAX, 12345 };
    (void)state;

    vhost_fixture_up(&fixture,
                     &(struct vhost_fixture_options){ .no_start = true });
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        expect_cut(&fixture, unknown[i], 0, NULL, 0, NULL, 0,
                   "is not supported");
    }
    expect_cut(&fixture, VHOST_GET_FEATURES, 2, NULL, 0, NULL, 0,
               "no vhost-user message");
    expect_cut(&fixture, VHOST_GET_FEATURES, VHOST_FLAG_REPLY, NULL, 0, NULL, 0,
               "no vhost-user message");
    for (uint32_t request = 1; request < VHOST_MESSAGE_COUNT; request++) {
        if (request == 6 || request == 7 || (request > 18 && request < 24) ||
            (request > 25 && request < 31) || request == 33) {
            continue;
        }
        expect_cut(&fixture, request, 0, bytes, 3, NULL, 0, "has 3 bytes");
        expect_cut(&fixture, request, 0, bytes, 500, NULL, 0, "has 500 bytes");
    }
    vhost_fixture_down(&fixture);
}

/* A header that promises gigabytes; a message that ends in its midst. */
static void
test_truncated(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_wire_header header = {
        .request = le32_make(VHOST_SET_MEM_TABLE),
        .flags = le32_make(VHOST_FLAG_VERSION),
        .size_bytes = le32_make(UINT32_MAX),
    };
    (void)state;

    vhost_fixture_up(&fixture,
                     &(struct vhost_fixture_options){ .no_start = true });
    struct vhost_driver *driver = &fixture.driver;
    assert_int_equal(vhost_driver_connect(driver), 0);
    assert_int_equal(send(driver->fd, &header, sizeof header, 0), 12);
    vhost_fixture_settle(&fixture);
    vhost_fixture_assert_logged(&fixture, "has 4294967295 bytes");
    assert_false(vhost_export_is_connected(fixture.vhost_export));
    vhost_driver_disconnect(driver);

    header.request = le32_make(VHOST_SET_FEATURES);
    header.size_bytes = le32_make(8);
    for (uint32_t cut = 1; cut < 20; cut++) {
        uint8_t bytes[20] = { 0 };
        memcpy(bytes, &header, sizeof header);
        assert_int_equal(vhost_driver_connect(driver), 0);
        for (uint32_t i = 0; i < cut; i++) { /* Byte by byte. */
            assert_int_equal(send(driver->fd, bytes + i, 1, 0), 1);
            vhost_fixture_settle(&fixture);
        }
        assert_true(vhost_export_is_connected(fixture.vhost_export));
        vhost_driver_disconnect(driver);
        vhost_fixture_settle(&fixture);
        vhost_fixture_assert_logged(&fixture, "closed inside a message");
    }
    vhost_fixture_down(&fixture);
}

static void
test_descriptor_counts(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_wire_mem table;
    struct le64 word = le64_make(0);
    int fds[16];
    (void)state;

    vhost_fixture_up(&fixture,
                     &(struct vhost_fixture_options){ .no_start = true });
    for (uint32_t i = 0; i < 16; i++) {
        fds[i] = fixture.driver.mem_fd;
    }
    uint32_t size = vhost_driver_mem_table(&fixture.driver, &table);
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &table, size, fds, 0,
               "0 descriptors");
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &table, size, fds, 2,
               "2 descriptors");
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &table, size, fds, 16,
               "receive: Protocol error");
    expect_cut(&fixture, VHOST_GET_FEATURES, 0, NULL, 0, fds, 1,
               "brings 1 descriptors, not 0");
    expect_cut(&fixture, VHOST_SET_VRING_KICK, 0, &word, 8, fds, 0,
               "brings 0 descriptors, not 1");
    expect_cut(&fixture, VHOST_SET_VRING_KICK, 0, &word, 8, fds, 1,
               "no eventfd");
    expect_cut(&fixture, VHOST_SET_VRING_CALL, 0, &word, 8, fds, 1,
               "no eventfd");
    expect_cut(&fixture, VHOST_SET_VRING_ERR, 0, &word, 8, fds, 3,
               "brings 3 descriptors, not 1");
    word = le64_make(0x100);
    expect_cut(&fixture, VHOST_SET_VRING_KICK, 0, &word, 8, fds, 1,
               "brings 1 descriptors, not 0");
    expect_cut(&fixture, VHOST_SET_VRING_KICK, 0, &word, 8, fds, 0,
               "polling for ever");
    word = le64_make(VHOST_QUEUES_MAX);
    expect_cut(&fixture, VHOST_SET_VRING_CALL, 0, &word, 8, fds, 1,
               "SET_VRING_CALL is for queue");
    /* No descriptor has leaked: this process's own would be refused soon. */
    for (uint32_t i = 0; i < 2000; i++) {
        assert_int_equal(vhost_driver_connect(&fixture.driver), 0);
        assert_int_equal(vhost_driver_send(&fixture.driver, VHOST_SET_MEM_TABLE,
                                           0, &table, size, fds, 8),
                         0);
        vhost_fixture_settle(&fixture);
        vhost_driver_disconnect(&fixture.driver);
        vhost_fixture_settle(&fixture);
    }
    vhost_fixture_down(&fixture);
}

static void
test_regions(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_wire_mem good;
    struct vhost_wire_mem bad;
    int pipe_fds[2];
    (void)state;

    vhost_fixture_up(&fixture,
                     &(struct vhost_fixture_options){ .no_start = true });
    const int *fd = &fixture.driver.mem_fd;
    uint32_t size = vhost_driver_mem_table(&fixture.driver, &good);

    bad = good;
    bad.regions[0].mmap_offset = le64_make(4096); /* Beyond the file's end. */
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &bad, size, fd, 1,
               "a region ends at");
    bad.regions[0].mmap_offset = le64_make(UINT64_MAX - 4095);
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &bad, size, fd, 1,
               "beyond the end");
    bad = good;
    bad.regions[0].size_bytes = le64_make(0);
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &bad, size, fd, 1, "empty");
    bad.regions[0].size_bytes = le64_make(UINT64_MAX);
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &bad, size, fd, 1,
               "beyond the end");
    bad = good;
    bad.regions[0].guest_addr = le64_make(UINT64_MAX - 4096);
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &bad, size, fd, 1,
               "beyond the end");
    bad = good;
    bad.regions[0].user_addr = le64_make(UINT64_MAX - 4096);
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &bad, size, fd, 1,
               "beyond the end");
    bad = good;
    bad.count = le32_make(0);
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &bad, 8, fd, 0, "0 regions");
    bad.count = le32_make(9);
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &bad, size, fd, 1,
               "9 regions");
    bad.count = le32_make(UINT32_MAX);
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &bad, size, fd, 1,
               "4294967295 regions");
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    expect_cut(&fixture, VHOST_SET_MEM_TABLE, 0, &good, size, pipe_fds, 1,
               "a region ends at");
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    vhost_fixture_down(&fixture);
}

static void
test_values(void **state)
{
    struct vhost_fixture fixture;
    struct le64 word;
    struct vhost_wire_state wire;
    struct vhost_wire_config config = { .size_bytes = le32_make(1) };
    struct vhost_wire_inflight inflight = { .queue_count = le16_make(1),
                                            .queue_size = le16_make(128) };
    uint32_t config_head = offsetof(struct vhost_wire_config, bytes);
    static const uint32_t odd_sizes[] = { 0, 3, 2048, 65536, UINT32_MAX };
    (void)state;

    vhost_fixture_up(&fixture,
                     &(struct vhost_fixture_options){ .no_start = true });
    word = le64_make(UINT64_C(1) << 26); /* VHOST_F_LOG_ALL */
    expect_cut(&fixture, VHOST_SET_FEATURES, 0, &word, 8, NULL, 0,
               "was not offered");
    word = le64_make(UINT64_MAX);
    expect_cut(&fixture, VHOST_SET_PROTOCOL_FEATURES, 0, &word, 8, NULL, 0,
               "was not offered");
    for (size_t i = 0; i < sizeof odd_sizes / sizeof odd_sizes[0]; i++) {
        wire = (struct vhost_wire_state){ .num = le32_make(odd_sizes[i]) };
        expect_cut(&fixture, VHOST_SET_VRING_NUM, 0, &wire, sizeof wire, NULL,
                   0, "SET_VRING_NUM has value");
    }
    wire = (struct vhost_wire_state){ .num = le32_make(65536) };
    expect_cut(&fixture, VHOST_SET_VRING_BASE, 0, &wire, sizeof wire, NULL, 0,
               "SET_VRING_BASE has value");
    wire = (struct vhost_wire_state){ .index = le32_make(VHOST_QUEUES_MAX) };
    expect_cut(&fixture, VHOST_GET_VRING_BASE, 0, &wire, sizeof wire, NULL, 0,
               "is for queue");

    config.offset = le32_make(31);
    expect_cut(&fixture, VHOST_SET_CONFIG, 0, &config, config_head + 1, NULL, 0,
               "only the cache mode");
    config.offset = le32_make(32);
    config.bytes[0] = 2;
    expect_cut(&fixture, VHOST_SET_CONFIG, 0, &config, config_head + 1, NULL, 0,
               "only the cache mode");
    config.offset = le32_make(UINT32_MAX);
    expect_cut(&fixture, VHOST_GET_CONFIG, 0, &config, config_head + 1, NULL, 0,
               "is about bytes");
    config.offset = le32_make(0);
    config.size_bytes = le32_make(257);
    expect_cut(&fixture, VHOST_GET_CONFIG, 0, &config, config_head + 1, NULL, 0,
               "is about bytes");

    expect_cut(&fixture, VHOST_SET_INFLIGHT_FD, 0, &inflight, sizeof inflight,
               &fixture.driver.mem_fd, 1, "do not hold 1 queues");
    inflight.mmap_size = le64_make(UINT64_MAX);
    expect_cut(&fixture, VHOST_SET_INFLIGHT_FD, 0, &inflight, sizeof inflight,
               &fixture.driver.mem_fd, 1, "do not hold 1 queues");
    inflight.mmap_size = le64_make(16 * MIB);
    inflight.mmap_offset = le64_make(UINT64_MAX & ~UINT64_C(63));
    expect_cut(&fixture, VHOST_SET_INFLIGHT_FD, 0, &inflight, sizeof inflight,
               &fixture.driver.mem_fd, 1, "do not hold 1 queues");
    inflight.queue_count = le16_make(17);
    expect_cut(&fixture, VHOST_GET_INFLIGHT_FD, 0, &inflight, sizeof inflight,
               NULL, 0, "not at most 16 of 1024");
    vhost_fixture_down(&fixture);
}

/* Messages that change what runs. */
static void
test_while_running(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_wire_state num = { .num = le32_make(64) };
    struct vhost_wire_addr addr = { .desc = le64_make(4096) };
    struct le64 word = le64_make(0);
    (void)state;

    vhost_fixture_up(&fixture,
                     &(struct vhost_fixture_options){ .no_start = true });
    struct vhost_driver *driver = &fixture.driver;
    const struct {
        uint32_t request;
        const void *payload;
        uint32_t size;
    } messages[] = {
        { VHOST_SET_VRING_NUM, &num, sizeof num },
        { VHOST_SET_VRING_BASE, &num, sizeof num },
        { VHOST_SET_VRING_ADDR, &addr, sizeof addr },
        { VHOST_SET_FEATURES, &word, sizeof word },
    };
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        assert_int_equal(vhost_driver_connect(driver), 0);
        assert_int_equal(vhost_driver_start(driver), 0);
        expect_cut(&fixture, messages[i].request, 0, messages[i].payload,
                   messages[i].size, NULL, 0, "while queue 0 runs");
    }
    assert_int_equal(vhost_driver_connect(driver), 0);
    assert_int_equal(vhost_driver_start(driver), 0);
    expect_cut(&fixture, VHOST_SET_INFLIGHT_FD, 0, &driver->inflight,
               sizeof driver->inflight, &driver->inflight_fd, 1,
               "while queue 0 runs");
    vhost_fixture_down(&fixture);
}

/* Rings at addresses that are not, or only in part, in the memory. */
static void
test_ring_addresses(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_driver_options options = { .regions = 2 };
    (void)state;

    vhost_fixture_up(&fixture, &(struct vhost_fixture_options){
                                   .no_start = true, .driver = options });
    struct vhost_driver *driver = &fixture.driver;
    struct vhost_driver_queue *queue = &driver->queues[0];
    uint64_t *addrs[] = { &queue->desc_addr, &queue->avail_addr,
                          &queue->used_addr };
    const uint64_t bad[] = {
        0,
        VHOST_DRIVER_GUEST_BASE - 16,
        VHOST_DRIVER_GUEST_BASE + 16 * MIB - 16,
        VHOST_DRIVER_GUEST_BASE + 8 * MIB - 16, /* Over the border. */
        UINT64_MAX - 31,
        VHOST_DRIVER_GUEST_BASE + 4097, /* Misaligned. */
    };
    for (uint32_t which = 0; which < 3; which++) {
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            uint64_t saved = *addrs[which];
            *addrs[which] = bad[i];
            assert_int_equal(vhost_driver_connect(driver), 0);
            int result = vhost_driver_start(driver);
            assert_int_equal(result, -ECONNRESET);
            *addrs[which] = saved;
            vhost_driver_disconnect(driver);
            vhost_fixture_settle(&fixture);
        }
    }
    assert_int_equal(vhost_driver_connect(driver), 0);
    assert_int_equal(vhost_driver_start(driver), 0);
    vhost_fixture_down(&fixture);
}

/* ---- Rings ---- */

static void
start_two(struct vhost_fixture *fixture)
{
    struct vhost_fixture_options options = {
        .driver = { .queue_count = 2, .queue_size = 16 },
    };

    vhost_fixture_up(fixture, &options);
}

/* Queue 0 has been spoiled: it stops, queue 1 works, a new start heals. */
static void
expect_broken(struct vhost_fixture *fixture, const char *reason)
{
    struct vhost_driver *driver = &fixture->driver;
    uint64_t one = 1;
    uint64_t cookie;

    assert_int_equal(write(driver->queues[0].kick_fd, &one, sizeof one), 8);
    vhost_fixture_settle(fixture);
    vhost_fixture_assert_logged(fixture, reason);
    assert_int_equal(vhost_driver_take(&driver->queues[0], &cookie, NULL, NULL),
                     0);
    uint64_t data = vhost_driver_alloc(driver, 512, 512);
    assert_int_equal(vhost_driver_blk_wait(&driver->queues[1], VIRTIO_BLK_T_IN,
                                           0, data, 512),
                     0);
    assert_true(vhost_export_is_connected(fixture->vhost_export));
    assert_int_equal(vhost_driver_stop(driver), 0);
    vhost_driver_reset(driver);
    assert_int_equal(vhost_driver_start(driver), 0);
    assert_int_equal(vhost_driver_blk_wait(&driver->queues[0], VIRTIO_BLK_T_IN,
                                           0, data, 512),
                     0);
}

static void
put_avail(struct vhost_driver_queue *queue, uint16_t idx, uint16_t head)
{
    struct le16 wire_idx = le16_make(idx);
    struct le16 wire_head = le16_make(head);

    memcpy(queue->avail + VRING_RING_OFFSET +
               (size_t)2 * ((uint16_t)(idx - 1) & (queue->num - 1)),
           &wire_head, 2);
    memcpy(queue->avail + VRING_IDX_OFFSET, &wire_idx, 2);
}

static void
put_desc(struct vhost_driver_queue *queue, uint16_t index, uint64_t addr,
         uint32_t size, uint16_t flags, uint16_t next)
{
    queue->desc[index] = (struct vring_desc){
        .addr = le64_make(addr),
        .size_bytes = le32_make(size),
        .flags = le16_make(flags),
        .next = le16_make(next),
    };
}

static void
test_indices(void **state)
{
    struct vhost_fixture fixture;
    static const uint16_t jumps[] = { 17, 18, 1000, 32768, 65535 };
    (void)state;

    start_two(&fixture);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    for (size_t i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
        put_avail(queue, (uint16_t)(queue->avail_idx + jumps[i]), 0);
        expect_broken(&fixture, "the avail index jumped");
    }
    static const uint16_t heads[] = { 16, 17, 32768, 65535 };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        put_avail(queue, (uint16_t)(queue->avail_idx + 1), heads[i]);
        expect_broken(&fixture, "a head is beyond the descriptor table");
    }
    vhost_fixture_down(&fixture);
}

/* The same head again, while it is in flight or not yet published. */
static void
test_head_twice(void **state)
{
    struct vhost_fixture fixture;
    uint64_t one = 1;
    (void)state;

    start_two(&fixture);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    uint64_t data = vhost_driver_alloc(&fixture.driver, 512, 512);
    uint16_t head;
    assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_GET_ID, 0, data, 20,
                                      false, 0, &head),
                     0);
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), head);
    assert_int_equal(write(queue->kick_fd, &one, sizeof one), 8);
    vhost_fixture_settle(&fixture);
    /* The first one is answered, the second breaks the ring. */
    assert_int_equal(vhost_fixture_take(queue, NULL), 0);
    expect_broken(&fixture, "a head was made available twice");
    vhost_fixture_down(&fixture);
}

static void
test_chains(void **state)
{
    struct vhost_fixture fixture;
    const uint16_t next = VRING_DESC_NEXT;
    const uint16_t in = VRING_DESC_WRITE;
    const uint16_t indirect = VRING_DESC_INDIRECT;
    uint64_t base = VHOST_DRIVER_GUEST_BASE;
    (void)state;

    start_two(&fixture);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    struct vring_desc *table =
        (void *)vhost_driver_at(&fixture.driver, queue->table_addr);

    put_desc(queue, 0, base, 16, next, 0); /* Onto itself. */
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
    expect_broken(&fixture, "a chain that is a loop");

    put_desc(queue, 0, base, 16, next, 1);
    put_desc(queue, 1, base, 16, next, 2);
    put_desc(queue, 2, base, 16, next, 0);
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
    expect_broken(&fixture, "a chain that is a loop");

    put_desc(queue, 0, base, 16, next, 16);
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
    expect_broken(&fixture, "a descriptor beyond its table");

    put_desc(queue, 0, base, 16, (uint16_t)(next | in), 1);
    put_desc(queue, 1, base, 16, 0, 0);
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
    expect_broken(&fixture, "a readable descriptor behind a writable one");

    put_desc(queue, 0, base, 16, 0, 0);
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
    expect_broken(&fixture, "a request without a status byte");

    put_desc(queue, 0, base, 16, next, 1);
    put_desc(queue, 1, base - 1, 1, in, 0); /* Status outside. */
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
    expect_broken(&fixture, "a request without a status byte");

    static const uint32_t sizes[] = {
        0, 8, 15, 17, 129 * 16, UINT32_MAX, UINT32_MAX - 15
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        put_desc(queue, 0, queue->table_addr, sizes[i], indirect, 0);
        put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
        expect_broken(&fixture, "an indirect table of no sound size");
    }
    put_desc(queue, 0, queue->table_addr, 32, (uint16_t)(indirect | next), 1);
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
    expect_broken(&fixture, "an indirect descriptor with a next one");

    put_desc(queue, 0, queue->table_addr, 32, indirect, 0);
    table[0] = queue->desc[0];
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
    expect_broken(&fixture, "an indirect table inside another");

    static const uint64_t tables[] = { 0, VHOST_DRIVER_GUEST_BASE - 8,
                                       VHOST_DRIVER_GUEST_BASE + 16 * MIB - 8,
                                       UINT64_MAX - 7, UINT64_MAX };
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        put_desc(queue, 0, tables[i], 32, indirect, 0);
        put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
        expect_broken(&fixture, "an indirect table outside the shared memory");
    }
    put_desc(queue, 0, queue->table_addr, 32, indirect, 0);
    table[0] =
        (struct vring_desc){ .flags = le16_make(next), .next = le16_make(2) };
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
    expect_broken(&fixture, "a descriptor beyond its table");
    table[0] =
        (struct vring_desc){ .flags = le16_make(next), .next = le16_make(0) };
    put_desc(queue, 0, queue->table_addr, 32, indirect, 0);
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
    expect_broken(&fixture, "a chain that is a loop");
    vhost_fixture_down(&fixture);
}

static void
test_indirect_not_negotiated(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = {
        .driver = { .queue_count = 2,
                    .queue_size = 16,
                    .features_off = VIRTIO_F_RING_INDIRECT_DESC },
    };
    (void)state;

    vhost_fixture_up(&fixture, &options);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    put_desc(queue, 0, queue->table_addr, 32, VRING_DESC_INDIRECT, 0);
    put_avail(queue, (uint16_t)(queue->avail_idx + 1), 0);
    expect_broken(&fixture, "was not negotiated");
    vhost_fixture_down(&fixture);
}

/* Buffers outside the memory fail the request, with a status; the ring lives.
 */
static void
test_buffers_outside(void **state)
{
    struct vhost_fixture fixture;
    static const struct {
        uint64_t addr;
        uint32_t size;
    } bad[] = {
        { 0, 512 },
        { VHOST_DRIVER_GUEST_BASE - 512, 1024 },
        { VHOST_DRIVER_GUEST_BASE + 16 * MIB - 512, 1024 },
        { VHOST_DRIVER_GUEST_BASE + 16 * MIB, 512 },
        { UINT64_MAX - 511, 512 },
        { UINT64_MAX - 511, 1024 },
        { UINT64_MAX, UINT32_MAX },
        { VHOST_DRIVER_GUEST_BASE, UINT32_MAX },
    };
    (void)state;

    start_two(&fixture);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (uint32_t type = 0; type <= 1; type++) {
            assert_int_equal(vhost_driver_blk_wait(queue, type, 0, bad[i].addr,
                                                   bad[i].size),
                             VIRTIO_BLK_S_IOERR);
        }
    }
    assert_int_equal(fixture.volume->log_count, 0);
    vhost_fixture_down(&fixture);
}

/* Headers that are too short: refused with a status. */
static void
test_short_header(void **state)
{
    struct vhost_fixture fixture;
    (void)state;

    start_two(&fixture);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    for (uint32_t size = 0; size < 16; size++) {
        uint64_t at = vhost_driver_alloc(&fixture.driver, 32, 1);
        struct vhost_driver_seg segs[] = {
            { .addr = at, .size_bytes = size },
            { .addr = at + 16, .size_bytes = 1, .writable = true },
        };
        *vhost_driver_at(&fixture.driver, at + 16) = 0xff;
        assert_int_equal(vhost_driver_add(queue, size == 0 ? segs + 1 : segs,
                                          size == 0 ? 1 : 2, false, 0, NULL),
                         0);
        (void)vhost_driver_kick(queue);
        vhost_fixture_settle(&fixture);
        uint64_t cookie;
        assert_int_equal(vhost_driver_take(queue, &cookie, NULL, NULL), 1);
        assert_int_equal(*vhost_driver_at(&fixture.driver, at + 16),
                         VIRTIO_BLK_S_IOERR);
    }
    vhost_fixture_down(&fixture);
}

/* An in-flight region full of nonsense. */
static void
test_region_garbage(void **state)
{
    struct vhost_fixture fixture;
    struct rng rng;
    (void)state;

    rng_init(&rng, 9);
    for (uint32_t round = 0; round < 40; round++) {
        vhost_fixture_up(&fixture, NULL);
        struct vhost_driver *driver = &fixture.driver;
        vhost_driver_disconnect(driver);
        vhost_fixture_settle(&fixture);
        uint64_t bytes = le64_get(driver->inflight.mmap_size);
        uint8_t *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                            driver->inflight_fd, 0);
        assert_true(map != MAP_FAILED);
        rng_fill(&rng, map, bytes);
        if (round % 2 == 0) { /* A head that looks right. */
            memcpy(map + 8, "\1\0\200\0", 4);
            for (uint32_t i = 0; i < 128; i++) {
                map[16 + 16 * i] = (uint8_t)rng_below(&rng, 2);
            }
        }
        munmap(map, bytes);
        rng_fill(&rng, driver->queues[0].desc, 128 * 16);
        rng_fill(&rng, driver->queues[0].avail, 260);
        assert_int_equal(vhost_driver_connect(driver), 0);
        int result = vhost_driver_start(driver);
        assert_true(result == 0 || result == -ECONNRESET);
        vhost_fixture_settle(&fixture);
        vhost_fixture_down(&fixture);
    }
}

/* The memory may not be resized under the in-flight mapping. */
static void
test_region_is_sealed(void **state)
{
    struct vhost_fixture fixture;
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    assert_int_equal(ftruncate(fixture.driver.inflight_fd, 0), -1);
    assert_int_equal(errno, EPERM);
    vhost_fixture_down(&fixture);
}

/* Random bytes instead of messages. */
static void
test_noise(void **state)
{
    struct vhost_fixture fixture;
    struct rng rng;
    uint8_t bytes[600];
    (void)state;

    rng_init(&rng, 1);
    vhost_fixture_up(&fixture,
                     &(struct vhost_fixture_options){ .no_start = true });
    struct vhost_driver *driver = &fixture.driver;
    for (uint32_t i = 0; i < 2000; i++) {
        struct vhost_wire_header header = {
            .request = le32_make((uint32_t)rng_below(&rng, 40)),
            .flags = le32_make(VHOST_FLAG_VERSION),
            .size_bytes = le32_make((uint32_t)rng_below(&rng, 300)),
        };
        uint32_t size = (uint32_t)rng_below(&rng, sizeof bytes);
        rng_fill(&rng, bytes, sizeof bytes);
        if (rng_chance(&rng, 3, 4)) {
            memcpy(bytes, &header, sizeof header);
        }
        assert_int_equal(vhost_driver_connect(driver), 0);
        assert_int_equal(send(driver->fd, bytes, size, 0), size);
        vhost_fixture_settle(&fixture);
        vhost_driver_disconnect(driver);
        vhost_fixture_settle(&fixture);
    }
    vhost_fixture_down(&fixture);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_descriptor_counts),
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_while_running),
        cmocka_unit_test(test_ring_addresses),
        cmocka_unit_test(test_indices),
        cmocka_unit_test(test_head_twice),
        cmocka_unit_test(test_chains),
        cmocka_unit_test(test_indirect_not_negotiated),
        cmocka_unit_test(test_buffers_outside),
        cmocka_unit_test(test_short_header),
        cmocka_unit_test(test_region_garbage),
        cmocka_unit_test(test_region_is_sealed),
        cmocka_unit_test(test_noise),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
