"""A replica process, and a gateway's part in talking to it."""

import asyncio
import hashlib
import itertools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from services.inference.agent.version_files import fetch_manifest, version_folder
from shared.bus import rpc
from shared.bus.port import Bus, Message
from shared.contracts.gateway import Frame, FrameBatch, frames_subject
from shared.contracts.manifest import Manifest
from shared.contracts.replica import Cancel, Generate, cancel_endpoint, generate_endpoint
from shared.contracts.resources import Resources
from shared.contracts.sampling import Sampling
from shared.contracts.scheduler import (
    REPLICAS_BUCKET,
    ReplicaAssignment,
    ReplicaState,
    ReplicaStatus,
)
from shared.contracts.serving import Device, ReplicaOptions
from shared.service.python import python_module
from shared.storage.directory import DirectoryStore
from shared.storage.port import ArtifactStore
from tests.support.harness.wait import eventually

ROOT = Path(__file__).parents[3]
_ids = itertools.count(1)


async def store_version(store: ArtifactStore, folder: Path, manifest: Manifest, model: str, version: int = 1) -> str:
    """Put a converted model into the store as the registry would; the manifest's digest."""

    async def chunks(path: Path) -> AsyncIterator[bytes]:
        yield await asyncio.to_thread(path.read_bytes)

    for file in manifest.files:
        await store.put_blob(file.digest, chunks(folder / file.path))
    data = manifest.encode()
    await store.put_manifest(model, version, data)
    return hashlib.sha256(data).hexdigest()


@dataclass
class Answered:
    """All frames of one request."""

    request_id: str
    frames: list[Frame] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def text(self) -> str:
        return "".join(frame.text for frame in self.frames)

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(token for frame in self.frames for token in frame.token_ids)

    @property
    def last(self) -> Frame:
        return self.frames[-1]

    def check(self) -> None:
        """What holds for every answer."""
        assert [frame.seq for frame in self.frames] == list(range(len(self.frames)))
        assert [frame.finish_reason is not None for frame in self.frames] == [False] * (len(self.frames) - 1) + [True]


class FrameClient:
    """Sends requests to replicas and collects the frames, as a gateway does."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.gateway_id = f"gateway-{os.getpid()}-{next(_ids)}"
        self.messages = 0
        self._answers: dict[str, Answered] = {}

    async def start(self) -> None:
        await self.bus.subscribe(frames_subject(self.gateway_id), self._on_frames)

    async def send(self, replica_id: str, *, timeout: float = 10.0, **request: object) -> Answered:
        """Start a generation; keyword arguments are those of `Generate`, and `sampling` may be a dict."""
        answer = Answered(f"req-{next(_ids)}")
        self._answers[answer.request_id] = answer
        request.setdefault("request_id", answer.request_id)
        request["sampling"] = Sampling.model_validate(request.get("sampling", {}))
        generate = Generate(gateway_id=self.gateway_id, **request)  # type: ignore[arg-type]
        await rpc.call(self.bus, generate_endpoint(replica_id), generate, timeout=timeout)
        return answer

    async def ask(self, replica_id: str, *, timeout: float = 60.0, **request: object) -> Answered:
        """The whole answer."""
        answer = await self.send(replica_id, **request)
        await asyncio.wait_for(answer.ended.wait(), timeout)
        answer.check()
        return answer

    async def cancel(self, replica_id: str, answer: Answered) -> None:
        await rpc.call(self.bus, cancel_endpoint(replica_id), Cancel(request_id=answer.request_id), timeout=5)

    def _on_frames(self, message: Message) -> None:
        self.messages += 1
        for frame in FrameBatch.decode(message.data).frames:
            answer = self._answers[frame.request_id]
            answer.frames.append(frame)
            if frame.finish_reason is not None:
                answer.ended.set()


@dataclass
class ReplicaProcess:
    """A running replica."""

    id: str
    process: asyncio.subprocess.Process
    bus: Bus
    log: Path

    async def status(self) -> ReplicaStatus | None:
        entry = await self.bus.kv(REPLICAS_BUCKET).get(self.id)
        return None if entry is None else ReplicaStatus.decode(entry.value)

    async def until(self, state: ReplicaState, timeout: float = 60.0) -> ReplicaStatus:
        async def reached() -> ReplicaStatus | None:
            status = await self.status()
            assert self.process.returncode is None or state is ReplicaState.FAILED, self.log.read_text()
            return status if status is not None and status.state is state else None

        return await eventually(reached, timeout)

    async def stop(self, timeout: float = 30.0) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), timeout)


@asynccontextmanager
async def replica_process(
    bus: Bus,
    nats_url: str,
    store: Path,
    cache: Path,
    digest: str,
    *,
    model: str = "small",
    slots: int = 4,
    max_len: int = 128,
    memory: int = 1 << 30,
    prefix_cache: int = 0,
    device: Device = "cpu",
    gpu_memory: int = 0,
    additional_properties: Literal["closed", "open"] = "closed",
    share_cache: bool = False,
    max_batch: int | None = None,
    max_delay_ms: float = 0.0,
    module: str = "services.inference.replica",
    **environment: str,
) -> AsyncIterator[ReplicaProcess]:
    """Start a replica; it is killed at the end if it still runs."""
    assignment = ReplicaAssignment(
        id=f"{model}-{os.getpid()}-{next(_ids)}",
        deployment=model,
        model=model,
        version=1,
        digest=digest,
        options=ReplicaOptions(
            slots=slots,
            max_len=max_len,
            threads=1,
            prefix_cache=prefix_cache,
            draft_tokens=0,
            additional_properties=additional_properties,
            share_cache=share_cache,
            max_batch=max_batch,
            max_delay_ms=max_delay_ms,
        ),
        resources=Resources(memory=memory, threads=1, gpu_memory=gpu_memory),
        device=device,
    )
    log = cache.parent / f"{assignment.id}.log"
    async with AsyncExitStack() as stack:
        if "LLMOS_REPLICA_FILES" not in environment:
            source = DirectoryStore(store)
            manifest = await fetch_manifest(source, assignment)
            folder = await stack.enter_async_context(version_folder(source, manifest, digest, cache))
            environment["LLMOS_REPLICA_FILES"] = str(folder)
        output = stack.enter_context(log.open("wb"))
        process = await asyncio.create_subprocess_exec(
            *python_module(module),
            cwd=ROOT,
            stdout=output,
            stderr=output,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),  # `module` may be one of the tests
                "LLMOS_REPLICA_ASSIGNMENT": assignment.model_dump_json(),
                "LLMOS_NODE_ID": "node-a",
                "LLMOS_NATS_URL": nats_url,
                **environment,
            },
        )
        try:
            yield ReplicaProcess(assignment.id, process, bus, log)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
