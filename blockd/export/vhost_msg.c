/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "blockd/export/vhost_internal.h"
#include "lib/base/array.h"
#include "lib/base/units.h"

/* Messages of the front end: checked against one table, then decoded.  What
 * passes has a payload of the right size, the right number of descriptors, and
 * indices, counts and sizes within Weft's limits. */

enum vhost_payload {
    VHOST_PAYLOAD_NONE,
    VHOST_PAYLOAD_U64,
    VHOST_PAYLOAD_STATE,
    VHOST_PAYLOAD_ADDR,
    VHOST_PAYLOAD_FD, /* u64: index and "no descriptor"; a descriptor. */
    VHOST_PAYLOAD_MEM,
    VHOST_PAYLOAD_CONFIG,
    VHOST_PAYLOAD_INFLIGHT,
};

struct vhost_msg_kind {
    const char *name; /* NULL: no such message, or not supported. */
    enum vhost_payload payload;
    uint32_t fd_count; /* VHOST_PAYLOAD_FD, _MEM decide by themselves. */
    bool has_reply;
};

static const struct vhost_msg_kind vhost_msg_kinds[VHOST_MESSAGE_COUNT] = {
    [VHOST_GET_FEATURES] = { "GET_FEATURES", VHOST_PAYLOAD_NONE, 0, true },
    [VHOST_SET_FEATURES] = { "SET_FEATURES", VHOST_PAYLOAD_U64, 0, false },
    [VHOST_SET_OWNER] = { "SET_OWNER", VHOST_PAYLOAD_NONE, 0, false },
    [VHOST_RESET_OWNER] = { "RESET_OWNER", VHOST_PAYLOAD_NONE, 0, false },
    [VHOST_SET_MEM_TABLE] = { "SET_MEM_TABLE", VHOST_PAYLOAD_MEM, 0, false },
    [VHOST_SET_VRING_NUM] = { "SET_VRING_NUM", VHOST_PAYLOAD_STATE, 0, false },
    [VHOST_SET_VRING_ADDR] = { "SET_VRING_ADDR", VHOST_PAYLOAD_ADDR, 0, false },
    [VHOST_SET_VRING_BASE] = { "SET_VRING_BASE", VHOST_PAYLOAD_STATE, 0,
                               false },
    [VHOST_GET_VRING_BASE] = { "GET_VRING_BASE", VHOST_PAYLOAD_STATE, 0, true },
    [VHOST_SET_VRING_KICK] = { "SET_VRING_KICK", VHOST_PAYLOAD_FD, 0, false },
    [VHOST_SET_VRING_CALL] = { "SET_VRING_CALL", VHOST_PAYLOAD_FD, 0, false },
    [VHOST_SET_VRING_ERR] = { "SET_VRING_ERR", VHOST_PAYLOAD_FD, 0, false },
    [VHOST_GET_PROTOCOL_FEATURES] = { "GET_PROTOCOL_FEATURES",
                                      VHOST_PAYLOAD_NONE, 0, true },
    [VHOST_SET_PROTOCOL_FEATURES] = { "SET_PROTOCOL_FEATURES",
                                      VHOST_PAYLOAD_U64, 0, false },
    [VHOST_GET_QUEUE_NUM] = { "GET_QUEUE_NUM", VHOST_PAYLOAD_NONE, 0, true },
    [VHOST_SET_VRING_ENABLE] = { "SET_VRING_ENABLE", VHOST_PAYLOAD_STATE, 0,
                                 false },
    [VHOST_GET_CONFIG] = { "GET_CONFIG", VHOST_PAYLOAD_CONFIG, 0, true },
    [VHOST_SET_CONFIG] = { "SET_CONFIG", VHOST_PAYLOAD_CONFIG, 0, false },
    [VHOST_GET_INFLIGHT_FD] = { "GET_INFLIGHT_FD", VHOST_PAYLOAD_INFLIGHT, 0,
                                true },
    [VHOST_SET_INFLIGHT_FD] = { "SET_INFLIGHT_FD", VHOST_PAYLOAD_INFLIGHT, 1,
                                false },
    [VHOST_RESET_DEVICE] = { "RESET_DEVICE", VHOST_PAYLOAD_NONE, 0, false },
};

static const struct vhost_msg_kind *
vhost_msg_kind_find(uint32_t request)
{
    if (request >= ARRAY_COUNT(vhost_msg_kinds) ||
        vhost_msg_kinds[request].name == NULL) {
        return NULL;
    }
    return &vhost_msg_kinds[request];
}

