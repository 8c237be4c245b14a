/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/units.h"
#include "netd/api/api.h"
#include "netd/bind/bind.h"
#include "netd/bind/host.h"
#include "netd/compile/compile.h"
#include "netd/compile/pipeline.h"
#include "netd/counts.h"
#include "netd/flow/flow.h"
#include "netd/link/link.h"
#include "netd/packet_in/packet_in.h"
#include "netd/peers.h"
#include "netd/sync/cloud.h"
#include "netd/sync/follow.h"
#include "netd/sync/report.h"
#include "netd/sync/vswitch.h"
#include "netd/trace.h"
#include "netd/zones.h"

/* Bytes around a packet of a network: outer IPv4, UDP, Geneve with one option
 * of 8 bytes, and the inner Ethernet header (N23). */
#define ENCAPSULATION_BYTES 62u
#define TICK_NS NS_PER_S
/* A guest in a namespace can set its end up and down all day long. */
#define LINKS_REST_NS (100 * NS_PER_MS)
#define UNDERLAY_MTU_MAX 65535u /* Of IP; "lo" has one more. */

struct agent {
    struct agent_options options;
    struct loop_runner runner; /* Behind those of all whom it listens to. */
    struct loop_timer wake, tick, advertise, links, probe;
    bool is_dirty;
    bool is_complete; /* As flow was told. */
    bool is_stopping;

    struct cloud *cloud;
    struct vswitch *vswitch;
    struct link *link;
    struct report *report;
    struct bind *bind;
    struct host *host;
    struct follow *follow;
    struct compile *compile;
    struct flow_switch *flow;
    struct zones *zones;
    struct state *api_state;
    struct netd_api *api;
    struct switch_trace *trace;
    struct counts *counts;
    struct peers *peers;
    struct peers_prober prober;

    struct cloud_listener cloud_listener;
    struct vswitch_listener vswitch_listener;
    struct link_listener link_listener;
    struct bind_listener bind_listener;
    struct flow_listener flow_listener;
    struct zones_listener zones_listener;
    uint32_t underlay_mtu;
    uint64_t links_ns; /* When links were last looked at. */
};

static void
agent_touch(struct agent *agent)
{
    if (!agent->is_dirty) {
        agent->is_dirty = true;
        loop_timer_set(agent->options.loop, &agent->wake, loop_now_ns());
    }
}

static void
agent_woken(struct loop_timer *timer)
{
    (void)timer; /* The runner does it, in this turn. */
}

/* ---- From the Weft database ---- */

/* Who is at the other ends of tunnels, and who stirs there. */
static void
agent_tell_peers(struct agent *agent, const struct state_row *row)
{
    uint64_t now_ns = loop_now_ns();

    if (row->table == STATE_TABLE_BINDING) {
        peers_heard(agent->peers, state_binding_from(row)->host, now_ns);
    } else if (row->table == STATE_TABLE_NET_HOST) {
        const struct state_net_host *host = state_net_host_from(row);
        bool is_other = strcmp(host->host, agent->options.host) != 0;
        struct in_addr address = { 0 };
        if (host->enabled && is_other) {
            (void)inet_pton(AF_INET, host->encap_ip, &address);
        }
        peers_put(agent->peers, &row->uuid, host->host, ntohl(address.s_addr),
                  now_ns);
    }
}

static void
agent_put_row(struct cloud_listener *listener, const struct state_row *row)
{
    struct agent *agent = container_of(listener, struct agent, cloud_listener);

    agent_tell_peers(agent, row);
    compile_put_row(agent->compile, row);
    report_notice(agent->report, row->table, &row->uuid);
    agent_touch(agent);
}

static void
agent_remove_row(struct cloud_listener *listener, enum state_table table,
                 const struct weft_uuid *uuid)
{
    struct agent *agent = container_of(listener, struct agent, cloud_listener);

    if (table == STATE_TABLE_NET_HOST) {
        peers_put(agent->peers, uuid, "", 0, 0);
    }
    compile_delete_row(agent->compile, table, uuid);
    report_notice(agent->report, table, uuid);
    agent_touch(agent);
}

