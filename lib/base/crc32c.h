/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_CRC32C_H
#define LIB_BASE_CRC32C_H

/* CRC-32C (Castagnoli, as in iSCSI and ext4): crc32c(0, "123456789", 9) is
 * 0xe3069283.
 *
 * The result of one call is the seed of the next, and 0 the first seed:
 *
 *     crc32c(crc32c(0, a, a_size), b, b_size) == crc32c(0, ab, ab_size)
 *
 * Uses the processor's instruction where it has one, three streams at a time;
 * a table elsewhere.  Thread-safe. */

#include <stddef.h>
#include <stdint.h>

/* The external name differs because libopenvswitch exports a crc32c(). */
uint32_t crc32c_update(uint32_t seed, const void *data, size_t size);

static inline uint32_t
crc32c(uint32_t seed, const void *data, size_t size)
{
    return crc32c_update(seed, data, size);
}

/* Copies as memcpy() does and returns the checksum of the bytes that arrived
 * in 'destination', even if somebody (a guest) changes 'source' meanwhile. */
uint32_t crc32c_copy(uint32_t seed, void *destination, const void *source,
                     size_t size);

/* The checksum of A followed by B, out of theirs and the size of B. */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b);

/* The table version, for tests to compare with. */
uint32_t crc32c_portable(uint32_t seed, const void *data, size_t size);

#endif /* LIB_BASE_CRC32C_H */
