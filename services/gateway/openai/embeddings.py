"""`POST /v1/embeddings`, `/v1/classify` and `/v1/rerank`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.dialects.vectors import floats
from services.gateway.dispatch.encodings import Encodings, Work
from services.gateway.http.body import parse_request, read_body, unless_gone
from services.gateway.http.middleware import state_of
from services.gateway.http.responses import json_response
from services.gateway.openai.embedding_requests import (
    ClassifyRequest,
    EmbeddingRequest,
    EncoderRequest,
    RerankRequest,
    parse,
)
from shared.contracts.embedding import Classified
from shared.errors import InvalidInput
from shared.telemetry import genai


class EmbeddingsApi:
    """Embeddings, classes and ranks.

    Args:
        encodings: Encode the texts.
        max_body: Bytes of a request at most.
    """

    def __init__(self, encodings: Encodings, max_body: int) -> None:
        self._encodings = encodings
        self._max_body = max_body

    async def embed(self, request: Request) -> Response:
        """OpenAI's embeddings."""
        body = await parse_request(
            request, partial(parse, EmbeddingRequest), await read_body(request, self._max_body)
        )
        with self._working(genai.OPERATION_EMBEDDINGS, "embd", body, request) as work:
            embedding = self._encodings.embed(work, body.strings, body.token_ids, body.dimensions)
            parts = await unless_gone(request.receive, embedding)
        vectors = [vector for part in parts for vector in part.vectors]
        plain = body.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": vector if plain else floats(vector)}
            for index, vector in enumerate(vectors)
        ]
        usage = _usage(sum(sum(part.tokens) for part in parts))
        return json_response({"object": "list", "data": data, "model": body.model, "usage": usage})

    async def classify(self, request: Request) -> Response:
        """Classes in vLLM's form: the most probable label and the scores of all; of each token with its place."""
        body = await parse_request(request, partial(parse, ClassifyRequest), await read_body(request, self._max_body))
        with self._working(genai.OPERATION_CLASSIFY, "classify", body, request) as work:
            parts = await unless_gone(request.receive, self._encodings.classify(work, body.input))
        data = [entry | {"index": index} for index, entry in enumerate(_classes(parts, body.input))]
        usage = _usage(sum(sum(part.tokens) for part in parts))
        head = {"id": work.id, "object": "list", "created": self._encodings.created(), "model": body.model}
        return json_response({**head, "data": data, "usage": usage})

    async def rerank(self, request: Request) -> Response:
        """Documents by relevance to the query, best first."""
        body = await parse_request(request, partial(parse, RerankRequest), await read_body(request, self._max_body))
        queries = [body.query] * len(body.documents)
        with self._working(genai.OPERATION_CLASSIFY, "rerank", body, request) as work:
            parts = await unless_gone(request.receive, self._encodings.classify(work, queries, body.documents))
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": score} for index, score in enumerate(_relevance(parts, body.model))
        ]
        if body.return_documents is not False:
            for result in results:
                result["document"] = {"text": body.documents[result["index"]]}
        results.sort(key=lambda result: (-result["relevance_score"], result["index"]))
        usage = _usage(sum(sum(part.tokens) for part in parts))
        return json_response({"id": work.id, "model": body.model, "results": results[: body.top_n], "usage": usage})

    def _working(
        self, operation: str, prefix: str, body: EncoderRequest, request: Request
    ) -> AbstractContextManager[Work]:
        tenant = state_of(request.scope).key_id
        return self._encodings.working(operation, prefix, body.model, tenant, body.truncate_prompt_tokens)


def _classes(parts: list[Classified], texts: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The entry of each text."""
    given = iter(texts)
    for part in parts:
        for scores in part.scores:
            label = part.labels[scores.index(max(scores))]
            yield {"label": label, "probs": scores, "num_classes": len(scores)}
        for tokens in part.token_classes or ():
            text = next(given)
            found = [each.model_dump() | {"text": text[each.start : each.end]} for each in tokens]
            yield {"tokens": found, "num_classes": len(part.labels)}


def _relevance(parts: list[Classified], model: str) -> list[float]:
    labels = parts[0].labels
    if len(labels) != 1:
        raise InvalidInput(
            f"the model {model!r} has {len(labels)} labels; a reranker has one. Ask it at /v1/classify", param="model"
        )
    return [scores[0] for part in parts for scores in part.scores]


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}
