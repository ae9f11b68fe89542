import pytest

from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.job import Seeds

RELU = """
class Model(nn.Module):
    def forward(self, x):
        return torch.relu(x) * 2

def get_inputs():
    return [torch.randn(64, 48)]
"""
LINEAR = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(24, 16)
    def forward(self, x):
        return self.linear(x)

def get_inputs():
    return [torch.randn(8, 24)]
"""


def forward(body: str, before: str = "", arguments: str = "x") -> str:
    return f"""{before}
class ModelNew(nn.Module):
    def forward(self, {arguments}):
        {body}
"""


def test_one_wrong_element_is_named_with_its_values(bench):
    body = "y = torch.relu(x) * 2; y[3, 7] = 42.0; return y"
    found = bench.verdict(bench.task(RELU), forward(body))
    assert found.status is Status.WRONG
    first = found.message.splitlines()[0]
    assert "[3, 7]" in first
    assert "got 42" in first
    assert "1 of 3072" in first


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("x.mul_(0); return x + 1", Status.WRONG, "expected"),
        ("y = torch.relu(x) * 2; x.add_(1); return y", Status.REJECTED, "changes its inputs"),
        ("return x.relu_().mul_(2)", Status.REJECTED, "shares memory with an input"),
        ("return (torch.relu(x) * 2).double()", Status.WRONG, "float64[64, 48]"),
        ("return (torch.relu(x) * 2)[:, :47]", Status.WRONG, "[64, 47]"),
        ("return (torch.relu(x) * 2,)", Status.WRONG, "(tensor)"),
        ("return None", Status.WRONG, "NoneType"),
        ("return object()", Status.WRONG, "object"),
        ("y = torch.relu(x) * 2; y[0, 0] = float('nan'); return y", Status.WRONG, "got nan"),
        ("import sys; sys.exit(0)", Status.CRASHED, "SystemExit"),
        ("import os; os._exit(0)", Status.CRASHED, "exit code 0"),
        ("import os; os.kill(os.getpid(), 9)", Status.CRASHED, "SIGKILL"),
        ("import os; os.abort()", Status.CRASHED, "SIGABRT"),
        ("return torch.empty(1 << 45)", Status.OUT_OF_MEMORY, "memory"),
    ],
)
def test_broken_kernels_get_the_right_status(bench, body, status, says):
    found = bench.verdict(bench.task(RELU), forward(body))
    assert (found.status, found.score) == (status, None), found.message
    assert says in found.message


def test_a_tensor_subclass_is_rejected(bench):
    before = "class Lazy(torch.Tensor): pass"
    body = "return (torch.relu(x) * 2).as_subclass(Lazy)"
    found = bench.verdict(bench.task(RELU), forward(body, before))
    assert found.status is Status.REJECTED
    assert "Lazy" in found.message


@pytest.mark.parametrize("text", ["x = 1", "def broken(:"])
def test_no_model_is_invalid(bench, text):
    found = bench.verdict(bench.task(RELU), text)
    assert found.status is Status.INVALID


def test_wrong_only_in_a_later_call_is_found_while_timing(bench):
    before = "calls = 0"
    body = "global calls; calls += 1; return torch.relu(x) * (2 if calls < 25 else 3)"
    task, few = bench.task(RELU), {Detector.ADVERSARIAL, Detector.METAMORPHIC, Detector.LINEAR}
    assert bench.verdict(task, forward(body, before), without=few).ok
    found = bench.verdict(task, forward(body, before), Stage.BENCHMARK, without=few)
    assert found.status is Status.WRONG


def test_remembered_answer_is_found(bench):
    before = "known = {}"
    body = """
        if x.data_ptr() not in known:
            known[x.data_ptr()] = torch.relu(x) * 2
        return known[x.data_ptr()].clone()"""
    found = bench.verdict(bench.task(RELU), forward(body, before), Stage.BENCHMARK)
    assert found.status is Status.WRONG


def test_a_correct_kernel_is_timed_against_the_baseline(bench):
    found = bench.verdict(bench.task(RELU), forward("return torch.relu(x) * 2"), Stage.BENCHMARK)
    assert found.ok, found.message
    (timing,) = found.timings
    assert set(timing.baselines_us) == {"eager"}
    assert timing.low <= timing.speedup <= timing.high
    assert found.score == pytest.approx(timing.speedup)
    stages = {"build", "fork", "load", "state", "sets", "probes", "held", "audits", "windows"}
    assert stages <= set(found.stages_ms)


def test_confirm_adds_held_out_workloads_with_its_own_seed(bench):
    task = bench.task(
        RELU.replace("get_inputs()", "get_inputs(rows=8)").replace("(64, 48)", "(rows, 48)")
        + "WORKLOADS = {'a': {'rows': 16}}\nHELD_OUT = {'odd': {'rows': 7}}\n"
    )
    found = bench.verdict(
        task, forward("return torch.relu(x) * 2"), Stage.CONFIRM, seed="of the confirm"
    )
    assert found.ok, found.message
    assert [(t.workload, t.held_out) for t in found.timings] == [("a", False), ("odd", True)]
    assert found.seed == "of the confirm"
    wrong = "return torch.relu(x) * 2 if len(x) != 7 else x"
    assert bench.verdict(task, forward(wrong)).ok
    first = bench.verdict(task, forward(wrong), Stage.CONFIRM, pool="one for both")
    assert first.status is Status.REJECTED
    right = forward("return torch.relu(x) + torch.relu(x)")
    second = bench.verdict(task, right, Stage.CONFIRM, seed="2", pool="one for both")
    assert second.ok, second.message
    assert [Seeds.parse(v.seed) for v in (first, second)] == [
        ("one for both", "1"),
        ("one for both", "2"),
    ]
    searched = bench.verdict(task, forward(wrong))
    assert searched.ok
    assert Seeds.parse(searched.seed).pool not in ("", "one for both", "of the confirm")


def test_parameters_are_loaded_by_name_and_perturbed(bench):
    model = "class ModelNew(nn.Module):\n" + "\n".join(
        LINEAR.split("class Model(nn.Module):\n")[1].splitlines()[:5]
    )
    assert bench.verdict(bench.task(LINEAR), model).ok


def test_parameters_are_matched_by_order_with_a_flag(bench):
    model = """
