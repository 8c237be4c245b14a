/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* A round: one SET_VIEW or FLUSH to each replica of a set, while the gate is
 * closed.  A replica that fails it loses its session, and the judge sees that;
 * nothing is repeated here (e).  mirror->round_pending is 0 when all settled.
 */

#define ROUND_DEADLINE_NS (30 * NS_PER_S)

static void
mirror_round_done(struct store_req *req)
{
    struct mirror_replica *replica =
        container_of(req, struct mirror_replica, round);
    struct mirror *mirror = replica->mirror;

    CHECK(replica->round_pending);
    CHECK(mirror->round_pending > 0);
    replica->round_pending = false;
    mirror->round_pending--;
    mirror_replica_answered(replica, req);
    mirror_kick(mirror);

    if (req->opcode == STORE_FLUSH) {
        (void)mirror_flush_answer(replica, req, replica->round_mark);
    } else if (req->result != 0) {
        mirror_replica_fail(replica, req->session, req->result, "set view");
    } else if (replica->phase == REPLICA_OPEN &&
               replica->session == req->session &&
               req->membership.view == mirror->row.view) {
        mirror->persisted |= 1u << replica->index;
        replica->session_incarnation = replica->incarnation;
    }
}

static void
mirror_round_membership(const struct mirror *mirror,
                        struct store_membership *ret)
{
    const struct mirror_row *row = &mirror->row;

    *ret = (struct store_membership){ .epoch = mirror->options.epoch,
                                      .view = row->view };
    for (uint32_t i = 0; i < row->replica_count; i++) {
        if ((row->in_sync & 1u << i) != 0) {
            ret->in_sync[ret->in_sync_count++] = row->replica[i];
        }
    }
}

void
mirror_round_begin(struct mirror *mirror, enum store_opcode opcode,
                   uint32_t set)
{
    CHECK(mirror->round_pending == 0);

    mirror->round_point = mirror_complete_point(mirror);
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        struct mirror_replica *replica = mirror_replica_of(mirror, i);
        if ((set & mirror->open & 1u << i) == 0) {
            continue;
        }
        struct store_req *req = &replica->round;
        mirror_req_prepare(replica, req, opcode, mirror_round_done);
        mirror_req_limit(replica, req, ROUND_DEADLINE_NS);
        if (opcode == STORE_FLUSH) {
            req->known_good = mirror_known_good(mirror);
            replica->round_mark = replica->mutations_done;
        } else {
            CHECK(opcode == STORE_SET_VIEW);
            mirror_round_membership(mirror, &req->membership);
            req->incarnation = replica->incarnation;
        }
        replica->round_pending = true;
        mirror->round_pending++;
        mirror_replica_busy(replica, req);
        link_submit(replica->link, req);
    }
    mirror_kick(mirror);
}
