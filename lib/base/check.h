/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_CHECK_H
#define LIB_BASE_CHECK_H

/* Assertions, and the attributes that make the compiler check callers.
 *
 * CHECK() is for programmer errors only and stays in release builds: going on
 * with a broken invariant could damage somebody's data.  Bytes that come from
 * a disk, a peer, a guest or a client are checked with an 'if' and refused,
 * never with CHECK().  One condition each, so that the message names it. */

/* The result must be looked at. */
#define WEFT_MUST_CHECK __attribute__((warn_unused_result))

/* Argument 'format_index' is a printf format for those from 'first_index'. */
#define WEFT_PRINTF(format_index, first_index) \
    __attribute__((format(printf, format_index, first_index)))

/* Prints 'condition' and its place on stderr and aborts. */
_Noreturn void check_failed(const char *condition, const char *file, int line)
    __attribute__((cold));

#define CHECK(condition)                \
    (__builtin_expect(!!(condition), 1) \
         ? (void)0                      \
         : check_failed(#condition, __FILE__, __LINE__))

#endif /* LIB_BASE_CHECK_H */
