"""Where this machine's CPUs, caches and memory are.

>>> topology = Topology.from_hwloc_xml('''
... <topology version="2.0">
...   <object type="Machine" cpuset="0x3">
...     <object type="NUMANode" os_index="0" cpuset="0x3" local_memory="4096"/>
...     <object type="PU" os_index="0" cpuset="0x1"/>
...     <object type="PU" os_index="1" cpuset="0x2"/>
...   </object>
... </topology>''')
>>> topology.nodes
[<NumaNode 0, 4096 bytes, CPUs 0-1>]
"""

from ._core import Cache, Core, NumaNode, Package, Topology, cpu_list

__all__ = ["Cache", "Core", "NumaNode", "Package", "Topology", "cpu_list"]
