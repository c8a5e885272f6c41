"""Frames of gdb's remote serial protocol (gdb manual, appendix E.1, "Overview").

``$data#checksum``, answered by ``+`` or ``-``; a byte 3 between frames asks a running target to stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "MAX_PACKET",
    "Acknowledged",
    "Interrupt",
    "Malformed",
    "Packet",
    "PacketReader",
    "escape",
    "frame",
    "number",
]

MAX_PACKET = 0x4000
"""Bytes of the largest packet that either side may send; told to gdb as PacketSize."""

_HEX = re.compile(rb"[0-9a-fA-F]{1,16}")


@dataclass(frozen=True)
class Packet:
    """A whole packet, its escapes undone."""

    data: bytes


@dataclass(frozen=True)
class Acknowledged:
    """``+``, or ``-`` when ``ok`` is false: send it again."""

    ok: bool


@dataclass(frozen=True)
class Interrupt:
    """The byte 3: Ctrl-C in gdb."""


@dataclass(frozen=True)
class Malformed:
    """A frame with a wrong checksum, or one that is too long."""


class PacketReader:
    """Cuts a stream of bytes into what gdb means by it; keeps at most one packet in memory.

    >>> reader = PacketReader()
    >>> list(reader.feed(b"+$m10,4#2e"))
    [Acknowledged(ok=True), Packet(data=b'm10,4')]
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> bool:
        """Whether something has arrived that ``feed`` has not yet given out."""
        return bool(self._buffer.strip(b"+-"))

    def feed(self, data: bytes) -> Iterator[Packet | Acknowledged | Interrupt | Malformed]:
        """What is complete once ``data`` has arrived, in order. Bytes between frames that mean nothing are dropped."""
        self._buffer += data
        while self._buffer:
            first = self._buffer[0]
            if first == ord("$"):
                event = self._packet()
                if event is None:
                    return
                yield event
                continue
            del self._buffer[0]
            if first in b"+-":
                yield Acknowledged(first == ord("+"))
            elif first == 3:
                yield Interrupt()

    def _packet(self) -> Packet | Malformed | None:
        end = self._buffer.find(b"#")
        if end < 0 or len(self._buffer) < end + 3:
            if len(self._buffer) <= MAX_PACKET + 4:
                return None
            self._buffer.clear()
            return Malformed()
        body = bytes(self._buffer[1:end])
        checksum = bytes(self._buffer[end + 1 : end + 3])
        # A dollar sign inside is the start of the next frame: the end of this one was lost.
        restart = body.rfind(b"$")
        del self._buffer[: restart + 1 if restart >= 0 else end + 3]
        if restart >= 0 or checksum.lower() != b"%02x" % (sum(body) % 256) or len(body) > MAX_PACKET:
            return Malformed()
        return Packet(_unescape(body))


def _unescape(body: bytes) -> bytes:
    return re.sub(rb"\}(.)", lambda found: bytes([found[1][0] ^ 0x20]), body, flags=re.DOTALL)


def escape(data: bytes) -> bytes:
    """``data`` so that it can stand in a packet; for answers that are not text."""
    return re.sub(rb"[#$}*]", lambda found: bytes([ord("}"), found[0][0] ^ 0x20]), data)


def frame(data: bytes) -> bytes:
    """The packet around ``data``, which is escaped already.

    >>> frame(b"OK")
    b'$OK#9a'
    """
    return b"$%s#%02x" % (data, sum(data) % 256)


def number(text: bytes) -> int:
    """A hexadecimal number of the protocol: 1 to 16 digits and nothing else. Raises ValueError."""
    if _HEX.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a hexadecimal number of 1 to 16 digits")
    return int(text, 16)
