"""Counters and their snapshots."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vm_core import Counters, CounterSnapshot, InvalidConfig


def test_names_keep_their_order() -> None:
    counters = Counters("misses", "hits")
    assert counters.names == ["misses", "hits"]
    assert len(counters) == 2
    assert list(counters.snapshot()) == ["misses", "hits"]
    counters.add("hits", 3)
    assert repr(counters) == "Counters(misses=0, hits=3)"


@pytest.mark.parametrize("names", [(), ("",), ("hits", "hits")])
def test_names_must_be_there_and_differ(names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidConfig):
        Counters(*names)


def test_names_must_be_text() -> None:
    with pytest.raises(TypeError):
        Counters(1)  # type: ignore[arg-type]


def test_unknown_counter_and_negative_step() -> None:
    counters = Counters("hits")
    with pytest.raises(InvalidConfig, match="no counter is called 'walks'; there are: hits"):
        counters.add("walks")
    with pytest.raises(TypeError):
        counters.add("hits", -1)


@given(st.lists(st.tuples(st.sampled_from(["hits", "misses", "walks"]), st.integers(0, 2**40))))
def test_counts_like_a_dict(events: list[tuple[str, int]]) -> None:
    counters, model = Counters("hits", "misses", "walks"), {"hits": 0, "misses": 0, "walks": 0}
    for name, n in events:
        counters.add(name, n)
        model[name] += n
    assert dict(counters.snapshot()) == model


def test_threads_lose_nothing() -> None:
    counters = Counters("hits", "threads")

    def work() -> None:
        for _ in range(1000):
            counters.add("hits")
        counters.add("threads")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(counters.snapshot()) == {"hits": 8000, "threads": 8}


def test_snapshot_is_a_mapping() -> None:
    snapshot = CounterSnapshot({"hits": 2, "misses": 0})
    assert isinstance(snapshot, Mapping)
    assert dict(snapshot) == {"hits": 2, "misses": 0}
    assert (list(snapshot.keys()), list(snapshot.values())) == (["hits", "misses"], [2, 0])
    assert list(snapshot.items()) == [("hits", 2), ("misses", 0)]
    assert "hits" in snapshot
    assert "walks" not in snapshot
    assert 1 not in snapshot  # type: ignore[comparison-overlap]
    assert snapshot.get("misses") == 0
    assert snapshot.get("walks") is None
    assert snapshot.get("walks", -1) == -1
    assert repr(snapshot) == "CounterSnapshot(hits=2, misses=0)"
    with pytest.raises(KeyError, match="walks"):
        snapshot["walks"]
    match snapshot:
        case {"hits": hits}:
            assert hits == 2
        case _:
            pytest.fail("a mapping pattern must match")


def test_snapshots_add_up() -> None:
    a, b = CounterSnapshot({"hits": 5, "misses": 1}), CounterSnapshot({"hits": 2, "misses": 1})
    assert a + b == CounterSnapshot({"hits": 7, "misses": 2})
    assert a - b == CounterSnapshot({"hits": 3, "misses": 0})
    assert sum([a, b], a) == a + b + a
    assert sum([a, b]) == a + b
    assert a != b


def test_only_what_belongs_together_adds_up() -> None:
    a, b = CounterSnapshot({"hits": 5}), CounterSnapshot({"misses": 5})
    with pytest.raises(InvalidConfig, match=r"\[hits\] and \[misses\]"):
        a + b
    with pytest.raises(InvalidConfig, match="earlier snapshot"):
        a - CounterSnapshot({"hits": 6})
    for start in (1, None, "hits"):
        with pytest.raises(TypeError):
            start + a  # type: ignore[operator]


def test_snapshot_can_be_pickled_and_copied() -> None:
    snapshot = CounterSnapshot({"hits": 2**64 - 1, "misses": 0})
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    assert copy.deepcopy(snapshot) == snapshot


def test_snapshot_stays_as_it_was() -> None:
    counters = Counters("hits")
    before = counters.snapshot()
    counters.add("hits")
    assert before["hits"] == 0
    assert counters.snapshot() - before == CounterSnapshot({"hits": 1})
