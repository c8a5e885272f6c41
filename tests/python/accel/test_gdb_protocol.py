"""The gdb server against a client written by hand: packets, and what is none."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from accel.gdb_support import ScriptedClient, serve
from accel.guests import FOREVER, kvm_vm, real_mode_vcpu
from accel.long_mode import long_mode_vcpu
from vm_accel import Exit, GdbServer, Hlt, IoIn, IoOut, Vcpu, Vm
from vm_accel.gdb.packets import MAX_PACKET, Acknowledged, Interrupt, Malformed, Packet, PacketReader, escape, frame
from vm_core import AccessViolation, InvalidConfig
from vm_mem import GuestMemory

# mov ax, 0; inc ax; in al, 0x10; out 0x10, al; hlt
CODE = bytes([0xB8, 0x00, 0x00, 0x40, 0xE4, 0x10, 0xE6, 0x10, 0xF4])


@pytest.fixture
def memory() -> GuestMemory:
    return GuestMemory.anonymous(1 << 20)


@pytest.fixture
def vm(memory: GuestMemory) -> Iterator[Vm]:
    with kvm_vm() as vm:
        vm.map(memory)
        yield vm


def test_frames() -> None:
    reader = PacketReader()
    assert list(reader.feed(b"+-\x03$g#67")) == [Acknowledged(True), Acknowledged(False), Interrupt(), Packet(b"g")]
    assert list(reader.feed(b"$g#6")) == []
    assert list(reader.feed(b"7$g#68$g#zz")) == [Packet(b"g"), Malformed(), Malformed()]
    assert list(reader.feed(b"$lost$g#67")) == [Malformed(), Packet(b"g")]
    data = bytes(range(256))
    assert list(PacketReader().feed(frame(escape(data)))) == [Packet(data)]


def test_a_frame_without_end_is_dropped() -> None:
    reader = PacketReader()
    events = [event for _ in range(8) for event in reader.feed(b"$" + b"a" * (MAX_PACKET // 4))]
    assert Malformed() in events
    assert list(reader.feed(b"#00$g#67"))[-1] == Packet(b"g")


def test_questions_and_answers(vm: Vm, memory: GuestMemory) -> None:
    vcpu = real_mode_vcpu(vm, memory, CODE)

    def client(server: GdbServer) -> None:
        gdb = ScriptedClient(server)
        features = gdb.ask(b"qSupported:swbreak+;hwbreak+").split(b";")
        assert b"qXfer:features:read+" in features
        assert b"swbreak+" in features
        assert gdb.ask(b"?") == b"T05thread:1;"
        xml = gdb.ask(b"qXfer:features:read:target.xml:0,3fff")
        assert xml.startswith(b'l<?xml version="1.0"?>')
        assert b"<architecture>i8086</architecture>" in xml
        part = gdb.ask(b"qXfer:features:read:target.xml:5,10")
        assert part == b"m" + xml[6:22]
        assert gdb.ask(b"qfThreadInfo") == b"m1"
        assert gdb.ask(b"qsThreadInfo") == b"l"
        assert bytes.fromhex(gdb.ask(b"qThreadExtraInfo,1").decode()) == b"vCPU 0"
        assert gdb.ask(b"Hg1") == b"OK"
        assert gdb.ask(b"Hg2").startswith(b"E")
        assert gdb.ask(b"T1") == b"OK"
        assert gdb.ask(b"T2") == b"E03"
        assert gdb.ask(b"qAttached") == b"1"
        assert gdb.ask(b"vMustReplyEmpty") == b""
        # eax is register 0, eip register 8.
        assert gdb.ask(b"P0=78563412") == b"OK"
        assert gdb.ask(b"p0") == b"78563412"
        everything = gdb.ask(b"g")
        assert everything[:8] == b"78563412"
        assert everything[64:72] == b"00100000"
        assert gdb.ask(b"G" + b"21436587" + everything[8:]) == b"OK"
        assert gdb.ask(b"p0") == b"21436587"
        assert gdb.ask(b"p999") == b"E02"
        assert gdb.ask(b"m1000,9") == CODE.hex().encode()
        assert gdb.ask(b"M2000,2:abcd") == b"OK"
        assert gdb.ask(b"X2002,4:" + escape(b"#$}*")) == b"OK"
        assert gdb.ask(b"m2000,6") == b"abcd23247d2a"
        assert gdb.ask(b"mfffff,2") == b"00"  # what there is
        assert gdb.ask(b"m100000,1").startswith(b"E")
        assert gdb.ask(b"D") == b"OK"

    serve(vm, client)
    assert vcpu.regs.rax == 0x87654321
    assert memory.read(0x1000, len(CODE)) == CODE


def test_running_with_devices(vm: Vm, memory: GuestMemory) -> None:
    real_mode_vcpu(vm, memory, CODE)
    written: list[bytes] = []

    def device(vcpu: Vcpu, exit: Exit) -> bool | int | None:
        match exit:
            case IoIn(port=0x10):
                exit.reply(0x5A)
            case IoOut(port=0x10, data=data):
                written.append(data)
            case Hlt():
                return 3
            case _:
                return False
        return None

    def client(server: GdbServer) -> None:
        if not server.debugger.support.real.single_step:
            pytest.skip("this KVM does not step through code in real mode")
        gdb = ScriptedClient(server)
        assert gdb.ask(b"qSupported:swbreak+;hwbreak+")
        assert gdb.ask(b"s") == b"T05thread:1;"
        assert gdb.ask(b"Z0,1004,1") == b"OK"
        assert gdb.ask(b"Z0,1004,1") == b"OK"
        assert gdb.ask(b"m1004,1") == b"e4"
        assert gdb.ask(b"vCont;c") in (b"T05thread:1;swbreak:;", b"T05thread:1;hwbreak:;")
        assert gdb.ask(b"z0,1004,1") == b"OK"
        assert gdb.ask(b"vCont;s:1;c") == b"T05thread:1;"  # over the IN and its answer
        assert gdb.ask(b"p8") == b"06100000"
        assert gdb.ask(b"p0")[:2] == b"5a"
        assert gdb.ask(b"s") == b"T05thread:1;"  # over the OUT, which ends with its exit
        assert gdb.ask(b"p8") == b"08100000"
        gdb.send(b"qRcmd," + b"exits".hex().encode())
        assert b"vCPU 0: " in bytes.fromhex(gdb.receive()[1:].decode())
        assert gdb.receive() == b"OK"
        assert gdb.ask(b"c") == b"W03"

    assert serve(vm, client, on_exit=device) == 3
    assert written == [b"\x5a"]


def test_ctrl_c_and_a_second_client(vm: Vm, memory: GuestMemory, tmp_path: Path) -> None:
    real_mode_vcpu(vm, memory, FOREVER)

    def client(server: GdbServer) -> None:
        first = ScriptedClient(server)
        for _ in range(20):
            first.send(b"c")
            first.socket.sendall(b"\x03")
            assert first.receive() == b"T02thread:1;"
        assert first.ask(b"D") == b"OK"  # the guest runs on
        first.close()
        second = ScriptedClient(server)
        assert second.ask(b"p8") == b"00100000"
        second.send(b"c")
        second.close()  # in the middle of a run
        third = ScriptedClient(server)
        assert third.ask(b"?") == b"T05thread:1;"
        third.send(b"k")

    assert serve(vm, client, address=tmp_path / "gdb.sock") is None
    assert not (tmp_path / "gdb.sock").exists()


def test_acknowledgements(vm: Vm, memory: GuestMemory) -> None:
    real_mode_vcpu(vm, memory, CODE)

    def client(server: GdbServer) -> None:
        gdb = ScriptedClient(server, no_ack=False)
        answer = gdb.ask(b"qfThreadInfo")
        gdb.socket.sendall(b"-")
        assert gdb.receive() == answer
        gdb.socket.sendall(b"$qC#00")
        assert gdb.socket.recv(1) == b"-"

    serve(vm, client)


def test_threads_are_vcpus(vm: Vm, memory: GuestMemory) -> None:
    memory.write(0x3000, FOREVER)
    real_mode_vcpu(vm, memory, FOREVER)
    real_mode_vcpu(vm, memory, CODE, at=0x2000)

    def client(server: GdbServer) -> None:
        if not server.debugger.support.real.breakpoint:
            pytest.skip("this KVM has no breakpoints in real mode")
        gdb = ScriptedClient(server)
        assert gdb.ask(b"qfThreadInfo") == b"m1,2"
        assert gdb.ask(b"Z1,2003,1") == b"OK"
        assert gdb.ask(b"vCont;c").startswith(b"T05thread:2;")
        assert gdb.ask(b"qC") == b"QC2"
        assert gdb.ask(b"p8") == b"03200000"
        assert gdb.ask(b"Hg1") == b"OK"
        assert gdb.ask(b"p8") == b"00100000"
        assert gdb.ask(b"vCont;s:2").startswith(b"T05thread:2;")
        gdb.send(b"vCont;c:1")
        gdb.socket.sendall(b"\x03")
        assert gdb.receive() == b"T02thread:1;"

    serve(vm, client)


def test_long_mode_has_long_registers(vm: Vm, memory: GuestMemory) -> None:
    vcpu = long_mode_vcpu(vm, memory, CODE)

    def client(server: GdbServer) -> None:
        gdb = ScriptedClient(server)
        assert b"<architecture>i386:x86-64</architecture>" in gdb.ask(b"qXfer:features:read:target.xml:0,3fff")
        assert gdb.ask(b"p10") == b"0010000000000000"
        gdb.send(b"qRcmd," + b"translate 0x7f0000001004".hex().encode())
        assert bytes.fromhex(gdb.receive()[1:].decode()).startswith(b"0x7f0000001004 -> 0x1004 (")
        assert gdb.receive() == b"OK"

    serve(vm, client)
    assert vcpu.regs.rip == 0x1000


def test_an_address_with_a_code_base_is_linear(vm: Vm, memory: GuestMemory) -> None:
    vcpu = real_mode_vcpu(vm, memory, CODE, at=0x11000)
    sregs = vcpu.sregs
    sregs.cs.base, sregs.cs.selector = 0x10000, 0x1000
    vcpu.sregs = sregs
    regs = vcpu.regs
    regs.rip = 0x1000
    vcpu.regs = regs

    def client(server: GdbServer) -> None:
        gdb = ScriptedClient(server)
        assert gdb.ask(b"p8") == b"00100100"
        assert gdb.ask(b"P8=03100100") == b"OK"

    serve(vm, client)
    assert vcpu.regs.rip == 0x1003


def test_what_a_server_needs(vm: Vm, memory: GuestMemory) -> None:
    with GdbServer(vm, ("127.0.0.1", 0)) as server, pytest.raises(InvalidConfig, match="no vCPU"):
        server.serve_forever()
    with pytest.raises(InvalidConfig, match="i8086"):
        GdbServer(vm, ("127.0.0.1", 0), architecture="z80")


def _noise(random_source: random.Random) -> bytes:
    """One attempt to break the server: half-right packets, wrong frames, bytes."""
    letters = b"?HTgGpPmMXZzcsCSDqQvk!\x03$#}*+-"
    numbers = [b"0", b"-1", b"ffffffffffffffff", b"10000000000000000", b"1000", b"0x10", b"_1", b"", b"zz", b"\xff"]
    kind = random_source.randrange(6)
    if kind == 0:
        return random_source.randbytes(random_source.randrange(1, 200))
    if kind == 1:
        return frame(bytes([random_source.choice(letters)]) + random_source.randbytes(random_source.randrange(20)))
    if kind == 2:
        word = random_source.choice([b"m", b"M", b"X", b"Z0,", b"z1,", b"Z2,", b"Z9,", b"p", b"P", b"H", b"Hg", b"T"])
        parts = [random_source.choice(numbers) for _ in range(random_source.randrange(4))]
        return frame(word + random_source.choice([b",", b":", b"=", b";"]).join(parts))
    if kind == 3:
        word = random_source.choice(
            [b"vCont", b"vCont;", b"qXfer:features:read:", b"qRcmd,", b"qSupported:", b"G", b"vRun;"]
        )
        return frame(
            word + b";".join(random_source.choice([*numbers, b"t", b"s:9", b"c:-5", b"r1,2"]) for _ in range(3))
        )
    if kind == 4:
        return b"$" + b"a" * random_source.randrange(40000) + b"#00"
    return frame(
        b"qRcmd,"
        + random_source.choice([b"help", b"translate zz", b"translate 0xffffffffffffffffff", b"\xff"]).hex().encode()
    )


def test_malformed_packets_do_no_harm(vm: Vm, memory: GuestMemory) -> None:
    real_mode_vcpu(vm, memory, CODE)
    source = random.Random(4)

    def client(server: GdbServer) -> None:
        for round_ in range(30):
            gdb = ScriptedClient(server, no_ack=round_ % 2 == 0)
            gdb.socket.settimeout(10)
            with contextlib.suppress(OSError):
                for _ in range(15):
                    noise = _noise(source)
                    # A kill ends the server, which is no harm but ends the test as well.
                    if b"$k" not in noise and b"vKill" not in noise:
                        gdb.socket.sendall(noise)
                gdb.socket.shutdown(socket.SHUT_WR)
                while gdb.socket.recv(65536):
                    pass
            gdb.close()
        last = ScriptedClient(server)
        assert last.ask(b"qfThreadInfo") == b"m1"
        assert last.ask(b"m1000,1") != b""

    # Whatever runs meanwhile does nothing that lasts.
    serve(vm, client, on_exit=lambda vcpu, exit: False)


def test_close_stops_listening_on_any_thread(vm: Vm, memory: GuestMemory) -> None:
    real_mode_vcpu(vm, memory, FOREVER)
    server = GdbServer(vm, ("127.0.0.1", 0))
    address = server.address
    assert isinstance(address, tuple)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    server.stop()
    serving.join()
    with pytest.raises(AccessViolation):  # the vCPUs are still the other thread's
        server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=10)
