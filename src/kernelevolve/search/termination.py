"""When a search has done what was asked: pure functions of the graph, the settings and the time."""

from kernelevolve.config import RunConfig
from kernelevolve.core.graph import Graph

REVISABLE = ("goal", "roofline", "plateau")
"""Reasons that rest on measurements, which a confirm may refute."""


def reason(graph: Graph, config: RunConfig, now: float) -> str | None:
    """Why the search should end, in the words of `RunStopped`; None to go on."""
    checks = {
        "command": graph.stop_wanted,
        "nodes": len(graph) >= config.nodes,
        "minutes": _minutes_spent(graph, config.minutes, now),
        "goal": _goal_reached(graph, config.goal),
        "roofline": _roofline_reached(graph, config.roofline),
        "dollars": config.dollars is not None and graph.usage.dollars >= config.dollars,
        "tokens": config.tokens is not None and graph.usage.tokens >= config.tokens,
        "requests": config.requests is not None and graph.usage.requests >= config.requests,
        "device_minutes": _device_minutes_spent(graph, config.device_minutes),
        "plateau": config.plateau is not None and since_best(graph) >= config.plateau,
    }
    return next((name for name, holds in checks.items() if holds), None)


def since_best(graph: Graph) -> int:
    """Attempts that ended without a better score, counted from the best one's number."""
    ranked = graph.scored
    best = ranked[0].number if ranked else 0
    return sum(1 for node in graph if node.number > best and not node.open)


def _minutes_spent(graph: Graph, minutes: float | None, now: float) -> bool:
    return minutes is not None and graph.seconds(now) >= 60.0 * minutes


def _device_minutes_spent(graph: Graph, minutes: float | None) -> bool:
    return minutes is not None and graph.usage.device_seconds >= 60.0 * minutes


def _goal_reached(graph: Graph, goal: float | None) -> bool:
    ranked = graph.scored
    return goal is not None and bool(ranked) and (ranked[0].score or 0.0) >= goal


def _roofline_reached(graph: Graph, roofline: float | None) -> bool:
    ranked = graph.scored
    evaluation = ranked[0].evaluation if ranked else None
    diagnosis = evaluation.diagnosis if evaluation else None
    fraction = diagnosis.fraction if diagnosis else None
    return roofline is not None and fraction is not None and fraction >= roofline
