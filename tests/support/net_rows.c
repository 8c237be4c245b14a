/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/net_rows.h"

#include <stdio.h>

#include "lib/base/check.h"
#include "lib/state/values.h"

static const enum state_table tables[NET_ROWS_TABLES] = {
    STATE_TABLE_NET_HOST,
    STATE_TABLE_NETWORK,
    STATE_TABLE_NETWORK_ROUTE,
    STATE_TABLE_SUBNET,
    STATE_TABLE_MAC,
    STATE_TABLE_PORT,
    STATE_TABLE_ADDRESS,
    STATE_TABLE_BINDING,
    STATE_TABLE_PLUG,
    STATE_TABLE_SECURITY_GROUP,
    STATE_TABLE_SECURITY_RULE,
    STATE_TABLE_IDENTITY,
    STATE_TABLE_IDENTITY_MEMBER,
    STATE_TABLE_ROUTER,
    STATE_TABLE_ROUTER_PORT,
    STATE_TABLE_SCOPE_SEQ,
};

static const char *const hosts[NET_ROWS_HOSTS] = { "h0", "h1", "h2", "h3" };

static const char *const ips[] = {
    "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.7",
    "fd00::1",  "fd00::2",  "fd01::1",  "fd01::9",  "192.168.0.1",
};

static const char *const cidrs[] = {
    "10.0.0.0/24", "10.0.1.0/24", "192.168.0.0/16", "fd00::/64", "fd01::/64",
};

static const char *const macs[] = {
    "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03",
    "02:00:00:00:00:04", "02:00:00:00:00:05", "02:00:00:00:00:06",
    "02:00:00:00:00:07", "02:00:00:00:00:08",
};

#define PICK(rng, array) \
    ((array)[rng_below((rng), sizeof(array) / sizeof((array)[0]))])

enum state_table
net_rows_table(size_t number)
{
    CHECK(number < NET_ROWS_TABLES);
    return tables[number];
}

const char *
net_rows_host(size_t number)
{
    CHECK(number < NET_ROWS_HOSTS);
    return hosts[number];
}

struct weft_uuid
net_rows_uuid(enum state_table table, size_t slot)
{
    /* Spread, so that the order of UUIDs is not that of slots. */
    uint64_t mixed =
        ((uint64_t)table * 1000 + slot + 1) * UINT64_C(0x9e3779b97f4a7c15);
    struct weft_uuid uuid;
    uuid_make_random(mixed, mixed * 3, &uuid);
    return uuid;
}

/* A few slots get most of the references. */
static struct weft_uuid
pick(struct rng *rng, enum state_table table)
{
    size_t slots = rng_chance(rng, 3, 4) ? 3 : NET_ROWS_SLOTS;
    return net_rows_uuid(table, rng_below(rng, slots));
}

static struct weft_uuid
pick_or_nil(struct rng *rng, enum state_table table)
{
    static const struct weft_uuid nil = { { 0 } };
    return rng_chance(rng, 1, 2) ? nil : pick(rng, table);
}

static const char *
host_or_none(struct rng *rng)
{
    return rng_chance(rng, 1, 2) ? "" : PICK(rng, hosts);
}

static struct state_row *
copy(struct state_row *row, enum state_table table, size_t slot)
{
    row->table = table;
    row->uuid = net_rows_uuid(table, slot);
    return state_row_clone(row);
}

static struct state_row *
random_port(struct rng *rng, size_t slot)
{
    struct state_port port = {
        .network = pick(rng, STATE_TABLE_NETWORK),
        .name = "p",
        .mac = PICK(rng, macs),
        .identity = pick(rng, STATE_TABLE_IDENTITY),
        .host = rng_chance(rng, 2, 3) ? "h0" : host_or_none(rng),
        .migrate_host = rng_chance(rng, 5, 6) ? "" : host_or_none(rng),
        .enabled = !rng_chance(rng, 1, 8),
        .hostname = "vm",
    };
    return copy(&port.row, STATE_TABLE_PORT, slot);
}

