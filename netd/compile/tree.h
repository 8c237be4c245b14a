/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_COMPILE_TREE_H
#define NETD_COMPILE_TREE_H

/* A set of objects in the order of their UUIDs: a treap whose links are inside
 * the objects.  The shape depends on the keys alone.  Adding, removing and
 * going on to the next cost O(log n) on average.
 *
 * An index with 10,000 members must take one more in microseconds, and be
 * walked in an order that does not depend on history. */

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/uuid.h"

struct tree_link {
    struct tree_link *left, *right, *parent;
    const struct weft_uuid *key; /* Borrowed from the object. */
};

struct tree {
    struct tree_link *root;
    size_t count;
};

/* 'key' must be new to the tree, and not change while it is in it. */
void tree_add(struct tree *tree, struct tree_link *link,
              const struct weft_uuid *key);
void tree_remove(struct tree *tree, struct tree_link *link);
/* NULL at the end. */
struct tree_link *tree_first(const struct tree *tree);
struct tree_link *tree_next(const struct tree_link *link);

#endif /* NETD_COMPILE_TREE_H */
