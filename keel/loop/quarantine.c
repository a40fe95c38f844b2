/* SPDX-License-Identifier: MIT */
/* Use after free, in programs compiled with KEEL_DEBUG.
 *
 * Each piece of memory has pages of its own there, in one range of addresses.
 * What is freed is taken from the process's reach, and its addresses are given
 * out again only when the whole range has been gone through.  So whoever uses a
 * freed object meets a fault at the first touch, in keel or outside, and no
 * call of keel pays for a look.  The handler says which call that was, whose
 * object, who had freed it where, and lets the fault happen again: the core
 * points at the culprit.
 *
 * Pieces too large, or too many at a time, are malloc(3)'s: each costs the
 * kernel a mapping, of which a process has 65,530 (vm.max_map_count).
 *
 * ASan does all of this by itself, for all memory. */
#include <keel/base.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "loop.h"
#include "report.h"
#include "sanitize.h"
#include "seam/quarantine.h"
#include "symbol.h"

enum {
    PAGES = 1 << 20,    /* 4 GiB of addresses, of 4 KiB pages */
    PAGES_MOST = 1024,  /* of one piece */
    LIVE_MOST = 8192,   /* pieces at a time */
    LOOKS_MOST = 65536, /* pages looked at for one piece */
    FREED_FRAMES = 12,
    NAME_BYTES = 32,
};

enum state { EMPTY, LIVE, GONE };

/* A page; what is said of a piece is said at its first. */
struct leaf {
    uint32_t first;
    uint8_t state;
    uint32_t pages;
    size_t size;
    int frames; /* GONE: who freed it, and where */
    void *pc[FREED_FRAMES];
    char name[NAME_BYTES];
};

/* Under `lock`, but for what never changes once it is on. */
static _Atomic uint32_t lock;
static char *base;
static struct leaf *leaves;
static size_t page_bytes;
static uint32_t cursor, live;
static _Atomic bool on;

bool debug_program(void)
{
    return atomic_load_explicit(&on, memory_order_relaxed);
}

/* ---- which pages ---- */

static bool is_here(const void *p)
{
    return base && (uintptr_t)p - (uintptr_t)base < PAGES * page_bytes;
}

static struct leaf *leaf_of(const void *p)
{
    size_t nr = ((uintptr_t)p - (uintptr_t)base) / page_bytes;

    return &leaves[leaves[nr].first];
}

/* From the cursor on; PAGES: none is to be had. */
static uint32_t find_room(uint32_t pages)
{
    uint32_t at = cursor, run = 0;

    for (int looks = 0; looks < LOOKS_MOST; looks++, at++) {
        if (at == PAGES)
            at = run = 0;
        run = leaves[at].state == LIVE ? 0 : run + 1;
        if (run == pages)
            return at + 1 - pages;
    }
    return PAGES;
}

static void *take_pages(uint32_t pages, size_t size)
{
    uint32_t at = live < LIVE_MOST ? find_room(pages) : PAGES;
    char *p;

    if (at == PAGES)
        return NULL;
    p = base + at * page_bytes;
    if (mprotect(p, pages * page_bytes, PROT_READ | PROT_WRITE) < 0)
        return NULL;
    for (uint32_t i = 0; i < pages; i++) {
        leaves[at + i].first = at;
        leaves[at + i].state = LIVE;
    }
    leaves[at].pages = pages;
    leaves[at].size = size;
    cursor = at + pages;
    live++;
    return p;
}

static void *pages_alloc(size_t size)
{
    uint32_t pages;
    void *p;

    if (size > PAGES_MOST * page_bytes)
        return NULL;
    pages = (uint32_t)((size + page_bytes - 1) / page_bytes);
    spin_hold(&lock);
    p = take_pages(pages ? pages : 1, size ? size : 1);
    spin_drop(&lock);
    return p;
}

static size_t pages_size(const void *p)
{
    return is_here(p) ? leaf_of(p)->size : 0;
}

/* ---- to the end, and beyond ---- */

static void note_free(struct leaf *leaf, void *frame)
{
    struct frames f = {0};

    frames_here(&f, frame);
    leaf->frames = f.count < FREED_FRAMES ? f.count : FREED_FRAMES;
    memcpy(leaf->pc, f.pc, (size_t)leaf->frames * sizeof *leaf->pc);
    snprintf(leaf->name, sizeof leaf->name, "%s", keel_name());
}

