"""What a finished run teaches: gains that were confirmed, losses, failures that came back."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import exp, log
from typing import NamedTuple

from kernelevolve import views
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Diagnosis, Evaluation, Status
from kernelevolve.core.graph import Graph, Node
from kernelevolve.core.likeness import operators
from kernelevolve.core.target import said_of
from kernelevolve.knowledge.skills import Evidence, Skill, plain

MOST_SKILLS = 5
"""Of one run."""
LEAST_GAIN = 1.05
"""Smaller changes of speed are not worth a note, however sure they are."""
OFTEN = 2
"""A failure must come back before it teaches."""
MOST_STEM = 160
"""Characters of a failure's message."""

SYMPTOMS = {
    "memory": "bound by memory",
    "cache": "bound by cache",
    "compute": "bound by arithmetic",
    "overhead": "are the call itself",
    "unknown": "peaks are not measured",
}
"""What a diagnosis says of each limit."""
NO_MISTAKE = (Status.OK, Status.DUPLICATE, Status.LOST)
VARYING = re.compile(r"""'[^']*'|"[^"]*"|‘[^’]*’|`[^`]*`|\S*[/\\]\S*|\S*:\d\S*|(?<!\w)\d\S*""")
"""What differs between two messages of one kind: quotes, paths, lines, numbers."""
GAP = "…"


class Ratio(NamedTuple):
    """A node's score over its parent's, with its 95 % interval."""

    parent: Node
    before: float
    after: float
    low: float
    high: float


def lessons(run: str, graph: Graph, versions: str) -> list[Skill]:
    """The most useful few: confirmed gains on the way to the best kernel, then failures.

    Args:
        run: its name.
        graph: the whole run, final check included.
        versions: of what built and ran its kernels.
    """
    gains = sorted(_gains(run, graph, versions), key=lambda s: -s.evidence[0].ratio)
    failures = sorted(_failures(run, graph, versions), key=lambda s: -len(s.evidence[0].nodes))
    return [*gains, *failures][:MOST_SKILLS]


def losses(run: str, graph: Graph, versions: str) -> list[Skill]:
    """Changes that made a kernel slower beyond noise: they refute what others taught."""
    found: list[Skill] = []
    for node in graph:
        ratio = _ratio(graph, node)
        if ratio and ratio.high < 1.0 and ratio.after * LEAST_GAIN <= ratio.before:
            found += _measured("loss", run, graph, versions, node, ratio)
    return found


def _gains(run: str, graph: Graph, versions: str) -> Iterator[Skill]:
    best = views.announced(graph)
    line = [*graph.ancestors(best.number), best] if best else []
    for node in (n for n in line if n.confirmed):
        ratio = _ratio(graph, node)
        if ratio and _is_sure(node, ratio):
            yield from _measured("gain", run, graph, versions, node, ratio)


def _is_sure(node: Node, ratio: Ratio) -> bool:
    """Beyond noise, worth a note, and still there after the final check."""
    pairs = ((ratio.before, ratio.after), (ratio.parent.score or 0.0, node.score or 0.0))
    return ratio.low > 1.0 and all(after >= LEAST_GAIN * before for before, after in pairs)


def _measured(
    kind: str, run: str, graph: Graph, versions: str, node: Node, ratio: Ratio
) -> Iterator[Skill]:
    """One skill; none where its programmer did not say what was changed."""
    proposal, verdict, target = node.proposal, ratio.parent.evaluation, graph.target
    change = plain(proposal.summary) if proposal else ""
    if not (change and proposal and verdict and target):
        return
    evidence = Evidence.model_validate(
        {
            "kind": kind,
            "run": run,
            "nodes": (node.number, ratio.parent.number),
            **{name: getattr(ratio, name) for name in ("before", "after", "low", "high")},
            **_circumstances(graph, proposal.language, versions),
        }
    )
    yield Skill(
        change=change,
        symptom=_symptom(verdict.diagnosis),
        vendor=target.vendor,
        language=proposal.language,
        operators=_operators(graph),
        evidence=(evidence,),
    )


