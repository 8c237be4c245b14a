/* SPDX-License-Identifier: Apache-2.0 */

/* Recovery of a disk that somebody has prepared: open must refuse, or serve.
 *
 * fuzz-sources: blockd/store/[a-z]*.c
 * fuzz-sources: lib/base/check.c lib/base/crc32c.c lib/base/err.c
 * fuzz-sources: lib/base/slab.c lib/base/units.c lib/base/uuid.c
 * fuzz-sources: lib/io/io.c lib/io/timer_heap.c
 * fuzz-max-bytes: 8192
 *
 * At start a small disk is formatted and used (two replicas, data, overwrites,
 * discards, a checkpoint), and left without a close.  An input is a list of
 * commands that change a copy of that image, see change_image(); CRCs of the
 * blocks that were touched are made right, unless the input says otherwise: a
 * search would never find them.  Then: open; if it serves, all blocks are read,
 * some written, listed, flushed; it is closed, and must then open again, as
 * whatever the store itself writes is sound.  All memory must be back. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/internal.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DISK_BLOCKS 340u
#define DISK_BYTES ((size_t)DISK_BLOCKS * WEFT_BLOCK_SIZE)
#define REPLICA_BLOCKS 20000u
#define SLOT_BYTES 16384u
#define JOURNAL_FIRST 2u

#define TIMERS_MAX 8u
#define TIMER_RUNS_MAX 64u

/* ---- A world: one file in memory, tasks, timers, nothing else ---- */

struct world {
    struct io io;
    struct io_file file;
    uint8_t *disk;
    struct list ops, tasks;
    struct io_timer *timers[TIMERS_MAX];
    uint64_t now_ns;
    uint64_t random;
    struct store *store;
    struct store_open open;
    struct store_close close;
    struct store_format format;
    bool is_done;
    int result;
};

static struct world *
world_of(struct io *io)
{
    return container_of(io, struct world, io);
}

static uint64_t
world_now(struct io *io)
{
    return world_of(io)->now_ns;
}

static void
world_timer_cancel(struct io *io, struct io_timer *timer)
{
    if (timer->heap_index != 0) {
        world_of(io)->timers[timer->heap_index - 1] = NULL;
        timer->heap_index = 0;
    }
}

static void
world_timer_set(struct io *io, struct io_timer *timer, uint64_t deadline_ns)
{
    struct world *world = world_of(io);
    uint32_t i = 0;

    world_timer_cancel(io, timer);
    while (world->timers[i] != NULL) {
        i++;
        CHECK(i < TIMERS_MAX);
    }
    timer->deadline_ns = deadline_ns;
    timer->heap_index = i + 1;
    world->timers[i] = timer;
}

/* Lets time pass until the next timer fires; false: there is none. */
static bool
world_pass(struct world *world)
{
    struct io_timer *next = NULL;

    for (uint32_t i = 0; i < TIMERS_MAX; i++) {
        struct io_timer *timer = world->timers[i];
        if (timer != NULL &&
            (next == NULL || timer->deadline_ns < next->deadline_ns)) {
            next = timer;
        }
    }
    if (next == NULL) {
        return false;
    }
    if (next->deadline_ns > world->now_ns) {
        world->now_ns = next->deadline_ns;
    }
    world_timer_cancel(&world->io, next);
    next->fire(next);
    return true;
}

static void
world_random(struct io *io, void *data, size_t size)
{
    uint8_t *bytes = data;

    for (size_t i = 0; i < size; i++) {
        world_of(io)->random = world_of(io)->random * 6364136223846793005u + 1;
        bytes[i] = (uint8_t)(world_of(io)->random >> 56);
    }
}

static void
world_task_defer(struct io *io, struct io_task *task)
{
    task->queued = true;
    list_push_back(&world_of(io)->tasks, &task->node);
}

static void
world_task_cancel(struct io *io, struct io_task *task)
{
    (void)io;
    task->queued = false;
    list_remove(&task->node);
}

static void
world_file_start(struct io *io, struct io_file_op *op)
{
    list_push_back(&world_of(io)->ops, &op->op.node);
}

static void
world_file_close(struct io *io, struct io_file *file)
{
    (void)io;
    (void)file;
}

static const struct io_vtable world_vtable = {
    .now_ns = world_now,
    .random_bytes = world_random,
    .timer_set = world_timer_set,
    .timer_cancel = world_timer_cancel,
    .task_defer = world_task_defer,
    .task_cancel = world_task_cancel,
    .file_start = world_file_start,
    .file_close = world_file_close,
};

