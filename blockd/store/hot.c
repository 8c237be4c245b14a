/* SPDX-License-Identifier: Apache-2.0 */

/* Hot marks (S1): which 4 MiB extents are being overwritten in place.
 *
 *   cold --first overwrite--> marked, not durable --flush--> hot
 *     ^                                                       |
 *     +--- a checkpoint finds no overwrite beyond its cut, ---+
 *          nor since the one before
 *
 * A mark is a record in the journal; a checkpoint logs those again that stay,
 * before the tail passes the old ones.  Extents that were hot at a crash are
 * marked "crashed" for good: a block there that does not match its CRC is
 * suspect, not rot.  (Scrub, later, will clear them.) */

#include <errno.h>
#include <stdlib.h>

#include "blockd/store/internal.h"

#define HOT_RECORD_EXTENTS 500u

int
hot_init(struct store *store)
{
    struct hot *hot = &store->hot;
    uint32_t extents = store->geometry.extents;

    hot->marked = calloc(extents, sizeof(*hot->marked));
    hot->last = calloc(extents, sizeof(*hot->last));
    hot->crashed = calloc(extents, 1);
    return hot->marked == NULL || hot->last == NULL || hot->crashed == NULL
               ? -ENOMEM
               : 0;
}

void
hot_done(struct store *store)
{
    free(store->hot.marked);
    free(store->hot.last);
    free(store->hot.crashed);
    store->hot = (struct hot){ 0 };
}

bool
hot_is_marked(const struct store *store, uint32_t extent)
{
    return store->hot.marked[extent] != 0;
}

bool
hot_ready(struct store *store, uint32_t extent)
{
    struct hot *hot = &store->hot;
    struct journal *journal = &store->journal;

    if (planted(store, PLANTED_NO_HOT_MARK)) {
        return true;
    }
    if (hot->marked[extent] == 0) {
        uint32_t bytes = (uint32_t)sizeof(struct disk_hot) + 4;
        void *record = journal_append(store, bytes);

        record_hot_make(record, 1, false);
        record_hot_extent_set(record, 0, extent);
        hot->marked[extent] = journal->head;
        journal_urge(store);
    }
    if (hot->marked[extent] <= journal->durable) {
        return true;
    }
    if (store->is_volatile && hot->marked[extent] <= journal->written) {
        flush_want_position(store, hot->marked[extent]);
    }
    return false;
}

/* Whether a mark stays beyond a checkpoint at 'cut'.  One that goes has no
 * overwrite beyond the cut: all of them are durable. */
static bool
hot_stays(struct store *store, uint32_t extent, uint64_t cut)
{
    struct hot *hot = &store->hot;

    if (hot->marked[extent] == 0) {
        return false;
    }
    if (planted(store, PLANTED_HOT_NOT_RELOGGED)) {
        return false;
    }
    if (hot->marked[extent] <= cut && hot->last[extent] <= cut &&
        hot->last[extent] <= hot->previous_cut) {
        hot->marked[extent] = 0;
        return false;
    }
    return true;
}

static uint32_t
hot_collect(struct store *store, uint64_t cut, uint32_t *cursor, bool crashed,
            uint32_t extents[HOT_RECORD_EXTENTS])
{
    const struct hot *hot = &store->hot;
    uint32_t count = 0;

    while (*cursor < store->geometry.extents && count < HOT_RECORD_EXTENTS) {
        uint32_t extent = (*cursor)++;

        if (crashed ? hot->crashed[extent] != 0
                    : hot_stays(store, extent, cut)) {
            extents[count++] = extent;
        }
    }
    return count;
}

bool
hot_relog(struct store *store, uint64_t cut, uint32_t *cursor)
{
    uint32_t total = store->geometry.extents;
    uint32_t extents[HOT_RECORD_EXTENTS];

    /* The first pass logs hot extents, the second those of crashes. */
    while (*cursor < 2 * total) {
        bool crashed = *cursor >= total;
        uint32_t at = crashed ? *cursor - total : *cursor;
        uint32_t count;
        void *record;

        if (!journal_has_room(store, DISK_RECORDS_BYTES, JOURNAL_SPARE)) {
            return false;
        }
        count = hot_collect(store, cut, &at, crashed, extents);
        if (count != 0) {
            record = journal_append(store, (uint32_t)sizeof(struct disk_hot) +
                                               count * 4);
            record_hot_make(record, count, crashed);
            for (uint32_t i = 0; i < count; i++) {
                record_hot_extent_set(record, i, extents[i]);
            }
        }
        *cursor = crashed ? at + total : at;
    }
    return true;
}
