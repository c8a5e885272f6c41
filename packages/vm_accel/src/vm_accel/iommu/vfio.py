"""VFIO: devices for user space, behind an interface of system calls that tests can replace.

Numbers and layouts are those of Linux, include/uapi/linux/vfio.h and Documentation/virt/kvm/devices/vfio.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, SupportsIndex

from vm_core import ClosedError, InvalidConfig, NotSupported

from .._accel import KernelDeviceKind, Vm

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Assignment", "LinuxKernel", "VfioContainer", "VfioGroup", "VfioKernel", "assign_group"]


def _request(number: int) -> int:
    return ord(";") << 8 | 100 + number  # _IO(VFIO_TYPE, VFIO_BASE + number)


GET_API_VERSION = _request(0)
CHECK_EXTENSION = _request(1)
SET_IOMMU = _request(2)
GROUP_GET_STATUS = _request(3)
GROUP_SET_CONTAINER = _request(4)
GROUP_UNSET_CONTAINER = _request(5)
GROUP_GET_DEVICE_FD = _request(6)
IOMMU_GET_INFO = _request(12)
IOMMU_MAP_DMA = _request(13)
IOMMU_UNMAP_DMA = _request(14)

API_VERSION = 0
TYPE1V2_IOMMU = 3
GROUP_VIABLE = 1
MAP_READ = 1
MAP_WRITE = 2
INFO_PAGE_SIZES = 1
_STATUS = struct.Struct("=II")  # argsz, flags
_INFO = struct.Struct("=IIQII")  # argsz, flags, iova_pgsizes, cap_offset, pad
_MAP = struct.Struct("=IIQQQ")  # argsz, flags, vaddr, iova, size
_UNMAP = struct.Struct("=IIQQ")  # argsz, flags, iova, size
# KVM's VFIO device: the group of attributes about files, and its two commands.
KVM_FILE = 1
KVM_FILE_ADD = 1
KVM_FILE_DEL = 2


class VfioKernel(Protocol):
    """The system calls that VFIO needs. Each raises OSError."""

    def open(self, path: str) -> int:
        """A descriptor for reading and writing."""
        ...

    def close(self, fd: int) -> None:
        """Give it back."""
        ...

    def ioctl(self, fd: int, request: int, argument: int | bytearray) -> int:
        """Its result; a bytearray is what the kernel reads and writes."""
        ...


class LinuxKernel:
    """The real ones."""

    def open(self, path: str) -> int:
        """See VfioKernel."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """See VfioKernel."""
        os.close(fd)

    def ioctl(self, fd: int, request: int, argument: int | bytearray) -> int:
        """See VfioKernel."""
        return int(fcntl.ioctl(fd, request, argument))


class VfioGroup:
    """An IOMMU group that this process has; made by ``VfioContainer.add_group``."""

    def __init__(self, kernel: VfioKernel, number: int, fd: int) -> None:
        self._kernel = kernel
        self.number = number
        """The group's number."""
        self._fd: int | None = fd

    def fileno(self) -> int:
        """The descriptor. Raises ClosedError."""
        if self._fd is None:
            raise ClosedError(f"IOMMU group {self.number} is given back")
        return self._fd

    def open_device(self, name: str) -> int:
        """A descriptor of one of its devices ("0000:3b:00.1"), which the caller closes before the group.

        Raises OSError; ENODEV says that the group has no such device.
        """
        return self._kernel.ioctl(self.fileno(), GROUP_GET_DEVICE_FD, bytearray(name.encode() + b"\0"))

    def close(self) -> None:
        """Give the group back. Twice is fine."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            self._kernel.close(fd)


class VfioContainer:
    """IOMMU groups that share one table of mappings (type 1); the backend of a ``DmaMap``.

    Raises NotSupported, saying what to do, where VFIO cannot be used here.
    """

    def __init__(self, kernel: VfioKernel | None = None, *, folder: str = "/dev/vfio") -> None:
        self._kernel: VfioKernel = LinuxKernel() if kernel is None else kernel
        self._folder = folder
        self._groups: list[VfioGroup] = []
        self._has_iommu = False
        self._page_size = 4096
        path = f"{folder}/vfio"
        try:
            self._fd: int | None = self._kernel.open(path)
        except FileNotFoundError:
            raise NotSupported(f"{path} is missing: load the module vfio-pci (modprobe vfio-pci)") from None
        except PermissionError:
            raise NotSupported(f"{path} may not be opened: give this user read and write access to it") from None
        try:
            version = self._kernel.ioctl(self._fd, GET_API_VERSION, 0)
            if version != API_VERSION:
                raise NotSupported(f"{path} speaks version {version} of VFIO; known is {API_VERSION}")
            if self._kernel.ioctl(self._fd, CHECK_EXTENSION, TYPE1V2_IOMMU) <= 0:
                raise NotSupported(f"{path}: this machine's IOMMU is not of VFIO's type 1 (module vfio_iommu_type1)")
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor. Raises ClosedError."""
        if self._fd is None:
            raise ClosedError("this VFIO container is closed")
        return self._fd

    @property
    def groups(self) -> tuple[VfioGroup, ...]:
        """Those that were added."""
        return tuple(self._groups)

    @property
    def dma_page_size(self) -> int:
        """The smallest page of the IOMMU in bytes; 4096 before there is a group."""
        return self._page_size

    def add_group(self, number: int) -> VfioGroup:
        """Take the IOMMU group ``number``; the first one gives the container its IOMMU.

        Raises NotSupported when the group is not VFIO's or not all of its devices are, InvalidConfig when somebody has
        it, OSError; then the group is not taken.
        """
        container = self.fileno()
        path = f"{self._folder}/{number}"
        try:
            fd = self._kernel.open(path)
        except FileNotFoundError:
            raise NotSupported(f"{path} is missing: bind a device of IOMMU group {number} to vfio-pci") from None
        except PermissionError:
            raise NotSupported(f"{path} may not be opened: give this user read and write access to it") from None
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise InvalidConfig(f"IOMMU group {number} is in use by another process or container") from None
        group = VfioGroup(self._kernel, number, fd)
        try:
            status = bytearray(_STATUS.pack(_STATUS.size, 0))
            self._kernel.ioctl(fd, GROUP_GET_STATUS, status)
            if not _STATUS.unpack(status)[1] & GROUP_VIABLE:
                raise NotSupported(
                    f"IOMMU group {number} cannot be given away: bind all of its devices to vfio-pci or to no driver"
                )
            self._kernel.ioctl(fd, GROUP_SET_CONTAINER, bytearray(struct.pack("=i", container)))
            if not self._has_iommu:
                self._kernel.ioctl(container, SET_IOMMU, TYPE1V2_IOMMU)
                self._page_size = self._smallest_page()
                self._has_iommu = True
        except BaseException:
            group.close()  # which takes it out of the container, too
            raise
        self._groups.append(group)
        return group

    def _smallest_page(self) -> int:
        info = bytearray(_INFO.pack(_INFO.size, 0, 0, 0, 0))
        self._kernel.ioctl(self.fileno(), IOMMU_GET_INFO, info)
        _, flags, sizes, _, _ = _INFO.unpack(info)
        return int(sizes & -sizes) if flags & INFO_PAGE_SIZES and sizes else 4096

    def map_dma(self, iova: int, host: int, size: int, read: bool, write: bool) -> None:
        """See DmaBackend. Raises InvalidConfig before there is a group, OSError."""
        if not self._has_iommu:
            raise InvalidConfig("a container without a group has no IOMMU; call add_group first")
        flags = (MAP_READ if read else 0) | (MAP_WRITE if write else 0)
        self._kernel.ioctl(self.fileno(), IOMMU_MAP_DMA, bytearray(_MAP.pack(_MAP.size, flags, host, iova, size)))

    def unmap_dma(self, iova: int, size: int) -> None:
        """See DmaBackend. Raises OSError, also when the kernel took away less than it should."""
        request = bytearray(_UNMAP.pack(_UNMAP.size, 0, iova, size))
        self._kernel.ioctl(self.fileno(), IOMMU_UNMAP_DMA, request)
        done = _UNMAP.unpack(request)[3]
        if done != size:
            raise OSError(errno.EIO, f"the kernel unmapped {done:#x} of {size:#x} bytes at {iova:#x}")

    def close(self) -> None:
        """Give the groups and all mappings back. Twice is fine."""
        while self._groups:
            self._groups.pop().close()
        if self._fd is not None:
            fd, self._fd = self._fd, None
            self._kernel.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


