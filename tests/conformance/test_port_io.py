"""Port I/O: every width, string forms, and answers."""

from __future__ import annotations

import pytest
from conformance.machines import Machine
from conformance.programs import DATA, PORT_READS, PORT_WRITES, STRING_READ, STRING_WRITE, TEXT
from vm_accel import Hlt, IoIn, IoOut
from vm_core import InvalidConfig


def test_writes_of_every_width(machine: Machine) -> None:
    with machine.guest(PORT_WRITES) as guest:
        for size in (1, 2, 4):
            assert guest.vcpu.run(timeout=10) == IoOut(port=0x80, data=b"\x11\x22\x33\x44"[:size], size=size)
        assert guest.vcpu.run(timeout=10) == Hlt()


def test_reads_of_every_width(machine: Machine) -> None:
    with machine.guest(PORT_READS) as guest:
        for size, answer in ((4, 0xDDCC_BBAA), (2, 0xFFEE), (1, 0x7F)):
            question = guest.vcpu.run(timeout=10)
            assert question == IoIn(port=0x60, size=size)
            assert isinstance(question, IoIn)
            question.reply(answer)
        assert guest.vcpu.run(timeout=10) == Hlt()
        regs = guest.vcpu.regs
        assert (regs.rcx, regs.rbx, regs.rax) == (0xDDCC_BBAA, 0xFFEE, 0x7F)


def test_a_string_write_loses_nothing(machine: Machine) -> None:
    with machine.guest(STRING_WRITE) as guest:
        written = b""
        while isinstance(out := guest.vcpu.run(timeout=10), IoOut):
            assert (out.port, out.size, out.count) == (0x3F8, 1, len(out.data))
            written += out.data
        assert out == Hlt()
        assert written == TEXT


def test_a_string_read_takes_all_its_bytes_at_once(machine: Machine) -> None:
    answers = bytes(range(1, 11))
    with machine.guest(STRING_READ) as guest:
        given = 0
        while isinstance(question := guest.vcpu.run(timeout=10), IoIn):
            wanted = question.size * question.count
            assert question.size == 2
            with pytest.raises(InvalidConfig, match="bytes"):
                question.reply(bytes(wanted + 1))
            question.reply(answers[given : given + wanted])
            given += wanted
        assert question == Hlt()
        assert given == len(answers)
        assert guest.memory.read(DATA, given) == answers


def test_an_unanswered_read_keeps_the_guest(machine: Machine) -> None:
    with machine.guest(PORT_READS) as guest:
        question = guest.vcpu.run(timeout=10)
        assert isinstance(question, IoIn)
        for _ in range(2):
            with pytest.raises(InvalidConfig, match="waits for an answer"):
                guest.vcpu.run(timeout=10)
        question.reply(1)
        assert isinstance(guest.vcpu.run(timeout=10), IoIn)


@pytest.mark.parametrize("wrong", [1 << 32, -1, b"", b"123", b"12345"])
def test_an_answer_has_to_fit(machine: Machine, wrong: int | bytes) -> None:
    with machine.guest(PORT_READS) as guest:
        question = guest.vcpu.run(timeout=10)
        assert isinstance(question, IoIn)
        with pytest.raises(InvalidConfig):
            question.reply(wrong)
        question.reply(b"1234")
        with pytest.raises(InvalidConfig, match="already"):
            question.reply(b"1234")
        guest.vcpu.run(timeout=10)
        with pytest.raises(InvalidConfig, match="gone on"):
            question.reply(b"1234")
