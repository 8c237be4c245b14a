/* SPDX-License-Identifier: Apache-2.0 */

/* Superblocks: two, the one with the higher generation counts.
 *
 * A change is made in memory (store->super) and then written to the place of
 * the older one, followed by a device flush; who asked meanwhile shares the
 * next write.  A crash in between leaves the one before.  A write that failed
 * leaves its place in doubt: the next one goes there again, never over the one
 * that is known to be durable.
 *
 * The mark: a store that fails makes a new incarnation durable before anybody
 * learns of the failure (S6).  Else the process could end in between, and the
 * next open of the same boot would know nothing of it. */

#include <errno.h>
#include <string.h>

#include "blockd/store/internal.h"
#include "lib/base/crc32c.h"

static uint32_t
super_crc(const struct disk_super *block)
{
    static const uint8_t zeros[4];
    const uint8_t *bytes = (const uint8_t *)block;
    uint32_t crc = crc32c(0, bytes, offsetof(struct disk_super, crc));

    crc = crc32c(crc, zeros, sizeof(zeros));
    return crc32c(crc, bytes + offsetof(struct disk_super, crc) + 4,
                  sizeof(*block) - offsetof(struct disk_super, crc) - 4);
}

void
super_encode(const struct geometry *geometry,
             const struct super_identity *identity,
             const struct super_state *state, struct disk_super *ret)
{
    *ret = (struct disk_super){
        .magic = le64_make(DISK_SUPER_MAGIC),
        .version = le32_make(DISK_VERSION),
        .generation = le64_make(state->generation),
        .disk = identity->disk,
        .cluster = identity->cluster,
        .format_nonce = le64_make(identity->format_nonce),
        .size_bytes = le64_make(geometry->size_blocks * WEFT_BLOCK_SIZE),
        .slot_blocks = le32_make(geometry->slot_blocks),
        .flags = le32_make(state->flags),
        .journal_blocks = le64_make(geometry->journal_blocks),
        .journal_window = le32_make(geometry->window),
        .replica_pages = le32_make(geometry->replica_pages),
        .region_pages = le32_make(geometry->region_pages),
        .slots_total = le32_make(geometry->slots_total),
        .incarnation = le64_make(state->incarnation),
        .boot_id = state->boot_id,
        .claim_current = state->claim_current,
        .claim_previous = state->claim_previous,
        .claim_next = state->claim_next,
        .journal_era = le64_make(state->era),
        .journal_tail = le64_make(state->tail),
        .checkpoint = le64_make(state->checkpoint),
        .checkpoint_begun = le64_make(state->checkpoint_begun),
    };
    ret->crc = le32_make(super_crc(ret));
}

int
super_decode(const struct disk_super *block, struct geometry *ret_geometry,
             struct super_identity *ret_identity, struct super_state *ret_state)
{
    struct geometry geometry = {
        .size_blocks = le64_get(block->size_bytes) / WEFT_BLOCK_SIZE,
        .slot_blocks = le32_get(block->slot_blocks),
        .journal_blocks = le64_get(block->journal_blocks),
        .window = le32_get(block->journal_window),
        .replica_pages = le32_get(block->replica_pages),
        .region_pages = le32_get(block->region_pages),
        .slots_total = le32_get(block->slots_total),
    };

    if (le64_get(block->magic) != DISK_SUPER_MAGIC) {
        return -EMEDIUMTYPE;
    }
    if (le32_get(block->version) != DISK_VERSION) {
        return -EPROTO;
    }
    if (le32_get(block->crc) != super_crc(block) ||
        !geometry_derive(&geometry) || le64_get(block->generation) == 0 ||
        le64_get(block->journal_tail) == 0 ||
        le64_get(block->journal_tail) > UINT64_MAX / 2 ||
        le64_get(block->checkpoint_begun) < le64_get(block->checkpoint)) {
        return -EUCLEAN;
    }
    *ret_geometry = geometry;
    *ret_identity = (struct super_identity){
        .disk = block->disk,
        .cluster = block->cluster,
        .format_nonce = le64_get(block->format_nonce),
    };
    *ret_state = (struct super_state){
        .generation = le64_get(block->generation),
        .flags = le32_get(block->flags),
        .incarnation = le64_get(block->incarnation),
        .boot_id = block->boot_id,
        .claim_current = block->claim_current,
        .claim_previous = block->claim_previous,
        .claim_next = block->claim_next,
        .era = le64_get(block->journal_era),
        .tail = le64_get(block->journal_tail),
        .checkpoint = le64_get(block->checkpoint),
        .checkpoint_begun = le64_get(block->checkpoint_begun),
    };
    return 0;
}