static int
op_perform(struct world *world, const struct io_file_op *op)
{
    if (op->kind == IO_FILE_FLUSH) {
        return 0;
    }
    CHECK(op->offset_bytes <= DISK_BYTES);
    CHECK(op->size_bytes <= DISK_BYTES - op->offset_bytes);
    if (op->kind == IO_FILE_READ) {
        memcpy(op->data, world->disk + op->offset_bytes, op->size_bytes);
    } else {
        memcpy(world->disk + op->offset_bytes, op->data, op->size_bytes);
    }
    return 0;
}

/* Until nothing is to be done, but for what a timer does again and again. */
static void
world_run(struct world *world)
{
    uint32_t timers = 0;

    for (uint32_t i = 0; i < 2000000; i++) {
        if (!list_is_empty(&world->tasks)) {
            struct io_task *task =
                container_of(list_take(&world->tasks), struct io_task, node);

            task->queued = false;
            task->run(task);
        } else if (!list_is_empty(&world->ops)) {
            struct io_op *op =
                container_of(list_take(&world->ops), struct io_op, node);

            op->done(op, op_perform(world,
                                    container_of(op, struct io_file_op, op)));
        } else if (timers == TIMER_RUNS_MAX || !world_pass(world)) {
            return;
        } else {
            timers++;
        }
    }
    CHECK(false); /* It runs for ever. */
}

static void
world_init(struct world *world, uint8_t *disk, bool is_volatile)
{
    *world = (struct world){
        .io = { .vtable = &world_vtable },
        .file = { .info = { .size_bytes = DISK_BYTES,
                            .alignment_bytes = 512,
                            .volatile_cache = is_volatile } },
        .disk = disk,
        .now_ns = 1,
        .random = 1,
    };
    list_init(&world->ops);
    list_init(&world->tasks);
}

/* ---- A store in it ---- */

static void
format_done(struct store_format *op, int result)
{
    struct world *world = container_of(op, struct world, format);

    world->is_done = true;
    world->result = result;
}

static void
open_done(struct store_open *op, int result)
{
    struct world *world = container_of(op, struct world, open);

    world->is_done = true;
    world->result = result;
    world->store = op->store;
}

static void
close_done(struct store_close *op)
{
    struct world *world = container_of(op, struct world, close);

    world->is_done = true;
    world->store = NULL;
}

static int
world_open(struct world *world, uint8_t boot)
{
    world->is_done = false;
    world->open = (struct store_open){
        .io = &world->io,
        .file = &world->file,
        .options = { .boot_id = { { boot } }, .requests_max = 8 },
        .done = open_done,
    };
    store_open_start(&world->open);
    world_run(world);
    CHECK(world->is_done);
    if (world->result == 0) {
        store_serve(world->store);
    } else {
        CHECK(world->open.err.text[0] != '\0');
    }
    return world->result;
}

static void
world_close(struct world *world)
{
    world->is_done = false;
    world->close =
        (struct store_close){ .store = world->store, .done = close_done };
    store_close_start(&world->close);
    world_run(world);
    CHECK(world->is_done);
}

struct request {
    struct store_req req;
    bool is_done;
};

static void
request_done(struct store_req *req)
{
    container_of(req, struct request, req)->is_done = true;
}

static int
request_run(struct world *world, struct store_req *req)
{
    struct request request = { .req = *req };

    request.req.done = request_done;
    store_submit(world->store, &request.req);
    CHECK(!request.is_done);
    world_run(world);
    CHECK(request.is_done);
    *req = request.req;
    return req->result;
}

struct user {
    struct weft_uuid replica;
    uint32_t epoch;
    uint64_t session;
    uint64_t sequence;
    uint8_t *data;
    uint32_t crcs[STORE_REQ_BLOCKS_MAX];
    uint8_t states[STORE_REQ_BLOCKS_MAX];
    struct store_list_entry entries[4096];
};

static struct store_req
user_req(struct user *user, enum store_opcode opcode, uint64_t block,
         uint32_t count)
{
    return (struct store_req){
        .opcode = opcode,
        .replica = user->replica,
        .epoch = user->epoch,
        .session = user->session,
        .layer = STORE_LAYER_FIRST,
        .block = block,
        .block_count = count,
        .sequence = ++user->sequence,
        .data = user->data,
        .crcs = user->crcs,
        .states = user->states,
        .entries = user->entries,
        .entries_max = 4096,
    };
}

static int
user_fence(struct world *world, struct user *user)
{
    struct store_req req = user_req(user, STORE_FENCE, 0, 0);
    int result = request_run(world, &req);

    user->session = req.session;
    return result;
}

