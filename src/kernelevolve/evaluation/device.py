"""The judge's own hold on a GPU: memory that runners map, and whether anybody works on it.

A context of its own, in which nobody's code runs. The device gives its contexts turns: what is
asked here takes some microseconds where no other context has work, and as long as a turn, some
milliseconds, where one has. So the judge sees by its own clock when all work has ended, on whatever
stream and whatever the runner says (design/0021).
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from kernelevolve.evaluation.blocks import Block
from kernelevolve.evaluation.device_kernels import Kernels
from kernelevolve.evaluation.layout import Array
from kernelevolve.evaluation.peek import Extent
from kernelevolve.evaluation.processes import Lost

QUICK_SECONDS = 80e-6
"""An answer so quick came from a device that nobody else worked on."""
PAUSE_SECONDS = 3e-4
"""Longer than the device takes to change over to a process that has work."""
REST_SECONDS = 5.0
PROBE_BYTES = 4096
THROTTLED = 0x04 | 0x08 | 0x20 | 0x40 | 0x80
"""NVML's reasons for low clocks: power, heat (by software, by hardware), slow-down, power brake."""


def device_files() -> tuple[Path, ...]:
    """What a process must be able to open to use a GPU."""
    return tuple(sorted(path for path in Path("/dev").glob("nvidia*") if path.is_char_device()))


class Device:
    """One GPU, by its number among those that are visible."""

    def __init__(self, index: int = 0) -> None:
        from cuda.bindings import driver

        self.cuda: Any = driver
        self.index = index
        self.call(driver.cuInit(0))
        self._context = self.call(driver.cuDevicePrimaryCtxRetain(index))
        self.enter()
        self.shares = False
        """Whether an allocation of some runner could be mapped here: not on every machine."""
        self._scratch = self.call(driver.cuMemAlloc(PROBE_BYTES))

    def enter(self) -> None:
        """Let the current thread ask it, as the one that made this may."""
        self.call(self.cuda.cuCtxSetCurrent(self._context))

    def call(self, result: tuple[Any, ...]) -> Any:
        """What a call of the driver gave.

        Raises:
            Lost: it failed.
        """
        code, *values = result
        if int(code):
            raise Lost(f"the GPU does not answer the judge: {code.name}")
        return values[0] if len(values) == 1 else values

    @property
    def free(self) -> int:
        """Bytes of its memory that nobody has taken."""
        return int(self.call(self.cuda.cuMemGetInfo())[0])

    def block(self, nbytes: int) -> "DeviceBlock":
        """Memory on the device with a copy in the judge's."""
        return DeviceBlock(self, nbytes)

    def health(self) -> dict[str, float]:
        """Clocks, heat and company, by NVML; empty where that is not there."""
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception:  # noqa: BLE001 - whatever is missing, it is told without
            return {}
        bus = self.call(self.cuda.cuDeviceGetPCIBusId(64, self.index)).rstrip(b"\0")
        gpu = pynvml.nvmlDeviceGetHandleByPciBusId(bus)
        reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)
        celsius = pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)
        return {
            "clock_mhz": float(pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)),
            "memory_clock_mhz": float(pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM)),
            "temperature_c": float(celsius),
            "power_w": pynvml.nvmlDeviceGetPowerUsage(gpu) * 1e-3,
            "throttled": float(bool(reasons & THROTTLED)),
            "processes": float(len(pynvml.nvmlDeviceGetComputeRunningProcesses(gpu))),
        }

    def forget(self) -> None:
        """Keep no lines in the device's cache that somebody marked to stay there."""
        self.call(self.cuda.cuCtxResetPersistingL2Cache())

    def finish(self) -> None:
        """Wait for what the judge itself asked for."""
        self.call(self.cuda.cuCtxSynchronize())

    @cached_property
    def kernels(self) -> Kernels:
        """The judge's own."""
        return Kernels(self)

    def probe(self) -> float:
        """Seconds that the device takes to answer."""
        begun = time.perf_counter()
        self.call(self.cuda.cuMemsetD8Async(self._scratch, 0, PROBE_BYTES, 0))
        self.call(self.cuda.cuCtxSynchronize())
        return time.perf_counter() - begun

    def rest(self) -> float | None:
        """The moment at which nobody worked on it any more; None where it never came.

        Between two answers others get their turn: work that waited for other work, so that the
        device had nothing to do for a moment, goes on in that pause, and the next answer is slow.
        """
        deadline = time.perf_counter() + REST_SECONDS
        while (moment := self._asked()) < deadline:
            time.sleep(PAUSE_SECONDS)
            if self.probe() < QUICK_SECONDS:
                return moment
        return None

    def _asked(self) -> float:
        self.probe()
        return time.perf_counter()

    def rests(self) -> bool:
        """Whether nobody works on it now; the judge asked it last, so that it answers at once."""
        return self.probe() < QUICK_SECONDS


class Segment(NamedTuple):
    """A runner's allocation."""

    handle: str
    base: int
    nbytes: int
    here: int
    """Where it is mapped for the judge."""


