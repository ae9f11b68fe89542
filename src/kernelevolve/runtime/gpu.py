"""Launches kernels of a compiled CUDA file on the GPU where their tensors lie.

Through the driver alone, by a launcher in C++ where it could be built: a launch through Python's
foreign functions takes as long as a small kernel.
"""

import ctypes
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from cuda.bindings import driver

from kernelevolve.runtime import launcher

ENTRY = r"\.entry {name}\((?P<parameters>[^)]*)\)"
PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(?P<type>\w+)[^,\[]*(?P<many>\[\d+\])?")
TYPES: dict[str, Any] = {
    **{f"{kind}8": ctypes.c_uint8 for kind in "usb"},
    **{f"{kind}16": ctypes.c_uint16 for kind in "usb"},
    **{f"{kind}32": ctypes.c_uint32 for kind in "usb"},
    **{f"{kind}64": ctypes.c_uint64 for kind in "usb"},
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}
"""Of a parameter, by what PTX calls it."""
CODES = {ctypes.c_float: "f", ctypes.c_double: "d"}
"""Of parameters that are no whole numbers, for the launcher."""
STATIC_SHARED = 48 << 10
"""Bytes of shared memory that a block may have without asking for more."""
KEPT_SIZES = 256


class DeviceKernel:
    """One kernel of a cubin, for whatever device is current when it is launched.

    Args:
        stem: of the `.cubin` and of the `.ptx`, which tells the types of its parameters.
        name: of the kernel.

    Raises:
        RuntimeError: the driver refuses the cubin; its architecture may be another one.
    """

    def __init__(self, stem: Path, name: str) -> None:
        self.name = name
        library = _library(str(stem.with_suffix(".cubin")))
        self._kernel = _done(name, driver.cuLibraryGetKernel(library, name.encode()))
        self._types = types(stem.with_suffix(".ptx").read_text(), name)
        self._native = launcher.of(stem.parent)
        self._ready: dict[tuple[int, tuple[int, ...]], Callable[..., None]] = {}

    def launch(self, index: int, size: tuple[int, ...], arguments: Sequence[Any]) -> None:
        """Queue it on the current stream of a device.

        Args:
            index: of the device where the tensors lie.
            size: blocks in x, y and z, threads in x, y and z, bytes of dynamic shared memory.
            arguments: tensors, numbers, and None for a null pointer.

        Raises:
            TypeError: there are more or fewer arguments than parameters.
            RuntimeError: the driver refuses the launch.
        """
        if len(arguments) != len(self._types):
            raise TypeError(
                f"{self.name} takes {len(self._types)} arguments, {len(arguments)} were given"
            )
        if index != torch._C._cuda_getDevice():
            with torch.cuda.device(index):
                return self.launch(index, size, arguments)
        ready = self._ready.get((index, size)) or self._prepare(index, size)
        return ready(*arguments)

    def _prepare(self, index: int, size: tuple[int, ...]) -> Callable[..., None]:
        if 0 in size[:3]:
            return lambda *_: None
        if size[6] > STATIC_SHARED:
            self._allow(size[6], index)
        run, handle, stream_of = _driver(), int(self._kernel), torch._C._cuda_getCurrentRawStream
        failed = partial(_raise, self.name, size)
        ready: Callable[..., None]
        if self._native is None:
            ready = Foreign(run, handle, self._types, size, partial(stream_of, index), failed)
        else:
            address = ctypes.cast(run, ctypes.c_void_p).value
            what = codes(self._types)
            ready = self._native.Launch(address, handle, what, *size, stream_of, index, failed)
        if len(self._ready) < KEPT_SIZES:
            self._ready[index, size] = ready
        return ready

    def _allow(self, shared: int, index: int) -> None:
        what = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        error = driver.cuKernelSetAttribute(what, shared, self._kernel, index)[0]
        if int(error):
            raise RuntimeError(
                f"{self.name}: a block of this device cannot have {shared} bytes of shared memory"
            )


class Foreign:
    """A launch by Python's foreign functions, where no launcher could be built."""

    def __init__(
        self,
        run: Any,
        handle: int,
        types: Sequence[Any],
        size: tuple[int, ...],
        stream: Callable[[], int],
        failed: Callable[[int], None],
    ) -> None:
        self._run, self._handle, self._size, self._stream = run, handle, size, stream
        self._failed = failed
        self._values = [made() for made in types]
        addresses = [ctypes.addressof(value) for value in self._values]
        self._pointers = (ctypes.c_void_p * max(1, len(addresses)))(*addresses)
        self._lock = Lock()

    def __call__(self, *arguments: Any) -> None:
        with self._lock:
            for value, argument in zip(self._values, arguments, strict=True):
                put(value, argument)
            stream = self._stream()
            error = self._run(self._handle, *self._size, stream, self._pointers, None)
        if error:
            self._failed(error)


def codes(types: Sequence[Any]) -> str:
    """How the launcher is told what each parameter is."""
    return "".join(CODES.get(kind, "i") for kind in types)


def put(value: Any, argument: Any) -> None:
    """Give a parameter what it declares: an address, an int or a float; null and zero for None."""
    if hasattr(argument, "data_ptr"):
        value.value = argument.data_ptr()
    elif type(value) in CODES:
        value.value = float(argument or 0)
    else:
        value.value = int(argument or 0)


@cache
def _library(path: str) -> Any:
    torch.cuda.current_stream()
    loaded = driver.cuLibraryLoadFromFile(path.encode(), [], [], 0, [], [], 0)
    return _done(Path(path).name, loaded)


@cache
def _driver() -> Any:
    """The driver's own function: its binding checks what it is given, for as long again."""
    found = ctypes.CDLL("libcuda.so.1").cuLaunchKernel
    found.argtypes = (ctypes.c_void_p, *(ctypes.c_uint,) * 7, *(ctypes.c_void_p,) * 3)
    return found


def types(ptx: str, name: str) -> list[Any]:
    """What each parameter of a kernel is given as."""
    entry = re.search(ENTRY.format(name=re.escape(name)), ptx)
    if entry is None:
        raise ValueError(f"no kernel {name!r} was compiled")
    found = []
    for number, parameter in enumerate(PARAMETER.finditer(entry["parameters"])):
        if parameter["many"] or parameter["type"] not in TYPES:
            raise ValueError(f"{name}: parameter {number} is neither a pointer nor a number")
        found.append(TYPES[parameter["type"]])
    return found


def _raise(name: str, size: Sequence[int], error: int) -> None:
    text = driver.cuGetErrorString(driver.CUresult(error))[1]
    what = f"{name}: the launch of {list(size[:3])} blocks of {list(size[3:6])} threads"
    said = (text or b"").decode()
    raise RuntimeError(f"{what} and {size[6]} bytes of shared memory failed: {said}")


def _done(name: str, result: tuple[Any, ...]) -> Any:
    error, *values = result
    if int(error):
        text = driver.cuGetErrorString(error)[1]
        raise RuntimeError(f"{name}: {(text or b'').decode()}")
    return values[0]
