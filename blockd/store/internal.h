/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_STORE_INTERNAL_H
#define BLOCKD_STORE_INTERNAL_H

/* The store's own structures, shared by the files of this folder only.
 *
 * Positions number the journal's blocks and order everything:
 *
 *   tail <= F <= ... <= done <= written < head          F <= durable <= written
 *   F_known <= F
 *
 *   head       the block that still takes records
 *   written    all blocks up to here are on the device (S9: acks go by this)
 *   done       written, and all data writes that began in them have settled
 *   durable    'written' at the start of the last flush that succeeded
 *   F          'done' at the start of the last flush that succeeded: up to
 *              here, records and data will be there after any crash
 *   F_known    the highest F in the header of a durable block: what recovery
 *              is sure to know of F
 *
 * On a disk without volatile cache, durable = written and F = done.
 *
 * Invariants:
 *
 *   (1) The table's pages in memory hold exactly the records up to F (S8), so
 *       that any of them may be written at any time.
 *   (2) What is newer is in overlays: one for each slot with a record beyond
 *       F_known.  The current entry of a slot is its overlay, or else the page.
 *   (3) head - F never exceeds the window: journal blocks beyond F are kept in
 *       memory until F passes them, when they are applied to the pages.
 *   (4) A data write starts into a block that holds (or, up to F_known, held)
 *       data only if its extent's hot mark is durable (S1), and, if the block
 *       became data after F_known, only when F_known has passed that
 *       (docs/disk-format.md, "young blocks").
 *   (5) A slot is allocated only if the record that freed it is durable (S2).
 *   (6) done() of a request runs in store_run() only. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/store/disk.h"
#include "blockd/store/geometry.h"
#include "blockd/store/planted.h"
#include "blockd/store/record.h"
#include "blockd/store/store.h"
#include "lib/base/check.h"
#include "lib/base/container_of.h"
#include "lib/base/list.h"
#include "lib/base/slab.h"
#include "lib/io/io.h"

#define STORE_JOURNAL_DEPTH_FULL 4u /* Writes in flight if blocks are full. */
#define STORE_CHECKPOINT_DEPTH 32u
#define STORE_REQUESTS_DEFAULT 1024u
#define STORE_DISCARD_BATCH 64u  /* Slots a turn. */
#define STORE_REMOVE_BATCH 1024u /* Slots looked at a turn. */
#define STORE_SEGMENTS_MAX (STORE_REQ_BLOCKS_MAX / DISK_SLOT_BLOCKS_MIN + 1)

/* ---- Superblock ---- */

/* The part of the superblock that changes. */
struct super_state {
    uint64_t generation;
    uint32_t flags;
    uint64_t incarnation;
    struct weft_uuid boot_id;
    struct weft_uuid claim_current, claim_previous, claim_next;
    uint64_t era;
    uint64_t tail;
    uint64_t checkpoint, checkpoint_begun;
};

/* What never changes after format, besides the geometry. */
struct super_identity {
    struct weft_uuid disk, cluster;
    uint64_t format_nonce;
};

void super_encode(const struct geometry *geometry,
                  const struct super_identity *identity,
                  const struct super_state *state, struct disk_super *ret);
/* 0; -EMEDIUMTYPE: none; -EPROTO: another version; -EUCLEAN: bad CRC or
 * nonsense. */
WEFT_MUST_CHECK int super_decode(const struct disk_super *block,
                                 struct geometry *ret_geometry,
                                 struct super_identity *ret_identity,
                                 struct super_state *ret_state);

/* Removes and returns the first node of a list that has one. */
static inline struct list *
list_take(struct list *head)
{
    struct list *node = head->next;

    CHECK(node != head);
    list_remove(node);
    return node;
}

struct store;
struct super_write;
typedef void super_write_fn(struct super_write *write);

struct super_write {
    struct list node;
    super_write_fn *done;
};

/* The new incarnation of a store that fails. */
enum super_mark {
    MARK_NONE,
    MARK_WANTED, /* Once no other superblock is being written. */
    MARK_WRITING,
    MARK_DURABLE,
    MARK_GIVEN_UP, /* It cannot be written, either. */
};

struct super_writer {
    struct io_file_op op;
    uint8_t *buffer;
    struct list waiting, current;
    uint64_t durable; /* Generation. */
    bool busy;
    enum super_mark mark;
    uint32_t mark_tries;
};