static int
user_write(struct world *world, struct user *user, uint64_t block,
           uint32_t count)
{
    struct store_req req = user_req(user, STORE_WRITE, block, count);

    for (uint32_t i = 0; i < count; i++) {
        uint8_t *data = user->data + (size_t)i * WEFT_BLOCK_SIZE;

        memset(data, (int)(user->sequence + block + i), WEFT_BLOCK_SIZE);
        user->crcs[i] = crc32c(0, data, WEFT_BLOCK_SIZE);
    }
    return request_run(world, &req);
}

static int
user_discard(struct world *world, struct user *user, uint64_t block,
             uint32_t count, bool zero)
{
    struct store_req req = user_req(user, STORE_DISCARD, block, count);

    req.discard_zero = zero;
    return request_run(world, &req);
}

static int
user_flush(struct world *world, struct user *user)
{
    struct store_req req = user_req(user, STORE_FLUSH, 0, 0);

    req.known_good = user->sequence - 1;
    return request_run(world, &req);
}

static void
user_create(struct world *world, struct user *user, uint8_t name)
{
    struct store_req req;
    int result;

    user->replica.bytes[0] = name;
    req = user_req(user, STORE_CREATE, 0, 0);
    req.size_blocks = REPLICA_BLOCKS;
    result = request_run(world, &req);
    CHECK(result == 0);
    result = user_fence(world, user);
    CHECK(result == 0);
}

/* ---- The image that inputs change ---- */

static uint8_t *image;
static struct disk_super image_super;
static struct user user;

static void
image_use(struct world *world)
{
    user_create(world, &user, 2);
    (void)user_write(world, &user, 16, 3);
    user_create(world, &user, 1);
    user.replica.bytes[0] = 1;
    for (uint64_t i = 0; i < 60; i++) {
        (void)user_write(world, &user, i * 3 % 20, 2);
    }
    (void)user_flush(world, &user);
    (void)user_discard(world, &user, 4, 3, false);
    (void)user_discard(world, &user, 9, 1, true);
    (void)user_write(world, &user, 0, 2);
    (void)user_write(world, &user, 17000, 1);
    (void)user_discard(world, &user, 12, 4, false);
    (void)user_write(world, &user, 6, 1);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct world world;
    int result;

    (void)argc;
    (void)argv;
    image = calloc(1, DISK_BYTES);
    user.data =
        aligned_alloc(WEFT_BLOCK_SIZE, STORE_REQ_BLOCKS_MAX * WEFT_BLOCK_SIZE);
    CHECK(image != NULL);
    CHECK(user.data != NULL);
    user.epoch = 1;
    world_init(&world, image, true);
    world.format = (struct store_format){
        .io = &world.io,
        .file = &world.file,
        .options = { .disk = { { 1 } }, .slot_bytes = SLOT_BYTES },
        .done = format_done,
    };
    store_format_start(&world.format);
    world_run(&world);
    CHECK(world.is_done);
    CHECK(world.result == 0);
    result = world_open(&world, 1);
    CHECK(result == 0);
    image_use(&world);
    /* The power goes: what is on the disk now is the image. */
    uint8_t *copy = malloc(DISK_BYTES);

    CHECK(copy != NULL);
    memcpy(copy, image, DISK_BYTES);
    world_close(&world);
    memcpy(image, copy, DISK_BYTES);
    free(copy);
    memcpy(&image_super, image, sizeof(image_super));
    if (le64_get(((struct disk_super *)(void *)(image + WEFT_BLOCK_SIZE))
                     ->generation) > le64_get(image_super.generation)) {
        memcpy(&image_super, image + WEFT_BLOCK_SIZE, sizeof(image_super));
    }
    return 0;
}

/* ---- Changes ---- */

struct input {
    const uint8_t *data;
    size_t size;
};

static uint64_t
take(struct input *input, uint32_t bytes)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < bytes && input->size != 0; i++) {
        value |= (uint64_t)*input->data << (8 * i);
        input->data++;
        input->size--;
    }
    return value;
}

static uint32_t
take_bytes(struct input *input, uint8_t *target, uint32_t bytes)
{
    if (bytes > input->size) {
        bytes = (uint32_t)input->size;
    }
    memcpy(target, input->data, bytes);
    input->data += bytes;
    input->size -= bytes;
    return bytes;
}

