/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/sync/vswitch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "netd/sync/vswitch_private.h"

/* Foreign: libopenvswitch. */
#include <openvswitch/poll-loop.h>
#include <ovsdb-idl.h>
#include <smap.h>
#include <vswitch-idl.h>

/* Each turn: the IDL runs; a transaction that has ended is put away; contents
 * that are new are read into values, and if those differ the listener is told;
 * then, if anything may differ from the wishes, one transaction says so.
 *
 * Values are read only while no transaction is under way, since the IDL shows
 * what is being written as if it were there. */

#define RETRY_NS UINT64_C(1000000000)

/* ---- Reading ---- */

const struct ovsrec_bridge *
vswitch_bridge_row(const struct vswitch *vswitch)
{
    const struct ovsrec_bridge *row;

    OVSREC_BRIDGE_FOR_EACH(row, vswitch->idl)
    {
        if (strcmp(row->name, vswitch->bridge) == 0) {
            return row;
        }
    }
    return NULL;
}

bool
vswitch_is_made(const struct ovsrec_interface *row)
{
    return smap_get_bool(&row->external_ids, MADE_KEY, false);
}

bool
vswitch_parse_key(const char *key, const char *prefix,
                  struct weft_uuid *ret_port)
{
    size_t length = strlen(prefix);

    return strncmp(key, prefix, length) == 0 &&
           uuid_parse(key + length, ret_port) == 0;
}

static int
compare_interfaces(const void *a_, const void *b_)
{
    const struct vswitch_interface *a = a_;
    const struct vswitch_interface *b = b_;
    int order = uuid_compare(&a->port, &b->port);

    return order != 0 ? order : strcmp(a->name, b->name);
}

static int
compare_zones(const void *a, const void *b)
{
    return uuid_compare(&((const struct vswitch_zone *)a)->port,
                        &((const struct vswitch_zone *)b)->port);
}

static void *
allocate(size_t count, size_t size)
{
    void *memory = calloc(count == 0 ? 1 : count, size);
    CHECK(memory != NULL);
    return memory;
}

/* false: it is none of ours. */
static bool
read_interface(const struct ovsrec_interface *row,
               struct vswitch_interface *ret_interface)
{
    const char *id = smap_get(&row->external_ids, "iface-id");
    struct vswitch_interface *one = ret_interface;

    memset(one, 0, sizeof *one);
    if (id == NULL || uuid_parse(id, &one->port) != 0) {
        return false;
    }
    (void)snprintf(one->name, sizeof one->name, "%s", row->name);
    if (row->error != NULL) {
        (void)snprintf(one->error, sizeof one->error, "%s", row->error);
    }
    if (row->n_ofport > 0 && *row->ofport > 0) {
        one->ofport = (uint32_t)*row->ofport;
        one->is_open = true;
    } else if (row->n_ofport_request > 0 && one->error[0] == '\0') {
        /* What it was before the switch started again, or shall be (N8, N15).
         */
        one->ofport = (uint32_t)*row->ofport_request;
    }
    if (row->n_mtu > 0 && *row->mtu > 0) {
        one->mtu = (uint32_t)*row->mtu;
    }
    one->is_made = vswitch_is_made(row);
    one->is_system = row->type[0] == '\0' || strcmp(row->type, "system") == 0;
    return true;
}

/* When it was first seen, if it is no news. */
static uint64_t
seen_before(const struct vswitch *vswitch, const struct vswitch_interface *one)
{
    const struct vswitch_interface *old =
        vswitch->interface_count == 0
            ? NULL
            : bsearch(one, vswitch->interfaces, vswitch->interface_count,
                      sizeof *one, compare_interfaces);
    return old == NULL ? loop_now_ns() : old->seen_ns;
}

/* A number that was only asked for may be another's by now: the switch gives
 * it to whoever comes first, and the flows of one port must never be those of
 * another. */
static void
drop_contested(struct vswitch_interface *found, size_t count, uint32_t tunnel)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t number = found[i].ofport;
        bool is_contested = number == tunnel;
        if (number == 0 || found[i].is_open) {
            continue;
        }
        for (size_t j = 0; j < count; j++) {
            if (j != i && found[j].ofport == number) {
                is_contested = true;
                found[j].ofport = found[j].is_open ? number : 0;
            }
        }
        if (is_contested) {
            found[i].ofport = 0;
        }
    }
}