def _ratio(graph: Graph, node: Node) -> Ratio | None:
    """Against the best of its parents, both measured in the same way; None where one was not."""
    parents = [graph.nodes[n] for n in node.move.parents]
    scored = [p for p in parents if p.score is not None]
    if not scored or node.score is None:
        return None
    parent = max(scored, key=lambda p: p.score or 0.0)
    if node.confirmed and parent.confirmed:
        return _compared(parent, parent.confirmation, node.confirmation)
    return _compared(parent, parent.evaluation, node.evaluation)


def _compared(parent: Node, before: Evaluation | None, after: Evaluation | None) -> Ratio | None:
    """Two measurements are independent, so that the squares of their uncertainties add up."""
    if not (before and after and before.score and after.score):
        return None
    ends = (before.interval, after.interval)
    if any(interval is None or min(interval) <= 0 for interval in ends):
        return None
    halves = [log(high / low) / 2 for low, high in (i for i in ends if i)]
    half = sum(h * h for h in halves) ** 0.5
    ratio = after.score / before.score
    return Ratio(parent, before.score, after.score, ratio / exp(half), ratio * exp(half))


def _failures(run: str, graph: Graph, versions: str) -> Iterator[Skill]:
    """Those of one status and one message; the final check's are secret and stay so."""
    alike: dict[tuple[str, str], list[Node]] = defaultdict(list)
    for node in graph:
        verdict = node.evaluation
        if verdict and node.proposal and not node.quarantined and _is_mistake(verdict):
            alike[str(verdict.status).replace("_", " "), stem(verdict.message)].append(node)
    for (status, message), nodes in alike.items():
        language = nodes[0].proposal.language if nodes[0].proposal else ""
        if len(nodes) < OFTEN or not message or graph.target is None:
            continue
        fixed = _repaired(graph, nodes)
        evidence = Evidence(
            kind="failure",
            run=run,
            nodes=tuple(n.number for n in nodes),
            repaired=fixed.number if fixed else None,
            **_circumstances(graph, language, versions),
        )
        yield Skill(
            change=f"{status}: {message}",
            symptom=_phrase(message) or status,
            vendor=graph.target.vendor,
            language=language,
            operators=_operators(graph),
            repair=plain(fixed.proposal.summary) if fixed and fixed.proposal else "",
            evidence=(evidence,),
        )


def _is_mistake(verdict: Evaluation) -> bool:
    return verdict.status not in NO_MISTAKE and verdict.detector is not Detector.HELD_OUT


def _repaired(graph: Graph, failed: Sequence[Node]) -> Node | None:
    """The fastest node that passed and was made from one of them."""
    children = {child for node in failed for child in graph.children.get(node.number, ())}
    passed = [graph.nodes[n] for n in sorted(children) if graph.nodes[n].score is not None]
    return max(passed, key=lambda n: n.score or 0.0, default=None)


def stem(message: str) -> str:
    """What messages of one kind have in common: the line that names the error, without details."""
    lines = [line for line in message.splitlines() if line.strip()]
    told = next((line for line in lines if "error" in line.lower()), (lines or [""])[0])
    return plain(re.sub(rf"(?:{GAP}\s*)+", f"{GAP} ", VARYING.sub(GAP, told)), MOST_STEM)


def _phrase(message: str) -> str:
    """The longest run of words between what varies, at most ten."""
    pieces = [re.findall(r"[^\s:,;.()]+", piece) for piece in message.split(GAP)]
    longest = max(pieces, key=len)[:10]
    return " ".join(longest) if len(longest) > 1 else ""


def _symptom(diagnosis: Diagnosis | None) -> str:
    return SYMPTOMS[diagnosis.limit if diagnosis else "unknown"]


def _operators(graph: Graph) -> tuple[str, ...]:
    return tuple(sorted(operators(graph.task))) if graph.task else ()


def _circumstances(graph: Graph, language: str, versions: str) -> dict[str, str]:
    target = graph.target
    name = f"{target.address} {target.name}".strip() if target else ""
    device = said_of(name, target.fidelity if target else None)
    began = datetime.fromtimestamp(graph.started_at or 0.0, UTC)
    return {
        "where": plain(f"{device}; {language}; {versions}"),
        "day": began.date().isoformat(),
    }
