/* SPDX-License-Identifier: Apache-2.0 */

/* Which hosts give signs of life: for people, and so that new volumes are not
 * placed where nobody would make them.  Nothing that keeps data safe asks.
 *
 * A host writes its Host_Status row every cluster_heartbeat_ms().  What counts
 * is when that was seen to happen here, by this host's own monotonic clock:
 * wall clocks of hosts differ.  Only for a row that was there when this blockd
 * came to the database is its own time believed.  Time without the database
 * does not count: nobody could be seen then. */

#include <stdlib.h>

#include "blockd/api/api_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* Heartbeats that may be missing. */
#define ALIVE_MISSED 3u

struct api_alive {
    struct list node;
    struct weft_uuid status; /* The row. */
    uint64_t last_seen_ms;   /* What it says, */
    uint64_t seen_ns;        /* and since when, here. */
    bool was_silent;
};

static struct api_alive *
alive_find(const struct api *api, const struct weft_uuid *status)
{
    LIST_FOREACH (node, &api->alive) {
        struct api_alive *alive = container_of(node, struct api_alive, node);
        if (uuid_equal(&alive->status, status)) {
            return alive;
        }
    }
    return NULL;
}

/* How long ago a row says that it was written. */
static uint64_t
alive_stated_age_ns(const struct state_host_status *row)
{
    uint64_t now_ms = cluster_wall_ms();
    uint64_t age_ms =
        now_ms > row->last_seen_ms ? now_ms - row->last_seen_ms : 0;

    return age_ms > UINT64_MAX / NS_PER_MS ? UINT64_MAX : age_ms * NS_PER_MS;
}

uint64_t
api_host_silent_ns(const struct api *api, const struct state_host_status *row)
{
    const struct api_alive *alive = alive_find(api, &row->row.uuid);
    uint64_t now_ns = loop_now_ns();

    if (alive == NULL) {
        return alive_stated_age_ns(row);
    }
    return now_ns > alive->seen_ns ? now_ns - alive->seen_ns : 0;
}

bool
api_host_is_silent(const struct api *api, const struct state_host_status *row)
{
    const struct state_status *database = state_status(api->state);
    uint64_t limit_ns =
        ALIVE_MISSED * cluster_heartbeat_ms(api->state) * NS_PER_MS;

    if (row == NULL) {
        return true;
    }
    const struct api_alive *alive = alive_find(api, &row->row.uuid);
    if (alive == NULL) {
        return alive_stated_age_ns(row) > limit_ns;
    }
    return alive->was_silent ||
           (database->is_connected &&
            loop_now_ns() > database->since_ns + limit_ns &&
            api_host_silent_ns(api, row) > limit_ns);
}

/* Whether it was silent before. */
static bool
alive_learn(struct api *api, const struct state_host_status *row)
{
    uint64_t now_ns = loop_now_ns();
    struct api_alive *alive = alive_find(api, &row->row.uuid);
    bool was_silent = alive == NULL || alive->was_silent;

    if (alive == NULL) {
        uint64_t age_ns = alive_stated_age_ns(row);

        alive = calloc(1, sizeof *alive);
        CHECK(alive != NULL);
        alive->status = row->row.uuid;
        alive->seen_ns = now_ns > age_ns ? now_ns - age_ns : 0;
        alive->was_silent = api_host_is_silent(api, row);
        list_push_back(&api->alive, &alive->node);
    } else if (alive->last_seen_ms != row->last_seen_ms) {
        alive->seen_ns = now_ns;
        alive->was_silent = false;
    }
    alive->last_seen_ms = row->last_seen_ms;
    return was_silent;
}

bool
api_alive_changed(struct api *api, const struct state_change *change)
{
    if (change->table != STATE_TABLE_HOST_STATUS) {
        return true;
    }
    if (change->new_row != NULL) {
        bool is_news =
            alive_learn(api, state_host_status_from(change->new_row));
        return is_news || change->kind != STATE_CHANGE_UPDATE ||
               change->columns != STATE_HOST_STATUS_COL_LAST_SEEN_MS;
    }
    struct api_alive *alive = alive_find(api, &change->old_row->uuid);
    if (alive != NULL) {
        list_remove(&alive->node);
        free(alive);
    }
    return true;
}

void
api_alive_tick(struct api *api)
{
    bool any = false;

    LIST_FOREACH (node, &api->alive) {
        struct api_alive *alive = container_of(node, struct api_alive, node);
        const struct state_host_status *row =
            state_host_status_get(api->state, &alive->status);
        if (row == NULL || alive->was_silent || !api_host_is_silent(api, row)) {
            continue;
        }
        /* Nothing was written, but what is shown of it changes. */
        struct state_change change = {
            .kind = STATE_CHANGE_UPDATE,
            .table = STATE_TABLE_HOST_STATUS,
            .old_row = &row->row,
            .new_row = &row->row,
            .columns = STATE_HOST_STATUS_COL_LAST_SEEN_MS,
        };
        alive->was_silent = true;
        api_watch_changed(api, &change);
        any = true;
    }
    if (any) {
        api_watch_batch_end(api);
    }
}

void
api_alive_free(struct api *api)
{
    for (struct list *node = list_pop_front(&api->alive); node != NULL;
         node = list_pop_front(&api->alive)) {
        free(container_of(node, struct api_alive, node));
    }
}
