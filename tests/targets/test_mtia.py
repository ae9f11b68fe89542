import pytest
import torch

from kernelevolve.runtime.mtia.machine import machines
from kernelevolve.targets.mtia import Mtia
from kernelevolve.testing.contracts.target import TargetContract


class TestMtiaContract(TargetContract):
    name = "mtia"


def test_every_chip_is_simulated():
    found = {spec.address: spec.fidelity for spec in Mtia().discover()}
    assert found == dict.fromkeys(("mtia:1", "mtia:2i", "mtia:300"), "simulated")


@pytest.mark.parametrize(
    ("arch", "tflops"), [("1", 51.2), ("2i", 177), ("300", 560)], ids=["1", "2i", "300"]
)
def test_peaks_are_the_published_ones(arch, tflops):
    (spec,) = [s for s in Mtia().discover() if s.arch == arch]
    assert spec.peaks.flops["float16"] * 1e-12 == pytest.approx(tflops, rel=0.03)


def test_every_constant_says_where_it_comes_from():
    kinds = {"public", "derived", "assumed", "fitted"}
    for machine in machines().values():
        for name, constant in machine.constants.items():
            assert constant.kind in kinds, name
            assert len(constant.source) > 10, name
    fitted = [c for m in machines().values() for c in m.constants.values() if c.kind == "fitted"]
    assert len(fitted) == 3


def us(call, *inputs):
    spec = next(s for s in Mtia().discover() if s.arch == "2i")
    return Mtia().profile(spec, lambda: call(*inputs), inputs)["simulated_us"]


def test_each_operator_is_a_launch_and_views_are_none():
    x = torch.randn(64, 64)
    one, two = us(torch.relu, x), us(lambda x: torch.relu(x.T) + 1, x)
    assert 1.0 < one < 1.1
    assert two - one == pytest.approx(0.5, abs=0.1)
    assert us(lambda x: torch.empty_like(x.view(-1)[3:]), x) == 0


def test_weights_come_from_dram_and_activations_from_sram():
    x, weight = torch.randn(16, 1 << 11).half(), torch.randn(1 << 11, 1 << 11).half()
    moved = (2 * 16 + (1 << 11)) * (1 << 11) * 2
    assert us(lambda x: x @ weight, x) - 1 == pytest.approx((1 << 23) / 204.8e9 * 1e6)
    assert us(lambda x, w: x @ w, x, weight) - 1 == pytest.approx(moved / 2.7e12 * 1e6)


def test_what_sram_cannot_hold_lies_in_dram():
    x = torch.zeros(60 << 20)
    assert us(torch.neg, x) - 1 == pytest.approx(2 * x.nbytes / 204.8e9 * 1e6)
