"""`POST /v1/embeddings`, `/v1/classify` and `/v1/rerank`."""

import base64
import sys
from array import array
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.body import read_body, unless_gone
from services.gateway.http.middleware import state_of
from services.gateway.openai.chat import json_answer
from services.gateway.openai.embedding_requests import (
    ClassifyRequest,
    EmbeddingRequest,
    RerankRequest,
    parse_encoder_request,
)
from services.gateway.openai.encode import EncodingAsker
from shared.contracts.embedding import Classified
from shared.errors import InvalidInput
from shared.telemetry import genai


class EmbeddingsApi:
    """Embeddings, classes and ranks.

    Args:
        asker: Has texts encoded.
        max_body: Bytes of a request at most.
    """

    def __init__(self, asker: EncodingAsker, max_body: int) -> None:
        self._asker = asker
        self._max_body = max_body

    async def embed(self, request: Request) -> Response:
        """OpenAI's embeddings."""
        asked = parse_encoder_request(EmbeddingRequest, await read_body(request, self._max_body))
        with self._asker.working(genai.OPERATION_EMBEDDINGS, "embd", asked, state_of(request.scope).key_id) as work:
            embedding = self._asker.embed(work, asked.strings, asked.token_ids, asked.dimensions)
            parts = await unless_gone(request.receive, embedding)
        vectors = [vector for part in parts for vector in part.vectors]
        plain = asked.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": vector if plain else floats(vector)}
            for index, vector in enumerate(vectors)
        ]
        usage = _usage(sum(sum(part.tokens) for part in parts))
        return json_answer({"object": "list", "data": data, "model": asked.model, "usage": usage})

    async def classify(self, request: Request) -> Response:
        """Classes, as vLLM answers them: the most probable label and the scores of all."""
        asked = parse_encoder_request(ClassifyRequest, await read_body(request, self._max_body))
        with self._asker.working(genai.OPERATION_CLASSIFY, "classify", asked, state_of(request.scope).key_id) as work:
            parts = await unless_gone(request.receive, self._asker.classify(work, asked.input))
        data = [
            {
                "index": index,
                "label": part.labels[scores.index(max(scores))],
                "probs": scores,
                "num_classes": len(scores),
            }
            for index, (part, scores) in enumerate((part, scores) for part in parts for scores in part.scores)
        ]
        usage = _usage(sum(sum(part.tokens) for part in parts))
        head = {"id": work.id, "object": "list", "created": self._asker.created(), "model": asked.model}
        return json_answer({**head, "data": data, "usage": usage})

    async def rerank(self, request: Request) -> Response:
        """Documents by how well they answer the query, best first."""
        asked = parse_encoder_request(RerankRequest, await read_body(request, self._max_body))
        queries = [asked.query] * len(asked.documents)
        with self._asker.working(genai.OPERATION_CLASSIFY, "rerank", asked, state_of(request.scope).key_id) as work:
            parts = await unless_gone(request.receive, self._asker.classify(work, queries, asked.documents))
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": score} for index, score in enumerate(_relevance(parts, asked.model))
        ]
        if asked.return_documents is not False:
            for result in results:
                result["document"] = {"text": asked.documents[result["index"]]}
        results.sort(key=lambda result: (-result["relevance_score"], result["index"]))
        usage = _usage(sum(sum(part.tokens) for part in parts))
        return json_answer({"id": work.id, "model": asked.model, "results": results[: asked.top_n], "usage": usage})


def floats(vector: str) -> list[float]:
    """The numbers of a vector in base64."""
    numbers = array("f", base64.b64decode(vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _relevance(parts: list[Classified], model: str) -> list[float]:
    labels = parts[0].labels
    if len(labels) != 1:
        raise InvalidInput(
            f"the model {model!r} has {len(labels)} labels; a reranker has one. Ask it at /v1/classify", param="model"
        )
    return [scores[0] for part in parts for scores in part.scores]


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}
