/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/bind/private.h"

/* Conntrack zones: one for each port that is here (N17). */

static bool
is_taken(const struct bind *bind, uint32_t zone)
{
    size_t count;
    const struct vswitch_zone *kept =
        vswitch_zones(bind->options.vswitch, &count);

    for (size_t i = 0; i < count; i++) {
        if (kept[i].zone == zone) {
            return true;
        }
    }
    for (size_t i = 0; i < bind->count; i++) {
        if (bind->ports[i]->zone == zone) {
            return true;
        }
    }
    return false;
}

/* 0: all are taken.  Goes round, so that a zone rests before its next use. */
static uint32_t
find_free(struct bind *bind)
{
    uint32_t first = bind->options.zone_first;
    uint32_t span = bind->options.zone_last - first + 1;

    for (uint32_t i = 0; i < span; i++) {
        uint32_t zone = first + (bind->zone_cursor + i) % span;
        if (!is_taken(bind, zone)) {
            bind->zone_cursor = zone - first + 1;
            return zone;
        }
    }
    return 0;
}

bool
bind_zone(struct bind *bind, struct bind_port *port)
{
    const struct vswitch_zone *kept =
        vswitch_find_zone(bind->options.vswitch, &port->uuid);

    if (port->zone_state == BIND_ZONE_NONE) {
        if (kept != NULL && kept->zone >= bind->options.zone_first &&
            kept->zone <= bind->options.zone_last) {
            port->zone = kept->zone; /* Its own, from before a restart. */
            port->zone_state = BIND_ZONE_CLEAN;
        } else if (vswitch_is_ready(bind->options.vswitch)) {
            port->zone = find_free(bind);
            port->zone_state =
                port->zone == 0 ? BIND_ZONE_NONE : BIND_ZONE_DIRTY;
        }
    }
    if (port->zone_state == BIND_ZONE_DIRTY) {
        port->zone_state = BIND_ZONE_FLUSHING;
        bind->options.listener->flush(bind->options.listener, port->zone);
    }
    return port->zone_state == BIND_ZONE_CLEAN && kept != NULL &&
           kept->zone == port->zone;
}

void
bind_zone_flushed(struct bind *bind, uint32_t zone)
{
    for (size_t i = 0; i < bind->count; i++) {
        struct bind_port *port = bind->ports[i];
        if (port->zone == zone && port->zone_state == BIND_ZONE_FLUSHING) {
            port->zone_state = BIND_ZONE_CLEAN;
        }
    }
    bind->options.listener->touch(bind->options.listener);
}
