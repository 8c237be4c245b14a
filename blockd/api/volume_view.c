/* SPDX-License-Identifier: Apache-2.0 */

/* Volumes: from rows to messages. */

#include <string.h>

#include "blockd/api/api_internal.h"
#include "blockd/cluster/operation.h"

/* "nbd+unix:///NAME?socket=PATH" and vhost-user paths name a socket. */
static char *
volume_socket(struct reply_arena *arena, const struct state_attachment *row,
              const char *uri)
{
    static const char key[] = "?socket=";
    const char *found = strstr(uri, key);

    if (row->kind == STATE_ATTACHMENT_KIND_VHOST_USER) {
        return reply_text(arena, "%s", uri);
    }
    return reply_text(arena, "%s", found != NULL ? found + sizeof key - 1 : "");
}

static Weft__V1__Attachment *
volume_attachment(struct reply_arena *arena, const struct state_attachment *row,
                  const struct state_attachment_status *status)
{
    Weft__V1__Attachment *attachment = reply_alloc(arena, sizeof *attachment);

    weft__v1__attachment__init(attachment);
    attachment->host = reply_text(arena, "hosts/%s", row->host);
    attachment->export_kind = row->kind == STATE_ATTACHMENT_KIND_VHOST_USER
                                  ? WEFT__V1__EXPORT_KIND__VHOST_USER
                                  : WEFT__V1__EXPORT_KIND__NBD;
    attachment->state = WEFT__V1__ATTACHMENT__STATE__PREPARING;
    if (status == NULL) {
        attachment->state_reason =
            reply_text(arena, "host %s has not taken it up", row->host);
        return attachment;
    }
    attachment->state_reason = reply_text(arena, "%s", status->reason);
    attachment->create_time = api_time(arena, status->since_ms);
    if (status->state == STATE_ATTACHMENT_STATUS_STATE_FAILED) {
        attachment->state = WEFT__V1__ATTACHMENT__STATE__FAILED;
    } else if (status->state == STATE_ATTACHMENT_STATUS_STATE_DETACHING) {
        attachment->state = WEFT__V1__ATTACHMENT__STATE__CLOSING;
    } else if (status->uri[0] != '\0') {
        attachment->state = WEFT__V1__ATTACHMENT__STATE__READY;
        if (row->kind == STATE_ATTACHMENT_KIND_NBD) {
            attachment->uri = reply_text(arena, "%s", status->uri);
        }
        attachment->socket_path = volume_socket(arena, row, status->uri);
    }
    return attachment;
}

static void
volume_replica_state(struct reply_arena *arena, struct state *state,
                     const struct state_mirror *mirror,
                     const struct state_attachment_status *status,
                     const struct weft_uuid *uuid, Weft__V1__Replica *replica)
{
    const struct state_replica_status *known =
        state_replica_status_find_by_replica(state, uuid);

    if (known == NULL || known->state == STATE_REPLICA_STATUS_STATE_FAILED) {
        replica->state = WEFT__V1__REPLICA__STATE__CREATING;
        replica->state_reason =
            reply_text(arena, "%s", known != NULL ? known->error : "");
        return;
    }
    if (state_uuids_contain(mirror->in_sync, mirror->in_sync_count, uuid)) {
        replica->state = WEFT__V1__REPLICA__STATE__IN_SYNC;
        return;
    }
    replica->state = WEFT__V1__REPLICA__STATE__STALE;
    replica->state_reason =
        reply_text(arena, status != NULL
                              ? "its host or disk does not answer"
                              : "it missed writes; it is brought up to date "
                                "when the volume is attached");
    for (size_t i = 0; status != NULL && i < status->progress_count; i++) {
        if (status->progress[i].key == (int64_t)mirror->index) {
            Weft__V1__Progress *progress = reply_alloc(arena, sizeof *progress);
            weft__v1__progress__init(progress);
            progress->done = status->progress[i].value;
            progress->total = 100;
            progress->unit = reply_text(arena, "percent");
            replica->resync_progress = progress;
            replica->state = WEFT__V1__REPLICA__STATE__RESYNCING;
            replica->state_reason = reply_text(arena, "%s", "");
        }
    }
}

static Weft__V1__Mirror *
volume_mirror_message(struct reply_arena *arena, struct state *state,
                      const struct state_mirror *row,
                      const struct state_attachment_status *status)
{
    Weft__V1__Mirror *mirror = reply_alloc(arena, sizeof *mirror);

    weft__v1__mirror__init(mirror);
    mirror->index = (int32_t)row->index;
    mirror->uid = reply_uuid(arena, &row->row.uuid);
    mirror->view = (int64_t)row->view;
    mirror->in_sync_count = (int32_t)row->in_sync_count;
    mirror->replicas =
        reply_alloc(arena, row->replicas_count * sizeof *mirror->replicas);
    for (size_t i = 0; i < row->replicas_count; i++) {
        Weft__V1__Replica *replica = reply_alloc(arena, sizeof *replica);
        const struct state_disk *disk =
            state_disk_find_by_disk_uuid(state, &row->replicas[i].value);
        weft__v1__replica__init(replica);
        replica->uid = reply_uuid(arena, &row->replicas[i].key);
        replica->disk = api_disk_name(arena, state, &row->replicas[i].value);
        if (disk != NULL) {
            replica->host = reply_text(arena, "hosts/%s", disk->host);
        }
        volume_replica_state(arena, state, row, status, &row->replicas[i].key,
                             replica);
        mirror->replicas[mirror->n_replicas++] = replica;
    }
    return mirror;
}

