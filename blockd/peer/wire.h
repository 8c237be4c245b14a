/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_PEER_WIRE_H
#define BLOCKD_PEER_WIRE_H

/* The bytes of the peer protocol; docs/peer-protocol.md explains them, and a
 * test compares the two.
 *
 * A message is a header (32 bytes, with a CRC of its own), 'meta_bytes' of
 * metadata (covered by a CRC in the header), and 'data_bytes' of data, of which
 * each 4 KiB block is covered by a CRC in the metadata.  All integers are
 * little-endian; reserved fields are sent as 0 and ignored.
 *
 * Header, HELLO, WELCOME and BYE never change: they are what two blockds of
 * any two versions can say to each other.  Everything else belongs to the
 * version that WELCOME names.
 *
 * Version 1: the first. */

#include <assert.h>
#include <stdint.h>

#include "blockd/store/store_req.h"
#include "lib/base/le.h"
#include "lib/base/uuid.h"

/* The arrays of CRCs are sent from and received into uint32_t in place. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "arrays of integers are sent as they lie in memory");

#define PEER_MAGIC 0x50544657u /* "WFTP" */
#define PEER_VERSION_MIN 1u
#define PEER_VERSION_MAX 1u

/* Feature bits: none yet. */
#define PEER_FEATURES UINT64_C(0)

/* ---- Limits ---- */

#define PEER_HOST_SIZE 64u /* With at least one NUL. */
#define PEER_TEXT_SIZE 248u
#define PEER_DATA_BYTES_MAX 1048576u /* 256 blocks. */
#define PEER_ENTRIES_MAX 43690u      /* Of one LIST: 1 MiB of them. */
#define PEER_META_BYTES_MAX 1344u
#define PEER_WINDOW_REQUESTS_MAX 4096u
#define PEER_WINDOW_BYTES_MAX 1073741824u
#define PEER_BLOCK_MAX UINT64_C(0xffffffffffff) /* Last block number. */

/* ---- Header ---- */

enum peer_kind {
    PEER_HELLO = 1,   /* Client: first message. */
    PEER_WELCOME = 2, /* Server: accepted. */
    PEER_REQUEST = 3, /* Client. */
    PEER_REPLY = 4,   /* Server. */
    PEER_PING = 5,    /* Client; 'id' is any number. */
    PEER_PONG = 6,    /* Server: the same 'id'. */
    PEER_CREDIT = 7,  /* Server: the window from now on. */
    PEER_BYE = 8,     /* Server: why it refuses or closes.  Last message. */
};

struct peer_header {
    struct le32 magic;
    uint8_t kind;
    uint8_t version;    /* 0 in HELLO, WELCOME and BYE. */
    struct le16 opcode; /* REQUEST, REPLY: enum store_opcode. */
    struct le64 id;     /* REQUEST, REPLY, PING, PONG. */
    struct le32 meta_bytes;
    struct le32 data_bytes;
    struct le32 meta_crc;   /* CRC32C of the metadata; 0 if there is none. */
    struct le32 header_crc; /* CRC32C of the 28 bytes above. */
};

#define PEER_HEADER_BYTES 32u
#define PEER_HEADER_CRC_BYTES 28u
static_assert(sizeof(struct peer_header) == PEER_HEADER_BYTES, "wire");
static_assert(offsetof(struct peer_header, kind) == 4, "wire");
static_assert(offsetof(struct peer_header, version) == 5, "wire");
static_assert(offsetof(struct peer_header, opcode) == 6, "wire");
static_assert(offsetof(struct peer_header, id) == 8, "wire");
static_assert(offsetof(struct peer_header, meta_bytes) == 16, "wire");
static_assert(offsetof(struct peer_header, data_bytes) == 20, "wire");
static_assert(offsetof(struct peer_header, meta_crc) == 24, "wire");
static_assert(offsetof(struct peer_header, header_crc) == 28, "wire");

/* ---- Metadata of the messages that never change ---- */

struct peer_hello {
    struct le16 version_min; /* That the client speaks. */
    struct le16 version_max;
    struct le32 reserved0;
    struct le64 features; /* That the client would like. */
    struct weft_uuid cluster;
    struct weft_uuid disk;     /* What the connection is for. */
    struct weft_uuid instance; /* Of the client's blockd. */
    struct le64 link; /* Names the client's link: a newer connection of the same
                       * (instance, link, disk) replaces the older. */
    struct le64 reserved1;
    char host[PEER_HOST_SIZE];
};

