/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_LE_H
#define LIB_BASE_LE_H

/* Little-endian integers, for disk structures and Weft's own wire formats.
 *
 * Each is a struct around bytes: using one without conversion does not
 * compile, and it has alignment 1, so that structs made of them have no
 * padding and may lie anywhere in a buffer.
 *
 *     header->size = le32_make(size);   le32_set(&header->size, size);
 *     size = le32_get(header->size); */

#include <assert.h>
#include <endian.h>
#include <stdint.h>
#include <string.h>

struct le16 {
    uint8_t bytes[2];
};

struct le32 {
    uint8_t bytes[4];
};

struct le64 {
    uint8_t bytes[8];
};

static_assert(sizeof(struct le16) == 2, "no padding");
static_assert(sizeof(struct le32) == 4, "no padding");
static_assert(sizeof(struct le64) == 8, "no padding");

static inline uint16_t
le16_get(struct le16 value)
{
    uint16_t raw;
    memcpy(&raw, value.bytes, sizeof raw);
    return le16toh(raw);
}

static inline struct le16
le16_make(uint16_t value)
{
    struct le16 made;
    uint16_t raw = htole16(value);
    memcpy(made.bytes, &raw, sizeof raw);
    return made;
}

static inline void
le16_set(struct le16 *ret_value, uint16_t value)
{
    *ret_value = le16_make(value);
}

static inline uint32_t
le32_get(struct le32 value)
{
    uint32_t raw;
    memcpy(&raw, value.bytes, sizeof raw);
    return le32toh(raw);
}

static inline struct le32
le32_make(uint32_t value)
{
    struct le32 made;
    uint32_t raw = htole32(value);
    memcpy(made.bytes, &raw, sizeof raw);
    return made;
}

static inline void
le32_set(struct le32 *ret_value, uint32_t value)
{
    *ret_value = le32_make(value);
}

static inline uint64_t
le64_get(struct le64 value)
{
    uint64_t raw;
    memcpy(&raw, value.bytes, sizeof raw);
    return le64toh(raw);
}

static inline struct le64
le64_make(uint64_t value)
{
    struct le64 made;
    uint64_t raw = htole64(value);
    memcpy(made.bytes, &raw, sizeof raw);
    return made;
}

static inline void
le64_set(struct le64 *ret_value, uint64_t value)
{
    *ret_value = le64_make(value);
}

#endif /* LIB_BASE_LE_H */
