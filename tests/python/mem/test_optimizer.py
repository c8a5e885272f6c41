"""vm_mem.optimizer: what it decides, from counted events, so that every run decides the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from vm_core import InvalidConfig, PageFault
from vm_mem import GuestMemory, Mmu
from vm_mem.optimizer import (
    NO_WALK_CACHE,
    WALK_CACHE,
    Counts,
    Optimizer,
    Setting,
    Weights,
    calibrate,
    default_settings,
    grid,
)
from vm_mem.optimizer.phases import pattern_of
from vm_mem.optimizer.settings import neighbours
from vm_mem.paging import X86
from vm_mem.prefetch import Sequential
from vm_mem.tlb import TlbConfig

PAGE = 4096
PAGES = 1 << 15
BASE = 0x4000_0000
SMALL = TlbConfig(l1_size=64, l2_size=0, l3_size=0)
WINDOW_NS = 10_000.0
PIECE = 500


@pytest.fixture(scope="module")
def tables() -> Mmu:
    """Page tables for PAGES pages; each test looks at them through an Mmu of its own."""
    mmu = Mmu(GuestMemory.anonymous(PAGES * PAGE + (4 << 20)), X86(levels=4, root=0x1000))
    mmu.map(BASE, 4 << 20, PAGES * PAGE, page_size=PAGE)
    return mmu


def over(tables: Mmu, tlb: TlbConfig = SMALL, walk_cache: Sequence[int] | None = None) -> Mmu:
    return Mmu(tables.memory, tables.config, tlb=tlb, walk_cache=walk_cache)


def sequential(count: int) -> list[int]:
    return [BASE + i % PAGES * PAGE for i in range(count)]


def at_random(count: int, pages: int = PAGES, seed: int = 1) -> list[int]:
    return [BASE + int(p) * PAGE for p in np.random.default_rng(seed).integers(0, pages, count)]


def drive(optimizer: Optimizer, addresses: Iterable[int], *, show: bool = True) -> None:
    """Translate, compare with the tables themselves, and step between pieces."""
    every = list(addresses)
    expected = optimizer.mmu.space.translate(every).paddr.tolist()
    for at in range(0, len(every), PIECE):
        piece = every[at : at + PIECE]
        assert [optimizer.mmu.translate(a).paddr for a in piece] == expected[at : at + PIECE]
        optimizer.step(addresses=piece if show else None)


def tuned(mmu: Mmu, settings: Sequence[Setting], **options: Any) -> Optimizer:
    return Optimizer(mmu, settings=settings, objective=Weights(), **({"window_ns": WINDOW_NS} | options))


def reasons(optimizer: Optimizer) -> list[str]:
    return [decision.reason for decision in optimizer.decisions]


# --- What it decides -------------------------------------------------------------------------------------------------


def test_prefetching_goes_on_for_a_sweep_off_for_random_pages_and_on_again_at_once(tables: Mmu) -> None:
    optimizer = tuned(over(tables), grid(SMALL, prefetch_distances=[0, 4]))
    drive(optimizer, sequential(40_000))
    assert optimizer.setting.prefetches and optimizer.phase == 0
    drive(optimizer, at_random(40_000))
    assert not optimizer.setting.prefetches and optimizer.phase == 1
    decided = optimizer.decision_count
    drive(optimizer, sequential(20_000))
    assert optimizer.setting.prefetches and optimizer.phase == 0
    assert optimizer.decision_count == decided + 1
    back = optimizer.decisions[-1]
    assert back.reason == "phase 0 is back" and not back.from_setting.prefetches and back.to_setting.prefetches
    assert back.numbers["distance"] <= 0.2 < back.numbers["distance_before"]


def test_what_no_counter_shows_is_found_by_trying_again(tables: Mmu) -> None:
    """Every page misses, and its table is cached: without addresses and prefetching a sweep looks like random pages."""
    optimizer = tuned(over(tables), grid(SMALL, prefetch_distances=[0, 4]), recheck=16)
    drive(optimizer, at_random(20_000), show=False)
    assert not optimizer.setting.prefetches
    drive(optimizer, sequential(60_000), show=False)
    assert optimizer.setting.prefetches


def test_a_set_that_fits_a_larger_tlb_gets_it(tables: Mmu) -> None:
    choices = grid(SMALL, sizes=[(64, 0, 0), (64, 512, 0), (64, 512, 4096)])
    optimizer = tuned(over(tables), choices)
    drive(optimizer, at_random(30_000, pages=400))
    assert optimizer.setting.tlb.l2_size == 512
    drive(optimizer, at_random(60_000, pages=3000))
    assert optimizer.setting.tlb.l3_size == 4096
    drive(optimizer, at_random(60_000, pages=PAGES))
    assert optimizer.setting.tlb == SMALL


def test_the_walk_cache_goes_where_nothing_gains_from_it(tables: Mmu) -> None:
    """One entry, for random pages under 64 tables: a look-up in vain before nearly every walk."""
    weights = Weights(walk_cache=10.0, walks=(20.0,) * 5)
    mmu = over(tables, walk_cache=(1, 0, 0, 0))
    choices = [Setting(SMALL, (1, 0, 0, 0)), Setting(SMALL, NO_WALK_CACHE)]
    optimizer = Optimizer(mmu, settings=choices, objective=weights, window_ns=WINDOW_NS)
    drive(optimizer, at_random(20_000))
    assert optimizer.setting == choices[1]
    assert mmu.walk_cache == NO_WALK_CACHE


def test_what_hits_anyway_is_left_alone(tables: Mmu) -> None:
    """A hot set that fits the first level: nothing is tried, nothing shrinks."""
    large = TlbConfig(l1_size=64, l2_size=512, l3_size=4096)
    mmu = over(tables, large)
    for address in at_random(1000, pages=30):
        mmu.translate(address)
    optimizer = tuned(mmu, grid(large, sizes=[(64, 0, 0), (64, 512, 4096)]), window_ns=1000)
    drive(optimizer, at_random(100_000, pages=30))
    assert optimizer.windows > 10 and optimizer.setting.tlb == large
    assert reasons(optimizer) == ["the first phase", "no setting can be cheaper by the hysteresis"]


def test_a_small_gain_is_not_worth_a_change(tables: Mmu) -> None:
    """The second level hits one time in three and costs something every time: a gain of 7 %."""
    choices = grid(SMALL, sizes=[(64, 0, 0), (64, 512, 0)])
    stubborn = tuned(over(tables), choices, hysteresis=0.1)
    drive(stubborn, at_random(40_000, pages=1500))
    assert stubborn.setting.tlb == SMALL
    ready = tuned(over(tables), choices, hysteresis=0.02)
    drive(ready, at_random(40_000, pages=1500))
    assert ready.setting.tlb.l2_size == 512
    end = ready.decisions[-1].numbers
    assert 0.9 < end["cost_ns"] / end["best_other_ns"] < 0.98


def test_windows_that_alternate_do_not_make_it_flap(tables: Mmu) -> None:
    choices = grid(SMALL, prefetch_distances=[0, 4])
    optimizer = tuned(over(tables), choices, recheck=0)
    drive(optimizer, sequential(30_000))
    drive(optimizer, at_random(30_000))
    before = optimizer.decision_count
    windows = optimizer.windows
    for seed in range(100):
        drive(optimizer, sequential(1500))
        drive(optimizer, at_random(1500, seed=seed))
    # A switch for each of the 200 stretches would be 200; the dwell grows to 64 windows.
    assert optimizer.windows - windows > 150
    assert optimizer.decision_count - before < 20


def test_phases_never_seen_twice_in_a_row_are_no_phases(tables: Mmu) -> None:
    optimizer = tuned(over(tables), grid(SMALL, prefetch_distances=[0, 4]), recheck=0)
    drive(optimizer, at_random(30_000))
    before = optimizer.decision_count
    for seed in range(30):
        drive(optimizer, sequential(1000))
        drive(optimizer, at_random(6000, seed=seed))
    assert optimizer.phase == 0
    assert optimizer.decision_count == before


def test_a_neighbour_is_tried_again_now_and_then(tables: Mmu) -> None:
    choices = grid(SMALL, sizes=[(64, 0, 0), (64, 512, 0)])
    optimizer = tuned(over(tables), choices, recheck=8)
    drive(optimizer, at_random(60_000))
    trials = [decision.step for decision in optimizer.decisions if decision.reason == "trial"]
    gaps = np.diff(trials)
    assert len(trials) >= 3 and (gaps >= 8).all() and (np.diff(gaps) > 0).all()
    assert optimizer.setting.tlb == SMALL


def test_decisions_carry_their_numbers(tables: Mmu) -> None:
    optimizer = tuned(over(tables), grid(SMALL, prefetch_distances=[0, 4]))
    assert optimizer.decisions == () and optimizer.phase is None
    drive(optimizer, sequential(20_000))
    first, trial, end = optimizer.decisions[0], optimizer.decisions[1], optimizer.decisions[-1]
    assert (first.step, first.phase, first.from_setting) == (1, 0, first.to_setting)
    assert trial.numbers["walks"] == 1.0 and trial.numbers["best_ns"] == pytest.approx(Weights().walks[0], rel=0.2)
    assert end.numbers["tried"] == 2 and end.to_setting == optimizer.setting
    assert end.numbers["cost_ns"] < 0.9 * end.numbers["best_other_ns"]
    with pytest.raises(TypeError):
        end.numbers["cost_ns"] = 0.0  # type: ignore[index]
    text = optimizer.report()
    assert text.count("\n") == 2 * len(optimizer.decisions)
    assert "multi_level, 64 -> multi_level, 64, prefetch 4" in text and "tried 2" in text


def test_only_the_latest_decisions_are_kept(tables: Mmu) -> None:
    optimizer = tuned(over(tables), grid(SMALL, prefetch_distances=[0, 4, 8]), history=2)
    drive(optimizer, sequential(30_000))
    assert len(optimizer.decisions) == 2 < optimizer.decision_count


def test_what_the_counts_rule_out_is_not_tried(tables: Mmu) -> None:
    """Telling a prefetcher of a miss costs more than the walk that it may save: no count of hits can make up for it."""
    dear = Weights(prefetch_event=30.0)
    choices = grid(SMALL, sizes=[(64, 0, 0), (64, 512, 0)], prefetch_distances=[0, 4, 8])
    optimizer = Optimizer(over(tables), settings=choices, objective=dear, window_ns=WINDOW_NS, recheck=4)
    drive(optimizer, sequential(60_000))
    assert not any(decision.to_setting.prefetches for decision in optimizer.decisions)
    assert any("ruled_out" in decision.numbers for decision in optimizer.decisions)
    assert "trial" in reasons(optimizer)  # of the other size


def test_a_change_of_the_prefetcher_keeps_what_the_tlb_holds(tables: Mmu) -> None:
    mmu = over(tables)
    for address in sequential(64):
        mmu.translate(address)
    walks, tlb = mmu.stats.walks, mmu.tlb
    mmu.reconfigure(prefetcher=Sequential())
    assert mmu.tlb is not tlb
    mmu.reconfigure(tlb=TlbConfig(**(SMALL.as_dict() | {"enable_prefetch": True})))
    for address in sequential(64):
        mmu.translate(address)
    assert mmu.stats.walks == walks
    mmu.reconfigure(tlb=TlbConfig(l1_size=128, l2_size=0, l3_size=0))
    mmu.translate(BASE)
    assert mmu.stats.walks == walks + 1


# --- When it acts ----------------------------------------------------------------------------------------------------


def test_nothing_happens_without_step(tables: Mmu) -> None:
    mmu = over(tables)
    tlb = mmu.tlb
    optimizer = tuned(mmu, grid(SMALL, prefetch_distances=[0, 4]))
    for address in sequential(20_000):
        mmu.translate(address)
    assert mmu.tlb is tlb and optimizer.windows == 0 and optimizer.decisions == ()


def test_steps_without_work_do_nothing(tables: Mmu) -> None:
    optimizer = tuned(over(tables), grid(SMALL, prefetch_distances=[0, 4]))
    assert [optimizer.step() for _ in range(100)] == [None] * 100
    assert optimizer.windows == 0
    timed = Optimizer(over(tables), settings=grid(SMALL, prefetch_distances=[0, 4]))
    assert timed.step(elapsed_ns=1e12) is None and timed.windows == 0


def test_arrays_of_any_size_are_counted(tables: Mmu) -> None:
    optimizer = tuned(over(tables), grid(SMALL, sizes=[(64, 0, 0), (64, 512, 0)]))
    addresses = np.asarray(at_random(20_000, pages=300), np.uint64)
    for _ in range(20):
        optimizer.mmu.translate(addresses)
        optimizer.step(addresses=addresses)
        for at in range(0, addresses.size, 1000):
            optimizer.mmu.translate(addresses[at : at + 1000])
            optimizer.step(addresses=addresses[at : at + 1000])
    assert optimizer.windows > 10
    answers = optimizer.mmu.translate(addresses)
    np.testing.assert_array_equal(answers.paddr, optimizer.mmu.space.translate(addresses).paddr)


def test_time_is_what_the_owner_says_it_is(tables: Mmu) -> None:
    """A clock of the test's own: the second setting is said to be faster, then slower."""
    choices = [Setting(SMALL), Setting(TlbConfig("concurrent", l3_size=1024))]
    optimizer = Optimizer(over(tables), settings=choices, window_ns=1e5, recheck=16)

    def run(ns: Callable[[Setting], float], pieces: int) -> None:
        for _ in range(pieces):
            for address in at_random(100, pages=50):
                optimizer.mmu.translate(address)
            optimizer.step(elapsed_ns=100 * ns(optimizer.setting))

    run(lambda s: 50.0 if s.tlb.strategy == "concurrent" else 200.0, 600)
    assert optimizer.setting.tlb.strategy == "concurrent"
    run(lambda s: 900.0 if s.tlb.strategy == "concurrent" else 200.0, 4000)
    assert optimizer.setting.tlb.strategy == "multi_level"
    with pytest.raises(InvalidConfig, match="elapsed_ns is missing"):
        optimizer.step()


