"""What a candidate may leave changed in its own process, and what it must set back."""

import pytest

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Stage, Status

pytestmark = pytest.mark.slow  # the red-team suite has an exploit of each kind

TASK = """
class Model(nn.Module):
    def forward(self, x):
        return torch.relu(x) * 2

def get_inputs():
    return [torch.randn(32, 48)]
"""
HEAD = """
import os, signal, sys, threading
import numpy as np
from concurrent.futures import ThreadPoolExecutor
"""


def verdict(bench, body: str, before: str = ""):
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    model = f"{HEAD}{before}\nclass ModelNew(nn.Module):\n    def forward(self, x):\n{lines}\n"
    return bench.verdict(bench.task(TASK), model)


RIGHT = "return torch.relu(x) * 2"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ("torch.set_num_threads(2)", "threads"),
        ("torch.set_flush_denormal(True)", "floating-point modes"),
        ("torch.use_deterministic_algorithms(True)", "deterministic algorithms"),
        ("torch.set_float32_matmul_precision('medium')", "matmul precision"),
        ("torch.backends.mkldnn.enabled = False", "backends"),
        ("torch.set_default_dtype(torch.float64)", "default dtype"),
        ("os.environ['OMP_NUM_THREADS'] = '2'", "environment of libraries"),
        ("sys.settrace(lambda *_: None)", "tracing"),
        ("signal.setitimer(signal.ITIMER_REAL, 600)", "alarm"),
        ("os.chdir('/')", "the current folder is /"),
        (
            "'kept' in globals() or globals().update(kept=[os.dup(1) for _ in range(100)])",
            "descriptors",
        ),
    ],
)
def test_what_alters_numbers_or_the_driver_must_be_set_back(bench, change, names):
    found = verdict(bench, f"{change}\n{RIGHT}")
    assert (found.status, found.detector) == (Status.REJECTED, Detector.STATE), found.message
    assert names in found.message


def test_a_detector_that_is_off_does_not_object(bench):
    body = f"class ModelNew(nn.Module):\n    def forward(self, x):\n        {RIGHT}\n"
    text = f"torch.set_default_dtype(torch.float64)\n{body}"
    assert bench.verdict(bench.task(TASK), text).detector is Detector.STATE
    off = bench.verdict(bench.task(TASK), text, without=frozenset({Detector.STATE}))
    assert off.status is Status.OK


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("os.environ['MY_KERNEL'] = '1'", "state_environment"),
        ("sys.path.append('/tmp')", "state_import_path"),
        ("np.seterr(all='ignore')", "state_numpy_errors"),
        ("signal.signal(signal.SIGUSR1, signal.SIG_IGN)", "state_signal_handlers"),
    ],
)
def test_harmless_changes_are_noted(bench, change, rule):
    found = verdict(bench, f"{change}\n{RIGHT}")
    assert found.status is Status.OK, found.message
    assert rule in {flag.rule for flag in found.flags}


HONEST = {
    "thread pool": (
        "a, b = pool.map(torch.relu, x.chunk(2))\nreturn torch.cat([a, b]) * 2",
        "pool = ThreadPoolExecutor(4)",
    ),
    "set back": (
        "before = torch.get_num_threads()\ntorch.set_num_threads(2)\ny = torch.relu(x) * 2\n"
        "torch.set_num_threads(before)\nreturn y",
        "",
    ),
    "a child that has ended": (
        "pid = os.fork()\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0)\n" + RIGHT,
        "",
    ),
    "a context of its own": (
        "with torch.no_grad(), torch.autocast('cpu', enabled=False): " + RIGHT,
        "",
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_kernels_pass(bench, name):
    found = verdict(bench, *HONEST[name])
    assert found.status is Status.OK, found.message


def test_own_threads_are_counted(bench):
    found = verdict(bench, *HONEST["thread pool"])
    assert "threads" in {flag.rule for flag in found.flags}


@pytest.mark.slow
@pytest.mark.needs_gxx
def test_a_kernel_may_compile_itself(bench):
    before = "work = torch.compile(lambda x: torch.relu(x) * 2)"
    body = "class ModelNew(nn.Module):\n    def forward(self, x):\n        return work(x)\n"
    found = bench.verdict(bench.task(TASK), f"{before}\n{body}", run_seconds=100)
    assert found.status is Status.OK, found.message


@pytest.mark.parametrize("leaks", [True, False])
def test_memory_that_is_never_freed_is_flagged(bench, leaks):
    kept = "kept.append(torch.ones(1 << 18)); " if leaks else ""
    model = f"""
kept = []
class ModelNew(nn.Module):
    def forward(self, x):
        {kept}return torch.relu(x) * 2
"""
    found = bench.verdict(bench.task(TASK), model, Stage.BENCHMARK)
    assert found.ok, found.message
    assert ("memory_grows" in {flag.rule for flag in found.flags}) == leaks
