/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netd/sync/vswitch_private.h"

/* Foreign: libopenvswitch. */
#include <ovsdb-idl.h>
#include <smap.h>
#include <sset.h>
#include <vswitch-idl.h>

/* What differs from what is wished, as one transaction.
 *
 * Maps and sets that others write too are changed member by member. */

/* ---- The bridge and the tunnel ---- */

static const struct ovsrec_port *
add_port(struct ovsdb_idl_txn *txn, const struct ovsrec_bridge *bridge,
         const char *name, struct ovsrec_interface **ret_interface)
{
    struct ovsrec_interface *interface = ovsrec_interface_insert(txn);
    struct ovsrec_port *port = ovsrec_port_insert(txn);

    ovsrec_interface_set_name(interface, name);
    ovsrec_port_set_name(port, name);
    ovsrec_port_set_interfaces(port, &interface, 1);
    ovsrec_bridge_update_ports_addvalue(bridge, port);
    *ret_interface = interface;
    return port;
}

static void
make_bridge(struct vswitch *vswitch, struct ovsdb_idl_txn *txn)
{
    const struct ovsrec_open_vswitch *root =
        ovsrec_open_vswitch_first(vswitch->idl);
    struct ovsrec_interface *interface;

    if (root == NULL) {
        return; /* vswitchd has not made it yet. */
    }
    struct ovsrec_bridge *bridge = ovsrec_bridge_insert(txn);
    ovsrec_bridge_set_name(bridge, vswitch->bridge);
    ovsrec_bridge_set_datapath_type(bridge, vswitch->datapath_type);
    ovsrec_bridge_set_fail_mode(bridge, "secure");
    add_port(txn, bridge, vswitch->bridge, &interface);
    ovsrec_interface_set_type(interface, "internal");
    ovsrec_open_vswitch_update_bridges_addvalue(root, bridge);
}

static void
mend_bridge(struct vswitch *vswitch, const struct ovsrec_bridge *bridge)
{
    if (bridge->fail_mode == NULL || strcmp(bridge->fail_mode, "secure") != 0) {
        ovsrec_bridge_set_fail_mode(bridge, "secure");
    }
    if (strcmp(bridge->datapath_type, vswitch->datapath_type) != 0) {
        ovsrec_bridge_set_datapath_type(bridge, vswitch->datapath_type);
    }
    if (!smap_get_bool(&bridge->other_config, "disable-in-band", false)) {
        ovsrec_bridge_update_other_config_setkey(bridge, "disable-in-band",
                                                 "true");
    }
}

static const struct ovsrec_port *
find_port(const struct ovsrec_bridge *bridge, const char *name)
{
    for (size_t i = 0; i < bridge->n_ports; i++) {
        if (strcmp(bridge->ports[i]->name, name) == 0) {
            return bridge->ports[i];
        }
    }
    return NULL;
}

static void
write_tunnel(struct vswitch *vswitch, struct ovsdb_idl_txn *txn,
             const struct ovsrec_bridge *bridge)
{
    static const int64_t request = TUNNEL_OFPORT_REQUEST;
    const struct ovsrec_port *port = find_port(bridge, TUNNEL_NAME);
    struct ovsrec_interface *interface;
    struct smap options = SMAP_INITIALIZER(&options);

    smap_add(&options, "remote_ip", "flow");
    smap_add(&options, "key", "flow");
    smap_add(&options, "local_ip", vswitch->encap_ip);
    if (port == NULL) {
        (void)add_port(txn, bridge, TUNNEL_NAME, &interface);
        ovsrec_interface_set_type(interface, "geneve");
        ovsrec_interface_set_options(interface, &options);
        ovsrec_interface_set_ofport_request(interface, &request, 1);
    } else if (port->n_interfaces == 1) {
        const struct ovsrec_interface *row = port->interfaces[0];
        const char *local = smap_get(&row->options, "local_ip");
        if (strcmp(row->type, "geneve") != 0) {
            ovsrec_interface_set_type(row, "geneve");
        }
        if (local == NULL || strcmp(local, vswitch->encap_ip) != 0) {
            ovsrec_interface_set_options(row, &options);
        }
    }
    smap_destroy(&options);
}

/* ---- Zones and claims ---- */

