"""vm-mem info: regions, registers, and what they imply."""

from __future__ import annotations

import lzma
from pathlib import Path

from mem.cli_support import CR0, CR4, REAL_GUEST, ROOT, TEXT, Run, save_core, save_raw
from mem.guest_support import lime_range

LA57 = 1 << 12
PAE = 1 << 5


def test_a_core_with_its_registers(run: Run, tmp_path: Path) -> None:
    result = run("info", save_core(tmp_path))
    assert result.status == 0
    assert "guest.elf: ELF core, 2M in 1 region\n" in result.out
    assert "CPU 0 (x86_64): x86 4-level, root 0x3000" in result.out
    assert "efer is not in the image; long mode is on, as its machine type says; NXE is not known" in result.out
    assert "PE MP ET NE WP AM PG" in result.out
    assert "  PSE PAE PGE OSFXSR OSXMMEXCPT\n" in result.out
    assert f"rip            {TEXT:#018x}" in result.out
    assert "cs_limit" not in result.out
    assert "cs_limit" in run("info", save_core(tmp_path), "--all").out


def test_the_same_for_programs(run: Run, tmp_path: Path) -> None:
    path = save_core(tmp_path, ((CR0, ROOT, CR4), (CR0, 0x5018, CR4 | LA57)))
    found = run("info", path, "--json").json
    assert (found["image"], found["format"], found["size"]) == (str(path), "elf", 2 << 20)
    assert found["regions"] == [
        {"base": "0x0", "last": "0x1fffff", "size": 2 << 20, "writable": False, "name": str(path)}
    ]
    first, second = found["cpus"]
    assert first["efer"] is None
    assert first["registers"]["cr3"] == hex(ROOT)
    assert first["paging"] == {"enabled": True, "architecture": "x86_64", "root": hex(ROOT), "no_execute": None}
    assert second["paging"]["architecture"] == "x86_64_la57"
    assert second["paging"]["root"] == "0x5000"


def test_32_bit_guests_have_no_long_mode(run: Run, tmp_path: Path) -> None:
    cpus = ((CR0, 0x3020, PAE), (CR0, ROOT, 0))
    first, second = run("info", save_core(tmp_path, cpus, machine=3), "--json").json["cpus"]
    assert first["paging"] == {"enabled": True, "architecture": "x86_pae", "root": "0x3020", "no_execute": None}
    assert second["paging"]["architecture"] == "x86"
    assert second["paging"]["no_execute"] is False


def test_a_cpu_without_paging_says_so(run: Run, tmp_path: Path) -> None:
    path = save_core(tmp_path, ((0x11, 0, 0),), machine=3)
    assert "paging (bit 31, PG) is off" in run("info", path).out
    paging = run("info", path, "--json").json["cpus"][0]["paging"]
    assert paging["enabled"] is False
    assert "PG" in paging["reason"]


def test_holes_are_counted(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "guest.lime"
    path.write_bytes(lime_range(0, bytes(4096)) + lime_range(0x3000, bytes(4096)))
    result = run("info", path)
    assert "guest.lime: LiME, 8K in 2 regions, 8K of holes between them" in result.out
    assert [line.split() for line in result.lines[2:4]] == [
        ["0x0000000000000000-0x0000000000000fff", "4K", "no"],
        ["0x0000000000003000-0x0000000000003fff", "4K", "no"],
    ]


def test_the_format_can_be_forced(run: Run, tmp_path: Path) -> None:
    path = save_core(tmp_path)
    assert run("info", path, "--format", "raw", "--json").json["format"] == "raw"
    assert run("info", save_raw(tmp_path), "--format", "elf").status == 2


def test_a_packed_image_is_unpacked(run: Run, tmp_path: Path) -> None:
    core = save_core(tmp_path)
    packed = core.with_name("guest.elf.xz")
    packed.write_bytes(lzma.compress(core.read_bytes()))
    plain, unpacked = (run("info", path, "--json").json for path in (core, packed))
    assert unpacked["cpus"] == plain["cpus"]
    assert unpacked["size"] == plain["size"]
    assert run("info", packed, "--format", "raw", "--json").json["size"] == packed.stat().st_size


def test_the_real_guest(run: Run) -> None:
    found = run("info", REAL_GUEST, "--json").json
    (cpu,) = found["cpus"]
    assert cpu["paging"]["architecture"] == "x86_64"
    assert int(cpu["registers"]["cr3"], 16) & ~0xFFF == int(cpu["paging"]["root"], 16)
