"""Follows the reference through one call, for what its operations promise. In its runner."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kernelevolve.evaluation.modules import Subject
from kernelevolve.evaluation.tensors import flatten
from kernelevolve.evaluation.traits import (
    COMPARING,
    IGNORING,
    MOST_MARKERS,
    MOST_THRESHOLDS,
    ORDERING,
    SELECTING,
    SETTLED,
    SMOOTH,
    STEPS,
)

BOUNDARIES = {"bucketize": (0, 1), "searchsorted": (1, 0)}
"""Operations that look values up in a sorted tensor: which argument is which."""


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what operations were called, and what they compared inputs with.

    Args:
        inputs: a nest of tensors; what is computed from them is not one of them.
    """

    def __init__(self, inputs: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()
        self.truncates = False
        self.markers: set[int] = set()
        self.thresholds: set[float] = set()
        self._given = {t.untyped_storage().data_ptr() for t in flatten(inputs)[1]}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation."""
        result = func(*args, **(kwargs or {}))
        if func.namespace != "prim":
            name = func.overloadpacket.__name__
            stable = name == "sort" and (kwargs or {}).get("stable")
            self.names.add("stable_sort" if stable else name)
            self._note(name, str(func).removeprefix("aten."), args, result)
        return result

    def _note(self, name: str, overload: str, args: Any, result: Any) -> None:
        if name == "_to_copy" and args[0].is_floating_point():
            self.truncates |= _counts(result)
        if name in IGNORING:
            self._mark(args[IGNORING[name]], 0)
        if overload in COMPARING | ORDERING and _counts(args[0]):
            self._mark(args[1], int(overload in ORDERING))
        if name in {one.partition(".")[0] for one in COMPARING | ORDERING}:
            self._compare(args[0], args[1])
            self._compare(args[1], args[0])
        if name in BOUNDARIES:
            values, boundaries = BOUNDARIES[name]
            self._compare(args[values], args[boundaries])
        if name in STEPS and self._is_input(args[0]):
            self.thresholds.update(STEPS[name])

    def _mark(self, marker: Any, around: int) -> None:
        if type(marker) is int and len(self.markers) < MOST_MARKERS:
            self.markers |= set(range(marker - around, marker + around + 1))

    def _compare(self, value: Any, other: Any) -> None:
        """An input itself, not what was computed from it: that is rounded in one way or another."""
        if not self._is_input(value):
            return
        if isinstance(other, Tensor) and other.numel() <= MOST_THRESHOLDS and _is_real(other):
            self.thresholds.update(other.flatten().tolist())
        elif isinstance(other, int | float):
            self.thresholds.add(float(other))

    def _is_input(self, value: Any) -> bool:
        if not isinstance(value, Tensor) or not _is_real(value):
            return False
        return value.untyped_storage().data_ptr() in self._given


def _counts(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool)


def _is_real(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def traits(subject: Subject, slot: dict[str, Any]) -> dict[str, Any]:
    """What one forward pass on a slot's inputs shows; see `Traits` for the keys."""
    inputs = slot["args"]
    watch = Watch(inputs)
    with torch.set_grad_enabled(subject.backward), watch:
        subject.run(*inputs)
    subject.restore()
    return {
        "selects": not subject.backward and watch.names <= SELECTING,
        "settled": watch.names <= SETTLED,
        "smooth": watch.names <= SMOOTH,
        "truncates": watch.truncates,
        "markers": sorted(watch.markers),
        "thresholds": sorted(watch.thresholds)[:MOST_THRESHOLDS],
    }
