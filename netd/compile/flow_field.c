/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/compile/flow_spec.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* The table of fields, and flows as text. */

enum field_style {
    STYLE_DECIMAL,
    STYLE_HEX,
    STYLE_MAC,
    STYLE_IPV4,
    STYLE_IPV6,
    STYLE_CT_STATE,
};

struct field {
    const char *name; /* As ovs-ofctl has it. */
    uint32_t size;
    enum field_style style;
};

static const struct field fields[FIELD_COUNT] = {
    [FIELD_IN_PORT] = { "in_port", 4, STYLE_DECIMAL },
    [FIELD_METADATA] = { "metadata", 8, STYLE_DECIMAL },
    [FIELD_REG0] = { "reg0", 4, STYLE_HEX },
    [FIELD_REG1] = { "reg1", 4, STYLE_DECIMAL },
    [FIELD_REG2] = { "reg2", 4, STYLE_DECIMAL },
    [FIELD_REG3] = { "reg3", 4, STYLE_DECIMAL },
    [FIELD_REG4] = { "reg4", 4, STYLE_DECIMAL },
    [FIELD_REG5] = { "reg5", 4, STYLE_DECIMAL },
    [FIELD_REG6] = { "reg6", 4, STYLE_DECIMAL },
    [FIELD_REG7] = { "reg7", 4, STYLE_HEX },
    [FIELD_REG8] = { "reg8", 4, STYLE_HEX },
    [FIELD_REG9] = { "reg9", 4, STYLE_DECIMAL },
    [FIELD_REG10] = { "reg10", 4, STYLE_DECIMAL },
    [FIELD_REG11] = { "reg11", 4, STYLE_DECIMAL },
    [FIELD_XXREG3] = { "xxreg3", 16, STYLE_HEX },
    [FIELD_TUN_ID] = { "tun_id", 8, STYLE_DECIMAL },
    [FIELD_TUN_SRC] = { "tun_src", 4, STYLE_IPV4 },
    [FIELD_TUN_DST] = { "tun_dst", 4, STYLE_IPV4 },
    [FIELD_TUN_TLV0] = { "tun_metadata0", 4, STYLE_HEX },
    [FIELD_CT_STATE] = { "ct_state", 4, STYLE_CT_STATE },
    [FIELD_CT_ZONE] = { "ct_zone", 2, STYLE_DECIMAL },
    [FIELD_CT_MARK] = { "ct_mark", 4, STYLE_HEX },
    [FIELD_CONJ_ID] = { "conj_id", 4, STYLE_DECIMAL },
    [FIELD_ETH_SRC] = { "eth_src", 6, STYLE_MAC },
    [FIELD_ETH_DST] = { "eth_dst", 6, STYLE_MAC },
    [FIELD_ETH_TYPE] = { "eth_type", 2, STYLE_HEX },
    [FIELD_VLAN_TCI] = { "vlan_tci", 2, STYLE_HEX },
    [FIELD_IP_PROTO] = { "nw_proto", 1, STYLE_DECIMAL },
    [FIELD_IP_TTL] = { "nw_ttl", 1, STYLE_DECIMAL },
    [FIELD_IP_FRAG] = { "ip_frag", 1, STYLE_HEX },
    [FIELD_IPV4_SRC] = { "nw_src", 4, STYLE_IPV4 },
    [FIELD_IPV4_DST] = { "nw_dst", 4, STYLE_IPV4 },
    [FIELD_IPV6_SRC] = { "ipv6_src", 16, STYLE_IPV6 },
    [FIELD_IPV6_DST] = { "ipv6_dst", 16, STYLE_IPV6 },
    [FIELD_TCP_SRC] = { "tcp_src", 2, STYLE_DECIMAL },
    [FIELD_TCP_DST] = { "tcp_dst", 2, STYLE_DECIMAL },
    [FIELD_UDP_SRC] = { "udp_src", 2, STYLE_DECIMAL },
    [FIELD_UDP_DST] = { "udp_dst", 2, STYLE_DECIMAL },
    [FIELD_SCTP_DST] = { "sctp_dst", 2, STYLE_DECIMAL },
    [FIELD_ICMPV4_TYPE] = { "icmp_type", 1, STYLE_DECIMAL },
    [FIELD_ICMPV4_CODE] = { "icmp_code", 1, STYLE_DECIMAL },
    [FIELD_ICMPV6_TYPE] = { "icmpv6_type", 1, STYLE_DECIMAL },
    [FIELD_ICMPV6_CODE] = { "icmpv6_code", 1, STYLE_DECIMAL },
    [FIELD_ARP_OP] = { "arp_op", 2, STYLE_DECIMAL },
    [FIELD_ARP_SPA] = { "arp_spa", 4, STYLE_IPV4 },
    [FIELD_ARP_TPA] = { "arp_tpa", 4, STYLE_IPV4 },
    [FIELD_ARP_SHA] = { "arp_sha", 6, STYLE_MAC },
    [FIELD_ARP_THA] = { "arp_tha", 6, STYLE_MAC },
    [FIELD_ND_TARGET] = { "nd_target", 16, STYLE_IPV6 },
    [FIELD_ND_SLL] = { "nd_sll", 6, STYLE_MAC },
    [FIELD_ND_TLL] = { "nd_tll", 6, STYLE_MAC },
};

