/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/bind/private.h"

#include <string.h>

/* Conntrack zones: one for each port that is here (N17).
 *
 * A few are emptied in advance.  That begins when the switch has confirmed a
 * version: until then there may be flows from before a restart that send to a
 * zone whose port is gone. */

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
    for (size_t i = 0; i < BIND_SPARES; i++) {
        if (bind->spares[i].zone == zone) {
            return true;
        }
    }
    return false;
}

/* Behind the highest that is in use: those above have rested longest. */
static void
start_cursor(struct bind *bind)
{
    uint32_t first = bind->options.zone_first, last = bind->options.zone_last;
    size_t count;
    const struct vswitch_zone *kept =
        vswitch_zones(bind->options.vswitch, &count);

    bind->has_zone_cursor = true;
    for (size_t i = 0; i < count; i++) {
        uint32_t zone = kept[i].zone;
        if (zone >= first && zone <= last &&
            zone - first + 1 > bind->zone_cursor) {
            bind->zone_cursor = zone - first + 1;
        }
    }
}

/* 0: all are taken.  Goes round, so that a zone rests before its next use. */
static uint32_t
find_free(struct bind *bind)
{
    uint32_t first = bind->options.zone_first;
    uint32_t span = bind->options.zone_last - first + 1;

    if (!bind->has_zone_cursor) {
        start_cursor(bind);
    }
    for (uint32_t i = 0; i < span; i++) {
        uint32_t zone = first + (bind->zone_cursor + i) % span;
        if (!is_taken(bind, zone)) {
            bind->zone_cursor = zone - first + 1;
            return zone;
        }
    }
    return 0;
}

void
bind_spare_zones(struct bind *bind)
{
    for (size_t i = 0; bind->confirmed > 0 && i < BIND_SPARES; i++) {
        if (bind->spares[i].zone == 0) {
            bind->spares[i].zone = find_free(bind);
            bind->spares[i].is_clean = false;
            if (bind->spares[i].zone == 0) {
                return; /* All are taken. */
            }
            bind->options.listener->flush(bind->options.listener,
                                          bind->spares[i].zone);
        }
    }
}

/* The first of them, if it is ready. */
static uint32_t
take_spare(struct bind *bind)
{
    uint32_t zone = bind->spares[0].zone;

    if (!bind->spares[0].is_clean) {
        return 0;
    }
    memmove(&bind->spares[0], &bind->spares[1],
            (BIND_SPARES - 1) * sizeof bind->spares[0]);
    bind->spares[BIND_SPARES - 1] = (struct bind_spare){ .zone = 0 };
    return zone;
}

/* A zone for a port that has none. */
static void
choose_zone(struct bind *bind, struct bind_port *port)
{
    port->zone = take_spare(bind);
    if (port->zone != 0) {
        port->zone_state = BIND_ZONE_CLEAN;
        return;
    }
    port->zone = find_free(bind);
    port->zone_state = port->zone == 0 ? BIND_ZONE_NONE : BIND_ZONE_DIRTY;
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
            choose_zone(bind, port);
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
    for (size_t i = 0; i < BIND_SPARES; i++) {
        if (bind->spares[i].zone == zone) {
            bind->spares[i].is_clean = true;
            return; /* Nobody waits for it. */
        }
    }
    bind->is_due = true;
    bind->options.listener->touch(bind->options.listener);
}
