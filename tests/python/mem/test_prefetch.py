"""vm_mem.prefetch: what every prefetcher promises, and what the Python face adds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vm_core import InvalidConfig, PlatformError
from vm_mem.prefetch import (
    Adaptive,
    Distance,
    FreeNeighbours,
    Markov,
    Perceptron,
    Prefetcher,
    Profile,
    Sequential,
    Strided,
)

MAX_PAGE = 2**52 - 1
KINDS: dict[str, Callable[[], Prefetcher]] = {
    "sequential": lambda: Sequential(degree=5),
    "strided": lambda: Strided(rows=8, streams=3, degree=4),
    "distance": lambda: Distance(rows=8, slots=3),
    "markov": lambda: Markov(rows=8, ways=2),
    "free_neighbours": lambda: FreeNeighbours(threshold=0, lines=3),
    "perceptron": lambda: Perceptron(Distance(rows=16), rows=16, passed=4, refused=4),
    "adaptive": lambda: Adaptive(window=16, filter=7, resident=3),
}
# Few pages close together, so that patterns arise, and the ends of the address space.
PAGES = st.one_of(st.integers(0, 40), st.integers(MAX_PAGE - 20, MAX_PAGE), st.integers(0, MAX_PAGE))
PCS = st.sampled_from([0, 0x401000, 2**64 - 1])
OUTCOMES = st.sampled_from([None, "useful", "useless", "late", "refused"])
EVENTS = st.lists(st.tuples(PAGES, PCS, st.booleans(), OUTCOMES), max_size=120)
RUNS = st.tuples(PAGES, st.integers(-9, 9), st.integers(1, 30)).map(
    lambda r: [(min(max(r[0] + i * r[1], 0), MAX_PAGE), 0, False, "useful") for i in range(r[2])]
)
STREAMS = st.lists(st.one_of(EVENTS, RUNS), max_size=5).map(lambda parts: [event for part in parts for event in part])


def play(prefetcher: Prefetcher, events: list[tuple[int, int, bool, str | None]]) -> list[list[int]]:
    """All proposals; every one of them gets the outcome of its event."""
    answers = []
    for page, pc, hit, outcome in events:
        answers.append(prefetcher.observe(page, pc, prefetch_hit=hit))
        for proposed in answers[-1] if outcome else ():
            prefetcher.outcome(proposed, outcome)  # type: ignore[arg-type]
    return answers


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(events=STREAMS)
def test_proposals_are_bounded_and_repeatable(kind: str, events: list[tuple[int, int, bool, str | None]]) -> None:
    prefetcher, other = KINDS[kind](), KINDS[kind]()
    answers = play(prefetcher, events)
    for (page, *_), proposed in zip(events, answers, strict=True):
        assert page not in proposed
        assert len(proposed) == len(set(proposed)) <= 16
        assert all(0 <= p <= MAX_PAGE for p in proposed)
    assert play(other, events) == answers
    stats = prefetcher.stats
    assert (stats.events, stats.proposed) == (len(events), sum(map(len, answers)))
    told = dict.fromkeys(("useful", "useless", "late", "refused"), 0)
    for (*_, outcome), proposed in zip(events, answers, strict=True):
        if outcome:
            told[outcome] += len(proposed)
    assert told == {name: getattr(stats, name) for name in told}
    prefetcher.reset()
    assert prefetcher.stats.events == 0
    assert play(prefetcher, events) == answers


@pytest.mark.parametrize("kind", KINDS)
def test_observe_many_is_observe_many_times(kind: str) -> None:
    random = np.random.default_rng(1)
    pages = np.concatenate([np.arange(100, 200), random.integers(0, 60, 300), np.arange(5000, 8000, 17)])
    pcs = random.integers(0, 3, pages.size)
    hits = random.random(pages.size) < 0.3
    many, one = KINDS[kind](), KINDS[kind]()
    offsets, candidates = many.observe_many(pages, pcs, prefetch_hits=hits)
    assert (offsets.dtype, candidates.dtype) == (np.int64, np.uint64)
    assert (offsets[0], offsets[-1], offsets.size) == (0, candidates.size, pages.size + 1)
    for i in range(pages.size):
        expected = one.observe(int(pages[i]), int(pcs[i]), prefetch_hit=bool(hits[i]))
        assert candidates[offsets[i] : offsets[i + 1]].tolist() == expected
    assert many.stats.proposed == one.stats.proposed == candidates.size


def test_observe_many_takes_what_numpy_takes() -> None:
    offsets, candidates = Sequential().observe_many([])
    assert (offsets.tolist(), candidates.tolist()) == ([0], [])
    for pages in ([5, 9], (5, 9), np.array([5, 9], np.uint16), np.array([[5, 0], [9, 0]])[:, 0]):
        assert Sequential().observe_many(pages)[1].tolist() == [6, 10]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pages": [[1, 2]]}, "one-dimensional"),
        ({"pages": [1.5]}, "integers"),
        ({"pages": [-1]}, "negative"),
        ({"pages": np.array([2**52], np.uint64)}, "at most 2"),
        ({"pages": [1, 2], "pcs": [1]}, "as long as pages, 2"),
        ({"pages": [1, 2], "prefetch_hits": np.array([True])}, "as long as pages, 2"),
    ],
)
def test_observe_many_refuses(arguments: dict[str, object], message: str) -> None:
    prefetcher = Sequential()
    with pytest.raises(InvalidConfig, match=message):
        prefetcher.observe_many(**arguments)  # type: ignore[arg-type]
    assert prefetcher.stats.events == 0


def test_pages_are_pages() -> None:
    for page in (-1, 2**52, 2**64):
        with pytest.raises(InvalidConfig, match=r"at most 2\*\*52 - 1|whole numbers"):
            Sequential().observe(page)
    with pytest.raises(InvalidConfig, match="at most"):
        Sequential().outcome(2**52, "useful")
    with pytest.raises(InvalidConfig, match='unknown outcome "good"'):
        Sequential().outcome(1, "good")  # type: ignore[arg-type]
    assert Sequential().observe(np.uint64(7)) == [8]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sequential(degree=0), "degree must be from 1 to 16, got 0"),
        (lambda: Strided(rows=10), "multiple of ways"),
        (lambda: Distance(slots=9), "slots"),
        (lambda: Markov(ways=0), "ways"),
        (lambda: FreeNeighbours(group=5), "2, 4, 8 or 16"),
        (lambda: Perceptron(Distance(), rows=100), "power of two"),
        (lambda: Adaptive([]), "number of members"),
        (lambda: Adaptive(accuracy=float("nan")), "accuracy"),
        (lambda: Profile(page_shift=3), "page_shift"),
    ],
)
def test_configurations_are_checked(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        make()


@pytest.mark.parametrize("kind", KINDS)
def test_repr_makes_another(kind: str) -> None:
    prefetcher = KINDS[kind]()
    names = {c.__name__: c for c in (Sequential, Strided, Distance, Markov, FreeNeighbours, Perceptron, Adaptive)}
    again = eval(repr(prefetcher), names)
    assert repr(again) == repr(prefetcher)
    assert type(again) is type(prefetcher)
    assert prefetcher.name == kind


def test_parameters_can_be_read() -> None:
    strided = Strided(rows=16, ways=2, streams=3, window=9, degree=5)
    assert (strided.rows, strided.ways, strided.streams, strided.window, strided.degree) == (16, 2, 3, 9, 5)
    free = FreeNeighbours(group=4, threshold=7, counter_bits=5, lines=8)
    assert (free.group, free.threshold, free.counter_bits, free.lines) == (4, 7, 5, 8)
    filtered = Perceptron(Markov(), rows=32, weight_bits=5, threshold=-1, margin=3, passed=4, refused=6)
    assert (filtered.rows, filtered.weight_bits, filtered.threshold, filtered.margin) == (32, 5, -1, 3)
    assert (filtered.passed, filtered.refused) == (4, 6)
    adaptive = Adaptive(
        window=48, accuracy=0.5, coverage=0.25, hysteresis=0.75, walk_price=1, fill_price=0.25, filter=2
    )
    assert (adaptive.window, adaptive.accuracy, adaptive.coverage, adaptive.hysteresis) == (48, 0.5, 0.25, 0.75)
    assert (adaptive.walk_price, adaptive.fill_price, adaptive.filter) == (1, 0.25, 2)
    assert Adaptive(resident=3).resident == 3
    assert (Sequential(degree=3).degree, Distance(rows=4).rows, Distance(ways=2).ways) == (3, 4, 2)
    assert (Distance(slots=1).slots, Markov(rows=4).rows, Markov(ways=1).ways, Markov(slots=3).slots) == (1, 4, 1, 3)


def test_counters_of_free_neighbours() -> None:
    free = FreeNeighbours(threshold=2)
    for line in range(5):
        free.observe(8 * line)
        free.observe(8 * line + 3)
    assert (free.counter(3), free.counter(-3), free.counter(9)) == (5, 0, 0)
    assert free.observe(800) == [803]


def test_the_perceptron_judges_its_own_copy() -> None:
    inner = Sequential()
    judge = Perceptron(inner)
    random = np.random.default_rng(2)
    for page in random.integers(0, MAX_PAGE, 2000):
        for proposed in judge.observe(page):
            judge.outcome(proposed, "useless")
    assert inner.stats.events == 0
    assert judge.inner_stats.proposed == judge.stats.proposed + judge.stats.filtered == 2000
    assert judge.stats.filtered > 1800
    assert judge.stats.accuracy == 0
    assert "filtered=" in repr(judge.stats)


def test_adaptive_tells_what_it_decided() -> None:
    adaptive = Adaptive([Sequential(), Markov()])
    assert adaptive.followed is None
    assert adaptive.decisions == []
    adaptive.observe_many(np.arange(1000))
    adaptive.observe_many(np.random.default_rng(3).integers(0, MAX_PAGE, 1000))
    first, last = adaptive.decisions[0], adaptive.decisions[-1]
    assert (first.event, first.from_member, first.to_member) == (2, None, 0)
    assert first.scores[0].coverage > 0.4
    assert first.scores[0].accuracy > 0.8
    assert (last.from_member, last.to_member, adaptive.followed) == (0, None, None)
    assert last.scores[0].score < 0.1
    assert adaptive.decision_count == len(adaptive.decisions) == 2
    assert repr(first) == "<Decision after event 2: from None to 0>"
    assert adaptive.members == ["Sequential(degree=1)", "Markov(rows=1024, ways=4, slots=2)"]
    assert adaptive.member_stats[0].useful >= 999
    assert adaptive.scores[1].coverage == 0
    assert repr(adaptive.scores[1]).startswith("MemberScore(accuracy=0.0, ")
    assert [text.partition("(")[0] for text in Adaptive().members] == [
        "Sequential",
        "Strided",
        "Distance",
        "Markov",
        "FreeNeighbours",
    ]
    with pytest.raises((TypeError, RuntimeError)):
        Adaptive([1])  # type: ignore[list-item]


def test_nobody_is_credited_with_pages_that_fault() -> None:
    adaptive = Adaptive()
    for page in range(1000):
        adaptive.faulted(page)
        assert adaptive.observe(page) == []
    assert adaptive.decision_count == 0
    assert adaptive.member_stats[0].refused == 999
    with pytest.raises(InvalidConfig):
        adaptive.faulted(MAX_PAGE + 1)


def test_threads_may_share_one() -> None:
    adaptive = Adaptive()

    def work() -> None:
        for _ in range(20):
            adaptive.observe_many(np.arange(500))
            adaptive.observe(3)
            assert adaptive.stats.events > 0

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert adaptive.stats.events == 4 * 20 * 501


def test_profiles_record_save_and_load(tmp_path: Path) -> None:
    profile = Profile()
    profile.record([7, 9, 7, 8])
    profile.record(np.array([9, 7], np.uint32))
    profile.record(8)
    assert profile.pages().tolist() == [7, 8, 9]
    assert profile.pages(1).tolist() == [7]
    assert (profile.count(7), profile.count(1), len(profile), profile.dropped) == (3, 0, 3, 0)
    profile.save(tmp_path / "profile")
    loaded = Profile.load(tmp_path / "profile")
    assert loaded.pages().tolist() == [7, 8, 9]
    assert loaded.pages().dtype == np.uint64
    assert repr(loaded) == "<Profile: 3 pages of 2**12 bytes>"
    for bad in (-1, 2**52, [2**52]):
        with pytest.raises(InvalidConfig):
            profile.record(bad)


def test_profiles_of_large_pages_drop_what_cannot_exist() -> None:
    profile = Profile(page_shift=21)
    profile.record([2**43 - 1, 2**43])
    assert (len(profile), profile.dropped, profile.page_shift) == (1, 1, 21)


def test_profiles_of_ranges() -> None:
    assert Profile.from_range(0x1FFF, 2).pages().tolist() == [1, 2]
    assert Profile.from_range(1 << 30, 1 << 22, page_shift=21).pages().tolist() == [512, 513]
    with pytest.raises(InvalidConfig, match="beyond the last"):
        Profile.from_range(2**64 - 1, 2)
    with pytest.raises(InvalidConfig, match="more than 4194304 pages"):
        Profile.from_range(0, 2**63)


@given(st.binary(max_size=100))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_profile_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    for prefix in (b"", b"VMPAGES1", b"VMPAGES1\x0c\0\0\0\0\0\0\0"):
        path.write_bytes(prefix + data)
        try:
            profile = Profile.load(path)
        except InvalidConfig:
            continue
        profile.save(path)
        assert path.read_bytes() == prefix + data


def test_missing_profiles_are_named(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="none"):
        Profile.load(tmp_path / "none")
    with pytest.raises(PlatformError, match="cannot write the page profile"):
        Profile().save(tmp_path / "none" / "profile")