/* true: they are not as before. */
static bool
read_interfaces(struct vswitch *vswitch, const struct ovsrec_bridge *bridge)
{
    struct vswitch_interface *found;
    size_t count = 0, room = 0;

    for (size_t i = 0; bridge != NULL && i < bridge->n_ports; i++) {
        room += bridge->ports[i]->n_interfaces;
    }
    found = allocate(room, sizeof *found);
    vswitch->tunnel_ofport = 0;
    for (size_t i = 0; bridge != NULL && i < bridge->n_ports; i++) {
        const struct ovsrec_port *port = bridge->ports[i];
        for (size_t j = 0; j < port->n_interfaces; j++) {
            const struct ovsrec_interface *row = port->interfaces[j];
            if (strcmp(row->name, TUNNEL_NAME) == 0 && row->n_ofport > 0 &&
                *row->ofport > 0) {
                vswitch->tunnel_ofport = (uint32_t)*row->ofport;
            } else if (strcmp(row->name, TUNNEL_NAME) == 0 &&
                       row->n_ofport_request > 0) {
                vswitch->tunnel_ofport = (uint32_t)*row->ofport_request;
            }
            if (read_interface(row, &found[count])) {
                found[count].seen_ns = seen_before(vswitch, &found[count]);
                count++;
            }
        }
    }
    drop_contested(found, count, vswitch->tunnel_ofport);
    qsort(found, count, sizeof *found, compare_interfaces);
    bool is_same = count == vswitch->interface_count &&
                   (count == 0 || memcmp(found, vswitch->interfaces,
                                         count * sizeof *found) == 0);
    free(vswitch->interfaces);
    vswitch->interfaces = found;
    vswitch->interface_count = count;
    return !is_same;
}

static bool
read_zones(struct vswitch *vswitch, const struct ovsrec_bridge *bridge)
{
    struct vswitch_zone *found =
        allocate(bridge == NULL ? 0 : smap_count(&bridge->external_ids),
                 sizeof *found);
    size_t count = 0;

    if (bridge != NULL) {
        const struct smap_node *node;
        SMAP_FOR_EACH(node, &bridge->external_ids)
        {
            struct weft_uuid port;
            char key[64], text[UUID_TEXT_SIZE];
            unsigned zone;
            if (!vswitch_parse_key(node->key, ZONE_KEY_PREFIX, &port) ||
                sscanf(node->value, "%5u", &zone) != 1) {
                continue;
            }
            uuid_format(&port, text);
            (void)snprintf(key, sizeof key, CLAIM_KEY_PREFIX "%s", text);
            found[count] = (struct vswitch_zone){
                .port = port,
                .zone = zone,
                .is_claimed = smap_get_bool(&bridge->external_ids, key, false),
            };
            count++;
        }
    }
    qsort(found, count, sizeof *found, compare_zones);
    bool is_same = count == vswitch->zone_count;
    for (size_t i = 0; is_same && i < count; i++) {
        is_same = uuid_equal(&found[i].port, &vswitch->zones[i].port) &&
                  found[i].zone == vswitch->zones[i].zone &&
                  found[i].is_claimed == vswitch->zones[i].is_claimed;
    }
    free(vswitch->zones);
    vswitch->zones = found;
    vswitch->zone_count = count;
    return !is_same;
}

static bool
has_tunnel(const struct ovsrec_bridge *bridge)
{
    for (size_t i = 0; i < bridge->n_ports; i++) {
        if (strcmp(bridge->ports[i]->name, TUNNEL_NAME) == 0) {
            return true;
        }
    }
    return false;
}

static void
tell(struct vswitch *vswitch)
{
    vswitch->news_seqno++;
    vswitch->listener->changed(vswitch->listener);
}

static void
refresh(struct vswitch *vswitch)
{
    const struct ovsrec_bridge *bridge = vswitch_bridge_row(vswitch);
    uint32_t tunnel = vswitch->tunnel_ofport;
    bool is_ready = bridge != NULL && has_tunnel(bridge);
    bool is_changed = read_interfaces(vswitch, bridge);

    is_changed = read_zones(vswitch, bridge) || is_changed;
    if (is_changed || is_ready != vswitch->is_ready ||
        tunnel != vswitch->tunnel_ofport) {
        vswitch->is_ready = is_ready;
        tell(vswitch);
    }
}

/* ---- Running ---- */

