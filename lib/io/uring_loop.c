/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/uring_internal.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* One turn of the loop:
 *
 *   1. look at the clock, once
 *   2. completions, as many as there were when the turn began
 *   3. posts from other threads
 *   4. timers that are due
 *   5. pollers
 *   6. what these have decided, in rounds: settled operations, connections
 *      that need attention, tasks
 *   7. gather the sends of each connection, give back receive buffers
 *   8. files in memory (uring_file.c): their operations, and 6 and 7 again
 *   9. one io_uring_enter: submits it all, and sleeps until the next
 *      completion or timer if there is nothing left to do
 *
 * Sleeping and waking.  A reactor sets 'asleep' and then looks at its queue; a
 * sender pushes and then takes 'asleep' away.  All four are sequentially
 * consistent, so at least one of them sees the other.  Who took the flag owes
 * the wake-up: a reactor by MSG_RING at the end of its turn, anybody else by
 * the eventfd at once.  A busy reactor is thus never disturbed. */

/* Deferred work that keeps making more is continued in the next turn. */
#define URING_ROUNDS_MAX 16
#define URING_REAP_BATCH 64

_Thread_local struct reactor *uring_current;

void
uring_now_refresh(struct reactor *reactor)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    reactor->now_ns =
        (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

/* ---- Submission ---- */

struct io_uring_sqe *
uring_sqe(struct reactor *reactor)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&reactor->ring);

    while (sqe == NULL) {
        /* Without GETEVENTS this runs no completion of ours.  The kernel
         * takes every entry unless it lacks memory for a request, and then
         * there is nothing better to do than to let others free some. */
        int rc = io_uring_submit(&reactor->ring);

        reactor->info.ring_full++;
        CHECK(rc >= 0 || rc == -EAGAIN || rc == -EBUSY || rc == -EINTR ||
              rc == -ENOMEM);
        sqe = io_uring_get_sqe(&reactor->ring);
        if (sqe == NULL) {
            sched_yield();
        }
    }
    return sqe;
}

void
uring_cancel(struct reactor *reactor, uint64_t data)
{
    struct io_uring_sqe *sqe = uring_sqe(reactor);

    io_uring_prep_cancel64(sqe, data, 0);
    io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_NONE, NULL));
}

void
uring_settle(struct reactor *reactor, struct io_op *op,
             enum uring_op_state state, int result)
{
    op->state = state;
    op->result = result;
    list_push_back(&reactor->settled, &op->node);
}

/* ---- Completions ---- */

/* A copy of 'struct io_uring_cqe', which may not be in an array. */
struct uring_completion {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

void
uring_event_arm(struct reactor *reactor)
{
    struct io_uring_sqe *sqe = uring_sqe(reactor);

    /* Each write to the eventfd wakes the poll anew, whether or not the
     * counter was read since: we never read it. */
    io_uring_prep_poll_multishot(sqe, reactor->event_fd, POLLIN);
    io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_EVENT, reactor));
}

static void
uring_event_write(const struct reactor *reactor)
{
    uint64_t one = 1;
    ssize_t written = write(reactor->event_fd, &one, sizeof(one));

    CHECK(written == (ssize_t)sizeof(one) || errno == EAGAIN);
}

static void
uring_complete(struct reactor *reactor, const struct uring_completion *cqe)
{
    void *object = uring_data_object(cqe->user_data);

    switch (uring_data_tag(cqe->user_data)) {
    case URING_TAG_NONE:
        break;
    case URING_TAG_EVENT:
        if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
            uring_event_arm(reactor);
        }
        break;
    case URING_TAG_MESSAGE:
        /* A wake-up from a reactor arrives with this tag, too, without an
         * object: it has done its work by arriving. */
        if (object != NULL && cqe->res < 0) {
            uring_event_write(object);
        }
        break;
    case URING_TAG_FILE:
        uring_file_complete(reactor, object, cqe->res);
        break;
    case URING_TAG_RECV:
        uring_recv_complete(object, cqe->res, cqe->flags);
        break;
    case URING_TAG_POLL:
        uring_recv_poll_complete(object, cqe->res);
        break;
    case URING_TAG_SEND:
        uring_send_complete(object, cqe->res);
        break;
    case URING_TAG_CONNECT:
        uring_conn_connect_complete(object, cqe->res);
        break;
    case URING_TAG_SEND_ZC:
        uring_send_zc_complete(object, cqe->res, cqe->flags);
        break;
    case URING_TAG_ACCEPT:
        uring_accept_complete(object, cqe->res, cqe->flags);
        break;
    case URING_TAG_WATCH:
        uring_watch_complete(reactor, object, cqe->res, cqe->flags);
        break;
    }
}

