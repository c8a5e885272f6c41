"""The NEON and SVE kernels, in an emulated AArch64 processor with vectors of three lengths."""

from __future__ import annotations

import importlib.util
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROOM = ROOT / "cpp" / "src" / "mem" / "simd"
CORE = ("access", "affinity", "cache", "cpu_detect", "cpu_feature", "error", "fault", "hwcap_decode", "sysfs")
SOURCES = [*sorted(ROOM.glob("*.cpp")), *(ROOT / "cpp" / "src" / "core" / f"{name}.cpp" for name in CORE)]
PROGRAM = ROOT / "tests" / "cpp" / "mem" / "simd" / "cross_main.cpp"

QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


def compiler() -> list[str]:
    """A compiler for AArch64 Linux; empty when there is none."""
    if gcc := shutil.which("aarch64-linux-gnu-g++"):
        return [gcc]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++", "--target=aarch64-linux-musl"]
    return []


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not PROGRAM.exists():
        pytest.skip("needs a checkout: the C++ sources are not here")
    if QEMU is None:
        pytest.skip("qemu-aarch64 is missing; on Debian: apt-get install qemu-user")
    command = compiler()
    if not command:
        pytest.skip("a compiler for AArch64 is missing: apt-get install g++-aarch64-linux-gnu, or pip install ziglang")
    folder = tmp_path_factory.mktemp("aarch64")
    flags = ["-std=c++17", "-O2", f"-I{ROOT / 'cpp' / 'include'}", f"-I{ROOT / 'cpp' / 'src'}"]
    sve = folder / "sve.o"
    only_sve = ["-march=armv8-a+sve", "-DVM_HAVE_SVE_KERNELS", "-c", str(ROOM / "kernels_sve.cpp"), "-o", str(sve)]
    subprocess.run([*command, *flags, *only_sve], check=True)
    out = folder / "cross_main"
    rest = [str(source) for source in (*SOURCES, PROGRAM) if source.name != "kernels_sve.cpp"]
    subprocess.run([*command, *flags, "-static", *rest, str(sve), "-pthread", "-o", str(out)], check=True)
    return out


@pytest.mark.parametrize("bits", [128, 256, 512])
def test_every_kernel_with_vectors_of(program: Path, bits: int) -> None:
    seed = str(secrets.randbits(32))
    cpu = ["-cpu", f"max,sve{bits}=on" + "".join(f",sve{n}=off" for n in (128, 256, 512) if n > bits)]
    done = subprocess.run([str(QEMU), *cpu, str(program), seed], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
    lines = done.stdout.splitlines()
    assert lines[0] == f"vectors of SVE: {bits // 8} bytes"
    assert lines[1] == ("chosen: neon" if bits == 128 else "chosen: sve")
    assert {"scalar: right", "neon: right", "sve: right"} <= set(lines)