static void
agent_cloud_changed(struct cloud_listener *listener)
{
    agent_touch(container_of(listener, struct agent, cloud_listener));
}

/* ---- From this host ---- */

static void
agent_vswitch_changed(struct vswitch_listener *listener)
{
    agent_touch(container_of(listener, struct agent, vswitch_listener));
}

static void
agent_read_underlay(struct agent *agent)
{
    uint32_t mtu = 0;

    if (link_mtu_of_address(agent->link, agent->options.tunnel_address, &mtu) !=
        0) {
        mtu = 0;
    }
    if (mtu > UNDERLAY_MTU_MAX) {
        mtu = UNDERLAY_MTU_MAX;
    }
    if (mtu != agent->underlay_mtu) {
        log_info("netd", "underlay address=%s mtu=%u",
                 agent->options.tunnel_address, mtu);
        agent->underlay_mtu = mtu;
        bind_set_underlay_mtu(agent->bind, mtu);
        host_set_underlay_mtu(agent->host, mtu);
    }
}

static void
agent_links_due(struct loop_timer *timer)
{
    struct agent *agent = container_of(timer, struct agent, links);

    agent->links_ns = loop_now_ns();
    agent_read_underlay(agent);
    bind_links_changed(agent->bind);
    agent_touch(agent);
}

static void
agent_link_changed(struct link_listener *listener)
{
    struct agent *agent = container_of(listener, struct agent, link_listener);

    if (!list_is_linked(&agent->links.node)) {
        loop_timer_set(agent->options.loop, &agent->links,
                       agent->links_ns + LINKS_REST_NS);
    }
}

static void
agent_put_local(struct bind_listener *listener, const struct bind_local *local)
{
    struct agent *agent = container_of(listener, struct agent, bind_listener);
    struct local_port port = {
        .port = local->port,
        .ofport = local->ofport,
        .zone = local->zone,
    };

    compile_put_local(agent->compile, &port);
    zones_limit(agent->zones, local->zone);
}

static void
agent_remove_local(struct bind_listener *listener, const struct weft_uuid *port)
{
    struct agent *agent = container_of(listener, struct agent, bind_listener);

    compile_delete_local(agent->compile, port);
}

static void
agent_bind_touch(struct bind_listener *listener)
{
    agent_touch(container_of(listener, struct agent, bind_listener));
}

static void
agent_empty_zone(struct bind_listener *listener, uint32_t zone)
{
    struct agent *agent = container_of(listener, struct agent, bind_listener);

    zones_empty(agent->zones, zone);
}

static void
agent_zone_emptied(struct zones_listener *listener, uint32_t zone)
{
    struct agent *agent = container_of(listener, struct agent, zones_listener);

    bind_zone_flushed(agent->bind, zone);
}

/* ---- From the switch ---- */

static void
agent_confirmed(struct flow_listener *listener, uint64_t version)
{
    struct agent *agent = container_of(listener, struct agent, flow_listener);

    bind_confirmed(agent->bind, version);
    follow_confirmed(agent->follow, version);
}

static void
agent_packet_in(struct flow_listener *listener,
                const struct flow_packet_in *packet)
{
    struct agent *agent = container_of(listener, struct agent, flow_listener);
    const struct local_port *local =
        compile_local(agent->compile, &packet->uuid);
    struct packet_in_request request = {
        .bytes = packet->bytes,
        .size = packet->size,
        .kind = packet->kind,
        .port = packet->uuid,
    };
    static struct packet_in_reply reply;
    int result = -ENOENT;

    if (local != NULL && local->ofport != 0) {
        result = packet_in_answer(agent->compile, &request, &reply);
    }
    if (result == 0) {
        result = flow_packet_out(agent->flow, FLOW_PORT_NONE, local->ofport,
                                 reply.bytes, reply.size);
    }
    counts_packet_in(agent->counts, packet->kind, result);
}

