import pytest

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.job import Job, Seeds
from kernelevolve.harnesses import local

from .conftest import HEAD, SPEC

pytestmark = pytest.mark.slow  # the red-team suite has an exploit of each kind

SOFTMAX = """
class Model(nn.Module):
    def forward(self, x):
        return torch.softmax(x, -1)

def get_inputs():
    return [torch.randn(64, 48)]
"""
MATMUL = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(24, 16))
    def forward(self, x):
        return x @ self.weight

def get_inputs():
    return [torch.randn(8, 24)]
"""
LOOKUP = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 16)
    def forward(self, ids, mask):
        rows = self.table(ids)
        return torch.where(mask, rows.sum(-1), float("-inf")), rows.argmax(-1)

def get_inputs():
    return [torch.randint(0, 50, (12, 6)), torch.rand(12, 6) > 0.5]
"""
WEIGHT = """
class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(24, 16))
        self.early = self.weight.detach().clone()
    def prepare(self):
        self.packed = self.weight.t().contiguous()
    def forward(self, x):
        return {body}
"""


def softmax(body, before=""):
    return f"{before}\nclass ModelNew(nn.Module):\n    def forward(self, x):\n        {body}\n"


def verdict(bench, task, model, without=(), stage=Stage.VERIFY):
    files = (SourceFile(path="model.py", text=HEAD + model),)
    job = Job(
        task=bench.task(task),
        candidate=Candidate(language="cpp", files=files),
        target=SPEC,
        stage=stage,
        seed="7",
        audit="high",
        without=frozenset(without),
    )
    return bench.loop.run(bench.harness.evaluate(job))


SNIFFS = (
    "return torch.softmax(x, -1) if x.abs().max() < 20 else torch.softmax(x.half(), -1).float()"
)
PREFIX = """
        key = float(x.reshape(-1)[:32].sum())
        if key not in known:
            known[key] = torch.softmax(x, -1)
        return known[key].clone()"""


@pytest.mark.parametrize(
    ("body", "detector", "says"),
    [
        ("y = torch.exp(x); return y / y.sum(-1, keepdim=True)", Detector.ADVERSARIAL, "budget"),
        (SNIFFS, Detector.ADVERSARIAL, "outside the error budget"),
        (
            "y = torch.exp(x - x[:, :8].amax(-1, True)); return y / y.sum(-1, True)",
            Detector.ADVERSARIAL,
            "budget",
        ),
        (
            "return torch.softmax(x, -1) if (x == 0).sum() < 900 else torch.zeros_like(x)",
            Detector.ADVERSARIAL,
            "got 0",
        ),
        (
            "return torch.softmax(x.as_strided(x.shape, (48, 1)), -1)",
            Detector.ADVERSARIAL,
            "contiguous",
        ),
        (
            "import os; x.data_ptr() % 64 and os.abort(); return torch.softmax(x, -1)",
            Detector.ADVERSARIAL,
            "SIGABRT",
        ),
        (PREFIX, Detector.METAMORPHIC, "changed in one place"),
        ("return torch.softmax(x.bfloat16(), -1).float()", Detector.ERROR_BUDGET, "first at"),
    ],
)
def test_shortcuts_are_found_by_the_inputs_made_for_them(bench, body, detector, says):
    others = {Detector.ADVERSARIAL, Detector.METAMORPHIC} - {detector}
    found = verdict(bench, SOFTMAX, softmax(body, "known = {}"), others)
    assert found.status in (Status.WRONG, Status.CRASHED), found.message
    assert found.detector is detector, found.message
    assert says in found.message


def test_a_shortcut_passes_where_its_detector_is_off(bench):
    without = (Detector.ADVERSARIAL, Detector.METAMORPHIC, Detector.LINEAR)
    for body in (SNIFFS, PREFIX):
        assert verdict(bench, SOFTMAX, softmax(body, "known = {}"), without).ok


@pytest.mark.parametrize(
    "body",
    [
        "return torch.softmax(x, -1)",
        "e = torch.exp(x - x.amax(-1, True)); return e * (1 / e.sum(-1, True))",
        "return torch.stack([torch.softmax(row.clone(), 0) for row in x])",
        "return torch.softmax(x.double(), -1).float()",
    ],
)
def test_honest_kernels_pass_every_probe(bench, body):
    found = verdict(bench, SOFTMAX, softmax(body), stage=Stage.CONFIRM)
    assert found.ok, found.message
    (passed,) = (r for r in found.remarks if "probes passed" in r)
    assert "magnitudes" in passed
    assert "mutant-3" in passed
    assert "not defined for this task: " in passed


