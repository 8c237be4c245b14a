/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_PEER_PARSER_H
#define BLOCKD_PEER_PARSER_H

/* From a stream of bytes to messages; used by both sides.  Pure.
 *
 *   --> HEAD (header and metadata are complete and their CRCs are right)
 *   --> DATA, zero or more times, until 'data_left' is 0
 *   --> HEAD ...
 *
 * Metadata that arrive in one piece are not copied.  Data never are: the user
 * gets a pointer into the received bytes and makes the one copy itself. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/peer/codec.h"

enum peer_step {
    PEER_STEP_MORE, /* All bytes are used up. */
    PEER_STEP_HEAD, /* 'head' and 'meta' are set. */
    PEER_STEP_DATA, /* 'chunk' is set; 'data_left' bytes follow. */
    PEER_STEP_BAD,  /* The stream cannot be trusted; 'why' is static text. */
};

struct peer_parser {
    struct peer_head head;
    const uint8_t *meta; /* Valid until the next step. */
    const uint8_t *chunk;
    uint32_t chunk_bytes;
    uint32_t data_left; /* Of this message, after the chunk. */
    const char *why;
    /* Private. */
    uint32_t fill;
    bool is_held;
    uint8_t buffer[PEER_HEADER_BYTES + PEER_META_BYTES_MAX];
};

void peer_parser_init(struct peer_parser *parser);

/* Consumes bytes: moves '*data' and '*size' on. */
enum peer_step peer_parser_step(struct peer_parser *parser,
                                const uint8_t **data, uint32_t *size);

/* After PEER_STEP_HEAD: keeps header and metadata; the next step is the same
 * PEER_STEP_HEAD again. */
void peer_parser_hold(struct peer_parser *parser);

#endif /* BLOCKD_PEER_PARSER_H */
