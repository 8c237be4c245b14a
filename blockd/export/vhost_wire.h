/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_EXPORT_VHOST_WIRE_H
#define BLOCKD_EXPORT_VHOST_WIRE_H

/* Numbers and structures of three formats:
 *
 *   the vhost-user protocol   QEMU's docs/interop/vhost-user.rst: messages on
 *                             the unix socket, and the in-flight region
 *   split virtqueues          virtio 1.2, section 2.7
 *   the block device          virtio 1.2, section 5.2
 *
 * Integers are little-endian (vhost-user says "native"; virtio 1.x is
 * little-endian, and Weft runs on nothing else). */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/le.h"

/* ---- Messages ---- */

#define VHOST_FLAG_VERSION_MASK 0x3u
#define VHOST_FLAG_VERSION 0x1u
#define VHOST_FLAG_REPLY 0x4u
#define VHOST_FLAG_NEED_REPLY 0x8u

struct vhost_wire_header {
    struct le32 request, flags, size_bytes;
};
static_assert(sizeof(struct vhost_wire_header) == 12, "as on the wire");

enum vhost_message {
    VHOST_GET_FEATURES = 1,
    VHOST_SET_FEATURES = 2,
    VHOST_SET_OWNER = 3,
    VHOST_RESET_OWNER = 4,
    VHOST_SET_MEM_TABLE = 5,
    VHOST_SET_VRING_NUM = 8,
    VHOST_SET_VRING_ADDR = 9,
    VHOST_SET_VRING_BASE = 10,
    VHOST_GET_VRING_BASE = 11,
    VHOST_SET_VRING_KICK = 12,
    VHOST_SET_VRING_CALL = 13,
    VHOST_SET_VRING_ERR = 14,
    VHOST_GET_PROTOCOL_FEATURES = 15,
    VHOST_SET_PROTOCOL_FEATURES = 16,
    VHOST_GET_QUEUE_NUM = 17,
    VHOST_SET_VRING_ENABLE = 18,
    VHOST_GET_CONFIG = 24,
    VHOST_SET_CONFIG = 25,
    VHOST_GET_INFLIGHT_FD = 31,
    VHOST_SET_INFLIGHT_FD = 32,
    VHOST_RESET_DEVICE = 34,
};
#define VHOST_MESSAGE_COUNT 35u

#define VHOST_F_PROTOCOL_FEATURES (UINT64_C(1) << 30)

#define VHOST_PROTOCOL_F_MQ (UINT64_C(1) << 0)
#define VHOST_PROTOCOL_F_REPLY_ACK (UINT64_C(1) << 3)
#define VHOST_PROTOCOL_F_CONFIG (UINT64_C(1) << 9)
#define VHOST_PROTOCOL_F_INFLIGHT_SHMFD (UINT64_C(1) << 12)
#define VHOST_PROTOCOL_F_RESET_DEVICE (UINT64_C(1) << 13)

/* SET_VRING_KICK, _CALL, _ERR: the index, and "no descriptor comes along". */
#define VHOST_VRING_INDEX_MASK UINT64_C(0xff)
#define VHOST_VRING_NO_FD UINT64_C(0x100)

struct vhost_wire_state {
    struct le32 index, num;
};
static_assert(sizeof(struct vhost_wire_state) == 8, "as on the wire");

struct vhost_wire_addr {
    struct le32 index, flags;
    struct le64 desc, used, avail, log;
};
static_assert(sizeof(struct vhost_wire_addr) == 40, "as on the wire");

#define VHOST_REGIONS_MAX 8u

struct vhost_wire_region {
    struct le64 guest_addr, size_bytes, user_addr, mmap_offset;
};
static_assert(sizeof(struct vhost_wire_region) == 32, "as on the wire");

struct vhost_wire_mem {
    struct le32 count, padding;
    struct vhost_wire_region regions[VHOST_REGIONS_MAX];
};
static_assert(offsetof(struct vhost_wire_mem, regions) == 8, "as on the wire");

#define VHOST_CONFIG_BYTES_MAX 256u

struct vhost_wire_config {
    struct le32 offset, size_bytes, flags;
    uint8_t bytes[VHOST_CONFIG_BYTES_MAX];
};
static_assert(offsetof(struct vhost_wire_config, bytes) == 12,
              "as on the wire");

/* Of SET_CONFIG: the guest wrote it; or migration restores it. */
#define VHOST_CONFIG_BY_GUEST 0u
#define VHOST_CONFIG_BY_MIGRATION 1u

struct vhost_wire_inflight {
    struct le64 mmap_size, mmap_offset;
    struct le16 queue_count, queue_size;
    uint8_t padding[4]; /* The C structure of QEMU is 24 bytes long. */
};
static_assert(sizeof(struct vhost_wire_inflight) == 24, "as on the wire");
#define VHOST_WIRE_INFLIGHT_MIN 20u

#define VHOST_PAYLOAD_MAX 268u
static_assert(VHOST_PAYLOAD_MAX >= sizeof(struct vhost_wire_mem), "fits");
static_assert(VHOST_PAYLOAD_MAX >= sizeof(struct vhost_wire_config), "fits");

/* ---- The in-flight region ---- */

#define VHOST_INFLIGHT_VERSION 1u
#define VHOST_INFLIGHT_ALIGNMENT 64u

