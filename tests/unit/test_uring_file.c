/* SPDX-License-Identifier: Apache-2.0 */

/* Files of the reactor: every operation and every way it can fail, on a disk
 * file system and on tmpfs (both ways: see reactor_options.memory_inline). */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/container_of.h"
#include "lib/io/uring.h"
#include "tests/unit/uring_fixture.h"

#define BLOCK 4096U
#define BLOCKS 256U
#define FILE_BYTES (BLOCKS * BLOCK)
#define DEPTH 64U

static char directory[] = "/tmp/weft-uring-XXXXXX";
static char tiny[64]; /* A tmpfs of 256 KiB; "" if we may not mount. */
static bool by_threads;

struct file_test;

struct file_slot {
    struct io_file_op op;
    struct file_test *test;
    uint32_t block;
    uint32_t blocks;
    int result;
    bool busy;
};

struct file_test {
    struct reactor_call call;
    struct reactor *reactor;
    struct io *io;
    struct latch latch;
    const char *path;
    enum io_cache_mode mode;
    struct io_file *file;
    struct io_file_info info;
    uint8_t *memory; /* DEPTH * 16 blocks; some tests use less. */
    struct file_slot slots[DEPTH];
    uint32_t version[BLOCKS]; /* What each block holds; 0: zeroes. */
    bool taken[BLOCKS];       /* By an operation. */
    uint64_t seed;
    uint32_t left;
    uint32_t busy;
    uint32_t cancelled;
    int result;
    bool use_heap;
    bool cancel;
};

static void
change_small(struct reactor_options *options)
{
    options->ring_entries = 8;
    options->file_ops_max = 24;
    options->memory_inline = !by_threads;
    options->arena_bytes = 4U << 20;
}

static void
file_open_run(struct reactor_call *call)
{
    struct file_test *test = container_of(call, struct file_test, call);

    test->result = io_file_open(test->io, test->path, test->mode, &test->file);
    if (test->result == 0) {
        io_file_info_get(test->file, &test->info);
    }
}

static void
file_close_run(struct reactor_call *call)
{
    struct file_test *test = container_of(call, struct file_test, call);

    io_file_close(test->io, test->file);
    io_file_close(test->io, NULL);
    test->file = NULL;
}

static void
file_memory_run(struct reactor_call *call)
{
    struct file_test *test = container_of(call, struct file_test, call);

    test->memory = io_arena_alloc(test->io, DEPTH * 16 * BLOCK);
    CHECK(test->memory != NULL);
}

static void
make_file(char *path, size_t size, const char *folder, uint64_t bytes)
{
    int fd;

    snprintf(path, size, "%s/file", folder);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (int64_t)bytes), 0);
    close(fd);
}

static struct file_test *
file_test_new_with(const char *path, void (*change)(struct reactor_options *))
{
    struct file_test *test = calloc(1, sizeof(*test));

    assert_non_null(test);
    latch_init(&test->latch);
    test->reactor = fixture_reactor(change);
    test->io = reactor_io(test->reactor);
    test->path = path;
    fixture_run(test->reactor, &test->call, file_open_run);
    assert_int_equal(test->result, 0);
    fixture_run(test->reactor, &test->call, file_memory_run);
    for (uint32_t i = 0; i < DEPTH; i++) {
        test->slots[i].test = test;
        test->slots[i].op.file = test->file;
    }
    return test;
}

static struct file_test *
file_test_new(const char *path)
{
    return file_test_new_with(path, change_small);
}

static void
file_test_free(struct file_test *test)
{
    fixture_run(test->reactor, &test->call, file_close_run);
    reactor_free(test->reactor);
    latch_done(&test->latch);
    free(test);
}

/* ---- One operation at a time ---- */

static void
one_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct file_slot *slot = container_of(file_op, struct file_slot, op);

    slot->result = result;
    latch_add(&slot->test->latch, 1);
}

static void
one_run(struct reactor_call *call)
{
    struct file_test *test = container_of(call, struct file_test, call);

    test->slots[0].op.op.done = one_done;
    test->slots[0].result = 1;
    io_file_start(test->io, &test->slots[0].op);
    CHECK(test->slots[0].result == 1); /* Rule (2). */
}

