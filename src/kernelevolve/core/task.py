"""What to compute: a task, its workloads, and how exact the answer must be."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr

from kernelevolve.core.errors import TaskError
from kernelevolve.core.record import Record, digest

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Size = int | float | bool | str


class Workload(Record):
    """One set of input sizes of a task."""

    name: str
    """Unique within its task."""
    sizes: dict[str, Size] = Field(default_factory=dict)
    """Passed to `get_inputs` and `get_init_inputs` by matching parameter names."""
    held_out: bool = False
    """Verified and timed in confirm only; never shown to a programmer."""
    captured: bool = False
    """The inputs are the task's captured tensors instead of `get_inputs`."""


class Tolerance(Record):
    """The error budget against the float64 oracle, in multiples of the reference's own error.

    A value is accepted within `max(factor * reference error, ulps * ulp(scale of its row))`.
    """

    rms: float = 4.0
    """Allowed RMS error as a multiple of the reference's own RMS error."""
    maximum: float = 8.0
    """Allowed maximum error as a multiple of the reference's own maximum error."""
    ulps: float = 2.0
    """Floor of the budget, in units in the last place at the scale of the row."""
    bitwise_repeats: bool = False
    """Repeated calls on the same inputs must agree bit for bit."""

    @property
    def widened(self) -> bool:
        """Whether any limit is looser than the default, which every result must then say."""
        return self.rms > 4.0 or self.maximum > 8.0 or self.ulps > 2.0


class Task(Record):
    """A PyTorch reference with its workloads, tolerance and precision policy, as data."""

    name: str
    """Short name, from the file's stem or the module's class."""
    source: str
    """Python text defining `Model`, `get_inputs`, `get_init_inputs`; empty for a program."""
    workloads: tuple[Workload, ...]
    """At least one is not held out."""
    tolerance: Tolerance = Tolerance()
    """The error budget."""
    precision: Literal["strict", "downcast"] = "strict"
    """May a kernel compute in less precision than the reference's dtype."""
    mode: Literal["train", "eval"] | None = None
    """Set on the module before use; None leaves it as constructed."""
    backward: bool = False
    """Gradients of inputs and parameters are verified and timed too."""
    randomise: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Buffers to fill uniformly within (low, high) instead of keeping their values."""
    statement: str = ""
    """What the module's docstring says of the task."""
    captured: str | None = None
    """Blob of captured input tensors (`torch.save` of a list or tuple)."""
    program: str | None = None
    """Blob of an exported program with its example inputs, for `Task.from_module`."""

    _attachments: dict[str, bytes] = PrivateAttr(default_factory=dict)

    @property
    def attachments(self) -> Mapping[str, bytes]:
        """Blobs that came with the task in this process and belong into a store."""
        return self._attachments

    def attach(self, data: bytes) -> None:
        """Carry a blob along until a store has it."""
        self._attachments[sha256(data).hexdigest()] = data

    @classmethod
    def from_module(
        cls, module: "Module", inputs: "Sequence[Tensor]", name: str | None = None, **fields: Any
    ) -> "Task":
        """A task from a live module, stored as an exported program with its weights.

        Args:
            module: what to optimise; its mode, train or eval, becomes part of the program.
            inputs: example inputs; kernels are verified on values like them, at these shapes.
            name: short name; by default the module's class.
            fields: other fields of a task, for example `precision="downcast"`.

        Raises:
            TaskError: the module cannot be exported; the message holds the reason.
        """
        import torch

        try:
            program = torch.export.export(module, tuple(inputs))
            file = BytesIO()
            torch.export.save(program, file)
        except Exception as error:  # noqa: BLE001  whatever export raises is its reason
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise TaskError(
                f"{type(module).__name__} cannot be exported: {reason[0]}; "
                "write it as a task file with Model and get_inputs instead"
            ) from error
        data = file.getvalue()
        task = cls(
            name=name or type(module).__name__.lower(),
            source="",
            workloads=(Workload(name="default"),),
            program=sha256(data).hexdigest(),
            **fields,
        )
        task.attach(data)
        return task

    @cached_property
    def id(self) -> str:
        """Content hash: equal for equal tasks wherever they were read."""
        return digest(self.model_dump_json())

    @property
    def shown(self) -> tuple[Workload, ...]:
        """The workloads that a programmer may see."""
        return tuple(w for w in self.workloads if not w.held_out)
