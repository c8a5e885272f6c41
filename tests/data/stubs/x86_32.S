# The 32-bit sibling of x86_64.S, for two-level and PAE tables: the same parameters, batches, operations and results.
    .set PARAMETERS, 0x8000
    .set STACK, 0x28000
    .set SUCCESS, 0x100

    .code32
    .section .text
    .globl _start
_start:                                 # at 0x10000, paging off
    lgdt gdt_pointer
    movl $0x10, %eax
    movl %eax, %ss
    movl $0x23, %eax                    # usable at both privilege levels
    movl %eax, %ds
    movl %eax, %es
    movl $STACK, %esp
    ljmpl $0x08, $1f
1:  xorl %ecx, %ecx                     # every vector leads to `unexpected`, but for the four below
1:  movl %ecx, %edi
    movl $unexpected, %eax
    call set_gate
    incl %ecx
    cmpl $256, %ecx
    jne 1b
    movl $3, %edi
    movl $breakpoint, %eax
    call set_gate
    movl $13, %edi
    movl $protection_fault, %eax
    call set_gate
    movl $14, %edi
    movl $page_fault, %eax
    call set_gate
    movl $0x30, %edi
    movl $succeeded, %eax
    call set_gate
    lidt idt_pointer
    movl $0x28, %eax
    ltr %ax

    movl PARAMETERS + 8, %esi
next_batch:                             # esi: the batch
    cmpl $0, PARAMETERS + 16
    je finish
    movl 32(%esi), %eax                 # paging is on from the second batch on; PAE never changes within one run
    movl %eax, %cr4
    movl 16(%esi), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    xorl %edx, %edx
    movl 40(%esi), %eax
    wrmsr
    movl 24(%esi), %eax
    movl %eax, %cr0
    movl 16(%esi), %eax
    movl %eax, %cr3
    movl (%esi), %ebp
    movl 8(%esi), %eax
    movl %eax, remaining
    movl 48(%esi), %eax
    movl %eax, flags
next_operation:
    cmpl $0, remaining
    je batch_done
    movl $STACK, %esp
    movl (%ebp), %ebx
    movl 8(%ebp), %ecx
    testl $4, %ecx
    jnz user
    pushl flags
    popfl
    cmpl $1, %ecx
    je 1f
    ja 2f
    movl (%ebx), %edi
    jmp succeeded
1:  movl %ebp, (%ebx)
    xorl %edi, %edi
    jmp succeeded
2:  jmp *%ebx

user:
    movl $user_read, %eax
    cmpl $5, %ecx
    jb 1f
    movl $user_write, %eax
    je 1f
    movl %ebx, %eax
1:  pushl $0x23
    pushl $STACK
    pushl flags
    pushl $0x1b
    pushl %eax
    iretl

succeeded:
    movl $SUCCESS, %edx
    xorl %ecx, %ecx
record:                                 # edx status, edi value, ecx code
    movl %edx, 12(%ebp)
    movl %edi, 16(%ebp)
    movl $0, 20(%ebp)
    movl %ecx, 24(%ebp)
    movl $0, 28(%ebp)
    addl $32, %ebp
    decl remaining
    jmp next_operation
batch_done:
    incl PARAMETERS
    addl $128, %esi
    decl PARAMETERS + 16
    jmp next_batch
finish:
    xorl %eax, %eax
    outl %eax, $0xf4                    # isa-debug-exit
1:  hlt
    jmp 1b

page_fault:
    movl $14, %edx
    movl (%esp), %ecx
    movl %cr2, %edi
    jmp record
protection_fault:
    movl $13, %edx
    movl (%esp), %ecx
    xorl %edi, %edi
    jmp record
breakpoint:
    movl $3, %edx
    xorl %ecx, %ecx
    movl (%esp), %edi
    decl %edi
    jmp record
unexpected:
    movl $1, %eax
    outl %eax, $0xf4
1:  hlt
    jmp 1b

set_gate:                               # edi vector, eax handler; user code may raise any of them
    movw %ax, idt(, %edi, 8)
    movw $0x08, idt + 2(, %edi, 8)
    movw $0xee00, idt + 4(, %edi, 8)
    shrl $16, %eax
    movw %ax, idt + 6(, %edi, 8)
    ret

    .balign 16
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff            # 0x08: code
    .quad 0x00cf92000000ffff            # 0x10: data
    .quad 0x00cffa000000ffff            # 0x18: user code
    .quad 0x00cff2000000ffff            # 0x20: user data
    .word 0x67, (tss - _start) + 0x0000 # 0x28: task state at 0x10000 + (tss - _start)
    .byte 0x01, 0x89, 0x00, 0x00
gdt_pointer:
    .word . - gdt - 1
    .long gdt
idt_pointer:
    .word 256 * 8 - 1
    .long idt
remaining:
    .long 0
flags:
    .long 0
    .balign 16
tss:
    .long 0
    .long STACK
    .long 0x10
    .fill 0x5c, 1, 0
    .balign 16
idt:
    .fill 256 * 8, 1, 0

    .org 0x3000
user_page:                              # 0x13000
user_read:
    movl (%ebx), %edi
    int $0x30
user_write:
    movl %ebp, (%ebx)
    int $0x30
    .org 0x4000
