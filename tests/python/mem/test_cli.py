"""The vm-mem command as a whole: help, errors, interruption, what it costs those who only import."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mem.cli_support import TEXT, Run, save_core, save_raw
from vm_mem.cli import main

COMMANDS = ("info", "translate", "maps", "roots", "demo")


def spawn(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "vm_mem", *map(str, arguments)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_ends_with_an_example(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.status == 0
    assert f"vm-mem {command}" in result.out.partition("Examples:")[2]
    assert result.err == ""


def test_without_a_command_the_help_shows(run: Run) -> None:
    result = run()
    assert result.status == 0
    assert all(command in result.out for command in COMMANDS)


def test_the_version_is_the_packages(run: Run) -> None:
    import vm_mem

    assert run("--version").out == f"vm-mem {vm_mem.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "nonsense"),
        (["--nonsense"], "--nonsense"),
        (["info"], "IMAGE"),
        (["info", "/nowhere/guest.elf"], "No such file"),
        (["info", "/tmp"], "/tmp"),
        (["maps", "IMAGE"], "--arch and --root"),
        (["maps", "IMAGE", "--arch", "x86_64"], "give --root"),
        (["maps", "IMAGE", "--arch", "sv39"], "--root"),
        (["maps", "IMAGE", "--arch", "alpha", "--root", "0"], "alpha"),
        (["maps", "IMAGE", "--arch", "x86_64", "--root", "0x1001"], "multiple of 4096"),
        (["maps", "IMAGE", "--root", "ff"], "write 0xff"),
        (["maps", "IMAGE", "--root", "one"], "not a number"),
        (["maps", "IMAGE", "--root", "0x10000000000000000"], "2**64"),
        (["roots", "IMAGE", "--limit", "0"], "limit"),
        (["demo", "IMAGE"], "registers"),
    ],
)
def test_errors_are_one_line_and_status_2(run: Run, tmp_path: Path, arguments: list[str], told: str) -> None:
    image = str(save_raw(tmp_path))
    result = run(*(image if argument == "IMAGE" else argument for argument in arguments))
    assert result.status == 2
    assert result.out == ""
    last = result.err.splitlines()[-1]
    assert last.startswith("vm-mem: ")
    assert told in last
    assert result.err.count("\n") == 1 + result.err.count("vm-mem: note:")


def test_a_damaged_image_is_told_with_its_place(run: Run, tmp_path: Path) -> None:
    path = save_core(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    result = run("info", path)
    assert result.status == 2
    assert str(path) in result.err


def test_a_damaged_package_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "guest.elf.xz"
    path.write_bytes(b"\xfd7zXZ\0" + bytes(100))
    result = run("info", path)
    assert result.status == 2
    assert "damaged xz file" in result.err


def test_interruption_is_status_130(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vm_mem.cli.roots.find_roots", interrupt)
    result = run("roots", save_raw(tmp_path))
    assert (result.status, result.out, result.err.strip()) == (130, "", "")


def test_ctrl_c_stops_a_scan_that_is_under_way(tmp_path: Path) -> None:
    image = tmp_path / "sparse.raw"
    with image.open("wb") as file:
        file.truncate(1 << 38)
    ours, theirs = pty.openpty()
    terminal = {**os.environ, "TERM": "xterm-256color"}  # on a dumb one nothing is drawn until the end
    # A shell that starts this run in the background has it ignore the signal, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(spawn("roots", image), stdout=subprocess.PIPE, stderr=theirs, env=terminal) as process:
        signal.signal(signal.SIGINT, before)
        os.close(theirs)
        seen = b""
        while b"scanning" not in seen:
            seen += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.read() == b""
        assert process.wait() == 130
    os.close(ours)


def test_a_reader_that_leaves_ends_the_command_quietly(tmp_path: Path) -> None:
    command = spawn("translate", save_core(tmp_path), "--addresses", "-", "--efer", "0xd00")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(f"{TEXT}\n" * 100_000)
        process.stdin.close()
        errors = process.stderr.read()
        status = process.wait()
    assert errors == ""
    assert status == -13  # SIGPIPE


def shown_on_terminal(command: list[str], until: bytes) -> bytes:
    """What the command writes to a terminal, at least up to `until`; EIO when that does not come."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    environment.pop("NO_COLOR", None)
    subprocess.run(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment, check=True)
    os.close(theirs)
    seen = b""
    while until not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)
    return seen


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("info", "IMAGE"), b"CPU 0"),
        (("maps", "IMAGE"), b"0xffffffff81000000-0xffffffff8101ffff"),
        (("translate", "IMAGE", "0x5000"), b"\x1b[31m0x0000000000005000  fault: not present"),
        (("roots", "IMAGE"), b"x86_64"),
    ],
)
def test_answers_have_colours_on_a_terminal_only(tmp_path: Path, arguments: tuple[str, ...], told: bytes) -> None:
    image = str(save_core(tmp_path))
    command = spawn(*(image if argument == "IMAGE" else argument for argument in arguments))
    assert b"\x1b[" in shown_on_terminal(command, told)
    plain = subprocess.run(command, capture_output=True, check=True).stdout
    assert told.removeprefix(b"\x1b[31m") in plain
    assert b"\x1b[" not in plain


def test_importing_loads_no_command_line_library() -> None:
    code = (
        "import sys, vm_mem, vm_mem.paging, vm_mem.roots, vm_mem.cli\n"
        "print([name for name in ('typer', 'rich', 'click', 'vm_mem.cli.app') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout == "[]\n"


def test_main_returns_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["nonsense"]) == 2
    capsys.readouterr()
