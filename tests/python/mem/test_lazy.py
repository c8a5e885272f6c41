"""LazyMemory from Python: sources of every kind, the GIL, asyncio, page tables in lazy memory, tracking, the end."""

from __future__ import annotations

import asyncio
import doctest
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import vm_mem.lazy
from vm_core import AccessViolation, ClosedError, InvalidConfig, NotSupported, OutOfRange, ResourceExhausted
from vm_mem import GuestMemory, LazyMemory
from vm_mem.paging import X86, AddressSpace

WHY_NOT = LazyMemory.available()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

PAGE = 4096
PATIENCE_S = 60
T = TypeVar("T")


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """A deadlock over the GIL stops every Python thread: only a timer of C can tell which."""
    import faulthandler

    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def byte_of(offset: int) -> int:
    return offset // PAGE % 251 + 1


def source(offset: int, size: int) -> bytes:
    return b"".join(bytes([byte_of(at)]) * PAGE for at in range(offset, offset + size, PAGE))[:size]


def in_thread(work: Callable[[], T]) -> T:
    """The result of `work` in another thread, whose exception is raised here."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def test_reads_and_views_show_the_source() -> None:
    with LazyMemory(64 * PAGE, source, base=0x100000) as lazy:
        assert (lazy.size, lazy.pages, lazy.page_size, lazy.resident) == (64 * PAGE, 64, PAGE, 0)
        assert lazy.memory.format == "lazy"
        assert lazy.memory.read(0x100000 + PAGE - 1, 2) == bytes([byte_of(0), byte_of(PAGE)])
        lazy.memory.write(0x100000 + 5 * PAGE + 1, b"written")
        assert lazy.memory.read(0x100000 + 5 * PAGE, 9) == bytes([6]) + b"written" + bytes([6])
        view = lazy.memory.view(0x100000, 64 * PAGE)
        assert [int(view[i * PAGE]) for i in range(64)] == [byte_of(i * PAGE) for i in range(64)]
        assert lazy.resident == 64
        assert lazy.stats.populated_pages == 64
        assert lazy.stats.faults == 0
        assert "64 of 64 pages resident" in repr(lazy)
    assert repr(lazy) == "<LazyMemory closed>"


def test_files_and_memory_are_lazy_in_views_too(tmp_path: Path) -> None:
    path = tmp_path / "image"
    content = np.random.default_rng(1).integers(0, 256, 8 * PAGE, np.uint8)
    path.write_bytes(content.tobytes())
    of_file = LazyMemory(7 * PAGE, path, source_offset=100, prefetch_pages=1)
    of_memory = LazyMemory(4 * PAGE, of_file.memory, source_offset=PAGE, threads=2)
    view = of_memory.memory.view(0, 4 * PAGE)
    assert of_memory.resident == 0
    np.testing.assert_array_equal(view, content[100 + PAGE :][: 4 * PAGE])
    assert of_memory.stats.faults == 4
    own = of_file.memory.view(0, 7 * PAGE)
    np.testing.assert_array_equal(own, content[100:][: 7 * PAGE])
    assert of_file.stats.faults == 2
    assert of_file.stats.prefetched_pages == 1


def test_a_walker_pages_its_tables_in() -> None:
    """Page tables in lazy memory with a Python source: the scalar walk waits in the kernel, without the GIL."""
    size = 128 * PAGE
    eager = GuestMemory.anonymous(size)
    space = AddressSpace(eager, X86(levels=4, root=0x1000), tables=range(0x1000, 0x40000))
    for index in range(16):
        space.map(index << 30, 0x40000 + index * PAGE, PAGE)
    lazy = LazyMemory(size, eager.read)
    walker = AddressSpace(lazy.memory, X86(levels=4, root=0x1000))
    assert walker.translate(3 << 30).paddr == 0x43000
    assert lazy.stats.faults == 4
    addresses = np.arange(16, dtype=np.uint64) << np.uint64(30)
    np.testing.assert_array_equal(walker.translate(addresses).paddr, space.translate(addresses).paddr)
    assert 4 < lazy.resident < lazy.pages
    assert len(walker.mappings()) == 16
    walker.map(0x7000, 0x9000, PAGE)
    assert walker.translate(0x7000).paddr == 0x9000


def test_threads_and_the_gil() -> None:
    """Python threads read, look at views and translate while the source needs the GIL for every page."""
    lazy = LazyMemory(256 * PAGE, source, threads=2)
    space = AddressSpace(lazy.memory, X86(levels=4, root=0))
    wrong: list[int] = []

    def work(seed: int) -> None:
        for index in np.random.default_rng(seed).integers(0, 256, 200):
            offset = int(index) * PAGE
            if seed % 3 == 0:
                ok = lazy.memory.read(offset, 1)[0] == byte_of(offset)
            elif seed % 3 == 1:
                ok = int(lazy.memory.view(offset, PAGE)[7]) == byte_of(offset)
            else:
                ok = space.translate(np.array([offset])).shape == (1,)
            if not ok:
                wrong.append(offset)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert lazy.stats.pages_filled == lazy.resident


def test_a_view_of_a_python_source_keeps_its_pages() -> None:
    lazy = LazyMemory(8 * PAGE, source)
    view = lazy.memory.view(PAGE, 2 * PAGE)
    part = view[10:20]
    del view
    gc.collect()
    with pytest.raises(AccessViolation, match="delete the view"):
        lazy.discard(0, 2 * PAGE)
    lazy.discard(4 * PAGE, PAGE)
    del part
    gc.collect()
    lazy.discard(0, 8 * PAGE)
    assert lazy.resident == 0


def test_what_a_source_raises_is_raised_where_it_can_be() -> None:
    broken = True

    def unreliable(offset: int, size: int) -> bytes:
        if broken and offset <= 3 * PAGE < offset + size:
            raise LookupError("the other side is gone")
        return source(offset, size)

    errors: list[tuple[int, str]] = []
    failed = threading.Event()

    def note(offset: int, message: str) -> None:
        errors.append((offset, message))
        failed.set()

    lazy = LazyMemory(8 * PAGE, unreliable, retries=1, retry_delay_ns=1000, on_error=note)
    for attempt in (
        lambda: lazy.memory.read(3 * PAGE, 1),
        lambda: lazy.memory.write(3 * PAGE, b"x"),
        lambda: lazy.memory.view(0, 8 * PAGE),
        lazy.populate_all,
    ):
        with pytest.raises(LookupError, match="the other side is gone"):
            attempt()
    assert lazy.memory.read(4 * PAGE, 1)[0] == byte_of(4 * PAGE)
    assert lazy.error is None  # nobody waits for the page

    waiting = AddressSpace(lazy.memory, X86(levels=4, root=3 * PAGE))
    results: list[object] = []
    walker = threading.Thread(target=lambda: results.append(waiting.translate(np.array([0])).ok.any()), daemon=True)
    walker.start()
    assert failed.wait(PATIENCE_S)
    assert errors == [(3 * PAGE, "LookupError: the other side is gone")]
    assert lazy.error == "LookupError: the other side is gone"
    assert lazy.failed == [3 * PAGE]
    assert walker.is_alive()
    broken = False
    lazy.retry()
    walker.join()
    assert len(results) == 1
    assert (lazy.error, lazy.failed) == (None, [])


@pytest.mark.parametrize("answer", [b"", bytes(PAGE - 1), bytes(PAGE + 1)])
def test_an_answer_of_another_size_is_refused(answer: bytes) -> None:
    lazy = LazyMemory(PAGE, lambda _offset, _size: answer)
    with pytest.raises(InvalidConfig, match=f"gave {len(answer)} bytes for the 4096"):
        lazy.memory.read(0, 1)


def test_an_answer_that_is_no_buffer_is_refused() -> None:
    no_buffer: Any = lambda _offset, _size: "text"  # noqa: E731
    with pytest.raises(TypeError):
        LazyMemory(PAGE, no_buffer).memory.read(0, 1)
    lazy = LazyMemory(PAGE, lambda _offset, size: np.full(size, 7, np.uint8))
    assert lazy.memory.read(9, 1) == b"\x07"


async def slow_source(offset: int, size: int) -> bytes:
    await asyncio.sleep(0)
    return source(offset, size)


def test_a_coroutine_function_is_a_source() -> None:
    async def main() -> None:
        lazy = LazyMemory.from_async(64 * PAGE, slow_source, threads=2)
        memory = lazy.memory
        reads = [asyncio.to_thread(memory.read, index * PAGE, 1) for index in range(32)]
        assert [data[0] for data in await asyncio.gather(*reads)] == [byte_of(i * PAGE) for i in range(32)]
        space = AddressSpace(memory, X86(levels=4, root=40 * PAGE))
        assert not (await asyncio.to_thread(space.translate, np.array([0]))).ok.all()
        assert lazy.stats.faults == 1

    asyncio.run(main())


def test_the_loop_does_not_wait_for_itself() -> None:
    async def main() -> None:
        lazy = LazyMemory.from_async(8 * PAGE, slow_source)
        space = AddressSpace(lazy.memory, X86(levels=4, root=0))
        for touch in (
            lambda: lazy.memory.read(0, 1),
            lambda: lazy.memory.view(0, PAGE),
            lambda: lazy.populate(0, 1),
            lambda: space.translate(0x1000),
            lambda: space.translate(np.array([0x1000])),
            lambda: space.map(0x1000, 0x1000, PAGE),
            lambda: space.mappings(),
        ):
            with pytest.raises(InvalidConfig, match=r"asyncio\.to_thread"):
                touch()
        await asyncio.to_thread(lazy.populate_all)
        assert lazy.memory.read(0, 1)[0] == byte_of(0)
        assert not space.translate(np.array([0x1000])).ok.all()

    asyncio.run(main())


def test_a_loop_that_ended_is_an_error() -> None:
    async def make() -> LazyMemory:
        return LazyMemory.from_async(8 * PAGE, slow_source)

    lazy = asyncio.run(make())
    with pytest.raises(RuntimeError, match="not running"):
        lazy.memory.read(0, 1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        LazyMemory.from_async(PAGE, slow_source)


def test_concurrent_reads_of_a_page_ask_once() -> None:
    asked: list[int] = []

    async def counting(offset: int, size: int) -> bytes:
        asked.append(offset)
        await asyncio.sleep(0.01)
        return source(offset, size)

    async def main() -> None:
        lazy = LazyMemory.from_async(4 * PAGE, counting)
        await asyncio.gather(*(asyncio.to_thread(lazy.memory.read, PAGE, 8) for _ in range(16)))

    asyncio.run(main())
    assert asked == [PAGE]


@pytest.mark.parametrize("tracking", ["async", "sync"])
def test_written_pages_are_told(tracking: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(source(0, 64 * PAGE))
    try:
        lazy = LazyMemory(64 * PAGE, path, tracking=tracking)
    except NotSupported as error:
        pytest.skip(str(error))
    assert lazy.tracking == tracking
    view = lazy.memory.view(0, 64 * PAGE)
    lazy.track_writes()
    assert view[5 * PAGE] == byte_of(5 * PAGE)
    view[[7 * PAGE, 9 * PAGE + 1, 63 * PAGE]] = 1
    lazy.memory.write(20 * PAGE - 1, b"ab")
    assert lazy.dirty().dtype == np.uint64
    assert lazy.dirty().tolist() == [7, 9, 19, 20, 63]
    assert lazy.reset_dirty().tolist() == [7, 9, 19, 20, 63]
    assert lazy.reset_dirty().tolist() == []
    lazy.stop_tracking()
    with pytest.raises(InvalidConfig, match="track_writes"):
        lazy.dirty()


def test_synchronous_tracking_beside_a_python_source_is_refused() -> None:
    with pytest.raises(NotSupported, match="asynchronous"):
        LazyMemory(PAGE, source, tracking="sync")


def test_views_outlive_everything(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(source(0, 8 * PAGE))
    lazy = LazyMemory(8 * PAGE, path)
    view = lazy.memory.view(0, 8 * PAGE)
    lazy.close()
    lazy.close()
    assert lazy.closed
    with pytest.raises(ClosedError):
        _ = lazy.memory
    del lazy
    gc.collect()
    assert view[6 * PAGE] == byte_of(6 * PAGE)


def test_the_last_owner_may_hold_the_gil() -> None:
    """An AddressSpace that goes away while a handler thread is in Python must not wait for it with the GIL."""
    for _ in range(20):
        space = AddressSpace(LazyMemory(16 * PAGE, source).memory, X86(levels=4, root=0))
        assert not space.translate(np.array([0])).ok.all()
        del space
    gc.collect()


def test_arguments_that_make_no_sense() -> None:
    bad: Any
    for bad, options in (
        (0, {}),
        (-1, {}),
        (PAGE, {"page_size": 4095}),
        (PAGE, {"threads": 0}),
        (PAGE, {"prefetch_pages": 5000}),
        (PAGE, {"base": 2**64 - 1}),
        (PAGE, {"on_failure": "zeros"}),
        (PAGE, {"tracking": "maybe"}),
        (PAGE, {"huge_pages": "3M"}),
        (PAGE, {"source_offset": 1}),
    ):
        with pytest.raises(InvalidConfig):
            LazyMemory(bad, source, **options)
    with pytest.raises(ResourceExhausted):
        LazyMemory(2**61, source)
    with pytest.raises(TypeError):
        LazyMemory(PAGE, 5)  # type: ignore[arg-type]
    lazy = LazyMemory(4 * PAGE, source)
    with pytest.raises(OutOfRange):
        lazy.populate(0, 5 * PAGE)
    with pytest.raises(InvalidConfig):
        lazy.discard(1, PAGE)
    assert in_thread(lambda: lazy.resident) == 0


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_ctrl_c_stops_populating() -> None:
    script = """
