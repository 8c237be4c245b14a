/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/api/intent.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netd/api/rule_text.h"

#define GROUPS_MAX 16u
#define PROTOCOL_ICMP 1u
#define PROTOCOL_ICMPV6 58u

/* Where nobody would answer an ARP request: a guest sends nothing, but a
 * cheating one could. */
static const struct mac_address nobody = { { 0x0a, 0xff, 0xff, 0xff, 0xff,
                                             0xff } };

/* All that the steps need. */
struct intent {
    const struct intent_rows *rows;
    const struct intent_query *query;
    const struct state_port *from;
    struct intent_verdict *verdict;
};

/* The groups of a port, by UUID. */
struct group_set {
    struct weft_uuid groups[GROUPS_MAX];
    size_t count;
};

static void intent_end(struct intent *intent, enum intent_outcome outcome,
                       const char *reason, const char *format, ...)
    WEFT_PRINTF(4, 5);

static void
intent_end(struct intent *intent, enum intent_outcome outcome,
           const char *reason, const char *format, ...)
{
    va_list args;

    intent->verdict->outcome = outcome;
    intent->verdict->reason = reason;
    va_start(args, format);
    (void)vsnprintf(intent->verdict->text, sizeof intent->verdict->text, format,
                    args);
    va_end(args);
}

/* ---- Look-ups ---- */

static const struct state_row *
table_get(const struct intent_table *table, const struct weft_uuid *uuid)
{
    for (size_t i = 0; i < table->count; i++) {
        if (uuid_equal(&table->rows[i]->uuid, uuid)) {
            return table->rows[i];
        }
    }
    return NULL;
}

static const struct state_subnet *
find_subnet(const struct intent *intent, const struct weft_uuid *uuid)
{
    const struct state_row *row = table_get(&intent->rows->subnets, uuid);

    return row != NULL ? state_subnet_from(row) : NULL;
}

static const char *
network_name(const struct intent *intent, const struct weft_uuid *uuid)
{
    const struct state_row *row = table_get(&intent->rows->networks, uuid);

    return row != NULL ? state_network_from(row)->name : "?";
}

static const char *
router_name(const struct intent *intent, const struct weft_uuid *uuid)
{
    const struct state_row *row = table_get(&intent->rows->routers, uuid);

    return row != NULL ? state_router_from(row)->name : "?";
}

/* Whether 'subnet' has the address; it then becomes its length. */
static bool
subnet_has(const struct state_subnet *subnet, const struct ip_address *address,
           uint32_t *ret_length)
{
    struct ip_prefix prefix;

    if (ip_prefix_parse(subnet->cidr, &prefix) != 0 ||
        !ip_prefix_contains(&prefix, address)) {
        return false;
    }
    *ret_length = prefix.length;
    return true;
}

static const struct state_address *
find_address(const struct intent *intent, const struct weft_uuid *network,
             const struct ip_address *wanted)
{
    for (size_t i = 0; i < intent->rows->addresses.count; i++) {
        const struct state_address *row =
            state_address_from(intent->rows->addresses.rows[i]);
        struct ip_address address;
        if (uuid_equal(&row->network, network) &&
            ip_address_parse(row->ip, &address) == 0 &&
            ip_compare(&address, wanted) == 0) {
            return row;
        }
    }
    return NULL;
}

/* Where a port is up, or NULL. */
static const char *
port_host(const struct intent *intent, const struct weft_uuid *port)
{
    for (size_t i = 0; i < intent->rows->statuses.count; i++) {
        const struct state_port_status *row =
            state_port_status_from(intent->rows->statuses.rows[i]);
        if (uuid_equal(&row->port, port) &&
            row->state == STATE_PORT_STATUS_STATE_UP) {
            return row->host;
        }
    }
    return NULL;
}

/* ---- Groups ---- */

static void
port_groups(const struct intent *intent, const struct state_port *port,
            struct group_set *ret_groups)
{
    const struct state_row *row =
        table_get(&intent->rows->identities, &port->identity);
    const char *text = row != NULL ? state_identity_from(row)->combination : "";

    ret_groups->count = 0;
    while (*text != '\0' && ret_groups->count < GROUPS_MAX) {
        char id[UUID_TEXT_SIZE] = "";
        size_t size = strcspn(text, ",");
        if (size == sizeof id - 1) {
            memcpy(id, text, size);
            if (uuid_parse(id, &ret_groups->groups[ret_groups->count]) == 0) {
                ret_groups->count++;
            }
        }
        text += size;
        text += *text == ',';
    }
}

