"""The Python face of TLBs: shapes, statistics, errors, threads."""

from __future__ import annotations

import json
import pickle
import threading

import numpy as np
import pytest
from vm_core import Access, InvalidConfig
from vm_mem.tlb import ArrayConfig, LevelConfig, TlbConfig, TlbHit, UnifiedTlb

SPLIT = TlbConfig(
    levels=[LevelConfig([ArrayConfig(16, 6, page_sizes=[4096]), ArrayConfig(1, 32, "tree_plru")])],
    replacement="fifo",
    inclusion="exclusive",
    flush_policy="delayed",
    seed=2**64 - 1,
)


@pytest.mark.parametrize("config", [TlbConfig(), TlbConfig("hybrid", l1_size=256, l3_size=16384), SPLIT])
def test_configurations_survive_their_dictionary_repr_and_pickle(config: TlbConfig) -> None:
    assert TlbConfig(**json.loads(json.dumps(config.as_dict()))) == config
    assert pickle.loads(pickle.dumps(config)) == config
    names = {"TlbConfig": TlbConfig, "LevelConfig": LevelConfig, "ArrayConfig": ArrayConfig}
    assert eval(repr(config), names) == config
    assert hash(pickle.loads(pickle.dumps(config))) == hash(config)
    assert config != TlbConfig(seed=7)
    assert config != "TlbConfig()"


def test_configurations_show_their_parts() -> None:
    [level] = SPLIT.levels
    small, large = level.arrays
    assert (small.sets, small.ways, small.replacement, small.page_sizes) == (16, 6, "lru", (4096,))
    assert (large.entries, large.replacement, large.page_sizes) == (32, "tree_plru", ())
    assert (SPLIT.inclusion, SPLIT.flush_policy, SPLIT.strategy) == ("exclusive", "delayed", "multi_level")
    assert large.as_dict() == {"sets": 1, "ways": 32, "replacement": "tree_plru", "page_sizes": ()}
    assert LevelConfig(**level.as_dict()) == level
    config = TlbConfig(l1_size=np.int64(128), prefetch_distance=2, enable_prefetch=True)
    assert (config.l1_size, config.prefetch_distance, config.enable_prefetch) == (128, 2, True)
    assert (config.enable_prediction, config.flush_batch, config.flush_delay_ns, config.seed) == (False, 32, 10**6, 1)
    assert (config.l2_size, config.l3_size, config.replacement) == (512, 4096, "lru")
    assert (config.l1_ways, config.l2_ways, config.l3_ways) == (4, 8, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "fast"}, "strategy is 'fast'; 'multi_level', 'concurrent', 'hybrid' exist"),
        ({"replacement": "LRU"}, "replacement is 'LRU'"),
        ({"inclusion": "both"}, "inclusion is 'both'"),
        ({"flush_policy": "never"}, "flush_policy is 'never'"),
        ({"l1_size": 0}, "l1_size is 0"),
        ({"l1_size": -1}, "got -1"),
        ({"l1_size": 2**32}, "l1_size is 4294967296"),
        ({"l2_ways": 7}, "l2_size is 512"),
        ({"levels": [{"arrays": [{"page_sizes": [5000]}]}]}, "a page size is 5000"),
        ({"levels": [{"arrays": []}]}, "l1 has no arrays"),
        ({"strategy": "hybrid", "levels": [LevelConfig([ArrayConfig()])]}, "levels are given"),
        ({"strategy": "concurrent", "replacement": "fifo"}, "replacement is 'fifo' with strategy 'concurrent'"),
        ({"strategy": "hybrid", "l1_ways": 64}, "l1_ways is 64; with strategy 'hybrid' there are at most 32"),
    ],
)
def test_senseless_configurations_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidConfig) as raised:
        TlbConfig(**arguments)  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_a_hit_says_what_was_inserted() -> None:
    tlb = UnifiedTlb()
    assert tlb.insert(0x200000, 0x600000, 2 << 20, Access.READ | Access.EXECUTE, True, asid=3, vmid=1, global_=True)
    hit = tlb.lookup(0x2ABCDE, asid=9, vmid=1)
    assert isinstance(hit, TlbHit)
    assert (hit.paddr, hit.page_size, hit.user, hit.global_) == (0x6ABCDE, 2 << 20, True, True)
    assert hit.access == Access.READ | Access.EXECUTE
    assert (hit.level, hit.prefetched) == (0, False)
    assert repr(hit) == "TlbHit(paddr=0x6abcde, page_size=0x200000, access=r-x, user=True, level=0)"
    assert tlb.lookup(0x2ABCDE, asid=3) is None
    assert tlb.insert(0x5000, 0x1000)
    match tlb.lookup(np.uint64(0x5008)):
        case TlbHit(paddr, page_size, access):
            assert (paddr, page_size, access) == (0x1008, 4096, Access.READ | Access.WRITE)
        case _:
            pytest.fail("no hit")


