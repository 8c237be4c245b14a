/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/flow/encode.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/be.h"
#include "netd/flow/flow.h"

/* Foreign: libopenvswitch. */
#include <byte-order.h>
#include <config.h>
#include <hash.h>
#include <openvswitch/match.h>
#include <openvswitch/meta-flow.h>
#include <openvswitch/ofp-actions.h>
#include <openvswitch/ofp-errors.h>
#include <openvswitch/ofp-flow.h>
#include <openvswitch/ofp-match.h>
#include <openvswitch/ofp-port.h>
#include <openvswitch/ofpbuf.h>

#define PROTOCOL OFPUTIL_P_OF15_OXM
#define OFP OFP15_VERSION

/* A bundle-add message is a little longer than the flow_mod that it carries;
 * libopenvswitch aborts above 64 KiB. */
#define ACTIONS_SIZE_MAX 60000u

#define TLV_SIZE 4u

#define TCI_NOT_PRIORITY 0x1fffu

/* Of a controller action: see compile/pipeline.h. */
#define USERDATA_SIZE 24u

static const enum mf_field_id field_ids[FIELD_COUNT] = {
    [FIELD_IN_PORT] = MFF_IN_PORT_OXM,
    [FIELD_METADATA] = MFF_METADATA,
    [FIELD_REG0] = MFF_REG0,
    [FIELD_REG1] = MFF_REG1,
    [FIELD_REG2] = MFF_REG2,
    [FIELD_REG3] = MFF_REG3,
    [FIELD_REG4] = MFF_REG4,
    [FIELD_REG5] = MFF_REG5,
    [FIELD_REG6] = MFF_REG6,
    [FIELD_REG7] = MFF_REG7,
    [FIELD_REG8] = MFF_REG8,
    [FIELD_REG9] = MFF_REG9,
    [FIELD_REG10] = MFF_REG10,
    [FIELD_REG11] = MFF_REG11,
    [FIELD_XXREG3] = MFF_XXREG3,
    [FIELD_TUN_ID] = MFF_TUN_ID,
    [FIELD_TUN_SRC] = MFF_TUN_SRC,
    [FIELD_TUN_DST] = MFF_TUN_DST,
    [FIELD_TUN_TLV0] = MFF_TUN_METADATA0,
    [FIELD_CT_STATE] = MFF_CT_STATE,
    [FIELD_CT_ZONE] = MFF_CT_ZONE,
    [FIELD_CT_MARK] = MFF_CT_MARK,
    [FIELD_CONJ_ID] = MFF_CONJ_ID,
    [FIELD_ETH_SRC] = MFF_ETH_SRC,
    [FIELD_ETH_DST] = MFF_ETH_DST,
    [FIELD_ETH_TYPE] = MFF_ETH_TYPE,
    [FIELD_VLAN_TCI] = MFF_VLAN_TCI,
    [FIELD_IP_PROTO] = MFF_IP_PROTO,
    [FIELD_IP_TTL] = MFF_IP_TTL,
    [FIELD_IP_FRAG] = MFF_IP_FRAG,
    [FIELD_IPV4_SRC] = MFF_IPV4_SRC,
    [FIELD_IPV4_DST] = MFF_IPV4_DST,
    [FIELD_IPV6_SRC] = MFF_IPV6_SRC,
    [FIELD_IPV6_DST] = MFF_IPV6_DST,
    [FIELD_TCP_SRC] = MFF_TCP_SRC,
    [FIELD_TCP_DST] = MFF_TCP_DST,
    [FIELD_UDP_SRC] = MFF_UDP_SRC,
    [FIELD_UDP_DST] = MFF_UDP_DST,
    [FIELD_SCTP_DST] = MFF_SCTP_DST,
    [FIELD_ICMPV4_TYPE] = MFF_ICMPV4_TYPE,
    [FIELD_ICMPV4_CODE] = MFF_ICMPV4_CODE,
    [FIELD_ICMPV6_TYPE] = MFF_ICMPV6_TYPE,
    [FIELD_ICMPV6_CODE] = MFF_ICMPV6_CODE,
    [FIELD_ARP_OP] = MFF_ARP_OP,
    [FIELD_ARP_SPA] = MFF_ARP_SPA,
    [FIELD_ARP_TPA] = MFF_ARP_TPA,
    [FIELD_ARP_SHA] = MFF_ARP_SHA,
    [FIELD_ARP_THA] = MFF_ARP_THA,
    [FIELD_ND_TARGET] = MFF_ND_TARGET,
    [FIELD_ND_SLL] = MFF_ND_SLL,
    [FIELD_ND_TLL] = MFF_ND_TLL,
};

