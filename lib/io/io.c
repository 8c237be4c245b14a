/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/io.h"

/* Dispatch from the interface to the world behind it, and the few things that
 * are the same in both worlds.  What a caller may get wrong is checked here
 * once, so that the simulator finds the mistakes that a reactor would suffer
 * from, and the other way round. */

void
io_op_cancel(struct io *io, struct io_op *op)
{
    io->vtable->op_cancel(io, op);
}

/* ---- Time and chance ---- */

uint64_t
io_now_ns(struct io *io)
{
    return io->vtable->now_ns(io);
}

uint64_t
io_random_u64(struct io *io)
{
    uint64_t value;

    io->vtable->random_bytes(io, &value, sizeof(value));
    return value;
}

void
io_random_bytes(struct io *io, void *data, size_t size)
{
    io->vtable->random_bytes(io, data, size);
}

void
io_timer_init(struct io_timer *timer, io_timer_fn *fire)
{
    *timer = (struct io_timer){ .fire = fire };
}

void
io_timer_set(struct io *io, struct io_timer *timer, uint64_t deadline_ns)
{
    CHECK(timer->fire != NULL);
    io->vtable->timer_set(io, timer, deadline_ns);
}

void
io_timer_cancel(struct io *io, struct io_timer *timer)
{
    if (timer->heap_index != 0) {
        io->vtable->timer_cancel(io, timer);
    }
}

bool
io_timer_is_armed(const struct io_timer *timer)
{
    return timer->heap_index != 0;
}

/* ---- Tasks and posts ---- */

void
io_task_init(struct io_task *task, io_task_fn *run)
{
    *task = (struct io_task){ .run = run };
}

void
io_task_defer(struct io *io, struct io_task *task)
{
    CHECK(task->run != NULL);
    if (!task->queued) {
        io->vtable->task_defer(io, task);
    }
}

void
io_task_cancel(struct io *io, struct io_task *task)
{
    if (task->queued) {
        io->vtable->task_cancel(io, task);
    }
}

void
io_post_send(struct io *from, struct io *to, struct io_post *post)
{
    CHECK(post->run != NULL);
    to->vtable->post_send(from, to, post);
}

/* ---- Memory ---- */

void *
io_arena_alloc(struct io *io, size_t size)
{
    return io->vtable->arena_alloc(io, size);
}

/* ---- Files ---- */

int
io_file_open(struct io *io, const char *path, enum io_cache_mode mode,
             struct io_file **ret_file)
{
    return io->vtable->file_open(io, path, mode, ret_file);
}

void
io_file_info_get(const struct io_file *file, struct io_file_info *ret)
{
    *ret = file->info;
}

void
io_file_close(struct io *io, struct io_file *file)
{
    if (file != NULL) {
        io->vtable->file_close(io, file);
    }
}

void
io_file_start(struct io *io, struct io_file_op *op)
{
    uint64_t mask = op->file->info.alignment_bytes - 1;

    CHECK(op->op.done != NULL);
    CHECK((op->offset_bytes & mask) == 0);
    switch (op->kind) {
    case IO_FILE_READ:
    case IO_FILE_WRITE:
        CHECK(op->size_bytes != 0);
        CHECK((op->size_bytes & mask) == 0);
        CHECK(((uintptr_t)op->data & mask) == 0);
        break;
    case IO_FILE_FLUSH:
        CHECK(op->size_bytes == 0);
        break;
    case IO_FILE_DISCARD:
        CHECK(op->discard_bytes != 0);
        CHECK((op->discard_bytes & mask) == 0);
        break;
    }
    io->vtable->file_start(io, op);
}

/* ---- Connections ---- */

int
io_listener_open(struct io *io, struct io_listener *listener,
                 const char *address)
{
    CHECK(listener->on_accept != NULL);
    return io->vtable->listener_open(io, listener, address);
}

void
io_listener_address(const struct io_listener *listener,
                    char ret_address[IO_ADDRESS_SIZE])
{
    const struct io_listener_impl *impl = listener->impl;

    CHECK(impl != NULL);
    impl->io->vtable->listener_address(listener, ret_address);
}

void
io_listener_close(struct io *io, struct io_listener *listener)
{
    if (listener->impl != NULL) {
        io->vtable->listener_close(io, listener);
    }
}

void
io_conn_connect(struct io *io, struct io_conn *conn, const char *address,
                uint64_t deadline_ns)
{
    CHECK(conn->on_connected != NULL);
    CHECK(conn->on_data != NULL);
    CHECK(conn->on_closed != NULL);
    io->vtable->conn_connect(io, conn, address, deadline_ns);
}

int
io_conn_adopt(struct io *io, struct io_conn *conn, struct io_accepted *accepted)
{
    CHECK(conn->on_data != NULL);
    CHECK(conn->on_closed != NULL);
    return io->vtable->conn_adopt(io, conn, accepted);
}

void
io_conn_send(struct io *io, struct io_conn *conn, struct io_send *send)
{
    uint64_t size_bytes = 0;

    CHECK(send->op.done != NULL);
    CHECK(send->iov_count >= 1);
    CHECK(send->iov_count <= IO_SEND_IOV_MAX);
    for (uint32_t i = 0; i < send->iov_count; i++) {
        size_bytes += send->iov[i].iov_len;
    }
    CHECK(size_bytes != 0);
    CHECK(size_bytes <= INT32_MAX);
    send->size_bytes = (uint32_t)size_bytes;
    send->sent_bytes = 0;
    io->vtable->conn_send(io, conn, send);
}

void
io_conn_pause(struct io *io, struct io_conn *conn)
{
    io->vtable->conn_pause(io, conn);
}

void
io_conn_resume(struct io *io, struct io_conn *conn)
{
    io->vtable->conn_resume(io, conn);
}

void
io_conn_close(struct io *io, struct io_conn *conn)
{
    io->vtable->conn_close(io, conn);
}

void
io_conn_close_after_sends(struct io *io, struct io_conn *conn)
{
    io->vtable->conn_close_after_sends(io, conn);
}

/* ---- Reactors only ---- */

void
io_watch_start(struct io *io, struct io_watch *watch, int fd)
{
    CHECK(io->vtable->watch_start != NULL);
    CHECK(watch->ready != NULL);
    io->vtable->watch_start(io, watch, fd);
}

void
io_watch_stop(struct io *io, struct io_watch *watch, io_watch_fn *stopped)
{
    CHECK(io->vtable->watch_stop != NULL);
    io->vtable->watch_stop(io, watch, stopped);
}

void
io_poller_add(struct io *io, struct io_poller *poller)
{
    CHECK(io->vtable->poller_add != NULL);
    CHECK(poller->poll != NULL);
    io->vtable->poller_add(io, poller);
}

void
io_poller_remove(struct io *io, struct io_poller *poller)
{
    CHECK(io->vtable->poller_remove != NULL);
    io->vtable->poller_remove(io, poller);
}
