"""Where outputs and threads are, by the kernel's word and not by the driver's. In the judge."""

from collections.abc import Iterator, Sequence

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation.blocks import Block
from kernelevolve.evaluation.outputs import Seen
from kernelevolve.evaluation.processes import Runner
from kernelevolve.evaluation.verify import Broken


def objections(
    runner: Runner, inputs: Block, seen: Seen, may_alias: Sequence[bool]
) -> Iterator[Broken]:
    """What is not where it belongs; the runner stands still."""
    if strays := runner.strays():
        text = f"it may run on processors {sorted(strays)} too; stay on those that are given"
        yield Broken(Detector.STATE, text)
    own = [p for p, may in zip(seen.pointers, may_alias, strict=False) if not may]
    if own and runner.shares(own, [inputs.fd]):
        text = "an output shares memory with an input; return a tensor of its own"
        yield Broken(Detector.ALIASING, text)
