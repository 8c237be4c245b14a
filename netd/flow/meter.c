/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/flow/meter.h"

#include <stdlib.h>

#include "lib/base/container_of.h"
#include "netd/compile/pipeline.h"

/* Foreign: libopenvswitch. */
#include <config.h>
#include <hash.h>
#include <openvswitch/ofp-meter.h>
#include <openvswitch/ofpbuf.h>

#define METER_FLAGS (OFPMF13_PKTPS | OFPMF13_BURST | OFPMF13_STATS)

static uint32_t
rate_of(uint32_t id)
{
    switch ((enum meter_class)(id % METER_CLASSES)) {
    case METER_DHCP:
        return METER_RATE_DHCP;
    case METER_ND:
        return METER_RATE_ND;
    case METER_ICMP:
        return METER_RATE_ICMP;
    case METER_FLOOD:
        return METER_RATE_FLOOD;
    case METER_CLASSES:
        break;
    }
    CHECK(false);
}

void
meter_table_init(struct meter_table *table)
{
    hmap_init(&table->meters);
    list_init(&table->changed);
}

void
meter_table_done(struct meter_table *table)
{
    struct meter *meter;

    HMAP_FOR_EACH_POP(meter, id_node, &table->meters)
    {
        free(meter);
    }
    hmap_destroy(&table->meters);
}

static struct meter *
find(const struct meter_table *table, uint32_t id)
{
    struct meter *meter;

    HMAP_FOR_EACH_WITH_HASH(meter, id_node, hash_int(id, 0), &table->meters)
    {
        if (meter->id == id) {
            return meter;
        }
    }
    return NULL;
}

static struct meter *
find_or_add(struct meter_table *table, uint32_t id)
{
    struct meter *meter = find(table, id);

    if (meter == NULL) {
        meter = calloc(1, sizeof *meter);
        CHECK(meter != NULL);
        meter->id = id;
        list_init(&meter->node);
        hmap_insert(&table->meters, &meter->id_node, hash_int(id, 0));
    }
    return meter;
}

/* Puts it on the list of changes, or takes it off, or forgets it. */
static void
settle(struct meter_table *table, struct meter *meter)
{
    bool is_wanted = meter->uses > 0;

    list_remove(&meter->node);
    if (!is_wanted && meter->state == METER_ABSENT) {
        hmap_remove(&table->meters, &meter->id_node);
        free(meter);
    } else if (!is_wanted || meter->state != METER_INSTALLED) {
        list_push_back(&table->changed, &meter->node);
    }
}

static void
count(struct meter_table *table, const struct flow_spec *spec, bool is_use)
{
    const struct flow_action *actions =
        spec == NULL ? NULL : flow_spec_actions(spec);

    for (size_t i = 0; spec != NULL && i < spec->action_count; i++) {
        bool is_metered = actions[i].kind == ACTION_CONTROLLER ||
                          actions[i].kind == ACTION_METER;
        if (!is_metered || actions[i].number == 0) {
            continue;
        }
        struct meter *meter = find_or_add(table, actions[i].number);
        CHECK(is_use || meter->uses > 0);
        meter->uses += is_use ? 1 : UINT32_MAX;
        settle(table, meter);
    }
}

void
meter_table_use(struct meter_table *table, const struct flow_spec *spec)
{
    count(table, spec, true);
}

void
meter_table_unuse(struct meter_table *table, const struct flow_spec *spec)
{
    count(table, spec, false);
}

void
meter_table_forget(struct meter_table *table)
{
    struct meter *meter, *next;

    HMAP_FOR_EACH_SAFE(meter, next, id_node, &table->meters)
    {
        meter->state = METER_ABSENT;
        settle(table, meter);
    }
}

static struct ofpbuf *
encode(uint32_t id, uint16_t command)
{
    struct ofputil_meter_band band = {
        .type = OFPMBT13_DROP,
        .rate = rate_of(id),
        .burst_size = rate_of(id),
    };
    struct ofputil_meter_mod mod = {
        .command = command,
        .meter = { .meter_id = id },
    };
    if (command != OFPMC13_DELETE) {
        mod.meter.flags = METER_FLAGS;
        mod.meter.n_bands = 1;
        mod.meter.bands = &band;
    }
    return ofputil_encode_meter_mod(OFP15_VERSION, &mod);
}

bool
meter_table_has_puts(const struct meter_table *table)
{
    LIST_FOREACH (node, &table->changed) {
        if (container_of(node, struct meter, node)->uses > 0) {
            return true;
        }
    }
    return false;
}

struct meter *
meter_table_next_put(struct meter_table *table, struct ofpbuf **ret_message)
{
    LIST_FOREACH (node, &table->changed) {
        struct meter *meter = container_of(node, struct meter, node);
        if (meter->uses > 0) {
            *ret_message = encode(meter->id, meter->state == METER_ABSENT
                                                 ? OFPMC13_ADD
                                                 : OFPMC13_MODIFY);
            meter->state = METER_INSTALLED;
            settle(table, meter);
            return meter;
        }
    }
    return NULL;
}

bool
meter_table_next_delete(struct meter_table *table, struct ofpbuf **ret_message)
{
    LIST_FOREACH (node, &table->changed) {
        struct meter *meter = container_of(node, struct meter, node);
        if (meter->uses == 0) {
            *ret_message = encode(meter->id, OFPMC13_DELETE);
            meter->state = METER_ABSENT;
            settle(table, meter);
            return true;
        }
    }
    return false;
}

void
meter_table_begin_dump(struct meter_table *table)
{
    struct meter *meter;

    HMAP_FOR_EACH(meter, id_node, &table->meters)
    {
        meter->is_dumped = false;
    }
}

size_t
meter_table_dumped(struct meter_table *table,
                   const struct ofputil_meter_config *config)
{
    /* Virtual meters are somebody else's. */
    if (config->meter_id == 0 || config->meter_id > OFPM13_MAX) {
        return 0;
    }

    struct meter *meter = find_or_add(table, config->meter_id);
    uint32_t rate = rate_of(meter->id);
    enum meter_state was = meter->state;
    bool is_right = config->flags == METER_FLAGS && config->n_bands == 1 &&
                    config->bands[0].type == OFPMBT13_DROP &&
                    config->bands[0].rate == rate &&
                    config->bands[0].burst_size == rate;

    meter->is_dumped = true;
    meter->state = is_right ? METER_INSTALLED : METER_WRONG;
    settle(table, meter);
    return was != meter->state;
}

size_t
meter_table_end_dump(struct meter_table *table)
{
    struct meter *meter, *next;
    size_t missing = 0;

    HMAP_FOR_EACH_SAFE(meter, next, id_node, &table->meters)
    {
        if (!meter->is_dumped && meter->state != METER_ABSENT) {
            missing++;
            meter->state = METER_ABSENT;
            settle(table, meter);
        }
    }
    return missing;
}
