/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CLI_TRANSFER_H
#define CLIENT_CLI_TRANSFER_H

/* Copying between disk images and NBD servers, by qemu-img. */

#include <stdint.h>

#include "lib/base/check.h"

/* Size of the disk in an image and its format, "raw" or "qcow2", found out by
 * its first bytes.  Says what is wrong: 0 or -errno. */
WEFT_MUST_CHECK int transfer_probe(const char *path, const char **ret_format,
                                   uint64_t *ret_bytes);

/* Runs qemu-img with 'arguments' (the first is "qemu-img", the last NULL; they
 * include -p) under a progress bar.  Says what is wrong: 0 or -errno. */
WEFT_MUST_CHECK int transfer_run(const char *const *arguments,
                                 const char *label);

#endif /* CLIENT_CLI_TRANSFER_H */
