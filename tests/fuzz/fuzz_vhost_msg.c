/* SPDX-License-Identifier: Apache-2.0 */

/* The vhost-user back end, seen by a hostile front end.
 *
 * The input is a script of one-byte orders with arguments: messages of any
 * content with descriptors of any kind, raw bytes, and the steps of an honest
 * driver, so that all states are near.  Whatever is sent: no crash, no leak, no
 * descriptor left, nothing in flight in the end.
 *
 * fuzz-sources: blockd/export/vhost_*.c blockd/volume/payload.c
 * fuzz-sources: lib/io/io.c lib/base/check.c lib/base/slab.c lib/base/crc32c.c
 * fuzz-sources: lib/base/log.c lib/base/err.c lib/base/units.c
 * fuzz-sources: tests/support/manual_io.c tests/support/fake_volume.c
 * fuzz-sources: tests/support/vhost_driver.c tests/support/vhost_driver_ring.c
 * fuzz-max-bytes: 2048 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "blockd/export/vhost_internal.h"
#include "lib/base/log.h"
#include "lib/base/units.h"
#include "tests/support/fake_volume.h"
#include "tests/support/manual_io.h"
#include "tests/support/vhost_driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    struct manual_io manual;
    struct volume *volume;
    struct vhost_export *vhost_export;
    struct vhost_driver driver;
    char path[64];
    int null_fd, event_fd, lowest_fd;
};

static struct world world_static;

static void
unlink_path(void)
{
    unlink(world_static.path);
}

struct script {
    const uint8_t *at;
    size_t left;
};

enum order {
    ORDER_MESSAGE,
    ORDER_RAW,
    ORDER_CONNECT,
    ORDER_START,
    ORDER_STOP,
    ORDER_REQUEST,
    ORDER_SCRIBBLE,
    ORDER_COMPLETE,
    ORDER_DISCONNECT,
    ORDER_KICK,
    ORDER_REGION,
    ORDER_RESET,
    ORDER_TIME,
    ORDER_HOLD,
    ORDER_COUNT,
};

static uint8_t
next_byte(struct script *script)
{
    if (script->left == 0) {
        return 0;
    }
    script->left--;
    return *script->at++;
}

static uint32_t
next_u16(struct script *script)
{
    uint32_t low = next_byte(script);
    return low | (uint32_t)next_byte(script) << 8;
}

static uint32_t
next_bytes(struct script *script, uint8_t *to, uint32_t size)
{
    uint32_t count = size < script->left ? size : (uint32_t)script->left;

    memcpy(to, script->at, count);
    script->at += count;
    script->left -= count;
    return count;
}

static void
idle(void *context)
{
    struct world *world = context;
    manual_io_settle(&world->manual);
}

/* The export and its volume are made once; what an input leaves in them is
 * undone by world_down(). */
static void
world_once(struct world *world)
{
    struct payload_pool_options pool = { 2, 1, 1 };
    struct vhost_export_options options = { .serial = "fuzz" };

    snprintf(world->path, sizeof world->path, "/tmp/weft-fuzz-%d.sock",
             (int)getpid());
    manual_io_init(&world->manual);
    world->volume = fake_volume_new(&world->manual.io, 256 * KIB, &pool);
    options.io = &world->manual.io;
    options.volume = world->volume;
    options.socket_path = world->path;
    CHECK(vhost_export_new(&options, NULL, &world->vhost_export) == 0);
    world->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    world->event_fd = eventfd(0, EFD_CLOEXEC);
    CHECK(atexit(unlink_path) == 0);
}

/* That the next open() would get. */
static int
lowest_fd(const struct world *world)
{
    int fd = dup(world->null_fd);

    close(fd);
    return fd;
}

static void
world_up(struct world *world)
{
    if (world->vhost_export == NULL) {
        world_once(world);
    }
    world->volume->holds = false;
    world->lowest_fd = lowest_fd(world);
    struct vhost_driver_options driver = {
        .path = world->path,
        .queue_count = 2,
        .queue_size = 8,
        .mem_bytes = 256 * KIB,
        .regions = 2,
        .idle = idle,
        .context = world,
    };
    CHECK(vhost_driver_init(&world->driver, &driver) == 0);
}

static void
world_down(struct world *world)
{
    struct vhost_export *vhost_export = world->vhost_export;

    vhost_driver_done(&world->driver);
    fake_volume_release(world->volume);
    manual_io_settle(&world->manual);
    CHECK(vhost_export->conn.state == VHOST_CONN_NONE);
    CHECK(vhost_export->mem.count == 0);
    CHECK(slab_used_count(&vhost_export->request_slab) == 0);
    CHECK(slab_used_count(&vhost_export->part_slab) == 0);
    CHECK(world->volume->pending_count == 0);
    vhost_export->writeback = true;
    memset(world->volume->bytes, 0, world->volume->size_bytes);
    CHECK(lowest_fd(world) == world->lowest_fd); /* None was left behind. */
}