static struct state_row *
random_rule(struct rng *rng, size_t slot)
{
    static const uint32_t protocols[] = { 256, 6, 17, 1, 58, 132, 47 };
    static const char *const from[] = { "",          "0.0.0.0/0", "10.0.0.0/24",
                                        "fd00::/64", "::/0",      "bad" };
    uint32_t first = (uint32_t)rng_below(rng, 1024);
    struct state_security_rule rule = {
        .group = pick(rng, STATE_TABLE_SECURITY_GROUP),
        .canonical = "c",
        .direction = (enum state_security_rule_direction)rng_below(rng, 3),
        .family = (enum state_security_rule_family)rng_below(rng, 4),
        .protocol = PICK(rng, protocols),
        .port_first = first,
        .port_last = first + (uint32_t)rng_below(rng, 100),
        .icmp_type = rng_chance(rng, 1, 2) ? 256 : (uint32_t)rng_below(rng, 9),
        .icmp_code = rng_chance(rng, 1, 2) ? 256 : (uint32_t)rng_below(rng, 3),
        .cidr = "",
        .tag = (uint32_t)slot + 1,
    };
    if (rng_chance(rng, 1, 2)) {
        rule.peer_group = pick(rng, STATE_TABLE_SECURITY_GROUP);
    } else {
        rule.cidr = PICK(rng, from);
    }
    return copy(&rule.row, STATE_TABLE_SECURITY_RULE, slot);
}

static struct state_row *
random_address(struct rng *rng, size_t slot)
{
    struct state_address address = {
        .network = pick(rng, STATE_TABLE_NETWORK),
        .subnet = pick(rng, STATE_TABLE_SUBNET),
        .ip = PICK(rng, ips),
        .port = pick_or_nil(rng, STATE_TABLE_PORT),
    };
    if (uuid_is_nil(&address.port)) {
        address.router_port = pick(rng, STATE_TABLE_ROUTER_PORT);
    }
    return copy(&address.row, STATE_TABLE_ADDRESS, slot);
}

static struct state_row *
random_subnet(struct rng *rng, size_t slot)
{
    struct state_subnet subnet = {
        .network = pick(rng, STATE_TABLE_NETWORK),
        .name = "s",
        .cidr = PICK(rng, cidrs),
        .gateway = rng_chance(rng, 1, 4) ? "" : PICK(rng, ips),
        .dhcp = rng_chance(rng, 1, 2),
    };
    return copy(&subnet.row, STATE_TABLE_SUBNET, slot);
}

static struct state_row *
random_network(struct rng *rng, size_t slot)
{
    struct state_network network = {
        .name = "n",
        .vni = 100 + (uint32_t)slot,
        .mtu = rng_chance(rng, 1, 2) ? 1400 : 1300,
        .flood = rng_chance(rng, 1, 3),
    };
    return copy(&network.row, STATE_TABLE_NETWORK, slot);
}

static struct state_row *
random_net_host(struct rng *rng, size_t slot)
{
    static const char *const encaps[] = { "172.16.0.1", "172.16.0.2",
                                          "172.16.0.3", "172.16.0.4",
                                          "fd99::1" };
    struct state_net_host host = {
        .host = PICK(rng, hosts),
        .encap_ip = PICK(rng, encaps),
        .enabled = rng_chance(rng, 3, 4),
    };
    return copy(&host.row, STATE_TABLE_NET_HOST, slot);
}

static struct state_row *
random_binding(struct rng *rng, size_t slot)
{
    struct state_binding binding = {
        .port = pick(rng, STATE_TABLE_PORT),
        .network = pick(rng, STATE_TABLE_NETWORK),
        .host = PICK(rng, hosts),
    };
    return copy(&binding.row, STATE_TABLE_BINDING, slot);
}

