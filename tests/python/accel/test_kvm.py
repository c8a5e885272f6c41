"""vm_accel's probe of KVM: real answers when there is a device, clear reasons when there is none."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import vm_accel
from vm_accel.__main__ import main

absent = "/nonexistent/kvm"


def test_the_real_device_answers() -> None:
    info = vm_accel.probe()
    if not info:
        pytest.skip(f"no usable KVM: {info.reason}")
    assert info.api_version == 12
    assert info.reason == ""
    assert info.vcpu_mmap_size >= 4096
    assert info.has("user_memory") and info.has("KVM_CAP_USER_MEMORY")
    assert info.capabilities["nr_memslots"] > 0
    assert not info.has("no_such_capability")


def test_a_missing_device_is_an_answer() -> None:
    info = vm_accel.probe(absent)
    assert not info
    assert absent in info.reason and "No such file" in info.reason
    assert info.api_version == -1
    assert info.capabilities == {} and info.vcpu_mmap_size == 0


def test_a_file_that_is_not_kvm_is_named(tmp_path: Path) -> None:
    plain = tmp_path / "kvm"
    plain.write_bytes(b"not a device")
    info = vm_accel.probe(plain)
    assert not info and "not a KVM device" in info.reason


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    pipe = tmp_path / "kvm"
    os.mkfifo(pipe)
    assert not vm_accel.probe(pipe)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_missing_permission_names_the_group(tmp_path: Path) -> None:
    closed = tmp_path / "kvm"
    closed.touch(mode=0)
    assert "group" in vm_accel.probe(closed).reason


def test_no_descriptor_leaks() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        vm_accel.probe()
        vm_accel.probe("/dev/null")
    assert len(os.listdir("/proc/self/fd")) == before


def test_probes_may_run_concurrently() -> None:
    answers: list[vm_accel.KvmInfo] = []
    threads = [threading.Thread(target=lambda: answers.append(vm_accel.probe())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and all(answer == answers[0] for answer in answers)


def test_info_is_a_frozen_value() -> None:
    info = vm_accel.probe(absent)
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.available = True  # type: ignore[misc]
    assert json.loads(json.dumps(info.as_dict())) == info.as_dict()


def test_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--device", absent]) == 1
    assert json.loads(capsys.readouterr().out)["kvm"]["available"] is False


def test_command_prints_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", absent]) == 1
    assert "KVM is not available" in capsys.readouterr().out


def test_command_prints_a_table() -> None:
    done = subprocess.run([sys.executable, "-m", "vm_accel"], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if vm_accel.probe() else 1), done.stderr
    assert "KVM" in done.stdout


def test_importing_loads_no_table_library() -> None:
    code = "import sys, vm_accel; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
