/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sim_impl.h"

/* The loop of a life: one turn like that of a reactor.
 *
 * What happens to a life is put on its ready list and told in its next turn,
 * which comes a little later: so several things may come together, in one
 * turn, as completions do that are reaped together.  Now and then a turn takes
 * only a few of them. */

#include <errno.h>
#include <string.h>

#define TASK_ROUNDS_MAX 4u
#define TIMERS_MAX 65536u
#define CALL_COST_NS 200u

static void turn_fire(struct sim_event *event);
static void alarm_fire(struct sim_event *event);

void
sim_turn_init(struct sim_life *life)
{
    life->turn.fire = turn_fire;
    life->alarm.fire = alarm_fire;
    list_init(&life->ready);
    list_init(&life->batch);
    list_init(&life->tasks);
    list_init(&life->task_batch);
    list_init(&life->posts);
    int result = timer_heap_init(&life->timers, TIMERS_MAX);
    CHECK(result == 0);
}

/* ---- Waking ---- */

void
sim_life_wake(struct sim_life *life)
{
    struct sim *sim = life->sim;
    struct sim_node *node = life->node;

    if (life->is_dead || life->in_turn || sim_event_is_set(&life->turn)) {
        return;
    }
    uint64_t time_ns = sim->now_ns;
    if (time_ns < life->busy_until_ns) {
        time_ns = life->busy_until_ns;
    }
    time_ns += sim_range_draw(&node->turn_rng, &sim->options.node.turn_ns);
    if (sim_ppm(&node->turn_rng, sim->options.node.pause_ppm)) {
        uint64_t pause_ns =
            sim_range_draw(&node->turn_rng, &sim->options.node.pause_ns);
        sim_note(sim, node, SIM_NOTE_PAUSE, pause_ns, 0, 0, 0);
        time_ns += pause_ns;
    }
    if (time_ns < node->frozen_until_ns) {
        time_ns = node->frozen_until_ns;
    }
    sim_event_set(sim, &life->turn, time_ns);
}

void
sim_life_push(struct sim_life *life, struct sim_ready *ready)
{
    CHECK(!life->is_dead);
    CHECK(!list_is_linked(&ready->node));
    list_push_back(&life->ready, &ready->node);
    sim_life_wake(life);
}

/* ---- Timers ---- */

/* Sets the alarm for the earliest timer. */
static void
arm_alarm(struct sim_life *life)
{
    if (life->is_dead || life->in_turn) {
        return; /* At the end of the turn. */
    }
    uint64_t time_ns =
        sim_node_world_time(life->node, timer_heap_next_ns(&life->timers));
    if (time_ns <= life->sim->now_ns) {
        sim_event_cancel(life->sim, &life->alarm);
        sim_life_wake(life);
    } else if (!sim_event_is_set(&life->alarm) ||
               life->alarm.time_ns != time_ns) {
        sim_event_set(life->sim, &life->alarm, time_ns);
    }
}

static void
alarm_fire(struct sim_event *event)
{
    sim_life_wake(container_of(event, struct sim_life, alarm));
}

void
sim_timer_set(struct io *io, struct io_timer *timer, uint64_t deadline_ns)
{
    struct sim_life *life = sim_life_enter(io);

    if (life->is_dead) {
        return;
    }
    timer_heap_set(&life->timers, timer, deadline_ns);
    arm_alarm(life);
}

void
sim_timer_cancel(struct io *io, struct io_timer *timer)
{
    struct sim_life *life = sim_life_enter(io);

    if (!life->is_dead) {
        timer_heap_remove(&life->timers, timer);
        arm_alarm(life);
    }
}

/* ---- Tasks ---- */

void
sim_task_defer(struct io *io, struct io_task *task)
{
    struct sim_life *life = sim_life_enter(io);

    if (life->is_dead || task->queued) {
        return;
    }
    task->queued = true;
    list_push_back(&life->tasks, &task->node);
    sim_life_wake(life);
}

void
sim_task_cancel(struct io *io, struct io_task *task)
{
    struct sim_life *life = sim_life_enter(io);

    if (life->is_dead || !task->queued) {
        return;
    }
    task->queued = false;
    list_remove(&task->node);
}

/* ---- Posts ---- */

struct sim_post {
    struct sim_ready ready;
    struct list node; /* posts of the sender's life */
    struct io_post *post;
};

static void
post_free(struct sim_post *wrapper)
{
    list_remove(&wrapper->ready.node);
    list_remove(&wrapper->node);
    sim_release(wrapper);
}

static void
post_run(struct sim_ready *ready)
{
    struct sim_post *wrapper = container_of(ready, struct sim_post, ready);
    struct io_post *post = wrapper->post;

    post_free(wrapper);
    post->run(post);
}

