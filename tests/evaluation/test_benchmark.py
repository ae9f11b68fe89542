import numpy as np
import pytest

from kernelevolve.core.evaluation import Build
from kernelevolve.core.target import Bandwidth, Peaks, TargetSpec
from kernelevolve.evaluation import benchmark, physics
from kernelevolve.evaluation.physics import Work

GENERATOR = np.random.default_rng(1)
SPEC = TargetSpec(
    vendor="cpu",
    arch="x86_64",
    last_level_cache=1 << 20,
    peaks=Peaks(
        bandwidth=(
            Bandwidth(working_set=1 << 20, bytes_per_second=100e9),
            Bandwidth(working_set=1 << 30, bytes_per_second=10e9),
        ),
        flops={"float32": 100e9},
        call_overhead_us=1.0,
    ),
)


def test_interval_holds_the_ratio_of_medians():
    slow = GENERATOR.normal(200, 5, 40)
    fast = GENERATOR.normal(100, 5, 40)
    found = benchmark.paired(fast, {"eager": slow, "compile": slow * 2})
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(2.0, rel=0.05)
    assert found.high - found.low < 0.2


def test_noise_common_to_a_round_does_not_widen_the_interval():
    load = np.where(np.arange(40) % 2, 1.0, 3.0)
    paired = benchmark.paired(100 * load, {"eager": 200 * load})
    assert paired.low == pytest.approx(2.0)
    assert paired.high == pytest.approx(2.0)


def test_a_baseline_that_differs_from_itself_is_noise():
    assert benchmark.noise({"eager": [100.0], benchmark.AGAIN: [110.0]}) == pytest.approx(0.1)
    assert benchmark.noise({"eager": [100.0]}) == 0.0


def test_sentinel_rescales_cached_baselines():
    cached = {"eager": (100.0, 100.0), "compile": (50.0, 52.0)}
    found = benchmark.drifted(cached, "eager", [200.0, 200.0])
    assert found == {"eager": (200.0, 200.0), "compile": (100.0, 104.0)}


def test_impossible_only_beyond_the_level_that_holds_the_data():
    work = Work(inputs=500_000, outputs=500_000)
    assert not physics.impossible(work, SPEC, 10.0)
    assert "GB/s" in physics.impossible(work, SPEC, 1.0)
    gathers = Work(inputs=500_000, outputs=100, partial=True)
    assert not physics.impossible(gathers, SPEC, 1.0)
    assert not physics.impossible(work, SPEC.model_copy(update={"peaks": Peaks()}), 0.001)


@pytest.mark.parametrize(
    ("work", "us", "limit"),
    [
        (Work(inputs=100 << 20), 20_000.0, "memory"),
        (Work(inputs=500_000), 10.0, "cache"),
        (Work(inputs=500_000, flops=10**9), 20_000.0, "compute"),
        (Work(inputs=100), 5.0, "overhead"),
    ],
)
def test_diagnosis_names_the_binding_limit(work, us, limit):
    found = physics.diagnose(work, SPEC, us, Build(ok=True, remarks=("kernel.cpp:3: missed",)))
    assert found.limit == limit
    assert 0 < (found.fraction or 0) <= 1
    assert found.remarks == ("kernel.cpp:3: missed",)
    assert "µs" in found.sentence
