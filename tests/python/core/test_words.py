"""Access, Privilege, FaultReason, PageSize and the alignment helpers."""

from __future__ import annotations

import enum
import pickle

import pytest
import vm_core
from hypothesis import given
from hypothesis import strategies as st
from vm_core import (
    Access,
    FaultReason,
    InvalidConfig,
    OutOfRange,
    PageSize,
    Privilege,
    align_down,
    align_up,
    describe,
    is_aligned,
)

addresses = st.integers(0, 2**64 - 1)
alignments = st.integers(0, 63).map(lambda shift: 1 << shift)


def test_access_is_a_set_of_rights() -> None:
    assert issubclass(Access, enum.IntFlag)
    assert (Access.NONE, Access.READ, Access.WRITE, Access.EXECUTE) == (0, 1, 2, 4)
    both = Access.READ | Access.EXECUTE
    assert both == 5
    assert isinstance(both, Access)
    assert Access.READ in both
    assert Access.WRITE not in both
    assert Access(0) is Access.NONE
    assert not Access.NONE


def test_privilege_and_page_sizes() -> None:
    assert (Privilege.SUPERVISOR, Privilege.USER) == (0, 1)
    assert int(PageSize.SIZE_4K) == 4096
    assert PageSize.SIZE_2M == 2 << 20
    assert PageSize.SIZE_1G == 1 << 30
    assert all(size & (size - 1) == 0 for size in PageSize)
    assert len(PageSize) == 12


def test_fault_reasons_are_numbered_without_a_gap_and_each_has_words() -> None:
    assert [int(reason) for reason in FaultReason] == list(range(17))
    assert int(FaultReason.NOT_PRESENT) == 1
    assert int(FaultReason.WALK_DISABLED) == 16
    words = [describe(reason) for reason in FaultReason]
    assert len(set(words)) == len(words)
    assert describe(FaultReason.EXECUTE_DENIED) == "page is not executable"


@pytest.mark.parametrize(
    "value", [Access.READ | Access.WRITE, Privilege.USER, FaultReason.PROTECTION_KEY, PageSize.SIZE_1G]
)
def test_enumerations_can_be_pickled(value: enum.IntEnum) -> None:
    again = pickle.loads(pickle.dumps(value))
    assert again == value
    assert type(again) is type(value)


@given(addresses, alignments)
def test_alignment_agrees_with_division(value: int, alignment: int) -> None:
    assert align_down(value, alignment) == value // alignment * alignment
    assert is_aligned(value, alignment) == (value % alignment == 0)
    up = -(-value // alignment) * alignment
    if up < 2**64:
        assert align_up(value, alignment) == up
    else:
        with pytest.raises(OutOfRange) as caught:
            align_up(value, alignment)
        assert caught.value.address == value


@given(addresses, addresses.filter(lambda n: n & (n - 1) != 0 or n == 0))
def test_alignment_must_be_a_power_of_two(value: int, alignment: int) -> None:
    for function in (align_down, align_up, is_aligned):
        with pytest.raises(InvalidConfig, match=f"power of two, not {alignment}"):
            function(value, alignment)


def test_numbers_beyond_64_bits_are_refused() -> None:
    for value in (-1, 2**64):
        with pytest.raises(TypeError):
            align_down(value, 2)


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    for name in vm_core.__all__:
        assert getattr(vm_core, name).__doc__, name
