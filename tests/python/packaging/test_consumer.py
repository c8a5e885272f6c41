"""Somebody else's C++ project finds this library: in an installed tree, and inside the vm_core wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import vm_core

here = Path(__file__).parent
root = here.parents[2]

pytestmark = pytest.mark.skipif(
    not (shutil.which("cmake") and (shutil.which("c++") or shutil.which("g++"))),
    reason="needs cmake and a C++ compiler on PATH",
)


def run(*command: str | Path) -> str:
    # A bare system has no make; the sessions bring Ninja.
    ninja = {"CMAKE_GENERATOR": "Ninja"} if shutil.which("ninja") else {}
    environment = {**os.environ, **ninja}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_and_run_consumer(prefix: Path, work: Path) -> None:
    run("cmake", "-S", here / "consumer", "-B", work, f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release")
    cache = (work / "CMakeCache.txt").read_text()
    assert f"vm_DIR:PATH={prefix}" in cache, "the consumer found another vm than the one under test"
    run("cmake", "--build", work)
    assert "consumer works" in run(work / "consumer")


def test_find_package_in_an_installed_tree(tmp_path: Path) -> None:
    tree = Path(os.environ.get("VM_TEST_BUILD_TREE", tmp_path / "build"))
    if not (tree / "CMakeCache.txt").exists():
        if not (root / "cpp").exists():
            pytest.skip("the C++ sources are not here (tests run outside a checkout)")
        run("cmake", "-S", root, "-B", tree, "-DVM_BUILD_TESTS=OFF", "-DCMAKE_BUILD_TYPE=Release")
        run("cmake", "--build", tree, "--parallel", "2")
    prefix = tmp_path / "prefix"
    run("cmake", "--install", tree, "--prefix", prefix)
    shutil.move(prefix, tmp_path / "moved")  # an installed tree may be moved
    build_and_run_consumer(tmp_path / "moved", tmp_path / "consumer")


@pytest.fixture
def package() -> Path:
    folder = Path(vm_core.__path__[0])
    if not (folder / "lib" / "cmake" / "vm").exists():
        pytest.skip("vm_core is installed editable; its C++ files are not beside its Python files")
    return folder


def test_find_package_in_the_wheel(package: Path, tmp_path: Path) -> None:
    build_and_run_consumer(package, tmp_path / "consumer")


def test_examples_build_with_the_wheel(package: Path, tmp_path: Path) -> None:
    examples = root / "examples"
    if not examples.exists():
        pytest.skip("the examples are not here (tests run outside a checkout)")
    run("cmake", "-S", examples, "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={package}", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", tmp_path)
    assert "wrong copies: 0" in run(tmp_path / "simd_demo")


def test_the_wheel_announces_its_cmake_package() -> None:
    from importlib.metadata import entry_points

    found = [entry.value for entry in entry_points(group="cmake.root") if entry.name == "vm"]
    assert found == ["vm_core"]
