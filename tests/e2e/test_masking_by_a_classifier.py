"""Sentences in which a served classifier finds a person are masked, in each process that prepares rows."""

import json

import pytest

from llmos.client import Client
from tests.support.harness.embedded import Embedded, until
from tests.support.models.small_encoder import write_small_encoder

pytestmark = pytest.mark.timeout(240)
SENTENCES = [
    f"{animal} {does} {place}."
    for animal in ("the brown fox", "lazy dog", "a quick fox", "the dog")
    for does in ("jumps over", "is of")
    for place in ("paris", "the river bank", "capital money", "france")
]


def test_sentences_are_masked_as_the_deployment_labels_them(tmp_path):
    write_small_encoder(tmp_path / "ner", labels=("O", "PER"))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in SENTENCES))
    with Embedded(tmp_path / "home", demo=False, cwd=tmp_path) as system:
        for arguments in (
            ["model", "import", "ner", "--name", "ner"],
            ["deploy", "ner"],
            ["data", "import", "rows.jsonl", "--name", "texts"],
        ):
            done = system.cli(*arguments)
            assert done.returncode == 0, done.stderr
        with Client(system.url, system.key) as client:
            until(lambda: client.deployment("ner").ready, 60, "a replica of ner is ready")
            labels = client.classify("ner", SENTENCES)
        assert set(labels) == {"O", "PER"}, "some of both"
        done = system.cli("data", "prepare", "texts", "--private", "mask", "--private-model", "ner")
        assert done.returncode == 0, done.stderr
        rows = system.json("data", "sample", "texts:2", "-n", "100")
        expected = [text if label == "O" else "[PERSON]" for text, label in zip(SENTENCES, labels, strict=True)]
        assert {row["text"] for row in rows} == set(expected)
        steps = {step["name"]: step for step in system.json("data", "show", "texts:2")["manifest"]["steps"]}
        assert steps["private"]["parameters"]["model"] == "ner"
        assert steps["private"]["changed"] == labels.count("PER")
