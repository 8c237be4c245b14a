/* SPDX-License-Identifier: Apache-2.0 */
/* Answers packets on standard input, one a line, for the port of
 * packet_in_view.h, so that a test in another language can judge the answers by
 * a protocol library that is not ours:
 *
 *     KIND HEX      ->      RESULT HEX */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/packet_in_view.h"

#define LINE_MAX_SIZE 8192

static size_t
from_hex(const char *text, uint8_t *bytes, size_t size)
{
    size_t count = 0;

    while (count < size && text[0] != '\0' && text[0] != '\n' &&
           text[1] != '\0') {
        const char pair[3] = { text[0], text[1], '\0' };
        bytes[count++] = (uint8_t)strtoul(pair, NULL, 16);
        text += 2;
    }
    return count;
}

int
main(void)
{
    static char line[LINE_MAX_SIZE];
    struct port_view view;

    packet_in_test_view(&view);
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint8_t bytes[LINE_MAX_SIZE / 2];
        struct packet_in_reply reply = { 0 };
        char *rest = NULL;
        uint32_t kind = (uint32_t)strtoul(line, &rest, 10);
        size_t size = from_hex(rest + strspn(rest, " "), bytes, sizeof bytes);
        int result = packet_in_test_answer(&view, kind, bytes, size, &reply);
        printf("%d ", result);
        for (size_t i = 0; result == 0 && i < reply.size; i++) {
            printf("%02x", reply.bytes[i]);
        }
        printf("\n");
        (void)fflush(stdout);
    }
    return 0;
}
