/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_FLOW_METER_H
#define NETD_FLOW_METER_H

/* The meters that desired flows use, and those that the switch has.  Their
 * rates follow from their numbers (compile/pipeline.h), so that counting uses
 * is all there is to say about them.
 *
 * Thread: the loop's. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/list.h"
#include "netd/compile/flow_spec.h"

/* Foreign: libopenvswitch. */
#include <openvswitch/hmap.h>

struct ofpbuf;
struct ofputil_meter_config;

enum meter_state {
    METER_ABSENT = 0,
    METER_WRONG, /* The switch has one with other rates. */
    METER_INSTALLED,
};

struct meter {
    struct hmap_node id_node;
    struct list node; /* On 'changed' while want and state differ. */
    uint32_t id;
    uint32_t uses;
    enum meter_state state;
    bool is_dumped;
};

struct meter_table {
    struct hmap meters;
    struct list changed;
};

void meter_table_init(struct meter_table *table);
void meter_table_done(struct meter_table *table);

/* Counts the meters that the actions of 'spec' use; NULL uses none. */
void meter_table_use(struct meter_table *table, const struct flow_spec *spec);
void meter_table_unuse(struct meter_table *table, const struct flow_spec *spec);

/* The connection is lost: nobody knows what the switch has. */
void meter_table_forget(struct meter_table *table);

/* The next meter that must be added or changed, or NULL; it counts as installed
 * from here on.  '*ret_message' is the meter_mod. */
struct meter *meter_table_next_put(struct meter_table *table,
                                   struct ofpbuf **ret_message);
/* The next meter that nobody wants any more; it is forgotten. */
bool meter_table_next_delete(struct meter_table *table,
                             struct ofpbuf **ret_message);
bool meter_table_has_puts(const struct meter_table *table);

/* A dump: begin, then each meter, then end, which returns how many meters were
 * not what they were thought to be. */
void meter_table_begin_dump(struct meter_table *table);
size_t meter_table_dumped(struct meter_table *table,
                          const struct ofputil_meter_config *config);
size_t meter_table_end_dump(struct meter_table *table);

#endif /* NETD_FLOW_METER_H */
