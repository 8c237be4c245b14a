/* SPDX-License-Identifier: Apache-2.0 */

/* Reconnecting: vhost.h (3) and (4).  Requests in flight survive the back end;
 * none is lost, none completes twice, order is kept; nothing of an old
 * connection touches a guest's memory. */

#include "tests/unit/unit.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "blockd/export/vhost_internal.h"
#include "lib/base/log.h"
#include "lib/base/rng.h"
#include "lib/base/units.h"
#include "tests/unit/vhost_fixture.h"

/* ---- The in-flight region by itself ---- */

struct region {
    struct vhost_inflight inflight;
    struct vhost_inflight_queue queue;
    int fd;
};

static void
region_up(struct region *region, uint16_t queue_size)
{
    struct vhost_msg_inflight wanted = { .queue_count = 2,
                                         .queue_size = queue_size };

    assert_int_equal(vhost_inflight_create(&wanted, true, &region->fd,
                                           &wanted.mmap_size),
                     0);
    assert_int_equal(vhost_inflight_map(&wanted, region->fd, NULL,
                                        &region->inflight),
                     0);
    assert_non_null(region->inflight.note);
    assert_int_equal(vhost_inflight_queue_get(&region->inflight, 1,
                                              &region->queue),
                     0);
    assert_int_equal(vhost_inflight_queue_get(&region->inflight, 2,
                                              &region->queue),
                     -ERANGE);
}

static void
region_down(struct region *region)
{
    vhost_inflight_unmap(&region->inflight);
    close(region->fd);
}

static uint32_t
recover(struct region *region, uint16_t used_idx, bool want_new,
        uint16_t *heads, uint64_t *counter)
{
    uint32_t count;
    bool is_new;

    assert_int_equal(vhost_inflight_recover(&region->queue, 8, used_idx,
                                            &is_new, heads, &count, counter),
                     0);
    assert_int_equal(is_new, want_new);
    return count;
}

static void
test_region_order(void **state)
{
    struct region region;
    uint16_t heads[VHOST_RING_SIZE_MAX];
    uint64_t counter;
    (void)state;

    region_up(&region, 8);
    assert_int_equal(recover(&region, 65530, true, heads, &counter), 0);
    vhost_inflight_take(&region.queue, 5, 0);
    vhost_inflight_take(&region.queue, 0, 1); /* Index 0 counts, too. */
    vhost_inflight_take(&region.queue, 7, 2);
    vhost_inflight_take(&region.queue, 3, 3);
    assert_int_equal(recover(&region, 65530, false, heads, &counter), 4);
    static const uint16_t wanted[] = { 5, 0, 7, 3 };
    assert_memory_equal(heads, wanted, sizeof wanted);
    assert_int_equal(counter, 4);
    region_down(&region);
}

/* A batch of 'used' heads; killed after 'steps' of the steps of completing. */
static void
check_batch(uint32_t used, uint32_t steps, uint16_t first_idx)
{
    struct region region;
    uint16_t heads[VHOST_RING_SIZE_MAX];
    uint64_t counter;
    uint16_t idx = first_idx;
    uint32_t step = 0;

    region_up(&region, 8);
    assert_int_equal(recover(&region, idx, true, heads, &counter), 0);
    for (uint16_t i = 0; i < 8; i++) {
        vhost_inflight_take(&region.queue, i, i);
    }
    /* An earlier batch, settled: its list must not be followed. */
    vhost_inflight_use(&region.queue, 7);
    idx++;
    vhost_inflight_clear(&region.queue, 7);
    vhost_inflight_settle(&region.queue, idx);

    for (uint16_t i = 0; i < used && step < steps; i++, step++) {
        vhost_inflight_use(&region.queue, i);
    }
    bool published = step++ < steps;
    if (published) {
        idx = (uint16_t)(idx + used);
    }
    for (uint16_t i = 0; i < used && step < steps; i++, step++) {
        vhost_inflight_clear(&region.queue, i);
    }
    if (step++ < steps) {
        vhost_inflight_settle(&region.queue, idx);
    }

    uint32_t count = recover(&region, idx, false, heads, &counter);
    assert_int_equal(count, published ? 7 - used : 7);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(heads[i], i + (published ? used : 0));
    }
    /* And once more: recovery itself may be killed. */
    assert_int_equal(recover(&region, idx, false, heads, &counter), count);
    region_down(&region);
}

static void
test_region_batches(void **state)
{
    (void)state;
    for (uint32_t used = 1; used <= 7; used++) {
        for (uint32_t steps = 0; steps <= 2 * used + 2; steps++) {
            check_batch(used, steps, 100);
            check_batch(used, steps, 65533);
        }
    }
}

