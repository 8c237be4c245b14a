/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_EXPORT_VHOST_INTERNAL_H
#define BLOCKD_EXPORT_VHOST_INTERNAL_H

/* What the files of the vhost-user-blk back end share.
 *
 *   vhost_msg.c       messages: checks and decoding; pure
 *   vhost_mem.c       the memory table: mapping, translation
 *   vhost_ring.c      split virtqueues: avail, used, notifications
 *   vhost_chain.c     descriptor chains: walking, and moving their bytes
 *   vhost_inflight.c  the in-flight region
 *   vhost_blk.c       block requests: checks, parts, completion
 *   vhost_channel.c   messages and descriptors on the socket
 *   vhost_session.c   what each message does
 *   vhost_server.c    socket, connection, birth and death of the export
 *
 * One export has one connection at a time:
 *
 *   NONE --accept--> OPEN --socket or protocol ends, stop--> ENDING --> NONE
 *
 * OPEN      messages are handled one after the other; one that has to wait (for
 *           requests or a watch) stays in conn->msg and is tried again whenever
 *           something settles; nothing is read meanwhile.
 * ENDING    entered with the guest's memory unmapped at once: requests that are
 *           still at the volume are *orphans*, which complete into nothing.
 *           (Those stay marked in the in-flight region and are submitted again
 *           by whoever serves the guest next.)  Over when the last orphan and
 *           the last watch have settled; until then nobody is accepted, so that
 *           a request that is submitted again never races its first life.
 *
 * A ring:
 *
 *   STOPPED --SET_VRING_KICK--> STARTED --GET_VRING_BASE, reset--> STOPPED
 *                                  |
 *                                  '--nonsense in the ring--> BROKEN (until
 *                                     stopped; requests in flight complete)
 *
 * Requests are fetched from a ring that is STARTED and enabled, while the
 * export is not 'quiesced' (SET_MEM_TABLE, reset, stop wait for what is in
 * flight).  When requests, parts or payloads run out, the ring waits: in
 * export->starved, or with its payload waiter. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/export/vhost.h"
#include "blockd/export/vhost_wire.h"
#include "lib/base/list.h"
#include "lib/base/slab.h"

#define VHOST_SEG_MAX 126u
/* Pieces of a chain: its segments, header, status, and some that the border of
 * two regions cut in two. */
#define VHOST_PIECES_MAX (VHOST_SEG_MAX + 2u + 2u * VHOST_REGIONS_MAX)
#define VHOST_RANGES_MAX 16u
#define VHOST_REQUESTS_MAX 256u /* In flight, of all rings. */
#define VHOST_PARTS_MAX 512u
#define VHOST_FDS_MAX VHOST_REGIONS_MAX

/* ---- Messages ---- */

struct vhost_msg_state {
    uint32_t index, num;
};

struct vhost_msg_addr {
    uint32_t index, flags;
    uint64_t desc, used, avail;
};

struct vhost_msg_fd {
    uint32_t index;
    bool has_fd;
};

struct vhost_msg_region {
    uint64_t guest_addr, size_bytes, user_addr, mmap_offset;
};

struct vhost_msg_mem {
    uint32_t count;
    struct vhost_msg_region regions[VHOST_REGIONS_MAX];
};

struct vhost_msg_config {
    uint32_t offset, size_bytes, flags;
    uint8_t bytes[VHOST_CONFIG_BYTES_MAX];
};

struct vhost_msg_inflight {
    uint64_t mmap_size, mmap_offset;
    uint16_t queue_count, queue_size;
};

/* A message, decoded; everything in it is within the limits. */
struct vhost_msg {
    uint32_t request; /* enum vhost_message */
    bool need_reply;
    uint32_t fd_count;
    union {
        uint64_t u64;
        struct vhost_msg_state state;
        struct vhost_msg_addr addr;
        struct vhost_msg_fd fd;
        struct vhost_msg_mem mem;
        struct vhost_msg_config config;
        struct vhost_msg_inflight inflight;
    } u;
};

/* The size of the payload that follows.  -EPROTO: cut the connection. */
WEFT_MUST_CHECK int
vhost_msg_parse_header(const struct vhost_wire_header *header, struct err *err,
                       uint32_t *ret_payload_bytes);
