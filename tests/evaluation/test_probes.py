from random import Random

import numpy as np
import pytest

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation import lints, nulls
from kernelevolve.evaluation.domain import read, write

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
FORWARD = """
class Model(nn.Module):
    def forward(self, x):
        return {body}

def get_inputs():
    return [{inputs}]
"""


def task(body, inputs="torch.randn(16, 24)"):
    return FORWARD.format(body=body, inputs=inputs)


def names(suite, **options):
    options = {"everything": True, "without": frozenset()} | options
    return [p.plan.name for p in suite.take(Random(1), options.pop("without"), **options)]


def plan(suite, name):
    return next(p for p in suite.plans if p.name == name)


def test_the_reference_passes_its_own_probes(suite_of):
    suite = suite_of(task("torch.softmax(x, -1)"))
    assert {"magnitudes", "infinities", "sliced", "mutant-0"} <= set(names(suite))
    for one in suite.plans:
        probe = suite.get(one)
        if probe is not None:
            assert suite.bench.excess(probe, [e.native for e in probe.expected]) <= 1


@pytest.mark.parametrize(
    ("body", "inputs", "name", "why"),
    [
        ("x.topk(3).indices", "torch.randn(16, 24)", "ties", "ambiguous"),
        ("x * 2", "torch.randn(16, 24)", "equal-integers", "no input"),
        ("torch.softmax(x, -1)", "torch.randn(16, 24)", "integers", "not exact"),
        ("torch.relu(x)", "torch.randn(16, 24)", "integers", "not linear"),
        ("x.view(-1)", "torch.randn(16, 24)", "transposed", "fails"),
        ("1 / x.abs().amin(-1)", "torch.randn(2, 24)", "zeros", "not finite"),
    ],
)
def test_what_the_reference_cannot_take_is_skipped_with_the_reason(
    suite_of, body, inputs, name, why
):
    suite = suite_of(task(body, inputs))
    assert suite.get(plan(suite, name)) is None
    assert why in suite.skipped[name]


def test_where_the_reference_defines_nan_it_is_tried(suite_of):
    suite = suite_of(task("torch.nan_to_num(x)"))
    probe = suite.get(plan(suite, "nan"))
    assert np.isnan(read(probe.inputs.leaves[0], probe.content)).any()
    assert np.isfinite(probe.expected[0].oracle).all()


def test_a_kernel_must_pass_nan_on_where_the_reference_does(suite_of):
    suite = suite_of(task("torch.relu(x)"))
    probe = suite.get(plan(suite, "nan"))
    passed = probe.expected[0].native
    assert suite.bench.excess(probe, [passed]) <= 1
    assert suite.bench.excess(probe, [np.nan_to_num(passed)]) > 1


def test_of_equal_maxima_the_first_is_right(suite_of):
    suite = suite_of(task("x.argmax(-1)"))
    probe = suite.get(plan(suite, "ties"))
    x = read(probe.inputs.leaves[0], probe.content)
    last = x.shape[1] - 1 - x[:, ::-1].argmax(-1)
    assert suite.bench.excess(probe, [x.argmax(-1)]) <= 1
    assert suite.bench.excess(probe, [last]) > 1


@pytest.mark.parametrize("name", ["zeros", "ties", "blocks", "one-sign"])
def test_a_sum_in_another_order_is_honest(suite_of, name):
    suite = suite_of(task("torch.softmax(x, -1)", "torch.randn(64, 96)"))
    probe = suite.get(plan(suite, name))
    x = read(probe.inputs.leaves[0], probe.content)
    powers = np.exp(x - x.max(1, keepdims=True))
    in_order = powers / np.cumsum(powers, 1, dtype=np.float32)[:, -1:]
    halves = (powers / powers.sum(1, keepdims=True)).astype(np.float16).astype(np.float32)
    assert suite.bench.excess(probe, [in_order]) <= 1
    assert suite.bench.excess(probe, [halves]) > 10


@pytest.mark.parametrize(("name", "half"), [("outliers", 0), ("late-outliers", 1)])
def test_outliers_lie_where_a_look_at_the_other_half_misses_them(suite_of, name, half):
    suite = suite_of(task("torch.softmax(x, -1)"))
    x = read(suite.bench.prepared.inputs.leaves[0], suite.get(plan(suite, name)).content)
    halves = np.split(np.abs(x), 2)
    assert halves[half].max() > 50 > halves[1 - half].max()


