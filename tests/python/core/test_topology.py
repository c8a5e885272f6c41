"""Topology: this machine, and hwloc's own reading of the same descriptions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from vm_core import InvalidConfig, NotSupported, OutOfRange, PlatformError, Topology
from vm_core.topology import cpu_list

LSTOPO = shutil.which("lstopo-no-graphics") or shutil.which("lstopo")
DESCRIPTIONS = [
    "node:2 core:4 pu:2",
    "pack:2 [numa(memory=1GB)] l3:1 l2:2 core:1 pu:2",
    "node:3(indexes=2,0,1) core:1 pu:1",
    "pack:2 node:2 l3:1 core:2 l1d:1 l1i:1 pu:2(indexes=0,8,1,9,2,10,3,11,4,12,5,13,6,14,7,15)",
    "[numa] pack:1 core:1 pu:1",
    "pu:70",
]
XML = """<topology version="2.0"><object type="Machine" cpuset="0x5">
<object type="NUMANode" os_index="1" cpuset="0x5" local_memory="4096"/>
<object type="PU" os_index="0" cpuset="0x1"/><object type="PU" os_index="2" cpuset="0x4"/></object></topology>"""


@pytest.fixture(scope="module")
def with_hwloc() -> None:
    try:
        Topology.detect(source="hwloc")
    except NotSupported as refusal:
        pytest.skip(str(refusal))


def facts_of(topology: Topology) -> dict[str, object]:
    """All but where it comes from."""
    facts = topology.as_dict()
    del facts["source"]
    return facts


def detect_elsewhere(**environment: str) -> dict[str, object]:
    """What a fresh process with these environment variables detects."""
    code = "import json, vm_core; print(json.dumps(vm_core.Topology.detect().as_dict()))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, check=True
    )
    facts: dict[str, object] = json.loads(done.stdout)
    return facts


def test_this_machine() -> None:
    topology = Topology.detect()
    assert topology.source == "sysfs" or topology.source.startswith("hwloc ")
    assert topology.is_this_system
    assert topology.cpus == sorted(set(topology.cpus))
    assert {cpu for node in topology.nodes for cpu in node.cpus} == set(topology.cpus)
    assert sum(node.memory_bytes for node in topology.nodes) > 0
    for cpu in topology.cpus:
        assert cpu in topology.node_of(cpu).cpus
    if topology.distances:
        assert [len(row) for row in topology.distances] == [len(topology.nodes)] * len(topology.nodes)
    for package in topology.packages:
        assert set(package.cpus) <= set(topology.cpus)
    for core in topology.cores:
        assert core.package in {-1, *(package.id for package in topology.packages)}
    assert json.loads(json.dumps(topology.as_dict()))["cpus"] == topology.cpus
    assert topology.source in repr(topology)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has sysfs")
def test_allowed_cpus_follow_the_threads_affinity() -> None:
    assert set(Topology.detect().allowed_cpus) == os.sched_getaffinity(0)
    one = max(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from vm_core import Topology; "
    code += "print(*[Topology.detect(source=s).allowed_cpus for s in (None, 'sysfs')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[{one}] [{one}]"


def test_unknown_source_and_cpu() -> None:
    with pytest.raises(InvalidConfig, match="'hwloc' and 'sysfs'"):
        Topology.detect(source="guess")  # type: ignore[arg-type]
    with pytest.raises(OutOfRange, match="CPU 1000000"):
        Topology.detect().node_of(1_000_000)


@pytest.mark.parametrize("description", DESCRIPTIONS)
@pytest.mark.usefixtures("with_hwloc")
def test_our_reading_of_xml_is_hwlocs(description: str, tmp_path: Path) -> None:
    if LSTOPO is None:
        pytest.skip("lstopo is not installed (Debian: hwloc-nox)")
    path = tmp_path / "machine.xml"
    subprocess.run([LSTOPO, "-i", description, "--of", "xml", str(path)], check=True)
    ours = Topology.from_hwloc_xml(path)
    assert ours.source == "hwloc XML"
    assert not ours.is_this_system
    theirs = Topology.from_synthetic(description)
    assert facts_of(ours) == facts_of(theirs)
    assert facts_of(Topology.from_hwloc_xml(path.read_text())) == facts_of(ours)
    loaded = detect_elsewhere(HWLOC_XMLFILE=str(path), HWLOC_THISSYSTEM="0")
    assert loaded.pop("source") == theirs.source
    assert loaded == facts_of(ours)


@pytest.mark.usefixtures("with_hwloc")
def test_hwlocs_environment_applies() -> None:
    facts = detect_elsewhere(HWLOC_SYNTHETIC="node:2 core:1 pu:1")
    assert facts["is_this_system"] is False
    assert facts["cpus"] == [0, 1]


@pytest.mark.usefixtures("with_hwloc")
def test_synthetic() -> None:
    topology = Topology.from_synthetic("node:2 core:4 pu:2")
    assert [node.cpus for node in topology.nodes] == [list(range(8)), list(range(8, 16))]
    assert [core.cpus for core in topology.cores][:2] == [[0, 1], [2, 3]]
    with pytest.raises(InvalidConfig, match="'rubbish' has the unknown type rubbish at position 7"):
        Topology.from_synthetic("rubbish")
    with pytest.raises(InvalidConfig, match="more than 65536 CPUs"):
        Topology.from_synthetic("node:65536 pu:2")


def test_xml_as_text_and_as_file(tmp_path: Path) -> None:
    path = tmp_path / "machine.xml"
    path.write_text(XML)
    for topology in (
        Topology.from_hwloc_xml("\n" + XML),
        Topology.from_hwloc_xml(path),
        Topology.from_hwloc_xml(str(path)),
    ):
        assert topology.cpus == [0, 2]
        assert topology.nodes[0].as_dict() == {"id": 1, "cpus": [0, 2], "memory_bytes": 4096}
        assert topology.distances == []
        assert repr(topology.nodes[0]) == "<NumaNode 1, 4096 bytes, CPUs 0,2>"


def test_wrong_xml() -> None:
    with pytest.raises(InvalidConfig, match="line 1: the text ends inside <topology>"):
        Topology.from_hwloc_xml('<topology version="2.0">')
    with pytest.raises(PlatformError, match="/nonexistent"):
        Topology.from_hwloc_xml("/nonexistent")
    with pytest.raises(TypeError):
        Topology.from_hwloc_xml(5)  # type: ignore[arg-type]


@pytest.mark.skipif(not Path("/sys/devices/system/cpu/online").exists(), reason="there is no sysfs here")
def test_sysfs_below_another_root(tmp_path: Path) -> None:
    here = Topology.from_sysfs("/")
    assert not here.is_this_system
    assert here.cpus == Topology.detect(source="sysfs").cpus
    with pytest.raises(InvalidConfig, match="cpu/online"):
        Topology.from_sysfs(tmp_path)


def test_cpu_list() -> None:
    assert cpu_list([]) == ""
    assert cpu_list([0, 1, 2, 4]) == "0-2,4"
