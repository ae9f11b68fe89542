"""The programmer that is a language model: one operator, whatever the moment asks for."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from pydantic_ai import Agent, ModelRetry, TextOutput, UsageLimits
from pydantic_ai.exceptions import (
    AgentRunError,
    ContentFilterError,
    ModelAPIError,
    ModelContextWindowExceededError,
    OutputTokenLimitExceeded,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)
from pydantic_ai.settings import ModelSettings

from kernelevolve.core.candidate import Allowance, Brief, Move, Proposal, Usage
from kernelevolve.core.errors import ProgrammerError, ProgrammerLost, UsageError
from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.likeness import operators
from kernelevolve.core.note import Note
from kernelevolve.core.protocols import KnowledgeBase, Workbench
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task
from kernelevolve.programmers.llm import agents, memory
from kernelevolve.programmers.llm.answer import Answer, Complaint, parse
from kernelevolve.programmers.llm.choice import choose
from kernelevolve.programmers.llm.compose import CALLS, Prompt, compose
from kernelevolve.programmers.llm.connect import MILLION, Connections, is_hopeless, said
from kernelevolve.programmers.llm.memory import Reading
from kernelevolve.programmers.llm.tools import Desk, offered

_log = logging.getLogger(__name__)

COMPLAINTS = 2
"""How often a model may correct an answer that cannot be used."""
REQUESTS = 3.1
"""Requests for one node where tools are offered, in two runs of ours (design/0026)."""
USUAL_MATERIAL = 7000
"""Tokens of guide, notes, kernel and verdicts beside the task, there."""
USUAL_ANSWER = 750
"""Tokens of one answer or tool call, there; reasoning adds to it."""
SHRINKS = 2
"""How often a prompt that the model finds too long is composed again with half the room."""


@dataclass
class Llm:
    """Asks a model for every brief; several models are an ensemble."""

    model: tuple[str, ...]
    """As provider:name."""
    helper_model: str | None = None
    """For reading diagnostics and searching the knowledge base; None leaves both to rules."""
    base_url: str | None = None
    """OpenAI-compatible endpoint that serves all models."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """Dollars per million tokens, by `in.MODEL` and `out.MODEL`."""
    knowledge: KnowledgeBase | None = None
    """Where notes are."""
    context: int = 48_000
    """Tokens that a prompt may have."""
    most_answer: int = 32_000
    """Tokens that an answer may have, reasoning included."""
    temperature: float | None = None
    """None leaves it to the model."""
    effort: str = ""
    """Reasoning effort: minimal, low, medium, high; empty leaves it to the model."""
    helper_temperature: float | None = None
    """The same of the helper model."""
    helper_effort: str = ""
    """The same of the helper model."""
    tools: bool = True
    """Whether the model may try kernels out before it answers."""
    notes: int = 5
    """Notes of the knowledge base in a prompt."""
    concurrency: int = 8
    """Requests that one provider is asked at once."""
    dollars: float | None = None
    """The run's limit, which needs known prices."""
    connections: Connections | None = None
    """How models are reached; by default over the network."""
    _lost: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.model:
            raise UsageError(
                "programmer llm needs a model: --model provider:name, for example "
                "--model anthropic:claude-sonnet-4-5; its key is read from the environment"
            )
        if self.connections is None:
            self.connections = Connections(self.base_url, self.concurrency, self.prices)
        for name in [*self.model, *([self.helper_model] if self.helper_model else [])]:
            self.connections.model(name)
            if self.dollars is not None and self.connections.price(name) is None:
                raise UsageError(
                    f"--dollars needs prices, and that of {name} is unknown: give dollars per "
                    f"million tokens with --set prices.in.{name}=1.25 --set prices.out.{name}=10"
                )

    async def study(self, task: Task, target: TargetSpec, bench: Workbench) -> None:
        """See `Programmer`. A model is asked only when there is something to propose."""

    def forecast(self, task: Task, target: TargetSpec, nodes: int) -> Usage:
        """See `Programmer`. By the task's own prompt and by what answers came to in our runs."""
        first = Brief(
            task=task, target=target, language="", guide="", move=Move(), number=1, seed=""
        )
        prompt = compose(first, memory.read(first), (), self.context, self.tools).tokens
        requests = nodes * (REQUESTS if self.tools else 1.0)
        tokens_in = requests * min(self.context, prompt + USUAL_MATERIAL)
        tokens_out = requests * USUAL_ANSWER
        assert self.connections is not None
        prices = [self.connections.price(name) or (0.0, 0.0) for name in self.model]
        mean_in, mean_out = (sum(p[i] for p in prices) / len(prices) for i in (0, 1))
        return Usage(
            tokens=round(tokens_in + tokens_out),
            dollars=(tokens_in * mean_in + tokens_out * mean_out) / MILLION,
            requests=round(requests),
        )

    async def propose(self, brief: Brief, bench: Workbench) -> Proposal:
        """Answer a brief.

        Raises:
            ProgrammerLost: no model can be asked any more.
            ProgrammerError: the model gave no usable answer.
        """
        name = self._chosen(brief)
        desk = Desk(brief, bench, self.knowledge)
        recalled: list[Note] = []
        reading, notes = await self._prepared(desk, recalled)
        answer = await self._asked(name, desk, reading, notes)
        plan = {
            "model": name,
            "directive": reading.directive,
            "recalled": [n.ref for n in recalled],
            "notes": [n.ref for n in notes],
        }
        return Proposal(
            files=answer.files,
            summary=answer.hypothesis,
            plan=json.dumps(plan | {"number": brief.number}),
            predicted=answer.predicted,
            notes=tuple({n.ref: n for n in (*recalled, *notes)}.values()),
        )

    def _chosen(self, brief: Brief) -> str:
        if not _may_spend(brief, "programmer"):
            raise ProgrammerLost("the budget of the programmer's role is spent; raise it or resume")
        able = [name for name in self.model if name not in self._lost]
        if not able:
            raise ProgrammerLost("; ".join(self._lost.values()))
        return choose(able, brief.yields, Random(f"{brief.seed}/model"))

    async def _prepared(self, desk: Desk, recalled: list[Note]) -> tuple[Reading, list[Note]]:
        """Diagnosis, then what the knowledge base holds for it: by rules, refined by agents.

        Args:
            desk: with the brief.
            recalled: takes the notes that the search found, before an agent chose among them.
        """
        brief, reading = desk.brief, memory.read(desk.brief)
        settings = self._settings(self.helper_temperature, self.helper_effort)
        helper = self.helper_model if self.helper_model not in self._lost else None
        if helper and brief.parents and _may_spend(brief, "memory"):
            reading = await agents.refined(
                self._reach(helper, "memory", desk), settings, desk, reading
            )
        if self.knowledge is None:
            return reading, []
        computed = " ".join(sorted(operators(brief.task)))
        query = f"{reading.symptom} {reading.directive} {computed}"
        recalled += self.knowledge.recall(
            query, limit=self.notes, target=brief.target.address, language=brief.language
        )
        if helper and _may_spend(brief, "search"):
            model = self._reach(helper, "search", desk)
            return reading, await agents.searched(
                model, settings, desk, reading, recalled, self.notes
            )
        return reading, recalled

    async def _asked(self, name: str, desk: Desk, reading: Reading, notes: list[Note]) -> Answer:
        room = self.context
        for left in reversed(range(SHRINKS + 1)):
            prompt = compose(desk.brief, reading, notes, room, self.tools)
            try:
                return await self._conversed(name, desk, prompt)
            except ModelContextWindowExceededError as error:
                if not left:
                    raise ProgrammerError(said(error)) from error
                room = min(room, prompt.tokens) // 2
                _log.info("node #%d: composed again with %d tokens", desk.brief.number, room)
            except ModelAPIError as error:
                if is_hopeless(error):
                    self._lost[name] = said(error)
                    if set(self.model) <= set(self._lost):
                        raise ProgrammerLost("; ".join(self._lost.values())) from error
                raise ProgrammerError(said(error)) from error
            except AgentRunError as error:
                raise ProgrammerError(f"{name}: {_why(error)}") from error
        raise AssertionError("unreachable")

    async def _conversed(self, name: str, desk: Desk, prompt: Prompt) -> Answer:
        """One conversation: tool calls, an answer, complaints about it."""
        complaints: list[str] = []

        async def read(text: str) -> Answer:
            try:
                found = parse(text, desk.current)
                await self._screened(found, desk)
            except Complaint as complaint:
                complaints.append(str(complaint))
                raise ModelRetry(f"Your answer cannot be used: {complaint}") from complaint
            return found

        agent: Agent[Desk, Answer] = Agent(
            self._reach(name, "programmer", desk),
            output_type=TextOutput[Answer](read),
            instructions=prompt.instructions,
            deps_type=Desk,
            tools=offered(self.knowledge) if self.tools else [],
            retries={"tools": CALLS, "output": COMPLAINTS},
            model_settings=self._settings(self.temperature, self.effort),
        )
        try:
            result = await agent.run(prompt.text, deps=desk, usage_limits=_limits(desk.brief))
        except UnexpectedModelBehavior as error:
            if complaints and not isinstance(error, (ContentFilterError, OutputTokenLimitExceeded)):
                raise ProgrammerError(f"{name}: no usable answer: {complaints[-1]}") from error
            raise
        return result.output

    async def _screened(self, found: Answer, desk: Desk) -> None:
        """What is no candidate in this language is sent back before it is judged."""
        verdict = await desk.bench.try_out(found.files, Stage.SCREEN)
        if verdict.status is Status.INVALID:
            raise Complaint(verdict.message)

    def _reach(self, name: str, role: str, desk: Desk) -> agents.Asked:
        assert self.connections is not None
        return self.connections.asked(name, role, desk.bench.exchanged)

    def _settings(self, temperature: float | None, effort: str) -> ModelSettings:
        settings = ModelSettings(max_tokens=self.most_answer, max_retries=0)
        if temperature is not None:
            settings["temperature"] = temperature
        if effort:
            settings["thinking"] = effort  # type: ignore[typeddict-item]
        return settings


def _may_spend(brief: Brief, role: str) -> bool:
    return not any(brief.allowances.get(name, Allowance()).spent for name in ("", role))


def _limits(brief: Brief) -> UsageLimits:
    """A conversation ends within what the run and its role have left."""
    left = [brief.allowances.get(name, Allowance()) for name in ("", "programmer")]
    tokens = [a.tokens for a in left if a.tokens is not None]
    requests = [a.requests for a in left if a.requests is not None]
    return UsageLimits(
        request_limit=max(1, min([CALLS + COMPLAINTS + 4, *requests])),
        total_tokens_limit=max(1, min(tokens)) if tokens else None,
    )


def _why(error: AgentRunError) -> str:
    if isinstance(error, ContentFilterError):
        return "the provider's filter refused to answer"
    if isinstance(error, OutputTokenLimitExceeded):
        return (
            "the answer was cut at its limit of tokens; raise it with "
            "--set programmer.most_answer=64000"
        )
    if isinstance(error, UsageLimitExceeded):
        return f"the conversation found no end: {error}"
    return str(error)