static int
one(struct file_test *test, enum io_file_kind kind, void *data, uint32_t block,
    uint32_t blocks)
{
    struct io_file_op *op = &test->slots[0].op;

    op->kind = kind;
    op->data = data;
    op->offset_bytes = (uint64_t)block * BLOCK;
    op->size_bytes =
        kind == IO_FILE_READ || kind == IO_FILE_WRITE ? blocks * BLOCK : 0;
    op->discard_bytes = (uint64_t)blocks * BLOCK;
    fixture_run(test->reactor, &test->call, one_run);
    latch_wait(&test->latch, 1);
    return test->slots[0].result;
}

static void
check_one_by_one(const char *folder)
{
    char path[128];
    struct file_test *test;
    uint8_t *heap;

    make_file(path, sizeof(path), folder, FILE_BYTES + 100);
    test = file_test_new(path);
    heap = aligned_alloc(BLOCK, 16 * BLOCK);
    assert_non_null(heap);
    assert_int_equal(test->info.size_bytes, FILE_BYTES);
    assert_true(test->info.volatile_cache);
    assert_true(test->info.alignment_bytes >= 1);
    assert_true(test->info.alignment_bytes <= BLOCK);

    /* From the arena and from elsewhere; read back crosswise. */
    memset(test->memory, 'a', 2 * BLOCK);
    memset(heap, 'h', 2 * BLOCK);
    assert_int_equal(one(test, IO_FILE_WRITE, test->memory, 0, 2), 0);
    assert_int_equal(one(test, IO_FILE_WRITE, heap, BLOCKS - 2, 2), 0);
    assert_int_equal(one(test, IO_FILE_FLUSH, NULL, 0, 0), 0);
    assert_int_equal(one(test, IO_FILE_READ, heap, 0, 4), 0);
    assert_int_equal(heap[0], 'a');
    assert_int_equal(heap[2 * BLOCK - 1], 'a');
    assert_int_equal(heap[2 * BLOCK], 0);
    assert_int_equal(one(test, IO_FILE_READ, test->memory, BLOCKS - 2, 2), 0);
    assert_int_equal(test->memory[2 * BLOCK - 1], 'h');

    assert_int_equal(one(test, IO_FILE_DISCARD, NULL, 1, 1), 0);
    assert_int_equal(one(test, IO_FILE_READ, heap, 0, 2), 0);
    assert_int_equal(heap[BLOCK - 1], 'a');
    assert_int_equal(heap[BLOCK], 0);

    /* Beyond the end, in every way. */
    assert_int_equal(one(test, IO_FILE_READ, heap, BLOCKS, 1), -EINVAL);
    assert_int_equal(one(test, IO_FILE_WRITE, heap, BLOCKS - 1, 2), -EINVAL);
    assert_int_equal(one(test, IO_FILE_WRITE, heap, UINT32_MAX, 2), -EINVAL);
    assert_int_equal(one(test, IO_FILE_DISCARD, NULL, 0, BLOCKS + 1), -EINVAL);
    assert_int_equal(one(test, IO_FILE_DISCARD, NULL, 0, BLOCKS), 0);

    /* The file shrinks under us. */
    assert_int_equal(truncate(path, 10 * BLOCK + 100), 0);
    assert_int_equal(one(test, IO_FILE_READ, heap, 20, 1), -EIO);
    assert_int_equal(one(test, IO_FILE_READ, heap, 8, 4), -EIO);
    assert_int_equal(one(test, IO_FILE_READ, heap, 8, 2), 0);

    /* Memory that is not there. */
    assert_int_equal(one(test, IO_FILE_WRITE, (void *)(uintptr_t)BLOCK, 0, 1),
                     -EFAULT);
    free(heap);
    file_test_free(test);
    assert_int_equal(unlink(path), 0);
}

static void
test_one_by_one_disk(void **state)
{
    (void)state;
    check_one_by_one(directory);
}

