/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/peer_fixture.h"

/* Random requests and answers, and the comparison on both sides. */

#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/peer/codec.h"
#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"

static const int results[] = {
    -ENXIO,  -ESTALE,    -ENOSPC, -EIO,    -EBADMSG,
    -EINVAL, -ESHUTDOWN, -EEXIST, -ENOMEM, -EOPNOTSUPP,
};

static store_req_done_fn case_done;

static void
random_uuid(struct rng *rng, struct weft_uuid *ret_uuid)
{
    uuid_make_random(rng_u64(rng), rng_u64(rng), ret_uuid);
}

static void
random_membership(struct rng *rng, struct store_membership *ret)
{
    ret->epoch = (uint32_t)rng_between(rng, 0, STORE_EPOCH_MAX);
    ret->view = rng_u64(rng);
    ret->in_sync_count = (uint32_t)rng_between(rng, 0, STORE_REPLICAS_MAX);
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        random_uuid(rng, &ret->in_sync[i]);
    }
}

static void *
allocate(size_t size)
{
    void *memory = calloc(1, size);

    assert_non_null(memory);
    return memory;
}

static uint32_t
draw_blocks(struct rng *rng, uint32_t blocks_max)
{
    if (blocks_max > 16 && !rng_chance(rng, 1, 8)) {
        blocks_max = 16;
    }
    return (uint32_t)rng_between(rng, 1, blocks_max);
}

/* Random blocks of which 'states' says which have bytes. */
static void
make_blocks(struct rng *rng, uint32_t count, uint8_t state_max, uint8_t *data,
            uint32_t *crcs, uint8_t *states)
{
    bool is_plain = rng_chance(rng, 1, 2);

    rng_fill(rng, data, (size_t)count * WEFT_BLOCK_SIZE);
    for (uint32_t i = 0; i < count; i++) {
        states[i] = is_plain ? STORE_BLOCK_DATA
                             : (uint8_t)rng_between(rng, 0, state_max);
        crcs[i] =
            crc32c(0, data + (size_t)i * WEFT_BLOCK_SIZE, WEFT_BLOCK_SIZE);
    }
}

static void
make_entries(struct rng *rng, struct peer_case *c)
{
    uint32_t max = c->req.entries_max;
    uint64_t slot = rng_below(rng, 1000);

    if (max > PEER_ENTRIES_MAX) {
        max = PEER_ENTRIES_MAX;
    }
    if (rng_chance(rng, 7, 8) && max > 20) {
        max = 20;
    }
    c->want_entries_count = (uint32_t)rng_between(rng, 0, max);
    c->want_entries = allocate((max + 1) * sizeof *c->want_entries);
    for (uint32_t i = 0; i < c->want_entries_count; i++) {
        slot += rng_between(rng, 1, 9);
        c->want_entries[i] = (struct store_list_entry){
            .slot_index = slot,
            .sequence = rng_u64(rng),
            .digest = rng_u64(rng),
        };
    }
}

static void
make_inputs(struct rng *rng, struct peer_case *c, uint32_t blocks_max,
            bool is_exact)
{
    struct store_req *req = &c->req;
    uint32_t count = is_exact ? blocks_max : draw_blocks(rng, blocks_max);

    random_uuid(rng, &req->replica);
    req->epoch = (uint32_t)rng_between(rng, 0, STORE_EPOCH_MAX);
    req->layer = (uint32_t)rng_between(rng, STORE_LAYER_FIRST, UINT32_MAX);
    req->block = rng_below(rng, PEER_BLOCK_MAX);
    req->block_count = count;
    req->sequence = rng_u64(rng);
    req->known_good = rng_u64(rng);
    req->incarnation = rng_u64(rng);
    req->discard_zero = rng_chance(rng, 1, 2);
    req->list_all = rng_chance(rng, 1, 2);
    random_uuid(rng, &req->owner_instance);
    random_uuid(rng, &req->volume);
    random_membership(rng, &req->membership);
    req->mirror_index = (uint32_t)rng_u64(rng);
    req->size_blocks = rng_below(rng, PEER_BLOCK_MAX);
    if (req->opcode == STORE_DISCARD || req->opcode == STORE_LIST) {
        req->block_count = (uint32_t)rng_between(rng, 1, UINT32_MAX);
    }
    if (req->opcode == STORE_LIST) {
        req->entries_max = (uint32_t)rng_between(
            rng, 1, rng_chance(rng, 1, 8) ? PEER_ENTRIES_MAX + 1000 : 4096);
        req->entries = allocate(req->entries_max * sizeof *req->entries);
    } else {
        size_t size = (size_t)count * WEFT_BLOCK_SIZE;
        void *data = NULL;
        assert_int_equal(posix_memalign(&data, WEFT_BLOCK_SIZE, size), 0);
        memset(data, 0x55, size);
        req->data = data;
        req->crcs = allocate(count * sizeof *req->crcs);
        req->states = allocate(count);
    }
    if (req->opcode == STORE_WRITE || req->opcode == STORE_PUT_SLOT) {
        make_blocks(rng, count, STORE_BLOCK_ZERO, req->data, req->crcs,
                    req->states);
    }
}

