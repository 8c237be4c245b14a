/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_ERROR_H
#define LIB_RPC_ERROR_H

/* How a call failed: what the server says and the client reads.
 *
 * On the wire it is a gRPC status code, its message, and the trailer
 * "grpc-status-details-bin": a google.rpc.Status that holds an ErrorInfo
 * (reason, domain "weft", resource), and a BadRequest if there are field
 * violations.  All texts have a fixed size here and are cut to it. */

#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"

/* The numbers of grpc_status_code. */
enum rpc_code {
    RPC_OK = 0,
    RPC_CANCELLED = 1,
    RPC_UNKNOWN = 2,
    RPC_INVALID_ARGUMENT = 3,
    RPC_DEADLINE_EXCEEDED = 4,
    RPC_NOT_FOUND = 5,
    RPC_ALREADY_EXISTS = 6,
    RPC_PERMISSION_DENIED = 7,
    RPC_RESOURCE_EXHAUSTED = 8,
    RPC_FAILED_PRECONDITION = 9,
    RPC_ABORTED = 10,
    RPC_OUT_OF_RANGE = 11,
    RPC_UNIMPLEMENTED = 12,
    RPC_INTERNAL = 13,
    RPC_UNAVAILABLE = 14,
    RPC_DATA_LOSS = 15,
    RPC_UNAUTHENTICATED = 16,
};

/* "NOT_FOUND" and so on; "UNKNOWN" for other numbers. */
const char *rpc_code_name(enum rpc_code code);

/* The -errno by which the client reports a code; 0 for RPC_OK. */
int rpc_code_to_errno(enum rpc_code code);

#define RPC_ERROR_VIOLATION_MAX 8u

/* One field of a request and what was wrong with it. */
struct rpc_violation {
    char field[64]; /* "volume.size_bytes" */
    char text[256];
};

struct rpc_error {
    enum rpc_code code;
    char text[512];     /* What was wrong and what would be right. */
    char reason[64];    /* UPPER_SNAKE_CASE for programs; may be empty. */
    char resource[256]; /* Name of the object concerned; may be empty. */
    uint32_t violation_count;
    struct rpc_violation violations[RPC_ERROR_VIOLATION_MAX];
};

/* Sets code, reason (NULL: none) and text, and clears the rest. */
void rpc_error_set(struct rpc_error *error, enum rpc_code code,
                   const char *reason, const char *format, ...)
    WEFT_PRINTF(4, 5);

void rpc_error_set_resource(struct rpc_error *error, const char *name);

/* Begins an empty INVALID_ARGUMENT, to which violations are added. */
void rpc_error_set_invalid(struct rpc_error *error);

/* Adds a violation; the first one also becomes the text.  Beyond
 * RPC_ERROR_VIOLATION_MAX they are dropped. */
void rpc_error_add_violation(struct rpc_error *error, const char *field,
                             const char *format, ...) WEFT_PRINTF(3, 4);

/* The google.rpc.Status of 'error'; the caller frees '*ret_data'.  -ENOMEM. */
WEFT_MUST_CHECK int rpc_error_encode(const struct rpc_error *error,
                                     uint8_t **ret_data, size_t *ret_size);

/* Fills 'error' from a status code, its message and 'size' bytes of details,
 * which may be absent (0) or garbage (ignored). */
void rpc_error_decode(struct rpc_error *error, enum rpc_code code,
                      const char *text, const void *data, size_t size);

#endif /* LIB_RPC_ERROR_H */
