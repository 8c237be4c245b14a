/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_UNITS_H
#define LIB_BASE_UNITS_H

/* Sizes and durations: constants, alignment, text.
 *
 * Text of a size is a decimal number and at most one of K M G T P (powers of
 * 1024; an 'iB' may follow it): "4096", "64K", "20G", "20GiB".  Text of a
 * duration is a decimal number and one of ns us ms s m h: "200ms".  There are
 * no fractions, signs or blanks, so that nothing is guessed or rounded. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"

/* The unit of allocation, of checksums and of client alignment. */
#define WEFT_BLOCK_SIZE 4096u
#define WEFT_BLOCK_SHIFT 12u

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1024) * KIB)
#define GIB (UINT64_C(1024) * MIB)
#define TIB (UINT64_C(1024) * GIB)
#define PIB (UINT64_C(1024) * TIB)

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* Bytes that any text of units_format_size() or units_format_duration() needs,
 * with the final NUL. */
#define UNITS_TEXT_SIZE 24

/* 'alignment' is a power of two in the four below. */

static inline bool
units_is_aligned(uint64_t value, uint64_t alignment)
{
    return (value & (alignment - 1)) == 0;
}

static inline uint64_t
units_align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

/* The result must fit: 'value' is at most UINT64_MAX - alignment + 1. */
static inline uint64_t
units_align_up(uint64_t value, uint64_t alignment)
{
    return units_align_down(value + (alignment - 1), alignment);
}

static inline bool
units_is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* 'divisor' is any number but 0.  Cannot overflow. */
static inline uint64_t
units_divide_up(uint64_t value, uint64_t divisor)
{
    return value / divisor + (value % divisor != 0);
}

/* -EINVAL: not of the form above.  -ERANGE: over UINT64_MAX. */
WEFT_MUST_CHECK int units_parse_size(const char *text, uint64_t *ret_bytes);
WEFT_MUST_CHECK int units_parse_duration(const char *text, uint64_t *ret_ns);

/* A plain decimal number, with the same errors. */
WEFT_MUST_CHECK int units_parse_u64(const char *text, uint64_t *ret_value);

/* Exact text with the largest unit that leaves no rest: 20 GiB is "20G",
 * 1.5 GiB is "1536M".  units_parse_*() gives the same number back. */
void units_format_size(uint64_t bytes, char ret_text[UNITS_TEXT_SIZE]);
void units_format_duration(uint64_t ns, char ret_text[UNITS_TEXT_SIZE]);

#endif /* LIB_BASE_UNITS_H */
