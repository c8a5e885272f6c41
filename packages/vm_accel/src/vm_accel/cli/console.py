"""What is typed, or comes from a file, reaches the guest's serial port."""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ..devices import Serial

STANDARD_INPUT = 0
CHUNK = 4096
"""Bytes read at once, and how many may wait for a guest that does not look."""
FULL_DELAY = 0.01
"""Seconds between looks at a guest that has not read enough yet."""


@contextmanager
def _single_keys(fd: int) -> Iterator[None]:
    """A terminal that hands over every key at once and leaves the echo to the guest; Ctrl-C stays what it is."""
    import termios

    before = termios.tcgetattr(fd)
    changed = termios.tcgetattr(fd)
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(fd, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        with suppress(termios.error):  # a terminal that was closed meanwhile
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _is_our_terminal(fd: int) -> bool:
    """Whether `fd` is a terminal that this process may read: the shell stops a background job that tries to."""
    return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()


def _copy(source: int, stop: int, serial: Serial, ended: threading.Event) -> None:
    while True:
        if serial.waiting >= CHUNK:
            if ended.wait(FULL_DELAY):
                return
            continue
        ready, _, _ = select.select([source, stop], [], [])
        try:
            data = b"" if stop in ready else os.read(source, CHUNK)
        except OSError as error:
            if error.errno != errno.EIO:  # how a terminal says that it was closed, where it does not just end
                raise
            return
        if not data:
            return
        serial.feed(data)


@contextmanager
def input_to(serial: Serial, source: str | None) -> Iterator[None]:
    """Feed `serial` from a file, from standard input (``-``), or from nothing (``none``) for as long as this is open.

    None stands for standard input when that is a terminal of ours, else for nothing: a command in a shell's loop must
    not eat the input of the loop.
    """
    with ExitStack() as stack:
        if source == "none" or (source is None and not _is_our_terminal(STANDARD_INPUT)):
            yield
            return
        fd = STANDARD_INPUT if source in (None, "-") else stack.enter_context(open(str(source), "rb")).fileno()
        if _is_our_terminal(fd):
            stack.enter_context(_single_keys(fd))
        stop, stopper = os.pipe()
        stack.callback(os.close, stop)
        ended = threading.Event()
        reader = threading.Thread(target=_copy, args=(fd, stop, serial, ended), name="vm-accel input", daemon=True)
        reader.start()
        try:
            yield
        finally:
            ended.set()
            os.close(stopper)
            reader.join()
