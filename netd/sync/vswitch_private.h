/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_SYNC_VSWITCH_PRIVATE_H
#define NETD_SYNC_VSWITCH_PRIVATE_H

/* What vswitch.c and vswitch_write.c share. */

#include "netd/sync/vswitch.h"

struct ovsdb_idl;
struct ovsdb_idl_txn;
struct ovsrec_bridge;
struct ovsrec_interface;

#define ZONE_KEY_PREFIX "weft-zone-"
#define CLAIM_KEY_PREFIX "weft-claim-"
#define MADE_KEY "weft-made"
#define TUNNEL_NAME "weft-tun"
/* Of the tunnel port; others begin to be counted above. */
#define TUNNEL_OFPORT_REQUEST 1
/* For ports that netd adds; the switch gives out low numbers by itself. */
#define OFPORT_FIRST 32768
#define OFPORT_LAST 65000

struct vswitch {
    struct loop *loop;
    struct loop_runner runner;
    struct vswitch_listener *listener;
    char *bridge, *datapath_type, *encap_ip;

    struct ovsdb_idl *idl;
    unsigned seqno;            /* Of the contents that were looked at. */
    struct ovsdb_idl_txn *txn; /* Under way, or NULL. */
    uint64_t retry_ns;         /* No transaction before this. */
    bool is_dirty;             /* Wishes or contents have changed. */
    bool was_connected;

    /* As read. */
    uint64_t news_seqno;
    bool is_ready;
    uint32_t tunnel_ofport;
    struct vswitch_interface *interfaces;
    size_t interface_count;
    struct vswitch_zone *zones;
    size_t zone_count;
    uint32_t next_ofport; /* Goes round, so that a number rests. */

    /* As wished, sorted by port. */
    bool has_wishes;
    struct vswitch_wish *wishes;
    size_t wish_count;
};

/* The row of our bridge, or NULL. */
const struct ovsrec_bridge *vswitch_bridge_row(const struct vswitch *vswitch);
bool vswitch_is_made(const struct ovsrec_interface *row);
/* "weft-zone-<uuid>": false if 'key' is not of that form. */
bool vswitch_parse_key(const char *key, const char *prefix,
                       struct weft_uuid *ret_port);
const struct vswitch_wish *vswitch_find_wish(const struct vswitch *vswitch,
                                             const struct weft_uuid *port);

/* Fills a transaction with whatever differs from what is wished. */
void vswitch_write(struct vswitch *vswitch, struct ovsdb_idl_txn *txn);

#endif /* NETD_SYNC_VSWITCH_PRIVATE_H */
