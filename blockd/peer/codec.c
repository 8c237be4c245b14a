/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/peer/codec.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/crc32c.h"

/* ---- Errors: the one table ---- */

static const struct {
    int error;
    const char *name;
} statuses[] = {
    [PEER_OK] = { 0, "OK" },
    [PEER_E_NO_REPLICA] = { ENXIO, "ENXIO" },
    [PEER_E_STALE] = { ESTALE, "ESTALE" },
    [PEER_E_NO_SPACE] = { ENOSPC, "ENOSPC" },
    [PEER_E_IO] = { EIO, "EIO" },
    [PEER_E_BAD_DATA] = { EBADMSG, "EBADMSG" },
    [PEER_E_INVALID] = { EINVAL, "EINVAL" },
    [PEER_E_NOT_CONNECTED] = { ENOTCONN, "ENOTCONN" },
    [PEER_E_TIMED_OUT] = { ETIMEDOUT, "ETIMEDOUT" },
    [PEER_E_SHUTDOWN] = { ESHUTDOWN, "ESHUTDOWN" },
    [PEER_E_EXISTS] = { EEXIST, "EEXIST" },
    [PEER_E_PROTOCOL] = { EPROTO, "EPROTO" },
    [PEER_E_VERSION] = { EPROTONOSUPPORT, "EPROTONOSUPPORT" },
    [PEER_E_CLUSTER] = { EPERM, "EPERM" },
    [PEER_E_NO_DISK] = { ENODEV, "ENODEV" },
    [PEER_E_BUSY] = { EBUSY, "EBUSY" },
    [PEER_E_NO_MEMORY] = { ENOMEM, "ENOMEM" },
    [PEER_E_NOT_SUPPORTED] = { EOPNOTSUPP, "EOPNOTSUPP" },
    [PEER_E_AGAIN] = { EAGAIN, "EAGAIN" },
};

static_assert(ARRAY_COUNT(statuses) == PEER_STATUS_COUNT, "one row each");

uint32_t
peer_status_of(int result)
{
    for (uint32_t status = 0; status < PEER_STATUS_COUNT; status++) {
        if (statuses[status].error == -result) {
            return status;
        }
    }
    return PEER_E_IO;
}

int
peer_status_result(uint32_t status, int *ret_result)
{
    if (status >= PEER_STATUS_COUNT) {
        return -EPROTO;
    }
    *ret_result = -statuses[status].error;
    return 0;
}

const char *
peer_status_name(uint32_t status)
{
    return status < PEER_STATUS_COUNT ? statuses[status].name : NULL;
}

/* ---- Header ---- */

void
peer_head_encode(const struct peer_head *head,
                 uint8_t ret_bytes[PEER_HEADER_BYTES])
{
    struct peer_header header = {
        .magic = le32_make(PEER_MAGIC),
        .kind = (uint8_t)head->kind,
        .version = head->version,
        .opcode = le16_make(head->opcode),
        .id = le64_make(head->id),
        .meta_bytes = le32_make(head->meta_bytes),
        .data_bytes = le32_make(head->data_bytes),
        .meta_crc = le32_make(head->meta_crc),
    };

    header.header_crc = le32_make(crc32c(0, &header, PEER_HEADER_CRC_BYTES));
    memcpy(ret_bytes, &header, sizeof header);
}

int
peer_head_decode(const uint8_t bytes[PEER_HEADER_BYTES],
                 struct peer_head *ret_head, const char **ret_why)
{
    struct peer_header header;

