/* SPDX-License-Identifier: Apache-2.0 */

/* Checkpoint (S8): page images, then the journal's tail.
 *
 *   IDLE -> BEGIN  superblock: "begun", so that recovery knows why a copy of a
 *                  page may be torn
 *        -> FLUSH  F moves; the cut is F
 *        -> PAGES  every dirty page goes to its older copy; hot marks that stay
 *                  are logged again, beyond the cut
 *        -> SYNC   both durable
 *        -> TAIL   superblock: tail = cut + 1
 *        -> IDLE
 *
 * Pages in memory hold the state at F at all times, and F >= cut, so an image
 * taken at any moment of PAGES has all records up to the cut, and none that a
 * crash could undo.  What the image has beyond the cut is replayed over it
 * without harm: records are absolute.
 *
 * Pace (P2): it begins when the journal is at 5/8 of what requests may use; the
 * fuller, the more page writes in flight. */

#include <stdlib.h>
#include <string.h>

#include <errno.h>

#include "blockd/store/internal.h"
#include "lib/base/crc32c.h"

static void
checkpoint_flushed(struct flush_wait *wait)
{
    struct checkpoint *checkpoint =
        container_of(wait, struct checkpoint, flush);
    struct store *store = container_of(checkpoint, struct store, checkpoint);

    checkpoint->waiting = false;
    store_kick(store);
}

static void
checkpoint_super_done(struct super_write *write)
{
    struct checkpoint *checkpoint =
        container_of(write, struct checkpoint, super);
    struct store *store = container_of(checkpoint, struct store, checkpoint);

    checkpoint->waiting = false;
    store_kick(store);
}

static void
checkpoint_super_ignored(struct super_write *write)
{
    (void)write;
}

int
checkpoint_init(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;

    memset(checkpoint, 0, sizeof(*checkpoint));
    list_init(&checkpoint->flush.node);
    list_init(&checkpoint->super.node);
    list_init(&checkpoint->super_early.node);
    checkpoint->flush.done = checkpoint_flushed;
    checkpoint->super.done = checkpoint_super_done;
    checkpoint->super_early.done = checkpoint_super_ignored;
    checkpoint->buffers =
        aligned_alloc(WEFT_BLOCK_SIZE,
                      (size_t)STORE_CHECKPOINT_DEPTH * WEFT_BLOCK_SIZE);
    if (checkpoint->buffers == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < STORE_CHECKPOINT_DEPTH; i++) {
        checkpoint->ops[i].store = store;
        checkpoint->ops[i].buffer =
            checkpoint->buffers + (size_t)i * WEFT_BLOCK_SIZE;
    }
    return 0;
}

void
checkpoint_done(struct store *store)
{
    free(store->checkpoint.buffers);
    memset(&store->checkpoint, 0, sizeof(store->checkpoint));
}

/* ---- Pages ---- */

static void
page_op_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct checkpoint_op *page =
        container_of(file_op, struct checkpoint_op, op);
    struct store *store = page->store;
    const struct disk_page *image = (const void *)page->buffer;

    page->busy = false;
    store->checkpoint.in_flight--;
    store->table.copy[le64_get(image->number)] ^= 1;
    store_io_done(store);
    if (result != 0) {
        store_fail(store, result);
    }
}

/* Planted: what is in memory beyond F goes into the image. */
static void
page_run_ahead(struct store *store, uint32_t number, struct disk_page *image)
{
    const struct geometry *geometry = &store->geometry;
    uint32_t base = geometry->replica_pages + geometry->region_pages;

    for (uint32_t i = 0; number >= base && i < geometry->entries_per_page;
         i++) {
        uint32_t slot = (number - base) * geometry->entries_per_page + i;

        if (slot < geometry->slots_total) {
            memcpy(&image->entries[(size_t)i * geometry->entry_bytes],
                   table_entry(store, slot), geometry->entry_bytes);
        }
    }
}

