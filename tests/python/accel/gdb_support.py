"""A GdbServer on the test's thread, whose vCPUs it runs, and the client on another."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

from vm_accel import Exit, GdbServer, Vcpu, Vm
from vm_accel.gdb.packets import frame

DEADLINE = 60.0  # seconds until a test gives up

_open: list[socket.socket] = []  # of the clients of the test that runs


def serve(
    vm: Vm,
    client: Callable[[GdbServer], None],
    *,
    on_exit: Callable[[Vcpu, Exit], bool | int | None] | None = None,
    address: tuple[str, int] | Path = ("127.0.0.1", 0),
    architecture: str = "auto",
) -> int | None:
    """Serve until the guest is over or the client is done; what the client raises is raised here."""
    errors: list[BaseException] = []
    with GdbServer(vm, address, on_exit=on_exit, architecture=architecture) as server:

        def work() -> None:
            try:
                client(server)
            except BaseException as error:
                errors.append(error)
            finally:
                while _open:
                    _open.pop().close()
                server.stop()

        thread = threading.Thread(target=work)
        thread.start()
        status = server.serve_forever()
        thread.join(DEADLINE)
    if errors:
        raise errors[0]
    return status


class ScriptedClient:
    """Speaks the protocol by hand."""

    def __init__(self, server: GdbServer, *, no_ack: bool = True) -> None:
        address = server.address
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(DEADLINE)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, timeout=DEADLINE)
        _open.append(self.socket)
        self._buffer = b""
        self.no_ack = False
        if no_ack:
            assert self.ask(b"QStartNoAckMode") == b"OK"
            self.no_ack = True

    def send(self, data: bytes) -> None:
        self.socket.sendall(frame(data))

    def receive(self) -> bytes:
        """The next packet; acknowledgements before it are dropped."""
        while True:
            start, end = self._buffer.find(b"$"), self._buffer.find(b"#")
            if 0 <= start < end and len(self._buffer) >= end + 3:
                packet, self._buffer = self._buffer[start + 1 : end], self._buffer[end + 3 :]
                if not self.no_ack:
                    self.socket.sendall(b"+")
                return packet
            data = self.socket.recv(65536)
            if not data:
                raise EOFError("the server has closed the connection")
            self._buffer += data

    def ask(self, data: bytes) -> bytes:
        self.send(data)
        return self.receive()

    def close(self) -> None:
        self.socket.close()
