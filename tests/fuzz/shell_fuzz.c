/* SPDX-License-Identifier: MIT */
/* Lines of the prompt: whatever is split can be quoted, and comes back. */
#include <stdint.h>
#include <string.h>

#include "client/shell_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *line = (const char *)data;
    struct shell_words w, again;
    char word[64];
    size_t start;

    keel_assert(shell_last_word(line, size, &start, word, sizeof(word)) >= 0);
    keel_assert(start <= size && strlen(word) < sizeof(word));
    if (shell_split(line, size, &w, NULL) < 0)
        return 0;
    keel_assert(w.count <= SHELL_WORDS && w.words[w.count] == NULL);
    for (int i = 0; i < w.count; i++) {
        size_t room = strlen(w.words[i]) * 4 + 3;
        char *quoted = keel_alloc(room);

        if (!quoted)
            break;
        keel_assert(shell_quote(w.words[i], quoted, room) == 0);
        /* Four bytes for each may be too long for a line. */
        if (shell_split(quoted, strlen(quoted), &again, NULL) == 0) {
            keel_assert(again.count == 1);
            keel_assert(strcmp(again.words[0], w.words[i]) == 0);
            shell_words_fini(&again);
        } else {
            keel_assert(strlen(quoted) > SHELL_LINE_BYTES);
        }
        keel_free(quoted);
    }
    shell_words_fini(&w);
    return 0;
}
