/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/cluster/operation.h"

#include <stddef.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/uuid.h"

/* A part of a resource name, and the longest there is. */
#define PART_SIZE 64u

static struct operation_verdict
verdict_done(void)
{
    return (struct operation_verdict){ .is_done = true };
}

static struct operation_verdict
verdict_failed(const char *text)
{
    return (struct operation_verdict){ .is_done = true,
                                       .has_failed = true,
                                       .text = text };
}

static struct operation_verdict
verdict_waits(const char *text)
{
    return (struct operation_verdict){ .text = text };
}

/* Takes "COLLECTION/ID" off the front of *text, and a '/' that follows. */
static bool
take_part(const char **text, const char *collection, char ret_id[PART_SIZE])
{
    size_t size = strlen(collection);

    if (strncmp(*text, collection, size) != 0 || (*text)[size] != '/') {
        return false;
    }
    const char *id = *text + size + 1;
    size_t id_size = strcspn(id, "/");
    if (id_size == 0 || id_size >= PART_SIZE) {
        return false;
    }
    memcpy(ret_id, id, id_size);
    ret_id[id_size] = '\0';
    *text = id + id_size + (id[id_size] == '/');
    return true;
}

static const struct state_volume *
operation_volume(struct state *state, const struct state_operation *row)
{
    const char *text = row->target;
    char project[PART_SIZE], id[PART_SIZE];

    return take_part(&text, "projects", project) &&
                   take_part(&text, "volumes", id) && *text == '\0'
               ? state_volume_find_by_project_name(state, project, id)
               : NULL;
}

const char *
operation_creation_error(struct state *state, const struct state_volume *volume)
{
    if (volume->state != STATE_VOLUME_STATE_CREATING) {
        return NULL;
    }
    for (uint32_t i = 0; i < volume->stripe_width; i++) {
        const struct state_mirror *mirror =
            state_mirror_find_by_volume_index(state, &volume->row.uuid, i);
        for (size_t j = 0; mirror != NULL && j < mirror->replicas_count; j++) {
            const struct state_replica_status *status =
                state_replica_status_find_by_replica(state,
                                                     &mirror->replicas[j].key);
            if (status != NULL &&
                status->state == STATE_REPLICA_STATUS_STATE_FAILED) {
                return status->error;
            }
        }
    }
    return NULL;
}

static struct operation_verdict
judge_create(struct state *state, const struct state_operation *row)
{
    const struct state_volume *volume = operation_volume(state, row);

    if (volume == NULL || volume->state == STATE_VOLUME_STATE_READY) {
        return verdict_done();
    }
    const char *error = operation_creation_error(state, volume);
    return error != NULL ? verdict_failed(error)
                         : verdict_waits("replicas are being created");
}

static struct operation_verdict
judge_attach(struct state *state, const struct state_operation *row)
{
    const struct state_volume *volume = operation_volume(state, row);
    const struct state_attachment *attachment =
        volume != NULL
            ? state_attachment_find_by_volume(state, &volume->row.uuid)
            : NULL;

    if (attachment == NULL) { /* Detached since. */
        return verdict_done();
    }
    const struct state_attachment_status *status =
        state_attachment_status_find_by_volume_host(state, &volume->row.uuid,
                                                    attachment->host);
    if (status == NULL) {
        return verdict_waits("the host has not taken it up");
    }
    if (status->state == STATE_ATTACHMENT_STATUS_STATE_FAILED) {
        return verdict_failed(status->reason);
    }
    return status->uri[0] != '\0' ? verdict_done()
                                  : verdict_waits(status->reason);
}

static struct operation_verdict
judge_detach(struct state *state, const struct state_operation *row)
{
    const struct state_volume *volume = operation_volume(state, row);

    return volume == NULL || uuid_is_nil(&volume->owner_instance) ||
                   state_attachment_find_by_volume(state, &volume->row.uuid) !=
                       NULL
               ? verdict_done()
               : verdict_waits("its host drains and flushes it");
}

static struct operation_verdict
judge_disk(struct state *state, const struct state_operation *row)
{
    const char *text = row->target;
    char host[PART_SIZE], id[PART_SIZE];
    const struct state_disk *disk = NULL;
    struct weft_uuid uuid;

    if (take_part(&text, "hosts", host) && take_part(&text, "disks", id) &&
        *text == '\0' && uuid_parse(id, &uuid) == 0) {
        disk = state_disk_find_by_disk_uuid(state, &uuid);
    }
    if (disk == NULL) {
        return verdict_done();
    }
    if (disk->state == STATE_DISK_STATE_REFUSED) {
        return verdict_failed(disk->error);
    }
    const struct state_disk_status *status =
        state_disk_status_find_by_disk_uuid(state, &disk->disk_uuid);
    if (disk->state == STATE_DISK_STATE_READY && status != NULL &&
        status->state == STATE_DISK_STATUS_STATE_SERVING) {
        return verdict_done();
    }
    return verdict_waits(status != NULL &&
                                 status->state == STATE_DISK_STATUS_STATE_FAILED
                             ? status->error
                             : "its host opens it");
}

static const struct operation_kind {
    const char *name;
    struct operation_verdict (*judge)(struct state *state,
                                      const struct state_operation *row);
} operation_kinds[] = {
    { "CreateVolume", judge_create },
    { "AttachVolume", judge_attach },
    { "DetachVolume", judge_detach },
    { "CreateDisk", judge_disk },
};

static const struct operation_kind *
operation_kind_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(operation_kinds); i++) {
        if (strcmp(operation_kinds[i].name, name) == 0) {
            return &operation_kinds[i];
        }
    }
    return NULL;
}

struct operation_verdict
operation_judge(struct state *state, const struct state_operation *row)
{
    const struct operation_kind *kind = operation_kind_find(row->kind);

    if (row->state == STATE_OPERATION_STATE_FAILED) {
        return verdict_failed(row->error);
    }
    return row->state == STATE_OPERATION_STATE_DONE || kind == NULL
               ? verdict_done()
               : kind->judge(state, row);
}
