"""Training as a job: from versions to a version, killed and paused on the way, on the same node and on another."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from shared.contracts.job import Desired, JobState
from shared.contracts.manifest import EncoderSpec
from shared.contracts.registry import MODELS, CreateModelVersion
from shared.contracts.scheduler import DEPLOY, SHOW_DEPLOYMENT, UNDEPLOY, Deploy, DeploymentName
from shared.service.python import python_module
from tests.support.factories.manifests import uploaded
from tests.support.factories.scheduling import GIB
from tests.support.harness.wait import eventually
from tests.support.train.jobs import base_version, manifest_of, recipe, rows_version, weights
from tests.support.train.nano_runs import pairs, texts, turns
from tests.support.train.running import WAIT_S, begins, passes, processes, stored, succeeds, train

pytestmark = [pytest.mark.train, pytest.mark.timeout(900)]

LONG = 80
"""Steps of a run that is interrupted."""


async def test_rows_become_a_version_with_its_lineage(system):
    await system.start_agent()
    await base_version(system, system.folder)
    await rows_version(system, turns(), held_out=turns(8, seed=1))
    text = recipe()
    job = await train(system, text)
    done = await succeeds(system, job)
    assert done.results == ("model helper:1",)
    assert (done.progress.step, done.progress.steps) == (6, 6)
    assert {"loss", "val_loss", "tokens_per_second", "memory"} <= done.progress.metrics.keys()
    manifest, base = await manifest_of(system.store, "helper"), await manifest_of(system.store, "tiny")
    lineage = manifest.lineage
    assert (lineage.base, lineage.datasets) == (done.spec.base.digest, (done.spec.datasets[0].digest,))
    assert (lineage.job, lineage.quantization) == (job.id, "F32")
    assert lineage.recipe == hashlib.sha256(text.encode()).hexdigest()
    assert lineage.code.startswith("llmos ")
    assert "torch " in lineage.code
    assert await system.store.blob_size(lineage.recipe) == len(text)
    files = {file.path: file.digest for file in manifest.files}
    assert files["recipe.toml"] == lineage.recipe
    assert files["tokenizer.json"] == {file.path: file.digest for file in base.files}["tokenizer.json"]
    assert weights(manifest) != weights(base)
    assert manifest.metrics["val_loss"] > 0


async def test_killed_moved_and_paused_it_makes_the_same_weights(system):
    await base_version(system, system.folder)
    await rows_version(system, turns())
    environment = {
        **os.environ,
        "LLMOS_NATS_URL": system.url,
        "LLMOS_INFERENCE_NODE_ID": "node-a",
        "LLMOS_INFERENCE_MEMORY": str(4 * GIB),
        "LLMOS_INFERENCE_JOB_DIR": str(system.folder / "jobs-node-a"),
    }
    with subprocess.Popen(python_module("services.inference"), env=environment) as agent:
        try:
            job = await train(system, recipe(LONG, tail="\n[adapter]\ndropout = 0.1\n"), retries=5)
            await passes(system, job, 3)
            os.kill(processes(job, "devtools.jobs.run")[0].pid, signal.SIGKILL)
            await passes(system, job, 10)
            left = (await stored(system, job)).step
            assert left > 0
        finally:
            agent.kill()
    await eventually(lambda: not processes(job, "devtools.train"))  # they end with the agent
    await system.start_agent("node-b")
    await passes(system, job, left + 5, "node-b")
    await system.change(job.id, Desired.PAUSE)
    paused = await system.reaches(job.id, JobState.PAUSED, timeout=WAIT_S)
    assert paused.checkpoint.step >= left + 5
    await system.change(job.id, Desired.RUN)
    done = await succeeds(system, job)
    begun = await begins(system, job)
    assert done.attempt in {3, 4}, "the agent may die before it has started the second attempt"
    assert begun[0] == 0
    assert left <= begun[-2] < begun[-1]
    whole = await train(system, recipe(LONG, tail="\n[adapter]\ndropout = 0.1\n"), name="whole")
    await succeeds(system, whole)
    assert await begins(system, whole) == [0]
    assert weights(await manifest_of(system.store, "helper")) == weights(await manifest_of(system.store, "whole"))


async def test_a_deployment_gets_the_room_of_a_training_which_ends_later_with_the_same_weights(system, monkeypatch):
    monkeypatch.setenv("LLMOS_NATS_URL", system.url)
    await base_version(system, system.folder)
    await rows_version(system, turns())
    await system.start_agent(memory=GIB)
    whole = await train(system, recipe(LONG), name="whole", memory=GIB * 9 // 10)
    await succeeds(system, whole)
    job = await train(system, recipe(LONG), memory=GIB * 9 // 10)
    await passes(system, job, 3)
    asked = time.monotonic()
    await system.ask(DEPLOY, Deploy(reference="tiny", name="chat", slots=2, max_len=128, prefix_cache=0))

    async def serves():
        return (await system.ask(SHOW_DEPLOYMENT, DeploymentName(name="chat"))).ready

    await eventually(serves, timeout=WAIT_S)
    took = time.monotonic() - asked
    waiting = await system.job(job.id)
    assert (waiting.state, waiting.preemptions) == (JobState.QUEUED, 1), took
    assert "preempted" in waiting.message
    assert waiting.checkpoint.step >= 3
    await system.ask(UNDEPLOY, DeploymentName(name="chat"))
    done = await succeeds(system, job)
    assert (done.attempt, done.failures) == (2, 0)
    assert (await begins(system, job))[1] == waiting.checkpoint.step
    assert weights(await manifest_of(system.store, "helper")) == weights(await manifest_of(system.store, "whole"))


async def test_two_processes_train_together_and_end_with_the_job(system):
    await base_version(system, system.folder)
    await rows_version(system, turns())
    await system.start_agent()
    job = await train(system, recipe(400, 400, tail="processes = 2\n"), threads=2)
    await passes(system, job, 1)
    workers = processes(job, "devtools.train")
    assert len([worker for worker in workers if "devtools.train.launch" not in worker.cmdline()]) == 2
    await system.change(job.id, Desired.PAUSE)
    paused = await system.reaches(job.id, JobState.PAUSED, timeout=WAIT_S)
    assert paused.checkpoint.step > 0
    await system.change(job.id, Desired.RUN)
    await passes(system, job, paused.checkpoint.step + 1)
    assert (await begins(system, job))[1] == paused.checkpoint.step
    os.kill(processes(job, "devtools.train.launch")[0].pid, signal.SIGKILL)
    await system.change(job.id, Desired.CANCEL)
    await system.reaches(job.id, JobState.CANCELLED, timeout=WAIT_S)
    await eventually(lambda: not processes(job, "devtools.train"))


async def test_a_model_from_scratch_needs_no_base(system):
    await rows_version(system, texts(60), kind="text")
    await system.start_agent()
    head = 'method = "pretrain"\nweights = "scratch"\n'
    job = await train(system, recipe(3, head=head, tail="\n[scratch]\nvocab = 300\n"), base=None)
    await succeeds(system, job)
    manifest = await manifest_of(system.store, "helper")
    assert (manifest.lineage.base, manifest.lineage.quantization) == (None, "F32")


async def test_a_full_disk_keeps_what_was_saved_and_says_what_to_do(system):
    await base_version(system, system.folder)
    await rows_version(system, turns())
    # Weights with their moments are three times as large as the weights alone.
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, 800_000));"
        "from devtools.jobs.run import main; sys.exit(main())"
    )
    full = await system.start_agent(job_command=(sys.executable, "-P", "-c", limited))
    job = await train(system, recipe(4, head='weights = "full"\n'), retries=1)
    failed = await system.reaches(job.id, JobState.FAILED, timeout=WAIT_S)
    assert "no room for" in failed.message
    assert "step-00000001" in failed.message
    assert failed.attempt == 2
    await full.aclose()
    await system.start_agent()
    await system.change(job.id, Desired.RUN)
    await succeeds(system, job)


async def test_a_training_waits_for_a_node_with_torch_and_says_what_to_install(system):
    await base_version(system, system.folder)
    await rows_version(system, turns())
    without = (
        "import sys; from importlib import metadata; found = metadata.distribution\n"
        "def hide(name):\n"
        "    if name == 'torch': raise metadata.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "metadata.distribution = hide\n"
        "from devtools.jobs.run import main; sys.exit(main())"
    )
    await system.start_agent("node-a", job_command=(sys.executable, "-P", "-c", without))
    job = await train(system, recipe(4))

    async def waiting():
        return (await system.job(job.id)).message

    reason = await eventually(waiting)
    for words in ("no node can run a job of kind train", "node-a: ", " lacks torch: ", "pip install 'llmos[train]'"):
        assert words in reason
    assert "LLMOS_INFERENCE_JOB_COMMAND" in reason
    await system.start_agent("node-b")
    done = await system.reaches(job.id, JobState.SUCCEEDED, timeout=WAIT_S)
    assert done.attempt == 1


WRONG = {
    "dataset rows:1 has turns; method 'dpo' learns from pairs": {"head": 'method = "dpo"\n'},
    "dataset rows:1 has turns; method 'pretrain' learns from text": {"head": 'method = "pretrain"\n'},
    "recipe: unknown key 'stpes'; did you mean 'steps'?": {"head": "stpes = 1\n"},
    "recipe, [job]: unknown key 'proceses'; did you mean 'processes'?": {"tail": "proceses = 2\n"},
    "weights = 'scratch' takes no base": {"head": 'weights = "scratch"\nmethod = "pretrain"\n'},
    "method = 'distil' and a teacher go together": {"head": 'method = "distil"\n'},
    "the base embedder:1 is a model for task 'embed'; only decoders are trained": {"base": "embedder"},
    "dataset foreign:1 was prepared for another tokenizer": {"datasets": ("foreign",)},
    "a training needs a dataset": {"datasets": ()},
    "max_len is 100000, and this model takes 512 tokens": {"tail": "", "max_len": 100_000},
}


async def test_what_does_not_fit_is_refused_once_and_by_name(system):
    await base_version(system, system.folder)
    await rows_version(system, turns())
    await rows_version(system, turns(), name="foreign", tokens={"ab" * 32: 9})
    await rows_version(system, pairs(), kind="pairs", name="pairs")
    encoder = (await uploaded(system.store, {"model.onnx": b"a graph"})).model_copy(
        update={"task": "embed", "format": "onnx-encoder", "decoder": None, "encoder": EncoderSpec.EXAMPLE}
    )
    await system.ask(MODELS.create, CreateModelVersion(name="embedder", manifest=encoder))
    await system.start_agent()
    for message, given in WRONG.items():
        fields = {key: value for key, value in given.items() if key not in ("head", "tail", "max_len")}
        text = recipe(head=given.get("head", ""), tail=given.get("tail", ""))
        text = text.replace("max_len = 128", f"max_len = {given.get('max_len', 128)}")
        job = await train(system, text, **fields)
        failed = await system.reaches(job.id, JobState.FAILED, timeout=WAIT_S)
        assert failed.attempt == 1
        assert message in failed.message