static void
forget_keys(struct vswitch *vswitch, const struct ovsrec_bridge *bridge)
{
    const struct smap_node *node;

    SMAP_FOR_EACH(node, &bridge->external_ids)
    {
        struct weft_uuid port;
        const struct vswitch_wish *wish;
        if (vswitch_parse_key(node->key, ZONE_KEY_PREFIX, &port)) {
            wish = vswitch_find_wish(vswitch, &port);
            if (wish == NULL || wish->zone == 0) {
                ovsrec_bridge_update_external_ids_delkey(bridge, node->key);
            }
        } else if (vswitch_parse_key(node->key, CLAIM_KEY_PREFIX, &port)) {
            wish = vswitch_find_wish(vswitch, &port);
            if (wish == NULL || !wish->is_claimed) {
                ovsrec_bridge_update_external_ids_delkey(bridge, node->key);
            }
        }
    }
}

static void
write_key(const struct ovsrec_bridge *bridge, const char *prefix,
          const struct weft_uuid *port, const char *value)
{
    char key[64], text[UUID_TEXT_SIZE];

    uuid_format(port, text);
    (void)snprintf(key, sizeof key, "%s%s", prefix, text);
    const char *old = smap_get(&bridge->external_ids, key);
    if (old == NULL || strcmp(old, value) != 0) {
        ovsrec_bridge_update_external_ids_setkey(bridge, key, value);
    }
}

static void
write_keys(struct vswitch *vswitch, const struct ovsrec_bridge *bridge)
{
    for (size_t i = 0; i < vswitch->wish_count; i++) {
        const struct vswitch_wish *wish = &vswitch->wishes[i];
        if (wish->zone != 0) {
            char value[16];
            (void)snprintf(value, sizeof value, "%u", wish->zone);
            write_key(bridge, ZONE_KEY_PREFIX, &wish->port, value);
        }
        if (wish->is_claimed) {
            write_key(bridge, CLAIM_KEY_PREFIX, &wish->port, "true");
        }
    }
}

/* ---- Ports ---- */

/* The wish for an interface of ours; NULL: nobody wants it any more. */
static const struct vswitch_wish *
wish_for_made(const struct vswitch *vswitch, const struct ovsrec_interface *row)
{
    const char *id = smap_get(&row->external_ids, "iface-id");
    struct weft_uuid port;

    if (id == NULL || uuid_parse(id, &port) != 0) {
        return NULL;
    }
    const struct vswitch_wish *wish = vswitch_find_wish(vswitch, &port);
    return wish != NULL && strcmp(wish->device, row->name) == 0 ? wish : NULL;
}

static void
remove_ports(struct vswitch *vswitch, const struct ovsrec_bridge *bridge)
{
    for (size_t i = 0; i < bridge->n_ports; i++) {
        const struct ovsrec_port *port = bridge->ports[i];
        if (port->n_interfaces == 1 && vswitch_is_made(port->interfaces[0]) &&
            wish_for_made(vswitch, port->interfaces[0]) == NULL) {
            ovsrec_bridge_update_ports_delvalue(bridge, port);
        }
    }
}

static void
note_ofport(uint8_t *taken, const int64_t *ofport, size_t count,
            int64_t *highest)
{
    if (count > 0 && *ofport >= OFPORT_FIRST && *ofport <= OFPORT_LAST) {
        taken[*ofport - OFPORT_FIRST] = 1;
        *highest = *ofport > *highest ? *ofport : *highest;
    }
}

/* One that no port of the bridge has or asks for; 0: there is none. */
static int64_t
choose_ofport(struct vswitch *vswitch, uint8_t *taken)
{
    const uint32_t span = OFPORT_LAST - OFPORT_FIRST + 1;

    for (uint32_t i = 0; i < span; i++) {
        uint32_t offset = (vswitch->next_ofport + i) % span;
        if (taken[offset] == 0) {
            taken[offset] = 1;
            vswitch->next_ofport = offset + 1;
            return OFPORT_FIRST + offset;
        }
    }
    return 0;
}

