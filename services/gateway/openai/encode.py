"""From a request's many texts to the answers of an encoder's replicas: in parts, some at once, in order."""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.encoders import EncoderInquiry, Encoders
from services.gateway.openai.choices import first_error
from services.gateway.openai.embedding_requests import MODEL_MAX, EncoderRequest
from shared.bus.port import Bus
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
from shared.errors import LlmosError
from shared.telemetry import genai

tracer = trace.get_tracer("llmos.gateway")

PARTS_AT_ONCE = 4
"""Of one request: enough to keep several replicas at work."""

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Work:
    """A request on its way, common to its parts."""

    id: str
    model: str
    tenant: str
    truncate: int | None
    deadline: float
    """Seconds on the monotonic clock."""
    deadline_ms: int
    """Unix time in milliseconds."""
    span: trace.Span


class EncodingAsker:
    """Has texts embedded or classified.

    Args:
        bus: To the replicas.
        dispatcher: Chooses them.
        timeout: Seconds that an answer may take.
        random: An integer of n random bits.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        bus: Bus,
        dispatcher: Dispatcher,
        timeout: float,
        *,
        random: Callable[[int], int] = secrets.randbits,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._encoders = Encoders(bus, dispatcher)
        self._dispatcher = dispatcher
        self._timeout = timeout
        self._random = random
        self._now = now

    @contextmanager
    def working(self, operation: str, prefix: str, request: EncoderRequest, tenant: str) -> Iterator[Work]:
        """A request with its id, deadline and span, while the block runs."""
        answer_id = f"{prefix}-{self._random(96):024x}"
        attributes = {
            genai.OPERATION_NAME: operation,
            genai.PROVIDER_NAME: genai.PROVIDER_LLMOS,
            genai.REQUEST_MODEL: request.model,
            genai.REQUEST_ID: answer_id,
        }
        span = tracer.start_span(f"{operation} {request.model}", kind=SpanKind.CLIENT, attributes=attributes)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield Work(
                    id=answer_id,
                    model=request.model,
                    tenant=tenant,
                    truncate=self._truncate(request),
                    deadline=self._dispatcher.clock() + self._timeout,
                    deadline_ms=int((self._now() + self._timeout) * 1000),
                    span=span,
                )
            except LlmosError as error:
                span.set_status(Status(StatusCode.ERROR, error.message))
                span.set_attribute(genai.ERROR_TYPE, error.code)
                raise

    def created(self) -> int:
        """Unix time in seconds."""
        return int(self._now())

    async def embed(
        self,
        work: Work,
        texts: Sequence[str] | None,
        token_ids: Sequence[tuple[int, ...]] | None,
        dimensions: int | None,
    ) -> list[Embedded]:
        """The answers of all parts, in order. When one fails, the others are cancelled and its error is raised."""

        def part(start: int) -> Coroutine[Any, Any, Embedded]:
            request = Embed(
                request_id=f"{work.id}-{start // MAX_ROWS}",
                texts=None if texts is None else tuple(texts[start : start + MAX_ROWS]),
                token_ids=None if token_ids is None else tuple(token_ids[start : start + MAX_ROWS]),
                first_index=start,
                truncate=work.truncate,
                dimensions=dimensions,
                tenant=work.tenant,
                deadline_ms=work.deadline_ms,
            )
            tokens = _estimate(request.texts) if request.texts else sum(map(len, request.token_ids or ()))
            return self._encoders.ask(_inquiry(work, "embed", tokens), embed_endpoint, request)

        parts = await _in_parts(len(texts or token_ids or ()), part)
        self._count(work, sum(sum(answer.tokens) for answer in parts))
        return parts

    async def classify(
        self, work: Work, texts: Sequence[str], second: Sequence[str] | None = None
    ) -> list[Classified]:
        """As `embed`, scores of texts, or of pairs with the texts of `second`."""

        def part(start: int) -> Coroutine[Any, Any, Classified]:
            request = Classify(
                request_id=f"{work.id}-{start // MAX_ROWS}",
                texts=tuple(texts[start : start + MAX_ROWS]),
                second=None if second is None else tuple(second[start : start + MAX_ROWS]),
                first_index=start,
                truncate=work.truncate,
                tenant=work.tenant,
                deadline_ms=work.deadline_ms,
            )
            tokens = _estimate((*request.texts, *(request.second or ())))
            return self._encoders.ask(_inquiry(work, "classify", tokens), classify_endpoint, request)

        parts = await _in_parts(len(texts), part)
        self._count(work, sum(sum(answer.tokens) for answer in parts))
        return parts

    def _truncate(self, request: EncoderRequest) -> int | None:
        deployment = self._dispatcher.table.deployments.get(request.model)
        if request.truncate_prompt_tokens == MODEL_MAX and deployment is not None:
            return deployment.options.max_len
        return request.truncate_prompt_tokens

    def _count(self, work: Work, tokens: int) -> None:
        work.span.set_attribute(genai.USAGE_INPUT_TOKENS, tokens)
        self._dispatcher.metrics.tokens(work.model, Usage(prompt_tokens=tokens, completion_tokens=0))


def _inquiry(work: Work, task: Task, tokens: int) -> EncoderInquiry:
    return EncoderInquiry(work.model, task, tokens, work.deadline)


def _estimate(texts: Sequence[str]) -> int:
    """Tokens, roughly: four bytes each."""
    return sum(len(text) for text in texts) // 4 + len(texts)


async def _in_parts(count: int, part: Callable[[int], Coroutine[Any, Any, Part]]) -> list[Part]:
    """The answers of all parts of `count` texts, in order, some at once."""
    free = asyncio.Semaphore(PARTS_AT_ONCE)

    async def one(start: int) -> Part:
        async with free:
            return await part(start)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(start)) for start in range(0, count, MAX_ROWS)]
    except ExceptionGroup as errors:
        raise first_error(errors) from None
    return [task.result() for task in tasks]
