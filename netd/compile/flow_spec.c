/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/compile/flow_spec.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/be.h"
#include "netd/compile/pipeline.h"

/* Every byte of a finished flow is decided: unused members are zero, values
 * are masked, matches are sorted by field, conjunctions by id.  So flows are
 * compared and hashed as bytes. */

static_assert(sizeof(struct flow_match_item) == 40, "no padding");
static_assert(sizeof(struct flow_action) == 48, "no padding");
static_assert(sizeof(struct flow_spec) == 16, "no padding");
static_assert(_Alignof(struct flow_action) <= 8, "actions follow matches");

/* ---- Building ---- */

void
flow_begin(struct flow_builder *builder, uint8_t table, uint16_t priority)
{
    CHECK(table < TABLE_COUNT);
    builder->table = table;
    builder->priority = priority;
    builder->match_count = 0;
    builder->action_count = 0;
}

static bool
is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Zero beyond 'size'; without a mask all of it counts. */
static void
put_masked(uint8_t ret_value[16], uint8_t ret_mask[16], uint32_t size,
           const void *value, const void *mask)
{
    memset(ret_value, 0, 16);
    memset(ret_mask, 0, 16);
    memcpy(ret_value, value, size);
    if (mask == NULL) {
        memset(ret_mask, 0xff, size);
        return;
    }
    memcpy(ret_mask, mask, size);
    for (uint32_t i = 0; i < size; i++) {
        ret_value[i] &= ret_mask[i];
    }
}

void
flow_match(struct flow_builder *builder, enum flow_field field,
           const void *value, const void *mask)
{
    uint32_t size = flow_field_size(field);

    if (mask != NULL && is_zero(mask, size)) {
        return;
    }
    for (size_t i = 0; i < builder->match_count; i++) {
        CHECK(builder->match[i].field != field);
    }
    CHECK(builder->match_count < FLOW_MATCH_MAX);

    struct flow_match_item *item = &builder->match[builder->match_count++];
    memset(item, 0, sizeof *item);
    item->field = (uint8_t)field;
    put_masked(item->value, item->mask, size, value, mask);
}

/* The last 'size' bytes of 'value', big-endian. */
static void
put_number(uint8_t *ret_bytes, uint32_t size, uint64_t value)
{
    struct be64 wire = be64_make(value);

    CHECK(size <= sizeof wire.bytes);
    CHECK(size == 8 || value >> (8 * size) == 0);
    memcpy(ret_bytes, wire.bytes + sizeof wire.bytes - size, size);
}

void
flow_match_u32(struct flow_builder *builder, enum flow_field field,
               uint32_t value)
{
    uint8_t bytes[8] = { 0 };
    CHECK(flow_field_size(field) <= 8);
    put_number(bytes, flow_field_size(field), value);
    flow_match(builder, field, bytes, NULL);
}

void
flow_match_u32_masked(struct flow_builder *builder, enum flow_field field,
                      uint32_t value, uint32_t mask)
{
    uint8_t bytes[8] = { 0 };
    uint8_t mask_bytes[8] = { 0 };
    CHECK(flow_field_size(field) <= 4);
    put_number(bytes, flow_field_size(field), value);
    put_number(mask_bytes, flow_field_size(field), mask);
    flow_match(builder, field, bytes, mask_bytes);
}

void
flow_match_u64(struct flow_builder *builder, enum flow_field field,
               uint64_t value)
{
    uint8_t bytes[8];
    CHECK(flow_field_size(field) == 8);
    put_number(bytes, 8, value);
    flow_match(builder, field, bytes, NULL);
}

void
flow_match_mac(struct flow_builder *builder, enum flow_field field,
               const struct mac_address *mac)
{
    CHECK(flow_field_size(field) == sizeof mac->bytes);
    flow_match(builder, field, mac->bytes, NULL);
}

static uint32_t
address_size(const struct ip_address *address)
{
    return address->is_ipv6 ? 16 : 4;
}

void
flow_match_prefix(struct flow_builder *builder, enum flow_field field,
                  const struct ip_prefix *prefix)
{
    uint32_t size = address_size(&prefix->address);
    uint8_t mask[16] = { 0 };

    CHECK(flow_field_size(field) == size);
    CHECK(prefix->length <= size * 8);
    for (uint32_t i = 0; i < prefix->length; i++) {
        mask[i / 8] = (uint8_t)(mask[i / 8] | 0x80u >> i % 8);
    }
    flow_match(builder, field, prefix->address.bytes, mask);
}

