"""Runs the fixtures through a harness, and says which were judged as they must be."""

import asyncio
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from secrets import token_hex
from typing import Any, Literal

from kernelevolve.core.detector import Detector
from kernelevolve.core.errors import HarnessError, UsageError
from kernelevolve.core.evaluation import Evaluation, Stage
from kernelevolve.core.job import Job, Limits
from kernelevolve.core.protocols import Harness
from kernelevolve.core.target import TargetSpec
from kernelevolve.testing.redteam import exploits as exploit_tables
from kernelevolve.testing.redteam import honest as honest_tables
from kernelevolve.testing.redteam import limits as limit_table
from kernelevolve.testing.redteam import limits_gpu
from kernelevolve.testing.redteam.record import Exploit, Fixture, Honest, Limit
from kernelevolve.testing.redteam.tasks import TASKS, task

Kind = Literal["exploit", "twin", "honest", "ablated", "limit"]
DEVICE_SECONDS = 20.0
DEVICE_MEMORY = 16 << 30


@dataclass(frozen=True)
class Case:
    """One candidate to judge."""

    kind: Kind
    fixture: Fixture

    def job(self, spec: TargetSpec, language: str) -> Job:
        """For the harness."""
        fixture = self.fixture
        return Job(
            task=task(fixture.task),
            candidate=fixture.candidate(language, cheating=self.kind != "twin"),
            target=spec,
            stage=fixture.stage,
            seed=token_hex(16),
            limits=_limits(fixture, spec),
            without=self._without,
        )

    @property
    def _without(self) -> frozenset[Detector]:
        if self.kind == "ablated" and isinstance(self.fixture, Exploit):
            return self.fixture.switched_off
        return frozenset()


def _limits(fixture: Fixture, spec: TargetSpec) -> Limits:
    """A device's driver wants time and memory of its own before anything is computed."""
    seconds, memory = fixture.seconds, 4 << 30
    if spec.accelerated:
        seconds, memory = seconds + DEVICE_SECONDS, DEVICE_MEMORY
    return Limits(run_seconds=seconds, memory_bytes=memory)


@dataclass(frozen=True)
class Outcome:
    """A case and its verdict."""

    case: Case
    found: Evaluation

    @property
    def passed(self) -> bool:
        """Whether it was judged as it must be, and for its own reason."""
        fixture, kind = self.case.fixture, self.case.kind
        if not isinstance(fixture, Exploit) or kind == "twin":
            return self.found.ok
        if kind == "ablated":
            return self.found.ok and not self._unpaid(fixture)
        named = self.found.detector in fixture.caught_by
        caught = named and not self.found.ok and fixture.says in self.found.message
        return caught or self._unpaid(fixture)

    def _unpaid(self, exploit: Exploit) -> bool:
        """Whether it was timed as the slow kernel that it is."""
        score = self.found.score
        return exploit.at_most is not None and score is not None and score < exploit.at_most

    def row(self) -> dict[str, Any]:
        """For programs."""
        fixture = self.case.fixture
        row: dict[str, Any] = {
            "name": fixture.name,
            "task": fixture.task,
            "status": str(self.found.status),
            "caught_by": self.found.detector,
            "message": self.found.message.strip()[:600],
            "score": self.found.score,
            "passed": self.passed,
        }
        if isinstance(fixture, Exploit):
            row |= {"class": fixture.row, "expected": [str(d) for d in fixture.caught_by]}
            if self.case.kind == "exploit" and self._unpaid(fixture):
                row["caught_by"] = fixture.caught_by[0]
        return row


@dataclass(frozen=True)
class Scoreboard:
    """All outcomes of one run of the suite."""

    outcomes: Sequence[Outcome]

    def of(self, kind: Kind) -> list[Outcome]:
        """Those of one kind."""
        return [o for o in self.outcomes if o.case.kind == kind]

    @property
    def false_negatives(self) -> list[str]:
        """Exploits that scored."""
        return [o.case.fixture.name for o in self.of("exploit") if o.found.ok and not o.passed]

    @property
    def caught_elsewhere(self) -> list[str]:
        """Exploits that did not score, for a reason that is not their own."""
        return [o.case.fixture.name for o in self.of("exploit") if not o.passed and not o.found.ok]

    @property
    def false_positives(self) -> list[str]:
        """Honest kernels, and exploits without their cheat, that were not OK."""
        twins = [f"{o.case.fixture.name} (twin)" for o in self.of("twin") if not o.passed]
        return [o.case.fixture.name for o in self.of("honest") if not o.passed] + twins

    @property
    def not_ablated(self) -> list[str]:
        """Exploits that did not score although their defence was switched off."""
        return [o.case.fixture.name for o in self.of("ablated") if not o.passed]

    @property
    def limits_overcome(self) -> list[str]:
        """Kernels that were known to get past, and are caught now: exploits from now on."""
        return [o.case.fixture.name for o in self.of("limit") if not o.passed]

    @property
    def clean(self) -> bool:
        """Whether everything was judged as it must be."""
        return all(o.passed for o in self.outcomes)

    def dump(self) -> dict[str, Any]:
        """For programs."""
        rows = {kind: [o.row() for o in self.of(kind)] for kind in ("exploit", "twin", "honest")}
        found: dict[str, Any] = {
            "exploits": rows["exploit"],
            "twins": rows["twin"],
            "honest": rows["honest"],
            "false_negatives": self.false_negatives,
            "false_positives": self.false_positives,
            "caught_elsewhere": self.caught_elsewhere,
        }
        if ablated := [o.row() for o in self.of("ablated")]:
            found |= {"ablated": ablated, "not_ablated": self.not_ablated}
        if limits := [o.row() for o in self.of("limit")]:
            found |= {"limits": limits, "limits_overcome": self.limits_overcome}
        return found


