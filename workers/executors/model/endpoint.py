"""One request to a model: protocols, waiting, errors, cost.

Loads the library for models, so only who carries a step out imports this.
"""

from __future__ import annotations

import asyncio
import os
import random
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx2
from pydantic_ai import exceptions as errors
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from workers.executors.contract import Assignment, Usage
from workers.executors.model.conversation import dump, load
from workers.executors.model.given import PROVIDERS
from workers.executors.model.tools import Tool

TRIES = 4
PAUSE_SECONDS = 1.0  # before the second try; each further one waits twice as long
LONGEST_PAUSE_SECONDS = 20.0  # a worker does not sit still for longer: it hands the card over
CONNECT_SECONDS = 15.0
MAX_WORDS_CHARS = 2_000

#: All that an address which the operator did not name gets to see of our headers.
HEADERS = {
    "accept",
    "accept-encoding",
    "anthropic-beta",
    "anthropic-version",
    "connection",
    "content-length",
    "content-type",
    "host",
    "user-agent",
}


class Misconfigured(Exception):
    """No request can be made as the step and this host are set up. A sentence says why."""


class Waiting(Exception):
    """The model can't answer now. ``reason`` is a word for programs, see ``HandOver``."""

    def __init__(self, reason: str, because: str, retry_after_seconds: float | None) -> None:
        super().__init__(because)
        self.reason, self.because = reason, because
        self.retry_after_seconds = retry_after_seconds


class Rejected(Exception):
    """The model's provider will not answer this, however often it is asked. A sentence."""


class TooLong(Exception):
    """The model can't take as much as was sent."""


class OutOfTime(Exception):
    """The step's time is over."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model is and what opens it. ``key_from`` names the variable that had the key.

    ``own``: the provider's address, or the one that this server's environment names in its place.
    """

    provider: str
    base_url: str
    key: str
    key_from: str
    own: bool = False


