/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_RAM_VOLUME_H
#define TESTS_SUPPORT_RAM_VOLUME_H

/* A volume in memory, in place of blockd/volume/volume.c: it defines the
 * functions of volume.h that exports use, so that linking ram_volume.c first
 * keeps the real one out of the program.  Payloads are the real ones.
 *
 * Requests settle in random order after a random delay, or are held until the
 * test lets them go; they may fail at random, or as the test says.  Every
 * write's checksums are compared with its bytes (a CHECK: the export made
 * them).  Bytes are changed when a request settles, never before.
 *
 * One block is 4 KiB; a block is a hole until it is written, and becomes one
 * again by a discard or write-zeroes of all of it. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/volume/volume.h"
#include "lib/base/rng.h"

#define RAM_KINDS 6u /* enum volume_req_kind */

struct ram_volume_options {
    struct io *io;
    uint64_t size_bytes;
    uint64_t seed;
    uint64_t delay_min_ns, delay_max_ns; /* max 0: the same turn. */
    uint32_t error_ppm;                  /* -EIO, of all requests. */
    struct payload_pool_options payloads;
};

struct ram_volume_stats {
    uint32_t count[RAM_KINDS]; /* Submitted. */
    uint32_t fua[RAM_KINDS];   /* Of these, with FUA. */
    uint32_t failed[RAM_KINDS];
    uint32_t in_flight, in_flight_max;
    uint64_t bytes_max; /* Of the largest request. */
};

/* Set-up, with the memory of the caller's world.  -ENOMEM. */
WEFT_MUST_CHECK int ram_volume_new(const struct ram_volume_options *options,
                                   struct volume **ret_volume);
/* Nothing may be in flight, no payload taken. */
void ram_volume_free(struct volume *volume);

/* True: everything submitted stays in flight; false: lets it go. */
void ram_volume_hold(struct volume *volume, bool hold);
/* The next 'count' requests of 'kind' fail with 'result'. */
void ram_volume_fail(struct volume *volume, enum volume_req_kind kind,
                     int result, uint32_t count);
void ram_volume_stats(const struct volume *volume,
                      struct ram_volume_stats *ret_stats);
/* The contents; and whether a block (by index) is a hole. */
uint8_t *ram_volume_bytes(struct volume *volume);
bool ram_volume_is_hole(const struct volume *volume, uint64_t block);

#endif /* TESTS_SUPPORT_RAM_VOLUME_H */
