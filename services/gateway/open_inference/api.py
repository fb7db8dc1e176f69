"""The handlers of the protocol's routes."""

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import ParamSpec, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.body import parsed, read_body, unless_gone
from services.gateway.http.middleware import state_of
from services.gateway.http.responses import json_response
from services.gateway.open_inference.answers import infer_response, metadata
from services.gateway.open_inference.inference import Inference, InferRequest
from services.gateway.open_inference.models import PLATFORM, Models
from services.gateway.open_inference.requests import HEAD_LENGTH, parse_infer
from shared.contracts.tensor import MAX_TENSOR_BYTES
from shared.errors import InvalidInput, PayloadTooLarge, Unavailable

NAME, EXTENSIONS = "llmos", ("binary_tensor_data",)
_INLINE_BYTES = 1 << 16
"""Larger tensors are converted in a thread."""

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class OpenInferenceApi:
    """Server, models and inference.

    Args:
        models: The deployments.
        inference: Answers requests.
        reasons: Why the gateway is not ready; empty: it is.
        max_body: Bytes of a request's JSON at most.
    """

    def __init__(
        self, models: Models, inference: Inference, reasons: Callable[[], tuple[str, ...]], max_body: int
    ) -> None:
        self._models = models
        self._inference = inference
        self._reasons = reasons
        self._max_body = max_body

    async def server(self, _request: Request) -> Response:
        """The server's name, version and extensions."""
        return json_response({"name": NAME, "version": version("llmos"), "extensions": list(EXTENSIONS)})

    async def live(self, _request: Request) -> Response:
        """The process lives."""
        return json_response({"live": True})

    async def ready(self, _request: Request) -> Response:
        """Whether the gateway can serve; raises `Unavailable` with the reasons."""
        if reasons := self._reasons():
            raise Unavailable("; ".join(reasons))
        return json_response({"ready": True})

    async def model(self, request: Request) -> Response:
        """What a model takes and returns."""
        name, number = _named(request)
        return json_response(metadata(await self._models.metadata(name, number), PLATFORM))

    async def model_ready(self, request: Request) -> Response:
        """Whether a model can take requests; raises `Unavailable` with the reason."""
        name, number = _named(request)
        self._models.check_ready(name, number)
        return json_response({"name": name, "ready": True})

    async def infer(self, request: Request) -> Response:
        """The outputs of a model for the inputs of a request."""
        name, number = _named(request)
        state = state_of(request.scope)
        state.model = name
        head, raw = await self._read(request)
        body = await parsed(parse_infer, head)
        inputs, buffers = await _in_thread(len(head), body.buffers, raw)
        outputs = tuple(output.name for output in body.outputs)
        asked = InferRequest(name, number, inputs, buffers, outputs, state.key_id)
        found = await unless_gone(request.receive, self._inference.infer(asked))
        return await _in_thread(sum(map(len, found.buffers)), infer_response, body, found)

    async def _read(self, request: Request) -> tuple[bytes, bytes]:
        """A body's JSON, and what is behind it.

        Raises:
            InvalidInput: The length of the JSON is no number, or the body is shorter.
            PayloadTooLarge: Body or JSON are larger than they may be.
        """
        given = request.headers.get(HEAD_LENGTH)
        if given is None:
            return await read_body(request, self._max_body), b""
        if not given.isdecimal() or len(given) > 18:
            raise InvalidInput(f"{HEAD_LENGTH} is {given!r:.40}; expected the bytes of the JSON", param=HEAD_LENGTH)
        length = int(given)
        if length > self._max_body:
            raise PayloadTooLarge(f"the JSON is larger than {self._max_body / (1 << 20):g} MiB", param=HEAD_LENGTH)
        body = await read_body(request, MAX_TENSOR_BYTES, binary=True)
        if length > len(body):
            raise InvalidInput(f"{HEAD_LENGTH} is {length}, and the body has {len(body)} bytes", param=HEAD_LENGTH)
        return body[:length], body[length:]


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")


async def _in_thread(
    size: int, work: Callable[_Given, _Result], *given: _Given.args, **more: _Given.kwargs
) -> _Result:
    """What `work` returns; in a thread where there is much to do."""
    if size <= _INLINE_BYTES:
        return work(*given, **more)
    return await asyncio.to_thread(work, *given, **more)
