"""W8A8: weights and activations in int8, multiplied in whole numbers."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st

from devtools.convert import convert_gguf
from devtools.convert.block_matrix import Floats
from devtools.convert.channel_matrix import LARGEST, nearest_channels, quantise_rows
from devtools.convert.channel_source import ChannelSource
from devtools.convert.reference import Reference
from devtools.convert.smoothing import smoothing, tie_heads
from services.inference.runtime.decoder import OnnxDecoder
from shared.contracts.manifest import Manifest
from shared.errors import UnsupportedFormat
from tests.support.family_files import open_directory, write_directory
from tests.support.llama_files import CONTEXT, write_llama
from tests.support.tiny_families import CONFIGS, IDS, random_weights


def outliers(
    rng: np.random.Generator, tokens: int, channels: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Activations that go together, a few channels of which are far larger than the others."""
    mixed = rng.standard_normal((tokens, channels)) @ rng.standard_normal((channels, channels)) / np.sqrt(channels)
    mixed[:, rng.choice(channels, 3, replace=False)] *= 40
    return np.asarray(mixed, np.float32)


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 90))
@settings(max_examples=30, deadline=None)
def test_codes_stay_where_sixteen_bits_hold_a_pair_of_products(seed: int, rows: int, columns: int) -> None:
    weights = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    weights[0] = 0
    matrix = nearest_channels(weights)
    assert np.abs(matrix.codes.astype(int)).max() <= LARGEST
    assert 2 * 255 * LARGEST < 1 << 15
    assert not matrix.dequantise()[0].any()
    assert (np.abs(matrix.dequantise() - weights) <= 0.51 * matrix.scales[:, None]).all()


def test_fine_inputs_keep_two_more_digits() -> None:
    inputs = outliers(np.random.default_rng(3), 64, 128)
    coarse, fine = (np.abs(quantise_rows(inputs, fine=fine) - inputs).max() for fine in (False, True))
    assert fine < coarse / 200


def test_smoothing_takes_the_outliers_out_of_the_error() -> None:
    rng = np.random.default_rng(2)
    weights, inputs = rng.standard_normal((64, 128)).astype(np.float32), outliers(rng, 256, 128)
    factors = smoothing(inputs, weights)

    def error(by: Floats) -> float:
        product = quantise_rows(inputs / by) @ nearest_channels(weights * by).dequantise().T
        return float(np.linalg.norm(product - inputs @ weights.T))

    assert error(factors) < 0.5 * error(np.ones_like(factors))


def test_query_heads_that_mix_one_value_channel_are_smoothed_alike() -> None:
    tie = tie_heads(heads=6, kv_heads=2)
    tied = tie(np.arange(6 * 4, dtype=np.float32)).reshape(2, 3, 4)
    np.testing.assert_array_equal(tied, np.repeat(np.array([[8, 9, 10, 11], [20, 21, 22, 23]])[:, None], 3, axis=1))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_keeps_its_answers_but_for_rounding(tmp_path: Path, name: str) -> None:
    arch, source = open_directory(write_directory(tmp_path / "hf", CONFIGS[name], random_weights(CONFIGS[name])))
    rounded, progress = ChannelSource(source, tmp_path), list[float]()
    rounded.fit(arch, IDS, progress.append)
    assert progress[-1] == 1.0
    expected, logits = Reference(arch, source).logits(IDS), Reference(arch, rounded).logits(IDS)
    assert np.linalg.norm(logits - expected) < 0.3 * np.linalg.norm(expected)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("w8a8")
    source = write_llama(folder / "small.gguf", Type.Q8_0)
    return folder / "version", convert_gguf(source, folder / "version", quantize="w8a8")


def test_a_quantised_file_can_be_imported_for_whole_numbers(version: tuple[Path, Manifest]) -> None:
    manifest = version[1]
    assert manifest.lineage.quantization == "W8A8"
    assert manifest.metrics["logits_error_float"] < 1e-3
    assert manifest.metrics["perplexity"] < 1.05 * manifest.metrics["perplexity_original"]


def test_a_row_has_the_same_bits_alone_and_in_every_batch(version: tuple[Path, Manifest]) -> None:
    folder, manifest = version
    assert manifest.decoder is not None
    decoder = OnnxDecoder(folder, manifest.decoder, slots=5, max_len=CONTEXT, threads=1)
    assert decoder.rows_alone == 1, "exact sums need no second row"
    tokens, positions = [7, 30, 200, 9, 64], [0, 0, 0, 0, 0]
    alone = []
    for token in tokens:
        alone.append(decoder.decode([token], [0])[0].copy())
        decoder.release(0)
    for batch in (2, 3, 5):
        together = decoder.decode(tokens[:batch], positions[:batch])
        np.testing.assert_array_equal(together, np.stack(alone[:batch]))
    decoder.close()


def test_a_model_that_whole_numbers_would_spoil_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_llama(tmp_path / "small.gguf", Type.Q8_0)
    monkeypatch.setattr("devtools.convert.quantised_version.TOLERABLE", 0.5)
    with pytest.raises(UnsupportedFormat, match=r"perplexity .* in w8a8.*--quantize auto"):
        convert_gguf(source, tmp_path / "version", quantize="w8a8")
    assert not (tmp_path / "version").exists()
