/* SPDX-License-Identifier: Apache-2.0 */

/* The life of the vhost-user export's rings: notification both ways, stop and
 * start, draining (vhost.h (4)), the end of the export. */

#include "tests/unit/unit.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "lib/base/units.h"
#include "tests/unit/vhost_fixture.h"

/* ---- Notification ---- */

static void
check_calls(uint64_t features_off)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = {
        .driver.features_off = features_off,
    };

    vhost_fixture_up(&fixture, &options);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    uint64_t data = vhost_driver_alloc(&fixture.driver, 4096, 4096);
    assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_IN, 0, data,
                                           512),
                     0);
    (void)vhost_driver_was_called(queue); /* A start always calls. */

    for (uint32_t round = 0; round < 70000; round += 2) {
        bool wants = (round & 4) != 0;
        if (wants) {
            (void)vhost_driver_want_call(queue);
        } else {
            vhost_driver_refuse_calls(queue);
        }
        for (uint32_t k = 0; k < 2; k++) {
            assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_GET_ID, 0,
                                              data, 20, true, k, NULL),
                             0);
        }
        assert_true(vhost_driver_kick(queue));
        vhost_fixture_settle(&fixture);
        assert_int_equal(vhost_driver_was_called(queue), wants);
        assert_int_equal(vhost_fixture_take(queue, NULL), 0);
        assert_int_equal(vhost_fixture_take(queue, NULL), 0);
    }
    vhost_fixture_down(&fixture);
}

static void
test_calls_event_idx(void **state)
{
    (void)state;
    check_calls(0); /* Indices wrap on the way. */
}

static void
test_calls_flags(void **state)
{
    (void)state;
    check_calls(VIRTIO_F_RING_EVENT_IDX);
}

/* used_event anywhere in, before or behind a batch of completions: a call if
 * and only if the batch passes it (virtio 1.2, 2.7.7.2). */
static void
test_used_event(void **state)
{
    struct vhost_fixture fixture;
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    uint64_t data = vhost_driver_alloc(&fixture.driver, 4096, 4096);
    (void)vhost_driver_was_called(queue);
    for (uint32_t batch = 1; batch <= 5; batch++) {
        for (int32_t event = -3; event <= 8; event++) {
            struct le16 wire = le16_make((uint16_t)(queue->last_used + event));
            memcpy(queue->avail + VRING_RING_OFFSET + 2 * queue->num, &wire,
                   sizeof wire);
            for (uint32_t i = 0; i < batch; i++) {
                assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_GET_ID, 0,
                                                  data, 20, true, 0, NULL),
                                 0);
            }
            (void)vhost_driver_kick(queue);
            vhost_fixture_settle(&fixture);
            assert_int_equal(vhost_driver_was_called(queue),
                             event >= 0 && event < (int32_t)batch);
            for (uint32_t i = 0; i < batch; i++) {
                assert_int_equal(vhost_fixture_take(queue, NULL), 0);
            }
        }
    }
    vhost_fixture_down(&fixture);
}

/* While the export spins the driver is told not to kick; then again to. */
static void
check_spin(uint64_t features_off)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = {
        .driver.features_off = features_off,
        .spin_ns = 50000,
    };

    vhost_fixture_up(&fixture, &options);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    uint64_t data = vhost_driver_alloc(&fixture.driver, 4096, 4096);
    for (uint32_t round = 0; round < 3; round++) {
        assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_IN, 0, data, 512,
                                          true, 0, NULL),
                         0);
        assert_true(vhost_driver_kick(queue));
        vhost_fixture_settle(&fixture);
        assert_int_equal(vhost_fixture_take(queue, NULL), 0);
        for (uint32_t k = 0; k < 5; k++) {
            fixture.manual.now_ns += 40000;
            assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_IN, 0, data,
                                              512, true, 0, NULL),
                             0);
            assert_false(vhost_driver_kick(queue));
            vhost_fixture_settle(&fixture);
            assert_int_equal(vhost_fixture_take(queue, NULL), 0);
        }
        fixture.manual.now_ns += 60000;
        vhost_fixture_settle(&fixture);
    }
    vhost_fixture_down(&fixture);
}

static void
test_spin(void **state)
{
    (void)state;
    check_spin(0);
    check_spin(VIRTIO_F_RING_EVENT_IDX);
}

/* ---- Draining: vhost.h (4) ---- */

