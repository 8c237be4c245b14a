/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_CLIENT_H
#define LIB_RPC_CLIENT_H

/* gRPC client with blocking calls.
 *
 *     ProtobufCMessage *reply;
 *     result = rpc_channel_call(channel,
 *                               &weft__v1__volume_service__descriptor,
 *                               "GetVolume", &request.base, 5 * NS_PER_S,
 *                               &reply, &error);
 *     ...
 *     protobuf_c_message_free_unpacked(reply, NULL);
 *
 * Threads: a channel may be used by several at once; a reader by one, but
 * rpc_reader_cancel() by any.  Results are 0 or -errno, where the errno
 * corresponds to error.code; the text and the details are in 'error', which
 * may be NULL. */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/rpc/error.h"

#define RPC_NO_TIMEOUT UINT64_MAX

struct rpc_channel;
struct rpc_reader;

/* 'endpoint' is "unix:/PATH", "tcp:HOST:PORT" or "tcp:[V6ADDRESS]:PORT".  The
 * connection is made by the first call.  -EINVAL with 'err' set; -ENOMEM. */
WEFT_MUST_CHECK int rpc_channel_new(const char *endpoint,
                                    struct rpc_channel **ret_channel,
                                    struct err *err);

/* All readers are closed.  Accepts NULL. */
void rpc_channel_free(struct rpc_channel *channel);

/* Cancels all calls that are under way and fails all that begin with
 * -ECANCELED, until it is called with 'is_on' false.  Any thread. */
void rpc_channel_interrupt(struct rpc_channel *channel, bool is_on);

/* One unary call.  The caller frees '*ret_reply' with
 * protobuf_c_message_free_unpacked(). */
WEFT_MUST_CHECK int
rpc_channel_call(struct rpc_channel *channel,
                 const ProtobufCServiceDescriptor *service, const char *method,
                 const ProtobufCMessage *request, uint64_t timeout_ns,
                 ProtobufCMessage **ret_reply, struct rpc_error *error);

/* Begins a server-streaming call; errors of the server come with the first
 * rpc_reader_next(). */
WEFT_MUST_CHECK int
rpc_reader_open(struct rpc_channel *channel,
                const ProtobufCServiceDescriptor *service, const char *method,
                const ProtobufCMessage *request, uint64_t timeout_ns,
                struct rpc_reader **ret_reader, struct rpc_error *error);

/* Waits for the next message: 1 with '*ret_message', 0 at the end, or -errno;
 * after 0 or an error the same again. */
WEFT_MUST_CHECK int rpc_reader_next(struct rpc_reader *reader,
                                    ProtobufCMessage **ret_message,
                                    struct rpc_error *error);

/* Makes rpc_reader_next() end with -ECANCELED. */
void rpc_reader_cancel(struct rpc_reader *reader);

/* Cancels if needed, and frees.  Accepts NULL. */
void rpc_reader_close(struct rpc_reader *reader);

#endif /* LIB_RPC_CLIENT_H */
