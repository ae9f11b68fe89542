"""What a fixture of the red-team suite is."""

import re
from dataclasses import dataclass
from textwrap import dedent
from typing import ClassVar

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Stage

HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
NATIVE = 'from kernelevolve.runtime import cpp\nkernel = cpp.load("kernel.cpp", flags={flags})\n'
CUDA = "from kernelevolve.runtime import cuda\n"
LOAD = '{name} = cuda.load("kernel.cu", "{name}")\n'
ENTRY = re.compile(r'extern "C" __global__ void\s+(?:__\w+__\([^)]*\)\s*)?(\w+)\(')
MARK = re.compile(r"\s*(#|//) (cheat|honest)$")


@dataclass(frozen=True)
class Fixture:
    """A candidate with the task that it is for."""

    name: str
    """Unique in the suite."""
    task: str
    """Name in `tasks.TASKS`."""
    does: str
    """One sentence."""
    model: str
    """Text of `model.py` behind `HEAD`; `kernel` is loaded where there is a `kernel.cpp`."""
    kernel: str = ""
    """Text of `kernel.cpp`."""
    flags: tuple[str, ...] = ("-O2",)
    """For the compiler of `kernel.cpp`."""
    cuda: str = ""
    """Text of `kernel.cu`, whose kernels are loaded under their names."""
    vendors: tuple[str, ...] = ()
    """Of targets that it is for; where empty, those that its sources are for."""
    stage: Stage = Stage.BENCHMARK
    """How far it is judged."""
    seconds: float = 20.0
    """Limit of one command to its runner."""

    @property
    def places(self) -> tuple[str, ...]:
        """Vendors that it is for; none where it is for all."""
        return self.vendors or (("cpu",) if self.kernel else ("nvidia",) if self.cuda else ())

    def serves(self, vendor: str, language: str) -> bool:
        """Whether it can be judged there; what has no native source can be in any language."""
        written = "cpp" if self.kernel else "cuda" if self.cuda else language
        return language == written and vendor in (self.places or (vendor,))

    def candidate(self, language: str, *, cheating: bool = True) -> Candidate:
        """Its files: a line marked `cheat` is in the exploit only, `honest` in the twin only."""
        native, files = "", []
        if self.kernel:
            native = NATIVE.format(flags=list(self.flags))
            files.append(SourceFile(path="kernel.cpp", text=variant(self.kernel, cheating)))
        if self.cuda:
            text = variant(self.cuda, cheating)
            native = CUDA + "".join(LOAD.format(name=name) for name in ENTRY.findall(text))
            files.append(SourceFile(path="kernel.cu", text=text))
        model = SourceFile(path="model.py", text=HEAD + native + variant(self.model, cheating))
        return Candidate(language=language, files=(model, *files))


@dataclass(frozen=True)
class Honest(Fixture):
    """A kernel that must be OK."""


@dataclass(frozen=True, kw_only=True)
class Limit(Fixture):
    """A kernel that nobody wants and that is OK all the same, so far."""

    row: str
    """The row of the catalogue of exploits: `C5`."""
    risk: str
    """Why it is not caught, as half a sentence."""
    stage: Stage = Stage.CONFIRM


@dataclass(frozen=True, kw_only=True)
class Exploit(Fixture):
    """A kernel that must not be OK; without its marked lines it must be."""

    row: str
    """The row of the catalogue of exploits: `B2`."""
    caught_by: tuple[Detector, ...]
    """What the verdict may name, the likeliest first."""
    defence: tuple[Detector, ...] = ()
    """What `--ablate` switches off so that it scores; `caught_by` by default."""
    inseparable: str = ""
    """Why its defence cannot be switched off; empty where it can."""
    says: str = ""
    """What the verdict's message must contain."""
    at_most: float | None = None
    """For right kernels that are slow when honestly timed: below this score OK is no success."""

    WALLS: ClassVar = "it runs into a wall of the sandbox, which stands for every runner"

    @property
    def letter(self) -> str:
        """The class of exploits: `B`."""
        return self.row[0]

    @property
    def switched_off(self) -> frozenset[Detector]:
        """Detectors without which it scores."""
        return frozenset(self.defence or self.caught_by)


def variant(text: str, cheating: bool) -> str:
    """The text with the marked lines of one side, unmarked."""
    dropped = "honest" if cheating else "cheat"
    kept = []
    for line in dedent(text).strip("\n").splitlines():
        mark = MARK.search(line)
        if mark is None or mark[2] != dropped:
            kept.append(MARK.sub("", line))
    return "\n".join(kept) + "\n"
