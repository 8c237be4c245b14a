/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_BIND_PRIVATE_H
#define NETD_BIND_PRIVATE_H

/* What bind.c, claim.c, plug.c and zone.c share. */

#include "netd/bind/bind.h"
#include "netd/bind/decide.h"

/* From handed out to usable. */
enum bind_zone_state {
    BIND_ZONE_NONE,
    BIND_ZONE_DIRTY,    /* It may have connections of a former port. */
    BIND_ZONE_FLUSHING, /* That is being seen to. */
    BIND_ZONE_CLEAN,
};

/* A device that netd makes (Plug). */
struct bind_plug {
    bool is_wanted; /* There is a Plug row, as of this step. */
    bool is_made;
    enum state_plug_kind kind; /* As made: */
    char device[LINK_NAME_SIZE];
    char netns[256];
    char ifname[LINK_NAME_SIZE];
    char error[BIND_ERROR_SIZE];
    uint64_t retry_ns;
};

struct bind_port {
    struct weft_uuid uuid;
    struct weft_uuid binding, status; /* Of its rows. */
    bool is_seen;                     /* In this step. */
    struct bind_decision decision;
    enum bind_verdict said; /* In the log. */

    uint32_t zone;
    enum bind_zone_state zone_state;
    bool is_claimed;

    bool has_local; /* The listener has it: */
    struct bind_local local;
    uint64_t version; /* Of the first commit that has it; 0: none yet. */
    bool is_up;
    bool is_refused; /* The switch refuses some of its flows. */
    bool is_adopted; /* What the database knew of it was looked at. */

    struct bind_plug plug;
    char device[LINK_NAME_SIZE]; /* The interface. */
    uint64_t bound_ns;           /* 0: not bound. */
    uint64_t bound_ms, up_ms, bind_us, flows_us;
};

/* Zones that are empty before anybody needs one: a port that is plugged then
 * needs to wait for nothing but the switch's own work. */
#define BIND_SPARES 8u

struct bind_spare {
    uint32_t zone; /* 0: none. */
    bool is_clean; /* It was flushed. */
};

struct bind {
    struct bind_options options;
    uint32_t underlay_mtu;
    struct bind_port **ports; /* Sorted. */
    size_t count, capacity;
    uint32_t zone_cursor; /* Offset from zone_first. */
    bool has_zone_cursor;
    struct bind_spare spares[BIND_SPARES];
    uint64_t confirmed; /* The latest version that the switch has. */
    bool is_settled;
    bool has_swept;
    bool has_new_links;
    /* What was looked at by the last step, and whether anything else has
     * come: without news a step does nothing. */
    uint64_t cloud_seqno, vswitch_seqno;
    bool is_due;
    struct loop_timer timer; /* Tries again what failed. */

    struct state_txn txn; /* Claims and releases. */
    bool is_busy;
    uint64_t txn_retry_ns;
};

uint64_t bind_wall_ms(void);
/* A step at 'deadline_ns' at the latest. */
void bind_retry(struct bind *bind, uint64_t deadline_ns);

/* NULL: it does not concern this host. */
struct bind_port *bind_find(const struct bind *bind,
                            const struct weft_uuid *uuid);
const struct state_port *bind_port_row(const struct bind *bind,
                                       const struct weft_uuid *uuid);
const struct state_network *bind_network_row(const struct bind *bind,
                                             const struct state_port *port);
/* The interfaces of a port. */
const struct vswitch_interface *bind_interfaces(const struct bind *bind,
                                                const struct weft_uuid *port,
                                                size_t *ret_count);

/* claim.c: sends what is to be claimed or released, one transaction at a
 * time. */
void bind_claim(struct bind *bind);

/* plug.c */
void bind_read_plugs(struct bind *bind);
void bind_plug(struct bind *bind, struct bind_port *port);

/* zone.c */

/* true when the port's zone may be used. */
bool bind_zone(struct bind *bind, struct bind_port *port);
/* Has zones emptied in advance. */
void bind_spare_zones(struct bind *bind);

#endif /* NETD_BIND_PRIVATE_H */
