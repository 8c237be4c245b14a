/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/name.h"

#include <string.h>

static bool
name_is_end(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool
name_is_valid(const char *name)
{
    size_t size = name != NULL ? strnlen(name, NAME_SIZE_MAX + 1) : 0;

    if (size == 0 || size > NAME_SIZE_MAX || !name_is_end(name[0]) ||
        !name_is_end(name[size - 1])) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (!name_is_end(name[i]) && name[i] != '.' && name[i] != '_' &&
            name[i] != '-') {
            return false;
        }
    }
    return true;
}
