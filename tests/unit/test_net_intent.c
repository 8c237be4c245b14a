/* SPDX-License-Identifier: Apache-2.0 */
/* netd/api/intent: what becomes of a packet, out of rows made by hand.
 *
 *     network blue  10.0.0.0/24 (router r)  fd00:1::/64 (r)   ports a, b, d
 *     network red   10.0.1.0/24 (r)                           port c
 *     network loner 10.0.9.0/24                               port e
 */
#include "tests/unit/unit.h"

#include <string.h>

#include "lib/base/array.h"
#include "netd/api/intent.h"
#include "netd/api/rule_text.h"

#define TCP 6
#define ICMP 1

enum {
    BLUE = 1,
    RED,
    LONER,
    BLUE4,
    BLUE6,
    RED4,
    LONER4,
    ROUTER,
    R_BLUE4,
    R_BLUE6,
    R_RED4,
    WEB,
    DB,
    ID_NONE,
    ID_WEB,
    ID_DB,
    PORT_A,
    PORT_B,
    PORT_C,
    PORT_D,
    PORT_E,
    OTHER = 100,
};

#define ID(n)            \
    {                    \
        {                \
            (uint8_t)(n) \
        }                \
    }
#define ROW(name, n)                               \
    {                                              \
        .table = STATE_TABLE_##name, .uuid = ID(n) \
    }

static struct state_network networks[] = {
    { .row = ROW(NETWORK, BLUE), .name = "blue" },
    { .row = ROW(NETWORK, RED), .name = "red" },
    { .row = ROW(NETWORK, LONER), .name = "loner" },
};
static struct state_subnet subnets[] = {
    { .row = ROW(SUBNET, BLUE4),
      .network = ID(BLUE),
      .name = "blue4",
      .cidr = "10.0.0.0/24",
      .gateway = "10.0.0.1" },
    { .row = ROW(SUBNET, BLUE6),
      .network = ID(BLUE),
      .name = "blue6",
      .cidr = "fd00:1::/64",
      .gateway = "fd00:1::1" },
    { .row = ROW(SUBNET, RED4),
      .network = ID(RED),
      .name = "red4",
      .cidr = "10.0.1.0/24",
      .gateway = "10.0.1.1" },
    { .row = ROW(SUBNET, LONER4),
      .network = ID(LONER),
      .name = "loner4",
      .cidr = "10.0.9.0/24",
      .gateway = "10.0.9.1" },
};
static struct state_router routers[] = {
    { .row = ROW(ROUTER, ROUTER), .name = "r" },
};
static struct state_router_port router_ports[] = {
    { .row = ROW(ROUTER_PORT, R_BLUE4),
      .router = ID(ROUTER),
      .subnet = ID(BLUE4),
      .network = ID(BLUE),
      .mac = "0a:00:00:00:01:01" },
    { .row = ROW(ROUTER_PORT, R_BLUE6),
      .router = ID(ROUTER),
      .subnet = ID(BLUE6),
      .network = ID(BLUE),
      .mac = "0a:00:00:00:01:02" },
    { .row = ROW(ROUTER_PORT, R_RED4),
      .router = ID(ROUTER),
      .subnet = ID(RED4),
      .network = ID(RED),
      .mac = "0a:00:00:00:01:03" },
};
static struct state_security_group groups[] = {
    { .row = ROW(SECURITY_GROUP, WEB), .name = "web" },
    { .row = ROW(SECURITY_GROUP, DB), .name = "db" },
};
static struct state_identity identities[] = {
    { .row = ROW(IDENTITY, ID_NONE), .number = 2, .combination = "" },
    { .row = ROW(IDENTITY, ID_WEB),
      .number = 3,
      .combination = "0c000000-0000-0000-0000-000000000000" },
    { .row = ROW(IDENTITY, ID_DB),
      .number = 4,
      .combination = "0d000000-0000-0000-0000-000000000000" },
};
static struct state_port ports[] = {
    { .row = ROW(PORT, PORT_A),
      .network = ID(BLUE),
      .name = "a",
      .mac = "0a:00:00:00:00:0a",
      .identity = ID(ID_WEB),
      .enabled = true },
    { .row = ROW(PORT, PORT_B),
      .network = ID(BLUE),
      .name = "b",
      .mac = "0a:00:00:00:00:0b",
      .identity = ID(ID_DB),
      .enabled = true },
    { .row = ROW(PORT, PORT_C),
      .network = ID(RED),
      .name = "c",
      .mac = "0a:00:00:00:00:0c",
      .identity = ID(ID_DB),
      .enabled = true },
    { .row = ROW(PORT, PORT_D),
      .network = ID(BLUE),
      .name = "d",
      .mac = "0a:00:00:00:00:0d",
      .identity = ID(ID_NONE),
      .enabled = true },
    { .row = ROW(PORT, PORT_E),
      .network = ID(LONER),
      .name = "e",
      .mac = "0a:00:00:00:00:0e",
      .identity = ID(ID_WEB),
      .enabled = true },
};
static struct state_address addresses[] = {
    { .row = ROW(ADDRESS, 40),
      .network = ID(BLUE),
      .subnet = ID(BLUE4),
      .ip = "10.0.0.10",
      .port = ID(PORT_A) },
    { .row = ROW(ADDRESS, 41),
      .network = ID(BLUE),
      .subnet = ID(BLUE6),
      .ip = "fd00:1::a",
      .port = ID(PORT_A) },
    { .row = ROW(ADDRESS, 42),
      .network = ID(BLUE),
      .subnet = ID(BLUE4),
      .ip = "10.0.0.11",
      .port = ID(PORT_B) },
    { .row = ROW(ADDRESS, 43),
      .network = ID(BLUE),
      .subnet = ID(BLUE6),
      .ip = "fd00:1::b",
      .port = ID(PORT_B) },
    { .row = ROW(ADDRESS, 44),
      .network = ID(RED),
      .subnet = ID(RED4),
      .ip = "10.0.1.12",
      .port = ID(PORT_C) },
    { .row = ROW(ADDRESS, 45),
      .network = ID(BLUE),
      .subnet = ID(BLUE4),
      .ip = "10.0.0.13",
      .port = ID(PORT_D) },
    { .row = ROW(ADDRESS, 46),
      .network = ID(LONER),
      .subnet = ID(LONER4),
      .ip = "10.0.9.14",
      .port = ID(PORT_E) },
    { .row = ROW(ADDRESS, 47),
      .network = ID(BLUE),
      .subnet = ID(BLUE4),
      .ip = "10.0.0.1",
      .router_port = ID(R_BLUE4) },
    { .row = ROW(ADDRESS, 48),
      .network = ID(RED),
      .subnet = ID(RED4),
      .ip = "10.0.1.1",
      .router_port = ID(R_RED4) },
};
static struct state_port_status statuses[] = {
    { .row = ROW(PORT_STATUS, 50),
      .port = ID(PORT_A),
      .host = "h1",
      .state = STATE_PORT_STATUS_STATE_UP },
    { .row = ROW(PORT_STATUS, 51),
      .port = ID(PORT_B),
      .host = "h2",
      .state = STATE_PORT_STATUS_STATE_UP },
    { .row = ROW(PORT_STATUS, 52),
      .port = ID(PORT_C),
      .host = "h3",
      .state = STATE_PORT_STATUS_STATE_UP },
    { .row = ROW(PORT_STATUS, 53),
      .port = ID(PORT_D),
      .host = "h1",
      .state = STATE_PORT_STATUS_STATE_UP },
    { .row = ROW(PORT_STATUS, 54),
      .port = ID(PORT_E),
      .host = "h1",
      .state = STATE_PORT_STATUS_STATE_UP },
};
/* db takes TCP 5432 from web, and pings from anybody. */
static struct state_security_rule rules[8];
static size_t rule_count;

