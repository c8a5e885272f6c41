"""vm_mem.numa: policies, blocks that were verified, guest memory; the oracle is the kernel's /proc/self/numa_maps."""

from __future__ import annotations

import gc
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vm_core import ClosedError, InvalidConfig, NotSupported, OutOfRange, ResourceExhausted, Topology
from vm_mem import GuestMemory, LazyMemory, numa
from vm_mem.numa import NumaAllocator, NumaPolicy

PAGE = 4096
SIZE = 1 << 18
NUMA_MAPS = Path("/proc/self/numa_maps")
DOCS = Path(__file__).parents[3] / "docs" / "numa.md"

needs_placement = pytest.mark.skipif(numa.placement_unavailable() is not None, reason=str(numa.placement_unavailable()))


@pytest.fixture
def allocator() -> NumaAllocator:
    return NumaAllocator()


@pytest.fixture
def node(allocator: NumaAllocator) -> int:
    return allocator.decide(NumaPolicy.interleave()).nodes[0]


def kernel_line(array: np.ndarray[Any, Any]) -> str:
    """What numa_maps says of the mapping that an array begins."""
    if not NUMA_MAPS.exists():
        pytest.skip("this kernel has no /proc/self/numa_maps")
    address = f"{array.ctypes.data:x} "
    return next((line for line in NUMA_MAPS.read_text().splitlines() if line.startswith(address)), "no such mapping")


def test_policies_are_values() -> None:
    assert NumaPolicy.bind(1, 0, 1) == NumaPolicy.bind(0, 1)
    assert (
        len({NumaPolicy.bind(1, 0), NumaPolicy.bind(0, 1), NumaPolicy.local(), NumaPolicy.local(fallback=False)}) == 3
    )
    for policy in (
        NumaPolicy.local(),
        NumaPolicy.local(1, fallback=False),
        NumaPolicy.bind(0, 1, home_node=1),
        NumaPolicy.interleave(),
        NumaPolicy.preferred_many(2, home_node=0),
    ):
        assert eval(repr(policy), {"NumaPolicy": NumaPolicy}) == policy
    policy = NumaPolicy.preferred_many(3, 2, home_node=1)
    assert (policy.kind, policy.nodes, policy.home_node, policy.fallback) == ("preferred-many", (2, 3), 1, True)
    assert NumaPolicy.bind(np.int64(4)).nodes == (4,)
    with pytest.raises(TypeError, match="whole numbers"):
        NumaPolicy.bind("0")  # type: ignore[arg-type]


def test_decisions_for_other_machines() -> None:
    try:
        machine = Topology.from_synthetic("node:4 core:2 pu:1")
    except NotSupported as error:
        pytest.skip(str(error))
    cpu = machine.nodes[2].cpus[0]
    decision = NumaPolicy.local(fallback=False).decide(machine, cpu=cpu)
    assert (decision.mode, decision.nodes, decision.strict, decision.reason) == ("bind", (2,), True, None)
    assert NumaPolicy.interleave().decide(machine, allowed_nodes=[3, 1]).nodes == (1, 3)
    moved = NumaPolicy.local(0).decide(machine, allowed_nodes=[3])
    assert moved.nodes == (3,) and "cgroup" in str(moved.reason)
    assert NumaPolicy.bind(0, 1, 2, 3).decide(machine).everywhere
    with pytest.raises(NotSupported, match="cgroup"):
        NumaPolicy.bind(0, 1).decide(machine, allowed_nodes=[0])
    with pytest.raises(OutOfRange, match="the nodes are 0-3"):
        NumaPolicy.bind(4).decide(machine)
    with pytest.raises(InvalidConfig, match="names no node"):
        NumaPolicy.bind().decide(machine)
    described = NumaAllocator(NumaPolicy.bind(3), topology=machine)
    assert described.decide().nodes == (3,)
    with pytest.raises(NotSupported, match="describes another machine"):
        described.allocate(PAGE)


