/* SPDX-License-Identifier: Apache-2.0 */

/* The vhost-user export, seen by an honest driver: every request kind in every
 * layout, several queues, back-pressure. */

#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "lib/base/rng.h"
#include "lib/base/units.h"
#include "tests/unit/vhost_fixture.h"

/* ---- Features and config space ---- */

static void
test_config(void **state)
{
    struct vhost_fixture fixture;
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    const struct virtio_blk_config_space *config = &fixture.driver.config;
    assert_int_equal(le64_get(config->capacity_sectors),
                     VHOST_FIXTURE_BYTES / 512);
    assert_int_equal(le32_get(config->seg_max), 126);
    assert_int_equal(le32_get(config->block_size), 512);
    assert_int_equal(config->physical_block_exponent, 3);
    assert_int_equal(config->writeback, 1);
    assert_int_equal(le16_get(config->queue_count), VHOST_QUEUES_MAX);
    assert_true((fixture.driver.features & VIRTIO_BLK_F_FLUSH) != 0);
    assert_true((fixture.driver.features & VIRTIO_BLK_F_CONFIG_WCE) != 0);
    assert_true(vhost_export_is_connected(fixture.vhost_export));
    vhost_fixture_down(&fixture);
}

static void
test_writeback_off(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_wire_config wire = {
        .offset =
            le32_make(offsetof(struct virtio_blk_config_space, writeback)),
        .size_bytes = le32_make(1),
    };
    uint32_t size = offsetof(struct vhost_wire_config, bytes) + 1;
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    uint64_t data = vhost_driver_alloc(&fixture.driver, 4096, 4096);
    assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_OUT, 0, data,
                                           4096),
                     0);
    assert_false(fixture.volume->log[0].fua);

    assert_int_equal(vhost_driver_tell(&fixture.driver, VHOST_SET_CONFIG, &wire,
                                       size, NULL, 0),
                     0);
    assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_OUT, 0, data,
                                           4096),
                     0);
    assert_true(fixture.volume->log[1].fua);
    assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_IN, 0, data,
                                           4096),
                     0);
    assert_false(fixture.volume->log[2].fua);

    wire.bytes[0] = 1;
    assert_int_equal(vhost_driver_tell(&fixture.driver, VHOST_SET_CONFIG, &wire,
                                       size, NULL, 0),
                     0);
    assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_OUT, 0, data,
                                           4096),
                     0);
    assert_false(fixture.volume->log[3].fua);
    vhost_fixture_down(&fixture);
}

/* A driver that cannot flush gets stable writes. */
static void
test_no_flush_feature(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = {
        .driver.features_off = VIRTIO_BLK_F_FLUSH,
    };
    (void)state;

    vhost_fixture_up(&fixture, &options);
    uint64_t data = vhost_driver_alloc(&fixture.driver, 4096, 4096);
    assert_int_equal(vhost_driver_blk_wait(&fixture.driver.queues[0],
                                           VIRTIO_BLK_T_OUT, 0, data, 4096),
                     0);
    assert_true(fixture.volume->log[0].fua);
    vhost_fixture_down(&fixture);
}

/* ---- Request kinds ---- */

static void
test_read_write(void **state)
{
    struct vhost_fixture fixture;
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct vhost_driver *driver = &fixture.driver;
    struct vhost_driver_queue *queue = &driver->queues[0];
    uint64_t data = vhost_driver_alloc(driver, MIB, 512);
    for (uint64_t size = 512; size <= MIB; size = size * 3 / 512 * 512) {
        uint64_t sector = 7 + size / 1024;
        vhost_fixture_fill(vhost_driver_at(driver, data), size, size);
        assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_OUT, sector,
                                               data, (uint32_t)size),
                         0);
        assert_memory_equal(fixture.volume->bytes + sector * 512,
                            vhost_driver_at(driver, data), size);
        memset(vhost_driver_at(driver, data), 0, size);
        assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_IN, sector,
                                               data, (uint32_t)size),
                         0);
        assert_memory_equal(fixture.volume->bytes + sector * 512,
                            vhost_driver_at(driver, data), size);
    }
    assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_FLUSH, 0, 0, 0),
                     0);
    assert_int_equal(fixture.volume->log[fixture.volume->log_count - 1].kind,
                     VOLUME_FLUSH);
    vhost_fixture_down(&fixture);
}

