/* SPDX-License-Identifier: Apache-2.0 */

/* Ports: from rows to messages. */

#include <stdlib.h>
#include <string.h>

#include "netd/api/internal.h"

/* ---- Addresses ---- */

static int
compare_texts(const void *a, const void *b)
{
    char *const *left = a, *const *right = b;
    struct ip_address x, y;

    if (ip_address_parse(*left, &x) != 0 || ip_address_parse(*right, &y) != 0) {
        return strcmp(*left, *right);
    }
    return ip_compare(&x, &y);
}

static void
port_add_address(struct reply_arena *arena, Weft__V1__Port *port,
                 const struct state_address *row)
{
    if (port->n_addresses < NET_ADDRESSES_MAX) {
        port->addresses[port->n_addresses++] = reply_text(arena, "%s", row->ip);
    }
}

static void
port_set_addresses(struct reply_arena *arena, const struct state *state,
                   const struct state_port *row, Weft__V1__Port *port)
{
    port->addresses =
        reply_alloc(arena, NET_ADDRESSES_MAX * sizeof *port->addresses);
    for (const struct state_address *address = NULL;
         (address = state_address_next_by_port(state, &row->row.uuid,
                                               address)) != NULL;) {
        port_add_address(arena, port, address);
    }
    if (port->n_addresses > 1) {
        qsort(port->addresses, port->n_addresses, sizeof *port->addresses,
              compare_texts);
    }
}

/* ---- Status ---- */

/* How much a status tells: of two hosts the one that has the port counts. */
static int
status_rank(const struct state_port_status *row)
{
    switch (row->state) {
    case STATE_PORT_STATUS_STATE_UP:
        return 4;
    case STATE_PORT_STATUS_STATE_BOUND:
        return 3;
    case STATE_PORT_STATUS_STATE_SCHEDULED:
        return 2;
    case STATE_PORT_STATUS_STATE_DOWN:
        return 1;
    case STATE_PORT_STATUS_STATE_UNKNOWN:
        break;
    }
    return 0;
}

/* The status that counts: that of the port's own host, else the best. */
static const struct state_port_status *
status_better(const struct state_port *port, const struct state_port_status *a,
              const struct state_port_status *b)
{
    if (a == NULL || strcmp(b->host, port->host) == 0) {
        return b;
    }
    if (strcmp(a->host, port->host) == 0) {
        return a;
    }
    return status_rank(b) > status_rank(a) ? b : a;
}

static const struct state_port_status *
status_find(const struct state *state, const struct state_port *port)
{
    const struct state_port_status *found = NULL;

    for (const struct state_port_status *row = NULL;
         (row = state_port_status_next_by_port(state, &port->row.uuid, row)) !=
         NULL;) {
        found = status_better(port, found, row);
    }
    return found;
}

const char *
net_port_place(const struct state *state, const struct state_port *row,
               enum state_port_status_state *ret_state)
{
    const struct state_port_status *status = status_find(state, row);

    *ret_state =
        status != NULL ? status->state : STATE_PORT_STATUS_STATE_UNKNOWN;
    if (status != NULL && (status->state == STATE_PORT_STATUS_STATE_UP ||
                           status->state == STATE_PORT_STATUS_STATE_BOUND)) {
        return status->host;
    }
    return "";
}

static void
port_set_state(struct reply_arena *arena, const struct netd_api *api,
               const struct state_port *row,
               const struct state_port_status *status, Weft__V1__Port *port)
{
    if (status == NULL) {
        port->state = row->host[0] != '\0' ? WEFT__V1__PORT__STATE__SCHEDULED
                                           : WEFT__V1__PORT__STATE__UNPLUGGED;
        if (row->host[0] != '\0') {
            port->state_reason =
                net_host_is_alive(api, row->host)
                    ? reply_text(arena, "host \"%s\" has not taken it up yet",
                                 row->host)
                    : reply_text(arena,
                                 "netd on host \"%s\" gives no sign of "
                                 "life",
                                 row->host);
        }
        return;
    }
    port->state_reason = reply_text(arena, "%s", status->error);
    port->device = reply_text(arena, "%s", status->device);
    port->bound_time = api_time(arena, status->bound_time_ms);
    port->up_time = api_time(arena, status->up_time_ms);
    port->bind_duration_us = (int64_t)status->bind_us;
    port->flows_duration_us = (int64_t)status->flows_us;
    switch (status->state) {
    case STATE_PORT_STATUS_STATE_SCHEDULED:
        port->state = WEFT__V1__PORT__STATE__SCHEDULED;
        return;
    case STATE_PORT_STATUS_STATE_BOUND:
        port->state = WEFT__V1__PORT__STATE__BOUND;
        break;
    case STATE_PORT_STATUS_STATE_UP:
        port->state = WEFT__V1__PORT__STATE__UP;
        break;
    case STATE_PORT_STATUS_STATE_DOWN:
    case STATE_PORT_STATUS_STATE_UNKNOWN:
        port->state = WEFT__V1__PORT__STATE__DOWN;
        return;
    }
    port->bound_host = reply_text(arena, "netHosts/%s", status->host);
}

static Weft__V1__PortPlug *
plug_message(struct reply_arena *arena, const struct state_plug *row)
{
    Weft__V1__PortPlug *plug = reply_alloc(arena, sizeof *plug);

    weft__v1__port_plug__init(plug);
    plug->kind = row->kind == STATE_PLUG_KIND_NETNS
                     ? WEFT__V1__PORT_PLUG__KIND__NETNS
                     : WEFT__V1__PORT_PLUG__KIND__TAP;
    plug->device = reply_text(arena, "%s", row->device);
    plug->netns = reply_text(arena, "%s", row->netns);
    plug->ifname = reply_text(arena, "%s", row->ifname);
    return plug;
}

Weft__V1__Port *
net_port_message(struct reply_arena *arena, const struct netd_api *api,
                 const struct state_port *row)
{
    const struct state *state = api->state;
    const struct state_plug *plug =
        state_plug_find_by_port(state, &row->row.uuid);
    const struct state_identity *identity =
        state_identity_get(state, &row->identity);
    struct net_groups groups;
    Weft__V1__Port *port = reply_alloc(arena, sizeof *port);

    weft__v1__port__init(port);
    port->name = net_name(arena, state, NET_PORT, &row->row.uuid);
    port->uid = reply_uuid(arena, &row->row.uuid);
    port->create_time = api_time(arena, row->create_time_ms);
    port->network = net_name(arena, state, NET_NETWORK, &row->network);
    port->mac = reply_text(arena, "%s", row->mac);
    port_set_addresses(arena, state, row, port);
    net_identity_groups(state, &row->identity, &groups);
    port->security_groups =
        reply_alloc(arena, (groups.count + 1) * sizeof(char *));
    for (uint32_t i = 0; i < groups.count; i++) {
        port->security_groups[i] =
            net_name(arena, state, NET_GROUP, &groups.rows[i]->row.uuid);
    }
    port->n_security_groups = groups.count;
    port->identity = identity != NULL ? (int32_t)identity->number : 0;
    port->disabled = !row->enabled;
    port->hostname = reply_text(arena, "%s", row->hostname);
    if (row->host[0] != '\0') {
        port->host = reply_text(arena, "netHosts/%s", row->host);
    }
    if (plug != NULL) {
        port->plug = plug_message(arena, plug);
    }
    port_set_state(arena, api, row, status_find(state, row), port);
    return port;
}