static void
make_outputs(struct rng *rng, struct peer_case *c)
{
    struct store_req *want = &c->want;

    want->result = rng_chance(rng, 4, 5)
                       ? 0
                       : results[rng_below(rng, ARRAY_COUNT(results))];
    want->slot_sequence = rng_u64(rng);
    want->session = rng_u64(rng);
    want->incarnation = rng_u64(rng);
    want->known_good_out = rng_u64(rng);
    want->max_sequence = rng_u64(rng);
    want->session_incarnation = rng_u64(rng);
    want->slot_blocks = (uint32_t)rng_between(rng, 4, 256);
    want->region_touched = rng_chance(rng, 1, 2);
    random_membership(rng, &want->membership);
    if (c->req.opcode == STORE_LIST) {
        make_entries(rng, c);
    } else if (c->req.opcode == STORE_READ) {
        uint32_t count = c->req.block_count;
        c->want_data = allocate((size_t)count * WEFT_BLOCK_SIZE);
        c->want_crcs = allocate(count * sizeof *c->want_crcs);
        c->want_states = allocate(count);
        make_blocks(rng, count, STORE_BLOCK_BAD, c->want_data, c->want_crcs,
                    c->want_states);
    }
}

void
cases_init(struct cases *cases, struct rng *rng, uint32_t count,
           enum store_opcode opcode, uint32_t blocks_max)
{
    *cases = (struct cases){
        .items = allocate(count * sizeof *cases->items),
        .count = count,
        .salt = rng_u64(rng) & ~UINT64_C(0xffff),
    };
    assert_true(count <= 0xffff);
    for (uint32_t i = 0; i < count; i++) {
        struct peer_case *c = &cases->items[i];
        c->cases = cases;
        c->req.done = case_done;
        c->req.opcode =
            opcode != 0
                ? opcode
                : (enum store_opcode)rng_between(rng, STORE_READ, STORE_REMOVE);
        c->req.session = cases->salt | i;
        make_inputs(rng, c, blocks_max, false);
        make_outputs(rng, c);
        c->sent = c->req;
    }
}

void
peer_case_grow(struct peer_case *c, struct rng *rng, uint32_t blocks)
{
    assert_int_equal(c->req.opcode, STORE_WRITE);
    assert_false(c->was_submitted);
    free(c->req.data);
    free(c->req.crcs);
    free(c->req.states);
    make_inputs(rng, c, blocks, true);
    c->sent = c->req;
}

void
cases_done(struct cases *cases)
{
    for (uint32_t i = 0; i < cases->count; i++) {
        struct peer_case *c = &cases->items[i];
        free(c->req.data);
        free(c->req.crcs);
        free(c->req.states);
        free(c->req.entries);
        free(c->want_data);
        free(c->want_crcs);
        free(c->want_states);
        free(c->want_entries);
    }
    free(cases->items);
    cases->items = NULL;
}

