/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_FLOW_DESIRED_H
#define NETD_FLOW_DESIRED_H

/* The table of flows: for each key (table, priority, match) its owners, what
 * they want, and what the switch has.
 *
 *     owners change ---> stale, on 'dirty' ---> settled: 'desired', 'code'
 *                             ^                      |
 *                             |                      v
 *     the switch refuses, is lost, drifts       'installed' as soon as a
 *                                               barrier has answered
 *
 * Invariants:
 *   (1) An entry whose switch state may differ from what is desired is on
 *       'dirty', or in flight on the list of a bundle; or it is rejected.
 *   (2) 'desired' is a function of the owners alone (N9): equal actions merge,
 *       conjunctions merge sorted, and among others the lowest unit wins.
 *   (3) An entry without owners that the switch does not have, and that is on
 *       no list, does not exist.
 *
 * Thread: the loop's. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/list.h"
#include "netd/flow/encode.h"
#include "netd/flow/meter.h"

struct flow_owner {
    uint64_t unit;
    struct flow_spec *spec;
};

struct flow_entry {
    struct hmap_node spec_node;
    struct hmap_node code_node;
    struct list node;          /* On 'dirty', or on the list of a bundle. */
    struct flow_spec *key;     /* Some flow with this key. */
    struct flow_owner *owners; /* In order of 'unit'. */
    uint32_t owner_count, owner_capacity;

    struct flow_spec *desired;  /* NULL: none. */
    struct flow_code code;      /* Of 'desired', with is_coded. */
    const char *error;          /* Why 'desired' cannot be encoded; or NULL. */
    struct flow_spec *rejected; /* This, the switch does not take. */

    struct flow_digest installed; /* With is_installed. */
    struct flow_digest dumped;
    uint64_t seen; /* The dump that it was last in. */
    uint64_t packet_count;

    bool is_stale;    /* 'desired' is older than 'owners'. */
    bool is_coded;    /* 'code.key' is known, and in the index. */
    bool is_conflict; /* Owners disagree. */
    bool is_installed;
};

struct desired {
    struct hmap by_spec;
    struct hmap by_code;
    struct list dirty;
    struct meter_table meters;
    uint64_t wanted, installed, rejected, conflicts; /* Entries. */
    uint64_t rejections; /* Changes of which are rejected. */
};

void desired_init(struct desired *desired);
void desired_done(struct desired *desired);

/* What compile_sink_fn says. */
void desired_replace(struct desired *desired, uint64_t unit,
                     struct flow_spec *const *old_flows, size_t old_count,
                     struct flow_spec *const *new_flows, size_t new_count);

struct flow_entry *desired_find(const struct desired *desired,
                                const struct flow_spec *key);
struct flow_entry *desired_find_code(const struct desired *desired,
                                     const struct flow_digest *key);

/* Makes 'desired' and 'code' follow the owners.  Where it encodes anyway and
 * 'ret_message' is not NULL, it gives the message, else NULL. */
void desired_settle(struct desired *desired, struct flow_entry *entry,
                    struct ofpbuf **ret_message);

/* Whether the switch has what is desired; the entry is settled. */
bool flow_entry_is_right(const struct flow_entry *entry);
/* Whether it is not right, and sending it would help. */
bool flow_entry_is_due(const struct flow_entry *entry);

void desired_mark_dirty(struct desired *desired, struct flow_entry *entry);
void desired_set_installed(struct desired *desired, struct flow_entry *entry,
                           const struct flow_digest *rest); /* NULL: not. */
/* 'is_rejected': what is desired now; else it may be tried again. */
void desired_set_rejected(struct desired *desired, struct flow_entry *entry,
                          bool is_rejected);
/* Frees an entry that nothing holds any more (3). */
void desired_release(struct desired *desired, struct flow_entry *entry);

#endif /* NETD_FLOW_DESIRED_H */