static void
add_rule(const struct state_security_rule *rule)
{
    assert_true(rule_count < ARRAY_COUNT(rules));
    rules[rule_count] = *rule;
    rules[rule_count].row =
        (struct state_row){ .table = STATE_TABLE_SECURITY_RULE,
                            .uuid = ID(60 + rule_count) };
    rule_count++;
}

static int
setup(void **state)
{
    (void)state;
    rule_count = 0;
    add_rule(&(const struct state_security_rule){
        .group = ID(DB),
        .direction = STATE_SECURITY_RULE_DIRECTION_IN,
        .family = STATE_SECURITY_RULE_FAMILY_ANY,
        .protocol = TCP,
        .port_first = 5432,
        .port_last = 5433,
        .icmp_type = RULE_ANY,
        .icmp_code = RULE_ANY,
        .cidr = "",
        .peer_group = ID(WEB),
    });
    add_rule(&(const struct state_security_rule){
        .group = ID(DB),
        .direction = STATE_SECURITY_RULE_DIRECTION_IN,
        .family = STATE_SECURITY_RULE_FAMILY_ANY,
        .protocol = ICMP,
        .port_last = 65535,
        .icmp_type = RULE_ANY,
        .icmp_code = RULE_ANY,
        .cidr = "",
    });
    for (size_t i = 0; i < ARRAY_COUNT(ports); i++) {
        ports[i].enabled = true;
        statuses[i].state = STATE_PORT_STATUS_STATE_UP;
    }
    return 0;
}

