/* SPDX-License-Identifier: Apache-2.0 */

/* store_format: an empty store on an empty disk.
 *
 * Everything that is not data is written, so that a thin file cannot run out of
 * space for it later: the journal as zeros, both copies of every page, and the
 * superblocks last, after a flush. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/internal.h"

#define FORMAT_CHUNK_BLOCKS 256u

enum format_step {
    FORMAT_REFUSE,
    FORMAT_LOOK,
    FORMAT_JOURNAL,
    FORMAT_PAGES,
    FORMAT_SYNC,
    FORMAT_SUPER,
    FORMAT_END,
};

struct format {
    struct store_format *op;
    struct io_file_op io_op;
    struct io_task task;
    enum format_step step;
    int result;
    uint8_t *buffer;
    uint64_t next; /* Block of the journal; page of both copies. */
    /* What page_encode() wants. */
    struct store store;
};

static void
format_end(struct format *format, int result)
{
    struct store_format *op = format->op;

    if (result == -EIO) {
        err_set(&op->err, "the disk does not take what is written");
    } else if (result == -ENOSPC && op->err.text[0] == '\0') {
        err_set(&op->err, "no space in the file system of the disk's file");
    }
    free(format->buffer);
    free(format);
    op->impl = NULL;
    op->done(op, result);
}

static void
format_io(struct format *format, enum io_file_kind kind, uint64_t block,
          uint32_t count)
{
    format->io_op.file = format->op->file;
    format->io_op.kind = kind;
    format->io_op.offset_bytes = block * WEFT_BLOCK_SIZE;
    format->io_op.size_bytes = count * WEFT_BLOCK_SIZE;
    format->io_op.data = format->buffer;
    io_file_start(format->op->io, &format->io_op);
}

static void
format_journal(struct format *format)
{
    const struct geometry *geometry = &format->store.geometry;
    uint64_t left = geometry->journal_blocks - format->next;
    uint32_t count =
        left < FORMAT_CHUNK_BLOCKS ? (uint32_t)left : FORMAT_CHUNK_BLOCKS;
    uint64_t block = geometry->journal_first + format->next;

    memset(format->buffer, 0, (size_t)count * WEFT_BLOCK_SIZE);
    format->next += count;
    format_io(format, IO_FILE_WRITE, block, count);
}

static void
format_pages(struct format *format)
{
    const struct geometry *geometry = &format->store.geometry;
    uint64_t left = (uint64_t)2 * geometry->pages - format->next;
    uint32_t count =
        left < FORMAT_CHUNK_BLOCKS ? (uint32_t)left : FORMAT_CHUNK_BLOCKS;
    uint64_t block = geometry->table_first + format->next;

    memset(format->buffer, 0, (size_t)count * WEFT_BLOCK_SIZE);
    for (uint32_t i = 0; i < count; i++) {
        page_encode(&format->store,
                    (uint32_t)((format->next + i) % geometry->pages), 0,
                    (struct disk_page *)(void *)(format->buffer +
                                                 (size_t)i * WEFT_BLOCK_SIZE));
    }
    format->next += count;
    format_io(format, IO_FILE_WRITE, block, count);
}

/* Generation 1 in B, 2 in A: both are there from the start. */
static void
format_super(struct format *format)
{
    struct io *io = format->op->io;
    struct super_state state = {
        .generation = 2,
        .flags = DISK_SUPER_CLEAN,
        .incarnation = 1,
        .era = io_random_u64(io),
        .tail = 1,
    };
    struct disk_super *blocks = (struct disk_super *)(void *)format->buffer;

    super_encode(&format->store.geometry, &format->store.identity, &state,
                 &blocks[0]);
    state.generation = 1;
    super_encode(&format->store.geometry, &format->store.identity, &state,
                 &blocks[1]);
    format_io(format, IO_FILE_WRITE, 0, 2);
}

static bool
format_is_empty(const struct format *format)
{
    for (size_t i = 0; i < format->io_op.size_bytes; i++) {
        if (format->buffer[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool
format_may_overwrite(struct format *format)
{
    const struct disk_super *super = (const void *)format->buffer;

    if (format->op->options.force || format_is_empty(format)) {
        return true;
    }
    err_set(&format->op->err,
            le64_get(super->magic) == DISK_SUPER_MAGIC
                ? "the disk holds a Weft store already; --force overwrites it"
                : "the disk is not empty; --force overwrites it");
    return false;
}

static void
format_advance(struct format *format, int result)
{
    const struct geometry *geometry = &format->store.geometry;

    if (result != 0) {
        format_end(format, result);
        return;
    }
    switch (format->step) {
    case FORMAT_REFUSE:
        CHECK(false);
        break;
    case FORMAT_LOOK:
        if (!format_may_overwrite(format)) {
            format_end(format, -EEXIST);
            return;
        }
        format->step = FORMAT_JOURNAL;
        format->next = 0;
        format_journal(format);
        break;
    case FORMAT_JOURNAL:
        if (format->next < geometry->journal_blocks) {
            format_journal(format);
            return;
        }
        format->step = FORMAT_PAGES;
        format->next = 0;
        format_pages(format);
        break;
    case FORMAT_PAGES:
        if (format->next < (uint64_t)2 * geometry->pages) {
            format_pages(format);
            return;
        }
        format->step = FORMAT_SYNC;
        format_io(format, IO_FILE_FLUSH, 0, 0);
        break;
    case FORMAT_SYNC:
        format->step = FORMAT_SUPER;
        format_super(format);
        break;
    case FORMAT_SUPER:
        format->step = FORMAT_END;
        format_io(format, IO_FILE_FLUSH, 0, 0);
        break;
    case FORMAT_END:
        format_end(format, 0);
        break;
    }
}

static void
format_op_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);

    format_advance(container_of(file_op, struct format, io_op), result);
}

static void
format_task_run(struct io_task *task)
{
    struct format *format = container_of(task, struct format, task);

    if (format->result != 0) {
        format_end(format, format->result);
        return;
    }
    format->step = FORMAT_LOOK;
    format_io(format, IO_FILE_READ, 0, FORMAT_CHUNK_BLOCKS);
}

static int
format_prepare(struct format *format)
{
    struct store_format *op = format->op;
    struct io_file_info info;
    int result;

    io_file_info_get(op->file, &info);
    result = geometry_plan(info.size_bytes, op->options.slot_bytes,
                           op->options.journal_bytes, &format->store.geometry,
                           &op->err);
    if (result != 0) {
        return result;
    }
    if (uuid_is_nil(&op->options.disk)) {
        err_set(&op->err, "the disk's UUID is nil");
        return -EINVAL;
    }
    format->store.identity = (struct super_identity){
        .disk = op->options.disk,
        .cluster = op->options.cluster,
        .format_nonce = io_random_u64(op->io),
    };
    return 0;
}

void
store_format_start(struct store_format *op)
{
    struct format *format = calloc(1, sizeof(*format));

    CHECK(format != NULL);
    err_clear(&op->err);
    format->op = op;
    format->io_op.op.done = format_op_done;
    format->buffer =
        aligned_alloc(WEFT_BLOCK_SIZE,
                      (size_t)FORMAT_CHUNK_BLOCKS * WEFT_BLOCK_SIZE);
    CHECK(format->buffer != NULL);
    op->impl = format;
    format->result = format_prepare(format);
    io_task_init(&format->task, format_task_run);
    io_task_defer(op->io, &format->task);
}
