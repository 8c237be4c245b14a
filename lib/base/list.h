/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_LIST_H
#define LIB_BASE_LIST_H

/* Intrusive doubly linked list.
 *
 * A head and a node are both a 'struct list'; the ring runs through the head.
 * A node that is on no list is linked to itself (list_init, list_remove), so
 * that removing it again is harmless and list_is_linked() can tell.
 *
 *     struct work { struct list node; ... };
 *
 *     LIST_FOREACH (node, &queue) {
 *         struct work *work = container_of(node, struct work, node);
 *         ...
 *     }
 *
 * Ownership: the list owns nothing.  No thread safety. */

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/check.h"

struct list {
    struct list *prev;
    struct list *next;
};

/* Iterates with 'node', a 'struct list *' that the macro declares.  The body
 * may remove 'node' itself (and free it), but no other node. */
#define LIST_FOREACH(node, head)                                      \
    for (struct list *node = (head)->next, *node##_next = node->next; \
         node != (head); node = node##_next, node##_next = node->next)

static inline void
list_init(struct list *list)
{
    list->prev = list;
    list->next = list;
}

static inline bool
list_is_empty(const struct list *head)
{
    return head->next == head;
}

/* Whether 'node' is on some list. */
static inline bool
list_is_linked(const struct list *node)
{
    return node->next != node;
}

/* Puts 'node', which is on no list, in front of 'position'. */
static inline void
list_insert_before(struct list *position, struct list *node)
{
    node->prev = position->prev;
    node->next = position;
    position->prev->next = node;
    position->prev = node;
}

static inline void
list_push_back(struct list *head, struct list *node)
{
    list_insert_before(head, node);
}

static inline void
list_push_front(struct list *head, struct list *node)
{
    list_insert_before(head->next, node);
}

/* Takes 'node' off its list, if it is on one. */
static inline void
list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* The first node, or NULL. */
static inline struct list *
list_front(const struct list *head)
{
    return head->next == head ? NULL : head->next;
}

/* The last node, or NULL. */
static inline struct list *
list_back(const struct list *head)
{
    return head->prev == head ? NULL : head->prev;
}

/* Removes and returns the first node, or NULL. */
static inline struct list *
list_pop_front(struct list *head)
{
    struct list *node = list_front(head);
    if (node != NULL) {
        list_remove(node);
    }
    return node;
}

/* Moves all of 'source' behind the last node of 'head', in order. */
static inline void
list_splice_back(struct list *head, struct list *source)
{
    if (list_is_empty(source)) {
        return;
    }
    CHECK(head != source);
    source->next->prev = head->prev;
    source->prev->next = head;
    head->prev->next = source->next;
    head->prev = source->prev;
    list_init(source);
}

/* Walks the list: for tests and assertions. */
static inline size_t
list_count(const struct list *head)
{
    size_t count = 0;
    for (const struct list *node = head->next; node != head;
         node = node->next) {
        count++;
    }
    return count;
}

#endif /* LIB_BASE_LIST_H */
