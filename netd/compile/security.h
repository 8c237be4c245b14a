/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_COMPILE_SECURITY_H
#define NETD_COMPILE_SECURITY_H

/* Security groups: tables EG_CT, EG_SG, EG_COMMIT, IN_CT, IN_SG, IN_COMMIT and
 * FLOOD_SG, all of them; README.md tells how they work.  What they want of the
 * other tables:
 *
 *   CLASSIFY  loads REG_SRC_IDENTITY and REG_SRC_ZONE for a local port
 *   TUN_IN    loads REG_SRC_IDENTITY from the TLV
 *   RESOLVE   loads REG_DST_POLICY, REG_DST_ZONE and REG_OUT_PORT for a local
 *             target; and REG_DST_IDENTITY for any target, but only if
 *             security_wants_dst_identity() says so (then also for local ones)
 *   RESOLVE -> EG_CT (from a local port or a router) or DELIVER (from a tunnel)
 *   EG_*    -> SNAT;   DELIVER -> IN_CT;   IN_* -> UN_LB
 *   FLOOD     loads REG_DST_POLICY -> FLOOD_SG -> FLOOD_OUT
 *
 * A packet that no rule allows ends there. */

#include "netd/compile/emit.h"

/* Priorities in EG_SG, IN_SG and FLOOD_SG.  Plain flows and conjunctions never
 * share one: they could have the same match, and would contradict. */
#define SECURITY_PRIORITY_INVALID 31000u
#define SECURITY_PRIORITY_DENIED 30010u
#define SECURITY_PRIORITY_PASS 30000u /* Replies and ICMP errors. */
#define SECURITY_PRIORITY_PLAIN 20000u
#define SECURITY_PRIORITY_CONJUNCTION 1000u /* And those above, see below. */
#define SECURITY_PRIORITY_DENY 10u

/* A flow about one identity or port is shared by all rules of its priority, 16
 * bytes each; with more than 4,000 it fits no OpenFlow message, and then none
 * of them would work.  So rules are spread over priorities, by their tag; as
 * all of them allow, their order is of no concern.
 *
 * Each project has priorities of its own (one of SECURITY_BLOCKS, by a hash):
 * what one tenant has too much of must not be another's trouble.  Rules of
 * groups of up to MODEL_MANY share SECURITY_SPREAD of them: few, as a port
 * costs a flow in each; with 16 such groups a port comes to 3,000 in one flow.
 * Those of larger groups share SECURITY_SPREAD_MANY: with 16 groups of 20,000 a
 * port comes to 2,500. */
#define SECURITY_SPREAD 8u
#define SECURITY_SPREAD_MANY 128u
#define SECURITY_BLOCKS 64u

/* Whether RESOLVE shall load REG_DST_IDENTITY (N4): some group that is followed
 * here has a rule of direction out towards a group.  Ask before you look for
 * the target's identity: as long as the answer is no, a change of a remote
 * port's groups then concerns nobody here.  Costs one dependency on one fact
 * of the whole host. */
bool security_wants_dst_identity(struct emit *emit);

#endif /* NETD_COMPILE_SECURITY_H */
