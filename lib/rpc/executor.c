/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/rpc/executor.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/container_of.h"

static void
rpc_queue_post(struct rpc_executor *executor, struct rpc_work *work)
{
    struct rpc_queue *queue =
        container_of(executor, struct rpc_queue, executor);
    uint64_t one = 1;

    /* The write is under the lock, too: once it is released, the work may run
     * and end with the queue being freed. */
    pthread_mutex_lock(&queue->lock);
    list_push_back(&queue->items, &work->node);
    ssize_t size = write(queue->fd, &one, sizeof one);
    pthread_mutex_unlock(&queue->lock);
    /* It fails only if 2^64 - 2 posts were not seen: then it is readable. */
    (void)size;
}

int
rpc_queue_init(struct rpc_queue *queue)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    int result = pthread_mutex_init(&queue->lock, NULL);
    if (result != 0) {
        close(fd);
        return -result;
    }
    queue->executor.post = rpc_queue_post;
    queue->fd = fd;
    list_init(&queue->items);
    return 0;
}

void
rpc_queue_done(struct rpc_queue *queue)
{
    CHECK(list_is_empty(&queue->items));
    close(queue->fd);
    queue->fd = -1;
    pthread_mutex_destroy(&queue->lock);
}

int
rpc_queue_fd(const struct rpc_queue *queue)
{
    return queue->fd;
}

void
rpc_queue_run(struct rpc_queue *queue)
{
    struct list batch;
    uint64_t count;

    list_init(&batch);
    pthread_mutex_lock(&queue->lock);
    ssize_t size = read(queue->fd, &count, sizeof count);
    (void)size; /* -1 if there is nothing: then the list is empty. */
    list_splice_back(&batch, &queue->items);
    pthread_mutex_unlock(&queue->lock);

    struct list *node;
    while ((node = list_pop_front(&batch)) != NULL) {
        struct rpc_work *work = container_of(node, struct rpc_work, node);
        work->run(work);
    }
}
