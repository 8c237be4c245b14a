/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_SYNC_VSWITCH_H
#define NETD_SYNC_VSWITCH_H

/* The local Open_vSwitch database: the integration bridge, its tunnel port,
 * which interfaces are on it, and what netd wants to be so.
 *
 * Rows of the IDL stop here.  What is there comes out as values; what should
 * be there goes in as a list of wishes, always the whole list.  The difference
 * is written, again after a reconnect, and again when somebody else undoes it.
 *
 * What netd keeps in this database, so that it survives netd (N8):
 *
 *     Bridge.external_ids     weft-zone-<port>   conntrack zone of the port
 *                             weft-claim-<port>  "true": this host claimed it
 *     Interface.external_ids  weft-made          "true": netd made the device
 *     Interface.ofport_request                   the ofport: chosen by netd for
 *                                                what it makes, else what the
 *                                                switch gave it once
 *
 * Invariants:
 *   (1) Before vswitch_set_wishes() was called nothing is removed (N7).
 *   (2) A zone that vswitch_find_zone() gives out is committed.
 *   (3) Only ports that netd made are ever removed from the bridge.
 *
 * Thread: that of the loop; the listener is never called from inside a
 * function here. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/uuid.h"
#include "lib/state/loop.h"

struct vswitch;

struct vswitch_listener;
typedef void vswitch_changed_fn(struct vswitch_listener *listener);
struct vswitch_listener {
    /* Anything that can be read here has changed. */
    vswitch_changed_fn *changed;
};

struct vswitch_options {
    struct loop *loop;
    const char *remote;        /* "unix:/run/openvswitch/db.sock" */
    const char *bridge;        /* "br-int" */
    const char *datapath_type; /* "netdev" or "system" */
    const char *encap_ip;      /* Of this end of all tunnels. */
    struct vswitch_listener *listener;
};

/* Copies the options; connects in the background.  -errno. */
WEFT_MUST_CHECK int vswitch_new(const struct vswitch_options *options,
                                struct vswitch **ret_vswitch);
/* Everything stays as it is.  Accepts NULL. */
void vswitch_free(struct vswitch *vswitch);

/* ---- What is there ---- */

/* The contents have come, and the bridge and the tunnel port are there. */
bool vswitch_is_ready(const struct vswitch *vswitch);
bool vswitch_is_connected(const struct vswitch *vswitch);
/* 0: not known yet. */
uint32_t vswitch_tunnel_ofport(const struct vswitch *vswitch);

/* Changes whenever the listener is told of something. */
uint64_t vswitch_seqno(const struct vswitch *vswitch);

/* An interface of the bridge with an iface-id that is a UUID. */
struct vswitch_interface {
    struct weft_uuid port; /* Its iface-id. */
    char name[64];
    uint32_t ofport;  /* Or what it was, or shall be; 0: not known. */
    bool is_open;     /* The switch has it now. */
    uint32_t mtu;     /* 0: not known. */
    bool is_made;     /* By netd. */
    bool is_system;   /* A device of this host; not one of the switch's own,
                       * which would be the guest's end. */
    char error[160];  /* Why the switch has it not; "". */
    uint64_t seen_ns; /* CLOCK_MONOTONIC, when netd first saw it. */
};

/* Sorted by port, then name; valid until the next return to the loop. */
const struct vswitch_interface *
vswitch_interfaces(const struct vswitch *vswitch, size_t *ret_count);

struct vswitch_zone {
    struct weft_uuid port;
    uint32_t zone;
    bool is_claimed;
};
/* What is committed, sorted by port. */
const struct vswitch_zone *vswitch_zones(const struct vswitch *vswitch,
                                         size_t *ret_count);
/* NULL: the port has none. */
const struct vswitch_zone *vswitch_find_zone(const struct vswitch *vswitch,
                                             const struct weft_uuid *port);

/* ---- What should be there ---- */

struct vswitch_wish {
    struct weft_uuid port;
    uint32_t zone;   /* To be kept; 0: none. */
    bool is_claimed; /* Likewise. */
    uint32_t mtu;    /* For its interface; 0: as it is. */
    char device[16]; /* To be added, made by netd; "": none. */
    /* Its ofport is to be the same when the switch starts again.  Each write
     * makes the switch go over all its ports, so not while a port waits. */
    bool keeps_ofport;
};

/* In place of all former wishes; copies.  Zones of others are forgotten, and
 * ports of devices that netd made and nobody wishes are taken off the bridge.
 */
void vswitch_set_wishes(struct vswitch *vswitch,
                        const struct vswitch_wish *wishes, size_t count);

#endif /* NETD_SYNC_VSWITCH_H */
