"""A runner's view of device memory that the judge gave it. Runs in runners only."""

from typing import Any

import torch
from torch import Tensor

from kernelevolve.evaluation.layout import Leaf
from kernelevolve.evaluation.tensors import DTYPES, Memory

HANDLES = 64
"""Allocations that are described at once."""


class Span:
    """Bytes of the device, in the form that PyTorch takes them."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 2,
        }


class DeviceMemory(Memory):
    """A block of the judge's on the device, mapped into this process."""

    def __init__(self, flat: Tensor) -> None:
        self.flat = flat
        self.base = flat.data_ptr()
        self.nbytes = flat.numel()

    @classmethod
    def open(cls, fd: int, nbytes: int) -> "DeviceMemory":
        """Map the allocation behind a descriptor, which may be closed afterwards."""
        from cuda.bindings import driver as cuda

        kind = cuda.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
        handle = _done(cuda.cuMemImportFromShareableHandle(fd, kind))
        address = _done(cuda.cuMemAddressReserve(nbytes, 0, 0, 0))
        _done(cuda.cuMemMap(address, nbytes, 0, handle, 0))
        access = cuda.CUmemAccessDesc()
        access.location.type = cuda.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        access.location.id = torch.cuda.current_device()
        access.flags = cuda.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        _done(cuda.cuMemSetAccess(address, nbytes, [access], 1))
        _done(cuda.cuMemRelease(handle))
        return cls(torch.as_tensor(Span(int(address), nbytes), device="cuda"))

    def close(self) -> None:
        """Unmap it; no tensor over it may be used any more."""
        from cuda.bindings import driver as cuda

        torch.cuda.synchronize()
        cuda.cuMemUnmap(self.base, self.nbytes)
        cuda.cuMemAddressFree(self.base, self.nbytes)

    def holds(self, tensor: Tensor) -> bool:
        """Whether the tensor's storage lies in it."""
        begin = tensor.untyped_storage().data_ptr()
        return self.base <= begin < self.base + self.nbytes

    def view(self, leaf: Leaf, start: int = 0) -> Tensor:
        """The leaf of the block at `start`, as a tensor over this memory."""
        dtype = DTYPES[leaf.dtype]
        if leaf.span == 0:
            return torch.empty_strided(leaf.shape, leaf.stride, dtype=dtype, device="cuda")
        begin = start + leaf.offset
        flat = self.flat[begin : begin + leaf.span].view(dtype)
        return flat.as_strided(leaf.shape, leaf.stride)


def handles(addresses: list[int]) -> dict[str, list[int]]:
    """Of the allocations that addresses lie in: handles for other processes, base and bytes."""
    from cuda.bindings import driver as cuda

    found: dict[str, list[int]] = {}
    for address in addresses[:HANDLES]:
        if not address:
            continue
        error, base, nbytes = cuda.cuMemGetAddressRange(address)
        again, handle = (1, None) if int(error) else cuda.cuIpcGetMemHandle(int(base))
        if not int(again) and handle is not None:
            found[bytes(handle.reserved).hex()] = [int(base), int(nbytes)]
    return found


def _done(result: tuple[Any, ...]) -> Any:
    code, *values = result
    if int(code):
        raise RuntimeError(f"the judge's memory cannot be mapped: {code.name}")
    return values[0] if values else None
