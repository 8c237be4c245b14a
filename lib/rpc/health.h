/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_HEALTH_H
#define LIB_RPC_HEALTH_H

/* grpc.health.v1.Health: private to lib/rpc.
 *
 * Threads: Check and Watch come on the server's thread, changes from any; all
 * state is under one lock, under which messages are sent to watchers but no
 * call is finished (finishing may wait for a callback that wants the lock). */

#include <pthread.h>
#include <stdbool.h>

#include "lib/base/list.h"
#include "lib/rpc/server.h"

struct rpc_health {
    struct rpc_service service;
    pthread_mutex_t lock;
    /* Under the lock: */
    struct list entries;  /* struct health_entry: one a service. */
    struct list watchers; /* struct health_watch */
};

/* -errno of pthread_mutex_init(). */
WEFT_MUST_CHECK int rpc_health_init(struct rpc_health *health);
void rpc_health_done(struct rpc_health *health);

/* Adds a service, or changes what is said about it.  -ENOMEM. */
WEFT_MUST_CHECK int rpc_health_set(struct rpc_health *health,
                                   const char *service, bool is_serving);
void rpc_health_set_all(struct rpc_health *health, bool is_serving);

#endif /* LIB_RPC_HEALTH_H */
