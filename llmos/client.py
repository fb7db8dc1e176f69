"""A small Python client of the gateway: the admin routes, and a streaming chat for the terminal.

Applications use any OpenAI client; the command line uses this one.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from llmos.blobs import Blobs
from llmos.jobs import Jobs
from llmos.transport import Transport, admin_path
from llmos.versions import Versions
from shared.contracts.dataset import DatasetManifest
from shared.contracts.events import AuditReport, Event, EventList
from shared.contracts.gateway import ApiKey
from shared.contracts.manifest import Manifest
from shared.contracts.monitor import AlertList, HealthReport, TraceList
from shared.contracts.registry import (
    DATASETS,
    MODELS,
    REPORTS,
    CollectGarbage,
    DatasetList,
    DatasetVersion,
    GarbageReport,
    ModelList,
    ModelVersion,
    ReportList,
    ReportVersion,
)
from shared.contracts.report import ReportManifest
from shared.contracts.scheduler import Deploy, DeploymentList, DeploymentStatus, NodeList
from shared.contracts.scrub import CheckedBlob, ScrubList
from shared.errors import Conflict, Unavailable


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

    # the registry

    @property
    def models(self) -> Versions[Manifest, ModelVersion, ModelList]:
        """Models with their versions and aliases."""
        return Versions(self._gateway, self.blobs, MODELS)

    @property
    def datasets(self) -> Versions[DatasetManifest, DatasetVersion, DatasetList]:
        """Rows."""
        return Versions(self._gateway, self.blobs, DATASETS)

    @property
    def reports(self) -> Versions[ReportManifest, ReportVersion, ReportList]:
        """What evaluations measured."""
        return Versions(self._gateway, self.blobs, REPORTS)

    @property
    def blobs(self) -> Blobs:
        """The bytes of files, by digest."""
        return Blobs(self._gateway)

    def collect_garbage(self, *, dry_run: bool) -> GarbageReport:
        """Remove files that no version refers to, or only list them."""
        return self._collect(CollectGarbage(dry_run=dry_run))

    def collect_uploads(self, digests: Sequence[str]) -> GarbageReport:
        """Remove those of these blobs that no version refers to, however young they are."""
        return self._collect(CollectGarbage(dry_run=False, grace=0, blobs=tuple(digests)))

    def _collect(self, request: CollectGarbage) -> GarbageReport:
        body = request.model_dump(mode="json", exclude_none=True)
        return self._gateway.call(GarbageReport, "POST", "garbage", body=body)

    # deployments and nodes

    def deploy(self, request: Deploy) -> DeploymentStatus:
        """Run a version under a public name. Idempotent."""
        return self._gateway.call(
            DeploymentStatus, "POST", "deployments", body=request.model_dump(mode="json", exclude_none=True)
        )

    def deployment(self, name: str) -> DeploymentStatus:
        """One deployment, desired and observed."""
        return self._gateway.call(DeploymentStatus, "GET", "deployments", name)

    def deployments(self, *, timeout: float | None = None) -> DeploymentList:
        """All deployments."""
        return self._gateway.call(DeploymentList, "GET", "deployments", timeout=timeout)

    def rollback(self, name: str) -> DeploymentStatus:
        """Bring back the previous revision of a deployment, whole."""
        return self._gateway.call(DeploymentStatus, "POST", "deployments", name, "rollback")

    def undeploy(self, name: str) -> None:
        """Stop serving a name; its replicas drain."""
        self._gateway.send("DELETE", admin_path("deployments", name))

    def nodes(self) -> NodeList:
        """All nodes that are up."""
        return self._gateway.call(NodeList, "GET", "nodes")

    def check_blob(self, digest: str, node: str | None = None) -> CheckedBlob:
        """Read a file in the store, or in a node's cache, and compare it with its digest."""
        path = admin_path("blobs", digest, "check") + (f"?node={node}" if node else "")
        return self._gateway.decoded(CheckedBlob, self._gateway.send("POST", path))

    def scrubs(self, *, timeout: float | None = None) -> ScrubList:
        """The background checks of stored files."""
        return self._gateway.call(ScrubList, "GET", "scrubs", timeout=timeout)

    # keys

    def create_key(
        self, name: str, scopes: list[str], *, expires_in_s: float | None = None, may_store: bool = True
    ) -> dict[str, Any]:
        """A new key; the only time that it is shown. It is refused after `expires_in_s` seconds, if given.

        Without `may_store`, responses of its requests are not stored.
        """
        body = {"name": name, "scopes": scopes, "may_store": may_store}
        body |= {} if expires_in_s is None else {"expires_in_s": expires_in_s}
        created: dict[str, Any] = self._gateway.json("POST", admin_path("keys"), body)
        return created

    def keys(self) -> list[ApiKey]:
        """All keys, without their secrets."""
        listed = self._gateway.json("GET", admin_path("keys"))
        with self._gateway.understood():
            return [ApiKey.model_validate(item | {"hash": item.get("hash", "")}) for item in listed["keys"]]

    def key_events(self, limit: int) -> EventList:
        """What happened to keys, newest first."""
        sent = self._gateway.send("GET", f"{admin_path('keys', 'events')}?limit={limit}")
        return self._gateway.decoded(EventList, sent)

    def events(self, **filters: str | float | None) -> EventList:
        """Who changed what, newest first; `filters` are the query parameters of `GET /llmos/v1/events`."""
        return self._gateway.decoded(EventList, self._gateway.send("GET", _events_path(filters)))

    def follow_events(self, **filters: str | float | None) -> Iterator[Event]:
        """As `events`, oldest first, and then what happens; does not end."""
        for event, _ in self._gateway.events(_events_path({**filters, "follow": "true"})):
            with self._gateway.understood():
                yield Event.model_validate(event)

    def verify_events(self, heads: Mapping[str, tuple[int, str]]) -> AuditReport:
        """Check all chains of events; `heads` are numbers and digests of an earlier check, by chain."""
        known = ",".join(f"{chain}:{number}:{digest}" for chain, (number, digest) in heads.items())
        path = f"{admin_path('events', 'verify')}?{urlencode({'heads': known})}"
        return self._gateway.decoded(AuditReport, self._gateway.send("GET", path))

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key, effective at once."""
        self._gateway.send("DELETE", admin_path("keys", key_id))

    @property
    def jobs(self) -> Jobs:
        """Finite work on nodes."""
        return Jobs(self._gateway)

    # monitor

    def health(self, *, timeout: float | None = None) -> HealthReport:
        """Every process that was heard of lately."""
        return self._gateway.call(HealthReport, "GET", "health", timeout=timeout)

    def alerts(self) -> AlertList:
        """What is wrong, or was in the last hour."""
        return self._gateway.call(AlertList, "GET", "alerts")

    def traces(self, limit: int, **given: str | float | None) -> TraceList:
        """The newest traces; `given` are the fields of `ListTraces`."""
        query = urlencode({"limit": limit, **{name: value for name, value in given.items() if value is not None}})
        return self._gateway.decoded(TraceList, self._gateway.send("GET", f"{admin_path('traces')}?{query}"))

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
    """Yields the deployment's status until all its replicas answer.

    Raises:
        Unavailable: Not within `timeout` seconds.
        Conflict: Somebody changed the deployment meanwhile.
    """
    deadline = time.monotonic() + timeout
    status = client.deployment(name)
    revision = status.deployment.revision
    while time.monotonic() < deadline:
        yield status
        if status.ready >= status.deployment.replicas:
            return
        time.sleep(0.2)
        status = client.deployment(name)
        if status.deployment.revision != revision:
            now = status.deployment
            by = f" by {now.changed_by}" if now.changed_by else ""
            raise Conflict(
                f"{name} was changed meanwhile{by}: revision {now.revision} runs {now.model}:{now.version}"
            )
    missing = status.deployment.replicas - status.ready
    raise Unavailable(
        f"{missing} of {status.deployment.replicas} replicas of {name} are not ready after {timeout:.0f} s:"
        f" {why_not_ready(status)}"
    )


def why_not_ready(status: DeploymentStatus) -> str:
    """In a few words."""
    if status.unplaced:
        return status.unplaced[0]
    return (
        "; ".join(f"{r.id} is {r.state}{': ' + r.message if r.message else ''}" for r in status.replicas)
        or "starting"
    )


def _events_path(filters: Mapping[str, str | float | None]) -> str:
    given = {name: value for name, value in filters.items() if value is not None}
    return f"{admin_path('events')}?{urlencode(given)}"
