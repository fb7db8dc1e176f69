from pathlib import Path

import pytest

from devtools.convert import convert_gguf
from shared.contracts.manifest import Manifest
from tests.support.models.smollm2 import smollm2_gguf


@pytest.fixture(scope="session")
def smollm2_version(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """The folder and the manifest of SmolLM2, converted once for all tests, which only read them."""
    folder = tmp_path_factory.mktemp("smollm2") / "version"
    return folder, convert_gguf(smollm2_gguf(), folder)