static bool pages_free(void *p)
{
    struct leaf *leaf;

    if (!is_here(p))
        return false;
    leaf = leaf_of(p);
    if (leaf->state != LIVE)
        misuse("keel_free", p, "it was freed already");
    spin_hold(&lock);
    note_free(leaf, __builtin_frame_address(0));
    /* The memory goes back, its addresses do not. */
    madvise(p, leaf->pages * page_bytes, MADV_DONTNEED);
    mprotect(p, leaf->pages * page_bytes, PROT_NONE);
    for (uint32_t i = 0; i < leaf->pages; i++)
        leaf[i].state = GONE;
    live--;
    spin_drop(&lock);
    return true;
}

/* ---- the fault ---- */

/* What the processor was at; false: not known how to tell here. */
static bool where(const ucontext_t *u, void **ret_pc, void **ret_frame)
{
#if defined(__x86_64__)
    *ret_pc = (void *)u->uc_mcontext.gregs[REG_RIP];
    *ret_frame = (void *)u->uc_mcontext.gregs[REG_RBP];
    return true;
#elif defined(__aarch64__)
    *ret_pc = (void *)u->uc_mcontext.pc;
    *ret_frame = (void *)u->uc_mcontext.regs[29];
    return true;
#else
    (void)u;
    (void)ret_pc;
    (void)ret_frame;
    return false;
#endif
}

/* The handler was called by an instruction of the program, which is not within
 * malloc(3) or stdio: nothing there touches this memory.  So it may do more
 * than handlers may. */
void quarantine_fault(uintptr_t at, void *context)
{
    struct frames f = {0}, freed = {0};
    static char text[16384]; /* the last words of a process */
    struct page p = {.text = text, .size = sizeof text, .fixed = true};
    struct leaf *leaf, gone;
    void *pc, *frame;
    uintptr_t object;

    if (!debug_program() || !is_here((void *)at))
        return;
    spin_hold(&lock);
    leaf = leaf_of((void *)at);
    gone = *leaf;
    spin_drop(&lock);
    if (gone.state != GONE)
        return;
    object = (uintptr_t)base + (uintptr_t)(leaf - leaves) * page_bytes;
    if (where(context, &pc, &frame)) {
        f.pc[f.count++] = (char *)pc + 1; /* as one that returns there */
#ifdef KEEL_TSAN
        /* It ends a process that allocates in a handler, as the look for a
         * thread's stack does. */
        if (loop_here)
#endif
            frames_here(&f, frame);
    }
    freed.count = gone.frames;
    memcpy(freed.pc, gone.pc, sizeof gone.pc);

    page_print(&p, "keel: use after free: ");
    page_call(&p, &f);
    page_print(&p, "(0x%lx): it was freed by ", (unsigned long)object);
    page_call(&p, &freed);
    page_print(&p, " in '%s'", gone.name);
    page_place(&p, &freed);
    page_print(&p, ", in '%s'", keel_name());
    page_place(&p, &f);
    page_print(&p, "\n");
    page_frames(&p, &f);
    page_print(&p, "    freed\n");
    page_frames(&p, &freed);
    page_flush(&p, STDERR_FILENO);
}

/* ---- on ---- */

static void before_fork(void)
{
    spin_hold(&lock);
}

static void after_fork(void)
{
    spin_drop(&lock);
}

static const struct quarantine pages = {
    .alloc = pages_alloc,
    .free = pages_free,
    .size = pages_size,
};

static void *reserve(size_t size, int protection)
{
    void *p = mmap(NULL, size, protection,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void begin(void)
{
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    leaves = reserve(PAGES * sizeof *leaves, PROT_READ | PROT_WRITE);
    if (leaves)
        base = reserve(PAGES * page_bytes, PROT_NONE);
    if (!base)
        return; /* RLIMIT_AS; the rest goes on */
    pthread_atfork(before_fork, after_fork, after_fork);
    faults_watch();
    atomic_store_explicit(&quarantine, &pages, memory_order_release);
}

void keel_debug_program(void)
{
    if (atomic_exchange(&on, true))
        return;
#ifndef KEEL_ASAN
    begin();
#else
    (void)begin;
#endif
}
