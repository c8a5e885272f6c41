"""IOMMU groups and PCI functions, as sysfs shows them (Linux, Documentation/ABI/testing/sysfs-bus-pci)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vm_core import InvalidConfig, NotSupported

__all__ = ["IommuGroup", "PciFunction", "iommu_groups", "pci_functions"]


@dataclass(frozen=True)
class PciFunction:
    """One function of a PCI device."""

    address: str
    """Domain, bus, device, function: "0000:3b:00.1"."""
    vendor: int
    device: int
    class_code: int
    """Class, subclass and programming interface in 24 bits: 0x020000 is an Ethernet controller."""
    driver: str | None
    """The driver that has it; None: nobody."""
    iommu_group: int | None
    """None where no IOMMU translates for it; it cannot be assigned then."""
    physical_function: str | None
    """The address of the physical function that a virtual one belongs to; None for all others."""
    virtual_functions: tuple[str, ...]
    """The addresses of the virtual functions that exist now, by number."""
    total_vfs: int
    """How many virtual functions it can have; 0 without SR-IOV."""
    enabled_vfs: int

    @property
    def is_virtual(self) -> bool:
        """True for a virtual function of an SR-IOV device."""
        return self.physical_function is not None

    @property
    def is_physical(self) -> bool:
        """True for a function that can have virtual ones."""
        return self.total_vfs > 0


@dataclass(frozen=True)
class IommuGroup:
    """Devices that an IOMMU cannot tell apart: a guest gets all of them or none."""

    number: int
    kind: str | None
    """How the kernel uses it: "DMA", "DMA-FQ", "identity", "blocked"; None where it does not say."""
    devices: tuple[str, ...]
    """Names of the devices, those of PCI as in ``PciFunction.address``."""


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def _number(path: Path) -> int:
    text = _text(path)
    if text is None:
        return 0
    try:
        return int(text, 0)
    except ValueError:
        raise InvalidConfig(f"{path} holds {text!r}, expected a number") from None


def _link(path: Path) -> str | None:
    """The last part of what a symbolic link says."""
    try:
        return Path(os.readlink(path)).name
    except FileNotFoundError:
        return None


def _virtual_functions(folder: Path) -> tuple[str, ...]:
    numbered = [
        (int(link.name[len("virtfn") :]), _link(link))
        for link in folder.glob("virtfn*")
        if link.name[len("virtfn") :].isdigit()
    ]
    return tuple(name for _, name in sorted(numbered) if name is not None)


def _function(folder: Path) -> PciFunction:
    group = _link(folder / "iommu_group")
    return PciFunction(
        address=folder.name,
        vendor=_number(folder / "vendor"),
        device=_number(folder / "device"),
        class_code=_number(folder / "class"),
        driver=_link(folder / "driver"),
        iommu_group=int(group) if group is not None and group.isdigit() else None,
        physical_function=_link(folder / "physfn"),
        virtual_functions=_virtual_functions(folder),
        total_vfs=_number(folder / "sriov_totalvfs"),
        enabled_vfs=_number(folder / "sriov_numvfs"),
    )


def pci_functions(root: str | os.PathLike[str] = "/sys") -> tuple[PciFunction, ...]:
    """Every PCI function of this machine, by address; none where there is no PCI.

    ``root`` is where sysfs is mounted. Raises InvalidConfig for a file that is not what the kernel writes, OSError.
    """
    folder = Path(root) / "bus" / "pci" / "devices"
    if not folder.is_dir():
        return ()
    return tuple(_function(entry) for entry in sorted(folder.iterdir()))


def iommu_groups(root: str | os.PathLike[str] = "/sys") -> tuple[IommuGroup, ...]:
    """The IOMMU groups of this machine, by number.

    Empty where no IOMMU is in use (switched off in the firmware or by the kernel's command line, or a guest without
    one). Raises NotSupported where the kernel has no notion of them, OSError.
    """
    folder = Path(root) / "kernel" / "iommu_groups"
    if not folder.is_dir():
        raise NotSupported(f"{folder} is missing: this kernel knows no IOMMU groups (CONFIG_IOMMU_API)")
    return tuple(
        IommuGroup(
            number=int(entry.name),
            kind=_text(entry / "type"),
            devices=tuple(sorted(device.name for device in (entry / "devices").iterdir())),
        )
        for entry in sorted(folder.iterdir(), key=lambda entry: int(entry.name))
    )