static void
agent_rejected(struct flow_listener *listener, const struct flow_spec *spec,
               const char *error)
{
    (void)listener;
    (void)spec;
    log_error("netd", "the switch refuses a flow, the rest goes on reason=%s",
              error);
}

static void
agent_refused(struct flow_listener *listener)
{
    struct agent *agent = container_of(listener, struct agent, flow_listener);
    struct weft_uuid *ports;
    uint64_t *units;

    size_t count = flow_refused_units(agent->flow, &units);
    count = compile_concerned(agent->compile, units, count, &ports);
    bind_set_refused(agent->bind, ports, count);
    free(ports);
    free(units);
}

static void
agent_drift(struct flow_listener *listener, const struct flow_drift *drift)
{
    (void)listener;
    log_warning("netd",
                "the switch was not as it should be, repairing missing=%llu "
                "changed=%llu foreign=%llu meters=%llu",
                (unsigned long long)drift->missing,
                (unsigned long long)drift->changed,
                (unsigned long long)drift->foreign,
                (unsigned long long)drift->meters);
}

static void
agent_limit_zones(struct agent *agent)
{
    zones_connected(agent->zones);
    for (const struct local_port *local = NULL;
         (local = compile_next_local(agent->compile, local)) != NULL;) {
        zones_limit(agent->zones, local->zone);
    }
}

static void
agent_connection(struct flow_listener *listener, bool is_connected)
{
    struct agent *agent = container_of(listener, struct agent, flow_listener);

    if (is_connected) {
        log_info("netd", "the switch answers");
        peers_start_over(agent->peers, loop_now_ns());
        agent_limit_zones(agent);
    } else {
        log_warning("netd", "no connection to the switch, trying again");
    }
    agent_touch(agent);
}

/* So that guests' default routes do not expire. */
static void
agent_advertise(struct loop_timer *timer)
{
    struct agent *agent = container_of(timer, struct agent, advertise);
    static struct packet_in_reply reply;

    for (const struct local_port *local = NULL;
         (local = compile_next_local(agent->compile, local)) != NULL;) {
        if (local->ofport != 0 &&
            packet_in_advertise(agent->compile, &local->port, &reply) == 0) {
            (void)!flow_packet_out(agent->flow, FLOW_PORT_NONE, local->ofport,
                                   reply.bytes, reply.size);
        }
    }
    loop_timer_set(agent->options.loop, timer,
                   loop_now_ns() + PACKET_IN_ADVERTISE_S * NS_PER_S);
}

/* ---- To other hosts ---- */

static void
agent_probe(struct peers_prober *prober, uint32_t address)
{
    struct agent *agent = container_of(prober, struct agent, prober);

    /* What is lost is sent again. */
    (void)!flow_probe_tunnel(agent->flow,
                             compile_self(agent->compile)->tunnel_ofport,
                             address);
}

static void
agent_probe_peers(struct agent *agent)
{
    uint64_t next_ns = peers_step(agent->peers, loop_now_ns());

    if (next_ns != PEERS_NEVER) {
        loop_timer_set(agent->options.loop, &agent->probe, next_ns);
    }
}

static void
agent_probe_due(struct loop_timer *timer)
{
    agent_probe_peers(container_of(timer, struct agent, probe));
}

/* ---- The turn ---- */

static void
agent_tell_interfaces(struct agent *agent)
{
    size_t count;
    const struct vswitch_interface *interfaces =
        vswitch_interfaces(agent->vswitch, &count);
    struct weft_uuid *ports = calloc(count + 1, sizeof *ports);

    CHECK(ports != NULL);
    for (size_t i = 0; i < count; i++) {
        ports[i] = interfaces[i].port;
    }
    cloud_set_interfaces(agent->cloud, ports, count);
    free(ports);
}

