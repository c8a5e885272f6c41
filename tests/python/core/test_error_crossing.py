"""Exceptions thrown in another extension module arrive as the classes of vm_core."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest
import vm_core
from vm_core import Access, FaultReason, PageFault, Privilege, VmError, error

SOURCES = Path(__file__).resolve().parents[3] / "cpp"


def pybind11_headers() -> str:
    """Those that the packages were built with, when the run says where; else those installed here."""
    if folder := os.environ.get("VM_TEST_PYBIND11"):
        return str(Path(folder) / "pybind11" / "include")
    return str(pytest.importorskip("pybind11", reason="pybind11 is not installed here").get_include())


@pytest.fixture(scope="module")
def thrower(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """A module compiled from thrower.cpp against the headers of this checkout."""
    compiler = (sysconfig.get_config_var("CXX") or "c++").split()
    target = tmp_path_factory.mktemp("thrower") / f"thrower{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = (SOURCES / "include", pybind11_headers(), sysconfig.get_paths()["include"])
    parts = [str(SOURCES / "src/core" / name) for name in ("access.cpp", "error.cpp", "fault.cpp")]
    command = [*compiler, "-std=c++17", "-O0", "-fPIC", "-shared", "-fvisibility=hidden"]
    command += [f"-I{path}" for path in includes]
    command += [f'-DVM_VERSION="{vm_core.__version__}"', str(Path(__file__).with_name("thrower.cpp")), *parts]
    try:
        built = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"no compiler here: {compiler[0]}")
    assert built.returncode == 0, built.stderr
    spec = importlib.util.spec_from_file_location("thrower", target)
    assert spec is not None
    assert spec.loader is not None
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as refusal:
        if "was built as" not in str(refusal):
            raise
        pytest.skip(f"vm_core was built by another compiler or with another pybind11: {refusal}")
    return module


@pytest.mark.skipif(sys.platform == "win32", reason="the compiler is called as on Unix")
@pytest.mark.parametrize("name", error.__all__)
def test_each_class_arrives_as_itself(thrower: ModuleType, name: str) -> None:
    with pytest.raises(VmError) as caught:
        thrower.throw_one(name)
    assert type(caught.value) is getattr(vm_core, name)
    if name != "PageFault":
        assert str(caught.value) == f"{name} from elsewhere"


def test_fields_travel_too(thrower: ModuleType) -> None:
    with pytest.raises(PageFault) as fault:
        thrower.throw_one("PageFault")
    assert fault.value.vaddr == 0xFFFF_8000_0000_1000
    assert fault.value.access is Access.WRITE
    assert fault.value.privilege is Privilege.USER
    assert (fault.value.level, fault.value.error_code) == (3, 15)
    assert fault.value.reason is FaultReason.RESERVED_BIT
    assert "0xffff800000001000" in str(fault.value)
    with pytest.raises(IndexError) as hole:
        thrower.throw_one("OutOfRange")
    assert (hole.value.address, hole.value.size) == (0x5000, 8)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="PlatformError from elsewhere") as refused:
        thrower.throw_one("PlatformError")
    assert refused.value.errno == 13
