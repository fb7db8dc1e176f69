"""A source that has a version already is not converted again."""

from pathlib import Path

import pytest

from llmos.cli.demo import demo_gguf
from llmos.client import Client
from llmos.importing import import_model
from tests.support.harness.embedded import Embedded
from tests.support.models.small_encoder import write_small_encoder
from tests.support.models.small_model import write_small_gguf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def stages_of_import(system: Embedded, source: Path, name: str, *, force: bool = False) -> tuple[int, set[str]]:
    """The version that an import led to, and what it did on the way."""
    stages: set[str] = set()
    with Client(system.url, system.key) as client:
        done = import_model(client, str(source), name, force=force, progress=lambda stage, *_: stages.add(stage))
    assert done.unchanged == (not stages)
    return done.version.version, stages


def test_the_same_file_says_unchanged_and_is_not_converted(demo: Embedded, tmp_path: Path) -> None:
    renamed = tmp_path / "another-name.gguf"
    renamed.symlink_to(demo_gguf())
    done = demo.cli("model", "import", str(renamed), "--name", "smollm2", "--alias", "again")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("smollm2:1 ")
    assert "unchanged" in done.stdout
    assert "--force" in done.stdout
    (model,) = [one for one in demo.json("model", "list") if one["name"] == "smollm2"]
    assert len(model["versions"]) == 1
    assert model["aliases"]["again"] == 1
    demo.cli("model", "alias", "smollm2@again", "--remove")


def test_changed_files_other_options_and_force_are_converted(demo: Embedded, tmp_path: Path) -> None:
    first = write_small_gguf(tmp_path / "first.gguf")
    assert stages_of_import(demo, first, "again")[0] == 1
    assert stages_of_import(demo, first, "again") == (1, set())
    other = write_small_gguf(tmp_path / "other.gguf", scale=0.3)
    number, stages = stages_of_import(demo, other, "again")
    assert (number, "build" in stages) == (2, True)
    assert stages_of_import(demo, first, "again") == (1, set()), "an older version is found as well"
    number, stages = stages_of_import(demo, first, "again", force=True)
    assert (number, "build" in stages) == (1, True), "it was converted, and has not become another version"
    done = demo.cli("model", "import", str(first), "--name", "again", "--quantize", "none")
    assert done.stdout.startswith("again:3 "), "another way to convert it"
    demo.cli("model", "delete", "again", "--yes")


def test_an_encoder_again_is_unchanged_until_one_of_its_files_is(demo: Embedded, tmp_path: Path) -> None:
    folder = write_small_encoder(tmp_path / "encoder")
    assert stages_of_import(demo, folder, "again-encoder")[0] == 1
    assert stages_of_import(demo, folder, "again-encoder") == (1, set())
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace("true", "true "))
    assert stages_of_import(demo, folder, "again-encoder")[1]
    demo.cli("model", "delete", "again-encoder", "--yes")


def test_a_damaged_blob_is_healed_by_importing_again(demo: Embedded, tmp_path: Path) -> None:
    source = write_small_gguf(tmp_path / "damaged.gguf", scale=0.2)
    assert stages_of_import(demo, source, "damaged")[0] == 1
    shown = demo.json("model", "show", "damaged")
    digest = next(file["digest"] for file in shown["manifest"]["files"] if file["path"] == "model.onnx.data")
    (blob,) = demo.home.store.rglob(digest)
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-8] + b"\xff" * 8)
    number, stages = stages_of_import(demo, source, "damaged")
    assert (number, "upload" in stages) == (1, True)
    assert blob.read_bytes() == whole
    demo.cli("model", "delete", "damaged", "--yes")
