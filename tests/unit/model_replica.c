/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/model_replica.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"
#include "lib/io/sim.h"

static struct model_replica *
model_of(struct link *link)
{
    return container_of(link, struct model_replica, link);
}

static uint64_t
model_digest(const struct model_slot *slot)
{
    uint64_t digest = 1469598103934665603u;
    for (uint32_t i = 0; i < MODEL_SLOT_BLOCKS; i++) {
        if (slot->states[i] > STORE_BLOCK_ZERO) {
            return 0;
        }
        digest = (digest ^ slot->states[i]) * 1099511628211u;
        digest = (digest ^ slot->crcs[i]) * 1099511628211u;
    }
    return digest | 1;
}

static struct model_slot *
model_slot_at(struct model_replica *replica, uint64_t block, uint32_t *ret_in)
{
    *ret_in = (uint32_t)(block % MODEL_SLOT_BLOCKS);
    return &replica->now.slots[block / MODEL_SLOT_BLOCKS];
}

static void
model_slot_trim(struct model_replica *replica, struct model_slot *slot,
                uint64_t sequence)
{
    bool empty = true;
    for (uint32_t i = 0; i < MODEL_SLOT_BLOCKS; i++) {
        empty = empty && slot->states[i] == STORE_BLOCK_ABSENT;
    }
    if (empty) {
        slot->used = false;
        slot->sequence = 0;
        if (sequence > replica->now.touched) {
            replica->now.touched = sequence;
        }
    }
}

static void
model_read(struct model_replica *replica, struct store_req *req)
{
    for (uint32_t i = 0; i < req->block_count; i++) {
        uint32_t in;
        const struct model_slot *slot =
            model_slot_at(replica, req->block + i, &in);
        req->states[i] = slot->used ? slot->states[in] : STORE_BLOCK_ABSENT;
        req->crcs[i] = slot->crcs[in];
        if (req->states[i] == STORE_BLOCK_DATA ||
            req->states[i] == STORE_BLOCK_SUSPECT) {
            memcpy(req->data + (size_t)i * WEFT_BLOCK_SIZE, slot->data[in],
                   WEFT_BLOCK_SIZE);
        }
        if (i == 0) {
            req->slot_sequence = slot->used ? slot->sequence : 0;
        }
    }
}

static int
model_write(struct model_replica *replica, struct store_req *req)
{
    for (uint32_t i = 0; i < req->block_count; i++) {
        uint32_t in;
        if (replica->full &&
            !model_slot_at(replica, req->block + i, &in)->used) {
            return -ENOSPC;
        }
        if (crc32c(0, req->data + (size_t)i * WEFT_BLOCK_SIZE,
                   WEFT_BLOCK_SIZE) != req->crcs[i]) {
            return -EBADMSG;
        }
    }
    for (uint32_t i = 0; i < req->block_count; i++) {
        uint32_t in;
        struct model_slot *slot = model_slot_at(replica, req->block + i, &in);
        if (!slot->used) {
            memset(slot, 0, sizeof *slot);
            slot->used = true;
        }
        slot->states[in] = STORE_BLOCK_DATA;
        slot->crcs[in] = req->crcs[i];
        memcpy(slot->data[in], req->data + (size_t)i * WEFT_BLOCK_SIZE,
               WEFT_BLOCK_SIZE);
        if (req->sequence > slot->sequence) {
            slot->sequence = req->sequence;
        }
    }
    return 0;
}

static void
model_discard(struct model_replica *replica, const struct store_req *req)
{
    for (uint32_t i = 0; i < req->block_count; i++) {
        uint32_t in;
        struct model_slot *slot = model_slot_at(replica, req->block + i, &in);
        if (!slot->used) {
            continue;
        }
        slot->states[in] = STORE_BLOCK_ABSENT;
        slot->crcs[in] = 0;
        if (req->sequence > slot->sequence) {
            slot->sequence = req->sequence;
        }
        model_slot_trim(replica, slot, req->sequence);
    }
    if (req->sequence > replica->now.touched) {
        replica->now.touched = req->sequence;
    }
}

