# The machine's only firmware: from the reset vector to flat 32-bit protected mode, then to the stub at 0x10000.
# Linked at 0xffff0000, the last 64 KiB below 4 GiB; the image is that whole 64 KiB.
    .code16
    .section .text
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff            # 0x08: 32-bit code, flat
    .quad 0x00cf92000000ffff            # 0x10: data, flat
gdt_pointer:
    .word . - gdt - 1
    .long 0xffff0000 + (gdt - gdt)
start:
    cli
    lgdtl %cs:(gdt_pointer - gdt)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x08, $0x10000

    .org 0xfff0
reset:
    jmp start
    .org 0x10000