void
flow_match_ip(struct flow_builder *builder, enum flow_field field,
              const struct ip_address *address)
{
    CHECK(flow_field_size(field) == address_size(address));
    flow_match(builder, field, address->bytes, NULL);
}

void
flow_match_ct_state(struct flow_builder *builder, uint32_t set, uint32_t clear)
{
    CHECK((set & clear) == 0);
    flow_match_u32_masked(builder, FIELD_CT_STATE, set, set | clear);
}

/* ---- Actions ---- */

static struct flow_action *
add_action(struct flow_builder *builder, enum flow_action_kind kind)
{
    CHECK(builder->action_count < FLOW_ACTION_MAX);

    struct flow_action *action = &builder->actions[builder->action_count++];
    memset(action, 0, sizeof *action);
    action->kind = (uint8_t)kind;
    return action;
}

void
flow_set(struct flow_builder *builder, enum flow_field field, const void *value,
         const void *mask)
{
    struct flow_action *action = add_action(builder, ACTION_SET);
    action->field = (uint8_t)field;
    put_masked(action->value, action->mask, flow_field_size(field), value,
               mask);
}

void
flow_set_u32(struct flow_builder *builder, enum flow_field field,
             uint32_t value)
{
    uint8_t bytes[8] = { 0 };
    CHECK(flow_field_size(field) <= 8);
    put_number(bytes, flow_field_size(field), value);
    flow_set(builder, field, bytes, NULL);
}

void
flow_set_u32_masked(struct flow_builder *builder, enum flow_field field,
                    uint32_t value, uint32_t mask)
{
    uint8_t bytes[8] = { 0 };
    uint8_t mask_bytes[8] = { 0 };
    CHECK(flow_field_size(field) <= 4);
    put_number(bytes, flow_field_size(field), value);
    put_number(mask_bytes, flow_field_size(field), mask);
    flow_set(builder, field, bytes, mask_bytes);
}

void
flow_set_u64(struct flow_builder *builder, enum flow_field field,
             uint64_t value)
{
    uint8_t bytes[8];
    CHECK(flow_field_size(field) == 8);
    put_number(bytes, 8, value);
    flow_set(builder, field, bytes, NULL);
}

void
flow_set_mac(struct flow_builder *builder, enum flow_field field,
             const struct mac_address *mac)
{
    CHECK(flow_field_size(field) == sizeof mac->bytes);
    flow_set(builder, field, mac->bytes, NULL);
}

void
flow_set_ip(struct flow_builder *builder, enum flow_field field,
            const struct ip_address *address)
{
    CHECK(flow_field_size(field) == address_size(address));
    flow_set(builder, field, address->bytes, NULL);
}

void
flow_move(struct flow_builder *builder, enum flow_field from,
          enum flow_field to, uint16_t bits)
{
    struct flow_action *action = add_action(builder, ACTION_MOVE);
    CHECK(bits > 0);
    CHECK(bits <= flow_field_size(from) * 8);
    CHECK(bits <= flow_field_size(to) * 8);
    action->field = (uint8_t)from;
    action->field2 = (uint8_t)to;
    action->bits = bits;
}

void
flow_output(struct flow_builder *builder, uint32_t port)
{
    add_action(builder, ACTION_OUTPUT)->number = port;
}

void
flow_output_reg(struct flow_builder *builder, enum flow_field reg)
{
    CHECK(flow_field_size(reg) == 4);
    add_action(builder, ACTION_OUTPUT_REG)->field = (uint8_t)reg;
}

void
flow_output_in_port(struct flow_builder *builder)
{
    add_action(builder, ACTION_IN_PORT);
}

void
flow_resubmit(struct flow_builder *builder, uint8_t table)
{
    /* No packet goes in circles, see pipeline.h. */
    CHECK(table < TABLE_COUNT);
    CHECK(table > builder->table);
    add_action(builder, ACTION_RESUBMIT)->number = table;
}

void
flow_ct(struct flow_builder *builder, enum flow_field zone_reg, uint8_t table)
{
    struct flow_action *action = add_action(builder, ACTION_CT);
    CHECK(flow_field_size(zone_reg) == 4);
    CHECK(table < TABLE_COUNT);
    CHECK(table > builder->table);
    action->field = (uint8_t)zone_reg;
    action->number = table;
}

