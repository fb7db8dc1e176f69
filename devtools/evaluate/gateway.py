"""The gateway over HTTP, as an evaluation uses it: what is measured is what is served."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import orjson

from shared.contracts.manifest import Kind
from shared.contracts.registry import ModelVersion
from shared.contracts.replica import ChatMessage
from shared.contracts.scheduler import DeploymentList
from shared.errors import ErrorPayload, Internal, LlmosError, Unavailable, from_payload

_TIMEOUT = httpx.Timeout(30.0, read=600.0)
RETRY_FOR_S = 120.0
"""A full queue or a replica that restarts is waited for so long."""
_RETRY_S = 1.0
Prompt = str | Sequence[int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered, and when: seconds from the request to the first and to the last piece of text."""

    text: str
    first_token_s: float
    total_s: float
    tokens: int


@dataclass(frozen=True, slots=True)
class ScoredText:
    """The tokens of a prompt.

    logprobs: natural logarithms, None for a token that nothing comes before
    offsets: in characters of the text, where each token begins
    """

    text: str
    logprobs: tuple[float | None, ...]
    offsets: tuple[int, ...]
    token_ids: tuple[int, ...]

    def behind(self, offset: int) -> tuple[float, int]:
        """Sum of the log probabilities of the tokens that reach behind `offset`, and how many they are."""
        ends = (*self.offsets[1:], len(self.text))
        found = [
            logprob
            for logprob, begin, end in zip(self.logprobs, self.offsets, ends, strict=True)
            if logprob is not None and (begin >= offset or end > offset)
        ]
        return sum(found), len(found)

    def from_token(self, index: int) -> tuple[float, int]:
        """The same of the tokens from an index on."""
        found = [logprob for logprob in self.logprobs[index:] if logprob is not None]
        return sum(found), len(found)


class Gateway:
    """A client; use it in an `async with` block. Errors are those of `shared.errors`.

    Args:
        url: Without `/v1`.
        api_key: With the scopes `inference` and `read`.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT, headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def deployments(self) -> DeploymentList:
        """All deployments."""
        return DeploymentList.decode(await self._call("GET", "/llmos/v1/deployments"))

    async def version(self, reference: str) -> ModelVersion:
        """What the reference of a model means now."""
        return ModelVersion.decode(await self._call("GET", f"/llmos/v1/{Kind.MODEL}s/{reference}"))

    async def score(self, model: str, prompts: Sequence[Prompt]) -> list[ScoredText]:
        """The log probabilities of prompts; nothing is generated."""
        body = {"model": model, "prompt": list(prompts), "max_tokens": 0, "echo": True, "logprobs": 0}
        found = await self._post("/v1/completions", body | {"return_token_ids": True})
        return [_scored(choice) for choice in found["choices"]]

    async def prompt_ids(self, model: str, messages: Sequence[ChatMessage]) -> list[int]:
        """The tokens of rendered messages, up to where the answer begins."""
        body = {"model": model, "messages": _plain(messages), "max_tokens": 1, "return_token_ids": True}
        ids: list[int] = (await self._post("/v1/chat/completions", body))["prompt_token_ids"]
        return ids

    async def answer(
        self, model: str, prompt: str | Sequence[ChatMessage], parameters: Mapping[str, Any] | None = None
    ) -> Reply:
        """A greedy answer to messages, or a greedy continuation of a text.

        Args:
            model: The deployment.
            prompt: A text or messages.
            parameters: More of the request: `max_tokens`, `stop`, …
        """
        chat = not isinstance(prompt, str)
        body = {"model": model, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
        body |= {"messages": _plain(prompt)} if not isinstance(prompt, str) else {"prompt": prompt}
        path = "/v1/chat/completions" if chat else "/v1/completions"
        return await self._retried(lambda: self._stream(path, {**body, **(parameters or {})}))

    async def _stream(self, path: str, body: dict[str, Any]) -> Reply:
        begin, first, pieces, tokens = time.perf_counter(), 0.0, [], 0
        async with self._http.stream("POST", path, json=body) as response:
            if response.is_error:
                await response.aread()
            _raise_for(response)
            async for line in response.aiter_lines():
                if not line.startswith("data:") or line == "data: [DONE]":
                    continue
                event = orjson.loads(line.removeprefix("data:"))
                if "error" in event:
                    raise _error(event["error"])
                for choice in event["choices"]:
                    text = (choice["delta"].get("content") if "delta" in choice else choice["text"]) or ""
                    if text and not first:
                        first = time.perf_counter() - begin
                    pieces.append(text)
                tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        total = time.perf_counter() - begin
        return Reply("".join(pieces), first or total, total, tokens)

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = orjson.loads(await self._call("POST", path, body))
        return result

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        async def once() -> bytes:
            response = await self._http.request(method, path, json=body)
            _raise_for(response)
            return response.content

        return await self._retried(once)

    async def _retried(self, once: Callable[[], Awaitable[T]]) -> T:
        deadline = time.monotonic() + RETRY_FOR_S
        while True:
            try:
                return await once()
            except httpx.TimeoutException as error:
                raise Unavailable(f"{self._url} did not answer in time") from error
            except httpx.TransportError as error:
                problem: LlmosError = Unavailable(f"nothing answers at {self._url}: {error or type(error).__name__}")
            except LlmosError as error:
                if not error.retryable:
                    raise
                problem = error
            wait = problem.retry_after or _RETRY_S
            if time.monotonic() + wait > deadline:
                raise problem
            await asyncio.sleep(wait)


def _plain(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    return [message.model_dump(mode="json", exclude_defaults=True) | {"role": message.role} for message in messages]


def _scored(choice: dict[str, Any]) -> ScoredText:
    scores = choice["logprobs"]
    return ScoredText(
        choice["text"],
        tuple(scores["token_logprobs"]),
        tuple(scores["text_offset"]),
        tuple(choice["prompt_token_ids"]),
    )


def _raise_for(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        body = orjson.loads(response.content)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Internal(f"HTTP {response.status_code}: {response.text[:300]}") from None
    raise _error(body, response.headers.get("retry-after"))


def _error(body: dict[str, Any], retry_after: str | None = None) -> LlmosError:
    wait = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return from_payload(
        ErrorPayload(
            code=body.get("code") or "internal", message=body["message"], param=body.get("param"), retry_after=wait
        )
    )
