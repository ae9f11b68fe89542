"""A workload made ready to judge: secret inputs, expected outputs, error budgets. In the judge."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from kernelevolve.core.detector import Detector
from kernelevolve.core.job import Finding
from kernelevolve.core.task import Task, Workload
from kernelevolve.evaluation.blocks import Block, same, sealed_copy
from kernelevolve.evaluation.layout import Array, Layout, widened
from kernelevolve.evaluation.processes import Failed, Runner
from kernelevolve.evaluation.verify import (
    EPSILON,
    OracleKind,
    Reference,
    Verifier,
    Yardstick,
    is_float,
    measure_yardstick,
)

REFERENCE_SECONDS = 300.0
SEEDS = 1 << 63
YARDSTICK_SETS = 2
Outputs = list[Array]


class Refused(Exception):
    """The task cannot be judged; `finding` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.finding = Finding(code=code, message=message, fatal=True)


@dataclass
class Prepared:
    """One workload, ready."""

    workload: Workload
    inputs: Layout
    contents: list[Array]
    """Pristine input sets."""
    outputs: Layout
    """What a call returns, with mutated buffers behind it where there are any."""
    plain: Layout
    """The same without buffers."""
    expected: list[list[Reference]]
    yardsticks: list[Yardstick]
    state: Layout
    state_fd: int
    state_seed: int
    mutated: tuple[str, ...]
    may_alias: list[bool]
    mutates_inputs: bool
    buffers_matter: bool = False
    """Outputs depend on buffers that calls change, so only first calls can be verified."""
    findings: list[Finding] = field(default_factory=list)
    lent: list[Block] = field(default_factory=list)
    """Slots and outputs of candidates, one candidate after the other."""

    def blocks(self) -> tuple[Block, Block]:
        """Memory for slots and for outputs."""
        return Block(self.inputs.nbytes * len(self.contents)), Block(self.outputs.nbytes)

    def lend(self) -> tuple[Block, Block]:
        """The same, kept for the next candidate; the one before must have ended."""
        if not self.lent:
            self.lent = list(self.blocks())
        return self.lent[0], self.lent[1]

    def verifier(self, task: Task, without: frozenset[Detector], *, buffers: bool) -> Verifier:
        """A fresh comparison for one candidate."""
        layout = self.outputs if buffers else self.plain
        count = len(layout.leaves)
        return Verifier(task.tolerance, layout, self.yardsticks[:count], without)

    def close(self) -> None:
        """Free what is outside Python's reach."""
        os.close(self.state_fd)
        for block in self.lent:
            block.close()


