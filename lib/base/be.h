/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_BE_H
#define LIB_BASE_BE_H

/* Big-endian integers, for the NBD protocol.
 *
 * Each is a struct around bytes: using one without conversion does not
 * compile, and it has alignment 1, so that structs made of them have no
 * padding and may lie anywhere in a buffer.
 *
 *     header->size = be32_make(size);   be32_set(&header->size, size);
 *     size = be32_get(header->size); */

#include <assert.h>
#include <endian.h>
#include <stdint.h>
#include <string.h>

struct be16 {
    uint8_t bytes[2];
};

struct be32 {
    uint8_t bytes[4];
};

struct be64 {
    uint8_t bytes[8];
};

static_assert(sizeof(struct be16) == 2, "no padding");
static_assert(sizeof(struct be32) == 4, "no padding");
static_assert(sizeof(struct be64) == 8, "no padding");

static inline uint16_t
be16_get(struct be16 value)
{
    uint16_t raw;
    memcpy(&raw, value.bytes, sizeof raw);
    return be16toh(raw);
}

static inline struct be16
be16_make(uint16_t value)
{
    struct be16 made;
    uint16_t raw = htobe16(value);
    memcpy(made.bytes, &raw, sizeof raw);
    return made;
}

static inline void
be16_set(struct be16 *ret_value, uint16_t value)
{
    *ret_value = be16_make(value);
}

static inline uint32_t
be32_get(struct be32 value)
{
    uint32_t raw;
    memcpy(&raw, value.bytes, sizeof raw);
    return be32toh(raw);
}

static inline struct be32
be32_make(uint32_t value)
{
    struct be32 made;
    uint32_t raw = htobe32(value);
    memcpy(made.bytes, &raw, sizeof raw);
    return made;
}

static inline void
be32_set(struct be32 *ret_value, uint32_t value)
{
    *ret_value = be32_make(value);
}

static inline uint64_t
be64_get(struct be64 value)
{
    uint64_t raw;
    memcpy(&raw, value.bytes, sizeof raw);
    return be64toh(raw);
}

static inline struct be64
be64_make(uint64_t value)
{
    struct be64 made;
    uint64_t raw = htobe64(value);
    memcpy(made.bytes, &raw, sizeof raw);
    return made;
}

static inline void
be64_set(struct be64 *ret_value, uint64_t value)
{
    *ret_value = be64_make(value);
}

#endif /* LIB_BASE_BE_H */