/* -EPROTO.  'payload' has the size that the header says. */
WEFT_MUST_CHECK int vhost_msg_parse(const struct vhost_wire_header *header,
                                    const uint8_t *payload, uint32_t fd_count,
                                    struct err *err, struct vhost_msg *ret_msg);
/* "SET_MEM_TABLE"; "unknown" for what is not supported. */
const char *vhost_msg_name(uint32_t request);
/* Whether the message has an answer of its own. */
bool vhost_msg_has_reply(uint32_t request);

/* ---- Memory ---- */

struct vhost_region {
    uint64_t guest_addr, user_addr, size_bytes;
    uint8_t *base; /* Of guest_addr. */
    void *map;
    size_t map_bytes;
};

struct vhost_mem {
    struct vhost_region regions[VHOST_REGIONS_MAX];
    uint32_t count;
};

/* Maps fds[i] for region i: all, or none and -errno.  The descriptors stay the
 * caller's and may be closed. */
WEFT_MUST_CHECK int vhost_mem_map(const struct vhost_msg_mem *table,
                                  const int *fds, struct err *err,
                                  struct vhost_mem *ret_mem);
/* Harmless if empty. */
void vhost_mem_unmap(struct vhost_mem *mem);
/* Where guest address 'addr' is; NULL: nowhere.  *ret_bytes: how many of the
 * 'size_bytes' (at least 1) wanted ones lie there together. */
uint8_t *vhost_mem_guest(const struct vhost_mem *mem, uint64_t addr,
                         uint64_t size_bytes, uint64_t *ret_bytes);
/* Copies out of guest memory; the regions may change in between. */
WEFT_MUST_CHECK bool vhost_mem_read(const struct vhost_mem *mem, uint64_t addr,
                                    void *data, uint32_t size_bytes);
/* The whole of [addr, addr + size) of the front end's address space in one
 * region, or NULL. */
uint8_t *vhost_mem_user(const struct vhost_mem *mem, uint64_t addr,
                        uint64_t size_bytes);

/* ---- Shared memory ----
 *
 * Rings and in-flight regions are written by others at any time: each access
 * is one load or store of a naturally aligned integer. */

static inline uint16_t
vhost_load16(const void *memory)
{
    return le16toh(__atomic_load_n((const uint16_t *)memory, __ATOMIC_RELAXED));
}

static inline uint16_t
vhost_load16_acquire(const void *memory)
{
    return le16toh(__atomic_load_n((const uint16_t *)memory, __ATOMIC_ACQUIRE));
}

static inline uint64_t
vhost_load64(const void *memory)
{
    return le64toh(__atomic_load_n((const uint64_t *)memory, __ATOMIC_RELAXED));
}

static inline void
vhost_store16(void *memory, uint16_t value)
{
    __atomic_store_n((uint16_t *)memory, htole16(value), __ATOMIC_RELAXED);
}

static inline void
vhost_store16_release(void *memory, uint16_t value)
{
    __atomic_store_n((uint16_t *)memory, htole16(value), __ATOMIC_RELEASE);
}

static inline void
vhost_store64(void *memory, uint64_t value)
{
    __atomic_store_n((uint64_t *)memory, htole64(value), __ATOMIC_RELAXED);
}

/* What was copied before stays as copied: no second fetch. */
static inline void
vhost_copied(void)
{
    __asm__ volatile("" ::: "memory");
}

/* ---- In-flight region ---- */

struct vhost_inflight {
    uint8_t *base; /* NULL: none. */
    void *map;
    size_t map_bytes;
    uint16_t queue_count, queue_size;
    struct vhost_inflight_note *note; /* NULL: not made by Weft. */
};

/* One queue's part; 'head' is NULL without a region. */
struct vhost_inflight_queue {
    struct vhost_inflight_head *head;
    struct vhost_inflight_desc *descs;
    uint16_t size;
};

/* A new region, all zeros, sealed against resizing. */
WEFT_MUST_CHECK int
vhost_inflight_create(const struct vhost_msg_inflight *wanted, bool writeback,
                      int *ret_fd, uint64_t *ret_size_bytes);
WEFT_MUST_CHECK int vhost_inflight_map(const struct vhost_msg_inflight *region,
                                       int fd, struct err *err,
                                       struct vhost_inflight *ret_inflight);
