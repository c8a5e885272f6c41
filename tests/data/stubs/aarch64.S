# AArch64: asks the processor for the translations that the host listed and records the answers. It stays in EL2 with
# translation off; AT instructions look into the EL1&0 tables, and eret to EL1 or EL0 tries to execute there.
#
# Parameters at 0x40210000 (u64 each): batches done, address of the first batch, number of batches, address of the EL1
# vectors (virtual; 0: no fetches), and where to stop: 0 powers the machine off, else an EL1 address to spin at.
# Batch, 128 bytes (u64 each): operations, count, TTBR0_EL1, TTBR1_EL1, TCR_EL1, SCTLR_EL1, MAIR_EL1, PSTATE.PAN (1 or 0).
# Operation, 32 bytes: u64 vaddr, u32 kind (0 read, 1 write, 2 fetch; + 4 as EL0; + 8: reads and writes as AT S1E1RP and
# S1E1WP make them), u32 status, u64 value, u64 code.
# status: 0x100 after an AT (value: PAR_EL1); after a fetch the class of the exception that came back: 0x3c is the brk
# found at the target (value: its address), else that of ESR_EL1 (value: FAR_EL1, code: ESR_EL1). 1: exception in EL2
# itself (value: FAR_EL2, code: ESR_EL2).
    .equ PARAMETERS, 0x40210000
    .equ SUCCESS, 0x100
    .equ EL1H, 0x3c5
    .equ EL0T, 0x3c0

    .section .text
    .globl _start
_start:                                 // at 0x40200000
    adr x0, vectors
    msr vbar_el2, x0
    mov x0, #1 << 31                    // EL1 is AArch64
    msr hcr_el2, x0
    mov x0, #1 << 8                     // brk in EL1 and EL0 comes here
    msr mdcr_el2, x0
    ldr x20, =PARAMETERS
    ldr x0, [x20, #24]
    msr vbar_el1, x0
    ldp x21, x22, [x20, #8]             // x21: the batch; x22: batches left
next_batch:
    cbz x22, finish
    ldp x0, x1, [x21, #16]
    msr ttbr0_el1, x0
    msr ttbr1_el1, x1
    ldp x0, x1, [x21, #32]
    msr tcr_el1, x0
    msr sctlr_el1, x1
    ldp x0, x27, [x21, #48]             // x27: PSTATE.PAN
    msr mair_el1, x0
    isb
    tlbi alle1
    dsb sy
    isb
    ldp x23, x24, [x21]                 // x23: the operation; x24: operations left
next_operation:
    cbz x24, batch_done
    ldr x25, [x23]
    ldr w26, [x23, #8]
    msr pan, #0                         // again and again: an exception from below brings its own
    cbz x27, 1f
    msr pan, #1
1:  and w0, w26, #3
    cmp w0, #2
    b.eq fetch
    adr x1, translations
    add x1, x1, x26, lsl #3
    br x1
translations:                           // indexed by kind, eight bytes each
    at s1e1r, x25
    b translated
    at s1e1w, x25
    b translated
    nop
    nop
    nop
    nop
    at s1e0r, x25
    b translated
    at s1e0w, x25
    b translated
    nop
    nop
    nop
    nop
    at s1e1rp, x25
    b translated
    at s1e1wp, x25
translated:
    isb
    mrs x1, par_el1
    mov w0, #SUCCESS
    mov x2, #0
record:                                 // w0 status, x1 value, x2 code
    str w0, [x23, #12]
    stp x1, x2, [x23, #16]
    add x23, x23, #32
    sub x24, x24, #1
    b next_operation
fetch:
    mov x0, #EL1H
    tbz w26, #2, 1f
    mov x0, #EL0T
1:  msr spsr_el2, x0
    msr elr_el2, x25
    eret
batch_done:
    ldr x0, [x20]
    add x0, x0, #1
    str x0, [x20]
    add x21, x21, #128
    sub x22, x22, #1
    b next_batch
finish:
    ldr x0, [x20, #32]
    cbz x0, 1f
    msr elr_el2, x0
    mov x0, #EL1H
    msr spsr_el2, x0
    eret
1:  ldr x0, =0x84000008                 // PSCI SYSTEM_OFF
    smc #0
    b 1b

own_exception:
    mov w0, #1
    mrs x1, far_el2
    mrs x2, esr_el2
    b record
lower_exception:
    mrs x2, esr_el2
    lsr x0, x2, #26
    mrs x1, elr_el2
    cmp x0, #0x16                       // hvc: what the EL1 vectors do with their own exceptions
    b.ne record
    mrs x2, esr_el1
    lsr x0, x2, #26
    mrs x1, far_el1
    b record

    .balign 0x800
vectors:
    .org vectors + 0x200
    b own_exception
    .org vectors + 0x400
    b lower_exception
    .org vectors + 0x600
    .ltorg