static int
model_put(struct model_replica *replica, const struct store_req *req)
{
    struct model_slot *slot =
        &replica->now.slots[req->block / MODEL_SLOT_BLOCKS];
    if (replica->full && !slot->used) {
        return -ENOSPC;
    }
    memset(slot, 0, sizeof *slot);
    slot->used = true;
    slot->sequence = req->sequence;
    for (uint32_t i = 0; i < MODEL_SLOT_BLOCKS; i++) {
        slot->states[i] = req->states[i];
        if (req->states[i] == STORE_BLOCK_DATA) {
            slot->crcs[i] = req->crcs[i];
            memcpy(slot->data[i], req->data + (size_t)i * WEFT_BLOCK_SIZE,
                   WEFT_BLOCK_SIZE);
        }
    }
    model_slot_trim(replica, slot, req->sequence);
    return 0;
}

static void
model_list(struct model_replica *replica, struct store_req *req)
{
    req->entries_count = 0;
    req->region_touched = replica->now.touched > req->sequence;
    for (uint32_t i = 0; i < MODEL_SLOTS; i++) {
        const struct model_slot *slot = &replica->now.slots[i];
        if (slot->used && (req->list_all || req->region_touched ||
                           slot->sequence > req->sequence)) {
            req->entries[req->entries_count++] = (struct store_list_entry){
                .slot_index = i,
                .sequence = slot->sequence,
                .digest = model_digest(slot),
            };
        }
    }
}

static int
model_fence(struct model_replica *replica, struct store_req *req)
{
    req->membership = replica->membership;
    req->membership.epoch = replica->epoch;
    if (req->epoch < replica->epoch) {
        return -ESTALE;
    }
    /* Older sessions: what is queued of them is dropped (or was executed). */
    for (uint32_t i = 0; i < MODEL_QUEUE; i++) {
        struct model_entry *entry = &replica->queue[i];
        if (entry->used && entry->original == NULL) {
            entry->used = false;
        }
    }
    replica->epoch = req->epoch;
    req->session = ++replica->session;
    req->incarnation = replica->incarnation;
    req->session_incarnation = replica->session_incarnation;
    req->known_good_out = replica->known_good;
    req->max_sequence = replica->now.touched;
    req->slot_blocks = MODEL_SLOT_BLOCKS;
    for (uint32_t i = 0; i < MODEL_SLOTS; i++) {
        const struct model_slot *slot = &replica->now.slots[i];
        if (slot->used && slot->sequence > req->max_sequence) {
            req->max_sequence = slot->sequence;
        }
    }
    return 0;
}

static int
model_execute_now(struct model_replica *replica, struct store_req *req)
{
    if (!uuid_equal(&req->replica, &replica->uuid)) {
        return -ENXIO;
    }
    if (replica->fail_next[req->opcode] != 0) {
        int result = replica->fail_next[req->opcode];
        replica->fail_next[req->opcode] = 0;
        return result;
    }
    replica->counts[req->opcode]++;
    if (req->opcode != STORE_FENCE &&
        (req->epoch != replica->epoch || req->session != replica->session)) {
        replica->refused++;
        return -ESTALE;
    }
    switch (req->opcode) {
    case STORE_READ:
        model_read(replica, req);
        return 0;
    case STORE_WRITE:
        return model_write(replica, req);
    case STORE_DISCARD:
        model_discard(replica, req);
        return 0;
    case STORE_FLUSH:
        replica->flushed = replica->now;
        if (req->known_good > replica->known_good) {
            replica->known_good = req->known_good;
        }
        req->incarnation = replica->incarnation;
        return 0;
    case STORE_FENCE:
        return model_fence(replica, req);
    case STORE_LIST:
        model_list(replica, req);
        return 0;
    case STORE_PUT_SLOT:
        return model_put(replica, req);
    case STORE_SET_VIEW:
        replica->membership = req->membership;
        replica->session_incarnation = req->incarnation;
        return 0;
    case STORE_CREATE:
    case STORE_REMOVE:
        break;
    }
    return -EINVAL;
}

static int
model_execute(struct model_replica *replica, struct store_req *req)
{
    int result = model_execute_now(replica, req);
    sim_trace_io(replica->io, "replica %u op %d %llu+%u seq %llx g %llx = %d",
                 replica->uuid.bytes[15], (int)req->opcode,
                 (unsigned long long)req->block, req->block_count,
                 (unsigned long long)req->sequence,
                 (unsigned long long)(req->opcode == STORE_FENCE
                                          ? req->known_good_out
                                          : req->known_good),
                 result);
    return result;
}