/* A map of the numbers in use, for free(). */
static uint8_t *
list_ofports(struct vswitch *vswitch, const struct ovsrec_bridge *bridge)
{
    uint8_t *taken = calloc(OFPORT_LAST - OFPORT_FIRST + 1, 1);
    int64_t highest = OFPORT_FIRST - 1;

    CHECK(taken != NULL);
    for (size_t i = 0; i < bridge->n_ports; i++) {
        const struct ovsrec_port *port = bridge->ports[i];
        for (size_t j = 0; j < port->n_interfaces; j++) {
            const struct ovsrec_interface *row = port->interfaces[j];
            note_ofport(taken, row->ofport, row->n_ofport, &highest);
            note_ofport(taken, row->ofport_request, row->n_ofport_request,
                        &highest);
        }
    }
    if (vswitch->next_ofport == 0) {
        vswitch->next_ofport = (uint32_t)(highest + 1 - OFPORT_FIRST);
    }
    return taken;
}

static void
add_ports(struct vswitch *vswitch, struct ovsdb_idl_txn *txn,
          const struct ovsrec_bridge *bridge)
{
    struct sset names = SSET_INITIALIZER(&names);
    uint8_t *taken = NULL;

    for (size_t i = 0; i < bridge->n_ports; i++) {
        sset_add(&names, bridge->ports[i]->name);
    }
    for (size_t i = 0; i < vswitch->wish_count; i++) {
        const struct vswitch_wish *wish = &vswitch->wishes[i];
        struct ovsrec_interface *interface;
        char text[UUID_TEXT_SIZE];
        if (wish->device[0] == '\0' || sset_contains(&names, wish->device)) {
            continue;
        }
        if (taken == NULL) {
            taken = list_ofports(vswitch, bridge);
        }
        struct smap ids = SMAP_INITIALIZER(&ids);
        uuid_format(&wish->port, text);
        smap_add(&ids, "iface-id", text);
        smap_add(&ids, MADE_KEY, "true");
        (void)add_port(txn, bridge, wish->device, &interface);
        ovsrec_interface_set_external_ids(interface, &ids);
        smap_destroy(&ids);
        int64_t ofport = choose_ofport(vswitch, taken);
        if (ofport != 0) {
            ovsrec_interface_set_ofport_request(interface, &ofport, 1);
        }
        if (wish->mtu != 0) {
            int64_t mtu = wish->mtu;
            ovsrec_interface_set_mtu_request(interface, &mtu, 1);
        }
    }
    free(taken);
    sset_destroy(&names);
}

static void
mend_interface(struct vswitch *vswitch, const struct ovsrec_interface *row)
{
    const char *id = smap_get(&row->external_ids, "iface-id");
    struct weft_uuid port;

    if (id == NULL || uuid_parse(id, &port) != 0) {
        return;
    }
    const struct vswitch_wish *wish = vswitch_find_wish(vswitch, &port);
    if (wish == NULL) {
        return;
    }
    if (wish->mtu != 0 &&
        (row->n_mtu_request == 0 || *row->mtu_request != (int64_t)wish->mtu)) {
        int64_t mtu = wish->mtu;
        ovsrec_interface_set_mtu_request(row, &mtu, 1);
    }
    /* So that it keeps its number when the switch starts again (N8). */
    if (wish->keeps_ofport && row->n_ofport > 0 && *row->ofport > 0 &&
        (row->n_ofport_request == 0 || *row->ofport_request != *row->ofport)) {
        ovsrec_interface_set_ofport_request(row, row->ofport, 1);
    }
}

void
vswitch_write(struct vswitch *vswitch, struct ovsdb_idl_txn *txn)
{
    const struct ovsrec_bridge *bridge = vswitch_bridge_row(vswitch);

    if (bridge == NULL) {
        make_bridge(vswitch, txn);
        return; /* The rest when it is there. */
    }
    mend_bridge(vswitch, bridge);
    write_tunnel(vswitch, txn, bridge);
    if (!vswitch->has_wishes) {
        return;
    }
    forget_keys(vswitch, bridge);
    write_keys(vswitch, bridge);
    for (size_t i = 0; i < bridge->n_ports; i++) {
        for (size_t j = 0; j < bridge->ports[i]->n_interfaces; j++) {
            mend_interface(vswitch, bridge->ports[i]->interfaces[j]);
        }
    }
    remove_ports(vswitch, bridge);
    add_ports(vswitch, txn, bridge);
}
