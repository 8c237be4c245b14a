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
 * marked "crashed": a block there that does not match its CRC is suspect, not
 * rot, until it has been found sound once; verify.c says when the whole extent
 * is forgotten. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
    free(store->hot.sound_of);
    free(store->hot.sound);
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

/* ---- Hot at a crash ---- */

void
hot_crash_begin(struct store *store)
{
    struct hot *hot = &store->hot;
    uint32_t extents = store->geometry.extents;
    uint32_t next = 0;

    if (planted(store, PLANTED_CRASH_FORGOTTEN)) {
        memset(hot->crashed, 0, extents);
    }
    hot->crashed_count = 0;
    for (uint32_t i = 0; i < extents; i++) {
        hot->crashed_count += hot->crashed[i];
    }
    if (hot->crashed_count == 0) {
        return;
    }
    hot->sound_of = calloc(extents, sizeof(*hot->sound_of));
    hot->sound =
        calloc(hot->crashed_count, HOT_SOUND_WORDS * sizeof(*hot->sound));
    if (hot->sound_of == NULL || hot->sound == NULL) {
        /* Then they stay suspect, all of them. */
        free(hot->sound_of);
        free(hot->sound);
        hot->sound_of = NULL;
        hot->sound = NULL;
        return;
    }
    for (uint32_t i = 0; i < extents; i++) {
        if (hot->crashed[i] != 0) {
            hot->sound_of[i] = ++next;
        }
    }
}

static uint64_t *
sound_word(const struct store *store, uint64_t block)
{
    const struct hot *hot = &store->hot;
    uint64_t extent = block / DISK_EXTENT_BLOCKS;

    if (hot->sound == NULL || hot->sound_of[extent] == 0) {
        return NULL;
    }
    return &hot->sound[(size_t)(hot->sound_of[extent] - 1) * HOT_SOUND_WORDS +
                       block % DISK_EXTENT_BLOCKS / 64];
}

bool
hot_is_sound(const struct store *store, uint64_t block)
{
    const uint64_t *word = sound_word(store, block);

    return word != NULL && (*word >> (block % 64) & 1) != 0;
}

void
hot_sound(struct store *store, uint64_t block)
{
    uint64_t *word = sound_word(store, block);

    if (word != NULL) {
        *word |= UINT64_C(1) << (block % 64);
    }
}

bool
hot_is_suspect(const struct store *store, uint64_t block)
{
    return store->hot.crashed[block / DISK_EXTENT_BLOCKS] != 0 &&
           !hot_is_sound(store, block);
}

void
hot_crash_forget(struct store *store, uint32_t extent)
{
    CHECK(store->hot.crashed[extent] != 0);
    store->hot.crashed[extent] = 0;
    store->hot.crashed_count--;
}
