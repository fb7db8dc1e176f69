"""A path that is no model: what was probably meant is said."""

from pathlib import Path

import pytest

from llmos.importing import _local_model
from shared.errors import UnsupportedFormat


@pytest.mark.parametrize(
    ("files", "source", "says"),
    [
        (["b-00002-of-00002.gguf", "b-00001-of-00002.gguf"], ".", r"is a folder; name the file in it \(b-00001-of-"),
        (
            ["model-00001-of-00002.safetensors"],
            "model-00001-of-00002.safetensors",
            "Hugging Face directory; name its",
        ),
        (["model.gguf.part1of2"], "model.gguf.part1of2", r"join its pieces \(cat"),
        (["model.gguf-split-a"], "model.gguf-split-a", r"join its pieces \(cat"),
        (["notes.txt"], "notes.txt", r"notes\.txt: expected a \.gguf file"),
        ([], ".", r"expected a \.gguf file"),
    ],
)
def test_a_path_that_is_no_model_is_refused_with_a_hint(
    tmp_path: Path, files: list[str], source: str, says: str
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UnsupportedFormat, match=says):
        _local_model(str(tmp_path / source))
