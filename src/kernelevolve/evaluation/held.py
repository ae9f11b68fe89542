"""Outputs of several calls that are kept: later calls must leave them alone. In the judge."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import numpy as np

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation import replies
from kernelevolve.evaluation.blocks import Block
from kernelevolve.evaluation.comparison import POISON
from kernelevolve.evaluation.layout import Array, Layout, Leaf, raw
from kernelevolve.evaluation.processes import Failed
from kernelevolve.evaluation.session import Session
from kernelevolve.evaluation.sharing import shared
from kernelevolve.evaluation.verify import Broken, Wrong
from kernelevolve.evaluation.wire import Malformed

CALLS, CALLS_THOROUGH = 16, 64
MOST_BYTES = 16 << 20
MOST_BYTES_THOROUGH = 48 << 20
KEPT_BYTES = 512 << 20
"""In *confirm* so much is kept, and buffers that are used in turn are found by the first result;
what is compared in full is less."""
HELD_BYTES = 1 << 30
"""Of one result; larger ones are not held."""
KEPT = (
    "the outputs of earlier calls are not what they were when later calls have been made; "
    "return newly allocated tensors"
)
APART = (
    "with other forward passes between forward and backward; keep what backward needs in its graph "
    "(ctx.save_for_backward), not on the module"
)
VARY = "some of several calls in a row return other dtypes or shapes than one call alone"


def verify(session: Session, separates: bool) -> None:
    """Call it a few times, keep all results, and compare them when all calls have been made.

    Whoever calls a module twice may use both results, and may ask for gradients when both forward
    passes were made. Single calls were right before; where comparing takes long, only the first
    result is compared, which has all other calls behind it.

    Args:
        session: where single calls were verified.
        separates: the reference takes all forward passes before all backward passes.

    Raises:
        Broken: an earlier call's outputs are not right any more.
        Wrong: a later call's are not right, or gradients do not belong to their forward pass.
    """
    prepared = session.prepared
    calls = _calls(session)
    if not calls:
        return
    if prepared.mutates_inputs:
        session.runner.stop()
        session.slots.fill()
    start = session.slots.secret()
    apart = separates and Detector.GRADIENTS not in session.without
    layout = _layout(session, start, calls, apart=apart)
    leaves = len(prepared.plain.leaves)
    if _kinds(layout.leaves) != _kinds(prepared.plain.leaves) * calls:
        session.object_to(Wrong(Detector.STRUCTURE, VARY))
        return
    compared = _compared(session, calls)
    part = Layout(None, layout.leaves[: compared * leaves])
    with ExitStack() as stack:
        block = session.outbox
        if compared > 1:
            block = stack.enter_context(closing(Block(part.nbytes)))
        block.bytes[:] = POISON
        told = replies.outcome(
            session.ask(
                "outcome",
                [block.fd],
                buffers=False,
                nbytes=block.nbytes,
                first=len(part.leaves),
                once=compared > 1,
            )
        )
        session.runner.stop()
        if Layout.parse(told) != layout:
            raise Malformed("results that are kept do not change their layout")
        shares = _overwritten(layout, told, leaves)
        for number in range(compared):
            one = Layout(None, layout.leaves[number * leaves : (number + 1) * leaves])
            values = _rows(one, prepared.plain, block.bytes)
            try:
                session.compare((start + number) % len(session.slots), values)
            except Wrong as error:
                _blame(session, error, values, shares=shares, apart=apart)
                return
    if shares and not any(prepared.may_alias):
        session.object_to(Broken(Detector.ALIASING, KEPT))


def _blame(session: Session, error: Wrong, values: Array, *, shares: bool, apart: bool) -> None:
    if shares:
        session.object_to(Broken(Detector.ALIASING, f"{KEPT}: {error}"))
        return
    if apart:
        raise Wrong(Detector.GRADIENTS, f"{APART}: {error}") from error
    blamed = session.comparison.blame(error, values)
    raise blamed if blamed.detector is Detector.FRESH_CONTENTS else error from error


def _calls(session: Session) -> int:
    """How many results are kept; 0 where none can be."""
    prepared, thorough = session.prepared, session.thorough
    nbytes = max(1, prepared.plain.nbytes)
    if nbytes > HELD_BYTES or prepared.buffers_matter or Detector.ALIASING in session.without:
        return 0
    most = (CALLS_THOROUGH, KEPT_BYTES) if thorough else (CALLS, MOST_BYTES)
    if thorough and session.task.backward:
        most = CALLS, MOST_BYTES_THOROUGH  # each keeps what backward needs, besides its outputs
    calls = max(2, min(most[0], most[1] // nbytes))
    return min(calls, len(session.slots)) if prepared.mutates_inputs else calls


def _compared(session: Session, calls: int) -> int:
    """How many of them are compared, the first ones; of all it is looked at where they lie."""
    if session.thorough:
        nbytes = max(1, session.prepared.plain.nbytes)
        return max(1, min(CALLS, calls, MOST_BYTES_THOROUGH // nbytes))
    return calls if session.comparison.cheap else 1


def _layout(session: Session, start: int, calls: int, *, apart: bool) -> Layout:
    try:
        return Layout.parse(session.ask("held", start=start, count=calls, apart=apart))
    except Failed as error:
        if not apart:
            raise
        raised = f"{error.error.get('type', '')}: {error}"
        raise Wrong(Detector.GRADIENTS, f"{APART}: {raised}") from error


def _kinds(leaves: Sequence[Leaf]) -> list[tuple[str, tuple[int, ...]]]:
    return [(leaf.dtype, leaf.shape) for leaf in leaves]


def _overwritten(layout: Layout, told: Mapping[str, Any], leaves: int) -> bool:
    """Whether results of different calls share memory."""
    return any(a // leaves != b // leaves for a, b in shared(layout, told))


def _rows(part: Layout, plain: Layout, block: Array) -> Array:
    """One call's outputs, as they would lie alone."""
    begin = part.leaves[0].offset if part.leaves else 0
    shifted = [replace(leaf, offset=leaf.offset - begin) for leaf in part.leaves]
    if shifted == list(plain.leaves) and begin + plain.nbytes <= block.nbytes:
        return block[begin : begin + plain.nbytes]
    found = np.zeros(plain.nbytes, np.uint8)
    for lies, leaf in zip(part.leaves, plain.leaves, strict=True):
        if leaf.elements:
            raw(leaf, found)[...] = raw(lies, block).reshape(leaf.shape)
    return found