static void
test_region_nonsense(void **state)
{
    struct region region;
    uint16_t heads[VHOST_RING_SIZE_MAX];
    uint64_t counter;
    uint32_t count;
    bool is_new;
    (void)state;

    region_up(&region, 8);
    assert_int_equal(recover(&region, 0, true, heads, &counter), 0);
    /* Too small for the ring. */
    assert_int_equal(vhost_inflight_recover(&region.queue, 16, 0, &is_new,
                                            heads, &count, &counter),
                     -EPROTO);
    for (uint16_t i = 0; i < 8; i++) {
        vhost_inflight_take(&region.queue, i, UINT64_MAX);
    }
    /* A list that is a loop, one that leaves the table. */
    vhost_store16(&region.queue.head->last_batch_head, 2);
    vhost_store16(&region.queue.descs[2].next, 2);
    assert_int_equal(recover(&region, 5000, false, heads, &counter), 7);
    vhost_store16(&region.queue.head->last_batch_head, 9);
    assert_int_equal(recover(&region, 6000, false, heads, &counter), 7);
    vhost_store16(&region.queue.head->desc_count, 7);
    assert_int_equal(vhost_inflight_recover(&region.queue, 8, 0, &is_new, heads,
                                            &count, &counter),
                     -EPROTO);
    vhost_store16(&region.queue.head->desc_count, 8);
    vhost_store16(&region.queue.head->version, 2);
    assert_int_equal(vhost_inflight_recover(&region.queue, 8, 0, &is_new, heads,
                                            &count, &counter),
                     -EPROTO);
    region_down(&region);
}

/* ---- A connection that ends, in one process ---- */

static void
test_disconnect_in_flight(void **state)
{
    struct vhost_fixture fixture;
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct vhost_driver *driver = &fixture.driver;
    struct vhost_driver_queue *queue = &driver->queues[0];
    uint64_t data = vhost_driver_alloc(driver, 8 * 4096, 4096);
    memset(fixture.volume->bytes, 0x11, 65536);
    fixture.volume->holds = true;
    for (uint32_t i = 0; i < 8; i++) {
        bool is_write = (i & 1) != 0;
        memset(vhost_driver_at(driver, data + i * 4096), (int)(0xa0 + i), 4096);
        assert_int_equal(vhost_driver_blk(queue,
                                          is_write ? VIRTIO_BLK_T_OUT
                                                   : VIRTIO_BLK_T_IN,
                                          i * 8, data + i * 4096, 4096, true, i,
                                          NULL),
                         0);
    }
    vhost_driver_kick(queue);
    vhost_fixture_settle(&fixture);
    assert_int_equal(fixture.volume->pending_count, 8);
    fake_volume_complete(fixture.volume, 2);
    vhost_fixture_settle(&fixture);

    vhost_driver_disconnect(driver);
    vhost_fixture_settle(&fixture);
    assert_false(vhost_export_is_connected(fixture.vhost_export));
    /* Orphans come back: nothing is touched, nothing is counted as used. */
    fake_volume_complete(fixture.volume, 0);
    fake_volume_complete(fixture.volume, 0);
    vhost_fixture_settle(&fixture);
    assert_int_equal(*vhost_driver_at(driver, data), 0xa0);
    uint64_t cookie;
    assert_int_equal(vhost_fixture_take(queue, &cookie), 0);
    assert_int_equal(cookie, 2);
    vhost_fixture_assert_none(queue);

    /* While orphans are out nobody is served; after a while: refused. */
    assert_int_equal(vhost_driver_connect(driver), -ETIMEDOUT);
    manual_io_advance(&fixture.manual, 300 * NS_PER_MS);
    fake_volume_release(fixture.volume);
    vhost_fixture_settle(&fixture);
    uint32_t before = fixture.volume->log_count;
    assert_int_equal(vhost_driver_connect(driver), 0);
    assert_int_equal(vhost_driver_start(driver), 0);
    vhost_fixture_settle(&fixture);
    /* Seven again, in the order of old, and one call though the old process
     * may have owed none. */
    assert_int_equal(fixture.volume->log_count - before, 7);
    static const uint32_t order[] = { 0, 1, 3, 4, 5, 6, 7 };
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(fixture.volume->log[before + i].offset_bytes,
                         order[i] * 4096);
        assert_int_equal(vhost_fixture_take(queue, &cookie), 0);
        assert_int_equal(cookie, order[i]);
    }
    assert_true(vhost_driver_was_called(queue));
    vhost_fixture_assert_none(queue);
    assert_int_equal(*vhost_driver_at(driver, data), 0x11);
    assert_int_equal(fixture.volume->bytes[4096], 0xa1);
    vhost_fixture_down(&fixture);
}

