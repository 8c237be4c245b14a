/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_MIRROR_PLANTED_H
#define BLOCKD_MIRROR_PLANTED_H

/* Planted bugs: each breaks one rule, so that the simulator can show that it
 * would notice (docs/testing.md).  They exist in the test library only, which
 * is compiled with -DWEFT_PLANTED_BUGS; elsewhere mirror_planted() is a
 * constant false. */

enum mirror_planted {
    MIRROR_PLANTED_NONE = 0,
    /* Rule 3, S7: a write is acknowledged when one replica has it. */
    MIRROR_PLANTED_ACK_EARLY = 1,
    /* S15: resync copies without range locks. */
    MIRROR_PLANTED_RESYNC_NO_LOCK = 2,
    /* S5: resync starts from the target's highest sequence, not from G. */
    MIRROR_PLANTED_RESYNC_OWN_G = 3,
    /* (c): no reconcile after an unclean end. */
    MIRROR_PLANTED_NO_RECONCILE = 4,
    /* Rule 8: reads may go to a replica that is being resynced. */
    MIRROR_PLANTED_READ_STALE = 5,
    /* S12: the new view is not persisted on the replicas. */
    MIRROR_PLANTED_NO_SET_VIEW = 6,
    /* S19: the in-sync set shrinks below min_in_sync. */
    MIRROR_PLANTED_BELOW_MIN = 7,
    /* S6, S16: an in-sync replica that comes back is trusted as it is. */
    MIRROR_PLANTED_TRUST_RETURNED = 8,
    /* S4: regions touched by discards are not compared in full. */
    MIRROR_PLANTED_IGNORE_TOUCHED = 9,
    /* S4: slots that are newer at the target are not copied. */
    MIRROR_PLANTED_IGNORE_TARGET = 10,
    /* (e): a flush that failed on one replica succeeds. */
    MIRROR_PLANTED_FLUSH_IGNORE_FAILED = 11,
    /* S11: an unknown outcome of a commit is taken for success. */
    MIRROR_PLANTED_UNKNOWN_IS_OK = 12,
    /* The write counter starts again at an attach, without the epoch. */
    MIRROR_PLANTED_OLD_COUNTERS = 13,
    /* (b): G runs ahead of writes that are still pending. */
    MIRROR_PLANTED_G_AHEAD = 14,
    /* Live writes are not sent to a replica that is being resynced. */
    MIRROR_PLANTED_NO_LIVE_WRITES = 15,
    /* S17: under a living guest a broken source is taken. */
    MIRROR_PLANTED_BROKEN_SOURCE = 16,
    /* S15: guest requests take no range locks. */
    MIRROR_PLANTED_NO_LOCKS = 17,
    /* Rule 5: the answer's CRC is not checked, BAD and SUSPECT pass. */
    MIRROR_PLANTED_NO_VERIFY = 18,
    /* (b), flush.c (3): G is the complete point, not the durable one. */
    MIRROR_PLANTED_G_COMPLETE = 19,
    /* S4, listing.c: that a region was touched is not passed on. */
    MIRROR_PLANTED_TOUCH_STAYS = 20,
    /* Rule 3, S20: a local disk is never too slow. */
    MIRROR_PLANTED_LOCAL_HANGS = 21,
    /* A replica that returns errors rejoins without a wait. */
    MIRROR_PLANTED_NO_PENALTY = 22,
    /* (a), copy.c (4): adopted bytes keep the slot's old sequence. */
    MIRROR_PLANTED_ADOPT_KEEPS = 23,
    MIRROR_PLANTED_COUNT,
};

#ifdef WEFT_PLANTED_BUGS
#define mirror_planted(mirror, bug) ((mirror)->options.planted_bug == (bug))
#else
#define mirror_planted(mirror, bug) ((void)(mirror), false)
#endif

#endif /* BLOCKD_MIRROR_PLANTED_H */
