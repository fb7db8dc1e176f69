"""A job's process whose training is made up: it reads uploads, reports, saves and makes a version as the real one.

Run as a program by the node agent. `FAKE_TRAINER_DO` in its environment: `train` (default), `wait` (after the second
step, until it is asked to stop), `fail` (after the second step).
"""

import os
import sys

from devtools.jobs import run as runner
from devtools.jobs.files import read_manifest
from devtools.jobs.tool import Run, Stopped
from devtools.jobs.tools import TOOLS, KindOfJob
from devtools.jobs.uploads import uploaded_dataset
from shared.contracts.job import Checkpoint, NewVersion, Progress
from shared.contracts.manifest import Kind, Manifest
from shared.errors import LlmosError

STEPS = 4


async def train(run: Run) -> None:
    spec, do = run.assignment.spec, os.environ.get("FAKE_TRAINER_DO", "train")
    uploaded = await uploaded_dataset(run)
    assert spec.base is not None
    assert spec.result_name is not None
    base = await read_manifest(run.store, spec.base, Manifest)
    first = run.assignment.checkpoint.step if run.assignment.checkpoint else 0
    for step in range(first + 1, STEPS + 1):
        metrics = {"loss": 1 / step, "val_loss": 2 / step, "trained_tokens": 10.0 * step}
        run.messages.send(progress=Progress(step=step, steps=STEPS, eta_s=60.0, metrics=metrics))
        if step >= 2 and do == "fail":
            raise LlmosError("the loss is not a number")
        if step == 2:
            run.messages.send(checkpoint=Checkpoint(step=step, files=()))
            if do == "wait":
                await run.stop.wait()
                raise Stopped
    lineage = base.lineage.model_copy(
        update={
            "base": spec.base.digest,
            "datasets": (uploaded.digest,) if uploaded else (),
            "job": run.assignment.id,
        }
    )
    manifest = base.model_copy(update={"lineage": lineage})
    run.messages.send(result=NewVersion(name=spec.result_name, kind=Kind.MODEL, manifest=manifest))


if __name__ == "__main__":
    TOOLS["train"] = KindOfJob(__name__, "train")
    sys.exit(runner.main())
