/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"

/* One unit (the largest slot among those concerned) from a source to targets.
 *
 *     READ --all good--------------------------> PUT --> done
 *       | some BAD or SUSPECT                     ^
 *       v                                         |
 *     HELP (each helper in turn) --> judged ------+
 *
 *   (1) The caller holds the unit: by a range lock (resync), or because the
 *       gate is closed (reconcile).
 *   (2) Blocks that the source cannot give come from a helper; if none has
 *       good bytes, a suspect's are adopted (STORAGE (a)).  Then the source and
 *       the helpers get the unit as well.
 *   (3) A block that nobody can give: if there is a target that was not asked,
 *       the copy fails with -EIO, since that target must not hide the loss
 *       behind old bytes; if it is lost at all replicas (reconcile), everything
 *       around it is made equal.
 *   (4) Slots keep the source's sequence (S16).  What becomes empty gets a
 *       new one, since it marks the region as touched (S4), and must be newer
 *       than any G.  So does a unit with adopted bytes, or (in a reconcile)
 *       with a helper's blocks, the same for all: a replica that is away and
 *       has other bytes must see that these are news.  These numbers are not in
 *       'writes': the complete point stays behind them (flush.c).
 *   (5) -EAGAIN: a replica failed, or the gate closed: begin anew. */

#define COPY_DEADLINE_NS (30 * NS_PER_S)

static store_req_done_fn mirror_copy_read_done;
static store_req_done_fn mirror_copy_put_done;
static void mirror_copy_read(struct mirror_copy *copy, uint32_t index);

static void
mirror_copy_finish(struct mirror_copy *copy, int result)
{
    CHECK(copy->pending == 0);
    copy->state = COPY_IDLE;
    copy->done(copy, result);
}

/* Whether the world has changed under us (5). */
static bool
mirror_copy_is_over(const struct mirror_copy *copy)
{
    const struct mirror *mirror = copy->mirror;
    uint32_t set = copy->helpers | copy->targets | 1u << copy->source;

    if (copy->live) {
        return (set & ~mirror->open) != 0 || !mirror_is_open(mirror);
    }
    return mirror->reconcile.broken || mirror->phase != PHASE_RECONCILE;
}

/* ---- PUT ---- */

static bool
mirror_copy_is_empty(const struct mirror_copy *copy, uint32_t at,
                     uint32_t count)
{
    for (uint32_t i = at; i < at + count; i++) {
        if (copy->states[i] != STORE_BLOCK_ABSENT) {
            return false;
        }
    }
    return true;
}

/* The next slot. */
static bool
mirror_copy_fill_slot(struct mirror_copy *copy, struct mirror_copy_leg *leg)
{
    struct mirror *mirror = copy->mirror;
    uint32_t count = mirror->replica[leg->index].slot_blocks;
    struct store_req *req = &leg->req;

    if (leg->at >= copy->block_count) {
        return false;
    }
    CHECK(leg->at + count <= copy->block_count);
    req->opcode = STORE_PUT_SLOT;
    req->block = copy->block + leg->at;
    req->block_count = count;
    req->data = copy->data + (size_t)leg->at * WEFT_BLOCK_SIZE;
    req->crcs = copy->crcs + leg->at;
    req->states = copy->states + leg->at;
    req->sequence = copy->sequence;
    if (copy->sequence == 0 || mirror_copy_is_empty(copy, leg->at, count)) {
        req->sequence =
            store_seq_make(mirror->options.epoch, ++mirror->counter);
    }
    leg->at += count;
    return true;
}

/* (3): the next run of blocks that are alike, lost ones skipped. */
static bool
mirror_copy_fill_run(struct mirror_copy *copy, struct mirror_copy_leg *leg)
{
    struct mirror *mirror = copy->mirror;
    struct store_req *req = &leg->req;
    uint64_t left = mirror->options.size_blocks - copy->block;
    uint32_t end =
        left < copy->block_count ? (uint32_t)left : copy->block_count;

    while (leg->at < end && copy->states[leg->at] == STORE_BLOCK_BAD) {
        leg->at++;
    }
    if (leg->at >= end) {
        return false;
    }
    uint8_t state = copy->states[leg->at];
    uint32_t count = 1;
    while (leg->at + count < end && copy->states[leg->at + count] == state) {
        count++;
    }
    req->opcode = state == STORE_BLOCK_DATA ? STORE_WRITE : STORE_DISCARD;
    req->block = copy->block + leg->at;
    req->block_count = count;
    req->data = copy->data + (size_t)leg->at * WEFT_BLOCK_SIZE;
    req->crcs = copy->crcs + leg->at;
    req->discard_zero = state == STORE_BLOCK_ZERO;
    req->sequence = store_seq_make(mirror->options.epoch, ++mirror->counter);
    leg->at += count;
    return true;
}

