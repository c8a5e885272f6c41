"""vm-mem translate: addresses from everywhere, answers in every form."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from mem.cli_support import KERNEL, ROOT, TEXT, USER, Run, save_core, save_raw
from vm_core import FaultReason
from vm_mem import GuestMemory
from vm_mem.paging import X86, AddressSpace

HOLE = 0xFFFF_C000_0000_0000
TABLES = ("--arch", "x86_64", "--root", hex(ROOT))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save_raw(tmp_path)


def test_hits_and_faults_for_people(run: Run, image: Path) -> None:
    result = run("translate", image, hex(TEXT + 0x1234), str(USER), hex(HOLE), 1 << 63, *TABLES)
    assert (result.status, result.err) == (0, "")
    assert result.lines[1:] == [
        "0xffffffff81001234  0x0000000000101234    4K  r-x",
        "0x0000000000400000  0x0000000000080000    4K  rw- user",
        "0xffffc00000000000  fault: not present (level 3, error code 0x0)",
        "0x8000000000000000  fault: not a canonical address (level 3, error code 0x0)",
    ]


def test_hits_and_faults_for_programs(run: Run, image: Path) -> None:
    result = run("translate", image, hex(KERNEL + 5), hex(HOLE), *TABLES, "--json")
    assert result.json == [
        {
            "vaddr": hex(KERNEL + 5),
            "paddr": "0x5",
            "page_size": 2 << 20,
            "access": "rw-",
            "user": False,
            "level": 1,
        },
        {"vaddr": hex(HOLE), "fault": "NOT_PRESENT", "level": 3, "error_code": 0},
    ]


def test_rights_are_asked_for_as_letters(run: Run, image: Path) -> None:
    def reason(*options: str) -> object:
        (answer,) = run("translate", image, hex(TEXT), *TABLES, "--json", *options).json
        return answer.get("fault")

    assert reason() is None
    assert reason("--access", "rx") is None
    assert reason("--access", "r-x") is None
    assert reason("--access", "w") == "WRITE_DENIED"
    assert reason("--user") == "USER_DENIED"
    assert reason("--user", "--access", "none") is None


@pytest.mark.parametrize("rights", ["rr", "q", "", "-"])
def test_other_letters_are_refused(run: Run, image: Path, rights: str) -> None:
    result = run("translate", image, "0", *TABLES, "--access", rights)
    assert result.status == 2
    assert "rwx" in result.err.replace("r, w and x", "rwx")


def test_strict_makes_a_fault_an_exit_status(run: Run, image: Path) -> None:
    assert run("translate", image, hex(TEXT), *TABLES, "--strict").status == 0
    assert run("translate", image, hex(TEXT), hex(HOLE), *TABLES, "--strict").status == 1


def test_a_text_file_of_addresses_with_comments(run: Run, image: Path, tmp_path: Path) -> None:
    file = tmp_path / "addresses.txt"
    file.write_text(f"# the kernel\n{TEXT:#x} {TEXT + 1}\n\n   {USER}  # the user\n")
    result = run("translate", image, hex(KERNEL), "--addresses", file, *TABLES, "--json")
    assert [answer["vaddr"] for answer in result.json] == [hex(a) for a in (KERNEL, TEXT, TEXT + 1, USER)]


def test_standard_input(run: Run, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{TEXT}\n{USER:#x}\n"))
    result = run("translate", image, "--addresses", "-", *TABLES, "--json")
    assert [answer["paddr"] for answer in result.json] == ["0x100000", "0x80000"]


def test_no_addresses_are_an_answer_when_a_file_has_none(run: Run, image: Path, tmp_path: Path) -> None:
    file = tmp_path / "none.txt"
    file.write_text("# nothing\n")
    assert run("translate", image, "--addresses", file, *TABLES, "--json").json == []
    assert run("translate", image, *TABLES).status == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"0x1000\n12 twelve\n", "line 2: 'twelve' is not a number"),
        (b"0x1000\n\nffff\n", "line 3: 'ffff' is not a decimal number; write 0xffff"),
        (b"-1\n", "range"),
        (b"\x93NUMPY\x01\x00", "not a .npy file"),
        (b"\xff\xfe", "line 1"),
    ],
)
def test_bad_files_are_told_with_their_line(run: Run, image: Path, tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "addresses"
    file.write_bytes(content)
    result = run("translate", image, "--addresses", file, *TABLES)
    assert result.status == 2
    assert told in result.err


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.array([1.5]), "float64"),
        (np.array([-1]), "negative"),
        (np.array([b"x"], object), "not a .npy file of numbers"),
    ],
)
def test_arrays_of_other_things_are_refused(
    run: Run, image: Path, tmp_path: Path, values: np.ndarray, told: str
) -> None:
    file = tmp_path / "addresses.npy"
    np.save(file, values, allow_pickle=True)
    result = run("translate", image, "--addresses", file, *TABLES)
    assert result.status == 2
    assert told in result.err


@pytest.fixture
def many(tmp_path: Path) -> tuple[Path, np.ndarray]:
    random = np.random.default_rng(3)
    vaddrs = np.concatenate([random.integers(0, 2 << 20, 300, np.uint64) + np.uint64(KERNEL)] * 2)
    vaddrs[::7] = HOLE
    vaddrs = vaddrs.reshape(20, 30)
    file = tmp_path / "vaddrs.npy"
    np.save(file, vaddrs)
    return file, vaddrs


def expected(image: Path, vaddrs: np.ndarray) -> dict[str, np.ndarray]:
    answer = AddressSpace(GuestMemory.open(image), X86(4, ROOT)).translate(vaddrs)
    names = ("vaddr", "paddr", "page_size", "access", "user", "level", "fault", "error_code")
    return {name: getattr(answer, name) for name in names}


def test_results_as_npz_keep_their_shape(run: Run, image: Path, tmp_path: Path, many: tuple[Path, np.ndarray]) -> None:
    file, vaddrs = many
    result = run("translate", image, "--addresses", file, *TABLES, "-o", tmp_path / "out.npz")
    assert result.status == 0
    assert result.out.startswith("600 addresses: 514 translated, 86 faulted (86 not present)")
    with np.load(tmp_path / "out.npz") as written:
        for name, values in expected(image, vaddrs).items():
            np.testing.assert_array_equal(written[name], values)
            assert written[name].dtype == values.dtype


def test_results_as_npy_are_records(run: Run, image: Path, tmp_path: Path, many: tuple[Path, np.ndarray]) -> None:
    file, vaddrs = many
    run("translate", image, "--addresses", file, *TABLES, "-o", tmp_path / "out.npy")
    written = np.load(tmp_path / "out.npy")
    assert written.shape == vaddrs.shape
    for name, values in expected(image, vaddrs).items():
        np.testing.assert_array_equal(written[name], values)


def test_results_as_csv_are_lines(run: Run, image: Path, tmp_path: Path, many: tuple[Path, np.ndarray]) -> None:
    file, vaddrs = many
    run("translate", image, "--addresses", file, *TABLES, "-o", tmp_path / "out.csv")
    header, *lines = (tmp_path / "out.csv").read_text().splitlines()
    assert header == "vaddr,paddr,page_size,access,user,level,fault,error_code"
    assert lines[0] == f"{HOLE:#x},,,,,3,not_present,0x0"
    first = int(vaddrs[0, 1])
    assert lines[1] == f"{first:#x},{first - KERNEL:#x},{2 << 20},rw-,0,1,,"
    assert len(lines) == vaddrs.size


def test_a_summary_for_programs(run: Run, image: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    result = run("translate", image, hex(TEXT), hex(HOLE), *TABLES, "-o", output, "--json")
    assert result.json == {"output": str(output), "addresses": 2, "translated": 1, "faults": {"NOT_PRESENT": 1}}
    assert FaultReason.NOT_PRESENT.name == "NOT_PRESENT"


@pytest.mark.parametrize("name", ["out.txt", "out", "nowhere/out.npz"])
def test_results_go_nowhere_else(run: Run, image: Path, tmp_path: Path, name: str) -> None:
    result = run("translate", image, "0", *TABLES, "-o", tmp_path / name)
    assert result.status == 2
    assert not (tmp_path / name).exists()


def test_the_registers_of_a_core_are_enough(run: Run, tmp_path: Path) -> None:
    result = run("translate", save_core(tmp_path), hex(TEXT), "--json")
    assert result.json[0]["paddr"] == "0x100000"
    assert "NXE bit is assumed" in result.err


def test_an_explicit_efer_is_believed(run: Run, tmp_path: Path) -> None:
    core = save_core(tmp_path)
    fetch = ("translate", core, hex(KERNEL), "--access", "x", "--json")
    believed = run(*fetch, "--efer", "0xd00")
    assert believed.err == ""
    assert believed.json[0]["fault"] == "EXECUTE_DENIED"
    assert run(*fetch, "--efer", "0x500").json[0]["fault"] == "RESERVED_BIT"
