"""Models by name: who serves them, what they cost, how many requests run at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelAuthenticationError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    UserError,
)
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers import Provider, infer_provider_class
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from kernelevolve.config import key
from kernelevolve.core.candidate import Exchange, Usage
from kernelevolve.core.errors import UsageError
from kernelevolve.programmers.llm.transport import client, watched

HOPELESS = (ModelAuthenticationError, ModelNotFoundError, ModelQuotaExceededError)
"""What the next request meets again."""
MILLION = 1_000_000
USUAL = 10_000
"""Tokens of a prompt; longer ones may cost more each."""

Keep = Callable[[Exchange], None]


@dataclass
class Connections:
    """The models of one run."""

    base_url: str | None = None
    """OpenAI-compatible endpoint that serves all of them; None for their own providers."""
    concurrency: int = 8
    """Requests that one provider is asked at once."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """Dollars per million tokens: `in.MODEL` and `out.MODEL`."""
    transport: httpx2.AsyncBaseTransport | None = None
    """What carries requests instead of the network: recordings and tests."""
    _models: dict[str, Model] = field(default_factory=dict, init=False, repr=False)
    _gates: dict[str, asyncio.Semaphore] = field(default_factory=dict, init=False, repr=False)

    def model(self, name: str) -> Model:
        """The model behind a name.

        Raises:
            UsageError: the provider is unknown, its library is missing, or its key is not set.
        """
        if name not in self._models:
            self._models[name] = self._connected(name)
        return self._models[name]

    def asked(self, name: str, role: str, keep: Keep) -> Asked:
        """The same for one role at one node, which tells `keep` of every exchange."""
        provider = name.partition(":")[0]
        gate = self._gates.setdefault(provider, asyncio.Semaphore(self.concurrency))
        return Asked(self.model(name), name, role, keep, gate, self.prices)

    def price(self, name: str) -> tuple[float, float] | None:
        """Dollars per million tokens in and out; None where it is not known."""
        given = self.prices.get(f"in.{name}"), self.prices.get(f"out.{name}")
        if given[0] is not None and given[1] is not None:
            return given[0], given[1]
        return None if self.base_url else _listed(name)

    def _connected(self, name: str) -> Model:
        kind, _, model = name.partition(":")
        if not model:
            raise UsageError(
                f"model {name!r}: write provider:name, for example openai:{name} or "
                f"anthropic:{name}; with --base-url, openai:{name}"
            )
        if self.base_url:
            name = f"openai-chat:{model}"
        try:
            return infer_model(name, self._provider)
        except (UserError, ValueError) as error:
            reason = str(error).split(" or pass it via")[0].split(". ")[0]
            raise UsageError(f"model {name!r}: {reason}") from error
        except ImportError as error:
            raise UsageError(f"model {name!r}: {error}; pip install 'kernelevolve[llm]'") from error

    def _provider(self, kind: str) -> Provider[Any]:
        if self.base_url:
            # An endpoint of one's own needs no key; the client library insists on one.
            return OpenAIProvider(
                base_url=self.base_url,
                api_key=key("OPENAI_API_KEY") or "none",
                http_client=client(self.transport),
            )
        given: dict[str, Any] = {"http_client": client(self.transport)}
        if self.transport is not None:
            given["api_key"] = "none"
        return infer_provider_class(kind)(**given)


class Asked(WrapperModel):
    """A model as one role at one node asks it: within the gate, and every exchange is kept."""

    def __init__(
        self,
        wrapped: Model,
        name: str,
        role: str,
        keep: Keep,
        gate: asyncio.Semaphore,
        prices: Mapping[str, float],
    ) -> None:
        super().__init__(wrapped)
        self._named, self._role, self._keep = name, role, keep
        self._gate, self._prices = gate, prices

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask, keep what went over the wire, and charge it."""
        usage = Usage()
        async with self._gate:
            with watched() as wire:
                try:
                    answer = await self.wrapped.request(
                        messages, model_settings, model_request_parameters
                    )
                    usage = self._cost(answer)
                    return answer
                finally:
                    self._keep(
                        Exchange(
                            role=self._role,
                            model=self._named,
                            status=wire.status,
                            request=wire.request,
                            response=wire.response,
                            usage=usage,
                        )
                    )

    def _cost(self, answer: ModelResponse) -> Usage:
        used = answer.usage
        tokens = used.input_tokens + used.output_tokens
        given = self._prices.get(f"in.{self._named}"), self._prices.get(f"out.{self._named}")
        if given[0] is not None and given[1] is not None:
            dollars = (used.input_tokens * given[0] + used.output_tokens * given[1]) / MILLION
        else:
            dollars = _billed(answer)
        return Usage(tokens=tokens, dollars=dollars, requests=1)


def _billed(answer: ModelResponse) -> float:
    """By the price list of genai-prices, which knows caches and tiers; 0 where it knows nothing."""
    try:
        return float(answer.cost().total_price)
    except (LookupError, ValueError, AssertionError):
        return 0.0


def _listed(name: str) -> tuple[float, float] | None:
    """Dollars per million tokens in and out, by the price list."""
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    provider, _, model = name.partition(":")
    provider = provider.removesuffix("-chat").removesuffix("-responses")
    try:
        tokens = Tokens(input_tokens=USUAL, output_tokens=USUAL)
        found = calc_price(tokens, model, provider_id=provider)
    except LookupError:
        return None
    per_million = MILLION / USUAL
    return float(found.input_price) * per_million, float(found.output_price) * per_million


def is_hopeless(error: BaseException) -> bool:
    """Whether the next request to the same model would fail alike."""
    return isinstance(error, HOPELESS)


def said(error: ModelAPIError) -> str:
    """An API's error in one line."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else body
    message = inner.get("message") if isinstance(inner, dict) else inner
    status = getattr(error, "status_code", None)
    head = f"{error.model_name}: HTTP {status}" if status else str(error.model_name)
    return f"{head}: {message or error}"[:400]