/* Makes the present store->super durable (write, device flush), then calls
 * done(), from store_run() or a completion.  If it fails, the store fails and
 * done() is not called (super_forget()). */
void super_write_start(struct store *store, struct super_write *write);
void super_forget(struct store *store);
/* The store fails: a new incarnation, whatever else may be lost. */
void super_mark_want(struct store *store);
/* Until this is true, nobody may learn of the failure. */
bool super_mark_step(struct store *store);

/* ---- Journal ---- */

enum journal_state {
    JOURNAL_OPEN,
    JOURNAL_SEALED,
    JOURNAL_WRITING,
    JOURNAL_WRITTEN,
};

struct journal_block {
    struct disk_journal *image;
    struct store *store;
    uint64_t position;
    uint64_t flushed; /* F in its header. */
    uint32_t bytes;
    uint32_t pending; /* Data writes that began here. */
    enum journal_state state;
    struct io_file_op op;
};

struct journal {
    struct journal_block *blocks; /* window + spare, by position. */
    uint32_t blocks_count;
    uint8_t *images;
    uint64_t tail; /* Oldest position that must not be overwritten. */
    uint64_t head, written, done, durable, flushed, flushed_known;
    uint64_t next_write;   /* The oldest position that is not yet started. */
    uint64_t known_target; /* F_known shall reach this. */
    uint32_t in_flight;
    bool urgent; /* The open block has records that somebody awaits. */
    uint64_t era;
};

enum journal_reserve {
    JOURNAL_NORMAL, /* Requests. */
    JOURNAL_SPARE,  /* Hot marks again, undoing: must not wait for space. */
};

WEFT_MUST_CHECK int journal_init(struct store *store);
void journal_done(struct store *store);
/* Empty, the next block has position 'head'. */
void journal_reset(struct store *store, uint64_t head, uint64_t era);
/* Whether records of 'bytes' in all fit now. */
bool journal_has_room(const struct store *store, uint32_t bytes,
                      enum journal_reserve reserve);
/* Room for one record, in the block whose position is 'journal.head' after
 * this.  Call journal_has_room() before. */
void *journal_append(struct store *store, uint32_t bytes);
void journal_urge(struct store *store);
/* Starts what is due; moves the marks after completions. */
void journal_submit(struct store *store);
bool journal_settle(struct store *store);
void journal_drive_known(struct store *store, uint64_t target);
struct journal_block *journal_at(struct store *store, uint64_t position);
/* A data write that began at 'position' has settled. */
void journal_data_done(struct store *store, uint64_t position);
uint64_t journal_used(const struct store *store);
/* Somebody waits for space: moves F, and the tail, as needed. */
void journal_drive_space(struct store *store);
uint32_t journal_crc(const struct disk_journal *block);

/* ---- Device flush ---- */

struct flush_wait;
typedef void flush_wait_fn(struct flush_wait *wait);

struct flush_wait {
    struct list node;
    flush_wait_fn *done; /* Only on success; else the store fails. */
};

struct flush {
    struct io_file_op op;
    bool in_flight, wanted, finished;
    uint64_t cut_done, cut_written;
    struct list waiting, current;
};

void flush_init(struct store *store);
/* A flush that starts after this call; 'wait' may be NULL: only F matters. */
void flush_want(struct store *store, struct flush_wait *wait);
/* A flush so that 'position', which is written, becomes durable. */
void flush_want_position(struct store *store, uint64_t position);
void flush_submit(struct store *store);
bool flush_settle(struct store *store);

/* ---- Table ---- */

struct overlay {
    struct list node; /* Oldest last_position first. */
    uint32_t slot;
    uint64_t last_position;
    uint64_t young_position;
    uint8_t was_data[DISK_SLOT_BLOCKS_MAX / 8]; /* At or since F_known. */
    uint8_t young[DISK_SLOT_BLOCKS_MAX / 8];    /* Data only since then. */
    uint8_t entry[];
};

struct table {
    struct disk_page *pages; /* State at F. */
    uint8_t *copy;           /* Which copy on disk is the newest. */
    uint64_t *dirty;         /* Bitmap: page differs from that copy. */
    uint32_t dirty_count;
    uint32_t *overlay_of; /* By slot: index + 1, or 0. */
    uint8_t *overlays;
    uint32_t *overlay_free;
    uint32_t overlay_stride, overlay_count, overlay_free_count;
    struct list overlay_used;
};