static void
test_get_id(void **state)
{
    struct vhost_fixture fixture;
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct vhost_driver *driver = &fixture.driver;
    uint64_t data = vhost_driver_alloc(driver, 64, 1);
    memset(vhost_driver_at(driver, data), 0xee, 64);
    assert_int_equal(vhost_driver_blk_wait(&driver->queues[0],
                                           VIRTIO_BLK_T_GET_ID, 0, data, 20),
                     0);
    assert_memory_equal(vhost_driver_at(driver, data), "weft-serial-01234567",
                        20);
    assert_int_equal(*vhost_driver_at(driver, data + 20), 0xee);
    assert_int_equal(vhost_driver_blk_wait(&driver->queues[0],
                                           VIRTIO_BLK_T_GET_ID, 0, data, 4),
                     0);
    vhost_fixture_down(&fixture);
}

static uint8_t
send_ranges(struct vhost_fixture *fixture, uint32_t type,
            const struct virtio_blk_range *ranges, uint32_t bytes)
{
    uint64_t data = vhost_driver_alloc(&fixture->driver, bytes + 1, 16);

    memcpy(vhost_driver_at(&fixture->driver, data), ranges, bytes);
    int status =
        vhost_driver_blk_wait(&fixture->driver.queues[0], type, 0, data, bytes);
    assert_true(status >= 0);
    return (uint8_t)status;
}

static struct virtio_blk_range
range(uint64_t sector, uint32_t count, uint32_t flags)
{
    return (struct virtio_blk_range){
        .sector = le64_make(sector),
        .sector_count = le32_make(count),
        .flags = le32_make(flags),
    };
}

static void
test_ranges(void **state)
{
    struct vhost_fixture fixture;
    struct virtio_blk_range ranges[18];
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct volume *volume = fixture.volume;
    memset(volume->bytes, 0x77, volume->size_bytes);
    ranges[0] = range(8, 16, 0);
    ranges[1] = range(100, 0, 0);
    ranges[2] = range(1024, 1, 0);
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_DISCARD, ranges, 48),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(volume->log_count, 2); /* None for the empty one. */
    assert_int_equal(volume->bytes[8 * 512 - 1], 0x77);
    assert_int_equal(volume->bytes[8 * 512], 0);
    assert_int_equal(volume->bytes[24 * 512 - 1], 0);
    assert_int_equal(volume->bytes[24 * 512], 0x77);
    assert_int_equal(volume->bytes[1024 * 512], 0);

    ranges[0] = range(40, 2, VIRTIO_BLK_RANGE_UNMAP);
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_WRITE_ZEROES, ranges,
                                 16),
                     VIRTIO_BLK_S_OK);
    assert_int_equal(volume->bytes[40 * 512], 0);
    /* 1.2, 5.2.6.2: that flag is none of a discard's. */
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_DISCARD, ranges, 16),
                     VIRTIO_BLK_S_UNSUPP);
    ranges[0] = range(40, 2, 2);
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_WRITE_ZEROES, ranges,
                                 16),
                     VIRTIO_BLK_S_UNSUPP);

    uint64_t end = volume->size_bytes / 512;
    ranges[0] = range(end, 0, 0);
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_DISCARD, ranges, 16),
                     VIRTIO_BLK_S_OK);
    ranges[0] = range(end - 1, 2, 0);
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_DISCARD, ranges, 16),
                     VIRTIO_BLK_S_IOERR);
    ranges[0] = range(UINT64_MAX, 2, 0);
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_DISCARD, ranges, 16),
                     VIRTIO_BLK_S_IOERR);
    ranges[0] = range(0, UINT32_MAX, 0);
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_DISCARD, ranges, 16),
                     VIRTIO_BLK_S_IOERR);
    ranges[0] = range(0, 1, 0);
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_DISCARD, ranges, 15),
                     VIRTIO_BLK_S_IOERR);
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_DISCARD, ranges, 0),
                     VIRTIO_BLK_S_IOERR);
    for (uint32_t i = 0; i < 17; i++) {
        ranges[i] = range(i * 8, 8, 0);
    }
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_DISCARD, ranges,
                                 17 * 16),
                     VIRTIO_BLK_S_IOERR);
    assert_int_equal(send_ranges(&fixture, VIRTIO_BLK_T_DISCARD, ranges,
                                 16 * 16),
                     VIRTIO_BLK_S_OK);
    vhost_fixture_down(&fixture);
}

