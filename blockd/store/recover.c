/* SPDX-License-Identifier: Apache-2.0 */

/* Recovery (STORAGE (a)): from what is on the disk to a store that may serve.
 *
 *   SUPER_A, SUPER_B   the higher generation counts
 *   PROVE              only if one superblock is damaged: no journal block may
 *                      have been written under a newer one than the other
 *   TABLE_0, TABLE_1   both copies of the pages, chunk by chunk; the newer of
 *                      the sound ones
 *   SCAN               the journal from the tail: where does the contiguous
 *                      prefix end, what is valid within a window beyond it,
 *                      which F is the highest that a header states
 *   REPLAY             again: records up to the end of the prefix are applied
 *                      to the pages; for those beyond F, and those of the
 *                      window, the candidates are noted
 *   JUDGE              the blocks concerned are read (judge.c)
 *   CHECKPOINT         a fresh one, with a new era, beyond anything that the
 *                      old journal may have: flush, pages, hot marks, flush,
 *                      superblock
 *
 * Until that last superblock, nothing that an interrupted recovery has written
 * matters to the next: pages go to their older copies, with states that the
 * same journal leads to again, and the new era's blocks lie outside of the old
 * window.
 *
 * Everything read is checked: -EUCLEAN, with words, for what makes no sense. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/recover.h"

#define RECOVER_READ_TRIES 3u

static void recover_read_done(struct recover *recover);

void
recover_fail(struct recover *recover, int result, const char *text)
{
    recover_finish(recover->store, result, text);
}

/* ---- Reading, block by block where it must be ---- */

static void
recover_read_next(struct recover *recover)
{
    struct store *store = recover->store;
    uint32_t count = recover->read_single ? 1 : recover->read_count;

    recover->op.file = store->file;
    recover->op.kind = IO_FILE_READ;
    recover->op.size_bytes = count * WEFT_BLOCK_SIZE;
    recover->op.offset_bytes =
        (recover->read_block + recover->read_at) * WEFT_BLOCK_SIZE;
    recover->op.data =
        recover->read_buffer + (size_t)recover->read_at * WEFT_BLOCK_SIZE;
    store->io_pending++;
    io_file_start(store->io, &recover->op);
}

static void
recover_op_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct recover *recover = container_of(file_op, struct recover, op);
    uint32_t half = recover->read_buffer == recover->buffers ? 0 : 1;

    recover->store->io_pending--;
    if (recover->read_single) {
        if (result != 0 && ++recover->read_tries < RECOVER_READ_TRIES) {
            recover_read_next(recover);
            return;
        }
        recover->unreadable[half][recover->read_at] = result != 0;
        recover->read_at++;
        recover->read_tries = 0;
        if (recover->read_at < recover->read_count) {
            recover_read_next(recover);
            return;
        }
    } else if (result != 0) {
        recover->read_single = true;
        recover->read_tries = 0;
        recover_read_next(recover);
        return;
    }
    recover_read_done(recover);
}

/* Into half 0 or 1 of the buffers. */
void
recover_read(struct recover *recover, uint64_t block, uint32_t count,
             uint32_t half)
{
    recover->read_block = block;
    recover->read_count = count;
    recover->read_at = 0;
    recover->read_single = false;
    recover->read_buffer = recover->buffers + (size_t)half *
                                                  RECOVER_CHUNK_BLOCKS *
                                                  WEFT_BLOCK_SIZE;
    memset(recover->unreadable[half], 0, sizeof(recover->unreadable[half]));
    recover_read_next(recover);
}

uint8_t *
recover_block(const struct recover *recover, uint32_t half, uint32_t index)
{
    return recover->buffers +
           ((size_t)half * RECOVER_CHUNK_BLOCKS + index) * WEFT_BLOCK_SIZE;
}

/* ---- Superblocks ---- */

struct super_found {
    struct geometry geometry;
    struct super_identity identity;
    struct super_state state;
};

static void
super_explain(struct recover *recover, int a, int b)
{
    if (a == -EMEDIUMTYPE && b == -EMEDIUMTYPE) {
        recover_fail(recover, -EMEDIUMTYPE, "this is not a Weft disk");
    } else if (a == -EPROTO || b == -EPROTO) {
        recover_fail(recover, -EPROTO,
                     "the disk has a format version that this blockd does "
                     "not serve");
    } else if (a == -EIO || b == -EIO) {
        recover_fail(recover, -EIO, "the superblocks cannot be read");
    } else {
        recover_fail(recover, -EUCLEAN, "both superblocks are damaged");
    }
}