def test_a_weaker_form_is_used_where_the_strong_one_overflows(suite_of):
    suite = suite_of(task("torch.exp(x)"))
    probe = suite.get(plan(suite, "magnitudes"))
    assert np.isfinite(probe.expected[0].native).all()
    values = np.abs(read(probe.inputs.leaves[0], probe.content)).max(axis=1)
    assert values.max() > 3 * values.min()


def test_rows_of_all_scales_have_budgets_of_their_own(suite_of):
    suite = suite_of(task("x * 1.7", "torch.randn(64, 64)"))
    probe = suite.get(plan(suite, "magnitudes"))
    values = probe.expected[0].native
    smallest = np.abs(values).max(axis=1).argmin()
    off = values.copy()
    off[smallest] *= np.float32(1.001)
    assert suite.bench.excess(probe, [off]) > 10
    assert suite.bench.excess(probe, [values * np.float32(1 + 1e-7)]) <= 1


def test_a_conditioned_budget_takes_an_honest_kernel_that_rounds_elsewhere(suite_of):
    suite = suite_of(task("F.layer_norm(x, (48,))", "torch.randn(64, 48)"))
    probe = suite.get(plan(suite, "constant-rows"))
    x = read(probe.inputs.leaves[0], probe.content)
    mean = np.zeros((64, 1), np.float32)
    for column in range(48):
        mean[:, 0] += x[:, column]
    centred = x - mean * np.float32(1 / 48)
    found = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(1e-5))
    assert suite.bench.excess(probe, [found]) <= 1


def test_linear_tasks_are_exact_on_small_integers(suite_of):
    suite = suite_of(MATMUL)
    probe = suite.get(plan(suite, "integers"))
    assert probe.plan.detector is Detector.LINEAR
    assert probe.state_fd is not None
    outputs = probe.expected[0].native
    assert np.array_equal(outputs, np.round(outputs))
    assert suite.bench.excess(probe, [outputs]) == 0
    off = outputs.copy()
    off[3, 3] = np.nextafter(off[3, 3], np.float32(99))
    assert suite.bench.excess(probe, [off]) == np.inf


def test_parameters_are_what_they_were_after_the_integers(suite_of):
    suite = suite_of(MATMUL)
    suite.get(plan(suite, "integers"))
    native, _ = suite.bench.answer(suite.bench.prepared.contents[0])
    assert np.array_equal(native[0], suite.bench.prepared.expected[0][0].native)


def test_an_old_answer_is_far_off_after_a_mutation(suite_of):
    suite = suite_of(task("F.cross_entropy(x, torch.arange(16))", "torch.randn(16, 1000)"))
    for number in range(4):
        probe = suite.get(plan(suite, f"mutant-{number}"))
        old = [e.native for e in suite.bench.prepared.expected[probe.base]]
        assert suite.bench.excess(probe, old) >= 4
        assert not np.array_equal(probe.content, suite.bench.prepared.contents[probe.base])


def test_small_workloads_meet_every_probe(suite_of):
    suite = suite_of(task("torch.softmax(x, -1)"))
    met = {p.plan.name for p in suite.take(Random(1), frozenset(), everything=False)}
    assert met == set(names(suite))


def test_a_large_workload_meets_a_choice_of_all_probes_when_it_is_confirmed(suite_of, monkeypatch):
    for name in ("SMALL_BYTES", "LARGE_BYTES"):
        monkeypatch.setattr(f"kernelevolve.evaluation.probes.{name}", 0)
    suite = suite_of(task("torch.softmax(x, -1)"))

    def met(seed, *, confirming):
        found = suite.take(Random(seed), frozenset(), everything=False, confirming=confirming)
        return {probe.plan.name for probe in found}

    assert len(met(1, confirming=False)) == 2
    assert len(met(1, confirming=True)) == 6
    assert len(set().union(*(met(seed, confirming=True) for seed in range(20)))) > 15


def test_the_choice_is_secret_and_small_but_follows_from_seeds(suite_of, monkeypatch):
    monkeypatch.setattr("kernelevolve.evaluation.probes.SMALL_BYTES", 0)
    suite = suite_of(task("torch.softmax(x, -1)"))

    def few(seed):
        found = suite.take(Random(seed), frozenset(), everything=False)
        return [p.plan.name for p in found]

    assert few(1) == few(1)
    assert len({tuple(few(seed)) for seed in range(6)}) > 3
    assert all(len(few(seed)) == 6 for seed in range(3))
    assert all(few(seed)[0].startswith("mutant") for seed in range(6))


