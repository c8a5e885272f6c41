"""Compile the few lines of C++ that benchmarks compare with, by the compiler of this system, when they run."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

from bench.python.results import ROOT

__all__ = ["library", "python_module"]

SOURCES = ROOT / "bench" / "peers"
PRODUCTS = ROOT / "build" / "bench-native"


def library(name: str, optimization: str = "-O2") -> ctypes.CDLL:
    """bench/peers/<name>.cpp as a shared library."""
    return ctypes.CDLL(str(_compile(name, PRODUCTS / f"lib{name}{optimization}.so", optimization)))


def python_module(name: str) -> ModuleType:
    """bench/peers/<name>.cpp as a Python module made with pybind11."""
    import pybind11

    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_paths()['include']}"]
    path = _compile(name, PRODUCTS / f"{name}{suffix}", "-O2", "-std=c++17", "-fvisibility=hidden", *includes)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compile(name: str, product: Path, *flags: str) -> Path:
    PRODUCTS.mkdir(parents=True, exist_ok=True)
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    command = [*compiler, "-shared", "-fPIC", *flags, "-o", str(product), str(SOURCES / f"{name}.cpp")]
    subprocess.run(command, check=True)
    return product
