/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_WIRE_H
#define LIB_RPC_WIRE_H

/* Checks a serialized message before protobuf-c unpacks it.
 *
 * protobuf-c takes strings as they come: without a look at UTF-8, and cut at
 * the first NUL, so that two parties could read different names out of the
 * same bytes.  It also allocates for each element of a repeated field, of
 * which a small message can hold very many.  Hostile bytes therefore pass
 * here first. */

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"

#define RPC_WIRE_DEPTH_MAX 16u
#define RPC_WIRE_FIELD_MAX 16384u /* For requests. */

/* Whether 'size' bytes are one message of type 'descriptor': every tag and
 * length within bounds, known fields of their wire type, strings valid UTF-8
 * without NUL, at most RPC_WIRE_DEPTH_MAX levels and 'field_max' fields in all,
 * elements of repeated ones counted singly.  0, or -EBADMSG with '*ret_field'
 * naming the innermost field that is wrong, or NULL. */
WEFT_MUST_CHECK int rpc_wire_check(const ProtobufCMessageDescriptor *descriptor,
                                   const void *data, size_t size,
                                   uint32_t field_max, const char **ret_field);

/* Checks and unpacks; NULL if it is no such message, or without memory.  The
 * caller frees with protobuf_c_message_free_unpacked(). */
ProtobufCMessage *rpc_wire_unpack(const ProtobufCMessageDescriptor *descriptor,
                                  const void *data, size_t size,
                                  uint32_t field_max);

#endif /* LIB_RPC_WIRE_H */
