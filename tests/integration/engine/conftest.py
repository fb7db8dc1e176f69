from collections.abc import Iterator

import pytest
from tokenizers import Tokenizer

from devtools.convert import convert_gguf
from services.inference.runtime.onnx_decoder import OnnxDecoder
from tests.support.models.real_model import RealModel
from tests.support.models.smollm2 import smollm2_gguf


@pytest.fixture(scope="session")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> RealModel:
    """SmolLM2, converted once for all tests."""
    folder = tmp_path_factory.mktemp("smollm2")
    manifest = convert_gguf(smollm2_gguf(), folder / "version")
    tokenizer = Tokenizer.from_file(str(folder / "version" / "tokenizer.json"))
    return RealModel(folder / "version", manifest.decoder, tokenizer)


@pytest.fixture
def decoder(real_model: RealModel) -> Iterator[OnnxDecoder]:
    """16 slots of 512 tokens."""
    decoder = real_model.open(slots=16)
    yield decoder
    decoder.close()
