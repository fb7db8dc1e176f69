from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from services.inference.runtime.onnx_decoder import OnnxDecoder
from shared.contracts.manifest import Manifest
from tests.support.models.real_model import RealModel


@pytest.fixture(scope="session")
def real_model(smollm2_version: tuple[Path, Manifest]) -> RealModel:
    folder, manifest = smollm2_version
    return RealModel(folder, manifest.decoder, Tokenizer.from_file(str(folder / "tokenizer.json")))


@pytest.fixture
def decoder(real_model: RealModel) -> Iterator[OnnxDecoder]:
    """16 slots of 512 tokens."""
    decoder = real_model.open(slots=16)
    yield decoder
    decoder.close()
