/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sim_impl.h"

/* Listeners, and what the test does to the network. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

static sim_ready_fn listener_run;

/* ---- Addresses ---- */

/* "tcp:NODE:PORT" or "unix:PATH" (this very node: an empty name). */
bool
sim_address_parse(const char *address, char ret_node[IO_ADDRESS_SIZE],
                  char ret_port[IO_ADDRESS_SIZE])
{
    size_t size = strnlen(address, IO_ADDRESS_SIZE);

    if (size == IO_ADDRESS_SIZE) {
        return false;
    }
    if (strncmp(address, "unix:", 5) == 0) {
        ret_node[0] = '\0';
        memcpy(ret_port, address, size + 1);
        return size > 5;
    }
    if (strncmp(address, "tcp:", 4) != 0) {
        return false;
    }
    const char *name = address + 4;
    const char *colon = strchr(name, ':');
    if (colon == NULL || colon == name || colon[1] == '\0') {
        return false;
    }
    size_t name_size = (size_t)(colon - name);
    memcpy(ret_node, name, name_size);
    ret_node[name_size] = '\0';
    memcpy(ret_port, colon + 1, strlen(colon + 1) + 1);
    return strspn(ret_port, "0123456789") == strlen(ret_port);
}

/* ---- Listeners ---- */

static struct sim_listener *
listener_find(const struct sim_life *life, const char *port)
{
    LIST_FOREACH (entry, &life->listeners) {
        struct sim_listener *listener =
            container_of(entry, struct sim_listener, node);
        char node[IO_ADDRESS_SIZE];
        char own_port[IO_ADDRESS_SIZE];
        if (sim_address_parse(listener->address, node, own_port) &&
            strcmp(own_port, port) == 0) {
            return listener;
        }
    }
    return NULL;
}

int
sim_listener_open(struct io *io, struct io_listener *listener,
                  const char *address)
{
    struct sim_life *life = sim_life_enter(io);
    char name[IO_ADDRESS_SIZE];
    char port[IO_ADDRESS_SIZE];

    if (life->is_dead) {
        return -EIO;
    }
    if (!sim_address_parse(address, name, port)) {
        return -EINVAL;
    }
    if (name[0] != '\0' && strcmp(name, life->node->name) != 0) {
        return -EADDRNOTAVAIL;
    }
    if (strcmp(port, "0") == 0) {
        snprintf(port, sizeof port, "%u", life->node->next_port++);
    }
    if (listener_find(life, port) != NULL) {
        return -EADDRINUSE;
    }
    struct sim_listener *impl = sim_alloc(sizeof *impl);
    impl->impl.io = io;
    impl->life = life;
    impl->listener = listener;
    impl->ready.run = listener_run;
    list_init(&impl->ready.node);
    list_init(&impl->backlog);
    list_push_back(&life->listeners, &impl->node);
    if (name[0] == '\0') {
        snprintf(impl->address, sizeof impl->address, "%s", port);
    } else {
        int size = snprintf(impl->address, sizeof impl->address,
                            "tcp:%.60s:%.60s", name, port);
        CHECK(size < IO_ADDRESS_SIZE);
    }
    listener->impl = impl;
    sim_note(life->sim, life->node, SIM_NOTE_LISTEN, sim_hash_text(port), 0, 0,
             0);
    return 0;
}

void
sim_listener_address(const struct io_listener *listener,
                     char ret_address[IO_ADDRESS_SIZE])
{
    const struct sim_listener *impl = listener->impl;
    memcpy(ret_address, impl->address, IO_ADDRESS_SIZE);
}

void
sim_listener_abandon(struct sim_listener *impl, enum sim_crash crash)
{
    struct list *node;

    while ((node = list_front(&impl->backlog)) != NULL) {
        sim_end_orphan(container_of(node, struct sim_end, backlog_node), crash);
    }
    list_remove(&impl->ready.node);
    list_remove(&impl->node);
    sim_release(impl);
}

void
sim_listener_close(struct io *io, struct io_listener *listener)
{
    struct sim_life *life = sim_life_enter(io);
    struct sim_listener *impl = listener->impl;

    if (life->is_dead) {
        return;
    }
    CHECK(impl->life == life);
    listener->impl = NULL;
    sim_listener_abandon(impl, SIM_CRASH_PROCESS);
}

bool
sim_listener_offer(struct sim_end *end)
{
    struct sim_life *life = end->node->life;

    if (life == NULL) {
        return false;
    }
    struct sim_listener *impl = listener_find(life, end->link->port);
    if (impl == NULL) {
        return false;
    }
    end->state = SIM_END_BACKLOG;
    list_push_back(&impl->backlog, &end->backlog_node);
    if (!list_is_linked(&impl->ready.node)) {
        sim_life_push(life, &impl->ready);
    }
    return true;
}

