"""Loaders and processor states through Python."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from accel.guests import kvm_vm
from vm_accel import Hlt, IoOut, boot
from vm_accel.x86 import X86SpecialRegs
from vm_core import InvalidConfig, PlatformError
from vm_mem import GuestMemory

MAGIC = 0x1BADB002


def multiboot_image(code: bytes, at: int = 0x100000) -> bytes:
    """A multiboot image that says itself where it goes, ``code`` first executed."""
    flags = 1 << 16
    header = struct.pack("<8I", MAGIC, flags, -(MAGIC + flags) & 0xFFFFFFFF, at, at, 0, 0, at + 32)
    return header + code


def test_a_multiboot_image_gets_its_arguments(tmp_path: Path) -> None:
    memory = boot.pc_memory(2 << 20)
    path = tmp_path / "guest.flat"
    path.write_bytes(multiboot_image(b"\xf4"))
    loaded = boot.load_image(memory, path, command_line="one two", modules=[b"a module"])
    assert (loaded.kind, loaded.mode, loaded.first) == ("multiboot", "protected32", 0x100000)
    assert loaded.regs.rip == 0x100020
    info = loaded.regs.rbx
    arguments = int.from_bytes(memory.read(info + 16, 4), "little")
    assert memory.read(arguments, 200).split(b"\0")[0].decode() == f"{path} one two"
    modules = int.from_bytes(memory.read(info + 24, 4), "little")
    assert memory.read(int.from_bytes(memory.read(modules, 4), "little"), 8) == b"a module"
    assert "multiboot" in repr(loaded)


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    memory = boot.pc_memory(1 << 20)
    with pytest.raises(InvalidConfig, match="do not lie in one writable region"):
        boot.load_image(memory, multiboot_image(b"\xf4", at=0x200000))
    with pytest.raises(InvalidConfig, match="multiboot, bzimage"):
        boot.load_image(memory, b"x", kind="iso")
    with pytest.raises(PlatformError):
        boot.load_image(memory, tmp_path / "absent")
    with pytest.raises(InvalidConfig, match="1 MiB"):
        boot.pc_memory(4096)


def test_the_memory_map_has_the_hole_of_a_pc() -> None:
    assert boot.memory_map(boot.pc_memory(2 << 20)) == [
        (0, 0x9FC00, 1),
        (0x9FC00, 0x60400, 2),
        (0x100000, 0x100000, 1),
    ]


def test_states_are_values() -> None:
    sregs = X86SpecialRegs()
    boot.set_protected_mode(sregs)
    assert sregs.cr0 & 1 and sregs.cs.selector == 8 and sregs.gdt.base == 0x500
    boot.set_real_mode(sregs)
    assert not sregs.cr0 & 1 and sregs.cs.limit == 0xFFFF
    memory = GuestMemory.anonymous(1 << 16)
    boot.write_gdt(memory, 0x1000, 0x2000)
    assert memory.read(0x1010, 8).hex() == "ffff0000009baf00"
    boot.write_gate(memory, 0x3000, 14, 0x12345678, privilege=3)
    assert memory.read(0x30E0, 8).hex() == "7856100000ee3412"


def test_load_begins_on_a_vcpu() -> None:
    with kvm_vm() as vm:
        vm.map(boot.pc_memory(2 << 20))
        with pytest.raises(InvalidConfig, match="create_vcpu"):
            boot.load(vm, b"\xf4")
        vcpu = vm.create_vcpu()
        # mov al, bl; out 0x80, al; hlt: ebx points at the information
        loaded = boot.load(vm, multiboot_image(bytes([0x88, 0xD8, 0xE6, 0x80, 0xF4])))
        assert vcpu.run(timeout=10) == IoOut(0x80, bytes([loaded.regs.rbx & 0xFF]))
        assert vcpu.run(timeout=10) == Hlt()


def test_user_code_runs_at_full_speed() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(1 << 20)
        # mov ecx, 10^6; dec ecx; jnz; out 0x80, al
        memory.write(0x10000, bytes([0xB9, 0x40, 0x42, 0x0F, 0x00, 0xFF, 0xC9, 0x75, 0xFC, 0xE6, 0x80]))
        vm.map(memory)
        vcpu = vm.create_vcpu()
        boot.enter_long_mode(memory, vcpu, 0x10000, 0x20000, privilege=3)
        assert isinstance(vcpu.run(timeout=10), IoOut)
        assert vcpu.regs.rcx == 0
        assert vcpu.sregs.cs.dpl == 3
        with pytest.raises(InvalidConfig, match="privilege 0 or 3"):
            boot.enter_long_mode(memory, vcpu, 0, 0, privilege=1)
