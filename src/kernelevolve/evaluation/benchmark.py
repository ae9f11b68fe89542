"""Windows over calls, baselines beside them, and what the samples say. In the judge."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from random import Random
from statistics import median

import numpy as np

from kernelevolve.core.evaluation import Timing
from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.session import Session
from kernelevolve.evaluation.window import Window

RESAMPLES = 400
BUSY = 0.02  # of a window in which something else had the core: more spoils its figures
DEVICE_WINDOW_US = 5000.0
MAX_CALLS = 5000
MOST_OF_WINDOW = 1.25
MIN_US = 0.01
TRIES = 4
SPOT_TRIES = 30
AGAIN = "eager again"
OWN_CLOCK_SLACK_US = 200.0
MOST_SPREAD = 1.5
"""An interval whose ends differ by more tells a noisy machine, not a kernel."""
REPEATS = 3


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    window_us: float
    rounds: int
    budget_seconds: float
    """Rounds are cut, down to `least`, where all subjects together would take longer."""
    least: int = 4
    hopeless: float = 4.0
    """This much slower than the best baseline: `least` rounds are enough."""
    spots: int = 3
    """Windows of each candidate that are stopped midway, at least."""

    def suited(self, subjects: Mapping[str, Session]) -> "Plan":
        """On a device windows are longer: to begin and end one takes a third of a millisecond."""
        on_device = any(session.on_device for session in subjects.values())
        return replace(self, window_us=DEVICE_WINDOW_US) if on_device else self


SEARCH = Plan(window_us=2000.0, rounds=8, budget_seconds=0.5)
BASELINE = Plan(window_us=2000.0, rounds=15, budget_seconds=3.0, least=5)
CONFIRM = Plan(window_us=2000.0, rounds=30, budget_seconds=12.0, least=8, spots=4)


@dataclass
class Samples:
    """Per-call microseconds by subject; the same index is the same round."""

    us: dict[str, list[float]]
    own: dict[str, list[float]]
    busy: int = 0
    """Windows in which something else had the core, however often they were repeated."""

    def clocks_disagree(self, name: str) -> bool:
        """The runner claims far less than the judge saw."""
        theirs, ours = median(self.own[name]), median(self.us[name])
        return theirs < 0.7 * ours and ours - theirs > OWN_CLOCK_SLACK_US


def calls_for(us: float, plan: Plan, random: Random) -> int:
    """A secret number of calls that fills a window."""
    wanted = plan.window_us / max(us, MIN_US)
    if wanted < 1.5:
        return 1
    return min(MAX_CALLS, round(wanted * random.uniform(0.75, MOST_OF_WINDOW)))


def warm_up(session: Session, plan: Plan) -> float:
    """Calibrate, have a slot for each call of a window, and estimate a call's time.

    What was timed before, a baseline, only needs its caches warmed; what fills a window with one
    call was warmed when it was verified.
    """
    if session.usual_us:
        session.window(_first(session, session.usual_us, plan))
        return session.usual_us
    session.calibrate()
    first = session.window(1 if session.single_us > plan.window_us else len(session.slots))
    guess = max(MIN_US, first.us, first.own_us)
    session.widen(ceil(MOST_OF_WINDOW * plan.window_us / guess))
    second = session.window(_first(session, guess, plan))
    return max(MIN_US, min(first.us, second.us), min(first.own_us, second.own_us))


def _first(session: Session, us: float, plan: Plan) -> int:
    """Calls of a window to warm up: on a device the most, as outputs of all are kept."""
    most = min(MAX_CALLS, ceil(MOST_OF_WINDOW * plan.window_us / max(us, MIN_US)))
    return most if session.on_device else calls_for(us, plan, session.random)


def measure(
    subjects: Mapping[str, Session],
    plan: Plan,
    every: Mapping[str, int] | None = None,
    best_us: float | None = None,
) -> Samples:
    """Windows of all subjects in turn: A B C A B C.

    A subject that starts threads meanwhile is measured again, call by call: it can have one that
    no stop reaches at once, which works no other calls than those that are looked at.

    Args:
        subjects: by name; the first one's secrets decide.
        plan: how long.
        every: subjects measured only in every n-th round.
        best_us: the best baseline's time, next to which the first subject may be without hope.
    """
    every, plan = every or {}, plan.suited(subjects)
    guesses = _guesses(subjects, plan)
    watched = [s for s in subjects.values() if not (s.lenient or s.singly)]
    for session in watched:
        session.starts_threads()
    round_us = sum(max(g, plan.window_us) / every.get(n, 1) for n, g in guesses.items())
    rounds = int(max(plan.least, min(plan.rounds, plan.budget_seconds * 1e6 / round_us)))
    if best_us is not None and next(iter(guesses.values())) > plan.hopeless * best_us:
        rounds = plan.least
    samples = Samples({n: [] for n in subjects}, {n: [] for n in subjects})
    spots = {name: _spots(session, plan, rounds) for name, session in subjects.items()}
    for number in range(rounds):
        for name, session in _rotated(subjects, number):
            for _ in range(spots[name].count(number)):
                _spot(session, guesses[name], plan)
            if number % every.get(name, 1) == 0:
                window = _quiet(session, guesses[name], plan, twice=number == rounds - 1)
                samples.busy += window.busy > BUSY
                samples.us[name].append(max(MIN_US, window.us))
                samples.own[name].append(window.own_us)
    for name, session in subjects.items():
        for _ in range(spots[name].count(rounds)):
            _spot(session, guesses[name], plan)
        session.usual_us = median(samples.us[name])
    starting = [session for session in watched if session.starts_threads()]
    for session in starting:
        session.time_singly()
    return measure(subjects, plan, every, best_us) if starting else samples


def _guesses(subjects: Mapping[str, Session], plan: Plan) -> dict[str, float]:
    """Times of a call of each when all are warm."""
    found = {name: warm_up(session, plan) for name, session in subjects.items()}
    for session in subjects.values():
        if session.on_device:
            session.calibrate()
    return found


def measure_steadily(subjects: Mapping[str, Session], plan: Plan) -> Samples:
    """Measure, and while the first subject's speed-up is hardly known again; the steadiest counts.

    At most `REPEATS` times.
    """
    found: list[tuple[float, Samples]] = []
    for _ in range(REPEATS):
        samples = measure(subjects, plan)
        ours, *others = samples.us
        spread = paired(samples.us[ours], {n: samples.us[n] for n in others}).spread
        found.append((spread, samples))
        if spread <= MOST_SPREAD:
            break
    return min(found, key=lambda one: one[0])[1]


def _spots(session: Session, plan: Plan, rounds: int) -> list[int]:
    """Rounds before which a window is stopped midway; how often is secret, as a stop is felt.

    One comes after the last round: whoever has felt all stops but that one is still not safe.
    """
    if session.lenient or not plan.spots:
        return []
    count = session.random.randrange(plan.spots, 2 * plan.spots)
    return [*session.random.choices(range(rounds), k=count), rounds]


def _rotated(subjects: Mapping[str, Session], by: int) -> list[tuple[str, Session]]:
    """Each subject comes first in its turn."""
    items = list(subjects.items())
    by %= len(items)
    return items[by:] + items[:by]


def _spot(session: Session, guess_us: float, plan: Plan) -> None:
    """Verify a call in the middle of a window; the figures of such windows are no samples."""
    with session.clock("spots"):
        for _ in range(SPOT_TRIES):
            if session.spot(calls_for(guess_us, plan, session.random)):
                return
        session.unseen(SPOT_TRIES)


def _quiet(session: Session, guess_us: float, plan: Plan, *, twice: bool) -> Window:
    """A window in which nothing else had the core, or the best of a few."""
    best = None
    for _ in range(TRIES):
        count = calls_for(guess_us, plan, session.random)
        window = session.window(count, twice=twice)
        if best is None or window.busy < best.busy:
            best = window
        if best.busy <= BUSY:
            break
    assert best is not None
    return best


@dataclass(frozen=True)
class Interval:
    """A ratio and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """How many times the low end goes into the high one."""
        return self.high / self.low

    @property
    def cautious(self) -> float:
        """The value; the low end where the ends are far apart."""
        return self.low if self.spread > MOST_SPREAD else self.value


