"""Graphs of kernels: what is recorded, what is told to whom, and when kernels run one by one."""

import ctypes
from dataclasses import dataclass, field

import pytest

from kernelevolve.runtime import graphs
from kernelevolve.runtime.graphs import Node, Recorded, Replay, slots


@dataclass
class Tensor:
    address: int
    is_cuda: bool = True

    def data_ptr(self):
        return self.address


@dataclass
class Gpu:
    """Numbers by address, and kernels that are Python functions of addresses."""

    memory: dict = field(default_factory=dict)
    recording: list | None = None
    told: list = field(default_factory=list)
    launched: int = 0
    failing: str = ""
    room: int = 0

    def queue(self, kernel, *tensors):
        addresses = [t.address for t in tensors]
        if self.recording is None:
            kernel(self.memory, *addresses)
        else:
            self.recording.append((kernel, [ctypes.c_uint64(a) for a in addresses]))

    def allocated(self):
        self.room += 16
        return Tensor(1 << 20 | self.room)

    def stream(self, tensor):
        return 7

    def record(self, launch, tensors):
        if self.failing == "record":
            raise RuntimeError("no graph")
        self.recording = []
        launch(*tensors)
        found, self.recording = self.recording, None
        where = [t.address for t in tensors]
        nodes = [Node(kernel, values, slots(values, where)) for kernel, values in found]
        graph = [(kernel, [v.value for v in values]) for kernel, values in found]
        return Recorded(graph, nodes, None)

    def update(self, recorded, node):
        self.told.append(node.handle)
        place = recorded.nodes.index(node)
        recorded.executable[place] = (node.handle, [v.value for v in node.values])

    def launch(self, recorded, stream):
        if self.failing == "launch":
            raise RuntimeError("refused")
        self.launched += 1
        for kernel, addresses in recorded.executable:
            kernel(self.memory, *addresses)


def double(memory, x, y):
    memory[y] = 2 * memory[x]


def again(memory, x, y):
    memory[y] = 2 * memory[x]


def add(memory, x, w, y):
    memory[y] = memory[x] + memory[w]


def work(gpu, x, w, out):
    """out = 4 x + w, through two numbers in between."""
    once, twice = gpu.allocated(), gpu.allocated()
    gpu.queue(double, x, once)
    gpu.queue(again, once, twice)
    gpu.queue(add, twice, w, out)


WEIGHT = Tensor(96)


def called(gpu, replay, x, address, sizes=(8,)):
    """One call, with its input and its result at addresses of their own."""
    gpu.memory |= {address: x, WEIGHT.address: 3}
    result = Tensor(address + 16)
    replay(lambda *t: work(gpu, *t), (Tensor(address), WEIGHT, result), sizes)
    return gpu.memory[result.address]


def test_a_graph_reads_this_calls_tensors_and_leaves_older_results():
    gpu = Gpu()
    replay = Replay(lambda: gpu)
    made = [called(gpu, replay, x, 1024 * (x + 1)) for x in range(5)]
    assert made == [3, 7, 11, 15, 19] and gpu.launched == 4
    assert [gpu.memory[1024 * (x + 1) + 16] for x in range(5)] == made
    assert gpu.told == [double, add] * 3
    called(gpu, replay, 9, 1024 * 5)
    assert len(gpu.told) == 6


def test_what_decides_the_launches_has_a_graph_of_its_own():
    gpu = Gpu()
    replay = Replay(lambda: gpu)
    for _ in range(3):
        for size in range(graphs.KEPT + 1):
            assert called(gpu, replay, 1, 1024, (size,)) == 7
    assert gpu.launched == 2 * graphs.KEPT


@pytest.mark.parametrize("failing", ["record", "launch"])
def test_without_a_graph_kernels_run_one_by_one(failing):
    gpu = Gpu(failing=failing)
    replay = Replay(lambda: gpu)
    assert [called(gpu, replay, x, 1024) for x in range(4)] == [3, 7, 11, 15]
    gpu.failing = ""
    assert called(gpu, replay, 4, 1024) == 19 and gpu.launched == 0


def test_addresses_that_kernels_were_not_compiled_for_are_not_replayed():
    gpu = Gpu()
    replay = Replay(lambda: gpu)
    assert [called(gpu, replay, x, 1028) for x in range(4)] == [3, 7, 11, 15]
    assert gpu.launched == 0


def test_tensors_at_one_address_are_not_told_apart():
    with pytest.raises(ValueError, match="one address"):
        slots([ctypes.c_uint64(64)], [64, 64])


def test_a_kernel_of_a_graph_is_laid_out_as_the_driver_has_it():
    driver = pytest.importorskip("cuda.bindings.driver", reason='pip install "kernelevolve[cuda]"')
    from kernelevolve.runtime.capture import Parameters

    theirs = driver.CUDA_KERNEL_NODE_PARAMS_v2()
    theirs.gridDimY, theirs.blockDimX, theirs.sharedMemBytes, theirs.extra = 5, 96, 4096, 77
    mine = Parameters.from_address(theirs.getPtr())
    assert (mine.grid[1], mine.block[0], mine.shared, mine.extra) == (5, 96, 4096, 77)
    mine.context = 55
    assert int(theirs.ctx) == 55
