"""A replica without a model: its lease and its drain endpoint. Run as a program by the node agent.

Environment beside a replica's own:
    FAKE_REPLICA_FOLDER   where `<replica id>.pids` gets a line per start, and `<replica id>.drained` appears
    FAKE_REPLICA_DO       `serve` (default), `crash` (say why and exit with 3), `hang` (stay in LOADING)
    FAKE_REPLICA_HOLD     not empty: its drain ends when `release` appears in the folder
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from shared.bus.connect import connect
from shared.bus.leases import Lease
from shared.bus.rpc import respond
from shared.contracts.base import Empty
from shared.contracts.replica import drain_endpoint
from shared.contracts.scheduler import REPLICAS_BUCKET, ReplicaAssignment, ReplicaState


async def main() -> None:
    assignment = ReplicaAssignment.decode(os.environ["LLMOS_REPLICA_ASSIGNMENT"].encode())
    folder = Path(os.environ["FAKE_REPLICA_FOLDER"])
    do = os.environ.get("FAKE_REPLICA_DO", "serve")
    with (folder / f"{assignment.id}.pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    if do == "crash":
        sys.stderr.write("the fake replica was told to crash\n")
        sys.exit(3)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    bus = await connect(os.environ["LLMOS_NATS_URL"], name=assignment.id)

    def status(state: ReplicaState) -> bytes:
        restarts = int(os.environ.get("LLMOS_RESTARTS", "0"))
        return assignment.status(os.environ["LLMOS_NODE_ID"], state, restarts=restarts).encode()

    async def drain(_: Empty) -> Empty:
        (folder / f"{assignment.id}.asked").touch()
        stop.set()
        return Empty()

    state = ReplicaState.LOADING if do == "hang" else ReplicaState.READY
    await respond(bus, drain_endpoint(assignment.id), drain)
    async with Lease(bus.kv(REPLICAS_BUCKET), assignment.id, status(state), every=0.2).running() as lease:
        await stop.wait()
        await lease.set(status(ReplicaState.DRAINING))
        while os.environ.get("FAKE_REPLICA_HOLD") and not (folder / "release").exists():  # noqa: ASYNC110  # from another process
            await asyncio.sleep(0.02)
        (folder / f"{assignment.id}.drained").touch()
    await bus.drain()


if __name__ == "__main__":
    asyncio.run(main())
