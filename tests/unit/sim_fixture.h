/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_SIM_FIXTURE_H
#define TESTS_UNIT_SIM_FIXTURE_H

/* One simulated host with one disk, "/d", for tests of file operations. */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/units.h"
#include "lib/io/sim.h"

#define DISK_SIZE (16 * MIB)
#define BLOCKS_MAX 64u

/* A program that opens its disk and lets the test start operations. */
struct host {
    struct sim_program program;
    struct sim *sim;
    struct sim_node *node;
    struct sim_disk *disk;
    struct io *io; /* NULL: crashed. */
    struct io_file *file;
    uint8_t *memory; /* Of the life. */
    int open_result;
};

struct op {
    struct io_file_op file;
    bool is_done;
    int result;
};

void host_setup(struct host *host, uint64_t seed, bool volatile_cache);
/* A crash and a new life. */
void restart(struct host *host, enum sim_crash crash);
void start(struct host *host, struct op *op, enum io_file_kind kind,
           uint64_t offset_bytes, uint32_t size_bytes, void *data);
/* Waits for it. */
int finish(struct host *host, struct op *op);
int run(struct host *host, enum io_file_kind kind, uint64_t offset_bytes,
        uint32_t size_bytes, void *data);
int write_fill(struct host *host, uint64_t offset_bytes, uint32_t size_bytes,
               uint8_t fill);
int flush(struct host *host);
bool is_filled(const uint8_t *data, uint32_t size, uint8_t fill);
/* For hosts beside the first. */
sim_program_boot_fn host_boot;
sim_program_crashed_fn host_crashed;

#endif /* TESTS_UNIT_SIM_FIXTURE_H */
