/* SPDX-License-Identifier: Apache-2.0 */

/* Random work of many clients on one export, against a model of its contents.
 *
 * Each client owns a part of the volume and has no two overlapping requests in
 * flight, so that every reply can be judged: reads by the model, byte by byte
 * and each byte once; block status by the volume's own map; a write, trim or
 * zeroing that failed, or whose client was cut, has for each byte either
 * happened or not.  Volumes are slow and fail at random, pools are small,
 * clients come and go.  WEFT_NBD_SEEDS: "FIRST..LAST", or a number of seeds. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/nbd_fixture.h"

#define CLIENTS 16u
#define DEPTH 12u
#define PART_BYTES (UINT64_C(2560) * 1024)
#define SEEDS 24u

struct job {
    bool busy;
    uint64_t cookie, offset;
    uint32_t size;
    uint16_t command, flags;
    uint8_t *after; /* What writing commands leave. */
    uint8_t *seen;  /* One a byte of a READ. */
    uint32_t seen_bytes;
    bool has_failed;
};

struct owner {
    struct client client;
    bool connected;
    uint64_t first, size; /* Of the part. */
    struct job jobs[DEPTH];
    uint32_t busy, done;
};

struct model {
    struct world world;
    struct world_options options;
    struct rng rng;
    uint8_t *bytes;
    struct owner owners[CLIENTS];
    uint32_t client_count;
    uint64_t cookie;
    uint32_t failures, cuts;
};

/* ---- Starting ---- */

static bool
overlaps(const struct owner *owner, uint64_t offset, uint64_t size)
{
    for (uint32_t i = 0; i < DEPTH; i++) {
        const struct job *job = &owner->jobs[i];
        if (job->busy && job->offset < offset + size &&
            offset < job->offset + job->size) {
            return true;
        }
    }
    return false;
}

static void
draw_range(struct model *model, const struct owner *owner, struct job *job)
{
    static const uint32_t scales[] = { 1, 512, 4096, 65536, 1 << 20 };
    struct rng *rng = &model->rng;
    uint32_t scale = scales[rng_below(rng, rng_chance(rng, 1, 8) ? 5 : 4)];
    uint64_t size = rng_between(rng, 1, 4) * scale;
    uint64_t offset = rng_below(rng, owner->size / scale) * scale;

    if (rng_chance(rng, 1, 4)) {
        size += rng_below(rng, 600);
    }
    if (rng_chance(rng, 1, 4)) {
        offset += rng_below(rng, 5000);
    }
    offset = offset < owner->size ? offset : 0;
    size = size < owner->size - offset ? size : owner->size - offset;
    job->offset = owner->first + offset;
    job->size = (uint32_t)size;
}

static void
draw_command(struct model *model, const struct owner *owner, struct job *job)
{
    struct rng *rng = &model->rng;
    uint64_t dice = rng_below(rng, 100);

    job->flags = rng_chance(rng, 1, 5) ? NBD_CMD_FLAG_FUA : 0;
    if (dice < 30) {
        job->command = NBD_CMD_READ;
        if (owner->client.structured && rng_chance(rng, 1, 5) &&
            job->size <= 512 * 1024) {
            job->flags |= NBD_CMD_FLAG_DF;
        }
    } else if (dice < 60) {
        job->command = NBD_CMD_WRITE;
    } else if (dice < 72) {
        job->command = NBD_CMD_WRITE_ZEROES;
        if (rng_chance(rng, 1, 2)) {
            job->flags |= rng_chance(rng, 1, 2) ? NBD_CMD_FLAG_NO_HOLE
                                                : NBD_CMD_FLAG_FAST_ZERO;
        }
    } else if (dice < 84) {
        job->command = NBD_CMD_TRIM;
    } else if (dice < 94 && owner->client.structured) {
        job->command = NBD_CMD_BLOCK_STATUS;
        job->flags |= rng_chance(rng, 1, 3) ? NBD_CMD_FLAG_REQ_ONE : 0;
    } else {
        job->command = NBD_CMD_FLUSH;
        job->offset = 0;
        job->size = 0;
    }
}

