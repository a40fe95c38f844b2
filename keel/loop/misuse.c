/* SPDX-License-Identifier: MIT */
/* Programmer's mistakes, where more is known than the call itself says. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "report.h"
#include "sched.h"
#include "seam/quarantine.h"

_Noreturn void misuse_here(const void *object, const char *what)
{
    struct frames f = {0};
    struct page p = {0};

    frames_here(&f, __builtin_frame_address(0));
    page_print(&p, "keel: assertion failed: ");
    page_call(&p, &f);
    page_print(&p, "(%p): %s, in '%s'", object, what, keel_name());
    page_place(&p, &f);
    page_print(&p, "\n");
    page_frames(&p, &f);
    page_flush(&p, STDERR_FILENO);
    abort();
}

int mistake(const char *call, const void *object, const char *what, int error)
{
    char text[256];
    int n;

    if (debug_program())
        misuse(call, object, what);
    n = snprintf(text, sizeof text, "keel: %s(%p): %s, in '%s'\n", call, object,
                 what, keel_name());
    /* Nothing is left to be done if this fails. */
    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
        return error;
    return error;
}
