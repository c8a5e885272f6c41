"""The facts of a machine that a reader needs to judge a time measured on it."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

__all__ = ["facts", "load_average"]


def facts(*packages: str) -> dict[str, str]:
    """Processor, caches, cores, kernel, huge-page policy, compiler, Python, and the versions of `packages`."""
    found = {
        "CPU": _cpu_model(),
        "CPUs": str(len(os.sched_getaffinity(0))),
        "caches": _caches(),
        "kernel": f"{platform.system()} {platform.release()}",
        "transparent huge pages": _huge_page_policy(),
        "compiler": _first_line("c++", "--version"),
        "Python": platform.python_version(),
        "commit": _commit(),
    }
    return found | {name: metadata.version(name) for name in packages}


def load_average() -> float:
    """Runnable threads over the last minute, this one included."""
    return os.getloadavg()[0]


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "CPU part"):
            virtual = ", virtual machine" if "hypervisor" in _read("/proc/cpuinfo") else ""
            return " ".join(value.split()) + _family() + virtual
    return platform.machine()


def _family() -> str:
    """Family and model, because hypervisors hide the marketing name."""
    numbers: dict[str, str] = {}
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        numbers.setdefault(name.strip(), value.strip())
    if "cpu family" not in numbers:
        return ""
    return f" (family {numbers['cpu family']}, model {numbers.get('model', '?')})"


def _caches() -> str:
    found = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    data = [index for index in found if _read(index / "type").strip() != "Instruction"]
    sizes = [f"L{_read(index / 'level').strip()} {_read(index / 'size').strip()}" for index in data]
    return ", ".join(sizes) or "unknown"


def _huge_page_policy() -> str:
    policy = _read("/sys/kernel/mm/transparent_hugepage/enabled")
    return policy[policy.find("[") + 1 : policy.find("]")] if "[" in policy else "absent"


def _commit() -> str:
    """The commit, and whether the checkout differs from it; what benchmarks write themselves does not count."""
    changes = _first_line("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/RESULTS.md")
    changed = ", changed" if changes not in ("unknown", "") else ""
    return _first_line("git", "rev-parse", "--short", "HEAD") + changed


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return (done.stdout.splitlines() or [""])[0]


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
