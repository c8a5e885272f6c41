"""Kicks and timeouts: none lost, none stale, from wherever they come."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conformance.machines import Machine
from conformance.programs import FOREVER, PORT_LOOP, PORT_THEN_FOREVER
from vm_accel import Interrupted, IoOut, Timeout, Vcpu


@contextmanager
def thread(work: object) -> Iterator[None]:
    """Run `work` beside the block, which waits for its end."""
    assert callable(work)
    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        worker.join()


def waiting_kicks(vcpu: Vcpu, count: int) -> None:
    """Every kick is sent after the one before was seen, so each has to be seen."""
    seen = threading.Semaphore(0)

    def kick() -> None:
        for _ in range(count):
            vcpu.kick()
            seen.acquire()

    with thread(kick):
        lost = 0
        for _ in range(count):
            lost += vcpu.run(timeout=30) != Interrupted()
            seen.release()
    assert lost == 0


def free_kicks(vcpu: Vcpu, count: int) -> None:
    """Nobody waits: kicks that come together are one, and the last one is seen."""
    done = threading.Event()

    def kick() -> None:
        for _ in range(count):
            vcpu.kick()
        done.set()

    with thread(kick):
        interrupted = 0
        while not done.is_set():
            interrupted += vcpu.run(timeout=0.05) == Interrupted()
    # A kick that came after the last look is still there, and it is one.
    left = [vcpu.run(timeout=0), vcpu.run(timeout=0)]
    assert left[1] == Timeout()
    assert 1 <= interrupted + left.count(Interrupted()) <= count


def test_kicks_from_another_thread_are_all_seen(machine: Machine) -> None:
    with machine.guest(FOREVER) as guest:
        waiting_kicks(guest.vcpu, machine.handovers)
        assert guest.vcpu.run(timeout=0.01) == Timeout()


def test_a_storm_of_kicks_leaves_nothing_behind(machine: Machine) -> None:
    with machine.guest(FOREVER) as guest:
        free_kicks(guest.vcpu, machine.kicks)


def test_a_storm_does_not_disturb_exits(machine: Machine) -> None:
    with machine.guest(PORT_LOOP) as guest:
        vcpu = guest.vcpu
        done = threading.Event()

        def kick() -> None:
            for _ in range(machine.handovers):
                vcpu.kick()
            done.set()

        with thread(kick):
            while not done.is_set():
                assert vcpu.run(timeout=30) in (IoOut(port=0x3F8, data=b"\x00"), Interrupted())
        after = [vcpu.run(timeout=30) for _ in range(3)]
        assert after[1:] == [IoOut(port=0x3F8, data=b"\x00")] * 2


def test_kicks_before_a_run_are_one_and_end_it(machine: Machine) -> None:
    with machine.guest(PORT_LOOP) as guest:
        for _ in range(machine.kicks):
            guest.vcpu.kick()
            guest.vcpu.kick()
            assert guest.vcpu.run(timeout=30) == Interrupted()
        assert isinstance(guest.vcpu.run(timeout=30), IoOut)


@pytest.mark.slow
def test_a_hundred_thousand_kicks(machine: Machine) -> None:
    with machine.guest(FOREVER) as guest:
        waiting_kicks(guest.vcpu, 100_000)
        free_kicks(guest.vcpu, 100_000)


def test_a_signal_handler_may_kick(machine: Machine) -> None:
    with machine.guest(FOREVER) as guest:
        before = signal.signal(signal.SIGALRM, lambda *_: guest.vcpu.kick())
        try:
            for _ in range(20):
                signal.setitimer(signal.ITIMER_REAL, 0.002)
                assert guest.vcpu.run(timeout=30) == Interrupted()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_timeouts_end_runs_and_only_theirs(machine: Machine) -> None:
    with machine.guest(PORT_THEN_FOREVER) as guest:
        vcpu = guest.vcpu
        assert isinstance(vcpu.run(timeout=0.05), IoOut)
        assert [vcpu.run(timeout=0), vcpu.run(timeout=0.05), vcpu.run(timeout=0)] == [Timeout()] * 3
        with thread(vcpu.kick):
            assert vcpu.run(timeout=30) == Interrupted()  # the deadlines before are over
        assert vcpu.run(timeout=0.01) == Timeout()


def test_a_deadline_that_was_not_needed_disturbs_nobody(machine: Machine) -> None:
    with machine.guest(PORT_LOOP) as guest:
        for _ in range(machine.handovers):
            assert isinstance(guest.vcpu.run(timeout=1), IoOut)
        for _ in range(machine.handovers):
            assert isinstance(guest.vcpu.run(), IoOut)
