/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_VHOST_DRIVER_H
#define TESTS_SUPPORT_VHOST_DRIVER_H

/* A vhost-user front end and virtio-blk driver in one: the other side of
 * blockd/export/vhost*.c, for tests, fuzzing and the load generator.
 *
 * It makes the guest's memory (a memfd), lays split rings into it, speaks to
 * the back end on its socket, adds chains and takes completions.  Tests that
 * want to be rude use vhost_driver_send() and write to the rings directly.
 *
 * Everything is synchronous.  While an answer is awaited 'idle' is called (a
 * test runs the back end there, on the same thread); without it poll() waits.
 *
 * Functions return 0 or -errno. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/export/vhost_wire.h"
#include "lib/base/check.h"

#define VHOST_DRIVER_QUEUES_MAX 16u
#define VHOST_DRIVER_SEGS_MAX 256u
#define VHOST_DRIVER_GUEST_BASE UINT64_C(0x100000)

struct vhost_driver;

typedef void vhost_driver_idle_fn(void *context);

struct vhost_driver_options {
    const char *path;
    uint32_t queue_count;           /* 0: 1. */
    uint32_t queue_size;            /* 0: 128. */
    uint64_t mem_bytes;             /* 0: 16 MiB. */
    uint32_t regions;               /* Equal parts of the memory; 0: 1. */
    uint64_t features_off;          /* Not to be negotiated. */
    uint64_t protocol_features_off; /* The same. */
    vhost_driver_idle_fn *idle;
    void *context;
};

struct vhost_driver_seg {
    uint64_t addr; /* Guest address. */
    uint32_t size_bytes;
    bool writable;
};

struct vhost_driver_queue {
    struct vhost_driver *driver;
    uint32_t index, num;
    uint64_t desc_addr, avail_addr, used_addr; /* Guest addresses. */
    uint64_t table_addr;  /* Indirect tables, one a head. */
    uint64_t header_addr; /* Block headers, one a head. */
    uint64_t status_addr; /* Status bytes, one a head. */
    struct vring_desc *desc;
    uint8_t *avail, *used;
    int kick_fd, call_fd;
    uint16_t avail_idx, avail_kicked, last_used;
    uint16_t *free_heads; /* A stack; each head owns one descriptor. */
    uint32_t free_count;
    uint16_t *chain_next; /* Descriptors of a direct chain, by head. */
    uint64_t *cookies;    /* By head. */
    bool *is_out;         /* By head: at the back end. */
    uint32_t out_count;
};

struct vhost_driver {
    struct vhost_driver_options options;
    int fd; /* -1: not connected. */
    int mem_fd;
    uint8_t *mem;
    uint64_t mem_used;
    uint64_t features, protocol_features;
    struct virtio_blk_config_space config;
    int inflight_fd; /* -1: none yet. */
    struct vhost_wire_inflight inflight;
    struct vhost_driver_queue queues[VHOST_DRIVER_QUEUES_MAX];
    bool running;
};

/* Makes the memory and the rings; connects to nothing. */
WEFT_MUST_CHECK int
vhost_driver_init(struct vhost_driver *driver,
                  const struct vhost_driver_options *options);
void vhost_driver_done(struct vhost_driver *driver);

/* Connects and negotiates features, reads the config space.  -ECONNREFUSED,
 * -ENOENT ...: nobody is there (yet). */
WEFT_MUST_CHECK int vhost_driver_connect(struct vhost_driver *driver);
/* Memory table, in-flight region (kept over reconnects) and rings: the device
 * runs.  After a back end has died: as QEMU does it, with the used index as
 * base, and the rings as they are. */
WEFT_MUST_CHECK int vhost_driver_start(struct vhost_driver *driver);
/* GET_VRING_BASE for all. */
WEFT_MUST_CHECK int vhost_driver_stop(struct vhost_driver *driver);
/* Drops the connection, as if this side had died. */
void vhost_driver_disconnect(struct vhost_driver *driver);
/* The in-flight region and the rings are made anew: a reset of the guest. */
void vhost_driver_reset(struct vhost_driver *driver);

