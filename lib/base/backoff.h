/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_BACKOFF_H
#define LIB_BASE_BACKOFF_H

/* How long to wait before trying again: doubles from 'base_ns' up to 'max_ns',
 * and of that a random part between a half and the whole, so that those who
 * failed together do not come back together.
 *
 * Pure: no clock, and chance comes from the caller. */

#include <stdint.h>

#include "lib/base/rng.h"

struct backoff {
    uint64_t base_ns;
    uint64_t max_ns;
    uint64_t next_ns; /* The whole of the next wait. */
};

/* 0 < base_ns <= max_ns. */
void backoff_init(struct backoff *backoff, uint64_t base_ns, uint64_t max_ns);

/* The wait after one more failure. */
uint64_t backoff_next(struct backoff *backoff, struct rng *rng);

/* After a success. */
void backoff_reset(struct backoff *backoff);

#endif /* LIB_BASE_BACKOFF_H */