import _thread, threading
from vm_mem import LazyMemory
started = threading.Event()
def source(offset, size):
    started.set()
    return bytes(size)
lazy = LazyMemory(1 << 40, source)
def interrupt():
    started.wait()
    _thread.interrupt_main()
threading.Thread(target=interrupt).start()
try:
    lazy.populate_all()
except KeyboardInterrupt:
    print("interrupted", 0 < lazy.resident < lazy.pages)
"""
    result = run_script(script)
    assert (result.stdout, result.returncode) == ("interrupted True\n", 0), result.stderr


def test_the_interpreter_ends_beside_a_busy_source() -> None:
    script = """
import threading
import numpy as np
from vm_mem import LazyMemory
from vm_mem.paging import AddressSpace, X86
entered, never = threading.Semaphore(0), threading.Event()
def source(offset, size):
    entered.release()
    never.wait(0.2)
    raise RuntimeError("so its touchers wait in the kernel, and never come back to an interpreter that is gone")
lazy = LazyMemory(1 << 30, source, threads=3, retries=8, on_error=lambda offset, message: None)
def touch(root):
    AddressSpace(lazy.memory, X86(levels=4, root=root)).translate(np.array([0]))
for page in range(6):
    threading.Thread(target=touch, args=(page * 4096,), daemon=True).start()
for _ in range(3):
    entered.acquire()
print("end")
"""
    result = run_script(script)
    assert (result.stdout, result.returncode) == ("end\n", 0), result.stderr


def test_examples_run() -> None:
    assert doctest.testmod(vm_mem.lazy).failed == 0