/* Requests that nobody has fetched yet are fetched after a reconnect, and not
 * skipped ("resuming at the avail index"). */
static void
test_unfetched(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_driver_options options = { .queue_size = 4 };
    (void)state;

    vhost_fixture_up(&fixture,
                     &(struct vhost_fixture_options){ .driver = options });
    struct vhost_driver *driver = &fixture.driver;
    struct vhost_driver_queue *queue = &driver->queues[0];
    uint64_t data = vhost_driver_alloc(driver, 4096, 4096);
    fixture.volume->holds = true;
    assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_IN, 0, data, 512,
                                      true, 0, NULL),
                     0);
    vhost_driver_kick(queue);
    vhost_fixture_settle(&fixture);
    vhost_driver_disconnect(driver);
    vhost_fixture_settle(&fixture);
    for (uint32_t i = 1; i < 4; i++) {
        assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_IN, i, data, 512,
                                          true, i, NULL),
                         0);
    }
    fake_volume_release(fixture.volume);
    vhost_fixture_settle(&fixture);
    assert_int_equal(vhost_driver_connect(driver), 0);
    assert_int_equal(vhost_driver_start(driver), 0);
    vhost_fixture_settle(&fixture);
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t cookie;
        assert_int_equal(vhost_fixture_take(queue, &cookie), 0);
        assert_int_equal(cookie, i);
    }
    vhost_fixture_down(&fixture);
}

/* The cache mode that the guest chose outlives the process that was told. */
static void
test_writeback_survives(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture second;
    struct vhost_driver driver;
    struct vhost_wire_config wire = {
        .offset =
            le32_make(offsetof(struct virtio_blk_config_space, writeback)),
        .size_bytes = le32_make(1),
    };
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    assert_int_equal(
        vhost_driver_tell(&fixture.driver, VHOST_SET_CONFIG, &wire,
                          offsetof(struct vhost_wire_config, bytes) + 1, NULL,
                          0),
        0);
    driver = fixture.driver; /* It outlives the fixture. */
    fixture.driver.fd = -1;
    vhost_driver_disconnect(&driver);
    assert_int_equal(vhost_driver_init(&fixture.driver,
                                       &fixture.driver.options),
                     0);
    vhost_fixture_down(&fixture);

    vhost_fixture_up(&second,
                     &(struct vhost_fixture_options){ .no_start = true });
    driver.options.context = &second;
    for (uint32_t i = 0; i < driver.options.queue_count; i++) {
        driver.queues[i].driver = &driver;
    }
    assert_int_equal(vhost_driver_connect(&driver), 0);
    assert_int_equal(vhost_driver_start(&driver), 0);
    uint64_t data = vhost_driver_alloc(&driver, 4096, 4096);
    assert_int_equal(vhost_driver_blk_wait(&driver.queues[0], VIRTIO_BLK_T_OUT,
                                           0, data, 4096),
                     0);
    assert_true(second.volume->log[0].fua);
    vhost_driver_done(&driver);
    vhost_fixture_settle(&second);
    vhost_fixture_down(&second);
}

/* Without the in-flight region the front end's base counts, and what was in
 * flight is fetched again from the avail ring. */
static void
test_without_region(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_fixture_options options = {
        .driver.protocol_features_off = VHOST_PROTOCOL_F_INFLIGHT_SHMFD,
    };
    (void)state;

    vhost_fixture_up(&fixture, &options);
    struct vhost_driver *driver = &fixture.driver;
    struct vhost_driver_queue *queue = &driver->queues[0];
    uint64_t data = vhost_driver_alloc(driver, 4096, 4096);
    assert_int_equal(vhost_driver_blk_wait(queue, VIRTIO_BLK_T_IN, 0, data,
                                           512),
                     0);
    fixture.volume->holds = true;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(vhost_driver_blk(queue, VIRTIO_BLK_T_IN, i, data, 512,
                                          true, i, NULL),
                         0);
    }
    vhost_driver_kick(queue);
    vhost_fixture_settle(&fixture);
    vhost_driver_disconnect(driver);
    vhost_fixture_settle(&fixture);
    fake_volume_release(fixture.volume);
    vhost_fixture_settle(&fixture);
    vhost_fixture_assert_none(queue);
    assert_int_equal(vhost_driver_connect(driver), 0);
    assert_int_equal(vhost_driver_start(driver), 0);
    vhost_fixture_settle(&fixture);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(vhost_fixture_take(queue, NULL), 0);
    }
    vhost_fixture_assert_none(queue);
    vhost_fixture_down(&fixture);
}

