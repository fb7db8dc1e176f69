"""Every token of every dialect comes through `Generations`: so traces, priorities and resume hold on all of them.

What asks a replica for tokens, or reads its frames, is known to `services.gateway.dispatch` alone. Other modules of
the gateway use those of its classes that are for dialects; the composition root connects them.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.gateway.anthropic import routes as anthropic
from services.gateway.http.operation import Operation
from services.gateway.ollama import routes as ollama
from services.gateway.openai import routes as openai

ROOT = Path(__file__).parents[3]
GATEWAY = ROOT / "services/gateway"
DISPATCH = "services.gateway.dispatch"
OPEN = {
    f"{DISPATCH}.generations": {"Generations", "Choice"},
    f"{DISPATCH}.concurrent_generations": {"Completion", "ConcurrentGenerations"},
    f"{DISPATCH}.requests": {"Caller", "GenerationRequest", "OutputOptions"},
    f"{DISPATCH}.encodings": {"Encodings", "Work", "MODEL_MAX"},
    f"{DISPATCH}.tensors": {"Tensors", "Of"},
    f"{DISPATCH}.tokenizations": {"Tokenizations", "check_chars"},
    f"{DISPATCH}.limits": {"DispatchLimits"},
}
"""What of dispatch other modules may import."""
GENERATES = {
    "shared.contracts.replica": {"Generate", "FurtherAnswer", "generate_endpoint"},
    "shared.contracts.gateway": {"FrameBatch", "frames_subject"},
}
"""What asks a replica for tokens, and what its frames come with: for dispatch alone."""


def ways_around(source: str) -> Iterator[str]:
    """What a module outside dispatch imports to make tokens on its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            closed = (DISPATCH, *GENERATES)
            yield from (each.name for each in node.names if each.name.startswith(closed))
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        names = {each.name for each in node.names}
        if node.module == DISPATCH or node.module.startswith(f"{DISPATCH}."):
            yield from (f"{node.module}.{name}" for name in names - OPEN.get(node.module, set()))
        yield from (f"{node.module}.{name}" for name in names & GENERATES.get(node.module, set()))
        if node.module == "shared.contracts":
            yield from (name for name in names if f"shared.contracts.{name}" in GENERATES)


def modules() -> list[Path]:
    outside = [path for path in sorted(GATEWAY.rglob("*.py")) if GATEWAY / "dispatch" not in path.parents]
    return [path for path in outside if path != GATEWAY / "app.py"]


def test_no_module_makes_a_token_without_generations() -> None:
    found = {str(path.relative_to(ROOT)): list(ways_around(path.read_text(encoding="utf-8"))) for path in modules()}
    assert len(found) > 60
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from services.gateway.dispatch.generation import generating",
        "from services.gateway.dispatch.dispatcher import Dispatcher",
        "from services.gateway.dispatch.concurrent_generations import collect",
        "from services.gateway.dispatch import dispatcher",
        "import services.gateway.dispatch.generation",
        "from shared.contracts.replica import Grammar, generate_endpoint",
        "from shared.contracts import replica",
        "import shared.contracts.gateway as contracts",
    ],
)
def test_a_way_around_is_found(source: str) -> None:
    assert list(ways_around(source))


def test_what_makes_text_is_held_by_the_one_object() -> None:
    """Each route that generates is a method of an object that holds the same `Generations`."""
    generations: Any = object()
    rest: Any = None
    operations = [
        *openai.routes(generations, rest, rest, rest, 1),
        *anthropic.routes(generations, rest, 1),
        *ollama.routes(generations, rest, rest, table=rest, bus=rest, max_body=1),
    ]
    paths = {each.path for each in operations if holds(each, generations)}
    assert paths >= {"/v1/chat/completions", "/v1/completions", "/v1/messages", "/api/chat", "/api/generate"}
    streams = {each.path for each in operations if not isinstance(each.result, type) and len(each.result) > 1}
    assert streams <= paths, "a route streams without it"


def holds(operation: Operation, generations: object) -> bool:
    owner = getattr(operation.handler, "__self__", None)
    return any(each is generations for each in vars(owner).values()) if owner is not None else False
