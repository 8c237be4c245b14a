/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/compile/security.h"

/* What all policies have in common: tracking, replies, denials, commits; and
 * the policies that let everything out.  The rules are in security_rule.c.
 *
 * Connections (N6):
 *   - Rules are looked at for every packet of the original direction.
 *   - A packet of a known connection that no rule allows any more sets the mark
 *     on the connection, and is dropped; from then on its replies and ICMP
 *     errors are dropped too.
 *   - A packet that is allowed again clears the mark.
 *   - A packet that begins a connection is committed only if it is allowed. */

/* One of the two directions. */
struct direction {
    uint8_t ct_table, sg_table, commit_table, next_table;
    enum flow_field zone;
};

static const struct direction directions[] = {
    { TABLE_EG_CT, TABLE_EG_SG, TABLE_EG_COMMIT, TABLE_SNAT, REG_SRC_ZONE },
    { TABLE_IN_CT, TABLE_IN_SG, TABLE_IN_COMMIT, TABLE_UN_LB, REG_DST_ZONE },
};

static const uint32_t families[] = { ETH_TYPE_IPV4, ETH_TYPE_IPV6 };

static void
match_mark(struct flow_builder *builder)
{
    flow_match_u32_masked(builder, FIELD_CT_MARK, CT_MARK_DENIED,
                          CT_MARK_DENIED);
}

/* ---- EG_CT, IN_CT ---- */

static void
emit_track(struct emit *emit, const struct direction *direction)
{
    struct flow_builder b;

    /* What a router says is answered or asked for by ourselves (N19). */
    flow_begin(&b, direction->ct_table, 200);
    flow_match_u32(&b, REG_SRC_IDENTITY, IDENTITY_ROUTER);
    flow_resubmit(&b, direction->next_table);
    emit_flow(emit, &b);

    for (size_t i = 0; i < 2; i++) {
        flow_begin(&b, direction->ct_table, 100);
        flow_match_u32(&b, FIELD_ETH_TYPE, families[i]);
        flow_ct(&b, direction->zone, direction->sg_table);
        emit_flow(emit, &b);
    }

    /* ARP: no connections, and no rules. */
    flow_begin(&b, direction->ct_table, 0);
    flow_resubmit(&b, direction->next_table);
    emit_flow(emit, &b);
}

/* ---- EG_SG, IN_SG ---- */

static void
emit_known(struct emit *emit, const struct direction *direction,
           uint32_t ct_state)
{
    struct flow_builder b;

    flow_begin(&b, direction->sg_table, SECURITY_PRIORITY_DENIED);
    flow_match_ct_state(&b, CT_STATE_TRK | ct_state, 0);
    match_mark(&b);
    emit_flow(emit, &b);

    flow_begin(&b, direction->sg_table, SECURITY_PRIORITY_PASS);
    flow_match_ct_state(&b, CT_STATE_TRK | ct_state, 0);
    flow_resubmit(&b, direction->next_table);
    emit_flow(emit, &b);
}

static void
emit_states(struct emit *emit, const struct direction *direction)
{
    struct flow_builder b;

    flow_begin(&b, direction->sg_table, SECURITY_PRIORITY_INVALID);
    flow_match_ct_state(&b, CT_STATE_TRK | CT_STATE_INV, 0);
    emit_flow(emit, &b);

    emit_known(emit, direction, CT_STATE_REL);
    emit_known(emit, direction, CT_STATE_EST | CT_STATE_RPL);

    /* Below all rules: denied.  Marked already: the table's end drops it. */
    for (size_t i = 0; i < 2; i++) {
        flow_begin(&b, direction->sg_table, SECURITY_PRIORITY_DENY);
        flow_match_u32(&b, FIELD_ETH_TYPE, families[i]);
        flow_match_ct_state(&b, CT_STATE_TRK | CT_STATE_EST, CT_STATE_RPL);
        flow_match_u32_masked(&b, FIELD_CT_MARK, 0, CT_MARK_DENIED);
        flow_ct_commit(&b, direction->zone, CT_MARK_DENIED);
        emit_flow(emit, &b);
    }
}

/* ---- EG_COMMIT, IN_COMMIT ---- */

