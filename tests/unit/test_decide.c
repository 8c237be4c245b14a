/* SPDX-License-Identifier: Apache-2.0 */

/* What becomes of a port (N7, N13, N15, N23): netd/bind/decide.h. */

#include "tests/unit/unit.h"

#include <string.h>

#include "netd/bind/decide.h"

/* A port of this host with one interface that is open. */
static struct bind_facts
good(void)
{
    return (struct bind_facts){
        .is_complete = true,
        .has_row = true,
        .has_network = true,
        .place = BIND_PLACE_HERE,
        .is_enabled = true,
        .network_mtu = 1438,
        .underlay_mtu = 1500,
        .overhead = 62,
        .interface_count = 1,
        .has_ofport = true,
        .interface_error = "",
        .plug_error = "",
    };
}

static struct bind_decision
decide(struct bind_facts facts)
{
    struct bind_decision decision;

    bind_decide(&facts, &decision);
    return decision;
}

static void
test_bound(void **unused)
{
    struct bind_decision decision = decide(good());
    (void)unused;

    assert_int_equal(decision.verdict, BIND_SERVE);
    assert_int_equal(decision.state, STATE_PORT_STATUS_STATE_BOUND);
    assert_true(decision.is_local);
    assert_true(decision.has_binding);
    assert_false(decision.is_released);
    assert_string_equal(decision.error, "");
}

/* N15: flows before the tap; others are told when it is there. */
static void
test_scheduled(void **unused)
{
    struct bind_facts facts = good();
    (void)unused;

    facts.interface_count = 0;
    struct bind_decision decision = decide(facts);
    assert_int_equal(decision.state, STATE_PORT_STATUS_STATE_SCHEDULED);
    assert_true(decision.is_local);
    assert_false(decision.has_binding);
    assert_false(decision.is_released);
    facts.is_claimed = true;
    assert_true(decide(facts).is_released);
    /* The switch has it not open yet. */
    facts = good();
    facts.has_ofport = false;
    decision = decide(facts);
    assert_int_equal(decision.state, STATE_PORT_STATUS_STATE_SCHEDULED);
    assert_true(decision.is_local);
    assert_false(decision.has_binding);
    /* A port that netd plugs: others learn of it while the switch works. */
    facts.is_plugged = true;
    assert_true(decide(facts).has_binding);
    facts.interface_count = 0;
    assert_true(decide(facts).has_binding);
    facts.plug_error = "no";
    assert_false(decide(facts).has_binding);
}

/* N13 */
static void
test_claim(void **unused)
{
    struct bind_facts facts = good();
    (void)unused;

    facts.place = BIND_PLACE_NOWHERE;
    assert_int_equal(decide(facts).verdict, BIND_CLAIM);
    facts.interface_count = 2;
    assert_int_equal(decide(facts).verdict, BIND_IGNORE);
    facts.interface_count = 0;
    assert_int_equal(decide(facts).verdict, BIND_FORGET);
    facts = good();
    facts.place = BIND_PLACE_NOWHERE;
    facts.is_made = true; /* Unplugged, and not gone yet. */
    assert_int_equal(decide(facts).verdict, BIND_FORGET);
    facts.is_made = false;
    facts.is_enabled = false;
    assert_int_equal(decide(facts).verdict, BIND_IGNORE);
    facts.is_enabled = true;
    facts.network_mtu = 1439; /* N23 */
    assert_int_equal(decide(facts).verdict, BIND_IGNORE);
    facts.place = BIND_PLACE_ELSEWHERE;
    assert_int_equal(decide(facts).verdict, BIND_IGNORE);
    facts.interface_count = 0;
    assert_int_equal(decide(facts).verdict, BIND_FORGET);
}

static void
expect_down(struct bind_facts facts, const char *error)
{
    struct bind_decision decision = decide(facts);

    assert_int_equal(decision.verdict, BIND_SERVE);
    assert_int_equal(decision.state, STATE_PORT_STATUS_STATE_DOWN);
    assert_false(decision.is_local);
    assert_false(decision.has_binding);
    assert_non_null(strstr(decision.error, error));
}

static void
test_down(void **unused)
{
    struct bind_facts facts = good();
    (void)unused;

    facts.is_enabled = false;
    expect_down(facts, "disabled");
    facts = good();
    facts.network_mtu = 1439; /* N23: 1439 + 62 > 1500 */
    expect_down(facts, "1439");
    facts.underlay_mtu = 0; /* Not known is not judged. */
    assert_int_equal(decide(facts).state, STATE_PORT_STATUS_STATE_BOUND);
    facts = good();
    facts.interface_count = 2;
    expect_down(facts, "2 interfaces");
    facts = good();
    facts.interface_error = "could not open network device x";
    expect_down(facts, "could not open");
    facts = good();
    facts.interface_count = 0;
    facts.plug_error = "there is no network namespace x";
    expect_down(facts, "namespace");
}

/* N7: what is missing says nothing while the rows are not complete. */
static void
test_hold(void **unused)
{
    struct bind_facts facts = good();
    (void)unused;

    facts.has_row = false;
    assert_int_equal(decide(facts).verdict, BIND_IGNORE);
    facts.is_complete = false;
    assert_int_equal(decide(facts).verdict, BIND_HOLD);
    facts.interface_count = 0;
    assert_int_equal(decide(facts).verdict, BIND_HOLD);
    facts.is_complete = true;
    assert_int_equal(decide(facts).verdict, BIND_FORGET);
    facts = good();
    facts.has_network = false;
    assert_int_equal(decide(facts).verdict, BIND_HOLD);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bound), cmocka_unit_test(test_scheduled),
        cmocka_unit_test(test_claim), cmocka_unit_test(test_down),
        cmocka_unit_test(test_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