static const struct state_row *pointers[16][16];

#define TABLE(slot, array, number)                                          \
    ({                                                                      \
        for (size_t i = 0; i < (number); i++) {                             \
            pointers[slot][i] = &(array)[i].row;                            \
        }                                                                   \
        (struct intent_table){ .rows = pointers[slot], .count = (number) }; \
    })

static struct intent_verdict
decide(int from, const char *to, uint8_t protocol, uint16_t port)
{
    struct intent_rows rows = {
        .networks = TABLE(0, networks, ARRAY_COUNT(networks)),
        .subnets = TABLE(1, subnets, ARRAY_COUNT(subnets)),
        .addresses = TABLE(2, addresses, ARRAY_COUNT(addresses)),
        .ports = TABLE(3, ports, ARRAY_COUNT(ports)),
        .routers = TABLE(4, routers, ARRAY_COUNT(routers)),
        .router_ports = TABLE(5, router_ports, ARRAY_COUNT(router_ports)),
        .identities = TABLE(6, identities, ARRAY_COUNT(identities)),
        .groups = TABLE(7, groups, ARRAY_COUNT(groups)),
        .rules = TABLE(8, rules, rule_count),
        .statuses = TABLE(9, statuses, ARRAY_COUNT(statuses)),
    };
    struct intent_query query = { .port = ID(from), .protocol = protocol };

    assert_int_equal(ip_address_parse(to, &query.to), 0);
    query.l4_src = protocol == TCP ? 40000 : query.to.is_ipv6 ? 128 : 8;
    query.l4_dst = port;
    return intent_decide(&rows, &query);
}

static void
assert_delivered(int from, const char *to, uint8_t protocol, uint16_t port,
                 int target, const char *host)
{
    struct intent_verdict verdict = decide(from, to, protocol, port);
    const struct weft_uuid wanted = ID(target);

    assert_string_equal(verdict.reason, "DELIVERED");
    assert_int_equal(verdict.outcome, INTENT_DELIVERED);
    assert_true(uuid_equal(&verdict.port, &wanted));
    assert_string_equal(verdict.host, host);
}

static void
assert_not(int from, const char *to, uint8_t protocol, uint16_t port,
           const char *reason)
{
    struct intent_verdict verdict = decide(from, to, protocol, port);

    assert_string_equal(verdict.reason, reason);
    assert_int_not_equal(verdict.outcome, INTENT_DELIVERED);
    assert_true(strlen(verdict.text) > 10);
}

static void
test_same_network(void **state)
{
    (void)state;
    assert_delivered(PORT_A, "10.0.0.11", TCP, 5432, PORT_B, "h2");
    assert_delivered(PORT_A, "10.0.0.11", TCP, 5433, PORT_B, "h2");
    assert_not(PORT_A, "10.0.0.11", TCP, 5431, "INGRESS_DENIED");
    assert_not(PORT_A, "10.0.0.11", TCP, 5434, "INGRESS_DENIED");
    assert_delivered(PORT_A, "fd00:1::b", TCP, 5432, PORT_B, "h2");
    assert_delivered(PORT_A, "fd00:1::b", 58, 0, PORT_B, "h2");
    /* Not in web; in no group. */
    assert_not(PORT_D, "10.0.0.11", TCP, 5432, "INGRESS_DENIED");
    assert_delivered(PORT_D, "10.0.0.11", ICMP, 0, PORT_B, "h2");
    /* Default deny in. */
    assert_not(PORT_B, "10.0.0.13", ICMP, 0, "INGRESS_DENIED");
    assert_not(PORT_A, "10.0.0.99", ICMP, 0, "NO_SUCH_ADDRESS");
    assert_not(PORT_A, "10.0.0.10", ICMP, 0, "OWN_ADDRESS");
    assert_not(PORT_D, "fd00:1::b", ICMP, 0, "NO_SOURCE_ADDRESS");
}