static void
volume_fill_health(struct reply_arena *arena, struct state *state,
                   const struct state_volume *row,
                   const struct state_attachment_status *status,
                   Weft__V1__Volume *volume)
{
    if (uuid_is_nil(&row->owner_instance)) {
        return; /* Nobody knows. */
    }
    if (status != NULL && status->state == STATE_ATTACHMENT_STATUS_STATE_HELD) {
        volume->health = WEFT__V1__VOLUME__HEALTH__HELD;
        volume->held_reason = reply_text(arena, "%s", status->reason);
        volume->held_time = api_time(arena, status->since_ms);
        return;
    }
    volume->health = WEFT__V1__VOLUME__HEALTH__HEALTHY;
    for (uint32_t i = 0; i < row->stripe_width; i++) {
        const struct state_mirror *mirror =
            state_mirror_find_by_volume_index(state, &row->row.uuid, i);
        if (mirror == NULL || mirror->in_sync_count < mirror->replicas_count) {
            volume->health = WEFT__V1__VOLUME__HEALTH__DEGRADED;
        }
    }
}

static void
volume_fill_state(struct reply_arena *arena, struct state *state,
                  const struct state_volume *row,
                  const struct state_attachment *attachment,
                  const struct state_attachment_status *status,
                  Weft__V1__Volume *volume)
{
    const char *error = operation_creation_error(state, row);

    if (error != NULL) {
        volume->state = WEFT__V1__VOLUME__STATE__ERROR;
        volume->state_reason = reply_text(arena, "%s", error);
    } else if (row->state == STATE_VOLUME_STATE_CREATING) {
        volume->state = WEFT__V1__VOLUME__STATE__CREATING;
        volume->state_reason =
            reply_text(arena, "its replicas are being created");
    } else if (row->state == STATE_VOLUME_STATE_DELETING) {
        volume->state = WEFT__V1__VOLUME__STATE__DELETING;
    } else if (attachment == NULL) {
        volume->state = uuid_is_nil(&row->owner_instance)
                            ? WEFT__V1__VOLUME__STATE__AVAILABLE
                            : WEFT__V1__VOLUME__STATE__DETACHING;
    } else if (status == NULL || status->uri[0] == '\0') {
        volume->state = WEFT__V1__VOLUME__STATE__ATTACHING;
        if (status != NULL) {
            volume->state_reason = reply_text(arena, "%s", status->reason);
        }
    } else {
        volume->state = WEFT__V1__VOLUME__STATE__ATTACHED;
    }
}

Weft__V1__Volume *
api_volume_message(struct reply_arena *arena, struct state *state,
                   const struct state_volume *row, bool full)
{
    const struct state_pool *pool = state_pool_get(state, &row->pool);
    const struct state_attachment *attachment =
        state_attachment_find_by_volume(state, &row->row.uuid);
    const struct state_attachment_status *status =
        attachment != NULL
            ? state_attachment_status_find_by_volume_host(state, &row->row.uuid,
                                                          attachment->host)
            : NULL;
    Weft__V1__Volume *volume = reply_alloc(arena, sizeof *volume);

    weft__v1__volume__init(volume);
    volume->name =
        reply_text(arena, "projects/%s/volumes/%s", row->project, row->name);
    volume->uid = reply_uuid(arena, &row->row.uuid);
    volume->create_time = api_time(arena, row->create_time_ms);
    volume->size_bytes = (int64_t)row->size_bytes;
    if (pool != NULL) {
        volume->pool = reply_text(arena, "pools/%s", pool->name);
    }
    if (row->owner_host[0] != '\0') {
        volume->owner_host = reply_text(arena, "hosts/%s", row->owner_host);
    }
    volume->epoch = (int64_t)row->epoch;
    volume_fill_state(arena, state, row, attachment, status, volume);
    volume_fill_health(arena, state, row, status, volume);
    if (attachment != NULL) {
        volume->attachments = reply_alloc(arena, sizeof *volume->attachments);
        volume->attachments[0] = volume_attachment(arena, attachment, status);
        volume->n_attachments = 1;
    }
    if (!full) {
        return volume;
    }
    volume->mirrors =
        reply_alloc(arena, row->stripe_width * sizeof *volume->mirrors);
    for (uint32_t i = 0; i < row->stripe_width; i++) {
        const struct state_mirror *mirror =
            state_mirror_find_by_volume_index(state, &row->row.uuid, i);
        if (mirror != NULL) {
            volume->mirrors[volume->n_mirrors++] =
                volume_mirror_message(arena, state, mirror, status);
        }
    }
    return volume;
}
