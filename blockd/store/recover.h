/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_STORE_RECOVER_H
#define BLOCKD_STORE_RECOVER_H

/* What the files of recovery share: recover.c (reading, replay, the end),
 * recover_table.c (which of two copies is the page) and judge.c (STORAGE (a):
 * which of several states a block has). */

#include "blockd/store/internal.h"

#define RECOVER_CHUNK_BLOCKS 256u
#define JUDGE_DEPTH 8u

enum judge_kind {
    JUDGE_BEFORE, /* The state that a record replaced. */
    JUDGE_WINDOW, /* The state that a record beyond the hole would make. */
    JUDGE_RESET,  /* The slot changed hands. */
};

/* A candidate of one block. */
struct judge_item {
    uint32_t slot;
    uint32_t order;
    uint32_t crc;
    uint16_t block;
    uint8_t state;
    uint8_t kind;
    bool window;
    uint64_t sequence;
};

struct judge_op {
    struct io_file_op op;
    struct recover *recover;
    uint8_t *buffer;   /* A slot. */
    size_t first, end; /* Items of the slot. */
    uint32_t slot, block_first, block_end;
    bool busy;
    bool single; /* Reading block by block, because a read failed. */
    uint32_t single_next;
    bool unreadable[DISK_SLOT_BLOCKS_MAX];
};

struct judge {
    struct judge_item *items;
    size_t count, capacity, next;
    uint32_t order;
    struct judge_op ops[JUDGE_DEPTH];
    uint8_t *buffers;
    uint32_t in_flight;
    int error;
};

/* Notes the candidates that 'record' makes, before it is applied. */
WEFT_MUST_CHECK int judge_note(struct store *store, struct judge *judge,
                               const struct disk_record *record, bool window);
/* Reads the blocks concerned and settles their states in the table's pages;
 * calls recover_judged() at the end. */
void judge_start(struct recover *recover);
void recover_judged(struct recover *recover, int result);

enum recover_step {
    RECOVER_SUPER_A,
    RECOVER_SUPER_B,
    RECOVER_PROVE,
    RECOVER_TABLE_0,
    RECOVER_TABLE_1,
    RECOVER_SCAN,
    RECOVER_REPLAY,
    RECOVER_JUDGE,
    RECOVER_CHECKPOINT,
};

struct recover {
    struct store *store;
    enum recover_step step;
    bool lost;
    struct err *err;
    struct io_file_op op;
    uint8_t *buffers; /* Two chunks. */
    /* The read in progress. */
    uint64_t read_block;
    uint32_t read_count, read_at, read_tries;
    uint8_t *read_buffer;
    bool read_single;
    bool unreadable[2][RECOVER_CHUNK_BLOCKS];
    /* Superblocks. */
    int super_result[2];
    uint32_t page; /* The first of the chunk. */
    /* Journal. */
    uint64_t scan, chunk_first; /* Positions. */
    uint64_t prefix_end, window_end, flushed;
    bool hole;
    struct judge judge;
};

/* recover.c: ends it. */
void recover_fail(struct recover *recover, int result, const char *text);
/* Reads blocks of the disk into half 0 or 1 of the buffers, one by one where
 * that is the only way; 'unreadable' says which could not be read.  Goes on in
 * the present step. */
void recover_read(struct recover *recover, uint64_t block, uint32_t count,
                  uint32_t half);
uint8_t *recover_block(const struct recover *recover, uint32_t half,
                       uint32_t index);
void recover_scan_start(struct recover *recover);

/* recover_table.c: reads the next chunk of both copies; then the journal. */
void recover_table_next(struct recover *recover);
uint32_t recover_table_count(const struct recover *recover);
/* Both copies of a chunk have been read. */
void recover_table_chunk(struct recover *recover);

#endif /* BLOCKD_STORE_RECOVER_H */
