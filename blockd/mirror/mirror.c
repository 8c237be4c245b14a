/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/mirror/mirror.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* Life: everything is set up here once, so that the data path never allocates.
 * What happens in between is in gate.c (phases) and request.c (requests). */

/* How long the in-sync replicas have to appear at attach before the others go
 * on without them (P3: detection of a dead one takes less). */
#define GRACE_NS NS_PER_S
#define DEFAULT_SLOW_NS (500 * NS_PER_MS)
#define DEFAULT_FLUSH_EVERY_NS NS_PER_S

#define COPY_BYTES ((size_t)STORE_REQ_BLOCKS_MAX * WEFT_BLOCK_SIZE)
#define ENTRIES_BYTES (DECIDE_UNITS_MAX * sizeof(struct store_list_entry))

size_t
mirror_arena_bytes(void)
{
    return 2 * COPY_BYTES + 3 * (size_t)WEFT_BLOCK_SIZE +
           (STORE_REPLICAS_MAX + 1) * ENTRIES_BYTES;
}

static void
mirror_arena_share_out(struct mirror *mirror)
{
    uint8_t *at = mirror->options.arena;

    mirror->copy.data = at;
    at += COPY_BYTES;
    mirror->copy.help_data = at;
    at += COPY_BYTES;
    mirror->repair.data = at;
    at += WEFT_BLOCK_SIZE;
    mirror->repair.kept = at;
    at += WEFT_BLOCK_SIZE;
    mirror->probe.data = at;
    at += WEFT_BLOCK_SIZE;
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        mirror->listing.entries[i] = (struct store_list_entry *)(void *)at;
        at += ENTRIES_BYTES;
    }
    mirror->map_entries = (struct store_list_entry *)(void *)at;
    at += ENTRIES_BYTES;
    CHECK(at == mirror->options.arena + mirror_arena_bytes());
}

static void
mirror_grace_over(struct io_timer *timer)
{
    struct mirror *mirror = container_of(timer, struct mirror, grace);

    mirror->grace_over = true;
    mirror_kick(mirror);
}

static void
mirror_commit_again(struct io_timer *timer)
{
    mirror_kick(container_of(timer, struct mirror, commit_timer));
}

static bool
mirror_options_are_sane(const struct mirror_options *options)
{
    const struct mirror_row *row = &options->row;

    return options->io != NULL && options->meta != NULL &&
           options->arena != NULL && row->replica_count >= 1 &&
           row->replica_count <= STORE_REPLICAS_MAX && row->in_sync != 0 &&
           (row->in_sync >> row->replica_count) == 0 && options->epoch >= 1 &&
           options->epoch <= STORE_EPOCH_MAX && options->size_blocks >= 1 &&
           options->layer >= STORE_LAYER_FIRST;
}

int
mirror_new(const struct mirror_options *options, mirror_ready_fn *ready,
           void *owner, struct mirror **ret_mirror)
{
    if (!mirror_options_are_sane(options)) {
        return -EINVAL;
    }
    struct mirror *mirror = calloc(1, sizeof *mirror);
    if (mirror == NULL) {
        return -ENOMEM;
    }
    mirror->options = *options;
    if (mirror->options.slow_ns == 0) {
        mirror->options.slow_ns = DEFAULT_SLOW_NS;
    }
    if (mirror->options.flush_every_ns == 0) {
        mirror->options.flush_every_ns = DEFAULT_FLUSH_EVERY_NS;
    }
    if (mirror->options.min_in_sync == 0) {
        mirror->options.min_in_sync = 1;
    }
    mirror->io = options->io;
    mirror->owner = owner;
    mirror->ready = ready;
    mirror->row = options->row;
    mirror->phase = PHASE_JUDGE;
    mirror->initial = true;
    mirror->closed_ns = io_now_ns(mirror->io);
    mirror->commit_wait_ns = 20 * NS_PER_MS;
    list_init(&mirror->waiting);
    list_init(&mirror->stuck);
    list_init(&mirror->finished);
    list_init(&mirror->writes);
    list_init(&mirror->reads);
    io_task_init(&mirror->task, mirror_advance);
    io_timer_init(&mirror->grace, mirror_grace_over);
    io_timer_init(&mirror->commit_timer, mirror_commit_again);
    io_timer_init(&mirror->tick, mirror_tick);
    io_timer_init(&mirror->space_timer, mirror_space_retry);
    range_lock_table_init(&mirror->locks, mirror->io);
    mirror->copy.mirror = mirror;
    mirror->listing.mirror = mirror;
    mirror_arena_share_out(mirror);
    mirror_resync_init(mirror);
    mirror_repair_init(mirror);
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        bool used = i < mirror->row.replica_count;
        mirror_replica_init(mirror, i, used ? options->links[i] : NULL);
    }
    io_timer_set(mirror->io, &mirror->grace, io_now_ns(mirror->io) + GRACE_NS);
    mirror_kick(mirror);
    *ret_mirror = mirror;
    return 0;
}