static bool
set_has(const struct group_set *set, const struct weft_uuid *group)
{
    return state_uuids_contain(set->groups, set->count, group);
}

/* "web, db" */
static void
set_names(const struct intent *intent, const struct group_set *set,
          char *ret_text, size_t size)
{
    size_t used = 0;

    (void)snprintf(ret_text, size, "no group");
    for (size_t i = 0; i < set->count && used < size; i++) {
        const struct state_row *row =
            table_get(&intent->rows->groups, &set->groups[i]);
        int more =
            snprintf(ret_text + used, size - used, "%s%s", i > 0 ? ", " : "",
                     row != NULL ? state_security_group_from(row)->name : "?");
        used += (size_t)more;
    }
}

static bool
rule_fits_protocol(const struct state_security_rule *rule,
                   const struct intent_query *query)
{
    bool is_icmp =
        query->protocol == PROTOCOL_ICMP || query->protocol == PROTOCOL_ICMPV6;
    bool rule_is_icmp =
        rule->protocol == PROTOCOL_ICMP || rule->protocol == PROTOCOL_ICMPV6;

    if (rule->protocol == RULE_ANY) {
        return true;
    }
    if (rule_is_icmp) {
        return is_icmp &&
               (rule->icmp_type == RULE_ANY ||
                rule->icmp_type == query->l4_src) &&
               (rule->icmp_code == RULE_ANY ||
                rule->icmp_code == query->l4_dst);
    }
    return rule->protocol == query->protocol &&
           (!rule_has_ports(rule->protocol) ||
            (query->l4_dst >= rule->port_first &&
             query->l4_dst <= rule->port_last));
}

/* Whether a rule allows the packet, the other side having that address and
 * those groups. */
static bool
rule_allows(const struct state_security_rule *rule,
            const struct intent_query *query, const struct ip_address *other,
            const struct group_set *other_groups)
{
    struct ip_prefix prefix;

    if ((rule->family == STATE_SECURITY_RULE_FAMILY_IPV4 && other->is_ipv6) ||
        (rule->family == STATE_SECURITY_RULE_FAMILY_IPV6 && !other->is_ipv6) ||
        rule->family == STATE_SECURITY_RULE_FAMILY_UNKNOWN ||
        !rule_fits_protocol(rule, query)) {
        return false;
    }
    if (!uuid_is_nil(&rule->peer_group)) {
        return set_has(other_groups, &rule->peer_group);
    }
    return rule->cidr[0] == '\0' ||
           (ip_prefix_parse(rule->cidr, &prefix) == 0 &&
            ip_prefix_contains(&prefix, other));
}

/* Whether one of the rules of 'groups' in a direction allows it;
 * '*ret_has_rules': whether there is any for that direction. */
static bool
groups_allow(const struct intent *intent, const struct group_set *groups,
             enum state_security_rule_direction direction,
             const struct ip_address *other,
             const struct group_set *other_groups, bool *ret_has_rules)
{
    *ret_has_rules = false;
    for (size_t i = 0; i < intent->rows->rules.count; i++) {
        const struct state_security_rule *rule =
            state_security_rule_from(intent->rows->rules.rows[i]);
        if (rule->direction != direction || !set_has(groups, &rule->group)) {
            continue;
        }
        *ret_has_rules = true;
        if (rule_allows(rule, intent->query, other, other_groups)) {
            return true;
        }
    }
    return false;
}

/* ---- Steps ---- */

/* To a port's own address: what is left is who may talk to whom. */
static void
intent_to_port(struct intent *intent, const struct state_port *target)
{
    struct group_set from_groups, to_groups;
    char names[120];
    bool has_rules;

    port_groups(intent, intent->from, &from_groups);
    port_groups(intent, target, &to_groups);
    if (!groups_allow(intent, &from_groups, STATE_SECURITY_RULE_DIRECTION_OUT,
                      &intent->query->to, &to_groups, &has_rules) &&
        has_rules) {
        set_names(intent, &from_groups, names, sizeof names);
        intent_end(intent, INTENT_DROPPED, "EGRESS_DENIED",
                   "port \"%s\" may not send it: no rule with direction out "
                   "of its groups (%s) allows it",
                   intent->from->name, names);
        return;
    }
    if (!target->enabled) {
        intent_end(intent, INTENT_DROPPED, "TARGET_DISABLED",
                   "port \"%s\" is disabled", target->name);
        return;
    }
    const char *host = port_host(intent, &target->row.uuid);
    if (host == NULL) {
        intent_end(intent, INTENT_DROPPED, "TARGET_NOT_UP",
                   "port \"%s\" is up on no host", target->name);
        return;
    }
    if (!groups_allow(intent, &to_groups, STATE_SECURITY_RULE_DIRECTION_IN,
                      &intent->verdict->ip_src, &from_groups, &has_rules)) {
        set_names(intent, &to_groups, names, sizeof names);
        intent_end(intent, INTENT_DROPPED, "INGRESS_DENIED",
                   "port \"%s\" does not take it: no rule with direction in "
                   "of its groups (%s) allows it",
                   target->name, names);
        return;
    }
    intent->verdict->port = target->row.uuid;
    (void)snprintf(intent->verdict->host, sizeof intent->verdict->host, "%s",
                   host);
    intent_end(intent, INTENT_DELIVERED, "DELIVERED",
               "it reaches port \"%s\" on host %s", target->name, host);
}

