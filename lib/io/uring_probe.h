/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_IO_URING_PROBE_H
#define LIB_IO_URING_PROBE_H

/* What the kernel knows about an open file.  Blocks: set-up only. */

#include "lib/io/io.h"

struct stat;

/* -EINVAL if the file needs a larger alignment than io.h allows. */
WEFT_MUST_CHECK int uring_probe_file(int fd, const struct stat *status,
                                     enum io_cache_mode mode,
                                     struct io_file_info *ret_info);

#endif /* LIB_IO_URING_PROBE_H */
