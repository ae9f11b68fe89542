"""What Triton's interpreter does for each operation, where its own way is not a device's.

Numbers of bfloat16 are held as float32 that were rounded once, operands of a product in TF32 lose
the bits that it drops, and every access is checked against the tensors that the launch was given.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter

HELD = np.dtype(np.float32)
"""What holds a bfloat16."""
STORED = np.dtype(np.uint16)
TF32_DROPS = 13
"""Of the bits of a float32."""
OWN = (__file__, str(Path(triton.__file__).parent))
"""Frames of these are not of a kernel."""
ELEMENTWISE = {
    name: getattr(torch, name)
    for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "cos", "cosh",
        "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "floor", "fmax", "fmin", "fmod", "hypot",
        "lgamma", "log", "log10", "log1p", "log2", "pow", "rsqrt", "sin", "sinh", "sqrt", "tan",
        "tanh", "trunc",
    )
} | {"fabs": torch.abs, "rint": torch.round, "nearbyint": torch.round}  # fmt: skip
"""Of CUDA's own library, by the names there."""
original_type = interpreter._get_np_dtype
original_check = interpreter._validate_np_data_size
original_convert = interpreter._convert_float


class Fault(RuntimeError):
    """A kernel did what would be an error, or undefined, on a device."""


class Region:
    """Memory that a kernel was given."""

    def __init__(self, name: str, tensor: torch.Tensor) -> None:
        last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        self.name = name
        self.begin = tensor.data_ptr()
        self.nbytes = (last + 1) * tensor.element_size() if tensor.numel() else 0


def rounded(data: Any) -> Any:
    """To the nearest bfloat16, halves to even; infinities and NaN as they are."""
    bits = np.ascontiguousarray(data, HELD).view(np.uint32)
    up = (bits >> 16 & 1) + np.uint32(0x7FFF)
    near = ((bits + up) & np.uint32(0xFFFF0000)).view(HELD)
    return np.where(np.isfinite(data), near, data).astype(HELD, copy=False)


def narrowed(data: Any) -> Any:
    """The bits of bfloat16 that a held number stands for."""
    return (np.ascontiguousarray(data, HELD).view(np.uint32) >> 16).astype(STORED)


def widened(bits: Any) -> Any:
    """What holds the bfloat16 of these bits."""
    return (bits.astype(np.uint32) << 16).view(HELD)


def held_as(dtype: Any) -> Any:
    """NumPy's type for a Triton type."""
    return HELD if dtype.scalar.name == "bf16" else original_type(dtype)


def fits(data: Any, dtype: Any) -> bool:
    """Whether NumPy's data are no wider than the type that they stand for."""
    return dtype.scalar == tl.bfloat16 or bool(original_check(data, dtype))


def converted(data: Any, source: Any, target: Any, rounding: Any) -> Any:
    """Between kinds of floats, by their bits."""
    if tl.bfloat16 not in (source, target):
        return original_convert(data, source, target, rounding)
    if target == tl.bfloat16:
        wide = data if source == tl.float32 else original_convert(data, source, tl.float32, None)
        return rounded(wide.view(HELD))
    return data if target == tl.float32 else original_convert(data, tl.float32, target, rounding)


class Handle(interpreter.TensorHandle):  # type: ignore[misc]
    """A value of a kernel."""

    data: Any
    dtype: Any

    def __post_init__(self) -> None:
        """Keep what the type can hold."""
        super().__post_init__()
        if self.dtype.name == "bf16" and self.data.dtype.kind == "f":
            self.data = rounded(self.data)


