/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_BIND_DECIDE_H
#define NETD_BIND_DECIDE_H

/* What is to become of a port on this host, as a pure function of what is
 * known of it.
 *
 *     Port.host   interface   then
 *     ---------   ---------   ------------------------------------------------
 *     empty       none        nothing
 *     empty       one         claim it (compare-and-set), and look again (N13)
 *     another     any         ignored: said once in the log (N13)
 *     this        none        scheduled: flows, but no Binding (N15); if netd
 *                             had claimed it, it is released
 *     this        plugged     scheduled, too, but with a Binding: the switch is
 *                             about to have it, and others learn of it
 * meanwhile this        one         bound: flows, Binding; up when they are
 * confirmed this        several     down: nobody could say which (N13) this any
 * down, too, if it is disabled, if the network's MTU does not fit the underlay
 * (N23), or if the switch cannot open the interface
 *
 * While the rows are not complete nothing is concluded from what is missing:
 * the port stays as it is (N7). */

#include <stdbool.h>
#include <stdint.h>

#include "lib/state/values.h"

enum bind_place {
    BIND_PLACE_NOWHERE,
    BIND_PLACE_HERE,
    BIND_PLACE_ELSEWHERE,
};

#define BIND_ERROR_SIZE 256u

struct bind_facts {
    bool is_complete; /* What is missing is not there. */
    bool has_row;     /* The Port row, ... */
    bool has_network; /* and that of its network. */
    enum bind_place place;
    bool is_enabled;
    bool is_claimed; /* By netd, not by the API. */
    bool is_plugged; /* netd has made its device. */
    uint32_t network_mtu;
    uint32_t underlay_mtu; /* 0: not known, then it is not judged. */
    uint32_t overhead;
    uint32_t interface_count;
    bool is_made; /* By netd: it goes with its Plug row, and claims nothing. */
    bool has_ofport;             /* The switch has opened it. */
    const char *interface_error; /* "" */
    const char *plug_error;      /* "": netd could make what it should. */
};

enum bind_verdict {
    BIND_HOLD,   /* Leave everything as it is. */
    BIND_FORGET, /* It is not here: no zone, no rows. */
    BIND_IGNORE, /* Likewise, and an interface here claims to be it. */
    BIND_CLAIM,  /* Not here yet: claim it. */
    BIND_SERVE,  /* Here: see the rest. */
};

struct bind_decision {
    enum bind_verdict verdict;
    /* With BIND_SERVE. */
    bool is_released;                   /* The claim is to be given back. */
    bool is_local;                      /* To be compiled. */
    bool has_binding;                   /* Others may send to it. */
    enum state_port_status_state state; /* SCHEDULED, BOUND or DOWN. */
    char error[BIND_ERROR_SIZE];
};

void bind_decide(const struct bind_facts *facts,
                 struct bind_decision *ret_decision);

#endif /* NETD_BIND_DECIDE_H */
