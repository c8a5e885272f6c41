"""vm-mem demo: the real guest agrees with QEMU, and a difference does not pass."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mem.cli_support import DATA, REAL_GUEST, Run, save_core
from vm_mem.cli.demo import Drawer
from vm_mem.paging import Mappings

ANSWERS = DATA / "linux_guest.npz"
QUICK = ("--count", "20000")


def changed_answers(folder: Path, **changes: Any) -> Path:
    with np.load(ANSWERS) as file:
        arrays = {name: file[name].copy() for name in file}
    for name, change in changes.items():
        if change is None:
            del arrays[name]
        else:
            change(arrays[name])
    path = folder / "answers.npz"
    np.savez(path, **arrays)
    return path


def flip_first_hit(paddrs: np.ndarray) -> None:
    paddrs[np.flatnonzero(paddrs != np.iinfo(np.uint64).max)[0]] ^= 1


def test_the_real_guest_agrees_with_qemu(run: Run) -> None:
    result = run("demo", REAL_GUEST, *QUICK)
    assert (result.status, result.err) == (0, "")
    with np.load(ANSWERS) as file:
        compared, leaves = len(file["vaddr"]), int(file["leaves"])
    assert f"{compared:,} addresses compared with the walker of QEMU" in result.out
    assert ": 0 mismatches\n" in result.out
    assert f"{leaves:,} leaf mappings listed: the same as QEMU's" in result.out
    assert "20,000 random addresses" in result.out
    assert "1 thread: " in result.out
    assert "0 of them differ from the list of mappings" in result.out


def test_the_same_for_programs(run: Run) -> None:
    found = run("demo", REAL_GUEST, *QUICK, "--threads", "2", "--json").json
    assert found["check"]["mismatches"] == 0
    assert found["check"]["same_leaves"] is True
    assert found["wrong"] == 0
    assert [speed["threads"] for speed in found["speeds"]] == [1, 2]
    assert sum(found["check"]["faults"].values()) < found["check"]["compared"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("paddr", flip_first_hit),
        ("writable", lambda flags: np.logical_not(flags, out=flags)),
        ("user", lambda flags: np.logical_not(flags, out=flags)),
        ("no_execute", lambda flags: np.logical_not(flags, out=flags)),
        ("leaves_sha256", lambda digest: digest.fill("0")),
    ],
)
def test_a_difference_is_status_1(run: Run, tmp_path: Path, name: str, change: Any) -> None:
    answers = changed_answers(tmp_path, **{name: change})
    result = run("demo", REAL_GUEST, "--answers", answers, *QUICK)
    assert result.status == 1
    assert ": 0 mismatches" not in result.out or "NOT the same" in result.out


def test_one_wrong_address_is_one_mismatch(run: Run, tmp_path: Path) -> None:
    answers = changed_answers(tmp_path, paddr=flip_first_hit)
    found = run("demo", REAL_GUEST, "--answers", answers, *QUICK, "--json")
    assert (found.status, found.json["check"]["mismatches"]) == (1, 1)


def test_answers_that_lack_something_are_refused(run: Run, tmp_path: Path) -> None:
    result = run("demo", REAL_GUEST, "--answers", changed_answers(tmp_path, paddr=None, user=None))
    assert result.status == 2
    assert "lacks paddr, user" in result.err
    assert run("demo", REAL_GUEST, "--answers", tmp_path / "none.npz").status == 2
    (tmp_path / "text.npz").write_text("no archive")
    assert run("demo", REAL_GUEST, "--answers", tmp_path / "text.npz").status == 2


def test_any_core_will_do_without_answers(run: Run, tmp_path: Path) -> None:
    result = run("demo", save_core(tmp_path), *QUICK)
    assert result.status == 0
    assert "nothing is compared" in result.err
    assert "mismatches" not in result.out


def test_the_default_is_the_checkouts_image(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("demo", *QUICK)
    assert result.status == 2
    assert "tests/data/linux_guest.elf.xz" in result.err
    os.symlink(DATA.parent, tmp_path / "tests")
    assert run("demo", *QUICK).status == 0


def test_addresses_are_drawn_from_every_kernel_page() -> None:
    fields = ["vaddr", "paddr", "size", "page_size", "access", "user_access"]
    array = np.zeros(3, [(name, "u8") for name in fields])
    array["vaddr"] = [0x1000, 0x10000, 0x20000]
    array["paddr"] = [0x5000, 0x90000, 0xA0000]
    array["size"] = [0x1000, 0x3000, 0x2000]
    array["user_access"] = [0, 1, 0]
    drawer = Drawer(Mappings(array))
    assert drawer.mapped_bytes == 0x3000
    vaddr, paddr = drawer.draw(5000)
    assert set((vaddr >> 12).tolist()) == {0x1, 0x20, 0x21}
    expected = np.where(vaddr < 0x2000, vaddr + 0x4000, vaddr + 0x80000)
    np.testing.assert_array_equal(paddr, expected)
