/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/uuid.h"

#include <errno.h>
#include <stddef.h>

#include "lib/base/be.h"

void
uuid_make_random(uint64_t high, uint64_t low, struct weft_uuid *ret_uuid)
{
    struct be64 halves[2] = { be64_make(high), be64_make(low) };

    memcpy(ret_uuid->bytes, halves, sizeof ret_uuid->bytes);
    ret_uuid->bytes[6] = (uint8_t)((ret_uuid->bytes[6] & 0x0f) | 0x40);
    ret_uuid->bytes[8] = (uint8_t)((ret_uuid->bytes[8] & 0x3f) | 0x80);
}

/* Whether a '-' stands in front of byte 'index'. */
static bool
has_dash_before(size_t index)
{
    return index == 4 || index == 6 || index == 8 || index == 10;
}

void
uuid_format(const struct weft_uuid *uuid, char ret_text[UUID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    char *at = ret_text;

    for (size_t i = 0; i < sizeof uuid->bytes; i++) {
        if (has_dash_before(i)) {
            *at++ = '-';
        }
        *at++ = digits[uuid->bytes[i] >> 4];
        *at++ = digits[uuid->bytes[i] & 0x0f];
    }
    *at = '\0';
}

/* The value of a hexadecimal digit, or -1. */
static int
digit_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}

int
uuid_parse(const char *text, struct weft_uuid *ret_uuid)
{
    struct weft_uuid uuid;

    if (strlen(text) != UUID_TEXT_SIZE - 1) {
        return -EINVAL;
    }
    for (size_t i = 0; i < sizeof uuid.bytes; i++) {
        if (has_dash_before(i) && *text++ != '-') {
            return -EINVAL;
        }
        int high = digit_value(*text++);
        int low = digit_value(*text++);
        if (high < 0 || low < 0) {
            return -EINVAL;
        }
        uuid.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *ret_uuid = uuid;
    return 0;
}
