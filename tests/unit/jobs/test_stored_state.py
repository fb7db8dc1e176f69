"""Checkpoints of a training between its folder and the store."""

import asyncio
import json

import pytest

from devtools.jobs.tool import Run
from devtools.jobs.train.state import StoredState
from devtools.jobs.workspace import Workspace
from shared.contracts.job import Checkpoint, JobAssignment
from shared.errors import StorageFull
from shared.storage.directory import DirectoryStore
from tests.support.factories.blobs import sha256
from tests.support.harness.wait import eventually


class Sent:
    """Takes the messages of a job's process."""

    def __init__(self):
        self.checkpoints: list[Checkpoint] = []

    def send(self, *, checkpoint):
        self.checkpoints.append(checkpoint)


class FullStore(DirectoryStore):
    """A store without room."""

    async def put_blob(self, *_, **__):
        raise StorageFull("no room in the store")


def run_in(folder, store, checkpoint=None):
    assert JobAssignment.EXAMPLE is not None
    assignment = JobAssignment.EXAMPLE.model_copy(update={"checkpoint": checkpoint})
    return Run(assignment, Workspace(folder), store, folder / "cache", Sent(), asyncio.Event())


def write_step(output, step, best=None, tensors=b""):
    folder = output / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "tensors.safetensors").write_bytes(tensors or f"tensors {step}".encode())
    (folder / "state.json").write_text(json.dumps({"state": {"step": step, "best_step": best}}))


def begin(run):
    output = run.workspace.output
    (output / "run.json").write_text('{"precision": "float32"}')
    (output / "job.json").write_text('{"threads": 1}')
    return output


async def test_another_node_gets_the_newest_and_the_best_checkpoint_and_which_run_it_is(tmp_path):
    store = DirectoryStore(tmp_path / "store")
    first = run_in(tmp_path / "a", store)
    output = begin(first)
    for step in (2, 4, 6):
        write_step(output, step, best=2)
    (output / "base").mkdir()
    (output / "base" / "config.json").write_text("{}")
    await StoredState(first, output).upload()
    (checkpoint,) = first.messages.checkpoints
    assert checkpoint.step == 6
    second = run_in(tmp_path / "b", store, checkpoint)
    await StoredState(second, second.workspace.output).fetch()
    got = {str(path.relative_to(second.workspace.output)) for path in second.workspace.output.rglob("*.*")}
    steps = {f"checkpoints/step-{n:08d}/{name}" for n in (2, 6) for name in ("state.json", "tensors.safetensors")}
    assert got - {f"checkpoints/step-{n:08d}" for n in (2, 6)} == steps | {"run.json", "job.json", "base/config.json"}


async def test_the_same_checkpoint_is_sent_once_and_the_tensors_of_old_ones_are_removed(tmp_path):
    store = DirectoryStore(tmp_path / "store")
    run = run_in(tmp_path / "job", store)
    output = begin(run)
    state = StoredState(run, output)
    for step in (1, 2, 3):
        write_step(output, step)
        for _ in range(2):
            await state.upload()
    assert [one.step for one in run.messages.checkpoints] == [1, 2, 3]
    sizes = [await store.blob_size(sha256(f"tensors {step}".encode())) for step in (1, 2, 3)]
    assert [size is not None for size in sizes] == [False, True, True]


async def test_a_full_store_is_an_error_that_is_logged_and_does_not_stop_the_training(tmp_path, capsys):
    run = run_in(tmp_path / "job", FullStore(tmp_path / "store"))
    output = begin(run)
    write_step(output, 1)
    state = StoredState(run, output)
    with pytest.raises(StorageFull):
        await state.upload()
    following = asyncio.create_task(state.follow())
    state.checkpointed()
    await eventually(lambda: "can't be stored: no room in the store" in capsys.readouterr().err)
    assert not following.done()
    following.cancel()
    assert run.messages.checkpoints == []
    assert (output / "checkpoints/step-00000001/state.json").exists()


async def test_what_began_on_another_kind_of_machine_makes_room_for_the_checkpoint(tmp_path):
    store = DirectoryStore(tmp_path / "store")
    first = run_in(tmp_path / "a", store)
    output = begin(first)
    write_step(output, 5)
    await StoredState(first, output).upload()
    second = run_in(tmp_path / "b", store, first.messages.checkpoints[0])
    other = begin(second)
    (other / "run.json").write_text('{"precision": "bfloat16"}')
    write_step(other, 9, tensors=b"of another precision")
    await StoredState(second, other).fetch()
    assert [path.name for path in (other / "checkpoints").iterdir()] == ["step-00000005"]
    assert "float32" in (other / "run.json").read_text()


async def test_a_checkpoint_that_the_store_lost_is_no_end(tmp_path, capsys):
    store = DirectoryStore(tmp_path / "store")
    first = run_in(tmp_path / "a", store)
    output = begin(first)
    write_step(output, 5)
    await StoredState(first, output).upload()
    (checkpoint,) = first.messages.checkpoints
    await store.delete_blob(sha256(b"tensors 5"))
    second = run_in(tmp_path / "b", store, checkpoint)
    await StoredState(second, second.workspace.output).fetch()
    assert "checkpoint of step 5 is lost" in capsys.readouterr().err