void
cases_submit(struct cases *cases, uint32_t index, struct link *link,
             uint64_t deadline_ns)
{
    struct peer_case *c = &cases->items[index];

    assert_false(c->was_submitted);
    c->was_submitted = true;
    c->order = ++cases->order;
    c->req.deadline_ns = deadline_ns;
    c->req.result = -12345;
    cases->submitted++;
    link_submit(link, &c->req);
    assert_int_equal(c->completions, 0); /* link.h (1) */
}

/* ---- At the store ---- */

static struct peer_case *
case_of(struct cases *cases, const struct store_req *req)
{
    uint64_t index = req->session & 0xffff;

    assert_true((req->session & ~UINT64_C(0xffff)) == cases->salt);
    assert_true(index < cases->count);
    return &cases->items[index];
}

static void
check_membership(const struct store_membership *a,
                 const struct store_membership *b)
{
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->view, b->view);
    assert_int_equal(a->in_sync_count, b->in_sync_count);
    assert_memory_equal(a->in_sync, b->in_sync, sizeof a->in_sync);
}

/* The blocks that 'states' (NULL: all) says to have data. */
static void
check_blocks(const struct store_req *a, const struct store_req *b,
             const uint8_t *states)
{
    for (uint32_t i = 0; i < a->block_count; i++) {
        if (states != NULL && states[i] != STORE_BLOCK_DATA) {
            continue;
        }
        assert_int_equal(a->crcs[i], b->crcs[i]);
        assert_memory_equal(a->data + (size_t)i * WEFT_BLOCK_SIZE,
                            b->data + (size_t)i * WEFT_BLOCK_SIZE,
                            WEFT_BLOCK_SIZE);
    }
}

void
fake_check(struct cases *cases, const struct store_req *req)
{
    struct peer_case *c = case_of(cases, req);
    const struct store_req *sent = &c->sent;

    c->arrivals++;
    assert_int_equal(c->arrivals, 1);
    if (!cases->any_order) {
        assert_true(c->order > cases->last_arrival); /* link.h (6) */
        cases->last_arrival = c->order;
    }
    assert_int_equal(req->opcode, sent->opcode);
    assert_memory_equal(&req->replica, &sent->replica, sizeof sent->replica);
    assert_int_equal(req->epoch, sent->epoch);
    assert_int_equal(req->layer, sent->layer);
    assert_int_equal(req->block, sent->block);
    assert_int_equal(req->block_count, sent->block_count);
    assert_int_equal(req->discard_zero, sent->discard_zero);
    assert_int_equal(req->list_all, sent->list_all);
    if (sent->opcode == STORE_FLUSH) {
        assert_int_equal(req->known_good, sent->known_good);
    } else if (sent->opcode == STORE_SET_VIEW) {
        assert_int_equal(req->incarnation, sent->incarnation);
    } else {
        assert_int_equal(req->sequence, sent->sequence);
    }
    if (sent->opcode == STORE_LIST) {
        assert_true(req->entries_max == sent->entries_max ||
                    (sent->entries_max > PEER_ENTRIES_MAX &&
                     req->entries_max == PEER_ENTRIES_MAX));
    } else if (sent->opcode == STORE_WRITE) {
        assert_true((uintptr_t)req->data % WEFT_BLOCK_SIZE == 0);
        check_blocks(req, sent, NULL);
    } else if (sent->opcode == STORE_PUT_SLOT) {
        assert_true((uintptr_t)req->data % WEFT_BLOCK_SIZE == 0);
        assert_memory_equal(req->states, sent->states, sent->block_count);
        check_blocks(req, sent, sent->states);
    } else if (sent->opcode == STORE_READ) {
        assert_true((uintptr_t)req->data % WEFT_BLOCK_SIZE == 0);
    } else if (sent->opcode == STORE_FENCE) {
        assert_memory_equal(&req->owner_instance, &sent->owner_instance, 16);
    } else if (sent->opcode == STORE_SET_VIEW) {
        check_membership(&req->membership, &sent->membership);
    } else if (sent->opcode == STORE_CREATE) {
        check_membership(&req->membership, &sent->membership);
        assert_memory_equal(&req->volume, &sent->volume, 16);
        assert_int_equal(req->mirror_index, sent->mirror_index);
        assert_int_equal(req->size_blocks, sent->size_blocks);
    }
}

