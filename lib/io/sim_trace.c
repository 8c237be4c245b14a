/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sim_impl.h"

/* The trace: what has happened, one line an event, in a ring.
 *
 * Lines are kept as numbers and made into text only when somebody wants to
 * see them: almost nobody does, and a world has millions.  The same numbers
 * go into the hash by which two runs are compared. */

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include "lib/base/array.h"

#define DUMP_LINES_ON_ABORT 300

/* Which world's trace is printed at abort(): the one made last. */
static _Thread_local struct sim *watched;

static const struct {
    const char *name;
    const char *arguments[SIM_NOTE_ARGUMENTS];
} notes[] = {
    [SIM_NOTE_TEXT] = { "", { NULL } },
    [SIM_NOTE_START] = { "START", { "life" } },
    [SIM_NOTE_CRASH] = { "CRASH", { "life", "power" } },
    [SIM_NOTE_FREEZE] = { "FREEZE", { "until" } },
    [SIM_NOTE_THAW] = { "THAW", { NULL } },
    [SIM_NOTE_PAUSE] = { "pause", { "ns" } },
    [SIM_NOTE_TURN] = { "turn", { "clock" } },
    [SIM_NOTE_TIMER] = { "timer", { "deadline" } },
    [SIM_NOTE_POST] = { "post", { "to" } },
    [SIM_NOTE_RANDOM] = { "random", { "bytes" } },
    [SIM_NOTE_FILE_OPEN] = { "open", { "disk" } },
    [SIM_NOTE_FILE_CLOSE] = { "close", { "disk" } },
    [SIM_NOTE_READ] = { "read", { "disk", "offset", "size", "op" } },
    [SIM_NOTE_WRITE] = { "write", { "disk", "offset", "size", "op" } },
    [SIM_NOTE_FLUSH] = { "flush", { "disk", "covers", NULL, "op" } },
    [SIM_NOTE_DISCARD] = { "discard", { "disk", "offset", "size", "op" } },
    [SIM_NOTE_SETTLED] = { "settled", { "disk", "errno", NULL, "op" } },
    [SIM_NOTE_CUT_SHORT] = { "cut short", { "disk", "landed", "of", "op" } },
    [SIM_NOTE_CACHE_LOST] = { "CACHE LOST", { "disk", "mode", "sectors" } },
    [SIM_NOTE_DISK_FAULT] = { "FAULT", { "disk", "kind", "offset", "size" } },
    [SIM_NOTE_FLIP] = { "BIT FLIP", { "disk", "offset", "bit" } },
    [SIM_NOTE_MISDIRECT] = { "MISDIRECTED", { "disk", "from", "to", "size" } },
    [SIM_NOTE_LISTEN] = { "listen", { "port" } },
    [SIM_NOTE_CONNECT] = { "connect", { "link", "to" } },
    [SIM_NOTE_CONNECTED] = { "connected", { "link", "errno" } },
    [SIM_NOTE_ACCEPT] = { "accept", { "link" } },
    [SIM_NOTE_SEND] = { "send", { "link", "end", "size" } },
    [SIM_NOTE_SENT] = { "sent", { "link", "end", "size", "errno" } },
    [SIM_NOTE_SEGMENT] = { "segment", { "link", "end", "kind", "size" } },
    [SIM_NOTE_DATA] = { "data", { "link", "end", "size", "left" } },
    [SIM_NOTE_CLOSE] = { "close", { "link", "end", "after_sends" } },
    [SIM_NOTE_CLOSED] = { "closed", { "link", "end", "errno" } },
    [SIM_NOTE_NET_CUT] = { "NET CUT", { "link" } },
    [SIM_NOTE_NET_BLOCK] = { "NET BLOCK", { "from", "to" } },
    [SIM_NOTE_NET_HEAL] = { "NET HEAL", { NULL } },
};

static_assert(ARRAY_COUNT(notes) == SIM_NOTE_COUNT, "a name for each note");

static void
print_line(const struct sim_line *line, FILE *file)
{
    fprintf(file, "%6" PRIu64 ".%09" PRIu64 " %-6s ", line->time_ns / NS_PER_S,
            line->time_ns % NS_PER_S, line->node == NULL ? "-" : line->node);
    if (line->note == SIM_NOTE_TEXT) {
        fprintf(file, "| %s\n", line->text);
        return;
    }
    fprintf(file, "%s", notes[line->note].name);
    for (uint32_t i = 0; i < SIM_NOTE_ARGUMENTS; i++) {
        if (notes[line->note].arguments[i] != NULL) {
            fprintf(file, " %s=%" PRIu64, notes[line->note].arguments[i],
                    line->arguments[i]);
        }
    }
    /* NOLINTNEXTLINE(bugprone-signal-handler,cert-sig30-c): see on_abort() */
    fputc('\n', file);
}

