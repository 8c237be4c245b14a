/* SPDX-License-Identifier: Apache-2.0 */

/* This host's own rows: Global (the first host of a new cloud writes it), Host
 * (written once, then the administrator's) and Host_Status (who runs here,
 * with a heartbeat, for people: nothing that keeps data safe reads it). */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/cluster/cluster_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"

#define HEARTBEAT_MS 2000u
#define HEARTBEAT_HOST_MS 50u /* For each host: every API follows all rows. */

struct host_keeper {
    struct cluster *cluster;
    struct state_txn txn;
    bool txn_busy;
    bool is_registered;
    uint64_t next_ns;
    uint64_t started_ms;
};

uint64_t
cluster_heartbeat_ms(const struct state *state)
{
    uint64_t scaled =
        (uint64_t)state_row_count(state, STATE_TABLE_HOST) * HEARTBEAT_HOST_MS;

    return scaled > HEARTBEAT_MS ? scaled : HEARTBEAT_MS;
}

int
host_keeper_new(struct cluster *cluster)
{
    struct host_keeper *keeper = calloc(1, sizeof *keeper);
    if (keeper == NULL) {
        return -ENOMEM;
    }
    keeper->cluster = cluster;
    keeper->started_ms = cluster_wall_ms();
    cluster->host_keeper = keeper;
    return 0;
}

static void
host_build_global(struct state_txn *txn, struct state *state)
{
    if (state_global_next(state, NULL) != NULL) {
        return;
    }
    struct state_global row = { .row.table = STATE_TABLE_GLOBAL,
                                .schema_min = "1.0.0" };
    /* maxRows of the schema: of two first hosts one fails and tries again. */
    state_uuid_random(&row.row.uuid);
    state_uuid_random(&row.cloud_uuid);
    state_uuid_random(&row.incarnation);
    state_txn_insert(txn, &row.row, STATE_GLOBAL_COL_ALL);
}

static void
host_build_host(struct state_txn *txn, struct state *state,
                const struct cluster *cluster)
{
    const struct state_host *old =
        state_host_find_by_name(state, cluster->host);
    struct state_host row = {
        .row.table = STATE_TABLE_HOST,
        .name = cluster->host,
        .address = cluster->peer_address,
        .api_endpoint = cluster->api_endpoint,
        .rack = cluster->rack,
        .enabled = true,
    };
    if (old == NULL) {
        state_uuid_derive(cluster->host, "host", &row.row.uuid);
        state_txn_insert(txn, &row.row, STATE_HOST_COL_ALL);
        return;
    }
    uint64_t columns = 0;
    if (strcmp(old->address, cluster->peer_address) != 0) {
        columns |= STATE_HOST_COL_ADDRESS;
    }
    if (strcmp(old->api_endpoint, cluster->api_endpoint) != 0) {
        columns |= STATE_HOST_COL_API_ENDPOINT;
    }
    if (strcmp(old->rack, cluster->rack) != 0) {
        columns |= STATE_HOST_COL_RACK;
    }
    if (columns != 0) {
        row.row.uuid = old->row.uuid;
        state_txn_update(txn, &row.row, columns);
    }
}

static int
host_build(struct state_txn *txn, struct state *state)
{
    struct host_keeper *keeper = container_of(txn, struct host_keeper, txn);
    struct cluster *cluster = keeper->cluster;
    const struct state_host_status *old =
        state_host_status_find_by_host(state, cluster->host);
    struct state_host_status row = {
        .row.table = STATE_TABLE_HOST_STATUS,
        .host = cluster->host,
        .instance = cluster->instance,
        .version = cluster->version,
        .started_at_ms = keeper->started_ms,
        .last_seen_ms = cluster_wall_ms(),
    };

    host_build_global(txn, state);
    host_build_host(txn, state, cluster);
    if (old == NULL) {
        state_uuid_derive(cluster->host, "host_status", &row.row.uuid);
        state_txn_insert(txn, &row.row, STATE_HOST_STATUS_COL_ALL);
    } else {
        row.row.uuid = old->row.uuid;
        state_txn_update(txn, &row.row,
                         STATE_HOST_STATUS_COL_ALL &
                             ~STATE_HOST_STATUS_COL_HOST);
    }
    return 0;
}

static void
host_done(struct state_txn *txn, int result)
{
    struct host_keeper *keeper = container_of(txn, struct host_keeper, txn);

    keeper->txn_busy = false;
    if (result == 0 && !keeper->is_registered) {
        keeper->is_registered = true;
        log_info("cluster", "registered host=%s", keeper->cluster->host);
    } else if (result != 0 && result != -ETIMEDOUT) {
        log_warning("cluster", "heartbeat not written result=%d text=%s",
                    result, txn->error);
    }
    keeper->next_ns =
        loop_now_ns() +
        (result == 0 ? cluster_heartbeat_ms(keeper->cluster->state) * NS_PER_MS
                     : NS_PER_S);
    cluster_touch(keeper->cluster);
}

void
host_keeper_sync(struct cluster *cluster)
{
    struct host_keeper *keeper = cluster->host_keeper;

    if (keeper->txn_busy || cluster->is_stopping ||
        !state_status(cluster->state)->has_contents ||
        loop_now_ns() < keeper->next_ns) {
        return;
    }
    keeper->txn = (struct state_txn){
        .build = host_build,
        .done = host_done,
        .comment = "host heartbeat",
        .deadline_ns = loop_now_ns() + CLUSTER_TXN_NS,
        .flags = STATE_TXN_RETRY,
    };
    keeper->txn_busy = true;
    state_txn_start(cluster->state, &keeper->txn);
}

void
host_keeper_hurry(struct cluster *cluster)
{
    if (cluster->host_keeper->txn_busy) {
        state_txn_cancel(&cluster->host_keeper->txn);
    }
}

bool
host_keeper_is_idle(const struct cluster *cluster)
{
    return !cluster->host_keeper->txn_busy;
}

void
host_keeper_free(struct cluster *cluster)
{
    free(cluster->host_keeper);
    cluster->host_keeper = NULL;
}
