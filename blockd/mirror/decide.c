/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/mirror/decide.h"

#include <string.h>

#include "lib/base/check.h"

uint32_t
decide_source(const struct decide_input *input, uint32_t candidates,
              bool must_keep)
{
    uint32_t best = STORE_REPLICAS_MAX;
    uint64_t best_rank = 0;
    uint64_t best_sequence = 0;

    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        uint32_t bit = 1u << i;
        if ((candidates & bit) == 0) {
            continue;
        }
        /* A trusted replica has lost nothing and is not behind anyone. */
        bool kept = ((input->trusted | input->unbroken) & bit) != 0;
        if (must_keep && !kept) {
            continue;
        }
        uint64_t rank = ((input->trusted & bit) != 0 ? 4u : 0u) +
                        (kept ? 2u : 0u) +
                        ((input->local & bit) != 0 ? 1u : 0u);
        if (best == STORE_REPLICAS_MAX || rank > best_rank ||
            (rank == best_rank && input->max_sequence[i] > best_sequence)) {
            best = i;
            best_rank = rank;
            best_sequence = input->max_sequence[i];
        }
    }
    return best;
}

/* A clean detach left every replica flushed, with G at the last write.  That
 * can be seen: all G are equal and nothing is newer.  The claim in the database
 * alone is not believed. */
static bool
decide_is_clean(const struct decide_input *input)
{
    uint64_t good = 0;
    bool first = true;

    if (!input->clean || !input->initial) {
        return false;
    }
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        if ((input->in_sync & 1u << i) == 0) {
            continue;
        }
        if (first) {
            good = input->known_good[i];
            first = false;
        }
        if (input->known_good[i] != good || input->max_sequence[i] > good) {
            return false;
        }
    }
    return true;
}

struct decide_result
decide_membership(const struct decide_input *input)
{
    CHECK(input->in_sync != 0);
    CHECK((input->trusted & ~(input->in_sync & input->open)) == 0);

    if (input->trusted == input->in_sync) {
        return (struct decide_result){ .action = DECIDE_GO,
                                       .set = input->in_sync };
    }
    /* The short way: those who never failed go on without the others. */
    if (input->trusted != 0 &&
        decide_count(input->trusted) >= input->min_in_sync) {
        return (struct decide_result){ .action = DECIDE_COMMIT,
                                       .set = input->trusted };
    }

    uint32_t present = input->in_sync & input->open;
    bool all = present == input->in_sync;
    /* A living guest has seen its acknowledged writes: at attach under it, and
     * at any time after READY. */
    bool must_keep = input->live_guest || !input->initial;
    if (!all && input->initial && !input->grace_over) {
        return (struct decide_result){
            .action = DECIDE_WAIT, .reason = "waiting for the replicas' answers"
        };
    }
    if (present == 0) {
        return (struct decide_result){ .action = DECIDE_WAIT,
                                       .reason =
                                           "no in-sync replica is reachable" };
    }
    uint32_t source = decide_source(input, present, must_keep);
    if (source == STORE_REPLICAS_MAX) {
        return (struct decide_result){
            .action = DECIDE_WAIT,
            .reason = "no reachable replica is sure to have all writes that "
                      "the guest has seen acknowledged"
        };
    }
    if (!all) {
        if (decide_count(present) < input->min_in_sync) {
            return (struct decide_result){
                .action = DECIDE_WAIT,
                .reason = "fewer in-sync replicas are reachable than the pool "
                          "asks for (min_in_sync)"
            };
        }
        return (struct decide_result){ .action = DECIDE_COMMIT,
                                       .set = present };
    }
    if (decide_is_clean(input)) {
        return (struct decide_result){ .action = DECIDE_TRUST, .set = present };
    }
    return (struct decide_result){ .action = DECIDE_RECONCILE,
                                   .set = present,
                                   .source = source };
}

bool
decide_row_is_old(const struct mirror_row *row,
                  const struct store_membership *persisted)
{
    if (persisted->view != row->view) {
        return persisted->view > row->view;
    }
    if (persisted->in_sync_count == 0) {
        return false; /* Created, never told. */
    }
    uint32_t set = 0;
    for (uint32_t k = 0; k < persisted->in_sync_count && k < STORE_REPLICAS_MAX;
         k++) {
        for (uint32_t i = 0; i < row->replica_count; i++) {
            if (uuid_equal(&persisted->in_sync[k], &row->replica[i])) {
                set |= 1u << i;
            }
        }
    }
    return set != row->in_sync ||
           persisted->in_sync_count != decide_count(row->in_sync);
}

uint32_t
decide_slow(uint32_t pending, uint32_t prompt, uint32_t remote,
            uint32_t in_sync, uint32_t min_in_sync)
{
    uint32_t slow = 0;

    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        uint32_t bit = 1u << i;
        /* A replica that is only being resynced may go on any evidence. */
        uint32_t witnesses = (in_sync & bit) != 0 ? remote : UINT32_MAX;
        if ((pending & bit) != 0 && (prompt & witnesses & ~bit) != 0) {
            slow |= bit;
        }
    }
    /* It is better to be slow than to stand still. */
    uint32_t rest = in_sync & ~slow;
    if (rest == 0 || decide_count(rest) < min_in_sync) {
        slow &= ~in_sync;
    }
    return slow;
}

static void
decide_units_mark(uint64_t *units, uint64_t unit)
{
    units[unit / 64] |= UINT64_C(1) << (unit % 64);
}

uint32_t
decide_units(const struct decide_list *lists, uint32_t list_count,
             uint64_t region_block, uint32_t unit_blocks,
             uint64_t ret_units[DECIDE_UNITS_MAX / 64])
{
    CHECK(list_count >= 1);
    CHECK(list_count <= STORE_REPLICAS_MAX);
    CHECK(region_block % STORE_REGION_BLOCKS == 0);

    uint32_t at[STORE_REPLICAS_MAX] = { 0 };
    bool comparable = true;
    for (uint32_t k = 1; k < list_count; k++) {
        comparable = comparable && lists[k].slot_blocks == lists[0].slot_blocks;
    }

    memset(ret_units, 0, DECIDE_UNITS_MAX / 8);
    for (;;) {
        /* The lowest slot, by its first block, that any list has next. */
        uint64_t block = UINT64_MAX;
        for (uint32_t k = 0; k < list_count; k++) {
            if (at[k] < lists[k].count) {
                uint64_t b =
                    lists[k].entries[at[k]].slot_index * lists[k].slot_blocks;
                block = b < block ? b : block;
            }
        }
        if (block == UINT64_MAX) {
            break;
        }
        bool equal = comparable;
        const struct store_list_entry *first = NULL;
        for (uint32_t k = 0; k < list_count; k++) {
            const struct store_list_entry *entry = NULL;
            if (at[k] < lists[k].count) {
                entry = &lists[k].entries[at[k]];
            }
            if (entry == NULL ||
                entry->slot_index * lists[k].slot_blocks != block) {
                equal = false;
                continue;
            }
            at[k]++;
            first = first == NULL ? entry : first;
            equal = equal && entry->digest != 0 &&
                    entry->digest == first->digest &&
                    entry->sequence == first->sequence;
        }
        if (!equal && block >= region_block &&
            block - region_block < STORE_REGION_BLOCKS) {
            decide_units_mark(ret_units, (block - region_block) / unit_blocks);
        }
    }

    uint32_t count = 0;
    for (uint32_t i = 0; i < DECIDE_UNITS_MAX / 64; i++) {
        count += (uint32_t)__builtin_popcountll(ret_units[i]);
    }
    return count;
}
