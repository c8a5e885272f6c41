"""Packets that look at a vCPU or change it: registers, memory, breakpoints."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

from vm_core import OutOfRange, VmError

from .._accel import Debugger, Vcpu
from .packets import MAX_PACKET, number
from .registers import Layout, RegisterFile

__all__ = ["StatePackets", "range_of"]

_MAX_POINTS = 4096  # a bound for clients that only want to waste memory


def range_of(text: bytes) -> tuple[int, int]:
    """The numbers of ``address,length``. Raises ValueError."""
    address, _, length = text.partition(b",")
    return number(address), number(length)


class StatePackets:
    """Answers the packets in LETTERS; keeps the breakpoints of one connection."""

    def __init__(self, debugger: Debugger, layout: Layout) -> None:
        self._debugger = debugger
        self._layout = layout
        self._points: dict[tuple[int, int, int], int] = {}

    def answer(self, packet: bytes, vcpu: Vcpu) -> bytes:
        """What to send back. Raises VmError, ValueError."""
        return self.LETTERS[packet[:1]](self, vcpu, packet[1:])

    # --- Registers and memory ----------------------------------------------------------------------------------------

    def _read_registers(self, vcpu: Vcpu, rest: bytes) -> bytes:
        file = RegisterFile(vcpu, self._layout)
        return b"".join(file.text(register) for register in self._layout.registers)

    def _write_registers(self, vcpu: Vcpu, rest: bytes) -> bytes:
        file = RegisterFile(vcpu, self._layout)
        at = 0
        for register in self._layout.registers:
            file.set_text(register, rest[at : at + 2 * register.size])
            at += 2 * register.size
        file.store()
        return b"OK"

    def _read_register(self, vcpu: Vcpu, rest: bytes) -> bytes:
        index = number(rest)
        if index >= len(self._layout.registers):
            return b"E02"
        return RegisterFile(vcpu, self._layout).text(self._layout.registers[index])

    def _write_register(self, vcpu: Vcpu, rest: bytes) -> bytes:
        index, _, value = rest.partition(b"=")
        if number(index) >= len(self._layout.registers):
            return b"E02"
        file = RegisterFile(vcpu, self._layout)
        file.set_text(self._layout.registers[number(index)], value)
        file.store()
        return b"OK"

    def _read_memory(self, vcpu: Vcpu, rest: bytes) -> bytes:
        address, length = range_of(rest)
        length = min(length, MAX_PACKET // 2)
        try:
            return self._debugger.read(address, length, vcpu=vcpu).hex().encode()
        except VmError:
            # What can be read before the first page that cannot; gdb asks for the rest by itself.
            first = 4096 - address % 4096
            if first >= length:
                raise
            return self._debugger.read(address, first, vcpu=vcpu).hex().encode()

    def _write_memory(self, vcpu: Vcpu, rest: bytes) -> bytes:
        where, _, digits = rest.partition(b":")
        return self._store(vcpu, *range_of(where), bytes.fromhex(digits.decode("ascii")))

    def _write_binary(self, vcpu: Vcpu, rest: bytes) -> bytes:
        where, _, data = rest.partition(b":")
        return self._store(vcpu, *range_of(where), data)

    def _store(self, vcpu: Vcpu, address: int, length: int, data: bytes) -> bytes:
        if len(data) != length:
            raise ValueError(f"{length} bytes were announced, {len(data)} came")
        if data:
            self._debugger.write(address, data, vcpu=vcpu)
        return b"OK"

    # --- Breakpoints -------------------------------------------------------------------------------------------------

    @staticmethod
    def _point(rest: bytes) -> tuple[int, int, int]:
        kind, address, size = rest.partition(b";")[0].split(b",")
        return number(kind), number(address), number(size)

    def _insert(self, vcpu: Vcpu, rest: bytes) -> bytes:
        point = kind, address, size = self._point(rest)
        if point in self._points:
            return b"OK"
        if len(self._points) >= _MAX_POINTS:
            raise ValueError(f"{_MAX_POINTS} breakpoints are enough for one connection")
        if kind <= 1:
            software = kind == 0
            self._points[point] = self._debugger.break_at(
                address, kind="auto" if software else "hardware", vcpu=vcpu
            ).id
        elif kind <= 4:
            # x86 watches reads only together with writes.
            self._points[point] = self._debugger.watch(address, min(size, 16), read=kind != 2, vcpu=vcpu).id
        else:
            return b""
        return b"OK"

    def _remove(self, vcpu: Vcpu, rest: bytes) -> bytes:
        point = self._point(rest)
        if point[0] > 4:
            return b""
        if point in self._points:
            with suppress(OutOfRange):
                self._debugger.remove(self._points.pop(point))
        return b"OK"

    def clear(self) -> None:
        """Take away all breakpoints."""
        for identity in self._points.values():
            with suppress(OutOfRange):  # on_exit may have removed it
                self._debugger.remove(identity)
        self._points.clear()

    LETTERS: ClassVar[dict[bytes, Callable[[StatePackets, Vcpu, bytes], bytes]]] = {
        b"g": _read_registers,
        b"G": _write_registers,
        b"p": _read_register,
        b"P": _write_register,
        b"m": _read_memory,
        b"M": _write_memory,
        b"X": _write_binary,
        b"Z": _insert,
        b"z": _remove,
    }
