#!/usr/bin/env python3
"""Boots Debian's cloud kernel under QEMU (TCG), dumps it, and keeps its page tables and QEMU's answers about them.

Writes linux_guest.elf.xz and linux_guest.npz; README.md beside this script says what is in them. Needs qemu-system-x86,
a C compiler, dpkg-deb, and apt for the kernel unless --kernel names its package. About a minute, and --memory on disk.

    tests/data/make_linux_guest.py --output /tmp/guest --keep-dump
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import mmap
import re
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "python")]

from debian_kernel import archive, entry, fetch_kernel  # noqa: E402 - the path comes first
from mem.oracles.harness.qemu import Qemu  # noqa: E402

MODULES = ("net/sunrpc/sunrpc.ko", "net/core/pktgen.ko", "net/netfilter/x_tables.ko")
"""Under lib/modules/VERSION/kernel; they need no others. The init knows at most four."""
COMMAND_LINE = "console=ttyS0 nokaslr pti=off hugepagesz=1G hugepages=1 quiet"
READY = b"guest ready"
BOOT_TIMEOUT = 300
"""Seconds; an idle machine needs about five."""

PAGE = 4096
ADDRESS = 0x000F_FFFF_FFFF_F000
ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
PT_LOAD, PT_NOTE = 1, 4
UNMAPPED = (1 << 64) - 1

REGIONS = (
    ("user", 0, 1 << 47),
    ("direct map", 0xFFFF_8880_0000_0000, 0xFFFF_C880_0000_0000),
    ("vmalloc", 0xFFFF_C900_0000_0000, 0xFFFF_E900_0000_0000),
    ("vmemmap", 0xFFFF_EA00_0000_0000, 0xFFFF_EB00_0000_0000),
    ("CPU entry area", 0xFFFF_FE00_0000_0000, 0xFFFF_FE80_0000_0000),
    ("espfix", 0xFFFF_FF00_0000_0000, 0xFFFF_FF80_0000_0000),
    ("kernel image", 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_C000_0000),
    ("modules", 0xFFFF_FFFF_C000_0000, 0xFFFF_FFFF_FF00_0000),
    ("fixmap", 0xFFFF_FFFF_FF00_0000, 0xFFFF_FFFF_FFFF_FFFF),
)
"""Where Linux puts what without KASLR (Documentation/x86/x86_64/mm.rst). Everything else is "elsewhere"."""


class Leaf(NamedTuple):
    """One line of `info tlb`."""

    vaddr: int
    paddr: int
    flags: str


class Range(NamedTuple):
    """One line of `info mem`: addresses with equal rights, combined over all levels."""

    start: int
    stop: int
    rights: str


class Segment(NamedTuple):
    """One program header of an ELF core."""

    kind: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    file_size: int
    memory_size: int
    align: int


class Guest(NamedTuple):
    """What QEMU says about the booted machine."""

    version: str
    registers: dict[str, int]
    leaves: list[Leaf]
    ranges: list[Range]
    vaddrs: list[int]
    paddrs: list[int | None]


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Runs a tool; raises CalledProcessError when it fails."""
    subprocess.run([str(part) for part in command], check=True, cwd=cwd)


def make_initramfs(modules: Path, folder: Path) -> Path:
    """An init that makes memory of every kind, and the modules that it loads."""
    init = folder / "init"
    compiler = ["cc", "-static", "-nostdlib", "-nostartfiles", "-ffreestanding", "-fno-stack-protector", "-O1"]
    run(*compiler, "-o", init, HERE / "linux_guest_init.c")
    members = [
        entry("dev", 0o040755, b"", 1),
        entry("dev/console", 0o020600, b"", 2, (5, 1)),
        entry("init", 0o100755, init.read_bytes(), 3),
    ]
    for index, name in enumerate(MODULES):
        members.append(entry(f"m{index}.ko", 0o100644, (modules / name).read_bytes(), 4 + index))
    initramfs = folder / "initramfs"
    initramfs.write_bytes(archive(members))
    return initramfs


def wait_for(server: socket.socket, text: bytes) -> None:
    """Reads the guest's console until `text` appears."""
    with server, server.accept()[0] as console:
        console.settimeout(BOOT_TIMEOUT)
        seen = b""
        while text not in seen:
            data = console.recv(4096)
            if not data:
                raise SystemExit(f"the guest stopped: {seen.decode(errors='replace')}")
            seen += data
        print(seen.decode(errors="replace"))


def region_of(vaddr: int) -> int:
    """Index into REGIONS; one past them for "elsewhere"."""
    for index, (_, start, stop) in enumerate(REGIONS):
        if start <= vaddr < stop:
            return index
    return len(REGIONS)


