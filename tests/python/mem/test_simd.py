"""vm_mem.simd: what is copied and what is refused, against NumPy."""

from __future__ import annotations

import array
import asyncio
import ctypes
import mmap
import pickle
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mem.cli_support import Run
from vm_core import AccessViolation, CpuFeatures, InvalidConfig, NotSupported, OutOfRange
from vm_mem.simd import (
    CopyPlan,
    MemcpyStrategy,
    first_difference,
    has_avx2,
    has_avx512,
    has_neon,
    instruction_sets,
    memcmp_fast,
    memcpy_async,
    memcpy_fast,
    memcpy_raw,
    memmove_fast,
    memset_fast,
    simd_feature_name,
    simd_memcpy_optimized,
)

SIZES = (0, 1, 15, 64, 65, 256, 257, 4096, 65_535, 65_536, 1 << 20)


def content(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [bytearray, lambda n: memoryview(bytearray(n)), lambda n: np.zeros(n, np.uint8)])
def test_any_buffer(kind: Callable[[int], bytearray], size: int) -> None:
    src, dst = content(size), kind(size)
    memcpy_fast(dst, src)
    assert bytes(dst) == src
    memset_fast(dst, 7)
    assert bytes(dst) == bytes([7]) * size


def test_other_exporters() -> None:
    numbers = array.array("d", [1.5, 2.5])
    with mmap.mmap(-1, 16) as memory:
        memcpy_fast(memory, numbers)
        memcpy_fast(numbers, memory[::-1])
        assert numbers.tobytes() == memory[::-1]


def test_exporters_that_tell_no_strides() -> None:
    grid = np.arange(24, dtype=np.uint16).reshape(4, 6)
    there = ((ctypes.c_uint16 * 3) * 4)()
    memcpy_fast(there, grid[:, ::2])
    assert [list(row) for row in there] == grid[:, ::2].tolist()
    back = np.zeros((8, 3), np.uint16)
    memcpy_fast(back[::2], there)
    assert (back[::2] == grid[:, ::2]).all()
    assert not back[1::2].any()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes cannot have the buffer protocol before Python 3.12")
def test_an_exporter_that_changes_the_other_argument() -> None:
    many = np.zeros(100_000_000, np.uint8)[::2]
    reshaped = np.zeros(2048, np.uint8)[::2]
    keep: list[npt.NDArray[np.uint8]] = []

    class Exporter:
        def __buffer__(self, flags: int) -> memoryview:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                reshaped.shape = (2,) * 10
            # One of these gets the place where the shape was.
            keep.extend(np.empty(many.size, np.uint8) for _ in range(20))
            return memoryview(many)

    with pytest.raises(InvalidConfig, match="the destination has shape"):
        memcpy_fast(reshaped, Exporter())


def test_only_sizes_have_to_agree_when_both_are_contiguous() -> None:
    grid = np.arange(6, dtype=np.int32).reshape(2, 3)
    dst = np.zeros(3, np.complex64)
    memcpy_fast(dst, grid)
    assert dst.tobytes() == grid.tobytes()
    dates = np.array(["2026-01-01", "2027-01-01"], "datetime64[D]")  # has no buffer
    copy = np.zeros_like(dates)
    memcpy_fast(copy, dates)
    assert (copy == dates).all()


def test_what_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="the destination has 3 bytes, the source 2"):
        memcpy_fast(bytearray(3), b"ab")
    with pytest.raises(AccessViolation, match="read-only"):
        memcpy_fast(b"abc", b"abc")  # type: ignore[arg-type]  # bytes are what is refused
    frozen = np.zeros(3, np.uint8)
    frozen.setflags(write=False)
    for call in (lambda: memcpy_fast(frozen, b"abc"), lambda: memset_fast(frozen, 1)):
        with pytest.raises(AccessViolation, match="read-only"):
            call()
    same = bytearray(10)
    with pytest.raises(InvalidConfig, match="memmove_fast"):
        memcpy_fast(memoryview(same)[1:], memoryview(same)[:-1])
    released = memoryview(bytearray(3))
    released.release()
    with pytest.raises(ValueError, match="released"):
        memcpy_fast(released, b"abc")
    with pytest.raises(ValueError, match="released"):
        memcpy_fast(bytearray(3), released)
    with pytest.raises(AccessViolation, match="read-only"):
        memcpy_fast(memoryview(b"abc"), b"abc")
    with pytest.raises(TypeError):
        memcpy_fast(bytearray(1), "a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="two positional"):
        memcpy_fast(bytearray(1))  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'thread'"):
        memcpy_fast(bytearray(1), b"a", thread=2)  # type: ignore[call-arg]
    with pytest.raises(InvalidConfig, match='"stream"'):
        memcpy_fast(bytearray(1), b"a", hint="flow")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="strategy is 5"):
        memcpy_fast(bytearray(1), b"a", strategy=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match="threads is -1"):
        memcpy_fast(bytearray(1), b"a", threads=-1)
    with pytest.raises(InvalidConfig, match="a byte is 0 to 255"):
        memset_fast(bytearray(1), 256)