static void recover_prove_next(struct recover *recover);

/* Why the disk is not the one that was expected, or NULL. */
static const char *
super_objection(const struct store *store, const struct super_found *found)
{
    const struct store_open_options *options = &store->options;

    if (!uuid_is_nil(&options->cluster) &&
        !uuid_equal(&options->cluster, &found->identity.cluster)) {
        return "it belongs to another cluster; if its data is not needed, "
               "wipe its first MiB";
    }
    if (!uuid_is_nil(&options->disk) &&
        !uuid_equal(&options->disk, &found->identity.disk)) {
        return "it is another disk of this cluster; it was added before, or "
               "paths were swapped";
    }
    return NULL;
}

static int
super_decide(struct recover *recover, const struct super_found *found)
{
    struct store *store = recover->store;
    struct io_file_info info;
    bool clean = (found->state.flags & DISK_SUPER_CLEAN) != 0;
    bool may_lose =
        store->is_volatile || (found->state.flags & DISK_SUPER_VOLATILE) != 0;
    bool other_boot =
        !uuid_equal(&found->state.boot_id, &store->options.boot_id);

    const char *objection = super_objection(store, found);
    if (objection != NULL) {
        recover_fail(recover, -EPERM, objection);
        return -EPERM;
    }
    io_file_info_get(store->file, &info);
    if (info.size_bytes / WEFT_BLOCK_SIZE < found->geometry.size_blocks) {
        recover_fail(recover, -EUCLEAN,
                     "the disk is smaller than when it was formatted");
        return -EUCLEAN;
    }
    store->geometry = found->geometry;
    store->identity = found->identity;
    store->super = found->state;
    store->super_writer.durable = found->state.generation;
    store->next_incarnation = found->state.incarnation;
    if (recover->lost || (!clean && may_lose && other_boot)) {
        store->next_incarnation++;
    }
    if (planted(store, PLANTED_INCARNATION_KEPT)) {
        store->next_incarnation = found->state.incarnation;
    }
    return 0;
}

static void
super_choose(struct recover *recover)
{
    struct super_found found[2];
    const struct super_found *chosen = NULL;
    int result[2];

    for (uint32_t i = 0; i < 2; i++) {
        result[i] = recover->super_result[i];
        if (result[i] == 0) {
            result[i] = super_decode((const struct disk_super *)(const void *)
                                         recover_block(recover, i, 0),
                                     &found[i].geometry, &found[i].identity,
                                     &found[i].state);
        }
        if (result[i] == 0 &&
            (chosen == NULL ||
             found[i].state.generation > chosen->state.generation)) {
            chosen = &found[i];
        }
    }
    if (chosen == NULL) {
        super_explain(recover, result[0], result[1]);
        return;
    }
    if (super_decide(recover, chosen) != 0) {
        return;
    }
    store_runtime_done(recover->store);
    if (store_runtime_init(recover->store) != 0) {
        recover_fail(recover, -ENOMEM, "not enough memory for the table");
        return;
    }
    recover->page = 0;
    if (result[0] != 0 || result[1] != 0) {
        recover->scan = 0;
        recover_prove_next(recover);
        return;
    }
    recover_table_next(recover);
}

/* The other superblock may have been torn while it was written: then nothing
 * was ever written under it.  If something was, it was the newer one, and this
 * one knows nothing of what came after: refuse, rather than serve the past. */
static void
recover_prove_next(struct recover *recover)
{
    const struct geometry *geometry = &recover->store->geometry;
    uint64_t left = geometry->journal_blocks - recover->scan;

    if (left == 0) {
        recover_table_next(recover);
        return;
    }
    recover->step = RECOVER_PROVE;
    recover_read(recover, geometry->journal_first + recover->scan,
                 left < RECOVER_CHUNK_BLOCKS ? (uint32_t)left
                                             : RECOVER_CHUNK_BLOCKS,
                 0);
}

static int journal_is_valid(const struct store *store, uint64_t position,
                            const struct disk_journal *block);

/* One that cannot be read may be so another time: the caller may try again. */
static void
recover_lost_super(struct recover *recover)
{
    bool unread =
        recover->super_result[0] == -EIO || recover->super_result[1] == -EIO;

    recover_fail(recover, unread ? -EIO : -EUCLEAN,
                 unread ? "the newer superblock cannot be read"
                        : "the newer superblock is damaged");
}