class Reach:
    """What the judge can read of one runner's memory on the device."""

    def __init__(self, device: Device) -> None:
        self._device, self._cuda = device, device.cuda
        self._segments: dict[int, Segment] = {}

    def learn(self, handles: Mapping[str, tuple[int, int]]) -> None:
        """Take hold of allocations by their handles; what cannot be had stays out of reach."""
        for handle, (base, nbytes) in handles.items():
            known = self._segments.get(base)
            if known is not None and known.handle == handle:
                continue
            if known is not None:
                self._cuda.cuIpcCloseMemHandle(self._segments.pop(base).here)
            opened = self._cuda.CUipcMemHandle()
            opened.reserved = bytes.fromhex(handle)
            error, here = self._cuda.cuIpcOpenMemHandle(opened, 1)
            if not int(error):
                self._device.shares = True
                self._segments[base] = Segment(handle, base, nbytes, int(here))

    def place(self, extent: Extent) -> int | None:
        """Where bytes of the runner are for the judge; None where they are out of reach."""
        for segment in self._segments.values():
            past = extent.address - segment.base
            if 0 <= past <= segment.nbytes - extent.nbytes:
                return segment.here + past
        return None

    def read(self, extents: Sequence[Extent], block: Array) -> bool:
        """Copy the runner's memory into a block; False where some is out of reach."""
        return self._copy(extents, block.ctypes.data, self._cuda.cuMemcpyDtoH)

    def keep(self, extents: Sequence[Extent], place: int) -> bool:
        """The same into memory of the device."""
        return self._copy(extents, place, self._cuda.cuMemcpyDtoD)

    def _copy(self, extents: Sequence[Extent], target: int, copy: Any) -> bool:
        wanted = [extent for extent in extents if extent.nbytes]
        places = [self.place(extent) for extent in wanted]
        if None in places:
            return False
        for extent, place in zip(wanted, places, strict=True):
            self._device.call(copy(target + extent.offset, place, extent.nbytes))
        self._device.finish()
        return True

    def close(self) -> None:
        """Let go of everything; memory that is not let go of outlives its runner.

        Any thread may: the driver refuses one that has not entered.
        """
        with suppress(Lost):
            self._device.enter()
        while self._segments:
            self._cuda.cuIpcCloseMemHandle(self._segments.popitem()[1].here)


class Shared:
    """An allocation on the device that other processes can map."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self._device, cuda = device, device.cuda
        properties = cuda.CUmemAllocationProp()
        properties.type = cuda.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        properties.location.type = cuda.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        properties.location.id = device.index
        kind = cuda.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
        properties.requestedHandleTypes = kind
        least = cuda.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
        unit = device.call(cuda.cuMemGetAllocationGranularity(properties, least))
        self.nbytes = -(-nbytes // unit) * unit
        self._handle = device.call(cuda.cuMemCreate(self.nbytes, properties, 0))
        self.fd = int(device.call(cuda.cuMemExportToShareableHandle(self._handle, kind, 0)))
        self.place = int(device.call(cuda.cuMemAddressReserve(self.nbytes, 0, 0, 0)))
        device.call(cuda.cuMemMap(self.place, self.nbytes, 0, self._handle, 0))
        access = cuda.CUmemAccessDesc()
        access.location = properties.location
        access.flags = cuda.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        device.call(cuda.cuMemSetAccess(self.place, self.nbytes, [access], 1))

    def write(self, offset: int, content: Array) -> None:
        """From the judge's memory."""
        address, nbytes = content.ctypes.data, content.nbytes
        self._device.call(self._device.cuda.cuMemcpyHtoD(self.place + offset, address, nbytes))

    def read(self, offset: int, target: Array) -> None:
        """Into the judge's memory."""
        address, nbytes = target.ctypes.data, target.nbytes
        self._device.call(self._device.cuda.cuMemcpyDtoH(address, self.place + offset, nbytes))

    def take(self, place: int, nbytes: int) -> None:
        """From elsewhere on the device."""
        self._device.call(self._device.cuda.cuMemcpyDtoD(self.place, place, nbytes))
        self._device.finish()

    def close(self) -> None:
        """Give it up; runners that mapped it keep their view."""
        cuda = self._device.cuda
        cuda.cuMemUnmap(self.place, self.nbytes)
        cuda.cuMemAddressFree(self.place, self.nbytes)
        cuda.cuMemRelease(self._handle)
        os.close(self.fd)


class DeviceBlock(Block):
    """A block whose runners map memory of the device; what the judge writes is copied there."""

    def __init__(self, device: Device, nbytes: int) -> None:
        super().__init__(nbytes)
        self._there = Shared(device, self.nbytes)
        self.device_bytes = self._there.nbytes

    @property
    def shared(self) -> int:
        """The descriptor of the memory that runners map."""
        return self._there.fd

    @property
    def place(self) -> int:
        """Where it lies on the device."""
        return self._there.place

    def publish(self, index: int, nbytes: int) -> None:
        """Copy a part to the device."""
        self._there.write(index * nbytes, self.part(index, nbytes))

    def adopt(self, place: int, nbytes: int) -> None:
        """Take what lies elsewhere on the device."""
        self._there.take(place, nbytes)

    def fetch(self, index: int, nbytes: int) -> None:
        """Copy a part from the device."""
        self._there.read(index * nbytes, self.part(index, nbytes))

    def close(self) -> None:
        """Forget it; runners that mapped it keep their view."""
        self._there.close()
        super().close()