    memcpy(&header, bytes, sizeof header);
    if (le32_get(header.magic) != PEER_MAGIC) {
        *ret_why = "a message does not begin with WFTP";
        return -EPROTO;
    }
    if (le32_get(header.header_crc) !=
        crc32c(0, bytes, PEER_HEADER_CRC_BYTES)) {
        *ret_why = "the checksum of a header is wrong";
        return -EPROTO;
    }
    if (header.kind < PEER_HELLO || header.kind > PEER_BYE) {
        *ret_why = "a message is of an unknown kind";
        return -EPROTO;
    }
    if (le32_get(header.meta_bytes) > PEER_META_BYTES_MAX ||
        le32_get(header.data_bytes) > PEER_DATA_BYTES_MAX) {
        *ret_why = "a message is too long";
        return -EPROTO;
    }
    *ret_head = (struct peer_head){
        .kind = (enum peer_kind)header.kind,
        .version = header.version,
        .opcode = le16_get(header.opcode),
        .id = le64_get(header.id),
        .meta_bytes = le32_get(header.meta_bytes),
        .data_bytes = le32_get(header.data_bytes),
        .meta_crc = le32_get(header.meta_crc),
    };
    return 0;
}

/* ---- Membership ---- */

static struct peer_membership
membership_encode(const struct store_membership *membership)
{
    struct peer_membership wire = {
        .epoch = le32_make(membership->epoch),
        .in_sync_count = le32_make(membership->in_sync_count),
        .view = le64_make(membership->view),
    };

    memcpy(wire.in_sync, membership->in_sync, sizeof wire.in_sync);
    return wire;
}

static int
membership_decode(const struct peer_membership *wire,
                  struct store_membership *ret_membership)
{
    if (le32_get(wire->in_sync_count) > STORE_REPLICAS_MAX) {
        return -EPROTO;
    }
    ret_membership->epoch = le32_get(wire->epoch);
    ret_membership->in_sync_count = le32_get(wire->in_sync_count);
    ret_membership->view = le64_get(wire->view);
    memcpy(ret_membership->in_sync, wire->in_sync, sizeof wire->in_sync);
    return 0;
}

/* ---- Requests ---- */

uint32_t
peer_request_fixed_bytes(uint16_t opcode)
{
    uint32_t fixed_bytes = sizeof(struct peer_request);

    switch (opcode) {
    case STORE_READ:
    case STORE_WRITE:
    case STORE_DISCARD:
    case STORE_FLUSH:
    case STORE_LIST:
    case STORE_PUT_SLOT:
    case STORE_REMOVE:
        return fixed_bytes;
    case STORE_FENCE:
        return fixed_bytes + (uint32_t)sizeof(struct weft_uuid);
    case STORE_SET_VIEW:
        return fixed_bytes + (uint32_t)sizeof(struct peer_membership);
    case STORE_CREATE:
        return fixed_bytes + (uint32_t)sizeof(struct peer_create);
    default:
        return 0;
    }
}

static uint32_t
count_states(const uint8_t *states, uint32_t count, uint8_t state)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < count; i++) {
        found += states[i] == state;
    }
    return found;
}

/* All but 'data_bytes' of PUT_SLOT, which depends on the states. */
static int
shape_of(uint16_t opcode, uint32_t block_count, uint32_t entries_max,
         struct peer_shape *ret_shape)
{
    struct peer_shape shape = { 0 };

    if (opcode == STORE_READ || opcode == STORE_WRITE ||
        opcode == STORE_PUT_SLOT) {
        if (block_count == 0 || block_count > STORE_REQ_BLOCKS_MAX) {
            return -EPROTO;
        }
        shape.block_count = block_count;
        shape.buffer_bytes = block_count * WEFT_BLOCK_SIZE;
        shape.cost_bytes = shape.buffer_bytes;
        if (opcode != STORE_READ) {
            shape.has_crcs = true;
            shape.has_states = opcode == STORE_PUT_SLOT;
            shape.data_bytes = shape.buffer_bytes;
        }
    } else if (opcode == STORE_LIST) {
        if (entries_max == 0 || entries_max > PEER_ENTRIES_MAX) {
            return -EPROTO;
        }
        shape.buffer_bytes =
            (uint32_t)units_align_up(entries_max * sizeof(struct peer_entry),
                                     WEFT_BLOCK_SIZE);
        shape.cost_bytes = shape.buffer_bytes;
    }
    *ret_shape = shape;
    return 0;
}

static uint32_t
entries_on_wire(const struct store_req *req)
{
    if (req->opcode != STORE_LIST) {
        return 0;
    }
    return req->entries_max < PEER_ENTRIES_MAX ? req->entries_max
                                               : PEER_ENTRIES_MAX;
}

