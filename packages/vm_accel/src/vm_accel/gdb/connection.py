"""The bytes of one client."""

from __future__ import annotations

import socket

from .packets import MAX_PACKET, PacketReader, frame

__all__ = ["ClientGoneError", "Connection"]

_SEND_TIMEOUT = 10.0  # seconds that a client may leave an answer unread
_CHUNK = MAX_PACKET // 4  # bytes of text in one packet of output


class ClientGoneError(Exception):
    """The client has left, or does not read what it is sent."""


class Connection:
    """The bytes of one client."""

    def __init__(self, client: socket.socket) -> None:
        client.settimeout(_SEND_TIMEOUT)
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = client
        self.reader = PacketReader()
        self.last = b""

    def receive(self) -> bytes:
        """What has arrived. Raises ClientGoneError."""
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            raise ClientGoneError from error
        if not data:
            raise ClientGoneError
        return data

    def send(self, data: bytes) -> None:
        """Raises ClientGoneError."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise ClientGoneError from error

    def answer(self, data: bytes) -> None:
        """Send a packet, and remember it for a client that did not get it."""
        self.last = frame(data)
        self.send(self.last)

    def print(self, text: str) -> None:
        """Text for the person in front of gdb."""
        data = text.encode()
        for at in range(0, len(data), _CHUNK):
            self.answer(b"O" + data[at : at + _CHUNK].hex().encode())
