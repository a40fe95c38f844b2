/* SPDX-License-Identifier: MIT */
#include "switch.h"

#include <stdint.h>

#if defined(__x86_64__) && !defined(KEEL_SWITCH_PORTABLE)

/* r8 carries over where the call that left the other stack would have returned
 * to: what the processor foresees for the next return.  It says nothing where
 * the other left by switch_stacks, and then the jump is as good. */
__asm__(".text\n"
        ".globl switch_away\n"
        ".hidden switch_away\n"
        ".type switch_away, @function\n"
        ".p2align 4\n"
        "switch_away:\n"
        "    .cfi_startproc\n"
        "    pushq %rbp\n"
        "    .cfi_def_cfa_offset 16\n"
        "    .cfi_offset rbp, -16\n"
        "    movq %rsp, %rbp\n"
        "    .cfi_def_cfa_register rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    .cfi_offset rbx, -24\n"
        "    .cfi_offset r12, -32\n"
        "    .cfi_offset r13, -40\n"
        "    .cfi_offset r14, -48\n"
        "    .cfi_offset r15, -56\n"
        "    leaq 1f(%rip), %rax\n"
        "    movq 8(%rbp), %r8\n"
        "    pushq %rax\n"
        "    pushq %rbp\n"
        "    subq $8, %rsp\n"
        "    stmxcsr (%rsp)\n"
        "    fnstcw 4(%rsp)\n"
        "    movl (%rsp), %eax\n"
        "    movzwl 4(%rsp), %ecx\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    cmpl (%rsp), %eax\n"
        "    jne 2f\n"
        "3:  cmpw 4(%rsp), %cx\n"
        "    jne 4f\n"
        "5:  addq $8, %rsp\n"
        "    popq %rbp\n"
        "    popq %rdx\n"
        "    jmp *%rdx\n"
        "2:  ldmxcsr (%rsp)\n"
        "    jmp 3b\n"
        "4:  fldcw 4(%rsp)\n"
        "    jmp 5b\n"
        "1:  popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    .cfi_def_cfa rsp, 8\n"
        "    cmpq (%rsp), %r8\n"
        "    jne 6f\n"
        "    ret\n"
        "6:  popq %rcx\n"
        "    .cfi_def_cfa_offset 0\n"
        "    jmp *%rcx\n"
        "    .cfi_endproc\n"
        ".size switch_away, .-switch_away\n");

void *switch_prepare(void *low, void *top, void (*entry)(void))
{
    /* As after a call, the stack pointer that entry() finds must be 8 above a
     * multiple of 16; the zero there ends backtraces. */
    uint64_t *sp = (uint64_t *)((uintptr_t)top & ~(uintptr_t)15);
    uint32_t mxcsr;
    uint16_t cw;

    (void)low;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(cw));
    *--sp = 0;
    *--sp = (uint64_t)(uintptr_t)entry;
    *--sp = 0; /* rbp */
    *--sp = (uint64_t)mxcsr | (uint64_t)cw << 32;
    return sp;
}

int switch_where(void *sp, void **ret_pc, void **ret_frame)
{
    uint64_t *at = sp;

    *ret_frame = (void *)(uintptr_t)at[1];
    *ret_pc = (void *)(uintptr_t)at[2];
    return 1;
}

#elif defined(__aarch64__) && !defined(KEEL_SWITCH_PORTABLE)

/* AAPCS64, 6.1: a callee keeps x19-x29, d8-d15 and returns to x30. */
__asm__(".text\n"
        ".globl switch_stacks\n"
        ".hidden switch_stacks\n"
        ".type switch_stacks, %function\n"
        ".p2align 4\n"
        "switch_stacks:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size switch_stacks, .-switch_stacks\n");

void *switch_prepare(void *low, void *top, void (*entry)(void))
{
    uint64_t *sp = (uint64_t *)((uintptr_t)top & ~(uintptr_t)15);

    (void)low;
    sp -= 20;
    for (int i = 0; i < 20; i++)
        sp[i] = 0;
    sp[11] = (uint64_t)(uintptr_t)entry;
    return sp;
}

int switch_where(void *sp, void **ret_pc, void **ret_frame)
{
    uint64_t *at = sp;

    *ret_frame = (void *)(uintptr_t)at[10];
    *ret_pc = (void *)(uintptr_t)at[11];
    return 1;
}

#else

/* Anywhere else the C library switches; it also saves the signal mask, by a
 * system call, and is a hundred times slower for that.  The contexts lie on
 * the stacks they describe. */
#include <ucontext.h>

void switch_stacks(void **from, void *to)
{
    ucontext_t here;

    *from = &here;
    swapcontext(&here, to);
}

void *switch_prepare(void *low, void *top, void (*entry)(void))
{
    uintptr_t at = ((uintptr_t)top - sizeof(ucontext_t)) & ~(uintptr_t)63;
    ucontext_t *c = (ucontext_t *)at;

    getcontext(c);
    c->uc_stack.ss_sp = low;
    c->uc_stack.ss_size = at - (uintptr_t)low;
    c->uc_link = NULL;
    makecontext(c, entry, 0);
    return c;
}

int switch_where(void *sp, void **ret_pc, void **ret_frame)
{
    (void)sp;
    (void)ret_pc;
    (void)ret_frame;
    return 0;
}

#endif