WEFT_MUST_CHECK int table_init(struct store *store);
void table_done(struct store *store);
void table_page_dirty(struct store *store, uint32_t page);
/* The entry at F. */
uint8_t *table_page_entry(const struct store *store, uint32_t slot);
/* The current entry. */
const uint8_t *table_entry(const struct store *store, uint32_t slot);
struct overlay *table_overlay(const struct store *store, uint32_t slot);
/* Applies a record of the journal to the pages, and marks them dirty. */
void table_apply_page(struct store *store, const struct disk_record *record);
/* Recovery: raises the touch sequence of a region, in the pages. */
void table_touch(struct store *store, uint32_t owner, uint32_t region,
                 uint64_t sequence);
/* Applies a slot's record, just appended, to the overlay (made if needed). */
void table_apply(struct store *store, const struct disk_record *record);
/* F has moved: applies the blocks between to the pages. */
void table_advance(struct store *store, uint64_t from, uint64_t to);
/* F_known has moved: drops what is no longer needed. */
void table_forget(struct store *store);
struct disk_replica *table_replica(const struct store *store, uint32_t replica);

/* ---- Index and space ---- */

struct space {
    uint32_t *index; /* Slot + 1, open addressing. */
    uint64_t index_mask;
    uint64_t index_seed;
    uint64_t *free_map; /* Bitmap. */
    uint32_t free_count, reserved, cursor;
    struct quarantined {
        uint32_t slot;
        uint64_t position;
    } * quarantine; /* A ring. */
    uint32_t quarantine_size, quarantine_first, quarantine_count;
};

#define SLOT_NONE UINT32_MAX

WEFT_MUST_CHECK int space_init(struct store *store);
void space_done(struct store *store);
uint32_t index_find(const struct store *store, uint32_t replica, uint32_t layer,
                    uint64_t logical);
void index_put(struct store *store, uint32_t slot);
/* While the entry of 'slot' still says whose it is. */
void index_remove(struct store *store, uint32_t slot);
/* There must be a free one. */
uint32_t space_take(struct store *store);
void space_release(struct store *store, uint32_t slot);
void space_quarantine(struct store *store, uint32_t slot, uint64_t position);
bool space_settle(struct store *store);

/* ---- Hot extents ---- */

struct hot {
    uint64_t *marked; /* Position of the mark; 0: cold. */
    uint64_t *last;   /* Last overwrite. */
    uint8_t *crashed; /* Was hot at a crash: mismatches are suspect, */
    uint64_t previous_cut;
    uint32_t crashed_count;
    uint32_t *sound_of; /* but not of those that were found sound since: by
                         * extent, the number of its bitmap + 1. */
    uint64_t *sound;    /* NULL: none at all. */
};

#define HOT_SOUND_WORDS (DISK_EXTENT_BLOCKS / 64)

WEFT_MUST_CHECK int hot_init(struct store *store);
void hot_done(struct store *store);
/* Whether 'extent' may be overwritten now; marks it (journal space has been
 * checked by the caller) and asks for flushes as needed. */
bool hot_ready(struct store *store, uint32_t extent);
bool hot_is_marked(const struct store *store, uint32_t extent);
/* Logs all marks that stay beyond a checkpoint at 'cut', from '*cursor';
 * false: no room, go on later. */
bool hot_relog(struct store *store, uint64_t cut, uint32_t *cursor);
/* Recovery has ended: those marked 'crashed' have no block yet that was found
 * sound.  'block' counts from the first of the data. */
void hot_crash_begin(struct store *store);
bool hot_is_sound(const struct store *store, uint64_t block);
void hot_sound(struct store *store, uint64_t block);
/* Whether a block that does not match may be so because of a crash. */
bool hot_is_suspect(const struct store *store, uint64_t block);
/* The next checkpoint does not log it again. */
void hot_crash_forget(struct store *store, uint32_t extent);

/* ---- Verifying what was hot at a crash ---- */

struct verify {
    struct io_file_op op;
    struct io_timer timer;
    uint8_t *buffer;
    uint32_t extent, index, block; /* Where to go on; index: slot within. */
    uint32_t slot, first, count;   /* Being read. */
    uint32_t pass;
    bool busy;
};

void verify_init(struct store *store);
void verify_done(struct store *store);
/* While serving: goes on if there is something to do. */
void verify_step(struct store *store);

/* ---- Replicas ---- */

