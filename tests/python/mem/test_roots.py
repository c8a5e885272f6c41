"""vm_mem.roots from Python: what is found, and how a scan is watched and stopped."""

from __future__ import annotations

import _thread
import gc
from pathlib import Path

import pytest
from mem.cli_support import REAL_GUEST, ROOT, TEXT, make_memory
from vm_core import ClosedError
from vm_mem import GuestMemory
from vm_mem.cli.image import open_image
from vm_mem.paging import X86, AArch64, AddressSpace, RiscV
from vm_mem.roots import default_root_formats, find_roots


def test_the_best_candidate_is_ready_for_use() -> None:
    memory = make_memory()
    best = find_roots(memory)[0]
    assert (best.config, best.root, best.table_of) == (X86(4, ROOT), ROOT, None)
    assert AddressSpace(memory, best.config).translate(TEXT).paddr == 0x100000
    assert (best.pages, best.kernel_pages, best.user_pages, best.accessed_pages) == (34, 33, 1, 34)
    assert best.mapped_bytes == (2 << 20) + (128 << 10) + 4096
    assert (best.entries, best.broken_tables, best.shared_entries) == (3, 0, 0)
    assert best.maps_itself
    assert not best.self_referring
    assert 0 < best.score <= 100
    assert repr(best) == f"<RootCandidate x86 4-level, root 0x3000: score {best.score:.1f}>"


def test_a_second_process_is_an_equal() -> None:
    memory = make_memory()
    AddressSpace(memory, X86(4, ROOT)).map(TEXT + (1 << 20), 0x140000, 0x40000, page_size=4096)  # enough for full marks
    memory.write(0x5800, memory.read(ROOT + 0x800, 0x800))
    first, second = find_roots(memory, [X86(4)])[:2]
    assert (first.root, second.root) == (ROOT, 0x5000)
    assert first.score == second.score
    assert second.shared_entries == 2


def test_formats_are_what_is_asked_for() -> None:
    memory = make_memory()
    assert find_roots(memory, []) == []
    assert all(isinstance(found.config, RiscV) for found in find_roots(memory, [RiscV("sv39"), RiscV("sv48")]))
    kinds = [type(config) for config in default_root_formats()]
    assert kinds == [X86] * 3 + [RiscV] * 3 + [AArch64] * 2
    with pytest.raises(TypeError, match="X86, RiscV or AArch64"):
        find_roots(memory, ["x86_64"])  # type: ignore[list-item]


def test_settings_of_the_formats_are_kept() -> None:
    best = find_roots(make_memory(), [X86(4, smep=True, physical_bits=40)])[0]
    assert best.config == X86(4, ROOT, smep=True, physical_bits=40)


def test_the_limit_is_kept() -> None:
    assert find_roots(make_memory(), limit=0) == []
    assert len(find_roots(make_memory(), limit=1)) == 1


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    find_roots(make_memory(), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2 << 20, 2 << 20)
    assert seen == sorted(seen)


def test_what_progress_raises_stops_the_scan() -> None:
    def stop(done: int, total: int) -> None:
        raise LookupError(done)

    with pytest.raises(LookupError):
        find_roots(make_memory(), progress=stop)


def test_ctrl_c_stops_the_scan() -> None:
    calls = 0

    def interrupt(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        find_roots(make_memory(), progress=interrupt)
    assert calls == 1


def test_closed_memory_is_refused() -> None:
    memory = make_memory()
    memory.close()
    with pytest.raises(ClosedError):
        find_roots(memory)


def test_memory_closed_during_a_scan_stays_until_its_end() -> None:
    memory = make_memory()

    def close(done: int, total: int) -> None:
        memory.close()
        gc.collect()

    assert find_roots(memory, progress=close)[0].root == ROOT


def test_a_dump_with_holes_and_odd_offsets(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    memory = make_memory()
    path.write_bytes(b"odd" + memory.read(0, memory.size))
    image = GuestMemory.file(path, offset=3)
    image.add(GuestMemory.anonymous(100, base=1 << 40))
    assert find_roots(image)[0].root == ROOT


def test_the_real_guests_cr3_is_the_best_of_all_formats() -> None:
    memory = open_image(REAL_GUEST)
    best, *others = find_roots(memory)
    assert best.root == memory.cpu_states[0].cr3 & ~0xFFF  # type: ignore[operator]
    assert best.config == X86(4, best.root)
    assert best.broken_tables == 0
    assert best.pages == len(AddressSpace(memory, best.config).mappings(merge=False))
    assert all(other.score < best.score / 2 for other in others)