void vhost_inflight_unmap(struct vhost_inflight *inflight);
/* -ERANGE: the region has no such queue. */
WEFT_MUST_CHECK int
vhost_inflight_queue_get(const struct vhost_inflight *inflight, uint32_t index,
                         struct vhost_inflight_queue *ret_queue);
/* Whether a queue of the region has been in use. */
bool vhost_inflight_is_used(const struct vhost_inflight *inflight);

/* Brings the queue up to date with the used ring, initialises it if it is new.
 * *ret_is_new; else ret_heads[*ret_count] are those in flight in the order in
 * which they were fetched, and *ret_counter is above all of theirs.  -EPROTO:
 * no such version, or of another size. */
WEFT_MUST_CHECK int
vhost_inflight_recover(struct vhost_inflight_queue *queue, uint32_t ring_size,
                       uint16_t used_idx, bool *ret_is_new,
                       uint16_t ret_heads[VHOST_RING_SIZE_MAX],
                       uint32_t *ret_count, uint64_t *ret_counter);
/* 'head' has been fetched. */
void vhost_inflight_take(struct vhost_inflight_queue *queue, uint16_t head,
                         uint64_t counter);
/* 'head' is in the used ring, but idx does not count it yet. */
void vhost_inflight_use(struct vhost_inflight_queue *queue, uint16_t head);
/* idx counts it. */
void vhost_inflight_clear(struct vhost_inflight_queue *queue, uint16_t head);
/* All heads up to 'used_idx' are clear. */
void vhost_inflight_settle(struct vhost_inflight_queue *queue,
                           uint16_t used_idx);

/* ---- Rings ---- */

enum vhost_ring_state {
    VHOST_RING_STOPPED,
    VHOST_RING_STARTED,
    VHOST_RING_BROKEN,
};

enum vhost_watch_state {
    VHOST_WATCH_OFF,
    VHOST_WATCH_ON,
    VHOST_WATCH_STOPPING,
};

struct vhost_request;

struct vhost_ring {
    struct vhost_export *vhost_export;
    uint32_t index;

    /* As the front end has set them. */
    uint32_t num;
    uint16_t base;
    bool has_addr, enabled;
    bool draining; /* To be stopped: nothing new is fetched. */
    struct vhost_msg_addr addr;
    int kick_fd, call_fd, err_fd; /* -1: none. */

    enum vhost_ring_state state;
    bool event_idx, indirect;
    const uint8_t *desc, *avail;
    uint8_t *used;
    uint16_t last_avail; /* Next to be fetched. */
    uint16_t avail_idx;  /* As last seen. */
    uint16_t used_idx;   /* Next to be filled. */
    uint16_t used_published;
    uint16_t used_signalled;
    bool notify_off; /* The driver was told not to kick. */
    struct vhost_inflight_queue inflight;
    uint64_t counter;
    uint32_t resubmit_count, resubmit_next;
    uint16_t resubmit[VHOST_RING_SIZE_MAX];
    uint16_t used_heads[VHOST_RING_SIZE_MAX]; /* By used index % num. */
    bool busy[VHOST_RING_SIZE_MAX];           /* Head is in flight. */
    const char *broken_why;

    /* vhost_blk.c, vhost_server.c */
    uint32_t request_count; /* In flight. */
    struct vhost_request *current;
    struct payload_waiter waiter;
    struct list starved_node;
    struct io_task publish;
    struct io_watch kick_watch;
    enum vhost_watch_state kick_state;
};

/* STOPPED -> STARTED.  -EPROTO: addresses, sizes or the in-flight region make
 * no sense.  'inflight' may be without a region. */
WEFT_MUST_CHECK int vhost_ring_start(struct vhost_ring *ring,
                                     const struct vhost_mem *mem,
                                     const struct vhost_inflight *inflight,
                                     uint64_t features, struct err *err);
/* New pointers after the memory table has changed. */
WEFT_MUST_CHECK int vhost_ring_remap(struct vhost_ring *ring,
                                     const struct vhost_mem *mem,
                                     struct err *err);
/* Nothing of it may be in flight. */
void vhost_ring_stop(struct vhost_ring *ring);
void vhost_ring_break(struct vhost_ring *ring, const char *why);

