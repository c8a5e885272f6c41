# ruff: noqa: N818 - the names are those of the C++ classes
"""The exception family of vm_core, vm_mem and vm_accel.

One base, ``VmError``; each class also derives from the built-in that a Python program would catch anyway. A message
says what was asked, what was found and what to do. All of them can be pickled. Batch calls do not raise for one bad
address: their result carries a fault per element.

>>> try:
...     raise OutOfRange("nothing there", address=0x1000, size=8)
... except IndexError as error:
...     print(error, hex(error.address))
nothing there 0x1000
"""

from __future__ import annotations

from ._core import Access, FaultReason, Privilege, _fault_message

__all__ = [
    "AccessViolation",
    "ClosedError",
    "DoubleFree",
    "InvalidConfig",
    "NotSupported",
    "OutOfRange",
    "PageFault",
    "PlatformError",
    "ResourceExhausted",
    "VmError",
]


class VmError(Exception):
    """Base of everything that these packages raise on purpose."""


class PageFault(VmError, LookupError):
    """A translation failed; the fields say where, for whom and why.

    ``level`` counts the entries still to go when the walk stopped (0 is the last-level table, x86's PT).
    ``error_code`` is the architecture's own: x86 the #PF error code, RISC-V the exception cause, AArch64 the fault
    status code. Without a ``message`` the fields make one.
    """

    vaddr: int
    access: Access
    privilege: Privilege
    level: int
    reason: FaultReason
    error_code: int

    def __init__(
        self,
        message: str | None = None,
        *,
        vaddr: int = 0,
        access: Access = Access.NONE,
        privilege: Privilege = Privilege.SUPERVISOR,
        level: int = 0,
        reason: FaultReason = FaultReason.NONE,
        error_code: int = 0,
    ) -> None:
        if message is None:
            message = _fault_message(vaddr, access, privilege, level, reason, error_code)
        super().__init__(message)
        self.vaddr = vaddr
        self.access = access
        self.privilege = privilege
        self.level = level
        self.reason = reason
        self.error_code = error_code


class AccessViolation(VmError, PermissionError):
    """The target exists but may not be used that way: a write to a read-only image."""


class OutOfRange(VmError, IndexError):
    """[address, address + size) is not wholly inside the thing addressed; both are in bytes."""

    address: int
    size: int

    def __init__(self, message: str = "", *, address: int = 0, size: int = 0) -> None:
        super().__init__(message)
        self.address = address
        self.size = size


class InvalidConfig(VmError, ValueError):
    """An argument, option or input file makes no sense."""


class NotSupported(VmError, NotImplementedError):
    """A correct request that this machine, build or backend cannot serve; names what is missing and on what."""


class ResourceExhausted(VmError, MemoryError):
    """A finite thing ran out: memory, table frames, descriptors."""


class PlatformError(VmError, OSError):
    """The operating system or a hypervisor framework refused.

    ``errno`` is the system's error number, or the framework's own code.
    """

    def __init__(self, message: str = "", *, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno
        self.strerror = message

    def __str__(self) -> str:
        """The message alone: it already names the cause in words."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[type[PlatformError], tuple[object, ...], dict[str, object]]:
        # OSError keeps these two outside __dict__, where the default would forget them.
        return type(self), self.args, {**self.__dict__, "errno": self.errno, "strerror": self.strerror}


class DoubleFree(VmError, RuntimeError):
    """The same block was freed twice."""


class ClosedError(VmError, ValueError):
    """The object was closed before this call, as for a closed file."""