const char *
vhost_msg_name(uint32_t request)
{
    const struct vhost_msg_kind *kind = vhost_msg_kind_find(request);
    return kind != NULL ? kind->name : "unknown";
}

bool
vhost_msg_has_reply(uint32_t request)
{
    const struct vhost_msg_kind *kind = vhost_msg_kind_find(request);
    return kind != NULL && kind->has_reply;
}

static void
vhost_payload_bounds(enum vhost_payload payload, uint32_t *ret_min,
                     uint32_t *ret_max)
{
    uint32_t min = 0;
    uint32_t max = 0;

    switch (payload) {
    case VHOST_PAYLOAD_NONE:
        break;
    case VHOST_PAYLOAD_U64:
    case VHOST_PAYLOAD_FD:
        min = max = sizeof(struct le64);
        break;
    case VHOST_PAYLOAD_STATE:
        min = max = sizeof(struct vhost_wire_state);
        break;
    case VHOST_PAYLOAD_ADDR:
        min = max = sizeof(struct vhost_wire_addr);
        break;
    case VHOST_PAYLOAD_MEM:
        min = offsetof(struct vhost_wire_mem, regions);
        max = sizeof(struct vhost_wire_mem);
        break;
    case VHOST_PAYLOAD_CONFIG:
        min = offsetof(struct vhost_wire_config, bytes);
        max = sizeof(struct vhost_wire_config);
        break;
    case VHOST_PAYLOAD_INFLIGHT:
        min = VHOST_WIRE_INFLIGHT_MIN;
        max = sizeof(struct vhost_wire_inflight);
        break;
    }
    *ret_min = min;
    *ret_max = max;
}

int
vhost_msg_parse_header(const struct vhost_wire_header *header, struct err *err,
                       uint32_t *ret_payload_bytes)
{
    uint32_t request = le32_get(header->request);
    uint32_t flags = le32_get(header->flags);
    uint32_t size = le32_get(header->size_bytes);
    const struct vhost_msg_kind *kind = vhost_msg_kind_find(request);
    uint32_t min;
    uint32_t max;

    if ((flags & VHOST_FLAG_VERSION_MASK) != VHOST_FLAG_VERSION ||
        (flags & VHOST_FLAG_REPLY) != 0) {
        err_set(err, "message %u has flags 0x%x: no vhost-user message",
                request, flags);
        return -EPROTO;
    }
    if (kind == NULL) {
        err_set(err, "message %u is not supported", request);
        return -EPROTO;
    }
    vhost_payload_bounds(kind->payload, &min, &max);
    if (size < min || size > max) {
        err_set(err, "%s has %u bytes, not %u to %u", kind->name, size, min,
                max);
        return -EPROTO;
    }
    *ret_payload_bytes = size;
    return 0;
}

/* ---- Payloads ---- */

static int
vhost_msg_parse_fd(const struct vhost_msg_kind *kind, const uint8_t *payload,
                   uint32_t fd_count, struct err *err,
                   struct vhost_msg_fd *ret_fd)
{
    struct le64 wire;

    memcpy(&wire, payload, sizeof wire);
    uint64_t value = le64_get(wire);
    ret_fd->index = (uint32_t)(value & VHOST_VRING_INDEX_MASK);
    ret_fd->has_fd = (value & VHOST_VRING_NO_FD) == 0;
    if ((value & ~(VHOST_VRING_INDEX_MASK | VHOST_VRING_NO_FD)) != 0 ||
        ret_fd->index >= VHOST_QUEUES_MAX) {
        err_set(err, "%s is for queue 0x%llx of %u", kind->name,
                (unsigned long long)value, VHOST_QUEUES_MAX);
        return -EPROTO;
    }
    if (fd_count != (ret_fd->has_fd ? 1 : 0)) {
        err_set(err, "%s brings %u descriptors, not %u", kind->name, fd_count,
                ret_fd->has_fd ? 1u : 0u);
        return -EPROTO;
    }
    return 0;
}

