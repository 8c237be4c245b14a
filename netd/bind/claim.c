/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/units.h"
#include "netd/bind/private.h"

/* Port.host, by compare-and-set (N13): from empty to this host, when a port
 * shows up; back to empty, when one that was claimed so has gone.  The
 * transaction is built from the rows as they are then; a host that was faster
 * makes it look again. */

#define CLAIM_TXN_NS (5 * NS_PER_S)
#define CLAIM_RETRY_NS (1 * NS_PER_S)

static bool
wants_claim(const struct bind_port *port)
{
    return port->decision.verdict == BIND_CLAIM;
}

static bool
wants_release(const struct bind_port *port)
{
    return port->decision.verdict == BIND_SERVE && port->decision.is_released;
}

static int
claim_build(struct state_txn *txn, struct state *state)
{
    struct bind *bind = container_of(txn, struct bind, txn);
    const char *host = bind->options.host;
    bool is_empty = true;

    for (size_t i = 0; i < bind->count; i++) {
        const struct bind_port *port = bind->ports[i];
        const struct state_port *now = state_port_get(state, &port->uuid);
        const char *from = wants_claim(port) ? "" : host;
        const char *to = wants_claim(port) ? host : "";
        if ((!wants_claim(port) && !wants_release(port)) || now == NULL ||
            strcmp(now->host, from) != 0) {
            continue;
        }
        struct state_port row = {
            .row = { .table = STATE_TABLE_PORT, .uuid = port->uuid },
            .host = to,
        };
        state_txn_verify(txn, &now->row, STATE_PORT_COL_HOST);
        state_txn_update(txn, &row.row, STATE_PORT_COL_HOST);
        is_empty = false;
    }
    return is_empty ? STATE_TXN_NOTHING : 0;
}

static void
claim_done(struct state_txn *txn, int result)
{
    struct bind *bind = container_of(txn, struct bind, txn);

    bind->is_busy = false;
    if (result == -ESHUTDOWN) {
        return;
    }
    if (result != 0) {
        log_warning("bind",
                    "ports cannot be claimed or released, trying again "
                    "result=%d text=%s",
                    result, txn->error);
        bind->txn_retry_ns = loop_now_ns() + CLAIM_RETRY_NS;
    }
    bind->is_due = true;
    bind->options.listener->touch(bind->options.listener);
}

void
bind_claim(struct bind *bind)
{
    bool is_wanted = false;

    /* By the snapshot's rows nothing is claimed (N7): the database's may say
     * otherwise, and a row that is not there would be asked for at once again.
     */
    if (!cloud_is_complete(bind->options.cloud)) {
        return;
    }
    for (size_t i = 0; i < bind->count; i++) {
        is_wanted = is_wanted || wants_claim(bind->ports[i]) ||
                    wants_release(bind->ports[i]);
    }
    if (!is_wanted || bind->is_busy) {
        return;
    }
    if (loop_now_ns() < bind->txn_retry_ns) {
        bind_retry(bind, bind->txn_retry_ns);
        return;
    }
    bind->is_busy = true;
    bind->txn = (struct state_txn){
        .build = claim_build,
        .done = claim_done,
        .comment = "netd: claim",
        .deadline_ns = loop_now_ns() + CLAIM_TXN_NS,
        .flags = STATE_TXN_RETRY,
    };
    state_txn_start(cloud_state(bind->options.cloud), &bind->txn);
}
