from dataclasses import dataclass, field, replace
from itertools import repeat
from random import Random
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from kernelevolve.core.evaluation import Build
from kernelevolve.core.target import Bandwidth, Peaks, TargetSpec
from kernelevolve.core.task import Workload
from kernelevolve.evaluation import benchmark, physics
from kernelevolve.evaluation.benchmark import (
    BUSY,
    MAX_CALLS,
    MIN_US,
    SPOT_TRIES,
    TRIES,
    Plan,
    Samples,
)
from kernelevolve.evaluation.context import confirmed_against
from kernelevolve.evaluation.physics import Work
from kernelevolve.evaluation.stopwatch import Stopwatch
from kernelevolve.evaluation.window import Window

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
    assert benchmark.noise({"eager": [100.0], benchmark.AGAIN: [90.0]}) == pytest.approx(0.1)
    assert benchmark.noise({"eager": [100.0]}) == 0.0


def test_what_is_announced_faces_graphs_where_kernels_are_launched():
    searched = ("eager", "compile")
    assert confirmed_against(searched, on_device=False) == (*searched, "max-autotune")
    assert confirmed_against(searched, on_device=True)[2:] == ("max-autotune", "reduce-overhead")
    assert confirmed_against(("eager",), on_device=True) == ("eager",)


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


@pytest.mark.parametrize(
    ("work", "limit"),
    [
        (Work(inputs=100 << 20), "memory"),
        (Work(inputs=500_000), "cache"),
        (Work(inputs=500_000, flops=10**9), "arithmetic"),
    ],
)
def test_a_limit_that_is_far_does_not_bind(work, limit):
    floor = physics.floor_of(work, SPEC).us
    near = physics.diagnose(work, SPEC, floor / 0.8, Build(ok=True)).sentence
    far = physics.diagnose(work, SPEC, floor / 0.1, Build(ok=True)).sentence
    assert near.endswith(f"bound by {limit}")
    assert f"not bound by {limit} but by latency" in far
    assert "10%" in far


def record(candidate, baselines, noise, *, final=False):
    workload = Workload(name="small", held_out=True)
    return benchmark.timing(
        SimpleNamespace(prepared=SimpleNamespace(workload=workload)),
        candidate,
        baselines,
        final=final,
        warm=True,
        setup_us=5.0,
        first_us=6.0,
        memory=7,
        noise=noise,
    )


def test_a_noisy_machine_leaves_an_interval_above_nothing():
    found = record([10.0, 11.0, 12.0], {"eager": [20.0, 21.0, 22.0]}, noise=3.0)
    assert 0 < found.low < found.speedup < found.high


def test_the_record_of_a_workload(monkeypatch):
    monkeypatch.setattr(benchmark.os, "getloadavg", lambda: (0.5, 1.5, 2.5))
    found = record([10.0, 10.0], {"eager": [30.0, 30.0], "compile": [20.0, 20.0]}, noise=0.25)
    assert (found.workload, found.held_out) == ("small", True)
    assert found.samples_us == (10.0, 10.0)
    assert found.baselines_us == {"eager": (30.0, 30.0), "compile": (20.0, 20.0)}
    assert (found.low, found.speedup, found.high) == (1.6, 2.0, 2.5)
    assert (found.setup_us, found.first_call_us, found.memory_bytes) == (5.0, 6.0, 7)
    assert found.warm
    assert found.load == 0.5


def test_an_interval_wider_than_the_noise_stays_as_it_is():
    found = record([100.0, 200.0], {"eager": [300.0, 300.0]}, noise=0.1)
    assert (found.low, found.speedup, found.high) == (1.5, 2.0, 3.0)


def test_a_final_figure_that_is_hardly_known_is_its_low_end():
    ours, theirs = [100.0, 200.0], {"eager": [300.0, 300.0], "compile": [600.0, 600.0]}
    found = record(ours, theirs, noise=0.1, final=True)
    assert (found.low, found.speedup, found.high) == (1.5, 1.5, 3.0)
    assert (found.speedup_over("eager"), found.speedup_over("compile")) == (1.5, 3.0)
    steady = record([100.0, 101.0], theirs, noise=0.1, final=True)
    assert steady.low < steady.speedup < steady.high