static int
vhost_msg_parse_region(const struct vhost_wire_region *wire, struct err *err,
                       struct vhost_msg_region *ret_region)
{
    *ret_region = (struct vhost_msg_region){
        .guest_addr = le64_get(wire->guest_addr),
        .size_bytes = le64_get(wire->size_bytes),
        .user_addr = le64_get(wire->user_addr),
        .mmap_offset = le64_get(wire->mmap_offset),
    };
    uint64_t end;
    if (ret_region->size_bytes == 0 ||
        __builtin_add_overflow(ret_region->guest_addr, ret_region->size_bytes,
                               &end) ||
        __builtin_add_overflow(ret_region->user_addr, ret_region->size_bytes,
                               &end) ||
        __builtin_add_overflow(ret_region->mmap_offset, ret_region->size_bytes,
                               &end) ||
        end > INT64_MAX) {
        err_set(err,
                "SET_MEM_TABLE has a region of 0x%llx bytes at 0x%llx, user "
                "0x%llx, file 0x%llx: empty or beyond the end",
                (unsigned long long)ret_region->size_bytes,
                (unsigned long long)ret_region->guest_addr,
                (unsigned long long)ret_region->user_addr,
                (unsigned long long)ret_region->mmap_offset);
        return -EPROTO;
    }
    return 0;
}

static int
vhost_msg_parse_mem(const uint8_t *payload, uint32_t size, uint32_t fd_count,
                    struct err *err, struct vhost_msg_mem *ret_mem)
{
    struct vhost_wire_mem wire;

