/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_SERVER_SETUP_H
#define LIB_RPC_SERVER_SETUP_H

/* Makes a server that listens but does not run yet: private to lib/rpc. */

#include "lib/rpc/call.h"

WEFT_MUST_CHECK int server_setup_new(const struct rpc_server_options *options,
                                     struct rpc_server **ret_server,
                                     struct err *err);

/* Accepts a half-built one.  Its threads have ended, or never began. */
void server_setup_free(struct rpc_server *server);

#endif /* LIB_RPC_SERVER_SETUP_H */
