"""The suite's kernels for GPUs, as far as they can be looked at without one."""

import ast

import pytest

from kernelevolve import registry
from kernelevolve.core.detector import Detector
from kernelevolve.core.errors import UsageError
from kernelevolve.core.evaluation import Stage
from kernelevolve.core.job import Job, Limits
from kernelevolve.event_loop import EventLoop
from kernelevolve.harnesses.local import LocalHarness
from kernelevolve.languages.cuda import Cuda
from kernelevolve.runtime import nvrtc
from kernelevolve.targets.nvidia import Nvidia
from kernelevolve.testing.redteam import suite
from kernelevolve.testing.redteam.tasks import task

EVERYTHING = (*suite.exploits(), *suite.honest(), *suite.limits())
GPU = [fixture for fixture in EVERYTHING if fixture.places == ("nvidia",)]
IN_CUDA = [fixture for fixture in GPU if fixture.cuda]
ROWS = {"A1", "A2", "A3", "A4", "A5", "A8", "A9", "A10", "A12", "A15", "B4", "B6", "B10"}
ROWS |= {"D1", "D2", "D3", "D15", "E1", "E3", "G9", "H1", "H4", "H6"}


def names(vendor, language, **options):
    chosen = suite.cases(vendor=vendor, language=language, **options)
    return {case.fixture.name for case in chosen}


def sides(fixture):
    return {fixture.candidate("cuda", cheating=cheating) for cheating in (True, False)}


def is_refused_by_the_compiler(fixture):
    return getattr(fixture, "caught_by", (None,))[0] is Detector.BUILD


def test_fixtures_are_judged_where_their_sources_can_be_built():
    processor, gpu = names("cpu", "cpp"), names("nvidia", "cuda")
    assert "native-cache" in processor - gpu
    assert {"side-stream", "gpu-softmax"} <= gpu - processor
    assert {"returns-zeros", "library-call", "remembers-addresses"} <= processor & gpu
    triton = names("nvidia", "triton")
    assert "side-stream" in triton
    assert not triton & {f.name for f in IN_CUDA}
    assert processor | gpu == {f.name for f in (*suite.exploits(), *suite.honest())}


def test_what_any_target_judges_can_be_left_out():
    assert names("nvidia", "cuda", own=True) == {
        f.name for f in (*suite.exploits(), *suite.honest()) if f.places == ("nvidia",)
    }


def test_every_vendor_that_fixtures_name_is_one():
    assert {place for f in EVERYTHING for place in f.places} <= set(registry.names("target"))


def test_what_is_named_for_another_target_is_an_error():
    assert names("nvidia", "cuda", names=["side-stream"]) == {"side-stream"}
    with pytest.raises(UsageError, match="'side-stream' is not for target 'cpu'"):
        suite.cases(names=["side-stream"])
    with pytest.raises(UsageError, match="'native-cache' is not for target 'nvidia'"):
        suite.cases(names=["native-cache"], vendor="nvidia", language="cuda")


def test_rows_about_devices_have_an_exploit():
    assert {exploit.row for exploit in suite.exploits() if exploit in GPU} >= ROWS


@pytest.mark.parametrize("fixture", GPU, ids=lambda fixture: fixture.name)
def test_python_parses_and_is_screened_and_tasks_load(fixture):
    for candidate in sides(fixture):
        tree = ast.parse(candidate.text("model.py"))
        made = {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}
        assert "ModelNew" in made
        Cuda().loads_of(candidate.text("model.py"))
        Cuda().screen(candidate, task(fixture.task))


@pytest.mark.slow
@pytest.mark.parametrize("fixture", IN_CUDA, ids=lambda fixture: fixture.name)
def test_kernels_compile(fixture, tmp_path):
    for candidate in sides(fixture):
        if is_refused_by_the_compiler(fixture) and candidate == fixture.candidate("cuda"):
            continue
        source = tmp_path / "kernel.cu"
        source.write_text(candidate.text("kernel.cu"))
        fine, said = nvrtc.compile_file(str(source), "sm_90", tmp_path / "kernel", [])
        assert fine, said
        entries = (tmp_path / "kernel.ptx").read_text()
        loaded = candidate.text("model.py").count("cuda.load(")
        assert entries.count(".entry ") == loaded > 0


@pytest.mark.slow
@pytest.mark.needs_gxx
@pytest.mark.needs_sandbox
@pytest.mark.timeout(400)
def test_what_needs_no_device_is_judged_alike_on_the_emulator(tmp_path):
    (spec,) = (s for s in Nvidia().discover() if s.address == "nvidia:sm_90")
    spec = spec.model_copy(update={"cores": spec.cores[-1:]})
    harness = LocalHarness(spec, "cuda", 1, tmp_path, lambda ref: b"", baselines=("eager",))
    known = {fixture.name: fixture for fixture in EVERYTHING}

    def judged(name, cheating=True):
        job = Job(
            task=task(known[name].task),
            candidate=known[name].candidate("cuda", cheating=cheating),
            target=spec,
            stage=Stage.VERIFY,
            seed="11",
            limits=Limits(run_seconds=100),
        )
        return loop.run(harness.evaluate(job))

    with EventLoop() as loop:
        for name in ("gpu-softmax", "gpu-atomics", "gpu-persistent-blocks"):
            assert judged(name).ok, name
        for name in ("works-in-place-on-the-device", "device-table-by-address"):
            assert judged(name).detector in known[name].caught_by
            assert judged(name, cheating=False).ok, name
        loop.run(harness.close())