    memset(&wire, 0, sizeof wire);
    memcpy(&wire, payload, size);
    uint32_t count = le32_get(wire.count);
    if (count == 0 || count > VHOST_REGIONS_MAX || count != fd_count ||
        size != offsetof(struct vhost_wire_mem, regions) +
                    count * sizeof wire.regions[0]) {
        err_set(err,
                "SET_MEM_TABLE has %u regions, %u descriptors, %u bytes; at "
                "most %u regions, each with one descriptor",
                count, fd_count, size, VHOST_REGIONS_MAX);
        return -EPROTO;
    }
    ret_mem->count = count;
    for (uint32_t i = 0; i < count; i++) {
        int result =
            vhost_msg_parse_region(&wire.regions[i], err, &ret_mem->regions[i]);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static int
vhost_msg_parse_config(const struct vhost_msg_kind *kind,
                       const uint8_t *payload, uint32_t size, struct err *err,
                       struct vhost_msg_config *ret_config)
{
    struct vhost_wire_config wire;

    memset(&wire, 0, sizeof wire);
    memcpy(&wire, payload, size);
    *ret_config = (struct vhost_msg_config){
        .offset = le32_get(wire.offset),
        .size_bytes = le32_get(wire.size_bytes),
        .flags = le32_get(wire.flags),
    };
    memcpy(ret_config->bytes, wire.bytes, sizeof wire.bytes);
    if (ret_config->size_bytes == 0 ||
        ret_config->size_bytes > VHOST_CONFIG_BYTES_MAX ||
        ret_config->offset > VHOST_CONFIG_BYTES_MAX - ret_config->size_bytes ||
        size != offsetof(struct vhost_wire_config, bytes) +
                    ret_config->size_bytes) {
        err_set(err, "%s of %u bytes is about bytes %u+%u of %u", kind->name,
                size, ret_config->offset, ret_config->size_bytes,
                VHOST_CONFIG_BYTES_MAX);
        return -EPROTO;
    }
    return 0;
}

static int
vhost_msg_parse_inflight(const struct vhost_msg_kind *kind,
                         const uint8_t *payload, uint32_t size, struct err *err,
                         struct vhost_msg_inflight *ret_inflight)
{
    struct vhost_wire_inflight wire;

    memset(&wire, 0, sizeof wire);
    memcpy(&wire, payload, size);
    *ret_inflight = (struct vhost_msg_inflight){
        .mmap_size = le64_get(wire.mmap_size),
        .mmap_offset = le64_get(wire.mmap_offset),
        .queue_count = le16_get(wire.queue_count),
        .queue_size = le16_get(wire.queue_size),
    };
    if (ret_inflight->queue_count == 0 ||
        ret_inflight->queue_count > VHOST_QUEUES_MAX ||
        ret_inflight->queue_size == 0 ||
        ret_inflight->queue_size > VHOST_RING_SIZE_MAX) {
        err_set(err, "%s is for %u queues of %u, not at most %u of %u",
                kind->name, ret_inflight->queue_count, ret_inflight->queue_size,
                VHOST_QUEUES_MAX, VHOST_RING_SIZE_MAX);
        return -EPROTO;
    }
    return 0;
}

static int
vhost_msg_check_index(const struct vhost_msg_kind *kind, uint32_t index,
                      struct err *err)
{
    if (index >= VHOST_QUEUES_MAX) {
        err_set(err, "%s is for queue %u of %u", kind->name, index,
                VHOST_QUEUES_MAX);
        return -EPROTO;
    }
    return 0;
}

static int
vhost_msg_parse_state(const struct vhost_msg_kind *kind, uint32_t request,
                      const uint8_t *payload, struct err *err,
                      struct vhost_msg_state *ret_state)
{
    struct vhost_wire_state wire;

    memcpy(&wire, payload, sizeof wire);
    *ret_state = (struct vhost_msg_state){ .index = le32_get(wire.index),
                                           .num = le32_get(wire.num) };
    bool valid = true;
    if (request == VHOST_SET_VRING_NUM) {
        valid = units_is_power_of_two(ret_state->num) &&
                ret_state->num <= VHOST_RING_SIZE_MAX;
    } else if (request == VHOST_SET_VRING_BASE) {
        valid = ret_state->num <= UINT16_MAX;
    } else if (request == VHOST_SET_VRING_ENABLE) {
        valid = ret_state->num <= 1;
    }
    if (!valid) {
        err_set(err, "%s has value %u", kind->name, ret_state->num);
        return -EPROTO;
    }
    return vhost_msg_check_index(kind, ret_state->index, err);
}

static int
vhost_msg_parse_addr(const struct vhost_msg_kind *kind, const uint8_t *payload,
                     struct err *err, struct vhost_msg_addr *ret_addr)
{
    struct vhost_wire_addr wire;

    memcpy(&wire, payload, sizeof wire);
    *ret_addr = (struct vhost_msg_addr){
        .index = le32_get(wire.index),
        .flags = le32_get(wire.flags),
        .desc = le64_get(wire.desc),
        .used = le64_get(wire.used),
        .avail = le64_get(wire.avail),
    };
    return vhost_msg_check_index(kind, ret_addr->index, err);
}

int
vhost_msg_parse(const struct vhost_wire_header *header, const uint8_t *payload,
                uint32_t fd_count, struct err *err, struct vhost_msg *ret_msg)
{
    uint32_t request = le32_get(header->request);
    uint32_t size = le32_get(header->size_bytes);
    const struct vhost_msg_kind *kind = vhost_msg_kind_find(request);
    struct vhost_msg msg = {
        .request = request,
        .need_reply = (le32_get(header->flags) & VHOST_FLAG_NEED_REPLY) != 0,
        .fd_count = fd_count,
    };
    struct le64 wire_u64;
    int result = 0;

    CHECK(kind != NULL); /* vhost_msg_parse_header() has looked. */
    switch (kind->payload) {
    case VHOST_PAYLOAD_NONE:
        break;
    case VHOST_PAYLOAD_U64:
        memcpy(&wire_u64, payload, sizeof wire_u64);
        msg.u.u64 = le64_get(wire_u64);
        break;
    case VHOST_PAYLOAD_STATE:
        result =
            vhost_msg_parse_state(kind, request, payload, err, &msg.u.state);
        break;
    case VHOST_PAYLOAD_ADDR:
        result = vhost_msg_parse_addr(kind, payload, err, &msg.u.addr);
        break;
    case VHOST_PAYLOAD_FD:
        result = vhost_msg_parse_fd(kind, payload, fd_count, err, &msg.u.fd);
        break;
    case VHOST_PAYLOAD_MEM:
        result = vhost_msg_parse_mem(payload, size, fd_count, err, &msg.u.mem);
        break;
    case VHOST_PAYLOAD_CONFIG:
        result =
            vhost_msg_parse_config(kind, payload, size, err, &msg.u.config);
        break;
    case VHOST_PAYLOAD_INFLIGHT:
        result =
            vhost_msg_parse_inflight(kind, payload, size, err, &msg.u.inflight);
        break;
    }
    if (result != 0) {
        return result;
    }
    if (kind->payload != VHOST_PAYLOAD_FD &&
        kind->payload != VHOST_PAYLOAD_MEM && fd_count != kind->fd_count) {
        err_set(err, "%s brings %u descriptors, not %u", kind->name, fd_count,
                kind->fd_count);
        return -EPROTO;
    }
    *ret_msg = msg;
    return 0;
}
