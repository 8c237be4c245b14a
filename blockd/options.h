/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_OPTIONS_H
#define BLOCKD_OPTIONS_H

/* The options of blockd.conf, with their documentation ('blockd --options'). */

#include <stddef.h>

#include "lib/base/config.h"

extern const struct config_option blockd_options[];
extern const size_t blockd_options_count;

#endif /* BLOCKD_OPTIONS_H */
