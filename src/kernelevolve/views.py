"""What programs read of a run: the JSON contract of the command line, made from the graph."""

from collections.abc import Callable, Sequence
from statistics import geometric_mean

from kernelevolve.core.evaluation import Evaluation, Timing
from kernelevolve.core.graph import Graph, Node, is_ok
from kernelevolve.core.target import Fidelity

Json = dict[str, object]


def summary(run: str, graph: Graph, files: Sequence[str] = (), learnt: Sequence[str] = ()) -> Json:
    """The outcome of `optimize` and `resume`.

    Args:
        run: its name.
        graph: the whole run.
        files: where the best kernel was written.
        learnt: skills that it taught.
    """
    best = announced(graph)
    return {
        "run": run,
        "task": graph.task.name if graph.task else None,
        "target": graph.target.address if graph.target else None,
        "language": graph.config.get("language"),
        "fidelity": _verdict(best).fidelity if best else None,
        "best": _best(best, files) if best else None,
        "nodes": {
            "total": len(graph),
            "ok": sum(map(is_ok, graph)),
            "quarantined": sum(1 for node in graph if node.quarantined is not None),
            "by_status": graph.by_status(),
        },
        "usage": graph.usage.model_dump() | {"seconds": graph.elapsed},
        "stopped_by": graph.stopped_by,
        "learnt": list(learnt),
    }


def announced(graph: Graph) -> Node | None:
    """The node that may be called best: confirmed, or, while a run goes on, the best score."""
    best = graph.best
    return None if best and graph.stopped_by and not best.confirmed else best


def row(run: str, graph: Graph) -> Json:
    """A run in a list of runs."""
    best = announced(graph)
    return {
        "run": run,
        "task": graph.task.name if graph.task else None,
        "target": graph.target.address if graph.target else None,
        "nodes": len(graph),
        "best": best.number if best else None,
        "speedup": best.score if best else None,
        "fidelity": _verdict(best).fidelity if best else None,
        "state": graph.stopped_by or "open",
        "started": graph.started_at,
    }


def show(run: str, graph: Graph) -> Json:
    """Every node of a run, and its best."""
    best = announced(graph)
    return {
        "run": run,
        "task": graph.task.name if graph.task else None,
        "target": graph.target.address if graph.target else None,
        "config": graph.config,
        "nodes": [_node_row(node) for node in graph],
        "best": best.number if best else None,
        "stopped_by": graph.stopped_by,
        "quarantined": [quarantine(graph, number) for number in graph.quarantines],
    }


def quarantine(graph: Graph, guilty: int) -> Json:
    """What was proven against a node, by what, and whom it took along."""
    event, node = graph.quarantines[guilty], graph.nodes[guilty]
    verdicts = (node.confirmation, node.evaluation)
    proofs = [v for v in verdicts if v and event.detector and v.detector is event.detector]
    taken = [n.number for n in graph if n.quarantined_for == guilty and n.number != guilty]
    below = sorted(graph.descendants(guilty))
    return {
        "node": guilty,
        "reason": event.reason,
        "detector": event.detector,
        "evidence": proofs[0].message if proofs else None,
        "seed": proofs[0].seed if proofs else None,
        "at": event.at,
        "descendants": below,
        "same_source": [n for n in taken if n not in below],
    }


def show_node(graph: Graph, number: int, blob: Callable[[str], bytes]) -> Json:
    """One node with its source, verdicts, brief and proposal."""
    node = graph.nodes[number]
    proposal = node.proposal
    files = proposal.files if proposal else {}
    guilty = node.quarantined_for
    return _node_row(node) | {
        "source": {path: blob(ref).decode() for path, ref in files.items()},
        "evaluation": node.evaluation.model_dump(mode="json") if node.evaluation else None,
        "confirmation": node.confirmation.model_dump(mode="json") if node.confirmation else None,
        "diagnosis": _diagnosis(node.confirmation) or _diagnosis(node.evaluation),
        "timings": timings(node.confirmation or node.evaluation),
        "brief": blob(proposal.brief).decode() if proposal and proposal.brief else None,
        "proposal": proposal.model_dump(mode="json") if proposal else None,
        "quarantine": None if guilty is None else quarantine(graph, guilty),
    }


def timings(evaluation: Evaluation | None) -> list[Json]:
    """One row per workload: medians in microseconds, speed-up with its interval."""
    return [_timing(t, evaluation.fidelity) for t in evaluation.timings] if evaluation else []


def _timing(timing: Timing, fidelity: Fidelity) -> Json:
    return {
        "workload": timing.workload,
        "fidelity": fidelity,
        "held_out": timing.held_out,
        "time_us": timing.median_us,
        "baseline_us": timing.baseline_us,
        "speedup": timing.speedup,
        "interval": [timing.low, timing.high],
        "speedup_over": {b: timing.speedup_over(b) for b in timing.baselines_us},
        "setup_us": timing.setup_us,
        "first_call_us": timing.first_call_us,
        "memory_bytes": timing.memory_bytes,
        "warm": timing.warm,
    }


def _best(node: Node, files: Sequence[str]) -> Json:
    verdict = _verdict(node)
    shown = [t for t in verdict.timings if not t.held_out]
    baselines = {name for t in shown for name in t.baselines_us}
    proposal = node.proposal
    return {
        "node": node.number,
        "candidate": proposal.candidate if proposal else None,
        "summary": proposal.summary if proposal else "",
        "speedup": verdict.score,
        "interval": list(verdict.interval or ()),
        "speedup_over": {name: verdict.geomean(name) for name in sorted(baselines)},
        "time_us": geometric_mean(t.median_us for t in shown),
        "baseline_us": geometric_mean(t.baseline_us for t in shown),
        "roofline_fraction": verdict.diagnosis.fraction if verdict.diagnosis else None,
        "confirmed": node.confirmed,
        "algebraic": proposal.algebraic if proposal else False,
        "fallback": proposal.fallback if proposal else False,
        "workloads": timings(verdict),
        "files": list(files),
    }


def _verdict(node: Node) -> Evaluation:
    """The confirmation where there is one, else the search's own evaluation."""
    verdict = node.confirmation if node.confirmed else node.evaluation
    if verdict is None:
        raise ValueError(f"node #{node.number} has no evaluation")
    return verdict


def _node_row(node: Node) -> Json:
    verdict = node.evaluation
    message = node.failure or (verdict.message if verdict else "")
    if node.same_as is not None:
        message = f"same source as #{node.same_as}"
    return {
        "number": node.number,
        "parents": list(node.move.parents),
        "memory": node.move.memory,
        "status": node.status,
        "stage": str(verdict.stage) if verdict else None,
        "score": node.score,
        "fidelity": verdict.fidelity if verdict else None,
        "message": message,
        "summary": node.proposal.summary if node.proposal else "",
        "predicted": node.proposal.predicted if node.proposal else None,
        "models": _asked(node),
        "candidate": node.proposal.candidate if node.proposal else None,
        "confirmed": node.confirmed,
        "confirmed_score": node.confirmation.score if node.confirmation else None,
        "quarantined": node.quarantined,
    }


def _asked(node: Node) -> list[Json]:
    """What its programmer asked models, without the texts."""
    return [
        {"role": e.role, "model": e.model, "status": e.status, **e.usage.model_dump()}
        for e in node.exchanges
    ]


def _diagnosis(evaluation: Evaluation | None) -> Json | None:
    found = evaluation.diagnosis if evaluation else None
    return found.model_dump(mode="json") if found else None
