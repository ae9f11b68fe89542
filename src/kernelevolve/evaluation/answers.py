"""What the reference answers: its own outputs, the oracle's, and how far apart they are.

In the judge; the reference's runner has the workload's model and input slots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from kernelevolve.core.task import Task, Workload
from kernelevolve.evaluation.blocks import Block, sealed_copy
from kernelevolve.evaluation.expected import OracleKind, Reference, Yardstick, is_float
from kernelevolve.evaluation.layout import Array, Layout, owned, widened
from kernelevolve.evaluation.processes import Failed, Runner
from kernelevolve.evaluation.rounding import EPSILON
from kernelevolve.evaluation.yardstick import measure_yardstick

REFERENCE_SECONDS = 300.0
YARDSTICK_SETS = 2
AGAIN = {"answer": "outcome", "oracle": "last"}
"""Requests that describe and copy what others made."""
Outputs = list[Array]


class Answer(NamedTuple):
    """One call's outputs."""

    layout: Layout
    values: Outputs
    """Floats of 16 bits widened."""
    reply: dict[str, Any]
    """What the runner said of them."""


@dataclass
class Answers:
    """Asks the reference's runner about one workload."""

    runner: Runner
    task: Task
    workload: Workload
    kind: OracleKind = "float64"
    """The oracle's precision."""
    unable: set[str] = field(default_factory=set)
    """Precisions that the reference does not run in."""
    _outbox: Block | None = None

    def ask(self, op: str, fds: Sequence[int] = (), **body: Any) -> dict[str, Any]:
        """One request about this workload."""
        return self.runner.ask(op, REFERENCE_SECONDS, fds, workload=self.workload.name, **body)

    def attach(self, ring: Block, inputs: Layout, count: int) -> None:
        """Use the slots of this block from now on."""
        given = {"layout": inputs.dump(), "count": count, "device_bytes": ring.device_bytes}
        self.ask("attach", [ring.shared], **given)

    def state(self) -> tuple[Layout, int]:
        """Constructor arguments and state of the reference, as a sealed descriptor."""
        layout = Layout.parse(self.ask("state"))
        block = Block(layout.nbytes)
        self.ask("state", [block.fd])
        sealed = sealed_copy(block.bytes)
        block.close()
        return layout, sealed

    def native(self, slot: int, count: int = 1) -> Answer:
        """The reference's own outputs for the inputs in a slot, with buffers that it changes.

        Of `count` calls in a row from that slot, those of the last one.

        Raises:
            Failed: it raised.
        """
        return self._fetch("answer", slot=slot, count=count)

    def outcome(self) -> Answer:
        """The outputs of the last call."""
        return self._fetch("outcome")

    def leave(self, slot: int, memory: Block) -> Layout:
        """Have the reference's own outputs put into memory on the device; where they lie there."""
        self.ask("answer", slot=slot, count=1, buffers=True, nbytes=0)
        return Layout.parse(self.ask("leave", [memory.shared], nbytes=memory.device_bytes))

    def oracle(self, slot: int, dtype: str = "float64", behind: int = 0) -> Outputs:
        """The same in another precision; behind so many calls on the slots before."""
        slots = list(range(slot - behind, slot + 1))
        return self._fetch("oracle", slots=slots, dtype=dtype).values

    def oracle_inputs(self) -> Outputs:
        """What the oracle's last call left in its inputs."""
        return self._fetch("left").values

    def _fetch(self, op: str, **body: Any) -> Answer:
        """In one request where the memory for outputs is large enough, else in two."""
        reply = self._ask_with_memory(op, **body)
        layout = Layout.parse(reply)
        if self._outbox is None or self._outbox.nbytes < layout.nbytes:
            self.close()
            self._outbox = Block(layout.nbytes)
            reply = self._ask_with_memory(AGAIN.get(op, op))
        block = self._outbox.bytes
        return Answer(layout, [owned(widened(x, block), block) for x in layout.leaves], reply)

    def _ask_with_memory(self, op: str, **body: Any) -> dict[str, Any]:
        fds, nbytes = ([self._outbox.fd], self._outbox.nbytes) if self._outbox else ([], 0)
        return self.ask(op, fds, buffers=True, nbytes=nbytes, **body)

    def close(self) -> None:
        """Free the memory for outputs."""
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None

    def judge(
        self, outputs: Layout, native: Sequence[Outputs], oracles: Sequence[Outputs]
    ) -> list[list[Reference]]:
        """What to compare outputs with, for each set of inputs."""
        found = []
        for values, oracle in zip(native, oracles, strict=True):
            leaves = zip(outputs.leaves, values, strict=True)
            references = [Reference(leaf, v, None) for leaf, v in leaves]
            for reference, exact in zip(references, oracle, strict=True):
                _adopt(reference, exact)
            found.append(references)
        return found

    def yardsticks(
        self, expected: Sequence[list[Reference]], native: Sequence[Outputs]
    ) -> list[Yardstick]:
        """The reference's own error in each output; slot n holds the n-th set of inputs."""
        wide = any(r.leaf.dtype == "float64" for r in expected[0])
        low = self.kind == "float32" or self.task.precision == "downcast"
        wanted = [d for d, needed in (("float32", wide), ("bfloat16", low)) if needed]
        runs = {dtype: self._runs(dtype, len(expected)) for dtype in wanted}
        return [self._yardstick(i, expected, native, runs) for i in range(len(expected[0]))]

    def _runs(self, dtype: str, sets: int) -> list[Outputs]:
        try:
            return [self.oracle(s, dtype) for s in range(min(sets, YARDSTICK_SETS))]
        except Failed:
            self.unable.add(dtype)
            return []

    def _yardstick(
        self,
        index: int,
        expected: Sequence[list[Reference]],
        native: Sequence[Outputs],
        runs: Mapping[str, list[Outputs]],
    ) -> Yardstick:
        references = [e[index] for e in expected]
        if references[0].oracle is None:
            return Yardstick("exact")
        base = references[0].base
        factor, values = 1.0, [n[index] for n in native]
        strict = None
        if base == "float64" and "float32" in runs:
            factor = EPSILON["float64"] / EPSILON["float32"]
            values = [r[index] for r in runs["float32"]]
        elif base == "float32" and self.task.precision == "downcast":
            strict = measure_yardstick(references, values, self.kind, 1.0).rms
            values = [r[index] for r in runs["bfloat16"]]
        elif self.kind == "float32":
            factor = EPSILON[base] / EPSILON["bfloat16"]
            values = [r[index] for r in runs["bfloat16"]]
        found = measure_yardstick(references[: len(values)], values, self.kind, factor)
        return replace(found, strict=strict)


def _adopt(reference: Reference, oracle: Array) -> None:
    if is_float(reference.leaf):
        reference.oracle = (
            oracle if oracle is reference.native else oracle.astype(np.float64, copy=False)
        )
    elif not np.array_equal(oracle, reference.native):
        reference.alternative = oracle


def equal(a: Outputs, b: Outputs) -> bool:
    """Whether two calls gave the same."""
    return all(
        np.array_equal(x, y) or np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for x, y in zip(a, b, strict=True)
    )
