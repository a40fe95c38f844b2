/* SPDX-License-Identifier: MIT */
/* Inside keel: what an address in code is called. */
#ifndef KEEL_SYMBOL_H
#define KEEL_SYMBOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symbol {
    char file[32];   /* the program's or library's, without its path */
    char name[96];   /* of the function; "" where the file does not say */
    uintptr_t at;    /* in the file, as addr2line wants it */
    uintptr_t after; /* the function's begin */
    bool in_keel;    /* as far as that can be told */
};

/* False: there is no code at `pc`.  Reads the file of the code when that is
 * first met, and takes a lock: not for signal handlers. */
bool symbol_find(uintptr_t pc, struct symbol *ret);

#endif
