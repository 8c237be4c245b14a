/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_CLUSTER_DISK_CLASS_H
#define BLOCKD_CLUSTER_DISK_CLASS_H

/* The kind of medium behind a path: "file", "nvme", "ssd", "hdd", or "" when it
 * cannot be told.  Asks sysfs; blocks briefly: control thread. */
const char *disk_class_find(const char *path);

#endif /* BLOCKD_CLUSTER_DISK_CLASS_H */
