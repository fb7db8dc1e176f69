"""Handles an encoder's requests: texts to tokens, tokens to the runner, vectors to the response."""

import asyncio
import base64
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from services.inference.encoder.pooling import scores, shortened
from services.inference.encoder.request import Encoded, EncodeRequest, TokenRow, Vector
from services.inference.encoder.runner import EncoderRunner
from services.inference.encoder.token_classes import token_classes
from services.inference.encoder.tokenizer import EncoderTokenizer
from services.inference.turns import Turns
from shared.contracts.base import Empty
from shared.contracts.embedding import Classified, Classify, Embed, Embedded, EncoderTimings
from shared.contracts.manifest import EncoderSpec, encoder_tensors
from shared.contracts.tensor import Described
from shared.errors import Conflict, DeadlineExceeded, InvalidInput, LlmosError


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """A request that got its vectors or an error."""

    operation: str
    """`embeddings` or `classify`."""
    request_id: str
    context: Context
    """The trace that the request belongs to."""
    begun_ns: int
    """Unix time in nanoseconds."""
    texts: int
    tokens: int
    timings: EncoderTimings
    error: LlmosError | None = None


class EncodeHandler:
    """Handles `embed` and `classify`.

    Args:
        runner: Computes the vectors.
        tokenizer: The version's.
        spec: The version's.
        turns: In which texts are tokenised.
        on_finished: Called with each request at its end.
        version: The number of the version.
    """

    def __init__(
        self,
        runner: EncoderRunner,
        tokenizer: EncoderTokenizer,
        spec: EncoderSpec,
        turns: Turns,
        on_finished: Callable[[FinishedRequest], None],
        *,
        version: int = 1,
    ) -> None:
        self._runner = runner
        self._tokenizer = tokenizer
        self._spec = spec
        self._turns = turns
        self._on_finished = on_finished
        self._version = version
        self._tokenizing: set[str] = set()
        """Requests whose texts are being tokenised, without those that were cancelled meanwhile."""

    def cancel(self, request_id: str) -> None:
        """Drop a request as soon as possible. Unknown ids are ignored."""
        self._tokenizing.discard(request_id)
        self._runner.cancel(request_id)

    async def describe(self, _: Empty) -> Described:
        """The version as a graph with named tensors, as which the Open Inference Protocol has it."""
        return Described(version=self._version, **dict(encoder_tensors(self._spec)))

    async def embed(self, request: Embed) -> Embedded:
        """A vector for each text.

        Raises:
            ContextLengthExceeded: A text is too long; the message names its index.
            InvalidInput: Another field is wrong, or the version is a classifier.
            Overloaded, Draining, Unavailable: This replica does not accept it now.
            DeadlineExceeded: The deadline passed.
        """
        if self._spec.labels:
            raise InvalidInput("this model is a classifier; it has no embeddings", param="model")
        if request.dimensions is not None and request.dimensions > self._spec.output_size:
            raise InvalidInput(
                f"dimensions is {request.dimensions}, and this model's embeddings have {self._spec.output_size}",
                param="dimensions",
            )
        tokens, encoded, timings = await self._encode("embeddings", request, lambda: self._embed_rows(request))
        vectors = [self._base64(vector, request.dimensions) for vector in encoded.vectors]
        return Embedded(vectors=tuple(vectors), tokens=tokens, timings=timings)

    async def classify(self, request: Classify) -> Classified:
        """Scores of each text or pair; raises as `embed`."""
        if not self._spec.labels:
            raise InvalidInput("this model makes embeddings; it is no classifier", param="model")
        of_tokens = self._spec.of_tokens
        if of_tokens and request.second is not None:
            raise InvalidInput("this model classifies the tokens of one text; it takes no pairs", param="model")
        rows: tuple[TokenRow, ...] = ()

        def tokenize() -> tuple[TokenRow, ...]:
            nonlocal rows
            rows = self._tokenizer.texts(
                request.texts,
                request.second,
                truncate=request.truncate,
                first_index=request.first_index,
                offsets=of_tokens,
            )
            return rows

        tokens, encoded, timings = await self._encode("classify", request, tokenize)
        if of_tokens:
            classes = await asyncio.to_thread(token_classes, self._spec, rows, encoded.vectors)
            return Classified(labels=self._spec.labels, token_classes=classes, tokens=tokens, timings=timings)
        found = [scores(logits, self._spec.activation) for logits in encoded.vectors]
        return Classified(
            labels=self._spec.labels,
            scores=tuple(tuple(row.tolist()) for row in found),
            tokens=tokens,
            timings=timings,
        )

    async def _encode(
        self, operation: str, request: Embed | Classify, tokenize: Callable[[], tuple[TokenRow, ...]]
    ) -> tuple[tuple[int, ...], Encoded, EncoderTimings]:
        """Tokens of each text, the result, and the time of each phase."""
        begun_ns, begun = time.time_ns(), time.monotonic()
        timings = EncoderTimings()
        lengths: tuple[int, ...] = ()
        error: LlmosError | None = None
        try:
            async with asyncio.timeout(request.time_left_s):
                self._tokenizing.add(request.request_id)
                async with self._turns.turn(request.tenant):
                    self._check_cancelled(request.request_id)
                    rows = await asyncio.to_thread(tokenize)
                self._check_cancelled(request.request_id)
                lengths = tuple(map(len, rows))
                timings = EncoderTimings(tokenize_s=time.monotonic() - begun)
                encoded = await self._run(EncodeRequest(request.request_id, rows, request.tenant))
                timings = EncoderTimings(
                    tokenize_s=timings.tokenize_s, queue_s=encoded.queue_s, compute_s=encoded.compute_s
                )
                return lengths, encoded, timings
        except TimeoutError:
            error = DeadlineExceeded("the request's deadline passed before it was computed")
            raise error from None
        except LlmosError as problem:
            error = problem
            raise
        finally:
            self._tokenizing.discard(request.request_id)
            self._on_finished(
                FinishedRequest(
                    operation=operation,
                    request_id=request.request_id,
                    context=otel_context.get_current(),
                    begun_ns=begun_ns,
                    texts=len(lengths),
                    tokens=sum(lengths),
                    timings=timings,
                    error=error,
                )
            )

    def _check_cancelled(self, request_id: str) -> None:
        if request_id not in self._tokenizing:
            raise Conflict("the request was cancelled by its sender", param="request_id")

    async def _run(self, request: EncodeRequest) -> Encoded:
        future: Future[Encoded] = self._runner.submit(request)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._runner.cancel(request.id)
            raise

    def _embed_rows(self, request: Embed) -> tuple[TokenRow, ...]:
        if request.texts is not None:
            return self._tokenizer.texts(request.texts, truncate=request.truncate, first_index=request.first_index)
        return self._tokenizer.ids(
            request.token_ids or (), truncate=request.truncate, first_index=request.first_index
        )

    def _base64(self, vector: Vector, dimensions: int | None) -> str:
        if dimensions is not None:
            vector = shortened(vector, dimensions)
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
