"""What a run is told of earlier ones: like tasks only, the same at every replay, nothing secret."""

from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Brief, Move, Recalled
from kernelevolve.core.errors import StoreError
from kernelevolve.core.evaluation import TIMED, Evaluation, Stage, Status
from kernelevolve.core.events import Command, Proposed
from kernelevolve.core.likeness import likeness, operators
from kernelevolve.core.protocols import Programmer
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task, Workload
from kernelevolve.policies.mcts import MCTS
from kernelevolve.programmers.llm.connect import Connections
from kernelevolve.programmers.llm.programmer import Llm
from kernelevolve.rerunning import Rerun
from kernelevolve.search.briefing import brief
from kernelevolve.search.journal import Journal
from kernelevolve.search.loop import Search
from kernelevolve.stores.memory import Memory
from kernelevolve.testing.journals import TARGET, passed
from tests.programmers.llm_kit import ANSWER, Endpoint, llm
from tests.search.search_kit import Clock, Device, Writer, run, session

ALWAYS = RunConfig(language="cpp", recall=1.0)


def task(name: str, *calls: str, **sizes: int) -> Task:
    body = "".join(f"        x = {call}\n" for call in calls)
    source = f"class Model:\n    def forward(self, x):\n{body}        return x\n"
    workloads = (
        Workload(name="default", sizes=sizes or {"n": 64}),
        Workload(name="odd", sizes={"n": 77}, held_out=True),
    )
    return Task(name=name, source=source, workloads=workloads)


SOFTMAX = task("softmax", "torch.softmax(x, -1)")
SCALED = task("scaled_softmax", "torch.softmax(x, -1)", "x.clamp(0)", rows=512, columns=1024)
CONV = task("conv", "F.conv2d(x, x)")


class Ticking(Clock):
    """Every look at it is a second later."""

    def __call__(self) -> float:
        self.time += 1.0
        return self.time


def searched(
    store: Memory,
    name: str,
    task: Task,
    clock: Clock,
    target: TargetSpec = TARGET,
    score: float = 2.0,
    writer: Programmer | None = None,
    **config: object,
) -> Search:
    """A finished run that confirmed `NAME source 1`."""
    settings = RunConfig.model_validate({"language": "cpp", "nodes": 1, **config})
    journal = Journal(store, name, now=clock)
    journal.start(task, target, settings.model_dump(mode="json"))

    def judge(source: str, stage: Stage) -> Evaluation:
        timed = stage in TIMED
        return passed(score, stage) if timed else Evaluation(status=Status.OK, stage=stage)

    device = Device(judge)
    writer = writer or Writer(lambda brief: f"{name} source {brief.number}")
    search = Search(journal, settings, session().policy, writer, device, guide="")
    run(search)
    return search


def fresh(store: Memory, task: Task, clock: Clock, config: RunConfig = ALWAYS) -> Brief:
    """The first brief of a new run."""
    journal = Journal(store, f"new {clock()}", now=clock)
    journal.start(task, TARGET, config.model_dump(mode="json"))
    journal.selected(Move())
    return brief(journal, 1, config, "")


def test_the_like_of_three_runs_is_recalled_with_its_source():
    store, clock = Memory(), Ticking()
    for one in (CONV, SCALED, task("norm", "torch.rsqrt(x)", "x.mean(-1)")):
        searched(store, one.name, one, clock)
    told = fresh(store, SOFTMAX, clock).recalled
    assert [(r.run, r.node, r.task, r.score) for r in told] == [
        ("scaled_softmax", 1, "scaled_softmax", 2.0)
    ]
    assert told[0].files[0].text == "scaled_softmax source 1"
    assert told[0].likeness == round(likeness(SOFTMAX, SCALED), 3)
    assert "77" not in told[0].model_dump_json()


def test_one_of_the_three_most_alike_is_drawn_and_of_a_task_its_best_run():
    store, clock = Memory(), Ticking()
    for number, sizes in enumerate((4096, 64, 256, 1024)):
        searched(store, f"{sizes}", task(f"t{number}", "x.softmax(-1)", n=sizes), clock)
    for name, score in (("faster", 3.0), ("slower", 0.9), ("slow", 2.5)):
        searched(store, name, task("t2", "x.softmax(-1)", n=256), clock, score=score)
    journal = Journal(store, "new", now=clock)
    journal.start(SOFTMAX, TARGET, ALWAYS.model_dump(mode="json"))
    drawn = [r.run for n in range(60) for r in journal.past.recalled(Move(), f"{n}", ALWAYS)]
    assert len(drawn) == 60
    assert set(drawn) == {"64", "faster", "1024"}


def test_a_run_that_cannot_be_read_is_passed_over(monkeypatch):
    store, clock = Memory(), Ticking()
    for name in ("broken", "whole"):
        searched(store, name, SOFTMAX, clock)
    read = store.read

    def damaged(run, after=0):
        if run == "broken":
            raise StoreError("written by another version")
        return read(run, after)

    monkeypatch.setattr(store, "read", damaged)
    assert [r.run for r in fresh(store, SOFTMAX, clock).recalled] == ["whole"]