/* The head that comes next.  False: none, or the ring has just broken. */
bool vhost_ring_peek(struct vhost_ring *ring, uint16_t *ret_head);
/* That head is in flight from now on. */
void vhost_ring_take(struct vhost_ring *ring, uint16_t head);
/* Puts 'head' into the used ring; vhost_ring_publish() makes it visible. */
void vhost_ring_push(struct vhost_ring *ring, uint16_t head,
                     uint32_t size_bytes);
/* True: the driver wants to be called. */
WEFT_MUST_CHECK bool vhost_ring_publish(struct vhost_ring *ring);
/* Asks for kicks.  True: there is something to fetch, go on. */
bool vhost_ring_notify_on(struct vhost_ring *ring);
void vhost_ring_notify_off(struct vhost_ring *ring);

/* ---- Chains ---- */

struct vhost_piece {
    uint8_t *data;
    uint32_t size_bytes;
};

struct vhost_chain {
    struct vhost_piece pieces[VHOST_PIECES_MAX]; /* Readable, then writable. */
    uint32_t piece_count, out_pieces;
    uint32_t out_segments, in_segments;
    uint64_t out_bytes, in_bytes;
    uint8_t *status; /* The last writable byte; NULL: none, or unmapped. */
    bool unmapped;   /* Some of it is in no region, or in too many pieces. */
};

/* A place in a chain's readable or writable bytes. */
struct vhost_cursor {
    uint32_t piece, offset;
};

/* NULL, or why the chain is nonsense. */
const char *vhost_chain_read(const struct vhost_ring *ring,
                             const struct vhost_mem *mem, uint16_t head,
                             struct vhost_chain *ret_chain);
/* These need a chain that is not 'unmapped', and bytes that are there. */
void vhost_chain_copy_out(const struct vhost_chain *chain,
                          struct vhost_cursor *cursor, void *data,
                          uint32_t size_bytes);
void vhost_chain_to_payload(const struct vhost_chain *chain,
                            struct vhost_cursor *cursor,
                            struct payload *payload, uint32_t size_bytes);
void vhost_chain_copy_in(const struct vhost_chain *chain,
                         struct vhost_cursor *cursor, const void *data,
                         uint32_t size_bytes);
void vhost_chain_skip(const struct vhost_chain *chain,
                      struct vhost_cursor *cursor, uint64_t size_bytes);

/* ---- Requests ---- */

struct vhost_request {
    struct vhost_ring *ring;
    struct list node; /* In export->requests. */
    uint16_t head;
    bool orphan; /* The guest's memory is gone. */
    bool all_made;
    uint32_t type;
    uint32_t status;
    uint32_t parts_pending;
    uint64_t offset_bytes, size_bytes, made_bytes;
    uint32_t range_count, range_next;
    struct virtio_blk_range ranges[VHOST_RANGES_MAX];
    struct vhost_cursor cursor; /* Of the bytes not yet in a part. */
    struct vhost_chain chain;
};

struct vhost_part {
    struct vhost_request *request;
    struct volume_req req;
    struct payload *payload;
    struct vhost_cursor cursor; /* READ: where its bytes go. */
};

/* ---- Connection and export ---- */

enum vhost_conn_state {
    VHOST_CONN_NONE,
    VHOST_CONN_OPEN,
    VHOST_CONN_ENDING,
};

struct vhost_conn {
    enum vhost_conn_state state;
    int fd;
    struct io_watch watch;
    enum vhost_watch_state watch_state;
    uint64_t features, protocol_features;
    bool has_features, has_mem;

    /* The message that is being read or handled. */
    struct vhost_wire_header header;
    uint8_t payload[VHOST_PAYLOAD_MAX];
    uint32_t read_bytes, payload_bytes;
    int fds[VHOST_FDS_MAX];
    uint32_t fd_count;
    struct vhost_msg msg;
    bool waiting; /* msg is to be tried again. */
};

struct vhost_export {
    struct io *io;
    struct volume *volume;
    char *path;
    char serial[VIRTIO_BLK_ID_BYTES + 1];
    uint64_t capacity_sectors;

    int listen_fd;
    struct io_watch listen_watch;
    enum vhost_watch_state listen_state;
    uint64_t path_device, path_inode;
    struct io_timer refuse_timer;

