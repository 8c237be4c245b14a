/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/uring_internal.h"

#include <errno.h>
#include <poll.h>

/* Foreign descriptors and pollers.
 *
 *   IDLE --start--> ARMED --stop--> STOPPING --last completion--> IDLE
 *                     |                                            ^
 *                     '--refused--> FAILED ---------stop-----------'
 *
 * FAILED: the kernel cannot poll this descriptor.  ready() was called once,
 * so that the owner finds the error by its own read(). */

/* ---- Watches ---- */

static void
uring_watch_arm(struct reactor *reactor, struct io_watch *watch)
{
    struct io_uring_sqe *sqe = uring_sqe(reactor);

    io_uring_prep_poll_multishot(sqe, watch->fd, POLLIN | POLLRDHUP);
    io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_WATCH, watch));
}

void
uring_watch_start(struct io *io, struct io_watch *watch, int fd)
{
    struct reactor *reactor = uring_reactor(io);

    CHECK(watch->state == URING_WATCH_IDLE);
    watch->fd = fd;
    watch->stopped = NULL;
    watch->state = URING_WATCH_ARMED;
    list_push_back(&reactor->watches, &watch->node);
    uring_watch_arm(reactor, watch);
}

void
uring_watch_stop(struct io *io, struct io_watch *watch, io_watch_fn *stopped)
{
    struct reactor *reactor = uring_reactor(io);

    watch->stopped = stopped;
    switch ((enum uring_watch_state)watch->state) {
    case URING_WATCH_ARMED:
        watch->state = URING_WATCH_STOPPING;
        uring_cancel(reactor, uring_data(URING_TAG_WATCH, watch));
        break;
    case URING_WATCH_FAILED:
        watch->state = URING_WATCH_STOPPING;
        list_remove(&watch->node);
        list_push_back(&reactor->watches_stopped, &watch->node);
        break;
    case URING_WATCH_IDLE:
    case URING_WATCH_STOPPING:
        CHECK(watch->state == URING_WATCH_ARMED);
        break;
    }
}

void
uring_watch_complete(struct reactor *reactor, struct io_watch *watch,
                     int result, uint32_t flags)
{
    bool over = (flags & IORING_CQE_F_MORE) == 0;

    if (watch->state == URING_WATCH_STOPPING) {
        if (over) {
            list_remove(&watch->node);
            list_push_back(&reactor->watches_stopped, &watch->node);
        }
        return;
    }
    CHECK(watch->state == URING_WATCH_ARMED);
    if (result < 0 && result != -ECANCELED && result != -EAGAIN &&
        result != -EINTR) {
        CHECK(over);
        watch->state = URING_WATCH_FAILED;
    } else if (over) {
        uring_watch_arm(reactor, watch); /* It looks before it waits. */
    }
    watch->ready(watch);
}

void
uring_watch_run_stopped(struct reactor *reactor)
{
    struct list batch;
    struct list *node;

    list_init(&batch);
    list_splice_back(&batch, &reactor->watches_stopped);
    while ((node = list_pop_front(&batch)) != NULL) {
        struct io_watch *watch = container_of(node, struct io_watch, node);

        watch->state = URING_WATCH_IDLE;
        if (watch->stopped != NULL) {
            watch->stopped(watch);
        }
    }
}

/* ---- Pollers ---- */

void
uring_poller_add(struct io *io, struct io_poller *poller)
{
    struct reactor *reactor = uring_reactor(io);

    poller->last_work_ns = reactor->now_ns;
    list_push_back(&reactor->pollers, &poller->node);
}

void
uring_poller_remove(struct io *io, struct io_poller *poller)
{
    CHECK(uring_reactor(io) != NULL);
    list_remove(&poller->node);
}

/* Moves each poller to the end before it is called, so that it may remove
 * itself, or any other, or add one. */
bool
uring_poll_all(struct reactor *reactor)
{
    bool stay_awake = false;
    struct list called;
    struct list *node;

    if (list_is_empty(&reactor->pollers)) {
        return false;
    }
    list_init(&called);
    while ((node = list_pop_front(&reactor->pollers)) != NULL) {
        struct io_poller *poller = container_of(node, struct io_poller, node);
        uint64_t idle_ns = reactor->now_ns - poller->last_work_ns;

        list_push_back(&called, node);
        if (idle_ns < poller->spin_ns) {
            stay_awake = true;
        }
        if (poller->poll(poller)) {
            poller->last_work_ns = reactor->now_ns;
            stay_awake = true;
        }
    }
    list_splice_back(&reactor->pollers, &called);
    return stay_awake;
}