class Builder(interpreter.InterpreterBuilder):  # type: ignore[misc]
    """Carries out operations for one launch at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.regions: Sequence[Region] = ()

    def get_bf16(self, value: float) -> Handle:
        """A constant."""
        return Handle(np.array([value], HELD), tl.bfloat16)

    def create_masked_load(self, ptrs: Any, mask: Any, other: Any, *rest: Any, **named: Any) -> Any:
        """Elements at addresses."""
        self._check(ptrs, mask.data, "reads")
        kind = ptrs.get_element_ty()
        if kind != tl.bfloat16:
            return super().create_masked_load(ptrs, mask, other, *rest, **named)
        instead = np.zeros(ptrs.data.shape, STORED) if other is None else narrowed(other.data)
        bits = interpreter._interpreter.load(ptrs.data, mask.data, instead, STORED)
        return Handle(widened(bits), kind)

    def create_masked_store(
        self, ptrs: Any, value: Any, mask: Any, *rest: Any, **named: Any
    ) -> Any:
        """Elements to addresses."""
        self._check(ptrs, mask.data, "writes")
        if ptrs.get_element_ty() == tl.bfloat16:
            value = interpreter.TensorHandle(narrowed(value.data), tl.uint16)
        return super().create_masked_store(ptrs, value, mask, *rest, **named)

    def create_atomic_rmw(self, how: Any, ptr: Any, val: Any, mask: Any, *rest: Any) -> Any:
        """What is added, exchanged … at addresses."""
        self._check(ptr, mask.data, "updates")
        self._refuse_atomic(ptr)
        return super().create_atomic_rmw(how, ptr, val, mask, *rest)

    def create_atomic_cas(self, ptr: Any, cmp: Any, val: Any, *rest: Any) -> Any:
        """What is exchanged where it is as expected."""
        self._check(ptr, np.ones(ptr.data.shape, bool), "updates")
        self._refuse_atomic(ptr)
        return super().create_atomic_cas(ptr, cmp, val, *rest)

    def cast_impl(self, src: Any, dst_type: Any) -> Handle:
        """Between numbers, rounded once."""
        return Handle(src.data.astype(held_as(dst_type)), dst_type.scalar)

    def create_bitcast(self, src: Any, dst_type: Any) -> Any:
        """The same bits as another type."""
        if src.dtype.scalar == tl.bfloat16:
            src = interpreter.TensorHandle(narrowed(src.data), tl.uint16)
        if dst_type.scalar == tl.bfloat16:
            return Handle(widened(src.data.view(STORED)), tl.bfloat16)
        return super().create_bitcast(src, dst_type)

    def create_fabs(self, arg: Any) -> Handle:
        """Without its sign."""
        return Handle(np.abs(arg.data), arg.dtype.scalar)

    def create_dot(self, a: Any, b: Any, d: Any, input_precision: Any, *rest: Any) -> Any:
        """A product, in TF32 where a device would use it."""
        if str(input_precision).endswith("TF32") and a.dtype == tl.float32:
            a, b = (interpreter.TensorHandle(_in_tf32(x.data), tl.float32) for x in (a, b))
        return super().create_dot(a, b, d, input_precision, *rest)

    def create_extern_elementwise(
        self, library: str, path: str, symbol: str, arguments: Any, kind: Any, pure: bool
    ) -> Handle:
        """A function of CUDA's own library, such as `__nv_tanhf`."""
        name = symbol.removeprefix("__nv_")
        known = ELEMENTWISE.get(name) or ELEMENTWISE.get(name.removesuffix("f"))
        if known is None:
            raise Fault(
                f"{where()}: {symbol} cannot be interpreted; what can is listed in its guide"
            )
        given = (torch.from_numpy(np.ascontiguousarray(x.data)) for x in arguments)
        return Handle(known(*given).numpy(), kind.scalar)

    def _check(self, ptrs: Any, mask: Any, does: str) -> None:
        """Every address must lie in what the launch was given, as a whole."""
        kind = ptrs.get_element_ty()
        size = max(1, kind.primitive_bitwidth // 8)
        addresses = ptrs.data[np.broadcast_to(mask, ptrs.data.shape)].astype(np.int64)
        fine = np.zeros(addresses.shape, bool)
        for region in self.regions:
            fine |= (addresses >= region.begin) & (addresses <= region.begin + region.nbytes - size)
        if not fine.all():
            bad = int(addresses[~fine][0])
            raise Fault(f"{where()}: program {list(self.grid_idx)} {does} {self._told(bad, size)}")

    def _told(self, address: int, size: int) -> str:
        """Where an address lies, by the argument that is nearest."""
        if not self.regions:
            return f"{size} bytes, of no tensor: the launch was given none"
        near = min(
            self.regions,
            key=lambda r: min(abs(address - r.begin), abs(address - r.begin - r.nbytes)),
        )
        past = address - near.begin - near.nbytes
        place = (
            f"{past} bytes past the end"
            if past > -size
            else f"{near.begin - address} bytes before the start"
        )
        return (
            f"{size} bytes, {place} of argument {near.name!r}, which has {near.nbytes} bytes: "
            "mask every load and store that may leave its tensor"
        )

    def _refuse_atomic(self, ptr: Any) -> None:
        if ptr.get_element_ty() == tl.bfloat16:
            raise Fault(f"{where()}: atomics on bfloat16 cannot be interpreted; use float32")


def _in_tf32(data: Any) -> Any:
    bits = np.ascontiguousarray(data, np.float32).view(np.uint32)
    return (bits >> TF32_DROPS << TF32_DROPS).view(np.float32)


def where() -> str:
    """File and line of the kernel that is being interpreted."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(OWN):
        frame = frame.f_back
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
