/* SPDX-License-Identifier: Apache-2.0 */

/* Identities: combinations of groups as numbers on the wire (N3).
 *
 * One is made in the transaction that first assigns it; the index on the
 * combination decides if two do so at once.  It is deleted by the clean-up
 * (gc.c) when no port has had it for a while, or together with a group. */

#include <stdlib.h>
#include <string.h>

#include "netd/api/internal.h"

#define COMBINATION_SIZE (NET_GROUPS_MAX * UUID_TEXT_SIZE + 1)

static int
compare_groups(const void *a, const void *b)
{
    const struct state_security_group *const *left = a;
    const struct state_security_group *const *right = b;

    return uuid_compare(&(*left)->row.uuid, &(*right)->row.uuid);
}

bool
net_groups_find(struct api_op *op, struct state *state, char **names,
                size_t count, const char *project,
                struct net_groups *ret_groups)
{
    struct net_groups groups = { .count = 0 };

    CHECK(count <= NET_GROUPS_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct state_row *row =
            net_op_find(op, state, NET_GROUP, "security_groups", names[i]);
        if (row == NULL) {
            return false;
        }
        const struct state_security_group *group =
            state_security_group_from(row);
        if (strcmp(group->project, project) != 0) {
            (void)api_op_refuse(op, RPC_FAILED_PRECONDITION, "OTHER_PROJECT",
                                "security group \"%s\" is of project \"%s\", "
                                "the port of \"%s\"; take a group of its own "
                                "project",
                                group->name, group->project, project);
            return false;
        }
        bool is_there = false;
        for (uint32_t k = 0; k < groups.count; k++) {
            is_there = is_there || groups.rows[k] == group;
        }
        if (!is_there) { /* Named twice is in it once. */
            groups.rows[groups.count++] = group;
        }
    }
    qsort(groups.rows, groups.count, sizeof(struct state_security_group *),
          compare_groups);
    *ret_groups = groups;
    return true;
}

static void
combination_format(const struct net_groups *groups,
                   char ret_text[COMBINATION_SIZE])
{
    size_t used = 0;

    ret_text[0] = '\0';
    for (uint32_t i = 0; i < groups->count; i++) {
        if (i > 0) {
            ret_text[used++] = ',';
        }
        uuid_format(&groups->rows[i]->row.uuid, ret_text + used);
        used += UUID_TEXT_SIZE - 1;
    }
}

void
net_identity_take(struct api_op *op, struct state_txn *txn, struct state *state,
                  const struct net_groups *groups,
                  struct weft_uuid *ret_identity)
{
    char combination[COMBINATION_SIZE];

    combination_format(groups, combination);
    const struct state_identity *old =
        state_identity_find_by_combination(state, combination);
    if (old != NULL) {
        /* It may be cleaned up at this moment: then all is built anew. */
        state_txn_verify(txn, &old->row, 0);
        *ret_identity = old->row.uuid;
        return;
    }
    struct state_identity row = { .row.table = STATE_TABLE_IDENTITY,
                                  .combination = combination };
    api_op_uuid(op, "identity", &row.row.uuid);
    row.number = net_number_take(op, txn, "identity", &row.row.uuid);
    state_txn_insert(txn, &row.row, STATE_IDENTITY_COL_ALL);
    for (uint32_t i = 0; i < groups->count; i++) {
        struct state_identity_member member = {
            .row.table = STATE_TABLE_IDENTITY_MEMBER,
            .identity = row.row.uuid,
            .group = groups->rows[i]->row.uuid,
        };
        char purpose[32 + UUID_TEXT_SIZE] = "member/";
        uuid_format(&member.group, purpose + strlen(purpose));
        api_op_uuid(op, purpose, &member.row.uuid);
        state_txn_insert(txn, &member.row, STATE_IDENTITY_MEMBER_COL_ALL);
    }
    *ret_identity = row.row.uuid;
}

void
net_identity_groups(const struct state *state, const struct weft_uuid *identity,
                    struct net_groups *ret_groups)
{
    const struct state_identity *row = state_identity_get(state, identity);

    ret_groups->count = 0;
    for (const char *text = row != NULL ? row->combination : "";
         *text != '\0' && ret_groups->count < NET_GROUPS_MAX;) {
        char id[UUID_TEXT_SIZE];
        struct weft_uuid uuid;
        size_t size = strcspn(text, ",");
        if (size == sizeof id - 1) {
            memcpy(id, text, size);
            id[size] = '\0';
            const struct state_security_group *group =
                uuid_parse(id, &uuid) == 0
                    ? state_security_group_get(state, &uuid)
                    : NULL;
            if (group != NULL) {
                ret_groups->rows[ret_groups->count++] = group;
            }
        }
        text += size;
        text += *text == ',';
    }
}

void
net_identity_delete(struct state_txn *txn, const struct state *state,
                    const struct state_identity *identity)
{
    for (const struct state_identity_member *row = NULL;
         (row =
              state_identity_member_next_by_identity(state, &identity->row.uuid,
                                                     row)) != NULL;) {
        state_txn_delete(txn, STATE_TABLE_IDENTITY_MEMBER, &row->row.uuid);
    }
    state_txn_delete(txn, STATE_TABLE_IDENTITY, &identity->row.uuid);
    net_number_free(txn, state, "identity", identity->number);
}
