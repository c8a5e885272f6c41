"""Registers as gdb names, numbers and sizes them (gdb manual, appendix G.5.12, "i386 Features").

gdb has flat addresses: where the code segment has a base, the instruction pointer is shown as the linear address, so
that breakpoints and disassembly fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from vm_core import NotSupported

from .._accel import Vcpu, X86Regs, X86SpecialRegs
from .fpu import SSE, X87, X87_CONTROL, FpuFile

__all__ = ["LONG", "LONG_GENERAL", "PROTECTED", "REAL", "SEGMENTS", "SYSTEM", "Layout", "RegisterFile", "cpu_mode"]

LONG_GENERAL = (
    "rax",
    "rbx",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
)
_OLD_GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
SYSTEM = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer")
_FLAGS = (
    '<flags id="i386_eflags" size="4">'
    + "".join(
        f'<field name="{name}" start="{bit}" end="{bit}"/>'
        for name, bit in (
            *(("CF", 0), ("", 1), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10)),
            *(("OF", 11), ("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21)),
        )
    )
    + "</flags>"
)


_VECTORS = (
    '<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>'
    '<vector id="v16i8" type="int8" count="16"/><vector id="v4i32" type="int32" count="4"/>'
    '<vector id="v2i64" type="int64" count="2"/><union id="vec128">'
    '<field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/><field name="v16_int8" type="v16i8"/>'
    '<field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/>'
    '<field name="uint128" type="uint128"/></union>'
)


@dataclass(frozen=True)
class Register:
    """One register of a layout."""

    name: str
    size: int
    """Bytes."""
    type: str
    group: str = ""

    @property
    def xml(self) -> str:
        group = f' group="{self.group}"' if self.group else ""
        return f'<reg name="{self.name}" bitsize="{self.size * 8}" type="{self.type}"{group}/>'


def _core(wide: bool) -> list[Register]:
    size = 8 if wide else 4
    general = LONG_GENERAL if wide else _OLD_GENERAL
    stack = {"rbp", "rsp", "esp", "ebp"}
    return [
        *(Register(name, size, "data_ptr" if name in stack else f"int{size * 8}") for name in general),
        Register("rip" if wide else "eip", size, "code_ptr"),
        Register("eflags", 4, "i386_eflags"),
        *(Register(name, 4, "int32") for name in SEGMENTS),
        *(Register(name, 10, "i387_ext") for name in X87),
        *(Register(name, 4, "int", "float") for name in X87_CONTROL),
    ]


def _sse(wide: bool) -> list[Register]:
    return [
        *(Register(name, 16, "vec128", "vector") for name in SSE[: 16 if wide else 8]),
        Register("mxcsr", 4, "int32", "vector"),
    ]


@dataclass(frozen=True)
class Layout:
    """What gdb is told about the target, once per connection."""

    architecture: str
    """gdb's name: "i8086", "i386" or "i386:x86-64"."""
    wide: bool
    """The registers of long mode, 64 bits each."""
    system: tuple[Register, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "system", tuple(Register(name, 8, "uint64", "system") for name in SYSTEM))

    @cached_property
    def registers(self) -> tuple[Register, ...]:
        """By gdb's number."""
        bases = [Register(name, 8, "int64") for name in ("fs_base", "gs_base")] if self.wide else []
        return (*_core(self.wide), *_sse(self.wide), *bases, *self.system)

    @cached_property
    def xml(self) -> str:
        """The target description."""
        core = "".join(register.xml for register in _core(self.wide))
        sse = "".join(register.xml for register in _sse(self.wide))
        bases = "".join(register.xml for register in self.registers if register.name.endswith("_base"))
        segments = f'<feature name="org.gnu.gdb.i386.segments">{bases}</feature>' if bases else ""
        system = "".join(register.xml for register in self.system)
        return (
            '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>'
            f"<architecture>{self.architecture}</architecture>"
            f'<feature name="org.gnu.gdb.i386.core">{_FLAGS}{core}</feature>'
            f'<feature name="org.gnu.gdb.i386.sse">{_VECTORS}{sse}</feature>{segments}'
            f'<feature name="vm-accel.system">{system}</feature></target>'
        )


