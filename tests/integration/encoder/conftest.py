import pytest

from devtools.convert.encoder.version import convert_encoder
from services.inference.encoder.tokenizer import EncoderTokenizer
from services.inference.runtime.onnx_encoder import OnnxEncoder
from tests.support.models.minilm import minilm_directory


@pytest.fixture(scope="session")
def minilm(tmp_path_factory):
    """(folder of the version, its manifest) of the real MiniLM."""
    folder = tmp_path_factory.mktemp("minilm") / "version"
    return folder, convert_encoder(minilm_directory(), folder)


@pytest.fixture(scope="session")
def encoder(minilm):
    folder, manifest = minilm
    encoder = OnnxEncoder(folder, manifest.the_encoder, threads=1)
    yield encoder
    encoder.close()


@pytest.fixture(scope="session")
def tokenizer(minilm):
    folder, manifest = minilm
    spec = manifest.the_encoder
    return EncoderTokenizer.from_file(
        folder / "tokenizer.json", vocab_size=spec.vocab_size, max_len=spec.context_length
    )
