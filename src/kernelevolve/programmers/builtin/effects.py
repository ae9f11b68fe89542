"""What single decisions gain, from the scores of plans that made several of them.

Log scores are taken for sums: one term for each decision that departs from the default plan. The
terms are fitted by ridge regression, which pulls what was seen once halfway to nothing, so that a
lucky measurement is not believed; solved one term at a time (Gauss-Seidel).
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kernelevolve.programmers.builtin.schedule import Blocks, Engines, Loops, Plan, Tiles

RIDGE = 1.0
"""How many measurements the assumption that a decision does nothing is worth."""
SWEEPS = 30
NOTICEABLE = 0.02
"""Smaller gains are taken for noise."""
DEFAULT = ""
"""The way of a decision that does not depart from the default plan."""
GROUPS = {"loops": Loops().model_dump(), "blocks": Blocks().model_dump(),
          "tiles": Tiles().model_dump(), "engines": Engines().model_dump()}  # fmt: skip
"""Decisions that stand together in a plan, and their defaults; no two share a name."""
GROUP_OF = {name: group for group, defaults in GROUPS.items() for name in defaults}
PLAN = Plan().model_dump()


def decisions(plan: Plan) -> frozenset[tuple[str, str]]:
    """Where a plan departs from the default: what is decided, and how."""
    whole = plan.model_dump()
    rest = {k: v for k, v in whole.items() if k not in GROUPS and k != "contractions"}
    found = {
        (name, json.dumps(whole[group][name]))
        for name, group in GROUP_OF.items()
        if whole[group][name] != GROUPS[group][name]
    }
    found |= {(name, json.dumps(v)) for name, v in rest.items() if v != PLAN[name]}
    found |= {
        (f"contractions.{name}", json.dumps(v, sort_keys=True))
        for name, v in plan.contractions.items()
    }
    return frozenset(found)


def told(plan: Plan, other: Plan) -> str:
    """What a plan decides otherwise than another, in words; empty where that is nothing."""
    made = dict(decisions(plan) - decisions(other))
    undone = dict(decisions(other) - decisions(plan)).keys() - made.keys()
    ways = [name if value == "true" else f"{name} {value}" for name, value in made.items()]
    return ", ".join(sorted(ways) + sorted(f"no {name}" for name in undone))


def effects(measured: Sequence[tuple[Plan, float]]) -> dict[tuple[str, str], float]:
    """The logarithm of each decision's gain over the default's, for all that were measured."""
    rows = [(decisions(plan), math.log(score)) for plan, score in measured]
    if not rows:
        return {}
    terms = dict.fromkeys(sorted(set().union(*(made for made, _ in rows))), 0.0)
    level = 0.0
    for _ in range(SWEEPS):
        level = sum(y - sum(map(terms.__getitem__, made)) for made, y in rows) / len(rows)
        for term, value in terms.items():
            having = [(made, y) for made, y in rows if term in made]
            left = sum(y - level - sum(map(terms.__getitem__, made)) + value for made, y in having)
            terms[term] = left / (len(having) + RIDGE)
    return terms


def expected(
    gained: Mapping[tuple[str, str], float], before: Plan, after: Plan, hope: float
) -> float:
    """What a change should gain: `hope` where a decision of it was never measured."""
    old, new = decisions(before), decisions(after)
    made, undone = new - old, old - new
    unknown = hope if made - gained.keys() else 0.0
    return unknown + sum(gained.get(d, 0.0) for d in made) - sum(gained.get(d, 0.0) for d in undone)


def with_gains(plan: Plan, gained: Mapping[tuple[str, str], float]) -> Plan:
    """The plan with the best measured way of each decision, where that is noticeably better."""
    now = dict(decisions(plan))
    update = plan.model_dump()
    for name in sorted({name for name, _ in gained}):
        ways = {value: gain for (other, value), gain in gained.items() if other == name}
        best = max(ways, key=lambda value: ways[value])
        way = best if ways[best] > 0.0 else DEFAULT
        if ways.get(way, 0.0) - ways.get(now.get(name, DEFAULT), 0.0) > NOTICEABLE:
            _decide(update, name, way)
    return Plan.model_validate(update)


def _decide(plan: dict[str, Any], name: str, way: str) -> None:
    group, _, region = name.partition(".")
    if region and way == DEFAULT:
        plan[group].pop(region, None)
    elif region:
        plan[group][region] = json.loads(way)
    else:
        within = GROUP_OF.get(name)
        defaults = GROUPS[within] if within else PLAN
        decided = plan[within] if within else plan
        decided[name] = defaults[name] if way == DEFAULT else json.loads(way)
