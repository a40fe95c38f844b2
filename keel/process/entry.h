/* SPDX-License-Identifier: MIT */
/* Inside keel: entry points of its own.
 *
 * As KEEL_PROCESS (process.h), but it leaves the beginning to the program's own
 * constructors: those of a shared library run before them, when the program has
 * not registered anything yet. */
#ifndef KEEL_PROCESS_ENTRY_H
#define KEEL_PROCESS_ENTRY_H

#include <keel/process.h>

#define PROCESS_ENTRY(name_)                                                   \
    static keel_process_fn name_;                                              \
    static struct keel_process_entry keel_entry_##name_ = {.name = #name_,     \
                                                           .fn = name_};       \
    __attribute__((constructor(2000))) static void keel_enter_##name_(void)    \
    {                                                                          \
        keel_process_register(&keel_entry_##name_);                            \
    }                                                                          \
    static int name_(__attribute__((unused)) const struct keel_process_arg *arg)

#endif