    struct vhost_conn conn;
    struct vhost_mem mem;
    struct vhost_inflight inflight;
    struct vhost_ring rings[VHOST_QUEUES_MAX];
    bool quiesced;  /* Nothing new is fetched. */
    bool writeback; /* The config space's byte. */

    struct slab request_slab, part_slab;
    struct list requests; /* In flight. */
    struct list starved;  /* Rings that wait for a request or a part. */
    struct io_task feed;
    struct io_task settle; /* Something that somebody waited for is over. */

    struct io_poller poller;
    uint64_t spin_ns, last_work_ns;
    bool polling; /* The poller has been added. */
    bool spinning, kicked;

    bool stopping;
    vhost_export_stopped_fn *stopped;
    void *owner;
};

/* vhost_blk.c */
#define VHOST_FEATURES                                                   \
    (VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_FLUSH | \
     VIRTIO_BLK_F_TOPOLOGY | VIRTIO_BLK_F_CONFIG_WCE | VIRTIO_BLK_F_MQ | \
     VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES |                  \
     VIRTIO_F_RING_INDIRECT_DESC | VIRTIO_F_RING_EVENT_IDX |             \
     VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES)
#define VHOST_PROTOCOL_FEATURES                                  \
    (VHOST_PROTOCOL_F_MQ | VHOST_PROTOCOL_F_REPLY_ACK |          \
     VHOST_PROTOCOL_F_CONFIG | VHOST_PROTOCOL_F_INFLIGHT_SHMFD | \
     VHOST_PROTOCOL_F_RESET_DEVICE)

void vhost_blk_ring_init(struct vhost_ring *ring);
/* Fetches what is there.  Returns whether there was anything. */
bool vhost_blk_run(struct vhost_ring *ring);
/* The same, and asks for kicks when it is empty (unless the poller spins). */
bool vhost_blk_service(struct vhost_ring *ring);
/* Makes completions visible now, and calls the driver if it wants it. */
void vhost_blk_publish(struct vhost_ring *ring);
/* Lets starved rings go on. */
void vhost_blk_feed(struct io_task *task);
/* The guest's memory goes: requests become orphans. */
void vhost_blk_orphan(struct vhost_export *vhost_export);
void vhost_blk_config_get(const struct vhost_export *vhost_export,
                          struct virtio_blk_config_space *ret_config);
/* -EINVAL: not the byte that may be written, or not 0 or 1. */
WEFT_MUST_CHECK int vhost_blk_config_set(struct vhost_export *vhost_export,
                                         const struct vhost_msg_config *config);

/* vhost_session.c */
enum vhost_outcome {
    VHOST_DONE,
    VHOST_WAIT, /* Try again when something has settled. */
    VHOST_CUT,  /* 'err' says why. */
};

enum vhost_outcome vhost_session_handle(struct vhost_export *vhost_export,
                                        struct err *err);
/* Starts what can be started, and lets it run. */
WEFT_MUST_CHECK int vhost_session_run_rings(struct vhost_export *vhost_export,
                                            struct err *err);

/* vhost_channel.c */
/* Reads what is missing of the message in hand.  0: it is there, in conn->msg;
 * -EAGAIN: later; else the connection is over (-ENOTCONN: by its end). */
WEFT_MUST_CHECK int vhost_conn_read(struct vhost_conn *conn, struct err *err);
/* Done with the message: closes what nobody has taken. */
void vhost_conn_drop_message(struct vhost_conn *conn);
/* An answer to the message in hand; 'fd' may be -1.  -errno: cut. */
WEFT_MUST_CHECK int vhost_conn_reply(struct vhost_export *vhost_export,
                                     const void *payload, uint32_t size_bytes,
                                     int fd);
/* Takes over descriptor 'index' of the message, an eventfd; -1: it is none. */
int vhost_conn_take_fd(struct vhost_export *vhost_export, uint32_t index);

/* vhost_server.c */
void vhost_kick_start(struct vhost_ring *ring);
/* Returns whether it is over already. */
bool vhost_kick_stop(struct vhost_ring *ring);
void vhost_ring_call(struct vhost_ring *ring);
/* The ring has broken: says so. */
void vhost_ring_complain(struct vhost_ring *ring);
/* A request or a watch has settled. */
void vhost_export_settle(struct vhost_export *vhost_export);

#endif /* BLOCKD_EXPORT_VHOST_INTERNAL_H */
