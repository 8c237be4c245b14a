/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_STORE_DISK_H
#define BLOCKD_STORE_DISK_H

/* What is on a disk, byte by byte.  docs/disk-format.md explains it, and
 * tests/unit/test_store_disk.c compares that page with the numbers here.
 *
 * All integers are little-endian; everything is in blocks of 4096 bytes, each
 * of which is written in one piece and carries a CRC32C of itself (computed
 * with the 'crc' field zero).  Nothing read from a disk is trusted before that
 * CRC and the ranges of its fields are checked (disk_check.c). */

#include <stddef.h>
#include <stdint.h>

#include "lib/base/le.h"
#include "lib/base/units.h"
#include "lib/base/uuid.h"

#define DISK_VERSION 1u
#define DISK_SUPER_MAGIC UINT64_C(0x31304b5344544657) /* "WFTDSK01" */
#define DISK_PAGE_MAGIC UINT32_C(0x45475057)          /* "WPGE" */
#define DISK_JOURNAL_MAGIC UINT32_C(0x4e524a57)       /* "WJRN" */

#define DISK_EXTENT_BLOCKS 1024u /* 4 MiB: the unit of hot marks (S1). */
#define DISK_SLOT_BLOCKS_MIN 4u
#define DISK_SLOT_BLOCKS_MAX 256u
#define DISK_SLOTS_MAX UINT32_C(0xfffffff0)

/* ---- Superblock: blocks 0 (A) and 1 (B), the higher generation counts ---- */

#define DISK_SUPER_CLEAN 1u    /* Closed in order; the journal is empty. */
#define DISK_SUPER_VOLATILE 2u /* The cache was volatile at the last open. */

struct disk_super {
    struct le64 magic;
    struct le32 version;
    struct le32 crc;
    struct le64 generation;
    struct weft_uuid disk;
    struct weft_uuid cluster;
    struct le64 format_nonce; /* Random; in every block of this format. */
    struct le64 size_bytes;
    struct le32 slot_blocks;
    struct le32 flags;
    struct le64 journal_blocks;
    struct le32 journal_window; /* Blocks beyond F at most. */
    struct le32 replica_pages;
    struct le32 region_pages;
    struct le32 slots_total;
    struct le64 incarnation; /* S6 */
    struct weft_uuid boot_id;
    struct weft_uuid claim_current; /* S13 */
    struct weft_uuid claim_previous;
    struct weft_uuid claim_next;
    struct le64 journal_era;      /* Random; changes with each recovery. */
    struct le64 journal_tail;     /* Replay begins at this position. */
    struct le64 checkpoint;       /* The last one that is complete. */
    struct le64 checkpoint_begun; /* The last one that was begun. */
    uint8_t reserved[3888];
};

static_assert(offsetof(struct disk_super, magic) == 0, "layout");
static_assert(offsetof(struct disk_super, version) == 8, "layout");
static_assert(offsetof(struct disk_super, crc) == 12, "layout");
static_assert(offsetof(struct disk_super, generation) == 16, "layout");
static_assert(offsetof(struct disk_super, disk) == 24, "layout");
static_assert(offsetof(struct disk_super, cluster) == 40, "layout");
static_assert(offsetof(struct disk_super, format_nonce) == 56, "layout");
static_assert(offsetof(struct disk_super, size_bytes) == 64, "layout");
static_assert(offsetof(struct disk_super, slot_blocks) == 72, "layout");
static_assert(offsetof(struct disk_super, flags) == 76, "layout");
static_assert(offsetof(struct disk_super, journal_blocks) == 80, "layout");
static_assert(offsetof(struct disk_super, journal_window) == 88, "layout");
static_assert(offsetof(struct disk_super, replica_pages) == 92, "layout");
static_assert(offsetof(struct disk_super, region_pages) == 96, "layout");
static_assert(offsetof(struct disk_super, slots_total) == 100, "layout");
static_assert(offsetof(struct disk_super, incarnation) == 104, "layout");
static_assert(offsetof(struct disk_super, boot_id) == 112, "layout");
static_assert(offsetof(struct disk_super, claim_current) == 128, "layout");
static_assert(offsetof(struct disk_super, claim_previous) == 144, "layout");
static_assert(offsetof(struct disk_super, claim_next) == 160, "layout");
static_assert(offsetof(struct disk_super, journal_era) == 176, "layout");
static_assert(offsetof(struct disk_super, journal_tail) == 184, "layout");
static_assert(offsetof(struct disk_super, checkpoint) == 192, "layout");
static_assert(offsetof(struct disk_super, checkpoint_begun) == 200, "layout");
static_assert(sizeof(struct disk_super) == 4096, "layout");

/* ---- Table pages: replica, region and slot pages, in that order ---- */

enum disk_page_kind {
    DISK_PAGE_REPLICA = 1,
    DISK_PAGE_REGION = 2,
    DISK_PAGE_SLOT = 3,
};