def test_steady_work_is_looked_at_seldom_and_a_change_of_its_pace_at_once(tables: Mmu) -> None:
    choices = [Setting(SMALL), Setting(TlbConfig("concurrent", l3_size=1024))]
    optimizer = Optimizer(over(tables), settings=choices, window_ns=1e4, recheck=0)

    def windows(*pieces_ns: float) -> int:
        before = optimizer.windows
        for address, ns in zip(at_random(len(pieces_ns), pages=50), pieces_ns, strict=True):
            optimizer.mmu.translate(address)
            optimizer.step(elapsed_ns=ns)
        return optimizer.windows - before

    windows(*[1000.0] * 2000)  # whatever was to be tried is behind it
    assert any(windows(1000.0) for _ in range(160))
    assert not optimizer.exploring
    assert windows(*[1000.0] * 159) == 0, "160 pieces are a window, instead of 10"
    assert windows(1000.0) == 1
    assert windows(*[1400.0, 700.0, 900.0] * 20) == 0, "this is no other pace"
    assert windows(*[3000.0, 1000.0, 300.0, 700.0] * 16) == 0, "pieces that are odd alone are nothing"
    assert windows(*[3000.0] * 2) == 0
    assert windows(*[3000.0] * 3) == 0
    assert windows(3000.0) == 1, "10,000 ns after the 2 pieces that were odd"
    windows(*[1000.0] * 2000)
    alarms = windows(*([3000.0] * 4 + [1000.0] * 156) * 16)
    assert alarms < 32, "false alarms become rarer; each would be a short window and a long one"


