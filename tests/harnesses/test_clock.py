"""Candidates that reach for the clock, and honest ones that look as if they did."""

import pytest

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Stage, Status

pytestmark = pytest.mark.slow  # the red-team suite has an exploit of each kind

TASK = """
class Model(nn.Module):
    def forward(self, x):
        return torch.tanh(torch.tanh(torch.tanh(x)))

def get_inputs():
    return [torch.randn(96, 512)]
"""
RIGHT = "torch.tanh(torch.tanh(torch.tanh(x)))"
FRAMES = """
import sys
from kernelevolve.evaluation import modules, runner

def frame_of(code):
    frame = sys._getframe()
    while frame.f_code is not code:
        frame = frame.f_back
    return frame.f_locals
"""
ANSWERS_EARLY = f"""{FRAMES}
class ModelNew(nn.Module):
    def forward(self, x):
        window = frame_of(modules.Subject.calls.__code__)
        if window["count"] > 1 and window["number"] == window["count"] // 3:
            channel = frame_of(runner.Runner.serve.__code__)["self"].channel
            channel.send({{"took": 1e-3}})
            channel.send = lambda reply: delattr(channel, "send")
        return {RIGHT}
"""
FILLS_LATER = f"""
import threading

class ModelNew(nn.Module):
    calls = 0
    def forward(self, x):
        self.calls += 1
        if self.calls < 12:
            return {RIGHT}
        out = torch.empty_like(x)
        threading.Timer(0.003, lambda: out.copy_({RIGHT})).start()
        return out
"""
LAST_CALL_ONLY = f"""{FRAMES}
class ModelNew(nn.Module):
    def forward(self, x):
        window = frame_of(modules.Subject.calls.__code__)
        if window["number"] == window["count"] - 1:
            return {RIGHT}
        return torch.empty_like(x)
"""
COUNTS_AT_THE_END = f"""
from kernelevolve.evaluation import modules
honest = modules.Subject.calls

def calls(self, start, count):
    if count < 2:
        return honest(self, start, count)
    self.result = self.call(self.slots[(start + count - 1) % len(self.slots)])
    bank = len(self.mailbox) // 3
    self.mailbox[1 + (count - 1) % 3 * bank] = self.result.data_ptr()
    self.mailbox[0] = count
    return 1e-4
modules.Subject.calls = calls

class ModelNew(nn.Module):
    def forward(self, x):
        return {RIGHT}
"""
WORKS_BETWEEN = f"""
from kernelevolve.evaluation import modules
restore = modules.Subject.restore
answers = {{}}

def ahead(self):
    restore(self)
    for slot in self.slots:
        x = slot["args"][0]
        for _ in range(3):
            answers[x.data_ptr()] = (x[0].clone(), {RIGHT})
modules.Subject.restore = ahead

class ModelNew(nn.Module):
    def forward(self, x):
        sign, answer = answers.get(x.data_ptr(), (None, None))
        return answer if sign is not None and torch.equal(sign, x[0]) else {RIGHT}
"""
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
CHEATS = [
    (ANSWERS_EARLY, {Detector.SETTLED, Detector.OUTSIDE_WORK, Detector.TIMED_CALLS}),
    (FILLS_LATER, {Detector.SETTLED, Detector.TIMED_CALLS}),
    (LAST_CALL_ONLY, {Detector.TIMED_CALLS}),
    (COUNTS_AT_THE_END, {Detector.TIMED_CALLS}),
    (WORKS_BETWEEN, {Detector.OUTSIDE_WORK}),
]
PROBES = {Detector.ADVERSARIAL, Detector.METAMORPHIC, Detector.LINEAR, Detector.ALIASING}
"""They find some of these cheats too, by luck and earlier."""
NAMES = ["early", "later", "last", "count", "between"]


@pytest.mark.parametrize(("model", "detectors"), CHEATS, ids=NAMES)
def test_a_cheat_is_found(bench, model, detectors):
    found = bench.verdict(bench.task(TASK), model, Stage.BENCHMARK, without=PROBES)
    assert found.status in (Status.REJECTED, Status.WRONG), found.message
    assert found.detector in detectors, found.message


@pytest.mark.parametrize(("model", "detectors"), CHEATS, ids=NAMES)
def test_it_passes_where_its_detectors_are_off(bench, model, detectors):
    found = bench.verdict(bench.task(TASK), model, Stage.BENCHMARK, without=detectors | PROBES)
    assert found.ok, found.message


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