def test_a_figure_that_is_hardly_known_is_measured_again(monkeypatch):
    def samples(*ours):
        return Samples({"candidate": list(ours), "eager": [300.0] * len(ours)}, {})

    rough, rougher, steady = samples(50, 200), samples(50, 400), samples(100, 101)
    for given, expected in (
        ([steady, rough], steady), ([rough, steady], steady), ([rougher, rough, rougher], rough),
    ):  # fmt: skip
        monkeypatch.setattr(benchmark, "measure", Mock(side_effect=given))
        assert benchmark.measure_steadily({}, PLAN) is expected


def test_resampling_draws_every_round_of_both_sides():
    ours = benchmark.paired([100.0, 200.0], {"eager": [300.0] * 3})
    assert (ours.low, ours.value, ours.high) == (1.5, 2.0, 3.0)
    theirs = benchmark.paired([100.0] * 3, {"eager": [200.0, 400.0]})
    assert (theirs.low, theirs.value, theirs.high) == (2.0, 3.0, 4.0)


def test_the_interval_is_that_of_95_percent_of_medians():
    values = 1000 + 10 * GENERATOR.standard_normal(400)
    found = benchmark.paired([1000.0] * 7, {"eager": values})
    error_of_a_median = 1.2533 * 10 / 400**0.5 / 1000
    assert (found.high - found.low) / (2 * 1.96 * error_of_a_median) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    ("own", "us", "expected"),
    [
        (1000.0, 1000.0, False),
        (700.0, 1000.0, False),
        (699.0, 1000.0, True),
        (1300.0, 1000.0, False),
        (200.0, 400.0, False),
        (199.0, 400.0, True),
        (10.0, 100.0, False),
    ],
)
def test_clocks_disagree_where_the_runner_claims_far_less(own, us, expected):
    samples = Samples({"candidate": [us, us, 9e9]}, {"candidate": [own, own, 9e9]})
    assert samples.clocks_disagree("candidate") is expected


PLAN = Plan(window_us=1000.0, rounds=6, budget_seconds=1.0, least=2, hopeless=4.0, spots=0)


def test_the_number_of_calls_fills_a_window_and_is_secret():
    counts = {benchmark.calls_for(10.0, PLAN, Random(seed)) for seed in range(200)}
    assert 75 <= min(counts) < 80
    assert 120 < max(counts) <= 125
    assert {benchmark.calls_for(700.0, PLAN, Random(seed)) for seed in range(50)} == {1}
    assert {benchmark.calls_for(500.0, PLAN, Random(seed)) for seed in range(50)} == {2}
    assert {benchmark.calls_for(1000.0 / 1.5, PLAN, Random(seed)) for seed in range(50)} == {1, 2}
    assert benchmark.calls_for(1e6, PLAN, Random(1)) == 1


def test_a_call_of_no_time_fills_no_endless_window():
    assert benchmark.calls_for(0.0, PLAN, Random(1)) == MAX_CALLS
    assert benchmark.calls_for(-5.0, PLAN, Random(1)) == MAX_CALLS


@dataclass
class Stand:
    """In a session's place: calls of a known time, and a log that several may share."""

    name: str = "candidate"
    us: list[float] = field(default_factory=lambda: [10.0])
    own: list[float] | None = None
    busy: object = field(default_factory=lambda: repeat(0.0))
    seen: object = field(default_factory=lambda: repeat(True))
    lenient: bool = False
    on_device: bool = False
    singly: bool = False
    starts: object = field(default_factory=lambda: repeat(False))
    log: list[tuple] = field(default_factory=list)
    slots: tuple = (0, 1, 2)
    usual_us: float = 0.0
    single_us: float = 0.0
    clock: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self):
        self.random = Random(7)

    def note(self, what, *more):
        self.log.append((self.name, what, *more))

    def calibrate(self):
        self.note("calibrate")

    def window(self, count, *, twice=False):
        number = sum(entry[:2] == (self.name, "window") for entry in self.log)
        self.note("window", count, twice)
        own = self.us if self.own is None else self.own
        busy = 0.0 if number < 2 else next(self.busy)
        return Window(self.us[min(number, len(self.us) - 1)], own[min(number, len(own) - 1)], busy)

    def widen(self, calls):
        self.note("widen", calls)

    def spot(self, count):
        self.note("spot", count)
        return next(self.seen)

    def starts_threads(self):
        return next(self.starts)

    def time_singly(self):
        self.note("singly")
        self.singly = True

    def unseen(self, windows):
        self.note("unseen", windows)

    def did(self, what):
        return [entry[2:] for entry in self.log if entry[:2] == (self.name, what)]

    def timed(self):
        """Windows after the two that warm up."""
        return self.did("window")[2:]