def test_work_measures_and_steps(tables: Mmu) -> None:
    optimizer = Optimizer(over(tables), settings=grid(SMALL, prefetch_distances=[0, 4]), window_ns=1.0)
    with optimizer.work(sequential(100)):
        optimizer.mmu.translate(BASE)
    assert optimizer.windows == 1
    with pytest.raises(PageFault), optimizer.work():
        optimizer.mmu.translate(BASE - PAGE)
    assert optimizer.windows == 2


def test_a_setting_that_somebody_else_made_is_taken_up(tables: Mmu) -> None:
    mmu = over(tables)
    optimizer = tuned(mmu, grid(SMALL, prefetch_distances=[0, 4]))
    drive(optimizer, sequential(20_000))
    foreign = TlbConfig(l1_size=128, l2_size=0, l3_size=0)
    mmu.reconfigure(tlb=foreign, walk_cache=NO_WALK_CACHE)
    optimizer.step()
    assert optimizer.setting == Setting(foreign, NO_WALK_CACHE) == optimizer.settings[-1]
    drive(optimizer, sequential(20_000))
    assert optimizer.setting.prefetches


def test_changes_of_the_tables_between_steps_are_seen() -> None:
    mmu = Mmu(GuestMemory.anonymous(8 << 20), X86(levels=4, root=0x1000), tlb=SMALL)
    mmu.map(BASE, 0, 400 * PAGE, page_size=PAGE)
    optimizer = tuned(mmu, grid(SMALL, sizes=[(64, 0, 0), (64, 512, 0)], prefetch_distances=[0, 4]), window_ns=1000)
    random = np.random.default_rng(3)
    live = set(range(400))
    for _ in range(150):
        page = int(random.integers(0, 400))
        if page in live:
            mmu.unmap_page(BASE + page * PAGE)
            live.remove(page)
        else:
            mmu.map_page(BASE + page * PAGE, page * PAGE)
            live.add(page)
        for other in random.integers(0, 400, 50).tolist():
            if other in live:
                assert mmu.translate(BASE + other * PAGE).paddr == other * PAGE
            else:
                with pytest.raises(PageFault):
                    mmu.translate(BASE + other * PAGE)
        optimizer.step()
    assert optimizer.decision_count > 2


