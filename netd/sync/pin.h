/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_SYNC_PIN_H
#define NETD_SYNC_PIN_H

/* The cloud that this host belongs to (N7), in state_dir/cloud: written at the
 * first contact, durably, before anything of that cloud is used. */

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"

/* -ENOENT: there is none yet.  -EINVAL: the file is damaged, 'err' says so. */
WEFT_MUST_CHECK int pin_read(const char *state_dir, struct weft_uuid *ret_cloud,
                             struct err *err);
WEFT_MUST_CHECK int pin_write(const char *state_dir,
                              const struct weft_uuid *cloud, struct err *err);

/* Replaces state_dir/name by 'size' bytes: written, synced, renamed, the
 * directory synced. */
WEFT_MUST_CHECK int pin_replace_file(const char *state_dir, const char *name,
                                     const void *bytes, size_t size,
                                     struct err *err);

#endif /* NETD_SYNC_PIN_H */
