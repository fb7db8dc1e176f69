"""A mixture of experts from its file to answers that do not depend on what else is in the batch."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Type

from tests.support.harness.embedded import Embedded, until
from tests.support.models.llama_files import mixtral, write_llama

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROMPTS = ["hello", "hello world 12", "he", "12 hello 12 hello", "world", "lll w 1"]


def test_a_mixture_gives_the_same_tokens_alone_and_in_a_batch(demo: Embedded, tmp_path: Path) -> None:
    source = write_llama(tmp_path / "mixture.gguf", Type.Q8_0, tied=False, **mixtral(experts=8, used=2))
    version = demo.json("model", "import", str(source), "--name", "mixture")
    assert version["manifest"]["memory"]["weights"] >= source.stat().st_size * 0.9, "all experts count"

    def ask(prompt: str) -> str:
        body = {"model": "mixture", "prompt": prompt, "max_tokens": 24, "temperature": 0, "ignore_eos": True}
        with demo.http() as client:
            answer = client.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["text"])

    try:
        done = demo.cli("deploy", "mixture", "--max-len", "64", "--slots", "6")
        assert done.returncode == 0, done.stderr
        alone = [ask(prompt) for prompt in PROMPTS]
        with ThreadPoolExecutor(len(PROMPTS)) as pool:
            assert list(pool.map(ask, PROMPTS)) == alone
        assert len(set(alone)) > 1
    finally:
        demo.cli("undeploy", "mixture")
        until(lambda: demo.cli("model", "delete", "mixture", "--yes").returncode == 0, 60, "deleted")


def test_a_mixture_is_refused_where_it_can_not_be_used(demo: Embedded, tmp_path: Path) -> None:
    given = mixtral(experts=4, used=2)
    source = write_llama(
        tmp_path / "m.gguf",
        Type.Q8_0,
        **(given | {"metadata": {"llama.expert_count": 4, "llama.expert_used_count": 5}}),
    )
    done = demo.cli("model", "import", str(source), "--name", "wrong")
    assert done.returncode == 1
    assert "'llama.expert_used_count' is 5; it must be at most 'llama.expert_count', 4" in done.stderr
    assert "wrong" not in {model["name"] for model in demo.json("model", "list")}
