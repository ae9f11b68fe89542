"""What the built-in programmer writes in HIP: the text of its CUDA, with HIP's names."""

from dataclasses import replace
from functools import partial

import pytest

from kernelevolve.programmers.builtin.render import render
from kernelevolve.programmers.builtin.schedule import Blocks, Plan
from kernelevolve.runtime import hipcc

from .conftest import HEAD, captured
from .test_simt import PRODUCTS, SHAPES, TASKS, UNSEEN_SHAPES

pytestmark = pytest.mark.needs_gxx
TRIED = ("softmax", "half", "jagged")
"""Rows that share a wavefront, floats of 16 bits, and sums that blocks hand on."""


@pytest.fixture
def in_hip(check):
    return partial(check, language="hip")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_kernels_are_right_with_wavefronts_of_64(in_hip, name):
    body, seen, unseen, mode = TASKS[name]
    made = in_hip(body, seen, unseen, mode=mode, plan=Plan(blocks=Blocks(threads=32, rows=4)))
    assert not made.fallback
    assert "__global__" in made.files["kernel.hip"]


@pytest.mark.slow
def test_products_of_16_bit_floats_need_no_tensor_core(in_hip):
    made = in_hip(PRODUCTS.replace("DTYPE", "bfloat16"), SHAPES, UNSEEN_SHAPES)
    assert not made.fallback
    assert "mma.sync" not in made.files["kernel.hip"]


@pytest.mark.slow
@pytest.mark.skipif(not hipcc.compiler(), reason=hipcc.INSTALL)
def test_the_compiler_for_the_device_takes_all_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    products = {"products": (PRODUCTS.replace("DTYPE", "float16"), SHAPES, (), None)}
    for name, (body, seen, _, mode) in (TASKS | products).items():
        model = replace(captured(HEAD + body, seen, mode), language="hip")
        (tmp_path / "kernel.hip").write_text(render(model, Plan()).files["kernel.hip"])
        fine, log = hipcc.compile_file("kernel.hip", "gfx942", tmp_path / "k", [])
        assert fine, f"{name}: {log}"