static void
recover_prove_chunk(struct recover *recover)
{
    for (uint32_t i = 0; i < recover->read_count; i++) {
        const void *block = recover_block(recover, 0, i);

        if (recover->unreadable[0][i]) {
            recover_fail(recover, -EIO, "the journal cannot be read");
            return;
        }
        if (journal_is_valid(recover->store, 0, block) < 0) {
            recover_lost_super(recover);
            return;
        }
    }
    recover->scan += recover->read_count;
    recover_prove_next(recover);
}

/* ---- Journal ---- */

static void
recover_journal_next(struct recover *recover)
{
    struct store *store = recover->store;
    uint64_t place = recover->scan % store->geometry.journal_blocks;
    uint64_t count = store->geometry.journal_blocks - place;
    uint64_t end = recover->step == RECOVER_SCAN
                       ? recover->prefix_end + store->geometry.window
                       : recover->window_end;

    if (recover->step == RECOVER_SCAN && !recover->hole) {
        end = recover->scan + RECOVER_CHUNK_BLOCKS;
    }
    if (end >= store->super.tail + store->geometry.journal_blocks) {
        end = store->super.tail + store->geometry.journal_blocks - 1;
    }
    if (count > RECOVER_CHUNK_BLOCKS) {
        count = RECOVER_CHUNK_BLOCKS;
    }
    if (count > end + 1 - recover->scan) {
        count = end + 1 - recover->scan;
    }
    recover->chunk_first = recover->scan;
    recover_read(recover, store->geometry.journal_first + place,
                 (uint32_t)count, 0);
}

void
recover_scan_start(struct recover *recover)
{
    struct store *store = recover->store;

    recover->step = RECOVER_SCAN;
    recover->scan = store->super.tail;
    recover->prefix_end = store->super.tail - 1;
    recover->window_end = recover->prefix_end;
    recover->flushed = store->super.tail - 1;
    recover->hole = false;
    recover_journal_next(recover);
}

/* 1: the block of that position; 0: not; -EUCLEAN: it proves that the
 * superblock is not the newest. */
static int
journal_is_valid(const struct store *store, uint64_t position,
                 const struct disk_journal *block)
{
    if (le32_get(block->magic) != DISK_JOURNAL_MAGIC ||
        le64_get(block->format_nonce) != store->identity.format_nonce ||
        le32_get(block->crc) != journal_crc(block)) {
        return 0;
    }
    if (le64_get(block->super_generation) > store->super.generation) {
        return -EUCLEAN;
    }
    return le64_get(block->era) == store->super.era &&
           le64_get(block->position) == position;
}

static void recover_replay_start(struct recover *recover);

static int
recover_scan_block(struct recover *recover, uint64_t position, uint32_t index)
{
    const struct disk_journal *block =
        (const struct disk_journal *)(const void *)recover_block(recover, 0,
                                                                 index);
    int valid;

    if (recover->unreadable[0][index]) {
        return -EIO;
    }
    valid = journal_is_valid(recover->store, position, block);
    if (valid < 0) {
        return valid;
    }
    if (valid == 0) {
        recover->hole = true;
        return 0;
    }
    if (!recover->hole) {
        recover->prefix_end = position;
    }
    recover->window_end = position;
    if (le64_get(block->flushed) > recover->flushed) {
        recover->flushed = le64_get(block->flushed);
    }
    return 0;
}

static void
recover_scan_chunk(struct recover *recover)
{
    struct store *store = recover->store;
    uint64_t last = store->super.tail + store->geometry.journal_blocks - 1;

    for (uint32_t i = 0; i < recover->read_count; i++) {
        int result = recover_scan_block(recover, recover->scan, i);

        if (result != 0) {
            recover_fail(recover, result,
                         result == -EIO ? "the journal cannot be read"
                                        : "a superblock has been lost");
            return;
        }
        recover->scan++;
        if (recover->hole &&
            recover->scan > recover->prefix_end + store->geometry.window) {
            break;
        }
    }
    if (recover->scan <= last &&
        (!recover->hole ||
         recover->scan <= recover->prefix_end + store->geometry.window)) {
        recover_journal_next(recover);
        return;
    }
    if (recover->flushed > recover->prefix_end) {
        recover_fail(recover, -EUCLEAN,
                     "a journal block that had been flushed is damaged");
        return;
    }
    recover_replay_start(recover);
}

