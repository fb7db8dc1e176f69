"""A replica without a model: `python -m benchmarks.gateway_alone.replica STEP_S`.

It sends one message for each step, with a token of every request in progress, as the engine does. A token is a word:
those of the last message or of the prompt, over and over, up to `max_tokens`.
"""

import asyncio
import sys

import uvloop

from shared.bus import rpc
from shared.bus.connect import connect
from shared.bus.port import Bus
from shared.contracts.base import Empty
from shared.contracts.gateway import FinishReason, Frame, FrameBatch, Timings, Usage, frames_subject
from shared.contracts.load import EngineLoad, LoadReport, load_subject
from shared.contracts.replica import Accepted, Cancel, Generate, cancel_endpoint, generate_endpoint
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET, REPLICAS_BUCKET, Deployment, ReplicaState, ReplicaStatus
from shared.contracts.serving import ReplicaOptions
from shared.deadlines import LOAD_REPORT_S
from shared.service.settings import ServiceSettings

MODEL, REPLICA = "sample", "sample-1-a"
SLOTS, MAX_LEN = 64, 4096


class _Replica:
    def __init__(self, bus: Bus, step_s: float) -> None:
        self._bus = bus
        self._step_s = step_s
        self._busy = asyncio.Event()
        self._running: dict[str, tuple[Generate, int]] = {}

    async def run(self) -> None:
        example = Deployment.EXAMPLE
        assert example is not None
        deployment = example.model_copy(update={"name": MODEL, "model": MODEL})
        await self._bus.kv(DEPLOYMENTS_BUCKET).put(MODEL, deployment.encode())
        await rpc.respond(self._bus, generate_endpoint(REPLICA), self._accept)
        await rpc.respond(self._bus, cancel_endpoint(REPLICA), self._cancel)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._report())
            tasks.create_task(self._step())

    async def _accept(self, request: Generate) -> Accepted:
        self._running[request.request_id] = (request, 0)
        self._busy.set()
        return Accepted(prompt_tokens=1)

    async def _cancel(self, request: Cancel) -> Empty:
        self._running.pop(request.request_id, None)
        return Empty()

    async def _report(self) -> None:
        status = ReplicaStatus(
            id=REPLICA,
            node="node-a",
            deployment=MODEL,
            model=MODEL,
            version=1,
            state=ReplicaState.READY,
            options=ReplicaOptions(slots=SLOTS, max_len=MAX_LEN),
        )
        while True:
            await self._bus.kv(REPLICAS_BUCKET).put(REPLICA, status.encode())
            running = len(self._running)
            load = EngineLoad(
                running=running,
                waiting=0,
                queued_tokens=0,
                free_slots=SLOTS - running,
                slots=SLOTS,
                max_len=MAX_LEN,
                draining=False,
            )
            report = LoadReport(replica_id=REPLICA, deployment=MODEL, model=MODEL, version=1, load=load)
            await rpc.publish(self._bus, load_subject(REPLICA), report)
            await asyncio.sleep(LOAD_REPORT_S)

    async def _step(self) -> None:
        while True:
            await self._busy.wait()
            await asyncio.sleep(self._step_s)
            running = list(self._running.values())
            if not running:
                self._busy.clear()
            else:
                frames = tuple(self._frame(request, done) for request, done in running)
                subject = frames_subject(running[0][0].gateway_id)
                await rpc.publish(self._bus, subject, FrameBatch(replica_id=REPLICA, frames=frames))

    def _frame(self, request: Generate, done: int) -> Frame:
        words = (request.messages[-1].content if request.messages else request.prompt or "").split() or ["word"]
        frame = Frame(
            request_id=request.request_id, seq=done, text=f" {words[done % len(words)]}", token_ids=(100 + done,)
        )
        done += 1
        if done < (request.sampling.max_tokens or 1):
            self._running[request.request_id] = (request, done)
            return frame
        self._running.pop(request.request_id)
        usage = Usage(prompt_tokens=1, completion_tokens=done, cached_tokens=0)
        timings = Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0)
        return frame.model_copy(update={"finish_reason": FinishReason.LENGTH, "usage": usage, "timings": timings})


async def _run_replica() -> None:
    await _Replica(await connect(ServiceSettings().nats_url, name=REPLICA), float(sys.argv[1])).run()


if __name__ == "__main__":
    uvloop.run(_run_replica())