def test_without_a_chance_or_with_parents_nothing_is_recalled():
    store, clock = Memory(), Ticking()
    searched(store, "earlier", SOFTMAX, clock)
    for silent in (RunConfig(language="cpp", recall=0.0), RunConfig(language="cpp")):
        assert fresh(store, SOFTMAX, clock, silent).recalled == ()
    journal = Journal(store, "earlier")
    journal.selected(Move(parents=(1,), memory="lineage"))
    assert brief(journal, 2, ALWAYS, "").recalled == ()


def test_the_chance_is_about_what_was_asked_for():
    store, clock = Memory(), Ticking()
    searched(store, "earlier", SOFTMAX, clock)
    journal = Journal(store, "new", now=clock)
    journal.start(SOFTMAX, TARGET, ALWAYS.model_dump(mode="json"))
    half = RunConfig(language="cpp", model=("openai:m",))
    seeds = [f"0/{number}" for number in range(200)]
    told = [len(journal.past.recalled(Move(), seed, half)) for seed in seeds]
    assert 70 < sum(told) < 130
    assert told == [len(journal.past.recalled(Move(), seed, half)) for seed in seeds]


def test_other_devices_languages_and_runs_that_go_on_are_not_recalled():
    store, clock = Memory(), Ticking()
    gpu = TargetSpec(vendor="nvidia", arch="sm_90")
    searched(store, "on a gpu", SOFTMAX, clock, gpu)
    searched(store, "in triton", SOFTMAX, clock, language="triton")
    going_on = searched(store, "going on", SOFTMAX, clock)
    going_on.journal.resume({})
    assert fresh(store, SOFTMAX, clock).recalled == ()


def test_what_was_put_into_quarantine_since_is_not_recalled():
    store, clock = Memory(), Ticking()
    searched(store, "earlier", SOFTMAX, clock)
    assert fresh(store, SOFTMAX, clock).recalled
    store.append("earlier", [Command(at=clock(), verb="quarantine", number=1, text="odd")])
    assert fresh(store, SOFTMAX, clock).recalled == ()


def test_a_kernel_made_for_sizes_that_are_secret_here_is_not_recalled():
    store, clock = Memory(), Ticking()
    searched(store, "shown", task("softmax", "torch.softmax(x, -1)", n=77), clock)
    assert fresh(store, SOFTMAX, clock).recalled == ()


def test_a_replay_is_told_the_same_though_more_runs_have_ended_since():
    store, clock = Memory(), Ticking()
    searched(store, "earlier", SCALED, clock)
    first = searched(store, "first", SOFTMAX, clock, nodes=4, recall=1.0)
    searched(store, "later", SOFTMAX, clock)
    kept = [
        Brief.model_validate_json(store.get_blob(n.proposal.brief))
        for n in first.graph
        if n.proposal
    ]
    journal = Journal(store, "first")
    assert any(one.recalled for one in kept)
    for one in kept:
        assert one.recalled == journal.past.recalled(one.move, one.seed, first.config)


def test_a_whole_replay_asks_models_the_same_with_what_was_recalled():
    store, clock = Memory(), Ticking()
    searched(store, "earlier", SCALED, clock)
    endpoint = Endpoint([ANSWER])
    served = {"model": ["openai:m"], "base_url": "http://localhost/v1", "recall": 1.0}
    searched(store, "run", SOFTMAX, clock, writer=llm(endpoint), nodes=4, **served)
    searched(store, "later", SOFTMAX, clock)
    assert "earlier source 1" in endpoint.text(0)

    def reach(connections: Connections, remember: object) -> Llm:
        return Llm(model=("openai:m",), connections=connections)

    found = Rerun(store, "run", MCTS(), "", reach, check_prompts=True).compared()
    assert found["same"], found["differences"]
    assert found["checked"]["requests"] == len(endpoint.asked)


def test_the_same_run_beside_the_same_past_is_told_the_same():
    def told() -> list[tuple[Recalled, ...]]:
        store, clock = Memory(), Ticking()
        for one in (SCALED, SOFTMAX, CONV):
            searched(store, one.name, one, clock)
        searched(store, "run", SOFTMAX, clock, nodes=6, recall=0.5, workers=1)
        refs = [e.brief for e in store.read("run") if isinstance(e, Proposed)]
        return [Brief.model_validate_json(store.get_blob(ref)).recalled for ref in refs]

    assert told() == told()
    assert any(told())
    assert not all(told())


def test_operators_are_what_a_reference_calls_and_not_what_it_names_itself():
    source = """
import torch
def helper(x):
    return x.exp()
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(8)
    def forward(self, x):
        return self.norm(helper(x) @ x).view(-1, 2).to(torch.float32)
def get_inputs():
    return [torch.randn(8)]
"""
    found = operators(SOFTMAX.model_copy(update={"source": source}))
    assert found == {"exp", "layernorm", "matmul"}
    program = Task(name="softmax", source="", workloads=SOFTMAX.workloads)
    assert operators(program) == {"softmax"}
    assert likeness(SOFTMAX, SOFTMAX) == 1.0
    assert likeness(SOFTMAX, CONV) < 0.4 < likeness(SOFTMAX, SCALED) < 1.0
