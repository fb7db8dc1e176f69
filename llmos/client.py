"""A small Python client of the gateway: the admin routes, and a streaming chat for the terminal.

Applications use any OpenAI client; the command line uses this one.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from llmos.datasets import Datasets
from llmos.jobs import Jobs
from llmos.reports import Reports
from shared.contracts.gateway import ApiKey
from shared.contracts.manifest import Manifest
from shared.contracts.monitor import HealthReport, TraceList
from shared.contracts.registry import CatalogueRecord, CollectGarbage, GarbageReport, ModelList, ModelVersion
from shared.contracts.scheduler import Deploy, DeploymentList, DeploymentStatus, NodeList
from shared.errors import CorruptFile, ErrorPayload, Internal, LlmosError, Unavailable, from_payload
from shared.storage.port import CHUNK

_TIMEOUT = httpx.Timeout(30.0, read=600.0)


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of a stream; the last one has the usage."""

    text: str
    trace_id: str
    usage: dict[str, int] | None = None


class Client:
    """Talks to one gateway. Errors are those of `shared.errors`.

    Args:
        url: The gateway, without `/v1`: `http://127.0.0.1:8000`.
        api_key: A key with the scopes that the calls need.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.api_key = api_key
        self._http = httpx.Client(
            base_url=self.url,
            timeout=_TIMEOUT,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    # models

    def models(self) -> ModelList:
        """All models with their versions and aliases."""
        return ModelList.decode(self._call("GET", "/llmos/v1/models"))

    def version(self, reference: str) -> ModelVersion:
        """What `name`, `name:3` or `name@alias` means now."""
        return ModelVersion.decode(self._call("GET", f"/llmos/v1/models/{reference}"))

    def create_version(self, model: str, manifest: Manifest, aliases: tuple[str, ...] = ()) -> ModelVersion:
        """A version from uploaded blobs; the same manifest again answers the same version."""
        body = {"manifest": manifest.model_dump(mode="json"), "aliases": list(aliases)}
        return ModelVersion.decode(self._call("POST", f"/llmos/v1/models/{model}/versions", body))

    def set_alias(self, model: str, alias: str, version: int) -> CatalogueRecord:
        """Point `model@alias` at a version."""
        return CatalogueRecord.decode(
            self._call("PUT", f"/llmos/v1/models/{model}/aliases/{alias}", {"version": version})
        )

    def remove_alias(self, model: str, alias: str) -> None:
        """Remove `model@alias`."""
        self._call("DELETE", f"/llmos/v1/models/{model}/aliases/{alias}")

    def delete(self, reference: str) -> None:
        """Delete a version, or a model with all its versions."""
        self._call("DELETE", f"/llmos/v1/models/{reference}")

    def collect_garbage(self, *, dry_run: bool) -> GarbageReport:
        """Remove files that no version refers to, or only list them."""
        return self._collect(CollectGarbage(dry_run=dry_run))

    def collect_uploads(self, digests: Sequence[str]) -> GarbageReport:
        """Remove those of these blobs that no version refers to, however young they are."""
        return self._collect(CollectGarbage(dry_run=False, grace=0, blobs=tuple(digests)))

    def _collect(self, request: CollectGarbage) -> GarbageReport:
        body = request.model_dump(mode="json", exclude_none=True)
        return GarbageReport.decode(self._call("POST", "/llmos/v1/garbage", body))

    def has_blob(self, digest: str) -> bool:
        """Whether the store has these bytes already."""
        with _connection(self.url):
            return self._http.head(f"/llmos/v1/blobs/{digest}").status_code == httpx.codes.OK

    def upload(self, digest: str, path: Path, sent: Callable[[int], None]) -> None:
        """Upload a file; `sent` gets the number of bytes sent so far. The server verifies the digest."""

        def chunks() -> Iterator[bytes]:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
                    sent(file.tell())

        with _connection(self.url):
            response = self._http.put(
                f"/llmos/v1/blobs/{digest}",
                content=chunks(),
                headers={"Content-Length": str(path.stat().st_size), "Content-Type": "application/octet-stream"},
            )
        _raise_for(response)

    def download(self, digest: str, path: Path, received: Callable[[int], None]) -> None:
        """Download a file; `received` gets the number of bytes so far. Raises CorruptFile for another digest."""
        found = hashlib.sha256()
        with (
            _connection(self.url),
            self._http.stream("GET", f"/llmos/v1/blobs/{digest}") as response,
            path.open("wb") as file,
        ):
            if response.is_error:
                response.read()
            _raise_for(response)
            for chunk in response.iter_bytes(CHUNK):
                file.write(chunk)
                found.update(chunk)
                received(file.tell())
        if found.hexdigest() != digest:
            path.unlink()
            raise CorruptFile(f"the store gave other bytes for blob {digest}; run the command again")

    # deployments and nodes

    def deploy(self, request: Deploy) -> DeploymentStatus:
        """Run a version under a public name. Idempotent."""
        return DeploymentStatus.decode(
            self._call("POST", "/llmos/v1/deployments", request.model_dump(mode="json", exclude_none=True))
        )

    def deployment(self, name: str) -> DeploymentStatus:
        """One deployment, desired and observed."""
        return DeploymentStatus.decode(self._call("GET", f"/llmos/v1/deployments/{name}"))

    def deployments(self) -> DeploymentList:
        """All deployments."""
        return DeploymentList.decode(self._call("GET", "/llmos/v1/deployments"))

    def undeploy(self, name: str) -> None:
        """Stop serving a name; its replicas drain."""
        self._call("DELETE", f"/llmos/v1/deployments/{name}")

    def nodes(self) -> NodeList:
        """All nodes that are up."""
        return NodeList.decode(self._call("GET", "/llmos/v1/nodes"))

    # keys

    def create_key(self, name: str, scopes: list[str]) -> dict[str, Any]:
        """A new key; the only time that it is shown."""
        created: dict[str, Any] = orjson.loads(self._call("POST", "/llmos/v1/keys", {"name": name, "scopes": scopes}))
        return created

    def keys(self) -> list[ApiKey]:
        """All keys, without their secrets."""
        listed = orjson.loads(self._call("GET", "/llmos/v1/keys"))
        return [ApiKey.model_validate(item | {"hash": item.get("hash", "")}) for item in listed["keys"]]

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key, effective at once."""
        self._call("DELETE", f"/llmos/v1/keys/{key_id}")

    @property
    def jobs(self) -> Jobs:
        """Finite work on nodes."""
        return Jobs(self._call, self._follow)

    @property
    def datasets(self) -> Datasets:
        """Rows in the registry."""
        return Datasets(self._call, self)

    @property
    def reports(self) -> Reports:
        """What evaluations measured."""
        return Reports(self._call, self)

    # monitor

    def health(self) -> HealthReport:
        """Every process that was heard of lately."""
        return HealthReport.decode(self._call("GET", "/llmos/v1/health"))

    def traces(self, limit: int) -> TraceList:
        """The newest traces."""
        return TraceList.decode(self._call("GET", f"/llmos/v1/traces?limit={limit}"))

    def trace(self, trace_id: str) -> dict[str, Any]:
        """One trace as OTLP JSON."""
        document: dict[str, Any] = orjson.loads(self._call("GET", f"/llmos/v1/traces/{trace_id}"))
        return document

    # inference

    def chat(self, model: str, messages: list[dict[str, str]], **sampling: Any) -> Iterator[ChatDelta]:
        """A streamed chat completion."""
        body = {"model": model, "messages": messages, **sampling}
        for event, trace_id in self._stream("/v1/chat/completions", body):
            text = (event["choices"][0].get("delta", {}).get("content") or "") if event["choices"] else ""
            yield ChatDelta(text, trace_id, event.get("usage"))

    def complete(self, model: str, prompt: str, **sampling: Any) -> Iterator[ChatDelta]:
        """A streamed completion of a text."""
        for event, trace_id in self._stream("/v1/completions", {"model": model, "prompt": prompt, **sampling}):
            text = (event["choices"][0].get("text") or "") if event["choices"] else ""
            yield ChatDelta(text, trace_id, event.get("usage"))

    def embed(self, model: str, texts: list[str], *, dimensions: int | None = None) -> list[list[float]]:
        """An embedding for each text."""
        body = {"model": model, "input": texts} | ({"dimensions": dimensions} if dimensions else {})
        data = orjson.loads(self._call("POST", "/v1/embeddings", body))["data"]
        return [entry["embedding"] for entry in data]

    def _stream(self, path: str, body: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
        body = body | {"stream": True, "stream_options": {"include_usage": True}}
        with _connection(self.url), self._http.stream("POST", path, json=body) as response:
            if response.is_error:
                response.read()
            _raise_for(response)
            trace_id = response.headers.get("x-trace-id", "")
            for line in response.iter_lines():
                if not line.startswith("data:") or line == "data: [DONE]":
                    continue
                event = orjson.loads(line.removeprefix("data:"))
                if "error" in event:
                    raise _error(event["error"])
                yield event, trace_id

    def _follow(self, path: str) -> Iterator[bytes]:
        """The data of each server-sent event."""
        with _connection(self.url), self._http.stream("GET", path) as response:
            if response.is_error:
                response.read()
            _raise_for(response)
            for line in response.iter_lines():
                if line.startswith("data:") and line != "data: [DONE]":
                    yield line.removeprefix("data:").strip().encode()

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        with _connection(self.url):
            response = self._http.request(method, path, json=body)
        _raise_for(response)
        return response.content


@contextmanager
def _connection(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise Unavailable(f"{url} did not answer in time") from error
    except httpx.TransportError as error:
        raise Unavailable(f"nothing answers at {url}; start LLMOS with 'llmos up', or give --url") from error
    except httpx.InvalidURL as error:
        raise Unavailable(f"{url!r} is not a URL; expected something like http://127.0.0.1:8000") from error


def _raise_for(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        body = orjson.loads(response.content)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Internal(f"HTTP {response.status_code}: {response.text[:300]}") from None
    raise _error(body)


def _error(body: dict[str, Any]) -> LlmosError:
    payload = ErrorPayload(code=body.get("code") or "internal", message=body["message"], param=body.get("param"))
    return from_payload(payload)


def wait_ready(client: Client, name: str, timeout: float) -> Iterator[DeploymentStatus]:
    """Yields the deployment's status until a replica answers; `Unavailable` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    status = client.deployment(name)
    while time.monotonic() < deadline:
        yield status
        if status.ready:
            return
        time.sleep(0.2)
        status = client.deployment(name)
    raise Unavailable(f"{name} has no ready replica after {timeout:.0f} s: {why_not_ready(status)}")


def why_not_ready(status: DeploymentStatus) -> str:
    """In a few words."""
    if status.unplaced:
        return status.unplaced[0]
    return (
        "; ".join(f"{r.id} is {r.state}{': ' + r.message if r.message else ''}" for r in status.replicas)
        or "starting"
    )