/* The family is for the switch, which takes ct() for IP only. */
static void
emit_commit(struct emit *emit, const struct direction *direction,
            uint32_t family)
{
    struct flow_builder b;

    flow_begin(&b, direction->commit_table, 100);
    flow_match_u32(&b, FIELD_ETH_TYPE, family);
    flow_match_ct_state(&b, CT_STATE_TRK | CT_STATE_NEW, 0);
    flow_ct_commit(&b, direction->zone, 0);
    flow_resubmit(&b, direction->next_table);
    emit_flow(emit, &b);

    flow_begin(&b, direction->commit_table, 100);
    flow_match_u32(&b, FIELD_ETH_TYPE, family);
    flow_match_ct_state(&b, CT_STATE_TRK | CT_STATE_EST, 0);
    match_mark(&b);
    flow_ct_commit(&b, direction->zone, 0);
    flow_resubmit(&b, direction->next_table);
    emit_flow(emit, &b);
}

static void
emit_commits(struct emit *emit, const struct direction *direction)
{
    struct flow_builder b;

    emit_commit(emit, direction, ETH_TYPE_IPV4);
    emit_commit(emit, direction, ETH_TYPE_IPV6);

    flow_begin(&b, direction->commit_table, 0);
    flow_resubmit(&b, direction->next_table);
    emit_flow(emit, &b);
}

/* ---- FLOOD_SG ---- */

static void
emit_flood(struct emit *emit)
{
    struct flow_builder b;

    flow_begin(&b, TABLE_FLOOD_SG, SECURITY_PRIORITY_PASS);
    flow_match_u32(&b, REG_SRC_IDENTITY, IDENTITY_ROUTER);
    flow_resubmit(&b, TABLE_FLOOD_OUT);
    emit_flow(emit, &b);

    flow_begin(&b, TABLE_FLOOD_SG, SECURITY_PRIORITY_PASS);
    flow_match_u32(&b, FIELD_ETH_TYPE, ETH_TYPE_ARP);
    flow_resubmit(&b, TABLE_FLOOD_OUT);
    emit_flow(emit, &b);
}

static void
emit_base(struct emit *emit)
{
    for (size_t i = 0; i < 2; i++) {
        emit_track(emit, &directions[i]);
        emit_states(emit, &directions[i]);
        emit_commits(emit, &directions[i]);
    }
    if (emit_has_flood_network(emit)) {
        emit_flood(emit);
    }
}

const struct emitter emitter_security_base = {
    .name = "security-base",
    .scope = EMIT_BASE,
    .emit_base = emit_base,
};

/* ---- Policies without a rule of direction out ---- */

/* How many groups the combination names. */
static size_t
count_groups(const struct state_identity *identity)
{
    size_t count = identity->combination[0] != '\0';
    for (const char *at = identity->combination; *at != '\0'; at++) {
        count += *at == ',';
    }
    return count;
}

/* False also if some of its groups have not come yet: what they forbid is not
 * known then. */
static bool
lets_all_out(struct emit *emit, const struct state_identity *identity)
{
    const struct state_row *row = NULL;
    size_t groups = 0;

    while ((row = emit_next(emit, STATE_TABLE_IDENTITY_MEMBER,
                            STATE_IDENTITY_MEMBER_COL_IDENTITY,
                            &identity->row.uuid, row)) != NULL) {
        const struct weft_uuid *group = &state_identity_member_from(row)->group;
        if (emit_has_out_rule(emit, group) ||
            emit_row(emit, STATE_TABLE_SECURITY_GROUP, group) == NULL) {
            return false;
        }
        groups++;
    }
    return groups == count_groups(identity);
}

static void
emit_out(struct emit *emit, const struct state_row *row)
{
    const struct state_identity *identity = state_identity_from(row);
    struct flow_builder b;

    if (!emit_has_local_of_identity(emit, &row->uuid) ||
        !lets_all_out(emit, identity)) {
        return;
    }
    flow_begin(&b, TABLE_EG_SG, SECURITY_PRIORITY_PLAIN);
    flow_match_u32(&b, REG_SRC_IDENTITY, identity->number);
    flow_resubmit(&b, TABLE_EG_COMMIT);
    emit_flow(emit, &b);
}

const struct emitter emitter_security_out = {
    .name = "security-out",
    .scope = EMIT_ROWS,
    .table = STATE_TABLE_IDENTITY,
    .emit = emit_out,
};

bool
security_wants_dst_identity(struct emit *emit)
{
    return emit_has_out_rule_to_group(emit);
}
