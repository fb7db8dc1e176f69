"""Encodes the texts of one request: in parts, several at once, results in order."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from opentelemetry import trace

from services.gateway.dispatch.concurrent_generations import first_error
from services.gateway.dispatch.encoders import encode
from services.gateway.dispatch.requests import EncodeRequest
from services.gateway.dispatch.spans import request_span
from services.gateway.dispatch.stamps import Stamps
from shared.contracts.embedding import (
    MAX_ROWS,
    Classified,
    Classify,
    Embed,
    Embedded,
    classify_endpoint,
    embed_endpoint,
)
from shared.contracts.gateway import Usage
from shared.contracts.manifest import Task
from shared.telemetry import genai

PARTS_AT_ONCE = 4
"""Parts of one request in progress: enough for several replicas."""

MODEL_MAX = -1
"""Truncation to the number of tokens that the model takes."""

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Work:
    """One client's request: what its parts have in common."""

    id: str
    model: str
    tenant: str
    truncate: int | None
    """Tokens that are kept of a longer text; without it a longer text is an error."""
    deadline: float
    """Seconds on the monotonic clock."""
    span: trace.Span
    of: tuple[str, int] | None = None
    """Only replicas of this (model, version). None: any."""


class Encodings(Stamps):
    """All that an API dialect needs to embed or classify texts."""

    @contextmanager
    def working(
        self,
        operation: str,
        prefix: str,
        model: str,
        tenant: str,
        truncate: int | None = None,
        *,
        of: tuple[str, int] | None = None,
    ) -> Iterator[Work]:
        """A request with its id, deadline and span, while the block runs.

        Args:
            operation: The name of the span.
            prefix: Of the request's id.
            model: The deployment.
            tenant: The API key's id.
            truncate: Tokens to keep of a longer text; `MODEL_MAX`: as many as the model takes.
            of: Only replicas of this (model, version).
        """
        request_id = self.new_id(prefix)
        with (
            request_span(operation, model, request_id) as span,
            trace.use_span(span, record_exception=False, set_status_on_exception=False),
        ):
            yield Work(
                id=request_id,
                model=model,
                tenant=tenant,
                truncate=self._truncate(model, truncate),
                deadline=self.deadline(),
                span=span,
                of=of,
            )

    async def embed(
        self,
        work: Work,
        texts: Sequence[str] | None,
        token_ids: Sequence[tuple[int, ...]] | None,
        dimensions: int | None,
    ) -> list[Embedded]:
        """The results of all parts, in order. When one fails, the others are cancelled and its error is raised."""

        def part(start: int) -> Coroutine[Any, Any, Embedded]:
            command = Embed(
                request_id=f"{work.id}-{start // MAX_ROWS}",
                texts=None if texts is None else tuple(texts[start : start + MAX_ROWS]),
                token_ids=None if token_ids is None else tuple(token_ids[start : start + MAX_ROWS]),
                first_index=start,
                truncate=work.truncate,
                dimensions=dimensions,
                tenant=work.tenant,
            )
            tokens = _estimate(command.texts) if command.texts else sum(map(len, command.token_ids or ()))
            return encode(self._dispatcher, _request(work, command, "embed", tokens), embed_endpoint, command)

        parts = await _in_parts(len(texts or token_ids or ()), part)
        self._count(work, sum(sum(each.tokens) for each in parts))
        return parts

    async def classify(
        self, work: Work, texts: Sequence[str], second: Sequence[str] | None = None
    ) -> list[Classified]:
        """Scores of texts, or of pairs with the texts of `second`; otherwise as `embed`."""

        def part(start: int) -> Coroutine[Any, Any, Classified]:
            command = Classify(
                request_id=f"{work.id}-{start // MAX_ROWS}",
                texts=tuple(texts[start : start + MAX_ROWS]),
                second=None if second is None else tuple(second[start : start + MAX_ROWS]),
                first_index=start,
                truncate=work.truncate,
                tenant=work.tenant,
            )
            tokens = _estimate((*command.texts, *(command.second or ())))
            return encode(self._dispatcher, _request(work, command, "classify", tokens), classify_endpoint, command)

        parts = await _in_parts(len(texts), part)
        self._count(work, sum(sum(each.tokens) for each in parts))
        return parts

    def _truncate(self, model: str, truncate: int | None) -> int | None:
        if truncate != MODEL_MAX:
            return truncate
        deployment = self._dispatcher.table.deployments.get(model)
        return None if deployment is None else deployment.options.max_len  # without one, routing says so

    def _count(self, work: Work, tokens: int) -> None:
        work.span.set_attribute(genai.USAGE_INPUT_TOKENS, tokens)
        usage = Usage(prompt_tokens=tokens, completion_tokens=0)
        self._dispatcher.metrics.tokens(work.model, usage, work.tenant)


def _request(work: Work, command: Embed | Classify, task: Task, tokens: int) -> EncodeRequest:
    return EncodeRequest(command.request_id, work.model, task, tokens, work.deadline, work.of)


def _estimate(texts: Sequence[str]) -> int:
    """Tokens, estimated as four bytes each."""
    return sum(len(text) for text in texts) // 4 + len(texts)


async def _in_parts(count: int, part: Callable[[int], Coroutine[Any, Any, Part]]) -> list[Part]:
    """The results of all parts of `count` texts, in order, several at once."""
    turns = asyncio.Semaphore(PARTS_AT_ONCE)

    async def one(start: int) -> Part:
        async with turns:
            return await part(start)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(start)) for start in range(0, count, MAX_ROWS)]
    except ExceptionGroup as errors:
        raise first_error(errors) from None
    return [task.result() for task in tasks]
