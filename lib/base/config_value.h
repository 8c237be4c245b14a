/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_CONFIG_VALUE_H
#define LIB_BASE_CONFIG_VALUE_H

/* The value of one option: private to config*.c. */

#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/config.h"
#include "lib/base/err.h"

/* Checks 'text' against 'option'.  '*ret_number' is the number, the bool or the
 * index of the choice; for strings the length.  On -EINVAL 'err' says what is
 * wrong and what would be right, without the place. */
WEFT_MUST_CHECK int config_value_parse(const struct config_option *option,
                                       const char *text, uint64_t *ret_number,
                                       struct err *err);

/* Text for a bound of 'option', in its unit. */
#define CONFIG_BOUND_SIZE 32
void config_value_format(const struct config_option *option, uint64_t number,
                         char ret_text[CONFIG_BOUND_SIZE]);

#endif /* LIB_BASE_CONFIG_VALUE_H */