static void
send_message(struct world *world, struct script *script)
{
    uint8_t payload[512] = { 0 };
    int fds[16];
    uint32_t request = next_byte(script) % 48;
    uint32_t flags = next_byte(script) & VHOST_FLAG_NEED_REPLY;
    uint32_t fd_count = next_byte(script) % 17;
    uint32_t kinds = next_u16(script);
    uint32_t size = next_u16(script) % 300;

    if (world->driver.fd < 0) {
        return;
    }
    for (uint32_t i = 0; i < fd_count; i++) {
        const int all[] = { world->driver.mem_fd, world->event_fd,
                            world->driver.inflight_fd, world->null_fd };
        fds[i] = all[(kinds >> (2 * (i % 8))) & 3];
        fds[i] = fds[i] >= 0 ? fds[i] : world->null_fd;
    }
    (void)next_bytes(script, payload, size);
    (void)!vhost_driver_send(&world->driver, request, flags, payload, size, fds,
                             fd_count);
}

static void
drain_answers(struct world *world)
{
    uint8_t bytes[4096];

    manual_io_settle(&world->manual);
    if (world->driver.fd < 0) {
        return;
    }
    ssize_t got;
    do {
        got = recv(world->driver.fd, bytes, sizeof bytes, MSG_DONTWAIT);
    } while (got > 0);
    if (got == 0) {
        vhost_driver_disconnect(&world->driver);
        manual_io_settle(&world->manual);
    }
}

static void
add_request(struct world *world, struct script *script)
{
    struct vhost_driver_queue *queue =
        &world->driver.queues[next_byte(script) & 1];
    uint32_t type = next_byte(script) % 16;
    uint32_t sector = next_u16(script);
    uint32_t at = next_u16(script);
    uint32_t size = next_u16(script);

    (void)!vhost_driver_blk(queue, type, sector,
                            VHOST_DRIVER_GUEST_BASE + 128 * KIB + at, size,
                            (size & 1) != 0, 0, NULL);
}

static void
scribble(struct world *world, struct script *script)
{
    uint32_t at = next_u16(script) * 2 % (uint32_t)(250 * KIB);
    uint32_t size = next_byte(script) % 64;

    (void)next_bytes(script, world->driver.mem + at, size);
}

static void
scribble_region(struct world *world, struct script *script)
{
    uint8_t bytes[64];
    uint32_t at = next_u16(script) % 400;
    uint32_t size = next_bytes(script, bytes, next_byte(script) % 64);

    if (world->driver.inflight_fd >= 0) {
        (void)!pwrite(world->driver.inflight_fd, bytes, size, at);
    }
}

static void
take_all(struct world *world)
{
    uint64_t cookie;

    for (uint32_t i = 0; i < 2; i++) {
        while (vhost_driver_take(&world->driver.queues[i], &cookie, NULL,
                                 NULL) > 0) {
        }
    }
}

static void
obey(struct world *world, struct script *script)
{
    struct vhost_driver *driver = &world->driver;
    uint8_t raw[64];
    uint32_t size;
    uint64_t one = 1;

    switch ((enum order)(next_byte(script) % ORDER_COUNT)) {
    case ORDER_MESSAGE:
        send_message(world, script);
        break;
    case ORDER_RAW:
        size = next_bytes(script, raw, next_byte(script) % 64);
        if (driver->fd >= 0) {
            (void)!send(driver->fd, raw, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        break;
    case ORDER_CONNECT:
        if (driver->fd < 0) {
            (void)!vhost_driver_connect(driver);
        }
        break;
    case ORDER_START:
        if (driver->fd >= 0) {
            (void)!vhost_driver_start(driver);
        }
        break;
    case ORDER_STOP:
        if (driver->fd >= 0) {
            (void)!vhost_driver_stop(driver);
        }
        break;
    case ORDER_REQUEST:
        add_request(world, script);
        break;
    case ORDER_SCRIBBLE:
        scribble(world, script);
        break;
    case ORDER_COMPLETE:
        if (world->volume->pending_count > 0) {
            fake_volume_complete(world->volume,
                                 next_byte(script) %
                                     world->volume->pending_count);
        }
        break;
    case ORDER_DISCONNECT:
        vhost_driver_disconnect(driver);
        break;
    case ORDER_KICK:
        (void)!write(driver->queues[next_byte(script) & 1].kick_fd, &one,
                     sizeof one);
        break;
    case ORDER_REGION:
        scribble_region(world, script);
        break;
    case ORDER_RESET:
        vhost_driver_reset(driver);
        break;
    case ORDER_TIME:
        manual_io_advance(&world->manual, 100 * NS_PER_MS);
        break;
    case ORDER_HOLD:
        world->volume->holds = true;
        break;
    case ORDER_COUNT:
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world *world = &world_static;
    struct script script = { .at = data, .left = size };

    log_set_level(LOG_LEVEL_ERROR);
    world_up(world);
    (void)!vhost_driver_connect(&world->driver);
    while (script.left > 0) {
        obey(world, &script);
        drain_answers(world);
        take_all(world);
    }
    world_down(world);
    return 0;
}
