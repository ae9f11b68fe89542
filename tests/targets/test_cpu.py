import pytest

from kernelevolve.core.errors import UsageError
from kernelevolve.core.target import Address, Bandwidth, Peaks
from kernelevolve.targets.cpu import Cpu
from kernelevolve.testing.contracts.target import TargetContract


@pytest.mark.needs_gxx
class TestCpuContract(TargetContract):
    name = "cpu"


def test_environment_matches_the_lane() -> None:
    spec = Cpu().discover()[0].model_copy(update={"cores": (0, 1, 2)})
    assert Cpu().environment(spec)["OMP_NUM_THREADS"] == "3"


def test_bandwidth_is_that_of_the_level_that_fits() -> None:
    rows = [Bandwidth(working_set=w, bytes_per_second=r) for w, r in ((10, 9.0), (20, 5.0))]
    peaks = Peaks(bandwidth=tuple(rows))
    assert [peaks.bandwidth_for(size) for size in (5, 10, 11, 99)] == [9.0, 9.0, 5.0, 5.0]


@pytest.mark.parametrize("text", ["", "cpu:", ":x", "cpu:x86_64:zero", "a:b:0:d"])
def test_malformed_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(text)