int
peer_request_encode(const struct store_req *req, uint8_t *ret_fixed,
                    struct peer_shape *ret_shape)
{
    uint16_t opcode = (uint16_t)req->opcode;
    struct peer_shape shape;

    if (peer_request_fixed_bytes(opcode) == 0 ||
        shape_of(opcode, req->block_count, entries_on_wire(req), &shape) != 0) {
        return -EINVAL;
    }
    if (opcode == STORE_PUT_SLOT) {
        shape.data_bytes =
            count_states(req->states, shape.block_count, STORE_BLOCK_DATA) *
            WEFT_BLOCK_SIZE;
    }
    struct peer_request wire = {
        .replica = req->replica,
        .session = le64_make(req->session),
        .sequence = le64_make(opcode == STORE_FLUSH      ? req->known_good
                              : opcode == STORE_SET_VIEW ? req->incarnation
                                                         : req->sequence),
        .block = le64_make(req->block),
        .block_count = le32_make(req->block_count),
        .epoch = le32_make(req->epoch),
        .layer = le32_make(req->layer),
        .flags =
            le32_make((req->discard_zero != 0 ? PEER_REQUEST_DISCARD_ZERO : 0) |
                      (req->list_all != 0 ? PEER_REQUEST_LIST_ALL : 0)),
        .entries_max = le32_make(entries_on_wire(req)),
    };
    memcpy(ret_fixed, &wire, sizeof wire);
    ret_fixed += sizeof wire;
    if (opcode == STORE_FENCE) {
        memcpy(ret_fixed, &req->owner_instance, sizeof req->owner_instance);
    } else if (opcode == STORE_SET_VIEW) {
        struct peer_membership membership = membership_encode(&req->membership);
        memcpy(ret_fixed, &membership, sizeof membership);
    } else if (opcode == STORE_CREATE) {
        struct peer_create create = {
            .volume = req->volume,
            .mirror_index = le32_make(req->mirror_index),
            .size_blocks = le64_make(req->size_blocks),
            .membership = membership_encode(&req->membership),
        };
        memcpy(ret_fixed, &create, sizeof create);
    }
    *ret_shape = shape;
    return 0;
}

int
peer_request_shape(const struct peer_head *head, const uint8_t *meta,
                   struct peer_shape *ret_shape)
{
    uint32_t fixed_bytes = peer_request_fixed_bytes(head->opcode);
    struct peer_request wire;
    struct peer_shape shape;

    if (fixed_bytes == 0 || head->meta_bytes < fixed_bytes) {
        return -EPROTO;
    }
    memcpy(&wire, meta, sizeof wire);
    int result = shape_of(head->opcode, le32_get(wire.block_count),
                          le32_get(wire.entries_max), &shape);
    if (result != 0) {
        return result;
    }
    uint32_t crc_bytes = shape.has_crcs ? 4 * shape.block_count : 0;
    uint32_t state_bytes = shape.has_states ? shape.block_count : 0;
    if (head->meta_bytes != fixed_bytes + crc_bytes + state_bytes) {
        return -EPROTO;
    }
    if (shape.has_states) {
        const uint8_t *states = meta + fixed_bytes + crc_bytes;
        for (uint32_t i = 0; i < shape.block_count; i++) {
            if (states[i] > STORE_BLOCK_ZERO) {
                return -EPROTO;
            }
        }
        shape.data_bytes =
            count_states(states, shape.block_count, STORE_BLOCK_DATA) *
            WEFT_BLOCK_SIZE;
    }
    if (head->data_bytes != shape.data_bytes) {
        return -EPROTO;
    }
    *ret_shape = shape;
    return 0;
}