struct replica {
    uint32_t number; /* From 1. */
    bool in_use, session_open, announced;
    bool is_removing; /* The tombstone is durable, slots are being freed. */
    struct disk_replica entry; /* Current. */
    struct list gate;          /* Works in order of arrival. */
    uint32_t gated;
    uint32_t regions;
    uint64_t *touch;    /* S4 */
    uint64_t *written;  /* Highest sequence of the region's slots. */
    uint32_t *used;     /* Slots. */
    uint32_t *suspects; /* Blocks. */
    uint32_t *pages;    /* Region pages. */
    uint64_t max_sequence;
    uint64_t slots_used;
    uint32_t remove_cursor, remove_page;
};

struct replicas {
    struct replica **slots; /* By number - 1. */
    uint32_t *by_uuid;      /* Number, open addressing. */
    uint32_t by_uuid_mask;
    uint32_t count;
    uint32_t removing;
    uint64_t freed; /* Position of the last one's end; 0: F has passed it. */
    uint32_t *page_owner; /* Region pages: current owner. */
    uint32_t pages_free;
};

WEFT_MUST_CHECK int replicas_init(struct store *store);
void replicas_done(struct store *store);
struct replica *replica_find(const struct store *store,
                             const struct weft_uuid *uuid);
struct replica *replica_at(const struct store *store, uint32_t number);
/* Room for another; the new one is in the maps, nothing is logged. */
WEFT_MUST_CHECK int replica_add(struct store *store, uint64_t size_blocks,
                                const struct weft_uuid *uuid,
                                struct replica **ret_replica);
/* Brings one that the table has into memory. */
WEFT_MUST_CHECK int replica_load(struct store *store, uint32_t number);
void replica_drop(struct store *store, struct replica *replica);
/* Appends its entry to the journal. */
void replica_log(struct store *store, struct replica *replica);
/* A write with 'sequence' to a slot. */
void replica_written(struct replica *replica, const struct geometry *geometry,
                     uint64_t logical, uint64_t sequence);
void replica_touch(struct store *store, struct replica *replica,
                   uint32_t region, uint64_t sequence);
/* Frees slots of removed replicas, a bounded number a turn. */
void replica_remove_step(struct store *store);
/* The number of one that was removed is used again when F has passed its end:
 * sees to that, though nobody else may want a flush. */
void replica_settle(struct store *store);
/* Numbers in use, or not yet to be used again. */
uint32_t replica_numbers_taken(const struct store *store);
/* Counts slots and suspects of the entry: recovery. */
void replica_count(struct store *store, const uint8_t *entry);

/* ---- Works: requests in progress ---- */

enum work_state {
    WORK_GATED,   /* An overlapping one is before it. */
    WORK_READY,   /* Through the gate. */
    WORK_WAITING, /* For space, a hot mark or F_known; tried again. */
    WORK_RUNNING, /* Device operations, or the journal block. */
    WORK_UNDO,    /* A data write found no space (thin file). */
    WORK_DURABLE, /* Its record must become durable. */
    WORK_FLUSH,   /* A device flush. */
    WORK_DONE,
};

struct work {
    struct store_req *req;
    struct replica *replica;
    struct list node;      /* On a list of the store, according to state. */
    struct list gate_node; /* On replica->gate. */
    struct list ack_node;  /* On store->acks. */
    enum work_state state;
    bool exclusive, passive, writes, starved, journaled, data_done, begun;
    uint64_t first, end;               /* Logical blocks. */
    uint64_t position_first, position; /* Of its first and last records. */
    uint32_t ops_pending;
    uint32_t cursor;
    uint32_t reserved; /* Slots. */
    uint64_t logical;  /* DISCARD: the next slot. */
    int error;
    struct flush_wait flush;
    struct store *store;
    /* WRITE, PUT: what to go back to on a full thin file. */
    uint8_t undo_states[STORE_REQ_BLOCKS_MAX];
};

/* One device operation of a work. */
struct sub {
    struct io_file_op op;
    struct work *work;
    uint32_t first, count; /* Blocks within the request. */
    bool alone;            /* READ: again, for this block only. */
};

/* A piece of a request that lies in one slot. */
struct segment {
    uint64_t logical;
    uint32_t first, count; /* Blocks within the slot. */
    uint32_t offset;       /* Of the first within the request. */
};

/* The segment that begins at block 'offset' of the request. */
struct segment work_segment(const struct store *store, const struct work *work,
                            uint32_t offset);
