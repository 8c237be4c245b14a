/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sim_impl.h"

/* Time, the event queue, running, chance.
 *
 * The queue is a binary heap by (time, order of setting), which makes the
 * order of events at the same time a fact and not an accident. */

#include <stdlib.h>
#include <string.h>

struct sim_alarm_impl {
    struct sim_event event;
    struct list node;
    struct sim_alarm *alarm;
};

static void bury(struct sim *sim);

/* ---- Chance ---- */

uint64_t
sim_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * UINT64_C(0x9e3779b97f4a7c15) + b;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t
sim_hash_text(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
    }
    return hash;
}

void
sim_rng_init(const struct sim *sim, const char *name, uint64_t number,
             struct rng *ret_rng)
{
    uint64_t seed = sim_mix(sim->seed, sim_hash_text(name));
    rng_init(ret_rng, sim_mix(seed, number));
}

bool
sim_ppm(struct rng *rng, uint32_t ppm)
{
    return ppm != 0 && rng_below(rng, 1000000) < ppm;
}

/* The smaller of two draws, so that most are quick and some are slow. */
uint64_t
sim_range_draw(struct rng *rng, const struct sim_range *range)
{
    if (range->high_ns <= range->low_ns) {
        return range->low_ns;
    }
    uint64_t a = rng_between(rng, range->low_ns, range->high_ns);
    uint64_t b = rng_between(rng, range->low_ns, range->high_ns);
    return a < b ? a : b;
}

/* ---- Options ---- */

void
sim_options_default(struct sim_options *ret_options)
{
    *ret_options = (struct sim_options){
        .disk = {
            .read_ns = { 40 * NS_PER_US, 300 * NS_PER_US },
            .write_ns = { 20 * NS_PER_US, 200 * NS_PER_US },
            .flush_ns = { 100 * NS_PER_US, 2 * NS_PER_MS },
            .stall_ns = { 5 * NS_PER_MS, 100 * NS_PER_MS },
            .stall_ppm = 200,
            .tear_bytes = SIM_SECTOR_SIZE,
            .alignment_bytes = SIM_SECTOR_SIZE,
        },
        .net = {
            .latency_ns = { 20 * NS_PER_US, 200 * NS_PER_US },
            .stall_ns = { 5 * NS_PER_MS, 200 * NS_PER_MS },
            .stall_ppm = 200,
            .window_bytes = 1024 * 1024,
            .small_chunks_pct = 10,
            .heal_reset_pct = 20,
            .connect_timeout_ns = 20 * NS_PER_S,
        },
        .node = {
            .turn_ns = { 500, 20 * NS_PER_US },
            .pause_ns = { 1 * NS_PER_MS, 20 * NS_PER_MS },
            .pause_ppm = 20,
            .skew_ppm_max = 100,
        },
        .arena_bytes = 256 * MIB,
        .trace_lines = 2048,
    };
}

void
sim_options_swarm(struct sim_options *ret_options, uint64_t seed)
{
    struct rng rng;
    struct sim_options *o = ret_options;

    sim_options_default(o);
    rng_init(&rng, sim_mix(seed, sim_hash_text("swarm")));

    if (rng_chance(&rng, 1, 4)) { /* Slow disks. */
        o->disk.write_ns.high_ns = rng_between(&rng, 1, 20) * NS_PER_MS;
        o->disk.read_ns.high_ns = rng_between(&rng, 1, 20) * NS_PER_MS;
        o->disk.flush_ns.high_ns = rng_between(&rng, 5, 100) * NS_PER_MS;
    }
    if (rng_chance(&rng, 1, 4)) { /* Quick ones, flushes too. */
        o->disk.write_ns = (struct sim_range){ 2000, 8000 };
        o->disk.flush_ns = (struct sim_range){ 1000, 20000 };
    }
    if (rng_chance(&rng, 1, 3)) {
        o->disk.stall_ppm = (uint32_t)rng_between(&rng, 500, 20000);
    }
    if (rng_chance(&rng, 1, 2)) {
        o->disk.tear_bytes = SIM_PAGE_SIZE;
    }
    if (rng_chance(&rng, 1, 2)) {
        o->disk.alignment_bytes = SIM_PAGE_SIZE;
    }
    if (rng_chance(&rng, 1, 4)) { /* A wide area. */
        o->net.latency_ns.low_ns = rng_between(&rng, 1, 10) * NS_PER_MS;
        o->net.latency_ns.high_ns = o->net.latency_ns.low_ns * 2;
    }
    if (rng_chance(&rng, 1, 3)) {
        o->net.latency_ns.high_ns = rng_between(&rng, 1, 30) * NS_PER_MS;
    }
    if (rng_chance(&rng, 1, 3)) {
        o->net.stall_ppm = (uint32_t)rng_between(&rng, 1000, 20000);
    }
    if (rng_chance(&rng, 1, 3)) {
        o->net.small_chunks_pct = (uint32_t)rng_between(&rng, 30, 100);
    }
    if (rng_chance(&rng, 1, 4)) {
        o->net.window_bytes = (uint32_t)rng_between(&rng, 1, 64) * 1024;
    }
    o->net.heal_reset_pct = (uint32_t)rng_between(&rng, 0, 100);
    if (rng_chance(&rng, 1, 3)) {
        o->node.pause_ppm = (uint32_t)rng_between(&rng, 50, 1000);
        o->node.pause_ns.high_ns = rng_between(&rng, 10, 500) * NS_PER_MS;
    }
    if (rng_chance(&rng, 1, 3)) {
        o->node.turn_ns.high_ns = rng_between(&rng, 50, 1000) * NS_PER_US;
    }
}

