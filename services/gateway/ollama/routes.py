"""The routes of Ollama's API."""

from pydantic import BaseModel

from services.gateway.control_plane import ControlPlane
from services.gateway.dispatch.encodings import Encodings
from services.gateway.dispatch.generations import Generations
from services.gateway.dispatch.tokenizations import Tokenizations
from services.gateway.http.operation import OBJECT, Content, Handler, Operation
from services.gateway.ollama import administration
from services.gateway.ollama.api import OllamaApi
from services.gateway.ollama.dialect import OLLAMA
from services.gateway.ollama.models import ModelsApi
from services.gateway.ollama.requests import (
    PARAMETERS,
    ChatRequest,
    EmbeddingsRequest,
    EmbedRequest,
    GenerateRequest,
    ShowRequest,
)
from services.gateway.routing.live_table import LiveTable
from shared.bus.port import Bus

_LINES: Content = {**OBJECT, "application/x-ndjson": {}}
"""A JSON object, or a stream of lines that are one."""
_CHAT = "Answer a conversation, as Ollama does"
_GENERATE = "Answer a prompt, as Ollama does"
_EMBED = "Embed texts, as Ollama does"
_EMBED_ONE = "Embed a text, as Ollama did before /api/embed"
_TAG = "inference"


def routes(
    generations: Generations,
    encodings: Encodings,
    tokenizations: Tokenizations,
    *,
    table: LiveTable,
    bus: Bus,
    max_body: int,
) -> list[Operation]:
    """The operations.

    Args:
        generations: Generate text.
        encodings: Embed texts.
        tokenizations: Ask the tokenizers of deployments.
        table: The deployments.
        bus: To the registry.
        max_body: Bytes of a request at most.
    """
    api = OllamaApi(generations, encodings, table, max_body)
    models = ModelsApi(table, tokenizations, ControlPlane(bus), max_body)
    posts: list[tuple[str, Handler, str, type[BaseModel], Content]] = [
        ("/api/chat", api.chat, _CHAT, ChatRequest, _LINES),
        ("/api/generate", api.generate, _GENERATE, GenerateRequest, _LINES),
        ("/api/embed", api.embed, _EMBED, EmbedRequest, OBJECT),
        ("/api/embeddings", api.embed_one, _EMBED_ONE, EmbeddingsRequest, OBJECT),
        ("/api/show", models.show, "One model, as Ollama shows it", ShowRequest, OBJECT),
    ]
    gets = [
        ("/api/tags", models.tags, "The models that can be asked, as Ollama lists them"),
        ("/api/ps", models.ps, "The models that can answer now, as Ollama lists them"),
        ("/api/version", models.version, "The version of Ollama's API"),
    ]
    return [
        *(
            Operation(
                "POST",
                path,
                handler,
                summary,
                _TAG,
                body=body,
                result=result,
                dialect=OLLAMA,
                parameters=PARAMETERS[body],
            )
            for path, handler, summary, body, result in posts
        ),
        *(Operation("GET", path, handler, summary, _TAG, dialect=OLLAMA) for path, handler, summary in gets),
        *administration.operations(),
    ]