static void
test_one_by_one_tmpfs(void **state)
{
    (void)state;
    if (access("/dev/shm", W_OK) == 0) {
        check_one_by_one("/dev/shm");
    }
}

static void
test_no_space(void **state)
{
    char path[128];
    struct file_test *test;
    int rc = 0;

    (void)state;
    if (tiny[0] == '\0') {
        return;
    }
    make_file(path, sizeof(path), tiny, FILE_BYTES);
    test = file_test_new(path);
    for (uint32_t block = 0; block < BLOCKS && rc == 0; block += 16) {
        rc = one(test, IO_FILE_WRITE, test->memory, block, 16);
    }
    assert_int_equal(rc, -ENOSPC);
    assert_int_equal(one(test, IO_FILE_DISCARD, NULL, 0, BLOCKS), 0);
    assert_int_equal(one(test, IO_FILE_WRITE, test->memory, 0, 16), 0);
    file_test_free(test);
    unlink(path);
}

/* ---- Opening ---- */

static void
test_open(void **state)
{
    char path[128];
    char other[128];
    struct file_test *test;
    struct file_test *second;

    (void)state;
    make_file(path, sizeof(path), directory, FILE_BYTES);
    test = file_test_new(path);
    second = calloc(1, sizeof(*second));
    assert_non_null(second);
    second->reactor = test->reactor;
    second->io = test->io;
    second->path = path;
    fixture_run(second->reactor, &second->call, file_open_run);
    assert_int_equal(second->result, -EBUSY);
    second->path = "/nowhere/at/all";
    fixture_run(second->reactor, &second->call, file_open_run);
    assert_int_equal(second->result, -ENOENT);
    second->path = directory;
    fixture_run(second->reactor, &second->call, file_open_run);
    assert_int_equal(second->result, -EINVAL);
    second->path = "/dev/null";
    fixture_run(second->reactor, &second->call, file_open_run);
    assert_int_equal(second->result, -EINVAL);
    snprintf(other, sizeof(other), "%s/pipe", directory);
    assert_int_equal(mkfifo(other, 0600), 0);
    second->path = other;
    fixture_run(second->reactor, &second->call, file_open_run);
    assert_int_equal(second->result, -EINVAL);
    unlink(other);

    /* Closed and opened again; the administrator vouches for it. */
    fixture_run(test->reactor, &test->call, file_close_run);
    second->path = path;
    second->mode = IO_CACHE_NONVOLATILE;
    fixture_run(second->reactor, &second->call, file_open_run);
    assert_int_equal(second->result, 0);
    assert_false(second->info.volatile_cache);

    /* As many as there is room for (4), then no more. */
    for (uint32_t i = 0; i < 4; i++) {
        snprintf(other, sizeof(other), "%s/many%u", directory, i);
        close(open(other, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
        test->path = other;
        fixture_run(test->reactor, &test->call, file_open_run);
        assert_int_equal(test->result, i < 3 ? 0 : -EMFILE);
        if (i < 3) {
            test->slots[i].op.file = test->file;
        }
        unlink(other);
    }
    for (uint32_t i = 0; i < 3; i++) {
        test->file = test->slots[i].op.file;
        fixture_run(test->reactor, &test->call, file_close_run);
    }
    fixture_run(second->reactor, &second->call, file_close_run);
    file_test_free(test);
    free(second);
    unlink(path);
}

/* ---- Many operations against a model ---- */

static void
model_fill(uint8_t *data, uint32_t block, uint32_t version)
{
    if (version == 0) {
        memset(data, 0, BLOCK);
        return;
    }
    for (uint32_t i = 0; i < BLOCK; i += 8) {
        uint64_t word = (uint64_t)version << 32 | block * BLOCK | i;

        memcpy(data + i, &word, sizeof(word));
    }
}

static void model_next(struct file_slot *slot);

static void
model_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct file_slot *slot = container_of(file_op, struct file_slot, op);
    struct file_test *test = slot->test;
    uint8_t expected[BLOCK];

    CHECK(slot->busy);
    CHECK(result == 0 || (test->cancel && result == -ECANCELED));
    slot->busy = false;
    test->busy--;
    test->cancelled += result != 0;
    for (uint32_t i = 0; i < slot->blocks; i++) {
        uint32_t block = slot->block + i;

        test->taken[block] = false;
        if (slot->op.kind == IO_FILE_READ && result == 0) {
            model_fill(expected, block, test->version[block]);
            CHECK(memcmp((uint8_t *)slot->op.data + i * BLOCK, expected,
                         BLOCK) == 0);
        }
    }
    model_next(slot);
}

static bool
model_take(struct file_test *test, uint32_t block, uint32_t blocks)
{
    for (uint32_t i = 0; i < blocks; i++) {
        if (block + i >= BLOCKS || test->taken[block + i]) {
            return false;
        }
    }
    for (uint32_t i = 0; i < blocks; i++) {
        test->taken[block + i] = true;
    }
    return true;
}

static void
model_next(struct file_slot *slot)
{
    struct file_test *test = slot->test;
    uint64_t dice = fixture_random(&test->seed);

    if (test->left == 0) {
        if (test->busy == 0) {
            latch_add(&test->latch, 1);
        }
        return;
    }
    test->left--;
    slot->blocks = 1 + (uint32_t)(dice >> 8) % 16;
    slot->block = (uint32_t)(dice >> 16) % BLOCKS;
    slot->op.kind = (enum io_file_kind)(dice >> 32 & 3);
    if (slot->op.kind == IO_FILE_FLUSH && (dice >> 40) % 8 != 0) {
        slot->op.kind = IO_FILE_WRITE;
    }
    if (slot->op.kind == IO_FILE_FLUSH ||
        !model_take(test, slot->block, slot->blocks)) {
        slot->op.kind = IO_FILE_FLUSH;
        slot->blocks = 0;
    }
    slot->op.op.done = model_done;
    slot->op.offset_bytes = (uint64_t)slot->block * BLOCK;
    slot->op.size_bytes = slot->blocks * BLOCK;
    slot->op.discard_bytes = (uint64_t)slot->blocks * BLOCK;
    if (slot->op.kind == IO_FILE_DISCARD) {
        slot->op.size_bytes = 0;
    }
    for (uint32_t i = 0; i < slot->blocks; i++) {
        uint32_t block = slot->block + i;

        if (slot->op.kind == IO_FILE_WRITE) {
            test->version[block]++;
            model_fill((uint8_t *)slot->op.data + i * BLOCK, block,
                       test->version[block]);
        } else if (slot->op.kind == IO_FILE_DISCARD) {
            test->version[block] = 0;
        }
    }
    slot->busy = true;
    test->busy++;
    io_file_start(test->io, &slot->op);
}

static void
model_run(struct reactor_call *call)
{
    struct file_test *test = container_of(call, struct file_test, call);

    for (uint32_t i = 0; i < DEPTH; i++) {
        model_next(&test->slots[i]);
    }
}

static void
check_model(const char *folder, bool use_heap)
{
    char path[128];
    struct file_test *test;
    uint8_t *heap = aligned_alloc(BLOCK, DEPTH * 16 * BLOCK);

    assert_non_null(heap);
    make_file(path, sizeof(path), folder, FILE_BYTES);
    test = file_test_new(path);
    test->seed = 99;
    test->left = 6000;
    for (uint32_t i = 0; i < DEPTH; i++) {
        test->slots[i].op.data =
            (use_heap ? heap : test->memory) + (size_t)i * 16 * BLOCK;
    }
    fixture_run(test->reactor, &test->call, model_run);
    latch_wait(&test->latch, 1);
    assert_int_equal(fixture_info(test->reactor).file_ops, 0);
    file_test_free(test);
    free(heap);
    unlink(path);
}

static void
test_model_disk(void **state)
{
    (void)state;
    check_model(directory, false);
    check_model(directory, true);
}

static void
test_model_tmpfs(void **state)
{
    (void)state;
    for (int way = 1; way >= 0 && access("/dev/shm", W_OK) == 0; way--) {
        by_threads = way == 1;
        check_model("/dev/shm", false);
    }
}

/* ---- Cancel ---- */

static void
cancel_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct file_slot *slot = container_of(file_op, struct file_slot, op);

    CHECK(slot->busy);
    CHECK(result == 0 || result == -ECANCELED);
    slot->busy = false;
    slot->test->cancelled += result == -ECANCELED;
    latch_add(&slot->test->latch, 1);
}