static void
test_refusals(void **state)
{
    struct vhost_fixture fixture;
    static const uint32_t odd_types[] = { 2,  3,           5,         9,
                                          14, 0x80000000u, UINT32_MAX };
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    uint64_t data = vhost_driver_alloc(&fixture.driver, 8192, 4096);
    uint64_t end = VHOST_FIXTURE_BYTES / 512;
    for (size_t i = 0; i < sizeof odd_types / sizeof odd_types[0]; i++) {
        assert_int_equal(vhost_driver_blk_wait(queue, odd_types[i], 0, data,
                                               512),
                         VIRTIO_BLK_S_UNSUPP);
    }
    for (uint32_t type = VIRTIO_BLK_T_IN; type <= VIRTIO_BLK_T_OUT; type++) {
        assert_int_equal(vhost_driver_blk_wait(queue, type, end, data, 512),
                         VIRTIO_BLK_S_IOERR);
        assert_int_equal(vhost_driver_blk_wait(queue, type, end - 1, data,
                                               1024),
                         VIRTIO_BLK_S_IOERR);
        assert_int_equal(vhost_driver_blk_wait(queue, type, UINT64_MAX, data,
                                               1024),
                         VIRTIO_BLK_S_IOERR);
        assert_int_equal(vhost_driver_blk_wait(queue, type, UINT64_MAX / 512,
                                               data, 512),
                         VIRTIO_BLK_S_IOERR);
        assert_int_equal(vhost_driver_blk_wait(queue, type, 0, data, 513),
                         VIRTIO_BLK_S_IOERR);
        assert_int_equal(vhost_driver_blk_wait(queue, type, 0, data, 1),
                         VIRTIO_BLK_S_IOERR);
        assert_int_equal(vhost_driver_blk_wait(queue, type, 0, 0, 0),
                         VIRTIO_BLK_S_OK);
        assert_int_equal(vhost_driver_blk_wait(queue, type, end - 1, data, 512),
                         VIRTIO_BLK_S_OK);
    }
    vhost_fixture_down(&fixture);
}

static void
test_volume_fails(void **state)
{
    struct vhost_fixture fixture;
    static const int results[] = { -EIO, -ENOSPC, -ESTALE, -ESHUTDOWN };
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    uint64_t data = vhost_driver_alloc(&fixture.driver, 4 * MIB, 4096);
    for (size_t i = 0; i < 4; i++) {
        fixture.volume->fail_result = results[i];
        fixture.volume->fail_count = 1;
        assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_OUT, 0, data,
                                               4096),
                         VIRTIO_BLK_S_IOERR);
        fixture.volume->fail_count = 1; /* One part of four. */
        assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_IN, 0, data,
                                               4 * 1024 * 1024),
                         VIRTIO_BLK_S_IOERR);
        fixture.volume->fail_count = 1;
        assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_FLUSH, 0, 0,
                                               0),
                         VIRTIO_BLK_S_IOERR);
    }
    assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_OUT, 0, data,
                                           4096),
                     VIRTIO_BLK_S_OK);
    vhost_fixture_down(&fixture);
}

