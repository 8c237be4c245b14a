/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_PEER_CODEC_H
#define BLOCKD_PEER_CODEC_H

/* Between 'struct store_req' and the bytes of wire.h.  Pure.
 *
 * Whatever comes from the wire is checked here before anyone uses it:
 *
 *   (1) What would make the stream unreadable or the counts inconsistent
 *       (unknown kinds and opcodes, sizes that do not follow from opcode and
 *       counts, unknown states or statuses) is -EPROTO: cut the connection.
 *   (2) What is merely an absurd value (layer 0, an epoch beyond 24 bits, a
 *       block out of range) is -EINVAL: the reply says so. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/peer/wire.h"
#include "lib/base/check.h"

/* ---- Header ---- */

struct peer_head {
    enum peer_kind kind;
    uint8_t version;
    uint16_t opcode;
    uint64_t id;
    uint32_t meta_bytes;
    uint32_t data_bytes;
    uint32_t meta_crc;
};

/* Writes the header; its CRC is computed here. */
void peer_head_encode(const struct peer_head *head,
                      uint8_t ret_bytes[PEER_HEADER_BYTES]);
/* -EPROTO: magic, CRC, kind, or a size beyond the limits.  '*ret_why' is static
 * text. */
WEFT_MUST_CHECK int peer_head_decode(const uint8_t bytes[PEER_HEADER_BYTES],
                                     struct peer_head *ret_head,
                                     const char **ret_why);

/* ---- Requests ---- */

/* The bytes of metadata in front of CRCs and states; 0: not an opcode. */
uint32_t peer_request_fixed_bytes(uint16_t opcode);
#define PEER_REQUEST_FIXED_MAX 160u
/* What a request needs and costs. */
struct peer_shape {
    uint32_t block_count; /* Of the arrays; 0 if there are none. */
    bool has_crcs, has_states;
    uint32_t data_bytes;   /* That come with the request. */
    uint32_t buffer_bytes; /* At the server, until the reply is sent. */
    uint32_t cost_bytes;   /* Of the window. */
};

/* -EINVAL: the request cannot be put on the wire.  'ret_fixed' has room for
 * PEER_REQUEST_FIXED_MAX. */
WEFT_MUST_CHECK int peer_request_encode(const struct store_req *req,
                                        uint8_t *ret_fixed,
                                        struct peer_shape *ret_shape);
/* Checks (1) of a REQUEST: -EPROTO. */
WEFT_MUST_CHECK int peer_request_shape(const struct peer_head *head,
                                       const uint8_t *meta,
                                       struct peer_shape *ret_shape);
/* After peer_request_shape().  Sets the fields of 'req' but pointers, done and
 * private ones; fills 'crcs' and 'states' (room for 256 each).  -EINVAL:
 * (2). */
WEFT_MUST_CHECK int peer_request_decode(const struct peer_head *head,
                                        const uint8_t *meta,
                                        const struct peer_shape *shape,
                                        struct store_req *req, uint32_t *crcs,
                                        uint8_t *states);

/* ---- Replies ---- */

uint32_t peer_reply_fixed_bytes(uint16_t opcode);
#define PEER_REPLY_FIXED_MAX 144u
/* The fixed part of the reply to 'req', which has ended.  'data_crc' is for
 * LIST. */
void peer_reply_encode(const struct store_req *req, uint32_t data_crc,
                       uint8_t *ret_fixed);

struct peer_answer {
    int result;
    uint32_t count;      /* READ: blocks.  LIST: entries. */
    uint32_t data_crc;   /* LIST. */
    const uint8_t *crcs; /* READ, inside the metadata. */
    const uint8_t *states;
};

/* Checks a REPLY against its request: -EPROTO.  On success the outputs of
 * 'req' are set, but for arrays, data and 'result'. */
WEFT_MUST_CHECK int peer_reply_decode(const struct peer_head *head,
                                      const uint8_t *meta,
                                      struct store_req *req,
                                      struct peer_answer *ret_answer);

/* Whether the data of a READ reply have this block. */
static inline bool
peer_state_has_data(uint8_t state)
{
    return state == STORE_BLOCK_DATA || state == STORE_BLOCK_SUSPECT;
}

/* ---- Errors ---- */

/* 'result' is 0 or -errno. */
uint32_t peer_status_of(int result);
/* -EPROTO: unknown. */
WEFT_MUST_CHECK int peer_status_result(uint32_t status, int *ret_result);
/* One row of the table, for the test of the documentation. */
const char *peer_status_name(uint32_t status);

#endif /* BLOCKD_PEER_CODEC_H */