@pytest.mark.parametrize(
    ("us", "own", "estimate", "least"),
    [
        ([100.0, 40.0], [90.0, 30.0], 40.0, 7),
        ([40.0, 100.0], [30.0, 90.0], 40.0, 18),
        ([40.0, 100.0], [200.0, 60.0], 60.0, 3),
        ([0.0, 0.0], [0.0, 0.0], MIN_US, MAX_CALLS),
    ],
)
def test_warming_up_touches_every_slot_and_estimates_a_call(us, own, estimate, least):
    stand = Stand(us=us, own=own)
    assert benchmark.warm_up(stand, PLAN) == estimate
    assert [entry[1] for entry in stand.log] == ["calibrate", "window", "widen", "window"]
    first, second = (count for count, _ in stand.did("window"))
    assert first == 3
    assert stand.did("widen")[0][0] >= second
    assert least <= second <= least * 5 / 3 + 1


def test_what_fills_a_window_with_one_call_was_warmed_when_it_was_verified():
    stand = Stand(us=[2600.0, 2500.0], single_us=2400.0)
    assert benchmark.warm_up(stand, PLAN) == 2500.0
    assert [count for count, _ in stand.did("window")] == [1, 1]


def test_who_starts_threads_while_it_is_timed_is_measured_again_call_by_call():
    stand = Stand(us=[10.0, 10.0, *[5.0] * PLAN.rounds, 90.0], starts=iter([True, True]))
    samples = samples_of(stand)
    assert stand.did("singly") == [()]
    assert set(samples.us["candidate"]) == {90.0}
    quiet = Stand(starts=iter([True, False]))
    samples_of(quiet)
    assert quiet.did("singly") == []


def test_what_was_timed_before_is_only_warmed():
    stand = Stand("eager", [20.0, 21.0, 22.0])
    samples_of(Stand(), stand)
    before = len(stand.log)
    assert benchmark.warm_up(stand, PLAN) == stand.usual_us == 22.0
    assert [entry[1] for entry in stand.log[before:]] == ["window"]


def samples_of(*stands, plan=PLAN, **options):
    return benchmark.measure({stand.name: stand for stand in stands}, plan, **options)


def test_each_subject_has_one_sample_of_each_round():
    candidate, eager = Stand(us=[10.0, 10.0, 11.0, 12.0], own=[9.0]), Stand("eager", [20.0])
    samples = samples_of(candidate, eager)
    assert samples.us == {"candidate": [11.0, 12.0, 12.0, 12.0, 12.0, 12.0], "eager": [20.0] * 6}
    assert samples.own == {"candidate": [9.0] * 6, "eager": [20.0] * 6}
    assert samples.busy == 0
    assert all(75 <= count <= 125 for count, _ in candidate.timed())
    assert all(37 <= count <= 63 for count, _ in eager.timed())
    assert len({count for count, _ in candidate.timed()}) > 1


def test_a_sample_is_never_nothing():
    assert samples_of(Stand(us=[10.0, 10.0, -3.0])).us["candidate"] == [MIN_US] * 6


def test_the_last_window_of_each_is_looked_at_twice():
    stands = Stand(), Stand("eager")
    samples_of(*stands)
    for stand in stands:
        assert [twice for _, twice in stand.timed()] == [False] * 5 + [True]


def test_each_subject_comes_first_in_its_turn():
    log = []
    samples_of(*(Stand(name, log=log) for name in "ABC"), plan=replace(PLAN, rounds=5))
    order = "".join(entry[0] for entry in log if entry[1] == "window")
    assert order == "AABBCC" + "ABC" + "BCA" + "CAB" + "ABC" + "BCA"


