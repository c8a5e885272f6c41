"""What a round trip to a guest costs in a Python `match` loop: beside a bare KVM_RUN loop in C, and by itself."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vm_accel import Hlt, IoOut, Vcpu, create_hypervisor
from vm_accel.testing import Loop, ScriptedHypervisor
from vm_accel.x86 import X86Segment, X86SpecialRegs
from vm_core import NotSupported
from vm_mem import GuestMemory

from bench.python import native, results
from bench.python.harness import Contestant, race

INTRO = """\
A guest writes a byte to a port in a loop; the caller does with every exit what the row says. `bare` is ioctl(KVM_RUN)
and a look at the raw kvm_run, in C, on a VM of its own ([peers/bare_kvm.hpp](peers/bare_kvm.hpp)). Ring 0 is real-mode
code, ring 3 long mode at privilege 3 with IOPL 3. Where KVM is paravirtual, an exit costs many times what it costs on
plain hardware, so that a ratio says less there; the scripted rows have no guest at all and are what the library and
Python add. Times are processor time of the thread, the guest's included: a guest that runs never sleeps, and what other
programs take from the machine is left out. C++ is measured by `bench_exits` in the section on C++."""

ENTRY, TABLES, RAM = 0x1000, 0x2000, 1 << 16
PORT_LOOP = bytes([0xBA, 0xF8, 0x03, 0xEE, 0xEB, 0xFD])  # mov dx, 0x3f8; again: out dx, al; jmp again
USER_PORT_LOOP = bytes([0xBA, 0xF8, 0x03, 0x00, 0x00, 0xEE, 0xEB, 0xFD])  # the same with edx
# again: mov ecx, 100000000; count: dec ecx; jnz count; out 0x80, al; jmp again
USER_COUNT = bytes([0xB9, 0x00, 0xE1, 0xF5, 0x05, 0xFF, 0xC9, 0x75, 0xFC, 0xE6, 0x80, 0xEB, 0xF3])


def to_user_mode(sregs: X86SpecialRegs) -> None:
    """Long mode at privilege 3, with the tables at `TABLES`."""
    sregs.cr0 |= 0x8000_0001
    sregs.cr3 = TABLES
    sregs.cr4 |= 0x20
    sregs.efer = 0x500
    for name, selector, kind in (("ss", 0x2B, 3), ("ds", 0x2B, 3), ("es", 0x2B, 3), ("cs", 0x33, 0xB)):
        segment = X86Segment()
        segment.selector, segment.type, segment.limit, segment.dpl = selector, kind, 0xFFFF_FFFF, 3
        segment.present = segment.code_or_data = segment.granularity = True
        segment.long_mode = name == "cs"
        segment.db = name != "cs"
        setattr(sregs, name, segment)


@contextmanager
def kvm_vcpu(code: bytes, user: bool) -> Iterator[Vcpu]:
    """A vCPU about to execute `code`."""
    with create_hypervisor("kvm") as hypervisor, hypervisor.create_vm() as vm:
        memory = GuestMemory.anonymous(RAM)
        memory.write(ENTRY, code)
        for at, entry in ((TABLES, TABLES + 0x1007), (TABLES + 0x1000, TABLES + 0x2007), (TABLES + 0x2000, 0x87)):
            memory.write(at, entry.to_bytes(8, "little"))  # the first 2 MiB, present, writable, user
        vm.map(memory)
        vcpu = vm.create_vcpu()
        sregs = vcpu.sregs
        sregs.cs.base = sregs.cs.selector = 0
        if user:
            to_user_mode(sregs)
        vcpu.sregs = sregs
        regs = vcpu.regs
        regs.rip, regs.rflags = ENTRY, 0x3002 if user else 2
        vcpu.regs = regs
        yield vcpu


def match_loop(vcpu: Vcpu) -> Callable[[int], float]:
    """The loop that the README shows: a timeout, and a pattern with the port."""

    def loop(exits: int) -> float:
        started = time.thread_time()
        for _ in range(exits):
            match vcpu.run(timeout=5):
                case IoOut(port=0x3F8, data=_):
                    pass
                case Hlt():
                    break
        return time.thread_time() - started

    return loop


def run_loop(vcpu: Vcpu) -> Callable[[int], float]:
    """No timeout, no look at the exit."""

    def loop(exits: int) -> float:
        started = time.thread_time()
        for _ in range(exits):
            vcpu.run()
        return time.thread_time() - started

    return loop


def bare_loop(peer: ctypes.CDLL, user: bool) -> Callable[[int], float]:
    """The C program's loop."""
    peer.kvm_loop_open.restype = ctypes.c_void_p
    peer.kvm_loop_run.argtypes = [ctypes.c_void_p, ctypes.c_ulong]
    machine = peer.kvm_loop_open(int(user))
    if not machine:
        raise RuntimeError("the bare loop cannot use KVM")

    def loop(exits: int) -> float:
        started = time.thread_time()
        if not peer.kvm_loop_run(machine, exits):
            raise RuntimeError("the bare loop failed")
        return time.thread_time() - started

    return loop


