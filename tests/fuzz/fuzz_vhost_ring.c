/* SPDX-License-Identifier: Apache-2.0 */

/* Virtqueues and block requests, seen by a hostile guest.
 *
 * The memory regions are heap blocks of exactly their size, so that a byte
 * touched outside of them is found by AddressSanitizer.  The input is the
 * guest's memory, and what the guest does to it while requests are under way:
 *
 *   byte 0       bits: event index, indirect, write-through, in-flight region
 *   byte 1       ring size, 1 to 16
 *   then         orders: write bytes somewhere, kick, complete, replace ...
 *
 * fuzz-sources: blockd/export/vhost_*.c blockd/volume/payload.c
 * fuzz-sources: lib/io/io.c lib/base/check.c lib/base/slab.c lib/base/crc32c.c
 * fuzz-sources: lib/base/log.c lib/base/err.c lib/base/units.c
 * fuzz-sources: tests/support/manual_io.c tests/support/fake_volume.c
 * fuzz-max-bytes: 2048 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blockd/export/vhost_internal.h"
#include "lib/base/log.h"
#include "lib/base/units.h"
#include "tests/support/fake_volume.h"
#include "tests/support/manual_io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAIN_BYTES 4096u
#define SIDE_BYTES 700u
#define MAIN_ADDR UINT64_C(0x1000)
#define FAR_ADDR (UINT64_MAX - SIDE_BYTES + 1) /* Ends at the very top. */

struct world {
    struct manual_io manual;
    struct volume *volume;
    struct vhost_export *vhost_export;
    struct vhost_region regions[3];
};