class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(16, 24))
        self.b = nn.Parameter(torch.zeros(16))
    def prepare(self):
        self.packed = self.w.t().contiguous()
    def forward(self, x):
        return x @ self.packed + self.b
"""
    found = bench.verdict(bench.task(LINEAR), model)
    assert found.ok, found.message
    assert "state_by_order" in {f.rule for f in found.flags}


def test_state_of_its_own_needs_the_same_seed(bench):
    seeded = """
class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        inner = nn.Linear(24, 16)
        self.joined = nn.Parameter(torch.cat([inner.weight, inner.bias[:, None]], 1).detach())
    def forward(self, x):
        return x @ self.joined[:, :24].t() + self.joined[:, 24]
"""
    found = bench.verdict(bench.task(LINEAR), seeded)
    assert found.ok, found.message
    assert "seeded" in {f.rule for f in found.flags}
    other = seeded.replace("inner = ", "torch.rand(3); inner = ")
    found = bench.verdict(bench.task(LINEAR), other)
    assert found.status is Status.INCOMPATIBLE_STATE
    assert "linear.weight" in found.message
    assert "joined" in found.message


NORMALISED = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(24, 16)
        self.norm = nn.LayerNorm(16)
    def forward(self, x):
        return self.norm(self.linear(x))

def get_inputs():
    return [torch.randn(8, 24)]
"""


def test_parameters_that_no_seed_changes_must_be_kept(bench):
    dropped = """
class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(24, 16)
    def forward(self, x):
        return F.layer_norm(self.linear(x), (16,))
"""
    found = bench.verdict(bench.task(NORMALISED), dropped)
    assert (found.status, found.detector) == (Status.INCOMPATIBLE_STATE, Detector.STATE_LOADING)
    assert "norm.weight, norm.bias would start as the same values" in found.message
    assert "linear" not in found.message


