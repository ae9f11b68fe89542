import asyncio
from random import Random

import httpx2
import pytest

from kernelevolve.core.candidate import Allowance, Attempt, SourceFile, Yield
from kernelevolve.core.errors import ProgrammerError, ProgrammerLost, UsageError
from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.core.note import Note
from kernelevolve.programmers.llm import transport
from kernelevolve.programmers.llm.choice import choose
from kernelevolve.programmers.llm.connect import Connections
from kernelevolve.testing.journals import passed
from tests.programmers.llm_kit import (
    ANSWER,
    KERNEL,
    Bench,
    Endpoint,
    brief,
    called,
    completion,
    failure,
    llm,
)


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """How long a retry would have waited; none does."""
    waited: list[float] = []

    async def nap(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(transport, "pause", nap)
    return waited


def asked(*replies, bench=None, **fields):
    endpoint, bench = Endpoint(replies), bench or Bench()
    given = {k: fields.pop(k) for k in list(fields) if k in ("model", "prices", "tools", "context")}
    model = given.pop("model", ())
    programmer = llm(endpoint, *model, **given)
    proposal = asyncio.run(programmer.propose(brief(**fields), bench))
    return proposal, endpoint, bench


def test_an_answer_becomes_a_proposal_and_is_charged():
    proposal, endpoint, bench = asked(ANSWER)
    assert proposal.files[0].text == KERNEL
    assert (proposal.summary, proposal.predicted) == ("one pass", 1.4)
    (exchange,) = bench.exchanges
    assert exchange.usage.tokens == 1100
    assert exchange.usage.dollars == pytest.approx((1000 * 1.0 + 100 * 10.0) / 1e6)
    assert b"write C++" in exchange.request
    assert b"one pass" in exchange.response


@pytest.mark.parametrize(
    "wrong, complaint",
    [
        ("I would fuse the loops.", "no code that can be used"),
        ("", "return text"),
        (" ", "the answer is empty"),
        ("FILE: model.py\n```python\nimport torch\n```", "does not define class ModelNew"),
        ("FILE: model.py\n```python\nclass ModelNew(:\n```", "line 1"),
        ("FILE: model.py\n```python\nclass ModelNew:", "not closed"),
        ("EDIT: model.py\n```\n<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n```", "no current"),
    ],
)
def test_an_answer_that_cannot_be_used_is_sent_back_with_the_reason(wrong, complaint):
    proposal, endpoint, bench = asked(wrong, ANSWER)
    assert proposal.files[0].text == KERNEL
    assert complaint in endpoint.text()
    assert len(bench.exchanges) == 2


def test_who_does_not_learn_fails_alone():
    with pytest.raises(ProgrammerError, match="no usable answer.*no code") as caught:
        asked("no")
    assert not isinstance(caught.value, ProgrammerLost)


def test_a_kernel_in_another_language_is_sent_back():
    verdicts = iter([Status.INVALID, Status.OK])
    bench = Bench(
        lambda stage: Evaluation(status=next(verdicts), stage=stage, message="this is Triton")
    )
    _, endpoint, _ = asked(ANSWER, ANSWER, bench=bench)
    assert "this is Triton" in endpoint.text()


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_a_passing_failure_is_repeated_and_not_charged(status, waits):
    proposal, endpoint, bench = asked(failure(status), failure(status), ANSWER)
    assert proposal.files
    assert len(endpoint.asked) == 3
    assert sum(e.usage.requests for e in bench.exchanges) == 1
    assert len(waits) == 2


def test_retry_after_is_obeyed(waits):
    asked(failure(429, **{"retry-after": "7"}), ANSWER)
    assert waits == [7.0]


@pytest.mark.parametrize(
    "broken",
    [
        httpx2.ReadError("reset"),
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("silent"),
        httpx2.RemoteProtocolError("closed"),
    ],
)
def test_a_dropped_connection_is_tried_again(broken):
    proposal, endpoint, _ = asked(broken, ANSWER)
    assert proposal.files and len(endpoint.asked) == 2


def test_an_endpoint_that_never_answers_costs_one_node_and_says_so():
    with pytest.raises(ProgrammerError, match="(?i)connect"):
        asked(httpx2.ConnectError("refused"))


def test_a_slow_drip_ends(monkeypatch):
    monkeypatch.setattr(transport, "ANSWER_SECONDS", 0.01)

    class Drip(Endpoint):
        async def handle_async_request(self, request):
            await asyncio.sleep(60)

    programmer = llm(Drip([""]))
    with pytest.raises(ProgrammerError, match="(?i)time"):
        asyncio.run(programmer.propose(brief(), Bench()))


@pytest.mark.parametrize(
    "reply, words",
    [
        (failure(401, "bad key"), "401.*bad key"),
        (failure(404, "no such model", "model_not_found"), "404.*no such model"),
        (failure(429, "pay first", "insufficient_quota"), "pay first"),
    ],
)
def test_what_no_repetition_helps_ends_the_search(reply, words):
    endpoint = Endpoint([reply])
    programmer = llm(endpoint)
    for _ in range(2):
        with pytest.raises(ProgrammerLost, match=words):
            asyncio.run(programmer.propose(brief(), Bench()))
    assert len(endpoint.asked) == 1


def test_one_lost_model_of_two_leaves_the_other():
    endpoint = Endpoint([failure(404, "no such model", "model_not_found"), ANSWER])
    programmer = llm(endpoint, "openai:a", "openai:b")
    with pytest.raises(ProgrammerError) as caught:
        asyncio.run(programmer.propose(brief(), Bench()))
    assert not isinstance(caught.value, ProgrammerLost)
    for number in range(2, 8):
        given = brief(number=number, seed=f"0/{number}")
        assert asyncio.run(programmer.propose(given, Bench())).files
    assert len({request["model"] for request in endpoint.asked[1:]}) == 1


def test_a_prompt_that_is_too_long_is_composed_again():
    long = failure(400, "maximum context length is 8192 tokens", "context_length_exceeded")
    proposal, endpoint, _ = asked(long, ANSWER, guide="write C++ " * 10_000)
    assert proposal.files
    assert len(endpoint.text(1)) < len(endpoint.text(0)) / 2


def test_a_cut_answer_and_a_refusal_say_so():
    with pytest.raises(ProgrammerError, match="refused"):
        asked(completion("", finish_reason="content_filter"))
    cut = completion("FILE: model.py\n```python\nclass ModelNew:", finish_reason="length")
    with pytest.raises(ProgrammerError, match="(?s)cut"):
        asked(cut)


def test_nonsense_instead_of_json_is_no_crash():
    with pytest.raises(ProgrammerError):
        asked(httpx2.Response(200, text="<html>proxy</html>"))


def test_tools_are_the_workbench():
    look = called("check", kernel=ANSWER, upto="verify")
    _, endpoint, bench = asked(look, called("show_node", node=3), ANSWER)
    assert bench.tried == [Stage.VERIFY, Stage.SCREEN]
    assert "verify: correct, not timed" in endpoint.text()
    assert "what #3 holds" in endpoint.text()


def test_a_tool_that_does_not_exist_is_answered_not_run():
    proposal, endpoint, bench = asked(called("rm_rf", path="/"), ANSWER)
    assert proposal.files and not bench.tried[:-1]
    assert "rm_rf" in endpoint.text()


def test_endless_tool_loops_end():
    with pytest.raises(ProgrammerError, match="no end"):
        asked(called("show_node", node=1))


def test_without_tools_none_are_offered():
    _, endpoint, _ = asked(ANSWER, tools=False)
    assert "tools" not in endpoint.asked[0]


def test_keys_are_kept_nowhere(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret")
    _, endpoint, bench = asked(
        completion(f"sk-very-secret\n{ANSWER}"), guide="my key is sk-very-secret"
    )
    assert all(b"sk-very-secret" not in e.request + e.response for e in bench.exchanges)


def test_a_key_that_is_missing_is_said_before_anything_starts(monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(UsageError, match="ANTHROPIC_API_KEY"):
        Connections().model("anthropic:claude-sonnet-4-5")
    with pytest.raises(UsageError, match="provider:name"):
        Connections().model("gpt-5")
    with pytest.raises(UsageError, match="nobody"):
        Connections().model("nobody:x")


def test_prices_are_listed_or_given():
    assert Connections().price("openai:gpt-4o") == (2.5, 10.0)
    assert Connections().price("openai:no-such-model") is None
    mine = Connections(prices={"in.openai:x": 1.0, "out.openai:x": 2.0})
    assert mine.price("openai:x") == (1.0, 2.0)


def test_one_provider_is_asked_so_many_at_once():
    endpoint = Endpoint([ANSWER])
    programmer = llm(endpoint)
    programmer.connections.concurrency = 2

    async def many():
        briefs = [brief(number=n, seed=f"0/{n}") for n in range(6)]
        await asyncio.gather(*(programmer.propose(b, Bench()) for b in briefs))

    asyncio.run(many())
    assert len(endpoint.asked) == 6
    assert endpoint.most_at_once <= 2


def test_the_bandit_prefers_what_gains_per_dollar():
    yields = [
        Yield(model="dear", nodes=20, gain=2.0, dollars=20.0, tokens=1),
        Yield(model="cheap", nodes=20, gain=2.0, dollars=2.0, tokens=1),
    ]
    drawn = [choose(["dear", "cheap"], yields, Random(i)) for i in range(200)]
    assert drawn.count("cheap") > 150
    unknown = [choose(["dear", "new"], yields[:1], Random(i)) for i in range(200)]
    assert unknown.count("new") > 20


@pytest.mark.parametrize("role", ["", "programmer"])
def test_a_role_that_may_spend_nothing_asks_nothing(role):
    endpoint = Endpoint([ANSWER])
    told = brief(allowances={role: Allowance(dollars=0.0)})
    with pytest.raises(ProgrammerLost, match="budget"):
        asyncio.run(llm(endpoint).propose(told, Bench()))
    assert not endpoint.asked


def test_a_spent_budget_of_tokens_ends_a_conversation():
    spent = {"": Allowance(tokens=500)}
    with pytest.raises(ProgrammerError, match="no end"):
        asked(called("show_node", node=1), ANSWER, allowances=spent)


PARENT = Attempt(
    number=1,
    files=(SourceFile(path="model.py", text=KERNEL),),
    plan=None,
    summary="",
    evaluation=passed(2.0),
)


def test_helpers_read_and_search_with_settings_of_their_own():
    class Notes:
        def recall(self, query, **given):
            return [note("guidance/found")]

        def note(self, ref):
            return note(ref)

        def index(self, target, language):
            return f"guidance: chosen for {target} and {language}"

    def note(ref):
        return Note(ref=ref, title=ref, kind="guidance", source=("x",), text=f"says {ref}")

    endpoint = Endpoint(
        [
            called("final_result", symptom="bank conflicts", directive="pad the rows"),
            called("final_result", refs=["guidance/chosen"]),
            ANSWER,
        ]
    )
    given = {"helper_temperature": 0.0, "temperature": 1.0, "knowledge": Notes()}
    programmer = llm(endpoint, helper_model="openai:h", **given)
    bench = Bench()
    proposal = asyncio.run(programmer.propose(brief(number=2, parents=(PARENT,)), bench))
    assert [e.role for e in bench.exchanges] == ["memory", "search", "programmer"]
    assert [a["model"] for a in endpoint.asked] == ["h", "h", "m"]
    assert [a["temperature"] for a in endpoint.asked] == [0.0, 0.0, 1.0]
    assert "pad the rows" in endpoint.text() and "says guidance/chosen" in endpoint.text()
    walks = [text for n in range(len(endpoint.asked)) if "chosen for" in (text := endpoint.text(n))]
    assert walks and all("chosen for cpu" in text and "and cpp" in text for text in walks)
    assert [n.ref for n in proposal.notes] == ["guidance/found", "guidance/chosen"]


def test_a_helper_that_fails_leaves_its_work_to_rules():
    endpoint = Endpoint([failure(400), ANSWER])
    programmer = llm(endpoint, helper_model="openai:h")
    told = brief(number=2, parents=(PARENT,))
    assert asyncio.run(programmer.propose(told, Bench())).files
