/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_REFLECTION_H
#define LIB_RPC_REFLECTION_H

/* grpc.reflection.v1alpha.ServerReflection: private to lib/rpc.
 *
 * All it knows is constant: the embedded descriptors.  A file is answered with
 * all that it imports. */

#include "lib/rpc/descriptors.h"
#include "lib/rpc/server.h"

#define RPC_REFLECTION_SET_COUNT 2

struct rpc_reflection {
    struct rpc_service service;
    const struct rpc_descriptor_set *sets[RPC_REFLECTION_SET_COUNT];
};

/* 'descriptors' may be NULL. */
void rpc_reflection_init(struct rpc_reflection *reflection,
                         const struct rpc_descriptor_set *descriptors);

#endif /* LIB_RPC_REFLECTION_H */
