"""What Ollama's clients do to models, and is done with `llmos` here: refused, with the command that does it.

A key for inference must not change what others are served.
"""

from collections.abc import Mapping
from typing import NoReturn

from starlette.requests import Request

from services.gateway.http.operation import Handler, Operation
from services.gateway.ollama.dialect import OLLAMA
from shared.errors import PermissionDenied

_COMMANDS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("POST", "/api/pull"): (
        "pulled",
        "`llmos model import hf:ORG/NAME --name NAME` imports a model, and `llmos deploy NAME` serves it",
    ),
    ("POST", "/api/push"): ("pushed", "`llmos model export NAME FOLDER` writes a version to a folder"),
    ("POST", "/api/create"): (
        "created",
        "`llmos model import SOURCE --name NAME` makes a version, and `llmos deploy NAME` serves it",
    ),
    ("DELETE", "/api/delete"): (
        "deleted",
        "`llmos undeploy NAME` stops serving a model, and `llmos model delete NAME` deletes it",
    ),
    ("POST", "/api/copy"): ("copied", "`llmos deploy MODEL --name NAME` serves a model under another name"),
    ("POST", "/api/blobs/{digest}"): ("uploaded", "`llmos model import SOURCE --name NAME` uploads a model"),
}
"""Method and path: what does not happen here, and the commands."""


def operations() -> list[Operation]:
    """The operations, each of which refuses."""
    return [
        Operation(
            method,
            path,
            _refusing(f"models are not {done} through this API: {command}"),
            f"Refused: {command}",
            "inference",
            dialect=OLLAMA,
        )
        for (method, path), (done, command) in _COMMANDS.items()
    ]


def _refusing(message: str) -> Handler:
    async def refuse(_request: Request) -> NoReturn:
        raise PermissionDenied(message)

    return refuse