def sample(leaves: Sequence[Leaf], ranges: Sequence[Range], count: int) -> list[int]:
    """Addresses in every region: mapped ones, neighbours of mapped ranges, holes, and non-canonical ones."""
    random = np.random.default_rng(2)
    by_region: dict[int, list[int]] = {}
    for leaf in leaves:
        by_region.setdefault(region_of(leaf.vaddr), []).append(leaf.vaddr)
    chosen: list[int] = []
    mapped = count * 7 // 10
    for vaddrs in by_region.values():
        starts = random.choice(np.array(vaddrs, np.uint64), mapped // len(by_region))
        # A leaf may be larger than 4 KiB: every third address goes further into it, or beyond.
        reach = np.where(random.random(len(starts)) < 1 / 3, 1 << random.integers(12, 31, len(starts)), PAGE)
        chosen += (starts + (random.random(len(starts)) * reach).astype(np.uint64)).tolist()
    edges = np.array(
        [edge for span in ranges for edge in (span.start - 1, span.stop) if 0 <= edge < 1 << 64], np.uint64
    )
    chosen += random.choice(edges, count // 10).tolist()
    holes = [random.integers(start, stop, count // 10 // len(REGIONS), np.uint64) for _, start, stop in REGIONS]
    chosen += np.concatenate(holes).tolist()
    chosen += random.integers(0, 1 << 64, count - len(chosen), np.uint64).tolist()
    return sorted(set(chosen))


def ask(qemu: Qemu, count: int) -> Guest:
    """Everything that QEMU's monitor says about the stopped machine."""
    version = qemu.command("query-version")
    registers = {
        name.lower(): int(value, 16)
        for name, value in re.findall(r"\b(CR[0234]|EFER|RIP)=([0-9a-f]+)", qemu.monitor("info registers"))
    }
    leaves = [
        Leaf(int(vaddr, 16), int(paddr, 16), flags)
        for vaddr, paddr, flags in re.findall(
            r"^([0-9a-f]{16}): ([0-9a-f]{16}) (\S{9})$", qemu.monitor("info tlb"), re.MULTILINE
        )
    ]
    ranges = [
        Range(int(start, 16), int(stop, 16), rights)
        for start, stop, rights in re.findall(
            r"^([0-9a-f]{16})-([0-9a-f]{16}) [0-9a-f]{16} (\S{3})$", qemu.monitor("info mem"), re.MULTILINE
        )
    ]
    vaddrs = sample(leaves, ranges, count)
    package = version["package"] or ".".join(str(version["qemu"][part]) for part in ("major", "minor", "micro"))
    return Guest(package, registers, leaves, ranges, vaddrs, qemu.translate(vaddrs))


def boot(kernel: Path, initramfs: Path, folder: Path, memory: int, count: int) -> Guest:
    """Boots, stops the guest in its init, asks QEMU, and dumps to `folder`/full.elf."""
    console = socket.socket(socket.AF_UNIX)
    console.bind(str(folder / "console"))
    console.listen(1)
    console.settimeout(BOOT_TIMEOUT)
    arguments = ["-machine", "pc", "-cpu", "max,la57=off", "-m", f"{memory}M"]
    arguments += ["-kernel", str(kernel), "-initrd", str(initramfs), "-append", COMMAND_LINE]
    arguments += ["-chardev", f"socket,id=console,path={folder / 'console'}", "-serial", "chardev:console"]
    with Qemu("qemu-system-x86_64", arguments) as qemu:
        wait_for(console, READY)
        qemu.command("stop")
        guest = ask(qemu, count)
        qemu.command("dump-guest-memory", paging=False, protocol=f"file:{folder / 'full.elf'}")
    return guest


def segments(image: mmap.mmap) -> Iterator[Segment]:
    """The program headers of an ELF core."""
    header = ELF_HEADER.unpack_from(image)
    start, size, count = header[5], header[9], header[10]
    for index in range(count):
        yield Segment(*PROGRAM_HEADER.unpack_from(image, start + index * size))


def table_frames(image: mmap.mmap, loads: Sequence[Segment], root: int) -> dict[int, bytes]:
    """Every 4-level table reachable from `root`, by physical address."""

    def page(paddr: int) -> bytes | None:
        for load in loads:
            offset = paddr - load.paddr
            if 0 <= offset <= load.file_size - PAGE:
                return image[load.offset + offset : load.offset + offset + PAGE]
        return None

    frames: dict[int, bytes] = {}
    level_frames = {root}
    for level in (3, 2, 1, 0):
        below: set[int] = set()
        for frame in level_frames:
            content = page(frame)
            if content is None:
                continue
            frames[frame] = content
            for value in struct.unpack("<512Q", content):
                if level > 0 and value & 1 and not (value & 0x80 and level < 3):
                    below.add(value & ADDRESS)
        level_frames = below - frames.keys()
    return frames


def reduce(full: Path, root: int) -> bytes:
    """An ELF core with the notes of `full` and, of its memory, only the page tables."""
    with full.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        header = list(ELF_HEADER.unpack_from(image))
        headers = list(segments(image))
        note = next(part for part in headers if part.kind == PT_NOTE)
        notes = image[note.offset : note.offset + note.file_size]
        frames = table_frames(image, [part for part in headers if part.kind == PT_LOAD], root)
    runs: list[list[int]] = []
    for frame in sorted(frames):
        if runs and runs[-1][-1] + PAGE == frame:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    headers_at = ELF_HEADER.size
    notes_at = headers_at + PROGRAM_HEADER.size * (1 + len(runs))
    at = (notes_at + len(notes) + PAGE - 1) // PAGE * PAGE
    program = [PROGRAM_HEADER.pack(PT_NOTE, note.flags, notes_at, 0, 0, len(notes), len(notes), note.align)]
    content = []
    for run_of_frames in runs:
        size = PAGE * len(run_of_frames)
        program.append(PROGRAM_HEADER.pack(PT_LOAD, 0, at, 0, run_of_frames[0], size, size, 0))
        content += [frames[frame] for frame in run_of_frames]
        at += size
    # No section headers; the program headers follow.
    header[5], header[6], header[10:] = headers_at, 0, [1 + len(runs), 0, 0, 0]
    head = ELF_HEADER.pack(*header) + b"".join(program) + notes
    print(f"{len(frames)} page tables in {len(runs)} runs")
    return head + bytes(-len(head) % PAGE) + b"".join(content)


def rights(guest: Guest) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Writable, user and no-execute for every address; False where it is unmapped."""
    vaddrs = np.array(guest.vaddrs, np.uint64)
    starts = np.array([span.start for span in guest.ranges], np.uint64)
    place = np.maximum(np.searchsorted(starts, vaddrs, side="right").astype(np.int64) - 1, 0)
    stops = np.array([min(span.stop, UNMAPPED) for span in guest.ranges], np.uint64)
    inside = (starts[place] <= vaddrs) & (vaddrs < stops[place])
    mapped = np.array([paddr is not None for paddr in guest.paddrs])
    if (inside != mapped).any():
        raise SystemExit("info mem and gva2gpa disagree on what is mapped")
    writable = np.array([span.rights[2] == "w" for span in guest.ranges])[place] & mapped
    user = np.array([span.rights[0] == "u" for span in guest.ranges])[place] & mapped
    leaf_starts = np.array([leaf.vaddr for leaf in guest.leaves], np.uint64)
    leaf = np.maximum(np.searchsorted(leaf_starts, vaddrs, side="right").astype(np.int64) - 1, 0)
    no_execute = np.array([leaf.flags[0] == "X" for leaf in guest.leaves])[leaf] & mapped
    return writable, user, no_execute


def save(guest: Guest, kernel: str, path: Path) -> None:
    """QEMU's answers as NumPy arrays."""
    writable, user, no_execute = rights(guest)
    pairs = np.array([(leaf.vaddr, leaf.paddr) for leaf in guest.leaves], "<u8")
    np.savez_compressed(
        path,
        vaddr=np.array(guest.vaddrs, np.uint64),
        paddr=np.array([UNMAPPED if paddr is None else paddr for paddr in guest.paddrs], np.uint64),
        writable=writable,
        user=user,
        no_execute=no_execute,
        region=np.array([region_of(vaddr) for vaddr in guest.vaddrs], np.uint8),
        region_names=np.array([*(name for name, _, _ in REGIONS), "elsewhere"]),
        registers=np.array([guest.registers[name] for name in ("cr0", "cr3", "cr4", "efer")], np.uint64),
        leaves=np.array(len(guest.leaves)),
        leaves_sha256=np.array(hashlib.sha256(pairs.tobytes()).hexdigest()),
        kernel=np.array(kernel),
        qemu=np.array(guest.version),
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the results (default: beside the script)")
    parser.add_argument("--kernel", type=Path, help="a linux-image-*-cloud-amd64 package (default: apt-get download)")
    parser.add_argument("--memory", type=int, default=3072, help="the guest's memory in MiB (default: 3072)")
    parser.add_argument("--addresses", type=int, default=40000, help="addresses to ask QEMU about (default: 40000)")
    parser.add_argument("--keep-dump", action="store_true", help="keep the whole dump as OUTPUT/linux_guest_full.elf")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="linux-guest-") as name:
        folder = Path(name)
        package = options.kernel.resolve() if options.kernel else fetch_kernel(folder)
        tree = folder / "tree"
        run("dpkg-deb", "-x", package, tree)
        kernel = next((tree / "boot").glob("vmlinuz-*"))
        modules = next((tree / "lib/modules").iterdir()) / "kernel"
        guest = boot(kernel, make_initramfs(modules, folder), folder, options.memory, options.addresses)
        reduced = reduce(folder / "full.elf", guest.registers["cr3"] & ADDRESS)
        (options.output / "linux_guest.elf.xz").write_bytes(lzma.compress(reduced, preset=9 | lzma.PRESET_EXTREME))
        save(guest, package.name, options.output / "linux_guest.npz")
        if options.keep_dump:
            (folder / "full.elf").rename(options.output / "linux_guest_full.elf")
    for result in ("linux_guest.elf.xz", "linux_guest.npz"):
        print(f"{options.output / result}: {(options.output / result).stat().st_size:,} bytes")
    print(f"{len(guest.vaddrs):,} addresses, {sum(paddr is not None for paddr in guest.paddrs):,} of them mapped")


if __name__ == "__main__":
    main()