/* Rule (2). */
static int
check_values(const struct store_req *req)
{
    bool names_blocks =
        req->opcode == STORE_READ || req->opcode == STORE_WRITE ||
        req->opcode == STORE_PUT_SLOT || req->opcode == STORE_DISCARD;

    if (req->epoch > STORE_EPOCH_MAX ||
        req->membership.epoch > STORE_EPOCH_MAX) {
        return -EINVAL;
    }
    if (req->block > PEER_BLOCK_MAX || req->size_blocks > PEER_BLOCK_MAX + 1) {
        return -EINVAL;
    }
    if (names_blocks &&
        (req->layer < STORE_LAYER_FIRST || req->block_count == 0)) {
        return -EINVAL;
    }
    return 0;
}

int
peer_request_decode(const struct peer_head *head, const uint8_t *meta,
                    const struct peer_shape *shape, struct store_req *req,
                    uint32_t *crcs, uint8_t *states)
{
    const uint8_t *at = meta + sizeof(struct peer_request);
    struct peer_request wire;

    memcpy(&wire, meta, sizeof wire);
    uint32_t flags = le32_get(wire.flags);
    req->opcode = (enum store_opcode)head->opcode;
    req->replica = wire.replica;
    req->epoch = le32_get(wire.epoch);
    req->session = le64_get(wire.session);
    req->layer = le32_get(wire.layer);
    req->block = le64_get(wire.block);
    req->block_count = le32_get(wire.block_count);
    req->discard_zero = (flags & PEER_REQUEST_DISCARD_ZERO) != 0;
    req->list_all = (flags & PEER_REQUEST_LIST_ALL) != 0;
    req->entries_max = le32_get(wire.entries_max);
    if (head->opcode == STORE_FLUSH) {
        req->known_good = le64_get(wire.sequence);
    } else if (head->opcode == STORE_SET_VIEW) {
        req->incarnation = le64_get(wire.sequence);
    } else {
        req->sequence = le64_get(wire.sequence);
    }
    if (head->opcode == STORE_FENCE) {
        memcpy(&req->owner_instance, at, sizeof req->owner_instance);
    } else if (head->opcode == STORE_SET_VIEW) {
        struct peer_membership membership;
        memcpy(&membership, at, sizeof membership);
        if (membership_decode(&membership, &req->membership) != 0) {
            return -EINVAL;
        }
    } else if (head->opcode == STORE_CREATE) {
        struct peer_create create;
        memcpy(&create, at, sizeof create);
        req->volume = create.volume;
        req->mirror_index = le32_get(create.mirror_index);
        req->size_blocks = le64_get(create.size_blocks);
        if (membership_decode(&create.membership, &req->membership) != 0) {
            return -EINVAL;
        }
    }
    at = meta + peer_request_fixed_bytes(head->opcode);
    if (shape->has_crcs) {
        memcpy(crcs, at, 4 * (size_t)shape->block_count);
        at += 4 * (size_t)shape->block_count;
    }
    if (shape->has_states) {
        memcpy(states, at, shape->block_count);
    }
    return check_values(req);
}

/* ---- Replies ---- */

uint32_t
peer_reply_fixed_bytes(uint16_t opcode)
{
    uint32_t fixed_bytes = sizeof(struct peer_reply);

    if (opcode == STORE_FENCE) {
        fixed_bytes += (uint32_t)sizeof(struct peer_fenced);
    }
    return fixed_bytes;
}

void
peer_reply_encode(const struct store_req *req, uint32_t data_crc,
                  uint8_t *ret_fixed)
{
    struct peer_reply wire = {
        .status = le32_make(peer_status_of(req->result)),
        .epoch = le32_make(req->epoch),
        .data_crc = le32_make(data_crc),
    };

    if (req->opcode == STORE_READ && req->result == 0) {
        wire.count = le32_make(req->block_count);
        wire.value = le64_make(req->slot_sequence);
    } else if (req->opcode == STORE_LIST && req->result == 0) {
        wire.count = le32_make(req->entries_count);
        wire.flags =
            le32_make(req->region_touched != 0 ? PEER_REPLY_REGION_TOUCHED : 0);
    } else if (req->opcode == STORE_FLUSH) {
        wire.value = le64_make(req->incarnation);
    }
    memcpy(ret_fixed, &wire, sizeof wire);
    if (req->opcode == STORE_FENCE) {
        struct peer_fenced fenced = {
            .session = le64_make(req->session),
            .incarnation = le64_make(req->incarnation),
            .known_good = le64_make(req->known_good_out),
            .max_sequence = le64_make(req->max_sequence),
            .session_incarnation = le64_make(req->session_incarnation),
            .slot_blocks = le32_make(req->slot_blocks),
            .membership = membership_encode(&req->membership),
        };
        memcpy(ret_fixed + sizeof wire, &fenced, sizeof fenced);
    }
}

