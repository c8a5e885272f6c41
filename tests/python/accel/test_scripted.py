"""The scripted hypervisor from Python: scripts, the record, failures. The rules of running are in tests/conformance."""

from __future__ import annotations

import errno
import gc
import threading
import weakref
from collections.abc import Callable

import pytest
from vm_accel import Hlt, Hypervisor, Interrupted, IoIn, IoOut, MmioWrite, RdMsr, Shutdown, Timeout
from vm_accel.testing import Block, Call, Do, Fail, Loop, ScriptedGuest, ScriptedHypervisor
from vm_core import AccessViolation, InvalidConfig, NotSupported, PlatformError, ResourceExhausted
from vm_mem import GuestMemory


def test_it_is_a_hypervisor() -> None:
    with ScriptedHypervisor([Hlt()]) as hypervisor:
        assert isinstance(hypervisor, Hypervisor)
        assert (hypervisor.name, hypervisor.architecture, hypervisor.max_vcpus) == ("scripted", "x86_64", 64)
        vm = hypervisor.create_vm()
        hypervisor.map_memory(vm, 0x10_0000, GuestMemory.anonymous(4096))
        vcpu = hypervisor.create_vcpu(vm)
        assert hypervisor.run_vcpu(vcpu) == Hlt()
        with pytest.raises(InvalidConfig, match="over after its 1 steps"):
            vcpu.run()


def test_the_record_tells_what_was_asked() -> None:
    with ScriptedHypervisor([IoIn(port=0x60), RdMsr(index=0x1B), Hlt()]) as hypervisor:
        vm = hypervisor.create_vm()
        vm.map(GuestMemory.anonymous(8192), at=0x4000)
        vm.set_flags(0x4000, read_only=True, log_dirty=False)
        vcpu = vm.create_vcpu()
        regs = vcpu.regs
        regs.rax = 5
        vcpu.regs = regs
        question = vcpu.run()
        assert isinstance(question, IoIn)
        question.reply(7)
        read = vcpu.run()
        assert isinstance(read, RdMsr)
        read.refuse()
        assert vcpu.run() == Hlt()
        vm.unmap(0x4000)
        names = [call.name for call in hypervisor.calls]
        wanted = "create_vm add_slot change_slot create_vcpu set_regs run reply run refuse run remove_slot"
        assert names == wanted.split()
        slot = hypervisor.calls[1].value
        assert (getattr(slot, "base", None), getattr(slot, "size", None)) == (0x4000, 8192)
        match hypervisor.calls[2]:
            case Call("change_slot", value=(before, after)):
                assert not before.read_only
                assert after.read_only
            case other:
                pytest.fail(repr(other))
        assert getattr(hypervisor.calls[4].value, "rax", None) == 5
        assert hypervisor.calls[5] == Call("run", 0, 0, 0, IoIn(port=0x60))
        assert hypervisor.calls[6] == Call("reply", 0, 0, 0, b"\x07")
        hypervisor.forget_calls()
        assert hypervisor.calls == []


def test_without_a_record_nothing_is_kept() -> None:
    with ScriptedHypervisor([Loop([Hlt()])], record=False) as hypervisor:
        vcpu = hypervisor.create_vm().create_vcpu()
        for _ in range(3):
            assert vcpu.run() == Hlt()
        assert hypervisor.calls == []


def test_every_vcpu_has_its_script() -> None:
    with ScriptedHypervisor({0: [Hlt()], 1: [Shutdown(), Loop([Hlt()])]}) as hypervisor:
        vm = hypervisor.create_vm()
        first, second, third = (vm.create_vcpu() for _ in range(3))
        assert first.run() == Hlt()
        assert [second.run() for _ in range(3)] == [Shutdown(), Hlt(), Hlt()]
        with pytest.raises(InvalidConfig, match="vCPU 2 has no steps"):
            third.run()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOMEM, ResourceExhausted),
        (errno.EOPNOTSUPP, NotSupported),
        (errno.EFAULT, PlatformError),
    ],
)
def test_failures_come_where_they_are_wanted(code: int, kind: type[Exception]) -> None:
    with ScriptedHypervisor([Hlt(), Hlt(), Fail(code), Hlt()]) as hypervisor:
        hypervisor.fail("create_vm", code)
        with pytest.raises(kind, match="create_vm"):
            hypervisor.create_vm()
        vm = hypervisor.create_vm()
        hypervisor.fail("add_slot", code, nth=2)
        vm.map(GuestMemory.anonymous(4096))
        with pytest.raises(kind):
            vm.map(GuestMemory.anonymous(4096), at=0x10_0000)
        assert len(vm.slots) == 1
        vcpu = vm.create_vcpu()
        hypervisor.fail("run", code, nth=2)
        assert vcpu.run() == Hlt()
        with pytest.raises(kind) as failure:
            vcpu.run()
        assert getattr(failure.value, "errno", code) == code
        assert vcpu.run() == Hlt()
        with pytest.raises(kind):
            vcpu.run()
        assert vcpu.run() == Hlt()
        assert [call.error for call in hypervisor.calls if call.name == "run"] == [0, code, 0, code, 0]