static void
test_second_front_end(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_driver second;
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    vhost_fixture_driver(&fixture, NULL, &second);
    assert_int_equal(vhost_driver_connect(&second), -ECONNRESET);
    vhost_fixture_assert_logged(&fixture, "second front end refused");
    uint64_t data = vhost_driver_alloc(&fixture.driver, 4096, 4096);
    assert_int_equal(vhost_driver_blk_wait(&fixture.driver.queues[0],
                                           VIRTIO_BLK_T_IN, 0, data, 512),
                     0);
    vhost_driver_disconnect(&fixture.driver);
    vhost_fixture_settle(&fixture);
    assert_int_equal(vhost_driver_connect(&second), 0);
    assert_int_equal(vhost_driver_start(&second), 0);
    vhost_driver_done(&second);
    vhost_fixture_settle(&fixture);
    vhost_fixture_down(&fixture);
}

/* A front end that dies while its message waits is let go. */
static void
test_death_while_waiting(void **state)
{
    struct vhost_fixture fixture;
    struct vhost_wire_state wire = { .index = le32_make(0) };
    (void)state;

    vhost_fixture_up(&fixture, NULL);
    struct vhost_driver *driver = &fixture.driver;
    uint64_t data = vhost_driver_alloc(driver, 4096, 4096);
    fixture.volume->holds = true;
    assert_int_equal(vhost_driver_blk(&driver->queues[0], VIRTIO_BLK_T_IN, 0,
                                      data, 512, true, 0, NULL),
                     0);
    vhost_driver_kick(&driver->queues[0]);
    vhost_fixture_settle(&fixture);
    assert_int_equal(vhost_driver_send(driver, VHOST_GET_VRING_BASE, 0, &wire,
                                       sizeof wire, NULL, 0),
                     0);
    vhost_fixture_settle(&fixture);
    vhost_driver_disconnect(driver);
    vhost_fixture_settle(&fixture);
    assert_false(vhost_export_is_connected(fixture.vhost_export));
    vhost_fixture_down(&fixture);
}

/* ---- A process that is killed ---- */

/* The back end in a process of its own, over shared memory; completions in any
 * order, some of them late. */
static pid_t
start_victim(const char *path, uint8_t *disk, uint64_t disk_bytes,
             uint64_t seed)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child != 0) {
        return child;
    }
    static struct vhost_fixture fixture;
    struct rng rng;
    rng_init(&rng, seed);
    log_set_level(LOG_LEVEL_ERROR);
    manual_io_init(&fixture.manual);
    fixture.volume = fake_volume_new(&fixture.manual.io, disk_bytes, NULL);
    free(fixture.volume->bytes);
    fixture.volume->bytes = disk;
    fixture.volume->holds = true;
    struct vhost_export_options options = {
        .io = &fixture.manual.io,
        .volume = fixture.volume,
        .socket_path = path,
        .serial = "victim",
        .spin_ns = (seed & 1) != 0 ? 100000 : 0,
    };
    if (vhost_export_new(&options, NULL, &fixture.vhost_export) != 0) {
        _exit(1);
    }
    for (;;) {
        fixture.manual.now_ns += 1000;
        (void)manual_io_turn(&fixture.manual);
        while (fixture.volume->pending_count > 0 && rng_chance(&rng, 2, 3)) {
            fake_volume_complete(
                fixture.volume,
                (uint32_t)rng_below(&rng, fixture.volume->pending_count));
        }
    }
}

static void
reconnect(struct vhost_driver *driver)
{
    int result;

    for (uint32_t tries = 0; tries < 2000000; tries++) {
        result = vhost_driver_connect(driver);
        if (result == 0) {
            break;
        }
    }
    assert_int_equal(result, 0);
    assert_int_equal(vhost_driver_start(driver), 0);
}

#define KILLS 60u
#define SLOTS 64u

/* Each slot has its own block of the disk and of memory. */
struct torture {
    struct vhost_driver driver;
    struct rng rng;
    uint8_t *disk;
    uint64_t data[SLOTS];
    uint64_t written[SLOTS]; /* Salt of what the slot holds. */
    uint64_t sent[SLOTS];    /* Salt under way; 0: none. */
    bool is_read[SLOTS];
    uint32_t completed;
};

