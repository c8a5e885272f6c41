"""Memory slots: added, moved, taken away, refused; and what the guest sees of it."""

from __future__ import annotations

import pytest
from conformance.machines import Machine, load
from conformance.programs import HALT, OUTSIDE, RAM, SHOW_OUTSIDE
from vm_accel import IoOut, MmioRead
from vm_core import AccessViolation, InvalidConfig, OutOfRange, ResourceExhausted
from vm_mem import GuestMemory

PAGE = 4096


def test_slots_come_and_go(machine: Machine) -> None:
    with machine.vm(HALT) as vm:
        memory = GuestMemory.anonymous(4 * PAGE, base=OUTSIDE)
        memory.add(GuestMemory.anonymous(PAGE))
        added = vm.map(memory)
        assert [(slot.base, slot.size) for slot in vm.slots] == [(0, PAGE), (OUTSIDE, 4 * PAGE)]
        assert len({slot.id for slot in added}) == 2
        vm.move(OUTSIDE, 8 * PAGE)
        assert [slot.base for slot in vm.slots] == [0, 8 * PAGE]
        vm.set_flags(0, read_only=True, log_dirty=False)
        assert vm.slots[0].read_only
        vm.unmap(0)
        vm.unmap(8 * PAGE)
        assert vm.slots == []
        vm.map(memory)
        assert [slot.base for slot in vm.slots] == [0, OUTSIDE]


def test_what_cannot_be_mapped_changes_nothing(machine: Machine) -> None:
    with machine.vm(HALT) as vm:
        vm.map(GuestMemory.anonymous(4 * PAGE, base=4 * PAGE))
        before = [(slot.id, slot.base, slot.size) for slot in vm.slots]
        for base, size in ((0, 5 * PAGE), (4 * PAGE, PAGE), (7 * PAGE, 2 * PAGE), (0, 16 * PAGE)):
            with pytest.raises(InvalidConfig, match="overlaps"):
                vm.map(GuestMemory.anonymous(size, base=base))
        with pytest.raises(InvalidConfig, match="pages"):
            vm.map(GuestMemory.anonymous(100, base=OUTSIDE))
        mixed = GuestMemory.anonymous(PAGE, base=OUTSIDE)
        mixed.add(GuestMemory.anonymous(PAGE, base=4 * PAGE))
        with pytest.raises(InvalidConfig, match="overlaps"):
            vm.map(mixed)
        for wrong in (0, 5 * PAGE, OUTSIDE):
            with pytest.raises(OutOfRange):
                vm.unmap(wrong)
            with pytest.raises(OutOfRange):
                vm.move(wrong, OUTSIDE)
        assert [(slot.id, slot.base, slot.size) for slot in vm.slots] == before


def test_a_move_keeps_clear_of_other_slots(machine: Machine) -> None:
    with machine.vm(HALT) as vm:
        vm.map(GuestMemory.anonymous(4 * PAGE))
        vm.map(GuestMemory.anonymous(PAGE, base=8 * PAGE))
        with pytest.raises(InvalidConfig, match="overlap"):
            vm.move(0, 5 * PAGE)
        with pytest.raises(InvalidConfig, match="cannot begin"):
            vm.move(0, 100)
        with pytest.raises(InvalidConfig, match="cannot begin"):
            vm.move(0, (1 << 64) - PAGE)
        vm.move(0, 2 * PAGE)  # over its own old place
        assert [slot.base for slot in vm.slots] == [2 * PAGE, 8 * PAGE]


def test_the_number_of_slots_is_limited(machine: Machine) -> None:
    if machine.executes:
        pytest.skip("a real hypervisor has thousands of slots (KVM_CAP_NR_MEMSLOTS); the scripted one was given 8")
    with machine.vm(HALT) as vm:
        for i in range(8):
            vm.map(GuestMemory.anonymous(PAGE, base=2 * i * PAGE))
        with pytest.raises(ResourceExhausted, match="8"):
            vm.map(GuestMemory.anonymous(PAGE, base=OUTSIDE))
        vm.unmap(0)
        vm.map(GuestMemory.anonymous(PAGE, base=OUTSIDE))


def test_memory_is_shared_not_copied(machine: Machine) -> None:
    with machine.vm(HALT) as vm:
        memory = GuestMemory.anonymous(PAGE)
        vm.map(memory, at=OUTSIDE)
        memory.write(0, b"before")
        assert vm.memory.read(OUTSIDE, 6) == b"before"
        vm.memory.write(OUTSIDE, b"after ")
        assert memory.read(0, 6) == b"after "
        memory.close()
        assert vm.memory.read(OUTSIDE, 6) == b"after "


def test_host_memory_that_is_read_only_stays_so(machine: Machine, tmp_path: pytest.TempPathFactory) -> None:
    image = tmp_path / "image"  # type: ignore[operator]
    image.write_bytes(bytes(PAGE))
    with machine.vm(HALT) as vm:
        (slot,) = vm.map(GuestMemory.file(image))
        assert slot.read_only
        with pytest.raises(InvalidConfig, match="read-only"):
            vm.set_flags(0, read_only=False, log_dirty=False)
        with pytest.raises(AccessViolation):
            vm.memory.write(0, b"x")


def test_the_guest_sees_every_change(machine: Machine) -> None:
    with machine.vm(SHOW_OUTSIDE) as vm:
        memory = GuestMemory.anonymous(RAM)
        vm.map(memory)
        vcpu = load(vm, SHOW_OUTSIDE, memory)

        def shown() -> int:
            exit = vcpu.run(timeout=10)
            if isinstance(exit, MmioRead):
                assert exit.paddr == OUTSIDE
                exit.reply(0xEE)
                exit = vcpu.run(timeout=10)
            assert isinstance(exit, IoOut)
            return exit.value

        page = GuestMemory.anonymous(PAGE)
        page.write(0, b"A")
        assert shown() == 0xEE
        vm.map(page, at=OUTSIDE)
        assert shown() == ord("A")
        vm.move(OUTSIDE, OUTSIDE + PAGE)
        assert shown() == 0xEE
        vm.move(OUTSIDE + PAGE, OUTSIDE)
        page.write(0, b"B")
        assert shown() == ord("B")
        vm.unmap(OUTSIDE)
        assert shown() == 0xEE