static void
test_routed(void **state)
{
    (void)state;
    struct intent_verdict verdict = decide(PORT_A, "10.0.1.12", TCP, 5432);
    char mac[MAC_TEXT_SIZE];

    assert_string_equal(verdict.reason, "DELIVERED");
    mac_format(&verdict.mac_dst, mac);
    assert_string_equal(mac, "0a:00:00:00:01:01"); /* The router's. */
    verdict = decide(PORT_A, "10.0.0.11", TCP, 5432);
    mac_format(&verdict.mac_dst, mac);
    assert_string_equal(mac, "0a:00:00:00:00:0b");
    assert_not(PORT_A, "10.0.1.99", ICMP, 0, "NO_SUCH_ADDRESS");
    assert_not(PORT_A, "192.0.2.1", ICMP, 0, "NO_ROUTE");
    assert_not(PORT_A, "10.0.9.14", ICMP, 0, "NO_ROUTE");
    assert_not(PORT_E, "10.0.0.10", ICMP, 0, "NO_ROUTER");
    assert_not(PORT_A, "10.0.0.1", ICMP, 0, "ROUTER");
    assert_not(PORT_A, "10.0.1.1", ICMP, 0, "ROUTER");
    assert_int_equal(decide(PORT_A, "10.0.1.1", ICMP, 0).outcome,
                     INTENT_ANSWERED);
}

/* Egress is free until one of the port's groups says otherwise. */
static void
test_egress(void **state)
{
    (void)state;
    assert_delivered(PORT_A, "10.0.1.12", ICMP, 0, PORT_C, "h3");
    add_rule(&(const struct state_security_rule){
        .group = ID(WEB),
        .direction = STATE_SECURITY_RULE_DIRECTION_OUT,
        .family = STATE_SECURITY_RULE_FAMILY_IPV4,
        .protocol = RULE_ANY,
        .port_last = 65535,
        .icmp_type = RULE_ANY,
        .icmp_code = RULE_ANY,
        .cidr = "10.0.0.0/24",
    });
    assert_not(PORT_A, "10.0.1.12", ICMP, 0, "EGRESS_DENIED");
    assert_delivered(PORT_A, "10.0.0.11", ICMP, 0, PORT_B, "h2");
    assert_not(PORT_A, "fd00:1::b", 58, 0, "EGRESS_DENIED");
    assert_delivered(PORT_D, "10.0.1.12", ICMP, 0, PORT_C, "h3");
    /* To a group. */
    add_rule(&(const struct state_security_rule){
        .group = ID(WEB),
        .direction = STATE_SECURITY_RULE_DIRECTION_OUT,
        .family = STATE_SECURITY_RULE_FAMILY_ANY,
        .protocol = TCP,
        .port_last = 65535,
        .icmp_type = RULE_ANY,
        .icmp_code = RULE_ANY,
        .cidr = "",
        .peer_group = ID(DB),
    });
    assert_delivered(PORT_A, "10.0.1.12", TCP, 5432, PORT_C, "h3");
    assert_delivered(PORT_A, "fd00:1::b", TCP, 5432, PORT_B, "h2");
}

static void
test_places(void **state)
{
    (void)state;
    ports[1].enabled = false;
    assert_not(PORT_A, "10.0.0.11", ICMP, 0, "TARGET_DISABLED");
    assert_not(PORT_B, "10.0.1.12", ICMP, 0, "PORT_DISABLED");
    ports[1].enabled = true;
    statuses[1].state = STATE_PORT_STATUS_STATE_BOUND;
    assert_not(PORT_A, "10.0.0.11", ICMP, 0, "TARGET_NOT_UP");
    assert_not(PORT_B, "10.0.1.12", ICMP, 0, "PORT_NOT_UP");
}

/* A type, a code, and what belongs to another family. */
static void
test_icmp_rule(void **state)
{
    (void)state;
    rules[1].icmp_type = 8;
    assert_delivered(PORT_D, "10.0.0.11", ICMP, 0, PORT_B, "h2");
    assert_not(PORT_A, "fd00:1::b", 58, 0, "INGRESS_DENIED"); /* 128 */
    rules[1].icmp_code = 1;
    assert_not(PORT_D, "10.0.0.11", ICMP, 0, "INGRESS_DENIED");
    rules[1].icmp_type = RULE_ANY;
    rules[1].icmp_code = RULE_ANY;
    rules[1].family = STATE_SECURITY_RULE_FAMILY_IPV6;
    assert_not(PORT_D, "10.0.0.11", ICMP, 0, "INGRESS_DENIED");
    assert_delivered(PORT_A, "fd00:1::b", 58, 0, PORT_B, "h2");
    rules[1].family = STATE_SECURITY_RULE_FAMILY_IPV4;
    rules[1].cidr = "10.0.0.12/31"; /* .12 and .13 */
    assert_delivered(PORT_D, "10.0.0.11", ICMP, 0, PORT_B, "h2");
    assert_not(PORT_A, "10.0.0.11", ICMP, 0, "INGRESS_DENIED");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_same_network, setup),
        cmocka_unit_test_setup(test_routed, setup),
        cmocka_unit_test_setup(test_egress, setup),
        cmocka_unit_test_setup(test_places, setup),
        cmocka_unit_test_setup(test_icmp_rule, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
