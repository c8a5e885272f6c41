import enum
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, TypeVar, overload

_T = TypeVar("_T")

__version__: str
_abi: str

class Access(enum.IntFlag):
    NONE = 0
    READ = 1
    WRITE = 2
    EXECUTE = 4

class Privilege(enum.IntEnum):
    SUPERVISOR = 0
    USER = 1

class FaultReason(enum.IntEnum):
    NONE = 0
    NOT_PRESENT = 1
    NOT_CANONICAL = 2
    RESERVED_BIT = 3
    MISALIGNED_PAGE = 4
    USER_DENIED = 5
    READ_DENIED = 6
    WRITE_DENIED = 7
    EXECUTE_DENIED = 8
    SUPERVISOR_EXECUTE = 9
    SUPERVISOR_ACCESS = 10
    PROTECTION_KEY = 11
    ACCESS_FLAG = 12
    DIRTY_FLAG = 13
    ADDRESS_SIZE = 14
    TABLE_UNREACHABLE = 15
    WALK_DISABLED = 16

class PageSize(enum.IntEnum):
    SIZE_4K = 4096
    SIZE_16K = 16384
    SIZE_64K = 65536
    SIZE_2M = 2097152
    SIZE_4M = 4194304
    SIZE_32M = 33554432
    SIZE_512M = 536870912
    SIZE_1G = 1073741824
    SIZE_64G = 68719476736
    SIZE_512G = 549755813888
    SIZE_4T = 4398046511104
    SIZE_256T = 281474976710656

def describe(reason: FaultReason, /) -> str: ...
def _fault_message(
    vaddr: int, access: Access, privilege: Privilege, level: int, reason: FaultReason, error_code: int
) -> str: ...
def align_down(value: int, alignment: int) -> int: ...
def align_up(value: int, alignment: int) -> int: ...
def is_aligned(value: int, alignment: int) -> bool: ...

class CounterSnapshot(Mapping[str, int]):
    def __init__(self, counts: Mapping[str, int]) -> None: ...
    def __getitem__(self, name: str) -> int: ...
    def __contains__(self, name: object) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def keys(self) -> KeysView[str]: ...
    def values(self) -> ValuesView[int]: ...
    def items(self) -> ItemsView[str, int]: ...
    @overload
    def get(self, name: str, /) -> int | None: ...
    @overload
    def get(self, name: str, default: int | _T, /) -> int | _T: ...
    def __add__(self, other: CounterSnapshot) -> CounterSnapshot: ...
    def __sub__(self, other: CounterSnapshot) -> CounterSnapshot: ...
    def __radd__(self, start: int) -> CounterSnapshot: ...
    def __eq__(self, other: object) -> bool: ...
    def __ne__(self, other: object) -> bool: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

class Counters:
    def __init__(self, *names: str) -> None: ...
    @property
    def names(self) -> list[str]: ...
    def __len__(self) -> int: ...
    def add(self, name: str, n: int = 1) -> None: ...
    def snapshot(self) -> CounterSnapshot: ...
