"""Models from Hugging Face directories and from a hub, through the command line to an answer."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmos.cli.demo import demo_gguf
from shared.service.python import python_module
from shared.storage.scratch import held
from tests.support.fakes.hub_server import COMMIT, HubServer
from tests.support.harness.embedded import Embedded, until
from tests.support.models.hf_files import write_hf
from tests.support.models.llama_files import write_llama

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hugging")
    return write_hf(folder / "tiny", write_llama(folder / "tiny.gguf", tied=False), dtype="BF16", shards=2)


@pytest.fixture
def hub(directory: Path) -> Iterator[HubServer]:
    with HubServer(directory) as server:
        yield server


def _models(system: Embedded) -> set[str]:
    return {model["name"] for model in system.json("model", "list")}


def test_directory_is_quantised_deployed_and_answers(demo: Embedded, directory: Path) -> None:
    version = demo.json("model", "import", str(directory), "--name", "tiny", "--quantize", "int8")
    try:
        assert version["manifest"]["lineage"]["quantization"] == "int8"
        metrics = version["manifest"]["metrics"]
        assert metrics["perplexity"] == pytest.approx(metrics["perplexity_original"], rel=0.25)
        done = demo.cli("deploy", "tiny", "--max-len", "64", "--slots", "2")
        assert done.returncode == 0, done.stderr
        with demo.http() as client:
            answer = client.post("/v1/completions", json={"model": "tiny", "prompt": "hello", "max_tokens": 4})
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["prompt_tokens"] > 0
    finally:
        demo.cli("undeploy", "tiny")
        until(lambda: demo.cli("model", "delete", "tiny", "--yes").returncode == 0, 60, "deleted")


def test_hub_model_is_fetched_and_named_by_its_commit(demo: Embedded, hub: HubServer) -> None:
    done = demo.cli(
        "model", "import", "hf:org/tiny", "--name", "fetched", "--quantize", "none", env={"HF_ENDPOINT": hub.url}
    )
    try:
        assert done.returncode == 0, done.stderr
        assert demo.json("model", "show", "fetched")["manifest"]["lineage"]["source"] == f"hf:org/tiny@{COMMIT}"
        assert not any(demo.home.downloads.iterdir())
    finally:
        demo.cli("model", "delete", "fetched", "--yes")


def test_a_gguf_of_the_hub_is_chosen_by_its_type(demo: Embedded, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    write_llama(tmp_path / "served" / "tiny-F32.gguf")
    (tmp_path / "served" / "tiny-Q8_0.gguf").write_bytes(b"another")
    with HubServer(tmp_path / "served") as hub:
        done = demo.cli("model", "import", "hf:org/tiny", "--name", "chosen", env={"HF_ENDPOINT": hub.url})
        assert done.returncode == 1
        assert "choose one of hf:org/tiny:F32, hf:org/tiny:Q8_0" in done.stderr
        done = demo.cli("model", "import", "hf:org/tiny:F32", "--name", "chosen", env={"HF_ENDPOINT": hub.url})
    try:
        assert done.returncode == 0, done.stderr
        assert demo.json("model", "show", "chosen")["manifest"]["lineage"]["source"] == f"hf:org/tiny@{COMMIT}:F32"
    finally:
        demo.cli("model", "delete", "chosen", "--yes")


def test_a_second_import_of_the_same_hub_model_is_refused_while_the_first_runs(
    demo: Embedded, hub: HubServer
) -> None:
    with held(demo.home.downloads / "org--tiny@main"):
        done = demo.cli("model", "import", "hf:org/tiny", "--name", "second", env={"HF_ENDPOINT": hub.url})
    assert done.returncode == 1
    assert "is being imported by another process" in done.stderr
    assert "second" not in _models(demo)


def test_hub_that_cannot_be_reached_is_an_error_in_one_line(demo: Embedded) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = demo.cli("model", "import", "hf:org/tiny", "--name", "none", env={"HF_ENDPOINT": url})
    assert done.returncode == 1
    assert "import it by its path" in done.stderr
    assert "Traceback" not in done.stderr
    assert "none" not in _models(demo)


def test_import_that_is_terminated_leaves_nothing(demo: Embedded, tmp_path: Path) -> None:
    source = str(demo_gguf())  # takes seconds to convert, so the signal comes before the end
    process = subprocess.Popen(
        python_module("llmos", "model", "import", source, "--name", "stopped", "--home", str(demo.home.root)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        until(lambda: any(tmp_path.glob("llmos-import-*/.version.partial-*")), 120, "building")
    finally:
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    assert b"Traceback" not in complaint
    assert list(tmp_path.glob("llmos-*")) == []
    assert "stopped" not in _models(demo)
