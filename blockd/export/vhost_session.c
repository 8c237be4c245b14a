/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "blockd/export/vhost_internal.h"
#include "lib/base/log.h"

/* What each message does.
 *
 * vhost_session_handle() looks at conn->msg.  A handler that has to wait begins
 * what it waits for and says VHOST_WAIT; it is called again, from the top, when
 * something has settled, until it is DONE: so it only asks "is it so already?".
 *
 * A message that makes no sense where it comes cuts the connection: the front
 * end and this side would no longer agree on the device's state. */

static enum vhost_outcome
vhost_reply_u64(struct vhost_export *vhost_export, uint64_t value,
                struct err *err)
{
    struct le64 wire = le64_make(value);

    int result = vhost_conn_reply(vhost_export, &wire, sizeof wire, -1);
    if (result != 0) {
        err_set(err, "no answer could be sent: %s", strerror(-result));
        return VHOST_CUT;
    }
    return VHOST_DONE;
}

/* ---- Rings ---- */

static bool
vhost_ring_is_ready(const struct vhost_ring *ring)
{
    return ring->state == VHOST_RING_STOPPED && ring->kick_fd >= 0 &&
           ring->num != 0 && ring->has_addr;
}

int
vhost_session_run_rings(struct vhost_export *vhost_export, struct err *err)
{
    struct vhost_conn *conn = &vhost_export->conn;

    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        struct vhost_ring *ring = &vhost_export->rings[i];
        if (vhost_ring_is_ready(ring) && conn->has_mem && conn->has_features) {
            int result =
                vhost_ring_start(ring, &vhost_export->mem,
                                 &vhost_export->inflight, conn->features, err);
            if (result != 0) {
                return result;
            }
            if (ring->resubmit_count > 0) {
                log_info("vhost",
                         "requests of an earlier life are submitted again "
                         "socket=%s queue=%u count=%u",
                         vhost_export->path, i, ring->resubmit_count);
            }
            if ((conn->features & VHOST_F_PROTOCOL_FEATURES) == 0) {
                ring->enabled = true;
            }
            /* A call that the dead process owed may be lost. */
            vhost_ring_call(ring);
        }
        if (ring->state == VHOST_RING_STARTED && ring->enabled) {
            (void)vhost_blk_service(ring);
        }
    }
    return 0;
}

/* Ends fetching from one ring.  True: nothing of it is in flight. */
static bool
vhost_session_stop_ring(struct vhost_ring *ring)
{
    ring->draining = true;
    if (!vhost_kick_stop(ring) || ring->request_count > 0) {
        return false;
    }
    vhost_blk_publish(ring);
    vhost_ring_stop(ring);
    ring->draining = false;
    return true;
}

static bool
vhost_session_stop_all(struct vhost_export *vhost_export)
{
    bool stopped = true;

    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        stopped = vhost_session_stop_ring(&vhost_export->rings[i]) && stopped;
    }
    return stopped;
}

/* ---- Features and config ---- */

static enum vhost_outcome
vhost_set_features(struct vhost_export *vhost_export, uint64_t features,
                   struct err *err)
{
    struct vhost_conn *conn = &vhost_export->conn;

    if ((features & ~VHOST_FEATURES) != 0) {
        err_set(err, "SET_FEATURES asks for 0x%llx, which was not offered",
                (unsigned long long)(features & ~VHOST_FEATURES));
        return VHOST_CUT;
    }
    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        if (vhost_export->rings[i].state != VHOST_RING_STOPPED &&
            features != conn->features) {
            err_set(err, "SET_FEATURES while queue %u runs", i);
            return VHOST_CUT;
        }
    }
    conn->features = features;
    conn->has_features = true;
    return VHOST_DONE;
}

static enum vhost_outcome
vhost_set_protocol_features(struct vhost_export *vhost_export,
                            uint64_t features, struct err *err)
{
    if ((features & ~VHOST_PROTOCOL_FEATURES) != 0) {
        err_set(err,
                "SET_PROTOCOL_FEATURES asks for 0x%llx, which was not offered",
                (unsigned long long)(features & ~VHOST_PROTOCOL_FEATURES));
        return VHOST_CUT;
    }
    vhost_export->conn.protocol_features = features;
    return VHOST_DONE;
}

