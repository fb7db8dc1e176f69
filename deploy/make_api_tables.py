"""Write the tables of endpoints and parameters in `docs/api.md`, from the routes and the models that parse requests.

python deploy/make_api_tables.py
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from services.gateway.anthropic import routes as anthropic
from services.gateway.http.operation import Operation
from services.gateway.http.parameters import ELSEWHERE, IGNORED, Parameters
from services.gateway.ollama import routes as ollama
from services.gateway.open_inference import routes as open_inference
from services.gateway.openai import routes as openai
from services.gateway.openai.responses import routes as responses
from services.gateway.openai.responses.api import ResponsesApi
from services.gateway.openai.responses.conversations_api import ConversationsApi

TARGET = Path(__file__).parents[1] / "docs" / "api.md"
BEGIN = "<!-- Written by `make docs` from the routes; a test compares. -->\n"
Schema = Mapping[str, Any]
"""A JSON schema."""
END = "<!-- The end of what `make docs` writes. -->\n"


def operations() -> dict[str, list[Operation]]:
    """The routes of the model APIs by dialect. Nothing is asked of what serves them."""
    none: Any = None
    return {
        "OpenAI, and vLLM's additions": openai.routes(none, none, none, none, 0),
        "OpenAI's responses and conversations": responses.operations(
            ResponsesApi(none, none, none, none, 0), ConversationsApi(none, none, 0)
        ),
        "Anthropic": anthropic.routes(none, none, 0),
        "Ollama": ollama.routes(none, none, none, table=none, bus=none, max_body=0),
        "Open Inference Protocol": open_inference.routes(none, none, none, 0),
    }


def text() -> str:
    """What stands between the marks."""
    parts = [BEGIN]
    for dialect, routes in operations().items():
        parts += [f"\n### {dialect}\n\n", *_routes(routes)]
        bodies: dict[Any, list[Operation]] = {}
        for each in routes:
            if isinstance(each.body, type):
                bodies.setdefault(each.body, []).append(each)
        for body, takers in bodies.items():
            paths = ", ".join(f"`{each.path}`" for each in takers)
            parts += [f"\n{paths}:\n\n", *_parameters(body, takers[0].parameters or Parameters())]
    return "".join([*parts, "\n", END])


def page() -> str:
    """`docs/api.md` with the tables as they should be."""
    before, _, rest = TARGET.read_text(encoding="utf-8").partition(BEGIN)
    return before + text() + rest.partition(END)[2]


def _routes(routes: list[Operation]) -> Iterator[str]:
    yield "| route | |\n|---|---|\n"
    for each in routes:
        yield f"| `{each.method} {each.path}` | {each.summary} |\n"


def _parameters(body: type[BaseModel], others: Parameters) -> Iterator[str]:
    schema = body.model_json_schema()
    definitions: Mapping[str, Schema] = schema.get("$defs", {})
    own: Mapping[str, Schema] = schema["properties"]
    fields = [field for name, one in own.items() if ELSEWHERE not in one for field in _fields(name, one, definitions)]
    reasons = {field.shown: field.ignored for field in fields if field.ignored is not None}
    reasons |= {f"`{name}`": why for name, why in others.ignored.items() if name not in own}
    yield "| parameter | |\n|---|---|\n"
    yield f"| served | {', '.join(field.shown for field in fields if field.ignored is None)} |\n"
    for why in dict.fromkeys(reasons.values()):
        yield f"| ignored: {why} | {', '.join(shown for shown, reason in reasons.items() if reason == why)} |\n"
    if refused := [_shown(name, off) for name, off in others.refused.items() if name not in own]:
        yield f"| refused, unless null or as given here | {', '.join(refused)} |\n"


class _Field(NamedTuple):
    shown: str
    """Its name, and the values that it takes if it is one of a few."""
    ignored: str | None
    """Why it has no effect; None: it is served."""


def _shown(name: str, values: Iterable[object]) -> str:
    listed = ", ".join(f"`{json.dumps(value, ensure_ascii=False)}`" for value in values)
    return f"`{name}` ({listed})" if listed else f"`{name}`"


def _fields(name: str, schema: Schema, definitions: Mapping[str, Schema], *, outer: bool = True) -> Iterator[_Field]:
    """The field itself; of one that is an object, those inside, with dotted names."""
    forms = [each for each in _forms(schema, definitions) if each.get("type") != "null"]
    ignored = next((each[IGNORED] for each in (schema, *forms) if IGNORED in each), None)
    inner = forms[0].get("properties") if len(forms) == 1 else None
    if outer and inner:
        for key, one in inner.items():
            yield from _fields(f"{name}.{key}", one, definitions, outer=False)
    else:
        known = [_values(each) for each in forms]
        yield _Field(_shown(name, itertools.chain(*known) if all(known) else ()), ignored)


def _forms(schema: Schema, definitions: Mapping[str, Schema]) -> Iterator[Schema]:
    """The alternatives that a value of `schema` may be, without references."""
    if "$ref" in schema:
        yield from _forms(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    elif "anyOf" in schema:
        for each in schema["anyOf"]:
            yield from _forms(each, definitions)
    else:
        yield schema


def _values(form: Schema) -> list[object]:
    """The values of an enumeration; the least object that has a type of its own; empty: any of a kind."""
    if "enum" in form or "const" in form:
        return [value for value in form.get("enum", [form.get("const")]) if value is not None]
    return [_least(form)] if "const" in form.get("properties", {}).get("type", {}) else []


def _least(form: Schema) -> object:
    """A value with what is required."""
    if "properties" in form:
        return {name: _least(form["properties"][name]) for name in form.get("required", ())}
    if form.get("type") == "array":
        return [_least(form["items"])]
    return form.get("const", "…")


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
