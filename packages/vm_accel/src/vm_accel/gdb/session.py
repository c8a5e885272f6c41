"""One connection of gdb: its packets in, answers out (gdb manual, appendix E.2, "Packets")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vm_core import VmError

from .._accel import Debugger, Stop, Vcpu
from .monitor import run_command
from .packets import MAX_PACKET, escape, number
from .registers import Layout, RegisterFile

__all__ = ["Ended", "Session", "Stopped", "Target"]

_TRAP, _INTERRUPT = 5, 2


class Stopped:
    """Why the guest stands still, in gdb's words."""

    def __init__(self, signal: int, vcpu: int, detail: str = "") -> None:
        self.signal = signal
        self.vcpu = vcpu
        self.detail = detail

    @classmethod
    def from_stop(cls, stop: Stop, debugger: Debugger) -> Stopped:
        """The words for a stop that is not an exit."""
        if stop.reason == "interrupted":
            return cls(_INTERRUPT, stop.vcpu)
        if stop.reason == "breakpoint":
            hardware = any(point.id == stop.id and point.hardware for point in debugger.breakpoints)
            return cls(_TRAP, stop.vcpu, "hwbreak:;" if hardware else "swbreak:;")
        if stop.reason == "watchpoint":
            reads = any(point.id == stop.id and point.read for point in debugger.watchpoints)
            return cls(_TRAP, stop.vcpu, f"{'awatch' if reads else 'watch'}:{stop.address:x};")
        return cls(_TRAP, stop.vcpu)


class Ended:
    """The guest is over."""

    def __init__(self, status: int) -> None:
        self.status = status


class Target(Protocol):
    """What a session wants of the server."""

    debugger: Debugger

    def resume(self, vcpu: int | None, *, step: bool) -> Stopped | Ended:
        """Run all vCPUs, or only one, until something is to be told; or one instruction of one."""