static struct state_row *
random_identity(struct rng *rng, size_t slot)
{
    /* Only how many there are is looked at. */
    static const char *const combinations[] = { "", "a", "a", "a,b", "a,b,c" };
    struct state_identity identity = {
        .number = 100 + (uint32_t)slot,
        .combination = PICK(rng, combinations),
        .retired = rng_chance(rng, 1, 8),
    };
    return copy(&identity.row, STATE_TABLE_IDENTITY, slot);
}

static struct state_row *
random_member(struct rng *rng, size_t slot)
{
    struct state_identity_member member = {
        .identity = pick(rng, STATE_TABLE_IDENTITY),
        .group = pick(rng, STATE_TABLE_SECURITY_GROUP),
    };
    return copy(&member.row, STATE_TABLE_IDENTITY_MEMBER, slot);
}

static struct state_row *
random_router_port(struct rng *rng, size_t slot)
{
    struct state_router_port port = {
        .router = pick(rng, STATE_TABLE_ROUTER),
        .subnet = pick(rng, STATE_TABLE_SUBNET),
        .network = pick(rng, STATE_TABLE_NETWORK),
        .mac = PICK(rng, macs),
    };
    return copy(&port.row, STATE_TABLE_ROUTER_PORT, slot);
}

static struct state_row *
random_mac(struct rng *rng, size_t slot)
{
    struct state_mac mac = {
        .network = pick(rng, STATE_TABLE_NETWORK),
        .mac = PICK(rng, macs),
        .owner = pick(rng, STATE_TABLE_PORT),
    };
    return copy(&mac.row, STATE_TABLE_MAC, slot);
}

static struct state_row *
random_network_route(struct rng *rng, size_t slot)
{
    struct state_network_route route = {
        .network = pick(rng, STATE_TABLE_NETWORK),
        .router = pick(rng, STATE_TABLE_ROUTER),
    };
    return copy(&route.row, STATE_TABLE_NETWORK_ROUTE, slot);
}

struct state_row *
net_rows_random(struct rng *rng, enum state_table table, size_t slot)
{
    struct state_security_group group = { .name = "g",
                                          .tag = 1 + (uint32_t)slot };
    struct state_router router = { .name = "r", .tag = 1 + (uint32_t)slot };
    struct state_plug plug = { .host = "h0" };
    struct state_scope_seq seq = { .seq = rng_below(rng, 100) };

    CHECK(slot < NET_ROWS_SLOTS);
    if (table == STATE_TABLE_NET_HOST) {
        return random_net_host(rng, slot);
    } else if (table == STATE_TABLE_NETWORK) {
        return random_network(rng, slot);
    } else if (table == STATE_TABLE_NETWORK_ROUTE) {
        return random_network_route(rng, slot);
    } else if (table == STATE_TABLE_SUBNET) {
        return random_subnet(rng, slot);
    } else if (table == STATE_TABLE_MAC) {
        return random_mac(rng, slot);
    } else if (table == STATE_TABLE_PORT) {
        return random_port(rng, slot);
    } else if (table == STATE_TABLE_ADDRESS) {
        return random_address(rng, slot);
    } else if (table == STATE_TABLE_BINDING) {
        return random_binding(rng, slot);
    } else if (table == STATE_TABLE_SECURITY_RULE) {
        return random_rule(rng, slot);
    } else if (table == STATE_TABLE_IDENTITY) {
        return random_identity(rng, slot);
    } else if (table == STATE_TABLE_IDENTITY_MEMBER) {
        return random_member(rng, slot);
    } else if (table == STATE_TABLE_ROUTER_PORT) {
        return random_router_port(rng, slot);
    } else if (table == STATE_TABLE_SECURITY_GROUP) {
        return copy(&group.row, table, slot);
    } else if (table == STATE_TABLE_ROUTER) {
        return copy(&router.row, table, slot);
    } else if (table == STATE_TABLE_PLUG) {
        plug.port = pick(rng, STATE_TABLE_PORT);
        return copy(&plug.row, table, slot);
    }
    CHECK(table == STATE_TABLE_SCOPE_SEQ); /* One that compile ignores. */
    return copy(&seq.row, table, slot);
}
