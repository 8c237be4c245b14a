/* SPDX-License-Identifier: Apache-2.0 */

/* IP and MAC addresses of ports: chosen here, decided by the indexes (network,
 * ip) and (network, mac).  A change that loses is built anew and chooses
 * again.
 *
 * What changes under way have chosen is remembered, so that those of this API
 * do not collide with each other; between APIs chance keeps losers apart. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "netd/api/internal.h"

struct ipam_range
net_subnet_range(const struct state_subnet *row)
{
    struct ipam_range range = { .has_gateway = false };

    if (ip_prefix_parse(row->cidr, &range.prefix) != 0) {
        /* Written by somebody else: nothing is in it. */
        memset(&range.prefix, 0, sizeof range.prefix);
        range.prefix.length = 32;
    }
    range.has_gateway = row->gateway[0] != '\0' &&
                        ip_address_parse(row->gateway, &range.gateway) == 0;
    return range;
}

/* ---- Reservations ---- */

static bool
is_reserved(const struct netd_api *api, const struct weft_uuid *network,
            const char *ip)
{
    LIST_FOREACH (node, &api->reservations) {
        const struct net_reservation *reservation =
            container_of(node, struct net_reservation, node);
        if (uuid_equal(&reservation->network, network) &&
            strcmp(reservation->ip, ip) == 0) {
            return true;
        }
    }
    return false;
}

static void
reserve(struct api_op *op, const struct weft_uuid *network, const char *ip)
{
    struct net_reservation *reservation = calloc(1, sizeof *reservation);

    CHECK(reservation != NULL);
    reservation->op = op;
    reservation->network = *network;
    (void)snprintf(reservation->ip, sizeof reservation->ip, "%s", ip);
    list_push_back(&net_op_api(op)->reservations, &reservation->node);
}

void
net_addresses_release(struct api_op *op)
{
    LIST_FOREACH (node, &net_op_api(op)->reservations) {
        struct net_reservation *reservation =
            container_of(node, struct net_reservation, node);
        if (reservation->op == op) {
            list_remove(&reservation->node);
            free(reservation);
        }
    }
}

/* ---- Choosing ---- */

/* Whose an address is, for messages. */
static void
owner_text(const struct state *state, const struct state_address *row,
           char *ret_text, size_t size)
{
    const struct state_port *port = state_port_get(state, &row->port);
    const struct state_router_port *interface =
        state_router_port_get(state, &row->router_port);
    const struct state_router *router =
        interface != NULL ? state_router_get(state, &interface->router) : NULL;

    (void)snprintf(ret_text, size, "%s \"%s\"",
                   port != NULL     ? "port"
                   : router != NULL ? "router"
                                    : "somebody",
                   port != NULL     ? port->name
                   : router != NULL ? router->name
                                    : "");
}

/* One that the user asked for. */
static bool
choose_wanted(struct api_op *op, struct state *state,
              const struct state_network *network, const char *text,
              struct net_choice *choice)
{
    struct ip_address address;
    char ip[IP_TEXT_SIZE];
    int result = ip_address_parse(text, &address);

    CHECK(result == 0);
    ip_format(&address, ip);
    const struct state_subnet *subnet = NULL;
    for (const struct state_subnet *row = NULL;
         (row = state_subnet_next_by_network(state, &network->row.uuid, row)) !=
         NULL;) {
        struct ipam_range range = net_subnet_range(row);
        if (ip_prefix_contains(&range.prefix, &address)) {
            subnet = row;
        }
    }
    if (subnet == NULL) {
        (void)api_op_refuse(op, RPC_INVALID_ARGUMENT, "ADDRESS_OUTSIDE",
                            "address %s is in no subnet of network \"%s\"; "
                            "'weft subnet list' shows their ranges",
                            ip, network->name);
        return false;
    }
    struct ipam_range range = net_subnet_range(subnet);
    const char *refusal = ipam_refusal(&range, &address);
    if (refusal != NULL) {
        (void)api_op_refuse(op, RPC_INVALID_ARGUMENT, "ADDRESS_RESERVED",
                            "address %s %s (subnet \"%s\", %s); take another "
                            "one, or none to get a free one",
                            ip, refusal, subnet->name, subnet->cidr);
        return false;
    }
    const struct state_address *taken =
        state_address_find_by_network_ip(state, &network->row.uuid, ip);
    if (taken != NULL) {
        char owner[96];
        owner_text(state, taken, owner, sizeof owner);
        (void)api_op_refuse(op, RPC_ALREADY_EXISTS, "ADDRESS_TAKEN",
                            "address %s of network \"%s\" is taken by %s; take "
                            "another one, or none to get a free one",
                            ip, network->name, owner);
        return false;
    }
    choice->items[choice->count].subnet = subnet;
    (void)snprintf(choice->items[choice->count].ip, IP_TEXT_SIZE, "%s", ip);
    choice->count++;
    reserve(op, &network->row.uuid, ip);
    return true;
}