/* Whatever kind of block that is by its magic, with the CRC that it needs. */
static void
fix_crc(uint8_t *block)
{
    struct disk_super *super = (struct disk_super *)(void *)block;
    struct le32 *crc;

    if (le64_get(super->magic) == DISK_SUPER_MAGIC) {
        crc = &super->crc;
    } else if (le64_get(super->magic) << 32 == (uint64_t)DISK_PAGE_MAGIC
                                                   << 32) {
        crc = &((struct disk_page *)(void *)block)->crc;
    } else if (le64_get(super->magic) << 32 == (uint64_t)DISK_JOURNAL_MAGIC
                                                   << 32) {
        crc = &((struct disk_journal *)(void *)block)->crc;
    } else {
        return;
    }
    *crc = le32_make(0);
    *crc = le32_make(crc32c(0, block, WEFT_BLOCK_SIZE));
}

/* A journal block at 'offset' from the tail, with records from the input. */
static void
change_journal(struct input *input, uint8_t *disk)
{
    uint64_t position = le64_get(image_super.journal_tail) + take(input, 1);
    uint64_t flushed = le64_get(image_super.journal_tail) + take(input, 1);
    uint32_t bytes = (uint32_t)take(input, 1) * 16;
    uint64_t place = position % le64_get(image_super.journal_blocks);
    struct disk_journal *block =
        (struct disk_journal *)(void *)(disk + (JOURNAL_FIRST + place) *
                                                   WEFT_BLOCK_SIZE);

    memset(block, 0, sizeof(*block));
    block->magic = le32_make(DISK_JOURNAL_MAGIC);
    block->era = image_super.journal_era;
    block->position = le64_make(position);
    block->flushed = le64_make(flushed - 1);
    block->super_generation = image_super.generation;
    block->format_nonce = image_super.format_nonce;
    bytes = take_bytes(input, block->records, bytes);
    block->record_bytes = le32_make(bytes);
    fix_crc((uint8_t *)block);
}

static void
change_image(struct input *input, uint8_t *disk)
{
    while (input->size != 0) {
        uint8_t command = (uint8_t)take(input, 1);
        uint32_t at = (uint32_t)take(input, 2) % DISK_BLOCKS;
        uint8_t *block = disk + (size_t)at * WEFT_BLOCK_SIZE;
        uint32_t offset;
        uint32_t bytes;

        if (command % 8 == 7) {
            change_journal(input, disk);
            continue;
        }
        if (command % 8 == 6) {
            uint32_t from = (uint32_t)take(input, 2) % DISK_BLOCKS;

            memmove(block, disk + (size_t)from * WEFT_BLOCK_SIZE,
                    WEFT_BLOCK_SIZE);
            continue;
        }
        offset = (uint32_t)take(input, 2) % WEFT_BLOCK_SIZE;
        bytes = 1 + (uint32_t)take(input, 1);
        if (bytes > WEFT_BLOCK_SIZE - offset) {
            bytes = WEFT_BLOCK_SIZE - offset;
        }
        (void)take_bytes(input, block + offset, bytes);
        if (command % 8 != 0) {
            fix_crc(block);
        }
    }
}

/* ---- One input ---- */

static void
use_store(struct world *world)
{
    struct store_replica_info info;

    for (uint64_t i = 0; store_replica_info_get(world->store, i, &info); i++) {
        user.replica = info.replica;
        user.epoch = info.membership.epoch;
        memset(user.states, 0, sizeof(user.states));
        if (user.epoch > STORE_EPOCH_MAX || user_fence(world, &user) != 0) {
            /* A tombstone, or an owner that we are not. */
            user.epoch = info.membership.epoch + 1;
            if (user.epoch > STORE_EPOCH_MAX || user_fence(world, &user) != 0) {
                continue;
            }
        }
        for (uint64_t block = 0; block + 32 <= info.size_blocks && block < 64;
             block += 32) {
            struct store_req req = user_req(&user, STORE_READ, block, 32);
            int result = request_run(world, &req);

            CHECK(result == 0);
        }
        (void)user_write(world, &user, 0, 3);
        (void)user_write(world, &user, 18, 9);
        (void)user_discard(world, &user, 0, 9, false);
        struct store_req list =
            user_req(&user, STORE_LIST, 0, STORE_REGION_BLOCKS);
        int result = request_run(world, &list);

        CHECK(result == 0);
        result = user_flush(world, &user);
        CHECK(result == 0);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { .data = data, .size = size };
    struct world world;
    uint8_t *disk = malloc(DISK_BYTES);
    uint8_t how = (uint8_t)take(&input, 1);

    CHECK(disk != NULL);
    memcpy(disk, image, DISK_BYTES);
    change_image(&input, disk);
    world_init(&world, disk, (how & 1) != 0);
    user.sequence = store_seq_make(2, 1);
    if (world_open(&world, how & 2) == 0) {
        int result;

        use_store(&world);
        world_close(&world);
        result = world_open(&world, 3);
        CHECK(result == 0);
        world_close(&world);
    }
    free(disk);
    return 0;
}
