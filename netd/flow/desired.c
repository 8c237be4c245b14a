/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/flow/desired.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"

/* Foreign: libopenvswitch. */
#include <openvswitch/ofpbuf.h>

#define TEXT_SIZE 512

/* More conjunctions than this fit no message; it also bounds a merge. */
#define MERGED_ACTIONS_MAX 60000u

void
desired_init(struct desired *desired)
{
    *desired = (struct desired){ 0 };
    hmap_init(&desired->by_spec);
    hmap_init(&desired->by_code);
    list_init(&desired->dirty);
    meter_table_init(&desired->meters);
}

static void
free_entry(struct flow_entry *entry)
{
    for (size_t i = 0; i < entry->owner_count; i++) {
        flow_spec_unref(entry->owners[i].spec);
    }
    free(entry->owners);
    flow_spec_unref(entry->key);
    flow_spec_unref(entry->desired);
    flow_spec_unref(entry->rejected);
    free(entry);
}

void
desired_done(struct desired *desired)
{
    struct flow_entry *entry;

    HMAP_FOR_EACH_POP(entry, spec_node, &desired->by_spec)
    {
        free_entry(entry);
    }
    hmap_destroy(&desired->by_spec);
    hmap_destroy(&desired->by_code);
    meter_table_done(&desired->meters);
}

struct flow_entry *
desired_find(const struct desired *desired, const struct flow_spec *key)
{
    struct flow_entry *entry;

    HMAP_FOR_EACH_WITH_HASH(entry, spec_node, key->hash, &desired->by_spec)
    {
        if (flow_spec_same_key(entry->key, key)) {
            return entry;
        }
    }
    return NULL;
}

struct flow_entry *
desired_find_code(const struct desired *desired, const struct flow_digest *key)
{
    struct flow_entry *entry;

    HMAP_FOR_EACH_WITH_HASH(entry, code_node, (uint32_t)key->words[0],
                            &desired->by_code)
    {
        if (flow_digest_equal(&entry->code.key, key)) {
            return entry;
        }
    }
    return NULL;
}

/* ---- Owners ---- */

static struct flow_entry *
find_or_add(struct desired *desired, struct flow_spec *spec)
{
    struct flow_entry *entry = desired_find(desired, spec);

    if (entry == NULL) {
        entry = calloc(1, sizeof *entry);
        CHECK(entry != NULL);
        entry->key = flow_spec_ref(spec);
        list_init(&entry->node);
        hmap_insert(&desired->by_spec, &entry->spec_node, spec->hash);
    }
    return entry;
}

void
desired_mark_dirty(struct desired *desired, struct flow_entry *entry)
{
    if (!list_is_linked(&entry->node)) {
        list_push_back(&desired->dirty, &entry->node);
    }
}

static void
owners_changed(struct desired *desired, struct flow_entry *entry)
{
    entry->is_stale = true;
    desired_mark_dirty(desired, entry);
}

