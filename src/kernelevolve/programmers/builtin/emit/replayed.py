"""The kernels of a segment as one CUDA graph, where the plan wants that and there are several."""

from __future__ import annotations

from collections.abc import Sequence

from kernelevolve.programmers.builtin.emit.kernel import Segment, Setting


def graphed(setting: Setting, kernels: int) -> bool:
    """Whether as many kernels are launched together."""
    return setting.plan.graph and kernels > 1


def loaded(segments: Sequence[Segment]) -> str:
    """Statements of the module that hold their graphs."""
    lines = [f"{_held(s)} = graphs.Replay()" for s in segments]
    return "\n".join(["from kernelevolve.runtime import graphs", *lines] if lines else lines)


def together(
    setting: Setting, segment: Segment, rooms: Sequence[str], launches: Sequence[str]
) -> list[str]:
    """Statements of `forward`: results are made anew, all else belongs to the graph.

    Args:
        setting: whose sizes decide how kernels are launched.
        segment: what they belong to.
        rooms: statements that make what it returns.
        launches: all others.
    """
    tensors = ", ".join(segment.pointers)
    sizes = "".join(f"{s}, " for s in setting.symbols)
    return [
        *rooms,
        f"def {segment.name}({tensors}):",
        *(f"    {line}" for line in launches),
        f"{_held(segment)}({segment.name}, ({tensors},), ({sizes}))",
    ]


def _held(segment: Segment) -> str:
    return f"{segment.name}_graph"