static void
cancel_run(struct reactor_call *call)
{
    struct file_test *test = container_of(call, struct file_test, call);

    for (uint32_t i = 0; i < DEPTH; i++) {
        struct io_file_op *op = &test->slots[i].op;

        op->op.done = cancel_done;
        op->kind = i % 4 == 3 ? IO_FILE_FLUSH : IO_FILE_WRITE;
        op->offset_bytes = (uint64_t)i * BLOCK;
        op->size_bytes = i % 4 == 3 ? 0 : BLOCK;
        op->data = test->memory + (size_t)i * BLOCK;
        test->slots[i].busy = true;
        io_file_start(test->io, op);
    }
    for (uint32_t i = 0; i < DEPTH; i++) {
        io_op_cancel(test->io, &test->slots[i].op.op);
        io_op_cancel(test->io, &test->slots[i].op.op); /* Harmless. */
        CHECK(test->slots[i].busy);
    }
}

static void
test_cancel(void **state)
{
    char path[128];
    struct file_test *test;

    (void)state;
    make_file(path, sizeof(path), directory, FILE_BYTES);
    test = file_test_new(path);
    for (uint32_t round = 0; round < 50; round++) {
        test->cancelled = 0;
        fixture_run(test->reactor, &test->call, cancel_run);
        latch_wait(&test->latch, DEPTH);
        /* 24 may be in the kernel; the others were still here. */
        assert_true(test->cancelled >= DEPTH - 24);
    }
    file_test_free(test);
    unlink(path);
}