static void
job_start(struct model *model, struct owner *owner, struct job *job)
{
    uint64_t salt = rng_u64(&model->rng);

    draw_range(model, owner, job);
    if (overlaps(owner, job->offset, job->size)) {
        return;
    }
    draw_command(model, owner, job);
    job->cookie = ++model->cookie * UINT64_C(0x9e3779b97f4a7c15);
    job->busy = true;
    job->has_failed = false;
    job->seen_bytes = 0;
    owner->busy++;
    client_request(&owner->client, job->flags, job->command, job->cookie,
                   job->offset, job->size);
    uint32_t size = job->size > 0 ? job->size : 1;
    switch (job->command) {
    case NBD_CMD_READ:
        job->seen = calloc(1, size);
        break;
    case NBD_CMD_WRITE:
        job->after = malloc(size);
        fill_pattern(job->after, job->offset, job->size, salt);
        client_send(&owner->client, job->after, job->size);
        break;
    case NBD_CMD_WRITE_ZEROES:
        job->after = calloc(1, size);
        break;
    case NBD_CMD_TRIM: {
        uint64_t first = units_align_up(job->offset, 512);
        uint64_t end = units_align_down(job->offset + job->size, 512);
        job->after = malloc(size);
        memcpy(job->after, model->bytes + job->offset, job->size);
        if (first < end) {
            memset(job->after + (first - job->offset), 0, end - first);
        }
        break;
    }
    default:
        break;
    }
}

/* ---- Ending ---- */

static void
job_free(struct owner *owner, struct job *job)
{
    free(job->after);
    free(job->seen);
    job->after = NULL;
    job->seen = NULL;
    job->busy = false;
    owner->busy--;
    owner->done++;
}

/* Each byte is old or new; the model learns which. */
static void
job_reconcile(struct model *model, const struct job *job)
{
    if (job->after == NULL) {
        return;
    }
    const uint8_t *real = ram_volume_bytes(model->world.volume) + job->offset;
    uint8_t *old = model->bytes + job->offset;
    for (uint32_t i = 0; i < job->size; i++) {
        if (real[i] != old[i] && real[i] != job->after[i]) {
            fail_msg("byte %" PRIu64 " is neither old nor new",
                     job->offset + i);
        }
        old[i] = real[i];
    }
}

static void
job_done(struct model *model, struct owner *owner, struct job *job,
         uint32_t error)
{
    if (error != 0) {
        assert_int_equal(error, NBD_EIO);
        assert_true(model->options.volume.error_ppm != 0);
        model->failures++;
        job_reconcile(model, job);
    } else if (job->command == NBD_CMD_READ) {
        assert_int_equal(job->seen_bytes, job->size);
    } else if (job->after != NULL) {
        memcpy(model->bytes + job->offset, job->after, job->size);
    }
    job_free(owner, job);
}

static struct job *
job_find(struct owner *owner, uint64_t cookie)
{
    for (uint32_t i = 0; i < DEPTH; i++) {
        if (owner->jobs[i].busy && owner->jobs[i].cookie == cookie) {
            return &owner->jobs[i];
        }
    }
    fail_msg("a reply to nothing");
    abort();
}

/* ---- Replies ---- */

/* 'data' NULL: zeros. */
static void
check_read(struct model *model, struct job *job, uint64_t offset,
           const uint8_t *data, uint32_t size)
{
    assert_int_equal(job->command, NBD_CMD_READ);
    assert_in_range(offset, job->offset, job->offset + job->size - 1);
    assert_in_range(size, 1, job->offset + job->size - offset);
    const uint8_t *want = model->bytes + offset;
    for (uint32_t i = 0; i < size; i++) {
        if (want[i] != (data == NULL ? 0 : data[i])) {
            fail_msg("byte %" PRIu64 " is %02x, not %02x; the volume has "
                     "%02x; read of %u at %" PRIu64,
                     offset + i, data == NULL ? 0 : data[i], want[i],
                     ram_volume_bytes(model->world.volume)[offset + i],
                     job->size, job->offset);
        }
        uint8_t *seen = &job->seen[offset - job->offset + i];
        assert_int_equal(*seen, 0);
        *seen = 1;
    }
    job->seen_bytes += size;
}

static void
check_status(struct model *model, const struct job *job, const uint8_t *data,
             uint32_t size)
{
    uint32_t count = (size - 4) / 8;
    uint64_t at = job->offset;

    assert_int_equal(job->command, NBD_CMD_BLOCK_STATUS);
    assert_int_equal(size, 4 + count * 8);
    assert_in_range(count, 1,
                    (job->flags & NBD_CMD_FLAG_REQ_ONE) != 0 ? 1 : 128);
    for (uint32_t i = 0; i < count; i++) {
        struct nbd_status_descriptor one;
        memcpy(&one, data + 4 + (size_t)8 * i, sizeof one);
        assert_in_range(be32_get(one.size), 1, job->offset + job->size - at);
        uint64_t end = at + be32_get(one.size);
        /* A block may be shared with, and changed by, other requests: only
         * those that this one has for itself are certain. */
        uint64_t first = units_align_up(job->offset, 4096);
        uint64_t last = units_align_down(job->offset + job->size, 4096);
        first = at > first ? at : first;
        last = end < last ? end : last;
        for (uint64_t block = first; block < last;
             block = units_align_down(block, 4096) + 4096) {
            assert_int_equal(ram_volume_is_hole(model->world.volume,
                                                block / 4096),
                             be32_get(one.flags) == 3);
        }
        at = end;
    }
}