static void
agent_update_self(struct agent *agent)
{
    struct compile_self self = {
        .tunnel_ofport = vswitch_tunnel_ofport(agent->vswitch),
        .underlay_mtu = agent->underlay_mtu,
    };

    (void)snprintf(self.host, sizeof self.host, "%s", agent->options.host);
    if (self.tunnel_ofport != compile_self(agent->compile)->tunnel_ofport) {
        peers_start_over(agent->peers, loop_now_ns());
    }
    compile_set_self(agent->compile, &self);
}

/* Whether what the compiler has is the whole of it (N7). */
static bool
agent_knows_all(const struct agent *agent)
{
    struct cloud_status cloud;

    cloud_get_status(agent->cloud, &cloud);
    return (cloud.is_complete || cloud.is_from_snapshot) &&
           vswitch_is_ready(agent->vswitch) && bind_is_settled(agent->bind);
}

static void
agent_run(struct loop_runner *runner)
{
    struct agent *agent = container_of(runner, struct agent, runner);

    if (!agent->is_dirty || agent->is_stopping) {
        return;
    }
    agent->is_dirty = false;
    loop_timer_cancel(agent->options.loop, &agent->wake);
    struct cloud_status cloud;
    cloud_get_status(agent->cloud, &cloud);
    report_hold(agent->report, cloud.is_refused);
    if (vswitch_is_ready(agent->vswitch)) {
        agent_tell_interfaces(agent);
    }
    agent_update_self(agent);
    bind_step(agent->bind);
    host_step(agent->host);
    follow_step(agent->follow);
    bool is_complete = agent_knows_all(agent);
    if (is_complete != agent->is_complete) {
        agent->is_complete = is_complete;
        log_debug("netd", "rows complete=%d", is_complete);
        flow_set_complete(agent->flow, is_complete);
    }
    if (compile_is_dirty(agent->compile)) {
        compile_run(agent->compile);
    }
    agent_probe_peers(agent); /* Ahead of flows that need the way. */
    uint64_t version = flow_commit(agent->flow);
    if (is_complete && cloud_is_complete(agent->cloud)) {
        bind_committed(agent->bind, version);
        follow_committed(agent->follow, version);
    }
}

static void
agent_wait(struct loop_runner *runner)
{
    (void)runner; /* The timer 'wake' wakes the loop. */
}

static void
agent_tell_health(struct agent *agent)
{
    struct cloud_status cloud;
    struct flow_status flow;
    const char *error = "";

    cloud_get_status(agent->cloud, &cloud);
    flow_get_status(agent->flow, &flow);
    if (cloud.is_refused) {
        error = "the database is that of another cloud";
    } else if (!vswitch_is_connected(agent->vswitch)) {
        error = "Open vSwitch's database does not answer";
    } else if (!flow.is_connected) {
        error = "Open vSwitch does not answer";
    } else if (flow.rejected > 0) {
        error = "the switch refuses some flows";
    } else if (agent->underlay_mtu == 0) {
        error = "no interface has the tunnel's address";
    } else if (cloud.left_out > 0) {
        error = "routers join more networks than are followed";
    }
    host_set_error(agent->host, error);
}

static void
agent_tick(struct loop_timer *timer)
{
    struct agent *agent = container_of(timer, struct agent, tick);
    struct counts_of of = {
        .cloud = agent->cloud,
        .bind = agent->bind,
        .compile = agent->compile,
        .flow = agent->flow,
        .follow = agent->follow,
    };

    counts_update(agent->counts, &of);
    agent_tell_health(agent);
    loop_timer_set(agent->options.loop, timer, loop_now_ns() + TICK_NS);
}

/* ---- Life ---- */

static void
agent_init_listeners(struct agent *agent)
{
    agent->cloud_listener = (struct cloud_listener){
        .put = agent_put_row,
        .remove = agent_remove_row,
        .changed = agent_cloud_changed,
    };
    agent->vswitch_listener =
        (struct vswitch_listener){ .changed = agent_vswitch_changed };
    agent->link_listener =
        (struct link_listener){ .changed = agent_link_changed };
    agent->bind_listener = (struct bind_listener){
        .put = agent_put_local,
        .remove = agent_remove_local,
        .flush = agent_empty_zone,
        .touch = agent_bind_touch,
    };
    agent->flow_listener = (struct flow_listener){
        .confirmed = agent_confirmed,
        .packet_in = agent_packet_in,
        .rejected = agent_rejected,
        .refused = agent_refused,
        .drift = agent_drift,
        .connection = agent_connection,
    };
}