@pytest.mark.parametrize(
    ("budget_ms", "eager_us", "every", "rounds", "of_eager"),
    [
        (100, 10.0, None, 6, 6),
        (8, 10.0, None, 4, 4),
        (8, 10.0, {"eager": 2}, 5, 3),
        (12, 3000.0, None, 3, 3),
        (0, 10.0, None, 2, 2),
    ],
)
def test_rounds_are_cut_to_the_budget_of_time(budget_ms, eager_us, every, rounds, of_eager):
    plan = replace(PLAN, budget_seconds=budget_ms / 1e3)
    samples = samples_of(Stand(), Stand("eager", [eager_us]), plan=plan, every=every)
    assert {name: len(us) for name, us in samples.us.items()} == {
        "candidate": rounds,
        "eager": of_eager,
    }


@pytest.mark.parametrize(("us", "rounds"), [(39.0, 6), (40.0, 6), (41.0, 2)])
def test_what_has_no_hope_is_measured_briefly(us, rounds):
    samples = samples_of(Stand(us=[us]), Stand("eager", [90.0]), best_us=10.0)
    assert len(samples.us["candidate"]) == rounds


def test_windows_are_stopped_midway_and_those_of_a_verified_baseline_are_not():
    candidate, eager = Stand(), Stand("eager", lenient=True)
    samples = samples_of(candidate, eager, plan=replace(PLAN, spots=3))
    assert 4 <= len(candidate.did("spot")) <= 6
    assert candidate.log[-1][1] == "spot"
    assert all(75 <= count <= 125 for (count,) in candidate.did("spot"))
    assert eager.did("spot") == []
    assert candidate.did("unseen") == []
    assert len(samples.us["candidate"]) == 6


def test_stopped_windows_lie_in_rounds_that_are_not_known_beforehand():
    places = set()
    for seed in range(40):
        stand = Stand()
        stand.random = Random(seed)
        samples_of(stand, plan=replace(PLAN, spots=1))
        places.add([entry[1] for entry in stand.log[4:]].index("spot"))
    assert places == set(range(6))


def test_a_window_in_which_no_call_was_seen_to_end_is_tried_again():
    stand = Stand(seen=iter([False, False, True, True]))
    samples_of(stand, plan=replace(PLAN, spots=1))
    assert len(stand.did("spot")) == 4
    assert stand.did("unseen") == []


def test_a_call_that_can_never_be_seen_to_end_is_objected_to():
    stand = Stand(seen=repeat(False))
    samples_of(stand, plan=replace(PLAN, spots=1))
    assert len(stand.did("spot")) == 2 * SPOT_TRIES
    assert stand.did("unseen") == [(SPOT_TRIES,)] * 2


def test_a_window_that_was_disturbed_is_repeated_and_the_quietest_counts():
    us = [10.0, 10.0, 31.0, 32.0, 33.0, 34.0]
    busy = iter([0.5, 0.3, 0.4, 0.6])
    stand = Stand(us=us, busy=busy)
    samples = samples_of(stand, plan=replace(PLAN, rounds=1, least=1))
    assert len(stand.timed()) == TRIES
    assert samples.us["candidate"] == [32.0]
    assert samples.busy == 1


def test_of_equally_disturbed_windows_the_first_counts():
    us = [10.0, 10.0, 31.0, 32.0, 33.0, 34.0]
    samples = samples_of(Stand(us=us, busy=repeat(0.5)), plan=replace(PLAN, rounds=1, least=1))
    assert samples.us["candidate"] == [31.0]


def test_a_quiet_window_is_taken_at_once():
    us = [10.0, 10.0, 31.0, 32.0, 33.0]
    stand = Stand(us=us, busy=iter([0.5, BUSY]))
    samples = samples_of(stand, plan=replace(PLAN, rounds=1, least=1))
    assert samples.us["candidate"] == [32.0]
    assert samples.busy == 0


def test_a_final_check_is_no_briefer_than_the_search():
    for name in ("rounds", "budget_seconds", "least", "spots"):
        assert getattr(benchmark.CONFIRM, name) > getattr(benchmark.SEARCH, name)


def test_cached_baselines_were_timed_in_windows_of_the_same_length():
    plans = benchmark.SEARCH, benchmark.BASELINE, benchmark.CONFIRM
    assert len({plan.window_us for plan in plans}) == 1
