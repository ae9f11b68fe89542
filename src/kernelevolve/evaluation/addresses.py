"""Where tensors lie in their process. Runs in runners only."""

from collections.abc import Mapping

from torch import Tensor


def note(bank: memoryview, value: object) -> int:
    """Write the addresses of a nest's tensors, in the order of `flatten`; how many there are."""
    if isinstance(value, Tensor):
        if len(bank):
            bank[0] = address(value)
        return 1
    if not isinstance(value, list | tuple | Mapping):
        return 0
    found = 0
    for item in value.values() if isinstance(value, Mapping) else value:
        found += note(bank[found:], item)
    return found


def address(tensor: Tensor) -> int:
    """Where its first element lies; 0 where it has no memory of its own."""
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return 0


def storage(tensor: Tensor) -> int:
    """Where its memory begins; 0 where it has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0
