"""Requests to a gateway over HTTP: paths, bodies, answers, streams and errors."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import orjson
from pydantic import ValidationError

from llmos.connection import connecting, http_client
from llmos.sse import event_data
from shared.contracts.base import Contract
from shared.errors import ErrorPayload, Internal, InvalidInput, LlmosError, NotFound, Unavailable, from_payload
from shared.storage.port import CHUNK

_TIMEOUT = httpx.Timeout(30.0, read=600.0)
_ADMIN = "/llmos/v1"
_PART = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f\ud800-\udfff]{1,256}")
"""What may stand between two slashes of a path. No name has a slash, and a proxy on the way may resolve `..` even
where it is encoded: such a part is not sent at all."""

Decoded = TypeVar("Decoded", bound=Contract)


def admin_path(*parts: str) -> str:
    """`/llmos/v1/models/smollm2%403` for `models`, `smollm2@3`: names follow their kind, and are quoted.

    Raises:
        NotFound: A part can't be a name.
    """
    for kind, part in zip(("", *parts), parts, strict=False):
        if not _PART.fullmatch(part):
            what = "alias" if kind == "aliases" else kind.removesuffix("s")
            raise NotFound(f"there is no {what} {part[:80]!r}: it can't be a name", param=what)
    return "/".join((_ADMIN, *(quote(part, safe="") for part in parts)))


class Transport:
    """A connection to the gateway at `url`. Everything that it raises is an `LlmosError`."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url
        self._http = http_client(url, key=api_key, timeout=_TIMEOUT, named="--url", key_named="--api-key")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(
        self,
        result: type[Decoded],
        method: str,
        *parts: str,
        body: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Decoded:
        """What the admin API answers below `parts`, as its contract."""
        return self.decoded(result, self.send(method, admin_path(*parts), body, timeout=timeout))

    def json(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON."""
        data = self.send(method, path, body)
        with self.understood():
            return orjson.loads(data)

    def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout: float | None = None
    ) -> bytes:
        """The answer's bytes. Without a `timeout`, in seconds, work may take its time."""
        with connecting(self.url):
            response = self._http.request(
                method, path, timeout=_TIMEOUT if timeout is None else timeout, **_content(body)
            )
        self._check(response)
        return response.content

    def exists(self, path: str) -> bool:
        """Whether a HEAD request finds something."""
        with connecting(self.url):
            return self._http.head(path).status_code == httpx.codes.OK

    def put(self, path: str, chunks: Iterator[bytes], size: int) -> None:
        """Upload `size` bytes."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        with connecting(self.url):
            response = self._http.put(path, content=chunks, headers=headers)
        self._check(response)

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file."""
        with connecting(self.url), self._http.stream("GET", path) as response:
            if not response.is_success:
                response.read()
            self._check(response)
            yield from response.iter_bytes(CHUNK)

    def events(self, path: str, body: dict[str, Any] | None = None) -> Iterator[tuple[Any, str]]:
        """The events of a streamed answer and its trace id; raises when the stream ends before `[DONE]`."""
        method = "GET" if body is None else "POST"
        with connecting(self.url), self._http.stream(method, path, **_content(body)) as response:
            if not response.is_success:
                response.read()
            self._check(response)
            trace_id = response.headers.get("x-trace-id", "")
            for data in event_data(response.iter_bytes()):
                if data == b"[DONE]":
                    return
                with self.understood():
                    event = orjson.loads(data)
                    failure = event.get("error")
                if failure is not None:
                    raise _error(failure, f"{self.url} broke the answer off: {failure}")
                yield event, trace_id
        raise Unavailable(f"{self.url} ended the answer before it was complete")

    def decoded(self, result: type[Decoded], data: bytes) -> Decoded:
        """A contract from an answer."""
        with self.understood():
            return result.decode(data)

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Raises what comes of an answer of another form as `Unavailable`."""
        try:
            yield
        except (orjson.JSONDecodeError, ValidationError, LookupError, TypeError, AttributeError) as error:
            raise Unavailable(f"{self.url} answers something else than LLMOS does; is it the right --url?") from error

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        if response.is_redirect:
            target = response.headers.get("location", "elsewhere")
            raise Unavailable(f"{self.url} sends us on to {target}; give the address behind it as --url")
        try:
            body = orjson.loads(response.content)["error"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            body = None
        raise _error(
            body, f"{self.url} answered HTTP {response.status_code}: {' '.join(response.text.split())[:300]}"
        )


def _content(body: dict[str, Any] | None) -> dict[str, Any]:
    """A JSON body for the client. Its own encoder would raise what is no `LlmosError`."""
    if body is None:
        return {}
    wrong = [name for name, value in body.items() if isinstance(value, float) and not math.isfinite(value)]
    if wrong:
        raise InvalidInput(f"{wrong[0]} must be a finite number, not {body[wrong[0]]}", param=wrong[0])
    try:
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("the text is not valid Unicode: it has half of a surrogate pair") from error
    return {"content": content, "headers": {"Content-Type": "application/json"}}


def _error(body: Any, otherwise: str) -> LlmosError:
    """OpenAI's error body as an error of ours; a body of another form is described by `otherwise`."""
    if not isinstance(body, dict) or not isinstance(body.get("message"), str):
        return Internal(otherwise)
    code, param = (body[name] if isinstance(body.get(name), str) else None for name in ("code", "param"))
    return from_payload(ErrorPayload(code=code or "internal", message=body["message"], param=param))