/* ---- World ---- */

struct sim *
sim_new(uint64_t seed, const struct sim_options *options)
{
    struct sim *sim = sim_alloc(sizeof *sim);
    const char *trace = getenv("WEFT_SIM_TRACE");

    sim->seed = seed;
    sim->hash = sim_mix(seed, 1);
    sim->now_ns = NS_PER_S;
    if (options != NULL) {
        sim->options = *options;
    } else {
        sim_options_default(&sim->options);
    }
    CHECK(sim->options.net.window_bytes != 0);
    if (trace != NULL && strcmp(trace, "1") == 0) {
        sim->options.trace = true;
    }
    if (sim->options.trace_lines == 0) {
        sim->options.trace_lines = 1;
    }
    sim->heap_capacity = 64;
    sim->heap = sim_alloc(sim->heap_capacity * sizeof *sim->heap);
    sim->lines = sim_alloc(sim->options.trace_lines * sizeof *sim->lines);
    sim->scratch = sim_alloc(SIM_CHUNK_MAX);
    list_init(&sim->disks);
    list_init(&sim->links);
    list_init(&sim->alarms);
    list_init(&sim->graveyard);
    /* A failed test may have left a world in the middle of a callback. */
    sim_heap_own(NULL);
    sim_trace_watch(sim);
    return sim;
}

void
sim_free(struct sim *sim)
{
    if (sim == NULL) {
        return;
    }
    CHECK(sim->current == NULL);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        sim_node_crash(sim->nodes[i], SIM_CRASH_PROCESS);
    }
    bury(sim);
    LIST_FOREACH (node, &sim->alarms) {
        sim_alarm_cancel(
            container_of(node, struct sim_alarm_impl, node)->alarm);
    }
    LIST_FOREACH (node, &sim->links) {
        sim_link_free(container_of(node, struct sim_link, node));
    }
    LIST_FOREACH (node, &sim->disks) {
        sim_disk_free(container_of(node, struct sim_disk, node));
    }
    for (uint32_t i = 0; i < sim->node_count; i++) {
        sim_release(sim->nodes[i]->name);
        sim_release(sim->nodes[i]);
    }
    sim_trace_unwatch(sim);
    sim_release(sim->scratch);
    sim_release(sim->lines);
    sim_release(sim->heap);
    sim_release(sim);
}

uint64_t
sim_now_ns(const struct sim *sim)
{
    return sim->now_ns;
}

uint64_t
sim_seed(const struct sim *sim)
{
    return sim->seed;
}

uint64_t
sim_hash(const struct sim *sim)
{
    return sim->hash;
}

uint64_t
sim_event_count(const struct sim *sim)
{
    return sim->event_count;
}

/* ---- Event queue ---- */

static bool
comes_before(const struct sim_heap_entry *a, const struct sim_heap_entry *b)
{
    return a->time_ns < b->time_ns ||
           (a->time_ns == b->time_ns && a->sequence < b->sequence);
}

static void
heap_place(struct sim *sim, uint32_t index, struct sim_heap_entry entry)
{
    sim->heap[index] = entry;
    entry.event->heap_index = index;
}

static void
heap_sift(struct sim *sim, uint32_t index, struct sim_heap_entry entry)
{
    while (index > 1 && comes_before(&entry, &sim->heap[index / 2])) {
        heap_place(sim, index, sim->heap[index / 2]);
        index /= 2;
    }
    for (;;) {
        uint32_t child = index * 2;
        if (child > sim->heap_count) {
            break;
        }
        if (child < sim->heap_count &&
            comes_before(&sim->heap[child + 1], &sim->heap[child])) {
            child++;
        }
        if (!comes_before(&sim->heap[child], &entry)) {
            break;
        }
        heap_place(sim, index, sim->heap[child]);
        index = child;
    }
    heap_place(sim, index, entry);
}

