"""Real gdb, attached to guests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from accel.gdb_support import DEADLINE, serve
from accel.guests import kvm_vm, real_mode_vcpu
from accel.long_mode import long_mode_vcpu
from vm_accel import Exit, GdbServer, Hlt, Vcpu, Vm
from vm_mem import GuestMemory

GDB = shutil.which("gdb")
pytestmark = pytest.mark.skipif(GDB is None, reason="gdb is not installed")

# mov ax, 0; mov bx, 3; again: inc ax; mov [0x5000], ax; dec bx; jnz again; hlt
REAL = bytes([0xB8, 0, 0, 0xBB, 3, 0, 0x40, 0xA3, 0x00, 0x50, 0x4B, 0x75, 0xF9, 0xF4])
# xor eax, eax; again: inc rax; mov [0x5000], eax; cmp eax, 3; jb again; hlt
LONG = bytes([0x31, 0xC0, 0x48, 0xFF, 0xC0, 0x89, 0x04, 0x25, 0, 0x50, 0, 0, 0x83, 0xF8, 3, 0x72, 0xF1, 0xF4])


@pytest.fixture
def memory() -> GuestMemory:
    return GuestMemory.anonymous(1 << 20)


@pytest.fixture
def vm(memory: GuestMemory) -> Iterator[Vm]:
    with kvm_vm() as vm:
        vm.map(memory)
        yield vm


def ends_at_halt(vcpu: Vcpu, exit: Exit) -> int | None:
    return 5 if isinstance(exit, Hlt) else None


def drive(server: GdbServer, *commands: str) -> str:
    """What gdb prints for these commands once it is attached."""
    address = server.address
    target = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
    script = ["set pagination off", "set confirm off", f"target remote {target}", *commands]
    arguments = [str(GDB), "-nx", "-batch", *(word for line in script for word in ("-ex", line))]
    # What is preloaded for this process (a sanitizer's runtime) is not for gdb.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        stdin=subprocess.DEVNULL,
        env=environment,
        check=False,
    )
    return done.stdout + done.stderr


def transcript(vm: Vm, mode: str, *commands: str) -> str:
    """What gdb prints while it debugs the guest of `vm` to its end, where KVM stops code in that mode."""
    said: list[str] = []

    def client(server: GdbServer) -> None:
        abilities = getattr(server.debugger.support, mode)
        if not (abilities.single_step and abilities.breakpoint):
            pytest.skip(f"this KVM does not stop code in the mode '{mode}': {abilities!r}")
        said.append(drive(server, *commands))

    assert serve(vm, client, on_exit=ends_at_halt) == 5
    return said[0]


def test_gdb_debugs_real_mode(vm: Vm, memory: GuestMemory) -> None:
    real_mode_vcpu(vm, memory, REAL)
    text = transcript(
        vm,
        "real",
        *("x/2i $pc", "break *0x1006", "continue", "print $eax", "stepi", "print $eax", "delete"),
        *("watch *(unsigned short *)0x5000", "continue", "print/x *(unsigned short *)0x5000"),
        *("set var $ebx = 1", "hbreak *0x100d", "continue", "print/x $pc", "info threads", "x/3xb 0x1000"),
        *("monitor translate 0x1234", "delete", "continue"),
    )
    for expected in (
        "=> 0x1000:\tmov    $0x0,%ax",
        "Breakpoint 1, 0x00001006",
        "$1 = 0",
        "$2 = 1",
        "Hardware watchpoint 2",
        "$3 = 0x1",
        "Breakpoint 3, 0x0000100d",
        "$4 = 0x100d",
        "Thread 1 (vCPU 0)",
        "0x1000:\t0xb8\t0x00\t0x00",
        "0x1234 is physical: paging is off",
        "exited with code 05",
    ):
        assert expected in text, text
    assert memory.read(0x1000, len(REAL)) == REAL


def test_gdb_debugs_long_mode(vm: Vm, memory: GuestMemory) -> None:
    long_mode_vcpu(vm, memory, LONG)
    text = transcript(
        vm,
        "kernel",
        *("x/2i $pc", "break *0x1005 if $rax == 2", "continue", "print $rax", "info registers rip cr3 efer"),
        *("stepi", "x/xw 0x5000", "set var *(int *)0x5000 = 99", "x/dw 0x5000", "delete"),
        *("x/xb 0x7f0000001000", "monitor translate 0x7f0000001000"),
        *("print/x $mxcsr", "set var $xmm3.v4_int32[1] = 7", "print $xmm3.v4_int32", "set var $st2 = 1.5"),
        *("print $st2", "print/x $fctrl", "continue"),
    )
    for expected in (
        "=> 0x1000:\txor    %eax,%eax",
        "$1 = 2",
        "0x80000",
        "0x500",
        "0x5000:\t0x00000002",
        "0x5000:\t99",
        "0x7f0000001000:\t0x31",
        "0x7f0000001000 -> 0x1000",
        "$2 = 0x1f80",
        "$3 = {0, 7, 0, 0}",
        "$4 = 1.5",
        "$5 = 0x37f",
        "exited with code 05",
    ):
        assert expected in text, text