def paired(candidate: Sequence[float], baselines: Mapping[str, Sequence[float]]) -> Interval:
    """Best baseline over candidate, rounds resampled together where they were paired."""
    best = min(baselines.values(), key=median)
    ours, theirs = np.asarray(candidate), np.asarray(best)
    generator = np.random.default_rng(len(ours) * 1000 + len(theirs))
    picks = generator.integers(0, len(ours), (RESAMPLES, len(ours)))
    if len(ours) == len(theirs):
        others = picks
    else:
        others = generator.integers(0, len(theirs), (RESAMPLES, len(theirs)))
    ratios: Array = np.median(theirs[others], axis=1) / np.median(ours[picks], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    value = median(best) / median(candidate)
    return Interval(value, float(min(low, value)), float(max(high, value)))


def noise(us: Mapping[str, Sequence[float]]) -> float:
    """By how much one baseline differs from itself, measured twice in the same rounds."""
    return abs(median(us[AGAIN]) / median(us["eager"]) - 1.0) if AGAIN in us else 0.0


def drifted(
    cached: Mapping[str, Sequence[float]], sentinel: str, now: Sequence[float]
) -> dict[str, tuple[float, ...]]:
    """Cached baselines at the machine's present speed, which the sentinel shows."""
    factor = median(now) / median(cached[sentinel])
    scaled = {name: tuple(v * factor for v in values) for name, values in cached.items()}
    return scaled | {sentinel: tuple(now)}


def timing(
    session: Session,
    candidate: Sequence[float],
    baselines: Mapping[str, Sequence[float]],
    *,
    final: bool,
    noise: float,
    warm: bool,
    setup_us: float,
    first_us: float,
    memory: int,
    device: Sequence[float] = (),
    health: Mapping[str, float] | None = None,
) -> Timing:
    """The record; an interval is no narrower than what a baseline differs from itself by.

    A `final` figure is announced: where the interval is wide, its low end.
    """
    interval = paired(candidate, baselines)
    return Timing(
        workload=session.prepared.workload.name,
        held_out=session.prepared.workload.held_out,
        samples_us=tuple(candidate),
        baselines_us={name: tuple(values) for name, values in baselines.items()},
        speedup=interval.cautious if final else interval.value,
        low=min(interval.low, interval.value / (1.0 + noise)),
        high=max(interval.high, interval.value * (1.0 + noise)),
        setup_us=setup_us,
        first_call_us=first_us,
        memory_bytes=memory,
        warm=warm,
        load=os.getloadavg()[0],
        device_us=median(device) if device else 0.0,
        health=dict(health or {}),
    )
