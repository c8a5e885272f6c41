"""Drives QEMU: starts it over a memory file, asks its monitor, sets registers through its gdb stub."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from .memory import Ram

KNOWN_VERSION = "7.2"
"""Debian 12's."""

MONITOR_BATCH = 256
"""Commands sent before their answers are read: enough to hide the round trip, little enough to fit socket buffers."""

STUB_TIMEOUT = 120
"""Seconds after which a stub run is given up; a run takes a few seconds."""

START_ATTEMPTS = 60
"""Seconds that QEMU may take to connect; in between, its early death is noticed."""


class QemuError(RuntimeError):
    """QEMU did not start, stopped early, or answered something that makes no sense."""


def missing(*programs: str) -> str | None:
    """The reason to skip: which of `programs` is not installed; None when all are."""
    absent = [program for program in programs if shutil.which(program) is None]
    return f"{', '.join(absent)} not installed" if absent else None


def unsuitable(*programs: str) -> str | None:
    """As `missing`; and another QEMU than the one whose departures from the manuals are known."""
    reason = missing(*programs)
    for program in programs if reason is None else ():
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"version (\d+\.\d+)", answer)
        version = found.group(1) if found else answer
        if version != KNOWN_VERSION:
            reason = f"{program} is {version}; what {KNOWN_VERSION} does otherwise than the manuals is known, no more"
    return reason


def memory_arguments(ram: Ram, machine: str) -> list[str]:
    """Options that make `ram`'s file the memory of `machine`, shared so that both sides see each other's stores."""
    size = f"{ram.size >> 20}M"
    backend = f"memory-backend-file,id=ram,size={size},mem-path={ram.path},share=on"
    return ["-machine", f"{machine},memory-backend=ram", "-object", backend, "-m", size]


QUIET = ["-accel", "tcg", "-display", "none", "-nodefaults", "-no-reboot"]


def run_to_exit(program: str, arguments: Sequence[str]) -> int:
    """Runs a stub until it ends the machine. Returns QEMU's exit code."""
    command = [program, *arguments, *QUIET]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=STUB_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise QemuError(f"{program} did not end within {STUB_TIMEOUT} s") from error
    if done.stderr.strip():
        raise QemuError(f"{program}: {done.stderr.decode(errors='replace').strip()}")
    return done.returncode