/* ---- More than the ring has room for ---- */

#define FLOOD 3000U
struct flood {
    struct reactor_call call;
    struct file_test *test;
    struct file_slot slots[FLOOD];
};

static void
flood_run(struct reactor_call *call)
{
    struct flood *flood = container_of(call, struct flood, call);
    struct file_test *test = flood->test;

    for (uint32_t i = 0; i < FLOOD; i++) {
        struct io_file_op *op = &flood->slots[i].op;

        flood->slots[i].test = test;
        op->op.done = one_done;
        op->file = test->file;
        op->kind = IO_FILE_READ;
        op->offset_bytes = (uint64_t)(i % BLOCKS) * BLOCK;
        op->size_bytes = BLOCK;
        op->data = test->memory + (size_t)(i % BLOCKS) * BLOCK;
        flood->slots[i].result = 1;
        io_file_start(test->io, op);
    }
}

static void
change_flood(struct reactor_options *options)
{
    options->ring_entries = 8; /* 64 completions. */
    options->file_ops_max = FLOOD;
    options->arena_bytes = 4U << 20;
}

static void
test_flood(void **state)
{
    struct flood *flood = calloc(1, sizeof(*flood));
    char path[128];

    (void)state;
    assert_non_null(flood);
    make_file(path, sizeof(path), directory, FILE_BYTES);
    flood->test = file_test_new_with(path, change_flood);
    fixture_run(flood->test->reactor, &flood->call, flood_run);
    latch_wait(&flood->test->latch, FLOOD);
    for (uint32_t i = 0; i < FLOOD; i++) {
        assert_int_equal(flood->slots[i].result, 0);
    }
    assert_true(fixture_info(flood->test->reactor).ring_full > 0);
    file_test_free(flood->test);
    free(flood);
    unlink(path);
}

/* ---- Completions while a poller keeps the loop awake ---- */

struct spinner {
    struct reactor_call call;
    struct io *io;
    struct io_poller poller;
};

static bool
spinner_poll(struct io_poller *poller)
{
    (void)poller;
    return false;
}