# --- Parts -----------------------------------------------------------------------------------------------------------


def test_settings_compare_by_what_they_do() -> None:
    assert Setting(SMALL, name="mine") == Setting(SMALL)
    assert Setting(SMALL, NO_WALK_CACHE) != Setting(SMALL)
    assert Setting(SMALL).name == "multi_level, 64" and Setting(SMALL).walk_cache == WALK_CACHE
    assert Setting(SMALL, (8, 0, 0, 0)).name == "multi_level, 64, walk cache 8/0/0/0"
    with_own = Setting(SMALL, prefetcher=Sequential(degree=2))
    assert with_own.prefetches and "Sequential(degree=2)" in with_own.name
    with pytest.raises(InvalidConfig, match="4 levels"):
        Setting(SMALL, (1, 2))


def test_a_prefetcher_of_ones_own_is_put_to_work(tables: Mmu) -> None:
    choices = [Setting(SMALL), Setting(SMALL, prefetcher=Sequential(degree=4))]
    optimizer = tuned(over(tables), choices)
    drive(optimizer, sequential(20_000))
    assert optimizer.setting == choices[1]


def test_grids_hold_no_combination_twice() -> None:
    found = grid(strategies=["multi_level", "concurrent"], sizes=[(64, 256, 4096), (64, 512, 4096)])
    assert [s.name for s in found] == ["multi_level, 64/256/4096", "multi_level, 64/512/4096", "concurrent, 4096"]
    with pytest.raises(InvalidConfig):
        grid(sizes=[(0, 0, 0)])