def exploits() -> tuple[Exploit, ...]:
    """All of `exploits/`."""
    return tuple(_records(exploit_tables))


def honest() -> tuple[Honest, ...]:
    """All of `honest/`."""
    return tuple(_records(honest_tables))


def limits() -> tuple[Limit, ...]:
    """What is known to get past."""
    return (*limit_table.TABLE, *limits_gpu.TABLE)


def _records(package: Any) -> Iterable[Any]:
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            yield from import_module(f"{package.__name__}.{module.name}").TABLE


def cases(
    *,
    classes: Sequence[str] = (),
    names: Sequence[str] = (),
    ablate: bool = False,
    beyond: bool = False,
    own: bool = False,
    vendor: str = "cpu",
    language: str = "cpp",
) -> list[Case]:
    """What a run judges.

    Args:
        classes: rows (`B2`) or letters (`B`); all where empty. Honest kernels have none.
        names: of fixtures; all where empty.
        ablate: judge the exploits a second time with their defence switched off.
        beyond: judge what is known to get past, too; what is named is judged anyhow.
        own: leave out what can be judged on any target.
        vendor: of the target; only what can be judged there is wanted.
        language: that candidates are given in.

    Raises:
        UsageError: there is no such class or fixture, or a named one is not for that target.
    """
    everything = (*exploits(), *honest(), *limits())
    _require("class", classes, {e.row for e in exploits()} | {e.letter for e in exploits()})
    _require("fixture", names, {f.name for f in everything})
    served = {f.name for f in everything if f.serves(vendor, language)}
    if others := [name for name in names if name not in served]:
        raise UsageError(f"{others[0]!r} is not for target {vendor!r} and language {language!r}")
    if own:
        served -= {f.name for f in everything if not f.places}
    found: list[Case] = []
    for exploit in exploits():
        if classes and not {exploit.row, exploit.letter} & set(classes):
            continue
        found += [Case("exploit", exploit), Case("twin", exploit)]
        if ablate and not exploit.inseparable:
            found.append(Case("ablated", exploit))
    if beyond or {limit.name for limit in limits()} & set(names):
        rows = set(classes) or {limit.row for limit in limits()}
        found += [Case("limit", e) for e in limits() if {e.row, e.row[0]} & rows]
    if not classes:
        found += [Case("honest", kernel) for kernel in honest()]
    wanted = served & set(names) if names else served
    return [case for case in found if case.fixture.name in wanted]


def _require(what: str, wanted: Sequence[str], known: set[str]) -> None:
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, 5, 0.3) or sorted(known)[:5]
            raise UsageError(f"unknown {what} {name!r}; known are {', '.join(near)} …")


async def run(
    harness: Harness,
    spec: TargetSpec,
    language: str,
    wanted: Sequence[Case],
    observe: Callable[[Outcome], object] = lambda outcome: None,
) -> Scoreboard:
    """Judge the cases task by task, so that each task is admitted once, and equal jobs once.

    Raises:
        HarnessError: a task of the suite was not admitted.
    """
    outcomes: list[Outcome] = []
    room = asyncio.Semaphore(harness.slots)
    verdicts: dict[str, asyncio.Future[Evaluation]] = {}

    async def evaluated(job: Job) -> Evaluation:
        async with room:
            return await harness.evaluate(job)

    async def judge(case: Case) -> None:
        job = case.job(spec, language)
        key = job.model_copy(update={"seed": ""}).model_dump_json()
        if key not in verdicts:
            verdicts[key] = asyncio.ensure_future(evaluated(job))
        outcome = Outcome(case, await verdicts[key])
        outcomes.append(outcome)
        observe(outcome)

    for name in TASKS:
        of_task = sorted(
            (c for c in wanted if c.fixture.task == name),
            key=lambda case: case.fixture.stage is Stage.CONFIRM,
        )
        if of_task:
            await _admit(harness, spec, name)
            await asyncio.gather(*map(judge, of_task))
    order = {id(case): number for number, case in enumerate(wanted)}
    return Scoreboard(sorted(outcomes, key=lambda o: order[id(o.case)]))


async def _admit(harness: Harness, spec: TargetSpec, name: str) -> None:
    admission = await harness.admit(task(name), spec, None)
    if not admission.admitted:
        reasons = "; ".join(f.message for f in admission.findings if f.fatal)
        raise HarnessError(f"the suite's task {name!r} was not admitted: {reasons}")
