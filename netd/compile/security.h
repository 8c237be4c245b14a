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
#define SECURITY_PRIORITY_INVALID 6000u
#define SECURITY_PRIORITY_DENIED 5010u
#define SECURITY_PRIORITY_PASS 5000u /* Replies and ICMP errors. */
#define SECURITY_PRIORITY_PLAIN 3000u
#define SECURITY_PRIORITY_CONJUNCTION 2000u /* And those above, see below. */
#define SECURITY_PRIORITY_DENY 10u

/* Conjunctions of 10,000 rules on one identity would be one flow of 160 kB,
 * which no OpenFlow message can carry.  So rules are spread over as many
 * priorities, by their tag; as all of them allow, their order is of no
 * concern. */
#define SECURITY_SPREAD 8u

/* Whether RESOLVE shall load REG_DST_IDENTITY (N4): some group that is followed
 * here has a rule of direction out towards a group.  Ask before you look for
 * the target's identity: as long as the answer is no, a change of a remote
 * port's groups then concerns nobody here.  Costs one dependency on one fact
 * of the whole host. */
bool security_wants_dst_identity(struct emit *emit);

#endif /* NETD_COMPILE_SECURITY_H */
