/* SPDX-License-Identifier: Apache-2.0 */

/* Requests about a replica as a whole: FLUSH, LIST, FENCE, SET_VIEW, CREATE,
 * REMOVE.
 *
 * FENCE (STORAGE (d), S16): on arrival the session is closed, so that nothing
 * of it begins any more; the gate lets the fence through when all that had
 * begun has ended; then the entry with the new epoch and session is made
 * durable; then the session is open and the reply goes out. */

#include <errno.h>

#include "blockd/store/internal.h"

/* ---- Flush ---- */

static void
flush_covered(struct flush_wait *wait)
{
    struct work *work = container_of(wait, struct work, flush);
    struct store *store = work->store;
    struct store_req *req = work->req;
    struct replica *replica = work->replica;
    int result = session_check(store, replica, req);

    req->incarnation = store->super.incarnation;
    if (result == 0 && req->known_good > le64_get(replica->entry.known_good)) {
        replica->entry.known_good = le64_make(req->known_good);
        if (journal_has_room(store, sizeof(struct disk_known_good),
                             JOURNAL_SPARE)) {
            /* Nobody waits for it: an older G after a crash only means more
             * to compare. */
            record_known_good_make(
                journal_append(store, sizeof(struct disk_known_good)),
                replica->number, req->known_good);
        }
    }
    work_finish(store, work, result);
}

/* Planted: G says so before the device does. */
static void
flush_good_early(struct store *store, struct work *work)
{
    struct replica *replica = work->replica;

    if (planted(store, PLANTED_GOOD_WITHOUT_FLUSH) &&
        work->req->known_good > le64_get(replica->entry.known_good)) {
        replica->entry.known_good = le64_make(work->req->known_good);
        replica_log(store, replica);
        work->req->incarnation = store->super.incarnation;
        work_finish(store, work, 0);
    }
}

void
control_flush(struct store *store, struct work *work)
{
    flush_good_early(store, work);
    if (work->state == WORK_DONE) {
        return;
    }
    work->flush.done = flush_covered;
    work_to(store, work, WORK_FLUSH);
    flush_want(store, &work->flush);
}

/* ---- Admission ---- */

/* An epoch has one owner (S12: two of a database that was rolled back). */
static bool
fence_is_stale(const struct disk_replica *entry, const struct store_req *req)
{
    uint32_t epoch = le32_get(entry->epoch);

    return req->epoch < epoch ||
           (req->epoch == epoch && !uuid_is_nil(&entry->owner_instance) &&
            !uuid_equal(&req->owner_instance, &entry->owner_instance));
}

static int
admit_fence(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    struct replica *replica = work->replica;

    (void)store;
    if (req->epoch > STORE_EPOCH_MAX) {
        return -EINVAL;
    }
    if (replica->is_removing) {
        return -ENXIO;
    }
    if (fence_is_stale(&replica->entry, req)) {
        req->membership.epoch = le32_get(replica->entry.epoch);
        return -ESTALE;
    }
    replica->session_open = false;
    work->exclusive = true;
    return 0;
}

static bool
create_is_same(const struct replica *replica, const struct store_req *req)
{
    return !replica->is_removing &&
           uuid_equal(&replica->entry.volume, &req->volume) &&
           le32_get(replica->entry.mirror_index) == req->mirror_index &&
           le64_get(replica->entry.size_blocks) == req->size_blocks;
}

static void
membership_set(struct disk_replica *entry,
               const struct store_membership *membership)
{
    entry->epoch = le32_make(membership->epoch);
    entry->view = le64_make(membership->view);
    entry->in_sync_count = le32_make(membership->in_sync_count);
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        entry->in_sync[i] = membership->in_sync[i];
    }
}

static void
membership_get(const struct disk_replica *entry,
               struct store_membership *ret_membership)
{
    ret_membership->epoch = le32_get(entry->epoch);
    ret_membership->view = le64_get(entry->view);
    ret_membership->in_sync_count = le32_get(entry->in_sync_count);
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        ret_membership->in_sync[i] = entry->in_sync[i];
    }
}

static int
admit_create(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    uint64_t regions = units_divide_up(req->size_blocks, STORE_REGION_BLOCKS);

    if (work->replica != NULL) {
        return create_is_same(work->replica, req) ? 0 : -EEXIST;
    }
    if (uuid_is_nil(&req->replica) || req->size_blocks == 0 ||
        req->membership.in_sync_count > STORE_REPLICAS_MAX ||
        req->membership.epoch > STORE_EPOCH_MAX) {
        return -EINVAL;
    }
    if (regions >
        (uint64_t)store->geometry.region_pages * DISK_REGIONS_PER_PAGE) {
        return -ENOSPC;
    }
    work->begun = true; /* It is for this one to log it. */
    return replica_add(store, req->size_blocks, &req->replica, &work->replica);
}

