"""Where vCPUs run: processors, NUMA nodes, and what the processors can do.

A vCPU runs on the thread that it belongs to, so pinning a vCPU pins that thread (sched_setaffinity(2)) and every other
vCPU of the same thread with it. What is pinned is read back, and what the process may not use (a cgroup's cpuset, a
smaller affinity of the process) is refused before anything changes.

Guest memory is not placed here: it lies where the thread that touches a page first runs. Pin first, then fill the
memory on the pinned thread.

>>> from vm_accel.testing import ScriptedHypervisor
>>> with ScriptedHypervisor() as hypervisor, hypervisor.create_vm() as vm:
...     vcpu = vm.create_vcpu()
...     cpu = min(NumaTopology.detect().allowed_cpus)
...     with VcpuPinner(vm) as pinner:
...         pinner.pin_vcpu_to_cpu(vcpu, cpu)
...         pinner.get_affinity(vcpu) == {cpu}
True
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

from vm_core import CpuFeatures, InvalidConfig, NotSupported, OutOfRange, PlatformError, ResourceExhausted, Topology
from vm_core.topology import cpu_list

from ._accel import Vcpu, Vm

__all__ = [
    "CpuFeatures",
    "NumaNode",
    "NumaTopology",
    "PinningPolicy",
    "SimdCapabilities",
    "SimdStrategy",
    "VcpuPinner",
]


@dataclass(frozen=True)
class NumaNode:
    """One NUMA node: processors that are equally near to some memory."""

    id: int
    """The operating system's number."""
    cpus: tuple[int, ...]
    """Its processors."""
    memory_bytes: int
    """Its memory; 0 when nobody tells."""

    @property
    def cpu_count(self) -> int:
        """How many processors it has; 0 for a node of memory only."""
        return len(self.cpus)