static void recover_replay_end(struct recover *recover);

static void
recover_replay_start(struct recover *recover)
{
    struct store *store = recover->store;

    if (recover->prefix_end + store->geometry.window +
            store->geometry.relog_blocks + 4 >
        store->super.tail + store->geometry.journal_blocks) {
        recover_fail(recover, -EUCLEAN, "the journal has no end");
        return;
    }
    recover->step = RECOVER_REPLAY;
    recover->scan = store->super.tail;
    if (recover->scan > recover->window_end) {
        recover_replay_end(recover);
        return;
    }
    recover_journal_next(recover);
}

static void
replay_hot(struct recover *recover, const struct disk_record *record)
{
    struct store *store = recover->store;
    bool clean = (store->super.flags & DISK_SUPER_CLEAN) != 0;

    /* What was hot, and no clean end followed, was hot at a crash. */
    if ((record->flags & DISK_RECORD_CRASHED) == 0 && clean) {
        return;
    }
    for (uint32_t i = 0; i < record_hot_count(record); i++) {
        store->hot.crashed[record_hot_extent(record, i)] = 1;
    }
}

static int
recover_replay_block(struct recover *recover, uint64_t position,
                     const struct disk_journal *block)
{
    struct store *store = recover->store;
    const struct disk_record *record;
    uint32_t cursor = 0;
    int result;

    while ((result = record_next(&store->geometry, block, &cursor, &record)) ==
           1) {
        bool window = position > recover->prefix_end;

        if (position > recover->flushed &&
            !(window && planted(store, PLANTED_WINDOW_IGNORED))) {
            int noted = judge_note(store, &recover->judge, record, window);

            if (noted != 0) {
                return noted;
            }
        }
        if (window) {
            continue;
        }
        if (record->type == DISK_RECORD_HOT) {
            replay_hot(recover, record);
        } else {
            table_apply_page(store, record);
        }
    }
    return result;
}

static void
recover_replay_chunk(struct recover *recover)
{
    for (uint32_t i = 0; i < recover->read_count; i++) {
        const struct disk_journal *block =
            (const struct disk_journal *)(const void *)recover_block(recover, 0,
                                                                     i);
        int result = 0;

        if (recover->unreadable[0][i]) {
            recover_fail(recover, -EIO, "the journal cannot be read");
            return;
        }
        if (recover->scan <= recover->window_end &&
            journal_is_valid(recover->store, recover->scan, block) == 1) {
            result = recover_replay_block(recover, recover->scan, block);
        }
        if (result != 0) {
            recover_fail(recover, result, "a journal block makes no sense");
            return;
        }
        recover->scan++;
    }
    if (recover->scan <= recover->window_end) {
        recover_journal_next(recover);
        return;
    }
    recover_replay_end(recover);
}

static void
recover_replay_end(struct recover *recover)
{
    recover->step = RECOVER_JUDGE;
    judge_start(recover);
}

/* ---- What memory has besides the pages ---- */

static int
build_replicas(struct store *store)
{
    const struct geometry *geometry = &store->geometry;

    for (uint32_t i = 1; i <= geometry->replicas_max; i++) {
        int result = replica_load(store, i);

        if (result != 0) {
            return result;
        }
    }
    /* Pages of a replica whose creation was cut off are free. */
    for (uint32_t i = 0; i < geometry->region_pages; i++) {
        uint32_t number = geometry->replica_pages + i;
        struct disk_page *page = &store->table.pages[number];

        if (store->replicas.page_owner[i] == 0 && le32_get(page->owner) != 0) {
            page->owner = le32_make(0);
            page->part = le32_make(0);
            memset(page->entries, 0, sizeof(page->entries));
            table_page_dirty(store, number);
        }
    }
    return 0;
}

static bool
entry_makes_sense(const struct store *store, const uint8_t *entry)
{
    const struct disk_slot *slot = entry_slot_const(entry);
    const struct replica *replica = replica_at(store, entry_owner(entry));
    uint64_t logical = le64_get(slot->logical);
    uint64_t size;

    if (replica == NULL || le32_get(slot->layer) < STORE_LAYER_FIRST) {
        return false;
    }
    size = le64_get(replica->entry.size_blocks);
    return logical < units_divide_up(size, store->geometry.slot_blocks) &&
           index_find(store, replica->number, le32_get(slot->layer), logical) ==
               SLOT_NONE;
}