def test_switched_off_detectors_make_no_probes(suite_of):
    suite = suite_of(MATMUL)
    without = frozenset({Detector.ADVERSARIAL, Detector.METAMORPHIC, Detector.PARAMETERS})
    assert names(suite, without=without) == ["integers"]


def test_the_same_seed_makes_the_same_probes(suite_of):
    text = task("torch.softmax(x, -1)")
    one, other, third = suite_of(text, "a"), suite_of(text, "a"), suite_of(text, "b")
    other.get(plan(other, "ties"))
    first, again, different = (s.get(plan(s, "outliers")).content for s in (one, other, third))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, different)


@pytest.mark.parametrize(
    ("body", "null"),
    [
        ("x * 0", "zeros"),
        ("torch.softmax(x, -1).sum(-1)", "ones"),
        ("torch.softmax(x, -1).mean(-1)", "constant"),
        ("x + 1e-9 * x.relu()", "input-0"),
        ("x * float('nan')", "poison"),
    ],
)
def test_tasks_that_need_no_computation_are_found(suite_of, body, null):
    suite = suite_of(task(body))
    prepared = suite.bench.prepared
    kinds = (nulls.passed, nulls.remembered)
    found = {f.code for kind in kinds for f in kind(prepared, suite.bench.task)}
    assert f"null-{null}" in found


def test_a_widened_tolerance_is_named(suite_of):
    text = "TOLERANCE = {'rms': 1e9, 'maximum': 1e9}\n" + task("torch.softmax(x, -1)")
    suite = suite_of(text)
    (first, *_) = nulls.passed(suite.bench.prepared, suite.bench.task)
    assert "TOLERANCE" in first.message


def test_honest_tasks_pass_no_null(suite_of):
    for text in (task("torch.softmax(x, -1)"), MATMUL, task("x.sum()"), task("x.argmax(-1)")):
        suite = suite_of(text)
        assert not list(nulls.passed(suite.bench.prepared, suite.bench.task))
        assert not list(nulls.remembered(suite.bench.prepared, suite.bench.task))


def test_dead_inputs_and_parameters_are_named(suite_of):
    text = """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Parameter(torch.ones(24))
        self.unused = nn.Parameter(torch.ones(24))
    def forward(self, x, y):
        return torch.softmax(x * self.used + self.unused.sum(), -1)

def get_inputs():
    return [torch.randn(8, 24), torch.randn(8, 24)]
"""
    found = {f.code: f.message for f in lints.lint(suite_of(text).bench)}
    assert set(found) == {"input-dead", "parameter-dead"}
    assert "tensor 1" in found["input-dead"]
    assert "'unused'" in found["parameter-dead"]


def test_targets_to_be_ignored_are_tried_where_the_reference_ignores_some(suite_of):
    text = """
class Model(nn.Module):
    def forward(self, x, target):
        return F.cross_entropy(x, target, reduction="none")

def get_inputs():
    return [torch.randn(64, 24), torch.randint(0, 24, (64,))]
"""
    suite = suite_of(text)
    probe = suite.get(plan(suite, "markers"))
    targets = read(probe.inputs.leaves[1], probe.content)
    assert (targets == -100).any()
    assert (probe.expected[0].native[targets == -100] == 0).all()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("(x * 255).to(torch.uint8)", "converts floats to integers"),
        ("torch.sqrt(x * (1 - x))", "not finite"),
        ("torch.softmax(x, -1)", ""),
    ],
)
def test_a_range_that_only_drawn_inputs_have_is_left_where_the_reference_can_be(
    suite_of, body, why
):
    suite = suite_of(task(body, "torch.rand(16, 24)"))
    probe = suite.get(plan(suite, "wide"))
    if why:
        assert why in suite.skipped["wide"]
        return
    x = read(probe.inputs.leaves[0], probe.content)
    assert x.min() < -50 < 50 < x.max()


@pytest.mark.parametrize(
    ("body", "name", "why"),
    [
        ("torch.relu(x) * 2", "zeros", ""),
        ("torch.where(x > 0, x, -x)", "ties", ""),
        ("x.clamp(min=0)", "zeros", "ambiguous"),
        ("x.amax(-1)", "ties", "ambiguous"),
        ("torch.relu(x)", "nan", "documented nowhere"),
        ("torch.tanh(x)", "nan", ""),
    ],
)
def test_gradients_are_tried_where_they_are_documented(suite_of, body, name, why):
    suite = suite_of("BACKWARD = True\n" + task(body))
    assert (suite.get(plan(suite, name)) is None) is bool(why)
    assert why in suite.skipped.get(name, "")


