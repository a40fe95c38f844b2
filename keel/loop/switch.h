/* SPDX-License-Identifier: MIT */
/* Inside keel: from one stack to another.
 *
 * A context that does not run is its stack pointer: what it must find again
 * lies on its stack, where it goes on above that. */
#ifndef KEEL_SWITCH_H
#define KEEL_SWITCH_H

#include <stddef.h>

/* Leaves this stack, noting in `*from` where, and goes on at `to`.  Returns
 * when somebody switches back to `*from`.
 *
 * Inline where that is known how, for the processor's sake: it predicts each
 * return by the calls before it, and after a switch those were another
 * stack's, so that every return until the caller's costs a misprediction.  The
 * compiler keeps what it needs of the registers listed as changed.  Of those
 * a callee keeps, System V AMD64 3.2.3, that leaves rbp, which cannot be
 * listed, and the control bits of mxcsr and the x87 unit; these are compared
 * before they are loaded, because they are nearly always the same and loading
 * them is what would cost most. */
#if defined(__x86_64__) && !defined(KEEL_SWITCH_PORTABLE)
#ifdef __AVX512F__
#define SWITCH_WIDE                                                            \
    , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23",  \
        "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30",         \
        "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#else
#define SWITCH_WIDE
#endif
static inline __attribute__((always_inline)) void switch_stacks(void **from,
                                                                void *to)
{
    __asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
                     "leaq -128(%%rsp), %%rsp\n\t" /* the red zone */
                     "pushq %%rax\n\t"
                     "pushq %%rbp\n\t"
                     "subq $8, %%rsp\n\t"
                     "stmxcsr (%%rsp)\n\t"
                     "fnstcw 4(%%rsp)\n\t"
                     "movl (%%rsp), %%eax\n\t"
                     "movzwl 4(%%rsp), %%ecx\n\t"
                     "movq %%rsp, (%%rdi)\n\t"
                     "movq %%rsi, %%rsp\n\t"
                     "cmpl (%%rsp), %%eax\n\t"
                     "jne 2f\n"
                     "3:\n\t"
                     "cmpw 4(%%rsp), %%cx\n\t"
                     "jne 4f\n"
                     "5:\n\t"
                     "addq $8, %%rsp\n\t"
                     "popq %%rbp\n\t"
                     "popq %%rdx\n\t"
                     "jmp *%%rdx\n"
                     "2:\n\t"
                     "ldmxcsr (%%rsp)\n\t"
                     "jmp 3b\n"
                     "4:\n\t"
                     "fldcw 4(%%rsp)\n\t"
                     "jmp 5b\n"
                     "1:\n\t"
                     "leaq 128(%%rsp), %%rsp"
                     : "+D"(from), "+S"(to)
                     :
                     : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11",
                       "r12", "r13", "r14", "r15", "cc", "memory", "xmm0",
                       "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
                       "xmm14", "xmm15", "mm0", "mm1", "mm2", "mm3", "mm4",
                       "mm5", "mm6", "mm7", "st", "st(1)", "st(2)", "st(3)",
                       "st(4)", "st(5)", "st(6)", "st(7)" SWITCH_WIDE);
}
/* The same as a call, for who does nothing after it but return.  It returns by
 * a jump where the processor would expect another place, that of the call which
 * left the other stack: two that yield in different places then cost no
 * misprediction either. */
void switch_away(void **from, void *to);
#else
void switch_stacks(void **from, void *to);
#define switch_away switch_stacks
#endif

/* Makes the stack [low, top) ready: the first switch to the pointer returned
 * calls entry(), which never returns. */
void *switch_prepare(void *low, void *top, void (*entry)(void));

/* Of a context that does not run: where it goes on, and its frame pointer, for
 * a backtrace.  False where this machine cannot say. */
int switch_where(void *sp, void **ret_pc, void **ret_frame);

#endif