/* The lowest free one of a subnet, or after conflicts one a little above. */
static bool
choose_free(struct api_op *op, struct state *state,
            const struct state_subnet *subnet, char ret_ip[IP_TEXT_SIZE])
{
    struct netd_api *api = net_op_api(op);
    struct ipam_range range = net_subnet_range(subnet);
    uint64_t size = ipam_size(&range.prefix);
    uint64_t number = ipam_hint(&api->hints, &subnet->row.uuid);
    uint64_t skip =
        op->conflicts > 0 ? rng_below(&api->rng, op->conflicts * 8) : 0;
    bool found = false, is_first = true;

    for (; number < size; number++) {
        struct ip_address address = ipam_nth(&range.prefix, number);
        char ip[IP_TEXT_SIZE];
        if (ipam_refusal(&range, &address) != NULL) {
            continue;
        }
        ip_format(&address, ip);
        if (state_address_find_by_network_ip(state, &subnet->network, ip) !=
            NULL) {
            continue;
        }
        if (is_first) { /* All below have rows. */
            ipam_hint_set(&api->hints, &subnet->row.uuid, number);
            is_first = false;
        }
        if (is_reserved(api, &subnet->network, ip)) {
            continue;
        }
        memcpy(ret_ip, ip, sizeof ip);
        found = true;
        if (skip == 0) {
            break;
        }
        skip--;
    }
    return found;
}

static int
compare_subnets(const void *a, const void *b)
{
    const struct state_subnet *const *left = a, *const *right = b;

    if ((*left)->create_time_ms != (*right)->create_time_ms) {
        return (*left)->create_time_ms < (*right)->create_time_ms ? -1 : 1;
    }
    return strcmp((*left)->name, (*right)->name);
}

/* One address of a family, out of the oldest subnet that has one. */
static bool
choose_family(struct api_op *op, struct state *state,
              const struct state_network *network, bool is_ipv6,
              struct net_choice *choice)
{
    const struct state_subnet *subnets[NET_SUBNETS_MAX];
    size_t count = 0;

    for (const struct state_subnet *row = NULL;
         count < NET_SUBNETS_MAX &&
         (row = state_subnet_next_by_network(state, &network->row.uuid, row)) !=
             NULL;) {
        if (net_subnet_range(row).prefix.address.is_ipv6 == is_ipv6) {
            subnets[count++] = row;
        }
    }
    qsort(subnets, count, sizeof(const struct state_subnet *), compare_subnets);
    for (size_t i = 0; i < count; i++) {
        char ip[IP_TEXT_SIZE];
        if (choose_free(op, state, subnets[i], ip)) {
            choice->items[choice->count].subnet = subnets[i];
            memcpy(choice->items[choice->count].ip, ip, sizeof ip);
            choice->count++;
            reserve(op, &network->row.uuid, ip);
            return true;
        }
    }
    if (count > 0) {
        (void)api_op_refuse(op, RPC_RESOURCE_EXHAUSTED, "SUBNET_FULL",
                            "no free %s address is left in network \"%s\" "
                            "(subnet \"%s\", %s); add a subnet or delete ports",
                            is_ipv6 ? "IPv6" : "IPv4", network->name,
                            subnets[0]->name, subnets[0]->cidr);
        return false;
    }
    return true;
}

bool
net_addresses_choose(struct api_op *op, struct state *state,
                     const struct state_network *network, char **wanted,
                     size_t wanted_count, struct net_choice *ret_choice)
{
    ret_choice->count = 0;
    if (wanted_count > 0) {
        for (size_t i = 0; i < wanted_count; i++) {
            if (!choose_wanted(op, state, network, wanted[i], ret_choice)) {
                return false;
            }
        }
        return true;
    }
    return choose_family(op, state, network, false, ret_choice) &&
           choose_family(op, state, network, true, ret_choice);
}

/* ---- MAC ---- */

/* Whoever gets an address that another had before gets its MAC as well: what
 * neighbours remember stays true. */
void
net_mac_choose(const struct state *state, const struct weft_uuid *network,
               const char *of, char ret_mac[MAC_TEXT_SIZE])
{
    char name[UUID_TEXT_SIZE];

    uuid_format(network, name);
    for (uint32_t attempt = 0;; attempt++) {
        char purpose[API_REQUEST_ID_MAX + 16];
        struct weft_uuid uuid;
        struct mac_address mac;
        (void)snprintf(purpose, sizeof purpose, "mac/%u/%.*s", attempt,
                       (int)API_REQUEST_ID_MAX, of);
        state_uuid_derive(name, purpose, &uuid);
        memcpy(mac.bytes, uuid.bytes, sizeof mac.bytes);
        mac.bytes[0] = 0x0a; /* Locally administered, of one station. */
        mac_format(&mac, ret_mac);
        if (state_mac_find_by_network_mac(state, network, ret_mac) == NULL) {
            return;
        }
    }
}

void
net_mac_insert(struct api_op *op, struct state_txn *txn,
               const struct weft_uuid *network, const char *mac,
               const struct weft_uuid *owner)
{
    struct state_mac row = { .row.table = STATE_TABLE_MAC,
                             .network = *network,
                             .mac = mac,
                             .owner = *owner };

    api_op_uuid(op, "mac-row", &row.row.uuid);
    state_txn_insert(txn, &row.row, STATE_MAC_COL_ALL);
}