def test_parameters_are_what_they_were_when_others_were_tried(suite_of):
    suite = suite_of(MATMUL)
    probe = suite.get(plan(suite, "renewed-parameters"))
    assert probe.state_fd is not None
    native, _ = suite.bench.answer(suite.bench.prepared.contents[0])
    assert np.array_equal(native[0], suite.bench.prepared.expected[0][0].native)
    assert not np.array_equal(native[0], probe.expected[0].native)


def test_a_second_call_finds_what_the_first_one_left(suite_of):
    text = """
MODE = "train"
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(24)
    def forward(self, x):
        return self.norm(x)

def get_inputs():
    return [torch.randn(16, 24)]
"""
    suite = suite_of(text)
    probe = suite.get(plan(suite, "succession"))
    twice = [reference.native for reference in probe.expected]
    once = [r.native for r in suite.bench.prepared.expected[0]]
    assert suite.bench.excess(probe, twice) <= 1
    assert suite.bench.excess(probe, [twice[0], *once[1:]]) > 4


@pytest.mark.parametrize(
    ("body", "held"),
    [
        ("torch.where(x > 0.5, x, -x)", {0.5}),
        ("torch.where(x.t().t() <= 2, x, -x)", {2.0}),
        ("torch.where(x > 0.1, x, -x)", set()),
        ("torch.where(torch.tensor([0.25]) < x, x, -x)", {0.25}),
        ("torch.round(x)", {-2.5, -1.5, -0.5, 0.5, 1.5, 2.5}),
        ("torch.where(x * 2 > 1, x, -x)", set()),
        ("torch.relu(x)", set()),
        ("torch.where(x == torch.inf, 0, x)", set()),
    ],
)
def test_inputs_are_what_the_reference_compares_them_with(suite_of, body, held):
    suite = suite_of(task(body, "torch.randn(16, 24)"))
    probe = suite.get(plan(suite, "thresholds"))
    assert set(suite.bench.domains[0].thresholds) == held
    assert (probe is not None) == bool(held)
    if probe is not None:
        x = read(probe.inputs.leaves[0], probe.content)
        assert np.isin(x, list(held)).sum() >= 16
        assert all(y.maximum < 0.01 for y in probe.yardsticks), (
            "neighbours leap, the value does not"
        )


def test_only_a_stable_sort_says_in_which_order_equals_come(suite_of):
    stable = suite_of(task("x.sort(stable=True)", "torch.randn(16, 24)"))
    assert stable.get(plan(stable, "ties")) is not None
    anyhow = suite_of(task("x.sort()", "torch.randn(16, 24)"))
    assert anyhow.get(plan(anyhow, "ties")) is None


def test_a_reference_that_reads_its_inputs_is_followed_too(suite_of):
    text = """
class Model(nn.Module):
    def forward(self, x, ids):
        rows = torch.stack([x[i] for i in ids.clamp(min=0).tolist()])
        return rows * (ids != -7).unsqueeze(-1)

def get_inputs():
    return [torch.randn(50, 24), torch.randint(0, 50, (64,))]
"""
    suite = suite_of(text)
    probe = suite.get(plan(suite, "markers"))
    assert (read(probe.inputs.leaves[1], probe.content) == -7).any()


def test_what_a_probe_leaves_in_inputs_is_known(suite_of):
    suite = suite_of(task("x.sub_(x.logsumexp(-1, keepdim=True)).amax(-1)", "torch.randn(16, 24)"))
    probe = suite.get(plan(suite, "offset"))
    leaf, tolerance = probe.inputs.leaves[0], suite.bench.task.tolerance
    right = probe.content.copy()
    x = read(leaf, probe.content).astype(np.float64)
    largest = x.max(-1, keepdims=True)
    write(leaf, right, x - largest - np.log(np.exp(x - largest).sum(-1, keepdims=True)))
    assert probe.left.fault(0, probe.content, right, tolerance) == ""
    careless = right.copy()
    write(leaf, careless, 1.01 * read(leaf, right))
    assert "otherwise" in probe.left.fault(0, probe.content, careless, tolerance)
