#!/usr/bin/env python3
"""Boots Debian's cloud kernel on a PC with two NUMA nodes of memory (QEMU, TCG) with a test program as its init.

    tests/two_node_guest.py build/release/tests/cpp/mem/numa/test_mem_numa_two_nodes

The program runs with the libraries that it has here, prints to the console, and ends with "guest tests ended with N".
Exits with N, or with 77 and the reason when QEMU or the kernel cannot be had. `--cache` keeps the kernel's package.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "data"))

from debian_kernel import archive, entry, fetch_kernel

SKIPPED = 77
TIMEOUT = 240
"""Seconds; an idle machine needs about ten."""

FIRST_NODE = 512
SECOND_NODE = 192
"""MiB: the second is small enough to be filled, with whatever TCG can touch in a second or two."""

MACHINE = [
    *("-machine", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "5"),
    *("-m", f"{FIRST_NODE + SECOND_NODE}M"),
    *("-object", f"memory-backend-ram,id=m0,size={FIRST_NODE}M"),
    *("-object", f"memory-backend-ram,id=m1,size={SECOND_NODE}M"),
    *("-numa", "node,nodeid=0,memdev=m0,cpus=0-1", "-numa", "node,nodeid=1,memdev=m1,cpus=2-3"),
    # A third one has a processor and no memory, and is nearer to the second.
    *("-numa", "node,nodeid=2,cpus=4", "-numa", "dist,src=0,dst=1,val=21"),
    *("-numa", "dist,src=0,dst=2,val=31", "-numa", "dist,src=1,dst=2,val=17"),
    *("-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio", "-monitor", "none"),
]
COMMAND_LINE = "console=ttyS0 quiet panic=-1 nokaslr hugepagesz=2M hugepages=8"


def members(program: Path) -> list[bytes]:
    """The program as /init, and every library that the loader takes for it here at the same path there."""
    listing = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    libraries = sorted({Path(found) for found in re.findall(r"(/\S+) \(0x", listing)})
    folders = sorted({folder for library in libraries for folder in library.parents if folder != Path("/")})
    result = [entry("dev", 0o040755, b"", 1), entry("dev/console", 0o020600, b"", 2, (5, 1))]
    result += [entry(str(folder)[1:], 0o040755, b"", 3 + n) for n, folder in enumerate(folders)]
    files = [(Path("/init"), program), *((library, library) for library in libraries)]
    first = 3 + len(folders)
    return result + [
        entry(str(name)[1:], 0o100755, file.read_bytes(), first + n) for n, (name, file) in enumerate(files)
    ]


def unpacked(package: Path, folder: Path) -> Path:
    """The kernel of a Debian package."""
    subprocess.run(["dpkg-deb", "-x", package, folder / "package"], check=True)
    return next((folder / "package" / "boot").glob("vmlinuz-*"))


def boot(kernel: Path, initramfs: Path) -> int:
    command = ["qemu-system-x86_64", *MACHINE, "-kernel", str(kernel), "-initrd", str(initramfs)]
    command += ["-append", COMMAND_LINE]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as qemu:
        assert qemu.stdout is not None
        result = 1
        alarm = threading.Timer(TIMEOUT, qemu.kill)
        alarm.start()
        try:
            for line in qemu.stdout:
                print(line.replace("\r", ""), end="", flush=True)
                ended = re.search(r"guest tests ended with (\d+)", line)
                result = int(ended.group(1)) if ended else result
            qemu.wait()
        finally:
            alarm.cancel()
            qemu.kill()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--cache", type=Path, help="folder that has or gets the kernel's package")
    parser.add_argument("--reason", type=Path, help="file that gets the reason when the guest cannot be had")
    options = parser.parse_args()

    def skip(reason: str) -> int:
        print(f"skipped: {reason}")
        if options.reason is not None:
            options.reason.write_text(reason)
        return SKIPPED

    missing = [tool for tool in ("qemu-system-x86_64", "apt-get", "dpkg-deb", "ldd") if shutil.which(tool) is None]
    if missing:
        return skip(f"{', '.join(missing)} not installed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = options.cache or folder
        cache.mkdir(parents=True, exist_ok=True)
        package = next(cache.glob("linux-image-*.deb"), None)
        try:
            package = package or fetch_kernel(cache)
        except (subprocess.CalledProcessError, StopIteration) as error:
            return skip(f"no kernel: apt-get download failed ({error})")
        initramfs = folder / "initramfs"
        initramfs.write_bytes(archive(members(options.program)))
        return boot(unpacked(package, folder), initramfs)


if __name__ == "__main__":
    sys.exit(main())