static void
end_transaction(struct vswitch *vswitch)
{
    enum ovsdb_idl_txn_status status = ovsdb_idl_txn_commit(vswitch->txn);

    if (status == TXN_INCOMPLETE) {
        return;
    }
    if (status == TXN_ERROR) {
        log_error("sync",
                  "the local switch database refuses a change, trying again "
                  "reason=%s",
                  ovsdb_idl_txn_get_error(vswitch->txn));
        vswitch->retry_ns = loop_now_ns() + RETRY_NS;
    }
    if (status != TXN_UNCHANGED && status != TXN_SUCCESS) {
        vswitch->is_dirty = true;
    }
    ovsdb_idl_txn_destroy(vswitch->txn);
    vswitch->txn = NULL;
    if (status != TXN_UNCHANGED) {
        vswitch->seqno = 0; /* Contents came while we waited: read again. */
    }
}

static void
vswitch_run(struct loop_runner *runner)
{
    struct vswitch *vswitch = container_of(runner, struct vswitch, runner);

    ovsdb_idl_run(vswitch->idl);
    if (vswitch->txn != NULL) {
        end_transaction(vswitch);
    }
    if (vswitch_is_connected(vswitch) != vswitch->was_connected) {
        vswitch->was_connected = !vswitch->was_connected;
        tell(vswitch);
    }
    if (vswitch->txn != NULL || !ovsdb_idl_has_ever_connected(vswitch->idl)) {
        return;
    }
    unsigned seqno = ovsdb_idl_get_seqno(vswitch->idl);
    if (seqno != vswitch->seqno) {
        vswitch->seqno = seqno;
        vswitch->is_dirty = true;
        refresh(vswitch);
    }
    if (vswitch->is_dirty && loop_now_ns() >= vswitch->retry_ns &&
        ovsdb_idl_is_connected(vswitch->idl)) {
        vswitch->is_dirty = false;
        vswitch->txn = ovsdb_idl_txn_create(vswitch->idl);
        ovsdb_idl_txn_add_comment(vswitch->txn, "netd");
        vswitch_write(vswitch, vswitch->txn);
        end_transaction(vswitch);
    }
}

static void
vswitch_wait(struct loop_runner *runner)
{
    struct vswitch *vswitch = container_of(runner, struct vswitch, runner);

    ovsdb_idl_wait(vswitch->idl);
    if (vswitch->txn != NULL) {
        ovsdb_idl_txn_wait(vswitch->txn);
        return;
    }
    if (!ovsdb_idl_has_ever_connected(vswitch->idl)) {
        return;
    }
    if (ovsdb_idl_get_seqno(vswitch->idl) != vswitch->seqno) {
        poll_immediate_wake();
    } else if (vswitch->is_dirty && ovsdb_idl_is_connected(vswitch->idl)) {
        uint64_t now_ns = loop_now_ns();
        poll_timer_wait(
            vswitch->retry_ns <= now_ns
                ? 0
                : (int)((vswitch->retry_ns - now_ns) / 1000000 + 1));
    }
}

/* ---- Life ---- */

static void
follow_tables(struct ovsdb_idl *idl)
{
    static const struct ovsdb_idl_column *const columns[] = {
        &ovsrec_open_vswitch_col_bridges,
        &ovsrec_bridge_col_name,
        &ovsrec_bridge_col_ports,
        &ovsrec_bridge_col_fail_mode,
        &ovsrec_bridge_col_datapath_type,
        &ovsrec_bridge_col_external_ids,
        &ovsrec_bridge_col_other_config,
        &ovsrec_port_col_name,
        &ovsrec_port_col_interfaces,
        &ovsrec_interface_col_name,
        &ovsrec_interface_col_type,
        &ovsrec_interface_col_options,
        &ovsrec_interface_col_external_ids,
        &ovsrec_interface_col_ofport,
        &ovsrec_interface_col_ofport_request,
        &ovsrec_interface_col_mtu,
        &ovsrec_interface_col_mtu_request,
        &ovsrec_interface_col_error,
    };

    ovsdb_idl_add_table(idl, &ovsrec_table_open_vswitch);
    ovsdb_idl_add_table(idl, &ovsrec_table_bridge);
    ovsdb_idl_add_table(idl, &ovsrec_table_port);
    ovsdb_idl_add_table(idl, &ovsrec_table_interface);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        ovsdb_idl_add_column(idl, columns[i]);
    }
}

static char *
duplicate(const char *text)
{
    char *copy = strdup(text);
    CHECK(copy != NULL);
    return copy;
}