void
sim_post_send(struct io *from, struct io *to, struct io_post *post)
{
    struct sim_life *target = sim_life_of(to);

    if (target->is_dead || (from != NULL && sim_life_enter(from)->is_dead)) {
        return;
    }
    struct sim_post *wrapper = sim_alloc(sizeof *wrapper);
    wrapper->ready.run = post_run;
    wrapper->post = post;
    list_init(&wrapper->ready.node);
    list_init(&wrapper->node);
    if (from != NULL) {
        list_push_back(&sim_life_of(from)->posts, &wrapper->node);
    }
    sim_note(target->sim, from == NULL ? NULL : sim_life_of(from)->node,
             SIM_NOTE_POST, target->node->index, 0, 0, 0);
    sim_life_push(target, &wrapper->ready);
}

/* ---- The turn ---- */

/* Puts what the turn has left over in front of what came meanwhile. */
static void
return_batch(struct sim_life *life)
{
    list_splice_back(&life->batch, &life->ready);
    list_splice_back(&life->ready, &life->batch);
}

static uint32_t
run_ready(struct sim_life *life)
{
    struct rng *rng = &life->node->turn_rng;
    uint64_t limit = UINT64_MAX;
    uint32_t count = 0;
    struct list *node;

    if (list_is_empty(&life->ready)) {
        return 0;
    }
    if (rng_chance(rng, 1, 8)) {
        limit = rng_between(rng, 1, 3);
    }
    list_splice_back(&life->batch, &life->ready);
    while (count < limit && !life->is_dead &&
           (node = list_pop_front(&life->batch)) != NULL) {
        struct sim_ready *ready = container_of(node, struct sim_ready, node);
        ready->run(ready);
        count++;
    }
    return_batch(life);
    return count;
}

static uint32_t
run_timers(struct sim_life *life)
{
    uint32_t count = 0;
    uint32_t limit = life->timers.count; /* Not those set meanwhile. */
    struct io_timer *timer;

    while (count < limit && !life->is_dead &&
           (timer = timer_heap_pop_due(&life->timers, life->turn_now_ns)) !=
               NULL) {
        sim_note(life->sim, life->node, SIM_NOTE_TIMER, timer->deadline_ns, 0,
                 0, 0);
        timer->fire(timer);
        count++;
    }
    return count;
}

/* Tasks that defer tasks get a few rounds; then other things come first, as
 * in a reactor. */
static uint32_t
run_tasks(struct sim_life *life)
{
    uint32_t count = 0;
    struct list *node;

    for (uint32_t round = 0; round < TASK_ROUNDS_MAX && !life->is_dead;
         round++) {
        list_splice_back(&life->task_batch, &life->tasks);
        while (!life->is_dead &&
               (node = list_pop_front(&life->task_batch)) != NULL) {
            struct io_task *task = container_of(node, struct io_task, node);
            task->queued = false;
            task->run(task);
            count++;
        }
    }
    return count;
}

static void
turn_fire(struct sim_event *event)
{
    struct sim_life *life = container_of(event, struct sim_life, turn);
    struct sim *sim = life->sim;

    CHECK(sim->now_ns >= life->node->frozen_until_ns);
    CHECK(sim->current == NULL);
    life->turn_now_ns = sim_node_clock(life->node);
    life->in_turn = true;
    sim->current = life;
    sim_heap_own(life);
    sim_note(sim, life->node, SIM_NOTE_TURN, life->turn_now_ns, 0, 0, 0);

    uint32_t count = run_ready(life);
    count += run_timers(life);
    count += run_tasks(life);

    sim_heap_own(NULL);
    CHECK(sim->paused == NULL);
    sim->current = NULL;
    life->in_turn = false;
    if (life->is_dead) {
        return;
    }
    life->busy_until_ns = sim->now_ns + (uint64_t)count * CALL_COST_NS;
    if (!list_is_empty(&life->ready) || !list_is_empty(&life->tasks)) {
        sim_life_wake(life);
    }
    arm_alarm(life);
}

/* The life is over: nothing of it will run. */
void
sim_turn_done(struct sim_life *life)
{
    struct list *node;

    sim_event_cancel(life->sim, &life->turn);
    sim_event_cancel(life->sim, &life->alarm);
    while ((node = list_front(&life->posts)) != NULL) {
        post_free(container_of(node, struct sim_post, node));
    }
    /* Posts to us from others: all that is left. */
    return_batch(life);
    LIST_FOREACH (other, &life->ready) {
        struct sim_ready *ready = container_of(other, struct sim_ready, node);
        CHECK(ready->run == post_run);
        post_free(container_of(ready, struct sim_post, ready));
    }
    list_init(&life->tasks);
    timer_heap_done(&life->timers);
    life->timers.count = 0;
}