struct script {
    const uint8_t *at;
    size_t left;
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

static void
region_new(struct world *world, uint32_t index, uint64_t addr, uint32_t size)
{
    void *memory;

    CHECK(posix_memalign(&memory, 16, size) == 0);
    memset(memory, 0, size);
    world->regions[index] = (struct vhost_region){
        .guest_addr = addr,
        .user_addr = addr,
        .size_bytes = size,
        .base = memory,
    };
}

/* The export and its volume are made once; what an input leaves in them is
 * undone by world_down(). */
static void
world_once(struct world *world)
{
    struct payload_pool_options pool = { 2, 1, 1 };
    char path[64];

    snprintf(path, sizeof path, "/tmp/weft-fuzz-ring-%d.sock", (int)getpid());
    manual_io_init(&world->manual);
    world->volume = fake_volume_new(&world->manual.io, 64 * KIB, &pool);
    struct vhost_export_options options = {
        .io = &world->manual.io,
        .volume = world->volume,
        .socket_path = path,
        .serial = "fuzz",
    };
    CHECK(vhost_export_new(&options, NULL, &world->vhost_export) == 0);
    unlink(path);
}

static void
world_up(struct world *world)
{
    if (world->vhost_export == NULL) {
        world_once(world);
    }
    world->volume->holds = true;
    region_new(world, 0, MAIN_ADDR, MAIN_BYTES);
    region_new(world, 1, MAIN_ADDR + MAIN_BYTES, SIDE_BYTES);
    region_new(world, 2, FAR_ADDR, SIDE_BYTES);
    memcpy(world->vhost_export->mem.regions, world->regions,
           sizeof world->regions);
    world->vhost_export->mem.count = 3;
}

static void
world_down(struct world *world)
{
    struct vhost_export *vhost_export = world->vhost_export;

    vhost_blk_orphan(vhost_export);
    vhost_ring_stop(&vhost_export->rings[0]);
    vhost_export->rings[0].base = 0;
    vhost_export->mem.count = 0; /* Not mapped: heap. */
    for (uint32_t i = 0; i < 3; i++) {
        free(world->regions[i].base);
    }
    vhost_inflight_unmap(&vhost_export->inflight);
    fake_volume_release(world->volume);
    manual_io_settle(&world->manual);
    CHECK(world->volume->pending_count == 0);
    CHECK(slab_used_count(&vhost_export->request_slab) == 0);
    CHECK(slab_used_count(&vhost_export->part_slab) == 0);
    memset(world->volume->bytes, 0, world->volume->size_bytes);
}

static void
start_ring(struct world *world, uint32_t bits, uint32_t num)
{
    struct vhost_export *vhost_export = world->vhost_export;
    struct vhost_ring *ring = &vhost_export->rings[0];
    uint64_t features = VHOST_FEATURES;
    struct err err;

    if ((bits & 1) != 0) {
        features &= ~VIRTIO_F_RING_EVENT_IDX;
    }
    if ((bits & 2) != 0) {
        features &= ~VIRTIO_F_RING_INDIRECT_DESC;
    }
    if ((bits & 4) != 0) {
        features &= ~VIRTIO_BLK_F_FLUSH;
    }
    vhost_export->conn.features = features;
    ring->num = num;
    ring->has_addr = ring->enabled = true;
    ring->addr.desc = MAIN_ADDR;
    ring->addr.avail = MAIN_ADDR + 512;
    ring->addr.used = MAIN_ADDR + 1024;
    if ((bits & 16) != 0) { /* As close to the end as can be. */
        ring->addr.used = MAIN_ADDR + MAIN_BYTES - vring_used_bytes(num) - 2;
        ring->addr.used &= ~UINT64_C(3);
    }
    CHECK(vhost_ring_start(ring, &vhost_export->mem, &vhost_export->inflight,
                           features, &err) == 0);
}

static void
share_region(struct world *world, uint16_t num)
{
    struct vhost_msg_inflight wanted = { .queue_count = 1, .queue_size = num };
    struct err err;
    int fd;

    CHECK(vhost_inflight_create(&wanted, true, &fd, &wanted.mmap_size) == 0);
    CHECK(vhost_inflight_map(&wanted, fd, &err,
                             &world->vhost_export->inflight) == 0);
    close(fd);
}

static void
write_bytes(struct world *world, struct script *script)
{
    uint32_t which = next_byte(script) % 8;
    const struct vhost_region *region =
        &world->regions[which < 6 ? 0 : which - 5];
    uint32_t at = next_u16(script) % (uint32_t)region->size_bytes;
    uint32_t size = next_byte(script);

    for (uint32_t i = 0; i < size && at + i < region->size_bytes; i++) {
        region->base[at + i] = next_byte(script);
    }
}

/* A descriptor that is nearly right. */
static void
write_desc(struct world *world, struct script *script)
{
    static const uint64_t bases[] = { MAIN_ADDR,
                                      MAIN_ADDR + MAIN_BYTES - 64,
                                      MAIN_ADDR + MAIN_BYTES,
                                      FAR_ADDR,
                                      UINT64_MAX - 15,
                                      0 };
    uint32_t index = next_byte(script) % 32; /* Of the table, or behind. */
    struct vring_desc desc = {
        .addr = le64_make(bases[next_byte(script) % 6] + next_byte(script)),
        .size_bytes = le32_make(next_u16(script)),
        .flags = le16_make(next_byte(script) & 7),
        .next = le16_make(next_byte(script) % 20),
    };

    memcpy(world->regions[0].base + index * sizeof desc, &desc, sizeof desc);
}

static void
write_header(struct world *world, struct script *script)
{
    uint32_t at = next_u16(script) % (MAIN_BYTES - 16);
    struct virtio_blk_header header = {
        .type = le32_make(next_byte(script) % 16),
        .sector = le64_make(next_byte(script)),
    };

    memcpy(world->regions[0].base + at, &header, sizeof header);
}

static void
make_available(struct world *world, struct script *script)
{
    const struct vhost_ring *ring = &world->vhost_export->rings[0];
    uint8_t *avail = world->regions[0].base + 512;
    struct le16 idx;

    memcpy(&idx, avail + 2, 2);
    uint16_t value = le16_get(idx);
    struct le16 head = le16_make(next_byte(script) % 18);
    memcpy(avail + 4 + 2 * (value & (ring->num - 1)), &head, 2);
    idx = le16_make((uint16_t)(value + 1));
    memcpy(avail + 2, &idx, 2);
}

static void
restart_ring(struct world *world, uint32_t bits)
{
    struct vhost_export *vhost_export = world->vhost_export;
    struct vhost_ring *ring = &vhost_export->rings[0];

    /* As a connection that ends, and one that begins. */
    vhost_blk_orphan(vhost_export);
    vhost_ring_stop(ring);
    world->volume->holds = false;
    fake_volume_release(world->volume);
    manual_io_settle(&world->manual);
    world->volume->holds = true;
    start_ring(world, bits, ring->num);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world;
    struct script script = { .at = data, .left = size };
    uint32_t bits = next_byte(&script);
    uint32_t num = 1u << (next_byte(&script) % 5);

    log_set_level(LOG_LEVEL_ERROR);
    world_up(&world);
    if ((bits & 8) != 0) {
        share_region(&world, (uint16_t)num);
    }
    start_ring(&world, bits, num);
    struct vhost_ring *ring = &world.vhost_export->rings[0];
    while (script.left > 0) {
        switch (next_byte(&script) % 9) {
        case 0:
            write_bytes(&world, &script);
            break;
        case 1:
        case 2:
            write_desc(&world, &script);
            break;
        case 3:
            write_header(&world, &script);
            break;
        case 4:
            make_available(&world, &script);
            break;
        case 5:
            (void)vhost_blk_service(ring);
            break;
        case 6:
            if (world.volume->pending_count > 0) {
                fake_volume_complete(world.volume,
                                     next_byte(&script) %
                                         world.volume->pending_count);
            }
            break;
        case 7:
            (void)manual_io_turn(&world.manual);
            break;
        default:
            restart_ring(&world, bits);
            break;
        }
    }
    (void)vhost_blk_service(ring);
    world_down(&world);
    return 0;
}