/* False: this target has everything. */
static bool
mirror_copy_put_next(struct mirror_copy *copy, uint32_t index)
{
    struct mirror *mirror = copy->mirror;
    struct mirror_replica *replica = mirror_replica_of(mirror, index);
    struct mirror_copy_leg *leg = &copy->leg[index];

    mirror_req_prepare(replica, &leg->req, STORE_PUT_SLOT,
                       mirror_copy_put_done);
    if (copy->around ? !mirror_copy_fill_run(copy, leg)
                     : !mirror_copy_fill_slot(copy, leg)) {
        return false;
    }
    mirror_req_limit(replica, &leg->req, COPY_DEADLINE_NS);
    copy->pending |= 1u << index;
    replica->mutations_sent++;
    mirror_req_send(replica, &leg->req);
    return true;
}

static void
mirror_copy_put(struct mirror_copy *copy)
{
    uint32_t targets = copy->targets;

    if (copy->fixed) {
        targets |= copy->helpers | 1u << copy->source; /* (2) */
    }
    if (mirror_copy_is_over(copy)) {
        mirror_copy_finish(copy, -EAGAIN);
        return;
    }
    copy->empty =
        !copy->around && mirror_copy_is_empty(copy, 0, copy->block_count);
    copy->state = COPY_PUT;
    copy->result = 0;
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        copy->leg[i].copy = copy;
        copy->leg[i].index = i;
        copy->leg[i].at = 0;
        if ((targets & 1u << i) != 0) {
            (void)mirror_copy_put_next(copy, i);
        }
    }
    if (copy->pending == 0) {
        mirror_copy_finish(copy, 0);
    }
}

static void
mirror_copy_put_done(struct store_req *req)
{
    struct mirror_copy_leg *leg =
        container_of(req, struct mirror_copy_leg, req);
    struct mirror_copy *copy = leg->copy;
    struct mirror *mirror = copy->mirror;
    struct mirror_replica *replica = mirror_replica_of(mirror, leg->index);

    copy->pending &= ~(1u << leg->index);
    replica->mutations_done++;
    mirror_req_settled(replica, req);
    if (req->result != 0) {
        mirror_replica_fail(replica, req->session, req->result, "copy");
        copy->result = -EAGAIN;
    }
    if (copy->result == 0 && mirror_copy_is_over(copy)) {
        copy->result = -EAGAIN;
    }
    if (copy->result == 0 && mirror_copy_put_next(copy, leg->index)) {
        return;
    }
    if (copy->pending == 0) {
        mirror_copy_finish(copy, copy->result);
    }
}

/* ---- READ and HELP ---- */

/* What the source and its helpers said is all there is. */
static void
mirror_copy_resolve(struct mirror_copy *copy)
{
    struct mirror *mirror = copy->mirror;
    bool adopted = false;

    for (uint32_t i = 0; i < copy->block_count; i++) {
        uint8_t *data = copy->data + (size_t)i * WEFT_BLOCK_SIZE;
        if (copy->states[i] == STORE_BLOCK_SUSPECT) {
            copy->states[i] = STORE_BLOCK_DATA;
            copy->crcs[i] = crc32c(0, data, WEFT_BLOCK_SIZE);
            copy->fixed = adopted = true;
            mirror->counts.adoptions++;
            mirror_notify(mirror, "block-repaired",
                          "block %llu: one replica's bytes adopted",
                          (unsigned long long)copy->block + i);
        } else if (copy->states[i] == STORE_BLOCK_BAD) {
            if (copy->live || (copy->targets & ~copy->helpers) != 0) {
                mirror_copy_finish(copy, -EIO); /* (3) */
                return;
            }
            copy->around = true;
        }
    }
    copy->floor = store_seq_make(mirror->options.epoch, mirror->counter);
    /* In a reconcile a helper may never have been equal to the source. */
    bool news = adopted || (copy->fixed && !copy->live);
    if (news && !mirror_planted(mirror, MIRROR_PLANTED_ADOPT_KEEPS)) {
        copy->sequence =
            store_seq_make(mirror->options.epoch, ++mirror->counter);
    }
    mirror_copy_put(copy);
}

/* Takes from the helper what the source could not give. */
static void
mirror_copy_merge(struct mirror_copy *copy)
{
    mirror_verify(copy->mirror, copy->help_data, copy->help_crcs,
                  copy->help_states, copy->block_count);
    for (uint32_t i = 0; i < copy->block_count; i++) {
        uint8_t ours = copy->states[i];
        uint8_t theirs = copy->help_states[i];
        bool better =
            (ours == STORE_BLOCK_BAD && theirs != ours) ||
            (ours == STORE_BLOCK_SUSPECT && theirs <= STORE_BLOCK_ZERO);
        if (!better) {
            continue;
        }
        copy->states[i] = theirs;
        copy->crcs[i] = copy->help_crcs[i];
        memcpy(copy->data + (size_t)i * WEFT_BLOCK_SIZE,
               copy->help_data + (size_t)i * WEFT_BLOCK_SIZE, WEFT_BLOCK_SIZE);
        if (theirs <= STORE_BLOCK_ZERO) {
            copy->bad_count--;
            copy->fixed = true;
            copy->mirror->counts.repairs++;
        }
    }
}

