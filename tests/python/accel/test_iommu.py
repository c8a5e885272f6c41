"""vm_accel.iommu on a made-up sysfs and made-up system calls; no hardware is touched."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import SupportsIndex

import pytest
from accel.guests import kvm_vm
from vm_accel import iommu
from vm_accel.iommu import DmaMap, VfioContainer, assign_group, iommu_groups, pci_functions, vfio
from vm_core import ClosedError, InvalidConfig, NotSupported, OutOfRange, VmError
from vm_mem import GuestMemory

PAGE = 4096


def make_function(root: Path, address: str, group: int | None, **files: str) -> Path:
    folder = root / "bus" / "pci" / "devices" / address
    folder.mkdir(parents=True)
    values = {"vendor": "0x8086", "device": "0x1572", "class": "0x020000", **files}
    for name, text in values.items():
        (folder / name).write_text(text + "\n")
    if group is not None:
        devices = root / "kernel" / "iommu_groups" / str(group) / "devices"
        devices.mkdir(parents=True, exist_ok=True)
        (devices / address).symlink_to(folder)
        (folder / "iommu_group").symlink_to(devices.parent)
    return folder


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    physical = make_function(tmp_path, "0000:3b:00.0", 10, sriov_totalvfs="64", sriov_numvfs="2")
    make_function(tmp_path, "0000:00:1f.0", None, **{"class": "0x060100"})
    driver = tmp_path / "bus" / "pci" / "drivers" / "vfio-pci"
    driver.mkdir(parents=True)
    for number in (10, 2):  # as text, "10" comes before "2"
        virtual = make_function(tmp_path, f"0000:3b:{number:02x}.0", 20 + number, device="0x154c")
        (virtual / "physfn").symlink_to(physical)
        (virtual / "driver").symlink_to(driver)
        (physical / f"virtfn{number}").symlink_to(virtual)
    (tmp_path / "kernel" / "iommu_groups" / "22" / "type").write_text("DMA-FQ\n")
    return tmp_path


def test_functions_are_read_from_sysfs(sysfs: Path) -> None:
    functions = {function.address: function for function in pci_functions(sysfs)}
    assert list(functions) == ["0000:00:1f.0", "0000:3b:00.0", "0000:3b:02.0", "0000:3b:0a.0"]
    physical = functions["0000:3b:00.0"]
    assert (physical.vendor, physical.device, physical.class_code) == (0x8086, 0x1572, 0x020000)
    assert (physical.total_vfs, physical.enabled_vfs, physical.driver) == (64, 2, None)
    assert physical.virtual_functions == ("0000:3b:02.0", "0000:3b:0a.0")
    assert (physical.is_physical, physical.is_virtual) == (True, False)
    virtual = functions["0000:3b:0a.0"]
    assert (virtual.physical_function, virtual.driver, virtual.iommu_group) == ("0000:3b:00.0", "vfio-pci", 30)
    assert (virtual.is_physical, virtual.is_virtual) == (False, True)
    assert functions["0000:00:1f.0"].iommu_group is None


def test_groups_are_read_from_sysfs(sysfs: Path, tmp_path: Path) -> None:
    groups = iommu_groups(sysfs)
    assert [group.number for group in groups] == [10, 22, 30]
    assert (groups[1].kind, groups[1].devices) == ("DMA-FQ", ("0000:3b:02.0",))
    assert groups[0].kind is None
    with pytest.raises(NotSupported, match="IOMMU"):
        iommu_groups(tmp_path / "nowhere")
    assert pci_functions(tmp_path / "nowhere") == ()


def test_a_damaged_sysfs_is_named(tmp_path: Path) -> None:
    make_function(tmp_path, "0000:00:00.0", None, vendor="lots")
    with pytest.raises(InvalidConfig, match="vendor"):
        pci_functions(tmp_path)


def test_this_machine_can_be_asked() -> None:
    for function in pci_functions():
        assert 0 < function.vendor <= 0xFFFF


class FakeKernel:
    """Plays /dev/vfio: a container, and the groups that ``viable`` names."""

    def __init__(self, viable: dict[int, bool]) -> None:
        self.viable = viable
        self.open_files: dict[int, str] = {}
        self.table: dict[int, tuple[int, int, int]] = {}  # iova -> size, host, flags
        self.in_container: set[int] = set()
        self.refuse_open: dict[str, int] = {}
        self.type1 = 1
        self.version = 0
        self.iommu_set = False
        self.short_unmap = False

    def open(self, path: str) -> int:
        if path in self.refuse_open:
            raise OSError(self.refuse_open[path], path)
        name = path.removeprefix("/dev/vfio/")
        if name != "vfio" and int(name) not in self.viable:
            raise FileNotFoundError(errno.ENOENT, path)
        fd = 100 + len(self.open_files)
        self.open_files[fd] = name
        return fd

    def close(self, fd: int) -> None:
        name = self.open_files.pop(fd)
        if name == "vfio":
            self.table.clear()
        else:
            self.in_container.discard(int(name))

    def ioctl(self, fd: int, request: int, argument: int | bytearray) -> int:
        name = self.open_files[fd]
        if isinstance(argument, int):
            assert name == "vfio"
            if request == vfio.GET_API_VERSION:
                return self.version
            if request == vfio.CHECK_EXTENSION:
                return self.type1 if argument == vfio.TYPE1V2_IOMMU else 0
            assert request == vfio.SET_IOMMU
            assert self.in_container, "the kernel wants a group first"
            self.iommu_set = True
            return 0
        if request == vfio.GROUP_GET_STATUS:
            struct.pack_into("=II", argument, 0, 8, vfio.GROUP_VIABLE if self.viable[int(name)] else 0)
        elif request == vfio.GROUP_SET_CONTAINER:
            assert self.open_files[struct.unpack("=i", argument)[0]] == "vfio"
            self.in_container.add(int(name))
        elif request == vfio.GROUP_GET_DEVICE_FD:
            assert argument.endswith(b"\0")
            return 55
        elif request == vfio.IOMMU_GET_INFO:
            assert self.iommu_set
            struct.pack_into("=IIQII", argument, 0, 24, vfio.INFO_PAGE_SIZES, 0x40201000, 0, 0)
        elif request == vfio.IOMMU_MAP_DMA:
            size_of, flags, host, iova, size = struct.unpack("=IIQQQ", argument)
            assert size_of == len(argument) == 32
            if len(self.table) == 3:
                raise OSError(errno.ENOSPC, "too many mappings")
            self.table[iova] = (size, host, flags)
        elif request == vfio.IOMMU_UNMAP_DMA:
            size_of, _, iova, size = struct.unpack("=IIQQ", argument)
            assert size_of == len(argument) == 24
            assert self.table.pop(iova)[0] == size
            if self.short_unmap:
                struct.pack_into("=IIQQ", argument, 0, 24, 0, iova, 0)
        else:
            pytest.fail(f"unexpected request {request:#x}")
        return 0


def test_request_numbers_are_those_of_the_kernel() -> None:
    # What the C macros of include/uapi/linux/vfio.h give.
    assert (vfio.GET_API_VERSION, vfio.GROUP_GET_DEVICE_FD) == (0x3B64, 0x3B6A)
    assert (vfio.IOMMU_GET_INFO, vfio.IOMMU_MAP_DMA, vfio.IOMMU_UNMAP_DMA) == (0x3B70, 0x3B71, 0x3B72)


def test_a_container_maps_guest_memory_for_devices() -> None:
    kernel = FakeKernel({22: True})
    memory = GuestMemory.memfd(16 * PAGE, base=0x100000)
    host = int(memory.view(0x100000, 1).ctypes.data)
    with VfioContainer(kernel) as container:
        with pytest.raises(InvalidConfig, match="add_group"):
            DmaMap(container).dma_map(0, memory, 0x100000, PAGE)
        group = container.add_group(22)
        assert (container.groups, container.dma_page_size) == ((group,), PAGE)
        assert group.open_device("0000:3b:02.0") == 55
        table = DmaMap(container)
        table.dma_map(0x8000, memory, 0x102000, 4 * PAGE)
        table.dma_map(0, memory, 0x100000, PAGE, write=False)
        assert kernel.table == {0x8000: (4 * PAGE, host + 0x2000, 3), 0: (PAGE, host, 1)}
        assert [mapping.iova for mapping in table.mappings] == [0, 0x8000]
        assert table.translate(0x9010) == 0x103010
        assert table.translate(0x7FFF) is None
        assert table.translate(0xC000) is None
        memory.close()  # devices go on reaching it
        table.dma_unmap(0x8000)
        assert list(kernel.table) == [0]
        table.clear()
        assert kernel.table == {}
    assert kernel.open_files == {}
    with pytest.raises(ClosedError):
        group.fileno()
    with pytest.raises(ClosedError):
        container.fileno()


def test_mappings_that_cannot_be_are_refused_before_the_kernel_is_asked(tmp_path: Path) -> None:
    kernel = FakeKernel({22: True})
    memory = GuestMemory.anonymous(16 * PAGE)
    with VfioContainer(kernel) as container:
        container.add_group(22)
        table = DmaMap(container)
        table.dma_map(4 * PAGE, memory, 0, 2 * PAGE)
        for iova, paddr, size in ((5 * PAGE, 0, PAGE), (3 * PAGE, 0, 2 * PAGE), (0, 0, 16 * PAGE), (4 * PAGE, 0, PAGE)):
            with pytest.raises(InvalidConfig, match="overlaps"):
                table.dma_map(iova, memory, paddr, size)
        for iova, paddr, size in ((1, 0, PAGE), (0, 1, PAGE), (0, 0, 100)):
            with pytest.raises(InvalidConfig, match="whole pages"):
                table.dma_map(iova, memory, paddr, size)
        for iova, paddr, size in ((0, 0, 0), (-PAGE, 0, PAGE), ((1 << 64) - PAGE, 0, 2 * PAGE), (0, 1 << 40, PAGE)):
            with pytest.raises(OutOfRange):
                table.dma_map(iova, memory, paddr, size)
        with pytest.raises(InvalidConfig, match="neither"):
            table.dma_map(0, memory, 0, PAGE, read=False, write=False)
        image = tmp_path / "image"
        image.write_bytes(bytes(PAGE))
        rom = GuestMemory.file(image)
        with pytest.raises(NotSupported, match="read-only"):
            table.dma_map(0, rom, 0, PAGE)
        table.dma_map(0, rom, 0, PAGE, write=False)
        with pytest.raises(OutOfRange):
            table.dma_unmap(PAGE)
        table.dma_map((1 << 64) - PAGE, memory, 0, PAGE)
        with pytest.raises(OSError, match="too many"):
            table.dma_map(16 * PAGE, memory, 0, PAGE)
        assert len(table.mappings) == 3
        kernel.short_unmap = True
        with pytest.raises(OSError, match="unmapped 0x0 of"):
            container.unmap_dma(0, PAGE)


def test_groups_that_cannot_be_had_are_told_apart() -> None:
    kernel = FakeKernel({7: False, 8: True, 9: True})
    with VfioContainer(kernel) as container:
        with pytest.raises(NotSupported, match="bind all"):
            container.add_group(7)
        with pytest.raises(NotSupported, match="vfio-pci"):
            container.add_group(99)
        kernel.refuse_open["/dev/vfio/8"] = errno.EBUSY
        with pytest.raises(InvalidConfig, match="in use"):
            container.add_group(8)
        kernel.refuse_open["/dev/vfio/8"] = errno.EACCES
        with pytest.raises(NotSupported, match="may not be opened"):
            container.add_group(8)
        assert container.groups == ()
        assert list(kernel.open_files.values()) == ["vfio"]
        container.add_group(9)


@pytest.mark.parametrize(("refusal", "message"), [(errno.ENOENT, "modprobe"), (errno.EACCES, "may not be opened")])
def test_a_machine_without_vfio_says_so(refusal: int, message: str) -> None:
    kernel = FakeKernel({})
    kernel.refuse_open["/dev/vfio/vfio"] = refusal
    with pytest.raises(NotSupported, match=message):
        VfioContainer(kernel)


def test_another_vfio_is_refused_and_closed() -> None:
    for name, value in (("version", 1), ("type1", 0)):
        kernel = FakeKernel({})
        setattr(kernel, name, value)
        with pytest.raises(NotSupported):
            VfioContainer(kernel)
        assert kernel.open_files == {}


def test_a_group_is_assigned_where_the_hypervisor_can() -> None:
    kernel = FakeKernel({22: True})
    with VfioContainer(kernel) as container, kvm_vm() as vm:
        group = container.add_group(22)
        # The descriptor is made up, so a hypervisor with a VFIO device refuses it; one without says so.
        with pytest.raises((VmError, OSError)):
            assign_group(vm, group)


class RecordingDevice:
    """A VFIO device of a hypervisor."""

    def __init__(self) -> None:
        self.sets: list[tuple[int, int, bytes]] = []

    def set(self, group: SupportsIndex, attribute: SupportsIndex, value: bytes) -> None:
        self.sets.append((int(group), int(attribute), value))


def test_an_assignment_is_taken_back_once() -> None:
    kernel = FakeKernel({22: True})
    with VfioContainer(kernel) as container:
        group = container.add_group(22)
        device = RecordingDevice()
        assignment = iommu.Assignment(device, group)
        assignment.close()
        assignment.close()
        assert device.sets == [(vfio.KVM_FILE, vfio.KVM_FILE_DEL, struct.pack("=i", group.fileno()))]
