"""x87 and SSE registers by gdb's names (gdb manual, appendix G.5.12; layout: Intel SDM vol. 1 §10.5.1)."""

from __future__ import annotations

from typing import Any, cast

from .._accel import Vcpu

__all__ = ["SSE", "X87", "X87_CONTROL", "FpuFile"]

X87 = tuple(f"st{i}" for i in range(8))
X87_CONTROL = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
SSE = tuple(f"xmm{i}" for i in range(16))

_PLAIN = {
    "fctrl": "fcw",
    "fstat": "fsw",
    "fioff": "last_ip",
    "fooff": "last_dp",
    "fop": "last_opcode",
    "mxcsr": "mxcsr",
}
_VALID, _ZERO, _SPECIAL, _EMPTY = range(4)  # of a full tag word (SDM vol. 1 §8.1.7)


class FpuFile:
    """These registers of one vCPU, read when the first of them is asked for."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu: Any = cast(Any, vcpu)
        self._state: Any = None
        self._written = False

    @property
    def _fpu(self) -> Any:
        if self._state is None:
            self._state = self._vcpu.fpu
        return self._state

    @staticmethod
    def has(name: str) -> bool:
        """Whether the register is one of these."""
        return name in X87 or name in X87_CONTROL or name in SSE or name == "mxcsr"

    def get(self, name: str) -> int:
        """The value as a number of the register's size."""
        if name in X87:
            return int.from_bytes(self._fpu.fpr[int(name[2:])].tobytes()[:10], "little")
        if name in SSE:
            return int.from_bytes(self._fpu.xmm[int(name[3:])].tobytes(), "little")
        if name == "ftag":
            return self._full_tags()
        return int(getattr(self._fpu, _PLAIN[name])) if name in _PLAIN else 0

    def set(self, name: str, value: int) -> None:
        """Change a register of this copy; the segments of the last instruction, which are not kept, stay 0."""
        self._written = True
        if name in X87:
            self._fpu.fpr[int(name[2:])] = list(value.to_bytes(10, "little") + bytes(6))
        elif name in SSE:
            self._fpu.xmm[int(name[3:])] = list(value.to_bytes(16, "little"))
        elif name == "ftag":
            self._fpu.ftw = sum(1 << i for i in range(8) if value >> 2 * i & 3 != _EMPTY)
        elif name in _PLAIN:
            narrow = name in ("fctrl", "fstat", "fop")
            setattr(self._fpu, _PLAIN[name], value & 0xFFFF if narrow else value)

    def store(self) -> None:
        """Write to the vCPU what has changed."""
        if self._written:
            self._vcpu.fpu = self._fpu

    def _full_tags(self) -> int:
        """Two bits a physical register, from the abridged tags and the registers' contents."""
        top = int(self._fpu.fsw) >> 11 & 7
        tags = 0
        for physical in range(8):
            tag = _EMPTY
            if int(self._fpu.ftw) >> physical & 1:
                content = self.get(f"st{(physical - top) % 8}")
                exponent, integer_bit = content >> 64 & 0x7FFF, content >> 63 & 1
                if content & (1 << 79) - 1 == 0:
                    tag = _ZERO
                else:
                    tag = _SPECIAL if exponent in (0, 0x7FFF) or not integer_bit else _VALID
            tags |= tag << 2 * physical
        return tags
