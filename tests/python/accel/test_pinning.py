"""Pinning vCPUs, NUMA nodes, SIMD strategies."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from accel.guests import FOREVER, kvm_vm, real_mode_vcpu
from vm_accel import Timeout, VcpuPinner, Vm
from vm_accel.pinning import NumaTopology, PinningPolicy, SimdCapabilities, SimdStrategy
from vm_accel.testing import ScriptedHypervisor
from vm_core import CpuFeatures, InvalidConfig, OutOfRange, PlatformError, ResourceExhausted, Topology
from vm_mem import GuestMemory

ALLOWED = sorted(os.sched_getaffinity(0))


@pytest.fixture
def vm() -> Iterator[Vm]:
    with ScriptedHypervisor() as hypervisor, hypervisor.create_vm() as machine:
        yield machine


@pytest.fixture(autouse=True)
def affinity_is_kept() -> Iterator[None]:
    yield
    assert sorted(os.sched_getaffinity(0)) == ALLOWED


def two_nodes(allowed: str, reach: int = 64) -> NumaTopology:
    """Node 0: the CPUs of this machine; node 1: others, that no process here can use. ``allowed``: a set of bits."""
    last = max(ALLOWED)
    everything = hex((1 << last + 2) - 1)
    units = "".join(f'<object type="PU" os_index="{cpu}" cpuset="{hex(1 << cpu)}"/>' for cpu in range(last + 2))
    return NumaTopology(
        Topology.from_hwloc_xml(
            f'<topology version="2.0"><object type="Machine" cpuset="{everything}" allowed_cpuset="{allowed}">'
            f'<object type="NUMANode" os_index="0" cpuset="{hex((1 << last + 1) - 1)}" local_memory="4096"/>'
            f'<object type="NUMANode" os_index="1" cpuset="{hex(1 << last + 1)}" local_memory="{reach}"/>'
            f"{units}</object></topology>"
        )
    )


def test_pins_to_each_cpu_and_back(vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    with VcpuPinner(vm) as pinner:
        for cpu in ALLOWED:
            pinner.pin_vcpu_to_cpu(vcpu, cpu)
            assert pinner.get_affinity(0) == {cpu} == os.sched_getaffinity(0)
            assert pinner.running_on(vcpu) == cpu
            assert pinner.verify(vcpu)
        assert f"vCPU 0: {cpu}" in repr(pinner)
        pinner.unpin(0)
        assert pinner.get_affinity(vcpu) == set(ALLOWED)
        pinner.unpin(vcpu)
        with pytest.raises(InvalidConfig, match="has not been pinned"):
            pinner.verify(vcpu)
        pinner.pin_vcpu_to_cpu(vcpu, ALLOWED[-1])


def wait_for_the_end(thread: object) -> None:
    """Python has joined it; the kernel may still have to bury it."""
    deadline = time.monotonic() + 30
    while Path(f"/proc/self/task/{thread}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_pin_is_for_the_thread_that_owns_the_vcpu(vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    pinner = VcpuPinner(vm)
    seen: list[object] = []
    attached, done = threading.Event(), threading.Event()

    def work() -> None:
        vcpu.attach()
        seen.append(threading.get_native_id())
        attached.set()
        done.wait(30)
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=work)
    assert vcpu.owner_tid == threading.get_native_id()
    pinner.pin_vcpu_to_cpu(vcpu, ALLOWED[0])
    thread.start()
    assert attached.wait(30)
    assert vcpu.owner_tid == seen[0]
    assert not pinner.verify(vcpu)  # the pin was the other thread's
    pinner.pin_vcpu_to_cpu(vcpu, ALLOWED[-1])
    assert pinner.get_affinity(vcpu) == {ALLOWED[-1]}
    done.set()
    thread.join()
    assert seen[1] == {ALLOWED[-1]}
    wait_for_the_end(seen[0])
    pinner.unpin_all()  # of the thread that has ended nothing is left to restore
    with pytest.raises(PlatformError, match="has ended"):
        pinner.get_affinity(vcpu)


def test_what_cannot_be_is_refused_before_anything_changes(vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    pinner = VcpuPinner(vm)
    with pytest.raises(OutOfRange, match="no CPU 99999"):
        pinner.pin_vcpu_to_cpu(vcpu, 99999)
    with pytest.raises(OutOfRange, match="no NUMA node 77"):
        pinner.pin_vcpu_to_node(vcpu, 77)
    with pytest.raises(OutOfRange, match="no vCPU 5"):
        pinner.pin_vcpu_to_cpu(5, ALLOWED[0])
    with pytest.raises(InvalidConfig, match="no CPU at all"):
        pinner.pin_vcpu_to_cpus(vcpu, ())
    with pytest.raises(InvalidConfig, match="of which VM"):
        VcpuPinner().get_affinity(0)
    assert pinner.get_affinity(vcpu) == set(ALLOWED)


def test_a_cgroup_that_leaves_cpus_out_is_respected(vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    beyond = max(ALLOWED) + 1
    topology = two_nodes(allowed=hex(sum(1 << cpu for cpu in ALLOWED)))
    assert topology.allowed_cpus == set(ALLOWED)
    with VcpuPinner(vm, topology=topology) as pinner:
        for refused in (
            lambda: pinner.pin_vcpu_to_cpu(vcpu, beyond),
            lambda: pinner.pin_vcpu_to_node(vcpu, 1),
            lambda: pinner.pin_vcpu(vcpu, PinningPolicy.bind(1)),
            lambda: pinner.pin_vcpu(vcpu, PinningPolicy.local(1, fallback=False)),
        ):
            with pytest.raises(ResourceExhausted, match="may"):
                refused()
        assert pinner.get_affinity(vcpu) == set(ALLOWED)
        assert pinner.pin_vcpu(vcpu, PinningPolicy.local(1)) == set(ALLOWED)  # the next node


def test_the_kernel_has_the_last_word(vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    beyond = max(ALLOWED) + 1
    pinner = VcpuPinner(vm, topology=two_nodes(allowed=hex((1 << beyond + 1) - 1)))
    with pytest.raises(PlatformError):
        pinner.pin_vcpu_to_cpu(vcpu, beyond)
    with pytest.raises(PlatformError, match="outside the cpuset"):
        pinner.pin_vcpu_to_cpus(vcpu, (ALLOWED[0], beyond))
    assert pinner.get_affinity(vcpu) == set(ALLOWED)


def test_policies(vm: Vm) -> None:
    vcpus = [vm.create_vcpu() for _ in range(3)]
    detected = NumaTopology.detect()
    usable = [node for node in detected.nodes if detected.allowed_cpus.intersection(node.cpus)]
    with VcpuPinner(vm) as pinner:
        local = pinner.pin_vcpu(vcpus[0])  # the default: where the thread is
        assert pinner.running_on(vcpus[0]) in local
        for node in usable:
            expected = detected.allowed_cpus.intersection(node.cpus)
            assert pinner.pin_vcpu(vcpus[0], PinningPolicy.local(node.id)) == expected
            assert pinner.pin_vcpu(vcpus[0], node.id) == expected
            pinner.pin_vcpu_to_node(vcpus[0], node.id)
            assert pinner.verify(vcpus[0])
        nodes = [node.id for node in usable]
        assert pinner.pin_vcpu(vcpus[1], PinningPolicy.bind(*nodes)) == set(ALLOWED)
        for vcpu in vcpus:
            chosen = usable[vcpu.id % len(usable)]
            expected = detected.allowed_cpus.intersection(chosen.cpus)
            assert pinner.pin_vcpu(vcpu, PinningPolicy.interleave(*nodes)) == expected
        assert pinner.pin_vcpu(vcpus[2], PinningPolicy.none()) == set(ALLOWED)
    with pytest.raises(InvalidConfig):
        PinningPolicy.bind()


def test_where_a_thread_runs_survives_odd_names(vm: Vm, tmp_path: Path) -> None:
    vcpu = vm.create_vcpu()
    task = tmp_path / "self" / "task" / str(vcpu.owner_tid)
    task.mkdir(parents=True)
    fields = [str(number) for number in range(4, 53)]
    fields[39 - 4] = "7"
    (task / "stat").write_text(f"1 (a ) b (c) R {' '.join(fields)}\n")
    pinner = VcpuPinner(vm, proc=tmp_path)
    assert pinner.running_on(vcpu) == 7
    (task / "stat").write_text("1 (short) R 2\n")
    with pytest.raises(PlatformError, match="cannot see"):
        pinner.running_on(vcpu)


def test_numa_topology() -> None:
    topology = two_nodes(allowed="0x1")
    assert topology.num_nodes == 2
    assert [(node.id, node.cpu_count, node.memory_bytes) for node in topology.nodes] == [
        (0, max(ALLOWED) + 1, 4096),
        (1, 1, 64),
    ]
    assert topology.node_of(0).id == 0
    assert topology.node(1).cpus == (max(ALLOWED) + 1,)
    assert [node.id for node in topology.by_distance(1)] == [1, 0]
    assert topology.topology.cpus == list(range(max(ALLOWED) + 2))
    with pytest.raises(OutOfRange):
        topology.node_of(4000)
    assert NumaTopology.detect().num_nodes >= 1
    assert "node 0" in repr(topology)


@pytest.mark.parametrize(
    ("has", "strategy"),
    [
        ({"avx512f", "avx512bw", "avx512vl", "avx2", "sse2"}, SimdStrategy.AVX512),
        ({"avx512f", "avx2", "sse2"}, SimdStrategy.AVX2),
        ({"sse2"}, SimdStrategy.SSE2),
        ({"neon", "sve"}, SimdStrategy.SVE),
        ({"neon"}, SimdStrategy.NEON),
        (set(), SimdStrategy.SCALAR),
    ],
)
def test_simd_strategies(has: set[str], strategy: SimdStrategy) -> None:
    capabilities = SimdCapabilities(**dict.fromkeys(has, True))
    assert capabilities.recommended_strategy() is strategy
    assert capabilities.as_dict()["recommended_strategy"] == strategy.value


def test_simd_of_this_machine() -> None:
    features = CpuFeatures.detect()
    detected = SimdCapabilities.detect()
    assert detected == SimdCapabilities.from_features(features)
    assert (detected.avx2, detected.neon) == (features.has_avx2, features.has_neon)


def test_a_guest_runs_where_it_is_pinned() -> None:
    with kvm_vm() as vm, VcpuPinner(vm) as pinner:
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, FOREVER)
        for cpu in ALLOWED:
            pinner.pin_vcpu_to_cpu(vcpu, cpu)
            assert vcpu.run(timeout=0.01) == Timeout()
            assert pinner.running_on(vcpu) == cpu
            assert pinner.verify(vcpu)