void *
mirror_owner(const struct mirror *mirror)
{
    return mirror->owner;
}

void
mirror_stop(struct mirror *mirror, bool flush, mirror_stopped_fn *stopped)
{
    CHECK(mirror->phase != PHASE_ENDED);
    CHECK(!mirror->stopping || !flush);

    mirror->stopped = stopped;
    mirror->stopping = true;
    mirror->stop_flush = flush;
    mirror_kick(mirror);
}

void
mirror_free(struct mirror *mirror)
{
    if (mirror == NULL) {
        return;
    }
    CHECK(mirror->phase == PHASE_ENDED);
    CHECK(mirror->ios == 0);
    io_task_cancel(mirror->io, &mirror->task);
    range_lock_table_done(&mirror->locks);
    free(mirror);
}

void
mirror_row_changed(struct mirror *mirror, const struct mirror_row *row,
                   struct link *const links[STORE_REPLICAS_MAX])
{
    bool news = row->view > mirror->row.view;

    if (row->replica_count < 1 || row->replica_count > STORE_REPLICAS_MAX ||
        row->in_sync == 0 || mirror->phase >= PHASE_CLOSING) {
        return;
    }
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        struct link *link = i < row->replica_count ? links[i] : NULL;
        news = news || link != mirror->replica[i].link;
        mirror->next_links[i] = link;
    }
    if (!news && !mirror->row_pending) {
        return;
    }
    mirror->next_row = *row;
    mirror->row_pending = true;
    mirror_kick(mirror);
}

/* ---- Locks for the layer above ---- */

void
mirror_lock(struct mirror *mirror, struct range_lock *lock, uint64_t block,
            uint32_t block_count, bool exclusive)
{
    range_lock_acquire(&mirror->locks, lock, block, block_count, exclusive);
}

void
mirror_unlock(struct mirror *mirror, struct range_lock *lock)
{
    range_lock_release(&mirror->locks, lock);
}

/* ---- Status ---- */

static enum mirror_state
mirror_state_of(const struct mirror *mirror)
{
    if (mirror->phase == PHASE_ENDED) {
        return MIRROR_STOPPED;
    }
    if (mirror->fatal != 0) {
        return MIRROR_FENCED;
    }
    if (mirror->stopping) {
        return MIRROR_STOPPING;
    }
    if (!mirror->initial) {
        return MIRROR_READY;
    }
    return mirror->phase == PHASE_RECONCILE ? MIRROR_RECONCILING
                                            : MIRROR_FENCING;
}

void
mirror_status_get(const struct mirror *mirror, struct mirror_status *ret_status)
{
    *ret_status = mirror->counts;
    ret_status->state = mirror_state_of(mirror);
    ret_status->held = mirror->reason[0] != '\0';
    memcpy(ret_status->reason, mirror->reason, sizeof ret_status->reason);
    ret_status->row = mirror->row;
    if (mirror->closed_ns != 0 && mirror->ready_told) {
        uint64_t stall_ns = io_now_ns(mirror->io) - mirror->closed_ns;
        if (stall_ns > ret_status->longest_stall_ns) {
            ret_status->longest_stall_ns = stall_ns;
        }
    }
    for (uint32_t i = 0; i < mirror->row.replica_count; i++) {
        const struct mirror_replica *replica = &mirror->replica[i];
        ret_status->replica[i].up =
            replica->link != NULL && replica->link->state == LINK_UP;
        ret_status->replica[i].session = replica->phase == REPLICA_OPEN;
        ret_status->replica[i].known_good = replica->known_good;
    }
    const struct mirror_resync *resync = &mirror->resync;
    if (resync->state != RESYNC_IDLE && resync->unit_blocks != 0) {
        uint64_t per_region = STORE_REGION_BLOCKS / resync->unit_blocks;
        ret_status->replica[resync->target].resyncing = true;
        ret_status->replica[resync->target].resync_done =
            resync->region * per_region +
            (resync->unit < per_region ? resync->unit : per_region);
        ret_status->replica[resync->target].resync_total =
            units_divide_up(mirror->options.size_blocks, STORE_REGION_BLOCKS) *
            per_region;
    }
}
