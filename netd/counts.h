/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_COUNTS_H
#define NETD_COUNTS_H

/* netd's metrics: read from its parts once a second, and served by
 * lib/metrics. */

#include <stdint.h>

#include "lib/metrics/metrics.h"

struct bind;
struct cloud;
struct compile;
struct counts;
struct flow_switch;
struct follow;

/* Aborts when memory is out; 'registry' is borrowed. */
struct counts *counts_new(struct metrics_registry *registry);
void counts_free(struct counts *counts); /* Accepts NULL. */

struct counts_of {
    const struct cloud *cloud;
    const struct bind *bind;
    const struct compile *compile;
    const struct flow_switch *flow;
    const struct follow *follow;
};
void counts_update(struct counts *counts, const struct counts_of *of);

/* One packet-in of 'kind' (enum packet_in_kind) was handled: 0 answered. */
void counts_packet_in(struct counts *counts, uint32_t kind, int result);

#endif /* NETD_COUNTS_H */