/* Asks the next helper if there is need for one. */
static void
mirror_copy_help(struct mirror_copy *copy)
{
    for (uint32_t i = copy->helper; i < STORE_REPLICAS_MAX; i++) {
        if (copy->bad_count != 0 && (copy->helpers & 1u << i) != 0) {
            copy->state = COPY_HELP;
            copy->helper = i;
            copy->at = 0;
            mirror_copy_read(copy, i);
            return;
        }
    }
    mirror_copy_resolve(copy);
}

static void
mirror_copy_read_all(struct mirror_copy *copy)
{
    if (copy->state == COPY_HELP) {
        mirror_copy_merge(copy);
        copy->helper++;
        mirror_copy_help(copy);
        return;
    }
    mirror_verify(copy->mirror, copy->data, copy->crcs, copy->states,
                  copy->block_count);
    copy->bad_count = 0;
    for (uint32_t i = 0; i < copy->block_count; i++) {
        copy->bad_count += copy->states[i] > STORE_BLOCK_ZERO;
    }
    copy->helper = 0;
    mirror_copy_help(copy);
}

/* Slot by slot, because a read tells the sequence of its first slot. */
static void
mirror_copy_read(struct mirror_copy *copy, uint32_t index)
{
    struct mirror *mirror = copy->mirror;
    struct mirror_replica *replica = mirror_replica_of(mirror, index);
    struct mirror_copy_leg *leg = &copy->leg[index];
    bool help = copy->state == COPY_HELP;
    uint64_t block = copy->block + copy->at;

    if (mirror_copy_is_over(copy)) {
        mirror_copy_finish(copy, -EAGAIN);
        return;
    }
    if (copy->at >= copy->block_count || block >= mirror->options.size_blocks) {
        mirror_copy_read_all(copy);
        return;
    }
    uint64_t count = replica->slot_blocks;
    if (count > mirror->options.size_blocks - block) {
        count = mirror->options.size_blocks - block;
    }
    mirror_req_prepare(replica, &leg->req, STORE_READ, mirror_copy_read_done);
    leg->copy = copy;
    leg->index = index;
    leg->req.block = block;
    leg->req.block_count = (uint32_t)count;
    leg->req.data = (help ? copy->help_data : copy->data) +
                    (size_t)copy->at * WEFT_BLOCK_SIZE;
    leg->req.crcs = (help ? copy->help_crcs : copy->crcs) + copy->at;
    leg->req.states = (help ? copy->help_states : copy->states) + copy->at;
    mirror_req_limit(replica, &leg->req, COPY_DEADLINE_NS);
    copy->pending = 1u << index;
    mirror_req_send(replica, &leg->req);
}

static void
mirror_copy_read_done(struct store_req *req)
{
    struct mirror_copy_leg *leg =
        container_of(req, struct mirror_copy_leg, req);
    struct mirror_copy *copy = leg->copy;
    struct mirror *mirror = copy->mirror;

    copy->pending = 0;
    mirror_req_settled(mirror_replica_of(mirror, leg->index), req);
    if (req->result != 0) {
        mirror_replica_fail(mirror_replica_of(mirror, leg->index), req->session,
                            req->result, "copy");
        mirror_copy_finish(copy, -EAGAIN);
        return;
    }
    if (req->slot_sequence > copy->sequence) {
        copy->sequence = req->slot_sequence;
    }
    copy->at += mirror->replica[leg->index].slot_blocks;
    mirror_copy_read(copy, leg->index);
}

void
mirror_copy_start(struct mirror_copy *copy)
{
    CHECK(copy->state == COPY_IDLE);
    CHECK(copy->block_count >= 4);
    CHECK(copy->block_count <= STORE_REQ_BLOCKS_MAX);
    CHECK(copy->block % copy->block_count == 0);

    copy->state = COPY_READ;
    copy->at = 0;
    copy->sequence = 0;
    copy->fixed = false;
    copy->around = false;
    copy->pending = 0;
    /* What lies beyond the end of the mirror. */
    memset(copy->states, STORE_BLOCK_ABSENT, sizeof copy->states);
    memset(copy->help_states, STORE_BLOCK_ABSENT, sizeof copy->help_states);
    mirror_copy_read(copy, copy->source);
}