class VfioDevice(Protocol):
    """What an assignment needs of a ``KernelDevice``."""

    def set(self, group: SupportsIndex, attribute: SupportsIndex, value: bytes) -> None:
        """See KernelDevice."""
        ...


class Assignment:
    """A group that a VM knows of; made by ``assign_group``."""

    def __init__(self, device: VfioDevice, group: VfioGroup) -> None:
        self._device = device
        self._group: VfioGroup | None = group

    def close(self) -> None:
        """Take the group from the VM, before the group is closed. Twice is fine."""
        if self._group is not None:
            group, self._group = self._group, None
            self._device.set(KVM_FILE, KVM_FILE_DEL, struct.pack("=i", group.fileno()))


def assign_group(vm: Vm, group: VfioGroup) -> Assignment:
    """Tell the hypervisor that ``vm`` uses the devices of ``group``, so that it treats their DMA as coherent or not.

    The guest sees nothing of a device by that: registers, interrupts and configuration space are the caller's to pass
    on, with ``VfioGroup.open_device`` and ``DmaMap``. Raises NotSupported where the hypervisor has no VFIO device,
    PlatformError.
    """
    device = vm.create_device(KernelDeviceKind.VFIO)
    device.set(KVM_FILE, KVM_FILE_ADD, struct.pack("=i", group.fileno()))
    return Assignment(device, group)
