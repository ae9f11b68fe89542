import pytest

from kernelevolve.targets.nvidia import Nvidia
from kernelevolve.testing.contracts.target import TargetContract


class TestNvidiaContract(TargetContract):
    name = "nvidia"


def multiprocessor(arch):
    (found,) = [s.multiprocessor for s in Nvidia().discover() if s.arch == arch]
    return found


def test_what_is_not_here_says_so():
    assert {s.fidelity for s in Nvidia().discover()} == {"emulated"}
    assert {s.arch for s in Nvidia().discover()} == {"sm_80", "sm_90", "sm_100", "sm_120"}


@pytest.mark.parametrize(
    ("arch", "threads", "registers", "shared", "blocks", "limit"),
    [
        ("sm_90", 256, 32, 0, 8, "threads"),
        ("sm_90", 256, 33, 0, 6, "registers"),
        ("sm_90", 128, 255, 0, 2, "registers"),
        ("sm_90", 32, 16, 0, 32, "blocks"),
        ("sm_90", 128, 32, 48 << 10, 4, "shared memory"),
        ("sm_90", 128, 32, 227 << 10, 1, "shared memory"),
        ("sm_90", 128, 32, (227 << 10) + 1, 0, "shared memory"),
        ("sm_90", 1024, 65, 0, 0, "registers"),
        ("sm_120", 768, 32, 0, 2, "threads"),
        ("sm_120", 128, 32, 99 << 10, 1, "shared memory"),
    ],
)
def test_occupancy_and_what_bounds_it(arch, threads, registers, shared, blocks, limit):
    """The CUDA Occupancy Calculator's figures for these."""
    held = multiprocessor(arch).occupancy(threads, registers, shared)
    assert (held.blocks, held.limit) == (blocks, limit)
    assert held.share == blocks * threads / multiprocessor(arch).threads
