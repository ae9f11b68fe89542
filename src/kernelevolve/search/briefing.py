"""What a programmer is told about one move."""

import ast
import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

from kernelevolve.config import BUDGETS, ROLES, RunConfig
from kernelevolve.core.candidate import Allowance, Attempt, Brief, Move, Tried, Usage, Yield
from kernelevolve.core.graph import Graph, Node
from kernelevolve.core.task import Task
from kernelevolve.search.journal import Journal

HISTORY = 8
"""The latest of the remembered nodes are shown; older ones would drown them."""


def brief(journal: Journal, number: int, config: RunConfig, guide: str) -> Brief:
    """Everything for node `number`; held-out workloads appear nowhere in it."""
    graph = journal.graph
    if graph.task is None or graph.target is None:
        raise ValueError("a run's journal begins with RunStarted")
    move, seed = graph.nodes[number].move, f"{config.seed}/{number}"
    return Brief(
        task=without_held_out(graph.task),
        target=graph.target,
        language=config.language,
        guide=guide,
        move=move,
        parents=_attempts(journal, (graph.nodes[n] for n in move.parents)),
        history=_attempts(journal, remembered(graph, move, number)[-HISTORY:]),
        recalled=journal.past.recalled(move, seed, config),
        tried=_tried(graph),
        hints=tuple(graph.hints),
        baselines_us=_shown(graph, graph.admission.baselines_us if graph.admission else {}),
        floor_us=_shown(graph, graph.admission.floor_us if graph.admission else {}),
        allowances=_allowances(graph, config),
        yields=_yields(graph),
        number=number,
        seed=seed,
    )


T = TypeVar("T")


def _shown(graph: Graph, by_workload: Mapping[str, T]) -> dict[str, T]:
    shown = {w.name for w in graph.task.shown} if graph.task else set()
    return {name: value for name, value in by_workload.items() if name in shown}


def _allowances(graph: Graph, config: RunConfig) -> dict[str, Allowance]:
    """What is left for the whole run and for each role that has a budget of its own."""
    run = {k: v for k in BUDGETS if (v := getattr(config, k)) is not None}
    limits = {"": run} | {
        role: {k: config.budget[f"{role}.{k}"] for k in BUDGETS if f"{role}.{k}" in config.budget}
        for role in ROLES
    }
    spent = {"": graph.usage, **graph.usage_of}
    return {role: _left(of, spent.get(role, Usage())) for role, of in limits.items() if of}


def _left(limits: dict[str, float], spent: Usage) -> Allowance:
    left = {kind: limit - getattr(spent, kind) for kind, limit in limits.items()}
    return Allowance(
        **{kind: value if kind == "dollars" else int(value) for kind, value in left.items()}
    )


def _yields(graph: Graph) -> tuple[Yield, ...]:
    """What each model came to: its ended nodes, their gains over their parents, their costs."""
    found: dict[str, Yield] = {}
    for node in graph:
        asked = [e for e in node.exchanges if e.role == "programmer"]
        if not asked:
            continue
        model, cost = asked[0].model, sum((e.usage for e in asked), Usage())
        old = found.get(model, Yield(model=model))
        found[model] = Yield(
            model=model,
            nodes=old.nodes + (not node.open),
            gain=old.gain + _gain(graph, node),
            dollars=old.dollars + cost.dollars,
            tokens=old.tokens + cost.tokens,
        )
    return tuple(found.values())


def _gain(graph: Graph, node: Node) -> float:
    """How much better than its best parent, as a logarithm; 0 where it is not."""
    scores = [graph.nodes[n].score for n in node.move.parents]
    before = max((s for s in scores if s is not None), default=1.0)
    return max(0.0, math.log(node.score / max(before, 1.0))) if node.score else 0.0


def remembered(graph: Graph, move: Move, number: int) -> list[Node]:
    """The nodes beside its parents that a move's memory shows, oldest first."""
    match move.memory:
        case "lineage":
            found = {n.number for n in graph.ancestors(move.parents[0])} if move.parents else set()
        case "siblings":
            found = {child for parent in move.parents[:1] for child in graph.children[parent]}
        case "merge":
            found = {n.number for parent in move.parents for n in graph.ancestors(parent)}
        case "fresh":
            found = set()
    shown = (graph.nodes[n] for n in sorted(found - {number, *move.parents}))
    return [node for node in shown if node.quarantined is None and node.proposal is not None]


def _tried(graph: Graph) -> tuple[Tried, ...]:
    """Plans whose source would be a duplicate, with what they measured.

    Of a proven exploit only that it was tried. What only descends from one may be proposed again
    from elsewhere.
    """
    return tuple(
        Tried(
            plan=node.proposal.plan,
            summary=node.proposal.summary,
            score=None if node.quarantined else node.score,
        )
        for node in graph
        if node.proposal and node.proposal.plan and node.proposal.candidate in graph.by_candidate
    )


def without_held_out(task: Task) -> Task:
    """The task as a programmer may see it: its text names no held-out sizes either."""
    if len(task.shown) == len(task.workloads):
        return task
    return task.model_copy(
        update={"workloads": task.shown, "source": _blank(task.source, "HELD_OUT")}
    )


def _attempts(journal: Journal, nodes: Iterable[Node]) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(
            number=node.number,
            files=journal.files(node.proposal),
            plan=node.proposal.plan,
            summary=node.proposal.summary,
            predicted=node.proposal.predicted,
            evaluation=node.evaluation.without_held_out(),
        )
        for node in nodes
        if node.proposal is not None and node.evaluation is not None and not node.quarantined
    )


def _blank(source: str, name: str) -> str:
    """The text with every top-level assignment to `name` emptied, its lines kept."""
    lines = source.splitlines(keepends=True)
    for statement in ast.parse(source).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        if any(isinstance(t, ast.Name) and t.id == name for t in targets):
            first, last = statement.lineno - 1, statement.end_lineno or statement.lineno
            lines[first:last] = [f"{name} = {{}}\n", *["\n"] * (last - first - 1)]
    return "".join(lines)
