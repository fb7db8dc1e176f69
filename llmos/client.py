"""A small Python client of the gateway: the admin routes, and a streaming chat for the terminal.

Applications use any OpenAI client; the command line uses this one.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llmos.datasets import Datasets
from llmos.jobs import Jobs
from llmos.reports import Reports
from llmos.transport import Transport, admin_path
from shared.contracts.gateway import ApiKey
from shared.contracts.manifest import Manifest
from shared.contracts.monitor import HealthReport, TraceList
from shared.contracts.registry import CatalogueRecord, CollectGarbage, GarbageReport, ModelList, ModelVersion
from shared.contracts.scheduler import Deploy, DeploymentList, DeploymentStatus, NodeList
from shared.errors import CorruptFile, Unavailable
from shared.storage.port import CHUNK


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of a stream; the last one has the usage."""

    text: str
    trace_id: str
    usage: dict[str, int] | None = None
    tokens: int = 0
    """Of this piece, also those whose text is held back."""


class Client:
    """Talks to one gateway. Errors are those of `shared.errors`.

    Args:
        url: The gateway, without `/v1`: `http://127.0.0.1:8000`.
        api_key: A key with the scopes that the calls need.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url.strip().rstrip("/").removesuffix("/v1")
        self.api_key = api_key
        self._gateway = Transport(self.url, api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gateway.close()

    # models

    def models(self) -> ModelList:
        """All models with their versions and aliases."""
        return self._gateway.call(ModelList, "GET", "models")

    def version(self, reference: str) -> ModelVersion:
        """What `name`, `name:3` or `name@alias` means now."""
        return self._gateway.call(ModelVersion, "GET", "models", reference)

    def create_version(self, model: str, manifest: Manifest, aliases: tuple[str, ...] = ()) -> ModelVersion:
        """A version from uploaded blobs; the same manifest again answers the same version."""
        body = {"manifest": manifest.model_dump(mode="json"), "aliases": list(aliases)}
        return self._gateway.call(ModelVersion, "POST", "models", model, "versions", body=body)

    def set_alias(self, model: str, alias: str, version: int) -> CatalogueRecord:
        """Point `model@alias` at a version."""
        return self._gateway.call(
            CatalogueRecord, "PUT", "models", model, "aliases", alias, body={"version": version}
        )

    def remove_alias(self, model: str, alias: str) -> None:
        """Remove `model@alias`."""
        self._gateway.send("DELETE", admin_path("models", model, "aliases", alias))

    def delete(self, reference: str) -> None:
        """Delete a version, or a model with all its versions."""
        self._gateway.send("DELETE", admin_path("models", reference))

    def collect_garbage(self, *, dry_run: bool) -> GarbageReport:
        """Remove files that no version refers to, or only list them."""
        return self._collect(CollectGarbage(dry_run=dry_run))

    def collect_uploads(self, digests: Sequence[str]) -> GarbageReport:
        """Remove those of these blobs that no version refers to, however young they are."""
        return self._collect(CollectGarbage(dry_run=False, grace=0, blobs=tuple(digests)))

    def _collect(self, request: CollectGarbage) -> GarbageReport:
        body = request.model_dump(mode="json", exclude_none=True)
        return self._gateway.call(GarbageReport, "POST", "garbage", body=body)

    def has_blob(self, digest: str) -> bool:
        """Whether the store has these bytes already."""
        return self._gateway.exists(admin_path("blobs", digest))

    def upload(self, digest: str, path: Path, sent: Callable[[int], None]) -> None:
        """Upload a file; `sent` gets the number of bytes sent so far. The server verifies the digest."""

        def chunks() -> Iterator[bytes]:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
                    sent(file.tell())

        self._gateway.put(admin_path("blobs", digest), chunks(), path.stat().st_size)

    def download(self, digest: str, path: Path, received: Callable[[int], None]) -> None:
        """Download a file; `received` gets the number of bytes so far. Raises CorruptFile for another digest."""
        found = hashlib.sha256()
        with path.open("wb") as file:
            for chunk in self._gateway.chunks(admin_path("blobs", digest)):
                file.write(chunk)
                found.update(chunk)
                received(file.tell())
        if found.hexdigest() != digest:
            path.unlink()
            raise CorruptFile(f"the store gave other bytes for blob {digest}; run the command again")

    # deployments and nodes

    def deploy(self, request: Deploy) -> DeploymentStatus:
        """Run a version under a public name. Idempotent."""
        return self._gateway.call(
            DeploymentStatus, "POST", "deployments", body=request.model_dump(mode="json", exclude_none=True)
        )

    def deployment(self, name: str) -> DeploymentStatus:
        """One deployment, desired and observed."""
        return self._gateway.call(DeploymentStatus, "GET", "deployments", name)

    def deployments(self) -> DeploymentList:
        """All deployments."""
        return self._gateway.call(DeploymentList, "GET", "deployments")

    def undeploy(self, name: str) -> None:
        """Stop serving a name; its replicas drain."""
        self._gateway.send("DELETE", admin_path("deployments", name))

    def nodes(self) -> NodeList:
        """All nodes that are up."""
        return self._gateway.call(NodeList, "GET", "nodes")

    # keys

    def create_key(self, name: str, scopes: list[str]) -> dict[str, Any]:
        """A new key; the only time that it is shown."""
        created: dict[str, Any] = self._gateway.json("POST", admin_path("keys"), {"name": name, "scopes": scopes})
        return created

    def keys(self) -> list[ApiKey]:
        """All keys, without their secrets."""
        listed = self._gateway.json("GET", admin_path("keys"))
        with self._gateway.understood():
            return [ApiKey.model_validate(item | {"hash": item.get("hash", "")}) for item in listed["keys"]]

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key, effective at once."""
        self._gateway.send("DELETE", admin_path("keys", key_id))

    @property
    def jobs(self) -> Jobs:
        """Finite work on nodes."""
        return Jobs(self._gateway)

    @property
    def datasets(self) -> Datasets:
        """Rows in the registry."""
        return Datasets(self._gateway, self)

    @property
    def reports(self) -> Reports:
        """What evaluations measured."""
        return Reports(self._gateway, self)

    # monitor

    def health(self) -> HealthReport:
        """Every process that was heard of lately."""
        return self._gateway.call(HealthReport, "GET", "health")

    def traces(self, limit: int) -> TraceList:
        """The newest traces."""
        return self._gateway.decoded(TraceList, self._gateway.send("GET", f"{admin_path('traces')}?limit={limit}"))

    def trace(self, trace_id: str) -> dict[str, Any]:
        """One trace as OTLP JSON."""
        document: dict[str, Any] = self._gateway.json("GET", admin_path("traces", trace_id))
        return document

    # inference

    def chat(self, model: str, messages: list[dict[str, str]], **sampling: Any) -> Iterator[ChatDelta]:
        """A streamed chat completion."""
        body = {"model": model, "messages": messages, **sampling}
        for choice, delta in self._stream("/v1/chat/completions", body):
            yield replace(delta, text=choice.get("delta", {}).get("content") or "")

    def complete(self, model: str, prompt: str, **sampling: Any) -> Iterator[ChatDelta]:
        """A streamed completion of a text."""
        for choice, delta in self._stream("/v1/completions", {"model": model, "prompt": prompt, **sampling}):
            yield replace(delta, text=choice.get("text") or "")

    def embed(self, model: str, texts: list[str], *, dimensions: int | None = None) -> list[list[float]]:
        """An embedding for each text."""
        body = {"model": model, "input": texts} | ({"dimensions": dimensions} if dimensions else {})
        answer = self._gateway.json("POST", "/v1/embeddings", body)
        with self._gateway.understood():
            return [entry["embedding"] for entry in answer["data"]]

    def classify(self, model: str, texts: Sequence[str]) -> list[str]:
        """The label of each text."""
        body = {"model": model, "input": list(texts), "truncate_prompt_tokens": -1}
        answer = self._gateway.json("POST", "/v1/classify", body)
        with self._gateway.understood():
            return [entry["label"] for entry in answer["data"]]

    def _stream(self, path: str, body: dict[str, Any]) -> Iterator[tuple[dict[str, Any], ChatDelta]]:
        """Each event's first choice, and what both APIs have in common."""
        body |= {"stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True}
        for event, trace_id in self._gateway.events(path, body):
            with self._gateway.understood():
                choice = (event.get("choices") or [{}])[0]
                delta = ChatDelta("", trace_id, event.get("usage"), len(choice.get("token_ids") or ()))
            yield choice, delta


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
