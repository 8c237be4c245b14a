/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_RPC_EXECUTOR_H
#define LIB_RPC_EXECUTOR_H

/* Runs callbacks on a thread of the user's choice.
 *
 * An executor takes work items from any thread and runs them, in order, one at
 * a time, on its own thread.  Items are embedded in what they belong to and
 * stay there until they have run; posting allocates nothing and cannot fail.
 *
 * struct rpc_queue is an executor for a thread with a poll loop:
 *
 *     struct rpc_queue queue;
 *     rpc_queue_init(&queue)
 *     ...
 *     poll() for input on rpc_queue_fd(&queue), then rpc_queue_run(&queue)
 */

#include <pthread.h>

#include "lib/base/check.h"
#include "lib/base/list.h"

struct rpc_work;
struct rpc_executor;

typedef void rpc_work_fn(struct rpc_work *work);

struct rpc_work {
    rpc_work_fn *run; /* May free what 'work' is embedded in. */
    struct list node; /* Private to the executor. */
};

struct rpc_executor {
    /* Any thread, never blocks for long, never runs 'work' itself unless it is
     * on the executor's thread outside of any other work. */
    void (*post)(struct rpc_executor *executor, struct rpc_work *work);
};

struct rpc_queue {
    struct rpc_executor executor;
    /* Private. */
    pthread_mutex_t lock;
    struct list items; /* Under the lock. */
    int fd;            /* eventfd: there are items. */
};

/* -errno of eventfd(). */
WEFT_MUST_CHECK int rpc_queue_init(struct rpc_queue *queue);

/* The queue is empty and nobody posts any more. */
void rpc_queue_done(struct rpc_queue *queue);

/* Becomes readable when there is work.  Owned by the queue. */
int rpc_queue_fd(const struct rpc_queue *queue);

/* Runs the items that were there when it began; on the executor's thread. */
void rpc_queue_run(struct rpc_queue *queue);

#endif /* LIB_RPC_EXECUTOR_H */