static void
spinner_begin(struct reactor_call *call)
{
    struct spinner *spinner = container_of(call, struct spinner, call);

    spinner->poller.poll = spinner_poll;
    spinner->poller.spin_ns = IO_NEVER;
    io_poller_add(spinner->io, &spinner->poller);
}

static void
spinner_end(struct reactor_call *call)
{
    struct spinner *spinner = container_of(call, struct spinner, call);

    io_poller_remove(spinner->io, &spinner->poller);
}

static void
test_spinning(void **state)
{
    char path[128];
    struct file_test *test;
    struct spinner spinner;

    (void)state;
    make_file(path, sizeof(path), directory, FILE_BYTES);
    test = file_test_new(path);
    spinner.io = test->io;
    fixture_run(test->reactor, &spinner.call, spinner_begin);
    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(one(test, IO_FILE_WRITE, test->memory, i, 1), 0);
        assert_int_equal(one(test, IO_FILE_READ, test->memory, i, 1), 0);
    }
    assert_int_equal(one(test, IO_FILE_FLUSH, NULL, 0, 0), 0);
    fixture_run(test->reactor, &spinner.call, spinner_end);
    file_test_free(test);
    unlink(path);
}

/* ---- A very big arena ---- */

static void
change_huge_arena(struct reactor_options *options)
{
    options->arena_bytes = (1UL << 30) + (64U << 20);
}

/* Two pieces of at most 1 GiB, and a write across their border. */
static void
test_big_arena(void **state)
{
    struct file_test *test;
    char path[128];
    uint8_t *border;

    (void)state;
    if (getenv("WEFT_TEST_BIG") == NULL) {
        return; /* It locks a GiB. */
    }
    make_file(path, sizeof(path), directory, FILE_BYTES);
    test = file_test_new_with(path, change_huge_arena);
    border = test->memory + (1UL << 30);
    memset(border - BLOCK, 'x', 2 * BLOCK);
    assert_int_equal(one(test, IO_FILE_WRITE, border - BLOCK, 0, 2), 0);
    assert_int_equal(one(test, IO_FILE_READ, border, 0, 2), 0);
    assert_int_equal(border[2 * BLOCK - 1], 'x');
    file_test_free(test);
    unlink(path);
}

/* ---- What must abort ---- */

static void
die_close_run(struct reactor_call *call)
{
    one_run(call);
    file_close_run(call);
}

static void
die_close_pending(void)
{
    char path[128];
    struct file_test *test;

    make_file(path, sizeof(path), directory, FILE_BYTES);
    test = file_test_new(path);
    test->slots[0].op.kind = IO_FILE_FLUSH;
    fixture_run(test->reactor, &test->call, die_close_run);
}

static void
die_stop_open(void)
{
    char path[128];
    struct file_test *test;

    make_file(path, sizeof(path), directory, FILE_BYTES);
    test = file_test_new(path);
    reactor_stop(test->reactor);
}

static void
test_programmer_errors(void **state)
{
    (void)state;
    if (FIXTURE_TSAN) {
        return;
    }
    assert_true(fixture_aborts(die_close_pending));
    assert_true(fixture_aborts(die_stop_open));
}

/* In a name space of our own; only root may, and not everywhere. */
static void
mount_tiny(void)
{
    char path[64];

    snprintf(path, sizeof(path), "%s/tiny", directory);
    if (mkdir(path, 0700) != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", path, "tmpfs", 0, "size=256k") != 0) {
        return;
    }
    memcpy(tiny, path, sizeof(tiny));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_by_one_disk),
        cmocka_unit_test(test_one_by_one_tmpfs),
        cmocka_unit_test(test_no_space),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_model_disk),
        cmocka_unit_test(test_model_tmpfs),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_spinning),
        cmocka_unit_test(test_big_arena),
        cmocka_unit_test(test_programmer_errors),
    };
    char command[128];
    int rc;

    if (mkdtemp(directory) == NULL) {
        return 99;
    }
    mount_tiny();
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    if (tiny[0] != '\0') {
        umount(tiny);
    }
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command) == 0 ? rc : 99;
}
