/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_OPTIONS_H
#define NETD_OPTIONS_H

/* The options of netd.conf, with their documentation ('netd --options'). */

#include <stddef.h>

#include "lib/base/config.h"

extern const struct config_option netd_options[];
extern const size_t netd_options_count;

#endif /* NETD_OPTIONS_H */