/* ---- Layouts ---- */

/* Header and status in pieces, data in segments of odd sizes, over the border
 * of two regions, direct and indirect. */
static void
test_layouts(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = { .driver.regions = 5 };
    struct rng rng;
    (void)state;

    rng_init(&rng, 4);
    vhost_fixture_up(&fixture, &options);
    struct vhost_driver *driver = &fixture.driver;
    struct vhost_driver_queue *queue = &driver->queues[0];
    uint64_t mem_end = VHOST_DRIVER_GUEST_BASE + 16 * MIB;
    uint64_t area = vhost_driver_alloc(driver, 1, 4096);

    for (uint32_t round = 0; round < 400; round++) {
        struct vhost_driver_seg segs[64];
        uint32_t count = 0;
        bool is_write = (round & 1) != 0;
        uint32_t data_bytes = 512 * (uint32_t)rng_between(&rng, 1, 40);
        uint64_t sector = rng_below(&rng, 1000);
        /* Somewhere in memory: across borders often enough. */
        uint64_t at = area + rng_below(&rng, mem_end - area - 40000);
        struct virtio_blk_header header = {
            .type = le32_make(is_write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN),
            .sector = le64_make(sector),
        };
        memcpy(vhost_driver_at(driver, at), &header, 16);
        vhost_fixture_fill(vhost_driver_at(driver, at + 16), data_bytes,
                           is_write ? round : 0);
        *vhost_driver_at(driver, at + 16 + data_bytes) = 0xff;

        /* One run of memory, cut at random; "in" begins at a cut. */
        uint32_t out_bytes = is_write ? 16 + data_bytes : 16;
        uint32_t total = 16 + data_bytes + 1;
        for (uint32_t done = 0; done < total;) {
            uint32_t limit = done < out_bytes ? out_bytes : total;
            uint32_t step = (uint32_t)rng_between(&rng, 1, 3000);
            if (count >= 40 || step > limit - done) {
                step = limit - done;
            }
            if (rng_chance(&rng, 1, 8)) {
                step = 0; /* Empty segments are harmless. */
            }
            segs[count++] = (struct vhost_driver_seg){
                .addr = at + done,
                .size_bytes = step,
                .writable = done >= out_bytes,
            };
            done += step;
            assert_true(count < 64);
        }
        assert_int_equal(vhost_driver_add(queue, segs, count,
                                          rng_chance(&rng, 1, 2), round, NULL),
                         0);
        (void)vhost_driver_kick(queue);
        vhost_fixture_settle(&fixture);
        uint64_t cookie;
        uint32_t size;
        assert_int_equal(vhost_driver_take(queue, &cookie, NULL, &size), 1);
        assert_int_equal(cookie, round);
        assert_int_equal(size, total - out_bytes);
        assert_int_equal(*vhost_driver_at(driver, at + 16 + data_bytes), 0);
        assert_memory_equal(vhost_driver_at(driver, at + 16),
                            fixture.volume->bytes + sector * 512, data_bytes);
    }
    vhost_fixture_down(&fixture);
}

static void
test_seg_max(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_driver_seg segs[200];
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct vhost_driver *driver = &fixture.driver;
    uint64_t data = vhost_driver_alloc(driver, 200 * 512, 4096);
    vhost_fixture_fill(vhost_driver_at(driver, data), 200 * 512, 1);
    for (uint32_t i = 0; i < 200; i++) {
        segs[i] = (struct vhost_driver_seg){ .addr = data + i * 512,
                                             .size_bytes = 512 };
    }
    assert_int_equal(vhost_driver_blk_segs(&driver->queues[0], VIRTIO_BLK_T_OUT,
                                           0, segs, 126, true, 1, NULL),
                     0);
    vhost_driver_kick(&driver->queues[0]);
    vhost_fixture_settle(&fixture);
    assert_int_equal(vhost_fixture_take(&driver->queues[0], NULL),
                     VIRTIO_BLK_S_OK);
    assert_memory_equal(fixture.volume->bytes, vhost_driver_at(driver, data),
                        126 * 512);
    vhost_fixture_down(&fixture);
}