def address(
    model: Mapping[str, Any],
    env: Mapping[str, str],
    *,
    host: Mapping[str, str] = os.environ,
    keys: Mapping[str, str] | None = None,
    allowed: Sequence[str] = (),
) -> Address:
    """Return where the model is and its key. Raises Misconfigured.

    ``env`` are the variables the step's own commands see: what is there, the step may use as it
    likes. A key of this server's (``host``) goes only where the operator says: a provider's key
    to the provider, any other to the address that ``keys`` has for it. Where ``allowed`` names
    addresses, no other one is asked.
    """
    key_name, url_name, home = PROVIDERS[model["provider"]]
    ours = (host.get(url_name) or home).rstrip("/")
    base_url = (model["base_url"] or env.get(url_name) or ours).rstrip("/")
    if allowed and base_url not in {home, ours, *allowed}:
        raise Misconfigured(
            f"This server does not ask models at {base_url}; an operator can allow it with "
            "MODEL_ENDPOINTS."
        )
    name = model["api_key_env"] or key_name
    own = base_url in (home, ours)
    if env.get(name):
        return Address(model["provider"], base_url, env[name], name, own)
    trusted = {key_name: {home, ours}}
    for listed, where in (keys or {}).items():
        trusted.setdefault(listed, set()).add(where.rstrip("/"))
    if host.get(name) and base_url in trusted.get(name, ()):
        return Address(model["provider"], base_url, host[name], name, own)
    if host.get(name) and model["api_key_env"]:
        raise Misconfigured(
            f"The key {name} of this server may not go to {base_url}; an operator can allow it "
            "with MODEL_KEYS."
        )
    if base_url == home or model["api_key_env"]:
        raise Misconfigured(
            f"There is no key for the model: set {name} as a secret of the board, in the "
            "environment of the workers, or in the step's env."
        )
    return Address(model["provider"], base_url, "none", "")  # a local one asks for none


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered, as JSON and as a message, and what that cost."""

    message: Any
    response: ModelResponse
    usage: Usage


class Endpoint:
    """A model at an address. ``close`` it; between two calls nothing runs."""

    def __init__(
        self,
        given: Mapping[str, Any],
        where: Address,
        assignment: Assignment,
        tools: Sequence[Tool],
    ) -> None:
        self._model_given = given["model"]
        self._where, self._assignment = where, assignment
        self._loop = asyncio.new_event_loop()
        self._client, self._model = _connected(where, given["model"]["name"])
        self._settings: dict[str, Any] = {
            name: given[name] for name in ("max_tokens", "temperature") if given[name] is not None
        }
        if where.provider == "anthropic":
            self._settings["cache"] = True
        self._parameters = ModelRequestParameters(
            function_tools=[
                ToolDefinition(
                    name=tool.name,
                    description=tool.about,
                    parameters_json_schema=dict(tool.parameters),
                    strict=False,
                )
                for tool in tools
            ]
        )

    def close(self) -> None:
        """Let go of the connections."""
        try:
            self._loop.run_until_complete(self._client.close())
        finally:
            self._loop.close()

    def ask(self, messages: Sequence[ModelMessage], remaining: Callable[[], float]) -> Reply:
        """Return the model's next answer, secrets struck out.

        Raises Waiting, Rejected, TooLong, OutOfTime; HandOver and LeaseLost if this worker is to
        stop meanwhile: the request is abandoned at once then.
        """
        response = self._guarded(self._patiently(messages, remaining))
        message = self._assignment.redacted(_storable(dump([response])[0]))
        return Reply(message, load([message])[0], self._usage(response))

    def _guarded(self, work: Coroutine[Any, Any, ModelResponse]) -> ModelResponse:
        task = self._loop.create_task(work)
        loop = self._loop

        class Request:
            def cancel(self, *, at_once: bool = False) -> None:
                loop.call_soon_threadsafe(task.cancel)

        try:
            with self._assignment.guarding(Request()):
                return loop.run_until_complete(task)
        except asyncio.CancelledError:
            self._assignment.check()
            raise Waiting("shutdown", "The request was abandoned.", None) from None

    async def _patiently(
        self, messages: Sequence[ModelMessage], remaining: Callable[[], float]
    ) -> ModelResponse:
        """Ask, again after a short while where that helps."""
        pause = PAUSE_SECONDS
        for tries_left in range(TRIES - 1, -1, -1):
            left = remaining()
            if left <= 0:
                raise OutOfTime
            try:
                async with asyncio.timeout(left):
                    return await self._once(messages, left)
            except Waiting as waiting:
                wanted = waiting.retry_after_seconds
                wait = pause * random.uniform(0.8, 1.2) if wanted is None else wanted
                if not tries_left or wait > LONGEST_PAUSE_SECONDS:
                    raise
                self._assignment.progress(f"Waiting {wait:.0f} s: {waiting.because}")
                await asyncio.sleep(min(wait, max(0.0, remaining())))
                pause *= 2
            except TimeoutError:
                raise OutOfTime from None
        raise AssertionError("unreachable")

    async def _once(self, messages: Sequence[ModelMessage], left: float) -> ModelResponse:
        timeout = httpx2.Timeout(left, connect=min(left, CONNECT_SECONDS))
        settings = {**self._settings, "timeout": timeout}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about settings that a model does without
                return await self._model.request(list(messages), settings, self._parameters)
        except errors.ModelQuotaExceededError as error:
            raise Rejected(f"The account has no credit left: {self._words(error)}") from None
        except errors.ModelRateLimitError as error:
            raise Waiting(
                "rate_limited",
                f"The model's rate limit is reached: {self._words(error)}",
                error.retry_after,
            ) from None
        except (errors.ModelUnavailableError, errors.ModelServerError) as error:
            raise Waiting(
                "rate_limited" if isinstance(error, errors.ModelOverloadedError) else "unavailable",
                f"The model is not available: {self._words(error)}",
                error.retry_after,
            ) from None
        except errors.ModelAuthenticationError as error:
            key = f"the key in {self._where.key_from}" if self._where.key_from else "no key"
            raise Rejected(
                f"{self._where.base_url} does not take {key}: {self._words(error)}"
            ) from None
        except errors.ModelNotFoundError as error:
            raise Rejected(
                f"There is no model {self._model_given['name']} at {self._where.base_url}: "
                f"{self._words(error)}"
            ) from None
        except errors.ModelContextWindowExceededError as error:
            raise TooLong(self._words(error)) from None
        except (errors.ModelConnectionError, errors.ModelRequestTimeout) as error:
            raise Waiting(
                "unavailable",
                f"{self._where.base_url} can't be reached: {self._words(error)}",
                None,
            ) from None
        except errors.ModelHTTPError as error:
            if error.status_code >= 500 or error.status_code in (408, 409, 425):
                raise Waiting(
                    "unavailable",
                    f"The model is not available: {self._words(error)}",
                    error.retry_after,
                ) from None
            raise Rejected(f"The request was refused: {self._words(error)}") from None
        except errors.UnexpectedModelBehavior as error:
            raise Waiting(
                "unavailable", f"The answer can't be read: {self._words(error)}", None
            ) from None
        except (errors.ModelAPIError, errors.UserError) as error:
            raise Rejected(f"The request was refused: {self._words(error)}") from None

    def _words(self, error: Exception) -> str:
        body = getattr(error, "body", None)
        if isinstance(body, dict):
            inner = body.get("error", body)
            body = inner.get("message") if isinstance(inner, dict) else inner
        status = getattr(error, "status_code", None)
        said = str(body or error).replace("\x00", "\ufffd").strip()[:MAX_WORDS_CHARS]
        told = f"{said.rstrip('.')}."
        return str(self._assignment.redacted(f"{status}, {told}" if status else told))

    def _usage(self, response: ModelResponse) -> Usage:
        spent = response.usage
        given = self._model_given
        incoming, outgoing = given["input_usd_per_million"], given["output_usd_per_million"]
        if incoming is not None or outgoing is not None:
            cost = Decimal(str(incoming or 0)) * spent.input_tokens
            cost = (cost + Decimal(str(outgoing or 0)) * spent.output_tokens) / 1_000_000
        else:
            try:
                cost = Decimal(response.cost().total_price)
            except (LookupError, ValueError, AssertionError):
                cost = Decimal(0)  # nobody here knows its price
        return Usage(
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            cost_usd=f"{cost:.6f}",
            model=str(response.model_name or given["name"])[:100],
        )


def _connected(where: Address, name: str) -> tuple[Any, Model]:
    """Return a client, which must be closed, and the model spoken to through it."""
    if where.provider == "anthropic":
        from anthropic import AsyncAnthropic
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        claude = AsyncAnthropic(
            api_key=where.key, base_url=where.base_url, max_retries=0, http_client=_http(where)
        )
        return claude, AnthropicModel(name, provider=AnthropicProvider(anthropic_client=claude))
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(
        api_key=where.key, base_url=where.base_url, max_retries=0, http_client=_http(where)
    )
    provider = OpenAIProvider(openai_client=client)
    if where.provider == "openai-responses":
        return client, OpenAIResponsesModel(name, provider=provider)
    return client, OpenAIChatModel(name, provider=provider)


def _http(where: Address) -> httpx2.AsyncClient:
    """Return a client that takes what is sent nowhere else than there.

    The providers' libraries add headers that this process's environment has for them. An address
    that a step chose sees none of these, and no answer leads the key on to another one.
    """

    async def strip(request: httpx2.Request) -> None:
        for name in [name for name in request.headers if name.lower() not in HEADERS]:
            del request.headers[name]
        if where.provider == "anthropic":
            request.headers["x-api-key"] = where.key
        else:
            request.headers["authorization"] = f"Bearer {where.key}"

    hooks: dict[str, list[Any]] = {} if where.own else {"request": [strip]}
    return httpx2.AsyncClient(event_hooks=hooks, follow_redirects=False)


def _storable(value: Any) -> Any:
    """Return the JSON with what no store takes replaced."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
