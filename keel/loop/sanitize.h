/* SPDX-License-Identifier: MIT */
/* Inside keel: what the tools that watch memory must be told about stacks.
 *
 * Each switch tells them where the thread goes; without that ASan reports
 * returns from dead frames, TSan mixes up the coroutines of a thread, and
 * valgrind warns that the stack jumps.  In a plain build all of it is empty. */
#ifndef KEEL_SANITIZE_H
#define KEEL_SANITIZE_H

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEL_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define KEEL_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define KEEL_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define KEEL_TSAN 1
#endif

#ifdef KEEL_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SAN_ASAN(x) x
#else
#define SAN_ASAN(x) ((void)0)
#endif

#ifdef KEEL_TSAN
#include <sanitizer/tsan_interface.h>
#define SAN_TSAN(x) x
#else
#define SAN_TSAN(x) ((void)0)
#endif

/* For what runs below or after a coroutine's own function, and never returns:
 * TSan would note the entry and wait for the exit, on a fiber used again and
 * again. */
#if defined(KEEL_TSAN) && defined(__clang__)
#define SAN_NO_TSAN __attribute__((disable_sanitizer_instrumentation))
#elif defined(KEEL_TSAN)
#define SAN_NO_TSAN __attribute__((no_sanitize("thread")))
#else
#define SAN_NO_TSAN
#endif

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif
#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND 0
#define VALGRIND_STACK_REGISTER(low, high) 0u
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

#endif
