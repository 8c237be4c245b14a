/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <errno.h>

#include "lib/base/rng.h"
#include "netd/compile/pipeline.h"
#include "netd/flow/encode.h"
#include "netd/flow/flow.h"
#include "tests/support/flow_random.h"

/* Foreign: libopenvswitch. */
#include <config.h>
#include <openvswitch/ofp-errors.h>
#include <openvswitch/ofp-flow.h>
#include <openvswitch/ofp-match.h>
#include <openvswitch/ofp-msgs.h>
#include <openvswitch/ofp-util.h>
#include <openvswitch/ofpbuf.h>
#include <openvswitch/vlog.h>
#include <tun-metadata.h>
#include <vl-mff-map.h>

/* N8: a desired flow has the code of what the switch dumps once it has it.  The
 * switch is played by what ofproto.c calls, with its own table of options. */

#define PROTOCOL OFPUTIL_P_OF15_OXM

struct fake_switch {
    struct tun_table *options;
    struct vl_mff_map fields;
};

static struct fake_switch fake;

static int
set_up(void **state)
{
    struct ofputil_tlv_table_mod mod = { .command = NXTTMC_ADD };
    struct ofputil_tlv_map maps[2] = {
        { .option_class = TLV_CLASS,
          .option_type = TLV_TYPE_IDENTITY,
          .option_len = 4,
          .index = 0 },
        { .option_class = TLV_CLASS,
          .option_type = TLV_TYPE_TRACE,
          .option_len = 4,
          .index = 1 },
    };
    struct tun_table *empty = tun_metadata_alloc(NULL);

    (void)state;
    vlog_set_levels(NULL, VLF_ANY_DESTINATION, VLL_OFF);
    ovs_list_init(&mod.mappings);
    ovs_list_push_back(&mod.mappings, &maps[0].list_node);
    ovs_list_push_back(&mod.mappings, &maps[1].list_node);
    assert_int_equal(tun_metadata_table_mod(&mod, empty, &fake.options), 0);
    tun_metadata_free(empty);
    cmap_init(&fake.fields.cmap);
    ovs_mutex_init(&fake.fields.mutex);
    ovs_mutex_lock(&fake.fields.mutex);
    assert_int_equal(mf_vl_mff_map_mod_from_tun_metadata(&fake.fields, &mod),
                     0);
    ovs_mutex_unlock(&fake.fields.mutex);
    return 0;
}

/* Sends the flow_mod to the switch, and dumps what it took. */
static void
reflect(struct ofpbuf *message, struct flow_code *ret_code,
        struct ofpbuf **ret_delete)
{
    struct ofpbuf actions, dumped_actions;
    struct ofputil_flow_mod mod;
    struct ovs_list replies;
    struct ofputil_flow_stats_request request = {
        .out_port = OFPP_ANY,
        .out_group = OFPG_ANY,
        .table_id = OFPTT_ALL,
    };

    ofpbuf_init(&actions, 64);
    enum ofperr error =
        ofputil_decode_flow_mod(&mod, message->data, PROTOCOL, fake.options,
                                &fake.fields, &actions, OFPP_MAX, 254);
    if (error != 0) {
        fail_msg("%s", ofperr_get_name(error));
    }

    struct ofputil_flow_stats stats = {
        .cookie = mod.new_cookie,
        .table_id = mod.table_id,
        .priority = (uint16_t)mod.priority,
        .flags = mod.flags,
        .ofpacts = mod.ofpacts,
        .ofpacts_len = mod.ofpacts_len,
        .packet_count = 7,
        .idle_age = 3,
    };
    minimatch_expand(&mod.match, &stats.match);
    minimatch_destroy(&mod.match);

    match_init_catchall(&request.match);
    struct ofpbuf *ask = ofputil_encode_flow_stats_request(&request, PROTOCOL);
    ofpmp_init(&replies, ask->data);
    ofputil_append_flow_stats_reply(&stats, &replies, fake.options);
    struct ofpbuf *reply = ofpbuf_from_list(ovs_list_front(&replies));
    ofpmsg_update_length(reply);

    struct ofpbuf wire = ofpbuf_const_initializer(reply->data, reply->size);
    struct ofputil_flow_stats dumped;
    ofpbuf_init(&dumped_actions, 64);
    assert_int_equal(ofputil_decode_flow_stats_reply(&dumped, &wire, true,
                                                     &dumped_actions),
                     0);
    assert_int_equal(dumped.packet_count, 7);
    encode_stats(&dumped, ret_code);
    *ret_delete = encode_stats_delete(&dumped);
    ofpbuf_uninit(&dumped_actions);
    ofpbuf_uninit(&actions);
    ofpbuf_delete(ask);
    ofpbuf_list_delete(&replies);
}

static void
check_flow(struct flow_spec *spec)
{
    struct flow_code code, dumped, deleted;
    struct ofpbuf *message = NULL, *delete = NULL;
    const char *error = NULL;
    char text[2048];

    flow_spec_format(spec, text, sizeof text);
    if (encode_flow(spec, &code, &message, &error) != 0) {
        fail_msg("%s: %s", error, text);
    }
    reflect(message, &dumped, &delete);
    if (!flow_digest_equal(&code.key, &dumped.key)) {
        fail_msg("the key changed: %s", text);
    }
    if (!flow_digest_equal(&code.rest, &dumped.rest)) {
        fail_msg("the actions changed: %s", text);
    }
    ofpbuf_delete(message);

    /* Deleting it by what was dumped is deleting it by what was desired. */
    struct ofpbuf *ours = encode_delete(spec), *unused;
    reflect(delete, &deleted, &unused);
    ofpbuf_delete(unused);
    assert_true(flow_digest_equal(&deleted.key, &code.key));
    reflect(ours, &deleted, &unused);
    assert_true(flow_digest_equal(&deleted.key, &code.key));
    ofpbuf_delete(unused);
    ofpbuf_delete(ours);
    ofpbuf_delete(delete);
}

