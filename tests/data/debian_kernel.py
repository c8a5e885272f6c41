"""Debian's kernel for guests, and archives for it to start from."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

PACKAGE = "linux-image-cloud-amd64"


def fetch_kernel(folder: Path) -> Path:
    """Downloads the package that the meta package depends on; raises SystemExit when apt does not know one."""
    depends = subprocess.run(["apt-cache", "depends", PACKAGE], check=True, capture_output=True, text=True).stdout
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        raise SystemExit(f"{PACKAGE} is not known to apt; give the kernel's package with --kernel")
    subprocess.run(["apt-get", "download", "-q", found.group(1)], check=True, cwd=folder)
    return next(folder.glob("linux-image-*.deb"))


def entry(name: str, mode: int, data: bytes, inode: int, device: tuple[int, int] = (0, 0)) -> bytes:
    """One member of a cpio archive in the "newc" format."""
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)


def archive(members: list[bytes]) -> bytes:
    """An initramfs of these entries."""
    return b"".join(members) + entry("TRAILER!!!", 0, b"", 0)