void
sim_event_set(struct sim *sim, struct sim_event *event, uint64_t time_ns)
{
    CHECK(event->fire != NULL);
    sim_event_cancel(sim, event);
    if (time_ns == IO_NEVER) {
        return;
    }
    if (time_ns < sim->now_ns) {
        time_ns = sim->now_ns;
    }
    event->time_ns = time_ns;
    if (sim->heap_count + 2 > sim->heap_capacity) {
        sim->heap_capacity *= 2;
        sim->heap =
            sim_resize(sim->heap, sim->heap_capacity * sizeof *sim->heap);
    }
    sim->heap_count++;
    heap_sift(sim, sim->heap_count,
              (struct sim_heap_entry){ .time_ns = time_ns,
                                       .sequence = sim->sequence++,
                                       .event = event });
}

void
sim_event_cancel(struct sim *sim, struct sim_event *event)
{
    uint32_t index = event->heap_index;

    if (index == 0) {
        return;
    }
    CHECK(sim->heap[index].event == event);
    event->heap_index = 0;
    struct sim_heap_entry last = sim->heap[sim->heap_count--];
    if (last.event != event) {
        heap_sift(sim, index, last);
    }
}

/* ---- Running ---- */

/* Memory of dead lives is reclaimed only here, when none of their code can
 * still be on the stack. */
static void
bury(struct sim *sim)
{
    struct list *grave;

    while ((grave = list_pop_front(&sim->graveyard)) != NULL) {
        struct sim_life *life = container_of(grave, struct sim_life, grave);
        sim_file_bury(life);
        sim_heap_reclaim(life);
        sim_release(life);
    }
}

bool
sim_step(struct sim *sim)
{
    CHECK(sim->current == NULL);
    CHECK(!sim->is_stepping); /* Called from inside the world. */
    if (!list_is_empty(&sim->graveyard)) {
        bury(sim);
    }
    if (sim->heap_count == 0) {
        return false;
    }
    struct sim_event *event = sim->heap[1].event;
    CHECK(event->time_ns >= sim->now_ns);
    sim->now_ns = event->time_ns;
    sim_event_cancel(sim, event);
    sim->event_count++;
    sim->is_stepping = true;
    event->fire(event);
    sim->is_stepping = false;
    return true;
}

void
sim_run_until(struct sim *sim, uint64_t time_ns)
{
    while (sim->heap_count != 0 && sim->heap[1].time_ns <= time_ns) {
        sim_step(sim);
    }
    if (time_ns > sim->now_ns && time_ns != IO_NEVER) {
        sim->now_ns = time_ns;
    }
    bury(sim);
}

void
sim_run_for(struct sim *sim, uint64_t duration_ns)
{
    sim_run_until(sim, sim->now_ns + duration_ns);
}

struct flag_condition {
    struct sim_condition condition;
    const bool *flag;
};

static bool
flag_holds(struct sim_condition *condition)
{
    return *container_of(condition, struct flag_condition, condition)->flag;
}

bool
sim_run_until_set(struct sim *sim, const bool *flag, uint64_t limit_ns)
{
    struct flag_condition condition = {
        .condition = { .holds = flag_holds },
        .flag = flag,
    };
    return sim_run_until_holds(sim, &condition.condition, limit_ns);
}

bool
sim_run_until_holds(struct sim *sim, struct sim_condition *condition,
                    uint64_t limit_ns)
{
    uint64_t end_ns = sim->now_ns + limit_ns;

    while (!condition->holds(condition)) {
        if (sim->heap_count == 0 || sim->heap[1].time_ns > end_ns) {
            sim_run_until(sim, end_ns);
            return condition->holds(condition);
        }
        sim_step(sim);
    }
    return true;
}

/* ---- Alarms of the test ---- */

static void
alarm_fire(struct sim_event *event)
{
    struct sim_alarm_impl *impl =
        container_of(event, struct sim_alarm_impl, event);
    struct sim_alarm *alarm = impl->alarm;

    sim_alarm_cancel(alarm);
    alarm->fire(alarm);
}

void
sim_alarm_set(struct sim *sim, struct sim_alarm *alarm, uint64_t time_ns)
{
    struct sim_alarm_impl *impl = alarm->impl;

    CHECK(alarm->fire != NULL);
    if (impl == NULL) {
        impl = sim_alloc(sizeof *impl);
        impl->event.fire = alarm_fire;
        impl->alarm = alarm;
        list_push_back(&sim->alarms, &impl->node);
        alarm->impl = impl;
        alarm->sim = sim;
    }
    sim_event_set(sim, &impl->event, time_ns);
}

void
sim_alarm_cancel(struct sim_alarm *alarm)
{
    struct sim_alarm_impl *impl = alarm->impl;

    if (impl == NULL) {
        return;
    }
    sim_event_cancel(alarm->sim, &impl->event);
    list_remove(&impl->node);
    sim_release(impl);
    alarm->impl = NULL;
}
