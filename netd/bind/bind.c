/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/bind/bind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/units.h"
#include "netd/bind/private.h"

/* A step goes over all ports that concern this host: those with rows that say
 * so, with an interface here, or with a zone kept here.  For each it gathers
 * the facts, decides, and does what follows; what is already so costs
 * nothing. */

uint64_t
bind_wall_ms(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void
bind_retry(struct bind *bind, uint64_t deadline_ns)
{
    if (!list_is_linked(&bind->timer.node) ||
        deadline_ns < bind->timer.deadline_ns) {
        loop_timer_set(bind->options.loop, &bind->timer, deadline_ns);
    }
}

static void
bind_fire(struct loop_timer *timer)
{
    struct bind *bind = container_of(timer, struct bind, timer);

    bind->is_due = true;
    bind->options.listener->touch(bind->options.listener);
}

const struct state_port *
bind_port_row(const struct bind *bind, const struct weft_uuid *uuid)
{
    const struct state_row *row =
        cloud_row(bind->options.cloud, STATE_TABLE_PORT, uuid);

    return row == NULL ? NULL : state_port_from(row);
}

const struct state_network *
bind_network_row(const struct bind *bind, const struct state_port *port)
{
    const struct state_row *row =
        cloud_row(bind->options.cloud, STATE_TABLE_NETWORK, &port->network);

    return row == NULL ? NULL : state_network_from(row);
}

/* ---- Ports ---- */

static size_t
find_place(const struct bind *bind, const struct weft_uuid *uuid)
{
    size_t low = 0, high = bind->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (uuid_compare(&bind->ports[middle]->uuid, uuid) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct bind_port *
bind_find(const struct bind *bind, const struct weft_uuid *uuid)
{
    size_t place = find_place(bind, uuid);

    return place < bind->count && uuid_equal(&bind->ports[place]->uuid, uuid)
               ? bind->ports[place]
               : NULL;
}

/* What the database remembers of it from before a restart. */
static void
adopt_status(const struct bind *bind, struct bind_port *port)
{
    if (port->is_adopted) {
        return;
    }
    port->is_adopted = true;
    const struct state_row *row =
        cloud_row(bind->options.cloud, STATE_TABLE_PORT_STATUS, &port->status);
    if (row == NULL) {
        return;
    }
    const struct state_port_status *status = state_port_status_from(row);
    if (status->state == STATE_PORT_STATUS_STATE_UP) {
        port->is_up = true;
        port->bound_ns = loop_now_ns();
        port->bound_ms = status->bound_time_ms;
        port->up_ms = status->up_time_ms;
        port->bind_us = status->bind_us;
        port->flows_us = status->flows_us;
        (void)snprintf(port->device, sizeof port->device, "%s", status->device);
    }
}

static struct bind_port *
need_port(struct bind *bind, const struct weft_uuid *uuid)
{
    size_t place = find_place(bind, uuid);

    if (place < bind->count && uuid_equal(&bind->ports[place]->uuid, uuid)) {
        bind->ports[place]->is_seen = true;
        return bind->ports[place];
    }
    if (bind->count == bind->capacity) {
        bind->capacity = bind->capacity == 0 ? 32 : bind->capacity * 2;
        bind->ports =
            realloc(bind->ports, bind->capacity * sizeof bind->ports[0]);
        CHECK(bind->ports != NULL);
    }
    struct bind_port *port = calloc(1, sizeof *port);
    CHECK(port != NULL);
    port->uuid = *uuid;
    report_uuid(bind->options.report, STATE_TABLE_BINDING, uuid,
                &port->binding);
    report_uuid(bind->options.report, STATE_TABLE_PORT_STATUS, uuid,
                &port->status);
    port->is_seen = true;
    port->said = BIND_FORGET;
    memmove(&bind->ports[place + 1], &bind->ports[place],
            (bind->count - place) * sizeof bind->ports[0]);
    bind->ports[place] = port;
    bind->count++;
    return port;
}

const struct vswitch_interface *
bind_interfaces(const struct bind *bind, const struct weft_uuid *port,
                size_t *ret_count)
{
    size_t count, low = 0;
    const struct vswitch_interface *all =
        vswitch_interfaces(bind->options.vswitch, &count);
    size_t high = count, end;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (uuid_compare(&all[middle].port, port) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (end = low; end < count && uuid_equal(&all[end].port, port);) {
        end++;
    }
    *ret_count = end - low;
    return &all[low];
}

static void
collect(struct bind *bind)
{
    const struct uuid_set *rows = cloud_ports(bind->options.cloud);
    size_t count;

    for (size_t i = 0; i < bind->count; i++) {
        bind->ports[i]->is_seen = false;
    }
    for (size_t i = 0; i < rows->count; i++) {
        need_port(bind, &rows->items[i]);
    }
    const struct vswitch_interface *interfaces =
        vswitch_interfaces(bind->options.vswitch, &count);
    for (size_t i = 0; i < count; i++) {
        need_port(bind, &interfaces[i].port);
    }
    const struct vswitch_zone *zones =
        vswitch_zones(bind->options.vswitch, &count);
    for (size_t i = 0; i < count; i++) {
        struct bind_port *port = need_port(bind, &zones[i].port);
        if (port->zone_state == BIND_ZONE_NONE) {
            port->is_claimed = zones[i].is_claimed;
        }
    }
}

/* ---- Deciding ---- */

static bool
is_host_enabled(const struct bind *bind)
{
    for (const struct state_row *row = NULL;
         (row = cloud_next(bind->options.cloud, STATE_TABLE_NET_HOST, row)) !=
         NULL;) {
        const struct state_net_host *host = state_net_host_from(row);
        if (strcmp(host->host, bind->options.host) == 0) {
            return host->enabled;
        }
    }
    return true; /* Not registered yet. */
}

static void
decide(const struct bind *bind, struct bind_port *port)
{
    const struct state_port *row = bind_port_row(bind, &port->uuid);
    const struct state_network *network =
        row == NULL ? NULL : bind_network_row(bind, row);
    size_t count;
    const struct vswitch_interface *interfaces =
        bind_interfaces(bind, &port->uuid, &count);
    struct bind_facts facts = {
        .is_complete = cloud_is_complete(bind->options.cloud),
        .has_row = row != NULL,
        .has_network = network != NULL,
        .is_claimed = port->is_claimed,
        .is_plugged = port->plug.is_wanted && port->plug.is_made,
        .underlay_mtu = bind->underlay_mtu,
        .overhead = bind->options.overhead,
        .interface_count = (uint32_t)count,
        .is_made = count == 1 && interfaces[0].is_made,
        .interface_error = count == 1 ? interfaces[0].error : "",
        .plug_error = port->plug.is_wanted ? port->plug.error : "",
    };

    if (row != NULL) {
        facts.is_enabled = row->enabled;
        facts.place = row->host[0] == '\0' ? BIND_PLACE_NOWHERE
                      : strcmp(row->host, bind->options.host) == 0
                          ? BIND_PLACE_HERE
                          : BIND_PLACE_ELSEWHERE;
        if (facts.place == BIND_PLACE_NOWHERE && !is_host_enabled(bind)) {
            facts.place = BIND_PLACE_ELSEWHERE;
        }
    }
    if (network != NULL) {
        facts.network_mtu = network->mtu;
    }
    if (facts.place == BIND_PLACE_HERE) {
        adopt_status(bind, port);
    }
    /* A port that is bound stays so while the switch starts again. */
    facts.has_ofport =
        count == 1 && (interfaces[0].is_open ||
                       (interfaces[0].ofport != 0 && port->bound_ns != 0));
    bind_decide(&facts, &port->decision);
    if (port->decision.verdict == BIND_CLAIM) {
        port->is_claimed = true;
    }
}

static void
say(struct bind_port *port)
{
    char text[UUID_TEXT_SIZE];

    if (port->decision.verdict == port->said) {
        return;
    }
    port->said = port->decision.verdict;
    uuid_format(&port->uuid, text);
    if (port->said == BIND_IGNORE) {
        log_warning("bind",
                    "an interface here has the id of a port that is not to be "
                    "here, it gets no flows port=%s",
                    text);
    } else if (port->said == BIND_CLAIM) {
        log_info("bind", "claiming port=%s", text);
    }
}

/* ---- Doing ---- */

static void
drop_local(struct bind *bind, struct bind_port *port)
{
    if (port->has_local) {
        port->has_local = false;
        bind->options.listener->remove(bind->options.listener, &port->uuid);
    }
    port->is_up = false;
    port->is_refused = false;
    port->bound_ns = 0;
    port->version = 0;
}

static void
put_local(struct bind *bind, struct bind_port *port, uint32_t ofport)
{
    struct bind_local local = { .port = port->uuid,
                                .ofport = ofport,
                                .zone = port->zone };

    if (port->has_local && port->local.ofport == ofport &&
        port->local.zone == local.zone) {
        return;
    }
    if (port->has_local) {
        port->is_up = false; /* Not the first since the start: news. */
        port->bound_ns = 0;
    }
    port->has_local = true;
    port->local = local;
    port->version = 0;
    bind->options.listener->put(bind->options.listener, &local);
}

static void
note_bound(const struct bind *bind, struct bind_port *port,
           const struct vswitch_interface *interface)
{
    char text[UUID_TEXT_SIZE];
    uint64_t now_ns = loop_now_ns();
    bool is_same = strcmp(port->device, interface->name) == 0;

    if (port->bound_ns != 0 && is_same) {
        return;
    }
    port->bound_ns = now_ns;
    port->bound_ms = bind_wall_ms();
    port->up_ms = 0;
    port->is_up = false;
    port->flows_us = 0;
    port->bind_us = (now_ns - interface->seen_ns) / 1000;
    (void)snprintf(port->device, sizeof port->device, "%.15s", interface->name);
    if (!interface->is_made && interface->is_system) {
        /* A device that has gone already has no way in either. */
        (void)!link_shut(bind->options.link, port->device);
    }
    uuid_format(&port->uuid, text);
    log_info("bind", "bound port=%s device=%s ofport=%u zone=%u", text,
             port->device, port->local.ofport, port->zone);
}

/* Whether the switch has its flows by now.  true: that is news. */
static bool
note_up(const struct bind *bind, struct bind_port *port)
{
    char text[UUID_TEXT_SIZE];

    if (port->is_up || port->is_refused || port->bound_ns == 0 ||
        port->version == 0 || port->version > bind->confirmed ||
        port->decision.state != STATE_PORT_STATUS_STATE_BOUND) {
        return false;
    }
    port->is_up = true;
    port->up_ms = bind_wall_ms();
    port->flows_us = (loop_now_ns() - port->bound_ns) / 1000;
    uuid_format(&port->uuid, text);
    log_info("bind", "up port=%s bind_us=%llu flows_us=%llu", text,
             (unsigned long long)port->bind_us,
             (unsigned long long)port->flows_us);
    return true;
}

static void
report_binding(struct bind *bind, const struct bind_port *port, bool is_there)
{
    const struct state_port *row = bind_port_row(bind, &port->uuid);
    struct state_binding binding = {
        .row = { STATE_TABLE_BINDING, port->binding },
        .port = port->uuid,
        .host = bind->options.host,
    };

    if (!is_there || row == NULL) {
        report_remove(bind->options.report, STATE_TABLE_BINDING,
                      &binding.row.uuid);
        return;
    }
    binding.network = row->network;
    report_put(bind->options.report, &binding.row);
}

static enum state_port_status_state
shown_state(const struct bind_port *port)
{
    enum state_port_status_state state = port->decision.state;

    if (state != STATE_PORT_STATUS_STATE_BOUND) {
        return state;
    }
    return port->is_refused      ? STATE_PORT_STATUS_STATE_DOWN
           : port->is_up         ? STATE_PORT_STATUS_STATE_UP
           : port->bound_ns != 0 ? state
                                 : STATE_PORT_STATUS_STATE_SCHEDULED;
}

static void
report_status(struct bind *bind, const struct bind_port *port, bool is_there)
{
    struct state_port_status status = {
        .row = { STATE_TABLE_PORT_STATUS, port->status },
        .port = port->uuid,
        .host = bind->options.host,
        .state = shown_state(port),
        .error = port->is_refused && port->decision.error[0] == '\0'
                     ? "the switch refuses some of its flows; see netd's log"
                     : port->decision.error,
        .device = "",
    };

    if (!is_there) {
        report_remove(bind->options.report, STATE_TABLE_PORT_STATUS,
                      &status.row.uuid);
        return;
    }
    if (port->bound_ns != 0) {
        status.device = port->device;
        status.bound_time_ms = port->bound_ms;
        status.bind_us = port->bind_us;
        status.up_time_ms = port->is_up ? port->up_ms : 0;
        status.flows_us = port->is_up ? port->flows_us : 0;
    }
    report_put(bind->options.report, &status.row);
}

static void
serve(struct bind *bind, struct bind_port *port)
{
    const struct bind_decision *decision = &port->decision;
    size_t count;
    const struct vswitch_interface *interfaces =
        bind_interfaces(bind, &port->uuid, &count);

    if (!decision->is_local) {
        drop_local(bind, port);
    } else if (bind_zone(bind, port)) {
        bool is_bound = decision->state == STATE_PORT_STATUS_STATE_BOUND;
        put_local(bind, port, count == 1 ? interfaces[0].ofport : 0);
        if (is_bound) {
            note_bound(bind, port, &interfaces[0]);
            note_up(bind, port);
        }
    } else {
        bind->is_settled = false;
    }
    report_binding(bind, port, decision->has_binding && port->has_local);
    report_status(bind, port, true);
}

static void
forget(struct bind *bind, struct bind_port *port)
{
    drop_local(bind, port);
    report_binding(bind, port, false);
    report_status(bind, port, false);
    port->zone = 0; /* An answer to a flush that is under way finds nobody. */
    port->zone_state = BIND_ZONE_NONE;
}

static void
act(struct bind *bind, struct bind_port *port)
{
    switch (port->decision.verdict) {
    case BIND_HOLD:
        break;
    case BIND_FORGET:
        port->is_claimed = false;
        forget(bind, port);
        break;
    case BIND_IGNORE:
    case BIND_CLAIM:
        forget(bind, port);
        break;
    case BIND_SERVE:
        serve(bind, port);
        break;
    }
}

/* ---- Wishes ---- */

static void
wish(struct bind *bind)
{
    struct vswitch_wish *wishes = calloc(bind->count + 1, sizeof *wishes);
    size_t count = 0;

    CHECK(wishes != NULL);
    for (size_t i = 0; i < bind->count; i++) {
        const struct bind_port *port = bind->ports[i];
        /* A zone is kept once it is empty: a netd that starts again takes one
         * that is kept for its port's own, and does not flush it (N17). */
        struct vswitch_wish one = {
            .port = port->uuid,
            .zone = port->zone_state == BIND_ZONE_CLEAN ? port->zone : 0,
            .is_claimed = port->is_claimed,
        };
        const struct state_port *row = bind_port_row(bind, &port->uuid);
        const struct state_network *network =
            row == NULL ? NULL : bind_network_row(bind, row);
        if (network != NULL && port->decision.verdict == BIND_SERVE) {
            one.mtu = network->mtu;
        }
        one.keeps_ofport = port->is_up;
        if (port->plug.is_wanted && port->plug.is_made) {
            memcpy(one.device, port->plug.device, sizeof one.device);
        }
        if (one.zone != 0 || one.is_claimed || one.mtu != 0 ||
            one.device[0] != '\0') {
            wishes[count++] = one;
        }
    }
    vswitch_set_wishes(bind->options.vswitch, wishes, count);
    free(wishes);
}

static void
drop_ports(struct bind *bind)
{
    size_t kept = 0;

    for (size_t i = 0; i < bind->count; i++) {
        struct bind_port *port = bind->ports[i];
        if (port->is_seen || port->decision.verdict == BIND_HOLD) {
            bind->ports[kept++] = port;
        } else {
            free(port);
        }
    }
    bind->count = kept;
}

/* ---- The door ---- */

static bool
take_news(struct bind *bind)
{
    uint64_t cloud_seqno = cloud_ports_seqno(bind->options.cloud);
    uint64_t switch_seqno = vswitch_seqno(bind->options.vswitch);
    bool has_news = bind->is_due || cloud_seqno != bind->cloud_seqno ||
                    switch_seqno != bind->vswitch_seqno;

    bind->is_due = false;
    bind->cloud_seqno = cloud_seqno;
    bind->vswitch_seqno = switch_seqno;
    return has_news;
}

void
bind_step(struct bind *bind)
{
    bool is_complete = cloud_is_complete(bind->options.cloud);
    bool is_ready = vswitch_is_ready(bind->options.vswitch);

    if (!is_ready) {
        return; /* Nobody knows yet what is on this host. */
    }
    if (!take_news(bind)) {
        return;
    }
    bind->is_settled = true;
    collect(bind);
    bind_read_plugs(bind);
    for (size_t i = 0; i < bind->count; i++) {
        struct bind_port *port = bind->ports[i];
        decide(bind, port);
        bind_plug(bind, port);
        decide(bind, port); /* It may have failed. */
        say(port);
        act(bind, port);
    }
    bind->has_new_links = false;
    link_forget_gone(bind->options.link);
    bind_spare_zones(bind);
    bind_claim(bind);
    drop_ports(bind);
    if (is_complete) {
        wish(bind);
        report_start(bind->options.report);
        if (bind->is_settled && !bind->has_swept) {
            bind->has_swept = true;
            report_sweep(bind->options.report);
        }
    }
}

bool
bind_is_settled(const struct bind *bind)
{
    /* Later a port that waits for its zone is just not there yet, and must not
     * keep what concerns the others from the switch. */
    return bind->is_settled || bind->has_swept;
}

void
bind_links_changed(struct bind *bind)
{
    bind->has_new_links = true;
    bind->is_due = true;
}

void
bind_set_underlay_mtu(struct bind *bind, uint32_t mtu)
{
    bind->underlay_mtu = mtu;
    bind->is_due = true;
}

void
bind_committed(struct bind *bind, uint64_t version)
{
    for (size_t i = 0; i < bind->count; i++) {
        struct bind_port *port = bind->ports[i];
        if (port->has_local && port->version == 0) {
            port->version = version;
        }
    }
}

void
bind_confirmed(struct bind *bind, uint64_t version)
{
    bool has_news = bind->confirmed == 0; /* Zones can be emptied now. */

    bind->confirmed = version;
    for (size_t i = 0; i < bind->count; i++) {
        has_news = note_up(bind, bind->ports[i]) || has_news;
    }
    if (has_news) {
        bind->is_due = true;
        bind->options.listener->touch(bind->options.listener);
    }
}

static int
compare_uuids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct weft_uuid));
}

void
bind_set_refused(struct bind *bind, const struct weft_uuid *ports, size_t count)
{
    bool has_news = false;

    for (size_t i = 0; i < bind->count; i++) {
        struct bind_port *port = bind->ports[i];
        bool is_refused =
            count > 0 && bsearch(&port->uuid, ports, count, sizeof *ports,
                                 compare_uuids) != NULL;
        if (is_refused && !port->is_refused) {
            char text[UUID_TEXT_SIZE];
            uuid_format(&port->uuid, text);
            log_error("bind", "down, the switch refuses some flows port=%s",
                      text);
            port->is_up = false;
        }
        has_news = has_news || is_refused != port->is_refused;
        port->is_refused = is_refused;
    }
    if (has_news) {
        bind->is_due = true;
        bind->options.listener->touch(bind->options.listener);
    }
}

void
bind_count(const struct bind *bind, struct bind_counts *ret_counts)
{
    *ret_counts = (struct bind_counts){ 0, 0, 0, 0 };
    for (size_t i = 0; i < bind->count; i++) {
        const struct bind_port *port = bind->ports[i];
        enum state_port_status_state state = shown_state(port);
        if (port->decision.verdict != BIND_SERVE) {
            continue;
        }
        ret_counts->scheduled += state == STATE_PORT_STATUS_STATE_SCHEDULED;
        ret_counts->bound += state == STATE_PORT_STATUS_STATE_BOUND;
        ret_counts->up += state == STATE_PORT_STATUS_STATE_UP;
        ret_counts->down += state == STATE_PORT_STATUS_STATE_DOWN;
    }
}

struct bind *
bind_new(const struct bind_options *options)
{
    struct bind *bind = calloc(1, sizeof *bind);

    CHECK(bind != NULL);
    bind->options = *options;
    bind->has_new_links = true;
    bind->is_due = true;
    loop_timer_init(&bind->timer, bind_fire);
    return bind;
}

void
bind_free(struct bind *bind)
{
    if (bind == NULL) {
        return;
    }
    CHECK(!bind->is_busy);
    loop_timer_cancel(bind->options.loop, &bind->timer);
    for (size_t i = 0; i < bind->count; i++) {
        free(bind->ports[i]);
    }
    free(bind->ports);
    free(bind);
}