static int
decode_read(const struct peer_head *head, const uint8_t *meta,
            const struct store_req *req, struct peer_answer *answer)
{
    uint32_t count = answer->count;

    if (count != req->block_count ||
        head->meta_bytes != sizeof(struct peer_reply) + 5 * (uint64_t)count) {
        return -EPROTO;
    }
    answer->crcs = meta + sizeof(struct peer_reply);
    answer->states = answer->crcs + 4 * (size_t)count;
    uint32_t data_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (answer->states[i] > STORE_BLOCK_BAD) {
            return -EPROTO;
        }
        if (peer_state_has_data(answer->states[i])) {
            data_bytes += WEFT_BLOCK_SIZE;
        }
    }
    return head->data_bytes == data_bytes ? 0 : -EPROTO;
}

static int
decode_fence(const uint8_t *meta, struct store_req *req)
{
    struct store_membership membership;
    struct peer_fenced fenced;

    memcpy(&fenced, meta + sizeof(struct peer_reply), sizeof fenced);
    int result = membership_decode(&fenced.membership, &membership);
    if (result != 0 || membership.epoch > STORE_EPOCH_MAX) {
        return -EPROTO;
    }
    req->session = le64_get(fenced.session);
    req->incarnation = le64_get(fenced.incarnation);
    req->known_good_out = le64_get(fenced.known_good);
    req->max_sequence = le64_get(fenced.max_sequence);
    req->session_incarnation = le64_get(fenced.session_incarnation);
    req->slot_blocks = le32_get(fenced.slot_blocks);
    req->membership = membership;
    return 0;
}

int
peer_reply_decode(const struct peer_head *head, const uint8_t *meta,
                  struct store_req *req, struct peer_answer *ret_answer)
{
    uint32_t fixed_bytes = peer_reply_fixed_bytes(head->opcode);
    struct peer_answer answer = { 0 };
    struct peer_reply wire;

    if (head->opcode != (uint16_t)req->opcode ||
        head->meta_bytes < fixed_bytes) {
        return -EPROTO;
    }
    memcpy(&wire, meta, sizeof wire);
    if (peer_status_result(le32_get(wire.status), &answer.result) != 0 ||
        le32_get(wire.epoch) != req->epoch) {
        return -EPROTO;
    }
    answer.count = le32_get(wire.count);
    answer.data_crc = le32_get(wire.data_crc);
    if (answer.result == 0 && head->opcode == STORE_READ) {
        int result = decode_read(head, meta, req, &answer);
        if (result != 0) {
            return result;
        }
        req->slot_sequence = le64_get(wire.value);
        *ret_answer = answer;
        return 0;
    }
    if (head->meta_bytes != fixed_bytes) {
        return -EPROTO;
    }
    if (answer.result == 0 && head->opcode == STORE_LIST) {
        if (answer.count > entries_on_wire(req) ||
            head->data_bytes != answer.count * sizeof(struct peer_entry)) {
            return -EPROTO;
        }
        req->region_touched =
            (le32_get(wire.flags) & PEER_REPLY_REGION_TOUCHED) != 0;
        *ret_answer = answer;
        return 0;
    }
    if (head->data_bytes != 0) {
        return -EPROTO;
    }
    if (head->opcode == STORE_FLUSH) {
        req->incarnation = le64_get(wire.value);
    } else if (head->opcode == STORE_FENCE) {
        int result = decode_fence(meta, req);
        if (result != 0) {
            return result;
        }
    }
    *ret_answer = answer;
    return 0;
}