static_assert(sizeof(struct peer_hello) == 144, "wire");
static_assert(offsetof(struct peer_hello, version_max) == 2, "wire");
static_assert(offsetof(struct peer_hello, features) == 8, "wire");
static_assert(offsetof(struct peer_hello, cluster) == 16, "wire");
static_assert(offsetof(struct peer_hello, disk) == 32, "wire");
static_assert(offsetof(struct peer_hello, instance) == 48, "wire");
static_assert(offsetof(struct peer_hello, link) == 64, "wire");
static_assert(offsetof(struct peer_hello, host) == 80, "wire");

struct peer_welcome {
    struct le16 version; /* Chosen. */
    struct le16 reserved;
    struct le32 window_requests; /* See CREDIT. */
    struct le64 features;        /* Agreed. */
    struct le32 window_bytes;
    struct le32 silence_ms; /* The server cuts a client silent for so long. */
    struct weft_uuid disk;  /* That of the HELLO. */
    struct weft_uuid instance;
    char host[PEER_HOST_SIZE];
};

static_assert(sizeof(struct peer_welcome) == 120, "wire");
static_assert(offsetof(struct peer_welcome, window_requests) == 4, "wire");
static_assert(offsetof(struct peer_welcome, features) == 8, "wire");
static_assert(offsetof(struct peer_welcome, window_bytes) == 16, "wire");
static_assert(offsetof(struct peer_welcome, silence_ms) == 20, "wire");
static_assert(offsetof(struct peer_welcome, disk) == 24, "wire");
static_assert(offsetof(struct peer_welcome, instance) == 40, "wire");
static_assert(offsetof(struct peer_welcome, host) == 56, "wire");

struct peer_bye {
    struct le32 status; /* enum peer_status */
    struct le32 reserved;
    char text[PEER_TEXT_SIZE]; /* For a human; NUL-padded. */
};

static_assert(sizeof(struct peer_bye) == 256, "wire");
static_assert(offsetof(struct peer_bye, text) == 8, "wire");

/* ---- Version 1 ---- */

/* The most that the client may have under way: requests, and bytes of data
 * (of WRITE and PUT_SLOT as sent, of READ and LIST as asked for), from sending
 * until the reply has come.  0 requests: the server has stopped reading. */
struct peer_credit {
    struct le32 requests;
    struct le32 bytes; /* 0, or at least PEER_DATA_BYTES_MAX. */
};

static_assert(sizeof(struct peer_credit) == 8, "wire");

struct peer_membership {
    struct le32 epoch;
    struct le32 in_sync_count;
    struct le64 view;
    struct weft_uuid in_sync[STORE_REPLICAS_MAX];
};

static_assert(sizeof(struct peer_membership) == 64, "wire");
static_assert(offsetof(struct peer_membership, in_sync_count) == 4, "wire");
static_assert(offsetof(struct peer_membership, view) == 8, "wire");
static_assert(offsetof(struct peer_membership, in_sync) == 16, "wire");

/* All requests begin with this; the extension of the opcode follows, then
 * 'block_count' CRCs (WRITE, PUT_SLOT), then 'block_count' states (PUT_SLOT).
 * Data: WRITE all blocks; PUT_SLOT the blocks whose state is DATA. */
struct peer_request {
    struct weft_uuid replica;
    struct le64 session;
    struct le64 sequence; /* FLUSH: known_good.  SET_VIEW: incarnation. */
    struct le64 block;
    struct le32 block_count;
    struct le32 epoch;
    struct le32 layer;
    struct le32 flags; /* PEER_REQUEST_* */
    struct le32 entries_max;
    struct le32 reserved;
};

#define PEER_REQUEST_DISCARD_ZERO 1u
#define PEER_REQUEST_LIST_ALL 2u

static_assert(sizeof(struct peer_request) == 64, "wire");
static_assert(offsetof(struct peer_request, session) == 16, "wire");
static_assert(offsetof(struct peer_request, sequence) == 24, "wire");
static_assert(offsetof(struct peer_request, block) == 32, "wire");
static_assert(offsetof(struct peer_request, block_count) == 40, "wire");
static_assert(offsetof(struct peer_request, epoch) == 44, "wire");
static_assert(offsetof(struct peer_request, layer) == 48, "wire");
static_assert(offsetof(struct peer_request, flags) == 52, "wire");
static_assert(offsetof(struct peer_request, entries_max) == 56, "wire");

/* Extensions: FENCE has the owner's instance (a UUID, 16 bytes), SET_VIEW a
 * struct peer_membership, CREATE this. */
struct peer_create {
    struct weft_uuid volume;
    struct le32 mirror_index;
    struct le32 reserved;
    struct le64 size_blocks;
    struct peer_membership membership;
};

static_assert(sizeof(struct peer_create) == 96, "wire");
static_assert(offsetof(struct peer_create, mirror_index) == 16, "wire");
static_assert(offsetof(struct peer_create, size_blocks) == 24, "wire");
static_assert(offsetof(struct peer_create, membership) == 32, "wire");