def test_neighbours_differ_least_in_each_strategy() -> None:
    settings = grid(
        strategies=["multi_level", "concurrent"], sizes=[(64, 256, 1024), (64, 512, 4096)], prefetch_distances=[0, 4]
    )
    names = [settings[i].name for i in neighbours(settings, 0)]
    assert names == ["multi_level, 64/256/1024, prefetch 4", "multi_level, 64/512/4096", "concurrent, 1024"]
    assert neighbours(settings[:1], 0) == []


def test_default_settings_hold_what_the_mmu_has(tables: Mmu) -> None:
    mmu = over(tables, TlbConfig())
    for timed in (False, True):
        choices = default_settings(mmu, timed=timed)
        assert Setting(TlbConfig()) in choices
        assert {s.tlb.strategy for s in choices} == (
            {"multi_level", "concurrent", "hybrid"} if timed else {"multi_level"}
        )
    assert Optimizer(mmu).setting == Setting(TlbConfig())
    own_levels = TlbConfig(levels=[{"arrays": [{"sets": 5, "ways": 3}]}])
    assert [s.walks_cached for s in default_settings(over(tables, own_levels), timed=True)] == [True, False]


def test_patterns() -> None:
    sweep = pattern_of(sequential(2000))
    assert sweep == {"sequential": 1.0, "regular": 1.0, "distinct": 1.0, "span": pytest.approx(np.log2(2000) / 32)}
    strided = pattern_of([BASE + i * 5 * PAGE for i in range(1000)])
    assert (strided["sequential"], strided["regular"], strided["distinct"]) == (0.0, 1.0, 1.0)
    still = pattern_of([BASE] * 100)
    assert (still["regular"], still["distinct"], still["span"]) == (0.0, 0.01, 0.0)
    assert pattern_of([2**64 - 1, 0, 2**63])["span"] == 1.0
    assert pattern_of([1, 2]) == {}