static enum vhost_outcome
vhost_get_config(struct vhost_export *vhost_export, struct err *err)
{
    const struct vhost_msg_config *wanted = &vhost_export->conn.msg.u.config;
    struct virtio_blk_config_space space;
    uint8_t bytes[VHOST_CONFIG_BYTES_MAX] = { 0 }; /* Newer fields: zeros. */
    struct vhost_wire_config wire = {
        .offset = le32_make(wanted->offset),
        .size_bytes = le32_make(wanted->size_bytes),
        .flags = le32_make(wanted->flags),
    };

    vhost_blk_config_get(vhost_export, &space);
    memcpy(bytes, &space, sizeof space);
    memcpy(wire.bytes, bytes + wanted->offset, wanted->size_bytes);
    int result =
        vhost_conn_reply(vhost_export, &wire,
                         (uint32_t)offsetof(struct vhost_wire_config, bytes) +
                             wanted->size_bytes,
                         -1);
    if (result != 0) {
        err_set(err, "no answer could be sent: %s", strerror(-result));
        return VHOST_CUT;
    }
    return VHOST_DONE;
}

static enum vhost_outcome
vhost_set_config(struct vhost_export *vhost_export, struct err *err)
{
    const struct vhost_msg_config *config = &vhost_export->conn.msg.u.config;

    if (vhost_blk_config_set(vhost_export, config) != 0) {
        err_set(err,
                "SET_CONFIG of bytes %u+%u: only the cache mode (byte 32, "
                "0 or 1) can be set",
                config->offset, config->size_bytes);
        return VHOST_CUT;
    }
    return VHOST_DONE;
}

/* ---- Memory and the in-flight region ---- */

static enum vhost_outcome
vhost_set_mem_table(struct vhost_export *vhost_export, struct err *err)
{
    struct vhost_conn *conn = &vhost_export->conn;
    struct vhost_mem mem;

    vhost_export->quiesced = true;
    if (!list_is_empty(&vhost_export->requests)) {
        return VHOST_WAIT;
    }
    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        vhost_blk_publish(&vhost_export->rings[i]);
    }
    if (vhost_mem_map(&conn->msg.u.mem, conn->fds, err, &mem) != 0) {
        return VHOST_CUT;
    }
    vhost_mem_unmap(&vhost_export->mem);
    vhost_export->mem = mem;
    conn->has_mem = true;
    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        struct vhost_ring *ring = &vhost_export->rings[i];
        if (ring->state != VHOST_RING_STOPPED &&
            vhost_ring_remap(ring, &mem, err) != 0) {
            return VHOST_CUT;
        }
    }
    vhost_export->quiesced = vhost_export->stopping;
    return VHOST_DONE;
}

static enum vhost_outcome
vhost_get_inflight(struct vhost_export *vhost_export, struct err *err)
{
    const struct vhost_msg_inflight *wanted =
        &vhost_export->conn.msg.u.inflight;
    uint64_t size_bytes;
    int fd;

    int result = vhost_inflight_create(wanted, vhost_export->writeback, &fd,
                                       &size_bytes);
    if (result != 0) {
        err_set(err, "no in-flight region could be made: %s",
                strerror(-result));
        return VHOST_CUT;
    }
    struct vhost_wire_inflight wire = {
        .mmap_size = le64_make(size_bytes),
        .mmap_offset = le64_make(0),
        .queue_count = le16_make(wanted->queue_count),
        .queue_size = le16_make(wanted->queue_size),
    };
    result = vhost_conn_reply(vhost_export, &wire,
                              vhost_export->conn.payload_bytes, fd);
    close(fd);
    if (result != 0) {
        err_set(err, "no answer could be sent: %s", strerror(-result));
        return VHOST_CUT;
    }
    return VHOST_DONE;
}

