"""Pages given back to the host, from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from vm_core import AccessViolation, ClosedError, InvalidConfig, NotSupported, OutOfRange
from vm_mem import GuestMemory

PAGE = 4096
MIB = 1 << 20


@pytest.mark.parametrize("make", [GuestMemory.anonymous, GuestMemory.memfd])
def test_discarded_pages_are_gone_and_read_as_zeros(make: Callable[..., GuestMemory]) -> None:
    memory = make(MIB, base=MIB, huge_pages=None)
    memory.write(MIB, b"\xa5" * MIB)
    assert memory.resident() == memory.resident(MIB, MIB) == MIB
    view = memory.view(MIB, 2 * PAGE)
    memory.discard(MIB, PAGE)
    assert memory.resident(MIB, 2 * PAGE) == PAGE
    assert memory.read(MIB, 2 * PAGE) == bytes(PAGE) + b"\xa5" * PAGE
    assert (int(view[0]), int(view[PAGE])) == (0, 0xA5)
    memory.discard(MIB, MIB)
    memory.populate(MIB, 3 * PAGE)
    assert memory.resident() == 3 * PAGE


def test_refusals(tmp_path: Path) -> None:
    memory = GuestMemory.anonymous(MIB)
    with pytest.raises(InvalidConfig):
        memory.discard(1, PAGE)
    with pytest.raises(OutOfRange):
        memory.discard(MIB, PAGE)
    with pytest.raises(InvalidConfig, match="together"):
        memory.resident(0)
    with pytest.raises(OutOfRange):
        memory.populate(MIB, PAGE)
    memory.close()
    with pytest.raises(ClosedError):
        memory.discard(0, PAGE)
    image = tmp_path / "image"
    image.write_bytes(b"x" * PAGE)
    with pytest.raises(AccessViolation):
        GuestMemory.file(image).discard(0, PAGE)
    with pytest.raises(NotSupported, match="file"):
        GuestMemory.file(image, writable=True).discard(0, PAGE)
    assert image.read_bytes() == b"x" * PAGE
