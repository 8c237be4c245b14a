/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/compile/tree.h"

#include <string.h>

#include "lib/base/check.h"

/* A heap by priority, a search tree by key.  The priority is a hash of the
 * key: chance enough for balance, as UUIDs are not chosen by tenants. */
static uint64_t
priority_of(const struct tree_link *link)
{
    uint64_t high, low;
    memcpy(&high, link->key->bytes, sizeof high);
    memcpy(&low, link->key->bytes + 8, sizeof low);

    uint64_t hash = (high ^ low * UINT64_C(0x9e3779b97f4a7c15)) + low;
    hash = (hash ^ hash >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    hash = (hash ^ hash >> 27) * UINT64_C(0x94d049bb133111eb);
    return hash ^ hash >> 31;
}

/* Where the pointer to 'link' is. */
static struct tree_link **
place_of(struct tree *tree, struct tree_link *link)
{
    if (link->parent == NULL) {
        return &tree->root;
    }
    return link->parent->left == link ? &link->parent->left
                                      : &link->parent->right;
}

/* Puts 'link' into the place of its parent, which becomes its child. */
static void
rotate_up(struct tree *tree, struct tree_link *link)
{
    struct tree_link *parent = link->parent;
    struct tree_link **place = place_of(tree, parent);
    struct tree_link *moved;

    if (parent->left == link) {
        moved = link->right;
        parent->left = moved;
        link->right = parent;
    } else {
        moved = link->left;
        parent->right = moved;
        link->left = parent;
    }
    if (moved != NULL) {
        moved->parent = parent;
    }
    link->parent = parent->parent;
    parent->parent = link;
    *place = link;
}

void
tree_add(struct tree *tree, struct tree_link *link, const struct weft_uuid *key)
{
    struct tree_link *parent = NULL;
    struct tree_link **place = &tree->root;

    while (*place != NULL) {
        parent = *place;
        int order = uuid_compare(key, parent->key);
        CHECK(order != 0);
        place = order < 0 ? &parent->left : &parent->right;
    }
    *link = (struct tree_link){ .parent = parent, .key = key };
    *place = link;
    tree->count++;

    uint64_t priority = priority_of(link);
    while (link->parent != NULL && priority > priority_of(link->parent)) {
        rotate_up(tree, link);
    }
}

void
tree_remove(struct tree *tree, struct tree_link *link)
{
    while (link->left != NULL || link->right != NULL) {
        struct tree_link *child = link->left;
        if (child == NULL || (link->right != NULL &&
                              priority_of(link->right) > priority_of(child))) {
            child = link->right;
        }
        rotate_up(tree, child);
    }
    *place_of(tree, link) = NULL;
    link->parent = NULL;
    link->key = NULL;
    CHECK(tree->count > 0);
    tree->count--;
}

struct tree_link *
tree_first(const struct tree *tree)
{
    struct tree_link *link = tree->root;
    while (link != NULL && link->left != NULL) {
        link = link->left;
    }
    return link;
}

struct tree_link *
tree_next(const struct tree_link *link)
{
    if (link->right != NULL) {
        struct tree_link *next = link->right;
        while (next->left != NULL) {
            next = next->left;
        }
        return next;
    }
    while (link->parent != NULL && link->parent->right == link) {
        link = link->parent;
    }
    return link->parent;
}