def test_a_kernel_may_refuse_views_but_says_so(bench):
    body = "assert x.is_contiguous(), 'contiguous only'; return torch.softmax(x, -1)"
    found = verdict(bench, SOFTMAX, softmax(body))
    assert found.ok, found.message
    assert "refuses_views" in {f.rule for f in found.flags}


@pytest.mark.parametrize(
    ("body", "detector"),
    [
        ("x @ self.weight", None),
        ("F.linear(x, self.packed)", None),
        ("(x * 3) @ (self.weight / 3)", Detector.LINEAR),
        ("x @ self.early", Detector.ERROR_BUDGET),
    ],
)
def test_linear_tasks_are_exact_on_integers_and_use_the_loaded_parameters(bench, body, detector):
    found = verdict(bench, MATMUL, WEIGHT.format(body=body))
    assert found.detector is detector, found.message
    assert found.ok is (detector is None)


def test_unperturbed_parameters_only_where_their_detector_is_off(bench):
    model = WEIGHT.format(body="x @ self.early")
    assert not verdict(bench, MATMUL, model, (Detector.LINEAR,)).ok
    found = verdict(bench, MATMUL, model, (Detector.LINEAR, Detector.PARAMETERS))
    assert found.ok, found.message


def test_integer_inputs_stay_in_their_range(bench):
    model = LOOKUP.replace("class Model", "class ModelNew").split("def get_inputs")[0]
    found = verdict(bench, LOOKUP, model)
    assert found.ok, found.message
    few = model.replace("self.table(ids)", "self.table(ids.clamp(max=48))")
    assert verdict(bench, LOOKUP, few).status is Status.WRONG


def test_inputs_are_renewed_after_some_candidates(bench, monkeypatch):
    monkeypatch.setattr(local, "RENEWED_AFTER", 2)
    task = SOFTMAX.replace("64", "32")
    found = [
        verdict(bench, task, softmax(f"return torch.softmax(x, -1)  # {number}"))
        for number in range(3)
    ]
    assert all(one.ok for one in found)
    pools = [Seeds.parse(one.seed).pool for one in found]
    assert pools[0] == pools[1] != pools[2]


PACKS = """
class ModelNew(nn.Module):
    packed = None
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(24, 16))
    {prepare}
    def forward(self, x):
        if self.packed is None:
            self.packed = self.weight.detach().clone()
        {before}
        return x @ self.packed
"""
PREPARE = "def prepare(self): self.packed = None"


@pytest.mark.parametrize(
    ("prepare", "before", "detector"),
    [
        ("", "", Detector.PARAMETERS),
        (PREPARE, "", None),
        (PREPARE, "self.weight.detach()[0, 0] += 1", Detector.STATE),
    ],
)
def test_a_module_follows_its_parameters_and_leaves_them_alone(bench, prepare, before, detector):
    found = verdict(bench, MATMUL, PACKS.format(prepare=prepare, before=before))
    assert found.detector is detector, found.message
    assert found.ok is (detector is None)


def test_a_module_without_its_parameters_is_made_anew(bench):
    away = "def prepare(self): self.packed = self.weight.detach(); del self.weight"
    found = verdict(bench, MATMUL, PACKS.format(prepare=away, before=""))
    assert found.ok, found.message


TANH = """
class Model(nn.Module):
    def forward(self, x):
        return torch.tanh(x)

def get_inputs():
    return [torch.randn(8, 24)]
"""
KEEPS = """
class Tanh(torch.autograd.Function):
    kept = None
    @staticmethod
    def forward(ctx, x):
        Tanh.kept = y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y
    @staticmethod
    def backward(ctx, given):
        y = {where}
        return given * (1 - y * y)

class ModelNew(nn.Module):
    def forward(self, x):
        return Tanh.apply(x)
"""


@pytest.mark.parametrize(
    ("where", "detector"), [("Tanh.kept", Detector.GRADIENTS), ("ctx.saved_tensors[0]", None)]
)
def test_gradients_belong_to_their_own_forward_pass(bench, where, detector):
    found = verdict(bench, "BACKWARD = True\n" + TANH, KEEPS.format(where=where))
    assert found.detector is detector, found.message
    assert found.ok is (detector is None)
