/* SPDX-License-Identifier: MIT */
/* The trace: a line an event, `time fiber:name what`.  No addresses, no real
 * time, no kernel's numbers. */
#include "sim_inside.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "turns.h"

static struct {
    uint64_t state[STREAMS];
    uint64_t hash;
    FILE *file;
} out;

/* ---- drawing: splitmix64 ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t next(enum stream s)
{
    out.state[s] += UINT64_C(0x9e3779b97f4a7c15);
    return mix(out.state[s]);
}

uint64_t draw(enum stream s, uint64_t below)
{
    return below > 1 ? next(s) % below : 0;
}

keel_ns draw_span(enum stream s, keel_ns least, keel_ns most)
{
    return least + (keel_ns)draw(s, (uint64_t)(most - least) + 1);
}

bool chance(enum stream s, unsigned ppm)
{
    return ppm > 0 && draw(s, 1000000) < ppm;
}

void draw_bytes(void *buf, size_t size)
{
    unsigned char *at = buf;

    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)next(BY_PROGRAM);
}

/* ---- lines ---- */

int trace_open(const struct keel_sim_how *how)
{
    const char *path = how->trace ? how->trace : getenv("KEEL_SIM_TRACE");

    for (int s = 0; s < STREAMS; s++)
        out.state[s] =
            mix(how->seed + UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)(s + 1));
    out.hash = UINT64_C(0xcbf29ce484222325);
    out.file = NULL;
    if (!path || !*path)
        return 0;
    out.file = fopen(path, "we");
    if (!out.file)
        return -errno;
    /* A program that dies is what one reads it for. */
    (void)setvbuf(out.file, NULL, _IOLBF, 0);
    return 0;
}

uint64_t trace_close(void)
{
    if (out.file)
        (void)fclose(out.file);
    out.file = NULL;
    return out.hash;
}

static void add(const char *text, size_t size)
{
    uint64_t h = out.hash;

    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    out.hash = h;
    if (out.file)
        (void)fwrite(text, 1, size, out.file);
}

static void add_line(const char *format, va_list args)
{
    char line[512];
    int n, more;

    n = snprintf(line, sizeof line, "%lld %u:%s ", (long long)world.now,
                 fiber_number(NULL), fiber_name());
    more = vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    n += more < (int)sizeof line - n - 2 ? more : (int)sizeof line - n - 2;
    line[n++] = '\n';
    add(line, (size_t)n);
}

void trace(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add_line(format, args);
    va_end(args);
}

void keel_sim_note(const char *format, ...)
{
    va_list args;

    keel_assert(world.runs);
    va_start(args, format);
    add_line(format, args);
    va_end(args);
}
