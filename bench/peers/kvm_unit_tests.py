"""Run images of kvm-unit-tests under ``vm-accel run`` and under QEMU with KVM, on the same machine.

    python -m bench.peers.kvm_unit_tests TREE [--timeout 60] [--only NAME...]

Writes a section of bench/RESULTS.md, unless it ran only some of them. TREE is a built checkout of
https://gitlab.com/kvm-unit-tests/kvm-unit-tests (./configure && make), which is no part of this project. Both get the
same image, processors, memory and arguments, and the host's processor. What neither ends within the limit says so.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.python import results

INTRO = """\
Images of [kvm-unit-tests](https://gitlab.com/kvm-unit-tests/kvm-unit-tests), built outside of this project, under
`vm-accel run` and under QEMU with KVM: the verdict is the image's own, behind it the checks that passed of those that
it made before it ended; s is wall time. QEMU starts a BIOS first, `vm-accel` none. Where the host's KVM cannot do what
an image tests, the image fails, ends early or never ends under both; `ended (125)` is `vm-accel` saying that the guest
cannot go on (an instruction that KVM cannot emulate), where QEMU stops without an end."""

PASS = 1
"""The status of debug-exit after ``exit(0)``."""
TIMED_OUT = 124
CPU = "host,arch-capabilities=off"
"""QEMU 7.2 gives up where it cannot set the register of the feature that is off (MSR 0x10a)."""


@dataclass(frozen=True)
class Case:
    """One image with what unittests.cfg of kvm-unit-tests gives it."""

    name: str
    file: str
    cpus: int = 1
    arguments: str = ""


CASES = (
    Case("dummy", "dummy"),
    Case("setjmp", "setjmp"),
    Case("idt_test", "idt_test"),
    Case("smptest", "smptest", 2),
    Case("smptest3", "smptest", 3),
    Case("ioapic", "ioapic", 2),
    Case("apic", "apic", 2),
    Case("sieve", "sieve"),
    Case("tsc", "tsc"),
    Case("tsc_adjust", "tsc_adjust"),
    Case("syscall", "syscall"),
    Case("umip", "umip"),
    Case("msr", "msr"),
    Case("xsave", "xsave"),
    Case("realmode", "realmode"),
    Case("emulator", "emulator"),
    Case("eventinj", "eventinj"),
    Case("debug", "debug"),
    Case("memory", "memory"),
    Case("rmap_chain", "rmap_chain"),
    Case("hypercall", "hypercall"),
    Case("kvmclock_test", "kvmclock_test", 2),
    Case("vmexit_cpuid", "vmexit", 1, "cpuid"),
)


@dataclass
class Run:
    """How one image ended under one virtual machine monitor."""

    verdict: str
    seconds: float
    passed: int
    failed: int


def verdict_of(status: int, output: str) -> str:
    """The end in one word; a summary line of the image beats nothing."""
    if status == TIMED_OUT:
        return "timeout"
    if status == PASS:
        return "pass"
    if status == (77 << 1 | 1):
        return "skip"
    if status & 1 and "SUMMARY" in output:
        return "fail"
    return f"ended ({status})"


def execute(command: list[str], timeout: float) -> Run:
    """Run to the end or the limit."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        raw = process.communicate(timeout=timeout)[0]
        status = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        raw = process.communicate()[0]
        status = TIMED_OUT
    seconds = time.perf_counter() - start
    output = raw.decode("utf-8", "replace")
    passed, failed = (len(re.findall(rf"^{word}\b", output, re.MULTILINE)) for word in ("PASS", "FAIL"))
    return Run(verdict_of(status, output), seconds, passed, failed)


def ours(tree: Path, case: Case) -> list[str]:
    """``vm-accel run`` of the interpreter that runs this file."""
    command = [sys.executable, "-m", "vm_accel", "run", str(tree / "x86" / f"{case.file}.flat")]
    return [*command, "--cpus", str(case.cpus), "--memory", "128M", "--", *case.arguments.split()]


def qemu(tree: Path, case: Case, binary: str) -> list[str]:
    """As kvm-unit-tests' own x86/run starts it."""
    command = [binary, "--no-reboot", "-nodefaults", "-display", "none", "-serial", "stdio", "-vnc", "none"]
    command += ["-device", "pc-testdev", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"]
    command += ["-global", "kvm-pit.lost_tick_policy=discard", "-machine", "accel=kvm", "-cpu", CPU, "-m", "128M"]
    command += ["-smp", str(case.cpus), "-kernel", str(tree / "x86" / f"{case.file}.flat")]
    return [*command, "-append", case.arguments] if case.arguments else command


def cell(run: Run) -> str:
    """A verdict with its counts."""
    counts = f" {run.passed}/{run.passed + run.failed}" if run.passed + run.failed else ""
    return run.verdict + counts


def main() -> int:
    """Print a Markdown table and write it down; 1 when an image that passes under QEMU does not pass here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", type=Path)
    parser.add_argument("--timeout", type=float, default=60, help="seconds for each run (default: %(default)s)")
    parser.add_argument("--only", nargs="*", help="names of cases")
    options = parser.parse_args()
    binary = shutil.which("qemu-system-x86_64")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or binary is None:
        parser.error("needs qemu-system-x86_64 and /dev/kvm")
    section = results.Section("peers-kvm-unit-tests", "kvm-unit-tests beside QEMU", False, ("vm_accel",), INTRO)
    lines = ["| image | CPUs | vm-accel run | s | QEMU-KVM | s | QEMU / vm-accel |", "|---|--:|---|--:|---|--:|--:|"]
    runs: dict[str, object] = {}
    worse = []
    for case in CASES:
        if options.only and case.name not in options.only:
            continue
        if not (options.tree / "x86" / f"{case.file}.flat").exists():
            lines.append(f"| {case.name} | | not built | | | | |")
            continue
        print(case.name, flush=True)
        here = execute(ours(options.tree, case), options.timeout)
        there = execute(qemu(options.tree, case, binary), options.timeout)
        ended = "timeout" not in (here.verdict, there.verdict)
        cells = [case.name, str(case.cpus), cell(here), f"{here.seconds:.2f}", cell(there), f"{there.seconds:.2f}"]
        lines.append("| " + " | ".join([*cells, f"{there.seconds / here.seconds:.1f}" if ended else ""]) + " |")
        runs[case.name] = {"case": asdict(case), "vm_accel": asdict(here), "qemu": asdict(there)}
        if there.verdict == "pass" != here.verdict:
            worse.append(case.name)
    section.add("", "\n".join(lines))
    section.data |= runs
    section.targets.append(results.Target("images that pass under QEMU and not under vm-accel", len(worse), 0))
    if not options.only:
        section.write(results.ROOT / "bench" / "RESULTS.md")
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
