#!/usr/bin/env python3
"""Everything a developer or a machine does with this repository, one session per job; `nox -l` lists them.

`python3 noxfile.py SESSION...` does the same on a machine without nox, down to a bare Debian: it makes its own virtual
environment, puts nox into it, and installs missing system packages when it runs as root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from ctypes.util import find_library
from pathlib import Path

ROOT = Path(__file__).resolve().parent
NOX = "nox>=2025.2.9,<2027"
REPORTS = ROOT / "build" / "reports"


# --- System packages -------------------------------------------------------------------------------------------------


def _tool(*names: str) -> bool:
    return any(shutil.which(name) for name in names)


def _runs(*command: str | Path) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _library(name: str) -> bool:
    return _tool("pkg-config") and _runs("pkg-config", "--exists", name)


def _header(path: str) -> bool:
    return any((Path(prefix) / path).exists() for prefix in ("/usr/include", "/usr/local/include"))


def _python_headers() -> bool:
    return (Path(sysconfig.get_paths()["include"]) / "Python.h").exists()


def _has_venv() -> bool:
    return _runs(sys.executable, "-c", "import ensurepip, venv")


def _has_fuzzer() -> bool:
    """Whether clang finds its own libFuzzer runtime."""
    if not _tool("clang++"):
        return False
    code = 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'
    command = ["clang++", "-fsanitize=fuzzer,address", "-x", "c++", "-", "-o", os.devnull]
    return subprocess.run(command, input=code, text=True, capture_output=True, check=False).returncode == 0


# What to look for, the Debian package that brings it, and what it is for. A package without which nothing can be built
# is required; without the others something falls back or is skipped, and says so itself.
SYSTEM = {
    "venv": (_has_venv, "python3-venv", True),
    "compiler": (lambda: _tool("g++", "clang++"), "g++", True),
    "python": (_python_headers, "python3-dev", True),
    "hwloc": (lambda: _library("hwloc"), "libhwloc-dev pkg-config", False),
    "ccache": (lambda: _tool("ccache"), "ccache", False),
    "gtest": (lambda: _header("gtest/gtest.h"), "libgtest-dev", False),
    "benchmark": (lambda: _header("benchmark/benchmark.h"), "libbenchmark-dev", False),
    "qemu-x86": (lambda: _tool("qemu-system-x86_64"), "qemu-system-x86", False),
    "qemu-riscv": (lambda: _tool("qemu-system-riscv64"), "qemu-system-misc", False),
    "qemu-arm": (lambda: _tool("qemu-system-aarch64"), "qemu-system-arm", False),
    "lstopo": (lambda: _tool("lstopo", "lstopo-no-graphics"), "hwloc-nox", False),
    "riscv-as": (lambda: _tool("riscv64-linux-gnu-as"), "binutils-riscv64-linux-gnu", False),
    "arm-as": (lambda: _tool("aarch64-linux-gnu-as"), "binutils-aarch64-linux-gnu", False),
    "arm-cross": (lambda: _tool("aarch64-linux-gnu-g++"), "g++-aarch64-linux-gnu", False),
    "qemu-user": (lambda: _tool("qemu-aarch64", "qemu-aarch64-static"), "qemu-user", False),
    "spin": (lambda: _tool("spin"), "spin", False),
    "gdb": (lambda: _tool("gdb"), "gdb", False),
    "tbb": (lambda: _header("tbb/concurrent_hash_map.h"), "libtbb-dev", False),
    "mallocs": (lambda: bool(find_library("mimalloc")), "libmimalloc2.0 libjemalloc2 libtcmalloc-minimal4", False),
    "boost": (lambda: _header("boost/pool/pool.hpp"), "libboost-dev", False),
    "libnuma": (lambda: _header("numa.h"), "libnuma-dev", False),
    "valgrind": (lambda: _tool("valgrind"), "valgrind", False),
    "fuzzer": (_has_fuzzer, "clang libclang-rt-dev", False),
}
BUILD = ("compiler", "python", "hwloc", "ccache")
NEEDS = {
    "demo": BUILD,
    "tests": (
        *BUILD,
        "gtest",
        "qemu-x86",
        "qemu-riscv",
        "qemu-arm",
        "riscv-as",
        "arm-as",
        "lstopo",
        "spin",
        "gdb",
        "arm-cross",
        "qemu-user",
    ),
    "tests_newest": ("compiler", "hwloc", "ccache"),
    "lint": BUILD,
    "asan": (*BUILD, "gtest"),
    "tsan": (*BUILD, "gtest"),
    "numa": ("compiler", "hwloc", "ccache", "gtest", "qemu-x86"),
    "fuzz": (*BUILD, "fuzzer"),
    "bench": (*BUILD, "benchmark", "tbb", "valgrind", "mallocs", "boost", "libnuma"),
    "sdists": BUILD,
    "wheels": ("compiler", "python", "ccache"),
    "docs": BUILD,
}


def system_packages(*wanted: str) -> None:
    """Install what is missing of `wanted` when root, else name it in one sentence; stop only for what is required."""
    missing = [name for name in dict.fromkeys(wanted) if not SYSTEM[name][0]()]
    if not missing:
        return
    packages = " ".join(SYSTEM[name][1] for name in missing)
    why = "not root" if os.geteuid() else "no apt-get here"
    if os.geteuid() == 0 and _tool("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages.split()]
        print(f"Installing system packages: {packages}", flush=True)
        for command in (["apt-get", "update", "-qq"], install):
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        missing = [name for name in missing if not SYSTEM[name][0]()]
        packages = " ".join(SYSTEM[name][1] for name in missing)
        why = "apt-get could not install them"
    if not missing:
        return
    required = any(SYSTEM[name][2] for name in missing)
    advice = f"System packages are missing ({why}); on Debian: sudo apt-get install {packages}"
    if required:
        raise SystemExit(advice)
    print(f"{advice} (going on without them)", flush=True)


def bootstrap(sessions: list[str]) -> None:
    """Put nox into a virtual environment of its own and replace this process by it."""
    if sys.version_info < (3, 10):  # noqa: UP036 - whoever starts this file may have any Python
        raise SystemExit(f"Python 3.10 or newer is needed; {sys.executable} is {sys.version.split()[0]}.")
    home = ROOT / ".nox" / "bootstrap"
    python = home / "bin" / "python"
    if not (python.exists() and _runs(python, "-c", "import nox")):
        system_packages("venv", *(name for session in sessions for name in NEEDS.get(session, ())))
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", NOX], check=True)
    chosen = ["-s", *sessions] if sessions and not sessions[0].startswith("-") else sessions
    os.execv(python, [str(python), "-m", "nox", "-f", str(ROOT / "noxfile.py"), *chosen])


if __name__ == "__main__":
    bootstrap(sys.argv[1:])

import nox  # noqa: E402 - a machine without nox enters through bootstrap() above

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests"]
nox.options.reuse_venv = "yes"

HAS_HEADERS = "import os, sysconfig; os.stat(sysconfig.get_paths()['include'] + '/Python.h')"
MODULES = ("vm_core", "vm_mem", "vm_accel")
PACKAGES = tuple(f"./packages/{module}" for module in MODULES)
GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")
# What does not depend on the interpreter or on how the packages were built.
LOOSE_ENDS = tuple(
    f"--ignore=tests/python/{part}"
    for part in (
        "packaging",
        "mem/oracles",
        "mem/test_simd_aarch64.py",
        "mem/test_tlb_model_checking.py",
    )
)


# --- Steps that sessions share ---------------------------------------------------------------------------------------


def newest_python() -> str:
    """The newest supported interpreter of this machine that has its C headers."""
    for minor in (13, 12, 11, 10):
        name = f"python3.{minor}"
        pyenv = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/{name}"))
        for candidate in (name, *map(str, pyenv)):
            if shutil.which(candidate) and _runs(candidate, "-c", HAS_HEADERS):
                return candidate
    return sys.executable


def prepare(session: nox.Session, *groups: str) -> None:
    """System packages first, then the build tools and the dependency groups of pyproject.toml."""
    system_packages(*NEEDS[session.name.split("-")[0]])
    if _tool("ccache"):
        session.env["CMAKE_CXX_COMPILER_LAUNCHER"] = "ccache"
        session.env["CCACHE_NOHASHDIR"] = "1"  # pip builds in a new folder each time
    REPORTS.mkdir(parents=True, exist_ok=True)
    for old in REPORTS.glob(f"{session.name}*"):
        old.unlink()
    for group in ("build", *groups):
        session.install(*nox.project.dependency_groups(GROUPS, group))


def skip(session: nox.Session, reason: str) -> None:
    """End the session, and leave the reason where .ci/run finds it."""
    (REPORTS / f"{session.name}.skipped").write_text(reason + "\n")
    session.skip(reason)


def build_cpp(session: nox.Session, name: str, *options: str, target: str = "all") -> Path:
    """Configure and build the C++ workspace in build/<name>; the tree is kept for the next time."""
    tree = ROOT / "build" / name
    # A tree configured by a virtual environment that is gone names a Ninja that is gone.
    ninja = f"-DCMAKE_MAKE_PROGRAM={session.bin}/ninja"
    session.run("cmake", "-S", ".", "-B", str(tree), "-G", "Ninja", ninja, "-DCMAKE_BUILD_TYPE=Release", *options)
    session.run("cmake", "--build", str(tree), "--target", target)
    return tree


def run_ctest(session: nox.Session, tree: Path, *options: str, wrapper: tuple[str, ...] = ()) -> None:
    """Run the C++ tests; a test that skips says why in the report."""
    report = REPORTS / f"{session.name}-cpp.xml"
    jobs = str(os.cpu_count() or 1)
    command = ["ctest", "--test-dir", str(tree), "--output-on-failure", "--no-tests=error", "-j", jobs]
    session.run(*wrapper, *command, "--output-junit", str(report), *options, external=bool(wrapper))


def shared_pybind11() -> Path:
    """The folder of the pybind11 that all sessions build with."""
    requires = nox.project.load_toml(ROOT / PACKAGES[0] / "pyproject.toml")["build-system"]["requires"]
    return ROOT / "build" / str(requires[1]).replace("*", "x")


def install_packages(session: nox.Session, **definitions: str) -> None:
    """Install the three packages from this checkout, warnings being errors.

    Without build isolation and with one pybind11 for all sessions: a compiler cache recognizes a file by the paths of
    what it includes. The session `sdists` shows that isolated builds work.
    """
    builder, pybind11 = nox.project.load_toml(ROOT / PACKAGES[0] / "pyproject.toml")["build-system"]["requires"]
    session.install(builder)
    shared = shared_pybind11()
    if not shared.exists():
        session.run("python", "-m", "pip", "install", "-q", "--target", str(shared), pybind11)
    cmake = shared / "pybind11" / "share" / "cmake" / "pybind11"
    defines = {"VM_WARNINGS_AS_ERRORS": "ON", "pybind11_DIR": str(cmake), **definitions}
    text = ";".join(f"{key}={value}" for key, value in defines.items())
    session.install("--no-build-isolation", *PACKAGES, env={"SKBUILD_CMAKE_DEFINE": text})


def run_pytest(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Run Python tests; the summary and the report list what was skipped and why."""
    _run_pytest(session, "python", *arguments, **environment)


