"""Programs into guest memory, and processors into the state in which they begin.

``load`` does what a boot loader does: it recognizes multiboot, Linux (bzImage), PVH and ELF images and takes the rest
as flat bytes, places them with their command line and modules, and makes a processor begin there. ``enter_long_mode``
is for code without a format. What an image claims is checked before anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeAlias

from vm_core import InvalidConfig

from ._accel import (
    LoadedImage,
    Vcpu,
    Vm,
    enter_image,
    enter_long_mode,
    load_image,
    memory_map,
    pc_memory,
    set_protected_mode,
    set_real_mode,
    write_gate,
    write_gdt,
)

__all__ = [
    "LoadedImage",
    "enter_image",
    "enter_long_mode",
    "load",
    "load_image",
    "memory_map",
    "pc_memory",
    "set_protected_mode",
    "set_real_mode",
    "write_gate",
    "write_gdt",
]

ImageSource: TypeAlias = bytes | str | os.PathLike[str]
"""A program: its bytes, or the path of its file."""


def load(
    vm: Vm,
    image: ImageSource,
    *,
    vcpu: Vcpu | None = None,
    kind: str = "automatic",
    command_line: str = "",
    modules: Sequence[ImageSource] = (),
    flat_address: int = 0x7C00,
) -> LoadedImage:
    """Load ``image`` into the memory of ``vm`` and make ``vcpu`` (default: the first) begin there.

    Call it on the vCPU's thread. Raises what ``load_image`` raises, and InvalidConfig when the VM has no vCPU.
    """
    vcpus = vm.vcpus
    if vcpu is None and not vcpus:
        raise InvalidConfig("this VM has no vCPU that could begin; create_vcpu() makes one")
    memory = vm.memory
    loaded = load_image(memory, image, kind=kind, command_line=command_line, modules=modules, flat_address=flat_address)
    enter_image(memory, vcpu or vcpus[0], loaded)
    return loaded