/* One chunk, if it is there whole. */
static bool
take_chunk(struct model *model, struct owner *owner)
{
    struct client *client = &owner->client;
    struct nbd_chunk_header header;
    const uint8_t *bytes = client->in + client->in_read;
    size_t there = client->in_size - client->in_read;
    struct be64 offset;
    struct be32 word;

    if (there < sizeof header) {
        return false;
    }
    memcpy(&header, bytes, sizeof header);
    uint32_t size = be32_get(header.size);
    if (there < sizeof header + size) {
        return false;
    }
    struct job *job = job_find(owner, be64_get(header.cookie));
    assert_true(client->structured);
    bytes += sizeof header;
    client->in_read += sizeof header + size;
    uint32_t error = 0;
    switch (be16_get(header.type)) {
    case NBD_REPLY_TYPE_OFFSET_DATA:
        assert_true(size > 8);
        memcpy(&offset, bytes, sizeof offset);
        check_read(model, job, be64_get(offset), bytes + 8, size - 8);
        break;
    case NBD_REPLY_TYPE_OFFSET_HOLE:
        assert_int_equal(size, 12);
        memcpy(&offset, bytes, sizeof offset);
        memcpy(&word, bytes + 8, sizeof word);
        check_read(model, job, be64_get(offset), NULL, be32_get(word));
        break;
    case NBD_REPLY_TYPE_BLOCK_STATUS:
        check_status(model, job, bytes, size);
        break;
    case NBD_REPLY_TYPE_ERROR:
        memcpy(&word, bytes, sizeof word);
        error = be32_get(word);
        assert_int_not_equal(error, 0);
        assert_int_equal(be16_get(header.flags), NBD_REPLY_FLAG_DONE);
        break;
    default:
        fail_msg("chunk type %u", be16_get(header.type));
    }
    if ((job->flags & NBD_CMD_FLAG_DF) != 0) {
        assert_int_equal(be16_get(header.flags), NBD_REPLY_FLAG_DONE);
    }
    if ((be16_get(header.flags) & NBD_REPLY_FLAG_DONE) != 0) {
        job_done(model, owner, job, error);
    }
    return true;
}

static bool
take_simple(struct model *model, struct owner *owner)
{
    struct client *client = &owner->client;
    struct nbd_simple_reply reply;
    const uint8_t *bytes = client->in + client->in_read;
    size_t there = client->in_size - client->in_read;

    if (there < sizeof reply) {
        return false;
    }
    memcpy(&reply, bytes, sizeof reply);
    struct job *job = job_find(owner, be64_get(reply.cookie));
    uint32_t size = 0;
    if (job->command == NBD_CMD_READ) {
        assert_false(client->structured);
        size = be32_get(reply.error) == 0 ? job->size : 0;
    }
    if (there < sizeof reply + size) {
        return false;
    }
    client->in_read += sizeof reply + size;
    if (size > 0) {
        check_read(model, job, job->offset, bytes + sizeof reply, size);
    }
    job_done(model, owner, job, be32_get(reply.error));
    return true;
}

static void
take_replies(struct model *model, struct owner *owner)
{
    struct client *client = &owner->client;

    while (client->in_size - client->in_read >= sizeof(struct be32)) {
        struct be32 magic;
        memcpy(&magic, client->in + client->in_read, sizeof magic);
        if (be32_get(magic) == NBD_STRUCTURED_REPLY_MAGIC) {
            if (!take_chunk(model, owner)) {
                break;
            }
        } else {
            assert_int_equal(be32_get(magic), NBD_SIMPLE_REPLY_MAGIC);
            if (!take_simple(model, owner)) {
                break;
            }
        }
    }
    memmove(client->in, client->in + client->in_read,
            client->in_size - client->in_read);
    client->in_size -= client->in_read;
    client->in_read = 0;
}

/* ---- Coming and going ---- */

static void
owner_connect(struct model *model, struct owner *owner)
{
    bool structured = rng_chance(&model->rng, 2, 3);

    client_open(&owner->client, &model->world, structured, structured);
    owner->connected = true;
}