REAL = Layout("i8086", wide=False)
PROTECTED = Layout("i386", wide=False)
LONG = Layout("i386:x86-64", wide=True)


def cpu_mode(sregs: X86SpecialRegs) -> str:
    """How the processor runs code now: "real", "protected" or "long"."""
    if not sregs.cr0 & 1:
        return "real"
    return "long" if sregs.efer >> 10 & 1 and sregs.cs.long_mode else "protected"


class RegisterFile:
    """The registers of one vCPU at one moment; ``store`` writes those that were changed."""

    def __init__(self, vcpu: Vcpu, layout: Layout) -> None:
        self._vcpu = vcpu
        self._layout = layout
        self._regs: X86Regs = vcpu.regs
        self._sregs: X86SpecialRegs = vcpu.sregs
        self._fpu = FpuFile(vcpu)
        self._written = [False, False]

    @property
    def _code_base(self) -> int:
        return 0 if cpu_mode(self._sregs) == "long" else self._sregs.cs.base

    def get(self, name: str) -> int:
        """The value, of any width."""
        if FpuFile.has(name):
            return self._fpu.get(name)
        if name in SEGMENTS:
            selector: int = getattr(self._sregs, name).selector
            return selector
        if name.endswith("_base"):
            base: int = getattr(self._sregs, name[:2]).base
            return base
        if name in SYSTEM:
            value: int = getattr(self._sregs, name)
            return value
        if name in ("rip", "eip"):
            return (self._regs.rip + self._code_base) & (2**64 - 1)
        general: int = getattr(self._regs, _full_name(name))
        return general

    def set(self, register: Register, value: int) -> None:
        """Change a register of this copy; upper halves that gdb is not shown stay as they are."""
        name = register.name
        before = self.get(name)
        seen = (1 << 8 * register.size) - 1
        if value == before & seen:
            return
        if FpuFile.has(name):
            self._fpu.set(name, value)
            return
        value |= before & ~seen
        special = name in SEGMENTS or name in SYSTEM or name.endswith("_base")
        self._written[special] = True
        if name in SEGMENTS:
            segment = getattr(self._sregs, name)
            segment.selector = value & 0xFFFF
            if cpu_mode(self._sregs) == "real":
                segment.base = (value & 0xFFFF) << 4
        elif name.endswith("_base"):
            getattr(self._sregs, name[:2]).base = value
        elif name in SYSTEM:
            setattr(self._sregs, name, value)
        elif name in ("rip", "eip"):
            self._regs.rip = (value - self._code_base) & (2**64 - 1)
        else:
            setattr(self._regs, _full_name(name), value)

    def store(self) -> None:
        """Write to the vCPU what has changed."""
        if self._written[0]:
            self._vcpu.regs = self._regs
        if self._written[1]:
            self._vcpu.sregs = self._sregs
        self._fpu.store()

    def text(self, register: Register) -> bytes:
        """As in a packet: hexadecimal, the lowest byte first; ``x`` for what the hypervisor does not show."""
        try:
            value = self.get(register.name)
        except NotSupported:
            return b"xx" * register.size
        return (value & (1 << 8 * register.size) - 1).to_bytes(register.size, "little").hex().encode()

    def set_text(self, register: Register, text: bytes) -> None:
        """The reverse of ``text``. Raises ValueError."""
        if len(text) != 2 * register.size:
            raise ValueError(f"{register.name} has {register.size} bytes, got {len(text)} digits")
        if text[:1] != b"x":
            self.set(register, int.from_bytes(bytes.fromhex(text.decode("ascii")), "little"))


def _full_name(name: str) -> str:
    return "rflags" if name == "eflags" else "r" + name[1:] if name.startswith("e") else name