def run_conformance(session: nox.Session, **environment: str) -> None:
    """Run the suite that every hypervisor has to pass, without its long tests."""
    _run_pytest(session, "conformance", "-m", "not slow", "tests/conformance", **environment)


def _run_pytest(session: nox.Session, report: str, *arguments: str, **environment: str) -> None:
    junit = REPORTS / f"{session.name}-{report}.xml"
    workers = ("-n", str(os.cpu_count() or 1), "--dist", "loadfile")  # a file's fixtures are made once
    session.run("python", "-m", "pytest", *workers, f"--junitxml={junit}", *arguments, env=environment)


# --- Sessions --------------------------------------------------------------------------------------------------------


@nox.session
def demo(session: nox.Session) -> None:
    """Install the packages and watch a real guest's addresses being translated."""
    prepare(session)
    install_packages(session)
    session.run("vm-mem", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Build the C++ library and run its tests, then install the packages and run the Python tests."""
    prepare(session, "test")
    tree = build_cpp(session, "release")
    run_ctest(session, tree)
    install_packages(session)
    folders = {"VM_TEST_BUILD_TREE": str(tree), "VM_TEST_PYBIND11": str(shared_pybind11())}
    run_pytest(session, *(session.posargs or ["tests/python"]), **folders)
    if not session.posargs:
        run_conformance(session)
    session.run("python", "-m", "pytest", "-q", "--doctest-modules", "--pyargs", *MODULES)


@nox.session(python=newest_python())
def tests_newest(session: nox.Session) -> None:
    """Run the Python tests on the newest Python of this machine."""
    prepare(session, "test")
    install_packages(session, VM_QUICK_BINDINGS="ON")  # the optimized ones are in `tests`
    run_pytest(session, "tests/python", *LOOSE_ENDS, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check formatting (clang-format, ruff), types (mypy --strict), stubs against the modules, and equal copies."""
    prepare(session, "lint")
    folders = ("cpp", "packages", "tests", "bench", "examples")
    sources = sorted(str(f.relative_to(ROOT)) for d in folders for f in (ROOT / d).rglob("*.[ch]pp"))
    session.log(f"clang-format --dry-run -Werror ({len(sources)} files)")
    session.run("clang-format", "--dry-run", "-Werror", *sources, silent=True, log=False)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    install_packages(session)
    session.run("mypy", *(f"packages/{module}/src/{module}" for module in MODULES))
    session.run("stubtest", "vm_core._core", "vm_mem._mem", "vm_accel._accel")
    run_pytest(session, "-q", "tests/python/packaging/test_consistency.py")


@nox.session
def asan(session: nox.Session) -> None:
    """Run the C++ and the Python tests under AddressSanitizer and UndefinedBehaviorSanitizer."""
    prepare(session, "test")
    run_ctest(session, build_cpp(session, "asan", "-DVM_SANITIZE=address,undefined"))
    # scikit-build-core imports an installed vm_core (for its CMake files); an instrumented one ends that interpreter.
    session.run("python", "-m", "pip", "uninstall", "-qqy", *(Path(package).name for package in PACKAGES))
    install_packages(session, VM_SANITIZE="address,undefined")
    # The interpreter is not instrumented, so the runtime has to be there before the first module; libstdc++ beside it,
    # or the runtime cannot intercept C++ exceptions. The interpreter's own leaks are not ours.
    names = ("libasan.so", "libstdc++.so.6")
    paths = [session.run("g++", f"-print-file-name={name}", external=True, silent=True) for name in names]
    preload = " ".join(str(path).strip() for path in paths)
    options = ("-m", "not slow", *LOOSE_ENDS, *(session.posargs or ["tests/python"]))
    instrumented = {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    run_pytest(session, *options, **instrumented)
    if not session.posargs:
        run_conformance(session, **instrumented)


@nox.session
def tsan(session: nox.Session) -> None:
    """Run the C++ tests under ThreadSanitizer."""
    prepare(session)
    tree = build_cpp(session, "tsan", "-DVM_SANITIZE=thread")
    # Newer kernels place mappings where GCC 12's runtime does not expect them.
    fixed = ("setarch", "-R") if _tool("setarch") and _runs("setarch", "-R", "true") else ()
    run_ctest(session, tree, *session.posargs, wrapper=fixed)


@nox.session
def numa(session: nox.Session) -> None:
    """Run the tests that need two NUMA nodes in a guest under QEMU that has them; prints what was asked and got."""
    prepare(session)
    program = "test_mem_numa_two_nodes"
    tree = build_cpp(session, "release", target=program)
    reason = Path(session.create_tmp()).resolve() / "reason"
    reason.unlink(missing_ok=True)
    guest = ("tests/two_node_guest.py", str(tree / "tests" / "cpp" / "mem" / "numa" / program))
    kernels = ("--cache", str(ROOT / "build" / "kernels"), "--reason", str(reason))
    session.run("python", *guest, *kernels, success_codes=[0, 77])
    if reason.exists():
        skip(session, reason.read_text())


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the walker and the loaders for a bounded time: `nox -s fuzz -- SECONDS` per target (default 20)."""
    prepare(session)
    if not _has_fuzzer():
        skip(session, "clang with libFuzzer is missing; on Debian: apt-get install clang libclang-rt-dev")
    seconds = session.posargs[0] if session.posargs else "20"
    options = ("-DCMAKE_CXX_COMPILER=clang++", "-DVM_BUILD_TESTS=OFF", "-DVM_BUILD_FUZZERS=ON")
    tree = build_cpp(session, "fuzz", *options)
    for target in sorted(f for f in (tree / "fuzz").glob("*") if f.is_file()):
        found = tree / "corpus" / target.name  # new inputs stay in the build tree; worthy ones are committed by hand
        found.mkdir(parents=True, exist_ok=True)
        seeds = ROOT / "tests" / "fuzz" / "corpus" / target.name
        limits = (f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048")
        reporting = ("-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={found}/")
        session.run(str(target), str(found), str(seeds), *limits, *reporting, external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks and write bench/RESULTS.md; `-- --quick` only sees whether they work."""
    prepare(session)
    install_packages(session)
    session.install("-r", "bench/requirements.txt")
    session.run("python", "bench/run.py", *session.posargs)


@nox.session
def sdists(session: nox.Session) -> None:
    """Build source distributions, install from them alone with the checkout out of reach, run the Python tests."""
    prepare(session, "wheel", "test")
    # The same place below each unpacked distribution, and paths relative to it: what the three compile alike, the
    # compiler cache compiles once.
    session.env.update(SKBUILD_BUILD_DIR="build", CCACHE_BASEDIR="/")
    # What is looked for here are files that are missing; the optimized library is in `tests`.
    session.env["SKBUILD_CMAKE_DEFINE"] = "CMAKE_CXX_FLAGS_RELEASE=-O0"
    work = Path(session.create_tmp()).resolve()
    copy, out = work / "checkout", work / "dist"
    for old in (copy, out):
        shutil.rmtree(old, ignore_errors=True)
    unwanted = shutil.ignore_patterns("__pycache__", "build")
    for folder in ("cpp", "packages", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package in PACKAGES:
        session.run("python", "-m", "build", "-q", "--sdist", "-o", str(out), str(copy / package))
    shutil.rmtree(copy / "cpp")
    shutil.rmtree(copy / "packages")
    with session.chdir(copy):
        session.install(*map(str, sorted(out.glob("*.tar.gz"))))
        run_pytest(session, "-m", "not slow", *LOOSE_ENDS, *(session.posargs or ["tests/python"]))


@nox.session
def wheels(session: nox.Session) -> None:
    """Build wheels into dist/, repair them with auditwheel, install them alone and import them."""
    prepare(session, "wheel")
    out, raw = ROOT / "dist", Path(session.create_tmp()).resolve() / "raw"
    for old in (out, raw):
        shutil.rmtree(old, ignore_errors=True)
    defines = {"SKBUILD_CMAKE_DEFINE": "VM_HWLOC=OFF"}
    # A wheel that travels must not need the builder's hwloc: vm_core's static library is linked by others.
    session.run("pip", "wheel", "-q", "--no-deps", "-w", str(raw), *PACKAGES, env=defines)
    for wheel in sorted(raw.glob("*.whl")):
        session.run("auditwheel", "repair", "-w", str(out), str(wheel))
    repaired = [str(wheel) for wheel in sorted(out.glob("*.whl"))]
    session.install("--no-deps", "--force-reinstall", *repaired)
    session.install(*repaired)
    session.run("python", "-c", f"import {', '.join(MODULES)}; print('imported', vm_mem.__file__)")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/docs; warnings are errors."""
    prepare(session, "docs")
    install_packages(session)
    session.run("sphinx-build", "-W", "--keep-going", "-q", "docs", "build/docs", *session.posargs)
