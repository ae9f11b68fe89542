"""Triton's driver for a device that is not there, and its launches."""

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.compiler import make_backend
from triton.language.extra import libdevice as declared
from triton.language.extra.cuda import libdevice
from triton.runtime import _allocation, interpreter
from triton.runtime.errors import InterpreterError
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from kernelevolve.runtime import launched
from kernelevolve.runtime.tiles import Device, builder
from kernelevolve.runtime.tiles.builder import Builder, Handle, Region

MOST_THREADS = 1024
NONE_SET = _allocation._NULL_ALLOCATOR
"""Raises where a kernel needs memory of its own; what a candidate sets is not called here."""
USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")


class Driver(DriverBase):  # type: ignore[misc]
    """One device."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.utils = Utils(device)
        self.launcher_cls = partial(Launcher, self)
        self.trying = False

    @classmethod
    def is_active(cls) -> bool:
        """It is made active by hand only."""
        return False

    def map_python_to_cpp_type(self, ty: str) -> str:
        """No launcher is compiled."""
        return ty

    def get_current_target(self) -> GPUTarget:
        """What kernels are compiled for."""
        device = self.device
        arch = int(device.arch.removeprefix("sm_")) if device.backend == "cuda" else device.arch
        return GPUTarget(device.backend, arch, device.warp)

    def get_active_torch_device(self) -> torch.device:
        """Where tensors lie."""
        return torch.device("cpu")

    def get_current_device(self) -> int:
        """The only one."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """The only one."""
        return 0

    def get_benchmarker(self) -> Callable[..., Sequence[float]]:
        """All configurations are alike here, but for those that do not fit on the device."""
        return self._try

    def _try(self, call: Callable[[], object], **_: object) -> Sequence[float]:
        self.trying = True
        try:
            call()
        finally:
            self.trying = False
        return [1.0, 1.0, 1.0]


class Utils:
    """What Triton asks of a device."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def get_device_properties(self, _: int) -> dict[str, int]:
        """As CUDA's driver tells them."""
        return {
            "max_shared_mem": self.device.shared_block,
            "multiprocessor_count": self.device.multiprocessors,
            "max_num_regs": 65536,
            "warpSize": self.device.warp,
        }

    def load_binary(
        self, name: str, binary: bytes, shared: int, _: int
    ) -> tuple[object, object, int, int, int]:
        """Nothing is loaded: handles, registers and spills of a compiled kernel."""
        registers, stack = needs_of(binary) if self.device.backend == "cuda" else noted(binary)
        handle = {"registers": float(registers), "spill_bytes": float(stack)}
        return self, handle, registers, stack // 4, MOST_THREADS

    def unload_module(self, module: object) -> None:
        """There is nothing to unload."""


