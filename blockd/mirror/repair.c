/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"

/* One unreadable block at a time, under the exclusive lock of the read that
 * met it (S15).
 *
 * The block is read from one trusted replica after the other, nearest first.
 * The first good state wins; if there is none, the first suspect's bytes are
 * adopted (STORAGE (a)).  What won is then *written to all replicas* as an
 * ordinary write with a sequence number of its own, so that every rule about
 * writes (acknowledgement, membership, G, resync) holds for repairs, too; a
 * hole that won is an ordinary discard.  After that the read is repeated.
 *
 * If the gate closes in between, the read waits for it and begins again. */

#define REPAIR_DEADLINE_NS (30 * NS_PER_S)

static store_req_done_fn mirror_repair_read_done;
static mirror_io_done_fn mirror_repair_write_done;

void
mirror_repair_init(struct mirror *mirror)
{
    list_init(&mirror->repair.queue);
}

void
mirror_repair_queue(struct mirror_io *io)
{
    list_push_back(&io->mirror->repair.queue, &io->node);
    mirror_kick(io->mirror);
}

/* The victim goes back to where reads come from, or ends. */
static void
mirror_repair_release(struct mirror *mirror, int result)
{
    struct mirror_io *io = mirror->repair.victim;

    mirror->repair.victim = NULL;
    mirror->repair.busy = false;
    mirror_kick(mirror); /* The next one. */
    if (result != 0) {
        mirror_io_finish(io, result);
    } else {
        mirror_io_route(io);
    }
}

static void
mirror_repair_write(struct mirror *mirror)
{
    struct mirror_repair *repair = &mirror->repair;
    struct mirror_io *io = &repair->write;
    bool data = repair->state == STORE_BLOCK_DATA;

    io->block = repair->block;
    io->block_count = 1;
    io->data = repair->data;
    io->crcs = &repair->crc;
    io->states = &repair->state;
    io->locked = true;
    mirror->counts.repairs++;
    mirror_notify(mirror, "block-repaired", "block %llu%s",
                  (unsigned long long)repair->block,
                  repair->suspect ? ": one replica's bytes adopted" : "");
    mirror_internal_submit(mirror, io, data ? MIRROR_WRITE : MIRROR_DISCARD,
                           mirror_repair_write_done);
}

/* All have been asked, and none had good bytes. */
static void
mirror_repair_adopt(struct mirror *mirror)
{
    struct mirror_repair *repair = &mirror->repair;

    if (!repair->suspect) {
        mirror_repair_release(mirror, -EIO);
        return;
    }
    memcpy(repair->data, repair->kept, WEFT_BLOCK_SIZE);
    repair->crc = crc32c(0, repair->data, WEFT_BLOCK_SIZE);
    repair->state = STORE_BLOCK_DATA;
    mirror->counts.adoptions++;
    mirror_repair_write(mirror);
}

static void
mirror_repair_ask(struct mirror *mirror)
{
    struct mirror_repair *repair = &mirror->repair;

    if (!mirror_is_open(mirror) || mirror->trusted != mirror->row.in_sync) {
        mirror_repair_release(mirror, 0); /* Waits for the gate. */
        return;
    }
    uint32_t candidates = mirror->trusted & ~repair->tried;
    if (candidates == 0) {
        mirror_repair_adopt(mirror);
        return;
    }
    repair->index = mirror_replica_nearest(mirror, candidates);
    repair->tried |= 1u << repair->index;
    struct mirror_replica *replica = mirror_replica_of(mirror, repair->index);
    mirror_req_prepare(replica, &repair->req, STORE_READ,
                       mirror_repair_read_done);
    repair->req.block = repair->block;
    repair->req.block_count = 1;
    repair->req.data = repair->data;
    repair->req.crcs = &repair->crc;
    repair->req.states = &repair->state;
    mirror_req_limit(replica, &repair->req, REPAIR_DEADLINE_NS);
    mirror_req_send(replica, &repair->req);
}

void
mirror_repair_pump(struct mirror *mirror)
{
    struct mirror_repair *repair = &mirror->repair;

    if (repair->victim != NULL) {
        return;
    }
    struct list *node = list_pop_front(&repair->queue);
    if (node == NULL) {
        return;
    }
    repair->victim = container_of(node, struct mirror_io, node);
    repair->block = repair->victim->block + repair->victim->bad;
    repair->tried = 0;
    repair->suspect = false;
    repair->busy = true;
    mirror_repair_ask(mirror);
}

static void
mirror_repair_read_done(struct store_req *req)
{
    struct mirror_repair *repair = container_of(req, struct mirror_repair, req);
    struct mirror *mirror = container_of(repair, struct mirror, repair);
    struct mirror_replica *replica = mirror_replica_of(mirror, repair->index);

    mirror_req_settled(replica, req);
    if (req->result != 0) {
        mirror_replica_fail(replica, req->session, req->result, "repair");
        mirror_repair_ask(mirror);
        return;
    }
    mirror_verify(mirror, repair->data, &repair->crc, &repair->state, 1);
    switch (repair->state) {
    case STORE_BLOCK_DATA:
    case STORE_BLOCK_ABSENT:
    case STORE_BLOCK_ZERO:
        repair->suspect = false;
        mirror_repair_write(mirror);
        return;
    case STORE_BLOCK_SUSPECT:
        if (!repair->suspect) {
            repair->suspect = true;
            memcpy(repair->kept, repair->data, WEFT_BLOCK_SIZE);
        }
        break;
    default:
        break;
    }
    mirror_repair_ask(mirror);
}

static void
mirror_repair_write_done(struct mirror_io *io)
{
    struct mirror_repair *repair =
        container_of(io, struct mirror_repair, write);
    struct mirror *mirror = container_of(repair, struct mirror, repair);

    mirror_repair_release(mirror, io->result);
}
