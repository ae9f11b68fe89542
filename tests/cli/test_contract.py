"""What programs rely on: exit codes, one JSON object on stdout, clear errors, nothing else."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernelevolve import views
from kernelevolve.cleaning import Cleaned
from kernelevolve.cli import optimize
from kernelevolve.config import RunConfig
from kernelevolve.core.errors import HarnessError, LeaseHeld, StoreError, TaskError, UnknownName
from kernelevolve.core.evaluation import Stage
from kernelevolve.core.events import Event
from kernelevolve.core.graph import Graph
from kernelevolve.results import Result
from tests import runs_kit as kit


def result(events: list[Event] | None = None, files: tuple[str, ...] = ("/r/model.py",)) -> Result:
    graph = Graph.fold(kit.journal() if events is None else events)
    return Result("softmax-1", views.summary("softmax-1", graph, files), graph, None)


def stopped(reason: str, *events: Event) -> list[Event]:
    return [kit.started(), *events, kit.RunStopped(at=9.0, reason=reason)]


def test_optimize_prints_one_object_and_exits_0(k: Any, fake: Any, task: Path) -> None:
    calls = fake("optimize", result())
    ended = k("optimize", task, "--json", "--nodes", 30, "--seed", 7, "--minutes", 1.5)
    assert ended.code == 0
    assert ended.json["best"]["node"] == 2
    assert set(ended.json) >= {"run", "task", "target", "language", "fidelity", "best", "nodes"}
    loaded, config, _ = calls[0]
    assert loaded.name == "soft max"
    assert (config.nodes, config.seed, config.minutes) == (30, 7, 1.5)


def test_what_a_run_taught_is_told_beside_the_answer(k: Any, fake: Any, task: Path) -> None:
    graph = Graph.fold(kit.journal())
    found = views.summary("r", graph, (), ["skills/a", "skills/b"])
    fake("optimize", Result("r", found, graph, None))
    ended = k("optimize", task, "--json")
    assert ended.json["learnt"] == ["skills/a", "skills/b"]
    assert "learnt 2 skills: kernelevolve knowledge show skills/a\n" in ended.err
    fake("optimize", result())
    assert "learnt" not in k("optimize", task).err


@pytest.mark.parametrize(
    ("events", "code"),
    [
        (stopped("nodes", kit.selected(1), kit.proposed(1)), 1),
        (stopped("interrupted"), 130),
        (kit.journal()[:-1] + [kit.RunStopped(at=9.0, reason="interrupted")], 130),
    ],
    ids=["no correct kernel", "interrupted early", "interrupted with a best"],
)
def test_optimize_says_by_its_exit_code_how_it_ended(
    k: Any, fake: Any, task: Path, events: list[Event], code: int
) -> None:
    fake("optimize", result(events))
    ended = k("optimize", task, "--json")
    assert ended.code == code
    assert ended.json["run"] == "softmax-1"


def test_nothing_but_the_object_reaches_stdout(k: Any, fake: Any, task: Path) -> None:
    def noisy(*given: object) -> Result:
        print("a print of a library")
        sys.stdout.write("another\n")
        subprocess.run(["echo", "a child"], check=True)
        return result()

    fake("optimize", noisy)
    ended = k("optimize", task, "--json")
    assert ended.json["run"] == "softmax-1"
    for word in ("a print", "another", "a child"):
        assert word in ended.err


def test_figures_that_json_cannot_hold_become_null(k: Any, fake: Any) -> None:
    fake("runs", [{"run": "a", "speedup": float("inf"), "note": float("nan")}])
    assert k("runs", "--json").json == {"runs": [{"run": "a", "speedup": None, "note": None}]}


ERRORS = [
    (TaskError("t.py: no Model"), 2, "t.py: no Model"),
    (UnknownName("unknown policy 'x'; known: beam"), 2, "known: beam"),
    (StoreError("store is newer than this version"), 2, "newer"),
    (LeaseHeld("run r is written by process 7"), 2, "process 7"),
    (HarnessError("the judge died"), 1, "the judge died"),
    (PermissionError(13, "Permission denied", "/store/x"), 2, "/store/x: Permission denied"),
    (OSError(28, "No space left on device"), 2, "No space left on device"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (RuntimeError("first\nsecond"), 1, "unexpected RuntimeError: first (a bug"),
]


@pytest.mark.parametrize(("error", "code", "said"), ERRORS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_are_one_line_without_traceback(
    k: Any, fake: Any, task: Path, error: BaseException, code: int, said: str, as_json: bool
) -> None:
    fake("optimize", error)
    ended = k("optimize", task, *(["--json"] if as_json else []))
    assert ended.code == code
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) == 1
    if as_json:
        assert said in ended.json["error"]
    else:
        assert ended.out == ""


def test_the_traceback_of_a_bug_is_kept_in_a_file(k: Any, fake: Any, task: Path) -> None:
    fake("optimize", RuntimeError("oops"))
    path = Path(k("optimize", task, "--json").json["error"].partition("is in ")[2].rstrip(")"))
    assert "RuntimeError: oops" in path.read_text()
    path.unlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optimize"], "Missing argument"),
        (["optimise", "x.py"], "No such command 'optimise'"),
        (["optimize", "gone.py"], "gone.py: No such file"),
        (["optimize", "x.py", "--nodes", "many"], "--nodes"),
        (["optimize", "TASK", "--nodes", "0"], "nodes = 0"),
        (["optimize", "x.py", "--speed", "9"], "No such option"),
        (["optimize", "TASK", "--set", "exploration=1"], "policy|programmer|limits"),
        (["optimize", "TASK", "--set", "limits.nonsense=1"], "limits.nonsense"),
        (["optimize", "TASK", "--config", "gone.toml"], "gone.toml: no such file"),
        (["optimize", "TASK", "--policy", "magic"], "unknown policy 'magic'; known: "),
        (["optimize", "TASK", "--language", "magic"], "unknown language 'magic'; known: cpp"),
        (["optimize", "TASK", "--target", "tpu"], "unknown target 'tpu'; known: amd, cpu"),
        (["evaluate", "TASK", "gone.py"], "gone.py"),
        (["evaluate", "TASK", "x.py", "--stage", "guess"], "--stage"),
        (["check", "gone.py"], "gone.py"),
        (["show", "gone"], "unknown run 'gone'"),
        (["show", "gone", "x"], "node 'x'"),
        (["replay", "gone", "3"], "unknown run 'gone'"),
        (["replay", "gone"], "unknown run 'gone'"),
        (["export-trajectories", "gone"], "unknown run 'gone'"),
        (["hint", "gone", "x"], "unknown run 'gone'"),
        (["pin", "gone", "x"], "node 'x'"),
        (["optimize", "TASK", "--programmer", "llm"], "needs a model"),
        (["optimize", "TASK", "--model", "gpt-5"], "write provider:name"),
        (["optimize", "TASK", "--model", "nobody:x"], "nobody"),
        (["optimize", "TASK", "--knowledge", "gone", "--model", "openai:x"], "no such folder"),
        (["optimize", "TASK", "--set", "budget.painter.dollars=1"], "write role.kind"),
        (["resume", "gone"], "unknown run 'gone'"),
        (["best", "gone", "-o", "d"], "unknown run 'gone'"),
        (["best", "gone"], "Missing option"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_input_is_exit_2_with_what_and_where(
    k: Any, task: Path, words: list[str], said: str
) -> None:
    given = [str(task) if word == "TASK" else word for word in words]
    plain = k(*given)
    assert plain.code == 2
    assert plain.out == ""
    assert said in plain.err
    assert "Traceback" not in plain.err
    as_json = k(*given, "--json")
    assert as_json.code == 2
    assert said in as_json.json["error"]


def test_evaluate_exits_1_for_a_candidate_that_is_not_ok(k: Any, fake: Any, task: Path) -> None:
    fake("evaluate", kit.bad())
    ended = k("evaluate", task, "mine.py")
    assert (ended.code, ended.out) == (1, "wrong: output 0 differs\n")
    assert k("evaluate", task, "mine.py", "--json").json["status"] == "wrong"


def test_evaluate_gives_the_verdict_in_one_line(k: Any, fake: Any, task: Path) -> None:
    calls = fake("evaluate", kit.ok(2.0))
    ended = k("evaluate", task, "mine.py", "--stage", "confirm", "--threads", 2)
    assert ended.code == 0
    assert ended.out == (
        "ok 2.00x [1.96, 2.04] over the best baseline: small 50.0 us 2.00x [1.96, 2.04]\n"
    )
    assert calls[0][1:] == (Path("mine.py"), RunConfig(threads=2), Stage.CONFIRM)


@pytest.mark.parametrize("admitted", [True, False])
def test_check_exits_by_admission(k: Any, fake: Any, task: Path, admitted: bool) -> None:
    fake("check", kit.admission(admitted=admitted))
    ended = k("check", task)
    assert ended.code == (0 if admitted else 2)
    assert "differs [between] calls" in ended.out
    assert "64 MiB" in ended.out
    assert "eager 100.0 us, compile 120.0 us (at least 50.0 us" in ended.out
    found = k("check", task, "--json").json
    assert found["admitted"] is admitted
    assert found["findings"][0]["code"] == "repeats"


@pytest.mark.parametrize("same", [True, False])
def test_replay_exits_by_agreement(k: Any, fake: Any, same: bool) -> None:
    verdicts = dict.fromkeys(("recorded", "replayed"), kit.bad().model_dump(mode="json"))
    said = [] if same else ["detector was settled, is now clock"]
    row = {"stage": "benchmark", "differences": said, **verdicts}
    found = {"run": "r", "node": 3, "same": same, "verdicts": [row]}
    calls = fake("replay", found)
    ended = k("replay", "r", "#3", "--store", "s")
    assert ended.code == (0 if same else 1)
    assert calls == [("r", 3, "s")]
    word = "the same" if same else "not the same"
    assert f"#3 benchmark: {word}: wrong (output 0 differs)" in ended.out
    assert all(line in ended.out for line in said)
    as_json = k("replay", "r", 3, "--json")
    assert (as_json.code, as_json.json) == (ended.code, found)


def test_best_without_a_confirmed_kernel_exits_1(k: Any, fake: Any) -> None:
    fake("show", {"best": None})
    ended = k("best", "r", "-o", "kernel", "--json")
    assert ended.code == 1
    assert "no confirmed kernel" in ended.json["error"]


def test_best_names_the_files(k: Any, fake: Any, tmp_path: Path) -> None:
    fake("show", {"best": 3})
    calls = fake("export", [tmp_path / "op.py", tmp_path / "verify.py"])
    ended = k("best", "r", "-o", tmp_path)
    assert ended.code == 0
    assert f"python {tmp_path / 'verify.py'}" in ended.out
    assert calls[0] == ("r", tmp_path, None, None)
    k("best", "r", "-o", tmp_path, "--node", "#5", "--store", "s")
    assert calls[1] == ("r", tmp_path, "s", 5)


def test_clean_says_first_what_it_will_remove(k: Any, fake: Any) -> None:
    calls = fake("clean", Cleaned(runs=("a", "b"), builds=3, bytes=5 << 20))
    ended = k("clean", "--older-than", 7, "--dry-run")
    assert ended.out == "would remove 2 runs, 3 builds (5.0 MiB)\n"
    assert calls == [(None, 7.0, False, True)]
    ended = k("clean", "--all")
    assert ended.err == "removing 2 runs, 3 builds (5.0 MiB)\n"
    assert calls[-1] == (None, 30.0, True, False)


@pytest.mark.parametrize("flag", ["", "--json"])
def test_no_reader_of_the_answer_is_no_error(tmp_path: Path, flag: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "from kernelevolve import app\n"
        "from kernelevolve.cli.main import run\n"
        "app.runs = lambda store: [{'run': 'x' * 100}] * 5000\n"
        "run()\n"
    )
    command = f"{sys.executable} {script} runs {flag} | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("0\n", "")


@pytest.mark.parametrize("interrupts", [1, 2])
def test_an_interrupt_saves_first_and_leaves_at_once_the_second_time(
    tmp_path: Path, task: Path, interrupts: int
) -> None:
    script = tmp_path / "program.py"
    script.write_text(INTERRUPTED.replace("WAIT", "0" if interrupts == 1 else "30"))
    pipe = subprocess.PIPE
    command = [sys.executable, script, "optimize", task, "--json"]
    listening = signal.signal(signal.SIGINT, signal.default_int_handler)  # not so in a background
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        signal.signal(signal.SIGINT, listening)
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(interrupts):
            seen = []
            while "working" not in (line := process.stderr.readline()):
                seen.append(line)
                assert line, seen
            process.send_signal(signal.SIGINT)
        out, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert interrupts == 2 or "saving the best so far; press again to leave at once" in err
    told = ["best", "stopped_by", "learnt"] if interrupts == 1 else ["error"]
    assert list(json.loads(out)) == told


def test_an_interrupt_in_the_middle_of_a_print_is_announced_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def busy(*_: object) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    monkeypatch.setattr(optimize.STDERR, "print", busy)
    listening = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), optimize.announced_interrupt():
        signal.raise_signal(signal.SIGINT)
    assert "press again to leave at once" in capfd.readouterr().err
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with optimize.announced_interrupt():
        signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err == ""
    signal.signal(signal.SIGINT, listening)


INTERRUPTED = """
import sys, time
from kernelevolve import app
from kernelevolve.cli import optimize
from kernelevolve.cli.main import run
from kernelevolve.results import Result