static bool
is_listening(const struct sim_life *life, const struct sim_listener *impl)
{
    LIST_FOREACH (entry, &life->listeners) {
        if (entry == &impl->node) {
            return true;
        }
    }
    return false;
}

static void
listener_run(struct sim_ready *ready)
{
    struct sim_listener *impl = container_of(ready, struct sim_listener, ready);
    struct sim_life *life = impl->life;
    struct list *node = list_front(&impl->backlog);

    CHECK(node != NULL);
    struct sim_end *end = container_of(node, struct sim_end, backlog_node);
    sim_note(life->sim, life->node, SIM_NOTE_ACCEPT, end->link->number, 0, 0,
             0);
    impl->listener->on_accept(impl->listener,
                              (struct io_accepted *)(void *)end);
    /* The call may have crashed the node or closed the listener, which then
     * took care of the backlog. */
    if (life->is_dead || !is_listening(life, impl)) {
        return;
    }
    if (list_front(&impl->backlog) == node) {
        sim_end_orphan(end, SIM_CRASH_PROCESS); /* Nobody wants it. */
    }
    if (!list_is_empty(&impl->backlog)) {
        sim_life_push(life, &impl->ready);
    }
}

/* ---- Blocks ---- */

static void
block(struct sim_node *from, const struct sim_node *to)
{
    CHECK(from->sim == to->sim);
    if (from != to) {
        from->blocked_to |= UINT64_C(1) << to->index;
        sim_note(from->sim, from, SIM_NOTE_NET_BLOCK, from->index, to->index, 0,
                 0);
    }
}

void
sim_net_block(struct sim_node *from, struct sim_node *to)
{
    block(from, to);
}

void
sim_net_partition(struct sim *sim, uint64_t set)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        for (uint32_t j = 0; j < sim->node_count; j++) {
            if ((set >> i & 1) != (set >> j & 1)) {
                block(sim->nodes[i], sim->nodes[j]);
            }
        }
    }
}

/* Whether something of this direction waits for the way to open. */
static bool
is_held(const struct sim_end *end)
{
    return end->held_ack_bytes != 0 ||
           (!list_is_empty(&end->wire) && !sim_event_is_set(&end->arrive));
}

static void
link_resume(struct sim_link *link)
{
    struct sim *sim = link->sim;

    for (uint32_t i = 0; i < 2; i++) {
        struct sim_end *end = &link->ends[i];
        struct sim_end *peer = &link->ends[1 - i];
        if (!is_held(end)) {
            continue;
        }
        if (sim_wire_is_open(peer->node, end->node) &&
            end->held_ack_bytes != 0) {
            end->outstanding_bytes -= end->held_ack_bytes;
            end->held_ack_bytes = 0;
            sim_end_pump_soon(end);
        }
        if (sim_wire_is_open(end->node, peer->node) &&
            !list_is_empty(&end->wire) && !sim_event_is_set(&end->arrive)) {
            if (rng_chance(&end->rng, sim->options.net.heal_reset_pct, 100)) {
                sim_link_cut(link);
            }
            sim_wire_schedule(end, rng_between(&end->rng, NS_PER_MS,
                                               300 * NS_PER_MS));
        }
    }
}

void
sim_wire_resume(struct sim *sim)
{
    LIST_FOREACH (entry, &sim->links) {
        link_resume(container_of(entry, struct sim_link, node));
    }
}

void
sim_net_unblock(struct sim_node *from, struct sim_node *to)
{
    from->blocked_to &= ~(UINT64_C(1) << to->index);
    sim_note(from->sim, from, SIM_NOTE_NET_HEAL, to->index, 0, 0, 0);
    sim_wire_resume(from->sim);
}

void
sim_net_heal(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        sim->nodes[i]->blocked_to = 0;
    }
    sim_note(sim, NULL, SIM_NOTE_NET_HEAL, 0, 0, 0, 0);
    sim_wire_resume(sim);
}

void
sim_net_cut(struct sim_node *a, struct sim_node *b)
{
    LIST_FOREACH (entry, &a->sim->links) {
        struct sim_link *link = container_of(entry, struct sim_link, node);
        const struct sim_node *from = link->ends[0].node;
        const struct sim_node *to = link->ends[1].node;
        if ((from == a && (to == b || b == NULL)) ||
            (to == a && (from == b || b == NULL))) {
            sim_link_cut(link);
        }
    }
}

void
sim_net_slow(struct sim_node *a, struct sim_node *b, uint64_t extra_ns)
{
    a->extra_ns[b->index] = extra_ns;
    b->extra_ns[a->index] = extra_ns;
}