static void
answer_read(const struct peer_case *c, struct store_req *req)
{
    for (uint32_t i = 0; i < req->block_count; i++) {
        uint8_t *to = req->data + (size_t)i * WEFT_BLOCK_SIZE;
        req->states[i] = c->want_states[i];
        if (peer_state_has_data(c->want_states[i])) {
            memcpy(to, c->want_data + (size_t)i * WEFT_BLOCK_SIZE,
                   WEFT_BLOCK_SIZE);
            req->crcs[i] = c->want_crcs[i];
        } else {
            memset(to, 0xee, WEFT_BLOCK_SIZE); /* Must not be seen. */
            req->crcs[i] = 0xeeeeeeee;
        }
    }
    req->slot_sequence = c->want.slot_sequence;
}

void
fake_answer(struct cases *cases, struct store_req *req)
{
    const struct peer_case *c = case_of(cases, req);
    const struct store_req *want = &c->want;

    req->result = want->result;
    if (req->opcode == STORE_FENCE) {
        req->session = want->session;
        req->known_good_out = want->known_good_out;
        req->max_sequence = want->max_sequence;
        req->session_incarnation = want->session_incarnation;
        req->slot_blocks = want->slot_blocks;
        req->membership = want->membership;
    }
    if (req->opcode == STORE_FENCE || req->opcode == STORE_FLUSH) {
        req->incarnation = want->incarnation;
    }
    if (req->opcode == STORE_READ && want->result == 0) {
        answer_read(c, req);
    }
    if (req->opcode == STORE_LIST && want->result == 0) {
        req->region_touched = want->region_touched;
        req->entries_count = c->want_entries_count;
        memcpy(req->entries, c->want_entries,
               c->want_entries_count * sizeof *req->entries);
    }
    req->done(req);
}

/* ---- Back at the client ---- */

static void
check_read(struct peer_case *c)
{
    const struct store_req *req = &c->req;

    assert_int_equal(req->slot_sequence, c->want.slot_sequence);
    for (uint32_t i = 0; i < req->block_count; i++) {
        if (req->states[i] == STORE_BLOCK_BAD &&
            peer_state_has_data(c->want_states[i])) {
            assert_true(c->cases->may_damage);
            c->cases->damaged++;
            continue;
        }
        assert_int_equal(req->states[i], c->want_states[i]);
        if (peer_state_has_data(req->states[i])) {
            assert_int_equal(req->crcs[i], c->want_crcs[i]);
            assert_memory_equal(req->data + (size_t)i * WEFT_BLOCK_SIZE,
                                c->want_data + (size_t)i * WEFT_BLOCK_SIZE,
                                WEFT_BLOCK_SIZE);
        } else if (!c->cases->is_local) {
            /* Untouched: nobody else's bytes. */
            assert_int_equal(req->crcs[i], 0);
            assert_int_equal(req->data[(size_t)i * WEFT_BLOCK_SIZE], 0x55);
        }
    }
}

static void
check_outputs(struct peer_case *c)
{
    const struct store_req *req = &c->req;
    const struct store_req *want = &c->want;

    if (req->opcode == STORE_FENCE || req->opcode == STORE_FLUSH) {
        assert_int_equal(req->incarnation, want->incarnation);
    }
    if (req->opcode == STORE_FENCE) {
        assert_int_equal(req->session, want->session);
        assert_int_equal(req->known_good_out, want->known_good_out);
        assert_int_equal(req->max_sequence, want->max_sequence);
        assert_int_equal(req->session_incarnation, want->session_incarnation);
        assert_int_equal(req->slot_blocks, want->slot_blocks);
        check_membership(&req->membership, &want->membership);
    }
    if (req->opcode == STORE_READ && req->result == 0) {
        check_read(c);
    }
    if (req->opcode == STORE_LIST && req->result == 0) {
        assert_int_equal(req->region_touched, want->region_touched);
        assert_int_equal(req->entries_count, c->want_entries_count);
        assert_memory_equal(req->entries, c->want_entries,
                            c->want_entries_count * sizeof *req->entries);
    }
}

