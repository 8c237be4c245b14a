/* SPDX-License-Identifier: Apache-2.0 */
/* netd/api/rule_text: rules as tenants write them. */
#include "tests/unit/unit.h"

#include <string.h>

#include "lib/base/array.h"
#include "netd/api/rule_text.h"

static const struct rule_wish nothing = {
    .protocol = "", .ports = "", .icmp = "", .cidr = ""
};

static void
assert_canonical(const struct rule_wish *wish, const char *expected)
{
    struct rule_spec spec;
    struct rule_error error = { "", "" };
    char text[RULE_CANONICAL_SIZE];

    if (!rule_parse(wish, &spec, &error)) {
        fail_msg("%s: %s: %s", expected, error.field, error.text);
    }
    rule_canonical(&spec, text);
    assert_string_equal(text, expected);
}

static void
assert_refused(const struct rule_wish *wish, const char *field)
{
    struct rule_spec spec;
    struct rule_error error = { "", "" };

    assert_false(rule_parse(wish, &spec, &error));
    assert_string_equal(error.field, field);
    assert_true(strlen(error.text) > 10);
}

/* Two ways to say one thing have one text. */
static void
test_canonical(void **state)
{
    (void)state;
    struct rule_wish wish = nothing;

    assert_canonical(&wish, "in any any from any");
    wish.protocol = "tcp";
    assert_canonical(&wish, "in any tcp 0-65535 from any");
    wish.ports = "0-65535";
    assert_canonical(&wish, "in any tcp 0-65535 from any");
    wish.ports = "22";
    wish.cidr = "0.0.0.0/0";
    assert_canonical(&wish, "in ipv4 tcp 22-22 from any");
    wish.cidr = "";
    wish.family = RULE_FAMILY_IPV4;
    assert_canonical(&wish, "in ipv4 tcp 22-22 from any");
    wish.family = RULE_FAMILY_ANY;
    wish.protocol = "6";
    wish.cidr = "FD00:0::/32";
    assert_canonical(&wish, "in ipv6 tcp 22-22 from fd00::/32");
    wish.is_out = true;
    wish.cidr = "10.0.0.7";
    assert_canonical(&wish, "out ipv4 tcp 22-22 to 10.0.0.7/32");
    wish = nothing;
    wish.protocol = "icmp";
    wish.icmp = "8";
    assert_canonical(&wish, "in any icmp 8 from any");
    wish.icmp = "3/4";
    assert_canonical(&wish, "in any icmp 3/4 from any");
    wish.protocol = "icmpv6";
    assert_canonical(&wish, "in ipv6 icmp 3/4 from any");
    wish = nothing;
    wish.protocol = "47";
    wish.has_peer = true;
    memset(wish.peer.bytes, 0xab, sizeof wish.peer.bytes);
    assert_canonical(&wish, "in any 47 from group "
                            "abababab-abab-abab-abab-abababababab");
}

static void
test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *protocol, *ports, *icmp, *cidr, *field;
        enum rule_family family;
        bool has_peer;
    } cases[] = {
        { "tpc", "", "", "", "protocol", 0, false },
        { "256", "", "", "", "protocol", 0, false },
        { "-1", "", "", "", "protocol", 0, false },
        { "", "22", "", "", "ports", 0, false },
        { "icmp", "22", "", "", "ports", 0, false },
        { "47", "22", "", "", "ports", 0, false },
        { "tcp", "x", "", "", "ports", 0, false },
        { "tcp", "65536", "", "", "ports", 0, false },
        { "tcp", "22-", "", "", "ports", 0, false },
        { "tcp", "-22", "", "", "ports", 0, false },
        { "tcp", "22-21", "", "", "ports", 0, false },
        { "tcp", "1-2-3", "", "", "ports", 0, false },
        { "tcp", "", "8", "", "icmp", 0, false },
        { "icmp", "", "256", "", "icmp", 0, false },
        { "icmp", "", "8/", "", "icmp", 0, false },
        { "", "", "", "10.0.0.0/33", "cidr", 0, false },
        { "", "", "", "10.0.0.1/24", "cidr", 0, false },
        { "", "", "", "here", "cidr", 0, false },
        { "", "", "", "10.0.0.0/24", "cidr", RULE_FAMILY_IPV6, false },
        { "", "", "", "fd00::/64", "cidr", RULE_FAMILY_IPV4, false },
        { "icmpv6", "", "", "10.0.0.0/24", "cidr", 0, false },
        { "icmpv6", "", "", "", "protocol", RULE_FAMILY_IPV4, false },
        { "", "", "", "10.0.0.0/24", "cidr", 0, true },
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct rule_wish wish = { .protocol = cases[i].protocol,
                                  .ports = cases[i].ports,
                                  .icmp = cases[i].icmp,
                                  .cidr = cases[i].cidr,
                                  .family = cases[i].family,
                                  .has_peer = cases[i].has_peer };
        assert_refused(&wish, cases[i].field);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
