"""vm-mem roots: ranked candidates, with what speaks for them and how to use them."""

from __future__ import annotations

from pathlib import Path

from mem.cli_support import REAL_GUEST, ROOT, Run, save_core, save_raw
from vm_mem import GuestMemory
from vm_mem.cli.roots import formats_for
from vm_mem.paging import X86, AArch64, RiscV
from vm_mem.roots import default_root_formats


def test_candidates_for_people_end_with_the_next_command(run: Run, tmp_path: Path) -> None:
    path = save_raw(tmp_path)
    result = run("roots", path)
    assert (result.status, result.err) == (0, "")
    assert result.lines[0].split() == ["score", "root", "format", "tables", "pages", "mapped", "evidence"]
    assert result.lines[1].split()[1:3] == [hex(ROOT), "x86_64"]
    assert "maps itself, 1 user page" in result.lines[1]
    assert result.lines[-1] == f"vm-mem maps {path} --arch x86_64 --root {ROOT:#x}"
    assert run(*result.lines[-1].split()[1:]).status == 0


def test_candidates_for_programs(run: Run, tmp_path: Path) -> None:
    best = run("roots", save_core(tmp_path), "--json", "--limit", "1").json[0]
    assert best["root"] == hex(ROOT)
    assert best["architecture"] == "x86_64"
    assert best["options"] == f"--arch x86_64 --root {ROOT:#x}"
    assert best["cpus"] == [0]
    assert best["pages"] == 1 + 1 + 32
    assert best["maps_itself"] is True
    assert best["table_of"] is None


def test_nothing_found_is_status_1(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "empty.raw"
    path.write_bytes(bytes(1 << 16))
    result = run("roots", path)
    assert (result.status, result.out) == (1, "")
    assert "nothing" in result.err
    result = run("roots", path, "--json")
    assert (result.status, result.json) == (1, [])


def test_formats_follow_the_image_and_the_options(tmp_path: Path) -> None:
    raw = GuestMemory.open(save_raw(tmp_path))
    core = GuestMemory.open(save_core(tmp_path))
    assert formats_for(raw, []) == default_root_formats()
    assert formats_for(core, []) == [X86(4), X86(5)]
    assert formats_for(core, ["sv39", "x86_pae"]) == [RiscV("sv39"), X86(3)]
    assert formats_for(raw, ["aarch64"]) == [c for c in default_root_formats() if isinstance(c, AArch64)]
    assert formats_for(raw, [], 16384) == [AArch64(16384)]


def test_the_real_guests_root_is_the_best(run: Run) -> None:
    best = run("roots", REAL_GUEST, "--json").json[0]
    assert best["cpus"] == [0]
    assert best["broken_tables"] == 0