void
flow_ct_commit(struct flow_builder *builder, enum flow_field zone_reg,
               uint32_t mark)
{
    struct flow_action *action = add_action(builder, ACTION_CT);
    CHECK(flow_field_size(zone_reg) == 4);
    action->field = (uint8_t)zone_reg;
    action->number = FLOW_CT_NO_TABLE;
    action->flags = CT_ACTION_COMMIT;
    put_number(action->value, 4, mark);
    memset(action->mask, 0xff, 4);
}

void
flow_controller(struct flow_builder *builder, uint32_t meter,
                uint32_t packet_in_kind, const struct weft_uuid *uuid)
{
    struct flow_action *action = add_action(builder, ACTION_CONTROLLER);
    action->number = meter;
    put_number(action->data, 4, PACKET_IN_MAGIC);
    put_number(action->data + 4, 4, packet_in_kind);
    if (uuid != NULL) {
        memcpy(action->data + 8, uuid->bytes, sizeof uuid->bytes);
    }
}

void
flow_conjunction(struct flow_builder *builder, uint32_t id, uint8_t clause,
                 uint8_t clause_count)
{
    struct flow_action *action = add_action(builder, ACTION_CONJUNCTION);
    /* What OpenFlow can say (ovs-actions(7)). */
    CHECK(clause_count >= 2);
    CHECK(clause_count <= 64);
    CHECK(clause < clause_count);
    action->number = id;
    action->index = clause;
    action->count = clause_count;
}

void
flow_dec_ttl(struct flow_builder *builder)
{
    add_action(builder, ACTION_DEC_TTL);
}

void
flow_meter(struct flow_builder *builder, uint32_t meter)
{
    add_action(builder, ACTION_METER)->number = meter;
}

void
flow_check_pkt_larger(struct flow_builder *builder, uint16_t size_bytes,
                      enum flow_field reg, uint8_t bit)
{
    struct flow_action *action = add_action(builder, ACTION_CHECK_PKT_LARGER);
    CHECK(flow_field_size(reg) == 4);
    CHECK(bit < 32);
    action->number = size_bytes;
    action->field = (uint8_t)reg;
    action->index = bit;
}

/* ---- Finishing ---- */

static int
compare_items(const void *a, const void *b)
{
    const struct flow_match_item *x = a;
    const struct flow_match_item *y = b;
    return (x->field > y->field) - (x->field < y->field);
}

/* By id, then clause; the rest of a conjunction follows from these. */
static int
compare_conjunctions(const void *a, const void *b)
{
    const struct flow_action *x = a;
    const struct flow_action *y = b;
    if (x->number != y->number) {
        return x->number < y->number ? -1 : 1;
    }
    return (x->index > y->index) - (x->index < y->index);
}

/* Sorts, and leaves each once.  Returns how many are left. */
static uint16_t
sort_conjunctions(struct flow_action *actions, size_t count)
{
    size_t left = 0;

    qsort(actions, count, sizeof *actions, compare_conjunctions);
    for (size_t i = 0; i < count; i++) {
        if (left > 0 &&
            compare_conjunctions(&actions[left - 1], &actions[i]) == 0) {
            CHECK(actions[left - 1].count == actions[i].count);
            continue;
        }
        actions[left++] = actions[i];
    }
    return (uint16_t)left;
}

