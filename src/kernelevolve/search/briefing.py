"""What a programmer is told about one move."""

import ast
from collections.abc import Iterable

from kernelevolve.core.candidate import Attempt, Brief, Move, Tried
from kernelevolve.core.graph import Graph, Node
from kernelevolve.core.task import Task
from kernelevolve.search.journal import Journal

HISTORY = 8
"""The latest of the remembered nodes are shown; older ones would drown them."""


def brief(journal: Journal, number: int, language: str, guide: str, seed: int) -> Brief:
    """Everything for node `number`; held-out workloads appear nowhere in it."""
    graph = journal.graph
    if graph.task is None or graph.target is None:
        raise ValueError("a run's journal begins with RunStarted")
    move = graph.nodes[number].move
    return Brief(
        task=without_held_out(graph.task),
        target=graph.target,
        language=language,
        guide=guide,
        move=move,
        parents=_attempts(journal, (graph.nodes[n] for n in move.parents)),
        history=_attempts(journal, remembered(graph, move, number)[-HISTORY:]),
        tried=_tried(graph),
        hints=tuple(graph.hints),
        number=number,
        seed=f"{seed}/{number}",
    )


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
        Tried(plan=node.proposal.plan, score=None if node.quarantined else node.score)
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
