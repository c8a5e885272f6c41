"""Memory on the nodes that are asked for, with what the kernel says about where it is.

A ``NumaPolicy`` is decided for a machine, the kernel is asked through hwloc or mbind, and the pages are looked up
(move_pages): a strict block that is given out was verified, and of every other one ``verify`` tells.

>>> allocator = NumaAllocator()
>>> node = allocator.decide(NumaPolicy.interleave()).nodes[0]
>>> if placement_unavailable() is None:
...     block = allocator.allocate_on_node(1 << 16, node)
...     assert block.verify() and set(block.placement().bytes) == {node}

Descriptions of other machines can be decided for, and nothing can be placed on them:

>>> import vm_core
>>> two = vm_core.Topology.from_hwloc_xml('''
... <topology version="2.0">
...   <object type="Machine" cpuset="0x3">
...     <object type="Group" cpuset="0x1"><object type="NUMANode" os_index="0" cpuset="0x1" local_memory="4096"/>
...       <object type="PU" os_index="0" cpuset="0x1"/></object>
...     <object type="Group" cpuset="0x2"><object type="NUMANode" os_index="1" cpuset="0x2" local_memory="4096"/>
...       <object type="PU" os_index="1" cpuset="0x2"/></object>
...   </object>
... </topology>''')
>>> NumaPolicy.local().decide(two, cpu=1)
<NumaDecision: preferred node 1>
>>> NumaPolicy.bind(0, 2).decide(two)
Traceback (most recent call last):
    ...
vm_core.error.OutOfRange: there is no node 2; the nodes are 0-1 (by hwloc XML)
"""

from ._mem import (
    Migration,
    NodeMemory,
    NodeStatistics,
    NumaAllocator,
    NumaBlock,
    NumaDecision,
    NumaPolicy,
    Placement,
    ReplicatedBlock,
    Verification,
    migrate_process,
    node_memory,
    placement,
    placement_unavailable,
)

__all__ = [
    "Migration",
    "NodeMemory",
    "NodeStatistics",
    "NumaAllocator",
    "NumaBlock",
    "NumaDecision",
    "NumaPolicy",
    "Placement",
    "ReplicatedBlock",
    "Verification",
    "migrate_process",
    "node_memory",
    "placement",
    "placement_unavailable",
]
