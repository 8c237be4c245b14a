/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_EXPORT_NBD_WIRE_H
#define BLOCKD_EXPORT_NBD_WIRE_H

/* The NBD protocol's numbers and structures, as in doc/proto.md of the NBD
 * project ("fixed newstyle", simple and structured replies).  All integers are
 * big-endian. */

#include <assert.h>
#include <stdint.h>

#include "lib/base/be.h"

#define NBD_MAGIC UINT64_C(0x4e42444d41474943)        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC UINT64_C(0x0003e889045565a9)
#define NBD_REQUEST_MAGIC UINT32_C(0x25609513)
#define NBD_SIMPLE_REPLY_MAGIC UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC UINT32_C(0x668e33ef)

/* Handshake flags, of the server and of the client. */
#define NBD_FLAG_FIXED_NEWSTYLE 0x1u
#define NBD_FLAG_NO_ZEROES 0x2u

enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
};

enum nbd_option_reply_type {
    NBD_REP_ACK = 1,
    NBD_REP_SERVER = 2,
    NBD_REP_INFO = 3,
    NBD_REP_META_CONTEXT = 4,
};

#define NBD_REP_ERR_UNSUP UINT32_C(0x80000001)
#define NBD_REP_ERR_INVALID UINT32_C(0x80000003)
#define NBD_REP_ERR_UNKNOWN UINT32_C(0x80000006)
#define NBD_REP_ERR_TOO_BIG UINT32_C(0x80000009)

enum nbd_info {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_BLOCK_SIZE = 3,
};

/* Transmission flags. */
#define NBD_FLAG_HAS_FLAGS 0x1u
#define NBD_FLAG_SEND_FLUSH 0x4u
#define NBD_FLAG_SEND_FUA 0x8u
#define NBD_FLAG_SEND_TRIM 0x20u
#define NBD_FLAG_SEND_WRITE_ZEROES 0x40u
#define NBD_FLAG_SEND_DF 0x80u
#define NBD_FLAG_CAN_MULTI_CONN 0x100u
#define NBD_FLAG_SEND_FAST_ZERO 0x800u

enum nbd_command {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
};

#define NBD_CMD_FLAG_FUA 0x1u
#define NBD_CMD_FLAG_NO_HOLE 0x2u
#define NBD_CMD_FLAG_DF 0x4u
#define NBD_CMD_FLAG_REQ_ONE 0x8u
#define NBD_CMD_FLAG_FAST_ZERO 0x10u

#define NBD_REPLY_FLAG_DONE 0x1u

#define NBD_REPLY_TYPE_OFFSET_DATA 1u
#define NBD_REPLY_TYPE_OFFSET_HOLE 2u
#define NBD_REPLY_TYPE_BLOCK_STATUS 5u
#define NBD_REPLY_TYPE_ERROR 0x8001u

#define NBD_STATE_HOLE 0x1u
#define NBD_STATE_ZERO 0x2u

/* Errors on the wire. */
#define NBD_EPERM 1u
#define NBD_EIO 5u
#define NBD_ENOMEM 12u
#define NBD_EINVAL 22u
#define NBD_ENOSPC 28u
#define NBD_EOVERFLOW 75u
#define NBD_ENOTSUP 95u
#define NBD_ESHUTDOWN 108u

#define NBD_NAME_SIZE_MAX 4096u
#define NBD_CONTEXT_ALLOCATION "base:allocation"
#define NBD_CONTEXT_ALLOCATION_ID 1u
/* What a client that negotiated no block size may send at the most. */
#define NBD_REQUEST_BYTES_MAX (32u * 1024u * 1024u)

struct nbd_greeting {
    struct be64 magic;
    struct be64 option_magic;
    struct be16 flags;
};
static_assert(sizeof(struct nbd_greeting) == 18, "wire");

struct nbd_option_header {
    struct be64 magic;
    struct be32 option;
    struct be32 size;
};
static_assert(sizeof(struct nbd_option_header) == 16, "wire");

struct nbd_option_reply {
    struct be64 magic;
    struct be32 option;
    struct be32 type;
    struct be32 size;
};
static_assert(sizeof(struct nbd_option_reply) == 20, "wire");

struct nbd_info_export {
    struct be16 type;
    struct be64 size_bytes;
    struct be16 flags;
};
static_assert(sizeof(struct nbd_info_export) == 12, "wire");

struct nbd_info_block_size {
    struct be16 type;
    struct be32 minimum;
    struct be32 preferred;
    struct be32 maximum;
};
static_assert(sizeof(struct nbd_info_block_size) == 14, "wire");

struct nbd_request_header {
    struct be32 magic;
    struct be16 flags;
    struct be16 command;
    struct be64 cookie;
    struct be64 offset;
    struct be32 size;
};
static_assert(sizeof(struct nbd_request_header) == 28, "wire");

struct nbd_simple_reply {
    struct be32 magic;
    struct be32 error;
    struct be64 cookie;
};
static_assert(sizeof(struct nbd_simple_reply) == 16, "wire");

struct nbd_chunk_header {
    struct be32 magic;
    struct be16 flags;
    struct be16 type;
    struct be64 cookie;
    struct be32 size;
};
static_assert(sizeof(struct nbd_chunk_header) == 20, "wire");

struct nbd_chunk_data {
    struct nbd_chunk_header header;
    struct be64 offset;
};
static_assert(sizeof(struct nbd_chunk_data) == 28, "wire");

struct nbd_chunk_hole {
    struct nbd_chunk_header header;
    struct be64 offset;
    struct be32 size;
};
static_assert(sizeof(struct nbd_chunk_hole) == 32, "wire");

struct nbd_chunk_error {
    struct nbd_chunk_header header;
    struct be32 error;
    struct be16 text_size; /* Always 0 from us. */
};
static_assert(sizeof(struct nbd_chunk_error) == 26, "wire");

struct nbd_status_descriptor {
    struct be32 size;
    struct be32 flags;
};

#endif /* BLOCKD_EXPORT_NBD_WIRE_H */