static int
agent_open_sync(struct agent *agent, struct err *err)
{
    const struct agent_options *options = &agent->options;
    struct cloud_options cloud = {
        .loop = options->loop,
        .remotes = options->remotes,
        .host = options->host,
        .state_dir = options->state_dir,
        .listener = &agent->cloud_listener,
    };
    struct vswitch_options vswitch = {
        .loop = options->loop,
        .remote = options->switch_database,
        .bridge = options->bridge,
        .datapath_type = options->datapath,
        .encap_ip = options->tunnel_address,
        .listener = &agent->vswitch_listener,
    };
    int result = cloud_new(&cloud, err, &agent->cloud);

    if (result != 0) {
        return result;
    }
    result = vswitch_new(&vswitch, &agent->vswitch);
    if (result != 0) {
        err_set(err, "[switch] database = %s: %s", options->switch_database,
                strerror(-result));
        return result;
    }
    result = link_new(options->loop, &agent->link_listener, &agent->link);
    if (result != 0) {
        err_set(err, "netlink: %s", strerror(-result));
    }
    return result;
}

static int
agent_open_flow(struct agent *agent, struct err *err)
{
    char target[256];
    struct flow_options options = {
        .loop = agent->options.loop,
        .target = target,
        .listener = &agent->flow_listener,
        .check_interval_s = agent->options.check_interval_s,
    };
    struct zones_options zones = {
        .loop = agent->options.loop,
        .listener = &agent->zones_listener,
        .run_dir = agent->options.switch_run_dir,
        .datapath = agent->options.datapath,
        .limit = agent->options.port_connections,
    };

    agent->zones_listener.emptied = agent_zone_emptied;
    (void)snprintf(target, sizeof target, "unix:%s/%s.mgmt",
                   agent->options.switch_run_dir, agent->options.bridge);
    int result = flow_new(&options, &agent->flow);
    if (result != 0) {
        err_set(err, "%s: %s", target, strerror(-result));
        return result;
    }
    agent->compile = compile_new(flow_sink(agent->flow));
    zones.flow = agent->flow;
    agent->zones = zones_new(&zones);
    return 0;
}

/* The address by which other hosts reach the API, if there is one. */
static const char *
agent_endpoint(const struct agent_options *options)
{
    for (size_t i = 0; options->listen[i] != NULL; i++) {
        if (strncmp(options->listen[i], "tcp:", 4) == 0) {
            return options->listen[i];
        }
    }
    return options->listen[0] == NULL ? "" : options->listen[0];
}

static void
agent_make_parts(struct agent *agent)
{
    const struct agent_options *options = &agent->options;
    struct bind_options bind = {
        .loop = options->loop,
        .host = options->host,
        .cloud = agent->cloud,
        .vswitch = agent->vswitch,
        .link = agent->link,
        .listener = &agent->bind_listener,
        .zone_first = ZONE_FIRST,
        .zone_last = ZONE_LAST,
        .overhead = ENCAPSULATION_BYTES,
    };
    struct host_options host = {
        .loop = options->loop,
        .cloud = agent->cloud,
        .host = options->host,
        .encap_ip = options->tunnel_address,
        .version = options->version,
        .api_endpoint = agent_endpoint(options),
    };

    agent->report =
        report_new(options->loop, cloud_state(agent->cloud), options->host);
    bind.report = host.report = agent->report;
    agent->bind = bind_new(&bind);
    agent->host = host_new(&host);
    agent->follow = follow_new(agent->cloud, agent->report, options->host);
    agent->counts = counts_new(options->registry);
}

