/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_FLOW_RANDOM_H
#define TESTS_SUPPORT_FLOW_RANDOM_H

/* Random flows that OpenFlow can say: every field and every action occurs, with
 * its prerequisites. */

#include "lib/base/rng.h"
#include "netd/compile/flow_spec.h"

/* The caller has one reference.  Values are out of large spaces, so that two
 * flows with the same key are rare; 'number' is one of them, and makes the key
 * unique. */
struct flow_spec *flow_random(struct rng *rng, uint32_t number);

/* A plain one, without prerequisites: table, priority 100, metadata=number,
 * actions=output:port. */
struct flow_spec *flow_plain(uint8_t table, uint32_t number, uint32_t port);

#endif /* TESTS_SUPPORT_FLOW_RANDOM_H */
