"""Devices for guests: IOMMU groups and virtual functions by sysfs, VFIO, and a table of what devices may reach.

For Linux. The layers over sysfs and VFIO are tested against a made-up tree and made-up system calls; none of it has
been tried on a machine with an IOMMU.
"""

from .dma import DmaBackend, DmaMap, DmaMapping
from .groups import IommuGroup, PciFunction, iommu_groups, pci_functions
from .vfio import Assignment, LinuxKernel, VfioContainer, VfioGroup, VfioKernel, assign_group

__all__ = [
    "Assignment",
    "DmaBackend",
    "DmaMap",
    "DmaMapping",
    "IommuGroup",
    "LinuxKernel",
    "PciFunction",
    "VfioContainer",
    "VfioGroup",
    "VfioKernel",
    "assign_group",
    "iommu_groups",
    "pci_functions",
]
