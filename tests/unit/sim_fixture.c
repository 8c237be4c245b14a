/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/sim_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/container_of.h"

void
host_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct host *host = container_of(program, struct host, program);

    assert_ptr_equal(sim_node_io(node), io);
    host->io = io;
    host->file = NULL;
    host->open_result = io_file_open(io, "/d", IO_CACHE_AUTO, &host->file);
    host->memory = io_arena_alloc(io, BLOCKS_MAX * 4096);
    assert_non_null(host->memory);
}

void
host_crashed(struct sim_program *program, struct sim_node *node)
{
    struct host *host = container_of(program, struct host, program);

    (void)node;
    host->io = NULL;
    host->file = NULL;
    host->memory = NULL;
}

void
host_setup(struct host *host, uint64_t seed, bool volatile_cache)
{
    *host = (struct host){
        .program = { .boot = host_boot, .crashed = host_crashed },
        .sim = sim_new(seed, NULL),
    };
    host->node = sim_node_add(host->sim, "a");
    host->disk = sim_disk_add(host->node, "/d", DISK_SIZE, volatile_cache);
    sim_node_start(host->node, &host->program);
    assert_int_equal(host->open_result, 0);
}

static void
op_done(struct io_op *io_op, int result)
{
    struct op *op = container_of(io_op, struct op, file.op);

    assert_false(op->is_done);
    op->is_done = true;
    op->result = result;
}

void
start(struct host *host, struct op *op, enum io_file_kind kind,
      uint64_t offset_bytes, uint32_t size_bytes, void *data)
{
    *op = (struct op){
        .file = {
            .op = { .done = op_done },
            .file = host->file,
            .kind = kind,
            .offset_bytes = offset_bytes,
            .size_bytes = kind == IO_FILE_DISCARD ? 0 : size_bytes,
            .discard_bytes = size_bytes,
            .data = data,
        },
    };
    io_file_start(host->io, &op->file);
    assert_false(op->is_done); /* io.h rule (2) */
}

int
finish(struct host *host, struct op *op)
{
    assert_true(sim_run_until_set(host->sim, &op->is_done, NS_PER_S));
    return op->result;
}

int
run(struct host *host, enum io_file_kind kind, uint64_t offset_bytes,
    uint32_t size_bytes, void *data)
{
    struct op op;

    start(host, &op, kind, offset_bytes, size_bytes, data);
    return finish(host, &op);
}

int
write_fill(struct host *host, uint64_t offset_bytes, uint32_t size_bytes,
           uint8_t fill)
{
    memset(host->memory, fill, size_bytes);
    return run(host, IO_FILE_WRITE, offset_bytes, size_bytes, host->memory);
}

int
flush(struct host *host)
{
    return run(host, IO_FILE_FLUSH, 0, 0, NULL);
}

bool
is_filled(const uint8_t *data, uint32_t size, uint8_t fill)
{
    for (uint32_t i = 0; i < size; i++) {
        if (data[i] != fill) {
            return false;
        }
    }
    return true;
}

void
restart(struct host *host, enum sim_crash crash)
{
    sim_node_crash(host->node, crash);
    assert_null(host->io);
    sim_node_start(host->node, &host->program);
    assert_int_equal(host->open_result, 0);
}
