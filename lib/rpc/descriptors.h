/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_DESCRIPTORS_H
#define LIB_RPC_DESCRIPTORS_H

/* Descriptors of .proto files, as gen_descriptors.py embeds them for server
 * reflection.  All is constant; lists of strings end with NULL. */

#include <stddef.h>

struct rpc_descriptor_file {
    const char *name;          /* "weft/v1/volume.proto" */
    const unsigned char *data; /* google.protobuf.FileDescriptorProto */
    size_t size;
    const char *const *symbols;  /* Full names of all that it defines. */
    const char *const *services; /* Of these, the services. */
    const char *const *imports;  /* Names of the files that it imports. */
};

struct rpc_descriptor_set {
    const struct rpc_descriptor_file *files; /* Imports included. */
    size_t count;
};

/* Health, reflection and the error model: every server adds it by itself. */
extern const struct rpc_descriptor_set rpc_descriptors;

#endif /* LIB_RPC_DESCRIPTORS_H */
