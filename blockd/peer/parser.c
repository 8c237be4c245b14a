/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/peer/parser.h"

#include <string.h>

#include "lib/base/crc32c.h"

/* 'fill' bytes of the present header and metadata are in 'buffer'; it is 0
 * while the message is read in place. */

void
peer_parser_init(struct peer_parser *parser)
{
    parser->data_left = 0;
    parser->fill = 0;
    parser->is_held = false;
    parser->meta = NULL;
    parser->chunk = NULL;
    parser->chunk_bytes = 0;
    parser->why = NULL;
}

static enum peer_step
found_head(struct peer_parser *parser, const uint8_t *meta)
{
    const struct peer_head *head = &parser->head;
    uint32_t crc =
        head->meta_bytes == 0 ? 0 : crc32c(0, meta, head->meta_bytes);

    if (crc != head->meta_crc) {
        parser->why = "the checksum of metadata is wrong";
        return PEER_STEP_BAD;
    }
    parser->meta = meta;
    parser->data_left = head->data_bytes;
    return PEER_STEP_HEAD;
}

/* Adds to the buffer until it has 'wanted' bytes; false: not enough yet. */
static bool
gather(struct peer_parser *parser, uint32_t wanted, const uint8_t **data,
       uint32_t *size)
{
    uint32_t missing = wanted - parser->fill;
    uint32_t taken = missing < *size ? missing : *size;

    memcpy(parser->buffer + parser->fill, *data, taken);
    parser->fill += taken;
    *data += taken;
    *size -= taken;
    return parser->fill == wanted;
}

static enum peer_step
step_in_place(struct peer_parser *parser, const uint8_t **data, uint32_t *size,
              bool *ret_done)
{
    if (*size < PEER_HEADER_BYTES) {
        return PEER_STEP_MORE;
    }
    if (peer_head_decode(*data, &parser->head, &parser->why) != 0) {
        *ret_done = true;
        return PEER_STEP_BAD;
    }
    uint32_t whole = PEER_HEADER_BYTES + parser->head.meta_bytes;
    if (*size < whole) {
        return PEER_STEP_MORE;
    }
    const uint8_t *meta = *data + PEER_HEADER_BYTES;
    *data += whole;
    *size -= whole;
    *ret_done = true;
    return found_head(parser, meta);
}

enum peer_step
peer_parser_step(struct peer_parser *parser, const uint8_t **data,
                 uint32_t *size)
{
    if (parser->is_held) {
        parser->is_held = false;
        parser->fill = 0;
        parser->meta = parser->buffer + PEER_HEADER_BYTES;
        parser->data_left = parser->head.data_bytes;
        return PEER_STEP_HEAD;
    }
    if (*size == 0) {
        return PEER_STEP_MORE;
    }
    if (parser->data_left != 0) {
        uint32_t taken = parser->data_left < *size ? parser->data_left : *size;
        parser->chunk = *data;
        parser->chunk_bytes = taken;
        parser->data_left -= taken;
        *data += taken;
        *size -= taken;
        return PEER_STEP_DATA;
    }
    if (parser->fill == 0) {
        bool is_done = false;
        enum peer_step step = step_in_place(parser, data, size, &is_done);
        if (is_done) {
            return step;
        }
    }
    if (parser->fill < PEER_HEADER_BYTES) {
        if (!gather(parser, PEER_HEADER_BYTES, data, size)) {
            return PEER_STEP_MORE;
        }
        if (peer_head_decode(parser->buffer, &parser->head, &parser->why) !=
            0) {
            return PEER_STEP_BAD;
        }
    }
    if (!gather(parser, PEER_HEADER_BYTES + parser->head.meta_bytes, data,
                size)) {
        return PEER_STEP_MORE;
    }
    parser->fill = 0;
    return found_head(parser, parser->buffer + PEER_HEADER_BYTES);
}

void
peer_parser_hold(struct peer_parser *parser)
{
    if (parser->meta != parser->buffer + PEER_HEADER_BYTES) {
        memcpy(parser->buffer + PEER_HEADER_BYTES, parser->meta,
               parser->head.meta_bytes);
    }
    parser->is_held = true;
}
