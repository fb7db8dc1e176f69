"""The OpenAPI document: made from the models that parse requests and write responses."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.gateway.auth import OPEN_PATHS
from services.gateway.http.dialect import Dialect
from services.gateway.http.operation import Content, Operation

DOCUMENT_PATH = "/llmos/v1/openapi.json"
"""Where the gateway serves it."""

_REF = "#/components/schemas/{model}"

_Schemas = Mapping[tuple[Any, JsonSchemaMode], dict[str, Any]]
"""By model and mode."""


def openapi(operations: Iterable[Operation]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `operations`."""
    operations = list(operations)
    models: set[tuple[type[BaseModel], JsonSchemaMode]] = set()
    models |= {(each.body, "validation") for each in operations if isinstance(each.body, type)}
    models |= {(each.result, "serialization") for each in operations if isinstance(each.result, type)}
    ordered = sorted(models, key=lambda item: (item[0].__name__, item[1]))
    schemas, definitions = models_json_schema(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "LLMOS gateway", "version": "1"},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": {**definitions.get("$defs", {}), **_errors(operations)},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "llmos-…"}},
        },
    }


def _errors(operations: Iterable[Operation]) -> dict[str, Mapping[str, Any]]:
    return {_error(each.dialect): each.dialect.schema for each in operations}


def _error(dialect: Dialect) -> str:
    """The name of the schema of its errors."""
    return f"{dialect.name}Error"


def _described(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    content = _content(operation.result, "serialization", schemas)
    described: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", operation.path)
        ]
        + [
            {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
            for name, text in operation.query.items()
        ],
        "responses": {
            **{str(status): {"description": "OK", "content": content} for status in operation.statuses},
            "default": {
                "description": "An error",
                "content": {"application/json": {"schema": {"$ref": _REF.format(model=_error(operation.dialect))}}},
            },
        },
    }
    if operation.body is not None:
        body = _content(operation.body, "validation", schemas)
        described["requestBody"] = {"required": True, "content": body}
    if operation.path in OPEN_PATHS:
        described["security"] = []
    return described


def _content(described: type[BaseModel] | Content, mode: JsonSchemaMode, schemas: _Schemas) -> Content:
    if isinstance(described, type):
        return {"application/json": {"schema": schemas[described, mode]}}
    return described
