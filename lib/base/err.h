/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_ERR_H
#define LIB_BASE_ERR_H

/* Text for a human beside an errno.
 *
 * It is made once, where the context is known, and says what was wrong and
 * what would be right.  Functions that take a 'struct err *' accept NULL, and
 * leave it untouched when they succeed.  Longer texts are cut. */

#include "lib/base/check.h"

struct err {
    char text[512];
};

void err_clear(struct err *err);

void err_set(struct err *err, const char *format, ...) WEFT_PRINTF(2, 3);

/* Puts context in front of the text: "disk 3: " and "no such device". */
void err_prefix(struct err *err, const char *format, ...) WEFT_PRINTF(2, 3);

#endif /* LIB_BASE_ERR_H */
