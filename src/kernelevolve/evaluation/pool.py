"""A workload made ready to judge: secret inputs, expected outputs, error budgets. In the judge."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np

from kernelevolve.core.detector import Detector
from kernelevolve.core.job import Finding
from kernelevolve.core.task import Task, Workload
from kernelevolve.evaluation import inplace
from kernelevolve.evaluation.answers import Answer, Answers, Outputs, equal
from kernelevolve.evaluation.blocks import Block, same
from kernelevolve.evaluation.expected import OracleKind, Reference, Yardstick, is_float
from kernelevolve.evaluation.layout import PAGE, SIDES, Array, Layout, Tree
from kernelevolve.evaluation.processes import Failed, Runner
from kernelevolve.evaluation.sharing import shared
from kernelevolve.evaluation.verify import Verifier

SEEDS = 1 << 63
MOST_SLOTS = 512
WIDE_RING_BYTES = 16 << 20
"""Small inputs have as many slots as this allows, so that none is called twice in a window."""


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
    may_share: frozenset[tuple[int, int]]
    """Pairs of outputs that share memory in the reference."""
    mutates_inputs: bool
    buffers_matter: bool = False
    """Outputs depend on buffers that calls change, so only first calls can be verified."""
    oracle: OracleKind = "float64"
    findings: list[Finding] = field(default_factory=list)
    left: inplace.Left = inplace.NOTHING
    """What calls leave in inputs that the reference changes."""
    place: "Place" = field(default_factory=lambda: Place())
    """Where inputs and outputs lie."""
    lent: list[Any] = field(default_factory=list)
    """Slots and outputs of candidates, one candidate after the other."""

    @property
    def keeps_contents(self) -> bool:
        """What calls change is expected for the pool's own sets only."""
        return self.buffers_matter or self.mutates_inputs

    def blocks(self) -> tuple[Any, Block]:
        """Memory for slots, with a page behind the last one, and for outputs.

        Only what is used of it is taken.
        """
        return self.place.ring(self), Block(self.outputs.nbytes)

    def lend(self) -> tuple[Any, Block]:
        """The same, kept for the next candidate; the one before must have ended."""
        if not self.lent:
            self.lent = list(self.blocks())
        return self.lent[0], self.lent[1]

    def verifier(self, task: Task, without: frozenset[Detector], *, buffers: bool) -> Verifier:
        """A fresh comparison for one candidate."""
        layout = self.outputs if buffers else self.plain
        count = len(layout.leaves)
        device = self.place.device
        return Verifier(task.tolerance, layout, self.yardsticks[:count], without, device)

    def loading(self) -> dict[str, Any]:
        """What a runner is told beside the state's descriptor, to make a module."""
        return {
            "state": self.state.dump(),
            "seed": self.state_seed,
            "mutated": list(self.mutated),
        }

    def close(self) -> None:
        """Free what is outside Python's reach."""
        os.close(self.state_fd)
        for block in self.lent:
            block.close()