void work_to(struct store *store, struct work *work, enum work_state state);
void work_finish(struct store *store, struct work *work, int result);
/* Its last record is in the journal's head block: ack in order (S9). */
void work_await_journal(struct store *store, struct work *work);
void work_await_durable(struct store *store, struct work *work);
/* Starts device operations until all are started or the pool is empty. */
void work_issue(struct store *store, struct work *work);
/* The next device operation that ends brings it back. */
void work_starve(struct store *store, struct work *work);
void work_sub_start(struct store *store, struct work *work, uint32_t first,
                    uint32_t count, uint64_t device_block);

/* gate.c */
void gate_enter(struct store *store, struct work *work);
void gate_leave(struct store *store, struct work *work);
WEFT_MUST_CHECK int session_check(const struct store *store,
                                  const struct replica *replica,
                                  const struct store_req *req);

/* read.c */
void read_begin(struct store *store, struct work *work);
void read_sub_done(struct store *store, struct sub *sub, int result);
bool read_next_run(const struct store *store, struct work *work,
                   uint32_t *ret_first, uint32_t *ret_count,
                   uint64_t *ret_block);
void read_finish(struct store *store, struct work *work);

/* write.c: WRITE and PUT_SLOT */
WEFT_MUST_CHECK int write_check(const struct store *store,
                                const struct store_req *req);
void write_try(struct store *store, struct work *work);
bool write_next_run(const struct store *store, struct work *work,
                    uint32_t *ret_first, uint32_t *ret_count,
                    uint64_t *ret_block);
void write_settled(struct store *store, struct work *work);
/* It has succeeded: what it wrote is sound. */
void write_sound(struct store *store, const struct work *work);
/* Frees a slot (record, index, quarantine): its blocks are all ABSENT or about
 * to be. */
void write_free(struct store *store, struct replica *replica, uint32_t slot,
                uint64_t logical);
/* Gives a slot to 'logical' of the work's replica; one is available. */
uint32_t write_slot_make(struct store *store, struct work *work,
                         uint64_t logical);
/* Slots available to a request: 1: yes; 0: wait; -ENOSPC. */
int write_slots_available(struct store *store, uint32_t needed);

/* discard.c */
void discard_try(struct store *store, struct work *work);

/* list.c */
WEFT_MUST_CHECK int list_run(struct store *store, struct replica *replica,
                             struct store_req *req);

/* control.c: FLUSH, FENCE, SET_VIEW, CREATE, REMOVE */
void control_flush(struct store *store, struct work *work);
void control_begin(struct store *store, struct work *work);
void control_durable(struct store *store, struct work *work);
/* On arrival, before the gate. */
WEFT_MUST_CHECK int control_admit(struct store *store, struct work *work);

/* ---- Checkpoint ---- */

enum checkpoint_step {
    CHECKPOINT_IDLE,
    CHECKPOINT_BEGIN, /* Superblock: begun. */
    CHECKPOINT_FLUSH, /* F moves; the cut is taken. */
    CHECKPOINT_PAGES, /* Hot marks again, and page images. */
    CHECKPOINT_SYNC,  /* Both durable. */
    CHECKPOINT_TAIL,  /* Superblock: complete. */
};

struct checkpoint_op {
    struct io_file_op op;
    struct store *store;
    uint8_t *buffer;
    bool busy;
};

struct checkpoint {
    enum checkpoint_step step;
    bool wanted;  /* Regardless of how full the journal is. */
    bool waiting; /* For a flush or the superblock. */
    bool first;   /* The one that ends recovery: the superblock changes era. */
    bool closing; /* The one before a clean end. */
    uint64_t number;
    uint64_t cut; /* All up to here is in the page images. */
    uint64_t relog_position;
    uint32_t page_cursor, hot_cursor;
    bool hot_logged, tail_early;
    uint32_t in_flight;
    struct checkpoint_op ops[STORE_CHECKPOINT_DEPTH];
    uint8_t *buffers;
    struct flush_wait flush;
    struct super_write super, super_early;
    uint64_t count;
};

WEFT_MUST_CHECK int checkpoint_init(struct store *store);
void checkpoint_done(struct store *store);
void checkpoint_advance(struct store *store);
/* Fills in the header; 'image' has the entries. */
void page_encode(const struct store *store, uint32_t number,
                 uint64_t generation, struct disk_page *image);
bool page_is_sound(const struct store *store, uint32_t number,
                   const struct disk_page *image);