static int
build_slots(struct store *store)
{
    const struct geometry *geometry = &store->geometry;

    for (uint32_t slot = 0; slot < geometry->slots_total; slot++) {
        uint8_t *entry = table_page_entry(store, slot);

        if (entry_owner(entry) == 0 || entry_is_empty(geometry, entry)) {
            /* Empty: allocated by a write that never came to be. */
            if (entry_owner(entry) != 0) {
                table_page_dirty(store, geometry_slot_page(geometry, slot));
            }
            memset(entry, 0, geometry->entry_bytes);
            space_release(store, slot);
        } else if (entry_makes_sense(store, entry)) {
            index_put(store, slot);
            replica_count(store, entry);
        } else {
            return -EUCLEAN;
        }
    }
    return 0;
}

void
recover_judged(struct recover *recover, int result)
{
    struct store *store = recover->store;

    if (result == 0) {
        result = build_replicas(store);
    }
    if (result == 0) {
        result = build_slots(store);
    }
    if (result != 0) {
        recover_fail(recover, result, "the table contradicts itself");
        return;
    }
    hot_crash_begin(store);
    journal_reset(store, recover->prefix_end + store->geometry.window + 1,
                  io_random_u64(store->io));
    recover->step = RECOVER_CHECKPOINT;
    store->recover_reading = false;
    store->checkpoint.first = true;
    store_kick(store);
}

/* ---- Start, dispatch, end ---- */

static void
recover_read_done(struct recover *recover)
{
    switch (recover->step) {
    case RECOVER_SUPER_A:
        recover->super_result[0] = recover->unreadable[0][0] ? -EIO : 0;
        recover->step = RECOVER_SUPER_B;
        recover_read(recover, 1, 1, 1);
        break;
    case RECOVER_SUPER_B:
        recover->super_result[1] = recover->unreadable[1][0] ? -EIO : 0;
        super_choose(recover);
        break;
    case RECOVER_PROVE:
        recover_prove_chunk(recover);
        break;
    case RECOVER_TABLE_0:
        recover->step = RECOVER_TABLE_1;
        recover_read(recover,
                     geometry_page_block(&recover->store->geometry,
                                         recover->page, 1),
                     recover_table_count(recover), 1);
        break;
    case RECOVER_TABLE_1:
        recover_table_chunk(recover);
        break;
    case RECOVER_SCAN:
        recover_scan_chunk(recover);
        break;
    case RECOVER_REPLAY:
        recover_replay_chunk(recover);
        break;
    case RECOVER_JUDGE:
    case RECOVER_CHECKPOINT:
        CHECK(false);
        break;
    }
}

void
recover_start(struct store *store, bool lost)
{
    struct recover *recover = calloc(1, sizeof(*recover));
    struct io_file_info info;

    store->recover_reading = true;
    store->recover = recover;
    if (recover == NULL) {
        recover_finish(store, -ENOMEM, "not enough memory");
        return;
    }
    recover->store = store;
    recover->lost = lost;
    recover->op.op.done = recover_op_done;
    recover->buffers =
        aligned_alloc(WEFT_BLOCK_SIZE,
                      (size_t)2 * RECOVER_CHUNK_BLOCKS * WEFT_BLOCK_SIZE);
    if (recover->buffers == NULL) {
        recover_finish(store, -ENOMEM, "not enough memory");
        return;
    }
    io_file_info_get(store->file, &info);
    store->is_volatile = info.volatile_cache;
    if (info.size_bytes < (uint64_t)2 * WEFT_BLOCK_SIZE) {
        recover_finish(store, -EMEDIUMTYPE, "this is not a Weft disk");
        return;
    }
    recover->step = RECOVER_SUPER_A;
    recover_read(recover, 0, 1, 0);
}

static void
recover_free(struct recover *recover)
{
    if (recover != NULL) {
        free(recover->judge.items);
        free(recover->judge.buffers);
        free(recover->buffers);
        free(recover);
    }
}

void
recover_finish(struct store *store, int result, const char *text)
{
    recover_free(store->recover);
    store->recover = NULL;
    store->recover_reading = false;
    store->recover_result = result;
    store->recover_text = text;
    store->recover_ended = true;
    store->phase = result != 0            ? STORE_FAILED
                   : store->close != NULL ? STORE_CLOSING
                   : store->serving       ? STORE_SERVING
                                          : STORE_IDLE;
    store_kick(store);
}