static bool
model_is_timed(const struct model_entry *entry)
{
    return entry->original != NULL && !entry->cut &&
           entry->req.deadline_ns < entry->due_ns;
}

static void
model_arm(struct model_replica *replica)
{
    uint64_t due_ns = UINT64_MAX;
    for (uint32_t i = 0; i < MODEL_QUEUE; i++) {
        const struct model_entry *entry = &replica->queue[i];
        uint64_t at_ns =
            model_is_timed(entry) ? entry->req.deadline_ns : entry->due_ns;
        if (entry->used && at_ns < due_ns) {
            due_ns = at_ns;
        }
    }
    if (due_ns != UINT64_MAX) {
        io_timer_set(replica->io, &replica->timer, due_ns);
    }
}

/* As link_local.h says: all fail, later; UP when the last has been answered. */
static void
model_cut(struct link *link)
{
    struct model_replica *replica = model_of(link);

    for (uint32_t i = 0; i < MODEL_QUEUE; i++) {
        struct model_entry *entry = &replica->queue[i];
        if (!entry->used || entry->original == NULL) {
            continue;
        }
        entry->cut = true;
        entry->left_due_ns = entry->due_ns;
        entry->due_ns = io_now_ns(replica->io);
        if (rng_chance(&replica->rng, 1, 2)) {
            (void)model_execute(replica, &entry->req);
        }
    }
    replica->was_cut = true;
    io_timer_set(replica->io, &replica->timer, io_now_ns(replica->io));
}

static void
model_fire(struct io_timer *timer)
{
    struct model_replica *replica =
        container_of(timer, struct model_replica, timer);
    uint64_t now_ns = io_now_ns(replica->io);

    for (uint32_t i = 0; i < MODEL_QUEUE; i++) {
        const struct model_entry *entry = &replica->queue[i];
        if (entry->used && model_is_timed(entry) &&
            entry->req.deadline_ns <= now_ns) {
            model_cut(&replica->link);
        }
    }
    for (uint32_t i = 0; i < MODEL_QUEUE; i++) {
        struct model_entry *entry = &replica->queue[i];
        if (!entry->used || entry->due_ns > now_ns) {
            continue;
        }
        struct store_req *original = entry->original;
        if (entry->cut) {
            entry->cut = false;
            entry->original = NULL;
            entry->left = true;
            entry->due_ns = entry->left_due_ns;
            original->result = -ENOTCONN;
            original->done(original);
            continue;
        }
        if (entry->left) {
            entry->used = entry->left = false; /* Nobody cares. */
            continue;
        }
        if (original == NULL) {
            /* Late: its buffers are gone, so only discards can land. */
            if (entry->req.opcode == STORE_DISCARD) {
                (void)model_execute(replica, &entry->req);
            }
            entry->used = false;
            continue;
        }
        entry->used = false;
        original->result = replica->link.state == LINK_UP
                               ? model_execute(replica, original)
                               : -ENOTCONN;
        original->done(original);
    }
    model_arm(replica);
    if (replica->was_cut) {
        bool left = false;
        for (uint32_t i = 0; i < MODEL_QUEUE; i++) {
            left = left || (replica->queue[i].used && replica->queue[i].left);
        }
        replica->was_cut = left;
        link_set_state(&replica->link, left ? LINK_DOWN : LINK_UP,
                       left ? -ECONNABORTED : 0);
    }
}

static void
model_submit(struct link *link, struct store_req *req)
{
    struct model_replica *replica = model_of(link);
    for (uint32_t i = 0; i < MODEL_QUEUE; i++) {
        struct model_entry *entry = &replica->queue[i];
        if (entry->used) {
            continue;
        }
        entry->used = true;
        entry->cut = entry->left = false;
        entry->req = *req;
        entry->original = req;
        entry->due_ns = io_now_ns(replica->io) + replica->delay_ns;
        if (replica->jitter_ns != 0) {
            entry->due_ns += rng_below(&replica->rng, replica->jitter_ns);
        }
        if (entry->due_ns < replica->hung_until_ns) {
            entry->due_ns = replica->hung_until_ns;
        }
        if (replica->link.state != LINK_UP) {
            entry->due_ns = io_now_ns(replica->io);
        }
        model_arm(replica);
        return;
    }
    CHECK(!"the model's queue is large enough");
}

