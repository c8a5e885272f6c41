# Performs the accesses that the host listed, through the processor's own page tables (4 or 5 levels), and records what
# happened. Identity-mapped by supervisor pages, except the page at `user_page`, which user code may execute.
#
# Parameters at 0x8000 (u64 each): batches done, address of the first batch, number of batches.
# Batch, 128 bytes (u64 each): operations, count, CR3, CR0, CR4, EFER, RFLAGS during the access, PKRU, PKRS.
# Operation, 32 bytes: u64 vaddr, u32 kind (0 read, 1 write, 2 fetch; + 4 at CPL 3), u32 status, u64 value, u64 code.
# status: 0x100 the access succeeded (value: what was read), else the exception vector; 3 is the int3 that a fetch finds
# at its target (value: its address); 14 has CR2 in value; code is the exception's error code.
    .set PARAMETERS, 0x8000
    .set STACK, 0x28000
    .set SUCCESS, 0x100

    .code32
    .section .text
    .globl _start
_start:                                 # at 0x10000, 32-bit, paging off
    lgdt gdt_pointer
    movl $0x10, %eax
    movl %eax, %ss
    movl $0x23, %eax                    # usable at both privilege levels
    movl %eax, %ds
    movl %eax, %es
    movl $STACK, %esp
    movl PARAMETERS + 8, %esi
    movl 32(%esi), %eax
    movl %eax, %cr4
    movl 16(%esi), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx              # EFER: long mode enable
    xorl %edx, %edx
    movl $0x100, %eax
    wrmsr
    movl $0x80010001, %eax
    movl %eax, %cr0
    ljmpl $0x18, $long_mode

    .code64
long_mode:
    xorl %ecx, %ecx                     # every vector leads to `unexpected`, but for the five below
1:  movl %ecx, %edi
    leaq unexpected(%rip), %rax
    call set_gate
    incl %ecx
    cmpl $256, %ecx
    jne 1b
    movl $3, %edi
    leaq breakpoint(%rip), %rax
    call set_gate
    movl $12, %edi
    leaq stack_fault(%rip), %rax
    call set_gate
    movl $13, %edi
    leaq protection_fault(%rip), %rax
    call set_gate
    movl $14, %edi
    leaq page_fault(%rip), %rax
    call set_gate
    movl $0x30, %edi
    leaq user_done(%rip), %rax
    call set_gate
    lidt idt_pointer
    movl $0x30, %eax
    ltr %ax

    movq PARAMETERS + 8, %r14
    movq PARAMETERS + 16, %r13
next_batch:
    testq %r13, %r13
    jz finish
    movq 32(%r14), %rax
    movq %rax, %cr4
    movq 24(%r14), %rax
    movq %rax, %cr0
    movl $0xc0000080, %ecx
    xorl %edx, %edx
    movl 40(%r14), %eax
    wrmsr
    testl $1 << 22, 32(%r14)            # CR4.PKE
    jz 1f
    xorl %ecx, %ecx
    movl 56(%r14), %eax
    wrpkru
1:  testl $1 << 24, 32(%r14)            # CR4.PKS
    jz 1f
    movl $0x6e1, %ecx
    xorl %edx, %edx
    movl 64(%r14), %eax
    wrmsr
1:  movq 16(%r14), %rax
    movq %rax, %cr3
    movq (%r14), %rbp
    movq 8(%r14), %r12
    movq 48(%r14), %r11
next_operation:
    testq %r12, %r12
    jz batch_done
    movl $STACK, %esp
    movq (%rbp), %rbx
    movl 8(%rbp), %ecx
    testl $4, %ecx
    jnz user
    pushq %r11
    popfq
    cmpl $1, %ecx
    je 1f
    ja 2f
    movq (%rbx), %r9
    jmp succeeded
1:  movq %rbp, (%rbx)
    xorl %r9d, %r9d
    jmp succeeded
2:  jmp *%rbx

user:
    leaq user_read(%rip), %rax
    cmpl $5, %ecx
    jb 1f
    leaq user_write(%rip), %rax
    je 1f
    movq %rbx, %rax
1:  pushq $0x23
    pushq $STACK
    pushq %r11
    pushq $0x2b
    pushq %rax
    iretq

succeeded:
    movl $SUCCESS, %edx
    xorl %r8d, %r8d
record:                                 # edx status, r9 value, r8 code
    movl %edx, 12(%rbp)
    movq %r9, 16(%rbp)
    movq %r8, 24(%rbp)
    addq $32, %rbp
    decq %r12
    jmp next_operation
batch_done:
    incq PARAMETERS
    addq $128, %r14
    decq %r13
    jmp next_batch
finish:
    xorl %eax, %eax
    outl %eax, $0xf4                    # isa-debug-exit
1:  hlt
    jmp 1b

user_done:
    jmp succeeded
page_fault:
    movl $14, %edx
    movq (%rsp), %r8
    movq %cr2, %r9
    jmp record
protection_fault:
    movl $13, %edx
    movq (%rsp), %r8
    xorl %r9d, %r9d
    jmp record
stack_fault:
    movl $12, %edx
    movq (%rsp), %r8
    xorl %r9d, %r9d
    jmp record
breakpoint:
    movl $3, %edx
    xorl %r8d, %r8d
    movq (%rsp), %r9
    decq %r9
    jmp record
unexpected:
    movl $1, %eax
    outl %eax, $0xf4
1:  hlt
    jmp 1b

set_gate:                               # edi vector, rax handler; user code may raise any of them
    shll $4, %edi
    movw %ax, idt(%rdi)
    movw $0x18, idt + 2(%rdi)
    movw $0xee00, idt + 4(%rdi)
    shrq $16, %rax
    movw %ax, idt + 6(%rdi)
    movq $0, idt + 8(%rdi)
    ret

    .balign 16
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff            # 0x08: 32-bit code
    .quad 0x00cf92000000ffff            # 0x10: data
    .quad 0x00af9a000000ffff            # 0x18: 64-bit code
    .quad 0x00cff2000000ffff            # 0x20: user data
    .quad 0x00affa000000ffff            # 0x28: user 64-bit code
    .word 0x67, (tss - _start) + 0x0000 # 0x30: task state at 0x10000 + (tss - _start)
    .byte 0x01, 0x89, 0x00, 0x00
    .quad 0
gdt_pointer:
    .word . - gdt - 1
    .long gdt
    .long 0
idt_pointer:
    .word 256 * 16 - 1
    .quad idt
    .balign 16
tss:
    .long 0
    .quad STACK
    .fill 0x5c, 1, 0
    .balign 16
idt:
    .fill 256 * 16, 1, 0

    .org 0x3000
user_page:                              # 0x13000
user_read:
    movq (%rbx), %r9
    int $0x30
user_write:
    movq %rbp, (%rbx)
    int $0x30
    .org 0x4000