static const struct field *
field_of(unsigned field)
{
    CHECK(field < FIELD_COUNT);
    return &fields[field];
}

uint32_t
flow_field_size(enum flow_field field)
{
    return field_of((unsigned)field)->size;
}

const char *
flow_field_name(enum flow_field field)
{
    return field_of((unsigned)field)->name;
}

/* ---- Text ---- */

struct text {
    char *at;
    size_t size;
    size_t used;
};

static void append(struct text *text, const char *format, ...)
    WEFT_PRINTF(2, 3);

static void
append(struct text *text, const char *format, ...)
{
    if (text->used + 1 >= text->size) {
        return;
    }

    va_list args;
    va_start(args, format);
    int count =
        vsnprintf(text->at + text->used, text->size - text->used, format, args);
    va_end(args);
    if (count > 0) {
        text->used += (size_t)count;
    }
}

static uint64_t
number_of(const uint8_t *bytes, uint32_t size)
{
    uint64_t number = 0;
    for (uint32_t i = 0; i < size; i++) {
        number = number << 8 | bytes[i];
    }
    return number;
}

static void
append_bytes(struct text *text, const struct field *field, const uint8_t *value)
{
    char address[INET6_ADDRSTRLEN];

    switch (field->style) {
    case STYLE_DECIMAL:
        append(text, "%" PRIu64, number_of(value, field->size));
        return;
    case STYLE_HEX:
        append(text, "0x");
        if (field->size > 8) {
            for (uint32_t i = 0; i < field->size; i++) {
                append(text, "%02x", value[i]);
            }
        } else {
            append(text, "%" PRIx64, number_of(value, field->size));
        }
        return;
    case STYLE_MAC:
        append(text, "%02x:%02x:%02x:%02x:%02x:%02x", value[0], value[1],
               value[2], value[3], value[4], value[5]);
        return;
    case STYLE_IPV4:
    case STYLE_IPV6:
        inet_ntop(field->style == STYLE_IPV4 ? AF_INET : AF_INET6, value,
                  address, sizeof address);
        append(text, "%s", address);
        return;
    case STYLE_CT_STATE:
        append(text, "0x%" PRIx64, number_of(value, field->size));
        return;
    }
    CHECK(false);
}

/* "24", or "" when the mask is no prefix. */
static bool
prefix_length(const uint8_t *mask, uint32_t size, uint32_t *ret_length)
{
    uint32_t length = 0;
    while (length < size * 8 && (mask[length / 8] << length % 8 & 0x80) != 0) {
        length++;
    }
    for (uint32_t i = length; i < size * 8; i++) {
        if ((mask[i / 8] << i % 8 & 0x80) != 0) {
            return false;
        }
    }
    *ret_length = length;
    return true;
}

static void
append_ct_state(struct text *text, const uint8_t *value, const uint8_t *mask)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } bits[] = {
        { CT_STATE_NEW, "new" }, { CT_STATE_EST, "est" },
        { CT_STATE_REL, "rel" }, { CT_STATE_RPL, "rpl" },
        { CT_STATE_INV, "inv" }, { CT_STATE_TRK, "trk" },
    };
    uint64_t set = number_of(value, 4);
    uint64_t known = number_of(mask, 4);

    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++) {
        if ((known & bits[i].bit) != 0) {
            append(text, "%c%s", (set & bits[i].bit) != 0 ? '+' : '-',
                   bits[i].name);
        }
    }
}

