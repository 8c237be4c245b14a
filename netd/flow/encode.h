/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_FLOW_ENCODE_H
#define NETD_FLOW_ENCODE_H

/* Flows in OpenFlow's terms.
 *
 * A desired flow and one that the switch dumped are the same exactly if their
 * codes are (N8).  Both come out of one function, from decoded OpenFlow: a
 * desired flow is encoded as the message that would be sent, and that is
 * decoded as the switch would, which checks its prerequisites on the way.
 *
 * Thread: any; no state. */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "netd/compile/flow_spec.h"

struct ofpbuf;
struct ofputil_flow_stats;

/* Of 128 bits, with a seed of its own in each process: nobody can make two
 * flows whose digests are the same. */
struct flow_digest {
    uint64_t words[2];
};

struct flow_code {
    struct flow_digest key;  /* Table, priority, match. */
    struct flow_digest rest; /* Actions, cookie, time-outs, flags. */
};

static inline bool
flow_digest_equal(const struct flow_digest *a, const struct flow_digest *b)
{
    return a->words[0] == b->words[0] && a->words[1] == b->words[1];
}

/* The code of a flow and, unless NULL, the flow_mod that adds or replaces it,
 * without an xid.  -EINVAL: it cannot be said in OpenFlow, or not in a message,
 * and '*ret_error' is a static text. */
WEFT_MUST_CHECK int encode_flow(const struct flow_spec *spec,
                                struct flow_code *ret_code,
                                struct ofpbuf **ret_message,
                                const char **ret_error);

/* The flow_mod that deletes the flow with the key of 'spec', which
 * encode_flow() has accepted. */
struct ofpbuf *encode_delete(const struct flow_spec *spec);

/* The same for a flow of the switch's. */
void encode_stats(const struct ofputil_flow_stats *stats,
                  struct flow_code *ret_code);
struct ofpbuf *encode_stats_delete(const struct ofputil_flow_stats *stats);

#endif /* NETD_FLOW_ENCODE_H */
