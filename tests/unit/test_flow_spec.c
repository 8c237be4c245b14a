/* SPDX-License-Identifier: Apache-2.0 */

/* Flows as values: one canonical form (N8), merging of conjunctions (N9), and
 * text. */

#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/rng.h"
#include "lib/base/uuid.h"
#include "netd/compile/flow_spec.h"
#include "netd/compile/pipeline.h"

static void
assert_text(struct flow_builder *builder, const char *expected)
{
    char text[1024];
    struct flow_spec *spec = flow_finish(builder);
    flow_spec_format(spec, text, sizeof text);
    assert_string_equal(text, expected);
    flow_spec_unref(spec);
}

static void
test_text(void **state)
{
    (void)state;
    struct flow_builder b;
    struct ip_prefix net = { { .bytes = { 10, 1, 0, 0 } }, 16 };
    struct ip_prefix all = { { .is_ipv6 = true }, 0 };
    struct ip_address ip6 = { true, { 0xfd, 0, [15] = 1 } };
    struct mac_address mac = { { 2, 0, 0, 0, 0, 0xaf } };

    flow_begin(&b, TABLE_IN_SG, 100);
    assert_text(&b, "table=18,priority=100 actions=drop");

    flow_begin(&b, TABLE_CLASSIFY, 1);
    flow_match_u32(&b, FIELD_ETH_TYPE, ETH_TYPE_IPV4);
    flow_match_u64(&b, FIELD_METADATA, 7);
    flow_match_prefix(&b, FIELD_IPV4_SRC, &net);
    flow_match_u32_masked(&b, FIELD_REG0, 1, 3);
    flow_match_ct_state(&b, CT_STATE_TRK, CT_STATE_NEW);
    flow_match_mac(&b, FIELD_ETH_DST, &mac);
    flow_output_reg(&b, REG_OUT_PORT);
    assert_text(&b, "table=0,priority=1,metadata=7,reg0=0x1/0x3,ct_state=-new"
                    "+trk,eth_dst=02:00:00:00:00:af,eth_type=0x800,"
                    "nw_src=10.1.0.0/16 actions=output:reg4");

    /* What matches everything is left out. */
    flow_begin(&b, TABLE_CLASSIFY, 1);
    flow_match_prefix(&b, FIELD_IPV6_SRC, &all);
    flow_match_u32_masked(&b, FIELD_REG1, 0, 0);
    flow_match_ip(&b, FIELD_IPV6_DST, &ip6);
    flow_set_mac(&b, FIELD_ETH_SRC, &mac);
    flow_set_u32_masked(&b, REG_FLAGS, FLAG_ROUTED, FLAG_ROUTED);
    flow_move(&b, FIELD_TUN_TLV0, REG_SRC_IDENTITY, 24);
    flow_dec_ttl(&b);
    flow_meter(&b, 4097);
    flow_output(&b, 5);
    flow_output_in_port(&b);
    flow_resubmit(&b, TABLE_TUN_IN);
    assert_text(&b, "table=0,priority=1,ipv6_dst=fd00::1 actions="
                    "set_field:02:00:00:00:00:af->eth_src,"
                    "set_field:0x2/0x2->reg0,"
                    "move:tun_metadata0[0..23]->reg1[0..23],dec_ttl,meter:4097,"
                    "output:5,in_port,resubmit(,1)");

    flow_begin(&b, TABLE_EG_CT, 1);
    flow_match_u32(&b, FIELD_ETH_TYPE, ETH_TYPE_IPV4);
    flow_ct(&b, REG_SRC_ZONE, TABLE_EG_SG);
    flow_ct_commit(&b, REG_SRC_ZONE, CT_MARK_DENIED);
    flow_controller(&b, 9, PACKET_IN_RS, NULL);
    assert_text(
        &b, "table=12,priority=1,eth_type=0x800 actions=ct(zone=reg5,table=13),"
            "ct(commit,zone=reg5,exec(set_field:0x1->ct_mark)),"
            "controller(meter_id=9,kind=3,uuid="
            "00000000000000000000000000000000)");
}

/* Cut, and always a text. */
static void
test_text_is_cut(void **state)
{
    (void)state;
    struct flow_builder b;
    char text[64];

    flow_begin(&b, TABLE_IN_SG, 100);
    for (unsigned i = 0; i < 20; i++) {
        flow_resubmit(&b, TABLE_IN_COMMIT);
    }
    struct flow_spec *spec = flow_finish(&b);
    for (size_t size = 1; size < sizeof text; size++) {
        memset(text, 'x', sizeof text);
        flow_spec_format(spec, text, size);
        assert_int_equal(strlen(text), size - 1);
        assert_int_equal(text[size], 'x');
    }
    flow_spec_unref(spec);
}

