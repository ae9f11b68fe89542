"""What a candidate's runner may answer, read once and for all. In the judge.

A hostile runner answers with any JSON that it likes. Whoever reads an answer calls one of these
first; behind them, an error is the judge's own.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kernelevolve.evaluation.layout import MAX_LEAVES, Layout, Leaf
from kernelevolve.evaluation.wire import Malformed

Reply = Mapping[str, Any]
LOADINGS = ("by_name", "by_order", "seeded", "none")
ADDRESSES = 1 << 64
HANDLE = re.compile("[0-9a-f]{128}")
LONGEST = 1e6
"""Seconds; nothing that a runner reports took longer."""


KERNEL = {"registers", "spill_bytes", "shared_bytes", "block_threads"}
MOST_NEEDED = 1e9


class Loaded(NamedTuple):
    """How a candidate took the reference's state."""

    loading: str
    setup: float
    """Seconds."""
    own: dict[str, list[int]]
    """Shapes of its own state by name."""


def loaded(reply: Reply) -> Loaded:
    """Of a request to load.

    Raises:
        Malformed: it is none.
    """
    loading, own = reply.get("loading"), reply.get("own")
    if loading not in LOADINGS:
        raise Malformed(f"not a way to load a state: {str(loading)[:200]}")
    if not isinstance(own, dict) or len(own) > MAX_LEAVES or not all(map(_is_shape, own.values())):
        raise Malformed("a module's own state must be names with shapes")
    return Loaded(loading, seconds(reply, "setup"), own)


def seconds(reply: Reply, name: str) -> float:
    """A length of time.

    Raises:
        Malformed: it is none.
    """
    value: Any = reply.get(name, 0)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= LONGEST:
        raise Malformed(f"{name} is not a number of seconds: {str(value)[:200]}")
    return float(value)


def texts(reply: Reply, name: str) -> dict[str, str]:
    """Names with texts.

    Raises:
        Malformed: they are none.
    """
    value = reply.get(name)
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Malformed(f"{name} must be names with texts")
    return value


def sizes(reply: Reply, nbytes: int) -> dict[str, int]:
    """How many bytes each of several tensors takes in a block of `nbytes`, one behind the other.

    Raises:
        Malformed: they do not fit, or are none.
    """
    value = reply.get("sizes")
    if not isinstance(value, dict) or not all(map(_is_address, value.values())):
        raise Malformed("sizes must be names with numbers")
    if sum(value.values()) > nbytes:
        raise Malformed(f"tensors of {sum(value.values())} bytes do not fit into {nbytes}")
    return value


def outcome(reply: Reply) -> dict[str, Any]:
    """A description of outputs, each list with as many entries as there are tensors.

    Raises:
        Malformed: it is none.
    """
    leaves = Layout.parse(reply).leaves
    for name, is_one in ENTRIES.items():
        entries = reply.get(name)
        if not isinstance(entries, list) or len(entries) != len(leaves):
            raise Malformed(f"there must be as many {name} as tensors")
        if not all(map(is_one, entries)):
            raise Malformed(f"{name} of tensors cannot be {str(entries)[:200]}")
    for leaf, stride in zip(leaves, reply["strides"], strict=True):
        Leaf.parse([leaf.dtype, list(leaf.shape), stride, 0])
    return dict(reply)


def handles(reply: Reply) -> dict[str, tuple[int, int]]:
    """Of allocations on a device: where each begins, and its bytes.

    Raises:
        Malformed: they are none.
    """
    value = reply.get("handles")
    if not isinstance(value, dict) or len(value) > MAX_LEAVES:
        raise Malformed("handles must be names with extents")
    for name, extent in value.items():
        if not (HANDLE.fullmatch(name) and _is_shape(extent) and len(extent) == 2):
            raise Malformed(f"not a handle of an allocation: {str(name)[:200]}")
    return {name: (begin, nbytes) for name, (begin, nbytes) in value.items()}


def kernels(reply: Reply) -> list[dict[str, float]]:
    """What each of several kernels needs.

    Raises:
        Malformed: it is none.
    """
    value = reply.get("kernels")
    if not isinstance(value, list) or len(value) > MAX_LEAVES or not all(map(_is_kernel, value)):
        raise Malformed(f"not what kernels need: {str(value)[:200]}")
    return value


def counters(reply: Reply) -> dict[str, float]:
    """What a simulator counted.

    Raises:
        Malformed: they are no numbers by name.
    """
    value = reply.get("counters")
    if (
        not isinstance(value, dict)
        or len(value) > MAX_LEAVES
        or not all(map(_is_count, value.values()))
    ):
        raise Malformed(f"not counters of a simulator: {str(value)[:200]}")
    return value


def failure(reply: Reply) -> dict[str, str]:
    """What a module raised; empty where it did not.

    Raises:
        Malformed: an error without texts.
    """
    return texts(reply, "error") if "error" in reply else {}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_address(value: object) -> bool:
    return type(value) is int and 0 <= value < ADDRESSES


def _is_kernel(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != KERNEL:
        return False
    return all(type(n) is float and 0 <= n <= MOST_NEEDED for n in value.values())


def _is_count(value: object) -> bool:
    return type(value) is float and 0 <= value < math.inf


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_address, value))


ENTRIES: Mapping[str, Callable[[object], bool]] = {
    "types": _is_text,
    "devices": _is_text,
    "aliases": _is_flag,
    "pointers": _is_address,
    "strides": _is_shape,
}
