/* SPDX-License-Identifier: Apache-2.0 */

/* The journal: group commit, and the marks that order everything.
 *
 * Records are appended to the open block, which takes them until it is full or
 * until its turn comes: with no journal write in flight it goes out at the end
 * of the same turn of the loop (depth 1 pays no delay); otherwise it collects
 * while the one before is on its way.  Only blocks that are half full or more
 * overtake that rule.
 *
 *      OPEN --full, or its turn--> SEALED --start--> WRITING --done--> WRITTEN
 *
 * A block is written once per lap and never appended to (S9).  The header's F
 * is that of the moment of the write (S8).
 *
 * Blocks stay in memory from OPEN until F has passed them: their records are
 * then applied to the table's pages (internal.h, invariants 1 and 3). */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/internal.h"
#include "lib/base/crc32c.h"

/* No record but HOT is larger; a block is at least this full when sealed. */
#define JOURNAL_FILL_MIN (DISK_RECORDS_BYTES - 1044u)
/* With so much, a block may go out beside another. */
#define JOURNAL_HALF (DISK_RECORDS_BYTES / 2)

int
journal_init(struct store *store)
{
    struct journal *journal = &store->journal;
    void *images;

    journal->blocks_count = store->geometry.window + 2;
    journal->blocks = calloc(journal->blocks_count, sizeof(*journal->blocks));
    images = aligned_alloc(WEFT_BLOCK_SIZE,
                           (size_t)journal->blocks_count * WEFT_BLOCK_SIZE);
    journal->images = images;
    if (journal->blocks == NULL || images == NULL) {
        return -ENOMEM;
    }
    memset(images, 0, (size_t)journal->blocks_count * WEFT_BLOCK_SIZE);
    for (uint32_t i = 0; i < journal->blocks_count; i++) {
        struct journal_block *block = &journal->blocks[i];

        block->store = store;
        block->image = (struct disk_journal *)images + i;
    }
    return 0;
}

void
journal_done(struct store *store)
{
    free(store->journal.blocks);
    free(store->journal.images);
    store->journal = (struct journal){ 0 };
}

struct journal_block *
journal_at(struct store *store, uint64_t position)
{
    struct journal *journal = &store->journal;

    return &journal->blocks[position % journal->blocks_count];
}

static void
journal_open(struct store *store, uint64_t position)
{
    struct journal_block *block = journal_at(store, position);

    CHECK(position - store->journal.flushed <= store->journal.blocks_count);
    block->position = position;
    block->flushed = 0;
    block->bytes = 0;
    block->pending = 0;
    block->state = JOURNAL_OPEN;
    memset(block->image, 0, sizeof(*block->image));
}

void
journal_reset(struct store *store, uint64_t head, uint64_t era)
{
    struct journal *journal = &store->journal;

    CHECK(journal->in_flight == 0);
    journal->tail = head;
    journal->head = head;
    journal->next_write = head;
    journal->written = head - 1;
    journal->done = head - 1;
    journal->durable = head - 1;
    journal->flushed = head - 1;
    journal->flushed_known = head - 1;
    journal->known_target = 0;
    journal->urgent = false;
    journal->era = era;
    journal_open(store, head);
}

uint64_t
journal_used(const struct store *store)
{
    return store->journal.head - store->journal.tail;
}

bool
journal_has_room(const struct store *store, uint32_t bytes,
                 enum journal_reserve reserve)
{
    const struct journal *journal = &store->journal;
    const struct geometry *geometry = &store->geometry;
    uint64_t head = journal->head + bytes / JOURNAL_FILL_MIN + 1;
    uint64_t window = geometry->window;
    uint64_t limit = geometry->journal_limit;

    if (reserve == JOURNAL_NORMAL) {
        window -= window / 8 + 1;
    } else {
        limit += 2 * (uint64_t)geometry->relog_blocks;
    }
    return head - journal->flushed <= window && head - journal->tail <= limit;
}

void
journal_drive_space(struct store *store)
{
    struct journal *journal = &store->journal;

    journal_urge(store);
    if (store->is_volatile && journal->done > journal->flushed) {
        flush_want_position(store, journal->done);
    }
    if (journal_used(store) > store->geometry.journal_limit / 2) {
        store->checkpoint.wanted = true;
    }
}

void
journal_urge(struct store *store)
{
    /* Once is enough: whatever ends brings store_run() anyway. */
    if (!store->journal.urgent) {
        store->journal.urgent = true;
        store_kick(store);
    }
}

static void
journal_seal(struct store *store)
{
    struct journal *journal = &store->journal;
    struct journal_block *block = journal_at(store, journal->head);

    CHECK(block->state == JOURNAL_OPEN);
    CHECK(block->bytes != 0);
    block->state = JOURNAL_SEALED;
    journal->head++;
    journal->urgent = false;
    journal_open(store, journal->head);
}

void *
journal_append(struct store *store, uint32_t bytes)
{
    struct journal *journal = &store->journal;
    struct journal_block *block = journal_at(store, journal->head);
    void *record;

    CHECK(bytes <= DISK_RECORDS_BYTES);
    CHECK(bytes % 4 == 0);
    if (block->bytes + bytes > DISK_RECORDS_BYTES) {
        journal_seal(store);
        block = journal_at(store, journal->head);
    }
    record = &block->image->records[block->bytes];
    block->bytes += bytes;
    store->stats.journal_records++;
    return record;
}

