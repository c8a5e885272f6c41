"""The exception family: its built-in bases, fields, pickling, and the way from C++."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import vm_core
from vm_core import (
    Access,
    AccessViolation,
    ClosedError,
    DoubleFree,
    FaultReason,
    InvalidConfig,
    NotSupported,
    OutOfRange,
    PageFault,
    PlatformError,
    Privilege,
    ResourceExhausted,
    VmError,
)

BASES = {
    PageFault: LookupError,
    AccessViolation: PermissionError,
    OutOfRange: IndexError,
    InvalidConfig: ValueError,
    NotSupported: NotImplementedError,
    ResourceExhausted: MemoryError,
    PlatformError: OSError,
    DoubleFree: RuntimeError,
    ClosedError: ValueError,
}

FAULT: dict[str, Any] = {
    "vaddr": 0xFFFF_FFFF_8100_0000,
    "access": Access.READ | Access.WRITE,
    "privilege": Privilege.USER,
    "level": 2,
    "reason": FaultReason.WRITE_DENIED,
    "error_code": 7,
}


@pytest.mark.parametrize(("error", "base"), BASES.items())
def test_each_is_a_vm_error_and_the_built_in_one_would_catch(error: type[VmError], base: type[Exception]) -> None:
    assert issubclass(error, VmError)
    assert issubclass(error, base)
    with pytest.raises(base, match="what was asked"):
        raise error("what was asked")


def test_page_fault_words_come_from_its_fields() -> None:
    fault = PageFault(**FAULT)
    assert str(fault) == (
        "page fault at 0xffffffff81000000: page is not writable (user rw- access, level 2, error code 0x7)"
    )
    assert {name: getattr(fault, name) for name in FAULT} == FAULT
    assert "lookup" in str(PageFault(vaddr=1, reason=FaultReason.NOT_PRESENT))


@pytest.mark.parametrize(
    "error",
    [
        PageFault(**FAULT),
        PageFault("said otherwise", **FAULT),
        OutOfRange("a hole", address=0x1000, size=16),
        PlatformError("cannot open it", errno=2),
        *(error("words") for error in (AccessViolation, InvalidConfig, NotSupported, ResourceExhausted, DoubleFree)),
        ClosedError("words"),
        VmError("words"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_pickling_and_copying_keep_everything(error: VmError) -> None:
    error.note = "hung on by the program"  # type: ignore[attr-defined]
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert again.__dict__ == error.__dict__
        assert getattr(again, "errno", None) == getattr(error, "errno", None)


def test_platform_error_is_an_os_error() -> None:
    error = PlatformError("cannot open /dev/kvm: Permission denied", errno=13)
    assert error.errno == 13
    assert error.strerror == "cannot open /dev/kvm: Permission denied"
    assert str(error) == "cannot open /dev/kvm: Permission denied"


def test_errors_from_cpp_arrive_with_their_fields() -> None:
    with pytest.raises(OutOfRange) as caught:
        vm_core.align_up(2**64 - 1, 4096)
    assert (caught.value.address, caught.value.size) == (2**64 - 1, 4096)
    with pytest.raises(PlatformError) as refused:
        vm_core.Topology.from_hwloc_xml("/nonexistent/topology.xml")
    assert refused.value.errno == 2