def test_arrays_keep_their_shape() -> None:
    tlb = UnifiedTlb()
    tlb.insert(0x1000, 0x9000, asid=1)
    vaddrs = np.array([[0x1000, 0x2000, 0x1FFF]] * 70000, dtype="u8")
    paddr, hit = tlb.lookup(vaddrs, asid=1)
    assert paddr.shape == hit.shape == vaddrs.shape
    assert (paddr.dtype, hit.dtype) == (np.dtype("u8"), np.dtype("?"))
    assert (hit == [True, False, True]).all()
    assert (paddr == [0x9000, 2**64 - 1, 0x9FFF]).all()
    assert tlb.stats.l1.hits == 140000
    assert tlb.stats.l1.misses == 70000
    for empty in (np.empty(0, "u8"), []):
        paddr, hit = tlb.lookup(empty)
        assert paddr.size == hit.size == 0
    assert tlb.lookup(vaddrs[::7, ::-1], asid=1)[1].sum() == 20000


def test_wrong_arguments() -> None:
    tlb = UnifiedTlb()
    with pytest.raises(InvalidConfig, match="does not begin at a multiple"):
        tlb.insert(0x1000, 0x1234)
    with pytest.raises(InvalidConfig, match="a page size is 4095"):
        tlb.insert(0x1000, 0x1000, 4095)
    with pytest.raises(InvalidConfig, match="asid is 65536; it is at most 65535"):
        tlb.lookup(0, asid=65536)
    with pytest.raises(InvalidConfig, match="vmid is 70000"):
        tlb.flush_non_global(70000)
    with pytest.raises(InvalidConfig, match=r"2\*\*64 - 1"):
        tlb.lookup(2**64)
    with pytest.raises(InvalidConfig):
        tlb.lookup(np.array([-1]))
    with pytest.raises(TypeError):
        tlb.lookup(1.5)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        tlb.lookup(np.array([1.5]))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        UnifiedTlb("hybrid")  # type: ignore[arg-type]


def test_statistics_by_level() -> None:
    tlb = UnifiedTlb(TlbConfig(l1_size=4, l2_size=16, l3_size=0))
    for page in range(8):
        tlb.insert(page << 12, page << 12, prefetched=page == 7)
    assert tlb.lookup(7 << 12).prefetched  # type: ignore[union-attr]
    assert tlb.lookup(0).level == 1  # type: ignore[union-attr]
    assert tlb.lookup(0).level == 0  # type: ignore[union-attr]
    assert tlb.lookup(8 << 12) is None
    stats = tlb.stats
    assert (stats.l1.hits, stats.l1.misses, stats.l1.fills, stats.l1.evictions) == (2, 2, 9, 5)
    assert stats.l1.lookups == 4
    assert stats.l1.hit_rate == 0.5
    assert stats.l2 is not None
    assert (stats.l2.hits, stats.l2.misses, stats.l2.promoted) == (1, 1, 0)
    assert stats.l3 is None
    assert len(stats.levels) == 2
    assert (stats.prefetch.fills, stats.prefetch.useful, stats.prefetch.useless) == (1, 1, 0)
    assert (tlb.size, tlb.capacity) == (12, 20)
    assert repr(tlb) == "UnifiedTlb(multi_level, 12 of 20 entries)"
    tlb.flush_all()
    assert (tlb.stats.l1.flushed, tlb.stats.flushes, tlb.size) == (4, 1, 0)
    assert stats.l1.flushed == 0
    assert "hits=2, misses=2" in repr(stats)
    assert tlb.config == TlbConfig(l1_size=4, l2_size=16, l3_size=0)


def test_a_flush_overtakes_a_ticket() -> None:
    tlb = UnifiedTlb()
    ticket = tlb.begin_fill()
    tlb.flush_range(0x4000, 0x2000)
    assert not tlb.insert(0x5000, 0x1000, ticket=ticket)
    assert tlb.insert(0x6000, 0x1000, ticket=ticket)
    assert tlb.insert(0x5000, 0x1000)
    assert tlb.stats.rejected_fills == 1


def test_threads_share_one() -> None:
    tlb = UnifiedTlb(TlbConfig(l1_size=16, l2_size=64, l3_size=256))
    vaddrs = np.arange(512, dtype="u8") << np.uint64(12)
    wrong = []

    def work(asid: int) -> None:
        for step in range(60):
            for page in range(step % 7, 512, 7):
                tlb.insert(page << 12, (page << 12) + (asid << 40), asid=asid)
            paddr, hit = tlb.lookup(vaddrs, asid=asid)
            if (paddr[hit] != vaddrs[hit] + np.uint64(asid << 40)).any():
                wrong.append(asid)
            tlb.flush_asid(asid)
            if tlb.lookup(vaddrs, asid=asid)[1].any():
                wrong.append(asid)

    threads = [threading.Thread(target=work, args=(asid,)) for asid in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert tlb.stats.l1.lookups == 4 * 60 * 2 * 512
