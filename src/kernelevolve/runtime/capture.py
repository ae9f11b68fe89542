"""CUDA graphs by the driver: what PyTorch captures, with kernels whose arguments can be changed."""

import ctypes
from collections.abc import Hashable, Sequence
from typing import Any

import torch

from kernelevolve.runtime.graphs import Launch, Node, Recorded, slots

KERNEL = 0
"""The type of a node that is a kernel."""
WIDEST = 8
"""Bytes of an argument that is a pointer or a number."""


class Parameters(ctypes.Structure):
    """`CUDA_KERNEL_NODE_PARAMS_v2` of the driver."""

    _fields_ = (
        ("function", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
        ("extra", ctypes.c_void_p),
        ("kernel", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
    )


class Kernel(Node):
    """A kernel of a graph, as the driver describes it."""

    def __init__(self, handle: Any, found: Parameters, values: Sequence[Any]) -> None:
        super().__init__(handle, values, ())
        self.found = found
        self.pointers = (ctypes.c_void_p * max(1, len(values)))(*map(ctypes.addressof, values))
        found.arguments = ctypes.cast(self.pointers, ctypes.POINTER(ctypes.c_void_p))


class Cuda:
    """The GPU whose tensors they are."""

    def __init__(self) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")

    def stream(self, tensor: Any) -> Hashable:
        """The current stream of the current device, if the tensor is there."""
        index = tensor.get_device()
        if index != torch._C._cuda_getDevice() or torch.cuda.is_current_stream_capturing():
            return None
        return index, torch._C._cuda_getCurrentRawStream(index)

    def record(self, launch: Launch, tensors: Sequence[Any]) -> Recorded:
        """Capture them on a stream of its own, in memory of their own."""
        index = tensors[0].get_device()
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        with torch.cuda.stream(torch.cuda.Stream(index)):  # type: ignore[no-untyped-call]
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                launch(*tensors)
            finally:
                graph.capture_end()
        raw = ctypes.c_void_p(graph.raw_cuda_graph())
        addresses = [tensor.data_ptr() for tensor in tensors]
        nodes = [self._kernel(handle) for handle in self._nodes(raw)]
        for node in nodes:
            node.slots = slots(node.values, addresses)
        executable = ctypes.c_void_p()
        self._ask(
            "cuGraphInstantiateWithFlags", ctypes.byref(executable), raw, ctypes.c_ulonglong()
        )
        return Recorded(executable, nodes, graph)

    def update(self, recorded: Recorded, node: Node) -> None:
        """Launches that are queued already keep what they were given."""
        assert isinstance(node, Kernel)
        found = ctypes.byref(node.found)
        self._ask("cuGraphExecKernelNodeSetParams_v2", recorded.executable, node.handle, found)

    def launch(self, recorded: Recorded, stream: Any) -> None:
        """On that stream."""
        self._ask("cuGraphLaunch", recorded.executable, ctypes.c_void_p(stream[1]))

    def _nodes(self, graph: ctypes.c_void_p) -> list[ctypes.c_void_p]:
        count = ctypes.c_size_t()
        self._ask("cuGraphGetNodes", graph, None, ctypes.byref(count))
        found = (ctypes.c_void_p * max(1, count.value))()
        self._ask("cuGraphGetNodes", graph, found, ctypes.byref(count))
        return [ctypes.c_void_p(found[number]) for number in range(count.value)]

    def _kernel(self, handle: ctypes.c_void_p) -> Kernel:
        kind = ctypes.c_int()
        self._ask("cuGraphNodeGetType", handle, ctypes.byref(kind))
        if kind.value != KERNEL:
            raise RuntimeError("a graph of more than kernels")
        found = Parameters()
        self._ask("cuGraphKernelNodeGetParams_v2", handle, ctypes.byref(found))
        return Kernel(handle, found, self._values(found))

    def _values(self, found: Parameters) -> list[Any]:
        """Copies of a kernel's arguments: what the driver shows is the graph's own."""
        if not found.arguments:
            raise RuntimeError("a kernel whose arguments are in one piece")
        which = "cuFuncGetParamInfo" if found.function else "cuKernelGetParamInfo"
        kernel = ctypes.c_void_p(found.function or found.kernel)
        offset, size = ctypes.c_size_t(), ctypes.c_size_t()
        values: list[Any] = []
        while (
            self._call(
                which,
                kernel,
                ctypes.c_size_t(len(values)),
                ctypes.byref(offset),
                ctypes.byref(size),
            )
            == 0
        ):
            if size.value > WIDEST:
                raise RuntimeError("a kernel with an argument that is no number")
            value = ctypes.c_uint64()
            ctypes.memmove(ctypes.byref(value), found.arguments[len(values)], size.value)
            values.append(value)
        return values

    def _call(self, name: str, *given: Any) -> int:
        return int(getattr(self._driver, name)(*given))

    def _ask(self, name: str, *given: Any) -> None:
        error = self._call(name, *given)
        if error:
            raise RuntimeError(f"{name}: error {error} of the driver")