def host_ring(prepared: Prepared) -> Block:
    """Slots in memory that the judge shares with runners."""
    wide = min(MOST_SLOTS, WIDE_RING_BYTES // max(1, prepared.inputs.nbytes))
    return Block(prepared.inputs.nbytes * max(len(prepared.contents), wide) + PAGE)


@dataclass(frozen=True)
class Place:
    """Where kernels read inputs and leave outputs: the host, unless it is said."""

    device: str = "cpu"
    """As PyTorch calls it."""
    room: Callable[[int], Block] = Block
    """Makes memory for inputs."""
    ring: Callable[[Prepared], Any] = host_ring
    """Makes memory for the slots of a session: a `Block`, or a `DeviceRing`."""
    cache: int = 0
    """Bytes of a device's last cache, which the slots should exceed; 0 on a processor."""
    memory: int = 0
    """Bytes of a device's memory that are one session's part; 0 on a processor."""


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
    place: Place = field(default_factory=lambda: Place())
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._answers = Answers(self.runner, self.task, self.workload)
        self._ask = self._answers.ask

    def run(self) -> Prepared:
        """Ask for everything, in order.

        Raises:
            Refused: the task cannot be judged.
            Failed: the task's code raised.
        """
        state_seed = self.random.randrange(SEEDS)
        self._ask("reference", seed=state_seed, perturb=self.perturb, mutated=[])
        state, state_fd = self._answers.state()
        inputs, contents = self._inputs()
        ring = self.place.room(inputs.nbytes * len(contents))
        _refill(ring, contents)
        self._answers.attach(ring, inputs, len(contents))
        first = self._answers.native(0)
        touched = not same(ring.seen(0, inputs.nbytes), contents[0])
        _refill(ring, contents)
        mutated = tuple(self._ask("mutated")["mutated"])
        if not (first.layout.leaves or touched or mutated):
            raise Refused(
                "outputs-none",
                f"{self.workload.name}: forward returns {_kind(first.layout.tree)} and no tensor; "
                "return a tensor, or a tuple, list or dict of tensors",
            )
        outputs, native, reply, after = self._natives(contents, ring)
        mutates = not all(map(same, after, contents))
        buffers_matter = self._check_repeats(native[0], ring, contents, buffers=bool(mutated))
        plain = _without_buffers(outputs) if mutated else outputs
        oracles, exact = self._oracles(native, after=mutates)
        expected = self._answers.judge(outputs, native, oracles)
        if mutates:
            self._find("inputs-mutated", "the reference changes its inputs in place")
        yardsticks = self._answers.yardsticks(expected, native)
        for dtype in sorted(self._answers.unable):
            self._find("yardstick", f"the reference does not run in {dtype}: the floor is used")
        self._remark_outputs(outputs, native)
        ring.close()
        self._answers.close()
        return Prepared(
            self.workload, inputs, contents, outputs, plain, expected,
            [replace(y, relative=float("inf"), usual=True) for y in yardsticks],
            state, state_fd, state_seed,
            mutated, list(reply["aliases"]), shared(outputs, reply), mutates, buffers_matter,
            self._answers.kind, self.findings,
            left=inplace.left(inputs, contents, after, exact) if mutates else inplace.NOTHING,
            place=self.place,
        )  # fmt: skip

    def _inputs(self) -> tuple[Layout, list[Array]]:
        sides = self.random.randrange(1 << SIDES)
        seeds = [self.random.randrange(SEEDS) for _ in range(self.slots)]
        reply = self._ask("inputs", seed=seeds[0], sides=sides)
        layout = Layout.parse(reply)
        self._check_inputs(reply)
        block = Block(layout.nbytes)
        contents = []
        for seed in seeds:
            again = self._ask("inputs", [block.fd], seed=seed, nbytes=block.nbytes, sides=sides)
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
        self, contents: Sequence[Array], ring: Block
    ) -> tuple[Layout, list[Outputs], dict[str, Any], list[Array]]:
        """The reference's own outputs for every input set, and what it leaves in the inputs."""
        found: list[Outputs] = []
        after: list[Array] = []
        last = Answer(Layout({}, ()), [], {})
        for slot, content in enumerate(contents):
            answer = self._answers.native(slot)
            if found and answer.layout != last.layout:
                raise Refused(
                    "outputs-vary",
                    f"{self.workload.name}: the reference's output shapes depend on the values",
                )
            last = answer
            found.append(answer.values)
            part = ring.seen(slot, content.nbytes)
            after.append(content if same(part, content) else part.copy())
            ring.put(slot, content)
        return last.layout, found, last.reply, after

    def _check_repeats(
        self, first: Outputs, ring: Block, contents: Sequence[Array], *, buffers: bool
    ) -> bool:
        """Refuse chance; say whether outputs depend on the buffers that calls change."""
        again = self._answers.native(0)
        _refill(ring, contents)
        if not equal(first, again.values):
            raise Refused(
                "nondeterministic",
                f"{self.workload.name}: the reference gives different outputs for the same "
                "inputs; remove randomness (dropout in train mode?) or set MODE = 'eval'",
            )
        if not buffers:
            return False
        self._ask("calls", start=len(contents) - 1, count=1)
        _refill(ring, contents)
        self._ask("calls", start=0, count=1)
        _refill(ring, contents)
        plain = len(_without_buffers(again.layout).leaves)
        return not equal(first[:plain], self._answers.outcome().values[:plain])

    def _oracles(
        self, native: list[Outputs], *, after: bool
    ) -> tuple[list[Outputs], list[Outputs]]:
        """In float64, or what the reference gave where that fails, and a finding says so.

        With what is left in the inputs where it is asked for what is there `after` the calls.
        """
        reason = "there is not enough memory for it"
        if self.float64:
            try:
                found, left = [], []
                for slot in range(len(native)):
                    found.append(self._answers.oracle(slot))
                    left += [self._answers.oracle_inputs()] if after else []
            except Failed as error:
                reason = "".join(str(error.error.get("text", "")).splitlines()[:1])
            else:
                return found, left
        self._answers.kind = "float32"
        self._find("oracle-float32", f"no float64 oracle ({reason[:200]})")
        return native, []

    def _remark_outputs(self, outputs: Layout, native: list[Outputs]) -> None:
        for index, leaf in enumerate(outputs.leaves):
            values = native[0][index]
            if leaf.elements == 0:
                self._find("outputs-empty", f"output {index} has no elements")
            elif is_float(leaf) and np.isnan(values).any():
                share = float(np.isnan(values).mean())
                self._find("outputs-nan", f"{share:.0%} of output {index} is NaN")
            elif leaf.elements > 1 and (values == values.flat[0]).all():
                self._find("outputs-constant", f"every element of output {index} is the same")


def _without_buffers(outputs: Layout) -> Layout:
    tree = outputs.tree["list"][0]
    buffers = len(outputs.tree["list"][1]["dict"])
    return Layout(tree, outputs.leaves[: len(outputs.leaves) - buffers])


def _kind(tree: Tree) -> str:
    """What a value without tensors is, in words."""
    match tree:
        case {"value": ["NoneType", _]}:
            return "None"
        case {"value": [kind, _]}:
            return str(kind)
        case {"dict": pairs}:
            return f"dict of {', '.join(_kind(value) for _, value in pairs) or 'nothing'}"
        case {"list": items} | {"tuple": items}:
            return f"{next(iter(tree))} of {', '.join(map(_kind, items)) or 'nothing'}"
    return "something unknown"


def _refill(ring: Block, contents: Sequence[Array]) -> None:
    """Inputs as they were before a call changed them."""
    for slot, content in enumerate(contents):
        ring.put(slot, content)