/* With rings of 256 the chain may be longer, but not the request. */
static void
test_seg_max_exceeded(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = { .driver.queue_size = 256 };
    struct vhost_driver_seg segs[200];
    (void)state;

    vhost_fixture_up(&fixture, &options);
    struct vhost_driver *driver = &fixture.driver;
    uint64_t data = vhost_driver_alloc(driver, 200 * 512, 4096);
    for (uint32_t i = 0; i < 200; i++) {
        segs[i] = (struct vhost_driver_seg){ .addr = data + i * 512,
                                             .size_bytes = 512,
                                             .writable = true };
    }
    for (uint32_t count = 126; count <= 200; count += 37) {
        for (uint32_t indirect = 0; indirect < 2; indirect++) {
            assert_int_equal(vhost_driver_blk_segs(&driver->queues[0],
                                                   VIRTIO_BLK_T_IN, 0, segs,
                                                   count, indirect != 0, 1,
                                                   NULL),
                             0);
            vhost_driver_kick(&driver->queues[0]);
            vhost_fixture_settle(&fixture);
            assert_int_equal(vhost_fixture_take(&driver->queues[0], NULL),
                             count <= 126 ? VIRTIO_BLK_S_OK
                                          : VIRTIO_BLK_S_IOERR);
        }
    }
    vhost_fixture_down(&fixture);
}

/* More than PAYLOAD_BYTES_MAX: parts, and fewer payloads than parts. */
static void
test_large(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = {
        .driver.mem_bytes = 64 * MIB,
        .pool = { .small_count = 1, .medium_count = 1, .large_count = 2 },
    };
    (void)state;

    vhost_fixture_up(&fixture, &options);
    struct vhost_driver *driver = &fixture.driver;
    uint32_t size = 9 * 1024 * 1024 + 512;
    uint64_t data = vhost_driver_alloc(driver, size, 512);
    vhost_fixture_fill(vhost_driver_at(driver, data), size, 3);
    assert_int_equal(vhost_driver_blk_wait(&driver->queues[0], VIRTIO_BLK_T_OUT,
                                           3, data, size),
                     0);
    assert_memory_equal(fixture.volume->bytes + 3 * 512,
                        vhost_driver_at(driver, data), size);
    assert_int_equal(fixture.volume->log_count, 10);
    assert_true(fixture.volume->pending_max <= 2);
    memset(vhost_driver_at(driver, data), 0, size);
    assert_int_equal(vhost_driver_blk_wait(&driver->queues[0], VIRTIO_BLK_T_IN,
                                           3, data, size),
                     0);
    assert_memory_equal(fixture.volume->bytes + 3 * 512,
                        vhost_driver_at(driver, data), size);
    vhost_fixture_down(&fixture);
}

/* ---- Many at once ---- */

/* All queues full, pool nearly empty, completions in any order: each request
 * completes once, with its own bytes. */
