"""The small PC, and the command that runs images on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from accel.test_boot import multiboot_image
from vm_accel import InternalError, Machine, Shutdown, Timeout, create_hypervisor, probe
from vm_accel.cli import main
from vm_core import InvalidConfig, NotSupported

# 32-bit code: print the three letters after it on COM1, then end with status 3 * 2 + 1.
# mov esi, 0x10003b; mov ecx, 3; mov dx, 0x3f8; rep outsb; mov al, 3; out 0xf4, al; hlt
HELLO = bytes.fromhex("be3b001000 b903000000 66baf803 f36e b003 e6f4 f4".replace(" ", "")) + b"\x90" * 6 + b"hi\n"
FOREVER = b"\xeb\xfe"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image that prints and ends."""
    return save(tmp_path, HELLO)


def save(folder: Path, code: bytes) -> Path:
    path = folder / "guest.flat"
    path.write_bytes(multiboot_image(code))
    return path


@pytest.fixture(autouse=True)
def _needs_a_machine() -> None:
    try:
        with create_hypervisor() as hypervisor:
            if hypervisor.architecture != "x86_64":
                pytest.skip(f"the guests are x86, the hypervisor runs {hypervisor.architecture}")
    except NotSupported as error:
        pytest.skip(str(error))


def test_a_guest_prints_and_ends(image: Path) -> None:
    with Machine(memory=4 << 20) as machine:
        loaded = machine.load(image, command_line="ignored")
        assert loaded.kind == "multiboot"
        result = machine.run(timeout=10)
        assert result.stop is not None and (result.stop.kind, result.stop.status) == ("exit", 7)
        assert machine.output == "hi\n"
        assert machine.run().stop is not None  # it stays stopped
        traffic = {used.name: used.traffic.writes for used in machine.bus.ranges}
        assert traffic["serial"] == 3 and traffic["debug-exit"] == 1
        assert repr(machine) == "<Machine, 4 MiB, 1 processor>"
        assert machine.memory.size == 4 << 20 and len(machine.vm.vcpus) == 1
        machine.serial.feed(b"x")
        assert machine.serial.waiting == 1


def test_processors_wait_for_the_first(tmp_path: Path) -> None:
    with Machine(memory=4 << 20, cpus=3, test_device=False) as machine:
        machine.load(save(tmp_path, FOREVER))
        assert machine.run(timeout=0.05).exit == Timeout()
        assert [vcpu.id for vcpu in machine.vcpus] == [0, 1, 2]
        assert "test echo" not in {used.name for used in machine.bus.ranges}


def test_ends_that_the_guest_did_not_choose(tmp_path: Path) -> None:
    with Machine(memory=4 << 20) as machine:
        machine.load(save(tmp_path, b"\x0f\x0b"))  # ud2, and there is no interrupt table
        assert isinstance(machine.run(timeout=10).exit, Shutdown | InternalError)


def test_sizes_are_checked() -> None:
    for wrong in ({"memory": 1000}, {"cpus": 0}, {"cpus": 5000}):
        with pytest.raises(InvalidConfig):
            Machine(**wrong)  # type: ignore[arg-type]


def test_run_returns_the_guests_status(image: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(image), "--memory", "4M", "--cpus", "2", "--stats", "--", "a", "b"]) == 7
    done = capfd.readouterr()
    assert done.out == "hi\n"
    assert "serial (port 0x3f8): 0 reads, 3 writes" in done.err and "vCPU 0: IoOut" in done.err


def test_run_writes_elsewhere(image: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(image), "--memory", "4096K", "--serial", str(tmp_path / "log")]) == 7
    assert (tmp_path / "log").read_bytes() == b"hi\n"
    assert main(["run", str(image), "--memory", "4M", "--serial", "none"]) == 7
    assert capfd.readouterr().out == ""