/* In the network where the address is to be found. */
static void
intent_to_address(struct intent *intent, const struct weft_uuid *network,
                  bool is_routed)
{
    const struct state_address *address =
        find_address(intent, network, &intent->query->to);
    char text[IP_TEXT_SIZE];

    ip_format(&intent->query->to, text);
    if (address == NULL) {
        intent_end(intent, INTENT_DROPPED, "NO_SUCH_ADDRESS",
                   "nobody has address %s in network \"%s\"", text,
                   network_name(intent, network));
        return;
    }
    const struct state_row *row =
        table_get(&intent->rows->router_ports, &address->router_port);
    if (row != NULL) {
        const struct state_router_port *interface = state_router_port_from(row);
        if (!is_routed) {
            (void)!mac_parse(interface->mac, &intent->verdict->mac_dst);
        }
        intent_end(intent, INTENT_ANSWERED, "ROUTER",
                   "%s is router \"%s\" itself, which answers pings", text,
                   router_name(intent, &interface->router));
        return;
    }
    row = table_get(&intent->rows->ports, &address->port);
    if (row == NULL) {
        intent_end(intent, INTENT_DROPPED, "NO_SUCH_ADDRESS",
                   "address %s is in no use", text);
        return;
    }
    const struct state_port *target = state_port_from(row);
    if (!is_routed) {
        (void)!mac_parse(target->mac, &intent->verdict->mac_dst);
    }
    if (target == intent->from) {
        intent->verdict->has_packet = false;
        intent_end(intent, INTENT_DROPPED, "OWN_ADDRESS",
                   "%s is its own address; such packets do not leave the "
                   "guest",
                   text);
        return;
    }
    intent_to_port(intent, target);
}

/* By the gateway of the subnet that the sender's address is from. */
static void
intent_route(struct intent *intent, const struct state_subnet *source)
{
    const struct state_router_port *entry = NULL;
    const struct state_subnet *best = NULL;
    uint32_t best_length = 0;
    char text[IP_TEXT_SIZE];

    ip_format(&intent->query->to, text);
    for (size_t i = 0; i < intent->rows->router_ports.count; i++) {
        const struct state_router_port *row =
            state_router_port_from(intent->rows->router_ports.rows[i]);
        if (uuid_equal(&row->subnet, &source->row.uuid)) {
            entry = row;
        }
    }
    if (entry == NULL) {
        intent_end(intent, INTENT_DROPPED, "NO_ROUTER",
                   "%s is not in subnet \"%s\" (%s), which no router is on",
                   text, source->name, source->cidr);
        return;
    }
    (void)!mac_parse(entry->mac, &intent->verdict->mac_dst);
    for (size_t i = 0; i < intent->rows->router_ports.count; i++) {
        const struct state_router_port *row =
            state_router_port_from(intent->rows->router_ports.rows[i]);
        const struct state_subnet *subnet = find_subnet(intent, &row->subnet);
        uint32_t length;
        if (uuid_equal(&row->router, &entry->router) && subnet != NULL &&
            subnet_has(subnet, &intent->query->to, &length) &&
            (best == NULL || length > best_length)) {
            best = subnet;
            best_length = length;
        }
    }
    if (best == NULL) {
        intent_end(intent, INTENT_DROPPED, "NO_ROUTE",
                   "router \"%s\" has no route to %s: it is in none of its "
                   "subnets",
                   router_name(intent, &entry->router), text);
        return;
    }
    intent_to_address(intent, &best->network, true);
}

/* The address that the guest sends from, and its subnet: on the same link if
 * there is one, else one whose subnet has a gateway.  NULL: none. */