@needs_placement
@pytest.mark.parametrize("through", [None, "mbind"])
def test_a_strict_block_is_where_the_kernel_says(through: Any, node: int) -> None:
    allocator = NumaAllocator(through=through)
    with allocator.allocate_on_node(SIZE, node, huge_pages=None) as block:
        assert block.verify() and block.verify().verdict == "verified"
        assert block.placement().nodes.tolist() == [node] * (SIZE // PAGE)
        assert block.placement().bytes == {node: SIZE}
        line = kernel_line(block.array())
        assert re.search(rf"\bbind(:|=static:){node}\b", line) and f"N{node}={SIZE // PAGE}" in line
        assert block.decision.strict and block.refusal is None
        if through:
            assert block.through == "mbind"
        assert len(block) == block.size == SIZE and "bind to node" in repr(block)
    assert repr(block) == f"<NumaBlock of {SIZE} bytes: closed>"


@needs_placement
def test_interleaved_and_preferred_policies_reach_the_kernel(allocator: NumaAllocator, node: int) -> None:
    spread = allocator.allocate_interleaved(SIZE, [node], huge_pages=None, populate=True)
    assert spread.verify() and f" interleave:{node} " in kernel_line(spread.array())
    near = allocator.allocate(SIZE, NumaPolicy.local(node), huge_pages=None)
    assert near.verify().verdict == "unverified" and near.verify().placement.absent_bytes == SIZE
    near.array()[: 2 * PAGE] = 1
    assert near.placement().bytes == {node: 2 * PAGE}
    near.populate()
    # hwloc asks for "many" of one node, which is the same.
    assert near.verify() and re.search(rf" prefer( \(many\))?:{node} ", kernel_line(near.array()))
    assert allocator.allocate_cpu_local(PAGE, allocator.topology.allowed_cpus[0]).verify()
    assert allocator.allocate_local(PAGE, populate=True).verify()


@needs_placement
def test_migration_and_statistics(allocator: NumaAllocator, node: int) -> None:
    def here() -> numa.NodeStatistics:
        return next(found for found in allocator.statistics() if found.node == node)

    block = allocator.allocate_local(SIZE, huge_pages=None)
    block.array("<u4")[:] = np.arange(SIZE // 4)
    moved = block.migrate(node)
    assert moved.verification and moved.failed_bytes == 0 and moved.reason is None
    assert moved.moved_bytes + moved.already_bytes == SIZE and block.decision.mode == "bind"
    assert block.migrate(NumaPolicy.interleave(node)).already_bytes == SIZE
    assert np.array_equal(block.array("<u4"), np.arange(SIZE // 4))
    assert (here().blocks, here().resident_bytes, here().stray_bytes) == (1, SIZE, 0)
    assert here().migrated_bytes == moved.moved_bytes
    block.close()
    assert (here().blocks, here().resident_bytes) == (0, 0)
    memory = numa.node_memory(node)
    assert 0 < memory.free <= memory.available <= memory.total and memory.node == node
    with pytest.raises(NotSupported):
        numa.node_memory(1000)
    with pytest.raises(ResourceExhausted, match="bytes are free"):
        allocator.allocate_on_node(2 * memory.total, node)


@needs_placement
def test_replicas(allocator: NumaAllocator) -> None:
    with allocator.allocate_replicated(SIZE) as replicas:
        replicas.write(10, b"everywhere")
        for node in replicas.nodes:
            assert bytes(replicas.on(node).array()[10:20]) == b"everywhere"
            assert replicas.on(node).placement().bytes == {node: SIZE} and replicas.on(node).verify()
        first = replicas.nodes[0]
        replicas.on(first).array()[:] = 3
        replicas.synchronize(first)
        assert all((replicas.on(node).array() == 3).all() for node in replicas.nodes)
        assert replicas.local.size == replicas.size == len(replicas)
        with pytest.raises(OutOfRange):
            replicas.write(SIZE, b"x")
        with pytest.raises(OutOfRange, match="no copy on node"):
            replicas.on(1000)
    assert replicas.closed


@needs_placement
def test_arrays_keep_their_memory(allocator: NumaAllocator) -> None:
    block = allocator.allocate_local(SIZE)
    array = block.array("<f8")
    block.close()
    block.close()
    del block, allocator
    gc.collect()
    array[:] = 1.5
    assert array.sum() == 1.5 * SIZE / 8
    assert numa.placement(array).absent_bytes == 0
    other = NumaAllocator().allocate_local(12)
    for dtype in ("<u8", object):
        with pytest.raises(InvalidConfig):
            other.array(dtype)
    other.close()
    for use in (other.array, other.verify, other.placement, other.populate, lambda: other.migrate(0)):
        with pytest.raises(ClosedError):
            use()


@needs_placement
def test_placement_of_buffers(node: int) -> None:
    array = np.ones(SIZE, np.uint8)
    found = numa.placement(array[PAGE:])
    assert sum(found.bytes.values()) >= SIZE - PAGE and found.absent_bytes == 0
    assert found.nodes.dtype == np.int32 and found.page_size == PAGE
    assert numa.placement(memoryview(array)).absent_bytes == 0
    assert numa.placement(b"").nodes.size == 0
    with pytest.raises(InvalidConfig, match="contiguous"):
        numa.placement(array[::2])
    with pytest.raises(TypeError):
        numa.placement(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match="GuestMemory"):
        numa.placement(array, paddr=0, size=1)


@needs_placement
@pytest.mark.parametrize("make", [GuestMemory.anonymous, GuestMemory.memfd])
def test_guest_memory(make: Any, allocator: NumaAllocator, node: int) -> None:
    memory = make(SIZE, base=0x1000, huge_pages=None)
    memory.write(0x1000, b"x")
    placed = allocator.place(memory, NumaPolicy.bind(node))
    assert placed.absent_bytes == SIZE - PAGE and placed.verification.verdict == "unverified"
    placed = allocator.place(memory, NumaPolicy.bind(node), populate=True)
    assert placed.verification and memory.read(0x1000, 1) == b"x"
    assert numa.placement(memory).bytes == {node: SIZE}
    assert numa.placement(memory, paddr=0x2000, size=PAGE).nodes.tolist() == [node]
    assert f"N{node}={SIZE // PAGE}" in kernel_line(memory.view(0x1000, SIZE))
    with pytest.raises(InvalidConfig, match="whole pages"):
        allocator.place(memory, paddr=0x1001, size=PAGE)
    with pytest.raises(InvalidConfig, match="together"):
        allocator.place(memory, paddr=0x1000)
    with pytest.raises(OutOfRange):
        allocator.place(memory, paddr=0, size=PAGE)


@needs_placement
def test_lazy_guest_memory_is_placed_too(allocator: NumaAllocator, node: int) -> None:
    if LazyMemory.available() is not None:
        pytest.skip(str(LazyMemory.available()))

    def fill(offset: int, size: int) -> bytes:
        return b"".join(bytes([at >> 12]) * PAGE for at in range(offset, offset + size, PAGE))

    with LazyMemory(16 * PAGE, fill) as lazy:
        assert numa.placement(lazy.memory).absent_bytes == 16 * PAGE
        placed = allocator.place(lazy.memory, NumaPolicy.bind(node), populate=True)
        assert placed.verification and lazy.memory.read(5 * PAGE, 1) == b"\x05"


def test_files_are_not_placed(allocator: NumaAllocator, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(4 * PAGE))
    if numa.placement_unavailable() is None:
        with pytest.raises(NotSupported, match="live in a file"):
            allocator.place(GuestMemory.file(path))


def test_bad_arguments(allocator: NumaAllocator) -> None:
    with pytest.raises(InvalidConfig, match="choose"):
        NumaAllocator(through="libnuma")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig):
        allocator.allocate_local(0)
    with pytest.raises(InvalidConfig):
        allocator.allocate_local(PAGE, huge_pages="3M")  # type: ignore[arg-type]
    with pytest.raises(OutOfRange):
        numa.migrate_process(-1, 0)
    assert repr(allocator).startswith("<NumaAllocator NumaPolicy.local() through ")


@needs_placement
def test_threads(allocator: NumaAllocator, node: int) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                with allocator.allocate_on_node(16 * PAGE, node) as block:
                    assert block.verify()
                    block.migrate(NumaPolicy.interleave())
                allocator.statistics()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@needs_placement
def test_the_examples_of_the_page_run() -> None:
    if not DOCS.exists():
        pytest.skip("docs/numa.md is not here (tests run outside a checkout)")
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), namespace)