int
control_admit(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    int result;

    if (req->opcode == STORE_CREATE) {
        result = admit_create(store, work);
    } else if (work->replica == NULL) {
        result = -ENXIO;
    } else if (req->opcode == STORE_FENCE) {
        result = admit_fence(store, work);
    } else if (req->opcode == STORE_REMOVE) {
        work->exclusive = true;
        result =
            req->epoch < le32_get(work->replica->entry.epoch) ? -ESTALE : 0;
        if (result == 0) {
            work->replica->session_open = false;
        }
    } else {
        result = session_check(store, work->replica, req);
        if (result == 0 && req->opcode == STORE_SET_VIEW &&
            req->membership.in_sync_count > STORE_REPLICAS_MAX) {
            result = -EINVAL;
        }
        work->passive = true;
    }
    if (result == 0) {
        if (req->opcode == STORE_CREATE) {
            work->exclusive = true;
        }
        gate_enter(store, work);
    }
    return result;
}

/* ---- Through the gate ---- */

static void
begin_fence(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    struct disk_replica *entry = &work->replica->entry;

    /* Another fence may have been before it. */
    if (work->replica->is_removing) {
        work_finish(store, work, -ENXIO);
        return;
    }
    if (fence_is_stale(entry, req)) {
        req->membership.epoch = le32_get(entry->epoch);
        work_finish(store, work, -ESTALE);
        return;
    }
    work->replica->session_open = false;
    entry->epoch = le32_make(req->epoch);
    entry->session = le64_make(le64_get(entry->session) + 1);
    entry->owner_instance = req->owner_instance;
    replica_log(store, work->replica);
    work_await_durable(store, work);
}

static void
begin_create(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    struct replica *replica = work->replica;
    struct disk_replica *entry = &replica->entry;
    uint32_t parts =
        (uint32_t)units_divide_up(replica->regions, DISK_REGIONS_PER_PAGE);

    if (work->begun) {
        /* Pages first: the entry counts only with all of them. */
        for (uint32_t part = work->cursor; part < parts; part++) {
            if (!journal_has_room(store, sizeof(struct disk_region_page),
                                  JOURNAL_NORMAL)) {
                work->cursor = part;
                journal_drive_space(store);
                work_to(store, work, WORK_WAITING);
                return;
            }
            record_region_page_make(
                journal_append(store, sizeof(struct disk_region_page)),
                replica->pages[part], replica->number, part);
        }
        work->cursor = parts;
        entry->volume = req->volume;
        entry->mirror_index = le32_make(req->mirror_index);
        entry->state = le32_make(DISK_REPLICA_LIVE);
        entry->size_blocks = le64_make(req->size_blocks);
        entry->session_incarnation = le64_make(store->super.incarnation);
        membership_set(entry, &req->membership);
        replica_log(store, replica);
    }
    work_await_durable(store, work);
}

static void
begin_remove(struct store *store, struct work *work)
{
    struct replica *replica = work->replica;

    if (le32_get(replica->entry.state) != DISK_REPLICA_REMOVING) {
        replica->entry.state = le32_make(DISK_REPLICA_REMOVING);
        replica->session_open = false;
        replica_log(store, replica);
    }
    work_await_durable(store, work);
}

static void
begin_set_view(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    struct disk_replica *entry = &work->replica->entry;
    struct store_membership membership = req->membership;
    int result = session_check(store, work->replica, req);

    if (result != 0) {
        work_finish(store, work, result);
        return;
    }
    if (membership.view < le64_get(entry->view)) {
        work_finish(store, work, -ESTALE);
        return;
    }
    membership.epoch = le32_get(entry->epoch);
    membership_set(entry, &membership);
    entry->session_incarnation = le64_make(req->incarnation);
    replica_log(store, work->replica);
    work_await_durable(store, work);
}

void
control_begin(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    int result = 0;

    if (req->opcode != STORE_FLUSH && req->opcode != STORE_LIST &&
        !journal_has_room(store, sizeof(struct disk_replica_set),
                          JOURNAL_NORMAL)) {
        journal_drive_space(store);
        work_to(store, work, WORK_WAITING);
        return;
    }
    switch (req->opcode) {
    case STORE_FLUSH:
        control_flush(store, work);
        break;
    case STORE_LIST:
        result = list_run(store, work->replica, req);
        work_finish(store, work, result);
        break;
    case STORE_FENCE:
        begin_fence(store, work);
        break;
    case STORE_SET_VIEW:
        begin_set_view(store, work);
        break;
    case STORE_CREATE:
        begin_create(store, work);
        break;
    case STORE_REMOVE:
        begin_remove(store, work);
        break;
    case STORE_READ:
    case STORE_WRITE:
    case STORE_DISCARD:
    case STORE_PUT_SLOT:
        CHECK(false);
        break;
    }
}

/* ---- Durable ---- */

void
control_durable(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    struct replica *replica = work->replica;

    work->state = WORK_RUNNING;
    if (req->opcode == STORE_FENCE) {
        replica->session_open = true;
        req->session = le64_get(replica->entry.session);
        membership_get(&replica->entry, &req->membership);
        req->incarnation = store->super.incarnation;
        req->session_incarnation = le64_get(replica->entry.session_incarnation);
        req->known_good_out = le64_get(replica->entry.known_good);
        req->max_sequence = replica->max_sequence;
        req->slot_blocks = store->geometry.slot_blocks;
    } else if (req->opcode == STORE_REMOVE && !replica->is_removing) {
        replica->is_removing = true;
        replica->remove_cursor = 0;
        replica->remove_page = 0;
        store->replicas.removing++;
        store_kick(store);
    }
    work_finish(store, work, 0);
}