/* Where the owner is, or would be. */
static uint32_t
owner_index(const struct flow_entry *entry, uint64_t unit)
{
    uint32_t low = 0, high = entry->owner_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (entry->owners[middle].unit < unit) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void
put_owner(struct desired *desired, uint64_t unit, struct flow_spec *spec)
{
    struct flow_entry *entry = find_or_add(desired, spec);
    uint32_t index = owner_index(entry, unit);
    struct flow_owner *owner =
        index < entry->owner_count ? &entry->owners[index] : NULL;

    if (owner != NULL && owner->unit == unit) {
        bool is_same = flow_spec_same_actions(owner->spec, spec);
        flow_spec_ref(spec);
        flow_spec_unref(owner->spec);
        owner->spec = spec;
        if (!is_same) {
            owners_changed(desired, entry);
        }
        return;
    }

    if (entry->owner_count == entry->owner_capacity) {
        entry->owner_capacity =
            entry->owner_capacity == 0 ? 1 : entry->owner_capacity * 2;
        entry->owners = realloc(entry->owners,
                                entry->owner_capacity * sizeof *entry->owners);
        CHECK(entry->owners != NULL);
    }
    owner = &entry->owners[index];
    memmove(owner + 1, owner, (entry->owner_count - index) * sizeof *owner);
    *owner = (struct flow_owner){ unit, flow_spec_ref(spec) };
    desired->wanted += entry->owner_count == 0;
    entry->owner_count++;
    owners_changed(desired, entry);
}

static void
remove_owner(struct desired *desired, uint64_t unit,
             const struct flow_spec *spec)
{
    struct flow_entry *entry = desired_find(desired, spec);
    CHECK(entry != NULL);
    uint32_t index = owner_index(entry, unit);
    CHECK(index < entry->owner_count);
    struct flow_owner *owner = &entry->owners[index];
    CHECK(owner->unit == unit);

    flow_spec_unref(owner->spec);
    entry->owner_count--;
    memmove(owner, owner + 1, (entry->owner_count - index) * sizeof *owner);
    desired->wanted -= entry->owner_count == 0;
    owners_changed(desired, entry);
}

void
desired_replace(struct desired *desired, uint64_t unit,
                struct flow_spec *const *old_flows, size_t old_count,
                struct flow_spec *const *new_flows, size_t new_count)
{
    size_t i = 0, j = 0;

    /* Both are sorted by key first. */
    while (i < old_count || j < new_count) {
        if (j == new_count) {
            remove_owner(desired, unit, old_flows[i++]);
        } else if (i == old_count) {
            put_owner(desired, unit, new_flows[j++]);
        } else if (flow_spec_same_key(old_flows[i], new_flows[j])) {
            put_owner(desired, unit, new_flows[j++]);
            i++;
        } else if (flow_spec_compare(old_flows[i], new_flows[j]) < 0) {
            remove_owner(desired, unit, old_flows[i++]);
        } else {
            put_owner(desired, unit, new_flows[j++]);
        }
    }
}

/* ---- What they want together ---- */

/* Merges owners [first, first + count), halves first: the cost of merging one
 * by one would grow with the square. */
static struct flow_spec *
merge(const struct flow_owner *owners, size_t count)
{
    if (count == 1) {
        return flow_spec_ref(owners[0].spec);
    }
    struct flow_spec *low = merge(owners, count / 2);
    struct flow_spec *high = merge(owners + count / 2, count - count / 2);
    struct flow_spec *merged = flow_spec_same_actions(low, high)
                                   ? flow_spec_ref(low)
                                   : flow_spec_merge(low, high);
    flow_spec_unref(low);
    flow_spec_unref(high);
    return merged;
}

static bool
may_merge(const struct flow_entry *entry)
{
    size_t actions = 0;

    for (size_t i = 0; i < entry->owner_count; i++) {
        if (!flow_spec_is_conjunctive(entry->owners[i].spec)) {
            return false;
        }
        actions += entry->owners[i].spec->action_count;
    }
    return actions <= MERGED_ACTIONS_MAX;
}

static bool
all_agree(const struct flow_entry *entry)
{
    for (size_t i = 1; i < entry->owner_count; i++) {
        if (!flow_spec_same_actions(entry->owners[0].spec,
                                    entry->owners[i].spec)) {
            return false;
        }
    }
    return true;
}

static void
set_conflict(struct desired *desired, struct flow_entry *entry,
             bool is_conflict)
{
    char text[TEXT_SIZE];

    if (is_conflict && !entry->is_conflict) {
        flow_spec_format(entry->owners[0].spec, text, sizeof text);
        log_error("flow",
                  "owners of a flow disagree, the lowest wins unit=%llu "
                  "owners=%u flow=%s",
                  (unsigned long long)entry->owners[0].unit, entry->owner_count,
                  text);
    }
    desired->conflicts += is_conflict;
    desired->conflicts -= entry->is_conflict;
    entry->is_conflict = is_conflict;
}

/* A new reference, or NULL. */
static struct flow_spec *
resolve(struct desired *desired, struct flow_entry *entry)
{
    struct flow_spec *resolved = NULL;
    bool is_conflict = false;

    if (entry->owner_count == 0) {
        resolved = NULL;
    } else if (all_agree(entry)) {
        resolved = flow_spec_ref(entry->owners[0].spec);
    } else if (may_merge(entry)) {
        resolved = merge(entry->owners, entry->owner_count);
    } else {
        is_conflict = true;
        resolved = flow_spec_ref(entry->owners[0].spec);
    }
    set_conflict(desired, entry, is_conflict);
    return resolved;
}

static void
encode(struct desired *desired, struct flow_entry *entry,
       struct ofpbuf **ret_message)
{
    struct flow_code code;

    entry->error = NULL;
    if (encode_flow(entry->desired, &code, ret_message, &entry->error) < 0) {
        return;
    }
    if (!entry->is_coded) {
        if (desired_find_code(desired, &code.key) != NULL) {
            entry->error = "another flow is the same to OpenFlow";
            if (ret_message != NULL) {
                ofpbuf_delete(*ret_message);
                *ret_message = NULL;
            }
            return;
        }
        entry->is_coded = true;
        hmap_insert(&desired->by_code, &entry->code_node,
                    (uint32_t)code.key.words[0]);
    }
    entry->code = code;
}

void
desired_settle(struct desired *desired, struct flow_entry *entry,
               struct ofpbuf **ret_message)
{
    if (ret_message != NULL) {
        *ret_message = NULL;
    }
    if (!entry->is_stale) {
        return;
    }
    entry->is_stale = false;

    struct flow_spec *resolved = resolve(desired, entry);
    bool is_same = resolved != NULL && entry->desired != NULL &&
                   flow_spec_same_actions(resolved, entry->desired);
    if (is_same) {
        flow_spec_unref(resolved);
        return;
    }

    meter_table_use(&desired->meters, resolved);
    meter_table_unuse(&desired->meters, entry->desired);
    flow_spec_unref(entry->desired);
    entry->desired = resolved;
    desired_set_rejected(desired, entry, false);
    entry->error = NULL;
    if (resolved != NULL) {
        encode(desired, entry, ret_message);
    }
}

/* ---- Against the switch ---- */

bool
flow_entry_is_right(const struct flow_entry *entry)
{
    CHECK(!entry->is_stale);
    if (entry->desired == NULL) {
        return !entry->is_installed;
    }
    return entry->error == NULL && entry->is_installed &&
           flow_digest_equal(&entry->installed, &entry->code.rest);
}

bool
flow_entry_is_due(const struct flow_entry *entry)
{
    return !flow_entry_is_right(entry) && entry->error == NULL &&
           entry->rejected == NULL;
}

void
desired_set_installed(struct desired *desired, struct flow_entry *entry,
                      const struct flow_digest *rest)
{
    desired->installed += rest != NULL;
    desired->installed -= entry->is_installed;
    entry->is_installed = rest != NULL;
    if (rest != NULL) {
        entry->installed = *rest;
    } else {
        entry->packet_count = 0;
    }
}

void
desired_set_rejected(struct desired *desired, struct flow_entry *entry,
                     bool is_rejected)
{
    desired->rejected += is_rejected;
    desired->rejected -= entry->rejected != NULL;
    desired->rejections += is_rejected || entry->rejected != NULL;
    flow_spec_unref(entry->rejected);
    entry->rejected = NULL;
    if (is_rejected) {
        entry->rejected =
            flow_spec_ref(entry->desired != NULL ? entry->desired : entry->key);
    }
}

void
desired_release(struct desired *desired, struct flow_entry *entry)
{
    if (entry->owner_count > 0 || entry->is_installed ||
        list_is_linked(&entry->node)) {
        return;
    }
    desired_settle(desired, entry, NULL);
    CHECK(entry->desired == NULL);
    desired_set_rejected(desired, entry, false);
    hmap_remove(&desired->by_spec, &entry->spec_node);
    if (entry->is_coded) {
        hmap_remove(&desired->by_code, &entry->code_node);
    }
    free_entry(entry);
}
