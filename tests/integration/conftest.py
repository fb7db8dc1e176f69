import asyncio
from pathlib import Path

import pytest

from devtools.convert import convert_gguf
from shared.contracts.manifest import Manifest
from shared.storage.directory import DirectoryStore
from tests.support.harness.replicas import store_version
from tests.support.models.small_model import write_small_gguf
from tests.support.models.smollm2 import smollm2_gguf


@pytest.fixture(scope="session")
def smollm2_version(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """The folder and the manifest of SmolLM2, converted once for all tests, which only read them."""
    folder = tmp_path_factory.mktemp("smollm2") / "version"
    return folder, convert_gguf(smollm2_gguf(), folder)


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(folder of the store, digest of the manifest of small:1)."""
    folder = tmp_path_factory.mktemp("small")
    manifest = convert_gguf(write_small_gguf(folder / "small.gguf"), folder / "version")
    store = DirectoryStore(folder / "store")
    return folder / "store", asyncio.run(store_version(store, folder / "version", manifest, "small"))
