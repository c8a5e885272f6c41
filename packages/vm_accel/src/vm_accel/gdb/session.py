"""One connection of gdb: its packets in, answers out (gdb manual, appendix E.2, "Packets")."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from vm_core import VmError

from .._accel import Debugger, Vcpu
from .monitor import run_command
from .packets import MAX_PACKET, escape, number
from .registers import Layout, RegisterFile
from .state import StatePackets, range_of
from .stops import TRAP, Ended, Stopped

__all__ = ["Session", "Target"]


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
        self._state = StatePackets(self._debugger, layout)
        self._last = Stopped(TRAP, self._vcpus()[0].id)
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
            if packet[:1] in StatePackets.LETTERS:
                return self._state.answer(packet, self._vcpu())
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
        try:
            outcome = self._target.resume(vcpu, step=step)
        except VmError as error:
            self._print(f"{error}\n")
            outcome = Stopped(TRAP, self._last.vcpu if vcpu is None else vcpu)
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
            for step, wanted in actions:
                if wanted in (-1, 0, vcpu.id + 1):
                    chosen[vcpu.id] = step
                    break
        if not chosen:
            raise ValueError("vCont names no thread that exists")
        stepped = [identity for identity, step in chosen.items() if step]
        if stepped:
            return self._go(self._last.vcpu if self._last.vcpu in stepped else stepped[0], step=True)
        return self._go(next(iter(chosen)) if len(chosen) == 1 else None, step=False)

    def _detach(self, rest: bytes) -> bytes:
        self._state.clear()
        self.over = self.running = True
        return b"OK"

    def clear(self) -> None:
        """Take away the breakpoints that this connection has set."""
        self._state.clear()

    def _kill(self, rest: bytes) -> bytes | None:
        self.over, self.status = True, -9
        return None

    def _kill_politely(self, rest: bytes) -> bytes:
        self._kill(rest)
        return b"OK"

    # --- Questions about the target ----------------------------------------------------------------------------------

    def _supported(self, rest: bytes) -> bytes:
        features = rest.split(b";")
        self._told_reasons = b"swbreak+" in features
        return b"PacketSize=%x;qXfer:features:read+;vContSupported+;QStartNoAckMode+;swbreak+;hwbreak+" % MAX_PACKET

    def _start_no_ack(self, rest: bytes) -> bytes:
        self.no_ack = True
        return b"OK"

    def _attached(self, rest: bytes) -> bytes:
        return b"1"

    def _features(self, rest: bytes) -> bytes:
        name, _, where = rest.partition(b":")
        if name != b"target.xml":
            return b"E00"
        offset, length = range_of(where)
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
    _WORDS: ClassVar[tuple[tuple[bytes, Callable[[Session, bytes], bytes | None]], ...]] = (
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
    _LETTERS: ClassVar[dict[bytes, Callable[[Session, bytes], bytes | None]]] = {
        b"?": _why,
        b"H": _set_thread,
        b"T": _is_alive,
        b"c": _continue,
        b"s": _step,
        b"C": _continue_signal,
        b"S": _step_signal,
        b"D": _detach,
        b"k": _kill,
    }
