"""Two helpers with a model of their own: one reads artefacts, one walks the knowledge base.

Whatever they cannot do is left to the rules that they start from.
"""

from __future__ import annotations

import logging

from pydantic import Field
from pydantic_ai import Agent, UsageLimits
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.settings import ModelSettings

from kernelevolve.core.errors import KernelEvolveError
from kernelevolve.core.note import Note
from kernelevolve.core.record import Record
from kernelevolve.programmers.llm.compose import render
from kernelevolve.programmers.llm.connect import Asked
from kernelevolve.programmers.llm.memory import Reading
from kernelevolve.programmers.llm.tools import LOOKING, READING, Desk

__all__ = ["Asked", "refined", "searched"]

_log = logging.getLogger(__name__)

REQUESTS = 8
CALLS = 6


class Found(Record):
    """What is worth its tokens for the kernel that comes next."""

    refs: tuple[str, ...] = Field(default=(), max_length=12)
    """Names of notes, most useful first."""


async def refined(model: Asked, settings: ModelSettings, desk: Desk, reading: Reading) -> Reading:
    """The reading of a model that looked at the parents' artefacts; else the one by rules."""
    agent = Agent(
        model,
        output_type=Reading,
        instructions=render("memory"),
        deps_type=Desk,
        tools=list(LOOKING),
        model_settings=settings,
    )
    prompt = render("artefacts", brief=desk.brief, reading=reading)
    try:
        own = Desk(desk.brief, desk.bench, None, CALLS)
        result = await agent.run(prompt, deps=own, usage_limits=UsageLimits(request_limit=REQUESTS))
    except AgentRunError as error:
        _log.info("the diagnosis is left to rules: %s", error)
        return reading
    return result.output


async def searched(
    model: Asked,
    settings: ModelSettings,
    desk: Desk,
    reading: Reading,
    known: list[Note],
    most: int,
) -> list[Note]:
    """The notes that a model chose for a diagnosis; else those found by search."""
    assert desk.knowledge is not None
    agent = Agent(
        model,
        output_type=Found,
        instructions=render("search"),
        deps_type=Desk,
        tools=list(READING),
        model_settings=settings,
    )
    index = desk.knowledge.index(desk.brief.target.address, desk.brief.language)
    prompt = render("walk", brief=desk.brief, reading=reading, index=index, known=known)
    try:
        own = Desk(desk.brief, desk.bench, desk.knowledge, CALLS)
        result = await agent.run(prompt, deps=own, usage_limits=UsageLimits(request_limit=REQUESTS))
        return [desk.knowledge.note(ref) for ref in result.output.refs[:most]] or known
    except (AgentRunError, KernelEvolveError) as error:
        _log.info("the notes are left to the search: %s", error)
        return known