def test_references_are_not_bytes() -> None:
    objects = np.array([None, object()], object)
    records = np.zeros(2, [("O", "i8"), ("reference", "O")])
    for dst in (objects, records, records["reference"]):
        with pytest.raises(InvalidConfig, match="refer to Python objects"):
            memcpy_fast(dst, dst.copy())
    plain = np.zeros(2, [("O", "i8"), ("x", "i8")])
    source = np.array([(1, 2), (3, 4)], plain.dtype)
    memcpy_fast(memoryview(plain), memoryview(source))
    assert (plain == source).all()
    with pytest.raises(InvalidConfig, match="refer to Python objects"):
        memcpy_fast(memoryview(records), memoryview(records.copy()))


SLICES = st.slices(12)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(SLICES, min_size=1, max_size=3),
    st.sampled_from(["u1", "u2", "f8", "V3", "c16"]),
    st.randoms(use_true_random=False),
    st.sampled_from([1, 3]),
)
def test_strided_arrays_as_numpy(slices: list[slice], kind: str, random: object, threads: int) -> None:
    axes = len(slices)
    size = 12**axes * np.dtype(kind).itemsize
    source: npt.NDArray[np.void] = np.frombuffer(content(size), kind).reshape((12,) * axes)
    order = list(range(axes))
    random.shuffle(order)  # type: ignore[attr-defined]  # Hypothesis declares it as a Random
    src = source[tuple(slices)].transpose(order)
    room = np.zeros((3, *(2 * n for n in src.shape)), kind)
    dst = room[(1, *(slice(None, None, 2) for _ in src.shape))]
    memcpy_fast(dst, src, threads=threads, strategy=MemcpyStrategy(CopyPlan.detect().replace(thread_bytes=64)))
    expected = np.zeros_like(room)
    np.copyto(expected[(1, *(slice(None, None, 2) for _ in src.shape))], src)
    assert room.tobytes() == expected.tobytes()


def test_strided_shapes_have_to_agree() -> None:
    grid = np.zeros((4, 6))
    with pytest.raises(InvalidConfig, match=r"shape \(4, 3\) and elements of 8 bytes"):
        memcpy_fast(grid[:, ::2], np.zeros((3, 4)))
    with pytest.raises(InvalidConfig, match="lies between its elements"):
        memcpy_fast(grid[:, ::2], grid[:, 1::2])
    with pytest.raises(InvalidConfig, match="stride 0"):
        memcpy_fast(np.lib.stride_tricks.as_strided(grid, (4, 3), (0, 8)), np.zeros((4, 3)))


def test_moves_overlap_in_any_way() -> None:
    for shift in (1, 100, 5000):
        ours = np.frombuffer(content(200_000), np.uint8).copy()
        theirs = ours.copy()
        memmove_fast(ours[shift:], ours[:-shift])
        theirs[shift:] = theirs[:-shift].copy()
        assert (ours == theirs).all()
        memmove_fast(ours[:-shift], ours[shift:])
        theirs[:-shift] = theirs[shift:].copy()
        assert (ours == theirs).all()
    grid = np.arange(30 * 30).reshape(30, 30)
    expected = grid.T.copy()
    memmove_fast(grid, grid.T)
    assert (grid == expected).all()