static uint32_t
page_crc(const struct disk_page *page)
{
    static const uint8_t zeros[4];
    const uint8_t *bytes = (const uint8_t *)page;
    uint32_t crc = crc32c(0, bytes, offsetof(struct disk_page, crc));

    crc = crc32c(crc, zeros, sizeof(zeros));
    return crc32c(crc, bytes + offsetof(struct disk_page, generation),
                  sizeof(*page) - offsetof(struct disk_page, generation));
}

void
page_encode(const struct store *store, uint32_t number, uint64_t generation,
            struct disk_page *image)
{
    image->magic = le32_make(DISK_PAGE_MAGIC);
    image->generation = le64_make(generation);
    image->number = le64_make(number);
    image->format_nonce = le64_make(store->identity.format_nonce);
    image->kind =
        le32_make((uint32_t)geometry_page_kind(&store->geometry, number));
    image->crc = le32_make(page_crc(image));
}

bool
page_is_sound(const struct store *store, uint32_t number,
              const struct disk_page *image)
{
    return le32_get(image->magic) == DISK_PAGE_MAGIC &&
           le64_get(image->number) == number &&
           le64_get(image->format_nonce) == store->identity.format_nonce &&
           le32_get(image->kind) ==
               (uint32_t)geometry_page_kind(&store->geometry, number) &&
           le32_get(image->crc) == page_crc(image);
}

static void
page_write(struct store *store, struct checkpoint_op *page, uint32_t number)
{
    struct table *table = &store->table;
    struct disk_page *image = (struct disk_page *)(void *)page->buffer;
    uint64_t bit = UINT64_C(1) << (number % 64);

    *image = table->pages[number];
    if (planted(store, PLANTED_PAGES_AHEAD)) {
        page_run_ahead(store, number, image);
    }
    page_encode(store, number, store->checkpoint.number, image);
    table->dirty[number / 64] &= ~bit;
    table->dirty_count--;
    page->busy = true;
    page->op = (struct io_file_op){
        .op = { .done = page_op_done },
        .file = store->file,
        .kind = IO_FILE_WRITE,
        .size_bytes = WEFT_BLOCK_SIZE,
        .offset_bytes = geometry_page_block(&store->geometry, number,
                                            table->copy[number] ^ 1u) *
                        WEFT_BLOCK_SIZE,
        .data = image,
    };
    store->checkpoint.in_flight++;
    store->stats.device_write_bytes += WEFT_BLOCK_SIZE;
    store_io_start(store, &page->op);
}

static uint32_t
checkpoint_depth(const struct store *store)
{
    const struct checkpoint *checkpoint = &store->checkpoint;
    uint64_t used = journal_used(store);
    uint64_t limit = store->geometry.journal_limit;

    if (checkpoint->wanted || checkpoint->first || checkpoint->closing ||
        used > limit / 8 * 7) {
        return STORE_CHECKPOINT_DEPTH;
    }
    return used > limit / 4 * 3 ? 8 : 2;
}

/* The next dirty page at or after the cursor. */
static bool
page_next(const struct store *store, uint32_t *cursor)
{
    const struct table *table = &store->table;

    while (*cursor < store->geometry.pages) {
        uint64_t word = table->dirty[*cursor / 64] >> (*cursor % 64);

        if (word != 0) {
            *cursor += (uint32_t)__builtin_ctzll(word);
            return *cursor < store->geometry.pages;
        }
        *cursor = (*cursor / 64 + 1) * 64;
    }
    return false;
}

static void
checkpoint_pages(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;
    uint32_t depth = checkpoint_depth(store);

    for (uint32_t i = 0; i < depth; i++) {
        struct checkpoint_op *page = &checkpoint->ops[i];

        if (page->busy) {
            continue;
        }
        if (!page_next(store, &checkpoint->page_cursor)) {
            break;
        }
        page_write(store, page, checkpoint->page_cursor);
        checkpoint->page_cursor++;
    }
}

