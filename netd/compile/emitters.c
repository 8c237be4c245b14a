/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/compile/emit.h"

/* All emitters.  A feature's file exports one 'const struct emitter
 * emitter_<name>' for each; adding a feature is a line in each list here.  The
 * order is the order in which units run within one compile_run(), no more. */

#define EMITTERS(EMITTER)     \
    EMITTER(base)             \
    EMITTER(host)             \
    EMITTER(port)             \
    EMITTER(port_security)    \
    EMITTER(service)          \
    EMITTER(arp_nd)           \
    EMITTER(arp_nd_router)    \
    EMITTER(arp_nd_local)     \
    EMITTER(router_base)      \
    EMITTER(router)           \
    EMITTER(router_neighbour) \
    EMITTER(router_error)     \
    EMITTER(l2_local)         \
    EMITTER(l2_remote)        \
    EMITTER(flood)            \
    EMITTER(flood_local)      \
    EMITTER(security_base)    \
    EMITTER(security_out)     \
    EMITTER(security_rule)

#define DECLARE(name) extern const struct emitter emitter_##name;
EMITTERS(DECLARE)

#define LIST(name) &emitter_##name,
const struct emitter *const emitter_list[] = { EMITTERS(LIST) NULL };
const size_t emitter_count = sizeof emitter_list / sizeof emitter_list[0] - 1;