/* Entries are copied out in batches, so that the kernel has room again before
 * the callbacks run: they may submit. */
static void
uring_reap(struct reactor *reactor)
{
    struct uring_completion batch[URING_REAP_BATCH];
    uint32_t left = io_uring_cq_ready(&reactor->ring);

    while (left > 0) {
        struct io_uring_cqe *cqe;
        unsigned head;
        uint32_t count = 0;
        uint32_t limit = left < URING_REAP_BATCH ? left : URING_REAP_BATCH;

        io_uring_for_each_cqe(&reactor->ring, head, cqe)
        {
            batch[count++] = (struct uring_completion){
                .user_data = cqe->user_data,
                .res = cqe->res,
                .flags = cqe->flags,
            };
            if (count == limit) {
                break;
            }
        }
        CHECK(count == limit);
        io_uring_cq_advance(&reactor->ring, count);
        left -= count;
        reactor->info.completions += count;
        for (uint32_t i = 0; i < count; i++) {
            uring_complete(reactor, &batch[i]);
        }
    }
}

/* ---- Posts ---- */

void
uring_post_send(struct io *from, struct io *to, struct io_post *post)
{
    struct reactor *target = container_of(to, struct reactor, io);
    struct reactor *source;
    struct io_uring_sqe *sqe;

    post_queue_push(&target->posts, post);
    if (!atomic_load_explicit(&target->asleep, memory_order_seq_cst) ||
        !atomic_exchange_explicit(&target->asleep, false,
                                  memory_order_seq_cst)) {
        return;
    }
    if (from == NULL) {
        uring_event_write(target);
        return;
    }
    source = uring_reactor(from);
    CHECK(source != target); /* It would have to be asleep. */
    source->info.wakes++;
    sqe = uring_sqe(source);
    io_uring_prep_msg_ring(sqe, target->ring.ring_fd, 0,
                           uring_data(URING_TAG_MESSAGE, NULL), 0);
    sqe->flags |= (uint8_t)IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_MESSAGE, target));
}

static void
uring_run_posts(struct reactor *reactor)
{
    struct io_post *post = post_queue_take(&reactor->posts);

    while (post != NULL) {
        struct io_post *next = post->next;

        post->next = NULL;
        post->run(post);
        post = next;
    }
}

/* ---- Timers, tasks, settled operations ---- */

static void
uring_run_timers(struct reactor *reactor)
{
    /* A timer that re-arms itself in the past waits for the next turn. */
    for (uint32_t left = reactor->timers.count; left > 0; left--) {
        struct io_timer *timer =
            timer_heap_pop_due(&reactor->timers, reactor->now_ns);

        if (timer == NULL) {
            return;
        }
        timer->fire(timer);
    }
}

static void
uring_run_settled(struct reactor *reactor)
{
    struct list batch;
    struct list *node;

    list_init(&batch);
    list_splice_back(&batch, &reactor->settled);
    while ((node = list_pop_front(&batch)) != NULL) {
        struct io_op *op = container_of(node, struct io_op, node);

        if (op->state == URING_OP_SEND_SETTLED) {
            uring_send_settled(container_of(op, struct io_send, op));
        }
        op->state = URING_OP_IDLE;
        op->done(op, op->result);
    }
}

static void
uring_run_attention(struct reactor *reactor)
{
    struct list batch;
    struct list *node;

    list_init(&batch);
    list_splice_back(&batch, &reactor->refused);
    while ((node = list_pop_front(&batch)) != NULL) {
        uring_conn_report_refused(container_of(node, struct io_conn, node));
    }
    list_splice_back(&batch, &reactor->attention);
    while ((node = list_pop_front(&batch)) != NULL) {
        uring_conn_attend(container_of(node, struct uring_conn, attention));
    }
}

static void
uring_run_tasks(struct reactor *reactor)
{
    struct list batch;
    struct list *node;

    list_init(&batch);
    list_splice_back(&batch, &reactor->tasks);
    while ((node = list_pop_front(&batch)) != NULL) {
        struct io_task *task = container_of(node, struct io_task, node);

        task->queued = false;
        task->run(task);
    }
}