/* All replies begin with this; FENCE is extended by struct peer_fenced.  After
 * a READ with status 0 'count' CRCs and 'count' states follow; data: the blocks
 * whose state is DATA or SUSPECT.  After a LIST with status 0 the data are
 * 'count' entries. */
struct peer_reply {
    struct le32 status;   /* enum peer_status */
    struct le32 epoch;    /* Of the request. */
    struct le32 count;    /* READ: of the request.  LIST: entries. */
    struct le32 flags;    /* PEER_REPLY_* */
    struct le64 value;    /* READ: slot_sequence.  FLUSH: incarnation. */
    struct le32 data_crc; /* LIST: CRC32C of the data. */
    struct le32 reserved;
};

#define PEER_REPLY_REGION_TOUCHED 1u

static_assert(sizeof(struct peer_reply) == 32, "wire");
static_assert(offsetof(struct peer_reply, epoch) == 4, "wire");
static_assert(offsetof(struct peer_reply, count) == 8, "wire");
static_assert(offsetof(struct peer_reply, flags) == 12, "wire");
static_assert(offsetof(struct peer_reply, value) == 16, "wire");
static_assert(offsetof(struct peer_reply, data_crc) == 24, "wire");

/* Sent whatever the status: an -ESTALE says the higher epoch. */
struct peer_fenced {
    struct le64 session;
    struct le64 incarnation;
    struct le64 known_good;
    struct le64 max_sequence;
    struct le64 session_incarnation;
    struct le32 slot_blocks;
    struct le32 reserved;
    struct peer_membership membership;
};

static_assert(sizeof(struct peer_fenced) == 112, "wire");
static_assert(offsetof(struct peer_fenced, incarnation) == 8, "wire");
static_assert(offsetof(struct peer_fenced, known_good) == 16, "wire");
static_assert(offsetof(struct peer_fenced, max_sequence) == 24, "wire");
static_assert(offsetof(struct peer_fenced, session_incarnation) == 32, "wire");
static_assert(offsetof(struct peer_fenced, slot_blocks) == 40, "wire");
static_assert(offsetof(struct peer_fenced, membership) == 48, "wire");

struct peer_entry {
    struct le64 slot_index;
    struct le64 sequence;
    struct le64 digest;
};

/* Received into the caller's array in place. */
static_assert(sizeof(struct peer_entry) == 24, "wire");
static_assert(sizeof(struct store_list_entry) == 24, "same layout");
static_assert(offsetof(struct store_list_entry, slot_index) == 0, "layout");
static_assert(offsetof(struct store_list_entry, sequence) == 8, "layout");
static_assert(offsetof(struct store_list_entry, digest) == 16, "layout");
static_assert(PEER_ENTRIES_MAX * sizeof(struct peer_entry) <=
                  PEER_DATA_BYTES_MAX,
              "a LIST reply is a message");
static_assert(PEER_META_BYTES_MAX ==
                  sizeof(struct peer_request) + 5 * STORE_REQ_BLOCKS_MAX,
              "the longest metadata: PUT_SLOT of 256 blocks");

/* ---- Errors ---- */

enum peer_status {
    PEER_OK = 0,
    PEER_E_NO_REPLICA = 1,     /* ENXIO */
    PEER_E_STALE = 2,          /* ESTALE */
    PEER_E_NO_SPACE = 3,       /* ENOSPC */
    PEER_E_IO = 4,             /* EIO, and whatever has no number here. */
    PEER_E_BAD_DATA = 5,       /* EBADMSG */
    PEER_E_INVALID = 6,        /* EINVAL */
    PEER_E_NOT_CONNECTED = 7,  /* ENOTCONN: outcome unknown. */
    PEER_E_TIMED_OUT = 8,      /* ETIMEDOUT: outcome unknown. */
    PEER_E_SHUTDOWN = 9,       /* ESHUTDOWN */
    PEER_E_EXISTS = 10,        /* EEXIST */
    PEER_E_PROTOCOL = 11,      /* EPROTO: a message was malformed. */
    PEER_E_VERSION = 12,       /* EPROTONOSUPPORT */
    PEER_E_CLUSTER = 13,       /* EPERM: not of this cluster. */
    PEER_E_NO_DISK = 14,       /* ENODEV: no such disk is served here. */
    PEER_E_BUSY = 15,          /* EBUSY: too many connections. */
    PEER_E_NO_MEMORY = 16,     /* ENOMEM */
    PEER_E_NOT_SUPPORTED = 17, /* EOPNOTSUPP */
    PEER_E_AGAIN = 18,         /* EAGAIN: not now. */
    PEER_STATUS_COUNT = 19,
};

#endif /* BLOCKD_PEER_WIRE_H */
