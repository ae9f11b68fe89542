"""What the built-in programmer writes in Triton: interpreted and compared, and compiled."""

import json
import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from kernelevolve.programmers.builtin.schedule import Plan

from .test_simt import TASKS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def _asked(what, folder, interpret, body, workloads, unseen=(), plan=None, mode=None):
    asked = {"folder": str(folder), "body": body, "workloads": workloads, "mode": mode}
    asked |= {"plan": (plan or Plan()).model_dump(), "unseen": unseen}
    done = subprocess.run(
        [sys.executable, "-m", "tests.programmers.triton_kit", what],
        input=json.dumps(asked),
        env={**os.environ, "TRITON_INTERPRET": interpret},  # noqa: TID251  of that process
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.fixture
def in_triton(tmp_path):
    """What is written for a task, after a comparison in a process that interprets it."""
    return partial(_asked, "compare", tmp_path, "1")


@pytest.fixture
def for_device(tmp_path):
    """The kernels of a task, compiled for sm_90."""
    return partial(_asked, "compile", tmp_path, "0")


QUICK = ("norms",)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in TASKS]
)
def test_kernels_are_right_at_sizes_that_were_never_seen(in_triton, name):
    body, seen, unseen, mode = TASKS[name]
    made = in_triton(
        body.replace("bfloat16()", "half()").replace("bfloat16", "half"), seen, unseen, mode=mode
    )
    assert not made["all"] and "@triton.jit" in made["model"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_the_compiler_for_the_device_takes_all_of_it(for_device, name):
    body, seen, _, mode = TASKS[name]
    for kernel in for_device(body, seen, mode=mode):
        assert kernel["shared"] <= 227 * 1024, kernel