static const struct state_subnet *
intent_choose_source(struct intent *intent, bool *ret_is_on_link)
{
    const struct state_subnet *best = NULL;
    int best_rank = -1;

    for (size_t i = 0; i < intent->rows->addresses.count; i++) {
        const struct state_address *row =
            state_address_from(intent->rows->addresses.rows[i]);
        const struct state_subnet *subnet = find_subnet(intent, &row->subnet);
        struct ip_address address;
        uint32_t length;
        if (!uuid_equal(&row->port, &intent->from->row.uuid) ||
            subnet == NULL || ip_address_parse(row->ip, &address) != 0 ||
            address.is_ipv6 != intent->query->to.is_ipv6) {
            continue;
        }
        int rank = subnet_has(subnet, &intent->query->to, &length) ? 2
                   : subnet->gateway[0] != '\0'                    ? 1
                                                                   : 0;
        if (rank > best_rank ||
            (rank == best_rank &&
             ip_compare(&address, &intent->verdict->ip_src) < 0)) {
            best = subnet;
            best_rank = rank;
            intent->verdict->ip_src = address;
        }
    }
    *ret_is_on_link = best_rank == 2;
    return best;
}

struct intent_verdict
intent_decide(const struct intent_rows *rows, const struct intent_query *query)
{
    struct intent_verdict verdict = { .mac_dst = nobody };
    struct intent intent = { .rows = rows,
                             .query = query,
                             .verdict = &verdict };
    const struct state_row *row = table_get(&rows->ports, &query->port);
    bool is_on_link;

    CHECK(row != NULL);
    intent.from = state_port_from(row);
    (void)!mac_parse(intent.from->mac, &verdict.mac_src);
    const struct state_subnet *source =
        intent_choose_source(&intent, &is_on_link);
    verdict.has_packet = source != NULL;
    if (source == NULL) {
        intent_end(&intent, INTENT_DROPPED, "NO_SOURCE_ADDRESS",
                   "port \"%s\" has no %s address", intent.from->name,
                   query->to.is_ipv6 ? "IPv6" : "IPv4");
    } else if (!intent.from->enabled) {
        verdict.has_packet = false;
        intent_end(&intent, INTENT_DROPPED, "PORT_DISABLED",
                   "port \"%s\" is disabled", intent.from->name);
    } else if (port_host(&intent, &query->port) == NULL) {
        verdict.has_packet = false;
        intent_end(&intent, INTENT_DROPPED, "PORT_NOT_UP",
                   "port \"%s\" is up on no host", intent.from->name);
    } else if (is_on_link) {
        intent_to_address(&intent, &intent.from->network, false);
    } else {
        intent_route(&intent, source);
    }
    return verdict;
}

/* ---- Rows ---- */

static void
table_gather(const struct state *state, enum state_table table,
             struct intent_table *ret_table)
{
    size_t room = state_row_count(state, table), count = 0;
    const struct state_row **rows = calloc(room + 1, sizeof *rows);

    CHECK(rows != NULL);
    for (const struct state_row *row = state_row_next(state, table, NULL);
         row != NULL && count < room; row = state_row_next(state, table, row)) {
        rows[count++] = row;
    }
    *ret_table = (struct intent_table){ .rows = rows, .count = count };
}

void
intent_rows_gather(const struct state *state, struct intent_rows *ret_rows)
{
    table_gather(state, STATE_TABLE_NETWORK, &ret_rows->networks);
    table_gather(state, STATE_TABLE_SUBNET, &ret_rows->subnets);
    table_gather(state, STATE_TABLE_ADDRESS, &ret_rows->addresses);
    table_gather(state, STATE_TABLE_PORT, &ret_rows->ports);
    table_gather(state, STATE_TABLE_ROUTER, &ret_rows->routers);
    table_gather(state, STATE_TABLE_ROUTER_PORT, &ret_rows->router_ports);
    table_gather(state, STATE_TABLE_IDENTITY, &ret_rows->identities);
    table_gather(state, STATE_TABLE_SECURITY_GROUP, &ret_rows->groups);
    table_gather(state, STATE_TABLE_SECURITY_RULE, &ret_rows->rules);
    table_gather(state, STATE_TABLE_PORT_STATUS, &ret_rows->statuses);
}

void
intent_rows_done(struct intent_rows *rows)
{
    struct intent_table *tables[] = {
        &rows->networks, &rows->subnets,      &rows->addresses,  &rows->ports,
        &rows->routers,  &rows->router_ports, &rows->identities, &rows->groups,
        &rows->rules,    &rows->statuses,
    };

    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        /* The array is ours, the rows are not. */
        free((void *)(uintptr_t)(const void *)tables[i]->rows);
        *tables[i] = (struct intent_table){ NULL, 0 };
    }
}
