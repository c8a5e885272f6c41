"""``python -m vm_core``, and what importing the package costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import vm_core
from vm_core import CpuFeatures, Topology
from vm_core.__main__ import main


def test_json_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--source", "sysfs"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["version"] == vm_core.__version__
    assert facts["cpu"] == CpuFeatures.detect().as_dict()
    assert facts["topology"]["source"] == "sysfs"
    assert facts["topology"]["cpus"] == Topology.detect().cpus


def test_tables_say_what_the_machine_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([]) == 0
    out = capsys.readouterr().out
    features, topology = CpuFeatures.detect(), Topology.detect()
    for word in (features.architecture, *features.names, topology.source, "allowed here"):
        assert word in out


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0
    assert "python -m vm_core --json | jq .cpu.names" in capsys.readouterr().out


def test_wrong_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--source", "guess"])
    assert done.value.code == 2
    assert "hwloc" in capsys.readouterr().err


def test_what_is_missing_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise vm_core.NotSupported("this build has no such thing")

    monkeypatch.setattr(
        "vm_core.__main__.Topology", type("Nothing", (), {"detect": staticmethod(lambda **_: refuse())})
    )
    assert main([]) == 1
    assert capsys.readouterr().err == "vm_core: this build has no such thing\n"


def test_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "vm_core", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["topology"]["is_this_system"] is True


def test_importing_takes_nothing_along() -> None:
    code = "import sys, vm_core; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "rich", "typer", "argparse", "json", "pathlib", "typing", "subprocess", "logging"}
    assert not heavy & set(done.stdout.split())