static const struct mf_field *
field_of(unsigned field)
{
    CHECK(field < FIELD_COUNT);
    CHECK(field_ids[field] != MFF_DP_HASH); /* 0: not in the table. */
    return mf_from_id(field_ids[field]);
}

/* Bytes of a spec as libopenvswitch has them.  A tunnel option is as long as
 * the longest one there can be, and lies at its end. */
static void
put_value(unsigned field, const uint8_t *bytes, union mf_value *ret_value)
{
    uint32_t size = flow_field_size((enum flow_field)field);
    uint32_t offset = field_of(field)->n_bytes - size;

    CHECK(field == FIELD_TUN_TLV0 || offset == 0);
    memset(ret_value, 0, sizeof *ret_value);
    memcpy((uint8_t *)ret_value + offset, bytes, size);
}

uint64_t
flow_cookie(const struct flow_spec *spec)
{
    /* FNV-1a: the same on every host and after every restart. */
    const uint8_t *bytes = (const uint8_t *)spec->match;
    size_t size = spec->match_count * sizeof spec->match[0];
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    uint32_t head = (uint32_t)spec->table << 16 | spec->priority;

    for (size_t i = 0; i < sizeof head; i++) {
        hash = (hash ^ (head >> i * 8 & 0xff)) * UINT64_C(0x100000001b3);
    }
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    /* OpenFlow reserves all ones; 0 is what others' flows have. */
    return hash == UINT64_MAX || hash == 0 ? 1 : hash;
}

/* ---- Match ---- */