static bool
uring_has_deferred(const struct reactor *reactor)
{
    return !list_is_empty(&reactor->settled) ||
           !list_is_empty(&reactor->refused) ||
           !list_is_empty(&reactor->attention) ||
           !list_is_empty(&reactor->watches_stopped) ||
           !list_is_empty(&reactor->tasks);
}

static void
uring_run_deferred(struct reactor *reactor)
{
    for (int round = 0; round < URING_ROUNDS_MAX; round++) {
        if (!uring_has_deferred(reactor)) {
            return;
        }
        uring_run_settled(reactor);
        uring_run_attention(reactor);
        uring_watch_run_stopped(reactor);
        uring_run_tasks(reactor);
    }
}

static void
uring_flush(struct reactor *reactor)
{
    struct list *node;

    while ((node = list_pop_front(&reactor->flush)) != NULL) {
        uring_send_flush(container_of(node, struct uring_conn, flush));
    }
    if (!list_is_empty(&reactor->backlog)) {
        uring_file_run_backlog(reactor);
    }
    uring_recv_publish(reactor);
}

/* Files in memory: what has been gathered leaves first, so that others work
 * while this reactor copies; then what follows from the copies. */
static void
uring_run_inlined(struct reactor *reactor)
{
    if (list_is_empty(&reactor->inlined)) {
        return;
    }
    if (io_uring_sq_ready(&reactor->ring) > 0) {
        int rc = io_uring_submit(&reactor->ring);

        reactor->info.enters++;
        CHECK(rc >= 0 || rc == -EAGAIN || rc == -EBUSY || rc == -EINTR ||
              rc == -ENOMEM);
    }
    uring_file_run_inlined(reactor);
    uring_run_deferred(reactor);
    uring_flush(reactor);
}

/* ---- Sleeping ---- */

