/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_RNG_H
#define LIB_BASE_RNG_H

/* A reproducible source of chance: xoshiro256** (Blackman and Vigna), seeded
 * through splitmix64.  The same seed gives the same sequence on every machine.
 *
 * For jitter, tests and the simulator; not for secrets.  Real seeds come from
 * the caller (io, getrandom).  No thread safety: one per owner. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_init(struct rng *rng, uint64_t seed);
uint64_t rng_u64(struct rng *rng);

/* Uniform in [0, bound), without bias; 'bound' is not 0. */
uint64_t rng_below(struct rng *rng, uint64_t bound);

/* Uniform in [low, high], both included. */
uint64_t rng_between(struct rng *rng, uint64_t low, uint64_t high);

/* True in 'numerator' of 'denominator' cases. */
bool rng_chance(struct rng *rng, uint64_t numerator, uint64_t denominator);

void rng_fill(struct rng *rng, void *ret_data, size_t size);

#endif /* LIB_BASE_RNG_H */
