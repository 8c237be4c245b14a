/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_DESCRIPTORS_H
#define PROTO_DESCRIPTORS_H

/* The descriptors of proto/weft/v1, for server reflection. */

#include "lib/rpc/descriptors.h"

extern const struct rpc_descriptor_set weft_v1_descriptors;

#endif /* PROTO_DESCRIPTORS_H */