@dataclass
class Preparation:
    """Builds a `Prepared` by asking the reference runner."""

    runner: Runner
    task: Task
    workload: Workload
    random: Random
    slots: int
    perturb: bool
    float64: bool = True
    findings: list[Finding] = field(default_factory=list)
    _outbox: Block | None = None

    def run(self) -> Prepared:
        """Ask for everything, in order.

        Raises:
            Refused: the task cannot be judged.
            Failed: the task's code raised.
        """
        name = self.workload.name
        state_seed = self.random.randrange(SEEDS)
        self._ask("reference", seed=state_seed, perturb=self.perturb, mutated=[])
        state, state_fd = self._state()
        inputs, contents = self._inputs()
        ring = Block(inputs.nbytes * len(contents))
        for index, content in enumerate(contents):
            ring.part(index, inputs.nbytes)[:] = content
        self._ask("attach", [ring.fd], layout=inputs.dump(), count=len(contents))
        self._call(0)
        mutated = tuple(self._ask("mutated")["mutated"])
        outputs, native, reply, mutates = self._natives(inputs, contents, ring)
        buffers_matter = self._check_repeats(native[0], buffers=bool(mutated))
        plain = _without_buffers(outputs) if mutated else outputs
        expected = [self._references(outputs, values) for values in native]
        yardsticks = self._judge_reference(outputs, expected, native)
        self._remark_outputs(outputs, native, name)
        ring.close()
        if self._outbox is not None:
            self._outbox.close()
        return Prepared(
            self.workload, inputs, contents, outputs, plain, expected, yardsticks, state,
            state_fd, state_seed, mutated, list(reply["aliases"]), mutates, buffers_matter,
            self.findings,
        )  # fmt: skip

    def _ask(self, op: str, fds: Sequence[int] = (), **body: Any) -> dict[str, Any]:
        return self.runner.ask(op, REFERENCE_SECONDS, fds, workload=self.workload.name, **body)

    def _call(self, slot: int) -> None:
        self._ask("restore", poison=[])
        self._ask("calls", start=slot, count=1)

    def _state(self) -> tuple[Layout, int]:
        layout = Layout.parse(self._ask("state"))
        block = Block(layout.nbytes)
        self._ask("state", [block.fd])
        sealed = sealed_copy(block.bytes)
        block.close()
        return layout, sealed

    def _inputs(self) -> tuple[Layout, list[Array]]:
        reply = self._ask("inputs", seed=self.random.randrange(SEEDS))
        layout = Layout.parse(reply)
        self._check_inputs(reply)
        block = Block(layout.nbytes)
        contents = []
        for _ in range(self.slots):
            seed = self.random.randrange(SEEDS)
            again = self._ask("inputs", [block.fd], seed=seed, nbytes=block.nbytes)
            if Layout.parse(again) != layout:
                raise Refused(
                    "inputs-vary",
                    f"{self.workload.name}: get_inputs() returns other shapes, dtypes or plain "
                    "values from call to call; make them depend on the workload's sizes only",
                )
            contents.append(block.bytes.copy())
        block.close()
        if self.slots > 1 and same(contents[0], contents[1]):
            self._find(
                "inputs-constant",
                "get_inputs() returns the same values whatever the seed: a kernel that "
                "remembers its answer would pass; draw them with torch.rand or torch.randn",
            )
        return layout, contents

    def _check_inputs(self, reply: Mapping[str, Any]) -> None:
        name = self.workload.name
        wrong = [d for d in reply["devices"] if d != "cpu"]
        if wrong:
            raise Refused(
                "inputs-device",
                f"{name}: get_inputs() returns a tensor on {wrong[0]!r}; this target takes cpu",
            )
        if not reply["leaves"]:
            raise Refused("inputs-none", f"{name}: get_inputs() returns no tensor")
        if reply["empty"]:
            self._find("inputs-empty", f"input {reply['empty'][0]} has no elements")

    def _find(self, code: str, message: str) -> None:
        self.findings.append(Finding(code=code, message=f"{self.workload.name}: {message}"))

    def _natives(
        self, inputs: Layout, contents: Sequence[Array], ring: Block
    ) -> tuple[Layout, list[Outputs], dict[str, Any], bool]:
        """The reference's own outputs for every input set."""
        found: list[Outputs] = []
        mutates = False
        outputs, last = Layout({}, ()), dict[str, Any]()
        for slot, content in enumerate(contents):
            self._call(slot)
            layout, values, reply = self._fetch("outcome")
            if found and layout != outputs:
                raise Refused(
                    "outputs-vary",
                    f"{self.workload.name}: the reference's output shapes depend on the values",
                )
            outputs, last = layout, reply
            found.append(values)
            part = ring.part(slot, inputs.nbytes)
            if not same(part, content):
                mutates = True
                part[:] = content
        if mutates:
            self._find("inputs-mutated", "the reference changes its inputs in place")
        return outputs, found, last, mutates

    def _fetch(self, op: str) -> tuple[Layout, Outputs, dict[str, Any]]:
        reply = self._ask(op, buffers=True)
        layout = Layout.parse(reply)
        if self._outbox is None or self._outbox.nbytes < layout.nbytes:
            self._outbox = Block(layout.nbytes)
        reply = self._ask(op, [self._outbox.fd], buffers=True, nbytes=self._outbox.nbytes)
        values = [widened(leaf, self._outbox.bytes).copy() for leaf in layout.leaves]
        return layout, values, reply

    def _check_repeats(self, first: Outputs, *, buffers: bool) -> bool:
        """Refuse chance; say whether outputs depend on the buffers that calls change."""
        self._call(0)
        again = self._fetch("outcome")[1]
        if not _equal(first, again):
            raise Refused(
                "nondeterministic",
                f"{self.workload.name}: the reference gives different outputs for the same "
                "inputs; remove randomness (dropout in train mode?) or set MODE = 'eval'",
            )
        if not buffers:
            return False
        self._ask("calls", start=0, count=1)
        plain = len(_without_buffers(self._fetch("outcome")[0]).leaves)
        third = self._fetch("outcome")[1]
        return not _equal(first[:plain], third[:plain])

    def _references(self, outputs: Layout, values: Outputs) -> list[Reference]:
        return [Reference(leaf, v, None) for leaf, v in zip(outputs.leaves, values, strict=True)]

    def _judge_reference(
        self, outputs: Layout, expected: list[list[Reference]], native: list[Outputs]
    ) -> list[Yardstick]:
        """Fill in the oracle and measure the reference's own error against it."""
        kind: OracleKind = "float64"
        try:
            if not self.float64:
                raise Failed({"text": "there is not enough memory for it"})
            for slot, references in enumerate(expected):
                _adopt(references, self._in_precision(slot, "float64"))
        except Failed as error:
            kind = "float32"
            reason = str(error.error.get("text", "")).splitlines()[:1]
            self._find("oracle-float32", f"no float64 oracle ({''.join(reason)[:200]})")
            for references in expected:
                _adopt(references, [r.native for r in references])
        runs = {dtype: self._runs(dtype, len(expected)) for dtype in self._needed(outputs, kind)}
        return [
            self._yardstick(index, kind, expected, native, runs)
            for index in range(len(outputs.leaves))
        ]

    def _in_precision(self, slot: int, dtype: str) -> Outputs:
        self._ask("oracle", slot=slot, dtype=dtype)
        return self._fetch("last")[1]

    def _needed(self, outputs: Layout, kind: OracleKind) -> set[str]:
        wide = any(leaf.dtype == "float64" for leaf in outputs.leaves)
        low = kind == "float32" or self.task.precision == "downcast"
        return {d for d, wanted in (("float32", wide), ("bfloat16", low)) if wanted}

    def _runs(self, dtype: str, sets: int) -> list[Outputs]:
        try:
            return [self._in_precision(s, dtype) for s in range(min(sets, YARDSTICK_SETS))]
        except Failed:
            self._find("yardstick", f"the reference does not run in {dtype}: the floor is used")
            return []

    def _yardstick(
        self,
        index: int,
        kind: OracleKind,
        expected: list[list[Reference]],
        native: list[Outputs],
        runs: Mapping[str, list[Outputs]],
    ) -> Yardstick:
        references = [e[index] for e in expected]
        if references[0].oracle is None:
            return Yardstick("exact")
        base = references[0].base
        factor, values = 1.0, [n[index] for n in native]
        if base == "float64" and "float32" in runs:
            factor = EPSILON["float64"] / EPSILON["float32"]
            values = [r[index] for r in runs["float32"]]
        elif base == "float32" and self.task.precision == "downcast":
            values = [r[index] for r in runs["bfloat16"]]
        elif kind == "float32":
            factor = EPSILON[base] / EPSILON["bfloat16"]
            values = [r[index] for r in runs["bfloat16"]]
        return measure_yardstick(references[: len(values)], values, kind, factor)

    def _remark_outputs(self, outputs: Layout, native: list[Outputs], name: str) -> None:
        for index, leaf in enumerate(outputs.leaves):
            values = native[0][index]
            if leaf.elements == 0:
                self._find("outputs-empty", f"output {index} has no elements")
            elif is_float(leaf) and np.isnan(values).any():
                share = float(np.isnan(values).mean())
                self._find("outputs-nan", f"{share:.0%} of output {index} is NaN")
            elif leaf.elements > 1 and (values == values.flat[0]).all():
                self._find("outputs-constant", f"every element of output {index} is the same")


def _adopt(references: Sequence[Reference], oracle: Outputs) -> None:
    for reference, values in zip(references, oracle, strict=True):
        if is_float(reference.leaf):
            reference.oracle = values.astype(np.float64)
        elif not np.array_equal(values, reference.native):
            reference.alternative = values


def _equal(a: Outputs, b: Outputs) -> bool:
    return all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in zip(a, b, strict=True)
    )


def _without_buffers(outputs: Layout) -> Layout:
    tree = outputs.tree["list"][0]
    buffers = len(outputs.tree["list"][1]["dict"])
    return Layout(tree, outputs.leaves[: len(outputs.leaves) - buffers])
