/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/sync/follow.h"

#include <stdlib.h>

/* Two numbers of a scope can be on their way: the one that is waited for
 * first, and the newest; those in between are covered by the newest. */

struct mark {
    uint64_t seq;
    uint64_t version; /* 0: none. */
};

struct followed {
    struct weft_uuid scope;
    uint64_t acked;
    struct mark first, newest;
};

struct follow {
    struct cloud *cloud;
    struct report *report;
    const char *host;
    struct followed *items; /* Sorted by scope. */
    size_t count;
};

struct follow *
follow_new(struct cloud *cloud, struct report *report, const char *host)
{
    struct follow *follow = calloc(1, sizeof *follow);

    CHECK(follow != NULL);
    follow->cloud = cloud;
    follow->report = report;
    follow->host = host;
    return follow;
}

void
follow_free(struct follow *follow)
{
    if (follow != NULL) {
        free(follow->items);
        free(follow);
    }
}

size_t
follow_count(const struct follow *follow)
{
    return follow->count;
}

static void
put_row(struct follow *follow, const struct followed *item)
{
    struct state_follow row = {
        .row.table = STATE_TABLE_FOLLOW,
        .host = follow->host,
        .scope = item->scope,
        .acked = item->acked,
    };

    report_uuid(follow->report, STATE_TABLE_FOLLOW, &item->scope,
                &row.row.uuid);
    report_put(follow->report, &row.row);
}

static void
remove_row(struct follow *follow, const struct weft_uuid *scope)
{
    struct weft_uuid uuid;

    report_uuid(follow->report, STATE_TABLE_FOLLOW, scope, &uuid);
    report_remove(follow->report, STATE_TABLE_FOLLOW, &uuid);
}

/* What an earlier netd acknowledged holds: its flows are still there. */
static void
begin(struct follow *follow, const struct weft_uuid *scope,
      struct followed *ret_item)
{
    struct weft_uuid uuid;

    *ret_item = (struct followed){ .scope = *scope };
    report_uuid(follow->report, STATE_TABLE_FOLLOW, scope, &uuid);
    const struct state_row *row =
        cloud_row(follow->cloud, STATE_TABLE_FOLLOW, &uuid);
    if (row != NULL) {
        ret_item->acked = state_follow_from(row)->acked;
    }
    put_row(follow, ret_item);
}

void
follow_step(struct follow *follow)
{
    struct uuid_set all = { NULL, 0, 0 };
    size_t old = 0;

    if (!cloud_is_complete(follow->cloud)) {
        return; /* A scope may only seem to have gone. */
    }
    scope_all(cloud_scope(follow->cloud), &all);
    struct followed *items = calloc(all.count + 1, sizeof *items);
    CHECK(items != NULL);
    for (size_t i = 0; i < all.count; i++) {
        while (old < follow->count &&
               uuid_compare(&follow->items[old].scope, &all.items[i]) < 0) {
            remove_row(follow, &follow->items[old++].scope);
        }
        if (old < follow->count &&
            uuid_equal(&follow->items[old].scope, &all.items[i])) {
            items[i] = follow->items[old++];
        } else {
            begin(follow, &all.items[i], &items[i]);
        }
    }
    while (old < follow->count) {
        remove_row(follow, &follow->items[old++].scope);
    }
    free(follow->items);
    follow->items = items;
    follow->count = all.count;
    uuid_set_done(&all);
}

void
follow_committed(struct follow *follow, uint64_t version)
{
    struct state *state = cloud_state(follow->cloud);

    for (size_t i = 0; i < follow->count; i++) {
        struct followed *item = &follow->items[i];
        const struct state_scope_seq *row =
            state_scope_seq_find_by_scope(state, &item->scope);
        if (row == NULL || row->seq <= item->acked ||
            row->seq <= item->newest.seq) {
            continue;
        }
        item->newest = (struct mark){ .seq = row->seq, .version = version };
        if (item->first.version == 0) {
            item->first = item->newest;
        }
    }
}

void
follow_confirmed(struct follow *follow, uint64_t version)
{
    for (size_t i = 0; i < follow->count; i++) {
        struct followed *item = &follow->items[i];
        uint64_t acked = item->acked;
        if (item->first.version == 0) {
            continue;
        }
        if (item->newest.version <= version) {
            acked = item->newest.seq;
            item->first.version = 0;
        } else if (item->first.version <= version) {
            acked = item->first.seq;
            item->first = item->newest;
        }
        if (acked > item->acked) {
            item->acked = acked;
            put_row(follow, item);
        }
    }
}