static void
torture_send(struct torture *torture, uint64_t salt)
{
    uint32_t slot = (uint32_t)rng_below(&torture->rng, SLOTS);
    struct vhost_driver_queue *queue = &torture->driver.queues[slot & 1];

    if (torture->sent[slot] != 0) {
        return;
    }
    bool is_read =
        torture->written[slot] != 0 && rng_chance(&torture->rng, 1, 2);
    torture->is_read[slot] = is_read;
    torture->sent[slot] = is_read ? torture->written[slot] : salt;
    vhost_fixture_fill(vhost_driver_at(&torture->driver, torture->data[slot]),
                       4096, is_read ? 0 : salt);
    assert_int_equal(
        vhost_driver_blk(queue, is_read ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT,
                         slot * 8, torture->data[slot], 4096,
                         rng_chance(&torture->rng, 1, 2), slot, NULL),
        0);
    vhost_driver_kick(queue);
}

static void
torture_take(struct torture *torture, struct vhost_driver_queue *queue)
{
    uint64_t slot;
    uint16_t head;
    int result;

    while ((result = vhost_driver_take(queue, &slot, &head, NULL)) > 0) {
        uint8_t want[4096];
        assert_int_equal(vhost_driver_status(queue, head), VIRTIO_BLK_S_OK);
        assert_true(torture->sent[slot] != 0);
        vhost_fixture_fill(want, sizeof want, torture->sent[slot]);
        assert_memory_equal(vhost_driver_at(&torture->driver,
                                            torture->data[slot]),
                            want, sizeof want);
        assert_memory_equal(torture->disk + slot * 4096, want, sizeof want);
        torture->written[slot] = torture->sent[slot];
        torture->sent[slot] = 0;
        torture->completed++;
    }
    assert_int_equal(result, 0); /* No completion twice. */
}

/* Nothing was lost: all that is out comes back. */
static void
torture_finish(struct torture *torture)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct vhost_driver_queue *queue = &torture->driver.queues[i];
        vhost_driver_kick(queue);
        for (uint64_t spin = 0; queue->out_count > 0; spin++) {
            assert_true(spin < UINT64_C(1000000000));
            torture_take(torture, queue);
        }
    }
}

static void
test_kills(void **state)
{
    static struct torture torture;
    char path[64];
    struct vhost_driver_options options = { .path = path, .queue_count = 2 };
    uint64_t disk_bytes = SLOTS * 4096;
    uint32_t next_kill = 20;
    (void)state;

    (void)snprintf(path, sizeof path, "/tmp/weft-vhost-victim-%d.sock",
                   (int)getpid());
    rng_init(&torture.rng, 5);
    torture.disk = mmap(NULL, disk_bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(torture.disk != MAP_FAILED);
    assert_int_equal(vhost_driver_init(&torture.driver, &options), 0);
    for (uint32_t i = 0; i < SLOTS; i++) {
        torture.data[i] = vhost_driver_alloc(&torture.driver, 4096, 4096);
    }
    pid_t victim = start_victim(path, torture.disk, disk_bytes, 0);
    reconnect(&torture.driver);
    uint64_t salt = 0;
    for (uint32_t kills = 0; kills < KILLS;) {
        torture_send(&torture, ++salt);
        torture_take(&torture, &torture.driver.queues[0]);
        torture_take(&torture, &torture.driver.queues[1]);
        if (torture.completed >= next_kill) {
            next_kill =
                torture.completed + (uint32_t)rng_between(&torture.rng, 1, 80);
            kill(victim, SIGKILL);
            assert_int_equal(waitpid(victim, NULL, 0), victim);
            vhost_driver_disconnect(&torture.driver);
            victim = start_victim(path, torture.disk, disk_bytes, ++kills);
            reconnect(&torture.driver);
        }
    }
    torture_finish(&torture);
    kill(victim, SIGKILL);
    assert_int_equal(waitpid(victim, NULL, 0), victim);
    unlink(path);
    vhost_driver_done(&torture.driver);
    munmap(torture.disk, disk_bytes);
    assert_true(torture.completed > KILLS * 20);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_region_order),
        cmocka_unit_test(test_region_batches),
        cmocka_unit_test(test_region_nonsense),
        cmocka_unit_test(test_disconnect_in_flight),
        cmocka_unit_test(test_unfetched),
        cmocka_unit_test(test_writeback_survives),
        cmocka_unit_test(test_without_region),
        cmocka_unit_test(test_second_front_end),
        cmocka_unit_test(test_death_while_waiting),
        cmocka_unit_test(test_kills),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
