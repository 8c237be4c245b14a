/* SPDX-License-Identifier: Apache-2.0 */

/* The table's pages: which of the two copies counts.
 *
 * With both sound it is the newer one.  With one unsound, the other one counts
 * only if nothing can be missing in it that the journal does not have:
 *
 *   (1) it is of the last complete checkpoint, or of a later one: replay from
 *       the tail begins before it;
 *   (2) or the unsound one says itself that it is not newer;
 *   (3) or the unsound one says that it is of a checkpoint that was begun, but
 *       not completed: its write was torn, or has rotted since, and the sound
 *       one was the page before.
 *
 * Else the unsound one may be the page, and the sound one the past: flushed
 * blocks would come back as nothing, without a word (S8).  Then the disk is
 * refused.
 *
 * What an unsound copy says of its age counts only if the rest of its header is
 * right.  Should one flipped bit be all that is wrong with it, and that in the
 * generation itself, then the right generation is known. */

#include <errno.h>
#include <string.h>

#include "blockd/store/recover.h"

uint32_t
recover_table_count(const struct recover *recover)
{
    uint32_t left = recover->store->geometry.pages - recover->page;

    return left < RECOVER_CHUNK_BLOCKS ? left : RECOVER_CHUNK_BLOCKS;
}

void
recover_table_next(struct recover *recover)
{
    struct store *store = recover->store;

    if (recover->page == store->geometry.pages) {
        recover_scan_start(recover);
        return;
    }
    recover->step = RECOVER_TABLE_0;
    recover_read(recover,
                 geometry_page_block(&store->geometry, recover->page, 0),
                 recover_table_count(recover), 0);
}

#define GENERATION_UNKNOWN UINT64_MAX

/* The age of a copy that is not sound, as far as it says so. */
static uint64_t
stated_generation(const struct store *store, uint32_t number,
                  const struct disk_page *image)
{
    struct disk_page page = *image;
    uint64_t stated = le64_get(image->generation);

    if (le32_get(image->magic) != DISK_PAGE_MAGIC ||
        le64_get(image->number) != number ||
        le64_get(image->format_nonce) != store->identity.format_nonce ||
        le32_get(image->kind) !=
            (uint32_t)geometry_page_kind(&store->geometry, number)) {
        return GENERATION_UNKNOWN;
    }
    for (uint32_t bit = 0; bit < 64; bit++) {
        uint64_t flipped = stated ^ UINT64_C(1) << bit;

        page.generation = le64_make(flipped);
        if (page_is_sound(store, number, &page)) {
            return flipped;
        }
    }
    return stated;
}

struct copy {
    const struct disk_page *page;
    uint64_t generation;
    bool is_sound;
};

/* Whether nothing can be missing in 'sound' that the journal does not have,
 * though the other copy is not. */
static bool
copy_will_do(const struct store *store, const struct copy *sound,
             const struct copy *other)
{
    uint64_t complete = store->super.checkpoint;
    uint64_t begun = store->super.checkpoint_begun;

    return sound->generation >= complete ||
           other->generation <= sound->generation ||
           (other->generation > complete && other->generation <= begun) ||
           (begun > complete && planted(store, PLANTED_OLDER_PAGE));
}

/* Which copy is the page?  -1: none, or nobody knows. */
static int
table_choose(struct recover *recover, uint32_t index)
{
    struct store *store = recover->store;
    uint32_t number = recover->page + index;
    struct copy copies[2];
    int chosen;

    for (uint32_t i = 0; i < 2; i++) {
        struct copy *copy = &copies[i];

        copy->page =
            (const struct disk_page *)(const void *)recover_block(recover, i,
                                                                  index);
        copy->is_sound = false;
        copy->generation = GENERATION_UNKNOWN;
        if (recover->unreadable[i][index]) {
            continue;
        }
        copy->is_sound = page_is_sound(store, number, copy->page);
        copy->generation = copy->is_sound
                               ? le64_get(copy->page->generation)
                               : stated_generation(store, number, copy->page);
        if (copy->is_sound &&
            copy->generation > store->super.checkpoint_begun) {
            return -1;
        }
    }
    if (copies[0].is_sound && copies[1].is_sound) {
        return copies[1].generation > copies[0].generation ? 1 : 0;
    }
    chosen = copies[1].is_sound ? 1 : 0;
    if (!copies[chosen].is_sound ||
        !copy_will_do(store, &copies[chosen], &copies[1 - chosen])) {
        return -1;
    }
    /* The other one shall be sound again. */
    table_page_dirty(store, number);
    return chosen;
}

void
recover_table_chunk(struct recover *recover)
{
    struct store *store = recover->store;
    uint32_t count = recover_table_count(recover);

    for (uint32_t i = 0; i < count; i++) {
        int copy = table_choose(recover, i);

        if (copy < 0) {
            recover_fail(recover, -EUCLEAN, "a page of the table is damaged");
            return;
        }
        memcpy(&store->table.pages[recover->page + i],
               recover_block(recover, (uint32_t)copy, i), WEFT_BLOCK_SIZE);
        store->table.copy[recover->page + i] = (uint8_t)copy;
    }
    recover->page += count;
    recover_table_next(recover);
}