def test_costs_are_sums_of_counted_events(tables: Mmu) -> None:
    mmu = over(tables, TlbConfig(l1_size=4, l1_ways=4, l2_size=8, l2_ways=8, l3_size=0))
    for page in (0, 1, 2, 3, 4, 0, 0):
        mmu.translate(BASE + page * PAGE)
    counts = Counts.of(mmu)
    assert (counts.lookups, counts.hits, counts.walks, counts.translations) == ((7, 6), (1, 1), 5, 7)
    assert counts.walk_starts == (4, 0, 0, 0, 1) and counts.growth == 5
    weights = Weights(lookups=(1.0, 10.0, 0.0), walks=(100.0, 0.0, 0.0, 0.0, 600.0), walk_cache=3.0)
    assert weights.cost_ns(counts, walks_cached=True) == pytest.approx(7 + 60 + 1000 + 15)
    assert weights.cost_ns(counts, walks_cached=False) == pytest.approx(7 + 60 + 1000)
    nothing = counts - counts
    assert nothing.translations == 0 and weights.cost_ns(nothing, walks_cached=True) == 0
    assert counts.rates()["walks"] == pytest.approx(5 / 7)
    assert counts.rates()["walks_from_root"] == pytest.approx(1 / 7)


def test_calibration_says_that_it_measured() -> None:
    weights = calibrate(rounds=2)
    assert weights.source == "measured" and Weights().source == "model"
    assert weights.lookups[0] > 0 and weights.walks[0] > weights.lookups[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": []}, "settings is empty"),
        ({"objective": "speed"}, "objective is 'speed'"),
        ({"hysteresis": 0.0}, "hysteresis is 0.0"),
        ({"hysteresis": 1.0}, "hysteresis is 1.0"),
        ({"threshold": -0.1}, "threshold is -0.1"),
        ({"window_ns": 0}, "window_ns is 0"),
        ({"window_ns": float("nan")}, "window_ns is nan"),
        ({"patience": 0}, "patience is 0"),
        ({"recheck": -1}, "recheck is -1"),
        ({"history": 0}, "history is 0"),
    ],
)
def test_arguments_that_make_no_sense(tables: Mmu, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Optimizer(over(tables), **options)


def test_other_arguments_that_make_no_sense(tables: Mmu) -> None:
    optimizer = tuned(over(tables), grid(SMALL))
    with pytest.raises(InvalidConfig, match="backwards"):
        optimizer.step(elapsed_ns=-1.0)
    with pytest.raises(InvalidConfig, match="weights"):
        Weights(lookups=(-1.0, 0.0, 0.0))
    with pytest.raises(InvalidConfig, match="weights"):
        Weights((0.0,) * 3, (0.0,) * 5, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(InvalidConfig, match="rounds"):
        calibrate(rounds=0)
