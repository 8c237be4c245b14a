/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/backoff.h"

#include "lib/base/check.h"

void
backoff_init(struct backoff *backoff, uint64_t base_ns, uint64_t max_ns)
{
    CHECK(base_ns > 0);
    CHECK(base_ns <= max_ns);
    *backoff = (struct backoff){
        .base_ns = base_ns,
        .max_ns = max_ns,
        .next_ns = base_ns,
    };
}

uint64_t
backoff_next(struct backoff *backoff, struct rng *rng)
{
    uint64_t whole_ns = backoff->next_ns;

    if (whole_ns > backoff->max_ns / 2) {
        backoff->next_ns = backoff->max_ns;
    } else {
        backoff->next_ns = whole_ns * 2;
    }
    return rng_between(rng, whole_ns - whole_ns / 2, whole_ns);
}

void
backoff_reset(struct backoff *backoff)
{
    backoff->next_ns = backoff->base_ns;
}