def first_exits(count: int) -> float:
    """From nothing to the first exit, and all of it closed again."""
    started = time.thread_time()
    for _ in range(count):
        with kvm_vcpu(PORT_LOOP, user=False) as vcpu:
            vcpu.run()
    return time.thread_time() - started


def measure_leftovers(section: results.Section) -> None:
    """What is left of this process's descriptors and memory by VMs that were created, run once and closed."""
    count = 500 if section.quick else 10_000
    first_exits(100)  # what the allocator keeps anyway
    rows = [_held()]
    seconds = first_exits(count)
    rows.append(_held())
    lines = ["| | descriptors | resident, KiB |", "|---|--:|--:|"]
    for name, (descriptors, resident) in zip(("before", f"after {count:,} VMs"), rows, strict=True):
        lines.append(f"| {name} | {descriptors} | {resident >> 10:,} |")
    section.add("VMs created, run to their first exit and closed", "\n".join(lines))
    section.targets.append(results.Target(f"descriptors left by {count:,} VMs", rows[1][0] - rows[0][0], 0))
    section.data["leftovers"] = {"vms": count, "seconds": seconds, "before": rows[0], "after": rows[1]}


def _held() -> tuple[int, int]:
    """Open descriptors and resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGESIZE")


def measure_kvm(section: results.Section) -> None:
    """Rows that need a guest."""
    rounds, sample = (5, 0.02) if section.quick else (31, 0.2)
    peer = native.library("kvm_loop")
    for user, code in ((False, PORT_LOOP), (True, USER_PORT_LOOP)):
        name = "ring 3" if user else "ring 0"
        with kvm_vcpu(code, user) as matched, kvm_vcpu(code, user) as plain:
            rows = [
                Contestant("bare", bare_loop(peer, user), note="C, no library"),
                Contestant("match", match_loop(matched), note="`match vcpu.run(timeout=5)`"),
                Contestant("run", run_loop(plain), note="`vcpu.run()`"),
            ]
            timings = race(rows, rounds=rounds, sample_seconds=sample)
        section.add(f"KVM, port writes from {name}", results.timing_table(timings), timings)
        claim = f"a round trip from {name} in a match loop, to the bare loop in C"
        section.targets.append(results.Target(claim, timings[1].ratio, 1.2))
    with kvm_vcpu(USER_COUNT, user=True) as vcpu:
        rows = [
            Contestant("10^8 turns at ring 3, one exit", run_loop(vcpu), note="native: two instructions a turn"),
            Contestant("a VM, its first exit, closed", first_exits, note="`create_hypervisor` to `close`"),
        ]
        timings = race(rows, rounds=rounds, sample_seconds=0)
    section.add("Whole guests", results.timing_table(timings), timings)
    measure_leftovers(section)


def main() -> None:
    """Measure exits."""
    options = results.options(__doc__ or "")
    packages = ("vm_core", "vm_mem", "vm_accel")
    section = results.Section("accel-exits", "Round trips to guests", options.quick, packages, INTRO)
    rounds, sample = (5, 0.01) if options.quick else (31, 0.1)
    exits = [Loop([IoOut(port=0x3F8, data=b"x")])]
    with ScriptedHypervisor(exits, record=False) as hypervisor, hypervisor.create_vm() as vm:
        matched = vm.create_vcpu()
        with hypervisor.create_vm() as other:
            plain = other.create_vcpu()
            rows = [
                Contestant("match", match_loop(matched), note="`match vcpu.run(timeout=5)`"),
                Contestant("run", run_loop(plain), note="`vcpu.run()`"),
            ]
            timings = race(rows, rounds=rounds, sample_seconds=sample)
    section.add("Scripted: what the library and Python add", results.timing_table(timings), timings)
    section.targets.append(
        results.Target("overhead of an exit in a match loop", timings[0].median_ns, 1000, unit=" ns")
    )
    try:
        measure_kvm(section)
    except NotSupported as error:
        section.add("KVM", f"Not available here: {error}")
    section.write(options.output)


if __name__ == "__main__":
    main()