/* Writes the present state to the place of the older one. */
static void
super_start(struct store *store, io_op_done_fn *done)
{
    struct super_writer *writer = &store->super_writer;

    store->super.generation++;
    if (store->super.generation % 2 == writer->durable % 2) {
        store->super.generation++;
    }
    super_encode(&store->geometry, &store->identity, &store->super,
                 (struct disk_super *)(void *)writer->buffer);
    writer->op = (struct io_file_op){
        .op = { .done = done },
        .file = store->file,
        .kind = IO_FILE_WRITE,
        .size_bytes = WEFT_BLOCK_SIZE,
        .offset_bytes = store->super.generation % 2 * WEFT_BLOCK_SIZE,
        .data = writer->buffer,
    };
    writer->busy = true;
    store->stats.device_write_bytes += WEFT_BLOCK_SIZE;
    store_io_start(store, &writer->op);
}

/* After the write, its flush; true: it has been started. */
static bool
super_flush(struct store *store)
{
    struct io_file_op *op = &store->super_writer.op;

    if (op->kind != IO_FILE_WRITE || !store->is_volatile) {
        return false;
    }
    op->kind = IO_FILE_FLUSH;
    op->size_bytes = 0;
    op->offset_bytes = 0;
    store->stats.device_flushes++;
    store_io_start(store, op);
    return true;
}

static void
super_durable(struct super_writer *writer)
{
    writer->busy = false;
    writer->durable = le64_get(
        ((const struct disk_super *)(const void *)writer->buffer)->generation);
}

static void super_next(struct store *store);

static void
super_op_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct super_writer *writer =
        container_of(file_op, struct super_writer, op);
    struct store *store = container_of(writer, struct store, super_writer);

    store_io_done(store);
    if (result != 0) {
        writer->busy = false;
        store_fail(store, result);
        return;
    }
    if (super_flush(store)) {
        return;
    }
    super_durable(writer);
    while (!list_is_empty(&writer->current)) {
        struct super_write *write =
            container_of(list_take(&writer->current), struct super_write, node);
        write->done(write);
    }
    super_next(store);
}

static void
super_next(struct store *store)
{
    struct super_writer *writer = &store->super_writer;

    if (writer->busy || list_is_empty(&writer->waiting) ||
        store_is_failing(store)) {
        return;
    }
    list_splice_back(&writer->current, &writer->waiting);
    super_start(store, super_op_done);
}

void
super_write_start(struct store *store, struct super_write *write)
{
    list_push_back(&store->super_writer.waiting, &write->node);
    super_next(store);
}

void
super_forget(struct store *store)
{
    CHECK(!store->super_writer.busy);
    while (list_pop_front(&store->super_writer.waiting) != NULL) {
    }
    while (list_pop_front(&store->super_writer.current) != NULL) {
    }
}

/* ---- The mark ---- */

#define MARK_TRIES 3u

static void
mark_op_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct super_writer *writer =
        container_of(file_op, struct super_writer, op);
    struct store *store = container_of(writer, struct store, super_writer);

    store_io_done(store);
    if (result == 0 && super_flush(store)) {
        return;
    }
    if (result == 0) {
        super_durable(writer);
        writer->mark = MARK_DURABLE;
        return;
    }
    writer->busy = false;
    writer->mark =
        ++writer->mark_tries < MARK_TRIES ? MARK_WANTED : MARK_GIVEN_UP;
}

void
super_mark_want(struct store *store)
{
    struct super_state *super = &store->super;

    store->super_writer.mark_tries = 0;
    if (planted(store, PLANTED_INCARNATION_KEPT) ||
        planted(store, PLANTED_MARK_LATE)) {
        store->super_writer.mark = MARK_GIVEN_UP;
        return;
    }
    store->super_writer.mark = MARK_WANTED;
    if (super->incarnation < store->next_incarnation) {
        super->incarnation = store->next_incarnation;
    }
    super->incarnation++;
    super->flags &= ~DISK_SUPER_CLEAN;
}

bool
super_mark_step(struct store *store)
{
    struct super_writer *writer = &store->super_writer;

    switch (writer->mark) {
    case MARK_WANTED:
        if (!writer->busy) {
            writer->mark = MARK_WRITING;
            super_start(store, mark_op_done);
        }
        return false;
    case MARK_WRITING:
        return false;
    case MARK_NONE:
    case MARK_DURABLE:
    case MARK_GIVEN_UP:
        break;
    }
    return true;
}
