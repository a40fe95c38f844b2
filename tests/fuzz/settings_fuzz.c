/* SPDX-License-Identifier: MIT */
/* Settings files. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/settings.h"

struct conf {
    int64_t number, bytes, span;
    bool flag;
    char *text;
};

static const struct setting table[] = {
    {"a", "n", setting_number, offsetof(struct conf, number), -5, 99, ""},
    {"a", "b", setting_bytes, offsetof(struct conf, bytes), 1, INT64_MAX, ""},
    {"a", "s", setting_span, offsetof(struct conf, span), 0, 3600, ""},
    {"b", "f", setting_bool, offsetof(struct conf, flag), 0, 0, ""},
    {"b", "t", setting_text, offsetof(struct conf, text), 0, 20, ""},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf c = {.bytes = 1};
    int fd = memfd_create("settings", MFD_CLOEXEC);
    struct problem why;
    char path[64], sentence[2000];

    keel_assert(fd >= 0);
    keel_assert(write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (settings_read(path, table, sizeof table / sizeof *table, &c, &why) < 0)
        problem_sentence(&why, sentence, sizeof sentence);
    keel_assert(c.number >= -5 && c.number <= 99 && c.bytes >= 1);
    keel_assert(c.span >= 0 && c.span <= 3600);
    keel_free(c.text);
    close(fd);
    return 0;
}