static void
test_base_waits(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = { .driver.queue_count = 2 };
    struct vhost_wire_state wire = { .index = le32_make(0) };
    (void)state;

    vhost_fixture_up(&fixture, &options);
    struct vhost_driver *driver = &fixture.driver;
    uint64_t data = vhost_driver_alloc(driver, 4096, 4096);
    fixture.volume->holds = true;
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(vhost_driver_blk(&driver->queues[i], VIRTIO_BLK_T_IN,
                                          0, data, 4096, true, 7, NULL),
                         0);
        vhost_driver_kick(&driver->queues[i]);
    }
    vhost_fixture_settle(&fixture);
    assert_int_equal(fixture.volume->pending_count, 2);

    assert_int_equal(vhost_driver_send(driver, VHOST_GET_VRING_BASE, 0, &wire,
                                       sizeof wire, NULL, 0),
                     0);
    vhost_fixture_settle(&fixture);
    struct pollfd poll_fd = { .fd = driver->fd, .events = POLLIN };
    assert_int_equal(poll(&poll_fd, 1, 0), 0);
    /* Queue 0 fetches no more, and its last completion comes first. */
    assert_int_equal(vhost_driver_blk(&driver->queues[0], VIRTIO_BLK_T_IN, 0,
                                      data, 4096, true, 8, NULL),
                     0);
    vhost_driver_kick(&driver->queues[0]);
    vhost_fixture_settle(&fixture);
    assert_int_equal(fixture.volume->pending_count, 2);
    fake_volume_complete(fixture.volume, 0);
    assert_int_equal(vhost_driver_receive(driver, VHOST_GET_VRING_BASE, &wire,
                                          sizeof wire, NULL),
                     0);
    assert_int_equal(le32_get(wire.num), 1);
    assert_int_equal(vhost_fixture_take(&driver->queues[0], NULL), 0);
    vhost_fixture_assert_none(&driver->queues[0]);
    /* Queue 1 was not concerned. */
    fake_volume_complete(fixture.volume, 0);
    vhost_fixture_settle(&fixture);
    assert_int_equal(vhost_fixture_take(&driver->queues[1], NULL), 0);
    vhost_fixture_down(&fixture);
}

static void
test_stop_and_start(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = { .driver.queue_count = 3 };
    (void)state;

    vhost_fixture_up(&fixture, &options);
    struct vhost_driver *driver = &fixture.driver;
    uint64_t data = vhost_driver_alloc(driver, 4096, 4096);
    for (uint32_t round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(vhost_driver_blk_wait(&driver->queues[i],
                                                   VIRTIO_BLK_T_IN, round, data,
                                                   4096),
                             0);
        }
        assert_int_equal(vhost_driver_stop(driver), 0);
        /* Made available meanwhile: found at the start. */
        assert_int_equal(vhost_driver_blk(&driver->queues[1], VIRTIO_BLK_T_IN,
                                          0, data, 4096, true, 9, NULL),
                         0);
        vhost_fixture_settle(&fixture);
        vhost_fixture_assert_none(&driver->queues[1]);
        if (round == 3) {
            vhost_driver_reset(driver);
        }
        assert_int_equal(vhost_driver_start(driver), 0);
        vhost_fixture_settle(&fixture);
        if (round != 3) {
            assert_int_equal(vhost_fixture_take(&driver->queues[1], NULL), 0);
        }
    }
    vhost_fixture_down(&fixture);
}

static void
test_mem_table_waits(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_wire_mem table;
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct vhost_driver *driver = &fixture.driver;
    struct vhost_driver_queue *queue = &driver->queues[0];
    uint64_t data = vhost_driver_alloc(driver, 4096, 4096);
    memset(fixture.volume->bytes, 0x42, 4096);
    fixture.volume->holds = true;
    assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_IN, 0, data, 4096,
                                      true, 7, NULL),
                     0);
    vhost_driver_kick(queue);
    vhost_fixture_settle(&fixture);

    uint32_t size = vhost_driver_mem_table(driver, &table);
    assert_int_equal(vhost_driver_send(driver, VHOST_SET_MEM_TABLE,
                                       VHOST_FLAG_NEED_REPLY, &table, size,
                                       &driver->mem_fd, 1),
                     0);
    assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_IN, 0, data, 4096,
                                      true, 8, NULL),
                     0);
    vhost_driver_kick(queue);
    vhost_fixture_settle(&fixture);
    assert_int_equal(fixture.volume->pending_count, 1); /* Quiesced. */
    fake_volume_complete(fixture.volume, 0);
    vhost_fixture_settle(&fixture);
    struct le64 answer;
    assert_int_equal(vhost_driver_receive(driver, VHOST_SET_MEM_TABLE, &answer,
                                          sizeof answer, NULL),
                     0);
    assert_int_equal(le64_get(answer), 0);
    assert_int_equal(vhost_fixture_take(queue, NULL), 0);
    assert_int_equal(*vhost_driver_at(driver, data), 0x42);
    assert_int_equal(fixture.volume->pending_count, 1); /* It went on. */
    fake_volume_release(fixture.volume);
    vhost_fixture_settle(&fixture);
    assert_int_equal(vhost_fixture_take(queue, NULL), 0);
    vhost_fixture_down(&fixture);
}

