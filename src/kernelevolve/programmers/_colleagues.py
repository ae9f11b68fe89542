"""Several programmers at one search: the built-in one begins, models go on, knobs are turned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from kernelevolve.core.candidate import Brief, Proposal, Usage
from kernelevolve.core.errors import ProgrammerError, ProgrammerLost
from kernelevolve.core.protocols import Programmer, Workbench
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.programmers.tuner import Tuner, tunables

SEEDS = 4
"""The first nodes without parents are the built-in programmer's."""
TURNS = 0.3
"""Share of the answers to a parent with knobs that turn them."""
OWN = 0.5
"""Share of the answers to a built-in parent that the built-in programmer gives."""


@dataclass(frozen=True)
class Colleagues:
    """Asks one after the other until one has an answer."""

    members: Mapping[str, Programmer]
    """By registry name."""

    async def study(self, task: Task, target: TargetSpec, bench: Workbench) -> None:
        """See `Programmer`."""
        for member in self.members.values():
            await member.study(task, target, bench)

    def forecast(self, task: Task, target: TargetSpec, nodes: int) -> Usage:
        """See `Programmer`. As if each were asked for all."""
        return sum((m.forecast(task, target, nodes) for m in self.members.values()), Usage())

    async def propose(self, brief: Brief, bench: Workbench) -> Proposal:
        """The answer of the first that has one, in the order that fits the brief.

        Raises:
            ProgrammerLost: none can be asked any more.
            ProgrammerError: none had an answer.
        """
        failures: list[ProgrammerError] = []
        for member in self._order(brief):
            try:
                return await member.propose(brief, bench)
            except ProgrammerError as error:
                failures.append(error)
        lost = [e for e in failures if isinstance(e, ProgrammerLost)]
        raise lost[0] if lost else ProgrammerError("; ".join(map(str, failures)))

    def _order(self, brief: Brief) -> list[Programmer]:
        rng = Random(f"{brief.seed}/colleague")
        builtin = self.members.get("builtin")
        others = [m for name, m in self.members.items() if name != "builtin"]
        parent = brief.parents[0] if brief.parents else None
        if parent is None:
            first = [builtin] if builtin and brief.number <= SEEDS else []
            return [*first, *others]
        turned: list[Programmer] = []
        if tunables(parent.files) and rng.random() < TURNS:
            turned = [Tuner()]
        if builtin and is_schedule(parent.plan):
            own = rng.random() < OWN
            return [*turned, *([builtin, *others] if own else [*others, builtin])]
        return [*turned, *others]


def is_schedule(plan: str | None) -> bool:
    """Whether a plan is the built-in programmer's: neither a model's nor the tuner's."""
    try:
        data = json.loads(plan or "null")
    except ValueError:
        return False
    return isinstance(data, dict) and not {"model", "tuned"} & set(data)