static uint32_t
hash_key(const struct flow_spec *spec)
{
    uint64_t hash = (uint64_t)spec->table << 32 | spec->priority;
    const unsigned char *at = (const unsigned char *)spec->match;

    for (size_t i = 0; i < spec->match_count * sizeof spec->match[0]; i += 8) {
        uint64_t word;
        memcpy(&word, at + i, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return (uint32_t)(hash ^ hash >> 29);
}

static size_t
match_bytes(const struct flow_spec *spec)
{
    return spec->match_count * sizeof spec->match[0];
}

static size_t
action_bytes(const struct flow_spec *spec)
{
    return spec->action_count * sizeof(struct flow_action);
}

static struct flow_spec *
make_spec(uint8_t table, uint16_t priority, const struct flow_match_item *match,
          uint16_t match_count, const struct flow_action *actions,
          uint16_t action_count)
{
    struct flow_spec *spec = malloc(sizeof *spec + match_count * sizeof *match +
                                    action_count * sizeof *actions);
    CHECK(spec != NULL);
    memset(spec, 0, sizeof *spec);
    spec->references = 1;
    spec->table = table;
    spec->priority = priority;
    spec->match_count = match_count;
    spec->action_count = action_count;
    if (match_count > 0) {
        memcpy(spec->match, match, match_bytes(spec));
    }
    if (action_count > 0) {
        memcpy(&spec->match[match_count], actions, action_bytes(spec));
    }
    spec->hash = hash_key(spec);
    return spec;
}

static bool
has_match(const struct flow_builder *builder, enum flow_field field)
{
    for (size_t i = 0; i < builder->match_count; i++) {
        if (builder->match[i].field == field) {
            return true;
        }
    }
    return false;
}

struct flow_spec *
flow_finish(struct flow_builder *builder)
{
    size_t conjunctions = 0;
    bool has_ct = false;

    qsort(builder->match, builder->match_count, sizeof builder->match[0],
          compare_items);
    for (size_t i = 0; i < builder->action_count; i++) {
        conjunctions += builder->actions[i].kind == ACTION_CONJUNCTION;
        has_ct = has_ct || builder->actions[i].kind == ACTION_CT;
    }
    CHECK(!has_ct || has_match(builder, FIELD_ETH_TYPE)); /* Or OVS refuses. */
    if (conjunctions > 0) {
        /* OVS: nothing else beside them. */
        CHECK(conjunctions == builder->action_count);
        builder->action_count =
            sort_conjunctions(builder->actions, conjunctions);
    }
    return make_spec(builder->table, builder->priority, builder->match,
                     builder->match_count, builder->actions,
                     builder->action_count);
}

struct flow_spec *
flow_spec_merge(const struct flow_spec *a, const struct flow_spec *b)
{
    size_t count = (size_t)a->action_count + b->action_count;
    struct flow_action *actions = calloc(count, sizeof *actions);

    CHECK(actions != NULL);
    CHECK(flow_spec_same_key(a, b));
    CHECK(flow_spec_is_conjunctive(a));
    CHECK(flow_spec_is_conjunctive(b));
    CHECK(count <= UINT16_MAX);
    memcpy(actions, flow_spec_actions(a), action_bytes(a));
    memcpy(actions + a->action_count, flow_spec_actions(b), action_bytes(b));

    uint16_t left = sort_conjunctions(actions, count);
    struct flow_spec *merged = make_spec(a->table, a->priority, a->match,
                                         a->match_count, actions, left);
    free(actions);
    return merged;
}

struct flow_spec *
flow_spec_ref(struct flow_spec *spec)
{
    CHECK(spec->references > 0);
    CHECK(spec->references < UINT32_MAX);
    spec->references++;
    return spec;
}

void
flow_spec_unref(struct flow_spec *spec)
{
    if (spec == NULL) {
        return;
    }
    CHECK(spec->references > 0);
    if (--spec->references == 0) {
        free(spec);
    }
}

/* ---- Comparing ---- */

static int
compare_keys(const struct flow_spec *a, const struct flow_spec *b)
{
    if (a->table != b->table) {
        return a->table < b->table ? -1 : 1;
    }
    if (a->priority != b->priority) {
        return a->priority > b->priority ? -1 : 1; /* As a switch looks. */
    }
    if (a->match_count != b->match_count) {
        return a->match_count < b->match_count ? -1 : 1;
    }
    return memcmp(a->match, b->match, match_bytes(a));
}

bool
flow_spec_same_key(const struct flow_spec *a, const struct flow_spec *b)
{
    return a->hash == b->hash && compare_keys(a, b) == 0;
}

bool
flow_spec_same_actions(const struct flow_spec *a, const struct flow_spec *b)
{
    return a->action_count == b->action_count &&
           memcmp(flow_spec_actions(a), flow_spec_actions(b),
                  action_bytes(a)) == 0;
}

int
flow_spec_compare(const struct flow_spec *a, const struct flow_spec *b)
{
    int order = compare_keys(a, b);
    if (order != 0) {
        return order;
    }
    if (a->action_count != b->action_count) {
        return a->action_count < b->action_count ? -1 : 1;
    }
    return memcmp(flow_spec_actions(a), flow_spec_actions(b), action_bytes(a));
}

bool
flow_spec_is_conjunctive(const struct flow_spec *spec)
{
    return spec->action_count > 0 &&
           flow_spec_actions(spec)[0].kind == ACTION_CONJUNCTION;
}
