/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_STORE_PLANTED_H
#define BLOCKD_STORE_PLANTED_H

/* Bugs planted on purpose: each breaks one rule, and a test shows that the
 * simulator finds it (docs/testing.md).  They exist only in the library that
 * tests link (store_planted_dep, -DWEFT_PLANTED_BUGS); in the real one
 * planted() is a constant false.  store_open_options.planted_bug selects. */

enum planted_bug {
    PLANTED_NONE = 0,
    PLANTED_NO_HOT_MARK = 1,         /* S1: overwrite a cold extent unmarked. */
    PLANTED_HOT_NOT_RELOGGED = 2,    /* S1, S8: a checkpoint drops hot marks. */
    PLANTED_ADOPT_FOREIGN = 3,       /* S2: mismatch on {invalid}: suspect. */
    PLANTED_REUSE_AT_ONCE = 4,       /* S2: no quarantine of freed slots. */
    PLANTED_PAGES_AHEAD = 5,         /* S8: page images beyond F. */
    PLANTED_TAIL_FIRST = 6,          /* S8: tail moved before the pages. */
    PLANTED_ACK_DISORDER = 7,        /* S9: own block written is enough. */
    PLANTED_WINDOW_IGNORED = 8,      /* S9: no candidates beyond a hole. */
    PLANTED_FLUSH_SKIPPED = 9,       /* (e): a flush without the device. */
    PLANTED_GOOD_WITHOUT_FLUSH = 10, /* (b), S5: G set before the flush. */
    PLANTED_DISCARD_UNTOUCHED = 11,  /* S4: no touch sequence. */
    PLANTED_INCARNATION_KEPT = 12,   /* S6: boot with lost writes. */
    PLANTED_FENCE_VOLATILE = 13,     /* (d): reply before durable. */
    PLANTED_OLD_SESSION = 14,        /* S16: writes of closed sessions. */
    PLANTED_NO_YOUNG_BARRIER = 15,   /* (a): overwrite before F is known. */
    PLANTED_OLDEST_FIRST = 16,       /* (a): bytes under a discard count. */
    PLANTED_OLDER_PAGE = 17,         /* S8: a rotten page's older copy. */
    PLANTED_MARK_LATE = 18,          /* S6: -EIO before the incarnation. */
    PLANTED_CRASH_FORGOTTEN = 19,    /* S1: hot at a crash is forgotten. */
    PLANTED_WINDOW_OLD = 20,         /* S4: a window discard is no news. */
    PLANTED_COUNT = 21,
};

#endif /* BLOCKD_STORE_PLANTED_H */
