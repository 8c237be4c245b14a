/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/rpc/wire.h"

#include <errno.h>
#include <stdbool.h>

enum wire_type {
    WIRE_VARINT = 0,
    WIRE_64 = 1,
    WIRE_BYTES = 2,
    WIRE_32 = 5,
};

struct wire_span {
    const uint8_t *data;
    size_t size;
};

/* One check of one serialized message and those inside. */
struct wire_walk {
    uint32_t fields_left;
    const char *field; /* Innermost that was begun. */
};

static bool
wire_take_varint(struct wire_span *span, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < 10 && i < span->size; i++) {
        uint8_t byte = span->data[i];
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            span->data += i + 1;
            span->size -= i + 1;
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool
wire_take_bytes(struct wire_span *span, uint64_t size,
                struct wire_span *ret_bytes)
{
    if (size > span->size) {
        return false;
    }
    ret_bytes->data = span->data;
    ret_bytes->size = (size_t)size;
    span->data += size;
    span->size -= (size_t)size;
    return true;
}

/* Length of the well-formed UTF-8 sequence at the beginning, without
 * surrogates and overlong forms; 0 if there is none, or for NUL. */
static size_t
wire_utf8_length(const uint8_t *data, size_t size)
{
    uint8_t first = data[0];
    uint8_t low = 0x80, high = 0xbf; /* Bounds of the second byte. */
    size_t length;

    if (first < 0x80) {
        return first != 0 ? 1 : 0;
    } else if (first >= 0xc2 && first <= 0xdf) {
        length = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        length = 3;
        low = first == 0xe0 ? 0xa0 : low;
        high = first == 0xed ? 0x9f : high;
    } else if (first >= 0xf0 && first <= 0xf4) {
        length = 4;
        low = first == 0xf0 ? 0x90 : low;
        high = first == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (size < length || data[1] < low || data[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if ((data[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return length;
}

static bool
wire_is_text(struct wire_span span)
{
    while (span.size > 0) {
        size_t length = wire_utf8_length(span.data, span.size);
        if (length == 0) {
            return false;
        }
        span.data += length;
        span.size -= length;
    }
    return true;
}

static enum wire_type
wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        return WIRE_VARINT;
    }
    return WIRE_VARINT;
}

/* Takes one value of the given wire type; '*ret_bytes' is set for
 * WIRE_BYTES.  Groups, and types that do not exist, are refused. */
static bool
wire_take_value(struct wire_span *span, uint32_t type,
                struct wire_span *ret_bytes)
{
    uint64_t number;
    struct wire_span fixed;

    switch (type) {
    case WIRE_VARINT:
        return wire_take_varint(span, &number);
    case WIRE_64:
        return wire_take_bytes(span, 8, &fixed);
    case WIRE_32:
        return wire_take_bytes(span, 4, &fixed);
    case WIRE_BYTES:
        return wire_take_varint(span, &number) &&
               wire_take_bytes(span, number, ret_bytes);
    default:
        return false;
    }
}

static bool
wire_check_packed(struct wire_walk *walk, struct wire_span span,
                  enum wire_type type)
{
    struct wire_span none;
    while (span.size > 0) {
        if (walk->fields_left == 0 ||
            !wire_take_value(&span, (uint32_t)type, &none)) {
            return false;
        }
        walk->fields_left--;
    }
    return true;
}

static bool wire_check_message(struct wire_walk *walk,
                               const ProtobufCMessageDescriptor *descriptor,
                               struct wire_span span, uint32_t depth);

/* The value of a field that the message knows. */
static bool
wire_check_value(struct wire_walk *walk, const ProtobufCFieldDescriptor *field,
                 uint32_t type, struct wire_span bytes, uint32_t depth)
{
    enum wire_type expected = wire_type_of(field->type);

    walk->field = field->name;
    if (type != (uint32_t)expected) {
        return type == WIRE_BYTES &&
               field->label == PROTOBUF_C_LABEL_REPEATED &&
               wire_check_packed(walk, bytes, expected);
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        return wire_is_text(bytes);
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return wire_check_message(walk, field->descriptor, bytes, depth + 1);
    }
    return true;
}

static bool
wire_check_message(struct wire_walk *walk,
                   const ProtobufCMessageDescriptor *descriptor,
                   struct wire_span span, uint32_t depth)
{
    if (depth > RPC_WIRE_DEPTH_MAX) {
        return false;
    }
    while (span.size > 0) {
        uint64_t tag;
        struct wire_span bytes = { NULL, 0 };
        if (walk->fields_left == 0 || !wire_take_varint(&span, &tag) ||
            tag > UINT32_MAX || tag >> 3 == 0 ||
            !wire_take_value(&span, tag & 7, &bytes)) {
            return false;
        }
        walk->fields_left--;
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(descriptor,
                                                    (unsigned)(tag >> 3));
        if (field != NULL &&
            !wire_check_value(walk, field, tag & 7, bytes, depth)) {
            return false;
        }
    }
    return true;
}

int
rpc_wire_check(const ProtobufCMessageDescriptor *descriptor, const void *data,
               size_t size, uint32_t field_max, const char **ret_field)
{
    struct wire_walk walk = { .fields_left = field_max };
    struct wire_span span = { data, size };

    if (!wire_check_message(&walk, descriptor, span, 0)) {
        *ret_field = walk.field;
        return -EBADMSG;
    }
    return 0;
}

ProtobufCMessage *
rpc_wire_unpack(const ProtobufCMessageDescriptor *descriptor, const void *data,
                size_t size, uint32_t field_max)
{
    const char *field;
    if (rpc_wire_check(descriptor, data, size, field_max, &field) < 0) {
        return NULL;
    }
    return protobuf_c_message_unpack(descriptor, NULL, size, data);
}
