"""Launches several kernels of a candidate on a GPU as one CUDA graph.

The first call of a kind launches the kernels as they are; the second has them recorded; from then
on the graph is launched. Tensors come at other addresses at every call: those kernels of the graph
that take one which moved are told its address first. So nothing is copied, results are the
caller's own, and nothing is kept of what was computed.

Kernels are launched one by one wherever tensors are not on a GPU, an address is not aligned as the
recorded ones were, the stream is itself being captured, or a graph cannot be made or updated.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, Protocol

KEPT = 16
"""Kinds of calls that have a graph; each keeps what its kernels pass on to each other."""
ALIGNED = 15
"""Bits of an address that are zero where allocators made it; kernels are compiled for that."""
Launch = Callable[..., object]


@dataclass
class Node:
    """A kernel of a graph."""

    handle: Any
    values: Sequence[Any]
    """Its arguments, as ctypes hold them."""
    slots: Sequence[tuple[int, int]]
    """Which of its arguments is the address of which tensor."""


@dataclass
class Recorded:
    """A graph that can be launched."""

    executable: Any
    nodes: Sequence[Node]
    kept: Any
    """What has to live as long: room for what its kernels pass on to each other."""


class Device(Protocol):
    """What makes, changes and launches graphs; all of it may raise what it likes."""

    def stream(self, tensor: Any) -> Hashable:
        """Where work on this tensor is queued now; None where that may not be a graph."""

    def record(self, launch: Launch, tensors: Sequence[Any]) -> Recorded:
        """The kernels that `launch(*tensors)` launches, which do not run."""

    def update(self, recorded: Recorded, node: Node) -> None:
        """Give a kernel its arguments for the launches that follow."""

    def launch(self, recorded: Recorded, stream: Any) -> None:
        """Queue it."""


class _Graph:
    """A recorded graph, and where it takes its tensors to be."""

    def __init__(self, recorded: Recorded, addresses: Sequence[int]) -> None:
        self.recorded = recorded
        self.addresses = list(addresses)

    def move(self, device: Device, addresses: Sequence[int]) -> None:
        """Tell the kernels concerned where tensors are that moved."""
        if addresses == self.addresses:
            return
        moved = {
            n for n, (a, b) in enumerate(zip(addresses, self.addresses, strict=True)) if a != b
        }
        for node in self.recorded.nodes:
            mine = [(slot, tensor) for slot, tensor in node.slots if tensor in moved]
            for slot, tensor in mine:
                node.values[slot].value = addresses[tensor]
            if mine:
                device.update(self.recorded, node)
        self.addresses = list(addresses)


FIRST = _Graph(Recorded(None, (), None), ())
"""Stands for the graph of a kind of call that came once."""


class Replay:
    """The kernels between two library calls, launched together."""

    def __init__(self, device: Callable[[], Device] | None = None) -> None:
        self._device = device or _device
        self._known: dict[Hashable, _Graph | None] = {}
        """By kind of call; None where it has none, since it could not be made or launched."""
        self._lock = Lock()

    def __call__(self, launch: Launch, tensors: Sequence[Any], sizes: tuple[Hashable, ...]) -> None:
        """Do what `launch(*tensors)` does.

        Args:
            launch: allocates what kernels pass on to each other, and launches them.
            tensors: all that they read and write besides.
            sizes: everything else that decides which kernels it launches, and how.
        """
        if tensors[0].is_cuda:
            addresses = [tensor.data_ptr() for tensor in tensors]
            device = self._device()
            stream = None if _odd(addresses) else device.stream(tensors[0])
            if stream is not None:
                with self._lock:
                    if self._replayed(device, (stream, sizes), launch, tensors, addresses):
                        return
        launch(*tensors)

    def _replayed(
        self,
        device: Device,
        kind: tuple[Hashable, Hashable],
        launch: Launch,
        tensors: Sequence[Any],
        addresses: list[int],
    ) -> bool:
        """Whether a graph did it."""
        if kind not in self._known:
            if len(self._known) < KEPT:
                self._known[kind] = FIRST
            return False
        graph = self._known[kind]
        if graph is None:
            return False
        try:
            if graph is FIRST:
                graph = _Graph(device.record(launch, tensors), addresses)
            graph.move(device, addresses)
            device.launch(graph.recorded, kind[0])
        except Exception:  # noqa: BLE001  a graph is only quicker; without one, kernels run too
            graph = None
        self._known[kind] = graph
        return graph is not None


def slots(values: Sequence[Any], addresses: Sequence[int]) -> list[tuple[int, int]]:
    """Which of a kernel's arguments is the address of which tensor.

    Raises:
        ValueError: two tensors are at one address, so that an argument may be either.
    """
    where = {address: tensor for tensor, address in enumerate(addresses)}
    if len(where) < len(addresses):
        raise ValueError("two tensors at one address")
    return [(slot, where[v.value]) for slot, v in enumerate(values) if v.value in where]


def _odd(addresses: Sequence[int]) -> bool:
    together = 0
    for address in addresses:
        together |= address
    return together & ALIGNED != 0 or 0 in addresses


@cache
def _device() -> Device:
    from kernelevolve.runtime.capture import Cuda

    return Cuda()
