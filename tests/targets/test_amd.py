import pytest

from kernelevolve.config import RunConfig
from kernelevolve.core.errors import UsageError
from kernelevolve.targets.amd import Amd
from kernelevolve.testing.contracts.target import TargetContract
from kernelevolve.wiring import Parts


class TestAmdContract(TargetContract):
    name = "amd"


@pytest.mark.parametrize(
    ("arch", "threads", "registers", "shared", "waves", "limit"),
    [
        ("gfx942", 256, 64, 0, 8, "threads"),
        ("gfx942", 256, 65, 0, 7, "registers"),
        ("gfx90a", 256, 128, 0, 4, "registers"),
        ("gfx942", 256, 170, 0, 2, "registers"),
        ("gfx942", 256, 512, 0, 1, "registers"),
        ("gfx942", 256, 32, 33 << 10, 1, "shared memory"),
        ("gfx942", 256, 32, (64 << 10) + 1, 0, "shared memory"),
        ("gfx950", 256, 32, (64 << 10) + 1, 2, "shared memory"),
        ("gfx942", 64, 32, 0, 8, "threads"),
    ],
)
def test_occupancy_is_what_the_compiler_says_for_these(
    arch, threads, registers, shared, waves, limit
):
    """Wavefronts of a SIMD, as LLVM's `; Occupancy:` counts them."""
    (spec,) = [s for s in Amd().discover() if s.arch == arch]
    held = spec.multiprocessor.occupancy(threads, registers, shared)
    assert (held.blocks * threads // 64 // 4, held.limit) == (waves, limit)


@pytest.mark.parametrize("target", ["amd", "amd:gfx90", "amd:gfx942:0"])
def test_what_is_not_here_is_one_error_that_names_what_is_emulated(target):
    with pytest.raises(UsageError) as told:
        Parts.of(RunConfig(target=target, language="hip"))
    assert f"target {target!r} is not on this machine" in str(told.value)
    assert "amd:gfx90a, amd:gfx942, amd:gfx950" in str(told.value)


def test_nothing_is_searched_for_by_a_time_that_is_not_there():
    parts = Parts.of(RunConfig(target="amd:gfx942", language="hip"))
    with pytest.raises(UsageError, match="emulated on this machine"):
        _ = parts.timed
