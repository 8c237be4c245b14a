/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_ARRAY_H
#define LIB_BASE_ARRAY_H

/* The number of elements of 'array', which must be a real array: for a pointer
 * the struct below has a bit-field of negative width. */
#define ARRAY_COUNT(array)                                                \
    (sizeof(array) / sizeof((array)[0]) +                                 \
     0 * sizeof(struct {                                                  \
         int must_be_array : 1 -                                          \
             2 * !!__builtin_types_compatible_p(__typeof__(array),        \
                                                __typeof__(&(array)[0])); \
     }))

#endif /* LIB_BASE_ARRAY_H */