/* A connection of its own, of all rows (N10). */
static int
agent_open_api(struct agent *agent, struct err *err)
{
    const struct agent_options *options = &agent->options;
    struct state_options state = { .remotes = options->remotes,
                                   .has_lookups = true };
    struct netd_api_options api = {
        .loop = options->loop,
        .listen = options->listen,
        .version = options->version,
        .database = options->remotes,
        .host = options->host,
    };
    const struct switch_trace_options trace = {
        .loop = options->loop,
        .vswitch = agent->vswitch,
        .run_dir = options->switch_run_dir,
        .bridge = options->bridge,
        .tunnel_address = options->tunnel_address,
    };

    if (options->listen[0] == NULL) {
        return 0;
    }
    int result = state_open(options->loop, &state, &agent->api_state);
    if (result != 0) {
        err_set(err, "[database] remotes = %s: %s", options->remotes,
                strerror(-result));
        return result;
    }
    api.state = agent->api_state;
    agent->trace = switch_trace_new(&trace);
    api.trace = switch_trace_ops(agent->trace);
    return netd_api_new(&api, err, &agent->api);
}

int
agent_new(const struct agent_options *options, struct err *err,
          struct agent **ret_agent)
{
    struct agent *agent = calloc(1, sizeof *agent);
    struct in_addr address;
    int result;

    CHECK(agent != NULL);
    agent->options = *options;
    loop_timer_init(&agent->wake, agent_woken);
    loop_timer_init(&agent->tick, agent_tick);
    loop_timer_init(&agent->advertise, agent_advertise);
    loop_timer_init(&agent->links, agent_links_due);
    loop_timer_init(&agent->probe, agent_probe_due);
    agent->prober.probe = agent_probe;
    agent->peers = peers_new(&agent->prober, loop_now_ns());
    agent_init_listeners(agent);
    if (inet_pton(AF_INET, options->tunnel_address, &address) != 1) {
        err_set(err, "[tunnel] address: \"%s\" is not an IPv4 address",
                options->tunnel_address);
        peers_free(agent->peers);
        free(agent);
        return -EINVAL;
    }
    result = agent_open_sync(agent, err);
    if (result == 0) {
        result = agent_open_flow(agent, err);
    }
    if (result == 0) {
        agent_make_parts(agent);
        result = agent_open_api(agent, err);
    }
    if (result != 0) {
        return result; /* Half made: the caller ends the process. */
    }
    agent->runner =
        (struct loop_runner){ .run = agent_run, .wait = agent_wait };
    loop_add_runner(options->loop, &agent->runner);
    loop_timer_set(options->loop, &agent->tick, loop_now_ns());
    loop_timer_set(options->loop, &agent->advertise,
                   loop_now_ns() + PACKET_IN_ADVERTISE_S * NS_PER_S);
    agent_read_underlay(agent);
    agent_touch(agent);
    *ret_agent = agent;
    return 0;
}

void
agent_stop(struct agent *agent)
{
    agent->is_stopping = true;
    netd_api_stop(agent->api);
}

void
agent_free(struct agent *agent)
{
    if (agent == NULL) {
        return;
    }
    netd_api_free(agent->api);
    switch_trace_free(agent->trace);
    state_close(agent->api_state);
    zones_free(agent->zones); /* While all else is there. */
    loop_remove_runner(agent->options.loop, &agent->runner);
    cloud_free(agent->cloud); /* Settles all transactions. */
    vswitch_free(agent->vswitch);
    link_free(agent->link);
    follow_free(agent->follow);
    bind_free(agent->bind);
    host_free(agent->host);
    report_free(agent->report);
    loop_timer_cancel(agent->options.loop, &agent->wake);
    loop_timer_cancel(agent->options.loop, &agent->tick);
    loop_timer_cancel(agent->options.loop, &agent->advertise);
    loop_timer_cancel(agent->options.loop, &agent->links);
    loop_timer_cancel(agent->options.loop, &agent->probe);
    flow_free(agent->flow);
    compile_free(agent->compile);
    counts_free(agent->counts);
    peers_free(agent->peers);
    free(agent);
}
