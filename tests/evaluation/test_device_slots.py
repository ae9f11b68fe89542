"""Contents of slots on a device, with host memory and NumPy in the device's place."""

from ctypes import c_uint8, memmove, string_at
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest

from kernelevolve.evaluation import device_slots
from kernelevolve.evaluation.device_slots import SHARE, DeviceRing, DeviceSlots

TASK = """
class Model(nn.Module):
    def forward(self, x, scale, index):
        return (x * scale)[index]

def get_inputs():
    return [torch.randn(300, 401), torch.randn(401), torch.randint(0, 300, (64,))]
"""


class HostMemory:
    """In the place of memory on a device."""

    def __init__(self, device, nbytes):
        self.nbytes, self.fd = nbytes, -1
        self._bytes = np.zeros(nbytes, np.uint8)
        self.place = self._bytes.ctypes.data

    def write(self, offset, content):
        self._bytes[offset : offset + content.nbytes] = content.view(np.uint8).ravel()

    def read(self, offset, target):
        target[:] = self._bytes[offset : offset + target.nbytes]

    def close(self):
        pass


class HostDevice:
    """In the place of a device."""

    def __init__(self):
        def copy(target, source, nbytes, stream):
            memmove(target, source, nbytes)
            return (0,)

        self.cuda = SimpleNamespace(cuMemcpyDtoDAsync=copy)
        self.kernels = self

    def call(self, result):
        assert not result[0]

    def finish(self):
        pass

    def differ(self, a, b, nbytes):
        return string_at(a, nbytes) != string_at(b, nbytes)

    def cross(self, size, count, places, slots, others, shifts):
        def elements(address):
            memory = (c_uint8 * (size * count)).from_address(int(address))
            return np.frombuffer(memory, np.uint8).reshape(count, size)

        for slot, other, shift in zip(slots, others, shifts, strict=True):
            at = (places + shift) % np.uint64(count)
            elements(slot)[at] = elements(other)[at]


@pytest.fixture
def slots(suite_of, monkeypatch):
    monkeypatch.setattr(device_slots, "Shared", HostMemory)
    suite = suite_of(TASK)
    prepared = suite.bench.prepared
    nbytes = prepared.inputs.nbytes
    ring = DeviceRing(HostDevice(), prepared.contents, nbytes, memory=SHARE * 40 * nbytes)
    made = DeviceSlots(prepared, ring, Random("slots"), suite.fresh.crossing)
    made.reset()
    return made


def test_the_judge_makes_the_same_contents_as_the_device(slots):
    slots.widen(40)
    for _ in range(3):
        slots.freshen(slots.secret(), len(slots))
        assert slots.unchanged(range(len(slots)))
        assert all((slots.seen(n) == slots.values(n)).all() for n in range(len(slots)))


def test_no_contents_come_twice(slots):
    slots.widen(40)
    seen = set()
    for _ in range(5):
        slots.freshen(slots.secret(), len(slots))
        seen |= {slots.seen(slot).tobytes() for slot in range(len(slots))}
    assert len(slots) == 40
    assert len(seen) == 5 * 40


def test_only_those_change_that_are_to_be_called(slots):
    slots.widen(40)
    before = [slots.seen(slot) for slot in range(40)]
    slots.freshen(38, 4)
    changed = {n for n in range(40) if (slots.seen(n) != before[n]).any()}
    assert changed == {38, 39, 0, 1}
    assert slots.content(38) is None
    assert slots.content(2) is not None


def test_there_is_room_for_as_many_as_memory_allows(slots):
    slots.widen(10_000)
    assert len(slots) == 40


def test_inputs_that_calls_changed_are_told_and_put_back(slots):
    slots.freshen(0, len(slots))
    spoilt = slots.seen(1)
    spoilt[0] ^= 1
    slots.put(1, spoilt)
    assert slots.unchanged({0})
    assert not slots.unchanged({1})
    slots.fill({1})
    assert slots.unchanged({1})


def test_a_reset_brings_back_the_pool_s_sets(slots):
    slots.widen(40)
    slots.freshen(0, 40)
    slots.reset()
    assert {slots.content(n) for n in range(len(slots))} == set(range(3))
    assert slots.content(slots.where(2)) == 2
