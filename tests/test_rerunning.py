"""A search whose programmer asks models, recorded, replayed and exported."""

import json
import re

import pytest

from kernelevolve.core.errors import UnknownName, UsageError
from kernelevolve.core.evaluation import TIMED, Evaluation, Stage
from kernelevolve.core.events import Exchanged, Failed, Proposed, TriedOut
from kernelevolve.core.graph import Graph
from kernelevolve.core.note import Note
from kernelevolve.core.record import digest
from kernelevolve.policies.mcts import MCTS
from kernelevolve.programmers.llm.programmer import Llm
from kernelevolve.rerunning import Rerun
from kernelevolve.steering import say
from kernelevolve.stores.memory import Memory
from kernelevolve.trajectories import lines
from tests.programmers.llm_kit import Endpoint, called, completion, failure, llm
from tests.search.search_kit import Device, random_score, run, session

SOURCE = "class ModelNew: ...\n# {}\n"


class Author(Endpoint):
    """Every answer is another kernel; the second says nothing, the third tries its kernel first."""

    async def handle_async_request(self, request):
        asked = json.loads(await request.aread())
        self.asked.append(asked)
        said = [m["role"] for m in asked["messages"]]
        node = re.findall(r"kernel, #(\d+), from", json.dumps(asked))[-1]
        text = f"HYPOTHESIS: idea {node}\nPREDICTED: 2\nFILE: model.py\n```\n"
        text += SOURCE.format(digest(node)) + "```\n"
        if node == "2":
            return completion("no idea")
        if node == "3" and "tool" not in said:
            return completion(called("check", kernel=text, upto="verify"))
        return failure(400, "no") if node == "5" else completion(text)


class Notes:
    """A knowledge base whose notes are of a time."""

    def __init__(self, when: str) -> None:
        self.when = when

    def recall(self, query, *, limit, target="", language=""):
        ref = f"guidance/{self.when}"
        return [Note(ref=ref, title="a note", kind="guidance", source=("x",), text=self.when)]

    def note(self, ref):
        raise UnknownName(ref)

    def index(self, target, language):
        return self.when


def judged(source: str, stage: Stage) -> Evaluation:
    return random_score(source, stage) if stage in TIMED else Evaluation(status="ok", stage=stage)


def searching(store: Memory, endpoint: Endpoint, **config):
    served = {"base_url": "http://localhost/v1", "model": ["openai:m"]}
    programmer = llm(endpoint, knowledge=Notes("then"))
    return session(store, programmer, Device(judged), **served, **config)


@pytest.fixture(scope="module")
def recorded() -> Memory:
    store = Memory()
    run(searching(store, Author([""]), nodes=12, workers=2))
    return store


def again(store: Memory, check_prompts: bool = True, guide: str = "write C++", **options):
    def reach(connections, remember) -> Llm:
        knowledge = remember(Notes("today"))
        return Llm(model=("openai:m",), connections=connections, knowledge=knowledge, **options)

    return Rerun(store, "run", MCTS(), guide, reach, check_prompts).compared()


def test_what_models_are_asked_and_what_it_cost_is_in_the_journal(recorded):
    events = recorded.read("run")
    graph = Graph.fold(events)
    asked = [e for e in events if isinstance(e, Exchanged)]
    assert {e.number for e in asked} == set(graph.nodes)
    assert [(e.role, e.ordinal) for e in asked if e.number == 2] == [
        ("programmer", n) for n in range(3)
    ]
    assert graph.usage.requests == sum(e.status == 200 for e in asked)
    assert graph.usage.dollars == pytest.approx(sum(e.usage.dollars for e in asked)) != 0
    assert {e.number for e in events if isinstance(e, Failed)} == {2, 5}
    assert [e.stage for e in events if isinstance(e, TriedOut) and e.number == 3] == [
        "verify",
        "screen",
    ]
    assert all(e.predicted == 2.0 for e in events if isinstance(e, Proposed))


def test_a_whole_run_is_repeated_without_model_or_device(recorded):
    found = again(recorded)
    assert found["same"], found["differences"]
    assert found["checked"]["moves"] == found["checked"]["answers"] == 12
    assert found["checked"]["requests"] == sum(
        isinstance(e, Exchanged) for e in recorded.read("run")
    )


def test_another_prompt_another_brief_another_policy_are_told(recorded):
    prompts = again(recorded, tools=False)
    assert "the prompt differs" in str(prompts["differences"])
    assert again(recorded, check_prompts=False, temperature=0.5)["same"]
    briefs = again(recorded, check_prompts=False, guide="write better C++")
    assert "the brief differs" in str(briefs["differences"])
    policy = Rerun(recorded, "run", MCTS(drafts=1), "write C++").compared()
    assert "the policy now asks for" in str(policy["differences"])


def test_trajectories_have_exchanges_verdicts_and_rewards(recorded):
    rows = list(lines("run", Graph.fold(recorded.read("run")), recorded.get_blob))
    assert json.loads(json.dumps(rows)) == rows
    assert [row["node"] for row in rows] == list(range(1, 13))
    assert rows[1]["reward"] == -1.0 and rows[1]["failure"]
    good = [row for row in rows if row["score"]]
    assert good and all(row["reward"] >= 0 for row in good)
    assert "write C++" in str(rows[0]["exchanges"][0]["request"])
    assert "odd" not in json.dumps(rows)


@pytest.mark.parametrize(
    "limit, reason",
    [({"tokens": 3000}, "tokens"), ({"requests": 4}, "requests"), ({"dollars": 0.005}, "dollars")],
)
def test_a_budget_ends_a_run_gracefully(limit, reason):
    store = Memory()
    graph = run(searching(store, Author([""]), nodes=60, workers=1, **limit))
    assert graph.stopped_by == reason
    assert len(graph) < 10
    assert graph.best is not None and graph.best.confirmed


def test_a_model_that_does_not_exist_stops_the_run_with_the_reason():
    graph = run(searching(Memory(), Endpoint([failure(404, "no such model")]), nodes=60))
    assert graph.stopped_by == "programmer"
    assert "no such model" in str(graph.nodes[1].failure)
    assert len(graph) <= 3


def test_commands_are_said_to_runs_and_nodes_that_exist(recorded):
    with pytest.raises(UsageError, match="unknown run 'other'"):
        say(recorded, "other", "pause")
    with pytest.raises(UsageError, match="no node #99"):
        say(recorded, "run", "pin", 99)
    with pytest.raises(UsageError, match="hint is empty"):
        say(recorded, "run", "hint", text=" ")
    store = Memory()
    run(searching(store, Author([""]), nodes=1, workers=1))
    assert say(store, "run", "hint", text="use registers").hints == ["use registers"]


def test_a_hint_reaches_the_next_prompt():
    store, author = Memory(), Author([""])
    run(searching(store, author, nodes=1, workers=1))
    say(store, "run", "hint", text="use registers")
    run(searching(store, author, nodes=2, workers=1))
    assert "use registers" in author.text()