static enum vhost_outcome
vhost_set_inflight(struct vhost_export *vhost_export, struct err *err)
{
    struct vhost_conn *conn = &vhost_export->conn;
    struct vhost_inflight inflight;

    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        if (vhost_export->rings[i].state != VHOST_RING_STOPPED) {
            err_set(err, "SET_INFLIGHT_FD while queue %u runs", i);
            return VHOST_CUT;
        }
    }
    if (vhost_inflight_map(&conn->msg.u.inflight, conn->fds[0], err,
                           &inflight) != 0) {
        return VHOST_CUT;
    }
    vhost_inflight_unmap(&vhost_export->inflight);
    vhost_export->inflight = inflight;
    if (vhost_inflight_is_used(&inflight)) {
        /* The guest chose its cache mode in an earlier life.  A region that
         * does not say which is treated as if it never flushed. */
        vhost_export->writeback =
            inflight.note != NULL && inflight.note->writeback != 0;
    } else if (inflight.note != NULL) {
        inflight.note->writeback = vhost_export->writeback;
    }
    return VHOST_DONE;
}

/* ---- Virtqueues ---- */

static enum vhost_outcome
vhost_set_vring(struct vhost_export *vhost_export, struct err *err)
{
    const struct vhost_msg *msg = &vhost_export->conn.msg;
    uint32_t index = msg->request == VHOST_SET_VRING_ADDR ? msg->u.addr.index
                                                          : msg->u.state.index;
    struct vhost_ring *ring = &vhost_export->rings[index];
    bool changes;

    if (msg->request == VHOST_SET_VRING_ADDR) {
        changes = !ring->has_addr || ring->addr.desc != msg->u.addr.desc ||
                  ring->addr.avail != msg->u.addr.avail ||
                  ring->addr.used != msg->u.addr.used;
    } else if (msg->request == VHOST_SET_VRING_NUM) {
        changes = ring->num != msg->u.state.num;
    } else {
        changes = true;
    }
    if (ring->state != VHOST_RING_STOPPED && changes) {
        err_set(err, "%s while queue %u runs", vhost_msg_name(msg->request),
                index);
        return VHOST_CUT;
    }
    if (msg->request == VHOST_SET_VRING_ADDR) {
        ring->addr = msg->u.addr;
        ring->has_addr = true;
    } else if (msg->request == VHOST_SET_VRING_NUM) {
        ring->num = msg->u.state.num;
    } else {
        ring->base = (uint16_t)msg->u.state.num;
    }
    return VHOST_DONE;
}

static enum vhost_outcome
vhost_get_vring_base(struct vhost_export *vhost_export, struct err *err)
{
    uint32_t index = vhost_export->conn.msg.u.state.index;
    struct vhost_ring *ring = &vhost_export->rings[index];

    if (!vhost_session_stop_ring(ring)) {
        return VHOST_WAIT;
    }
    struct vhost_wire_state wire = {
        .index = le32_make(index),
        .num = le32_make(ring->base),
    };
    int result = vhost_conn_reply(vhost_export, &wire, sizeof wire, -1);
    if (result != 0) {
        err_set(err, "no answer could be sent: %s", strerror(-result));
        return VHOST_CUT;
    }
    return VHOST_DONE;
}

static enum vhost_outcome
vhost_set_kick(struct vhost_export *vhost_export, struct err *err)
{
    const struct vhost_msg_fd *msg = &vhost_export->conn.msg.u.fd;
    struct vhost_ring *ring = &vhost_export->rings[msg->index];

    if (!msg->has_fd) {
        err_set(err, "SET_VRING_KICK without a descriptor: polling for ever "
                     "is not supported");
        return VHOST_CUT;
    }
    if (!vhost_kick_stop(ring)) {
        return VHOST_WAIT;
    }
    ring->kick_fd = vhost_conn_take_fd(vhost_export, 0);
    if (ring->kick_fd < 0) {
        err_set(err, "SET_VRING_KICK brings something that is no eventfd");
        return VHOST_CUT;
    }
    vhost_kick_start(ring);
    return VHOST_DONE;
}