class Qemu:
    """A QEMU process with its monitor (QMP) and, when asked for, its gdb stub. Use it as a context manager."""

    def __init__(self, program: str, arguments: Sequence[str], *, gdb: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vm-oracle-")
        folder = Path(self._folder.name)
        # Listening here and letting QEMU connect needs no polling: accept() waits exactly as long as QEMU takes.
        monitor = self._listen(folder / "monitor")
        gdb_server = self._listen(folder / "gdb") if gdb else None
        command = [program, *arguments, *QUIET, "-qmp", f"unix:{folder / 'monitor'}"]
        if gdb_server is not None:
            command += ["-gdb", f"unix:{folder / 'gdb'}"]
        self._log = open(folder / "log", "w+b")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=self._log, stdout=self._log)
        self._gdb: Gdb | None = None
        self._monitor: socket.socket | None = None
        self._lines: BinaryIO | None = None
        try:
            if gdb_server is not None:
                self._gdb = Gdb(self._accept(gdb_server))
            self._monitor = self._accept(monitor)
            self._lines = self._monitor.makefile("rb")
            self._lines.readline()
            self.command("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _listen(path: Path) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.listen(1)
        server.settimeout(1)
        return server

    def _accept(self, server: socket.socket) -> socket.socket:
        with server:
            for _ in range(START_ATTEMPTS):
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    if self._process.poll() is not None:
                        break
                    continue
                connection.settimeout(STUB_TIMEOUT)
                return connection
        raise QemuError(f"QEMU did not connect: {self._output()}")

    def _output(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()

    @property
    def gdb(self) -> Gdb:
        """The gdb stub; only when started with `gdb=True`."""
        assert self._gdb is not None
        return self._gdb

    def _answer(self) -> Any:
        assert self._lines is not None
        while True:
            line = self._lines.readline()
            if not line:
                raise QemuError(f"QEMU went away: {self._output()}")
            message = json.loads(line)
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise QemuError(f"QEMU refused: {message['error'].get('desc', message['error'])}")

    def command(self, name: str, **arguments: Any) -> Any:
        """One QMP command and its answer."""
        return self._send([{"execute": name, "arguments": arguments}])[0]

    def _send(self, commands: Sequence[dict[str, Any]]) -> list[Any]:
        assert self._monitor is not None
        self._monitor.sendall(b"".join(json.dumps(command).encode() + b"\n" for command in commands))
        return [self._answer() for _ in commands]

    def monitor(self, line: str) -> str:
        """One command of the human monitor."""
        return str(self.command("human-monitor-command", **{"command-line": line})).replace("\r\n", "\n")

    def monitor_many(self, lines: Iterable[str]) -> list[str]:
        """Many commands of the human monitor, pipelined; the answers in order."""
        commands = [{"execute": "human-monitor-command", "arguments": {"command-line": line}} for line in lines]
        answers: list[str] = []
        for start in range(0, len(commands), MONITOR_BATCH):
            answers += self._send(commands[start : start + MONITOR_BATCH])
        return answers

    def translate(self, vaddrs: Sequence[int]) -> list[int | None]:
        """QEMU's own answer for each address: the guest-physical address, or None where its walker finds nothing."""
        answers = self.monitor_many(f"gva2gpa {vaddr:#x}" for vaddr in vaddrs)
        result: list[int | None] = []
        for vaddr, answer in zip(vaddrs, answers, strict=True):
            found = re.match(r"gpa: (0x[0-9a-f]+)", answer)
            if found is None and answer.strip() != "Unmapped":
                raise QemuError(f"gva2gpa {vaddr:#x} answered {answer!r}")
            result.append(int(found.group(1), 16) if found else None)
        return result

    def close(self) -> None:
        """Ends QEMU, and waits for it."""
        for connection in (self._lines, self._monitor, self._gdb):
            if connection is not None:
                connection.close()
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> Qemu:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Gdb:
    """The remote protocol of QEMU's gdb stub, as far as setting registers by name needs it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pending = b""
        self._numbers: dict[str, int] = {}

    def _ask(self, packet: str) -> str:
        self._connection.sendall(f"${packet}#{sum(packet.encode()) & 255:02x}".encode())
        while True:
            found = re.search(rb"\$(.*?)#..", self._pending, re.DOTALL)
            if found is not None:
                self._pending = self._pending[found.end() :]
                self._connection.sendall(b"+")
                return found.group(1).decode("latin1")
            data = self._connection.recv(65536)
            if not data:
                raise QemuError("the gdb stub closed the connection")
            self._pending += data

    def _document(self, name: str) -> str:
        text = ""
        while True:
            answer = self._ask(f"qXfer:features:read:{name}:{len(text):x},7fb")
            text += answer[1:]
            if answer[0] != "m":
                return text

    def describe(self, architecture: str) -> dict[str, int]:
        """Reads the target description; afterwards registers can be set by name."""
        self._ask(f"qSupported:xmlRegisters={architecture}")
        number = -1
        for include in re.findall(r'href="([^"]+)"', self._document("target.xml")):
            document = re.sub(r"<!--.*?-->", "", self._document(include), flags=re.DOTALL)
            for register in re.finditer(r'<reg name="([^"]+)"([^>]*)', document):
                explicit = re.search(r'regnum="(\d+)"', register.group(2))
                number = int(explicit.group(1)) if explicit else number + 1
                self._numbers[register.group(1)] = number
        return self._numbers

    def set(self, name: str, value: int, size: int = 8) -> None:
        """Sets one register of `size` bytes."""
        answer = self._ask(f"P{self._numbers[name]:x}={value.to_bytes(size, 'little').hex()}")
        if answer != "OK":
            raise QemuError(f"the gdb stub refused {name} = {value:#x}: {answer!r}")

    def run_to(self, address: int) -> None:
        """Lets the machine run until it is about to execute `address`, and returns when it is."""
        if self._ask(f"Z1,{address:x},4") != "OK":
            raise QemuError(f"the gdb stub refused a breakpoint at {address:#x}")
        answer = self._ask("c")
        if not answer.startswith("T05"):
            raise QemuError(f"the machine did not stop at {address:#x}: {answer!r}")

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()