/* The same matches in any order are the same flow, bit for bit. */
static void
test_canonical(void **state)
{
    (void)state;
    struct flow_builder a, b;
    struct rng rng;
    rng_init(&rng, 3);

    for (unsigned round = 0; round < 2000; round++) {
        uint32_t count = 1 + (uint32_t)rng_below(&rng, 8);
        uint32_t values[8];
        flow_begin(&a, TABLE_L2_CLASS, 9);
        flow_begin(&b, TABLE_L2_CLASS, 9);
        for (uint32_t i = 0; i < count; i++) {
            values[i] = (uint32_t)rng_u64(&rng);
            flow_match_u32_masked(&a, FIELD_REG0 + i, values[i], 0xff00ff);
        }
        for (uint32_t i = count; i-- > 0;) {
            /* Bits outside of the mask are of no concern. */
            flow_match_u32_masked(&b, FIELD_REG0 + i, values[i] ^ 0x55005500u,
                                  0xff00ff);
        }
        flow_output(&a, 1);
        flow_output(&b, 1);
        struct flow_spec *x = flow_finish(&a);
        struct flow_spec *y = flow_finish(&b);
        assert_true(flow_spec_same_key(x, y));
        assert_int_equal(x->hash, y->hash);
        assert_int_equal(flow_spec_compare(x, y), 0);
        flow_spec_unref(y);

        flow_begin(&b, TABLE_L2_CLASS, 9);
        for (uint32_t i = 0; i < count; i++) {
            flow_match_u32_masked(&b, FIELD_REG0 + i,
                                  values[i] ^ (i == count - 1), 0xff00ff);
        }
        y = flow_finish(&b);
        assert_false(flow_spec_same_key(x, y));
        assert_int_equal(flow_spec_compare(x, y) < 0,
                         flow_spec_compare(y, x) > 0);
        assert_false(flow_spec_same_actions(x, y));
        flow_spec_unref(x);
        flow_spec_unref(y);
    }
}

/* Order of actions counts, but for conjunctions. */
static void
test_conjunctions(void **state)
{
    (void)state;
    struct flow_builder b;

    flow_begin(&b, TABLE_IN_SG, 9);
    flow_conjunction(&b, 8, 1, 3);
    flow_conjunction(&b, 5, 0, 2);
    flow_conjunction(&b, 8, 1, 3);
    struct flow_spec *x = flow_finish(&b);
    assert_true(flow_spec_is_conjunctive(x));
    assert_int_equal(x->action_count, 2);

    flow_begin(&b, TABLE_IN_SG, 9);
    flow_conjunction(&b, 6, 0, 2);
    flow_conjunction(&b, 5, 0, 2);
    struct flow_spec *y = flow_finish(&b);

    struct flow_spec *merged = flow_spec_merge(x, y);
    struct flow_spec *other = flow_spec_merge(y, x);
    char text[256];
    flow_spec_format(merged, text, sizeof text);
    assert_string_equal(text, "table=18,priority=9 actions=conjunction(5,1/2),"
                              "conjunction(6,1/2),conjunction(8,2/3)");
    assert_int_equal(flow_spec_compare(merged, other), 0);
    flow_spec_unref(other);
    flow_spec_unref(merged);
    flow_spec_unref(x);
    flow_spec_unref(y);

    flow_begin(&b, TABLE_IN_SG, 9);
    x = flow_finish(&b);
    assert_false(flow_spec_is_conjunctive(x)); /* A drop. */
    assert_ptr_equal(flow_spec_ref(x), x);
    flow_spec_unref(x);
    flow_spec_unref(x);
    flow_spec_unref(NULL);
}

/* ---- Programmers' errors ---- */

static void
match_twice(void *argument)
{
    struct flow_builder b;
    (void)argument;
    flow_begin(&b, 0, 0);
    flow_match_u32(&b, FIELD_REG0, 1);
    flow_match_u32(&b, FIELD_REG0, 1);
}

static void
go_back(void *argument)
{
    struct flow_builder b;
    (void)argument;
    flow_begin(&b, TABLE_IN_SG, 0);
    flow_resubmit(&b, TABLE_IN_SG);
}

static void
mix_conjunction(void *argument)
{
    struct flow_builder b;
    (void)argument;
    flow_begin(&b, TABLE_IN_SG, 0);
    flow_conjunction(&b, 1, 0, 2);
    flow_output(&b, 1);
    flow_finish(&b);
}

static void
too_wide(void *argument)
{
    struct flow_builder b;
    (void)argument;
    flow_begin(&b, TABLE_IN_SG, 0);
    flow_match_u32(&b, FIELD_ETH_TYPE, 0x10000);
}

static void
wrong_family(void *argument)
{
    struct flow_builder b;
    struct ip_address ip = { .is_ipv6 = true };
    (void)argument;
    flow_begin(&b, TABLE_IN_SG, 0);
    flow_match_ip(&b, FIELD_IPV4_SRC, &ip);
}

static void
one_clause(void *argument)
{
    struct flow_builder b;
    (void)argument;
    flow_begin(&b, TABLE_IN_SG, 0);
    flow_conjunction(&b, 1, 0, 1);
}

static void
test_errors(void **state)
{
    (void)state;
    assert_true(unit_aborts(match_twice, NULL));
    assert_true(unit_aborts(go_back, NULL));
    assert_true(unit_aborts(mix_conjunction, NULL));
    assert_true(unit_aborts(too_wide, NULL));
    assert_true(unit_aborts(wrong_family, NULL));
    assert_true(unit_aborts(one_clause, NULL));
}

static void
test_every_field_has_a_name(void **state)
{
    (void)state;
    for (unsigned field = 0; field < FIELD_COUNT; field++) {
        uint32_t size = flow_field_size((enum flow_field)field);
        assert_non_null(flow_field_name((enum flow_field)field));
        assert_true(size >= 1 && size <= 16);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_text_is_cut),
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_conjunctions),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_every_field_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