def test_run_tells_other_ends(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(save(tmp_path, FOREVER)), "--timeout", "0.05"]) == 124
    assert "did not end within 0.05 s" in capfd.readouterr().err
    assert main(["run", str(save(tmp_path, b"\x0f\x0b"))]) == 125
    assert "vCPU 0" in capfd.readouterr().err
    assert main(["run", str(tmp_path / "absent")]) == 2
    assert main(["run", str(save(tmp_path, FOREVER)), "--memory", "lots"]) == 2
    assert "128M or 2G" in capfd.readouterr().err
    assert main(["run", str(save(tmp_path, FOREVER)), "--kind", "bzimage"]) == 2
    assert "HdrS" in capfd.readouterr().err


# again: mov dx, 0x3fd; in al, dx; test al, 1; jz again; mov dx, 0x3f8; in al, dx; out dx, al; cmp al, 'q'; jne again;
# mov al, 1; out 0xf4, al; hlt
ECHO = bytes.fromhex("66bafd03 ec a801 74f7 66baf803 ec ee 3c71 75ed b001 e6f4 f4".replace(" ", ""))

# Makes its standard input the terminal that controls it, as a shell does.
ON_ITS_TERMINAL = """\
import fcntl, os, sys, termios
from vm_accel.cli import main
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.exit(main(sys.argv[1:]))
"""


def test_a_guest_reads_what_comes_in(tmp_path: Path) -> None:
    path = save(tmp_path, ECHO)
    (tmp_path / "typed").write_bytes(b"abcq")
    command = [sys.executable, "-m", "vm_accel", "run", str(path), "--memory", "4M", "--timeout", "30", "--input"]
    for source, piped in ((str(tmp_path / "typed"), b""), ("-", b"x" * 10_000 + b"q")):
        done = subprocess.run([*command, source], input=piped, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (3, b"")
        assert done.stdout == (piped or b"abcq")
    assert main(["run", str(path), "--input", str(tmp_path / "absent")]) == 2
    # Nothing is read where nobody types: the input is the caller's.
    unread = tmp_path / "list"
    unread.write_bytes(b"q")
    with unread.open("rb") as caller:
        patient = [*command[:-3], "--timeout", "0.2"]
        assert subprocess.run(patient, stdin=caller, capture_output=True, check=False).returncode == 124
        assert caller.read() == b"q"


def test_keys_reach_the_guest_one_by_one(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    arguments = ["run", str(save(tmp_path, ECHO)), "--memory", "4M", "--timeout", "30"]
    with subprocess.Popen(
        [sys.executable, "-c", ON_ITS_TERMINAL, *arguments], stdin=theirs, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for key in (b"k", b"q"):  # without a line's end
            os.write(ours, key)
            assert process.stdout.read(1) == key
        assert process.wait(timeout=30) == 3
    assert termios.tcgetattr(theirs) == before
    for fd in (ours, theirs):
        os.close(fd)


def test_a_terminal_that_is_closed_ends_the_input(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    arguments = ["run", str(save(tmp_path, ECHO)), "--memory", "4M", "--timeout", "1"]
    survives = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + ON_ITS_TERMINAL  # as under nohup
    with subprocess.Popen(
        [sys.executable, "-c", survives, *arguments], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        os.write(ours, b"k")
        assert process.stdout.read(1) == b"k"
        for fd in (ours, theirs):
            os.close(fd)
        assert process.wait(timeout=30) == 124
        assert b"did not end" in (said := process.stderr.read()) and b"Traceback" not in said


def test_ctrl_c_ends_a_run(tmp_path: Path) -> None:
    # Prints one letter, then runs on: mov dx, 0x3f8; mov al, 'r'; out dx, al; jmp $
    path = save(tmp_path, bytes.fromhex("66baf803 b072 ee ebfe".replace(" ", "")))
    command = [sys.executable, "-m", "vm_accel", "run", str(path), "--memory", "4M"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"r"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130


def test_info_is_for_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kvm"] == probe().as_dict()
    assert facts["backends"][0]["name"] == "kvm" and facts["cpu"] and facts["topology"]
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "user_memory" in out and "Processor" in out


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for command, example in ((["--help"], "vm-accel info"), (["run", "--help"], "smptest.flat"), ([], "vm-accel run")):
        assert main(command) == 0
        assert example in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert main(["fly"]) == 2
