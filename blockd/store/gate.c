/* SPDX-License-Identifier: Apache-2.0 */

/* The gate (S15): of two requests to a replica whose blocks overlap and of
 * which one writes, the later one waits for the earlier.  The owner's range
 * locks see to that already; the store does not rely on it.
 *
 * All reads, writes and fences of a replica are on its gate list, in order of
 * arrival, until they end.  A fence or removal is exclusive: it waits for all
 * before it, and all after it wait (but flushes, lists and views, which are on
 * the list only because they refer to the replica); since the session is closed
 * as soon as one arrives, what was still waiting then ends with -ESTALE. */

#include <errno.h>

#include "blockd/store/internal.h"

static bool
gate_conflicts(const struct work *a, const struct work *b)
{
    if (a->passive || b->passive) {
        return false;
    }
    if (a->exclusive || b->exclusive) {
        return true;
    }
    if ((!a->writes && !b->writes) || a->req->layer != b->req->layer) {
        return false;
    }
    return a->first < b->end && b->first < a->end;
}

static bool
gate_is_open(struct work *work)
{
    LIST_FOREACH (node, &work->replica->gate) {
        struct work *other = container_of(node, struct work, gate_node);

        if (other == work) {
            return true;
        }
        if (gate_conflicts(other, work)) {
            return false;
        }
    }
    return true;
}

void
gate_enter(struct store *store, struct work *work)
{
    list_push_back(&work->replica->gate, &work->gate_node);
    if (gate_is_open(work)) {
        work_to(store, work, WORK_READY);
    } else {
        work->state = WORK_GATED;
        work->replica->gated++;
    }
}

void
gate_leave(struct store *store, struct work *work)
{
    struct replica *replica = work->replica;

    if (!list_is_linked(&work->gate_node)) {
        return;
    }
    if (work->state == WORK_GATED) {
        replica->gated--;
    }
    list_remove(&work->gate_node);
    if (replica->gated == 0) {
        return;
    }
    LIST_FOREACH (node, &replica->gate) {
        struct work *other = container_of(node, struct work, gate_node);

        if (other->state == WORK_GATED && gate_is_open(other)) {
            replica->gated--;
            work_to(store, other, WORK_READY);
        }
    }
}

/* The open session, or one that was open when the request came (planted). */
int
session_check(const struct store *store, const struct replica *replica,
              const struct store_req *req)
{
    if (planted(store, PLANTED_OLD_SESSION)) {
        return 0;
    }
    if (!replica->session_open || replica->is_removing ||
        req->session != le64_get(replica->entry.session) ||
        req->epoch != le32_get(replica->entry.epoch)) {
        return -ESTALE;
    }
    return 0;
}
