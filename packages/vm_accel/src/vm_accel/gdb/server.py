"""The listening side: connections, threads that wait for bytes while the guest runs, and the guest's exits."""

from __future__ import annotations

import os
import selectors
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from vm_core import InvalidConfig, VmError

from .._accel import Debugger, FailEntry, Hlt, Hypercall, InternalError, IoIn, MmioRead, RdMsr, Shutdown, Stop, Vcpu, Vm
from ..exits import Exit
from .connection import ClientGoneError, Connection
from .packets import Acknowledged, Malformed, Packet
from .registers import LONG, PROTECTED, REAL, Layout, cpu_mode
from .session import Session
from .stops import Ended, Stopped

__all__ = ["GdbServer"]

OnExit = Callable[[Vcpu, Exit], "bool | int | None"]

_LAYOUTS = {layout.architecture: layout for layout in (REAL, PROTECTED, LONG)}
_BY_MODE = {"real": REAL, "protected": PROTECTED, "long": LONG}
# Signals of gdb for exits that a guest does not come back from by itself.
_SIGNALS: dict[type, int] = {Shutdown: 6, FailEntry: 6, InternalError: 4, Hlt: 5}


class GdbServer:
    """Lets gdb attach to a VM: ``target remote HOST:PORT``, or ``target remote PATH`` for a Unix socket.

    The guest stands still until gdb lets it run, and runs on the thread that calls ``serve_forever``, which takes over
    all vCPUs; they take turns (see Debugger). One client at a time. gdb's threads are the vCPUs, thread 1 is vCPU 0.

    ``address``: (host, port), port 0 for any free one, or the path of a Unix socket. Whoever can connect owns the
    guest: keep it on this machine. ``architecture``: "auto" takes the mode of the first vCPU when gdb connects, else
    "i8086", "i386" or "i386:x86-64"; gdb keeps one per connection.

    ``on_exit(vcpu, exit)`` gets every exit that is not a debug event (ports, MMIO, MSRs, halts). It answers with
    ``exit.reply`` where an answer is due, and returns None or True to go on, False to stop in gdb, or an int: the guest
    is over with that status. Without it reads are answered with all bits set, writes are dropped, and halts, shutdowns
    and errors stop in gdb.

    When gdb detaches the guest runs on until the next client stops it; when the connection is lost it stands still.
    Either way breakpoints are gone. Raises OSError when the address cannot be had.
    """

    def __init__(
        self,
        vm: Vm,
        address: tuple[str, int] | str | os.PathLike[str] = ("127.0.0.1", 1234),
        *,
        on_exit: OnExit | None = None,
        architecture: str = "auto",
    ) -> None:
        if architecture != "auto" and architecture not in _LAYOUTS:
            raise InvalidConfig(f"architecture is {architecture!r}; 'auto' and {', '.join(map(repr, _LAYOUTS))} exist")
        self.debugger = Debugger(vm)
        self._vcpus = vm.vcpus  # which a VM does not keep
        self._on_exit = on_exit
        self._architecture = architecture
        self._stopping = False
        self._path: str | None = None
        self._wake, self._waker = socket.socketpair()
        try:
            self._listener = self._listen(address)
        except BaseException:
            self._wake.close()
            self._waker.close()
            raise

    def _listen(self, address: tuple[str, int] | str | os.PathLike[str]) -> socket.socket:
        if isinstance(address, tuple):
            return socket.create_server(address)
        path = os.fspath(address)
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode):  # left by a server that is gone
                os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path)
            listener.listen()
        except BaseException:
            listener.close()
            raise
        self._path = path
        return listener

    @property
    def address(self) -> tuple[str, int] | str:
        """Where it listens: (host, port) or the path."""
        if self._path is not None:
            return self._path
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def stop(self) -> None:
        """Make ``serve_forever`` return. Any thread, and signal handlers."""
        self._stopping = True
        with suppress(OSError):
            self._waker.send(b"x")
        self.debugger.interrupt()

    def close(self) -> None:
        """Stop listening and restore the guest. Twice is fine.

        Raises AccessViolation when the vCPUs belong to another thread, as after ``serve_forever`` there: the guest's
        code is not restored then, but nothing listens any more.
        """
        try:
            self.debugger.detach()
        finally:
            for each in (self._listener, self._wake, self._waker):
                each.close()
            if self._path is not None:
                with suppress(FileNotFoundError):
                    os.unlink(self._path)
                self._path = None

    def __enter__(self) -> GdbServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- Clients -----------------------------------------------------------------------------------------------------

    def serve_forever(self) -> int | None:
        """Serve one client after the other until the guest is over; returns its status, None after ``stop`` or a kill.

        Takes over the vCPUs. Ctrl-C raises KeyboardInterrupt.
        """
        vcpus = self.debugger.vm.vcpus
        if not vcpus:
            raise InvalidConfig("this VM has no vCPU that gdb could look at")
        for vcpu in vcpus:
            vcpu.attach()
        running = False
        while not self._stopping:
            if running:
                outcome = self._run_until_readable(self._listener)
                if isinstance(outcome, Ended):
                    return outcome.status
            if not self._readable(self._listener):
                break
            client, _ = self._listener.accept()
            with client:
                session = self._serve(client)
            if session.status is not None:
                return session.status if session.status >= 0 else None
            running = session.running
        return None

    def _serve(self, client: socket.socket) -> Session:
        connection = Connection(client)
        self._connection = connection
        session = Session(self, self._layout(), connection.print)
        try:
            while not session.over and self._readable(client):
                self._answer(connection.receive(), connection, session)
        except ClientGoneError:
            pass
        finally:
            session.clear()
        return session

    @staticmethod
    def _answer(data: bytes, connection: Connection, session: Session) -> None:
        for event in connection.reader.feed(data):
            if isinstance(event, Packet):
                if not session.no_ack:
                    connection.send(b"+")
                no_ack = session.no_ack
                answer = session.answer(event.data)
                if answer is not None:
                    connection.answer(answer)
                if no_ack != session.no_ack:
                    connection.last = b""
                if session.over:
                    return
            elif isinstance(event, Acknowledged):
                if not event.ok and connection.last and not session.no_ack:
                    connection.send(connection.last)
            elif isinstance(event, Malformed) and not session.no_ack:
                connection.send(b"-")

    def _readable(self, source: socket.socket) -> bool:
        """Waits for bytes or a client; False after ``stop``."""
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while not self._stopping:
                if any(key.fileobj is source for key, _ in selector.select()):
                    return True
        return False

    def _layout(self) -> Layout:
        if self._architecture != "auto":
            return _LAYOUTS[self._architecture]
        return _BY_MODE[cpu_mode(self.debugger.vm.vcpus[0].sregs)]

    # --- Running the guest -------------------------------------------------------------------------------------------

    def resume(self, vcpu: int | None, *, step: bool) -> Stopped | Ended:
        """For Session: run until something is to be told. Bytes from the client stop the guest."""
        with self._interrupted_by(self._connection.socket):
            if self._connection.reader.pending:  # Ctrl-C came in one piece with the packet
                self.debugger.interrupt()
            return self._step(vcpu) if step else self._run(vcpu)

    def _run_until_readable(self, source: socket.socket) -> Stopped | Ended:
        with self._interrupted_by(source):
            return self._run(None)

    @contextmanager
    def _interrupted_by(self, source: socket.socket) -> Iterator[None]:
        """A thread interrupts the debugger when bytes arrive; it is over when the block is."""
        ours, theirs = socket.socketpair()

        def watch() -> None:
            with selectors.DefaultSelector() as selector:
                for each in (source, theirs, self._wake):
                    selector.register(each, selectors.EVENT_READ)
                if all(key.fileobj is not theirs for key, _ in selector.select()):
                    self.debugger.interrupt()

        watcher = threading.Thread(target=watch, name="gdb-input", daemon=True)
        with ours, theirs:
            watcher.start()
            try:
                yield
            finally:
                ours.send(b"x")
                watcher.join()
                self.debugger.forget_interrupt()

    def _run(self, vcpu: int | None) -> Stopped | Ended:
        while True:
            stop = self.debugger.run(vcpu=vcpu)
            outcome = self._told(stop)
            if outcome is not None:
                return outcome

    def _step(self, vcpu: int | None) -> Stopped | Ended:
        before = self.debugger.pc(vcpu)
        while True:
            stop = self.debugger.step(vcpu)
            outcome = self._told(stop)
            if outcome is not None:
                return outcome
            if stop.pc != before:  # an instruction that ends with its exit, as OUT does
                return Stopped(5, stop.vcpu)

    def _told(self, stop: Stop) -> Stopped | Ended | None:
        """What gdb is told about a stop; None when the guest goes on."""
        if stop.exit is None:
            return Stopped.from_stop(stop, self.debugger)
        vcpu = next(each for each in self.debugger.vm.vcpus if each.id == stop.vcpu)
        verdict = self._on_exit(vcpu, stop.exit) if self._on_exit else type(stop.exit) not in _SIGNALS
        if verdict is None or verdict is True:
            if self._on_exit is None:
                _answer_nothing(stop.exit)
            return None
        if verdict is False:
            _answer_nothing(stop.exit)
            return Stopped(_SIGNALS.get(type(stop.exit), 5), stop.vcpu)
        return Ended(verdict)


def _answer_nothing(exit: Exit) -> None:
    """All bits set, as from a bus without a device; nothing where no answer is due or one was given."""
    match exit:
        case IoIn(size=size, count=count):
            answer = b"\xff" * (size * count)
        case MmioRead(size=size):
            answer = b"\xff" * size
        case RdMsr() | Hypercall():
            answer = b"\xff" * 8
        case _:
            return
    with suppress(VmError):
        exit.reply(answer)