/* A request that waits for payloads is finished before the ring stops. */
static void
test_base_waits_for_payloads(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = {
        .driver.mem_bytes = 64 * MIB,
        .pool = { .small_count = 1, .medium_count = 1, .large_count = 1 },
    };
    (void)state;

    vhost_fixture_up(&fixture, &options);
    struct vhost_driver *driver = &fixture.driver;
    uint64_t data = vhost_driver_alloc(driver, 8 * MIB, 4096);
    fixture.volume->holds = true;
    assert_int_equal(vhost_driver_blk(&driver->queues[0], VIRTIO_BLK_T_OUT, 0,
                                      data, 8 * 1024 * 1024, true, 0, NULL),
                     0);
    vhost_driver_kick(&driver->queues[0]);
    vhost_fixture_settle(&fixture);
    assert_int_equal(fixture.volume->pending_count, 1);
    struct vhost_wire_state wire = { .index = le32_make(0) };
    assert_int_equal(vhost_driver_send(driver, VHOST_GET_VRING_BASE, 0, &wire,
                                       sizeof wire, NULL, 0),
                     0);
    vhost_fixture_settle(&fixture);
    fake_volume_release(fixture.volume);
    assert_int_equal(vhost_driver_receive(driver, VHOST_GET_VRING_BASE, &wire,
                                          sizeof wire, NULL),
                     0);
    assert_int_equal(vhost_fixture_take(&driver->queues[0], NULL), 0);
    vhost_fixture_down(&fixture);
}

/* vhost_export_stop(): what is in flight is answered, then the socket closes.
 */
static void
test_export_stops(void **state)
{
    struct vhost_fixture fixture;
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct vhost_driver_queue *queue = &fixture.driver.queues[0];
    uint64_t data = vhost_driver_alloc(&fixture.driver, 4096, 4096);
    fixture.volume->holds = true;
    assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_OUT, 0, data, 4096,
                                      true, 0, NULL),
                     0);
    vhost_driver_kick(queue);
    vhost_fixture_settle(&fixture);
    vhost_fixture_stop_export(&fixture);
    assert_false(fixture.stopped);
    vhost_fixture_assert_none(queue);
    fake_volume_release(fixture.volume);
    vhost_fixture_settle(&fixture);
    assert_true(fixture.stopped);
    assert_int_equal(vhost_fixture_take(queue, NULL), 0);
    uint64_t value;
    assert_int_equal(vhost_driver_ask_u64(&fixture.driver, VHOST_GET_FEATURES,
                                          &value),
                     -ECONNRESET);
    vhost_fixture_down(&fixture);
}

static void
test_without_extensions(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = {
        .driver.features_off = VHOST_F_PROTOCOL_FEATURES |
                               VIRTIO_F_RING_INDIRECT_DESC |
                               VIRTIO_F_RING_EVENT_IDX,
    };
    (void)state;

    /* The ring is enabled by its start; nothing is acknowledged. */
    vhost_fixture_up(&fixture, &options);
    uint64_t data = vhost_driver_alloc(&fixture.driver, 4096, 4096);
    for (uint32_t i = 0; i < 300; i++) {
        assert_int_equal(vhost_driver_blk_wait(&fixture.driver.queues[0],
                                               VIRTIO_BLK_T_OUT, i, data, 4096),
                         0);
    }
    vhost_fixture_down(&fixture);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_event_idx),
        cmocka_unit_test(test_calls_flags),
        cmocka_unit_test(test_used_event),
        cmocka_unit_test(test_spin),
        cmocka_unit_test(test_base_waits),
        cmocka_unit_test(test_stop_and_start),
        cmocka_unit_test(test_mem_table_waits),
        cmocka_unit_test(test_base_waits_for_payloads),
        cmocka_unit_test(test_export_stops),
        cmocka_unit_test(test_without_extensions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