class Session:
    """Answers packets. ``over`` says that the connection is to be closed, ``running`` what the guest does then."""

    def __init__(self, target: Target, layout: Layout, print_to_gdb: Callable[[str], None]) -> None:
        self._target = target
        self._debugger = target.debugger
        self._layout = layout
        self._print = print_to_gdb
        self._thread = {"g": 0, "c": 0}  # by the letter of the H packet; 0: any
        self._points: dict[tuple[int, int, int], int] = {}
        self._last = Stopped(_TRAP, self._vcpus()[0].id)
        self._told_reasons = False
        self.no_ack = False
        self.over = False
        self.running = False
        self.status: int | None = None

    def answer(self, packet: bytes) -> bytes | None:
        """What to send back; None for nothing. Whatever is in the packet, errors are answers."""
        if not packet:
            return b""
        try:
            for prefix, handler in self._WORDS:
                if packet.startswith(prefix):
                    return handler(self, packet[len(prefix) :])
            letter = self._LETTERS.get(packet[:1])
            return letter(self, packet[1:]) if letter else b""
        except (VmError, ValueError) as error:
            return b"E." + escape(str(error).encode("ascii", "replace")) if self._told_reasons else b"E01"

    # --- Threads -----------------------------------------------------------------------------------------------------

    def _vcpus(self) -> list[Vcpu]:
        return self._debugger.vm.vcpus

    def _vcpu(self, use: str = "g") -> Vcpu:
        wanted = self._thread[use] or self._last.vcpu + 1
        for vcpu in self._vcpus():
            if vcpu.id + 1 == wanted:
                return vcpu
        raise ValueError(f"there is no thread {wanted}")

    @staticmethod
    def _thread_id(text: bytes) -> int:
        """-1: all; 0: any; else a vCPU's id plus 1, because gdb has no thread 0."""
        return -1 if text == b"-1" else number(text)

    def _set_thread(self, rest: bytes) -> bytes:
        use, thread = rest[:1].decode("ascii"), self._thread_id(rest[1:])
        if use not in self._thread:
            return b""
        if thread > 0 and all(vcpu.id + 1 != thread for vcpu in self._vcpus()):
            raise ValueError(f"there is no thread {thread}")
        self._thread[use] = max(thread, 0)
        return b"OK"

    def _is_alive(self, rest: bytes) -> bytes:
        thread = self._thread_id(rest)
        return b"OK" if any(vcpu.id + 1 == thread for vcpu in self._vcpus()) else b"E03"

    def _threads(self, rest: bytes) -> bytes:
        return b"m" + b",".join(b"%x" % (vcpu.id + 1) for vcpu in self._vcpus())

    def _no_more_threads(self, rest: bytes) -> bytes:
        return b"l"

    def _current_thread(self, rest: bytes) -> bytes:
        return b"QC%x" % (self._last.vcpu + 1)

    def _thread_text(self, rest: bytes) -> bytes:
        thread = self._thread_id(rest.lstrip(b","))
        return f"vCPU {thread - 1}".encode().hex().encode()

    # --- Stops -------------------------------------------------------------------------------------------------------

    def _stop_reply(self) -> bytes:
        detail = self._last.detail
        if detail in ("swbreak:;", "hwbreak:;") and not self._told_reasons:
            detail = ""
        return f"T{self._last.signal:02x}thread:{self._last.vcpu + 1:x};{detail}".encode()

    def _why(self, rest: bytes) -> bytes:
        return self._stop_reply()

    def _go(self, vcpu: int | None, *, step: bool) -> bytes:
        outcome = self._target.resume(vcpu, step=step)
        if isinstance(outcome, Ended):
            self.over, self.status = True, outcome.status
            return b"W%02x" % (outcome.status & 0xFF)
        self._last = outcome
        self._thread["g"] = 0
        return self._stop_reply()

    def _jump(self, rest: bytes) -> None:
        if rest:
            vcpu = self._vcpu("c")
            registers = RegisterFile(vcpu, self._layout)
            pc = next(register for register in self._layout.registers if register.type == "code_ptr")
            registers.set(pc, number(rest))
            registers.store()

    def _continue(self, rest: bytes) -> bytes:
        self._jump(rest)
        return self._go(None, step=False)

    def _step(self, rest: bytes) -> bytes:
        self._jump(rest)
        return self._go(self._vcpu("c").id, step=True)

    def _continue_signal(self, rest: bytes) -> bytes:
        return self._continue(rest.partition(b";")[2])

    def _step_signal(self, rest: bytes) -> bytes:
        return self._step(rest.partition(b";")[2])

    def _vcont_actions(self, rest: bytes) -> bytes:
        return b"vCont;c;C;s;S"

    def _vcont(self, rest: bytes) -> bytes:
        # The leftmost action that fits a thread is its action.
        actions = []
        for part in rest.split(b";"):
            action, _, thread = part.partition(b":")
            if action[:1] not in (b"c", b"C", b"s", b"S"):
                raise ValueError(f"vCont has no action {action!r} here")
            actions.append((action[:1] in (b"s", b"S"), self._thread_id(thread) if thread else -1))
        chosen: dict[int, bool] = {}
        for vcpu in self._vcpus():
            for step, thread in actions:
                if thread in (-1, 0, vcpu.id + 1):
                    chosen[vcpu.id] = step
                    break
        if not chosen:
            raise ValueError("vCont names no thread that exists")
        stepped = [vcpu for vcpu, step in chosen.items() if step]
        if stepped:
            return self._go(self._last.vcpu if self._last.vcpu in stepped else stepped[0], step=True)
        return self._go(next(iter(chosen)) if len(chosen) == 1 else None, step=False)

    def _detach(self, rest: bytes) -> bytes:
        self.clear()
        self.over = self.running = True
        return b"OK"

    def _kill(self, rest: bytes) -> bytes | None:
        self.over, self.status = True, -9
        return None

    def _kill_politely(self, rest: bytes) -> bytes:
        self._kill(rest)
        return b"OK"

    # --- Registers and memory ----------------------------------------------------------------------------------------

    def _read_registers(self, rest: bytes) -> bytes:
        file = RegisterFile(self._vcpu(), self._layout)
        return b"".join(file.text(register) for register in self._layout.registers)

    def _write_registers(self, rest: bytes) -> bytes:
        file = RegisterFile(self._vcpu(), self._layout)
        at = 0
        for register in self._layout.registers:
            file.set_text(register, rest[at : at + 2 * register.size])
            at += 2 * register.size
        file.store()
        return b"OK"

    def _read_register(self, rest: bytes) -> bytes:
        index = number(rest)
        if index >= len(self._layout.registers):
            return b"E02"
        return RegisterFile(self._vcpu(), self._layout).text(self._layout.registers[index])

    def _write_register(self, rest: bytes) -> bytes:
        index, _, value = rest.partition(b"=")
        if number(index) >= len(self._layout.registers):
            return b"E02"
        file = RegisterFile(self._vcpu(), self._layout)
        file.set_text(self._layout.registers[number(index)], value)
        file.store()
        return b"OK"

    @staticmethod
    def _range(text: bytes) -> tuple[int, int]:
        address, _, length = text.partition(b",")
        return number(address), number(length)

    def _read_memory(self, rest: bytes) -> bytes:
        address, length = self._range(rest)
        length = min(length, MAX_PACKET // 2)
        vcpu = self._vcpu()
        try:
            return self._debugger.read(address, length, vcpu=vcpu).hex().encode()
        except VmError:
            # What can be read before the first page that cannot; gdb asks for the rest by itself.
            first = 4096 - address % 4096
            if first >= length:
                raise
            return self._debugger.read(address, first, vcpu=vcpu).hex().encode()

    def _write_memory(self, rest: bytes) -> bytes:
        where, _, digits = rest.partition(b":")
        return self._store(*self._range(where), bytes.fromhex(digits.decode("ascii")))

    def _write_binary(self, rest: bytes) -> bytes:
        where, _, data = rest.partition(b":")
        return self._store(*self._range(where), data)

    def _store(self, address: int, length: int, data: bytes) -> bytes:
        if len(data) != length:
            raise ValueError(f"{length} bytes were announced, {len(data)} came")
        if data:
            self._debugger.write(address, data, vcpu=self._vcpu())
        return b"OK"

    # --- Breakpoints -------------------------------------------------------------------------------------------------

    @staticmethod
    def _point(rest: bytes) -> tuple[int, int, int]:
        kind, address, size = rest.partition(b";")[0].split(b",")
        return number(kind), number(address), number(size)

    def _insert(self, rest: bytes) -> bytes:
        point = kind, address, size = self._point(rest)
        if point in self._points:
            return b"OK"
        vcpu = self._vcpu()
        if kind <= 1:
            wanted = "hardware" if kind == 1 else "auto"
            self._points[point] = self._debugger.break_at(address, kind=wanted, vcpu=vcpu).id
        elif kind <= 4:
            # x86 watches reads only together with writes.
            self._points[point] = self._debugger.watch(address, min(size, 16), read=kind != 2, vcpu=vcpu).id
        else:
            return b""
        return b"OK"

    def _remove(self, rest: bytes) -> bytes:
        point = self._point(rest)
        if point[0] > 4:
            return b""
        if point in self._points:
            self._debugger.remove(self._points.pop(point))
        return b"OK"

    def clear(self) -> None:
        """Take away what this connection has set."""
        for identity in self._points.values():
            self._debugger.remove(identity)
        self._points.clear()

    # --- Questions about the target ----------------------------------------------------------------------------------

    def _supported(self, rest: bytes) -> bytes:
        features = rest.split(b";")
        self._told_reasons = b"swbreak+" in features
        return (
            b"PacketSize=%x;qXfer:features:read+;vContSupported+;QStartNoAckMode+;swbreak+;hwbreak+" % MAX_PACKET
        )

    def _start_no_ack(self, rest: bytes) -> bytes:
        self.no_ack = True
        return b"OK"

    def _attached(self, rest: bytes) -> bytes:
        return b"1"

    def _features(self, rest: bytes) -> bytes:
        name, _, where = rest.partition(b":")
        if name != b"target.xml":
            return b"E00"
        offset, length = self._range(where)
        xml = self._layout.xml.encode()
        part = xml[offset : offset + min(length, MAX_PACKET - 16)]
        return (b"m" if offset + len(part) < len(xml) else b"l") + escape(part)

    def _monitor(self, rest: bytes) -> bytes:
        line = bytes.fromhex(rest.decode("ascii")).decode("utf-8", "replace")
        try:
            text = run_command(self._debugger, self._vcpu(), line)
        except VmError as error:
            text = str(error)
        self._print(text + "\n")
        return b"OK"

    # The longest first where one is the start of another.
    _WORDS: tuple[tuple[bytes, Callable[[Session, bytes], bytes | None]], ...] = (
        (b"qSupported:", _supported),
        (b"qSupported", _supported),
        (b"QStartNoAckMode", _start_no_ack),
        (b"qAttached", _attached),
        (b"qXfer:features:read:", _features),
        (b"qRcmd,", _monitor),
        (b"qfThreadInfo", _threads),
        (b"qsThreadInfo", _no_more_threads),
        (b"qThreadExtraInfo", _thread_text),
        (b"qC", _current_thread),
        (b"vCont?", _vcont_actions),
        (b"vCont;", _vcont),
        (b"vKill", _kill_politely),
    )
    _LETTERS: dict[bytes, Callable[[Session, bytes], bytes | None]] = {
        b"?": _why,
        b"H": _set_thread,
        b"T": _is_alive,
        b"g": _read_registers,
        b"G": _write_registers,
        b"p": _read_register,
        b"P": _write_register,
        b"m": _read_memory,
        b"M": _write_memory,
        b"X": _write_binary,
        b"Z": _insert,
        b"z": _remove,
        b"c": _continue,
        b"s": _step,
        b"C": _continue_signal,
        b"S": _step_signal,
        b"D": _detach,
        b"k": _kill,
    }
