/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_NAME_H
#define LIB_BASE_NAME_H

/* Names that people give to hosts, pools, projects and volumes: 1 to 63 of
 * a-z, 0-9, '.', '_' and '-', a letter or digit first and last.  They can stand
 * in paths, URIs, DNS and shell commands without quoting. */

#include <stdbool.h>

#define NAME_SIZE_MAX 63u
#define NAME_RULE_TEXT                                              \
    "a name has 1 to 63 of a-z, 0-9, '.', '_' and '-', and begins " \
    "and ends with a letter or digit"

/* NULL is not a name. */
bool name_is_valid(const char *name);

#endif /* LIB_BASE_NAME_H */
