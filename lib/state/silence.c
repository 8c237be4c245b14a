/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/private.h"

/* Foreign: libopenvswitch. */
#include <jsonrpc.h>
#include <openvswitch/json.h>
#include <openvswitch/poll-loop.h>
#include <ovsdb-cs.h>

/* A server that says nothing while somebody waits for it.
 *
 * libopenvswitch probes a connection that has been silent for a second or more,
 * and gives it up after as long again.  A membership commit cannot wait for
 * that: guests wait for it.  So while a transaction is on its way, or there is
 * a suspicion (state_suspect()), the server is looked at more closely:
 *
 *     look    1 . . . 2 . . . 3 . . . 4 . . . 5 . . . 6 . . . 7
 *                    ask                      still nothing: another server
 *
 *   (1) The question is a transaction without operations on the server's own
 *       database, "_Server": a server that is alive answers it at once, even
 *       when the cluster has no leader and no commit gets through.  An election
 *       is no reason to change servers.
 *   (2) Whatever arrives is an answer.  After one to a question there is a
 *       pause: a cluster that cannot commit is not to be drowned in questions.
 *   (3) Looks are counted, not seconds, and each first reads what has arrived:
 *       a process that was not given a turn for a second has looked once.
 *   (4) A wrong guess costs a reconnect (the new server sends what has changed
 *       since the last commit we know) and the transaction once more.  On a
 *       machine that makes all servers slow this would help nobody: after each
 *       time the patience is doubled, until it has been quiet for a while.
 *   (5) With one server there is none to change to.  A connection with a lock
 *       would lose it, and nobody waits for those. */

#define LOOK_NS UINT64_C(50000000)
#define PAUSE_NS UINT64_C(500000000)
#define ASK_LOOK 2u
#define SILENT_LOOK 7u
#define DOUBLINGS_MAX 3u
#define QUIET_NS UINT64_C(30000000000)

void
silence_reset(struct state *state)
{
    struct silence *silence = &state->silence;

    json_destroy(silence->question);
    silence->question = NULL;
    silence->looks = 0;
    silence->is_suspected = false;
}

bool
silence_take_answer(struct state *state, const struct jsonrpc_msg *reply)
{
    struct silence *silence = &state->silence;

    if (silence->question == NULL || reply->id == NULL ||
        !json_equal(silence->question, reply->id)) {
        return false;
    }
    json_destroy(silence->question);
    silence->question = NULL;
    silence->is_answered = true;
    return true;
}

static void
ask(struct state *state)
{
    if (state->silence.question == NULL) {
        state->silence.question = ovsdb_cs_send_transaction(
            state->cs, json_array_create_1(json_string_create("_Server")));
    }
}

static unsigned
looks_allowed(struct silence *silence, uint64_t now_ns)
{
    if (now_ns >= silence->quiet_ns) {
        silence->doublings = 0;
    }
    return SILENT_LOOK << silence->doublings;
}

/* Turns to the next of the remotes. */
static void
give_up(struct state *state, uint64_t now_ns)
{
    struct silence *silence = &state->silence;

    if (silence->doublings < DOUBLINGS_MAX) {
        silence->doublings++;
    }
    silence->quiet_ns = now_ns + QUIET_NS;
    ovsdb_cs_force_reconnect(state->cs);
}

void
silence_run(struct state *state, bool has_heard)
{
    struct silence *silence = &state->silence;
    uint64_t now_ns = loop_now_ns();

    if (has_heard) {
        silence->looks = 0;
        silence->is_suspected = false;
    }
    if (!state->has_more_servers || state->has_lock_name ||
        !state->status.is_connected ||
        !(silence->is_suspected || txn_is_on_its_way(state))) {
        silence->looks = 0;
        silence->is_answered = false;
        return;
    }
    if (silence->looks != 0 && now_ns < silence->look_ns) {
        return;
    }
    silence->look_ns = now_ns + (silence->is_answered ? PAUSE_NS : LOOK_NS);
    silence->is_answered = false;
    silence->looks++;
    if (silence->looks == ASK_LOOK) {
        ask(state);
    } else if (silence->looks >= looks_allowed(silence, now_ns)) {
        give_up(state, now_ns);
    }
}

void
silence_wait(const struct state *state)
{
    if (state->silence.looks != 0) {
        uint64_t now_ns = loop_now_ns();
        uint64_t look_ns = state->silence.look_ns;

        /* Rounded up: waking early would spin. */
        poll_timer_wait(
            look_ns <= now_ns ? 0 : (int)((look_ns - now_ns) / 1000000 + 1));
    }
}

void
state_suspect(struct state *state)
{
    state->silence.is_suspected = true;
    state->needs_turn = true;
}