uint32_t
journal_crc(const struct disk_journal *block)
{
    static const uint8_t zeros[4];
    const uint8_t *bytes = (const uint8_t *)block;
    uint32_t crc = crc32c(0, bytes, offsetof(struct disk_journal, crc));

    crc = crc32c(crc, zeros, sizeof(zeros));
    return crc32c(crc, bytes + offsetof(struct disk_journal, era),
                  sizeof(*block) - offsetof(struct disk_journal, era));
}

static void
journal_op_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct journal_block *block =
        container_of(file_op, struct journal_block, op);
    struct store *store = block->store;

    block->state = JOURNAL_WRITTEN;
    store->journal.in_flight--;
    store_io_done(store);
    if (result != 0) {
        store_fail(store, result);
    }
}

static void
journal_start(struct store *store, struct journal_block *block)
{
    struct journal *journal = &store->journal;
    struct disk_journal *image = block->image;
    uint64_t place = block->position % store->geometry.journal_blocks;

    CHECK(block->state == JOURNAL_SEALED);
    block->flushed = journal->flushed;
    image->magic = le32_make(DISK_JOURNAL_MAGIC);
    image->era = le64_make(journal->era);
    image->position = le64_make(block->position);
    image->flushed = le64_make(block->flushed);
    image->super_generation = le64_make(store->super_writer.durable);
    image->format_nonce = le64_make(store->identity.format_nonce);
    image->record_bytes = le32_make(block->bytes);
    image->crc = le32_make(journal_crc(image));
    block->state = JOURNAL_WRITING;
    block->op = (struct io_file_op){
        .op = { .done = journal_op_done },
        .file = store->file,
        .kind = IO_FILE_WRITE,
        .size_bytes = WEFT_BLOCK_SIZE,
        .offset_bytes =
            (store->geometry.journal_first + place) * WEFT_BLOCK_SIZE,
        .data = image,
    };
    journal->in_flight++;
    store->stats.journal_blocks++;
    store->stats.device_write_bytes += WEFT_BLOCK_SIZE;
    store_io_start(store, &block->op);
}

void
journal_submit(struct store *store)
{
    struct journal *journal = &store->journal;
    uint32_t bytes;

    if (store_is_failing(store)) {
        return;
    }
    bytes = journal_at(store, journal->head)->bytes;
    if (journal->urgent && bytes != 0 && journal->next_write == journal->head &&
        journal->in_flight < (bytes >= JOURNAL_HALF ? 2u : 1u)) {
        journal_seal(store);
    }
    while (journal->next_write < journal->head &&
           journal->in_flight < STORE_JOURNAL_DEPTH_FULL) {
        journal_start(store, journal_at(store, journal->next_write));
        journal->next_write++;
    }
    if (store->is_volatile && journal->done > journal->flushed &&
        journal->head - journal->flushed > store->geometry.window / 2) {
        flush_want_position(store, journal->done);
    }
}

void
journal_data_done(struct store *store, uint64_t position)
{
    struct journal_block *block = journal_at(store, position);

    CHECK(block->position == position);
    CHECK(block->pending != 0);
    block->pending--;
}

/* Without a volatile cache what is written is durable. */
static void
journal_settle_nonvolatile(struct store *store)
{
    struct journal *journal = &store->journal;
    uint64_t from = journal->flushed;

    for (uint64_t p = journal->durable + 1; p <= journal->written; p++) {
        if (journal_at(store, p)->flushed > journal->flushed_known) {
            journal->flushed_known = journal_at(store, p)->flushed;
        }
    }
    journal->durable = journal->written;
    if (journal->done > from) {
        journal->flushed = journal->done;
        table_advance(store, from, journal->done);
    }
}

bool
journal_settle(struct store *store)
{
    struct journal *journal = &store->journal;
    uint64_t known = journal->flushed_known;
    uint64_t written = journal->written;
    uint64_t done = journal->done;

    if (store_is_failing(store)) {
        return false;
    }
    while (journal->written + 1 < journal->next_write &&
           journal_at(store, journal->written + 1)->state == JOURNAL_WRITTEN) {
        journal->written++;
    }
    while (journal->done < journal->written &&
           journal_at(store, journal->done + 1)->pending == 0) {
        journal->done++;
    }
    if (!store->is_volatile) {
        journal_settle_nonvolatile(store);
    }
    if (journal->flushed_known > known) {
        table_forget(store);
    }
    return journal->written > written || journal->done > done;
}

/* F_known follows F: a block must carry F in its header, and be durable. */
void
journal_drive_known(struct store *store, uint64_t target)
{
    struct journal *journal = &store->journal;

    if (target > journal->known_target) {
        journal->known_target = target;
    }
    target = journal->known_target;
    if (journal->flushed_known >= target) {
        return;
    }
    if (journal->flushed < target) {
        journal_urge(store);
        if (store->is_volatile && journal->done > journal->flushed) {
            flush_want_position(store, journal->done);
        }
        return;
    }
    if (journal->next_write > journal->flushed + 1 &&
        journal_at(store, journal->next_write - 1)->flushed >= target) {
        if (store->is_volatile && journal->written > journal->durable) {
            flush_want_position(store, journal->written);
        }
        return;
    }
    if (journal_at(store, journal->head)->bytes == 0 &&
        journal_has_room(store, 4, JOURNAL_SPARE)) {
        record_nop_make(journal_append(store, sizeof(struct disk_record)));
    }
    journal_urge(store);
}