static enum vhost_outcome
vhost_set_call_or_err(struct vhost_export *vhost_export, struct err *err)
{
    const struct vhost_msg *msg = &vhost_export->conn.msg;
    struct vhost_ring *ring = &vhost_export->rings[msg->u.fd.index];
    int *fd =
        msg->request == VHOST_SET_VRING_CALL ? &ring->call_fd : &ring->err_fd;
    int taken = -1;

    if (msg->u.fd.has_fd) {
        taken = vhost_conn_take_fd(vhost_export, 0);
        if (taken < 0) {
            err_set(err, "%s brings something that is no eventfd",
                    vhost_msg_name(msg->request));
            return VHOST_CUT;
        }
    }
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = taken;
    if (msg->request == VHOST_SET_VRING_CALL &&
        ring->state != VHOST_RING_STOPPED) {
        vhost_ring_call(ring); /* The old one may have taken a call along. */
    }
    return VHOST_DONE;
}

static enum vhost_outcome
vhost_reset(struct vhost_export *vhost_export)
{
    if (!vhost_session_stop_all(vhost_export)) {
        return VHOST_WAIT;
    }
    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        vhost_export->rings[i].enabled = false;
    }
    if (vhost_export->conn.msg.request == VHOST_RESET_DEVICE) {
        vhost_export->conn.features = 0;
        vhost_export->conn.has_features = false;
        vhost_inflight_unmap(&vhost_export->inflight);
        for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
            vhost_export->rings[i].has_addr = false;
            vhost_export->rings[i].base = 0;
        }
    }
    return VHOST_DONE;
}

enum vhost_outcome
vhost_session_handle(struct vhost_export *vhost_export, struct err *err)
{
    struct vhost_conn *conn = &vhost_export->conn;
    const struct vhost_msg *msg = &conn->msg;
    enum vhost_outcome outcome = VHOST_DONE;

    switch (msg->request) {
    case VHOST_GET_FEATURES:
        return vhost_reply_u64(vhost_export, VHOST_FEATURES, err);
    case VHOST_GET_PROTOCOL_FEATURES:
        return vhost_reply_u64(vhost_export, VHOST_PROTOCOL_FEATURES, err);
    case VHOST_GET_QUEUE_NUM:
        return vhost_reply_u64(vhost_export, VHOST_QUEUES_MAX, err);
    case VHOST_GET_CONFIG:
        return vhost_get_config(vhost_export, err);
    case VHOST_GET_INFLIGHT_FD:
        return vhost_get_inflight(vhost_export, err);
    case VHOST_GET_VRING_BASE:
        return vhost_get_vring_base(vhost_export, err);
    case VHOST_SET_OWNER:
        break;
    case VHOST_SET_FEATURES:
        outcome = vhost_set_features(vhost_export, msg->u.u64, err);
        break;
    case VHOST_SET_PROTOCOL_FEATURES:
        outcome = vhost_set_protocol_features(vhost_export, msg->u.u64, err);
        break;
    case VHOST_SET_CONFIG:
        outcome = vhost_set_config(vhost_export, err);
        break;
    case VHOST_SET_MEM_TABLE:
        outcome = vhost_set_mem_table(vhost_export, err);
        break;
    case VHOST_SET_INFLIGHT_FD:
        outcome = vhost_set_inflight(vhost_export, err);
        break;
    case VHOST_SET_VRING_NUM:
    case VHOST_SET_VRING_ADDR:
    case VHOST_SET_VRING_BASE:
        outcome = vhost_set_vring(vhost_export, err);
        break;
    case VHOST_SET_VRING_KICK:
        outcome = vhost_set_kick(vhost_export, err);
        break;
    case VHOST_SET_VRING_CALL:
    case VHOST_SET_VRING_ERR:
        outcome = vhost_set_call_or_err(vhost_export, err);
        break;
    case VHOST_SET_VRING_ENABLE:
        vhost_export->rings[msg->u.state.index].enabled = msg->u.state.num != 0;
        break;
    case VHOST_RESET_OWNER:
    case VHOST_RESET_DEVICE:
        outcome = vhost_reset(vhost_export);
        break;
    default:
        CHECK(!"vhost_msg_parse() has looked");
    }
    if (outcome == VHOST_DONE &&
        vhost_session_run_rings(vhost_export, err) != 0) {
        outcome = VHOST_CUT;
    }
    if (outcome == VHOST_DONE && msg->need_reply &&
        (conn->protocol_features & VHOST_PROTOCOL_F_REPLY_ACK) != 0) {
        outcome = vhost_reply_u64(vhost_export, 0, err);
    }
    return outcome;
}
