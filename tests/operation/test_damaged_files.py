"""Damaged files are found when asked and in the background, and a replica that computes wrongly is not ready."""

import re
from pathlib import Path

import pytest

from llmos.client import Client
from llmos.importing import import_model
from shared.contracts.smoke_test import SmokeTest
from tests.support.harness.embedded import Embedded, until
from tests.support.models.small_model import write_small_gguf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 16)


def test_damage_is_found_named_shown_and_healed(tmp_path: Path) -> None:
    source = write_small_gguf(tmp_path / "small.gguf")
    env = {"LLMOS_SCRUB_INTERVAL": "1", "LLMOS_SCRUB_RATE": str(100 << 20)}
    with Embedded(tmp_path / "home", demo=False, env=env) as system:
        done = system.cli("model", "import", str(source), "--name", "small")
        assert done.returncode == 0, done.stderr
        assert system.cli("deploy", "small", "--max-len", "64", "--slots", "1").returncode == 0
        files = {f["path"]: f["digest"] for f in system.json("model", "show", "small")["manifest"]["files"]}
        done = system.cli("model", "verify", "small")
        assert done.returncode == 0, done.stderr
        assert "on local; all as they were made" in done.stdout

        (stored,) = system.home.store.rglob(files["tokenizer.json"])
        (cached,) = (system.home.cache / "blobs" / "blobs").glob(files["model.onnx"])
        overwrite(stored)
        overwrite(cached)
        for arguments in (("small@nothing",), (), ("small", "--all")):
            assert system.cli("model", "verify", *arguments).returncode == 1
        done = system.cli("model", "verify", "--all")
        assert done.returncode == 1
        assert "small:1 tokenizer.json: damaged in the store" in done.stdout
        assert "small:1 model.onnx: damaged in the cache of node local" in done.stdout
        assert system.cli("model", "verify", "small", "--json").returncode == 1
        shown = until(
            lambda: (text := system.cli("status").stdout).count("damaged in") == 2 and text, 60, "damage in status"
        )
        assert re.search(r"damaged in the store: \w{12} \(small:1 tokenizer.json\), found 20", shown)
        assert re.search(r"damaged in the cache of node local: \w{12} \(model.onnx of version \w{12}\)", shown)

        assert system.cli("model", "import", str(source), "--name", "small").returncode == 0
        assert system.cli("deploy", "small", "--replicas", "0").returncode == 0
        until(lambda: not system.json("status")["deployments"][0]["replicas"], 60, "paused")
        assert system.cli("deploy", "small", "--replicas", "1").returncode == 0
        assert system.cli("model", "verify", "small").returncode == 0
        until(lambda: "damaged" not in system.cli("status").stdout, 60, "no damage in status")


def test_a_replica_whose_smoke_prompt_gives_something_else_is_not_ready(tmp_path: Path) -> None:
    """As from a broken processor: the files are right, and the answer is not that of the import."""
    with Embedded(tmp_path / "home", demo=False) as system, Client(system.url, system.key) as client:
        source = write_small_gguf(tmp_path / "small.gguf")
        right = import_model(client, str(source), "small", progress=lambda *_: None).version.manifest
        test = right.smoke_test
        assert test is not None
        other = SmokeTest(prompt=test.prompt, answer=test.answer, logprob=test.logprob + 50, runtime="another")
        client.models.create("broken", right.model_copy(update={"smoke_test": other}))
        done = system.cli("deploy", "broken", "--max-len", "64", "--slots", "1", "--no-wait")
        assert done.returncode == 0, done.stderr
        assert "at import" in until(
            lambda: (text := system.cli("status").stdout).count("at import") and text, 60, "the reason in status"
        )
        assert system.json("status")["deployments"][0]["ready"] == 0
        old = right.model_copy(update={"smoke_test": None})
        client.models.create("old", old)
        assert system.cli("deploy", "old", "--max-len", "64", "--slots", "1").returncode == 0