def needs_of(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack, where registers are spilled to."""
    with NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    found = USAGE.search(done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def noted(binary: bytes) -> tuple[int, int]:
    """The same of AMD's code object, whose note holds them: registers, and bytes of spilled ones.

    The note is MessagePack: a number stands behind its key, in a byte or, by its first one, in
    more.
    """
    found = []
    for key in (b".vgpr_count", b".vgpr_spill_count"):
        at = binary.find(key) + len(key)
        more = {0xCC: 1, 0xCD: 2, 0xCE: 4}.get(binary[at], 0)
        found.append(int.from_bytes(binary[at + 1 : at + 1 + more]) if more else binary[at])
    return found[0], 4 * found[1]


class Launcher:
    """One compiled kernel."""

    def __init__(self, driver: Driver, source: Any, metadata: Any) -> None:
        self.driver = driver
        self.kernel = source.fn
        self.metadata = metadata

    def __call__(self, x: int, y: int, z: int, stream: int, function: Any, *rest: Any) -> None:
        """Interpret it; the arguments come last."""
        if self.driver.trying:
            return
        scratch = getattr(self.metadata, "global_scratch_size", 0)
        if scratch and _allocation._allocator.get() is NONE_SET:
            NONE_SET(scratch, self.metadata.global_scratch_align, stream)
        launched.kernels[self.metadata.hash] = function | {
            "shared_bytes": float(self.metadata.shared),
            "block_threads": float(self.metadata.num_warps * self.driver.device.warp),
        }
        interpret(self.kernel, (x, y, z), rest[4:])


BUILDER = Builder()
original_patch = interpreter._patch_lang_tensor


def interpret(kernel: JITFunction[Any], grid: tuple[int, ...], arguments: Sequence[Any]) -> None:
    """Run all programs of a launch, one after the other.

    Raises:
        Fault: an access leaves what the launch was given; the message names the line.
    """
    if 0 in grid:
        return
    regions = [
        r for n, a in zip(kernel.arg_names, arguments, strict=True) for r in regions_of(n, a)
    ]
    BUILDER.regions = regions
    with in_language(), np.errstate(all="ignore"):
        try:
            executor = interpreter.GridExecutor(rewritten(kernel.fn), kernel.arg_names, grid)
            executor(*arguments)
        except InterpreterError as error:
            raise error.__cause__ or error from None


def regions_of(name: str, argument: Any) -> Iterator[Region]:
    """Of the tensors in an argument."""
    if isinstance(argument, tuple):
        for number, one in enumerate(argument):
            yield from regions_of(f"{name}[{number}]", one)
    elif isinstance(argument, TensorDescriptor):
        yield Region(name, argument.base)
    elif hasattr(argument, "data_ptr"):
        yield Region(name, getattr(argument, "base", argument))


@contextmanager
def in_language() -> Iterator[None]:
    """Have the functions of `triton.language` compute instead of being compiled."""
    both = SimpleNamespace(__globals__={"tl": tl, "core": tl.core})
    scope = interpreter._patch_lang(both)
    try:
        interpreter._patch_builtin(libdevice, BUILDER, scope)
        for name in vars(declared).keys() & vars(libdevice).keys():
            if callable(getattr(declared, name)) and not name.startswith("_"):
                scope.set_attr(declared, name, getattr(libdevice, name))
        yield
    finally:
        scope.restore()


def patch_tensor(tensor: Any, scope: Any) -> None:
    """Let a kernel's values be used as Python uses them."""
    original_patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))
    for name, member in list(vars(tensor).items()):
        if isinstance(member, JITFunction):
            scope.set_attr(tensor, name, method_of(member))


def method_of(function: JITFunction[Any]) -> Callable[..., Any]:
    """A function of the language as a method of its tensors."""
    return lambda *arguments, **named: function(*arguments, **named)


@cache
def rewritten(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel's Python, made to be interpreted."""
    return interpreter.InterpretedFunction(function).rewrite()  # type: ignore[no-any-return]


def call(self: JITFunction[Any], *arguments: Any, **named: Any) -> Any:
    """A kernel's call of another function."""
    return rewritten(self.fn)(*arguments, **named)


def install(device: Device) -> None:
    """Make it the active one, and the interpreter compute as a device does."""
    interpreter.TensorHandle = Handle
    interpreter.InterpreterBuilder = Builder
    interpreter.interpreter_builder = BUILDER
    interpreter.interpreter_semantic = interpreter.TritonSemantic(BUILDER)
    interpreter._patch_lang_tensor = patch_tensor
    interpreter._get_np_dtype = builder.held_as
    interpreter._validate_np_data_size = builder.fits
    interpreter._convert_float = builder.converted
    driver = Driver(device)
    able = make_backend(driver.get_current_target()).parse_options({})
    BUILDER.options = replace(
        BUILDER.options, allowed_dot_input_precisions=able.allowed_dot_input_precisions
    )
    JITFunction.__call__ = call
    triton.compiler.compiler.max_shared_mem.cache_clear()
    triton.runtime.driver.set_active(driver)