struct vhost_inflight_head {
    struct le64 features;
    struct le16 version;         /* 0: not initialised. */
    struct le16 desc_count;      /* Entries that follow. */
    struct le16 last_batch_head; /* A list through 'next'. */
    struct le16 used_idx;
};
static_assert(sizeof(struct vhost_inflight_head) == 16, "as in the region");

struct vhost_inflight_desc {
    uint8_t inflight;
    uint8_t padding[5];
    struct le16 next;
    struct le64 counter;
};
static_assert(sizeof(struct vhost_inflight_desc) == 16, "as in the region");
static_assert(offsetof(struct vhost_inflight_desc, next) == 6, "");
static_assert(offsetof(struct vhost_inflight_desc, counter) == 8, "");

/* Weft's own, behind the last queue: front ends keep the region as it is. */
#define VHOST_INFLIGHT_NOTE_MAGIC              \
    UINT64_C(0x65746f4e74666557) /* "WeftNote" \
                                  */

struct vhost_inflight_note {
    struct le64 magic;
    uint8_t writeback; /* The config space's byte of that name. */
    uint8_t padding[55];
};
static_assert(sizeof(struct vhost_inflight_note) == 64, "one line");

/* ---- Split virtqueues ---- */

#define VIRTIO_F_RING_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_RING_EVENT_IDX (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)

#define VRING_DESC_NEXT 0x1u
#define VRING_DESC_WRITE 0x2u
#define VRING_DESC_INDIRECT 0x4u

#define VRING_AVAIL_NO_INTERRUPT 0x1u
#define VRING_USED_NO_NOTIFY 0x1u

struct vring_desc {
    struct le64 addr;
    struct le32 size_bytes;
    struct le16 flags, next;
};
static_assert(sizeof(struct vring_desc) == 16, "as in memory");

struct vring_used_entry {
    struct le32 id, size_bytes;
};
static_assert(sizeof(struct vring_used_entry) == 8, "as in memory");

/* avail: flags, idx, ring[num], used_event; used: flags, idx, ring[num] of
 * entries, avail_event. */
#define VRING_FLAGS_OFFSET 0u
#define VRING_IDX_OFFSET 2u
#define VRING_RING_OFFSET 4u

static inline uint64_t
vring_desc_bytes(uint32_t num)
{
    return (uint64_t)num * sizeof(struct vring_desc);
}

static inline uint64_t
vring_avail_bytes(uint32_t num)
{
    return VRING_RING_OFFSET + (uint64_t)num * 2 + 2;
}

static inline uint64_t
vring_used_bytes(uint32_t num)
{
    return VRING_RING_OFFSET + (uint64_t)num * sizeof(struct vring_used_entry) +
           2;
}

/* ---- Block device ---- */

#define VIRTIO_BLK_F_SEG_MAX (UINT64_C(1) << 2)
#define VIRTIO_BLK_F_BLK_SIZE (UINT64_C(1) << 6)
#define VIRTIO_BLK_F_FLUSH (UINT64_C(1) << 9)
#define VIRTIO_BLK_F_TOPOLOGY (UINT64_C(1) << 10)
#define VIRTIO_BLK_F_CONFIG_WCE (UINT64_C(1) << 11)
#define VIRTIO_BLK_F_MQ (UINT64_C(1) << 12)
#define VIRTIO_BLK_F_DISCARD (UINT64_C(1) << 13)
#define VIRTIO_BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

enum virtio_blk_type {
    VIRTIO_BLK_T_IN = 0,
    VIRTIO_BLK_T_OUT = 1,
    VIRTIO_BLK_T_FLUSH = 4,
    VIRTIO_BLK_T_GET_ID = 8,
    VIRTIO_BLK_T_DISCARD = 11,
    VIRTIO_BLK_T_WRITE_ZEROES = 13,
};

#define VIRTIO_BLK_S_OK 0u
#define VIRTIO_BLK_S_IOERR 1u
#define VIRTIO_BLK_S_UNSUPP 2u

#define VIRTIO_BLK_SECTOR_SIZE 512u
#define VIRTIO_BLK_ID_BYTES 20u

struct virtio_blk_header {
    struct le32 type, priority;
    struct le64 sector;
};
static_assert(sizeof(struct virtio_blk_header) == 16, "as in memory");

#define VIRTIO_BLK_RANGE_UNMAP 0x1u

struct virtio_blk_range {
    struct le64 sector;
    struct le32 sector_count, flags;
};
static_assert(sizeof(struct virtio_blk_range) == 16, "as in memory");

struct virtio_blk_config_space {
    struct le64 capacity_sectors;
    struct le32 size_max, seg_max;
    uint8_t geometry[4];
    struct le32 block_size;
    uint8_t physical_block_exponent, alignment_offset;
    struct le16 min_io_blocks;
    struct le32 opt_io_blocks;
    uint8_t writeback, unused;
    struct le16 queue_count;
    struct le32 max_discard_sectors, max_discard_ranges, discard_alignment;
    struct le32 max_zeroes_sectors, max_zeroes_ranges;
    uint8_t zeroes_may_unmap, unused1[3];
};
static_assert(sizeof(struct virtio_blk_config_space) == 60, "as in virtio");
static_assert(offsetof(struct virtio_blk_config_space, writeback) == 32, "");
static_assert(offsetof(struct virtio_blk_config_space, max_discard_sectors) ==
                  36,
              "");

#endif /* BLOCKD_EXPORT_VHOST_WIRE_H */