static void
case_done(struct store_req *req)
{
    struct peer_case *c = container_of(req, struct peer_case, req);
    struct cases *cases = c->cases;

    c->completions++;
    assert_int_equal(c->completions, 1);
    cases->completed++;
    cases->is_complete = cases->completed == cases->submitted;
    if (req->result == -ENOTCONN || req->result == -ETIMEDOUT) {
        assert_true(cases->may_fail);
        cases->unknown++;
        return;
    }
    if (req->result == -EBADMSG && c->arrivals == 0) {
        assert_true(cases->may_damage);
        assert_true(req->opcode == STORE_WRITE ||
                    req->opcode == STORE_PUT_SLOT);
        cases->damaged++;
        return;
    }
    assert_int_equal(c->arrivals, 1); /* No answer without a question. */
    assert_int_equal(req->result, c->want.result);
    cases->succeeded++;
    check_outputs(c);
}

/* ---- The store ---- */

static void
store_step(struct fake_store *store, uint64_t delay_ns)
{
    if (!store->holds && !list_is_empty(&store->pending)) {
        io_timer_set(store->link.io, &store->timer,
                     io_now_ns(store->link.io) + delay_ns);
    } else if (store->is_closing && list_is_empty(&store->pending) &&
               store->link.state == LINK_UP) {
        link_set_state(&store->link, LINK_DOWN, -ESHUTDOWN);
        link_quiet(&store->link);
    }
}

static uint64_t
draw_delay(struct fake_store *store)
{
    return store->delay_max_ns == 0
               ? 0
               : rng_below(&store->rng, store->delay_max_ns);
}

static void
store_timer(struct io_timer *timer)
{
    struct fake_store *store = container_of(timer, struct fake_store, timer);
    uint64_t count = rng_between(&store->rng, 1, 8);

    for (uint64_t i = 0; i < count; i++) {
        struct list *node = rng_chance(&store->rng, 1, 2)
                                ? list_front(&store->pending)
                                : list_back(&store->pending);
        if (node == NULL) {
            break;
        }
        struct store_req *req = container_of(node, struct store_req, node);
        list_remove(node);
        store->in_flight--;
        if (req->data != NULL) {
            store->bytes -= (uint64_t)req->block_count * WEFT_BLOCK_SIZE;
        }
        fake_answer(store->cases, req);
    }
    store_step(store, draw_delay(store));
}

static void
store_submit_fake(struct link *link, struct store_req *req)
{
    struct fake_store *store = container_of(link, struct fake_store, link);

    fake_check(store->cases, req);
    list_init(&req->node);
    list_push_back(&store->pending, &req->node);
    store->in_flight++;
    if (store->in_flight > store->in_flight_max) {
        store->in_flight_max = store->in_flight;
    }
    if (req->data != NULL) {
        store->bytes += (uint64_t)req->block_count * WEFT_BLOCK_SIZE;
        if (store->bytes > store->bytes_max) {
            store->bytes_max = store->bytes;
        }
    }
    if (!io_timer_is_armed(&store->timer)) {
        store_step(store, draw_delay(store));
    }
}

void
fake_store_release(struct fake_store *store)
{
    store->holds = false;
    store_step(store, 0);
}

static void
store_close_fake(struct link *link)
{
    struct fake_store *store = container_of(link, struct fake_store, link);

    store->is_closing = true;
    io_timer_set(link->io, &store->timer, io_now_ns(link->io));
}

static void
store_free_fake(struct link *link)
{
    (void)link; /* Embedded. */
}

static const struct link_vtable fake_vtable = {
    .submit = store_submit_fake,
    .close = store_close_fake,
    .free = store_free_fake,
};

void
fake_store_init(struct fake_store *store, struct io *io,
                const struct weft_uuid *disk, struct cases *cases,
                uint64_t seed)
{
    *store = (struct fake_store){ .cases = cases };
    link_init(&store->link, &fake_vtable, io, disk, true);
    io_timer_init(&store->timer, store_timer);
    list_init(&store->pending);
    rng_init(&store->rng, seed);
    link_set_state(&store->link, LINK_UP, 0);
}