struct disk_page {
    struct le32 magic;
    struct le32 crc;
    struct le64 generation; /* The checkpoint that wrote it. */
    struct le64 number;     /* Of the page, from 0. */
    struct le64 format_nonce;
    struct le32 kind;
    struct le32 owner; /* Region pages: the replica, 0 if free, */
    struct le32 part;  /* and which part of its regions. */
    uint8_t reserved[20];
    uint8_t entries[4032];
};

#define DISK_ENTRIES_BYTES 4032u

static_assert(offsetof(struct disk_page, magic) == 0, "layout");
static_assert(offsetof(struct disk_page, crc) == 4, "layout");
static_assert(offsetof(struct disk_page, generation) == 8, "layout");
static_assert(offsetof(struct disk_page, number) == 16, "layout");
static_assert(offsetof(struct disk_page, format_nonce) == 24, "layout");
static_assert(offsetof(struct disk_page, kind) == 32, "layout");
static_assert(offsetof(struct disk_page, owner) == 36, "layout");
static_assert(offsetof(struct disk_page, part) == 40, "layout");
static_assert(offsetof(struct disk_page, entries) == 64, "layout");
static_assert(sizeof(struct disk_page) == 4096, "layout");

/* ---- Replica pages: replica number n (from 1) is entry n - 1 ---- */

enum disk_replica_state {
    DISK_REPLICA_FREE = 0,
    DISK_REPLICA_LIVE = 1,
    DISK_REPLICA_REMOVING = 2, /* A tombstone while its slots are freed. */
};

struct disk_replica {
    struct weft_uuid replica;
    struct weft_uuid volume;
    struct le32 mirror_index;
    struct le32 state;
    struct le64 size_blocks;
    struct le32 epoch;
    struct le32 in_sync_count;
    struct le64 view;
    struct weft_uuid in_sync[3];
    struct le64 session; /* The highest ever given. */
    struct le64 session_incarnation;
    struct le64 known_good; /* G */
    struct weft_uuid owner_instance;
    uint8_t reserved[104];
};

#define DISK_REPLICAS_PER_PAGE 15u

static_assert(offsetof(struct disk_replica, replica) == 0, "layout");
static_assert(offsetof(struct disk_replica, volume) == 16, "layout");
static_assert(offsetof(struct disk_replica, mirror_index) == 32, "layout");
static_assert(offsetof(struct disk_replica, state) == 36, "layout");
static_assert(offsetof(struct disk_replica, size_blocks) == 40, "layout");
static_assert(offsetof(struct disk_replica, epoch) == 48, "layout");
static_assert(offsetof(struct disk_replica, in_sync_count) == 52, "layout");
static_assert(offsetof(struct disk_replica, view) == 56, "layout");
static_assert(offsetof(struct disk_replica, in_sync) == 64, "layout");
static_assert(offsetof(struct disk_replica, session) == 112, "layout");
static_assert(offsetof(struct disk_replica, session_incarnation) == 120,
              "layout");
static_assert(offsetof(struct disk_replica, known_good) == 128, "layout");
static_assert(offsetof(struct disk_replica, owner_instance) == 136, "layout");
static_assert(sizeof(struct disk_replica) == 256, "layout");
static_assert(DISK_REPLICAS_PER_PAGE * sizeof(struct disk_replica) <=
                  DISK_ENTRIES_BYTES,
              "fits");

/* ---- Region pages: le64 touch sequences of 504 regions (S4) ---- */

#define DISK_REGIONS_PER_PAGE 504u

static_assert(DISK_REGIONS_PER_PAGE * sizeof(struct le64) == DISK_ENTRIES_BYTES,
              "fits");

/* ---- Slot pages: entries of variable size ----
 *
 * struct disk_slot, then 2 bits of state a block (at least 4 bytes), then a
 * le32 CRC a block.  An entry without owner is all zeros. */

enum disk_block_state { /* Same numbers as enum store_block_state. */
                        DISK_BLOCK_ABSENT = 0,
                        DISK_BLOCK_DATA = 1,
                        DISK_BLOCK_ZERO = 2,
                        DISK_BLOCK_SUSPECT = 3,
};

struct disk_slot {
    struct le32 replica; /* Number of the replica, from 1; 0: free. */
    struct le32 layer;
    struct le64 logical; /* Logical slot. */
    struct le64 sequence;
};

static_assert(offsetof(struct disk_slot, replica) == 0, "layout");
static_assert(offsetof(struct disk_slot, layer) == 4, "layout");
static_assert(offsetof(struct disk_slot, logical) == 8, "layout");
static_assert(offsetof(struct disk_slot, sequence) == 16, "layout");
static_assert(sizeof(struct disk_slot) == 24, "layout");

/* ---- Journal blocks ---- */

