/* SPDX-License-Identifier: Apache-2.0 */

/* The vhost-user export on a real reactor: watches, the poller, and a driver on
 * another thread that kicks and is called by eventfd. */

#include "tests/unit/unit.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "blockd/export/vhost.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/rng.h"
#include "lib/base/units.h"
#include "tests/support/fake_volume.h"
#include "tests/support/vhost_driver.h"
#include "tests/unit/uring_fixture.h"

#define VOLUME_BYTES (UINT64_C(8) << 20)
#define DEPTH 32u

struct world {
    struct reactor_call call;
    struct reactor *reactor;
    struct volume *volume;
    struct vhost_export *vhost_export;
    struct latch stopped;
    uint64_t spin_ns;
    char path[64];
};

static void
change_options(struct reactor_options *options)
{
    options->arena_bytes = 64 * MIB;
}

static void
run_up(struct reactor_call *call)
{
    struct world *world = container_of(call, struct world, call);
    struct payload_pool_options pool = { .small_count = 64,
                                         .medium_count = 8,
                                         .large_count = 2 };
    struct vhost_export_options options = {
        .io = reactor_io(world->reactor),
        .socket_path = world->path,
        .serial = "reactor",
        .spin_ns = world->spin_ns,
    };

    world->volume = fake_volume_new(options.io, VOLUME_BYTES, &pool);
    options.volume = world->volume;
    CHECK(vhost_export_new(&options, NULL, &world->vhost_export) == 0);
}

static void
on_stopped(void *owner)
{
    struct world *world = owner;
    latch_add(&world->stopped, 1);
}

static void
run_stop(struct reactor_call *call)
{
    struct world *world = container_of(call, struct world, call);
    vhost_export_stop(world->vhost_export, on_stopped, world);
}

static void
run_free(struct reactor_call *call)
{
    struct world *world = container_of(call, struct world, call);
    fake_volume_free(world->volume);
}

static void
wait_for_call(struct vhost_driver_queue *queue)
{
    struct pollfd poll_fd = { .fd = queue->call_fd, .events = POLLIN };

    if (!vhost_driver_want_call(queue)) {
        assert_int_equal(poll(&poll_fd, 1, 60000), 1); /* No lost wake-up. */
    }
    (void)vhost_driver_was_called(queue);
}

/* 'total' requests, at most DEPTH at once, each slot in its own blocks. */
static void
load(struct vhost_driver *driver, uint32_t total, uint32_t depth)
{
    struct vhost_driver_queue *queue = &driver->queues[0];
    uint64_t data[DEPTH];
    uint64_t salt[DEPTH] = { 0 };
    bool is_read[DEPTH] = { false };
    uint32_t started = 0;
    uint32_t completed = 0;

    for (uint32_t i = 0; i < depth; i++) {
        data[i] = vhost_driver_alloc(driver, 4096, 4096);
    }
    for (uint32_t i = 0; i < depth; i++) {
        salt[i] = ++started;
        memset(vhost_driver_at(driver, data[i]), (int)salt[i], 4096);
        assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_OUT, i * 8,
                                          data[i], 4096, true, i, NULL),
                         0);
    }
    (void)vhost_driver_kick(queue);
    while (completed < total) {
        uint64_t slot;
        uint16_t head;
        int result;
        while ((result = vhost_driver_take(queue, &slot, &head, NULL)) > 0) {
            completed++;
            assert_int_equal(vhost_driver_status(queue, head), 0);
            uint8_t *bytes = vhost_driver_at(driver, data[slot]);
            if (is_read[slot]) {
                assert_int_equal(bytes[0], (uint8_t)salt[slot]);
                assert_int_equal(bytes[4095], (uint8_t)salt[slot]);
            }
            if (started >= total) {
                continue;
            }
            started++;
            is_read[slot] = !is_read[slot];
            if (!is_read[slot]) {
                salt[slot] = started;
                memset(bytes, (int)started, 4096);
            } else {
                memset(bytes, 0, 4096);
            }
            assert_int_equal(vhost_driver_blk(queue,
                                              is_read[slot] ? VIRTIO_BLK_T_IN
                                                            : VIRTIO_BLK_T_OUT,
                                              slot * 8, data[slot], 4096, true,
                                              slot, NULL),
                             0);
        }
        assert_int_equal(result, 0);
        (void)vhost_driver_kick(queue);
        if (completed < total) {
            wait_for_call(queue);
        }
    }
}

static void
check(uint64_t spin_ns, uint64_t features_off)
{
    struct world world = { .spin_ns = spin_ns };
    struct vhost_driver driver;
    struct vhost_driver_options options = { .path = world.path,
                                            .features_off = features_off };

    log_set_level(LOG_LEVEL_ERROR);
    latch_init(&world.stopped);
    (void)snprintf(world.path, sizeof world.path, "/tmp/weft-vhost-r%d.sock",
                   (int)getpid());
    world.reactor = fixture_reactor(change_options);
    fixture_run(world.reactor, &world.call, run_up);
    assert_int_equal(vhost_driver_init(&driver, &options), 0);
    for (uint32_t life = 0; life < 3; life++) {
        assert_int_equal(vhost_driver_connect(&driver), 0);
        assert_int_equal(vhost_driver_start(&driver), 0);
        load(&driver, 3000, 1);
        load(&driver, 20000, DEPTH);
        if (life == 1) {
            vhost_driver_disconnect(&driver);
        } else {
            assert_int_equal(vhost_driver_stop(&driver), 0);
            vhost_driver_disconnect(&driver);
        }
    }
    fixture_run(world.reactor, &world.call, run_stop);
    latch_wait(&world.stopped, 1);
    vhost_driver_done(&driver);
    fixture_run(world.reactor, &world.call, run_free);
    reactor_stop(world.reactor);
    reactor_free(world.reactor);
    latch_done(&world.stopped);
    assert_int_equal(access(world.path, F_OK), -1);
}

static void
test_kicks(void **state)
{
    (void)state;
    check(0, 0);
    check(0, VIRTIO_F_RING_EVENT_IDX);
}

static void
test_spinning(void **state)
{
    (void)state;
    check(20 * NS_PER_US, 0);
    check(20 * NS_PER_US, VIRTIO_F_RING_EVENT_IDX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kicks),
        cmocka_unit_test(test_spinning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
