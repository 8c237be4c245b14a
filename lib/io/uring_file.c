/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/uring_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/io/uring_probe.h"

/* Files.  An operation is one request in the kernel at a time:
 *
 *   start --> FLYING ------> done()
 *     |        |  ^ \
 *     |   short|  |  \-----> CANCELLING --> done()
 *     |        v  |
 *     '----> BACKLOG ------> done() (cancelled)
 *
 * A short transfer, or one that the kernel wants to be asked again, continues
 * by the backlog, behind operations that have waited longer.
 *
 * tmpfs.  A file in memory never waits for a device, but io_uring does not
 * know: it hands each operation to a kernel thread and back, which costs
 * several times the copy itself.  So such operations are plain system calls
 * (reactor_options.memory_inline), at the end of the turn, when what the turn
 * has to send is on its way:
 *
 *   start --> BACKLOG --> done() */

/* ---- Opening ---- */

/* The lock is on a descriptor of its own, which the ring never sees.  When a
 * process is killed, the kernel first waits for what its rings have in flight,
 * then closes its descriptors, and only some time later those that a ring has
 * registered: the successor would find the disk busy. */
static int
uring_file_lock(const char *path, const struct stat *status)
{
    int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

    if (S_ISBLK(status->st_mode)) {
        flags |= O_RDWR | O_EXCL;
    } else if (S_ISREG(status->st_mode)) {
        flags |= O_RDONLY;
    } else {
        return -EINVAL; /* Opening a pipe or a tape has side effects. */
    }
    CLEANUP_FD int fd = open(path, flags);
    if (fd < 0) {
        return -errno;
    }
    if (S_ISREG(status->st_mode) && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    }
    return cleanup_take_fd(&fd);
}

/* Opens what has been locked; refuses if it was replaced meanwhile. */
static int
uring_file_open_locked(const char *path, int lock_fd, struct stat *ret_status)
{
    struct stat locked;

    CLEANUP_FD int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return -errno;
    }
    if (fstat(fd, ret_status) != 0 || fstat(lock_fd, &locked) != 0) {
        return -errno;
    }
    if (ret_status->st_dev != locked.st_dev ||
        ret_status->st_ino != locked.st_ino) {
        return -EBUSY;
    }
    return cleanup_take_fd(&fd);
}

static bool
uring_file_is_in_memory(int fd)
{
    struct statfs status;

    return fstatfs(fd, &status) == 0 && status.f_type == TMPFS_MAGIC;
}

int
uring_file_open(struct io *io, const char *path, enum io_cache_mode mode,
                struct io_file **ret_file)
{
    struct reactor *reactor = uring_reactor(io);
    struct io_file_info info;
    struct stat status;
    struct list *node;
    struct uring_file *file;
    int rc;

    if (list_is_empty(&reactor->files_free)) {
        return -EMFILE;
    }
    if (stat(path, &status) != 0) {
        return -errno;
    }
    CLEANUP_FD int lock_fd = uring_file_lock(path, &status);
    if (lock_fd < 0) {
        return lock_fd;
    }
    CLEANUP_FD int fd = uring_file_open_locked(path, lock_fd, &status);
    if (fd < 0) {
        return fd;
    }
    rc = uring_probe_file(fd, &status, mode, &info);
    if (rc != 0) {
        return rc;
    }
    node = list_pop_front(&reactor->files_free);
    CHECK(node != NULL);
    file = container_of(node, struct uring_file, node);
    file->file.info = info;
    file->block_device = S_ISBLK(status.st_mode);
    file->in_memory =
        reactor->options.memory_inline && uring_file_is_in_memory(fd);
    file->pending = 0;
    file->fd = cleanup_take_fd(&fd);
    file->lock_fd = cleanup_take_fd(&lock_fd);
    uring_fixed_file_set(reactor, file->index, file->fd);
    reactor->files_open++;
    *ret_file = &file->file;
    return 0;
}