static void
checkpoint_relog(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;

    if (checkpoint->hot_logged) {
        return;
    }
    if (!hot_relog(store, checkpoint->cut, &checkpoint->hot_cursor)) {
        journal_drive_space(store);
        return;
    }
    checkpoint->hot_logged = true;
    checkpoint->relog_position = store->journal.head;
    if (journal_at(store, store->journal.head)->bytes == 0) {
        checkpoint->relog_position--;
    }
    journal_urge(store);
}

/* ---- Steps ---- */

static void
checkpoint_start_super(struct store *store, enum checkpoint_step step)
{
    store->checkpoint.step = step;
    store->checkpoint.waiting = true;
    super_write_start(store, &store->checkpoint.super);
}

static void
checkpoint_start_flush(struct store *store, enum checkpoint_step step)
{
    store->checkpoint.step = step;
    store->checkpoint.waiting = true;
    flush_want(store, &store->checkpoint.flush);
}

static void
checkpoint_begin(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;

    if (!checkpoint->wanted && !checkpoint->first &&
        journal_used(store) <= store->geometry.journal_limit / 8 * 5) {
        return;
    }
    store->super.checkpoint_begun++;
    checkpoint->number = store->super.checkpoint_begun;
    checkpoint_start_super(store, CHECKPOINT_BEGIN);
}

static void
checkpoint_cut(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;

    checkpoint->cut = store->journal.flushed;
    checkpoint->page_cursor = 0;
    checkpoint->hot_cursor = 0;
    checkpoint->hot_logged = false;
    checkpoint->step = CHECKPOINT_PAGES;
    if (planted(store, PLANTED_TAIL_FIRST) && !checkpoint->first) {
        store->super.tail = checkpoint->cut + 1;
        store->super.checkpoint = checkpoint->number;
        if (!list_is_linked(&checkpoint->super_early.node)) {
            super_write_start(store, &checkpoint->super_early);
        }
    }
}

static void
checkpoint_tail(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;
    struct super_state *super = &store->super;

    super->tail = checkpoint->cut + 1;
    super->era = store->journal.era;
    super->checkpoint = checkpoint->number;
    super->flags = store->is_volatile ? DISK_SUPER_VOLATILE : 0;
    if (checkpoint->first) {
        super->boot_id = store->options.boot_id;
        super->incarnation = store->next_incarnation;
    }
    if (checkpoint->closing) {
        CHECK(store->table.dirty_count == 0);
        super->flags |= DISK_SUPER_CLEAN;
    }
    checkpoint_start_super(store, CHECKPOINT_TAIL);
}

static void
checkpoint_end(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;
    bool first = checkpoint->first;

    checkpoint->step = CHECKPOINT_IDLE;
    checkpoint->wanted = false;
    checkpoint->first = false;
    checkpoint->count++;
    store->stats.checkpoints++;
    store->journal.tail = checkpoint->cut + 1;
    store->hot.previous_cut = checkpoint->cut;
    store->progress = true;
    store_kick(store);
    if (first) {
        recover_finish(store, 0, NULL);
    }
}

void
checkpoint_advance(struct store *store)
{
    struct checkpoint *checkpoint = &store->checkpoint;

    if (checkpoint->waiting || store_is_failing(store)) {
        return;
    }
    switch (checkpoint->step) {
    case CHECKPOINT_IDLE:
        checkpoint_begin(store);
        break;
    case CHECKPOINT_BEGIN:
        checkpoint_start_flush(store, CHECKPOINT_FLUSH);
        break;
    case CHECKPOINT_FLUSH:
        checkpoint_cut(store);
        store_kick(store);
        break;
    case CHECKPOINT_PAGES:
        checkpoint_relog(store);
        checkpoint_pages(store);
        if (checkpoint->hot_logged && checkpoint->in_flight == 0 &&
            !page_next(store, &checkpoint->page_cursor) &&
            store->journal.written >= checkpoint->relog_position) {
            checkpoint_start_flush(store, CHECKPOINT_SYNC);
        }
        break;
    case CHECKPOINT_SYNC:
        checkpoint_tail(store);
        break;
    case CHECKPOINT_TAIL:
        checkpoint_end(store);
        break;
    }
}
