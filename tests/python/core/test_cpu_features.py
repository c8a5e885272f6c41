"""CpuFeatures: this machine against the kernel's opinion, and recorded machines."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
from vm_core import CpuFeatures, InvalidConfig
from vm_core.cpu_features import FEATURES

# Where /proc/cpuinfo has another word for it.
KERNEL_WORDS = {
    "sse3": "pni",
    "lzcnt": "abm",
    "sha": "sha_ni",
    "cmpxchg16b": "cx16",
    "gigabyte_pages": "pdpe1gb",
    "prefetchw": "3dnowprefetch",
    "invariant_tsc": "nonstop_tsc",
}
# What Linux has shown for as long as the processors had it, and does not switch off itself.
SHOWN = [
    *("sse", "sse2", "sse3", "ssse3", "sse4_1", "sse4_2", "popcnt", "cmpxchg16b", "movbe", "aes", "pclmulqdq"),
    *("avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "lzcnt", "adx", "rdrand", "rdseed", "sha", "erms", "clflush"),
    *("clflushopt", "clwb", "vaes", "vpclmulqdq", "gfni", "fsrm", "hypervisor", "nx", "rdtscp", "gigabyte_pages"),
    *(name for name in FEATURES if name.startswith("avx512")),
]


@pytest.fixture(scope="module")
def features() -> CpuFeatures:
    return CpuFeatures.detect()


def test_every_feature_is_a_property_and_a_name(features: CpuFeatures) -> None:
    for name, words in FEATURES.items():
        usable = getattr(features, f"has_{name}")
        assert usable is features.has(name)
        assert usable is (name in features)
        assert usable is (name in features.names)
        assert getattr(CpuFeatures, f"has_{name}").__doc__ == words
    assert list(features) == features.names
    assert len(features) == len(features.names)
    assert not set(features.names) & {*features.disabled, *features.unknown}


def test_names_that_are_no_feature(features: CpuFeatures) -> None:
    assert "avx1024" not in features
    assert 512 not in features
    with pytest.raises(InvalidConfig, match="avx1024"):
        features.has("avx1024")


def test_as_dict_is_json(features: CpuFeatures) -> None:
    facts = json.loads(json.dumps(features.as_dict()))
    assert facts["names"] == features.names
    assert facts["vendor"] == features.vendor
    assert len(facts["caches"]) == len(features.caches)
    assert str(len(features)) in repr(features)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compares with /proc/cpuinfo of x86")
@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="there is no /proc/cpuinfo")
def test_agrees_with_the_kernel(features: CpuFeatures) -> None:
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    facts: dict[str, str] = {}
    for key, _, value in lines:
        facts.setdefault(key.strip(), value.strip())
    flags = set(facts["flags"].split())
    ours = {name: name in features for name in SHOWN}
    assert ours == {name: KERNEL_WORDS.get(name, name) in flags for name in SHOWN}
    assert features.vendor == facts["vendor_id"]
    assert features.brand == " ".join(facts["model name"].split()) or features.brand == facts["model name"]
    assert (features.family, features.model) == (int(facts["cpu family"]), int(facts["model"]))
    assert features.stepping == int(facts["stepping"])
    widths = f"{features.physical_bits} bits physical, {features.virtual_bits} bits virtual"
    assert facts["address sizes"] == widths


def test_caches_come_from_sysfs(features: CpuFeatures) -> None:
    if not features.caches:
        pytest.skip("this system does not describe its caches")
    for cache in features.caches:
        assert cache.type in ("unified", "data", "instruction")
        assert cache.as_dict()["size"] == cache.size
    first = next(cache for cache in features.caches if cache.level == 1 and cache.type != "instruction")
    assert features.cache_bytes(1) == first.size
    assert features.cache_bytes(9) == 0


GUEST = {
    (0, 0): (0xD, 0x756E6547, 0x6C65746E, 0x49656E69),
    (1, 0): (0x000306C3, 0, 0x9C002200, 0),  # SSSE3, CX16, OSXSAVE... and a hypervisor
    (7, 0): (0, 0x00010020, 0, 0),  # AVX2, AVX-512F
    (0x40000000, 0): (0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D),
}


def test_recorded_leaves() -> None:
    everything = CpuFeatures.from_cpuid(GUEST, xcr0=0xE7)
    assert everything.architecture == "x86_64"
    assert everything.vendor == "GenuineIntel"
    assert (everything.family, everything.model, everything.stepping) == (6, 60, 3)
    assert everything.hypervisor == "KVM"
    assert everything.has_avx512f
    assert everything.caches == []
    assert everything.physical_bits is None
    without = CpuFeatures.from_cpuid(GUEST, xcr0=0x7)
    assert without.has_avx2
    assert not without.has_avx512f
    assert without.disabled == ["avx512f"]
    assert CpuFeatures.from_cpuid({}).names == []


def test_arm_words() -> None:
    features = CpuFeatures.from_hwcaps(
        1 << 1 | 1 << 8 | 1 << 22, 1 << 1, sve_vector_bytes=32, midr=0x410FD4F0, event_sources=["armv8_pmuv3_0"]
    )
    assert features.architecture == "aarch64"
    assert features.vendor == "Arm"
    assert features.names == ["neon", "sve", "sve2", "lse", "pmu"]
    assert features.sve_vector_bytes == 32
    assert features.unknown == ["vhe"], "a program cannot see it"
    assert CpuFeatures.from_hwcaps(0).unknown == ["vhe", "pmu", "spe"]
    assert CpuFeatures.from_hwcaps(0).hypervisor is None