void
uring_file_close(struct io *io, struct io_file *base)
{
    struct reactor *reactor = uring_reactor(io);
    struct uring_file *file = container_of(base, struct uring_file, file);

    CHECK(file->pending == 0);
    CHECK(file->fd >= 0);
    uring_fixed_file_set(reactor, file->index, -1);
    close(file->fd);
    close(file->lock_fd);
    file->fd = file->lock_fd = -1;
    reactor->files_open--;
    list_push_front(&reactor->files_free, &file->node);
}

/* ---- Operations ---- */

static void
uring_file_prepare_transfer(struct reactor *reactor, struct uring_file *file,
                            struct io_file_op *op, struct io_uring_sqe *sqe)
{
    uint8_t *data = (uint8_t *)op->data + op->done_bytes;
    uint32_t size = op->size_bytes - op->done_bytes;
    uint64_t offset = op->offset_bytes + op->done_bytes;
    int buffer = uring_fixed_buffer(reactor, data, size);

    if (op->kind == IO_FILE_READ) {
        if (buffer >= 0) {
            io_uring_prep_read_fixed(sqe, file->fd, data, size, offset, buffer);
        } else {
            io_uring_prep_read(sqe, file->fd, data, size, offset);
        }
    } else {
        if (buffer >= 0) {
            io_uring_prep_write_fixed(sqe, file->fd, data, size, offset,
                                      buffer);
        } else {
            io_uring_prep_write(sqe, file->fd, data, size, offset);
        }
    }
}

static void
uring_file_submit(struct reactor *reactor, struct io_file_op *op)
{
    struct uring_file *file = container_of(op->file, struct uring_file, file);
    struct io_uring_sqe *sqe = uring_sqe(reactor);

    switch (op->kind) {
    case IO_FILE_READ:
    case IO_FILE_WRITE:
        uring_file_prepare_transfer(reactor, file, op, sqe);
        break;
    case IO_FILE_FLUSH:
        io_uring_prep_fsync(sqe, file->fd,
                            file->block_device ? 0 : IORING_FSYNC_DATASYNC);
        break;
    case IO_FILE_DISCARD:
        io_uring_prep_fallocate(sqe, file->fd,
                                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (int64_t)op->offset_bytes,
                                (int64_t)op->discard_bytes);
        break;
    }
    uring_sqe_target(reactor, sqe, file->fd, file->index);
    io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_FILE, op));
    op->op.state = URING_OP_FLYING;
    reactor->file_ops++;
}

/* The file must not grow, and nothing may be read that is not there. */
static bool
uring_file_op_fits(const struct io_file_op *op)
{
    uint64_t size =
        op->kind == IO_FILE_DISCARD ? op->discard_bytes : op->size_bytes;
    uint64_t end = op->file->info.size_bytes;

    return op->kind == IO_FILE_FLUSH ||
           (size <= end && op->offset_bytes <= end - size);
}

/* Whether the operation must be submitted again; else *result is final. */
static bool
uring_file_op_continues(struct io_file_op *op, int *result)
{
    bool cancelled = op->op.state == URING_OP_CANCELLING;
    uint32_t done_bytes;

    if (*result == -EAGAIN || *result == -EINTR) {
        *result = -ECANCELED;
        return !cancelled;
    }
    if (*result < 0 || op->kind == IO_FILE_FLUSH ||
        op->kind == IO_FILE_DISCARD) {
        return false;
    }
    CHECK((uint32_t)*result <= op->size_bytes - op->done_bytes);
    if (*result == 0) {
        *result = -EIO; /* The file has shrunk under us. */
        return false;
    }
    done_bytes = op->done_bytes + (uint32_t)*result;
    if (done_bytes == op->size_bytes) {
        *result = 0;
        return false;
    }
    /* Direct I/O cannot continue in the middle of a sector. */
    done_bytes &= ~(op->file->info.alignment_bytes - 1);
    if (done_bytes == op->done_bytes) {
        *result = -EIO;
        return false;
    }
    op->done_bytes = done_bytes;
    *result = -ECANCELED;
    return !cancelled;
}