static int
put_match(const struct flow_spec *spec, struct match *match,
          const char **ret_error)
{
    match_init_catchall(match);
    for (size_t i = 0; i < spec->match_count; i++) {
        const struct flow_match_item *item = &spec->match[i];
        const struct mf_field *field = field_of(item->field);
        union mf_value value, mask;
        char *error = NULL;

        put_value(item->field, item->value, &value);
        put_value(item->field, item->mask, &mask);
        if (!mf_is_mask_valid(field, &mask)) {
            *ret_error = "a mask that the field cannot have";
            return -EINVAL;
        }
        if (!mf_is_value_valid(field, &value)) {
            *ret_error = "a value that the field cannot have";
            return -EINVAL;
        }
        mf_set(field, &value, &mask, match, &error);
        if (error != NULL) {
            free(error);
            *ret_error = "a match that OpenFlow cannot say";
            return -EINVAL;
        }
    }

    /* A field without its prerequisites would not be sent at all, and the flow
     * match more than it should. */
    for (size_t i = 0; i < spec->match_count; i++) {
        if (!mf_are_match_prereqs_ok(field_of(spec->match[i].field), match)) {
            *ret_error = "a match without its prerequisites";
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- Actions ---- */

static struct mf_subfield
bits_of(unsigned field, unsigned bits)
{
    struct mf_subfield subfield = {
        .field = field_of(field),
        .ofs = 0,
        .n_bits = bits,
    };
    return subfield;
}

static void
put_set(struct ofpbuf *actions, const struct flow_action *action)
{
    union mf_value value, mask;

    put_value(action->field, action->value, &value);
    put_value(action->field, action->mask, &mask);
    ofpact_put_set_field(actions, field_of(action->field), &value, &mask);
}

static void
put_ct(struct ofpbuf *actions, const struct flow_action *action)
{
    struct ofpact_conntrack *ct = ofpact_put_CT(actions);

    ct->zone_src = bits_of(action->field, 16);
    ct->recirc_table = (uint8_t)action->number;
    if ((action->flags & CT_ACTION_COMMIT) != 0) {
        ct->flags = NX_CT_F_COMMIT;

        /* Nested actions follow within the action; putting one moves the
         * buffer, and makes itself the head. */
        size_t offset = (size_t)((uint8_t *)ct - (uint8_t *)actions->data);
        struct flow_action set = *action;
        set.field = FIELD_CT_MARK;
        put_set(actions, &set);
        actions->header = (uint8_t *)actions->data + offset;
        ct = actions->header;
    }
    ofpact_finish_CT(actions, &ct);
}

static void
put_controller(struct ofpbuf *actions, const struct flow_action *action)
{
    struct ofpact_controller *controller = ofpact_put_CONTROLLER(actions);

    controller->max_len = UINT16_MAX;
    controller->reason = OFPR_ACTION;
    controller->meter_id = action->number;
    ofpbuf_put(actions, action->data, USERDATA_SIZE);
    controller = actions->header;
    controller->userdata_len = USERDATA_SIZE;
    ofpact_finish_CONTROLLER(actions, &controller);
}

static void
put_dec_ttl(struct ofpbuf *actions)
{
    uint16_t id = 0;

    ofpact_put_DEC_TTL(actions);
    ofpbuf_put(actions, &id, sizeof id);
    struct ofpact_cnt_ids *ids = actions->header;
    ids->n_controllers = 1;
    ofpact_finish_DEC_TTL(actions, &ids);
}

static void
put_conjunction(struct ofpbuf *actions, const struct flow_action *action)
{
    struct ofpact_conjunction *conjunction = ofpact_put_CONJUNCTION(actions);

    conjunction->id = action->number;
    conjunction->clause = action->index;
    conjunction->n_clauses = action->count;
}

static int
put_output(struct ofpbuf *actions, const struct flow_action *action,
           const char **ret_error)
{
    ofp_port_t port;

    if (ofputil_port_from_ofp11(htonl(action->number), &port) != 0) {
        *ret_error = "no such port number";
        return -EINVAL;
    }
    ofpact_put_OUTPUT(actions)->port = port;
    return 0;
}

static int
put_action(struct ofpbuf *actions, const struct flow_action *action,
           const char **ret_error)
{
    struct ofpact_output_reg *output;
    struct ofpact_resubmit *resubmit;
    struct ofpact_reg_move *move;
    struct ofpact_check_pkt_larger *larger;

    switch ((enum flow_action_kind)action->kind) {
    case ACTION_SET:
        put_set(actions, action);
        return 0;
    case ACTION_MOVE:
        move = ofpact_put_REG_MOVE(actions);
        move->src = bits_of(action->field, action->bits);
        move->dst = bits_of(action->field2, action->bits);
        return 0;
    case ACTION_OUTPUT:
        return put_output(actions, action, ret_error);
    case ACTION_OUTPUT_REG:
        output = ofpact_put_OUTPUT_REG(actions);
        output->src = bits_of(action->field, 32);
        output->max_len = UINT16_MAX;
        return 0;
    case ACTION_IN_PORT:
        ofpact_put_OUTPUT(actions)->port = OFPP_IN_PORT;
        return 0;
    case ACTION_RESUBMIT:
        resubmit = ofpact_put_RESUBMIT(actions);
        resubmit->in_port = OFPP_IN_PORT;
        resubmit->table_id = (uint8_t)action->number;
        return 0;
    case ACTION_CT:
        put_ct(actions, action);
        return 0;
    case ACTION_CONTROLLER:
        put_controller(actions, action);
        return 0;
    case ACTION_CONJUNCTION:
        put_conjunction(actions, action);
        return 0;
    case ACTION_DEC_TTL:
        put_dec_ttl(actions);
        return 0;
    case ACTION_METER:
        ofpact_put_METER(actions)->meter_id = action->number;
        return 0;
    case ACTION_CHECK_PKT_LARGER:
        larger = ofpact_put_CHECK_PKT_LARGER(actions);
        larger->pkt_len = (uint16_t)action->number;
        larger->dst = bits_of(action->field, 1);
        larger->dst.ofs = action->index;
        return 0;
    }
    *ret_error = "an unknown action";
    return -EINVAL;
}

static int
put_actions(const struct flow_spec *spec, struct ofpbuf *actions,
            const char **ret_error)
{
    const struct flow_action *action = flow_spec_actions(spec);

    for (size_t i = 0; i < spec->action_count; i++) {
        int result = put_action(actions, &action[i], ret_error);
        if (result < 0) {
            return result;
        }
    }

    struct ofpbuf wire;
    ofpbuf_init(&wire, 256);
    ofpacts_put_openflow_actions(actions->data, actions->size, &wire, OFP);
    bool is_too_long = wire.size > ACTIONS_SIZE_MAX;
    ofpbuf_uninit(&wire);
    if (is_too_long) {
        *ret_error = "more actions than fit a message";
        return -EINVAL;
    }
    return 0;
}

/* ---- Codes ---- */

static pthread_once_t seed_once = PTHREAD_ONCE_INIT;
static uint32_t seed;

static void
make_seed(void)
{
    CHECK(getrandom(&seed, sizeof seed, 0) == sizeof seed);
}

static void
digest(const struct ofpbuf *bytes, struct flow_digest *ret_digest)
{
    ovs_u128 hash;

    pthread_once(&seed_once, make_seed);
    hash_bytes128(bytes->data, bytes->size, seed, &hash);
    ret_digest->words[0] = hash.u64.hi;
    ret_digest->words[1] = hash.u64.lo;
}

/* Takes the tunnel options out of 'match' and puts them as bytes of our own:
 * without the switch's table of options their lengths on the wire, and whether
 * they are masked, depend on who encodes them. */
static void
take_options(struct match *match, struct ofpbuf *key)
{
    struct tun_metadata *value = &match->flow.tunnel.metadata;
    struct tun_metadata *mask = &match->wc.masks.tunnel.metadata;

    for (unsigned i = 0; i < TUN_METADATA_NUM_OPTS; i++) {
        if (!match->tun_md.valid || (mask->present.map >> i & 1) == 0) {
            continue;
        }
        const struct tun_metadata_loc *loc = &match->tun_md.entry[i].loc;
        size_t size = (size_t)loc->c.len, offset = (size_t)loc->c.offset;
        uint8_t bytes[2 * TUN_METADATA_TOT_OPT_SIZE + 3] = { (uint8_t)i };
        size_t padded = size < TLV_SIZE ? TLV_SIZE : size;

        CHECK(offset + size <= TUN_METADATA_TOT_OPT_SIZE);
        bytes[1] = value->present.map >> i & 1;
        bytes[2] = (uint8_t)padded;
        if (!match->tun_md.entry[i].masked) {
            memset(bytes + 3 + padded, 0xff, padded);
        }
        for (size_t j = 0; j < size; j++) {
            size_t at = 3 + padded - size + j;
            bytes[at] = value->opts.u8[offset + j];
            bytes[at + padded] = mask->opts.u8[offset + j];
        }
        ofpbuf_put(key, bytes, 3 + 2 * padded);
    }
    memset(value, 0, sizeof *value);
    memset(mask, 0, sizeof *mask);
    match->tun_md.valid = false;
}

/* What is hashed besides match and actions. */
struct key_head {
    uint8_t table;
    struct be16 priority;
};

struct rest_head {
    struct be64 cookie;
    struct be32 flags;
    struct be16 idle_timeout, hard_timeout, importance;
};

/* The same in actions. */
struct option_head {
    struct be16 index;
    uint8_t option;
    uint8_t value[TLV_SIZE];
    uint8_t mask[TLV_SIZE];
};

/* Makes every set_field of a tunnel option one of a register, and puts what it
 * was as bytes of our own. */
static void
take_option_sets(struct ofpbuf *actions, struct ofpbuf *rest)
{
    struct ofpact *action;
    uint16_t index = 0;

    OFPACT_FOR_EACH(action, (struct ofpact *)actions->data, actions->size)
    {
        struct ofpact_set_field *set = (struct ofpact_set_field *)action;
        index++;
        if (action->type != OFPACT_SET_FIELD ||
            !mf_is_tun_metadata(set->field)) {
            continue;
        }
        struct option_head head = {
            .index = be16_make(index),
            .option = (uint8_t)(set->field->id - MFF_TUN_METADATA0),
        };
        size_t offset = set->field->n_bytes - TLV_SIZE;
        memcpy(head.value, (const uint8_t *)set->value + offset, TLV_SIZE);
        memcpy(head.mask, (const uint8_t *)ofpact_set_field_mask(set) + offset,
               TLV_SIZE);
        ofpbuf_put(rest, &head, sizeof head);
        set->field = mf_from_id(MFF_REG0);
        memset(set->value, 0, 2 * OFPACT_ALIGNTO);
    }
}

struct parts {
    uint8_t table;
    uint16_t priority, idle_timeout, hard_timeout, importance;
    uint32_t flags;
    uint64_t cookie;
    const struct ofpact *actions;
    size_t actions_size;
};

/* Spoils 'match'. */
static void
make_code(struct match *match, const struct parts *parts,
          struct flow_code *ret_code)
{
    uint64_t stub[512 / 8];
    struct ofpbuf bytes;
    struct key_head key = { parts->table, be16_make(parts->priority) };
    struct rest_head rest = {
        .cookie = be64_make(parts->cookie),
        .flags = be32_make(parts->flags),
        .idle_timeout = be16_make(parts->idle_timeout),
        .hard_timeout = be16_make(parts->hard_timeout),
        .importance = be16_make(parts->importance),
    };

    ofpbuf_use_stub(&bytes, stub, sizeof stub);
    ofpbuf_put(&bytes, &key, sizeof key);
    take_options(match, &bytes);
    ofputil_put_ofp11_match(&bytes, match, PROTOCOL);
    digest(&bytes, &ret_code->key);

    ofpbuf_clear(&bytes);
    ofpbuf_put(&bytes, &rest, sizeof rest);
    struct ofpbuf *actions =
        ofpbuf_clone_data(parts->actions, parts->actions_size);
    take_option_sets(actions, &bytes);
    ofpacts_put_openflow_instructions(actions->data, actions->size, &bytes,
                                      OFP);
    ofpbuf_delete(actions);
    digest(&bytes, &ret_code->rest);
    ofpbuf_uninit(&bytes);
}

void
encode_stats(const struct ofputil_flow_stats *stats, struct flow_code *ret_code)
{
    struct match match = stats->match;
    struct parts parts = {
        .table = stats->table_id,
        .priority = stats->priority,
        .idle_timeout = stats->idle_timeout,
        .hard_timeout = stats->hard_timeout,
        .importance = stats->importance,
        .flags = (uint32_t)stats->flags,
        .cookie = ntohll(stats->cookie),
        .actions = stats->ofpacts,
        .actions_size = stats->ofpacts_len,
    };
    make_code(&match, &parts, ret_code);
}

/* Whether all of a match got through: libopenvswitch leaves out fields that it
 * thinks nobody can match on, such as the ports of a connection without its
 * protocol, and the flow would match more than it should. */
static bool
is_whole(const struct match *wanted, const struct match *got)
{
    struct match a = *wanted, b = *got;
    struct ofpbuf a_options, b_options;

    ofpbuf_init(&a_options, 0);
    ofpbuf_init(&b_options, 0);
    take_options(&a, &a_options);
    take_options(&b, &b_options);
    /* Decoders add what a field implies. */
    match_set_default_packet_type(&a);
    match_set_default_packet_type(&b);
    /* "Untagged" has no priority bits to match on. */
    if (a.wc.masks.vlans[0].tci == UINT16_MAX && a.flow.vlans[0].tci == 0) {
        a.wc.masks.vlans[0].tci &= htons(TCI_NOT_PRIORITY);
    }
    bool is_same = match_equal(&a, &b) && ofpbuf_equal(&a_options, &b_options);
    ofpbuf_uninit(&a_options);
    ofpbuf_uninit(&b_options);
    return is_same;
}

/* Reads a flow_mod as the switch will. */
static int
decode(const struct ofpbuf *message, const struct match *wanted,
       struct flow_code *ret_code, const char **ret_error)
{
    uint64_t stub[1024 / 8];
    struct ofpbuf actions;
    struct ofputil_flow_mod mod;
    struct match match;

    ofpbuf_use_stub(&actions, stub, sizeof stub);
    enum ofperr error =
        ofputil_decode_flow_mod(&mod, message->data, PROTOCOL, NULL, NULL,
                                &actions, OFPP_MAX, OFPTT_MAX);
    if (error != 0) {
        ofpbuf_uninit(&actions);
        *ret_error = ofperr_get_name(error);
        return -EINVAL;
    }

    struct parts parts = {
        .table = mod.table_id,
        .priority = (uint16_t)mod.priority,
        .idle_timeout = mod.idle_timeout,
        .hard_timeout = mod.hard_timeout,
        .importance = mod.importance,
        .flags = (uint32_t)mod.flags,
        .cookie = ntohll(mod.new_cookie),
        .actions = mod.ofpacts,
        .actions_size = mod.ofpacts_len,
    };
    minimatch_expand(&mod.match, &match);
    minimatch_destroy(&mod.match);
    int result = 0;
    if (is_whole(wanted, &match)) {
        make_code(&match, &parts, ret_code);
    } else {
        *ret_error = "a match that OpenFlow would send only in part";
        result = -EINVAL;
    }
    ofpbuf_uninit(&actions);
    return result;
}

/* ---- Messages ---- */

static struct ofpbuf *
make_mod(const struct match *match, uint16_t command, uint8_t table,
         uint16_t priority, uint64_t cookie, struct ofpbuf *actions)
{
    struct ofputil_flow_mod mod = {
        .priority = priority,
        .new_cookie = htonll(cookie),
        .table_id = table,
        .command = command,
        .buffer_id = UINT32_MAX,
        .out_port = OFPP_ANY,
        .out_group = OFPG_ANY,
        .ofpacts = actions == NULL ? NULL : actions->data,
        .ofpacts_len = actions == NULL ? 0 : actions->size,
    };
    minimatch_init(&mod.match, match);
    struct ofpbuf *message = ofputil_encode_flow_mod(&mod, PROTOCOL);
    minimatch_destroy(&mod.match);
    return message;
}

int
encode_flow(const struct flow_spec *spec, struct flow_code *ret_code,
            struct ofpbuf **ret_message, const char **ret_error)
{
    uint64_t stub[1024 / 8];
    struct ofpbuf actions;
    struct match match;

    ofpbuf_use_stub(&actions, stub, sizeof stub);
    int result = put_match(spec, &match, ret_error);
    if (result == 0) {
        result = put_actions(spec, &actions, ret_error);
    }
    if (result < 0) {
        ofpbuf_uninit(&actions);
        return result;
    }

    struct ofpbuf *message =
        make_mod(&match, OFPFC_ADD, spec->table, spec->priority,
                 flow_cookie(spec), &actions);
    ofpbuf_uninit(&actions);
    result = decode(message, &match, ret_code, ret_error);
    if (result == 0 && ret_message != NULL) {
        *ret_message = message;
    } else {
        ofpbuf_delete(message);
    }
    return result;
}

struct ofpbuf *
encode_delete(const struct flow_spec *spec)
{
    struct match match;
    const char *error;

    CHECK(put_match(spec, &match, &error) == 0);
    return make_mod(&match, OFPFC_DELETE_STRICT, spec->table, spec->priority, 0,
                    NULL);
}

struct ofpbuf *
encode_stats_delete(const struct ofputil_flow_stats *stats)
{
    return make_mod(&stats->match, OFPFC_DELETE_STRICT, stats->table_id,
                    stats->priority, 0, NULL);
}
