"""`/llmos/v1/openapi.json`: the routes described from the very models that parse and answer them."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.gateway.admin.operations import PREFIX, Operation
from services.gateway.openai.embedding_requests import ClassifyRequest, EmbeddingRequest, RerankRequest
from services.gateway.openai.requests import ChatRequest, CompletionRequest

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
_FAILURE = {
    "default": {
        "description": "An error",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
}
_REF = "#/components/schemas/{model}"


def openapi(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the whole gateway."""
    bodies: list[type[BaseModel]] = [operation.body for operation in operations if operation.body]
    bodies += [ChatRequest, CompletionRequest, EmbeddingRequest, ClassifyRequest, RerankRequest]
    answers = [operation.answer for operation in operations]
    models: set[tuple[type[BaseModel], JsonSchemaMode]] = set()
    models |= {(model, "validation") for model in bodies} | {(model, "serialization") for model in answers}
    ordered = sorted(models, key=lambda item: (item[0].__name__, item[1]))
    named, definitions = models_json_schema(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        content = named[(operation.answer, "serialization")]
        described = _described(operation.summary, operation.path, "admin", _json(content), operation.status)
        if operation.body is not None:
            described["requestBody"] = _body(named[(operation.body, "validation")])
        described["parameters"] += [
            {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
            for name, text in (operation.query or {}).items()
        ]
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = described
    for path, kind, summary in (
        ("/v1/chat/completions", ChatRequest, "Answer a conversation, as OpenAI does"),
        ("/v1/completions", CompletionRequest, "Continue texts, as OpenAI does"),
    ):
        content = {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}}
        described = _described(summary, path, "inference", content)
        paths[path] = {"post": {**described, "requestBody": _body(named[(kind, "validation")])}}
    for path, encoder_kind, summary in (
        ("/v1/embeddings", EmbeddingRequest, "Embed texts, as OpenAI does"),
        ("/v1/classify", ClassifyRequest, "Classify texts, as vLLM does"),
        ("/v1/rerank", RerankRequest, "Order documents by how well they answer a query, as Jina and vLLM do"),
    ):
        described = _described(summary, path, "inference", _json({"type": "object"}))
        paths[path] = {"post": {**described, "requestBody": _body(named[(encoder_kind, "validation")])}}
    paths |= _plain_routes()
    schemas = {**definitions.get("$defs", {}), "Error": _ERROR}
    return {
        "openapi": "3.1.0",
        "info": {"title": "LLMOS gateway", "version": "1"},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "llmos-…"}},
        },
    }


def _plain_routes() -> dict[str, dict[str, Any]]:
    """Routes whose bodies are not contracts: lists of OpenAI's, health, metrics, files and traces."""
    anything = _json({"type": "object"})
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    blob, trace, model = PREFIX + "/blobs/{digest}", PREFIX + "/traces/{trace_id}", "/v1/models/{model}"
    stored = _described("Upload a file; 200 when it was there", blob, "admin", anything, 201)
    stored["responses"]["200"] = stored["responses"]["201"]
    return {
        "/v1/models": {"get": _described("The models that can be asked", "", "inference", anything)},
        model: {"get": _described("One model", model, "inference", anything)},
        "/healthz": {"get": {**_described("Whether the process lives", "", "health", anything), "security": []}},
        "/readyz": {"get": {**_described("Whether it can serve", "", "health", anything), "security": []}},
        "/metrics": {"get": _described("Prometheus metrics", "", "health", {"text/plain": {}})},
        PREFIX + "/openapi.json": {"get": _described("This document", "", "admin", anything)},
        blob: {
            "get": _described("A file by its SHA-256", blob, "admin", octets),
            "head": _described("Whether a file is there", blob, "admin", {}),
            "put": {**stored, "requestBody": {"required": True, "content": octets}},
        },
        trace: {"get": _described("A trace as OTLP JSON", trace, "admin", anything)},
    }


def _described(summary: str, path: str, tag: str, content: dict[str, Any], status: int = 200) -> dict[str, Any]:
    return {
        "summary": summary,
        "tags": [tag],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", path)
        ],
        "responses": {str(status): {"description": "OK", "content": content}, **_FAILURE},
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": _json(schema)}
