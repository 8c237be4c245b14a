/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/peers.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/backoff.h"
#include "lib/base/check.h"

#define REST_NS UINT64_C(1000000) /* Between steps that have more to do. */

struct peer {
    struct weft_uuid row;
    char name[64];
    uint32_t address;
    uint64_t last_ns, next_ns; /* Probes; last 0: none yet. */
    struct backoff backoff;
};

struct peers {
    struct peers_prober *prober;
    struct peer *peers; /* By name: a host's bindings name it. */
    size_t count, capacity;
    struct rng rng;
};

struct peers *
peers_new(struct peers_prober *prober, uint64_t seed)
{
    struct peers *peers = calloc(1, sizeof *peers);

    CHECK(peers != NULL);
    peers->prober = prober;
    rng_init(&peers->rng, seed);
    return peers;
}

void
peers_free(struct peers *peers)
{
    if (peers != NULL) {
        free(peers->peers);
        free(peers);
    }
}

/* Where the first of this name is, or would be. */
static size_t
index_of(const struct peers *peers, const char *name)
{
    size_t low = 0, high = peers->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(peers->peers[middle].name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void
start_over(struct peer *peer, uint64_t now_ns)
{
    backoff_init(&peer->backoff, PEERS_FIRST_NS, PEERS_LAST_NS);
    peer->next_ns = now_ns;
}

static void
remove_row(struct peers *peers, const struct weft_uuid *row)
{
    for (size_t i = 0; i < peers->count; i++) {
        if (uuid_equal(&peers->peers[i].row, row)) {
            peers->count--;
            memmove(&peers->peers[i], &peers->peers[i + 1],
                    (peers->count - i) * sizeof peers->peers[0]);
            return;
        }
    }
}

static void
add_row(struct peers *peers, const struct weft_uuid *row, const char *name,
        uint32_t address, uint64_t now_ns)
{
    size_t index = index_of(peers, name);

    if (peers->count == peers->capacity) {
        peers->capacity = peers->capacity * 2 + 16;
        peers->peers =
            realloc(peers->peers, peers->capacity * sizeof peers->peers[0]);
        CHECK(peers->peers != NULL);
    }
    struct peer *peer = &peers->peers[index];
    memmove(peer + 1, peer, (peers->count - index) * sizeof *peer);
    peers->count++;
    *peer = (struct peer){ .row = *row, .address = address };
    (void)snprintf(peer->name, sizeof peer->name, "%s", name);
    start_over(peer, now_ns);
}

void
peers_put(struct peers *peers, const struct weft_uuid *row, const char *name,
          uint32_t address, uint64_t now_ns)
{
    for (size_t i = 0; i < peers->count; i++) {
        struct peer *peer = &peers->peers[i];
        if (uuid_equal(&peer->row, row) && peer->address == address &&
            strcmp(peer->name, name) == 0) {
            return;
        }
    }
    remove_row(peers, row);
    if (address != 0) {
        add_row(peers, row, name, address, now_ns);
    }
}

void
peers_heard(struct peers *peers, const char *name, uint64_t now_ns)
{
    size_t index = index_of(peers, name);

    if (index == peers->count || strcmp(peers->peers[index].name, name) != 0) {
        return;
    }
    struct peer *peer = &peers->peers[index];
    uint64_t soon_ns = now_ns;
    if (peer->last_ns != 0 && now_ns < peer->last_ns + PEERS_HEARD_NS) {
        soon_ns = peer->last_ns + PEERS_HEARD_NS;
    }
    if (soon_ns < peer->next_ns) {
        peer->next_ns = soon_ns;
    }
}

void
peers_start_over(struct peers *peers, uint64_t now_ns)
{
    for (size_t i = 0; i < peers->count; i++) {
        start_over(&peers->peers[i], now_ns);
    }
}

uint64_t
peers_step(struct peers *peers, uint64_t now_ns)
{
    uint64_t soonest_ns = PEERS_NEVER;
    unsigned sent = 0;

    for (size_t i = 0; i < peers->count; i++) {
        struct peer *peer = &peers->peers[i];
        if (peer->next_ns <= now_ns && sent < PEERS_AT_ONCE) {
            sent++;
            peers->prober->probe(peers->prober, peer->address);
            peer->last_ns = now_ns;
            peer->next_ns = now_ns + backoff_next(&peer->backoff, &peers->rng);
        }
        if (peer->next_ns < soonest_ns) {
            soonest_ns = peer->next_ns;
        }
    }
    return soonest_ns <= now_ns ? now_ns + REST_NS : soonest_ns;
}
