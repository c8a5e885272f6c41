"""Opening the image that a command works on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Literal

from vm_core import InvalidConfig
from vm_core.command import CliError

from .. import GuestMemory
from .options import FormatName

_XZ_MAGIC = b"\xfd7zXZ\0"
_BLOCK = 1 << 20


def _unpack(source: Path, target: IO[bytes]) -> None:
    """Write what an .xz file holds; blocks of zeros become holes."""
    try:
        import lzma
    except ImportError:
        raise CliError(f"{source} is packed and this Python has no lzma module; unpack it with unxz first") from None
    zeros = bytes(_BLOCK)
    try:
        with lzma.open(source) as packed:
            while block := packed.read(_BLOCK):
                if block == zeros[: len(block)]:
                    target.seek(len(block), 1)
                else:
                    target.write(block)
    except (lzma.LZMAError, EOFError) as error:
        raise InvalidConfig(f"{source}: damaged xz file: {error}") from None
    target.truncate()
    target.flush()


def open_image(path: Path, image_format: FormatName | None = None) -> GuestMemory:
    """Open a dump; one packed with xz is unpacked into a temporary file that is gone when the memory is closed."""
    try:
        with path.open("rb") as file:
            packed = file.read(len(_XZ_MAGIC)) == _XZ_MAGIC
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
    name: Literal["raw", "lime", "elf"] | None = image_format.value if image_format else None
    if not packed or name == "raw":
        return GuestMemory.open(path, name)
    with tempfile.NamedTemporaryFile(prefix="vm-mem-", suffix=path.with_suffix("").suffix) as target:
        _unpack(path, target.file)
        return GuestMemory.open(target.name, name)  # its mapping outlives the name
