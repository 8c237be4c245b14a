/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_GRPC_INIT_H
#define LIB_RPC_GRPC_INIT_H

/* Begins and ends the use of gRPC's library: private to lib/rpc.  Counted; what
 * it logs becomes debug lines of our log. */

void rpc_grpc_init(void);
void rpc_grpc_done(void);

#endif /* LIB_RPC_GRPC_INIT_H */
