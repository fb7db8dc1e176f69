"""An export leaves all files of a version or none."""

from pathlib import Path

import pytest

from llmos.exporting import export_model
from shared.contracts.manifest import Manifest
from shared.contracts.registry import ModelVersion
from shared.errors import InvalidInput, Unavailable


class Models:
    """Hands out two files, or one and then an error."""

    def __init__(self, *, breaks: bool) -> None:
        self._breaks = breaks

    def version(self, _: str) -> ModelVersion:
        assert ModelVersion.EXAMPLE is not None
        return ModelVersion.EXAMPLE

    def download(self, _: Manifest, folder: Path, __: object) -> None:
        (folder / "tokenizer.json").write_text("{}")
        (folder / "parts").mkdir()
        (folder / "parts" / "weights").write_text("w")
        if self._breaks:
            raise Unavailable("the connection broke")


class Registry:
    """A client of these models."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.models = Models(breaks=breaks)


@pytest.mark.parametrize("there", [False, True])
def test_a_download_that_breaks_leaves_no_file(tmp_path, there):
    folder = tmp_path / "copy"
    if there:
        folder.mkdir()
    with pytest.raises(Unavailable):
        export_model(Registry(breaks=True), "smollm2", folder, "version", print)
    assert list(folder.iterdir()) == []
    export_model(Registry(), "smollm2", folder, "version", print)
    assert {path.name for path in folder.iterdir()} == {"tokenizer.json", "parts", "manifest.json"}


def test_files_of_the_user_are_not_touched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="not an empty folder"):
        export_model(Registry(breaks=True), "smollm2", tmp_path, "version", print)
    assert (tmp_path / "notes.txt").read_text() == "mine"