/* After the end of a connection, whoever ended it. */
static void
owner_bury(struct model *model, struct owner *owner)
{
    struct world *world = &model->world;
    uint32_t others = 0;

    owner->connected = false;
    client_drop(&owner->client);
    for (uint32_t i = 0; i < model->client_count; i++) {
        others += model->owners[i].connected;
    }
    /* What was in flight settles, then the server forgets the client. */
    uint64_t end = sim_now_ns(world->sim) + PATIENCE;
    while (nbd_export_clients(world->nbd_export) > others &&
           sim_now_ns(world->sim) < end) {
        sim_run_for(world->sim, NS_PER_MS);
    }
    assert_true(nbd_export_clients(world->nbd_export) <= others);
    for (uint32_t i = 0; i < DEPTH; i++) {
        struct job *job = &owner->jobs[i];
        if (job->busy) {
            job_reconcile(model, job);
            job_free(owner, job);
        }
    }
}

static void
owner_turn(struct model *model, struct owner *owner, bool more)
{
    if (!owner->connected) {
        if (more && rng_chance(&model->rng, 1, 4)) {
            owner_connect(model, owner);
        }
        return;
    }
    take_replies(model, owner);
    if (owner->client.closed) {
        /* Only an error in a large simple read gives a reason. */
        assert_true(model->options.volume.error_ppm != 0);
        assert_false(owner->client.structured);
        owner_bury(model, owner);
        return;
    }
    if (more && rng_chance(&model->rng, 1, 400)) {
        model->cuts++;
        owner_bury(model, owner);
        return;
    }
    for (uint32_t i = 0; more && i < DEPTH; i++) {
        if (!owner->jobs[i].busy && rng_chance(&model->rng, 1, 2)) {
            job_start(model, owner, &owner->jobs[i]);
        }
    }
}

/* ---- A run ---- */

static void
model_init(struct model *model, uint64_t seed)
{
    struct rng rng;

    memset(model, 0, sizeof *model);
    rng_init(&rng, seed);
    model->client_count = (uint32_t)rng_between(&rng, 1, CLIENTS);
    model->options = (struct world_options){
        .seed = seed,
        .swarm = true,
        .requests_max = rng_chance(&rng, 1, 3) ? 10 : 500,
        .volume = {
            .seed = seed,
            .delay_min_ns = NS_PER_US,
            .delay_max_ns = rng_between(&rng, 10, 5000) * NS_PER_US,
            .error_ppm = rng_chance(&rng, 1, 2) ? 0 : 5000,
        },
    };
    if (rng_chance(&rng, 1, 2)) {
        model->options.volume.payloads =
            (struct payload_pool_options){ 3, 2, 2 };
    }
    world_init(&model->world, &model->options);
    sim_rng_init(model->world.sim, "model", 0, &model->rng);
    model->bytes = calloc(1, VOLUME_BYTES);
    assert_non_null(model->bytes);
    for (uint32_t i = 0; i < model->client_count; i++) {
        /* Some blocks have two owners. */
        model->owners[i].first = i * PART_BYTES + i % 2 * UINT64_C(700);
        model->owners[i].size = (i + 1) * PART_BYTES +
                                (i + 1) % 2 * UINT64_C(700) -
                                model->owners[i].first;
    }
}

static void
model_finish(struct model *model)
{
    for (uint32_t i = 0; i < model->client_count; i++) {
        if (model->owners[i].connected) {
            client_drop(&model->owners[i].client);
        }
    }
    assert_memory_equal(ram_volume_bytes(model->world.volume), model->bytes,
                        VOLUME_BYTES);
    world_done(&model->world);
    free(model->bytes);
}

static void
model_run(uint64_t seed)
{
    static struct model model;
    uint32_t jobs = 0, idle = 0;

    model_init(&model, seed);
    uint64_t end = sim_now_ns(model.world.sim) + 300 * NS_PER_S;
    bool more = true;
    while (sim_now_ns(model.world.sim) < end && (more || idle < 1)) {
        sim_run_for(model.world.sim, 200 * NS_PER_US);
        uint32_t busy = 0;
        jobs = 0;
        for (uint32_t i = 0; i < model.client_count; i++) {
            owner_turn(&model, &model.owners[i], more);
            busy += model.owners[i].busy;
            jobs += model.owners[i].done;
        }
        more = jobs < 1500;
        idle = busy == 0;
    }
    assert_true(jobs >= 1500);
    for (uint32_t i = 0; i < model.client_count; i++) {
        assert_int_equal(model.owners[i].busy, 0);
    }
    model_finish(&model);
}

static void
test_model(void **state)
{
    const char *text = getenv("WEFT_NBD_SEEDS");
    uint64_t first = 1, last = SEEDS;
    (void)state;

    if (text != NULL && strstr(text, "..") != NULL) {
        first = strtoull(text, NULL, 10);
        last = strtoull(strstr(text, "..") + 2, NULL, 10);
    } else if (text != NULL) {
        last = strtoull(text, NULL, 10);
    }
    for (uint64_t seed = first; seed <= last; seed++) {
        print_message("# seed %" PRIu64 "\n", seed);
        model_run(seed);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