@pytest.mark.parametrize("size", SIZES)
def test_comparisons(size: int) -> None:
    a = content(size)
    b = bytearray(a)
    assert memcmp_fast(a, b) == 0
    assert first_difference(a, b) is None
    assert first_difference(a, b + b"x") == size
    assert memcmp_fast(a + b"x", b) == 1
    for at in {0, size // 2, size - 1} if size else ():
        b[at] ^= 0xFF
        assert first_difference(a, b) == at
        assert memcmp_fast(a, b) == (1 if a > b else -1)
        b[at] ^= 0xFF
    with pytest.raises(InvalidConfig, match="side by side"):
        memcmp_fast(np.zeros(10)[::2], bytes(40))


def test_raw_addresses_and_strategies() -> None:
    src, dst = np.frombuffer(content(1000), np.uint8), np.zeros(1000, np.uint8)
    memcpy_raw(dst.ctypes.data, src.ctypes.data, 999)
    assert (dst[:999] == src[:999]).all() and dst[999] == 0
    strategy = MemcpyStrategy.detect()
    simd_memcpy_optimized(dst, src, 1000, strategy)
    assert (dst == src).all()
    with pytest.raises(OutOfRange, match="the destination has 1000"):
        simd_memcpy_optimized(dst, src, 1001, strategy)


def test_every_kernel_that_runs_here() -> None:
    src = content(300_001)
    for name, reason in instruction_sets().items():
        plan = CopyPlan(name)  # type: ignore[arg-type]
        if reason:
            with pytest.raises(NotSupported, match=name):
                MemcpyStrategy(plan)
            continue
        for method in (plan, plan.replace(stream_from=0), plan.replace(stream_hint_from=1000)):
            dst = bytearray(len(src))
            memcpy_fast(dst, src, strategy=MemcpyStrategy(method), hint="stream", threads=2)
            assert dst == src


def test_plans_can_be_seen_and_changed() -> None:
    plan = CopyPlan.detect()
    assert MemcpyStrategy.detect().plan == plan == CopyPlan.for_machine(CpuFeatures.detect())
    small = plan.replace(string_from=None, stream_from=1000, stream_hint_from=500)
    assert small != plan and hash(small) != hash(plan)
    assert [small.method(n) for n in (256, 257, 1000)] == ["small", "vector", "stream"]
    assert small.method(500, "stream") == "stream"
    assert pickle.loads(pickle.dumps(small)) == small
    assert eval(repr(small)) == small
    assert repr(MemcpyStrategy(small)) == f"MemcpyStrategy({small!r})"
    assert (small.string_from, small.stream_from, small.prefetch_distance) == (None, 1000, plan.prefetch_distance)
    assert CopyPlan("scalar").thread_bytes is CopyPlan("scalar").fill_string_from is None
    assert CopyPlan("scalar", fill_stream_from=3).fill_stream_from == 3
    with pytest.raises(InvalidConfig, match="there are scalar, sse2"):
        CopyPlan("mmx")  # type: ignore[arg-type]
    assert plan.instruction_set in instruction_sets()


def test_the_names_of_features() -> None:
    reasons = instruction_sets()
    assert has_avx512() is (reasons["avx512"] == "")
    assert has_avx2() is (reasons["avx2"] == "")
    assert has_neon() is (reasons["neon"] == "")
    assert simd_feature_name().split()[0].replace("-", "").lower() == CopyPlan.detect().instruction_set


def test_copies_of_several_threads_at_once() -> None:
    src = content(1 << 20)
    copies = [bytearray(len(src)) for _ in range(4)]
    threads = [threading.Thread(target=memcpy_fast, args=(copy, src), kwargs={"threads": 2}) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(copy == src for copy in copies)


def test_async_copies() -> None:
    async def main() -> None:
        for size in (100, 1 << 20):
            src, dst = content(size), bytearray(size)
            await memcpy_async(dst, src, threads=2, hint="stream")
            assert dst == src
            with pytest.raises(InvalidConfig):
                await memcpy_async(dst, src + src)
        dates = np.zeros(1 << 17, "datetime64[s]")
        await memcpy_async(dates, np.arange(1 << 17).view(dates.dtype))
        assert dates[-1].astype(int) == (1 << 17) - 1

    asyncio.run(main())


def test_a_cancelled_copy_has_ended() -> None:
    async def main() -> None:
        src, dst = np.ones(64 << 20, np.uint8), np.zeros(64 << 20, np.uint8)
        task = asyncio.create_task(memcpy_async(dst, src))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (dst == src).all()

    asyncio.run(main())


def test_the_command_checks_every_kernel(run: Run) -> None:
    shown = run("simd")
    assert shown.status == 0
    assert simd_feature_name() in shown.out
    found = run("simd", "--json").json
    assert found["instruction_set"] == CopyPlan.detect().instruction_set
    assert found["plan"]["thread_bytes"] == CopyPlan.detect().thread_bytes
    for name, reason in instruction_sets().items():
        kernel = found["kernels"][name]
        assert kernel.get("reason", "") == reason
        assert kernel["usable"] is (not reason)
        assert reason or (kernel["wrong"] == 0 and kernel["copies"] > 1000)


def test_the_command_measures(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from vm_mem.cli import simd

    monkeypatch.setattr(simd, "_BENCH_SIZES", (64, 4096))
    monkeypatch.setattr(simd, "_SAMPLE_SECONDS", 0.0)
    shown = run("simd", "--bench")
    assert shown.status == 0
    assert "np.copyto" in shown.out and "   4K " in shown.out
    assert [row["size"] for row in run("simd", "--bench", "--json").json["bytes_per_second"]] == [64, 4096]


def test_the_command_draws(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vm_mem.cli import simd

    monkeypatch.setattr(simd, "_BENCH_SIZES", (64, 4096))
    monkeypatch.setattr(simd, "_SAMPLE_SECONDS", 0.0)
    pytest.importorskip("matplotlib")
    shown = run("simd", "--plot", str(tmp_path / "copies.svg"))
    assert shown.status == 0 and "np.copyto" in shown.out
    assert (tmp_path / "copies.svg").read_text().count('id="line2d_') >= 3
    # What cannot be drawn is told before anything is measured.
    monkeypatch.setattr(simd, "verify", lambda: pytest.fail("measured first"))
    for name, why in (("copies.xyz", ".svg"), ("absent/copies.svg", "no folder")):
        refused = run("simd", "--plot", str(tmp_path / name))
        assert refused.status == 2 and why in refused.err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    refused = run("simd", "--plot", str(tmp_path / "copies.svg"))
    assert refused.status == 2 and "pip install vm_mem[plot]" in refused.err