static const struct link_vtable model_vtable = { .submit = model_submit,
                                                 .cut = model_cut };

void
model_replica_init(struct model_replica *replica, struct io *io, uint64_t seed,
                   const struct weft_uuid *uuid, bool local)
{
    memset(replica, 0, sizeof *replica);
    replica->io = io;
    rng_init(&replica->rng, seed);
    replica->uuid = *uuid;
    replica->incarnation = 1;
    replica->session_incarnation = 1;
    replica->delay_ns = 50 * NS_PER_US;
    replica->volatile_cache = true;
    io_timer_init(&replica->timer, model_fire);
    link_init(&replica->link, &model_vtable, io, uuid, local);
    link_set_state(&replica->link, LINK_UP, 0);
}

void
model_replica_set_up(struct model_replica *replica, bool up)
{
    replica->was_cut = false;
    if (!up) {
        for (uint32_t i = 0; i < MODEL_QUEUE; i++) {
            struct model_entry *entry = &replica->queue[i];
            if (!entry->used || entry->original == NULL) {
                continue;
            }
            struct store_req *original = entry->original;
            if (entry->cut) {
                entry->used = entry->cut = false;
                original->result = -ENOTCONN;
                original->done(original);
                continue;
            }
            bool write = original->opcode == STORE_WRITE ||
                         original->opcode == STORE_DISCARD ||
                         original->opcode == STORE_PUT_SLOT;
            if (write && rng_chance(&replica->rng, 1, 2)) {
                (void)model_execute(replica, &entry->req);
                entry->used = false;
            } else if (original->opcode == STORE_DISCARD) {
                entry->original = NULL; /* May land later. */
            } else {
                entry->used = false;
            }
            original->result = -ENOTCONN;
            original->done(original);
        }
    }
    if (up && replica->hung_until_ns != 0) {
        replica->hung_until_ns = 0;
        for (uint32_t i = 0; i < MODEL_QUEUE; i++) {
            struct model_entry *entry = &replica->queue[i];
            entry->due_ns = entry->left_due_ns = io_now_ns(replica->io);
        }
        model_arm(replica);
    }
    link_set_state(&replica->link, up ? LINK_UP : LINK_DOWN,
                   up ? 0 : -ENOTCONN);
}

void
model_replica_power_cut(struct model_replica *replica)
{
    model_replica_set_up(replica, false);
    for (uint32_t i = 0; i < MODEL_QUEUE; i++) {
        replica->queue[i].used = false;
    }
    if (replica->volatile_cache) {
        for (uint32_t i = 0; i < MODEL_SLOTS; i++) {
            if (rng_chance(&replica->rng, 1, 2)) {
                replica->now.slots[i] = replica->flushed.slots[i];
            }
        }
        replica->flushed = replica->now;
        replica->incarnation++;
    }
    replica->session++;
}

void
model_replica_rot(struct model_replica *replica, uint64_t block, bool suspect)
{
    uint32_t in;
    struct model_slot *slot = model_slot_at(replica, block, &in);
    if (slot->used && slot->states[in] == STORE_BLOCK_DATA) {
        slot->states[in] = suspect ? STORE_BLOCK_SUSPECT : STORE_BLOCK_BAD;
        replica->flushed.slots[block / MODEL_SLOT_BLOCKS].states[in] =
            slot->states[in];
    }
}

bool
model_replica_equal(const struct model_replica *a,
                    const struct model_replica *b)
{
    for (uint32_t i = 0; i < MODEL_SLOTS; i++) {
        const struct model_slot *x = &a->now.slots[i];
        const struct model_slot *y = &b->now.slots[i];
        if (x->used != y->used) {
            fprintf(stderr, "slot %u used %d %d\n", i, x->used, y->used);
            return false;
        }
        for (uint32_t k = 0; x->used && k < MODEL_SLOT_BLOCKS; k++) {
            if (x->states[k] != y->states[k] || x->crcs[k] != y->crcs[k]) {
                fprintf(stderr, "block %u states %d %d crcs %x %x\n",
                        i * MODEL_SLOT_BLOCKS + k, x->states[k], y->states[k],
                        x->crcs[k], y->crcs[k]);
                return false;
            }
        }
    }
    return true;
}
