/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/rng.h"

#include "lib/base/check.h"
#include "lib/base/le.h"

static uint64_t
splitmix64(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t
rotate_left(uint64_t value, unsigned count)
{
    return value << count | value >> (64 - count);
}

void
rng_init(struct rng *rng, uint64_t seed)
{
    /* splitmix64 never gives four zeros in a row, the one bad state. */
    for (size_t i = 0; i < 4; i++) {
        rng->state[i] = splitmix64(&seed);
    }
}

uint64_t
rng_u64(struct rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t
rng_below(struct rng *rng, uint64_t bound)
{
    CHECK(bound > 0);

    /* 2^64 mod bound: values below it would make some results likelier. */
    uint64_t reject = (0 - bound) % bound;
    uint64_t value;
    do {
        value = rng_u64(rng);
    } while (value < reject);
    return value % bound;
}

uint64_t
rng_between(struct rng *rng, uint64_t low, uint64_t high)
{
    CHECK(low <= high);
    if (low == 0 && high == UINT64_MAX) {
        return rng_u64(rng);
    }
    return low + rng_below(rng, high - low + 1);
}

bool
rng_chance(struct rng *rng, uint64_t numerator, uint64_t denominator)
{
    return rng_below(rng, denominator) < numerator;
}

void
rng_fill(struct rng *rng, void *ret_data, size_t size)
{
    unsigned char *at = ret_data;

    while (size > 0) {
        struct le64 chunk = le64_make(rng_u64(rng));
        size_t take = size < sizeof chunk ? size : sizeof chunk;
        memcpy(at, chunk.bytes, take);
        at += take;
        size -= take;
    }
}