int
vswitch_new(const struct vswitch_options *options, struct vswitch **ret_vswitch)
{
    struct vswitch *vswitch = allocate(1, sizeof *vswitch);

    if (strncmp(options->remote, "unix:", 5) != 0 &&
        strncmp(options->remote, "tcp:", 4) != 0) {
        free(vswitch);
        return -EINVAL;
    }
    vswitch->loop = options->loop;
    vswitch->listener = options->listener;
    vswitch->bridge = duplicate(options->bridge);
    vswitch->datapath_type = duplicate(options->datapath_type);
    vswitch->encap_ip = duplicate(options->encap_ip);
    vswitch->interfaces = allocate(0, sizeof *vswitch->interfaces);
    vswitch->zones = allocate(0, sizeof *vswitch->zones);
    vswitch->wishes = allocate(0, sizeof *vswitch->wishes);
    vswitch->idl =
        ovsdb_idl_create(options->remote, &ovsrec_idl_class, false, true);
    follow_tables(vswitch->idl);
    vswitch->runner =
        (struct loop_runner){ .run = vswitch_run, .wait = vswitch_wait };
    loop_add_runner(vswitch->loop, &vswitch->runner);
    *ret_vswitch = vswitch;
    return 0;
}

void
vswitch_free(struct vswitch *vswitch)
{
    if (vswitch == NULL) {
        return;
    }
    loop_remove_runner(vswitch->loop, &vswitch->runner);
    if (vswitch->txn != NULL) {
        ovsdb_idl_txn_destroy(vswitch->txn);
    }
    ovsdb_idl_destroy(vswitch->idl);
    free(vswitch->interfaces);
    free(vswitch->zones);
    free(vswitch->wishes);
    free(vswitch->bridge);
    free(vswitch->datapath_type);
    free(vswitch->encap_ip);
    free(vswitch);
}

/* ---- What is there ---- */

bool
vswitch_is_ready(const struct vswitch *vswitch)
{
    return vswitch->is_ready;
}

bool
vswitch_is_connected(const struct vswitch *vswitch)
{
    return ovsdb_idl_is_connected(vswitch->idl);
}

uint64_t
vswitch_seqno(const struct vswitch *vswitch)
{
    return vswitch->news_seqno;
}

uint32_t
vswitch_tunnel_ofport(const struct vswitch *vswitch)
{
    return vswitch->tunnel_ofport;
}

const struct vswitch_interface *
vswitch_interfaces(const struct vswitch *vswitch, size_t *ret_count)
{
    *ret_count = vswitch->interface_count;
    return vswitch->interfaces;
}

const struct vswitch_zone *
vswitch_zones(const struct vswitch *vswitch, size_t *ret_count)
{
    *ret_count = vswitch->zone_count;
    return vswitch->zones;
}

const struct vswitch_zone *
vswitch_find_zone(const struct vswitch *vswitch, const struct weft_uuid *port)
{
    struct vswitch_zone key = { .port = *port };

    return bsearch(&key, vswitch->zones, vswitch->zone_count, sizeof key,
                   compare_zones);
}

/* ---- Wishes ---- */

static int
compare_wishes(const void *a, const void *b)
{
    return uuid_compare(&((const struct vswitch_wish *)a)->port,
                        &((const struct vswitch_wish *)b)->port);
}

const struct vswitch_wish *
vswitch_find_wish(const struct vswitch *vswitch, const struct weft_uuid *port)
{
    struct vswitch_wish key = { .port = *port };

    return bsearch(&key, vswitch->wishes, vswitch->wish_count, sizeof key,
                   compare_wishes);
}

static bool
wish_equal(const struct vswitch_wish *a, const struct vswitch_wish *b)
{
    return uuid_equal(&a->port, &b->port) && a->zone == b->zone &&
           a->is_claimed == b->is_claimed && a->mtu == b->mtu &&
           a->keeps_ofport == b->keeps_ofport &&
           strcmp(a->device, b->device) == 0;
}

void
vswitch_set_wishes(struct vswitch *vswitch, const struct vswitch_wish *wishes,
                   size_t count)
{
    struct vswitch_wish *copy = allocate(count, sizeof *copy);
    bool is_same = vswitch->has_wishes && count == vswitch->wish_count;

    if (count > 0) {
        memcpy(copy, wishes, count * sizeof *copy);
    }
    qsort(copy, count, sizeof *copy, compare_wishes);
    for (size_t i = 0; is_same && i < count; i++) {
        is_same = wish_equal(&copy[i], &vswitch->wishes[i]);
    }
    free(vswitch->wishes);
    vswitch->wishes = copy;
    vswitch->wish_count = count;
    vswitch->has_wishes = true;
    if (!is_same) {
        vswitch->is_dirty = true;
    }
}