/* The system call that io_uring would make; what io_uring would answer. */
static int
uring_file_call(const struct uring_file *file, const struct io_file_op *op)
{
    uint8_t *data = (uint8_t *)op->data + op->done_bytes;
    uint32_t size = op->size_bytes - op->done_bytes;
    int64_t offset = (int64_t)(op->offset_bytes + op->done_bytes);
    ssize_t result = -1;

    switch (op->kind) {
    case IO_FILE_READ:
        result = pread(file->fd, data, size, offset);
        break;
    case IO_FILE_WRITE:
        result = pwrite(file->fd, data, size, offset);
        break;
    case IO_FILE_FLUSH:
        result = fdatasync(file->fd);
        break;
    case IO_FILE_DISCARD:
        result =
            fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (int64_t)op->offset_bytes, (int64_t)op->discard_bytes);
        break;
    }
    return result < 0 ? -errno : (int)result;
}

void
uring_file_run_inlined(struct reactor *reactor)
{
    struct list *node;

    while ((node = list_pop_front(&reactor->inlined)) != NULL) {
        struct io_op *op = container_of(node, struct io_op, node);
        struct io_file_op *file_op = container_of(op, struct io_file_op, op);
        struct uring_file *file =
            container_of(file_op->file, struct uring_file, file);
        int result;

        do {
            result = uring_file_call(file, file_op);
        } while (uring_file_op_continues(file_op, &result));
        file->pending--;
        uring_settle(reactor, op, URING_OP_SETTLED, result);
    }
}

void
uring_file_start(struct io *io, struct io_file_op *op)
{
    struct reactor *reactor = uring_reactor(io);
    struct uring_file *file = container_of(op->file, struct uring_file, file);

    file->pending++;
    op->done_bytes = 0;
    if (!uring_file_op_fits(op)) {
        file->pending--;
        uring_settle(reactor, &op->op, URING_OP_SETTLED, -EINVAL);
        return;
    }
    if (file->in_memory) {
        op->op.state = URING_OP_BACKLOG;
        list_push_back(&reactor->inlined, &op->op.node);
        return;
    }
    if (reactor->file_ops < reactor->options.file_ops_max &&
        list_is_empty(&reactor->backlog)) {
        uring_file_submit(reactor, op);
        return;
    }
    op->op.state = URING_OP_BACKLOG;
    list_push_back(&reactor->backlog, &op->op.node);
}

void
uring_file_run_backlog(struct reactor *reactor)
{
    while (reactor->file_ops < reactor->options.file_ops_max) {
        struct list *node = list_pop_front(&reactor->backlog);
        struct io_op *op;

        if (node == NULL) {
            return;
        }
        op = container_of(node, struct io_op, node);
        uring_file_submit(reactor, container_of(op, struct io_file_op, op));
    }
}

void
uring_file_cancel(struct reactor *reactor, struct io_file_op *op)
{
    struct uring_file *file = container_of(op->file, struct uring_file, file);

    if (op->op.state == URING_OP_BACKLOG) {
        list_remove(&op->op.node);
        file->pending--;
        uring_settle(reactor, &op->op, URING_OP_SETTLED, -ECANCELED);
        return;
    }
    CHECK(op->op.state == URING_OP_FLYING);
    op->op.state = URING_OP_CANCELLING;
    uring_cancel(reactor, uring_data(URING_TAG_FILE, op));
}

void
uring_file_complete(struct reactor *reactor, struct io_file_op *op, int result)
{
    struct uring_file *file = container_of(op->file, struct uring_file, file);

    CHECK(op->op.state == URING_OP_FLYING ||
          op->op.state == URING_OP_CANCELLING);
    CHECK(file->pending > 0);
    reactor->file_ops--;
    if (uring_file_op_continues(op, &result)) {
        op->op.state = URING_OP_BACKLOG;
        list_push_back(&reactor->backlog, &op->op.node);
        return;
    }
    file->pending--;
    op->op.state = URING_OP_IDLE;
    op->op.done(&op->op, result);
}
