"""Write the tables of endpoints and parameters in `docs/api.md`, from the routes and the models that parse requests.

python deploy/make_api_tables.py
"""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from services.gateway.anthropic import routes as anthropic
from services.gateway.http.operation import Operation
from services.gateway.http.parameters import Elsewhere, Ignored, Parameters
from services.gateway.ollama import routes as ollama
from services.gateway.open_inference import routes as open_inference
from services.gateway.openai import routes as openai
from services.gateway.openai.responses import routes as responses
from services.gateway.openai.responses.api import ResponsesApi
from services.gateway.openai.responses.conversations_api import ConversationsApi

TARGET = Path(__file__).parents[1] / "docs" / "api.md"
BEGIN = "<!-- Written by `make docs` from the routes; a test compares. -->\n"
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
    fields = {
        name: field
        for name, field in _fields(body)
        if not any(isinstance(kind, Elsewhere) for kind in field.metadata)
    }
    ignored = {
        name: kind.why for name, field in fields.items() for kind in field.metadata if isinstance(kind, Ignored)
    }
    served = [name for name in fields if name not in ignored]
    ignored |= {name: why for name, why in others.ignored.items() if name not in fields}
    yield "| parameter | |\n|---|---|\n"
    yield f"| served | {_list(served)} |\n"
    for why in dict.fromkeys(ignored.values()):
        yield f"| ignored: {why} | {_list([name for name, reason in ignored.items() if reason == why])} |\n"
    if refused := [_refused(name, off) for name, off in others.refused.items() if name not in fields]:
        yield f"| refused, unless null or as given here | {', '.join(refused)} |\n"


def _list(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _refused(name: str, off: tuple[Any, ...]) -> str:
    return f"`{name}`" if not off else f"`{name}` (" + ", ".join(f"`{_json(value)}`" for value in off) + ")"


def _json(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(name, field): of an object inside, the names of its fields."""
    for name, field in model.model_fields.items():
        shown = f"{prefix}{field.alias or name}"
        if not prefix and (inner := _object(field.annotation)) is not None:
            yield from _fields(inner, f"{shown}.")
        else:
            yield shown, field


def _object(kind: Any) -> type[BaseModel] | None:
    """The model of a field that is an object or null."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)), None)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