static void
test_storm(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = {
        .driver = { .queue_count = 4, .mem_bytes = 64 * MIB },
        .pool = { .small_count = 5, .medium_count = 3, .large_count = 1 },
    };
    struct rng rng;
    uint64_t slots[4 * 32];
    bool is_out[4 * 32] = { false };
    uint32_t completed = 0;
    (void)state;

    rng_init(&rng, 11);
    vhost_fixture_up(&fixture, &options);
    struct vhost_driver *driver = &fixture.driver;
    for (uint32_t i = 0; i < 128; i++) {
        slots[i] = vhost_driver_alloc(driver, 64 * KIB, 4096);
    }
    fixture.volume->holds = true;
    for (uint32_t round = 0; round < 3000; round++) {
        uint32_t slot = (uint32_t)rng_below(&rng, 128);
        struct vhost_driver_queue *queue = &driver->queues[slot / 32];
        if (!is_out[slot]) {
            uint32_t bytes = 512 * (uint32_t)rng_between(&rng, 1, 128);
            bool is_write = rng_chance(&rng, 1, 2);
            /* Each slot has its own 64 KiB of the volume. */
            vhost_fixture_fill(vhost_driver_at(driver, slots[slot]), bytes,
                               round);
            assert_int_equal(vhost_driver_blk(queue,
                                              is_write ? VIRTIO_BLK_T_OUT
                                                       : VIRTIO_BLK_T_IN,
                                              slot * 128, slots[slot], bytes,
                                              true, slot, NULL),
                             0);
            is_out[slot] = true;
            if (rng_chance(&rng, 1, 3)) {
                for (uint32_t i = 0; i < 4; i++) {
                    vhost_driver_kick(&driver->queues[i]);
                }
            }
        }
        (void)manual_io_turn(&fixture.manual);
        while (fixture.volume->pending_count > 0 && rng_chance(&rng, 1, 2)) {
            fake_volume_complete(
                fixture.volume,
                (uint32_t)rng_below(&rng, fixture.volume->pending_count));
        }
        for (uint32_t i = 0; i < 4; i++) {
            uint64_t cookie;
            int result;
            while ((result = vhost_driver_take(&driver->queues[i], &cookie,
                                               NULL, NULL)) > 0) {
                assert_true(cookie / 32 == i && is_out[cookie]);
                is_out[cookie] = false;
                completed++;
                assert_memory_equal(vhost_driver_at(driver, slots[cookie]),
                                    fixture.volume->bytes + cookie * 65536,
                                    512);
            }
            assert_int_equal(result, 0);
        }
    }
    for (uint32_t i = 0; i < 4; i++) {
        vhost_driver_kick(&driver->queues[i]);
    }
    fake_volume_release(fixture.volume);
    vhost_fixture_settle(&fixture);
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t cookie;
        while (vhost_driver_take(&driver->queues[i], &cookie, NULL, NULL) > 0) {
            is_out[cookie] = false;
            completed++;
        }
        assert_int_equal(driver->queues[i].out_count, 0);
    }
    assert_true(completed > 500);
    vhost_fixture_down(&fixture);
}

/* More requests than the export has: the rest waits in the rings. */
static void
test_more_than_requests(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = {
        .driver = { .queue_count = 16,
                    .queue_size = 128,
                    .mem_bytes = 128 * MIB },
    };
    (void)state;

    vhost_fixture_up(&fixture, &options);
    struct vhost_driver *driver = &fixture.driver;
    uint64_t data = vhost_driver_alloc(driver, 4096, 4096);
    fixture.volume->holds = true;
    for (uint32_t i = 0; i < 16; i++) {
        for (uint32_t k = 0; k < 128; k++) {
            assert_int_equal(vhost_driver_blk(&driver->queues[i],
                                              VIRTIO_BLK_T_IN, k * 8, data,
                                              4096, true, k, NULL),
                             0);
        }
        vhost_driver_kick(&driver->queues[i]);
    }
    vhost_fixture_settle(&fixture);
    assert_in_range(fixture.volume->pending_count, 200, 256);
    fake_volume_release(fixture.volume);
    vhost_fixture_settle(&fixture);
    for (uint32_t i = 0; i < 16; i++) {
        for (uint32_t k = 0; k < 128; k++) {
            assert_int_equal(vhost_fixture_take(&driver->queues[i], NULL), 0);
        }
    }
    vhost_fixture_down(&fixture);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_writeback_off),
        cmocka_unit_test(test_no_flush_feature),
        cmocka_unit_test(test_read_write),
        cmocka_unit_test(test_get_id),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_volume_fails),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_seg_max),
        cmocka_unit_test(test_seg_max_exceeded),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_more_than_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