static void
test_random_flows(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 1);
    for (uint32_t i = 0; i < 5000; i++) {
        struct flow_spec *spec = flow_random(&rng, i);
        check_flow(spec);
        flow_spec_unref(spec);
    }
}

/* Each single difference makes another code. */
static void
test_differences(void **state)
{
    struct flow_builder b;
    struct flow_spec *specs[64];
    struct flow_code codes[64];
    size_t count = 0;
    const char *error;

    (void)state;
    for (uint32_t value = 0; value < 4; value++) {
        for (uint32_t shift = 0; shift < 4; shift++) {
            /* Options of which the leading bytes are zero. */
            flow_begin(&b, 1, 5);
            flow_match_u32(&b, FIELD_TUN_TLV0, value << 8 * shift);
            if (value == 0 && shift > 0) {
                b.priority = (uint16_t)(b.priority + shift);
            }
            specs[count++] = flow_finish(&b);
            flow_begin(&b, 1, 5);
            flow_match_u32_masked(&b, FIELD_TUN_TLV0, value << 8 * shift,
                                  0xffu << 8 * shift);
            flow_output(&b, 1);
            specs[count++] = flow_finish(&b);
        }
    }
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(encode_flow(specs[i], &codes[i], NULL, &error), 0);
        check_flow(specs[i]);
        for (size_t j = 0; j < i; j++) {
            assert_false(flow_digest_equal(&codes[i].key, &codes[j].key));
        }
    }
    for (size_t i = 0; i < count; i++) {
        flow_spec_unref(specs[i]);
    }
}

static void
refuse(struct flow_builder *builder)
{
    struct flow_spec *spec = flow_finish(builder);
    struct flow_code code;
    struct ofpbuf *message = NULL;
    const char *error = NULL;

    assert_int_equal(encode_flow(spec, &code, &message, &error), -EINVAL);
    assert_non_null(error);
    assert_null(message);
    flow_spec_unref(spec);
}

/* What has no prerequisites, or no place in a message, is refused here. */
static void
test_refusals(void **state)
{
    struct flow_builder b;

    (void)state;
    flow_begin(&b, 0, 1);
    flow_match_u32(&b, FIELD_TCP_DST, 80);
    refuse(&b);
    flow_begin(&b, 0, 1);
    flow_match_u32(&b, FIELD_ETH_TYPE, ETH_TYPE_IPV6);
    flow_match_u32(&b, FIELD_IPV4_SRC, 80);
    refuse(&b);
    flow_begin(&b, 0, 1);
    flow_dec_ttl(&b);
    refuse(&b);
    flow_begin(&b, 0, 1);
    flow_output(&b, 0xff05);
    refuse(&b);
    flow_begin(&b, 0, 1);
    flow_output(&b, 0x12345);
    refuse(&b);
    flow_begin(&b, 0, 1);
    flow_match_u32_masked(&b, FIELD_ETH_TYPE, 0x0800, 0xff00);
    refuse(&b);
    flow_begin(&b, 0, 1);
    flow_meter(&b, 0);
    refuse(&b);
}

/* More conjunctions than fit 64 KiB; libopenvswitch would abort. */
static void
test_too_long(void **state)
{
    struct flow_builder b;
    struct flow_spec *all = NULL;
    struct flow_code code;
    const char *error = NULL;

    (void)state;
    for (uint32_t i = 0; i < 20; i++) {
        flow_begin(&b, 13, 1);
        for (uint32_t j = 0; j < 250; j++) {
            flow_conjunction(&b, i * 1000 + j, 0, 2);
        }
        struct flow_spec *part = flow_finish(&b);
        struct flow_spec *sum =
            all == NULL ? flow_spec_ref(part) : flow_spec_merge(all, part);
        flow_spec_unref(part);
        flow_spec_unref(all);
        all = sum;
        int expected = (i + 1) * 250 * 16 <= 60000 ? 0 : -EINVAL;
        assert_int_equal(encode_flow(all, &code, NULL, &error), expected);
        if (expected == 0) {
            check_flow(all);
        }
    }
    flow_spec_unref(all);
}

/* N9: the cookie is a function of the key alone. */
static void
test_cookie(void **state)
{
    struct flow_spec *a = flow_plain(1, 5, 1), *b = flow_plain(1, 5, 2);
    struct flow_spec *c = flow_plain(1, 6, 1), *d = flow_plain(2, 5, 1);

    (void)state;
    assert_true(flow_cookie(a) == flow_cookie(b));
    assert_true(flow_cookie(a) != flow_cookie(c));
    assert_true(flow_cookie(a) != flow_cookie(d));
    assert_true(flow_cookie(a) != 0);
    flow_spec_unref(a);
    flow_spec_unref(b);
    flow_spec_unref(c);
    flow_spec_unref(d);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_flows), cmocka_unit_test(test_differences),
        cmocka_unit_test(test_refusals),     cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_cookie),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
