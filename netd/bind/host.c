/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/bind/host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/units.h"
#include "netd/bind/private.h"

#define HOST_TXN_NS (5 * NS_PER_S)
#define HOST_RETRY_NS (2 * NS_PER_S)

/* What this version realises beyond the first (N12). */
#define HOST_FEATURES ""

struct host {
    struct host_options options;
    struct loop_timer timer;
    struct state_txn txn;
    bool is_busy;
    bool is_registered;
    uint64_t retry_ns;
    uint64_t started_ms;
    struct weft_uuid instance;
    uint32_t underlay_mtu;
    char error[512];
};

/* ---- Net_Host and Global ---- */

static bool
build_global(const struct host *host, struct state_txn *txn,
             struct state *state)
{
    struct cloud_status status;
    struct state_global row = { .row.table = STATE_TABLE_GLOBAL,
                                .schema_min = "1.0.0" };

    cloud_get_status(host->options.cloud, &status);
    if (state_global_next(state, NULL) != NULL || status.is_pinned) {
        return false; /* An empty database is not our cloud's (N7). */
    }
    /* maxRows of the schema: of two first hosts one fails and tries again. */
    state_uuid_random(&row.row.uuid);
    state_uuid_random(&row.cloud_uuid);
    state_uuid_random(&row.incarnation);
    state_txn_insert(txn, &row.row, STATE_GLOBAL_COL_ALL);
    return true;
}

static int
host_build(struct state_txn *txn, struct state *state)
{
    const struct host *host = container_of(txn, struct host, txn);
    const struct state_net_host *old =
        state_net_host_find_by_host(state, host->options.host);
    struct state_net_host row = {
        .row.table = STATE_TABLE_NET_HOST,
        .host = host->options.host,
        .encap_ip = host->options.encap_ip,
        .enabled = true,
    };
    bool is_empty = !build_global(host, txn, state);

    if (old == NULL) {
        state_uuid_derive(host->options.host, "net_host", &row.row.uuid);
        state_txn_insert(txn, &row.row, STATE_NET_HOST_COL_ALL);
        is_empty = false;
    } else if (strcmp(old->encap_ip, row.encap_ip) != 0) {
        row.row.uuid = old->row.uuid;
        state_txn_update(txn, &row.row, STATE_NET_HOST_COL_ENCAP_IP);
        is_empty = false;
    }
    return is_empty ? STATE_TXN_NOTHING : 0;
}

static void
host_done(struct state_txn *txn, int result)
{
    struct host *host = container_of(txn, struct host, txn);

    host->is_busy = false;
    if (result == -ESHUTDOWN) {
        return;
    }
    if (result == 0) {
        host->is_registered = true;
        log_info("bind", "registered host=%s encap_ip=%s", host->options.host,
                 host->options.encap_ip);
        return;
    }
    if (result == -EEXIST && txn->conflict_table == STATE_TABLE_NET_HOST) {
        log_error("bind",
                  "another host has this tunnel address, this one cannot be "
                  "reached encap_ip=%s",
                  host->options.encap_ip);
    } else if (result != -EEXIST && result != -ETIMEDOUT) {
        log_warning("bind",
                    "this host cannot be registered, trying again "
                    "result=%d text=%s",
                    result, txn->error);
    }
    host->retry_ns = loop_now_ns() + HOST_RETRY_NS;
}

/* Somebody who took it for dead has forgotten this host. */
static bool
is_forgotten(const struct host *host)
{
    return cloud_is_complete(host->options.cloud) &&
           state_net_host_find_by_host(cloud_state(host->options.cloud),
                                       host->options.host) == NULL;
}

void
host_step(struct host *host)
{
    struct cloud_status status;

    cloud_get_status(host->options.cloud, &status);
    host->is_registered = host->is_registered && !is_forgotten(host);
    if (host->is_registered || host->is_busy || !status.is_connected ||
        status.is_refused || loop_now_ns() < host->retry_ns) {
        return;
    }
    host->is_busy = true;
    host->txn = (struct state_txn){
        .build = host_build,
        .done = host_done,
        .comment = "netd: registration",
        .deadline_ns = loop_now_ns() + HOST_TXN_NS,
    };
    state_txn_start(cloud_state(host->options.cloud), &host->txn);
}

/* ---- Net_Host_Status ---- */

static void
beat(struct host *host)
{
    struct weft_uuid nil = { { 0 } };
    struct state_net_host_status row = {
        .row.table = STATE_TABLE_NET_HOST_STATUS,
        .host = host->options.host,
        .instance = host->instance,
        .version = host->options.version,
        .api_endpoint = host->options.api_endpoint,
        .started_at_ms = host->started_ms,
        .last_seen_ms = bind_wall_ms(),
        .underlay_mtu = host->underlay_mtu,
        .features = HOST_FEATURES,
        .error = host->error,
    };

    report_uuid(host->options.report, STATE_TABLE_NET_HOST_STATUS, &nil,
                &row.row.uuid);
    report_put(host->options.report, &row.row);
}

static void
host_fire(struct loop_timer *timer)
{
    struct host *host = container_of(timer, struct host, timer);

    host_step(host);
    beat(host);
    loop_timer_set(host->options.loop, timer,
                   loop_now_ns() + HOST_HEARTBEAT_NS);
}

void
host_set_underlay_mtu(struct host *host, uint32_t mtu)
{
    if (mtu != host->underlay_mtu) {
        host->underlay_mtu = mtu;
        beat(host);
    }
}

void
host_set_error(struct host *host, const char *error)
{
    if (strcmp(error, host->error) != 0) {
        (void)snprintf(host->error, sizeof host->error, "%s", error);
        beat(host);
    }
}

struct host *
host_new(const struct host_options *options)
{
    struct host *host = calloc(1, sizeof *host);

    CHECK(host != NULL);
    host->options = *options;
    host->started_ms = bind_wall_ms();
    state_uuid_random(&host->instance);
    loop_timer_init(&host->timer, host_fire);
    loop_timer_set(options->loop, &host->timer, loop_now_ns());
    return host;
}

void
host_free(struct host *host)
{
    if (host == NULL) {
        return;
    }
    CHECK(!host->is_busy);
    loop_timer_cancel(host->options.loop, &host->timer);
    free(host);
}