def search(task, config, reporters):
    try:
        print("working", file=sys.stderr, flush=True)
        time.sleep(30)
    except KeyboardInterrupt:
        print("working", file=sys.stderr, flush=True)
        time.sleep(WAIT)
    return Result("r", {"best": None, "stopped_by": "interrupted", "learnt": []}, None, None)

app.optimize = search
optimize.summary = lambda found, asked: ""
run()
"""


def test_config_file_and_environment_are_layers_below_flags(
    k: Any, fake: Any, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake("optimize", result())
    (tmp_path / "mine.toml").write_text("nodes = 11\nseed = 3\nthreads = 2\n")
    monkeypatch.setenv("KERNELEVOLVE_SEED", "4")
    k("optimize", task, "--config", "mine.toml", "--threads", 1, "--set", "policy.width=4")
    config = calls[0][1]
    assert (config.nodes, config.seed, config.threads) == (11, 4, 1)
    assert config.policy_options == {"width": 4}


def test_resume_passes_only_what_was_set(k: Any, fake: Any) -> None:
    stored = fake("stored_config", RunConfig(nodes=90))
    calls = fake("resume", result())
    assert k("resume", "softmax-1", "--nodes", 90, "--store", "s").code == 0
    run, store, flags = stored[0]
    assert (run, store) == ("softmax-1", "s")
    assert {key: v for key, v in flags.items() if v is not None} == {"nodes": 90, "store": "s"}
    assert calls[0][:2] == ("softmax-1", RunConfig(nodes=90))


def test_the_console_script_is_this_program() -> None:
    script = Path(sys.executable).with_name("kernelevolve")
    ended = subprocess.run([script, "runs", "--json"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert "runs" in json.loads(ended.stdout)
