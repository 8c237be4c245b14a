/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/bind/decide.h"

#include <stdarg.h>
#include <stdio.h>

#include "lib/base/check.h"

static void refuse(struct bind_decision *decision, const char *format, ...)
    WEFT_PRINTF(2, 3);

static void
refuse(struct bind_decision *decision, const char *format, ...)
{
    va_list arguments;

    decision->state = STATE_PORT_STATUS_STATE_DOWN;
    va_start(arguments, format);
    (void)vsnprintf(decision->error, sizeof decision->error, format, arguments);
    va_end(arguments);
}

static bool
fits(const struct bind_facts *facts)
{
    return facts->underlay_mtu == 0 ||
           facts->network_mtu + facts->overhead <= facts->underlay_mtu;
}

static enum bind_verdict
find_verdict(const struct bind_facts *facts)
{
    if (!facts->has_row) {
        return !facts->is_complete          ? BIND_HOLD
               : facts->interface_count > 0 ? BIND_IGNORE
                                            : BIND_FORGET;
    }
    if (facts->place == BIND_PLACE_ELSEWHERE) {
        return facts->interface_count > 0 ? BIND_IGNORE : BIND_FORGET;
    }
    if (!facts->has_network) {
        return BIND_HOLD; /* It is on its way: a reference cannot dangle. */
    }
    if (facts->place == BIND_PLACE_HERE) {
        return BIND_SERVE;
    }
    if (facts->interface_count == 0 || facts->is_made) {
        return BIND_FORGET;
    }
    return facts->interface_count == 1 && facts->is_enabled && fits(facts) &&
                   facts->interface_error[0] == '\0'
               ? BIND_CLAIM
               : BIND_IGNORE;
}

static void
serve(const struct bind_facts *facts, struct bind_decision *decision)
{
    decision->state = STATE_PORT_STATUS_STATE_SCHEDULED;
    if (!facts->is_enabled) {
        refuse(decision, "the port is disabled");
    } else if (!fits(facts)) {
        refuse(decision,
               "the network's MTU of %u and %u bytes of encapsulation do not "
               "fit the underlay's MTU of %u on this host",
               facts->network_mtu, facts->overhead, facts->underlay_mtu);
    } else if (facts->interface_count > 1) {
        refuse(decision, "%u interfaces of this host have the port's id",
               facts->interface_count);
    } else if (facts->interface_error[0] != '\0') {
        refuse(decision, "the switch cannot open the interface: %.180s",
               facts->interface_error);
    } else if (facts->plug_error[0] != '\0') {
        refuse(decision, "%.200s", facts->plug_error);
    } else if (facts->interface_count == 0) {
        decision->is_local = true;
        decision->has_binding = facts->is_plugged;
        decision->is_released = facts->is_claimed;
    } else if (!facts->has_ofport) {
        decision->is_local = true;
        decision->has_binding = facts->is_plugged;
    } else {
        decision->is_local = true;
        decision->has_binding = true;
        decision->state = STATE_PORT_STATUS_STATE_BOUND;
    }
}

void
bind_decide(const struct bind_facts *facts, struct bind_decision *ret_decision)
{
    *ret_decision = (struct bind_decision){
        .verdict = find_verdict(facts),
        .state = STATE_PORT_STATUS_STATE_UNKNOWN,
    };
    if (ret_decision->verdict == BIND_SERVE) {
        serve(facts, ret_decision);
    }
}
