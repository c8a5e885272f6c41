"""vm-mem maps: lines for people, JSON for programs, the same as the library lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from mem.cli_support import KERNEL, ROOT, TEXT, USER, Run, make_memory, save_raw
from vm_core import Access
from vm_mem.paging import X86, AddressSpace

TABLES = ("--arch", "x86_64", "--root", hex(ROOT))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save_raw(tmp_path)


def test_lines_tell_addresses_rights_and_sizes(run: Run, image: Path) -> None:
    result = run("maps", image, *TABLES)
    assert result.status == 0
    header, *lines = result.lines
    assert header.split() == ["virtual", "addresses", "kernel", "user", "size", "pages", "physical"]
    assert [line.split() for line in lines] == [
        ["0x0000000000400000-0x0000000000400fff", "rw-", "rw-", "4K", "1", "x", "4K", "0x80000"],
        ["0xffff888000000000-0xffff8880001fffff", "rw-", "---", "2M", "1", "x", "2M", "0x0"],
        ["0xffffffff81000000-0xffffffff8101ffff", "r-x", "---", "128K", "32", "x", "4K", "0x100000"],
    ]


def test_json_is_what_the_library_lists(run: Run, image: Path) -> None:
    letters = {Access.NONE: "---", Access.READ | Access.WRITE: "rw-", Access.READ | Access.EXECUTE: "r-x"}
    assert run("maps", image, *TABLES, "--json").json == [
        {
            "vaddr": hex(mapping.vaddr),
            "paddr": hex(mapping.paddr),
            "size": mapping.size,
            "page_size": mapping.page_size,
            "access": letters[mapping.access],
            "user_access": letters[mapping.user_access],
        }
        for mapping in AddressSpace(make_memory(), X86(4, ROOT)).mappings()
    ]


def test_a_part_of_the_address_space(run: Run, image: Path) -> None:
    def shown(*options: str) -> list[str]:
        return [mapping["vaddr"] for mapping in run("maps", image, *TABLES, "--json", *options).json]

    assert shown("--start", hex(KERNEL)) == [hex(KERNEL), hex(TEXT)]
    assert shown("--start", hex(KERNEL), "--stop", hex(TEXT)) == [hex(KERNEL)]
    assert shown("--stop", str(USER)) == []


def test_pages_one_by_one(run: Run, image: Path) -> None:
    assert len(run("maps", image, *TABLES, "--no-merge", "--json").json) == 1 + 1 + 32


def test_a_limit_is_kept(run: Run, image: Path) -> None:
    result = run("maps", image, *TABLES, "--limit", "1")
    assert result.status == 2
    assert "limit" in result.err


def test_an_empty_address_space(run: Run, image: Path) -> None:
    tables = ("--arch", "x86_64", "--root", "0x1ff000")
    assert len(run("maps", image, *tables).lines) == 1
    assert run("maps", image, *tables, "--json").json == []