MANY = """
class Model(nn.Module):
    def forward(self, x, scale, y):
        top = x.float().topk(3, dim=-1)
        return {"half": (x * scale).to(torch.bfloat16), "pair": (top.indices, x > 0),
                "n": x.shape[0], "sum": y.half().sum(-1), "none": y[:0]}

def get_inputs():
    return [torch.randn(12, 40).t(), 2.5, torch.rand(6, 30)]
"""
MANY_BODY = """top = x.float().topk(3, dim=-1)
        return {"half": (x * scale).to(torch.bfloat16), "pair": (top.indices, x > 0),
                "n": x.shape[0], "sum": y.half().sum(-1), "none": y[:0]}"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("", "", None),
        ("top.indices", "top.indices + 1", "must be exact"),
        ("x > 0", "x > 0.5", "['pair'][1]"),
        ('"n": x.shape[0]', '"n": 3', "int 3"),
        ('"pair"', '"paar"', "'paar'"),
        ("(x * scale).to", "(x * scale * 1.1).to", "['half']"),
    ],
)
def test_nested_outputs_of_many_types(bench, old, new, says):
    body = MANY_BODY.replace(old, new) if old else MANY_BODY
    found = bench.verdict(bench.task(MANY), forward(body, arguments="x, scale, y"))
    if says is None:
        assert found.ok, found.message
    else:
        assert found.status is Status.WRONG
        assert says in found.message


NORM = """
MODE = "train"
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
    def forward(self, x):
        return self.norm(x)

def get_inputs():
    return [torch.randn(32, 6)]
"""


@pytest.mark.parametrize(("momentum", "right"), [(0.1, True), (0.2, False)])
def test_buffers_that_change_are_outputs(bench, momentum, right):
    model = f"""
class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6, momentum={momentum})
    def forward(self, x):
        return self.norm(x)
"""
    stage = Stage.BENCHMARK if right else Stage.VERIFY
    found = bench.verdict(bench.task(NORM), model, stage)
    assert found.ok is right, found.message
    assert right or "running_mean" in found.message


@pytest.mark.parametrize(("factor", "right"), [("1", True), ("2", False)])
def test_backward_is_verified(bench, factor, right):
    task = bench.task("BACKWARD = True\n" + LINEAR)
    model = f"""
class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, g):
        return g * {factor}

class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(24, 16)
    def forward(self, x):
        return Scale.apply(self.linear(x))
"""
    found = bench.verdict(task, model, Stage.BENCHMARK if right else Stage.VERIFY)
    assert found.ok is right, found.message
    assert right or "linear.weight" in found.message or "input[0]" in found.message


def test_one_build_serves_equal_candidates(bench):
    model = forward("return torch.relu(x) * 2  # built once")
    bench.verdict(bench.task(RELU), model)
    again = bench.verdict(bench.task(RELU), model)
    assert again.stages_ms["build"] == 0.0


CACHE = """
class Model(nn.Module):
    def forward(self, x, cache):
        cache.add_(x)
        return torch.rms_norm(cache, (96,), None, 1e-6)

def get_inputs():
    return [torch.randn(16, 96), torch.randn(16, 96)]
"""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("cache.add_(x); return torch.rms_norm(cache, (96,), None, 1e-6)", ""),
        ("return torch.rms_norm(cache + x, (96,), None, 1e-6)", "input tensor 1 is left otherwise"),
        ("cache.add_(x, alpha=1.001); return cache * 1", "outside the error budget"),
        (
            "cache.add_(x); x.zero_(); return torch.rms_norm(cache, (96,), None, 1e-6)",
            "changes input tensor 0",
        ),
    ],
)
def test_what_is_done_in_place_is_verified(bench, body, says):
    text = f"class ModelNew(nn.Module):\n    def forward(self, x, cache):\n        {body}\n"
    found = bench.verdict(bench.task(CACHE), text)
    assert says in found.message
    assert found.ok == (not says)


def test_results_of_earlier_calls_stay_as_they_were(bench):
    text = """
class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.own = [None] * 3

    def forward(self, x):
        self.own.append(self.own.pop(0))
        self.own[0] = torch.relu(x) * 2 if self.own[0] is None else self.own[0].copy_(x.relu() * 2)
        return self.own[0]
"""
    found = bench.verdict(bench.task(RELU), text)
    assert (found.status, found.detector) == (Status.REJECTED, Detector.ALIASING)
    assert "newly allocated" in found.message