static void
append_masked(struct text *text, unsigned number, const uint8_t *value,
              const uint8_t *mask)
{
    const struct field *field = field_of(number);
    uint32_t length;

    if (field->style == STYLE_CT_STATE) {
        append_ct_state(text, value, mask);
        return;
    }

    append_bytes(text, field, value);
    if (!prefix_length(mask, field->size, &length)) {
        append(text, "/");
        append_bytes(text, field, mask);
    } else if (length == field->size * 8) {
        return;
    } else if (field->style == STYLE_IPV4 || field->style == STYLE_IPV6) {
        append(text, "/%" PRIu32, length);
    } else {
        append(text, "/0x");
        for (uint32_t i = 0; i < field->size; i++) {
            append(text, "%02x", mask[i]);
        }
    }
}

static void
append_ct(struct text *text, const struct flow_action *action)
{
    append(text, "ct(");
    if ((action->flags & CT_ACTION_COMMIT) != 0) {
        append(text, "commit,");
    }
    append(text, "zone=%s", flow_field_name(action->field));
    if (action->number != FLOW_CT_NO_TABLE) {
        append(text, ",table=%" PRIu32, action->number);
    }
    if ((action->flags & CT_ACTION_COMMIT) != 0) {
        append(text, ",exec(set_field:");
        append_masked(text, FIELD_CT_MARK, action->value, action->mask);
        append(text, "->ct_mark)");
    }
    append(text, ")");
}

static void
append_action(struct text *text, const struct flow_action *action)
{
    switch ((enum flow_action_kind)action->kind) {
    case ACTION_SET:
        append(text, "set_field:");
        append_masked(text, action->field, action->value, action->mask);
        append(text, "->%s", flow_field_name(action->field));
        return;
    case ACTION_MOVE:
        append(text, "move:%s[0..%u]->%s[0..%u]",
               flow_field_name(action->field), action->bits - 1u,
               flow_field_name(action->field2), action->bits - 1u);
        return;
    case ACTION_OUTPUT:
        append(text, "output:%" PRIu32, action->number);
        return;
    case ACTION_OUTPUT_REG:
        append(text, "output:%s", flow_field_name(action->field));
        return;
    case ACTION_IN_PORT:
        append(text, "in_port");
        return;
    case ACTION_RESUBMIT:
        append(text, "resubmit(,%" PRIu32 ")", action->number);
        return;
    case ACTION_CT:
        append_ct(text, action);
        return;
    case ACTION_CONTROLLER:
        append(text, "controller(meter_id=%" PRIu32 ",kind=%" PRIu32 ",uuid=",
               action->number, (uint32_t)number_of(action->data + 4, 4));
        for (size_t i = 8; i < 24; i++) {
            append(text, "%02x", action->data[i]);
        }
        append(text, ")");
        return;
    case ACTION_CONJUNCTION:
        append(text, "conjunction(%" PRIu32 ",%u/%u)", action->number,
               action->index + 1u, action->count);
        return;
    case ACTION_DEC_TTL:
        append(text, "dec_ttl");
        return;
    case ACTION_METER:
        append(text, "meter:%" PRIu32, action->number);
        return;
    case ACTION_CHECK_PKT_LARGER:
        append(text, "check_pkt_larger(%" PRIu32 ")->%s[%u]", action->number,
               flow_field_name(action->field), action->index);
        return;
    }
    append(text, "unknown(%u)", action->kind);
}

void
flow_spec_format(const struct flow_spec *spec, char *ret_text, size_t size)
{
    struct text text = { ret_text, size, 0 };
    const struct flow_action *actions = flow_spec_actions(spec);

    CHECK(size > 0);
    ret_text[0] = '\0';
    append(&text, "table=%u,priority=%u", spec->table, spec->priority);
    for (size_t i = 0; i < spec->match_count; i++) {
        const struct flow_match_item *item = &spec->match[i];
        append(&text, ",%s=", flow_field_name(item->field));
        append_masked(&text, item->field, item->value, item->mask);
    }
    append(&text, " actions=");
    for (size_t i = 0; i < spec->action_count; i++) {
        append(&text, "%s", i == 0 ? "" : ",");
        append_action(&text, &actions[i]);
    }
    if (spec->action_count == 0) {
        append(&text, "drop");
    }
}
