/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_CONTAINER_OF_H
#define LIB_BASE_CONTAINER_OF_H

#include <stddef.h>

/* The struct of type 'type' whose member 'member' is at 'ptr'.  The dead
 * comparison makes the compiler reject a 'ptr' of any other type. */
#define container_of(ptr, type, member)                            \
    ((type *)(void *)((char *)(1 ? (ptr) : &((type *)0)->member) - \
                      offsetof(type, member)))

#endif /* LIB_BASE_CONTAINER_OF_H */