class NumaTopology:
    """The NUMA nodes of a machine, from `vm_core.Topology`. Immutable."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._nodes = tuple(NumaNode(node.id, tuple(node.cpus), node.memory_bytes) for node in topology.nodes)
        self._allowed = frozenset(topology.allowed_cpus)

    @classmethod
    def detect(cls) -> NumaTopology:
        """The nodes of this machine. Raises what ``Topology.detect`` raises."""
        return cls(Topology.detect())

    @property
    def topology(self) -> Topology:
        """What it was made from: caches, cores, packages."""
        return self._topology

    @property
    def num_nodes(self) -> int:
        """How many nodes there are; 1 on a machine without NUMA."""
        return len(self._nodes)

    @property
    def nodes(self) -> tuple[NumaNode, ...]:
        """The nodes, by id."""
        return self._nodes

    @property
    def allowed_cpus(self) -> frozenset[int]:
        """The processors that this process might use when the topology was read."""
        return self._allowed

    def node(self, id: int) -> NumaNode:
        """The node with this id. Raises OutOfRange."""
        for node in self._nodes:
            if node.id == id:
                return node
        raise OutOfRange(f"there is no NUMA node {id}; there are {[node.id for node in self._nodes]}")

    def node_of(self, cpu: int) -> NumaNode:
        """The node of a processor. Raises OutOfRange."""
        for node in self._nodes:
            if cpu in node.cpus:
                return node
        raise OutOfRange(f"no NUMA node has CPU {cpu}; {self!r}")

    def by_distance(self, id: int) -> tuple[NumaNode, ...]:
        """All nodes, the nearest to node ``id`` first, that one itself in front (ACPI SLIT). Raises OutOfRange."""
        at = self._nodes.index(self.node(id))
        row = self._topology.distances[at] if self._topology.distances else [0] * len(self._nodes)
        order = sorted(range(len(self._nodes)), key=lambda i: (i != at, row[i], i))
        return tuple(self._nodes[i] for i in order)

    def __repr__(self) -> str:
        nodes = ", ".join(f"node {node.id}: CPUs {cpu_list(node.cpus) or 'none'}" for node in self._nodes)
        return f"<NumaTopology {nodes}>"


class _Kind(Enum):
    LOCAL = "local"
    BIND = "bind"
    INTERLEAVE = "interleave"
    NONE = "none"


@dataclass(frozen=True)
class PinningPolicy:
    """How a `VcpuPinner` chooses the processors of a vCPU; made by the class methods.

    The memory of a guest follows `vm_mem.numa.NumaPolicy`.
    """

    kind: _Kind
    preferred_node: int | None = None
    fallback: bool = False
    nodes: tuple[int, ...] = ()

    @classmethod
    def local(cls, preferred_node: int | None = None, fallback: bool = True) -> PinningPolicy:
        """All processors of one node: ``preferred_node``, or the node where the vCPU's thread ran last.

        ``fallback``: when this process may use none of them, take the nearest node of which it may use some.
        """
        return cls(_Kind.LOCAL, preferred_node=preferred_node, fallback=fallback)

    @classmethod
    def bind(cls, *nodes: int) -> PinningPolicy:
        """The processors of these nodes and no others."""
        if not nodes:
            raise InvalidConfig("PinningPolicy.bind takes the ids of the nodes to stay on")
        return cls(_Kind.BIND, nodes=nodes)

    @classmethod
    def interleave(cls, *nodes: int) -> PinningPolicy:
        """VCPU i goes to the i-th of these nodes, and round again; without nodes, of all that have processors."""
        return cls(_Kind.INTERLEAVE, nodes=nodes)

    @classmethod
    def none(cls) -> PinningPolicy:
        """Every processor that the process may use: takes back a pin."""
        return cls(_Kind.NONE)


def _running_cpu(tid: int, proc: Path) -> int:
    """Where a thread runs or ran last: field 39 of proc_pid_stat(5)."""
    try:
        text = (proc / "self" / "task" / str(tid) / "stat").read_text()
        # The name in field 2 may hold anything, so count from behind it.
        return int(text[text.rindex(")") + 2 :].split()[36])
    except (OSError, ValueError, IndexError) as error:
        code = getattr(error, "errno", None) or 0
        raise PlatformError(f"cannot see where thread {tid} runs: {error}", errno=code) from None


class VcpuPinner:
    """Binds the threads of a VM's vCPUs to processors, and gives them back.

    Methods take a vCPU or its id in ``vm``. A pin is for the thread that owns the vCPU at that moment: after an
    ``attach`` by another thread, pin again (`verify` tells). Leaving the ``with`` block, or `unpin_all`, restores
    what each thread had before. Any thread may call anything at once. Linux only (NotSupported elsewhere).
    """

    def __init__(
        self,
        vm: Vm | None = None,
        policy: PinningPolicy | None = None,
        *,
        topology: NumaTopology | None = None,
        proc: str | os.PathLike[str] = "/proc",
    ) -> None:
        if not hasattr(os, "sched_setaffinity"):
            raise NotSupported("this system has no sched_setaffinity; pinning needs Linux")
        self._vm = vm
        self._policy = policy or PinningPolicy.local()
        self._topology = topology or NumaTopology.detect()
        self._proc = Path(proc)
        self._lock = threading.Lock()
        self._before: dict[int, frozenset[int]] = {}  # by thread
        self._pinned: dict[int, tuple[Vcpu, int, frozenset[int]]] = {}  # by id(vcpu): with its thread and its CPUs

    @property
    def topology(self) -> NumaTopology:
        """The nodes that policies choose from."""
        return self._topology

    def pin_vcpu_to_cpu(self, vcpu: Vcpu | int, cpu: int) -> None:
        """Run the vCPU on this processor only.

        Raises OutOfRange for a processor that does not exist, ResourceExhausted for one that the process may not use,
        PlatformError when the kernel refuses.
        """
        self.pin_vcpu_to_cpus(vcpu, (cpu,))

    def pin_vcpu_to_cpus(self, vcpu: Vcpu | int, cpus: Iterable[int]) -> None:
        """Run the vCPU on these processors only; raises as `pin_vcpu_to_cpu`, also when just one cannot be used."""
        wanted = frozenset(cpus)
        if not wanted:
            raise InvalidConfig("a vCPU cannot be pinned to no CPU at all")
        known = frozenset(self._topology.topology.cpus)
        if unknown := wanted - known:
            raise OutOfRange(f"there is no CPU {cpu_list(sorted(unknown))}; there are {cpu_list(sorted(known))}")
        if refused := wanted - self._allowed():
            raise ResourceExhausted(
                f"this process may not use CPU {cpu_list(sorted(refused))}, only {cpu_list(sorted(self._allowed()))}: "
                "its cgroup (cpuset) or the topology's allowed CPUs leave it out"
            )
        self._pin(self._find(vcpu), wanted)

    def pin_vcpu_to_node(self, vcpu: Vcpu | int, node: int) -> None:
        """Run the vCPU on the processors of a NUMA node, as far as the process may use them.

        Raises OutOfRange when there is no such node, ResourceExhausted when the process may use none of its CPUs.
        """
        self._pin(self._find(vcpu), self._usable((node,)))

    def pin_vcpu(self, vcpu: Vcpu | int, policy: PinningPolicy | int | None = None) -> frozenset[int]:
        """Pin as ``policy`` says (default: the pinner's own); an integer is a NUMA node. Returns the processors."""
        found = self._find(vcpu)
        if policy is None:
            policy = self._policy
        cpus = self._usable((policy,)) if isinstance(policy, int) else self._choose(found, policy)
        self._pin(found, cpus)
        return cpus

    def get_affinity(self, vcpu: Vcpu | int) -> frozenset[int]:
        """The processors on which the vCPU's thread may run, asked of the kernel now."""
        return _affinity(_thread_of(self._find(vcpu)))

    def running_on(self, vcpu: Vcpu | int) -> int:
        """The processor on which the vCPU's thread runs, or ran last."""
        return _running_cpu(_thread_of(self._find(vcpu)), self._proc)

    def verify(self, vcpu: Vcpu | int) -> bool:
        """Whether the pin holds: same thread, the affinity as set, the thread last seen on one of its processors.

        Raises InvalidConfig for a vCPU that this pinner has not pinned.
        """
        found = self._find(vcpu)
        with self._lock:
            pin = self._pinned.get(id(found))
        if pin is None:
            raise InvalidConfig(f"vCPU {found.id} has not been pinned here; call pin_vcpu first")
        _, thread, cpus = pin
        return thread == _thread_of(found) and _affinity(thread) == cpus and _running_cpu(thread, self._proc) in cpus

    def unpin(self, vcpu: Vcpu | int) -> None:
        """Give the vCPU's thread the affinity that it had before its first pin here. Not pinned: nothing happens.

        Other vCPUs of the same thread are not pinned any more either.
        """
        found = self._find(vcpu)
        with self._lock:
            pin = self._pinned.get(id(found))
            if pin is not None:
                self._restore(pin[1])

    def unpin_all(self) -> None:
        """`unpin` for everything that is pinned here. Threads that have ended are skipped."""
        with self._lock:
            for thread in list(self._before):
                self._restore(thread)

    def __enter__(self) -> VcpuPinner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.unpin_all()

    def _find(self, vcpu: Vcpu | int) -> Vcpu:
        if isinstance(vcpu, Vcpu):
            return vcpu
        if self._vm is None:
            raise InvalidConfig(f"vCPU {vcpu} of which VM? Give the VM to VcpuPinner, or the Vcpu to this method")
        for found in self._vm.vcpus:
            if found.id == vcpu:
                return found
        raise OutOfRange(f"this VM has no vCPU {vcpu}; it has {[found.id for found in self._vm.vcpus]}")

    def _allowed(self) -> frozenset[int]:
        # The kernel refuses an affinity outside the cpuset, and so does the topology; a thread may have less than the
        # process, which is not a limit.
        return self._topology.allowed_cpus

    def _usable(self, nodes: Iterable[int]) -> frozenset[int]:
        wanted: frozenset[int] = frozenset().union(*(self._topology.node(node).cpus for node in nodes))
        usable = wanted & self._allowed()
        if not usable:
            raise ResourceExhausted(
                f"NUMA node {', '.join(map(str, nodes))} has CPUs {cpu_list(sorted(wanted)) or 'none'}, and this "
                f"process may use {cpu_list(sorted(self._allowed()))} only: its cgroup (cpuset) leaves them out"
            )
        return usable

    def _choose(self, vcpu: Vcpu, policy: PinningPolicy) -> frozenset[int]:
        match policy.kind:
            case _Kind.NONE:
                return self._allowed()
            case _Kind.BIND:
                return self._usable(policy.nodes)
            case _Kind.INTERLEAVE:
                nodes = policy.nodes or tuple(node.id for node in self._topology.nodes if node.cpus)
                return self._usable((nodes[vcpu.id % len(nodes)],))
            case _Kind.LOCAL:
                preferred = policy.preferred_node
                if preferred is None:
                    preferred = self._topology.node_of(_running_cpu(_thread_of(vcpu), self._proc)).id
                if policy.fallback:
                    for node in self._topology.by_distance(preferred):
                        if usable := self._allowed().intersection(node.cpus):
                            return usable
                return self._usable((preferred,))

    def _pin(self, vcpu: Vcpu, cpus: frozenset[int]) -> None:
        thread = _thread_of(vcpu)
        with self._lock:
            before = _affinity(thread)
            _set_affinity(thread, cpus)
            now = _affinity(thread)
            if now != cpus:
                _set_affinity(thread, before)
                raise PlatformError(
                    f"vCPU {vcpu.id} was to run on CPUs {cpu_list(sorted(cpus))}, and the kernel made that "
                    f"{cpu_list(sorted(now))}: the others are offline or outside the cpuset",
                )
            self._before.setdefault(thread, before)
            self._pinned[id(vcpu)] = (vcpu, thread, cpus)

    def _restore(self, thread: int) -> None:
        before = self._before.pop(thread, None)
        self._pinned = {key: pin for key, pin in self._pinned.items() if pin[1] != thread}
        if before is not None:
            try:
                os.sched_setaffinity(thread, before)
            except ProcessLookupError:
                pass  # the thread has ended, and its affinity with it
            except OSError as error:
                what = f"cannot give thread {thread} its CPUs back: {error}"
                raise PlatformError(what, errno=error.errno or 0) from None

    def __repr__(self) -> str:
        with self._lock:
            pins = ", ".join(f"vCPU {vcpu.id}: {cpu_list(sorted(cpus))}" for vcpu, _, cpus in self._pinned.values())
        return f"<VcpuPinner {pins or 'nothing pinned'}>"


def _thread_of(vcpu: Vcpu) -> int:
    thread = vcpu.owner_tid
    if thread == 0:
        raise NotSupported(f"the thread of vCPU {vcpu.id} is not known on this system")
    return thread


def _affinity(thread: int) -> frozenset[int]:
    try:
        return frozenset(os.sched_getaffinity(thread))
    except OSError as error:
        raise _thread_error(thread, error) from None


def _set_affinity(thread: int, cpus: frozenset[int]) -> None:
    try:
        os.sched_setaffinity(thread, cpus)
    except OSError as error:
        raise _thread_error(thread, error) from None


def _thread_error(thread: int, error: OSError) -> PlatformError:
    what = f"the CPUs of thread {thread}: {error}"
    if isinstance(error, ProcessLookupError):
        what = f"thread {thread} of the vCPU has ended; attach() the vCPU on the thread that runs it"
    return PlatformError(what, errno=error.errno or 0)


class SimdStrategy(Enum):
    """Which instruction set a loop over much data should use."""

    AVX512 = "avx512"
    AVX2 = "avx2"
    SSE2 = "sse2"
    SVE = "sve"
    NEON = "neon"
    SCALAR = "scalar"


@dataclass(frozen=True)
class SimdCapabilities:
    """The vector instructions of a processor. A name that the architecture does not have is False."""

    sse2: bool = False
    sse4_1: bool = False
    sse4_2: bool = False
    avx: bool = False
    avx2: bool = False
    avx512f: bool = False
    avx512bw: bool = False
    avx512vl: bool = False
    neon: bool = False
    sve: bool = False
    sve2: bool = False

    @classmethod
    def detect(cls) -> SimdCapabilities:
        """What this machine's processor has and the operating system saves."""
        return cls.from_features(CpuFeatures.detect())

    @classmethod
    def from_features(cls, features: CpuFeatures) -> SimdCapabilities:
        """Of any processor that `CpuFeatures` describes."""
        return cls(**{name: features.has(name) for name in cls.__dataclass_fields__})

    def recommended_strategy(self) -> SimdStrategy:
        """The widest set that is complete enough for plain loops.

        AVX-512 needs BW and VL beside F: without them loops over bytes fall back to 256 bits (Intel SDM vol. 1 §15.2).
        """
        if self.avx512f and self.avx512bw and self.avx512vl:
            return SimdStrategy.AVX512
        if self.avx2:
            return SimdStrategy.AVX2
        if self.sse2:
            return SimdStrategy.SSE2
        if self.sve:
            return SimdStrategy.SVE
        if self.neon:
            return SimdStrategy.NEON
        return SimdStrategy.SCALAR

    def as_dict(self) -> dict[str, Any]:
        """As plain values, with the strategy."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "recommended_strategy": self.recommended_strategy().value}