static struct sim_line *
add_line(struct sim *sim, const struct sim_node *node, enum sim_note note)
{
    struct sim_line *line =
        &sim->lines[sim->line_count++ % sim->options.trace_lines];
    line->time_ns = sim->now_ns;
    line->node = node == NULL ? NULL : node->name;
    line->note = note;
    return line;
}

void
sim_note(struct sim *sim, const struct sim_node *node, enum sim_note note,
         uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct sim_line *line = add_line(sim, node, note);
    line->arguments[0] = a;
    line->arguments[1] = b;
    line->arguments[2] = c;
    line->arguments[3] = d;

    uint64_t who = node == NULL ? 0 : node->index + 1;
    uint64_t hash = sim_mix(sim->hash, sim->now_ns ^ (who << 56));
    hash = sim_mix(hash, (uint64_t)note << 32 ^ a);
    hash = sim_mix(hash, b ^ (c << 32 | c >> 32));
    sim->hash = sim_mix(hash, d);
    if (sim->options.trace) {
        print_line(line, stderr);
    }
}

void
sim_hash_bytes(struct sim *sim, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint64_t lanes[4] = { 1, 2, 3, 4 };
    uint64_t hash = sim->hash ^ size;
    uint64_t word;

    /* Four at a time: large writes are most of the world's bytes. */
    for (; size >= sizeof lanes; bytes += sizeof lanes, size -= sizeof lanes) {
        for (uint32_t i = 0; i < ARRAY_COUNT(lanes); i++) {
            memcpy(&word, bytes + i * sizeof word, sizeof word);
            lanes[i] = (lanes[i] ^ word) * UINT64_C(0x9e3779b97f4a7c15);
            lanes[i] ^= lanes[i] >> 32;
        }
    }
    for (uint32_t i = 0; i < ARRAY_COUNT(lanes); i++) {
        hash = sim_mix(hash, lanes[i]);
    }
    for (; size >= sizeof word; bytes += sizeof word, size -= sizeof word) {
        memcpy(&word, bytes, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, bytes, size);
    sim->hash = sim_mix(hash, word);
}

static void
trace_text(struct sim *sim, const struct sim_node *node, const char *format,
           va_list arguments)
{
    struct sim_line *line = add_line(sim, node, SIM_NOTE_TEXT);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    vsnprintf(line->text, sizeof line->text, format, arguments);
#pragma GCC diagnostic pop
    sim_hash_bytes(sim, line->text, strlen(line->text));
    if (sim->options.trace) {
        print_line(line, stderr);
    }
}

void
sim_trace(struct sim *sim, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    trace_text(sim, sim->current == NULL ? NULL : sim->current->node, format,
               arguments);
    va_end(arguments);
}

void
sim_trace_io(struct io *io, const char *format, ...)
{
    struct sim_life *life = sim_life_of(io);
    va_list arguments;

    va_start(arguments, format);
    trace_text(life->sim, life->node, format, arguments);
    va_end(arguments);
}

static void
dump(const struct sim *sim, FILE *file, uint64_t lines_max)
{
    uint64_t count = sim->line_count;

    if (count > sim->options.trace_lines) {
        count = sim->options.trace_lines;
    }
    if (count > lines_max) {
        count = lines_max;
    }
    /* NOLINTNEXTLINE(bugprone-signal-handler,cert-sig30-c): see on_abort() */
    fprintf(file,
            "---- trace: seed %" PRIu64 ", %" PRIu64 " events, last %" PRIu64
            " of %" PRIu64 " lines ----\n",
            sim->seed, sim->event_count, count, sim->line_count);
    for (uint64_t i = sim->line_count - count; i < sim->line_count; i++) {
        print_line(&sim->lines[i % sim->options.trace_lines], file);
    }
    fprintf(file, "---- end of trace: seed %" PRIu64 " ----\n", sim->seed);
}

void
sim_trace_dump(const struct sim *sim, FILE *file)
{
    dump(sim, file, UINT64_MAX);
}

/* ---- At abort() ---- */

/* The process is lost and this is a test: stdio in a signal handler is a risk
 * that is worth its trace. */
static void
on_abort(int signal_number)
{
    if (watched != NULL) {
        const struct sim *sim = watched;
        watched = NULL;
        if (!sim->options.trace) {
            dump(sim, stderr, DUMP_LINES_ON_ABORT);
        }
        /* NOLINTNEXTLINE(bugprone-signal-handler,cert-sig30-c) */
        fprintf(stderr, "simulator seed %" PRIu64 "\n", sim->seed);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

void
sim_trace_watch(struct sim *sim)
{
    static bool is_installed;

    if (!is_installed) {
        is_installed = true;
        signal(SIGABRT, on_abort);
    }
    watched = sim;
}

void
sim_trace_unwatch(struct sim *sim)
{
    if (watched == sim) {
        watched = NULL;
    }
}
