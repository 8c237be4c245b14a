/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_IO_POST_QUEUE_H
#define LIB_IO_POST_QUEUE_H

/* Many threads push posts, one takes them all: a stack that is reversed when
 * it is taken, so that the posts of each sender keep their order.  Lock-free;
 * there is no ABA problem because nobody pops a single element. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/io/io.h"

struct post_queue {
    _Atomic(struct io_post *) head;
};

/* Returns whether the queue was empty.  Sequentially consistent: a pusher that
 * then looks at the taker's "asleep" flag, and a taker that sets the flag and
 * then looks at the queue, cannot both miss the other. */
static inline bool
post_queue_push(struct post_queue *queue, struct io_post *post)
{
    struct io_post *head =
        atomic_load_explicit(&queue->head, memory_order_relaxed);

    do {
        post->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&queue->head, &head, post,
                                                    memory_order_seq_cst,
                                                    memory_order_relaxed));
    return head == NULL;
}

static inline bool
post_queue_is_empty(struct post_queue *queue)
{
    return atomic_load_explicit(&queue->head, memory_order_seq_cst) == NULL;
}

/* Takes everything, oldest first, linked by 'next'; or NULL. */
static inline struct io_post *
post_queue_take(struct post_queue *queue)
{
    struct io_post *newest;
    struct io_post *oldest = NULL;

    /* Without this look each turn would write to a shared cache line. */
    if (atomic_load_explicit(&queue->head, memory_order_relaxed) == NULL) {
        return NULL;
    }
    /* Acquire pairs with the pushers' CAS: the posts' contents are visible. */
    newest = atomic_exchange_explicit(&queue->head, NULL, memory_order_acquire);
    while (newest != NULL) {
        struct io_post *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

#endif /* LIB_IO_POST_QUEUE_H */