/* Whether the kernel has something for us that only a system call brings. */
static bool
uring_kernel_wants_us(const struct reactor *reactor)
{
    unsigned flags = __atomic_load_n(reactor->ring.sq.kflags, __ATOMIC_RELAXED);

    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

static void
uring_enter_now(struct reactor *reactor)
{
    int rc;

    if (io_uring_sq_ready(&reactor->ring) == 0 &&
        !uring_kernel_wants_us(reactor)) {
        return;
    }
    reactor->info.enters++;
    rc = io_uring_submit_and_get_events(&reactor->ring);
    CHECK(rc >= 0 || rc == -EAGAIN || rc == -EBUSY || rc == -EINTR ||
          rc == -ENOMEM);
}

static void
uring_enter_and_wait(struct reactor *reactor)
{
    uint64_t deadline_ns = timer_heap_next_ns(&reactor->timers);
    int rc;

    reactor->info.enters++;
    reactor->info.sleeps++;
    if (deadline_ns == IO_NEVER) {
        rc = io_uring_submit_and_wait(&reactor->ring, 1);
    } else {
        struct io_uring_cqe *cqe;
        uint64_t wait_ns = deadline_ns - reactor->now_ns;
        struct __kernel_timespec wait = {
            .tv_sec = (int64_t)(wait_ns / 1000000000ULL),
            .tv_nsec = (long long)(wait_ns % 1000000000ULL),
        };

        rc = io_uring_submit_and_wait_timeout(&reactor->ring, &cqe, 1, &wait,
                                              NULL);
    }
    CHECK(rc >= 0 || rc == -ETIME || rc == -EAGAIN || rc == -EBUSY ||
          rc == -EINTR || rc == -ENOMEM);
}

static void
uring_enter(struct reactor *reactor, bool stay_awake)
{
    if (stay_awake || reactor->stopping || uring_has_deferred(reactor) ||
        !list_is_empty(&reactor->inlined) ||
        timer_heap_next_ns(&reactor->timers) <= reactor->now_ns ||
        io_uring_cq_ready(&reactor->ring) > 0) {
        uring_enter_now(reactor);
        return;
    }
    atomic_store_explicit(&reactor->asleep, true, memory_order_seq_cst);
    if (post_queue_is_empty(&reactor->posts)) {
        uring_enter_and_wait(reactor);
    } else {
        uring_enter_now(reactor);
    }
    /* Not sequentially consistent: a sender that still sees 'true' only
     * wakes us once more than needed. */
    atomic_store_explicit(&reactor->asleep, false, memory_order_relaxed);
}

void
uring_run(struct reactor *reactor)
{
    while (!reactor->stopping) {
        bool stay_awake;

        reactor->info.turns++;
        uring_now_refresh(reactor);
        uring_reap(reactor);
        uring_run_posts(reactor);
        uring_run_timers(reactor);
        stay_awake = uring_poll_all(reactor);
        uring_run_deferred(reactor);
        uring_flush(reactor);
        uring_run_inlined(reactor);
        uring_enter(reactor, stay_awake);
    }
}

/* ---- The rest of the table ---- */

static uint64_t
uring_now_ns(struct io *io)
{
    return uring_reactor(io)->now_ns;
}

static void
uring_random_bytes(struct io *io, void *data, size_t size)
{
    struct reactor *reactor = uring_reactor(io);
    uint8_t *to = data;

    while (size > 0) {
        size_t part;
        uint8_t *from;

        if (reactor->random_left == 0) {
            ssize_t got =
                getrandom(reactor->random, sizeof(reactor->random), 0);

            /* 256 bytes or less are never cut short. */
            CHECK(got == (ssize_t)sizeof(reactor->random));
            reactor->random_left = sizeof(reactor->random);
        }
        part = size < reactor->random_left ? size : reactor->random_left;
        reactor->random_left -= (uint32_t)part;
        from = reactor->random + reactor->random_left;
        memcpy(to, from, part);
        memset(from, 0, part); /* It may have been a secret. */
        to += part;
        size -= part;
    }
}

static void
uring_timer_set(struct io *io, struct io_timer *timer, uint64_t deadline_ns)
{
    timer_heap_set(&uring_reactor(io)->timers, timer, deadline_ns);
}

static void
uring_timer_cancel(struct io *io, struct io_timer *timer)
{
    timer_heap_remove(&uring_reactor(io)->timers, timer);
}

static void
uring_task_defer(struct io *io, struct io_task *task)
{
    struct reactor *reactor = uring_reactor(io);

    task->queued = true;
    list_push_back(&reactor->tasks, &task->node);
}

static void
uring_task_cancel(struct io *io, struct io_task *task)
{
    CHECK(uring_reactor(io) != NULL);
    task->queued = false;
    list_remove(&task->node);
}

void
uring_op_cancel(struct io *io, struct io_op *op)
{
    struct reactor *reactor = uring_reactor(io);

    switch ((enum uring_op_state)op->state) {
    case URING_OP_BACKLOG:
    case URING_OP_FLYING:
        uring_file_cancel(reactor, container_of(op, struct io_file_op, op));
        break;
    case URING_OP_SEND_QUEUED:
        uring_send_cancel(reactor, container_of(op, struct io_send, op));
        break;
    case URING_OP_IDLE:
    case URING_OP_CANCELLING:
    case URING_OP_SEND_FLYING:
    case URING_OP_SEND_NOTIFY:
    case URING_OP_SETTLED:
    case URING_OP_SEND_SETTLED:
        break;
    }
}

const struct io_vtable uring_vtable = {
    .op_cancel = uring_op_cancel,
    .now_ns = uring_now_ns,
    .random_bytes = uring_random_bytes,
    .timer_set = uring_timer_set,
    .timer_cancel = uring_timer_cancel,
    .task_defer = uring_task_defer,
    .task_cancel = uring_task_cancel,
    .post_send = uring_post_send,
    .arena_alloc = uring_arena_alloc,
    .file_open = uring_file_open,
    .file_close = uring_file_close,
    .file_start = uring_file_start,
    .listener_open = uring_listener_open,
    .listener_address = uring_listener_address,
    .listener_close = uring_listener_close,
    .conn_connect = uring_conn_connect,
    .conn_adopt = uring_conn_adopt,
    .conn_send = uring_conn_send,
    .conn_pause = uring_conn_pause,
    .conn_resume = uring_conn_resume,
    .conn_close = uring_conn_close,
    .conn_close_after_sends = uring_conn_close_after_sends,
    .watch_start = uring_watch_start,
    .watch_stop = uring_watch_stop,
    .poller_add = uring_poller_add,
    .poller_remove = uring_poller_remove,
};