/* ---- The store ---- */

enum store_phase {
    STORE_RECOVERING, /* Open, or again after a failed write or flush. */
    STORE_IDLE,       /* Recovered; store_serve() has not been called. */
    STORE_SERVING,
    STORE_FAILING, /* A write or flush failed: what is in flight ends. */
    STORE_FAILED,  /* Recovery failed, too: every request gets -EIO. */
    STORE_CLOSING,
};

struct recover; /* recover.c */

struct store {
    struct io *io;
    struct io_file *file;
    struct store_open_options options;
    struct geometry geometry;
    struct super_identity identity;
    struct super_state super;
    bool is_volatile;
    enum store_phase phase;
    enum store_phase was_phase; /* Before FAILING. */
    bool serving;               /* store_serve() has been called. */
    bool recover_reading;       /* Recovery has the disk to itself. */
    bool recover_ended;         /* The result is to be told. */
    int recover_result;
    const char *recover_text;
    uint64_t next_incarnation;
    bool fail_wanted;
    int fail_result;

    struct super_writer super_writer;
    struct journal journal;
    struct flush flush;
    struct table table;
    struct space space;
    struct hot hot;
    struct verify verify;
    struct replicas replicas;
    struct checkpoint checkpoint;
    struct recover *recover;

    struct slab works, subs;
    struct list queue;   /* Requests without a work. */
    struct list refused; /* Requests to be answered: result is set. */
    struct list ready;   /* Works to advance. */
    struct list waiting; /* Works to try again. */
    struct list starved; /* Works that wait for a sub. */
    struct list acks;    /* Works in the order of the journal. */
    struct list durables;
    struct list finished; /* done() is due. */
    struct list claims, claims_current;
    struct super_write claim_write;
    uint32_t works_count;
    uint32_t io_pending; /* Device operations of all kinds. */
    bool progress;       /* Something has moved: try the waiting again. */
    bool space_blocked;  /* One of the waiting wants space: keep the order. */

    struct io_task task;
    struct store_close *close;
    struct store_open *open;
    uint64_t suspects, bad;
    struct store_stats stats;
};

static inline bool
planted(const struct store *store, enum planted_bug bug)
{
#ifdef WEFT_PLANTED_BUGS
    return __builtin_expect(store->options.planted_bug == (uint32_t)bug, 0);
#else
    (void)store;
    (void)bug;
    return false;
#endif
}

/* Runs store_run() in this turn. */
void store_kick(struct store *store);
/* A write or flush failed: a new incarnation is made durable (S6), all in
 * flight ends with -EIO, sessions are closed, recovery runs again. */
void store_fail(struct store *store, int result);
static inline bool
store_is_failing(const struct store *store)
{
    return store->phase == STORE_FAILING || store->phase == STORE_FAILED;
}

/* It fails, and the new incarnation is not durable yet: -EIO for nobody. */
static inline bool
store_is_unmarked(const struct store *store)
{
    return store->fail_wanted || (store->phase == STORE_FAILING &&
                                  (store->super_writer.mark == MARK_WANTED ||
                                   store->super_writer.mark == MARK_WRITING));
}

/* Starts one device operation of the store's own (not of a recovery). */
void store_io_start(struct store *store, struct io_file_op *op);
void store_io_done(struct store *store);

/* run.c */
void store_run(struct io_task *task);
/* work.c: admission, and the lists of works. */
void work_admit_all(struct store *store);
void work_advance_all(struct store *store);
void work_retry_waiting(struct store *store);
void work_walk_acks(struct store *store);
void work_walk_durables(struct store *store);
void work_run_finished(struct store *store);
/* Ends all that has no device operation pending, with -EIO. */
void work_fail_all(struct store *store);

/* Answers store_open; frees the store if it failed. */
void store_open_end(struct store *store);

/* Everything that depends on the geometry. */
WEFT_MUST_CHECK int store_runtime_init(struct store *store);
void store_runtime_done(struct store *store);
void store_free(struct store *store);

/* recover.c: reads the disk, ends in a fresh checkpoint, then store_open's
 * done() or on with serving.  'lost': writes may be lost, whatever the boot id
 * says. */
void recover_start(struct store *store, bool lost);
/* Called by the checkpoint when the new superblock is durable. */
void recover_finish(struct store *store, int result, const char *text);

#endif /* BLOCKD_STORE_INTERNAL_H */
