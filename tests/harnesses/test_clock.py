"""Honest candidates that look as if they reached for the clock, and one that reaches in vain."""

import pytest

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Stage

pytestmark = pytest.mark.slow  # the red-team suite has those that cheat

TASK = """
class Model(nn.Module):
    def forward(self, x):
        return torch.tanh(torch.tanh(torch.tanh(x)))

def get_inputs():
    return [torch.randn(96, 512)]
"""
RIGHT = "torch.tanh(torch.tanh(torch.tanh(x)))"
SLOWS_ITS_CLOCK = f"""
from kernelevolve.evaluation import modules

class Slow:
    real = modules.time.perf_counter
    @classmethod
    def perf_counter(cls):
        return cls.real() / 1000
modules.time = Slow

class ModelNew(nn.Module):
    def forward(self, x):
        return {RIGHT}
"""
PROBES = {Detector.ADVERSARIAL, Detector.METAMORPHIC, Detector.LINEAR, Detector.ALIASING}
"""They find a wrong call too, by luck and earlier."""


def test_a_slowed_clock_gains_nothing_but_where_it_is_believed(bench):
    task = bench.task(TASK)
    found = bench.verdict(task, SLOWS_ITS_CLOCK, Stage.BENCHMARK)
    assert found.ok, found.message
    believed = bench.verdict(task, SLOWS_ITS_CLOCK, Stage.BENCHMARK, without={Detector.CLOCK})
    assert believed.score > 20 * found.score


HONEST = {
    "own thread pool": f"""
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(2)

class ModelNew(nn.Module):
    def forward(self, x):
        out = torch.empty_like(x)
        def half(part):
            out[part].copy_({RIGHT.replace("(x)", "(x[part])")})
        list(pool.map(half, [slice(0, 48), slice(48, None)]))
        return out
""",
    "compiled at the first call": f"""
class ModelNew(nn.Module):
    compiled = None
    def forward(self, x):
        if self.compiled is None:
            self.compiled = torch.compile(lambda x: {RIGHT}, backend="eager")
        return self.compiled(x)
""",
    "an idle thread of its own": f"""
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()

class ModelNew(nn.Module):
    def forward(self, x):
        return {RIGHT}
""",
    "a part of a larger tensor, transposed": f"""
class ModelNew(nn.Module):
    def forward(self, x):
        wide = torch.empty(600, 100)
        wide.t()[2:98, :512].copy_({RIGHT})
        return wide.t()[2:98, :512]
""",
}


@pytest.mark.parametrize("model", HONEST.values(), ids=HONEST)
def test_an_honest_one_passes(bench, model):
    found = bench.verdict(bench.task(TASK), model, Stage.BENCHMARK)
    assert found.ok, found.message


def test_threads_that_are_started_in_each_call_are_honest_and_timed_call_by_call(bench):
    starts = f"""
import threading

class ModelNew(nn.Module):
    def forward(self, x):
        out = []
        thread = threading.Thread(target=lambda: out.append({RIGHT}))
        thread.start()
        thread.join()
        return out[0]
"""
    found = bench.verdict(bench.task(TASK), starts, Stage.BENCHMARK)
    assert found.ok, found.message
    assert any("each call was timed alone" in remark for remark in found.remarks)
    pool = bench.verdict(bench.task(TASK), HONEST["own thread pool"], Stage.BENCHMARK)
    assert not any("each call was timed alone" in remark for remark in pool.remarks)


def test_calls_of_nested_outputs_are_read_where_they_lie(bench):
    task = bench.task("""
class Model(nn.Module):
    def forward(self, x):
        return {"a": (torch.tanh(x), x.sum(-1)), "b": [x.t().to(torch.bfloat16), 3]}

def get_inputs():
    return [torch.randn(96, 512)]
""")
    right = """
class ModelNew(nn.Module):
    calls = 0
    def forward(self, x):
        self.calls += 1
        b = x.t().to(torch.bfloat16)
        return {"a": (torch.tanh(x), x.sum(-1)), "b": [b, 3]}
"""
    assert bench.verdict(task, right, Stage.BENCHMARK, without=PROBES).ok
    wrong = right.replace("return", "b[5, 3] += 8 * (self.calls > 9); return")
    found = bench.verdict(task, wrong, Stage.BENCHMARK, without=PROBES)
    assert found.detector is Detector.TIMED_CALLS, found.message
    assert "['b'][0]" in found.message