@pytest.mark.parametrize("wrong", [("reset", 1, 1), ("run", 0, 1), ("run", 1, 0)])
def test_failures_that_cannot_be_are_refused(wrong: tuple[str, int, int]) -> None:
    with ScriptedHypervisor() as hypervisor, pytest.raises(InvalidConfig):
        hypervisor.fail(*wrong)


@pytest.mark.parametrize("step", [None, 5, "Hlt", Hlt, lambda _: None, Loop([Hlt()]), Fail(0)])
def test_steps_that_cannot_be_played_are_refused(step: object) -> None:
    with pytest.raises(InvalidConfig):
        ScriptedHypervisor([step, Hlt()])  # type: ignore[list-item]


def test_a_loop_has_to_come_back() -> None:
    with pytest.raises(InvalidConfig, match="come back"):
        ScriptedHypervisor([Hlt(), Loop([Do(lambda _: None)])])


def test_a_step_acts_for_the_guest() -> None:
    kept: list[ScriptedGuest] = []

    def act(guest: ScriptedGuest) -> None:
        kept.append(guest)
        guest.regs.rax += int.from_bytes(guest.reply, "little")
        sregs = guest.sregs
        sregs.cr3 = 0x5000
        guest.memory.write(0x100, b"seen")
        with pytest.raises(AccessViolation):
            guest.memory.write(0x1_0000, b"never")

    script = [IoIn(port=0x60, size=2), Do(act), MmioWrite(paddr=0x1_0000, data=b"never"), Hlt()]
    with ScriptedHypervisor(script) as hypervisor:
        vm = hypervisor.create_vm()
        memory = GuestMemory.anonymous(4096)
        vm.map(memory)
        vm.map(GuestMemory.anonymous(4096), at=0x1_0000, read_only=True)
        vcpu = vm.create_vcpu()
        question = vcpu.run()
        assert isinstance(question, IoIn)
        question.reply(0x1234)
        assert vcpu.run() == MmioWrite(paddr=0x1_0000, data=b"never")
        assert (vcpu.regs.rax, vcpu.sregs.cr3) == (0x1234, 0x5000)
        assert memory.read(0x100, 4) == b"seen"
    assert (kept[0].vm, kept[0].vcpu, kept[0].refused) == (0, 0, False)
    kept[0].regs.rax = 1  # of no effect after the step, and no harm


def test_what_a_step_raises_comes_out_of_run() -> None:
    def fail(_: ScriptedGuest) -> None:
        raise LookupError("from the step")

    with ScriptedHypervisor([Do(fail), Hlt()]) as hypervisor:
        vcpu = hypervisor.create_vm().create_vcpu()
        with pytest.raises(LookupError, match="from the step"):
            vcpu.run()
        assert vcpu.run() == Hlt()


def test_a_block_is_over_with_its_run() -> None:
    with ScriptedHypervisor([Block(), Block(), IoOut(port=1, data=b"a"), Hlt()]) as hypervisor:
        vcpu = hypervisor.create_vm().create_vcpu()
        assert vcpu.run(timeout=0.001) == Timeout()
        threading.Thread(target=vcpu.kick).start()
        assert vcpu.run() == Interrupted()
        assert [vcpu.run(), vcpu.run()] == [IoOut(port=1, data=b"a"), Hlt()]
        assert hypervisor.nudges() >= 2
        assert [call.value for call in hypervisor.calls if call.name == "run"][:2] == [Timeout(), Interrupted()]


def test_scripts_play_in_any_thread() -> None:
    seen: list[int] = []
    steps = [Do(lambda _: seen.append(threading.get_ident())), Hlt()]
    with ScriptedHypervisor(steps) as hypervisor:
        vcpu = hypervisor.create_vm().create_vcpu()

        def work() -> None:
            vcpu.attach()
            vcpu.run()

        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        assert seen == [worker.ident]


def test_steps_are_let_go_with_the_hypervisor() -> None:
    class Action:
        def __call__(self, guest: ScriptedGuest) -> None: ...

    def gone() -> Callable[[], object]:
        action = Action()
        hypervisor = ScriptedHypervisor([Do(action), Hlt()])
        vcpu = hypervisor.create_vm().create_vcpu()
        assert vcpu.run() == Hlt()
        return weakref.ref(action)

    action = gone()
    gc.collect()
    assert action() is None