struct disk_journal {
    struct le32 magic;
    struct le32 crc;
    struct le64 era;
    struct le64 position; /* Lives in ring block position % journal_blocks. */
    struct le64 flushed;  /* F when this block was written (S8). */
    struct le64 super_generation;
    struct le64 format_nonce;
    struct le32 record_bytes;
    uint8_t reserved[12];
    uint8_t records[4032];
};

#define DISK_RECORDS_BYTES 4032u

static_assert(offsetof(struct disk_journal, magic) == 0, "layout");
static_assert(offsetof(struct disk_journal, crc) == 4, "layout");
static_assert(offsetof(struct disk_journal, era) == 8, "layout");
static_assert(offsetof(struct disk_journal, position) == 16, "layout");
static_assert(offsetof(struct disk_journal, flushed) == 24, "layout");
static_assert(offsetof(struct disk_journal, super_generation) == 32, "layout");
static_assert(offsetof(struct disk_journal, format_nonce) == 40, "layout");
static_assert(offsetof(struct disk_journal, record_bytes) == 48, "layout");
static_assert(offsetof(struct disk_journal, records) == 64, "layout");
static_assert(sizeof(struct disk_journal) == 4096, "layout");

/* ---- Journal records: absolute values, so that replaying one twice, or over
 * a page that is ahead of it, ends in the same state ---- */

enum disk_record_type {
    DISK_RECORD_NOP = 1,
    DISK_RECORD_INTENT = 2,      /* Blocks become DATA. */
    DISK_RECORD_STATE = 3,       /* Blocks become ABSENT, ZERO or SUSPECT. */
    DISK_RECORD_ALLOC = 4,       /* A slot gets an owner; all ABSENT. */
    DISK_RECORD_FREE = 5,        /* A slot loses its owner. */
    DISK_RECORD_REGION = 6,      /* Touch sequence of a region (S4). */
    DISK_RECORD_HOT = 7,         /* Extents (S1). */
    DISK_RECORD_REPLICA = 8,     /* Replica entry. */
    DISK_RECORD_REGION_PAGE = 9, /* A region page gets an owner, or none. */
    DISK_RECORD_KNOWN_GOOD = 10, /* G of a replica. */
};

/* INTENT, STATE: the slot's sequence becomes this one, even if lower. */
#define DISK_RECORD_EXACT 1u
/* HOT: the extents were hot at a crash. */
#define DISK_RECORD_CRASHED 1u

struct disk_record {
    uint8_t type;
    uint8_t flags;
    struct le16 size; /* With this header; a multiple of 4. */
};

struct disk_intent { /* Followed by 'count' le32 CRCs. */
    struct disk_record head;
    struct le32 slot;
    struct le16 first;
    struct le16 count;
    struct le64 sequence;
};

struct disk_state {
    struct disk_record head;
    struct le32 slot;
    struct le16 first;
    struct le16 count;
    struct le64 sequence;
    struct le32 state;
};

struct disk_alloc {
    struct disk_record head;
    struct le32 slot;
    struct le32 replica;
    struct le32 layer;
    struct le64 logical;
};

struct disk_free {
    struct disk_record head;
    struct le32 slot;
};

struct disk_region {
    struct disk_record head;
    struct le32 replica;
    struct le32 region;
    struct le64 sequence;
};

struct disk_hot { /* Followed by le32 extents up to 'size'. */
    struct disk_record head;
};

struct disk_replica_set {
    struct disk_record head;
    struct le32 replica;
    struct disk_replica entry;
};

struct disk_region_page {
    struct disk_record head;
    struct le32 page; /* Among the region pages, from 0. */
    struct le32 replica;
    struct le32 part;
};

struct disk_known_good {
    struct disk_record head;
    struct le32 replica;
    struct le64 sequence;
};

static_assert(sizeof(struct disk_record) == 4, "layout");
static_assert(sizeof(struct disk_intent) == 20, "layout");
static_assert(sizeof(struct disk_state) == 24, "layout");
static_assert(sizeof(struct disk_alloc) == 24, "layout");
static_assert(sizeof(struct disk_free) == 8, "layout");
static_assert(sizeof(struct disk_region) == 20, "layout");
static_assert(sizeof(struct disk_replica_set) == 264, "layout");
static_assert(sizeof(struct disk_region_page) == 16, "layout");
static_assert(sizeof(struct disk_known_good) == 16, "layout");
static_assert(offsetof(struct disk_intent, slot) == 4, "layout");
static_assert(offsetof(struct disk_intent, first) == 8, "layout");
static_assert(offsetof(struct disk_intent, count) == 10, "layout");
static_assert(offsetof(struct disk_intent, sequence) == 12, "layout");
static_assert(offsetof(struct disk_state, state) == 20, "layout");
static_assert(offsetof(struct disk_alloc, replica) == 8, "layout");
static_assert(offsetof(struct disk_alloc, layer) == 12, "layout");
static_assert(offsetof(struct disk_alloc, logical) == 16, "layout");

#endif /* BLOCKD_STORE_DISK_H */