/* One message, with descriptors; need_reply only if 'flags' says so. */
WEFT_MUST_CHECK int vhost_driver_send(struct vhost_driver *driver,
                                      uint32_t request, uint32_t flags,
                                      const void *payload, uint32_t size_bytes,
                                      const int *fds, uint32_t fd_count);
/* One answer of exactly 'size_bytes'; *ret_fd (may be NULL) is -1 if none. */
WEFT_MUST_CHECK int vhost_driver_receive(struct vhost_driver *driver,
                                         uint32_t request, void *payload,
                                         uint32_t size_bytes, int *ret_fd);
/* A message whose effect is awaited, by REPLY_ACK or a question after it.
 * -EREMOTEIO: refused; -ECONNRESET: cut. */
WEFT_MUST_CHECK int vhost_driver_tell(struct vhost_driver *driver,
                                      uint32_t request, const void *payload,
                                      uint32_t size_bytes, const int *fds,
                                      uint32_t fd_count);
WEFT_MUST_CHECK int vhost_driver_ask_u64(struct vhost_driver *driver,
                                         uint32_t request, uint64_t *ret_value);
WEFT_MUST_CHECK int vhost_driver_set_mem(struct vhost_driver *driver);
/* The memory table as it is sent; the number of bytes. */
uint32_t vhost_driver_mem_table(const struct vhost_driver *driver,
                                struct vhost_wire_mem *ret_table);

/* Guest memory for data: never freed.  0: full. */
uint64_t vhost_driver_alloc(struct vhost_driver *driver, uint64_t size_bytes,
                            uint64_t alignment);
uint8_t *vhost_driver_at(const struct vhost_driver *driver, uint64_t addr);

/* ---- Chains ---- */

/* Makes a chain of 'segs' available.  -ENOSPC: no descriptors. */
WEFT_MUST_CHECK int vhost_driver_add(struct vhost_driver_queue *queue,
                                     const struct vhost_driver_seg *segs,
                                     uint32_t count, bool indirect,
                                     uint64_t cookie, uint16_t *ret_head);
/* Tells the back end, if it wants to know.  Returns whether it did. */
bool vhost_driver_kick(struct vhost_driver_queue *queue);
/* The next completion: 1, 0 (none), -EPROTO (nonsense: an id that is not at the
 * back end). */
WEFT_MUST_CHECK int vhost_driver_take(struct vhost_driver_queue *queue,
                                      uint64_t *ret_cookie, uint16_t *ret_head,
                                      uint32_t *ret_size_bytes);
/* Asks for a call with the next completion.  True: there is one already. */
bool vhost_driver_want_call(struct vhost_driver_queue *queue);
void vhost_driver_refuse_calls(struct vhost_driver_queue *queue);
/* Reads the call eventfd: whether it had been signalled. */
bool vhost_driver_was_called(struct vhost_driver_queue *queue);

/* ---- Block requests ---- */

/* A request with one data buffer (size 0: none). */
WEFT_MUST_CHECK int vhost_driver_blk(struct vhost_driver_queue *queue,
                                     uint32_t type, uint64_t sector,
                                     uint64_t data_addr, uint32_t data_bytes,
                                     bool indirect, uint64_t cookie,
                                     uint16_t *ret_head);
/* The same with any data segments, all readable or all writable. */
WEFT_MUST_CHECK int vhost_driver_blk_segs(struct vhost_driver_queue *queue,
                                          uint32_t type, uint64_t sector,
                                          const struct vhost_driver_seg *segs,
                                          uint32_t count, bool indirect,
                                          uint64_t cookie, uint16_t *ret_head);
/* 0xff until the back end has written it. */
uint8_t vhost_driver_status(const struct vhost_driver_queue *queue,
                            uint16_t head);
/* One request from kick to completion: its status, or -errno. */
WEFT_MUST_CHECK int vhost_driver_blk_wait(struct vhost_driver_queue *queue,
                                          uint32_t type, uint64_t sector,
                                          uint64_t data_addr,
                                          uint32_t data_bytes);

#endif /* TESTS_SUPPORT_VHOST_DRIVER_H */
