# RISC-V: performs the accesses that the host listed and records what happened. It stays in M-mode, where no translation
# applies; loads and stores borrow the privilege of mstatus.MPP through mstatus.MPRV, fetches go through mret.
# Assembled twice, for RV64 and RV32.
#
# Parameters at 0x80010000 (u64 each): batches done, address of the first batch, number of batches.
# Batch, 128 bytes (u64 each): operations, count, satp, mstatus bits (SUM, MXR), menvcfg and whether to write it.
# Operation, 32 bytes: u64 vaddr, u32 kind (0 read, 1 write, 2 fetch; + 4 as user), u32 status, u64 value, u64 code.
# status: 0x100 the access succeeded (value: what was read), else mcause with mtval in value; 3 is the ebreak that a
# fetch finds at its target (value: its address).
    .equ PARAMETERS, 0x80010000
    .equ SUCCESS, 0x100
    .equ MPRV, 1 << 17
    .equ MPP, 3 << 11
    .equ MPP_S, 1 << 11

.if XLEN == 64
    .macro load reg, where:vararg
    ld \reg, \where
    .endm
    .macro store reg, where:vararg
    sd \reg, \where
    .endm
.else
    .macro load reg, where:vararg
    lw \reg, \where
    .endm
    .macro store reg, where:vararg
    sw \reg, \where
    .endm
.endif

    .option norelax
    .option norvc
    .section .text
    .globl _start
_start:                                 # at 0x80000000
    la t0, trap
    csrw mtvec, t0
    li t0, -1                           # one region, all of memory, all rights
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0

    li s0, PARAMETERS
    load s1, 8(s0)                      # s1: the batch
    load s2, 16(s0)                     # s2: batches left
next_batch:
    beqz s2, finish
    load t0, 40(s1)
    beqz t0, 1f
    load t0, 32(s1)
    csrw 0x30a, t0                      # menvcfg
1:  load t0, 16(s1)
    csrw satp, t0
    sfence.vma
    load s3, 24(s1)                     # s3: SUM and MXR
    load s4, 0(s1)                      # s4: the operation
    load s5, 8(s1)                      # s5: operations left
    li s6, MPRV
next_operation:
    beqz s5, batch_done
    load s7, 0(s4)
    lw s8, 8(s4)
    li t0, MPP | 0xc0000                # clear MPP, SUM, MXR
    csrc mstatus, t0
    csrs mstatus, s3
    andi t0, s8, 4
    bnez t0, 1f
    li t0, MPP_S
    csrs mstatus, t0
1:  andi t0, s8, 3
    li t1, 1
    beq t0, t1, 2f
    bgtu t0, t1, 3f
    csrs mstatus, s6
    load s9, 0(s7)
    csrc mstatus, s6
    j succeeded
2:  csrs mstatus, s6
    store s4, 0(s7)
    csrc mstatus, s6
    li s9, 0
    j succeeded
3:  csrw mepc, s7
    mret

succeeded:
    li s10, SUCCESS
record:                                 # s10 status, s9 value
    sw s10, 12(s4)
    store s9, 16(s4)
    sw zero, 24(s4)
    addi s4, s4, 32
    addi s5, s5, -1
    j next_operation
batch_done:
    lw t0, 0(s0)
    addi t0, t0, 1
    sw t0, 0(s0)
    addi s1, s1, 128
    addi s2, s2, -1
    j next_batch
finish:
    li t0, 0x100000                     # the test device ends the machine
    li t1, 0x5555
    sw t1, 0(t0)
1:  j 1b

    .balign 4
trap:                                   # mstatus.MPRV may be set; with MPP = M, or cleared below, it has no effect here
    csrc mstatus, s6
    csrr s10, mcause
    csrr s9, mtval
    li t0, 3
    bne s10, t0, record
    csrr s9, mepc
    j record
