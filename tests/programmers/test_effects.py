"""What decisions gain, fitted from plans that made several of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelevolve.programmers.builtin.effects import decisions, effects, expected, told, with_gains
from kernelevolve.programmers.builtin.schedule import Loops, Plan

UNROLLED = ("unroll", "8")
STREAMED = ("stream", "true")


def plan(**loops: object) -> Plan:
    return Plan(loops=Loops(**loops))  # type: ignore[arg-type]


def test_gains_of_plans_with_several_decisions_are_told_apart() -> None:
    truth = {"unroll": 0.3, "stream": -0.2}
    rows = [
        (plan(**({"unroll": 8} if u else {}), **({"stream": True} if s else {})), u, s)
        for u in (0, 1)
        for s in (0, 1)
    ] * 5
    scores = [math.exp(0.5 + truth["unroll"] * u + truth["stream"] * s) for _, u, s in rows]
    found = effects([(p, score) for (p, _, _), score in zip(rows, scores, strict=True)])
    assert found[UNROLLED] == pytest.approx(0.3, abs=0.07)
    assert found[STREAMED] == pytest.approx(-0.2, abs=0.07)


def test_one_lucky_measurement_is_believed_by_half_at_most() -> None:
    measured = [(plan(), 1.0)] * 20 + [(plan(unroll=8), 2.0)]
    assert 0 < effects(measured)[UNROLLED] <= math.log(2.0) / 2


@given(st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.booleans(), st.floats(0.1, 10))))
def test_effects_are_bounded_by_what_was_seen(rows: list[tuple[int, bool, float]]) -> None:
    measured = [(plan(unroll=u, stream=s), score) for u, s, score in rows]
    found = effects(measured)
    assert set(found) == set().union(*(decisions(p) for p, _ in measured))
    assert all(abs(value) <= math.log(100.0) for value in found.values())


def test_what_gained_is_taken_together_and_what_lost_is_not() -> None:
    gained = {UNROLLED: 0.2, ("unroll", "4"): 0.1, STREAMED: -0.1, ("cuts", "[3]"): 0.05}
    better = with_gains(plan(unroll=4, stream=True), gained)
    assert better == Plan(loops=Loops(unroll=8), cuts=(3,))
    assert with_gains(better, gained) == better


@pytest.mark.parametrize(
    ("after", "before", "words"),
    [
        (plan(stream=True, unroll=4), plan(unroll=8), "stream, unroll 4"),
        (Plan(fast_math=True), plan(stream=True), "fast_math, no stream"),
        (plan(), plan(), ""),
    ],
)
def test_what_differs_is_told_in_words(after: Plan, before: Plan, words: str) -> None:
    assert told(after, before) == words


def test_products_keep_their_schedules_by_region() -> None:
    chosen = Plan(contractions={"r0": {"rows": 8}})
    ((name, value),) = decisions(chosen)
    assert with_gains(Plan(), {(name, value): 0.3}) == chosen


def test_a_change_is_worth_what_its_decisions_gained_and_hope_where_untried() -> None:
    gained = {STREAMED: -0.1}
    assert expected(gained, plan(stream=True), plan(), 0.5) == pytest.approx(0.1)
    assert expected(gained, plan(), plan(stream=True), 0.5) == pytest.approx(-0.1)
    assert expected(gained, plan(), plan(unroll=8), 0.5) == pytest.approx(0.5)
